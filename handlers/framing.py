"""One request off the wire: its head, and where its body ends (RFC 9112).

llhttp, through httptools, judges the header lines and the chunks. Read here is the request line, since llhttp knows
only registered methods and takes HTTP/0.9 and 2.0, and the framing, where two readers could differ. Each head and each
chunked body has a parser of its own: trailers cannot become headers, and neither `Upgrade` nor CONNECT ends a request
early. httptools does not tell where a message ended, but heads and chunked bodies end with CRLF CRLF: no parser is
fed past one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from tornado.httputil import HTTPHeaders, RequestStartLine, _normalize_header

from proxy.errors import BodyTooLarge, HeadTooLarge, InvalidRequest, TargetTooLong
from proxy.http.headers import ClientHeaders
from proxy.http.known import Known

MAX_HEAD_BYTES = 32 * 1024

BODY_S = 20.0
BODY_BYTES_S = 50_000
"""A body that comes slower than this, after the first seconds, only holds a connection."""

MOST_HEADERS = 100
"""Clients send 30, and so many is Apache's limit: 32 KiB of short lines take 15 ms to look at, before any key."""

AT_ONCE_BYTES = 32 * 1024
AT_ONCE_PARTS = 1000
"""Of a chunked body, what is read before others have a turn, if its chunks are tiny: 256 KB of one byte each take 10
ms, and 20 clients who sent such held all others up for a second."""

MOST_KEPT = 1024
LONGEST_KEPT = 256
"""Header lines, and characters of each, that are known again."""

TORNADO_PRIVATES = ("_as_list", "_combined_cache", "_normalize_header")
"""What `RequestHeaders` relies on in tornado.httputil beside its documented interface."""

_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~\x80-\xff]+ HTTP/1\.[01]\r\n")
_PART_OF_LINE = re.compile(rb"[ -~\x80-\xff]*\r?")
# RFC 3986 §3.2, without a comma: two lines were joined. Names have at most 255 characters (RFC 1035 §2.3.4), and
# Tornado fails at a port of 4,301 digits.
_HOST = re.compile(r"[A-Za-z0-9\-._~!$&'()*+;=%:\[\]]{0,1000}")
_LENGTH = re.compile(r"[0-9]{1,18}")
_RECUR = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "anthropic-beta"),
        *("anthropic-dangerous-direct-browser-access", "anthropic-version", "cache-control", "connection"),
        *("content-encoding", "content-length", "content-type", "host", "origin", "priority"),
        *("sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "te", "user-agent", "via", "x-app"),
        *("x-claude-code-session-id", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port"),
        *("x-forwarded-proto", "x-real-ip"),
    }
)
"""Names of lines that recur, as do those of `_RECUR_PREFIX`. One of any other may hold a credential: it is not kept."""
_RECUR_PREFIX = "x-stainless-"
_BINARY = re.compile(rb"[^ -~]")
_TLS = b"\x16\x03"  # a record of a handshake, of any version (RFC 8446 §5.1)
_END = b"\r\n\r\n"
_NOBODY = object()
"""Asked to judge only, llhttp calls nobody."""


class NotHttp(InvalidRequest):
    """What came is another protocol, whose client has no use for an answer."""


class RequestHeaders(HTTPHeaders):
    """The header lines of a request, put into Tornado's mapping only when somebody looks a name up.

    `read` is what `/v1` asks of them.
    """

    def __init__(self, lines: list[tuple[str, str]]) -> None:
        self.read = ClientHeaders(lines)
        self._lines: list[tuple[str, str]] | None = lines
        self._combined_cache = {}

    @cached_property
    def _as_list(self) -> dict[str, list[str]]:  # type: ignore[override]
        found: dict[str, list[str]] = {}
        for name, value in self._lines or ():
            found.setdefault(_normalize_header(name), []).append(value)
        return found

    def get_all(self) -> Iterable[tuple[str, str]]:
        """The lines as the client wrote them, in order, until they are changed."""
        return super().get_all() if self._lines is None else self._lines

    def add(self, name: str, value: str, *, _chars_are_bytes: bool = True) -> None:
        super().add(name, value, _chars_are_bytes=_chars_are_bytes)
        self._lines = None

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(name, value)
        self._lines = None

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._lines = None


