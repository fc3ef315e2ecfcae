"""Health of the proxy: healthy, degraded or unhealthy; whether it takes requests, and whether any account can serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from proxy.accounts.account import Status
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKeys
from proxy.clock import Clock
from proxy.feed import Level
from proxy.storage.findings import Findings
from proxy.storage.protocols import Records
from proxy.usage.series import Series

LEVELS: Mapping[str, Level] = MappingProxyType(
    {"healthy": "info", "degraded": "warning", "unhealthy": "error"}
)
NO_FOLDER: Final = "the data folder cannot be written"
NO_STORE: Final = "the shared store does not take them"


def change_told(status: str, reasons: list[str]) -> str:
    """What people are told of a change of the health: `Claude Proxy is degraded: 1 of 3 accounts rate limited`."""
    now = "healthy again" if status == "healthy" else f"{status}: {'; '.join(reasons)}"
    return f"Claude Proxy is {now}"


class Health:
    """Derives the health from the states of the accounts, unsaved changes and findings of the start."""

    def __init__(
        self,
        pool: Pool,
        keys: ClientKeys,
        series: Series,
        findings: Findings,
        clock: Clock,
        unsaved_events: Callable[[], str | None] = lambda: None,
        unsaved_resources: Callable[[], str | None] = lambda: None,
        storage: Records | None = None,
    ) -> None:
        self._pool = pool
        self._keys = keys
        self._series = series
        self.findings = findings
        self._clock = clock
        self._began = clock.monotonic()
        self._unsaved_events = unsaved_events
        self._unsaved_resources = unsaved_resources
        self._storage = storage
        self.draining = False

    def uptime_s(self) -> float:
        return self._clock.monotonic() - self._began

    def status(self) -> str:
        """`unhealthy` if no account is active, `degraded` if one cannot serve or refuses, a change is unsaved or a
        start has found damage that no admin has seen yet."""
        counts = self._pool.count()
        if not counts[Status.ACTIVE]:
            return "unhealthy"
        unusable = counts[Status.RATE_LIMITED] + counts[Status.INVALID] + self._pool.refusing()
        return "degraded" if unusable or self._unsaved() or self.findings else "healthy"

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
        return [*none, *accounts, *self._unsaved(), *self.findings.texts()]

    def not_ready(self) -> str | None:
        """Why the proxy takes no requests; None if it does.

        A pool at rest does not count: a balancer would hide the dashboard, and the 429 that says how long it rests.
        """
        return "draining" if self.draining else None

    def pool_exhausted(self) -> str | None:
        """Why no request could be answered now; None if one could."""
        return None if self._pool.count()[Status.ACTIVE] else "no usable account"

    def _unsaved(self) -> list[str]:
        """What has not reached its file or the shared store yet."""
        storage, why = self._storage, NO_FOLDER
        if storage is not None and storage.away is not None:
            return [
                f"the shared store is away ({storage.away}): no token is refreshed, changes wait in memory"
            ]
        if storage is not None and storage.is_shared:
            why = NO_STORE
        told = []
        changes = len(self._pool.unsaved) + len(self._keys.unsaved)
        if changes:
            told.append(f"{changes} changes are not on disk yet: {why}")
        elif not self._pool.writable:
            told.append(f"changes are on disk only in the journal: {why}")
        if self._series.unsaved is not None:
            told.append(f"usage is not on disk yet: {why}")
        if self._unsaved_resources() is not None:
            told.append(f"where new files, batches and the like live is not on disk yet: {why}")
        if self._unsaved_events() is not None:
            told.append(f"events are not in the audit log yet: {why}")
        return told
