"""The counters of accounts over all instances, in Redis."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from proxy.storage.peers import Sum
from proxy.storage.redis import RedisLink
from proxy.storage.redis_logs import RedisLogs
from proxy.storage.redis_wire import Part

LOG: Final = "use"
MOST_LINES: Final = 20_000
AT_ONCE: Final = 200
"""Accounts of one call: the store does nothing else meanwhile."""

FIELDS: Final = ("1", "2", "3", "used_at", "quota")


class RedisSums:
    """Implements Sums."""

    def __init__(self, link: RedisLink, logs: RedisLogs, instance: str) -> None:
        self._link = link
        self._logs = logs
        self._instance = instance
        self._key = link.key("use")

    async def sums(self) -> dict[str, Sum]:
        reply = await self._link.call("HGETALL", self._key)
        texts = [each for each in reply if isinstance(each, bytes)] if isinstance(reply, list) else []
        found: dict[str, dict[str, bytes]] = {}
        for name, value in zip(texts[::2], texts[1::2], strict=True):
            id, _, field = name.decode().partition(" ")
            found.setdefault(id, {})[field] = value
        return {
            id: _sum([fields[name] for name in FIELDS])
            for id, fields in found.items()
            if fields.keys() >= set(FIELDS)
        }

    async def add(
        self, rows: Mapping[str, tuple[tuple[int, int, int], Sum]]
    ) -> dict[str, tuple[int, int, int]]:
        items, found = list(rows.items()), dict[str, tuple[int, int, int]]()
        for start in range(0, len(items), AT_ONCE):
            some = items[start : start + AT_ONCE]
            args: list[Part] = [self._instance, MOST_LINES]
            for id, (before, more) in some:
                args += [id, *before, *more.counters, more.used_at, more.quota]
            reply = await self._link.run("use", [self._key, self._logs.key_of(LOG)], args)
            numbers = [each for each in reply if isinstance(each, int)] if isinstance(reply, list) else []
            for place, (id, _) in enumerate(some):
                a, b, c = numbers[3 * place : 3 * place + 3]
                found[id] = a, b, c
        return found

    async def forget(self, ids: Collection[str]) -> None:
        for id in ids:
            await self._link.call("HDEL", self._key, *(f"{id} {name}" for name in FIELDS))

    async def follow(self, take: Callable[[str, Sum], object]) -> None:
        def line(text: bytes) -> None:
            _, id, *fields = text.split(b" ", 6)
            take(id.decode(), _sum(fields))

        await self._logs.follow_end(LOG, line)


def _sum(fields: list[bytes]) -> Sum:
    """Raises ValueError."""
    a, b, c, used_at, quota = fields
    return Sum((int(a), int(b), int(c)), float(used_at), quota)
