"""What was used over time, as charts show it."""

from __future__ import annotations

from typing import Any, get_args

from handlers.base import AdminHandler, Admins
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKeys
from proxy.clock import Clock, rfc3339
from proxy.errors import Unprocessable
from proxy.usage.buckets import By
from proxy.usage.chart import Columns, bars_before, bars_between, chart
from proxy.usage.failed_tries import FailedTries
from proxy.usage.series import RINGS, RingName, Series


class UsageChart(AdminHandler):
    """`/api/admin/usage/chart?range=1h|24h|7d|30d&from=&to=&by=account|token|model&id=`

    `range` ends now; `from` and `to` are for any other time.
    """

    def initialize(
        self,
        *,
        who: Admins,
        clock: Clock,
        pool: Pool,
        keys: ClientKeys,
        series: Series,
        failed_tries: FailedTries,
    ) -> None:
        self.only_for(who)
        self.clock = clock
        self.pool = pool
        self.keys = keys
        self.series = series
        self.failed_tries = failed_tries

    def get(self) -> None:
        by: By | None = self.query.one_of("by", get_args(By))
        id = self.query.text("id") or None
        if id is not None and by is None:
            raise Unprocessable("by: what the id is of is needed")
        starts = self._starts()
        shown = chart(self.series, starts, by, id)
        more = self._failed_tries(starts, by, id)
        names = self._names(by)
        before = bars_before(self.series, starts)
        self.answer(
            {
                "from": rfc3339(starts.start),
                "to": rfc3339(starts.stop),
                "span_seconds": starts.step,
                "split": [
                    {"id": each, "name": None if each is None else names.get(each, each), **columns, **more}
                    for each, columns in shown.split
                ],
                "rest": shown.rest,
                "before": None if before is None else self._before(before, by if id else None, id),
            }
        )

    def _starts(self) -> range:
        now = self.clock.now()
        ring: RingName | None = self.query.one_of("range", tuple(RINGS))
        end = self.query.time("to", now)
        start = self.query.time("from", end - 86_400)
        if ring is not None:
            return self.series.starts(ring)
        return bars_between(self.series, start, end, now)

    def _before(self, starts: range, by: By | None, id: str | None) -> dict[str, Any]:
        [(_, columns)] = chart(self.series, starts, by, id).split
        failed = self._failed_tries(starts, by, id)
        return {"from": rfc3339(starts.start), "span_seconds": starts.step, **columns, **failed}

    def _failed_tries(self, starts: range, by: By | None, id: str | None) -> Columns:
        """Of one account."""
        return self.failed_tries.columns(id, starts) if by == "account" and id else {}

    def _names(self, by: By | None) -> dict[str, str]:
        """Models are called by their ids, and a client may name a model like anything."""
        if by == "account":
            return {account.id: account.name for account in self.pool}
        return {client_key.id: client_key.name for client_key in self.keys} if by == "token" else {}
