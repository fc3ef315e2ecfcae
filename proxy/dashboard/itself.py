"""What this instance is, for the others: facts for people, and its share of sums."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from proxy import __version__
from proxy.accounts.affinity import Affinity
from proxy.accounts.pool import Pool
from proxy.clients.sessions import Sessions
from proxy.clock import Clock, rfc3339
from proxy.dashboard.health import Health
from proxy.dashboard.instances import Itself, Share
from proxy.upstream.unclassified import Unclassified
from proxy.usage.counts import counts_of
from proxy.usage.moves import Moves
from proxy.usage.series import Series


class OwnState:
    """Made anew for each beat. `port` is None until the server listens."""

    def __init__(
        self,
        *,
        pool: Pool,
        affinity: Affinity,
        sessions: Sessions,
        series: Series,
        moves: Moves,
        unclassified: Unclassified,
        health: Health,
        clock: Clock,
        cpu_s: Callable[[], float] = lambda: sum(os.times()[:2]),
    ) -> None:
        self._pool = pool
        self._affinity = affinity
        self._sessions = sessions
        self._series = series
        self._moves = moves
        self._unclassified = unclassified
        self._health = health
        self._clock = clock
        self._cpu_s = cpu_s
        self._started_at = clock.now()
        self._last = (clock.monotonic(), cpu_s(), 0)
        self._host = socket.gethostname()
        self.port: int | None = None

    def look(self, lag_ms: float | None) -> Itself:
        """`lag_ms`: how long the last beat took through the store and back; None if it has not come back yet."""
        sums = self._series.since_start()
        turns = self._affinity.turns
        share = Share(
            started_at=self._started_at,
            since_start=list(sums),
            turns=dict(turns),
            moved_cost_usd=self._moves.cost_usd or 0.0,
            moved_unpriced=self._moves.unpriced,
            unclassified=self._unclassified.count,
            in_flight={a.id: n for a in self._pool if (n := self._pool.uses[a.id].in_flight)},
        )
        return Itself(self._facts(counts_of(sums).requests, lag_ms), share)

    def _facts(self, requests: int, lag_ms: float | None) -> dict[str, Any]:
        """`cpu` is the part of one core that was used since the last beat, `requests_per_s` those that have ended."""
        now, cpu_s = self._clock.monotonic(), self._cpu_s()
        (last, last_cpu_s, last_requests), self._last = self._last, (now, cpu_s, requests)
        took_s = now - last
        return {
            "host": self._host,
            "pid": os.getpid(),
            "port": self.port,
            "version": __version__,
            "started_at": rfc3339(self._started_at),
            "last_seen_at": rfc3339(self._clock.now()),
            "requests_per_s": round((requests - last_requests) / took_s, 1) if took_s else 0.0,
            "streams": sum(session.in_flight for session in self._sessions),
            "cpu": round((cpu_s - last_cpu_s) / took_s, 3) if took_s else 0.0,
            "lag_ms": None if lag_ms is None else round(lag_ms, 1),
            "draining": self._health.draining,
        }
