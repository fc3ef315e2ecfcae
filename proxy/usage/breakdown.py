"""Usage by two of account, client key and model, or by one of them within another: summed from the logs.

Only the logs have it by all three. In memory it would take the product of their numbers, and time of every request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeAlias

from proxy.errors import Unprocessable
from proxy.storage.logs import parse
from proxy.storage.protocols import Storage
from proxy.usage.buckets import DAY, PLACE, By, floor
from proxy.usage.counts import Counts, Ids, Key, Sums, add_up, counts_of, from_line
from proxy.usage.series import Series, day_of
from proxy.usage.spans import Interval, Span

MOST_LINES: Final = 100_000
"""Lines of one day that one report sums, in a thread: a second of work. 50 clients with 20 pairs have as many."""

MOST_IN_ALL: Final = 400_000

MOST_ROWS: Final = 5000

Pair: TypeAlias = tuple[str | None, ...]
"""The ids by which usage is told apart, in the order that is asked for."""

Place: TypeAlias = tuple[int, Pair]
"""The start of a bucket, in seconds since the epoch, and the ids."""


@dataclass(frozen=True, slots=True)
class Within:
    """What a breakdown is about: usage with these ids only, from `start` to `end` in seconds since the epoch."""

    ids: Mapping[By, str]
    start: float
    end: float
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """The usage with these ids; `buckets` are those with requests, by their start."""

    ids: Pair
    counts: Counts
    buckets: tuple[tuple[int, Counts], ...] = ()


class Breakdown:
    """Reads the logs for each question. Whoever asks for one client key reads its lines alone."""

    def __init__(self, series: Series, storage: Storage) -> None:
        self._series = series
        self._storage = storage

    async def parts(self, by: Sequence[By], within: Within) -> tuple[Span, list[Part]]:
        """The parts, sorted by ids, and the span that they cover.

        Raises Unprocessable if the span is not kept, or holds too much to be read at once; StorageError.
        """
        span = self._series.span(start=within.start, end=within.end, interval=within.interval)
        days = [day_of(t) for t in range(floor(span.start, DAY), span.end, DAY)]
        lines = _Lines(within.ids, span, [PLACE[each] - 1 for each in by])
        async with self._series.unsaved_rows() as unsaved:
            for day in days:
                await self._storage.each_line(day, lines.take)
                await lines.add_up()
        return span, await asyncio.to_thread(lambda: _parts(lines.with_rows(unsaved.items()), within, span))


class _Lines:
    """Takes the lines of a day that may be asked for, and sums them by the start of their bucket and by ids."""

    def __init__(self, ids: Mapping[By, str], span: Span, places: Sequence[int]) -> None:
        self._ids = [(PLACE[by] - 1, id) for by, id in ids.items()]
        self._in_bytes = [json.dumps(id, ensure_ascii=False).encode() for id in ids.values()]
        self._span = span
        self._places = places
        self._found: list[bytes] = []
        self._count = 0
        self._is_too_much = False
        self._sums: dict[Place, Sums] = {}

    def take(self, line: bytes) -> None:
        """Called in the storage's thread, so lines are judged by their bytes there."""
        for wanted in self._in_bytes:
            if wanted not in line:
                return
        if len(self._found) < MOST_LINES and self._count < MOST_IN_ALL:
            self._found.append(line)
            self._count += 1
        else:
            self._is_too_much = True

    async def add_up(self) -> None:
        """Sum what was taken. Raises Unprocessable if that was too much."""
        if self._is_too_much:
            raise Unprocessable(
                "that is too much to be read at once: choose a shorter span, or one account, token or model"
            )
        found, self._found = self._found, []
        # In a thread: 20,000 lines take a third of a second, which would block the event loop.
        self._sums = await asyncio.to_thread(self._with_lines, found)

    def _with_lines(self, lines: Iterable[bytes]) -> dict[Place, Sums]:
        return self.with_rows(row for line in lines if (row := from_line(parse(line))) is not None)

    def with_rows(self, rows: Iterable[tuple[Key, Sums]]) -> dict[Place, Sums]:
        """The sums with these rows too, as far as they are asked for. For a thread: there may be 400,000."""
        asked = ((self._place(key), sums) for key, sums in rows if self._is_asked(*key))
        return add_up(chain(self._sums.items(), asked), lambda place: place)

    def _is_asked(self, t: int, ids: Ids) -> bool:
        return self._span.start <= t < self._span.end and all(ids[at] == id for at, id in self._ids)

    def _place(self, key: Key) -> Place:
        return floor(key[0], self._span.bucket_s), tuple(key[1][at] for at in self._places)


def _parts(sums: Mapping[Place, Sums], within: Within, span: Span) -> list[Part]:
    """What is asked for, told apart by ids. Raises Unprocessable if that is too much to be shown."""
    whole = add_up(sums.items(), lambda place: place[1])
    if len(whole) > MOST_ROWS:
        raise Unprocessable(f"that has more than {MOST_ROWS} rows: choose one account, token or model")
    buckets: dict[Pair, list[tuple[int, Counts]]] = {ids: [] for ids in whole}
    if within.interval is not None:
        span.check(len(whole))
        for (t, ids), part in sorted(sums.items(), key=lambda row: row[0][0]):
            buckets[ids].append((t, counts_of(part)))
    order = sorted(whole, key=lambda ids: [id or "" for id in ids])
    return [Part(ids, counts_of(whole[ids]), tuple(buckets[ids])) for ids in order]
