"""Leases in Redis: a key that ends by itself, with the fence that tells its holder from earlier ones."""

from __future__ import annotations

from proxy.storage.protocols import Lease
from proxy.storage.redis import RedisLink


class RedisLeases:
    """Implements Leases, for one instance."""

    def __init__(self, link: RedisLink, instance: str) -> None:
        self._link = link
        self._instance = instance

    async def take(self, name: str, ttl_s: float) -> Lease | None:
        fence = await self._link.run(
            "take", [self._key(name), self._link.key("fence")], [self._instance, _ms(ttl_s)]
        )
        return Lease(name, fence) if isinstance(fence, int) else None

    async def renew(self, lease: Lease, ttl_s: float) -> bool:
        return await self._link.run("renew", [self._key(lease.name)], [self._owner(lease), _ms(ttl_s)]) == 1

    async def release(self, lease: Lease) -> None:
        await self._link.run("renew", [self._key(lease.name)], [self._owner(lease), 0])

    def _owner(self, lease: Lease) -> str:
        return f"{self._instance} {lease.fence}"

    def _key(self, name: str) -> str:
        return self._link.key("lease", name)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
