"""What instances say to each other by Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from proxy.storage.peers import TakeLine, TakeTold, Told
from proxy.storage.redis import RedisLink
from proxy.storage.redis_logs import RedisLogs
from proxy.storage.redis_wire import Part, Reply

LOG: Final = "told"
MOST_TOLD: Final = 20_000
"""Changes that are kept for whoever is behind; who is further behind reads everything anew."""

AT_ONCE: Final = 200
"""Changes of one call: the store does nothing else meanwhile."""


class RedisPeers:
    """Implements Peers."""

    def __init__(self, link: RedisLink, logs: RedisLogs, instance: str) -> None:
        self._link = link
        self._logs = logs
        self.instance = instance

    async def tell(self, changed: Told, lease_s: float) -> bool:
        items, known = list(changed.items()), True
        for start in range(0, max(1, len(items)), AT_ONCE):
            some = [part for item in items[start : start + AT_ONCE] for part in item]
            known = bool(await self._tell(lease_s, some)) and known
        return known

    async def leave(self) -> None:
        not_awaited = self._link.call("SREM", self._link.key("instances"), self.instance)
        await asyncio.gather(self._tell(0, ()), not_awaited)

    async def told(self, instances: Collection[str] | None = None) -> dict[str, Told]:
        names = list(instances or ())
        if instances is None:
            members = await self._link.call("SMEMBERS", self._link.key("tellers"))
            names = [each.decode() for each in _texts(members)]
        asked = [self._link.call("HGETALL", self._key(name)) for name in names]
        found = {name: _pairs(reply) for name, reply in zip(names, await asyncio.gather(*asked), strict=True)}
        gone = [name for name, told in found.items() if not told]
        if gone:
            await self._link.call("SREM", self._link.key("tellers"), *gone)
        return {name: told for name, told in found.items() if told}

    async def follow(self, take: TakeTold) -> None:
        def told(line: bytes) -> None:
            number, instance, name, value = line.split(b" ", 3)
            take(int(number), instance.decode(), name.decode(), value)

        await self._logs.follow_end(LOG, told)

    async def append_newest(self, log: str, lines: Sequence[bytes], most: int) -> int:
        number = await self._link.run("ring", [self._logs.key_of(log)], [self.instance, most, *lines])
        assert isinstance(number, int)
        return number

    async def read_newest(self, log: str, take: TakeLine | None, *, then: TakeLine) -> None:
        if take is None:
            await self._logs.follow_end(log, _numbered(then))
        else:
            await self._logs.each_line(log, _numbered(take))
            self._logs.follow_log(log, _numbered(then), own=True)

    def _tell(self, lease_s: float, pairs: Sequence[Part]) -> asyncio.Future[Reply]:
        keys = [self._key(self.instance), self._link.key("tellers"), self._logs.key_of(LOG)]
        return self._link.run("tell", keys, [self.instance, round(lease_s * 1000), MOST_TOLD, *pairs])

    def _key(self, instance: str) -> str:
        return self._link.key("told", instance)


def _numbered(take: TakeLine) -> Callable[[bytes], object]:
    def line(text: bytes) -> object:
        number, _, rest = text.partition(b" ")
        return take(int(number), rest)

    return line


def _texts(reply: Reply) -> list[bytes]:
    return [each for each in reply if isinstance(each, bytes)] if isinstance(reply, list) else []


def _pairs(reply: Reply) -> Mapping[str, bytes]:
    texts = _texts(reply)
    return {name.decode(): value for name, value in zip(texts[::2], texts[1::2], strict=True)}
