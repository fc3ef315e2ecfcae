"""What charts show: sums over time, of everything or split by account, client key or model, and of the time before."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from proxy.errors import Unprocessable
from proxy.usage.buckets import DAY, QUARTER, By, floor
from proxy.usage.counts import FIELDS, OUTCOMES, Counts, Sums, counts_of, no_sums, plus
from proxy.usage.series import Series

MOST_BARS: Final = 120
"""More cannot be told apart on a screen. So an hour is shown by minutes, a day by quarters of an hour."""

LARGEST: Final = 7
"""So many of a split are shown by name: there are no more colours that can be told apart."""

SUMMED: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: (name,) for name in FIELDS[:OUTCOMES]},
    "input_tokens": ("input_tokens",),
    "output_tokens": ("output_tokens",),
    "cache_creation_input_tokens": ("cache_creation_5m_tokens", "cache_creation_1h_tokens"),
    "cache_read_input_tokens": ("cache_read_tokens",),
    "cost_usd": ("cost_usd",),
    "unpriced_requests": ("unpriced",),
    "ttfb_ms": ("ttfb_ms",),
    "ttfb_count": ("ttfb_count",),
}
"""The numbers of a bar, and the counters that each is the sum of. `ttfb_ms` is a sum over `ttfb_count` requests."""

_PLACES: Final = {name: [FIELDS.index(field) for field in fields] for name, fields in SUMMED.items()}

Columns: TypeAlias = Mapping[str, list[float]]
"""For each of SUMMED the numbers of all bars, oldest first."""


@dataclass(frozen=True, slots=True)
class Chart:
    """`split` has the largest by their number of requests, `rest` what all others come to, None if there are none.

    Without a split, `split` has everything under the id None.
    """

    starts: range
    split: tuple[tuple[str | None, Columns], ...]
    rest: Columns | None


def numbers(sums: Sums) -> dict[str, float]:
    """The numbers of one bar."""
    return {name: _whole(sum(sums[place] for place in places)) for name, places in _PLACES.items()}


def bars_between(series: Series, start: float, end: float, now: float) -> range:
    """The starts of the bars from `start` to `end`: the shortest that are kept and are not too many.

    Raises Unprocessable if the span is empty, in the future, or not kept.
    """
    if not start < min(end, now):
        raise Unprocessable("from has to be before to, and in the past")
    for span_s in series.spans(start):
        first, last = floor(start, span_s), -floor(-min(end, floor(now, span_s) + span_s), span_s)
        if (last - first) // span_s <= MOST_BARS:
            return range(first, last, span_s)
    raise Unprocessable("usage is kept for 31 days: choose a later from")


def bars_before(series: Series, starts: range) -> range | None:
    """The starts of the bars of as much time before these, days if nothing shorter is kept. None if it is not kept."""
    first = 2 * starts.start - starts.stop
    for span_s in (starts.step, DAY):
        if span_s in series.spans(floor(first, span_s)):
            return range(floor(first, span_s), starts.start, span_s)
    return None


def chart(series: Series, starts: range, by: By | None = None, id: str | None = None) -> Chart:
    """What those bars show: of everything, of the one account, client key or model `id`, or of the largest of them."""
    if by is None or id is not None:
        return Chart(starts, ((id, _columns(series, starts, by, [id])[0]),), None)
    report = series.rows(by, start=starts.start, end=starts.stop)
    largest = sorted(report.rows, key=lambda row: -row.counts.requests)
    ids = [row.id for row in largest[:LARGEST]]
    split = _columns(series, starts, by, ids)
    rest = None
    if len(largest) > LARGEST:
        [everything] = _columns(series, starts, None, [None])
        rest = _less(everything, split)
    return Chart(starts, tuple(zip(ids, split, strict=True)), rest)


def _columns(series: Series, starts: range, by: By | None, ids: Iterable[str | None]) -> list[Columns]:
    buckets = [series.sums(start, starts.step, by) for start in starts]
    none = no_sums()
    return [_column(bucket.get(id, none) for bucket in buckets) for id in ids]


def _column(bars: Iterable[Sums]) -> Columns:
    rows = [numbers(sums) for sums in bars]
    return {name: [row[name] for row in rows] for name in SUMMED}


def _less(everything: Columns, parts: Iterable[Columns]) -> Columns:
    """What is left of everything without these parts. Sums of costs differ in their last digits, but not below 0."""
    taken = list(parts)
    return {
        name: [_whole(max(0, n - sum(part[name][at] for part in taken))) for at, n in enumerate(column)]
        for name, column in everything.items()
    }


def _whole(n: float) -> float:
    """An int if it is one, which is shorter in JSON; else with so many digits as costs have."""
    return int(n) if n == int(n) else round(n, 6)


class Yesterday:
    """What was used from 0:00 UTC of yesterday up to this time of that day."""

    def __init__(self, series: Series) -> None:
        self._series = series
        # The current quarter of an hour, and the sums of those before it, which are valid until the next one.
        self._whole: tuple[int, Sums] = (0, no_sums())

    def by(self, now: float) -> Counts:
        """The quarter of an hour that holds this time counts by the part of it that is over."""
        at = now - DAY
        quarter = floor(at, QUARTER)
        if self._whole[0] != quarter:
            sums = no_sums()
            for start in range(floor(at, DAY), quarter, QUARTER):
                sums = plus(sums, self._sums(start))
            self._whole = quarter, sums
        part = (at - quarter) / QUARTER
        begun = self._sums(quarter)
        return counts_of(plus(self._whole[1], array("d", [n * part for n in begun])))

    def _sums(self, start: int) -> Sums:
        return self._series.sums(start, QUARTER).get(None) or no_sums()
