"""The events that an admin asks for: those in memory, then those on disk, newest first."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.dashboard.event_log import Event, EventLog
from proxy.storage.chain import PREVIOUS
from proxy.storage.layout import event_log
from proxy.storage.logs import parse
from proxy.storage.protocols import Storage

MOST_LINES: Final = 50_000
"""Lines that one search reads before it answers with what it has, but a day is read whole: 100,000 lines take 0.1 s."""

FIRST_ID: Final = 1
"""The id of the first event of all."""

_ID: Final = b'{"id": '
"""What each line begins with."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`kind`: a whole kind or what it begins with, such as `account` for `account.renamed`.

    `actor`: its kind, id or name. `subject`: the id of what they are about. `before`: the events have smaller ids. An
    empty filter takes all.
    """

    kind: str
    actor: str
    before: int
    limit: int
    subject: str = ""

    def takes(self, event: Event) -> bool:
        """Whether the event is asked for."""
        kind, actor = event["kind"], event["actor"]
        if self.actor and self.actor not in (actor["kind"], actor["id"], actor["name"]):
            return False
        if self.subject and self.subject != (event["subject"] or {}).get("id"):
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
        known = (event for event in reversed(self._events.since(0)) if event["id"] < asked.before)
        found = [event for event in known if asked.takes(event)][: asked.limit]
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
    """Takes the lines of one day, in the storage's thread.

    Nearly all are judged by their bytes: to parse 100,000 of them takes the interpreter half a second.
    """

    def __init__(self, asked: Asked, below: int, most: int) -> None:
        self._asked = asked
        self._below = below
        self._wanted = [
            json.dumps(text, ensure_ascii=False).encode() for text in (asked.actor, asked.subject) if text
        ]
        if asked.kind:
            self._wanted.append(f'"kind": "{asked.kind}'.encode())
        self._found: deque[bytes] = deque(maxlen=most)
        self._ended = False
        self.first: int | None = None
        self.lines = 0

    def take(self, line: bytes) -> None:
        """Look at one line; one that is no event was told of when the log was opened."""
        self.lines += 1
        if self._ended:
            return
        try:
            id = int(line[len(_ID) : line.index(b",")])
        except ValueError:
            return
        if self.first is None:
            self.first = id
        if id >= self._below:
            self._ended = True
            return
        for wanted in self._wanted:
            if wanted not in line:
                return
        if not self._wanted or self._asked.takes(parse(line)):
            self._found.append(line)

    def found(self) -> Iterable[Event]:
        """Newest first."""
        for line in reversed(self._found):
            with contextlib.suppress(ValueError):  # a crash has cut it short
                event = parse(line)
                event.pop(PREVIOUS, None)
                yield event
