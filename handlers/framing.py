"""Where a request's body ends, decided before Tornado reads it: its own refusals say nothing to an API client."""

from __future__ import annotations

import re

from tornado.http1connection import is_transfer_encoding_chunked
from tornado.httputil import HTTPHeaders, HTTPInputError

from proxy.errors import InvalidRequest

_LENGTH = re.compile(r"[0-9]{1,18}")


class MalformedFraming(InvalidRequest):
    """Where the body ends cannot be known, so nothing after this request can be read."""


def has_body(headers: HTTPHeaders) -> bool:
    """Whether a body follows; several equal lengths become one.

    Raises MalformedFraming where the framing is not clear (RFC 9112 6.3).
    """
    try:
        chunked = is_transfer_encoding_chunked(headers)
    except HTTPInputError as error:
        raise MalformedFraming(f"malformed framing: {error}", should_retry=False) from None
    lengths = {part.strip() for line in headers.get_list("Content-Length") for part in line.split(",")}
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
        raise MalformedFraming("malformed framing: Content-Length is not one number", should_retry=False)
    if lengths:
        headers["Content-Length"] = lengths.pop()
    return chunked or "Content-Length" in headers
