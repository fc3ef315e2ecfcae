"""The first event of a streamed answer: an error there is a status that came too late for the head."""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.http.decoding import Undecodable, decoded
from proxy.upstream.error_body import ApiError, read_error
from proxy.upstream.exchange import Exchange

GOOD_STARTS = (b"event: message_start", b"event: ping", b"{")
"""Almost every answer begins so, a streamed one and any other: then there is nothing to look for."""

_MOST_BYTES = 4096  # a first event that is an error has less than 500
_LINE_END = re.compile(rb"\r\n|\n|\r")
# platform.claude.com/docs/en/api/errors
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class _Found(NamedTuple):
    """`is_known`: the first event is there. `error` is None if it is none."""

    is_known: bool
    error: ApiError | None = None


def status_of(error: ApiError) -> int:
    """The status that an answer with this error would have had."""
    return _STATUSES.get(error.type, 500)


async def early_error(exchange: Exchange, encoding: str) -> ApiError | None:
    """Wait for the first event of a stream: the error that it is, None if it is none. What was read is put back.

    Raises UpstreamError if the stream was cut before.
    """
    start = bytearray()
    found = _Found(False)
    while not found.is_known and len(start) < _MOST_BYTES:
        data = await exchange.read()
        start += data
        found = _look(bytes(start[:_MOST_BYTES]), encoding.lower(), ended=not data)
    exchange.put_back(bytes(start))
    return found.error


def _look(start: bytes, encoding: str, *, ended: bool) -> _Found:
    """Read the first event (WHATWG HTML §9.2.6) as far as it has come."""
    try:
        lines = _LINE_END.split(decoded(start, encoding, _MOST_BYTES).removeprefix(b"\xef\xbb\xbf"))
    except Undecodable:
        return _Found(True)
    if not ended:
        lines.pop()  # it may go on
    name, data = b"", []
    for line in lines:
        field, _, value = line.partition(b":")
        if field == b"event":
            name = value.strip()
            if name != b"error":
                return _Found(True)
        elif field == b"data":
            data.append(value)
        elif not line and data:
            return _error(name, data)
    return _error(name, data) if ended else _Found(False)


def _error(name: bytes, data: list[bytes]) -> _Found:
    error = read_error(b"\n".join(data), "")
    return _Found(True, error if name == b"error" or error.type else None)
