"""What the demo's accounts were used for in the last month, in the lines that the proxy itself writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from random import Random
from statistics import fmean
from typing import Final

from proxy.accounts.quota import Window
from proxy.accounts.quota_history import Kept, noted
from proxy.clock import rfc3339
from proxy.simulator.limits import Meter
from proxy.storage.protocols import Record
from proxy.usage import prices
from proxy.usage.buckets import floor
from proxy.usage.counts import Counts, Key, Sums, add, add_up, amounts_of, counts_of, no_sums
from proxy.usage.meter import Usage

from .world import DAY_S, MINUTE_S, PROGRAMS, SEATS, Program, Seat

HOUR_S: Final = 3600
# As far back, and in as long spans, as usage is kept by the proxy and asked for by its charts.
SPANS: Final = ((30 * DAY_S, DAY_S), (8 * DAY_S, HOUR_S), (2 * DAY_S, 15 * MINUTE_S), (2 * HOUR_S, MINUTE_S))
WINDOWS_S: Final = {"5h": 5 * HOUR_S, "7d": 7 * DAY_S}
TOKENS_PER_WORD: Final = 1.3


def load(t: float) -> float:
    """How busy it is: 1 at the busiest. A week of working days, with a small wave that is seen within minutes."""
    day = 0.5 - 0.5 * math.cos(2 * math.pi * (t / DAY_S - 2 / 24))  # the most at 14:00 UTC
    weekend = 0.75 if t // DAY_S % 7 in (2, 3) else 1.0  # day 0 was a Thursday
    return (0.55 + 0.33 * day) * weekend + 0.12 * math.sin(2 * math.pi * t / (11 * MINUTE_S))


def usage(now: float, account_ids: dict[str, str], token_ids: dict[str, str], rng: Random) -> dict[Key, Sums]:
    """What all seats were used for until now, by the names' ids."""
    total: dict[Key, Sums] = {}
    for start, span_s in _spans(now):
        seats = [seat for seat in SEATS if start + span_s <= now - seat.unused_s]
        for seat in seats:
            program = rng.choices(PROGRAMS, [each.per_minute for each in PROGRAMS])[0]
            model = rng.choice(program.models)
            requests = _requests(start, span_s, len(seats), rng)
            key = start, (account_ids[seat.name], token_ids[program.key], model)
            add(total.setdefault(key, no_sums()), amounts_of(_counts(requests, program, model, start, rng)))
    return total


def quota(seat: Seat, meter: Meter, now: float, rng: Random) -> Kept:
    """The windows of a login, and how they went in the last week: each was used steadily, up to some part of it."""
    kept = Kept({}, {})
    for window, used in (("5h", seat.used), ("7d", seat.used_week)):
        span_s, past = WINDOWS_S[window], None
        parts = {meter.end(window, now): used * span_s / (now - meter.end(window, now) + span_s)}
        for t in range(int(now - 7 * DAY_S), int(now - seat.unused_s), 5 * MINUTE_S):
            end = meter.end(window, t)
            part = parts.setdefault(end, rng.uniform(0.45, 0.97))
            past = noted(past, part * (t - end + span_s) / span_s, t)
        resets_at = float(meter.end(window, now))
        kept.quota[window] = Window(round(used, 4), resets_at=resets_at, status="allowed")
        if past is not None:
            kept.pasts[window] = past
    return kept


def counters(used: Mapping[Key, Sums], last_used: Mapping[str, float], now: float) -> dict[str, Record]:
    """What that comes to for each account and each client key, as the proxy stores it."""
    found: dict[str, Record] = {}
    for id, sums in add_up(used.items(), lambda key: str(key[1][0])).items():
        counts = counts_of(sums)
        use = {"requests": counts.requests, "errors": counts.errors, "rate_limits": counts.limited}
        found[id] = use | {"last_used_at": last_used[id]}
    for id, sums in add_up(used.items(), lambda key: str(key[1][1])).items():
        own = {key: sums for key, sums in used.items() if key[1][1] == id}
        windows = {
            period: _window(own, rfc3339(now)[:length]) for period, length in (("day", 10), ("month", 7))
        }
        found[id] = {"requests": counts_of(sums).requests, "last_used_at": now} | windows
    return found


def _window(used: Mapping[Key, Sums], name: str) -> Record:
    """What was spent on the day, or in the month, of that name."""
    rows = ((key, sums) for key, sums in used.items() if rfc3339(key[0]).startswith(name))
    spent = counts_of(add_up(rows, lambda _: None).get(None))
    tokens = spent.input_tokens + spent.output_tokens + spent.cache_creation_tokens + spent.cache_read_tokens
    return {"name": name, "tokens": tokens, "cost_usd": spent.cost_usd}


def _spans(now: float) -> Iterator[tuple[int, float]]:
    """Start and length of each span, the longest ones first; the last one has only just begun."""
    longer = (DAY_S, *(span_s for _, span_s in SPANS))  # none of which may be left in part
    edges = [floor(now - back_s, span_s) for (back_s, _), span_s in zip(SPANS, longer, strict=False)]
    ends = [*edges[1:], floor(now, MINUTE_S)]
    for (_, span_s), start, end in zip(SPANS, edges, ends, strict=True):
        yield from ((t, span_s) for t in range(start, end, span_s))
    yield ends[-1], now - ends[-1]


def _requests(start: float, span_s: float, seats: int, rng: Random) -> int:
    """Of one of so many seats in that span."""
    busy = fmean(load(start + span_s * part / 8) for part in range(8))
    mean = sum(each.per_minute for each in PROGRAMS) / seats * busy * span_s / MINUTE_S
    return max(0, round(rng.gauss(mean, math.sqrt(mean))))


def _counts(requests: int, program: Program, model: str, at: float, rng: Random) -> Counts:
    failed = {
        name: sum(rng.random() < share for _ in range(min(requests, 500))) * max(1, requests // 500)
        for name, share in (
            ("aborted", 0.02),
            ("client_error", 0.012),
            ("limited", 0.004),
            ("refused", 0.006),
        )
    }
    failed["upstream_error"] = round(requests * 0.005 * rng.random())
    ok = max(0, requests - sum(failed.values()))
    used = Usage(
        model=model,
        input_tokens=ok * rng.randint(18, 30),
        output_tokens=round(ok * program.words * TOKENS_PER_WORD * rng.uniform(0.8, 1.2)),
        cache_creation_5m_tokens=round(ok * program.prompt_tokens * 0.07),
        cache_read_tokens=round(ok * program.prompt_tokens * 0.93),
    )
    return Counts(
        ok=ok,
        **failed,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cache_creation_5m_tokens=used.cache_creation_5m_tokens,
        cache_read_tokens=used.cache_read_tokens,
        ttfb_ms=ok * rng.randint(4, 12),
        ttfb_count=ok,
        duration_ms=ok * program.words * 17,
        cost_usd=prices.cost_usd(used, at=at) or 0.0,
    )
