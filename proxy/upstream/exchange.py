"""One exchange with the upstream: a request, and its answer as far as it has come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import BinaryIO, Protocol

from msgspec import Struct

from proxy.errors import UpstreamError, UpstreamLost, UpstreamSilent
from proxy.http.headers import is_event_stream
from proxy.http.lines import VALUE, Line, line_of

HIGH_WATER = 64 * 1024
"""Bytes of an answer that may wait for the reader; above, the transfer pauses until the reader takes them."""

_STATUS_LINE = re.compile(r"HTTP/[\d.]+ (\d{3})(?: (.*))?$")

Header = tuple[str, str]


class Request(Struct, frozen=True):
    """What is sent: `target` is the path and query exactly as they go on the wire.

    `body` is None where there is none (no Content-Length is sent then), else bytes, or a file of `file_bytes` at its
    start.
    """

    method: str
    target: str
    headers: list[Header]
    body: bytes | BinaryIO | None = None
    file_bytes: int = 0
    may_resend: bool = True
    """Whether libcurl may send it again on a new connection when an idle one turns out to be dead."""
    proxy: str | None = None
    """URL of the outbound proxy that it goes through; None for the client's own, or for none."""

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {self.target!r})"


class Head(Struct, frozen=True):
    """Status line and header lines of an answer, as received."""

    status: int
    reason: str
    lines: list[Line]
    text: str = ""
    """All of it as one text, which one look goes through."""

    def __repr__(self) -> str:
        return f"Head({self.status})"


class Transfer(Protocol):
    """What libcurl has of an exchange. To be called between two calls into libcurl, never from within one."""

    def cut(self) -> None:
        """End it now; its connection is closed."""

    def resume(self) -> None:
        """Go on after a pause."""


