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
    """The port of 127.0.0.1 where each connection is given to `serve`, and closed after it; all are closed at the end.

    With `at` it listens on that socket instead, and says 0. `serve` may raise what a lost connection and failed TLS
    raise; anything else is raised at the end, in an ExceptionGroup.
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

    place = {"sock": at} if at else {"host": "127.0.0.1", "port": 0}
    server = await asyncio.start_server(connected, **place, limit=limit, backlog=1024)
    [listener] = server.sockets
    try:
        yield 0 if at else listener.getsockname()[1]
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
