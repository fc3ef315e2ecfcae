"""The way to Redis or Valkey: scripts by their names, each call bounded in time, and none while the store is away."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, ResponseError

from proxy.clock import Clock
from proxy.storage.address import StoreAddress
from proxy.storage.breaker import Breaker
from proxy.storage.redis_lane import Connect, Lane, Part, Reply, Script

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
    """Calls on one new connection, each answered before the next."""

    def __init__(self, connection: AbstractConnection, progressed: Callable[[], None]) -> None:
        self._connection = connection
        self._progressed = progressed

    async def call(self, *command: Part) -> Reply:
        """Raises what redis-py does."""
        await self._connection.send_command(*command)
        reply: Reply = await self._connection.read_response(disable_decoding=True)
        self._progressed()
        return reply

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Part] = ()) -> Reply:
        return await self.call("EVALSHA", script(name).sha1, len(keys), *keys, *args)


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

    async def _connect_and_greet(self) -> AbstractConnection:
        connection = await self._connect()
        if self._greeting is not None:
            try:
                await self._greeting(_Talk(connection, self._main.progressed))
            except ReadOnlyError:
                await connection.disconnect(nowait=True)
                raise ConnectionError("it takes no writes: it is a replica") from None
            except ResponseError as error:  # it is full: what can be done without writing goes on
                log.warning("the shared store does not take what this instance holds reason=%s", error)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
        return connection

    async def _connect(self) -> AbstractConnection:
        connection = await self._connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await _load(connection)
        except ResponseError as error:
            raise ConnectionError(str(error)) from None
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _connection(self) -> AbstractConnection:
        at = self.address
        options = self._options()
        if at.path is not None:
            return UnixDomainSocketConnection(path=at.path, **options)
        kind: type[Connection] = Connection
        if at.tls:
            kind = SSLConnection
            options["ssl_ca_certs"] = self._ca_file
        host, port = at.hosts[0] if at.master is None else await self._primary(at.master)
        return kind(host=host, port=port, **options)

    async def _primary(self, master: str) -> tuple[str, int]:
        """Where the Sentinels say that the primary is. Raises ConnectionError."""
        options = {"socket_timeout": self.timeout_s, "socket_connect_timeout": self.timeout_s}
        sentinel = Sentinel(self.address.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        try:
            host, port = await sentinel.discover_master(master)
        finally:
            for each in sentinel.sentinels:
                await each.aclose()
        return host, port

    def _options(self) -> dict[str, Any]:
        at = self.address
        return {
            "username": at.user,
            "password": at.password,
            "db": at.db,
            "protocol": 2,
            "socket_timeout": None,  # the lane has its own
            "socket_connect_timeout": self.timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "maint_notifications_config": None,
            "client_name": "claude-proxy",
        }


async def _load(connection: AbstractConnection) -> None:
    """Make the scripts known: one that is sent again whole would take effect later than what was called after it."""
    texts = [script(path.stem).text for path in SCRIPTS.glob("*.lua")]
    for text in texts:
        await connection.send_command("SCRIPT", "LOAD", text)
    for _ in texts:
        await connection.read_response()
