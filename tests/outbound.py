"""An outbound proxy in the test's own loop: tunnels by CONNECT, or by SOCKS 5 with the host's name."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.serving import serving


@dataclass
class Outbound:
    """A running proxy; `asked` is what it was asked for, as `host:port`, `heads` all that came before a tunnel.

    `refuses`: what it answers to CONNECT in place of a tunnel, `times` how often. Every name is this machine's.
    """

    port: int = 0
    asked: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    refuses: bytes = b""
    times: float = math.inf

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, of either kind."""
        first = await reader.readexactly(1)
        target = await (self._socks(reader, writer) if first == b"\x05" else self._connect(reader, writer))
        if target:
            self.asked.append(target)
            there = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
            try:
                await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))
            finally:
                there[1].transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        refuses = self.refuses if self.times > 0 else b""
        self.times -= 1
        writer.write(refuses or b"HTTP/1.1 200 Connection established\r\nX-Of-The-Tunnel: 1\r\n\r\n")
        return "" if refuses else head.split()[1].decode()

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        if 2 in methods:  # RFC 1929: user and password
            writer.write(b"\x05\x02")
            said = b""
            for _ in range(2):
                said += await reader.readexactly(1 if said else 2)
                said += await reader.readexactly(said[-1])
            self.heads.append(said)
            writer.write(b"\x01\x00")
        else:
            writer.write(b"\x05\x00")
        kind = (await reader.readexactly(4))[3]
        host = await reader.readexactly((await reader.readexactly(1))[0] if kind == 3 else 4)
        port = int.from_bytes(await reader.readexactly(2))
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        return f"{host.decode() if kind == 3 else '.'.join(map(str, host))}:{port}"


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bring one way's bytes to the other side, up to their end."""
    try:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def outbound() -> AsyncIterator[Outbound]:
    """A running one on 127.0.0.1."""
    proxy = Outbound()
    async with serving(proxy.serve) as proxy.port:
        yield proxy
