"""The event log for admins: the newest events, numbered. `EventArchive` keeps all of them on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from itertools import dropwhile
from typing import Any

from proxy.accounts.account import AccountChanged
from proxy.clock import Clock, rfc3339
from proxy.dashboard.account_events import told
from proxy.dashboard.sentences import parts, plain
from proxy.feed import Feed, Happened, Who, acting

MOST = 1000

BACK_S = 0.5
"""How long an admin waits for what was written to the log of several instances to come back."""

Event = dict[str, Any]
"""What an admin may see of an event, and what is stored: `id` (1, 2, 3…), `at`, `level`, `kind`, `text`, `actor`,
`subject`, `before`, `after`; and `parts` if there are times in the text, see `sentences`."""


class EventLog:
    """Records the feed's events. `key_name` is the present name of a client key; None if it is unknown."""

    def __init__(
        self, feed: Feed, *, clock: Clock, key_name: Callable[[str], str | None] = lambda key_id: None
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._key_name = key_name
        self._events: deque[Event] = deque(maxlen=MOST)
        self._on_event: Callable[[Event], None] = _ignore
        self.newest = 0
        feed.on_account_change(self._account_changed)
        feed.on_event(self._happened)

    def on_event(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with each new event."""
        self._on_event = listener

    def restore(self, events: Iterable[Event]) -> None:
        """Begin with the events of an earlier run, oldest first, before there is any of this one."""
        for event in events:
            self._events.append(event)
            self.newest = event["id"]

    @property
    def oldest(self) -> int:
        """The id of the oldest event in memory; that of the next one if there is none."""
        return self._events[0]["id"] if self._events else self.newest + 1

    def since(self, id: int, most: int = MOST) -> list[Event]:
        """The newest events after `id`, oldest first."""
        found = list(dropwhile(lambda event: event["id"] <= id, self._events))
        return found[-most:]

    def _account_changed(self, change: AccountChanged) -> None:
        for event in () if change.elsewhere else told(change):
            self._happened(event)

    def _happened(self, event: Happened) -> None:
        texts = parts(event.text)
        noted: Event = {
            "id": self.newest + 1,
            "at": rfc3339(self._clock.now()),
            "level": event.level,
            "kind": event.kind,
            "text": plain(event.text),
            **({} if texts == [event.text] else {"parts": texts}),
            "actor": self._named(event.by or acting()).view(),
            "subject": event.subject and event.subject.view(),
            "before": event.before and dict(event.before),
            "after": event.after and dict(event.after),
        }
        self._note(noted)

    def _note(self, event: Event) -> None:
        self._keep(event)
        self._on_event(event)

    def _keep(self, event: Event) -> None:
        self.newest = event["id"]
        self._events.append(event)
        self._feed.touch("events", "")

    def _named(self, who: Who) -> Who:
        if who.kind != "key" or who.name is not None or who.id is None:
            return who
        return Who("key", who.id, self._key_name(who.id), who.address)


class SharedEventLog(EventLog):
    """That of several instances. An event is there once it has come back from their log, which gives it its number."""

    def __init__(
        self, feed: Feed, *, clock: Clock, key_name: Callable[[str], str | None], instance: str
    ) -> None:
        super().__init__(feed, clock=clock, key_name=key_name)
        self._instance = instance
        self._came = asyncio.Event()

    async def reached(self, id: int) -> None:
        """Return once the event with this id has come back, or after BACK_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BACK_S):
                while self.newest < id:
                    self._came.clear()
                    await self._came.wait()

    def take(self, event: Event) -> None:
        """Keep the next event of the log, whichever instance it is of."""
        if event["id"] <= self.newest:  # the store has lost the last ones, and numbers them anew
            self._events.clear()
        self._keep(event)
        self._came.set()

    def _note(self, event: Event) -> None:
        self._on_event(event | {"instance": self._instance})


def _ignore(event: Event) -> None:
    """Stand in for the archive until there is one."""
