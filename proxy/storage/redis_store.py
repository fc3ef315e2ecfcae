"""The storage that several instances share, in Redis or Valkey."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.failpoints import failstep
from proxy.storage.address import StoreAddress
from proxy.storage.durability import Durability
from proxy.storage.envelope import Keyring
from proxy.storage.layout import kind_of
from proxy.storage.protocols import Follower, Kind
from proxy.storage.redis import RedisLink
from proxy.storage.redis_changes import RedisChanges
from proxy.storage.redis_leases import RedisLeases
from proxy.storage.redis_logs import RedisLogs
from proxy.storage.redis_peers import RedisPeers
from proxy.storage.redis_records import RedisRecords
from proxy.storage.redis_sums import RedisSums

OLDEST: Final = (7, 0)
WAITAOF_SINCE: Final = (7, 2)
VERSION: Final = "1"
"""Of what is stored there and how."""


class RedisStore:
    """Implements Storage. Each instance opens its own, with an id that no other one has."""

    is_shared = True

    def __init__(
        self,
        link: RedisLink,
        *,
        instance: str,
        clock: Clock,
        keyring: Keyring | None = None,
        durability: Durability | None = None,
    ) -> None:
        durability = durability or Durability("none")
        self.link = link
        self.instance = instance
        self.notices: Sequence[str] = ()
        self._records = RedisRecords(link, instance, keyring or Keyring(), durability)
        self._logs = RedisLogs(link, instance, durability)
        self._leases = RedisLeases(link, instance)
        self.peers = RedisPeers(link, self._logs, instance)
        self.sums = RedisSums(link, self._logs, instance)
        self._changes = RedisChanges(link, self._records, self._logs, instance=instance, clock=clock)
        self.load, self.stored, self.get = self._records.load, self._records.stored, self._records.get
        self.put, self.put_new = self._records.put, self._records.put_new
        self.delete, self.update = self._records.delete, self._records.update
        self.logs, self.event_days = self._logs.logs, self._logs.event_days
        self.read_log, self.each_line = self._logs.read_log, self._logs.each_line
        self.append, self.replace_log = self._logs.append, self._logs.replace_log
        self.remove_log, self.follow_log = self._logs.remove_log, self._logs.follow_log
        self.append_chained, self.catch_up = self._logs.append_chained, self._logs.catch_up
        self.take, self.renew, self.release = self._leases.take, self._leases.renew, self._leases.release

    @classmethod
    async def open(
        cls,
        link: RedisLink,
        *,
        instance: str,
        clock: Clock,
        keyring: Keyring | None = None,
        durability: str = "none",
    ) -> RedisStore:
        """Look at the server, and follow its changes from now on. Raises StorageError; then the link is closed."""
        try:
            proven = await _proven(link, durability)
            store = cls(link, instance=instance, clock=clock, keyring=keyring, durability=proven)
            await store._begin()
        except BaseException:
            await link.close()
            raise
        return store

    @property
    def degraded(self) -> bool:
        return self.link.away is not None

    @property
    def away(self) -> str | None:
        return self.link.away

    def follow(self, kind: Kind, follower: Follower) -> None:
        self._changes.follow(kind_of(kind, durable=True), follower)

    def listen(self) -> None:
        self._changes.listen()

    async def write_anew(self) -> None:
        """The store is everybody's: what is not there any more was removed by somebody who may."""

    async def close(self) -> None:
        """Finish the calls that are on their way, then close the connections."""
        await self._changes.close()
        await self.link.close()

    @contextlib.asynccontextmanager
    async def unfinished(self, by: str) -> AsyncIterator[None]:
        """Mark it as filled by a command, until this block has ended without an error. Raises StorageError."""
        await self.link.call("SET", self.link.key("unfinished"), by)
        yield
        with failstep("storage.finish"):
            await self.link.call("DEL", self.link.key("unfinished"))

    async def _begin(self) -> None:
        await self.link.call("SET", self.link.key("version"), VERSION, "NX")
        version = await self.link.call("GET", self.link.key("version"))
        if version != VERSION.encode():
            raise StorageError(
                f"the shared store has version {version!r}: start the newer program that wrote it"
            )
        by = await self.link.call("GET", self.link.key("unfinished"))
        if isinstance(by, bytes):
            raise StorageError(
                f"the shared store is not whole: {by.decode()} has not ended. If that was interrupted, set "
                "storage.name to a new name and run it again"
            )
        if count := await self._records.rekey():
            self.notices = (
                f"written again with the present encryption key, or without one: {count} records",
            )
        await self._changes.begin()


async def opened(
    address: StoreAddress,
    *,
    instance: str,
    name: str,
    timeout_s: float,
    ca_file: Path | None,
    durability: str,
    keyring: Keyring,
    clock: Clock,
) -> RedisStore:
    """The store at this address. Raises StorageError."""
    link = RedisLink(
        address,
        name=name,
        clock=clock,
        timeout_s=timeout_s,
        ca_file=None if ca_file is None else str(ca_file),
    )
    return await RedisStore.open(link, instance=instance, clock=clock, keyring=keyring, durability=durability)


async def _proven(link: RedisLink, level: str) -> Durability:
    """That the server is one that keeps what it is given. Raises StorageError, which says the fix."""
    info: dict[str, str] = {}
    for section in ("server", "memory", "persistence"):
        text = await link.call("INFO", section)
        assert isinstance(text, bytes)
        info |= dict(re.findall(r"(?m)^(\w+):(.*?)\r?$", text.decode("utf-8", "replace")))
    version = tuple(map(int, info.get("redis_version", "0").split(".")[:2]))
    if version < OLDEST:
        raise StorageError(f"{link.address} is Redis {info.get('redis_version')}: 7.0 is needed, or Valkey 8")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StorageError(
            f"{link.address} forgets records when it is full (maxmemory-policy {policy}): set it to noeviction"
        )
    if level != "aof":
        return Durability(level)
    if info.get("aof_enabled") != "1":
        raise StorageError(
            f"{link.address} has no append-only file: set appendonly to yes, or durability to none"
        )
    if version >= WAITAOF_SINCE:
        return Durability(level)
    fsync = await link.call("CONFIG", "GET", "appendfsync")
    if fsync != [b"appendfsync", b"always"]:
        raise StorageError(
            f"{link.address} is older than 7.2 and cannot say what is on its disk: set appendfsync to always"
        )
    return Durability(level, appends_always=True)
