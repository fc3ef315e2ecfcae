"""Looks for a credential in what comes back from where it was sent: whoever echoes requests must not show it."""

from __future__ import annotations

from proxy.http.decoding import TooLarge, Undecodable, decoded

MOST_BYTES = 1 << 20
"""The largest error body that is looked through and handed on; the Claude API's have less than 1 kB."""

_MOST_CODINGS = 4


def holds(secret: str, body: bytes, encoding: str) -> bool:
    """Whether `body` holds `secret`, as it is or without its content encodings, as far as they can be read.

    Raises TooLarge if its decoded form has more than `MOST_BYTES`.
    """
    wanted = secret.encode()
    if wanted in body:
        return True
    try:
        for coding in reversed(encoding.lower().split(",", _MOST_CODINGS)):
            body = decoded(body, coding.strip(), MOST_BYTES)
    except TooLarge:
        raise
    except Undecodable:
        return False
    return wanted in body
