"""One connection to Redis on which calls are pipelined: each is sent at once, and the answers come in their order."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
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

GRACE_S: Final = 0.02

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, which Redis runs as one step that nothing comes between."""

    text: str
    sha1: str


@dataclass(slots=True)
class _Call:
    """`instead` is sent if the server does not know the script of `command`."""

    command: tuple[Part, ...]
    outcome: asyncio.Future[Reply]
    instead: tuple[Part, ...] | None = None


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
        self._queue: list[_Call] = []
        self._sent: deque[_Call] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.connections = 0
        """How many were made. What was asked on one says nothing of what was sent on another."""
        self._progress = 0.0  # when something came last, on the loop's clock
        self._doubted = -1.0  # the progress after which there was none in time

    def call(self, *command: Part) -> asyncio.Future[Reply]:
        """Send a command. The future has its reply, or raises StoreAway, or StorageError if the server refuses it."""
        return self._call(command)

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Part]) -> asyncio.Future[Reply]:
        """Run a script; otherwise as `call`."""
        given = (len(keys), *keys, *args)
        return self._call(("EVALSHA", script.sha1, *given), ("EVAL", script.text, *given))

    def _call(
        self, command: tuple[Part, ...], instead: tuple[Part, ...] | None = None
    ) -> asyncio.Future[Reply]:
        outcome: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            self._breaker.check()
        except StoreAway as error:
            outcome.set_exception(error)
        else:
            self._order(_Call(command, outcome, instead))
        return outcome

    def _order(self, call: _Call) -> None:
        loop = asyncio.get_running_loop()
        self._queue.append(call)
        if self._timer is None:
            self._progress = loop.time()
            self._timer = loop.call_later(self._timeout_s, self._look)
        if self._sending is None:
            self._sending = loop.create_task(self._send())

    def progressed(self) -> None:
        """Note that something came, for whoever uses a new connection before its calls."""
        self._progress = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Close the connection once all calls are answered, or it has been silent for too long."""
        waiting = [call.outcome for call in (*self._sent, *self._queue)]
        if waiting:
            await asyncio.wait(waiting)
        self._fail("it was closed", counts=False)
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _send(self) -> None:
        try:
            while self._queue:
                connection = self._connection or await self._connected()
                batch, self._queue = self._queue, []
                self._sent.extend(batch)
                packed = [piece for call in batch for piece in connection.pack_command(*call.command)]
                await connection.send_packed_command(packed, check_health=False)
            self._sending = None
        except Exception as error:  # whatever it is, those who wait must hear of it
            self._sending = None
            self._fail(_told(error))

    async def _connected(self) -> AbstractConnection:
        connection = self._connection = await self._connect()
        self.connections += 1
        self.progressed()
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
        self.progressed()
        self._breaker.succeeded()
        if isinstance(reply, ReadOnlyError):  # it was demoted: the next connection is to the new primary
            raise ConnectionError("it takes no writes: it is a replica")
        call = self._sent.popleft()
        if isinstance(reply, NoScriptError) and call.instead is not None:
            self._order(_Call(call.instead, call.outcome))
        elif call.outcome.done():  # its caller was cancelled
            return
        elif isinstance(reply, ResponseError):
            call.outcome.set_exception(StorageError(f"the shared store refuses it: {reply}"))
        else:
            call.outcome.set_result(reply)

    def _look(self) -> None:
        """Give the connection up if nothing has come for too long."""
        self._timer = None
        if not self._sent and not self._queue:
            return
        loop = asyncio.get_running_loop()
        now, ends = loop.time(), self._progress + self._timeout_s
        if now < ends:
            self._timer = loop.call_at(ends, self._look)
        elif self._doubted == self._progress:
            self._fail(f"it has not answered within {self._timeout_s * 1000:.0f} ms")
        else:
            # If it was this process that took its time, the answer waits in the socket.
            self._doubted = self._progress
            self._timer = loop.call_at(now + GRACE_S, self._look)

    def _fail(self, why: str, *, counts: bool = True) -> None:
        """Give the connection up, and tell all who wait."""
        waiting = [call.outcome for call in (*self._sent, *self._queue)]
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
