"""A second reader of requests: RFC 9112 to the letter, written apart from the proxy's own and on other means."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_START = re.compile(rb"(%b) ([!-~\x80-\xff]+) HTTP/1\.([01])" % _TOKEN)
_FIELD = re.compile(rb"(%b):[ \t]*([!-~\x80-\xff]?[\t -~\x80-\xff]*?)[ \t]*" % _TOKEN)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t -~\x80-\xff]*)?")


class Request(NamedTuple):
    """A request that was read whole. If it `awaits`, its client would have sent the body after a 100 only."""

    method: bytes
    target: bytes
    body: bytes
    fields: dict[bytes, list[bytes]]
    keeps_open: bool
    awaits: bool


class End(Enum):
    """How a connection's bytes end."""

    BETWEEN = "after a request"
    WITHIN = "within a request"
    CLOSED = "after the last request"
    MALFORMED = "in what is no request"


class Malformed(Exception):
    """What cannot be read in one way only."""


class Partial(Exception):
    """The end of the bytes, within a request."""


class StrictReader:
    """Reads the requests of one connection, in whatever pieces it comes, up to one that is the `last`."""

    def __init__(self, last: Callable[[Request], bool] = lambda request: not request.keeps_open) -> None:
        self._last = last
        self.end = End.BETWEEN
        self._rest = b""

    def feed(self, data: bytes) -> list[Request]:
        """The requests that are whole with `data`."""
        found: list[Request] = []
        self._rest += data
        while self.end in (End.BETWEEN, End.WITHIN):
            self._rest = self._rest.lstrip(b"\r\n")
            try:
                request, self._rest = _read(self._rest)
            except Partial:
                self.end = End.WITHIN if self._rest else End.BETWEEN
                break
            except Malformed:
                self.end = End.MALFORMED
            else:
                found.append(request)
                self.end = End.CLOSED if self._last(request) else End.BETWEEN
        return found


def _read(data: bytes) -> tuple[Request, bytes]:
    """The request that `data` begins with, and what follows it. Raises Partial or Malformed."""
    head, rest = _cut(data, b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    start = _START.fullmatch(first)
    if start is None:
        raise Malformed("start line")
    fields = _fields(lines)
    modern = start[3] == b"1"
    hosts = fields.get(b"host", [])
    if len(hosts) > 1 or (modern and not hosts):
        raise Malformed("Host")
    body, rest = _body(fields, rest, modern=modern)
    options = [option.strip().lower() for option in b",".join(fields.get(b"connection", [])).split(b",")]
    keeps_open = b"close" not in options and (modern or b"keep-alive" in options)
    expects = modern and [value.lower() for value in fields.get(b"expect", [])] == [b"100-continue"]
    awaits = expects and (bool(body) or b"transfer-encoding" in fields)
    return Request(start[1], start[2], body, fields, keeps_open, awaits), rest


def _cut(data: bytes, end: bytes) -> tuple[bytes, bytes]:
    before, found, after = data.partition(end)
    if not found:
        raise Partial
    return before, after


def _fields(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise Malformed("header line")
        fields.setdefault(field[1].lower(), []).append(field[2])
    return fields


def _body(fields: dict[bytes, list[bytes]], data: bytes, *, modern: bool) -> tuple[bytes, bytes]:
    lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
    if codings:
        if lengths or not modern or [coding.lower() for coding in codings] != [b"chunked"]:
            raise Malformed("Transfer-Encoding")
        return _chunks(data)
    if not lengths:
        return b"", data
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise Malformed("Content-Length")
    length = int(lengths[0])
    if len(data) < length:
        raise Partial
    return data[:length], data[length:]


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, data = _cut(data, b"\r\n")
        size = _SIZE.fullmatch(line)
        if size is None:
            raise Malformed("chunk size")
        length = int(size[1], 16)
        if not length:
            break
        if len(data) < length + 2:
            raise Partial
        if data[length : length + 2] != b"\r\n":
            raise Malformed("chunk")
        body, data = body + data[:length], data[length + 2 :]
    lines = []
    while True:
        line, data = _cut(data, b"\r\n")
        if not line:
            break
        lines.append(line)
    if {b"content-length", b"transfer-encoding"} & _fields(lines).keys():
        raise Malformed("trailer")
    return body, data
