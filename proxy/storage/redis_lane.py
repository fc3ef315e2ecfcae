"""One connection to Redis on which calls are pipelined: each is sent at once, and the answers come in their order."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    ConnectionError,
    InvalidResponse,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from proxy.errors import StorageError, StoreAway
from proxy.storage.breaker import Breaker

Part: TypeAlias = str | bytes | int | float
Reply: TypeAlias = "bytes | int | list[Reply] | None"
Connect: TypeAlias = Callable[[], Awaitable[AbstractConnection]]

TROUBLE: Final = (OSError, ConnectionError, TimeoutError, InvalidResponse)
"""What ends a connection."""

log = logging.getLogger(__name__)


class NoScript(StorageError):
    """The server does not know the script of an EVALSHA."""


class Lane:
    """Calls take effect in the order in which they are made; a cancelled caller does not take its call back.

    If nothing comes for `timeout_s` while calls wait, the connection is given up and all of them fail: it is not known
    then which took effect. The next call makes a new connection.
    """

    def __init__(self, connect: Connect, breaker: Breaker, *, timeout_s: float) -> None:
        self._connect = connect
        self._breaker = breaker
        self._timeout_s = timeout_s
        self._connection: AbstractConnection | None = None
        self._queue: list[tuple[tuple[Part, ...], asyncio.Future[Reply]]] = []
        self._sent: deque[asyncio.Future[Reply]] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._progress = 0.0  # on the loop's clock

    def call(self, *command: Part) -> asyncio.Future[Reply]:
        """Send a command. The future has its reply, or raises StoreAway, or StorageError if the server refuses it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        try:
            self._breaker.check()
        except StoreAway as error:
            future.set_exception(error)
            return future
        self._queue.append((command, future))
        if self._timer is None:
            self._progress = loop.time()
            self._timer = loop.call_later(self._timeout_s, self._look)
        if self._sending is None:
            self._sending = loop.create_task(self._send())
        return future

    async def close(self) -> None:
        """Close the connection; whatever waits fails."""
        self._fail("it was closed", counts=False)
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _send(self) -> None:
        try:
            while self._queue:
                connection = self._connection or await self._connected()
                batch, self._queue = self._queue, []
                self._sent.extend(future for _, future in batch)
                packed = [piece for command, _ in batch for piece in connection.pack_command(*command)]
                await connection.send_packed_command(packed, check_health=False)
            self._sending = None
        except Exception as error:  # whatever it is, those who wait must hear of it
            self._sending = None
            self._fail(_told(error))

    async def _connected(self) -> AbstractConnection:
        connection = self._connection = await self._connect()
        self._progress = asyncio.get_running_loop().time()
        self._reading = asyncio.get_running_loop().create_task(self._read(connection))
        return connection

    async def _read(self, connection: AbstractConnection) -> None:
        """Take the answers until the connection ends."""
        try:
            while True:
                reply: Reply | ResponseError
                try:
                    reply = await connection.read_response(disable_decoding=True, timeout=math.inf)
                except ResponseError as error:
                    reply = error
                self._took(reply)
        except Exception as error:
            self._reading = None
            self._fail(_told(error), counts=bool(self._sent))
        finally:
            await connection.disconnect(nowait=True)

    def _took(self, reply: Reply | ResponseError) -> None:
        self._progress = asyncio.get_running_loop().time()
        self._breaker.succeeded()
        future = self._sent.popleft()
        if isinstance(
            reply, ReadOnlyError
        ):  # a primary that was demoted: the next connection is to the new one
            raise ConnectionError("it takes no writes: it is a replica")
        if future.done():  # its caller was cancelled
            return
        if isinstance(reply, ResponseError):
            future.set_exception(_refusal(reply))
        else:
            future.set_result(reply)

    def _look(self) -> None:
        """Give the connection up if nothing has come for too long."""
        self._timer = None
        if not self._sent and not self._queue:
            return
        loop = asyncio.get_running_loop()
        ends = self._progress + self._timeout_s
        if loop.time() >= ends:
            self._fail(f"it has not answered within {self._timeout_s * 1000:.0f} ms")
        else:
            self._timer = loop.call_at(ends, self._look)

    def _fail(self, why: str, *, counts: bool = True) -> None:
        """Give the connection up, and tell all who wait."""
        waiting = [*self._sent, *(future for _, future in self._queue)]
        self._sent.clear()
        self._queue.clear()
        if counts:
            self._breaker.failed(why)
        for future in waiting:
            if not future.done():
                future.set_exception(StoreAway(why))
        tasks = [task for task in (self._sending, self._reading) if task is not None]
        self._connection = self._sending = self._reading = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in tasks:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()


def _told(error: Exception) -> str:
    if not isinstance(error, TROUBLE):
        log.error("the connection to the shared store failed", exc_info=error)
    return str(error) or type(error).__name__


def _refusal(error: ResponseError) -> StorageError:
    if isinstance(error, NoScriptError):
        return NoScript(str(error))
    return StorageError(f"the shared store refuses it: {error}")
