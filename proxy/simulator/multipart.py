"""Where the parts of a multipart/form-data body lie in the file that holds it (RFC 7578)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import IO

from tornado.httputil import HTTPHeaders

from .replies import ApiError

_CHUNK_BYTES = 1 << 20
_HEADERS_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Part:
    """`length` bytes of the body from `offset`."""

    name: str
    filename: str | None
    content_type: str | None
    offset: int
    length: int


def boundary_of(content_type: str) -> bytes:
    """The boundary that a request's Content-Type names; ApiError 400 where there is none."""
    match = re.match(r'multipart/form-data\s*;.*?boundary="?([^";]+)"?', content_type, re.IGNORECASE)
    if match is None:
        raise ApiError(400, "Content-Type: multipart/form-data with a boundary is required")
    return match[1].encode()


def parts(body: IO[bytes], boundary: bytes) -> list[Part]:
    """All parts of `body`, whose contents are not read into memory; ApiError 400 where it is malformed."""
    delimiter = b"--" + boundary
    found: list[Part] = []
    start = _find(body, delimiter, 0)
    while start >= 0:
        body.seek(start + len(delimiter))
        head = body.read(_HEADERS_BYTES)
        if head.startswith(b"--"):
            return found
        blank = head.find(b"\r\n\r\n")
        if blank < 0:
            break
        offset = start + len(delimiter) + blank + 4
        end = _find(body, b"\r\n" + delimiter, offset)
        if end < 0:
            break
        found.append(_part(head[2:blank], offset, end - offset))
        start = end + 2
    raise ApiError(400, "The multipart body is malformed")


def _part(head: bytes, offset: int, length: int) -> Part:
    headers = HTTPHeaders.parse(head.decode("utf-8", "replace"))
    disposition = headers.get("content-disposition", "")
    fields = dict(re.findall(r';\s*(\w+)="((?:[^"\\]|\\.)*)"', disposition))
    return Part(fields.get("name", ""), fields.get("filename"), headers.get("content-type"), offset, length)


def _find(body: IO[bytes], needle: bytes, start: int) -> int:
    """Where `needle` first is at or after `start`, or -1."""
    body.seek(start)
    at, carried = start, b""
    while chunk := body.read(_CHUNK_BYTES):
        window = carried + chunk
        found = window.find(needle)
        if found >= 0:
            return at - len(carried) + found
        at += len(chunk)
        carried = window[-(len(needle) - 1) :]
    return -1
