"""A report of usage: a row for each account, client key or model, over one span and in its buckets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from proxy.usage.counts import Counts, Sums, add_up, counts_of
from proxy.usage.spans import Span


@dataclass(frozen=True, slots=True)
class Row:
    """One account, client key or model; `buckets` are those with requests, by their start."""

    id: str | None
    counts: Counts
    buckets: tuple[tuple[int, Counts], ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Usage of the requested span, rounded outwards to bucket boundaries. Rows are sorted by id."""

    start: int
    end: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """The sums of a span as they were in one moment: copied at once, and summed up in any thread.

    Of 1,000 accounts by the hour that takes a quarter of a second. `buckets` have the start of that of the span which
    they belong to.
    """

    span: Span
    buckets: Sequence[tuple[int, Mapping[str | None, Sums]]]
    is_split: bool

    def report(self) -> Report:
        """The rows, with buckets if the span is split. Raises Unprocessable if these are too many."""
        sums = _added(rows for _, rows in self.buckets)
        parts: dict[str | None, list[tuple[int, Counts]]] = {id: [] for id in sums}
        if self.is_split:
            self.span.check(len(sums))
            for start, some in groupby(self.buckets, key=itemgetter(0)):
                for id, part in _added(rows for _, rows in some).items():
                    parts[id].append((start, counts_of(part)))
        ids = sorted(sums, key=lambda id: id or "")
        rows = tuple(Row(id, counts_of(sums[id]), tuple(parts[id])) for id in ids)
        return Report(self.span.start, self.span.end, rows)


def _added(buckets: Iterable[Mapping[str | None, Sums]]) -> dict[str | None, Sums]:
    return add_up((item for rows in buckets for item in rows.items()), lambda id: id)
