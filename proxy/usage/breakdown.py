"""Usage by two of account, client key and model, or by one of them within another: summed from the logs.

Only the logs have it by all three. In memory it would take the product of their numbers, and time of every request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from proxy.errors import Unprocessable
from proxy.storage.logs import parse
from proxy.storage.protocols import Storage
from proxy.usage.buckets import DAY, PLACE, By, floor
from proxy.usage.counts import Counts, Ids, Key, Sums, add_up, counts_of, from_line
from proxy.usage.series import Series, day_of
from proxy.usage.spans import Interval, Span

MOST_LINES: Final = 100_000
"""Lines that one report sums, in a thread: a second of work. A day of 50 clients with 20 pairs has as many."""

MOST_ROWS: Final = 5000

Pair: TypeAlias = tuple[str | None, ...]
"""The ids by which usage is told apart, in the order that is asked for."""


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
        lines = _Lines(within.ids)
        unsaved = await self._series.read(self._storage, days, lines.take)
        if lines.too_many:
            raise Unprocessable(
                "that is too much to be read at once: choose a shorter span, or one account, token or model"
            )
        places = [PLACE[each] - 1 for each in by]
        # In a thread: 20,000 lines take a third of a second, which would block the event loop.
        return span, await asyncio.to_thread(_parts, lines.found, unsaved, within, span, places)


class _Lines:
    """Takes the lines that may be asked for, in the storage's thread: they are judged by their bytes there."""

    def __init__(self, ids: Mapping[By, str]) -> None:
        self._wanted = [json.dumps(id, ensure_ascii=False).encode() for id in ids.values()]
        self.found: list[bytes] = []
        self.too_many = False

    def take(self, line: bytes) -> None:
        for wanted in self._wanted:
            if wanted not in line:
                return
        if len(self.found) < MOST_LINES:
            self.found.append(line)
        else:
            self.too_many = True


def _parts(
    lines: list[bytes], unsaved: Mapping[Key, Sums], within: Within, span: Span, places: Sequence[int]
) -> list[Part]:
    """What is asked for, told apart by the ids at `places`. Raises Unprocessable if that is too much to be shown."""
    sums = _sums(lines, unsaved, within.ids, span, places)
    whole = add_up(sums.items(), lambda key: key[1])
    if len(whole) > MOST_ROWS:
        raise Unprocessable(f"that has more than {MOST_ROWS} rows: choose one account, token or model")
    buckets: dict[Pair, list[tuple[int, Counts]]] = {ids: [] for ids in whole}
    if within.interval is not None:
        span.check(len(whole))
        for (t, ids), part in sorted(sums.items(), key=lambda row: row[0][0]):
            buckets[ids].append((t, counts_of(part)))
    order = sorted(whole, key=lambda ids: [id or "" for id in ids])
    return [Part(ids, counts_of(whole[ids]), tuple(buckets[ids])) for ids in order]


def _sums(
    lines: list[bytes], unsaved: Mapping[Key, Sums], ids: Mapping[By, str], span: Span, places: Sequence[int]
) -> dict[tuple[int, Pair], Sums]:
    """The sums of what is asked for, by the start of their bucket and by ids."""
    wanted = [(PLACE[by] - 1, id) for by, id in ids.items()]

    def asked(t: int, found: Ids) -> bool:
        return span.start <= t < span.end and all(found[place] == id for place, id in wanted)

    def at(key: Key) -> tuple[int, Pair]:
        return floor(key[0], span.bucket_s), tuple(key[1][place] for place in places)

    rows = [row for line in lines if (row := from_line(parse(line))) is not None]
    return add_up([row for row in (*rows, *unsaved.items()) if asked(*row[0])], at)
