"""Usage over time by account, client key and model: counted and queried in memory, saved in one log per day."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from proxy.clock import Clock, at_most_after, rfc3339
from proxy.errors import StorageError
from proxy.storage.protocols import Record, Storage
from proxy.usage.buckets import (
    DAY,
    EVERYTHING,
    HOUR,
    MINUTE,
    OTHER,
    PLACE,
    QUARTER,
    TWO_HOURS,
    Bucket,
    Buckets,
    By,
    floor,
)
from proxy.usage.counts import (
    OUTCOMES,
    Amounts,
    Counts,
    Ids,
    Key,
    Sums,
    add,
    add_up,
    amounts_by_model,
    amounts_of,
    counts_of,
    from_line,
    no_sums,
    plus,
    to_line,
    total,
)
from proxy.usage.report import Report, Taken
from proxy.usage.request import RequestRecord
from proxy.usage.spans import Interval, Span, span_of

RingName: TypeAlias = Literal["1h", "24h", "7d", "30d"]

RINGS: Final[Mapping[RingName, tuple[int, int]]] = {
    "1h": (60, MINUTE),
    "24h": (96, QUARTER),
    "7d": (84, TWO_HOURS),
    "30d": (30, DAY),
}
"""How many buckets of which level a chart shows."""

MODEL_LENGTH: Final = 80  # the longest known, of Bedrock, has some sixty
MOST_UNSAVED: Final = 10_000  # rows; some 4 MB
MOST_UNFOLDED: Final = 5000  # rows: to fold so many holds the loop for 30 ms
MOST_AT_ONCE: Final = 500  # rows, in one call to the storage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ring:
    """One Counts for each `span_s` seconds from `start` on; the last bucket is the current one."""

    start: int
    span_s: int
    buckets: tuple[Counts, ...]


class Series:
    """Queries are answered from memory. `flush` saves to disk, so a crash loses what came after the last flush.

    There is one log per UTC day, to which each flush appends. `compact` merges lines to the resolution that memory
    still keeps for their time; the sums stay the same.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._buckets = Buckets()
        self._since_start = no_sums()
        # Caches by place and id: made at the start of a quarter of an hour or a minute, and valid until the next one.
        self._day_sums: tuple[int, dict[tuple[int, str], Sums]] = (0, {})
        self._minute_counts: tuple[int, dict[tuple[int, str], list[int]]] = (0, {})
        self._unfolded: dict[Key, Sums] = {}  # by minute, since the last query: not in the buckets yet
        self._new: dict[Key, Sums] = {}  # not on disk yet
        self._stages: dict[str, int] = {}  # by day, the stage (see `_stage`) that its log was compacted for
        self._storing = asyncio.Lock()  # between reading a log and replacing it, nobody may append to it
        self.unsaved: str | None = None  # why the last flush failed

    def count(self, record: RequestRecord) -> None:
        """Count an ended request that may have used something: a sink."""
        if record.form is not None and record.key is not None:
            for model, amounts in amounts_by_model(record).items():
                self.add((record.account_id, record.key.id, model), amounts)

    def add(self, ids: Ids, amounts: Amounts, *, at: float | None = None) -> None:
        """Add amounts, `at` a time or now. The client chooses the model's name, so it may be anything.

        Most requests repeat the ids of an earlier one of the same minute, or are of client keys that are not told
        apart. So they are summed up first, and moved into the buckets by the next query.
        """
        account, token, model = ids
        key = floor(self._clock.now() if at is None else at, MINUTE), (account, token, _clean(model))
        sums = self._unfolded.get(key)
        if sums is None:
            key = self._buckets.counted_as(key, self._clock.now())
            if key not in self._unfolded and len(self._unfolded) >= MOST_UNFOLDED:
                self._fold()
            sums = self._unfolded.setdefault(key, no_sums())
        add(sums, amounts)

    def _fold(self) -> None:
        """Move the new sums into the buckets, and add them to what `flush` saves."""
        if not self._unfolded:
            return
        unfolded, self._unfolded = self._unfolded, {}
        for t, rows in _by_time(unfolded).items():
            told = self._buckets.add(t, rows, self._clock.now())
            self._since_start = total([self._since_start, *told.values()])
            for ids, sums in told.items():
                waiting = self._new.get((t, ids))
                if waiting is None and len(self._new) >= MOST_UNSAVED:
                    self._new = _bounded(self._new)
                self._new[t, ids] = sums if waiting is None else plus(waiting, sums)

    def hear(self, key: Key, sums: Sums) -> None:
        """Count what another instance has saved. Rare enough to compute the sums of the past anew."""
        self._buckets.add(key[0], {key[1]: sums}, self._clock.now())
        self._day_sums, self._minute_counts = (0, {}), (0, {})

    def totals(self, since: Literal["start", "today"]) -> Counts:
        """Everything since this process started, or since 0:00 UTC."""
        if since == "start":
            return counts_of(self.since_start())
        return self.bucket(floor(self._clock.now(), DAY), DAY)

    def since_start(self) -> Sums:
        """The sums of everything since this process started."""
        self._fold()
        return self._since_start[:]

    def starts(self, name: RingName) -> range:
        """Starts of the buckets that a chart shows, oldest first."""
        count, span_s = RINGS[name]
        end = floor(self._clock.now(), span_s) + span_s
        return range(end - count * span_s, end, span_s)

    def ring(self, name: RingName, by: By | None = None, id: str | None = None) -> Ring:
        """What a chart shows: of everything, or of one account, client key or model."""
        starts = self.starts(name)
        buckets = tuple(self.bucket(t, starts.step, by, id) for t in starts)
        return Ring(starts.start, starts.step, buckets)

    def bucket(self, start: int, span_s: int, by: By | None = None, id: str | None = None) -> Counts:
        """The counts of one bucket of a chart: of everything, or of one account, client key or model."""
        return counts_of(self.sums(start, span_s, by).get(id))

    def sums(self, start: int, span_s: int, by: By | None = None) -> Mapping[str | None, Sums]:
        """The sums of one bucket by account, client key or model; those of everything are under None."""
        self._fold()
        found = self._buckets.levels[span_s].buckets.get(start)
        return found[EVERYTHING if by is None else PLACE[by]] if found else {}

    def spans(self, start: float) -> list[int]:
        """The lengths of the buckets that are kept back to `start`, the shortest first."""
        now = self._clock.now()
        return [span_s for span_s, level in self._buckets.levels.items() if now - level.keep_s <= start]

    def day(self, by: By, id: str) -> Counts:
        """The counts of one account, client key or model in the last 24 hours."""
        self._fold()
        place, now = PLACE[by], floor(self._clock.now(), QUARTER)
        quarters = self._buckets.levels[QUARTER].buckets
        if self._day_sums[0] != now:
            self._day_sums = now, {}
        sums = self._day_sums[1].get((place, id))
        if sums is None:
            # Buckets of the past do not change any more, so they are added up once.
            sums = self._day_sums[1][place, id] = no_sums()
            for t in range(now + QUARTER - DAY, now, QUARTER):
                _add_bucket(sums, quarters.get(t), place, id)
        whole = sums[:]
        _add_bucket(whole, quarters.get(now), place, id)
        return counts_of(whole)

    def by_minute(self, by: By, id: str) -> list[int]:
        """The requests in each of the last 60 minutes that are over, oldest first."""
        self._fold()
        place, now = PLACE[by], floor(self._clock.now(), MINUTE)
        minutes = self._buckets.levels[MINUTE].buckets
        if self._minute_counts[0] != now:
            self._minute_counts = now, {}
        requests = self._minute_counts[1].get((place, id))
        if requests is None:
            found = (minutes.get(t) for t in range(now - HOUR, now, MINUTE))
            sums = (each and each[place].get(id) for each in found)
            requests = [int(sum(each[:OUTCOMES])) if each else 0 for each in sums]
            self._minute_counts[1][place, id] = requests
        return requests

    def rows(self, by: By, *, start: float, end: float, interval: Interval | None = None) -> Report:
        """Usage from `start` to `end`, one row for each account, client key or model.

        Raises Unprocessable if the span is empty, in the future, not kept at that interval, or too large.
        """
        return self.taken(by, start=start, end=end, interval=interval).report()

    def taken(self, by: By, *, start: float, end: float, interval: Interval | None = None) -> Taken:
        """What `rows` are made of, which may be done elsewhere. Raises Unprocessable."""
        span = self.span(start=start, end=end, interval=interval)
        self._fold()
        parts = [(t, t + span.bucket_s) for t in span.starts] if interval else [(span.start, span.end)]
        buckets: list[tuple[int, Mapping[str | None, Sums]]] = []
        for start, end in parts:
            for bucket in self._buckets.between(start, end):
                if interval:
                    span.check(len(bucket[PLACE[by]]))
                buckets.append((start, bucket[PLACE[by]].copy()))
        return Taken(span, buckets, interval is not None)

    def span(self, *, start: float, end: float, interval: Interval | None) -> Span:
        """The span of a report. Raises Unprocessable, as `span_of` does."""
        return span_of(self._buckets.levels, start=start, end=end, interval=interval, now=self._clock.now())

    @contextlib.asynccontextmanager
    async def unsaved_rows(self) -> AsyncIterator[dict[Key, Sums]]:
        """The sums that are in no log yet: none is written as long as the logs are read with them."""
        async with self._storing:
            self._fold()
            yield dict(self._new)

    async def load(self, storage: Storage) -> None:
        """Load the logs, once at startup. A log that cannot be read is left alone, with an error in the log."""
        async with self._storing:
            days, now = await self._days(storage)
            for day in days:
                for t, rows in _by_time(await self._compact(storage, day, now)).items():
                    self._buckets.add(t, rows, self._clock.now())

    async def flush(self, storage: Storage) -> None:
        """Append new sums to the logs, in parts. What cannot be written is kept for the next; `unsaved` says why."""
        async with self._storing:
            self._fold()
            for day, keys in _by_day(self._new):
                if storage.away is not None:
                    return self._failed(storage.away)
                self._stages.pop(day, None)
                # Those that are not there any more are in rows with fewer details, which the next flush saves.
                rows = {key: self._new.pop(key) for key in keys if key in self._new}
                try:
                    await storage.append(day, (to_line(key, sums) for key, sums in rows.items()))
                except StorageError as error:
                    self._new = add_up([*self._new.items(), *rows.items()], lambda key: key)
                    return self._failed(str(error))
            self._failed(None)

    async def left(self) -> list[str]:
        """What the last flush could not save, for people."""
        return [] if self.unsaved is None else ["the usage since it was saved last"]

    async def compact(self, storage: Storage) -> None:
        """Merge the lines of each log as memory keeps them, and remove logs that are too old. Raises StorageError."""
        async with self._storing:
            days, now = await self._days(storage)
            for day in days:
                if self._stages.get(day) != _stage(day, self._buckets, now):
                    await self._compact(storage, day, now)

    def _sums(self, place: int, start: int, end: int) -> dict[str | None, Sums]:
        found = (item for bucket in self._buckets.between(start, end) for item in bucket[place].items())
        return add_up(found, lambda id: id)

    def _failed(self, reason: str | None) -> None:
        if reason is not None and self.unsaved is None:
            log.error("usage not saved, kept in memory error=%s", reason)
        elif reason is None and self.unsaved is not None:
            log.warning("usage saved at last")
        self.unsaved = reason

    async def _days(self, storage: Storage) -> tuple[list[str], float]:
        """The days that have a log, and the time by which they are old; those that are too old are removed."""
        starts = {name: start for name in await storage.logs() if (start := start_of(name)) is not None}
        now = at_most_after(max(starts.values(), default=0), self._clock.now())
        oldest = self._buckets.levels[DAY].oldest(now)
        for name in [name for name, start in starts.items() if start < oldest]:
            await storage.remove_log(name)
            self._stages.pop(name, None)
        return [name for name, start in starts.items() if start >= oldest], now

    async def _compact(self, storage: Storage, day: str, now: float) -> dict[Key, Sums]:
        """Merge the lines of a log to the resolution that memory keeps. Returns their sums."""
        stage = _stage(day, self._buckets, now)

        def at(key: Key) -> Key:
            return self._buckets.coarse(key[0], now), key[1]

        try:
            lines = await storage.read_log(day)
            # In a thread: a day of many clients takes a second, which would block the event loop.
            rows, fewer, strange = await asyncio.to_thread(_compacted, lines, at)
        except StorageError as error:
            log.error("usage of a day is left out day=%s error=%s", day, error)
            return {}
        if strange:
            log.warning("lines of another program are left alone, and out day=%s lines=%s", day, strange)
        elif fewer:
            try:
                await storage.replace_log(day, fewer, as_read=True)
            except StorageError as error:
                log.warning("usage not compacted day=%s error=%s", day, error)
                return rows
        self._stages[day] = stage
        return rows