class Exchange:
    """One request and its answer. Whoever opened it closes it, however it went.

    What comes is collected while libcurl runs; `hand_on`, after it has returned, brings it to the reader: to the
    one that waits, or to the function that `pipe` was given.
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_ended",
        "_error",
        "_has_body",
        "_head",
        "_idle_since",
        "_is_feed",
        "_may_feed",
        "_paused",
        "_stopped",
        "_take",
        "_transfer",
        "_waiter",
        "active",
        "body",
        "has_news",
    )

    def __init__(self, transfer: Transfer, request: Request) -> None:
        self.body = request.body
        self.active = True
        """Whether anything came or went since the driver looked last."""
        self.has_news = False
        """Whether the driver has it among those that get a `hand_on`."""
        self._transfer: Transfer | None = transfer  # None once it has ended
        self._has_body = request.method != "HEAD"
        self._may_feed = request.method == "GET"
        self._is_feed = False  # events of a session, say: nobody knows when the next one comes
        self._head: Head | None = None
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._ended = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._stopped = False  # `take` wants no more for now
        self._paused = False  # libcurl was told so
        self._idle_since = 0.0

    # the reader's verbs

    async def head(self) -> Head:
        """Wait for status and headers; to be asked once, since a stream need not hold them. Raises UpstreamError."""
        while self._head is None:
            self._raise()
            await self._news()
        head, self._head = self._head, None
        return head

    async def read(self) -> bytes:
        """The next bytes of the body, as much as there is; b"" at its end.

        Raises UpstreamError where the body was cut, after all bytes that came before the cut.
        """
        while not self._chunks:
            if self._is_over():
                return b""
            await self._news()
        return self.start()

    def start(self) -> bytes:
        """As much of the body as has come and was not read."""
        data = self._taken()
        self._unpause()
        return data

    def begins_with(self, starts: tuple[bytes, ...]) -> bool:
        """Whether the next bytes of the body have come, and are one of these."""
        return bool(self._chunks) and self._chunks[0].startswith(starts)

    async def begun(self) -> bool:
        """Wait until bytes of the body are there to be read. False at its end. Raises UpstreamError if it was cut."""
        while not self._chunks:
            if self._is_over():
                return False
            await self._news()
        return True

    async def pipe(self, take: Callable[[bytes], bool]) -> None:
        """Hand the body to `take`, piece by piece as it comes, and return at its end.

        Where `take` returns False it gets no more until `resume`. What it raises is raised here. Raises UpstreamError
        where the body was cut, after all bytes that came before the cut.
        """
        self._take = take
        try:
            self._pour()
            while self._chunks or not self._is_over():
                await self._news()
        finally:
            self._take = None

    def resume(self) -> None:
        """Go on after `take` returned False."""
        self._stopped = False
        self._unpause()

    def put_back(self, data: bytes) -> None:
        """Give bytes back that were read to be judged; they are the next that is read."""
        if data:
            self._chunks.insert(0, data)
            self._buffered += len(data)

    def close(self) -> None:
        """End the exchange: a transfer that still runs is cut at once. May be called twice."""
        self._cut(UpstreamLost("the exchange was closed"))

    # the driver's

    def on_head(self, head: Head) -> None:
        """Status and headers are there."""
        self._head = head
        self._is_feed = self._may_feed and any(
            line.lower == "content-type" and is_event_stream(line.value) for line in head.lines
        )

    def on_body(self, data: bytes) -> bool:
        """Take the next bytes of the body. False: not now, and the transfer pauses."""
        if not self._has_body:
            return True  # an upstream that sends a body all the same: dropped (RFC 9110 §9.3.2)
        if self._stopped or self._buffered >= HIGH_WATER:
            self._paused = True
            return False
        self._chunks.append(data)
        self._buffered += len(data)
        return True

    def end(self, error: UpstreamError | None) -> None:
        """Nothing more comes; the first end counts."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._transfer = None
            self.hand_on()

    def hand_on(self) -> None:
        """Bring what was collected to the reader."""
        if self._take is not None and self._chunks and not self._stopped:
            try:
                self._pour()
            except Exception as error:
                if self._waiter is not None and not self._waiter.done():
                    self._waiter.set_exception(error)
                return
            if not self._ended:
                return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def look_idle(self, now: float, timeout_s: float) -> None:
        """Cut the transfer if nothing came or went for too long; a paused one waits for its reader, a feed for events.

        Before the head only what is sent counts: 1xx and single lines of it do not put its deadline off.
        """
        if self.active or self._paused or self._stopped or self._is_feed:
            self.active = False
            self._idle_since = now
        elif now - self._idle_since >= timeout_s:
            self._cut(UpstreamSilent(f"nothing came for {timeout_s:g} s"))

    def _cut(self, error: UpstreamError) -> None:
        if self._transfer is not None:
            self._transfer.cut()
        self.end(error)

    def _is_over(self) -> bool:
        if not self._has_body:
            return True  # libcurl waits for a body where the request had one
        self._raise()
        return self._ended

    def _raise(self) -> None:
        """Raise the error that ended the exchange, if one did.

        It is a new one each time: one that was raised refers to its frames, and they to this. With such a cycle the
        request's body would wait for the collector.
        """
        if self._error is not None:
            raise type(self._error)(*self._error.args)

    def _pour(self) -> None:
        if self._take is not None and self._chunks and not self._take(self._taken()):
            self._stopped = True
        elif self._paused:
            self._unpause()

    def _unpause(self) -> None:
        if self._paused:
            self._paused = False
            self.active = True
            if self._transfer is not None:
                self._transfer.resume()

    def _taken(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered = 0
        return data

    async def _news(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


def parse_head(lines: list[bytes]) -> Head:
    """A head as libcurl gives it, line by line. A line without a colon is dropped, and a reason that is not text."""
    text = b"".join(lines).decode("latin-1")
    first, *rest = text.split("\n")
    match = _STATUS_LINE.match(first.rstrip("\r"))
    if match is None:
        return Head(0, "", [])
    found = [line for line in map(line_of, rest) if line is not None]
    reason = match[2] or ""
    return Head(int(match[1]), reason if VALUE.fullmatch(reason) else "", found, text)