@dataclass(slots=True)
class Head:
    """A request's head.

    `length` is its body's in bytes, None if the body is chunked; a body may be said and empty. `host` is None if there
    is none, as HTTP/1.0 allows.
    """

    start_line: RequestStartLine
    headers: RequestHeaders
    host: str | None
    says_body: bool
    length: int | None
    keep_alive: bool
    expects_continue: bool

    @property
    def method(self) -> str:
        return self.start_line.method


class HeadReader:
    """Reads one head, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._line = b""
        self._start_line: RequestStartLine | None = None
        self._fields = b"\r\n"  # with the end of the line before, since there may be none
        self._parser = HttpRequestParser(_NOBODY)

    @property
    def begun(self) -> bool:
        """Whether a part of the head has come."""
        return bool(self._line)

    @property
    def method(self) -> str:
        """What the first line begins with, as far as it has come."""
        return self._line.partition(b" ")[0].decode("latin-1")

    def feed(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the bytes after it; None until it is whole.

        Raises InvalidRequest, TargetTooLong or HeadTooLarge.
        """
        if not self._line:
            data = data.lstrip(b"\r\n")  # RFC 9112 §2.2
        # What follows a head is often a long body: it is copied once, and not with each step.
        end = data.find(_END) + len(_END)
        data, rest = (data[:end], data[end:]) if end >= len(_END) else (data, b"")
        if self._start_line is None:
            data = self._read_line(data)
            if self._start_line is None:
                return None
        before = len(self._fields)
        window = self._fields + data
        found = window.find(_END, max(0, before - 3))
        end = len(window) if found < 0 else found + len(_END)
        if len(self._line) + end - 2 > MAX_HEAD_BYTES:
            raise HeadTooLarge(
                f"the request's head is larger than {MAX_HEAD_BYTES} bytes", should_retry=False
            )
        if window.count(b"\n", 0, end) > MOST_HEADERS + 2:  # with those before and after them
            raise HeadTooLarge(f"the request has more than {MOST_HEADERS} header lines", should_retry=False)
        try:
            self._parser.feed_data(memoryview(window)[before:end])
        except HttpParserUpgrade:
            pass  # not offered here: RFC 9110 §7.8
        except HttpParserError as error:
            raise malformed(str(error)) from None
        if found < 0:
            self._fields = window
            return None
        return _judged(self._start_line, _fields(window[2:end].decode("latin-1"))), window[end:] + rest

    def _read_line(self, data: bytes) -> bytes:
        """Read the request line; what is left of `data`."""
        if not self._line and _BINARY.match(data):
            raise _not_http(data)
        end = data.find(b"\n") + 1
        part = data[:end] if end else data
        self._line += part
        if len(self._line) > MAX_HEAD_BYTES:
            raise TargetTooLong(f"the request line is longer than {MAX_HEAD_BYTES} bytes", should_retry=False)
        if not end:
            if not _PART_OF_LINE.fullmatch(part):
                raise malformed("Invalid character in the request line")
            return b""
        if not _LINE.fullmatch(self._line):
            raise malformed("Invalid request line")
        self._start_line = RequestStartLine(*self._line[:-2].decode("latin-1").split(" "))
        self._parser.feed_data(b"POST / HTTP/1.1\r\n")
        return data[end:]


class Body:
    """What a body of either framing is held to, once `expected` is called: its size, and how fast it comes."""

    left: float
    """Bytes that are still to come; infinite if nothing says how many."""

    _bytes = 0
    _most: float = math.inf
    _due = math.inf

    @property
    def ended(self) -> bool:
        return not self.left

    @property
    def due(self) -> float:
        """When more has to have come."""
        return self._due + self._bytes / BODY_BYTES_S

    def expected(self, now: float, most: int) -> None:
        """Take at most so many bytes, in good time from now on. Raises BodyTooLarge if it says that it has more."""
        self._most = most
        self._due = now + BODY_S
        if self.left < math.inf:
            self._check(self.left)

    def _count(self, content: bytes) -> None:
        """Raises BodyTooLarge."""
        self._bytes += len(content)
        self._check(self._bytes)

    def _check(self, size: float) -> None:
        if size > self._most:
            raise BodyTooLarge(f"the request body is larger than {self._most} bytes", should_retry=False)


class SizedBody(Body):
    """A body of a known length in bytes."""

    def __init__(self, length: int) -> None:
        self.left: int = length

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What of `data` is the body's, and the bytes after it."""
        content, rest = (data, b"") if len(data) <= self.left else (data[: self.left], data[self.left :])
        self.left -= len(content)
        self._count(content)
        return content, rest


