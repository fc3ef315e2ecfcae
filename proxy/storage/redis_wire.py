"""One connection to Redis or Valkey: what is sent goes out at once, and the answers come in its order (RESP2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from hiredis import ProtocolError, Reader, ReplyError, pack_command

Part: TypeAlias = str | bytes | int | float
Reply: TypeAlias = "bytes | int | list[Reply] | None"

TROUBLE: Final = (OSError, ProtocolError)
"""What ends a connection."""

READ_BYTES: Final = 65_536

_INCOMPLETE: Final = object()


class Wire(asyncio.BufferedProtocol):
    """What it hears goes to those that `hand_to` has named last: each answer, and at last why the connection ended."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        """Take over the connection of `writer`, which has been answered everything so far."""
        self._reader = Reader(notEnoughData=_INCOMPLETE)
        self._space = memoryview(bytearray(READ_BYTES))  # asyncio's TLS writes into slices of it
        self._writer = writer  # which would close the connection if nobody had it any more
        self._transport: asyncio.WriteTransport | None = writer.transport
        self._took: Callable[[Reply | ReplyError], None] = _ignore
        self._lost: Callable[[Exception], None] = _ignore
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        writer.transport.set_protocol(self)

    def hand_to(self, took: Callable[[Reply | ReplyError], None], lost: Callable[[Exception], None]) -> None:
        """Hand answers to `took` from now on, and why the connection ended to `lost`, once and as the last thing."""
        self._took, self._lost = took, lost

    def send(self, commands: Iterable[tuple[Part, ...]]) -> None:
        """Write commands. It never waits: what does not fit into the socket stays in memory.

        Raises ConnectionError if the connection has ended.
        """
        if self._transport is None:
            raise ConnectionError("it closed the connection")
        self._transport.write(b"".join([pack_command(each) for each in commands]))  # type: ignore[arg-type]

    def abort(self) -> None:
        """Close it at once. Nothing is handed over any more."""
        self._took = self._lost = _ignore
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    # what asyncio calls

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._reader.feed(self._space, 0, nbytes)  # type: ignore[arg-type]
            while (answer := self._reader.gets()) is not _INCOMPLETE:
                self._took(answer)
        except Exception as error:  # whatever it is, those who wait must hear of it
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.closed.done():
            self.closed.set_result(None)
        self._end(exc or ConnectionError("it closed the connection"))

    def _end(self, why: Exception) -> None:
        lost = self._lost
        self.abort()
        lost(why)


def _ignore(_: object) -> None:
    """In place of a listener that is not interested any more."""
