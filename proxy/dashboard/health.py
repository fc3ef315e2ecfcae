"""Health of the proxy: healthy, degraded or unhealthy, and whether it is ready for requests."""

from __future__ import annotations

from proxy.accounts.account import Status
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKeys
from proxy.clock import Clock
from proxy.usage.series import Series


class Health:
    """Derives the health from the states of the accounts and from unsaved changes."""

    def __init__(self, pool: Pool, keys: ClientKeys, series: Series, clock: Clock) -> None:
        self._pool = pool
        self._keys = keys
        self._series = series
        self._clock = clock
        self._began = clock.monotonic()
        self.draining = False

    def uptime_s(self) -> float:
        return self._clock.monotonic() - self._began

    def status(self) -> str:
        """`unhealthy` if no account is active, `degraded` if one cannot serve or refuses, or a change is unsaved."""
        counts = self._pool.count()
        if not counts[Status.ACTIVE]:
            return "unhealthy"
        unusable = counts[Status.RATE_LIMITED] + counts[Status.INVALID] + self._pool.refusing()
        return "degraded" if unusable or self._unsaved() else "healthy"

    def reasons(self) -> list[str]:
        """Why it is not healthy, for admins."""
        counts = self._pool.count()
        none = [] if len(self._pool) else ["no accounts"]
        accounts = [
            f"{counts[status]} of {len(self._pool)} accounts {status.value.replace('_', ' ')}"
            for status in (Status.RATE_LIMITED, Status.INVALID, Status.INACTIVE)
            if counts[status] and (status is not Status.INACTIVE or not counts[Status.ACTIVE])
        ]
        if refusing := self._pool.refusing():
            accounts.append(f"{refusing} of {len(self._pool)} accounts refuse all requests")
        return [*none, *accounts, *self._unsaved()]

    def not_ready(self) -> str | None:
        """Why the proxy is not ready for requests; None if it is."""
        if self.draining:
            return "draining"
        return None if self._pool.count()[Status.ACTIVE] else "no usable account"

    def _unsaved(self) -> list[str]:
        """What has not reached its file yet."""
        told = []
        changes = len(self._pool.unsaved) + len(self._keys.unsaved)
        if changes:
            told.append(f"{changes} changes are not on disk yet: the data folder cannot be written")
        elif not self._pool.writable:
            told.append("changes are on disk only in the journal: the data folder cannot be written")
        if self._series.unsaved is not None:
            told.append("usage is not on disk yet: the data folder cannot be written")
        return told
