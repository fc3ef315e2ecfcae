"""A server in the test's own loop that leaves nothing open: every server of a test that asyncio runs is this one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LIMIT = 1 << 16
"""asyncio's own for a line or head, in bytes."""


@contextlib.asynccontextmanager
async def serving(
    serve: Serve, tls: ssl.SSLContext | None = None, *, limit: int = LIMIT, at: socket.socket | None = None
) -> AsyncIterator[int]:
    """The port where each connection is given to `serve`, and closed after it; all are closed at the end.

    It listens on 127.0.0.1, or on the socket `at`. A `serve` may end by the loss of its connection and by failed TLS;
    what else it raises is raised at the end.
    """
    transports: list[asyncio.WriteTransport] = []
    tasks: list[asyncio.Task[None]] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lost = contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)
        with lost, contextlib.closing(writer):
            if tls is not None:  # asyncio would tell of a connection only after its handshake
                await writer.start_tls(tls)
            await serve(reader, writer)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transports.append(writer.transport)
        tasks.append(asyncio.create_task(converse(reader, writer)))

    listener = at or socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(connected, sock=listener, limit=limit, backlog=1024)
    try:
        yield 0 if at else int(listener.getsockname()[1])
    finally:
        # asyncio leaks what it accepts in the turn of `close`. So take no one else, and wait the two turns until
        # `connected` has been told of the last one.
        asyncio.get_running_loop().remove_reader(listener)
        for _ in range(2):
            await asyncio.sleep(0)
        server.close()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for transport in transports:
            transport.abort()  # TLS waits for the peer's farewell, and a full buffer for its reading
        await asyncio.sleep(0)  # the turn in which they close
        if failed := [each for each in results if isinstance(each, Exception)]:
            raise ExceptionGroup("of a test's server", failed)