def _stage(day: str, buckets: Buckets, now: float) -> int:
    """How many levels do not hold that day any more, so that its lines need not be as detailed as them."""
    end = (start_of(day) or 0) + DAY
    return sum(end <= each.oldest(now) for each in buckets.levels.values())


def _bounded(rows: Mapping[Key, Sums]) -> dict[Key, Sums]:
    """Unsaved rows with fewer details, because the disk has taken none for long. The totals stay the same."""
    fewer = add_up(rows.items(), lambda key: (floor(key[0], QUARTER), key[1]))
    if len(fewer) <= MOST_UNSAVED // 2:
        return fewer
    log.warning("usage waits too long for the disk, so it is kept for it without details")
    return add_up(fewer.items(), lambda key: (floor(key[0], DAY), (OTHER, OTHER, OTHER)))


def _by_time(rows: Mapping[Key, Sums]) -> dict[int, dict[Ids, Sums]]:
    found: dict[int, dict[Ids, Sums]] = {}
    for (t, ids), sums in rows.items():
        found.setdefault(t, {})[ids] = sums
    return found


def _by_day(keys: Iterable[Key]) -> list[tuple[str, list[Key]]]:
    """The keys of each day, no more at once than go into one call."""
    days: dict[str, list[Key]] = {}
    for key in keys:
        days.setdefault(day_of(key[0]), []).append(key)
    return [
        (day, found[at : at + MOST_AT_ONCE])
        for day, found in sorted(days.items())
        for at in range(0, len(found), MOST_AT_ONCE)
    ]


def _add_bucket(sums: Sums, bucket: Bucket | None, place: int, id: str) -> None:
    found = bucket and bucket[place].get(id)
    if found:
        add(sums, amounts_of(found))


def _compacted(lines: list[Record], at: Callable[[Key], Key]) -> tuple[dict[Key, Sums], list[Record], int]:
    """The sums in the lines; the merged lines, none if there is nothing to merge; the number of unknown lines."""
    found = [row for row in map(from_line, lines) if row is not None]
    rows = add_up(found, at)
    fewer = [to_line(key, sums) for key, sums in rows.items()] if len(rows) < len(found) else []
    return rows, fewer, len(lines) - len(found)


def day_of(t: float) -> str:
    return rfc3339(t)[:10]


def start_of(day: str) -> int | None:
    """0:00 UTC of a day such as 2026-11-22, in seconds since the epoch; None if it is not a day."""
    try:
        start = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
    return start if day_of(start) == day else None


def _clean(model: str | None) -> str | None:
    """The name cut to MODEL_LENGTH, with unprintable characters replaced. None if it is empty."""
    cut = (model or "")[:MODEL_LENGTH]
    if not cut.isprintable():
        cut = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in cut)
    return cut or None
