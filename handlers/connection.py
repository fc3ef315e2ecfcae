"""A client's connection: HTTP/1.1 for delegates that are written to Tornado's interface.

One `Connection` a socket reads requests one after the other, and one `RequestConnection` a request is what its delegate
answers on, so that an answer that comes too late reaches nobody. A client that closes its sending side is taken to have
left: nothing else tells that an answer is no longer wanted.

Longer than most: a request's reading and its answer end each other, and each has to know how far the other has come.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import math
import secrets
from collections.abc import Awaitable, Callable
from http.client import responses

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPOutputError,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, StreamClosedError

from handlers.client_socket import ClientSocket
from handlers.framing import ChunkedBody, Head, HeadReader, RequestHeaders, SizedBody, malformed
from handlers.refusal import refusal
from proxy.errors import BodyTooLarge, RequestError, RequestTimeout

HELD_MOST = 64 * 1024
"""Bytes read beyond the request in hand; with more the client has to wait."""

MAX_BODY_BYTES = 1024 * 1024
"""Of delegates that do not set a limit of their own."""

IDLE_S = 75.0
"""Longer than clients keep an idle connection, so that it is seldom closed under a request of theirs."""

HEAD_S = 10.0
"""How long a head may take from its first byte on."""

BODY_S = 60.0
"""How long a body may take if the delegate does not say."""

LINGER_S = 2.0
"""How long a client has to close after the last answer: to close first would reset the answer away from it."""

STALLED_S = 60.0
"""A client that takes no byte of its last answer for so long is let go."""

NO_HEADERS = RequestHeaders([])

log = logging.getLogger(__name__)


class Phase(enum.Enum):
    """Where a connection is in its request."""

    HEAD = enum.auto()
    ADMITTED = enum.auto()  # the delegate has the head, and has not yet said that it takes the body
    BODY = enum.auto()
    ANSWERING = enum.auto()  # the request was read to its end
    LINGERING = enum.auto()  # all is answered; what still comes is thrown away
    ENDED = enum.auto()  # the socket is closed, or somebody else's


class Connection(ClientSocket):
    """Reads a client's requests one after the other and hands them to `delegate`; `ended` is told of its end."""

    def __init__(self, delegate: HTTPServerConnectionDelegate, ended: Callable[[Connection], None]) -> None:
        super().__init__()
        self._delegate = delegate
        self._ended = ended
        self._phase = Phase.HEAD
        self._head = HeadReader()
        self._body: SizedBody | ChunkedBody = SizedBody(0)
        self._body_bytes = 0
        self._held = b""
        self._request: RequestConnection | None = None
        self._message: HTTPMessageDelegate | None = None  # until it knows that it has all, or will not get it
        self._waiting: asyncio.Future[None] | None = None  # for the delegate
        self._unsent_before = 0

    # what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.expire_in(IDLE_S)

    def data_received(self, data: bytes) -> None:
        if self._held or self._waiting or self._phase is Phase.ANSWERING:
            self._hold(self._held + data)
        else:
            self._read(data)

    def eof_received(self) -> None:
        if self._phase is not Phase.LINGERING:
            self.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._request is not None:
            self._request.has_room()
        elif self._held:
            self.loop.call_soon(self._resume)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone, self._phase = True, Phase.ENDED
        request, self._request = self._request, None
        try:
            if request is not None:
                request.lost()
            if self._waiting is None:
                self._tell_incomplete()
            self._delegate.on_close(self)
        finally:  # a shutdown waits for it, whatever a delegate raises
            self._ended(self)

    # reading

    def _read(self, data: bytes) -> None:
        """Hand over as much as may be handed over now, and hold the rest back."""
        try:
            while self._waiting is None:
                if self._phase is Phase.ADMITTED:
                    self._begin_body()
                elif self._phase is Phase.BODY and self._body.ended:
                    self._end_body()
                    if data and self._request is None:  # answered at once: now others have a turn
                        self.loop.call_soon(self._resume)
                        break
                elif not data:
                    break
                elif self._phase is Phase.BODY:
                    data = self._read_body(data)
                elif self._phase is Phase.HEAD and not self.full:
                    data = self._read_head(data)
                else:
                    break
        except RequestError as error:
            self._refuse(error)
        except HTTPInputError as error:
            self._refuse(malformed(str(error)))
        except Exception:
            log.exception("request failed address=%s", self.context)
            self.abort()
        self._hold(data)

    def _hold(self, data: bytes) -> None:
        if self._phase in (Phase.LINGERING, Phase.ENDED):
            return
        self._held = data
        if len(data) > HELD_MOST:
            self.transport.pause_reading()

    def _resume(self) -> None:
        data, self._held = self._held, b""
        self.transport.resume_reading()
        self._read(data)

    def _read_head(self, data: bytes) -> bytes:
        begun = self._head.begun
        found = self._head.feed(data)
        if found is None:
            if self._head.begun and not begun:
                self.expire_in(HEAD_S)
            return b""
        head, rest = found
        self._head = HeadReader()
        self._begin(head)
        return rest

    def _begin(self, head: Head) -> None:
        self.deadline = math.inf
        self._phase = Phase.ADMITTED
        self._body = ChunkedBody() if head.length is None else SizedBody(head.length)
        self._body_bytes = 0
        self._request = RequestConnection(self, head)
        self._message = self._delegate.start_request(self, self._request)
        headers, head.headers = head.headers, NO_HEADERS  # who is told of them keeps them if it wants
        self._wait_for(self._message.headers_received(head.start_line, headers))

    def _begin_body(self) -> None:
        request = self._request
        assert request is not None
        self._phase = Phase.BODY
        if self._body.ended:
            return
        if request.head.length is not None:
            self._check_size(request.head.length)
        if request.withholds_body and not request.head_written:
            request.withholds_body = False
            self.transport.write(b"HTTP/1.1 100 (Continue)\r\n\r\n")
        self.expire_in(request.body_timeout_s)

    def _read_body(self, data: bytes) -> bytes:
        assert self._message is not None
        content, rest = self._body.feed(data)
        if content:
            self._body_bytes += len(content)
            self._check_size(self._body_bytes)
            self._wait_for(self._message.data_received(content))
        return rest

    def _check_size(self, size: int) -> None:
        assert self._request is not None
        most = self._request.max_body_bytes
        if size > most:
            raise BodyTooLarge(f"the request body is larger than {most} bytes", should_retry=False)

    def _end_body(self) -> None:
        assert self._message is not None
        self.deadline = math.inf
        self._phase = Phase.ANSWERING
        self._message.finish()
        self._message = None

    def _wait_for(self, awaitable: Awaitable[None] | None) -> None:
        """Hand over nothing more until the delegate is ready."""
        if awaitable is not None:
            self._waiting = asyncio.ensure_future(awaitable)
            self._waiting.add_done_callback(self._waited)

    def _waited(self, future: asyncio.Future[None]) -> None:
        self._waiting = None
        if not future.cancelled() and (error := future.exception()) is not None:
            log.error("request failed address=%s", self.context, exc_info=error)
            self.abort()
        if self._phase is Phase.ENDED:
            self._tell_incomplete()
        elif self._phase is not Phase.LINGERING:
            self._resume()

    # ends

    def answered(self, *, keep_alive: bool) -> None:
        """Go on with the next request, or close: also if there is more of this one than was read."""
        self._request = None
        if not keep_alive or self._phase is not Phase.ANSWERING:
            self._linger()
            return
        self._phase = Phase.HEAD
        self.expire_in(IDLE_S)
        if self._held:
            self.loop.call_soon(self._resume)

    def abort(self, *, reset: bool = False) -> None:
        self._phase, self._held = Phase.ENDED, b""
        super().abort(reset=reset)

    def expire(self) -> None:
        """Act on a deadline that has passed."""
        if self._waiting is not None:
            return  # the delegate holds what has come; looked at again
        if self._phase is Phase.LINGERING:
            unsent = self.unsent()
            if not unsent or unsent == self._unsent_before:
                self.abort()
            self._unsent_before = unsent
            self.expire_in(STALLED_S)
        elif self._phase is Phase.BODY:
            self._refuse(RequestTimeout("the request body did not come in time"))
        elif self._head.begun:
            self._refuse(RequestTimeout("the request's head did not come in time"))
        else:
            self._linger()

    def detach(self) -> IOStream:
        """Give the socket away, with what was read of it beyond the request. Raises StreamClosedError."""
        self._request = None
        return self.give_away(self._held)

    def _refuse(self, error: RequestError) -> None:
        """Answer in the delegate's place, if it has not begun to, and close."""
        log.info("request refused address=%s status=%d reason=%s", self.context, error.status, error.message)
        request, self._request = self._request, None
        last = b"" if request is not None and request.head_written else answer(error, self._asked(request))
        if request is not None:
            request.refused = error
            request.flush()
            request.lost()
        self._linger(last)
        self._tell_incomplete()

    def _asked(self, request: RequestConnection | None) -> str:
        """The method of the request in hand, empty if that was not read."""
        return self._head.method if request is None else request.head.start_line.method

    def _linger(self, last: bytes = b"") -> None:
        if self._phase in (Phase.LINGERING, Phase.ENDED):
            return
        self._phase, self._held = Phase.LINGERING, b""
        if last:
            self.transport.write(last)
        try:
            self.transport.write_eof()
        except OSError:  # it was reset, which is told only after what it has sent
            self.abort()
            return
        self.transport.resume_reading()
        self.expire_in(LINGER_S)

    def _tell_incomplete(self) -> None:
        message, self._message = self._message, None
        if message is not None:
            message.on_connection_close()


