"""A cable between one instance and its store, which a test can pull out, and which may lose everything on the way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from tests.redis_server import RedisServer
from tests.serving import serving

_Line = asyncio.Queue[tuple[float, bytes]]


class Cable:
    """`cut` ends all connections and takes no new one until `mend`; `hang` lets nothing through and tells nobody.

    What comes in passes after `delay_s`, in each direction.
    """

    def __init__(self, server: RedisServer, path: Path) -> None:
        self.url = f"unix://{path}"
        self._server = server
        self._path = path
        self._open: set[asyncio.StreamWriter] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self._is_cut = False
        self.delay_s = 0.0

    def cut(self) -> None:
        self._is_cut = True
        for writer in self._open:
            writer.transport.abort()

    def hang(self) -> None:
        self._passes.clear()

    def mend(self) -> None:
        self._is_cut = False
        self._passes.set()

    @contextlib.asynccontextmanager
    async def plugged(self) -> AsyncIterator[Cable]:
        """Take connections until this is left."""
        self._path.unlink(missing_ok=True)
        async with serving(self._accept, at=socket.create_server(str(self._path), family=socket.AF_UNIX)):
            yield self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            return
        try:
            there, back = await asyncio.open_unix_connection(str(self._server.path))
        except OSError:  # the store is down
            return
        try:
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        finally:
            back.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """One way's bytes, to their end."""
        self._open.add(sink)
        line: _Line = asyncio.Queue()
        await asyncio.gather(self._take(source, line), self._pass_on(line, sink))

    async def _take(self, source: asyncio.StreamReader, line: _Line) -> None:
        """Put what comes on the line, with the time at which it may leave; nothing at the end."""
        data = b" "
        while data:
            try:
                data = await source.read(65536)
            except OSError:
                data = b""
            await line.put((asyncio.get_running_loop().time() + self.delay_s, data))

    async def _pass_on(self, line: _Line, sink: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while (each := await line.get())[1]:
                    await asyncio.sleep(max(0.0, each[0] - asyncio.get_running_loop().time()))
                    await self._passes.wait()
                    sink.write(each[1])
                    await sink.drain()
        finally:
            self._open.discard(sink)
            sink.transport.abort()
