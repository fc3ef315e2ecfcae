"""One connection to Redis on which calls are pipelined: each is sent at once, and the answers come in their order."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from hiredis import ReplyError

from proxy.errors import StorageError, StoreAway
from proxy.storage.breaker import Breaker
from proxy.storage.redis_wire import TROUBLE, Part, Reply, Wire

Connect: TypeAlias = Callable[[], Awaitable[Wire]]

GRACE_S: Final = 0.02

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, which Redis runs as one step that nothing comes between."""

    text: str
    sha1: str


@dataclass(slots=True)
class _Call:
    """`script` is the one that `command` runs, if it runs one."""

    command: tuple[Part, ...]
    outcome: asyncio.Future[Reply]
    script: Script | None = None


class Lane:
    """Calls take effect in the order in which they are made; a cancelled caller does not take its call back.

    What is called in one turn of the loop is sent together, in the next one. If nothing comes for `timeout_s` while
    calls wait, the connection is given up and all of them fail: it is not known then which took effect. The next call
    makes a new connection.
    """

    def __init__(self, connect: Connect, breaker: Breaker, *, timeout_s: float) -> None:
        self._connect = connect
        self._breaker = breaker
        self._timeout_s = timeout_s
        self._wire: Wire | None = None
        self._queue: list[_Call] = []
        self._sent: deque[_Call] = deque()
        self._connecting: asyncio.Task[None] | None = None
        self._flushing: asyncio.Handle | None = None
        self._ending: set[asyncio.Future[None]] = set()
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
        return self._call(("EVALSHA", script.sha1, len(keys), *keys, *args), script)

    def _call(self, command: tuple[Part, ...], script: Script | None = None) -> asyncio.Future[Reply]:
        outcome: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            self._breaker.check()
        except StoreAway as error:
            outcome.set_exception(error)
        else:
            self._order(_Call(command, outcome, script))
        return outcome

    def _order(self, call: _Call) -> None:
        loop = asyncio.get_running_loop()
        self._queue.append(call)
        if self._timer is None:
            self._progress = loop.time()
            self._timer = loop.call_later(self._timeout_s, self._look)
        if self._wire is None:
            if self._connecting is None:
                self._connecting = loop.create_task(self._open())
        elif self._flushing is None:
            self._flushing = loop.call_soon(self._flush, self._wire)

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

    async def _open(self) -> None:
        """Connect, and send what was called meanwhile."""
        try:
            wire = self._wire = await self._connect()
        except Exception as error:  # whatever it is, those who wait must hear of it
            self._connecting = None
            self._fail(_told(error))
            return
        self._connecting = None
        self.connections += 1
        self.progressed()
        wire.hand_to(self._took, self._lost)
        self._flush(wire)

    def _flush(self, wire: Wire) -> None:
        self._flushing = None
        batch, self._queue = self._queue, []
        self._sent.extend(batch)
        try:
            wire.send([call.command for call in batch])
        except Exception as error:
            self._fail(_told(error))

    def _took(self, reply: Reply | ReplyError) -> None:
        self.progressed()
        self._breaker.succeeded()
        refusal = str(reply) if isinstance(reply, ReplyError) else None
        if refusal is not None and (why := gone_with(refusal)):
            self._fail(why)
            return
        call = self._sent.popleft()
        if refusal is not None and refusal.startswith("NOSCRIPT") and call.script is not None:
            self._order(_Call(("EVAL", call.script.text, *call.command[2:]), call.outcome))
        elif call.outcome.done():  # its caller was cancelled
            return
        elif isinstance(reply, ReplyError):
            call.outcome.set_exception(StorageError(f"the shared store refuses it: {refusal}"))
        else:
            call.outcome.set_result(reply)

    def _lost(self, error: Exception) -> None:
        self._fail(_told(error), counts=bool(self._sent))

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
        for waits in (self._timer, self._flushing):
            if waits is not None:
                waits.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
            self._ends(self._connecting)
        if self._wire is not None:
            self._wire.abort()
            self._ends(self._wire.closed)
        self._wire = self._connecting = self._timer = self._flushing = None

    def _ends(self, ending: asyncio.Future[None]) -> None:
        """Have `close` wait for what ends by itself."""
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


def gone_with(refusal: str) -> str | None:
    """Why a connection whose server answers this is of no use; None if it is."""
    if refusal.startswith("READONLY"):  # it was demoted: the next connection is to the new primary
        return "it takes no writes: it is a replica"
    return refusal if refusal.startswith("LOADING") else None


def _told(error: Exception) -> str:
    if not isinstance(error, TROUBLE):
        log.error("the connection to the shared store failed", exc_info=error)
    return str(error) or type(error).__name__