class RequestConnection(HTTPConnection):
    """One request's side of its connection, until it is answered.

    `max_body_bytes` and `body_timeout_s` count from the end of `headers_received` on. `withholds_body`: the client
    waits for a 100 to send its body. An answer before that is the connection's last, since a body may still follow.
    """

    def __init__(self, connection: Connection, head: Head) -> None:
        self.context = connection.context
        self.head = head
        self.max_body_bytes = MAX_BODY_BYTES
        self.body_timeout_s = BODY_S
        self.withholds_body = head.expects_continue and head.length != 0
        self.head_written = False
        self.ends_by_close = False
        self.refused: RequestError | None = None
        """Why the connection ended the request, if it did so in its delegate's place."""
        self._connection: Connection | None = connection
        self._keep_alive = head.keep_alive
        self._switches = False
        self._chunked = False
        self._left: int | None = None  # bytes of the answer, if it has a length
        self._unsent_head = b""
        self._close_callback: Callable[[], None] | None = None
        self._room_callback: Callable[[], None] | None = None
        self._writes: list[asyncio.Future[None]] = []

    # what Tornado's delegates ask of a connection, beside `write_headers`, `write` and `finish`

    def set_max_body_size(self, max_body_size: int) -> None:
        self.max_body_bytes = max_body_size

    def set_body_timeout(self, timeout: float) -> None:
        self.body_timeout_s = timeout

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Set what is called, once, when the client leaves before the answer is finished."""
        self._close_callback = callback

    def detach(self) -> IOStream:
        """Give the socket away, as after a 101. Raises StreamClosedError."""
        connection, self._connection = self._connection, None
        if connection is None:
            raise StreamClosedError
        return connection.detach()

    # the client

    @property
    def gone(self) -> bool:
        """Whether the client has left, or the answer is finished."""
        return self._connection is None or self._connection.gone

    @property
    def queued(self) -> int:
        """Bytes of answers that wait in this process."""
        return 0 if self._connection is None else self._connection.queued

    @property
    def full(self) -> bool:
        """Whether more than HIGH_WATER waits, and has not yet sunk below LOW_WATER."""
        return self._connection is not None and self._connection.full

    def unsent(self) -> int:
        """Bytes that the client has not acknowledged, in this process and in the kernel."""
        return 0 if self._connection is None else self._connection.unsent()

    def on_room(self, callback: Callable[[], None]) -> None:
        """Set what is called, once, when a `full` queue has sunk below LOW_WATER."""
        self._room_callback = callback

    async def drained(self) -> None:
        """Wait until nothing of the answer waits here. Raises StreamClosedError if the client left."""
        if self._connection is None or self._connection.gone:
            raise StreamClosedError
        with self._connection.full_until_empty():
            await self._written()

    # the answer

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> asyncio.Future[None]:
        """Begin the answer. The future ends as that of `write` does."""
        assert isinstance(start_line, ResponseStartLine)
        if self.gone:
            return _closed()
        status, lines = start_line.code, list(headers.get_all())
        if "Connection" in headers and status != 101:
            self._keep_alive = self._keep_alive and headers["Connection"].lower() != "close"
            lines = [line for line in lines if line[0].lower() != "connection"]  # `begin` says it
        length = headers.get("Content-Length")
        self.begin(status, start_line.reason, lines, None if length is None else int(length), chunk or b"")
        return self._written()

    def begin(
        self, status: int, reason: str, headers: list[tuple[str, str]], length: int | None, start: bytes = b""
    ) -> None:
        """Send the answer's head with the `start` of its body, or when the loop turns. Nothing if the client has left.

        `length` is what `headers` say of the body's, None if they say nothing.

        Raises ValueError if a header would not be one line.
        """
        connection = self._connection
        if connection is None or connection.gone:
            return
        lines = headers + self._framing(status, length)
        text = "".join([f"{name}: {value}\r\n" for name, value in lines])
        head = f"HTTP/1.1 {status} {reason}\r\n{text}\r\n"
        if not head.count("\n") == head.count("\r") == len(lines) + 2:
            raise ValueError("CR or LF in a header")
        self.head_written = True
        self._switches = status == 101
        self._unsent_head = head.encode("latin-1")
        if start:
            self.send(start)
        else:
            connection.loop.call_soon(self.flush)

    def send(self, data: bytes) -> int:
        """Frame `data` and send it; the bytes that wait in this process. None if the client has left, or all was said.

        Raises HTTPOutputError if it is more than the answer's length.
        """
        connection = self._connection
        if connection is None or connection.gone or not data:
            return 0
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self.abort()
                raise HTTPOutputError("more data than Content-Length")
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._unsent_head:
            data, self._unsent_head = self._unsent_head + data, b""
        connection.transport.write(data)
        return connection.transport.get_write_buffer_size()

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Send `chunk`. The future ends when there is room for more, with StreamClosedError if the client left."""
        if self.gone:
            return _closed()
        self.send(chunk)
        return self._written()

    def finish(self) -> None:
        """End the answer. Raises HTTPOutputError if it is less than its length."""
        connection = self._connection
        if connection is None or connection.gone:
            return
        if self._left:
            self.abort()
            raise HTTPOutputError(f"{self._left} bytes less than Content-Length")
        last = self._unsent_head + (b"0\r\n\r\n" if self._chunked else b"")
        self._unsent_head = b""
        if last:
            connection.transport.write(last)
        if not self._switches:  # else `detach` follows
            self._connection = self._close_callback = None
            connection.answered(keep_alive=self._keep_alive)
            self._end_writes(None)

    def abort(self, *, reset: bool = False) -> None:
        """Close at once, with `reset` by a reset; the close callback is not called."""
        self._close_callback = None
        self.flush()
        if self._connection is not None:
            self._connection.abort(reset=reset)

    # what the connection tells

    def flush(self) -> None:
        """Send the head, if it waits for more."""
        head, self._unsent_head = self._unsent_head, b""
        if head and self._connection is not None and not self._connection.gone:
            self._connection.transport.write(head)

    def has_room(self) -> None:
        callback, self._room_callback = self._room_callback, None
        self._end_writes(None)
        if callback is not None:
            callback()

    def lost(self) -> None:
        """The client has left, or was refused."""
        callback = self._close_callback
        self._connection = self._close_callback = self._room_callback = None
        self._end_writes(StreamClosedError())
        if callback is not None:
            callback()

    def _framing(self, status: int, length: int | None) -> list[tuple[str, str]]:
        """The lines that say where the answer ends and whether the connection does (RFC 9112 §6.3, §9.3)."""
        modern = self.head.start_line.version == "HTTP/1.1"
        bodiless = self.head.start_line.method == "HEAD" or status in (204, 304) or status < 200
        self._left = 0 if bodiless else length
        self._chunked = modern and self._left is None
        self.ends_by_close = not modern and self._left is None
        self._keep_alive = self._keep_alive and not self.ends_by_close and not self.withholds_body
        lines: list[tuple[str, str]] = []
        if self._keep_alive != modern and status != 101:
            lines.append(("Connection", "close" if modern else "Keep-Alive"))
        if self._chunked:
            lines.append(("Transfer-Encoding", "chunked"))
        return lines

    def _written(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.full:
            self._writes.append(future)
        else:
            future.set_result(None)
        return future

    def _end_writes(self, error: Exception | None) -> None:
        writes, self._writes = self._writes, []
        for future in writes:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # a writer need not wait


def answer(error: RequestError, method: str = "") -> bytes:
    """An error as a whole answer to a request of this method, the last one of its connection."""
    headers, body = refusal(error, f"req_{secrets.token_hex(12)}")
    headers["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.get_all())
    head = f"HTTP/1.1 {error.status} {responses[error.status]}\r\n{lines}\r\n".encode()
    return head if method == "HEAD" else head + body


def _closed() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(StreamClosedError())
    future.exception()
    return future
