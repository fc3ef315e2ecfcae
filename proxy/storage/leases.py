"""Leases within one process."""

from __future__ import annotations

from proxy.clock import Clock
from proxy.storage.protocols import Lease


class LocalLeases:
    """Implements Leases, in memory: whoever takes one ends with the process."""

    def __init__(self, clock: Clock) -> None:
        self._lease_clock = clock
        self._held: dict[str, tuple[Lease, float]] = {}  # until when, on the monotonic clock
        self._fence = 0

    async def take(self, name: str, ttl_s: float) -> Lease | None:
        now = self._lease_clock.monotonic()
        held = self._held.get(name)
        if held is not None and held[1] > now:
            return None
        self._fence += 1
        lease = Lease(name, self._fence)
        self._held[name] = lease, now + ttl_s
        return lease

    async def renew(self, lease: Lease, ttl_s: float) -> bool:
        now = self._lease_clock.monotonic()
        held = self._held.get(lease.name)
        if held is None or held[0] != lease or held[1] <= now:
            return False
        self._held[lease.name] = lease, now + ttl_s
        return True

    async def release(self, lease: Lease) -> None:
        held = self._held.get(lease.name)
        if held is not None and held[0] == lease:
            del self._held[lease.name]