class ChunkedBody(Body):
    """A chunked body. Extensions and trailers are dropped: nobody behind this proxy is told of them."""

    def __init__(self) -> None:
        self.left = math.inf
        self._tail = b""
        self._framing = 0
        self._events = _BodyEvents()
        self._parser = HttpRequestParser(self._events)
        self._parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The content in `data`, and the bytes after the body, or those to be fed again after others had a turn.

        Raises InvalidRequest or BodyTooLarge.
        """
        window, begin = self._tail + data, len(self._tail)
        view = memoryview(window)
        while begin < len(window) and not self._events.ended and len(self._events.parts) < AT_ONCE_PARTS:
            end = min(len(window), begin + AT_ONCE_BYTES)
            found = window.find(_END, max(0, begin - 3), end)
            end = end if found < 0 else found + len(_END)
            try:
                self._parser.feed_data(view[begin:end])
            except HttpParserError as error:
                raise malformed(str(error)) from None
            begin = end
        self._tail = window[max(0, begin - 3) : begin]
        content = b"".join(self._events.parts)
        self._events.parts.clear()
        self._framing = 0 if content else self._framing + len(data)
        if self._framing > MAX_HEAD_BYTES:
            raise malformed("Chunk extensions or trailers are too long")
        if self._events.ended:
            self.left = 0
        self._count(content)
        return content, window[begin:]


class _BodyEvents:
    """What llhttp tells of a chunked body. It holds no parser: with a cycle, memory would wait for the collector."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.ended = False

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)

    def on_message_complete(self) -> None:
        self.ended = True


class Fields(Known[tuple[str, str]]):
    """Names and values of the header lines met so far, of names that recur. The lines were judged by llhttp."""

    most, longest = MOST_KEPT, LONGEST_KEPT

    def read(self, text: str) -> tuple[str, str]:
        name, _, value = text.partition(":")
        return name, value.strip(" \t")

    def keeps(self, found: tuple[str, str]) -> bool:
        name = found[0].lower()
        return name in _RECUR or name.startswith(_RECUR_PREFIX)


_field_of: Callable[[str], tuple[str, str]] = Fields().__getitem__


def _fields(text: str) -> list[tuple[str, str]]:
    """The names and values of a head's lines, without blanks around the values."""
    return [_field_of(line) for line in text.split("\r\n") if line]


def malformed(reason: str) -> InvalidRequest:
    """Where this request ends cannot be known, so nothing after it can be read either."""
    return InvalidRequest(f"malformed request: {reason}", should_retry=False)


def _not_http(data: bytes) -> NotHttp:
    if data.startswith(_TLS[: len(data)]):
        return NotHttp(
            "this port speaks plain HTTP, and a TLS hello came: use http://, or a front that ends TLS"
        )
    return NotHttp("this port speaks HTTP, and something else came")


def _judged(start_line: RequestStartLine, lines: list[tuple[str, str]]) -> Head:
    """The head, if there is one way to read it only (RFC 9112 §3.2, §6.3). Raises InvalidRequest."""
    headers = RequestHeaders(lines)
    found = headers.read.framing
    modern = start_line.version == "HTTP/1.1"
    hosts = found.get("host", [])
    if len(hosts) > 1 or (modern and not hosts) or not all(_HOST.fullmatch(host) for host in hosts):
        raise malformed("Missing, repeated or odd Host")
    options = {option.strip().lower() for line in found.get("connection", ()) for option in line.split(",")}
    return Head(
        start_line,
        headers,
        hosts[0] if hosts else None,
        "content-length" in found or "transfer-encoding" in found,
        _length(found, modern=modern),
        "close" not in options and (modern or "keep-alive" in options),
        modern and [value.lower() for value in found.get("expect", ())] == ["100-continue"],
    )


def _length(found: dict[str, list[str]], *, modern: bool) -> int | None:
    """The body's length; None if it is chunked. Raises InvalidRequest."""
    lengths, codings = found.get("content-length"), found.get("transfer-encoding")
    if codings is not None:
        # HTTP/1.0 knows no codings; of the others none is supported, and `gzip, chunked` would need one.
        if lengths or not modern or [coding.lower() for coding in codings] != ["chunked"]:
            raise malformed("Unsupported Transfer-Encoding")
        return None
    if lengths is None:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise malformed("Content-Length is not one number")
    return int(lengths[0])
