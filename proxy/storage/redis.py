"""The way to Redis or Valkey: scripts by their names, each call bounded in time, and none while the store is away."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from hiredis import ReplyError

from proxy.clock import Clock
from proxy.storage.address import StoreAddress
from proxy.storage.breaker import Breaker
from proxy.storage.redis_connection import reached
from proxy.storage.redis_lane import Connect, Lane, Script, gone_with
from proxy.storage.redis_wire import Part, Reply, Wire

SCRIPTS: Final = Path(__file__).with_name("scripts")
CALL_S: Final = 0.25
"""No caller waits longer for an answer: failures.md L3."""


log = logging.getLogger(__name__)


@cache
def script(name: str) -> Script:
    """The script in `scripts/<name>.lua`."""
    text = (SCRIPTS / f"{name}.lua").read_text()
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class _Talk:
    """Calls on one new connection. They raise OSError if it ends, ReplyError if the server refuses them."""

    def __init__(self, wire: Wire, progressed: Callable[[], None] = lambda: None) -> None:
        self._wire = wire
        self._progressed = progressed
        self._answers: deque[asyncio.Future[Reply | ReplyError]] = deque()
        wire.hand_to(self._took, self._lost)

    async def call(self, *command: Part) -> Reply:
        return (await self.all([command]))[0]

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Part] = ()) -> Reply:
        return await self.call("EVALSHA", script(name).sha1, len(keys), *keys, *args)

    async def all(self, commands: Sequence[tuple[Part, ...]]) -> list[Reply]:
        """Send commands together. Returns their replies, or raises the first of their refusals."""
        loop = asyncio.get_running_loop()
        asked = [loop.create_future() for _ in commands]
        self._answers.extend(asked)
        self._wire.send(commands)
        replies: list[Reply] = []
        for answer in await asyncio.gather(*asked):
            if isinstance(answer, ReplyError):
                raise answer
            replies.append(answer)
        return replies

    def _took(self, answer: Reply | ReplyError) -> None:
        self._progressed()
        asked = self._answers.popleft()
        if not asked.done():  # else its caller was cancelled
            asked.set_result(answer)

    def _lost(self, error: Exception) -> None:
        while self._answers:
            asked = self._answers.popleft()
            if not asked.done():
                asked.set_exception(error)


class RedisLink:
    """Calls to one pool's keys. `name` is the pool's, so that two pools may share a server.

    Calls on the main lane take effect in their order. `lane` gives another one, for what must not hold those up.
    """

    def __init__(
        self,
        address: StoreAddress,
        *,
        name: str = "claude-proxy",
        clock: Clock,
        timeout_s: float = CALL_S,
        ca_file: str | None = None,
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._prefix = f"{{{name}}}:"  # the braces put all keys into one slot of a cluster
        self._ca_file = ca_file
        self.breaker = Breaker(clock)
        self._lanes: list[Lane] = []
        self._greeting: Callable[[_Talk], Awaitable[None]] | None = None
        self._main = self._made(self._connect_and_greet)

    def key(self, *parts: str) -> str:
        """The name of one of the pool's keys."""
        return self._prefix + ":".join(parts)

    @property
    def away(self) -> str | None:
        """Why the store is not asked now; None if it is."""
        return self.breaker.away

    def greet(self, greeting: Callable[[_Talk], Awaitable[None]]) -> None:
        """Have this said on each new connection of the main lane, before the calls that wait for it."""
        self._greeting = greeting

    def call(self, *command: Part) -> asyncio.Future[Reply]:
        """Send a command at once. Raises StoreAway; StorageError if the server refuses it."""
        return self._main.call(*command)

    def run(self, name: str, keys: Sequence[str], args: Sequence[Part] = ()) -> asyncio.Future[Reply]:
        """Run `scripts/<name>.lua`, which is sent at once. Raises StoreAway; StorageError if the server refuses it."""
        return self._main.run(script(name), keys, args)

    def lane(self, *, longer_s: float = 0.0) -> Lane:
        """A connection of its own, which may be silent for `longer_s` longer than others; closed with the rest."""
        return self._made(self._connect, longer_s)

    def _made(self, connect: Connect, longer_s: float = 0.0) -> Lane:
        lane = Lane(connect, self.breaker, timeout_s=self.timeout_s + longer_s)
        self._lanes.append(lane)
        return lane

    async def close(self) -> None:
        """Close all connections."""
        for lane in self._lanes:
            await lane.close()

    async def _connect_and_greet(self) -> Wire:
        wire = await self._connect()
        if self._greeting is not None:
            try:
                await self._greeting(_Talk(wire, self._main.progressed))
            except ReplyError as error:
                if why := gone_with(str(error)):
                    wire.abort()
                    raise ConnectionError(why) from None
                # It is full: what can be done without writing goes on.
                log.warning("the shared store does not take what this instance holds reason=%s", error)
            except BaseException:
                wire.abort()
                raise
        return wire

    async def _connect(self) -> Wire:
        wire = await reached(self.address, timeout_s=self.timeout_s, ca_file=self._ca_file)
        try:
            await _Talk(wire).all(_all_scripts())
        except ReplyError as error:
            wire.abort()
            raise ConnectionError(str(error)) from None
        except BaseException:
            wire.abort()
            raise
        return wire


def _all_scripts() -> list[tuple[Part, ...]]:
    """To make them known: one that is sent again whole would take effect later than what was called after it."""
    return [("SCRIPT", "LOAD", script(path.stem).text) for path in SCRIPTS.glob("*.lua")]
