"""The events of all instances as one chain: who writes finds the tip of it in the store, and goes on from there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import islice, takewhile
from typing import NamedTuple

from proxy.clock import Clock, rfc3339
from proxy.errors import StorageError
from proxy.jobs import Jobs
from proxy.storage.chain import PREVIOUS, chained
from proxy.storage.chained_log import AT_ONCE, ChainedLog
from proxy.storage.layout import event_log
from proxy.storage.logs import parse
from proxy.storage.peers import Chained
from proxy.storage.protocols import Record, Storage

DAY_S = 86_400


class _Tip(NamedTuple):
    """The last line of all: the day whose log has it, its `id`, and its hash."""

    day: str
    id: int
    head: str

    def text(self) -> str:
        return f"{self.day} {self.id} {self.head}"

    @classmethod
    def read(cls, text: str) -> _Tip:
        day, id, head = text.split(" ")
        return cls(day, int(id), head)


class SharedChain(ChainedLog):
    """A record gets its `id` when it is written: the next one of all instances. `take` hears of each, in their order.

    A write whose answer was lost may be done: it is if the tip is what it was to make.
    """

    comes_back = True

    def __init__(
        self,
        storage: Storage,
        logs: Chained,
        jobs: Jobs,
        *,
        take: Callable[[Record], None],
        reached: Callable[[int], Awaitable[None]],
        clock: Clock,
    ) -> None:
        super().__init__(storage, jobs)
        self._logs = logs
        self._take = take
        self._clock = clock
        self._tip = _Tip("", 0, self._head)
        self._unsure: dict[_Tip, int] = {}  # how many records of the queue were to be done with each tip
        self._followed: set[str] = set()
        self._came_back = reached

    async def saved(self) -> None:
        """Return when all records so far are in storage and, if that does not take long, have come back from there."""
        await super().saved()
        await self._came_back(self._tip.id)

    async def open(self, most: int) -> tuple[list[Record], int]:
        newest, damaged = await super().open(most)
        self._tip = _Tip(self.day, newest[-1]["id"] if newest else 0, self._head)
        return newest, damaged

    def follow(self) -> None:
        """Follow the logs of these days, once the log is open. Called periodically."""
        now = self._clock.now()
        days = {rfc3339(now + n * DAY_S)[:10] for n in (-1, 0, 1)} | {self._tip.day} - {""}
        for day in days - self._followed:
            self._storage.follow_log(event_log(day), self._hear, own=True)
        for day in self._followed - days:
            self._storage.follow_log(event_log(day), None)
        self._followed = days

    def _hear(self, line: bytes) -> None:
        record = parse(line)
        record.pop(PREVIOUS, None)
        self._take(record)

    async def _write_some(self) -> None:
        wanted = self._queue[0].day
        some = list(takewhile(lambda each: each.day == wanted, islice(self._queue, AT_ONCE)))
        tip, day = self._tip, max(wanted, self._tip.day)
        records = (each.record | {"id": id} for id, each in enumerate(some, tip.id + 1))
        lines, head = chained(records, tip.head)
        makes = _Tip(day, tip.id + len(some), head)
        durable = any(each.durable for each in some)
        try:
            found = await self._logs.append_chained(
                event_log(day), lines, follows=tip.text(), makes=makes.text(), durable=durable
            )
        except StorageError:
            self._unsure[makes] = len(some)
            raise
        self._tip = _Tip.read(found)
        self._done(len(some) if self._tip == makes else self._unsure.get(self._tip, 0))
        self._unsure.clear()
