"""The events on disk, by day: the audit log. What an admin has caused is there before the admin is answered."""

from __future__ import annotations

import contextlib
import logging
from typing import Final

from proxy.clock import Clock, rfc3339
from proxy.dashboard.event_history import Asked, EventHistory
from proxy.dashboard.event_log import MOST, Event, EventLog
from proxy.errors import StorageError
from proxy.feed import SYSTEM, Feed, Happened, Level
from proxy.storage.audit import REMOVED
from proxy.storage.chain import PREVIOUS
from proxy.storage.chained_log import ChainedLog

MOST_WAITING: Final = 10_000
MOST_A_DAY: Final = 100_000
"""Events that no admin has caused: clients cause some, such as with each new address, and must not fill the disk."""

ABOUT_ITSELF: Final = "audit."
"""What the kinds of events about the audit log begin with."""

log = logging.getLogger(__name__)


class EventArchive:
    """Takes the events from the event log, gives it those of an earlier run, and finds older ones."""

    def __init__(
        self,
        events: EventLog,
        stored: ChainedLog,
        history: EventHistory,
        *,
        feed: Feed,
        clock: Clock,
        keep_s: float,
    ) -> None:
        self._events = events
        self._stored = stored
        self._history = history
        self._feed = feed
        self._clock = clock
        self.keep_s = keep_s
        self._left_out = 0

    async def open(self) -> None:
        """Take the newest events into memory, and all to come from there. Raises StorageError."""
        newest, damaged = await self._stored.open(MOST)
        self._events.restore({k: v for k, v in event.items() if k != PREVIOUS} for event in newest)
        self._events.on_event(self._note)
        if damaged:
            day = self._stored.day
            log.error("audit log damaged day=%s lines=%d", day, damaged)
            self._tell("damaged", f"the audit log of {day} was damaged: see run.py --verify-audit", "error")

    def unsaved(self) -> str | None:
        """Why events are not on disk; None if they are, or will be within a second."""
        return self._stored.unsaved

    async def find(self, asked: Asked) -> tuple[list[Event], int | None]:
        """See EventHistory.find. Raises StorageError."""
        if self._stored.comes_back:
            with contextlib.suppress(StorageError):
                await self._stored.saved()
        return await self._history.find(asked)

    async def saved(self) -> None:
        """Return when all events so far are on disk. Raises StorageError: then they are kept and tried again."""
        await self._stored.saved()

    async def save(self) -> None:
        """Write what waits. Raises StorageError."""
        if self._left_out and self._has_room(self._today()):
            count, self._left_out = self._left_out, 0
            self._tell("left_out", f"{count} events are not in the audit log: there were too many", "warning")
        await self._stored.saved()

    async def save_again(self) -> None:
        """Write what waits, as a job: the health tells of a failure."""
        try:
            await self.save()
        except StorageError:
            return

    async def left(self) -> list[str]:
        """What is not on disk, for people."""
        return [f"{self._left_out} events, which were too many"] if self._left_out else []

    async def remove_old(self) -> None:
        """Remove the days that are kept no longer, once an event that says so is on disk. Raises StorageError."""
        first = rfc3339(self._clock.now() - self.keep_s)[:10]
        days, last_sha256 = await self._stored.days_before(first)
        if days:
            text = f"events of the days before {first} were removed from the audit log"
            after = {"before": first, "last_sha256": last_sha256}
            self._feed.tell(Happened(REMOVED, text, after=after, by=SYSTEM))
            await self._stored.saved()
            await self._stored.remove(days)

    def _tell(self, what: str, text: str, level: Level) -> None:
        self._feed.tell(Happened(f"{ABOUT_ITSELF}{what}", text, level, by=SYSTEM))

    def _note(self, event: Event) -> None:
        day, admins = event["at"][:10], event["actor"]["kind"] == "admin"
        if not admins and not event["kind"].startswith(ABOUT_ITSELF) and not self._has_room(day):
            if not self._left_out:
                log.warning("too many events: they are left out of the audit log day=%s", day)
            self._left_out += 1
        else:
            self._stored.put(day, event, durable=admins)

    def _has_room(self, day: str) -> bool:
        stored = self._stored
        return len(stored) < MOST_WAITING and (stored.today < MOST_A_DAY or day > stored.day)

    def _today(self) -> str:
        return rfc3339(self._clock.now())[:10]
