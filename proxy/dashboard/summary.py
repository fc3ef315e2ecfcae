"""The summary for admins: health, accounts by state, traffic. Of several instances on one store, it is that of all."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Any

from proxy import __version__
from proxy.accounts.account import OAuthTokens, Status
from proxy.accounts.capacity import Capacity
from proxy.accounts.pool import Pool
from proxy.accounts.refresh import Refresher
from proxy.clients.keys import ClientKeys
from proxy.clock import Clock, rfc3339
from proxy.dashboard.all_sessions import AllSessions
from proxy.dashboard.figures import Figures, Shares, no_shares
from proxy.dashboard.health import Health
from proxy.upstream.unclassified import Unclassified
from proxy.usage.chart import Yesterday
from proxy.usage.counts import Counts, counts_of, plus
from proxy.usage.series import Series


class Summary:
    """Computes the summary. `insecure`: the proxy can be reached from other machines without TLS in front."""

    def __init__(
        self,
        *,
        pool: Pool,
        capacity: Capacity,
        keys: ClientKeys,
        refresher: Refresher,
        sessions: AllSessions,
        series: Series,
        ttfb_ms: Callable[[], Mapping[str, float | None]],
        unclassified: Unclassified,
        health: Health,
        figures: Figures,
        clock: Clock,
        insecure: bool,
        shares: Shares = no_shares,
    ) -> None:
        self._pool = pool
        self._capacity = capacity
        self._keys = keys
        self._refresher = refresher
        self._sessions = sessions
        self._series = series
        self._yesterday = Yesterday(series)
        self._ttfb_ms = ttfb_ms
        self._shares = shares
        self._unclassified = unclassified
        self._health = health
        self._figures = figures
        self._clock = clock
        self.insecure = insecure
        self._started_at = clock.now()
        self.started_at = rfc3339(clock.now())

    def health(self) -> dict[str, Any]:
        """The health, with its reasons."""
        return {
            "status": self._health.status(),
            "reasons": self._health.reasons(),
            "findings": len(self._health.findings),
            "draining": self._health.draining,
            "version": __version__,
            "started_at": rfc3339(min([self._started_at, *(each.started_at for each in self._shares())])),
            "insecure": self.insecure,
        }

    def accounts(self) -> dict[str, Any]:
        """The number of accounts in each state, the age of the oldest token, and the next reset."""
        counts, now = self._pool.count(), self._clock.now()
        logins = [account for account in self._pool if isinstance(account.credential, OAuthTokens)]
        ages = [now - (account.last_refresh_at or account.created_at) for account in logins]
        resets = [a.rate_limited_until for a in self._pool if a.rate_limited_until is not None]
        return {
            "total": len(self._pool),
            "active": counts[Status.ACTIVE],
            "inactive": counts[Status.INACTIVE],
            "rate_limited": counts[Status.RATE_LIMITED],
            "invalid": counts[Status.INVALID],
            "needing_refresh": sum(map(self._refresher.needs_refresh, logins)),
            "oldest_token_age_hours": round(max([0.0, *ages]) / 3600, 3),
            "next_reset_at": rfc3339(min(resets)) if resets else None,
        }

    def capacity(self) -> dict[str, Any]:
        """How much quota is left, see `Capacity.view`."""
        return self._capacity.view()

    def affinity(self) -> dict[str, Any]:
        """See Figures.view."""
        return self._figures.view()

    def traffic(self) -> dict[str, Any]:
        """Requests in flight, sessions, client keys, usage since the start and today, and time to first byte.

        `yesterday`: usage up to the same time of that day. `unclassified_errors`: errors of the upstream whose shape
        is not known here.
        """
        return {
            "in_flight": self._sessions.in_flight(),
            "sessions": len(self._sessions),
            "client_keys": len(self._keys),
            "since_start": self._since_start().view(),
            "today": self._series.totals("today").view(),
            "yesterday": self._yesterday.by(self._clock.now()).view(),
            "ttfb_ms": self._ttfb_ms(),
            "unclassified_errors": self._unclassified.count
            + sum(each.unclassified for each in self._shares()),
        }

    def _since_start(self) -> Counts:
        """Of all instances, each since its own."""
        sums = self._series.since_start()
        for each in self._shares():
            if len(each.since_start) == len(sums):  # else it is of another version
                sums = plus(sums, array("d", each.since_start))
        return counts_of(sums)
