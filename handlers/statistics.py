"""What the proxy does as a whole, and what was used by whom: as JSON and CSV."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from typing import Any, Literal, cast, get_args

from handlers.base import AdminHandler
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKeys
from proxy.clock import Clock, rfc3339
from proxy.dashboard.health import Health
from proxy.dashboard.summary import Summary
from proxy.errors import Unprocessable
from proxy.usage.buckets import By
from proxy.usage.counts import Counts
from proxy.usage.series import Interval, Row, Series

DEFAULT_SPAN_S = {None: 86_400.0, "minute": 3600.0, "hour": 86_400.0, "day": 30 * 86_400.0}
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Statistics(AdminHandler):
    """`/api/admin/statistics`"""

    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.health: Health = parts["health"]
        self.summary: Summary = parts["overview"]

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
                **self.summary.traffic(),
            }
        )


class Usage(AdminHandler):
    """`/api/admin/usage?from=&to=&by=account|token|model&format=json|csv&interval=minute|hour|day`"""

    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.clock: Clock = parts["clock"]
        self.pool: Pool = parts["pool"]
        self.keys: ClientKeys = parts["tokens"]
        self.series: Series = parts["series"]

    def get(self) -> None:
        by = cast(By, self._one_of("by", get_args(By), "account"))
        interval = cast(Interval | None, self._one_of("interval", get_args(Interval), None))
        form = self._one_of("format", ("json", "csv"), "json")
        end = self._time("to", self.clock.now())
        start = self._time("from", end - DEFAULT_SPAN_S[interval])
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
        columns = ["id", "name", *(["start"] if with_buckets else []), *Counts().view()]
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        for row in rows:
            who = {"id": _cell(row.id or ""), "name": _cell(_name(row.id, names) or "")}
            if with_buckets:
                writer.writerows(who | {"start": rfc3339(t)} | counts.view() for t, counts in row.buckets)
            else:
                writer.writerow(who | row.counts.view())
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="usage-by-{by}.csv"')
        self.finish(text.getvalue())

    def _names(self, by: By) -> dict[str, str]:
        if by == "account":
            return {account.id: account.name for account in self.pool}
        return {client_key.id: client_key.name for client_key in self.keys} if by == "token" else {}

    def _one_of(self, name: str, words: tuple[str, ...], default: str | None) -> str | None:
        word = self.get_query_argument(name, "") or default
        if word is not None and word not in words:
            raise Unprocessable(f"{name}: one of {', '.join(words)} is needed")
        return word

    def _time(self, name: Literal["from", "to"], default: float) -> float:
        """A time of RFC 3339, or a date; without a zone it is UTC."""
        text = self.get_query_argument(name, "").upper()
        if not text:
            return default
        # `fromisoformat` would take a count of seconds or milliseconds for a date of long ago.
        wrong = Unprocessable(f"{name}: a time such as 2026-11-22T10:00:00Z is needed")
        if not re.match(r"\d{4}-\d\d-\d\d(?:[T ]|$)", text):
            raise wrong
        try:
            # An unencoded `+` of a zone is a space by now.
            time = datetime.fromisoformat(text[:11] + text[11:].replace(" ", "+"))
        except ValueError:
            raise wrong from None
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _row(row: Row, names: dict[str, str], *, with_buckets: bool) -> dict[str, Any]:
    shown = {"id": row.id, "name": _name(row.id, names)} | row.counts.view()
    if with_buckets:
        shown["buckets"] = [{"start": rfc3339(t)} | counts.view() for t, counts in row.buckets]
    return shown


def _name(id: str | None, names: dict[str, str]) -> str | None:
    """The name it has now; its id where it is a model, or no longer there."""
    return None if id is None else names.get(id, id)


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
