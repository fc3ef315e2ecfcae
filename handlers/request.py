"""One request's side of its connection: what its delegate, which is written to Tornado's interface, answers on.

An answer that comes too late reaches nobody: each request has a side of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPOutputError,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, StreamClosedError

from handlers.client_socket import ClientSocket
from handlers.framing import Head
from proxy.errors import RequestError

MAX_BODY_BYTES = 1024 * 1024
"""Of delegates that do not set a limit of their own."""


class RequestConnection(HTTPConnection):
    """One request's side of its connection, until it is answered.

    `max_body_bytes` counts from the end of `headers_received` on. `withholds_body`: the client waits for a 100 to send
    its body, and may leave it out after another answer. An answer that begins before the whole request has come is the
    connection's last, and says so: a proxy in front may share the connection among its clients.
    """

    def __init__(self, connection: ClientSocket, head: Head) -> None:
        self.context = connection.context
        self.head = head
        self.max_body_bytes = MAX_BODY_BYTES
        self.withholds_body = head.expects_continue and head.length != 0
        self.head_written = False
        self.ends_by_close = False
        self.refused: RequestError | None = None
        """Why the connection ended the request, if it did so in its delegate's place."""
        self._connection: ClientSocket | None = connection
        self._transport = connection.transport  # so that an event of a stream touches one object less
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
    def has_come(self) -> bool:
        """Whether the whole request is here."""
        return self._connection is not None and self._connection.has_request

    def vouch(self) -> None:
        """Say that the client has shown a valid key."""
        if self._connection is not None:
            self._connection.vouch()

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
        transport = self._transport
        if self._connection is None or transport.is_closing() or not data:
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
        transport.write(data)
        return transport.get_write_buffer_size()

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

    def refuse(self, error: RequestError) -> None:
        """The connection ends the request, in its delegate's place."""
        self.refused = error
        self.flush()
        self.lost()

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
        all_has_come = self.has_come
        goes_on = all_has_come and self._connection is not None and not self._connection.is_last
        self._keep_alive &= goes_on and not self.ends_by_close and not self.withholds_body
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


def _closed() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(StreamClosedError())
    future.exception()
    return future
