"""Leases in Redis: a key that ends by itself, with the fence that tells its holder from earlier ones."""

from __future__ import annotations

from proxy.storage.protocols import Lease
from proxy.storage.redis import RedisLink
from proxy.storage.redis_wire import Part


class RedisLeases:
    """Implements Leases, for one instance."""

    def __init__(self, link: RedisLink, instance: str) -> None:
        self._link = link
        self._instance = instance
        self._held: dict[str, Lease] = {}

    async def take(self, name: str, ttl_s: float) -> Lease | None:
        held = self._held.get(name)
        args: list[Part] = [self._instance, _ms(ttl_s), "" if held is None else held.fence]
        fence = await self._link.run("take", [self._key(name), self._link.key("fence")], args)
        if not isinstance(fence, int):
            return None
        self._held[name] = lease = Lease(name, fence)
        return lease

    async def renew(self, lease: Lease, ttl_s: float) -> bool:
        return await self._link.run("renew", [self._key(lease.name)], [self._owner(lease), _ms(ttl_s)]) == 1

    async def release(self, lease: Lease) -> None:
        if self._held.get(lease.name) == lease:
            del self._held[lease.name]
        await self._link.run("renew", [self._key(lease.name)], [self._owner(lease), 0])

    def _owner(self, lease: Lease) -> str:
        return f"{self._instance} {lease.fence}"

    def _key(self, name: str) -> str:
        return self._link.key("lease", name)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
