"""Reads an upstream's error: the API's JSON, in whatever content encoding, or the page of an edge."""

from __future__ import annotations

import contextlib
import json
import re
from typing import NamedTuple

from proxy.http.decoding import Undecodable, decoded

MOST_BYTES = 64 * 1024
"""Of a body, received and decoded, this much is read for a verdict; the API's errors have less than 1 kB."""

_MOST_CODINGS = 4
_LONGEST_TEXT = 1000
_LONGEST_EVIDENCE = 160
_LONGEST_WORD = 23  # shorter than any key; `invalid_request_error:` has 22
# Where the API repeats what a client sent: after a colon, in quotes or in brackets.
_ECHO = re.compile(r"[:\"`(\[{<\u201c]|(?<!\w)'")


class ApiError(NamedTuple):
    """`error.type`, `error.message` and `error.details.error_code` of a body; empty if it has none.

    `is_json`: the body is JSON, or says that it is, as everything that comes from the API itself. `is_page`: it is
    neither JSON nor empty, so that something before the API has written it.
    """

    type: str = ""
    message: str = ""
    code: str = ""
    is_json: bool = False
    is_page: bool = False

    @property
    def own_words(self) -> str:
        """The message up to the first place where it may repeat what the client sent."""
        return _ECHO.split(self.message, maxsplit=1)[0]

    def describe(self, status: int) -> str:
        """The error in one short line of ASCII, without words that are long enough to be a secret."""
        words = re.findall(r"[!-~]+", f"{self.type}: {self.message}" if self.type or self.message else "")
        shown = ("[...]" if len(word) > _LONGEST_WORD or "sk-" in word else word for word in words)
        return " ".join([str(status), *shown])[:_LONGEST_EVIDENCE]


def read_error(body_start: bytes, encoding: str, content_type: str = "") -> ApiError:
    """The error in the start of a body, as received. Never raises."""
    says_json = "json" in content_type.lower()
    start = _plain(body_start[:MOST_BYTES], encoding)
    try:
        body = json.loads(start)
    except (ValueError, RecursionError):
        # It was cut, or is in an encoding that is not read here.
        is_json = says_json or start[:64].lstrip().startswith(b"{")
        return ApiError(is_json=is_json, is_page=not is_json and bool(start.strip()))
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ApiError(is_json=says_json or isinstance(body, dict))
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    return ApiError(_text(error.get("type")), _text(error.get("message")), _text(code), True)


def _plain(body: bytes, encoding: str) -> bytes:
    """The body without its content encodings; as it is if they cannot be read, since it may be plain all the same."""
    plain = body
    with contextlib.suppress(Undecodable):
        for coding in reversed(encoding.lower().split(",", _MOST_CODINGS)):
            plain = decoded(plain, coding.strip(), MOST_BYTES)
        return plain
    return body


def _text(value: object) -> str:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else ""
