"""A server on the proxy's own connections, with a delegate that writes down what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from handlers.connection import Connection
from handlers.request import RequestConnection
from handlers.server import Listener


@dataclass
class Seen(HTTPMessageDelegate):
    """One request, as its delegate was told of it."""

    front: Recorder
    server: Connection
    connection: RequestConnection
    start_line: tuple[str, ...] = ()
    lines: list[tuple[str, str]] = field(default_factory=list)
    headers: HTTPHeaders | None = None
    body: bytes = b""
    finished: bool = False
    closed: bool = False

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self.start_line = tuple(map(str, start_line))
        self.lines, self.headers = list(headers.get_all()), headers
        return self.front.on_head(self)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self.body += chunk
        return self.front.on_data(self)

    def finish(self) -> None:
        self.finished = True
        self.front.on_finish(self)

    def on_connection_close(self) -> None:
        self.closed = True


def answer_ok(seen: Seen) -> None:
    """A short answer that names the target."""
    body = seen.start_line[1].encode("latin-1")
    seen.connection.write_headers(
        ResponseStartLine("HTTP/1.1", 200, "OK"), HTTPHeaders({"Content-Length": str(len(body))})
    )
    seen.connection.write(b"" if seen.start_line[0] == "HEAD" else body)
    seen.connection.finish()


def nothing(seen: Seen) -> None:
    """Wait."""


class Recorder(HTTPServerConnectionDelegate):
    """Keeps every request, and does with it what the test says."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.on_head: Callable[[Seen], Awaitable[None] | None] = nothing
        self.on_data: Callable[[Seen], Awaitable[None] | None] = nothing
        self.on_finish: Callable[[Seen], None] = answer_ok

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        self.requests.append(Seen(self, server_conn, request_conn))  # type: ignore[arg-type]
        return self.requests[-1]

    @property
    def targets(self) -> list[str]:
        return [seen.start_line[1] for seen in self.requests]


@contextlib.asynccontextmanager
async def listening(delegate: HTTPServerConnectionDelegate) -> AsyncIterator[int]:
    """The port of a server for `delegate`."""
    listener = Listener(delegate)
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        await listener.listen([listening_socket])
        try:
            yield int(listening_socket.getsockname()[1])
        finally:
            listener.stop()
            async with asyncio.timeout(5):
                await listener.close_all_connections()
