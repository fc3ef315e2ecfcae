"""What the proxy does as a whole, and what was used by whom: as JSON and CSV."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import ujson

from handlers.base import AdminHandler, Admins
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKeys
from proxy.clock import Clock, rfc3339
from proxy.dashboard.health import Health
from proxy.dashboard.summary import Summary
from proxy.errors import Unprocessable
from proxy.usage.breakdown import Breakdown, Pair, Part, Within
from proxy.usage.buckets import By
from proxy.usage.counts import Counts
from proxy.usage.series import Series
from proxy.usage.spans import Interval

_BY: tuple[By, ...] = get_args(By)

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
    """`/api/admin/usage?from=&to=&by=account|token|model&format=json|csv&interval=minute|hour|day`

    `by` takes two, such as `token,model`. `account=`, `token=` and `model=` take an id: only its usage counts.
    """

    def initialize(
        self,
        *,
        who: Admins,
        clock: Clock,
        pool: Pool,
        keys: ClientKeys,
        series: Series,
        breakdown: Breakdown,
    ) -> None:
        self.only_for(who)
        self.clock = clock
        self.pool = pool
        self.keys = keys
        self.series = series
        self.breakdown = breakdown

    async def get(self) -> None:
        by = self._by()
        interval: Interval | None = self.query.one_of("interval", get_args(Interval))
        form = self.query.one_of("format", ("json", "csv"))
        end = self.query.time("to", self.clock.now())
        start = self.query.time("from", end - DEFAULT_SPAN_S[interval])
        ids: dict[By, str] = {each: id for each in _BY if (id := self.query.text(each, strip=False))}
        first, last, parts = await self._parts(by, Within(ids, start, end, interval))
        names, with_buckets = self._names(by, parts), interval is not None
        # In threads: a thousand rows by the hour are megabytes, which would block the event loop.
        if form == "csv":
            text = await asyncio.to_thread(_csv, parts, by, names, with_buckets=with_buckets)
            self.set_header("Content-Type", "text/csv; charset=utf-8")
            self.set_header("Content-Disposition", f'attachment; filename="usage-by-{"-".join(by)}.csv"')
            self.finish(text)
            return
        head = {"from": rfc3339(first), "to": rfc3339(last), "by": ",".join(by)}
        text = await asyncio.to_thread(_json, head, parts, by, names, with_buckets=with_buckets)
        self.set_header("Content-Type", "application/json")
        self.finish(text)

    def _by(self) -> tuple[By, ...]:
        text = self.query.text("by")
        if "," not in text:
            return (self.query.one_of("by", _BY) or "account",)
        by = tuple(each for name in text.split(",")[:3] for each in _BY if each == name.strip())
        if len(set(by)) != 2 or text.count(",") != 1:
            raise Unprocessable(f"by: one of {', '.join(_BY)} is needed, or two with a comma between")
        return by

    async def _parts(self, by: tuple[By, ...], within: Within) -> tuple[int, int, Sequence[Part]]:
        """Start and end of the report, and its rows."""
        if len(by) > 1 or within.ids:
            span, parts = await self.breakdown.parts(by, within)
            return span.start, span.end, parts
        taken = self.series.taken(by[0], start=within.start, end=within.end, interval=within.interval)
        report = await asyncio.to_thread(taken.report)
        return report.start, report.end, [Part((row.id,), row.counts, row.buckets) for row in report.rows]

    def _names(self, by: tuple[By, ...], parts: Iterable[Part]) -> dict[str, str]:
        """The present names of the accounts and client keys in a report, by id."""
        names: dict[str, str] = {}
        if "account" in by:
            names |= {account.id: account.name for account in self.pool}
        if "token" in by:  # of which there may be 100,000
            ids = {part.ids[by.index("token")] or "" for part in parts}
            names |= {id: key.name for id in ids if (key := self.keys.get(id)) is not None}
        return names


def _csv(parts: Iterable[Part], by: tuple[By, ...], names: dict[str, str], *, with_buckets: bool) -> str:
    text = io.StringIO()
    head = list(_who((None,) * len(by), by, names))
    columns = [*head, *(["start"] if with_buckets else []), *_columns(Counts())]
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for row in parts:
        who = {name: _cell(text or "") for name, text in _who(row.ids, by, names).items()}
        if with_buckets:
            writer.writerows(who | {"start": rfc3339(t)} | _columns(counts) for t, counts in row.buckets)
        else:
            writer.writerow(who | _columns(row.counts))
    return text.getvalue()


def _json(
    head: dict[str, str],
    parts: Iterable[Part],
    by: tuple[By, ...],
    names: dict[str, str],
    *,
    with_buckets: bool,
) -> str:
    # Row by row, since ujson lets no other thread run until it is done.
    rows = (_who(each.ids, by, names) | _row(each, with_buckets=with_buckets) for each in parts)
    texts = (ujson.dumps(row, escape_forward_slashes=False) for row in rows)
    return f'{ujson.dumps(head)[:-1]},"rows":[{",".join(texts)}]}}'


def _who(ids: Pair, by: tuple[By, ...], names: dict[str, str]) -> dict[str, str | None]:
    """Id and name of a row; of two, each with the word for it: `token_id`, `token_name`, `model_id`, `model_name`."""
    who: dict[str, str | None] = {}
    for what, id in zip(by, ids, strict=True):
        before = f"{what}_" if len(by) > 1 else ""
        who |= {f"{before}id": id, f"{before}name": id if what == "model" else _name(id, names)}
    return who


def _row(row: Part, *, with_buckets: bool) -> dict[str, Any]:
    shown = _shown(row.counts)
    if with_buckets:
        shown["buckets"] = [{"start": rfc3339(t)} | _shown(counts) for t, counts in row.buckets]
    return shown


def _shown(counts: Counts) -> dict[str, Any]:
    return counts.view() | {"cache_read_share": counts.cache_read_share}


def _name(id: str | None, names: dict[str, str]) -> str | None:
    """The present name. The id itself if it was deleted; None if the row has none."""
    return None if id is None else names.get(id, id)


def _columns(counts: Counts) -> dict[str, Any]:
    """The counts, with a word for a cost that is not known: a spreadsheet would take an empty cell for zero."""
    view = _shown(counts)
    return view | {"cost_usd": "unpriced" if view["cost_usd"] is None else view["cost_usd"]}


def _cell(text: str) -> str:
    """The text as a spreadsheet shows it: with a quote in front if it would be read as a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
