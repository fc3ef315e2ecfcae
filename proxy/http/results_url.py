"""The one thing rewritten in bodies: a batch's absolute `results_url`, which SDKs follow with the client's key."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from functools import partial

from proxy.http.decoding import TooLarge, Undecodable, decoded

# JSON may escape a slash. The path stays; what comes before it is the upstream's origin.
_RESULTS_URL = re.compile(rb'("results_url"\s*:\s*")[^"]*?((?:\\?/)v1(?:\\?/)messages(?:\\?/)batches[^"]*")')
READABLE = ("gzip", "deflate", "identity")
"""Content encodings that `rewrite` can decode."""

_ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": partial(gzip.compress, mtime=0),
    "x-gzip": partial(gzip.compress, mtime=0),
    "deflate": zlib.compress,
}

MOST_BYTES = 4 * 1024 * 1024
"""The largest answer that is rewritten, after decoding: a list has at most 1000 batches of less than 1 kB."""


def rewrite(body: bytes, encoding: str, origin: str) -> bytes:
    """`body` with every `results_url` on `origin`, in the same content encoding.

    Bytes that cannot be decoded come back as they are. Raises TooLarge if there are more than `MOST_BYTES`.
    """
    if len(body) > MOST_BYTES:
        raise TooLarge(f"more than {MOST_BYTES} bytes")
    encode = _ENCODE.get(encoding)
    if encode is None:
        return body
    try:
        text = decoded(body, encoding, MOST_BYTES, whole=True)
    except TooLarge:
        raise  # to hand it on as it is would send clients, with their keys, to where it says
    except Undecodable:
        return body
    changed = _RESULTS_URL.sub(lambda found: found[1] + origin.encode() + found[2], text)
    return body if changed == text else encode(changed)


def readable_encodings(accept_encoding: str) -> str:
    """The encodings of an `accept-encoding` value that `rewrite` can decode, in the same order."""
    wanted = [part for part in accept_encoding.split(",") if part.split(";")[0].strip().lower() in READABLE]
    return ",".join(wanted).strip() or "identity"
