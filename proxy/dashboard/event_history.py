"""The events that an admin asks for: those in memory, then those on disk, newest first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import DecodeError, Struct

from proxy.dashboard.event_log import Event, EventLog
from proxy.storage.chain import PREVIOUS
from proxy.storage.layout import event_log
from proxy.storage.logs import parse
from proxy.storage.protocols import Storage

MOST_LINES: Final = 50_000
"""Lines that one search reads before it answers with what it has, but a day is read whole: about 0.1 s."""


FIRST_ID: Final = 1
"""The id of the first event of all."""


class _Actor(Struct):
    kind: str
    id: str | None
    name: str | None


class _Head(Struct):
    """What is looked at of a stored event before it is taken."""

    id: int
    kind: str
    actor: _Actor


_HEAD: Final = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Asked:
    """`kind`: a whole kind or what it begins with, such as `account` for `account.renamed`.

    `actor`: its kind, id or name. `before`: the events have smaller ids. An empty filter takes all.
    """

    kind: str
    actor: str
    before: int
    limit: int

    def takes(self, id: int, kind: str, actor: tuple[str | None, ...]) -> bool:
        if id >= self.before or (self.actor and self.actor not in actor):
            return False
        return not self.kind or kind == self.kind or kind.startswith(f"{self.kind}.")


class EventHistory:
    """Searches the event log and what is stored of it."""

    def __init__(self, events: EventLog, storage: Storage) -> None:
        self._events = events
        self._storage = storage
        self._first_ids: dict[str, int] = {}  # by day, once it was read

    async def find(self, asked: Asked) -> tuple[list[Event], int | None]:
        """The newest events that are asked for, newest first; and before which id to go on, None if there are no more.

        Raises StorageError.
        """
        oldest = self._events.oldest
        found = [event for event in reversed(self._events.since(0)) if _takes(asked, event)][: asked.limit]
        below, lines = min(asked.before, oldest), 0
        days = iter(reversed(await self._storage.event_days()))
        while len(found) < asked.limit:
            if below <= FIRST_ID:
                return found, None
            day = next((day for day in days if self._first_ids.get(day, 0) < below), None)
            if day is None:
                return found, None
            if lines >= MOST_LINES:
                return found, below
            search = _Search(asked, below, asked.limit - len(found))
            await self._storage.each_line(event_log(day), search.take)
            found += search.found()
            lines += search.lines
            if search.first is not None:
                self._first_ids[day] = search.first
                below = min(below, search.first)
        return found, found[-1]["id"]


class _Search:
    """Takes the lines of one day, in the storage's thread."""

    def __init__(self, asked: Asked, below: int, most: int) -> None:
        self._asked = asked
        self._below = below
        self._found: deque[bytes] = deque(maxlen=most)
        self.first: int | None = None
        self.lines = 0

    def take(self, line: bytes) -> None:
        """Look at one line; one that is no event was told of when the log was opened."""
        try:
            head = _HEAD.decode(line)
        except (DecodeError, UnicodeDecodeError):
            return
        self.lines += 1
        if self.first is None:
            self.first = head.id
        actor = (head.actor.kind, head.actor.id, head.actor.name)
        if head.id < self._below and self._asked.takes(head.id, head.kind, actor):
            self._found.append(line)

    def found(self) -> Iterable[Event]:
        """Newest first."""
        for line in reversed(self._found):
            event = parse(line)
            event.pop(PREVIOUS, None)
            yield event


def _takes(asked: Asked, event: Event) -> bool:
    actor = event["actor"]
    return asked.takes(event["id"], event["kind"], (actor["kind"], actor["id"], actor["name"]))
