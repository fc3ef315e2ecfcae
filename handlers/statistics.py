"""What the proxy does as a whole, and what was used by whom: as JSON and CSV."""

from __future__ import annotations

import csv
import io
from typing import Any, get_args

from handlers.base import AdminHandler, Admins
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKeys
from proxy.clock import Clock, rfc3339
from proxy.dashboard.health import Health
from proxy.dashboard.summary import Summary
from proxy.usage.buckets import By
from proxy.usage.counts import Counts
from proxy.usage.series import Interval, Row, Series

DEFAULT_SPAN_S = {None: 86_400.0, "minute": 3600.0, "hour": 86_400.0, "day": 30 * 86_400.0}
# The last four are the full-width forms of = + - @, which spreadsheets take for the same (OWASP, "CSV Injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Statistics(AdminHandler):
    """`/api/admin/statistics`"""

    def initialize(self, *, who: Admins, health: Health, summary: Summary) -> None:
        self.only_for(who)
        self.health = health
        self.summary = summary

    def get(self) -> None:
        accounts, health = self.summary.accounts(), self.summary.health()
        self.answer(
            {
                "total_accounts": accounts["total"],
                "active_accounts": accounts["active"],
                "inactive_accounts": accounts["inactive"],
                "rate_limited_accounts": accounts["rate_limited"],
                "invalid_accounts": accounts["invalid"],
                "accounts_needing_refresh": accounts["needing_refresh"],
                "oldest_token_age_hours": accounts["oldest_token_age_hours"],
                "system_health": health["status"],
                "reasons": health["reasons"],
                "uptime_seconds": round(self.health.uptime_s(), 3),
                "capacity": self.summary.capacity(),
                **self.summary.traffic(),
                "affinity": self.summary.affinity(),
            }
        )


class Usage(AdminHandler):
    """`/api/admin/usage?from=&to=&by=account|token|model&format=json|csv&interval=minute|hour|day`"""

    def initialize(self, *, who: Admins, clock: Clock, pool: Pool, keys: ClientKeys, series: Series) -> None:
        self.only_for(who)
        self.clock = clock
        self.pool = pool
        self.keys = keys
        self.series = series

    def get(self) -> None:
        by: By = self.query.one_of("by", get_args(By)) or "account"
        interval: Interval | None = self.query.one_of("interval", get_args(Interval))
        form = self.query.one_of("format", ("json", "csv"))
        end = self.query.time("to", self.clock.now())
        start = self.query.time("from", end - DEFAULT_SPAN_S[interval])
        report = self.series.rows(by, start=start, end=end, interval=interval)
        names = self._names(by)
        if form == "csv":
            self._answer_csv(report.rows, names, by, with_buckets=interval is not None)
            return
        self.answer(
            {
                "from": rfc3339(report.start),
                "to": rfc3339(report.end),
                "by": by,
                "rows": [_row(row, names, with_buckets=interval is not None) for row in report.rows],
            }
        )

    def _answer_csv(
        self, rows: tuple[Row, ...], names: dict[str, str], by: str, *, with_buckets: bool
    ) -> None:
        text = io.StringIO()
        columns = ["id", "name", *(["start"] if with_buckets else []), *_columns(Counts())]
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        for row in rows:
            who = {"id": _cell(row.id or ""), "name": _cell(_name(row.id, names) or "")}
            if with_buckets:
                writer.writerows(who | {"start": rfc3339(t)} | _columns(counts) for t, counts in row.buckets)
            else:
                writer.writerow(who | _columns(row.counts))
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="usage-by-{by}.csv"')
        self.finish(text.getvalue())

    def _names(self, by: By) -> dict[str, str]:
        if by == "account":
            return {account.id: account.name for account in self.pool}
        return {client_key.id: client_key.name for client_key in self.keys} if by == "token" else {}


def _row(row: Row, names: dict[str, str], *, with_buckets: bool) -> dict[str, Any]:
    shown = {"id": row.id, "name": _name(row.id, names)} | _shown(row.counts)
    if with_buckets:
        shown["buckets"] = [{"start": rfc3339(t)} | _shown(counts) for t, counts in row.buckets]
    return shown


def _shown(counts: Counts) -> dict[str, Any]:
    return counts.view() | {"cache_read_share": counts.cache_read_share}


def _name(id: str | None, names: dict[str, str]) -> str | None:
    """The present name. The id itself if it is a model's or was deleted; None if the row has none."""
    return None if id is None else names.get(id, id)


def _columns(counts: Counts) -> dict[str, Any]:
    """The counts, with a word for a cost that is not known: a spreadsheet would take an empty cell for zero."""
    view = _shown(counts)
    return view | {"cost_usd": "unpriced" if view["cost_usd"] is None else view["cost_usd"]}


def _cell(text: str) -> str:
    """The text as a spreadsheet shows it: with a quote in front if it would be read as a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
