"""A log by days whose lines are one chain: records are queued at once, and written by one task at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Final

from proxy.errors import StorageError
from proxy.jobs import Jobs
from proxy.storage.chain import START, Chain, chained
from proxy.storage.layout import event_log
from proxy.storage.logs import parse
from proxy.storage.protocols import Record, Storage

AT_ONCE: Final = 500
"""Records of one write."""

DAYS_BACK: Final = 7
"""In which an opening looks for the newest records."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Queued:
    day: str
    record: Record
    durable: bool


class ChainedLog:
    """The events in storage. A write that fails is tried again with the next: nothing is left out of the order.

    With `comes_back`, a record is told of once it has come back from storage.
    """

    comes_back = False

    def __init__(self, storage: Storage, jobs: Jobs) -> None:
        self._storage = storage
        self._jobs = jobs
        self._queue: deque[_Queued] = deque()
        self._put = self._written = 0
        self._writing: asyncio.Task[None] | None = None
        self._head = START
        self.day = ""
        """The day of the newest record, as `2026-11-29`; "" if there is none."""

        self.today = 0
        """Records of that day."""

        self.unsaved: str | None = None
        """Why records are not in storage; None if the last write has not failed."""

    def __len__(self) -> int:
        """Records that wait to be written."""
        return len(self._queue)

    async def open(self, most: int) -> tuple[list[Record], int]:
        """Go on with the chain. Returns the newest records, oldest first, and how many lines of the last day do not
        fit. Raises StorageError.
        """
        newest: deque[Record] = deque()
        damaged = 0
        for day in (await self._storage.event_days())[: -DAYS_BACK - 1 : -1]:
            tail = _Tail(most - len(newest))
            await self._storage.each_line(event_log(day), tail.take)
            newest.extendleft(reversed(tail.records()))
            if not self.day and tail.chain.head is not None:
                self.day, self.today, self._head = day, tail.chain.lines, tail.chain.head
                damaged = tail.damaged
            if len(newest) == most:
                break
        return list(newest), damaged

    def put(self, day: str, record: Record, *, durable: bool) -> None:
        """Queue a record; a durable one is written at once, others with the next `saved`.

        If the clock was set back, it goes to the newest day: the chain leads from day to day.
        """
        if day > self.day:
            self.day, self.today = day, 0
        self.today += 1
        self._put += 1
        self._queue.append(_Queued(self.day, record, durable))
        if durable:
            self._begin()

    async def saved(self) -> None:
        """Return when all records so far are in storage. Raises StorageError: then they stay queued."""
        wanted = self._put
        while self._written < wanted:
            await asyncio.shield(self._begin())

    async def days_before(self, day: str) -> tuple[list[str], str]:
        """The earlier days, and the hash of their last line. Raises StorageError."""
        days = [each for each in await self._storage.event_days() if each < day]
        for each in reversed(days):
            chain = Chain()
            await self._storage.each_line(event_log(each), chain.take)
            if chain.head is not None:
                return days, chain.head
        return days, START

    async def remove(self, days: list[str]) -> None:
        """Remove all records of these days. Raises StorageError."""
        for day in days:
            await self._storage.remove_log(event_log(day))

    def _begin(self) -> asyncio.Task[None]:
        """The task that writes until nothing is queued."""
        if self._writing is None or self._writing.done():
            self._writing = self._jobs.start("save events", self._write())
        return self._writing

    async def _write(self) -> None:
        try:
            while self._queue:
                await self._write_some()
        except StorageError as error:
            if self.unsaved is None:
                log.error("events not saved, kept in memory error=%s", error)
            self.unsaved = str(error)
            raise
        if self.unsaved is not None:
            log.warning("events saved at last")
            self.unsaved = None

    async def _write_some(self) -> None:
        day = self._queue[0].day
        some = list(takewhile(lambda each: each.day == day, islice(self._queue, AT_ONCE)))
        lines, head = chained((each.record for each in some), self._head)
        await self._storage.append(event_log(day), lines, durable=any(each.durable for each in some))
        self._head = head
        self._done(len(some))

    def _done(self, count: int) -> None:
        self._written += count
        for _ in range(count):
            self._queue.popleft()


class _Tail:
    """The newest lines of a day."""

    def __init__(self, most: int) -> None:
        self.chain = Chain()
        self.damaged = 0
        self._lines: deque[bytes] = deque(maxlen=most)

    def take(self, line: bytes) -> None:
        """Raises ValueError if it is no line of the log."""
        before, fits = self.chain.lines, self.chain.take(line)
        if self.chain.lines == before:
            raise ValueError("it is no line of a chain")
        self.damaged += not fits
        self._lines.append(line)

    def records(self) -> list[Record]:
        return [parse(line) for line in self._lines]
