"""The topics of the dashboard, with the revision at which each field changed last.

A reader that has revision r of a topic needs only the fields that changed after r. So even a slow reader costs no
memory here, and a value that has been replaced by another is never sent.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import ujson

from proxy.feed import Feed

MOST_TOMBSTONES = 1000
"""Deleted ids that a topic remembers. A reader that missed more of them gets a new snapshot."""

MOST_TOUCHED = 10_000
"""Touched ids that a topic collects for its next reader. Of more, or while no dashboard is open, it collects none: the
reader has all of them re-read."""

MOST_PIECES = 64
"""Start revisions for which the frames are cached, for other readers at the same revision."""

PIECE_BYTES = 60_000
EVENTS = "events"
REQUESTS = "requests"
FIRST_LINES = {EVENTS: 150, REQUESTS: 200}
"""Of each log, for a reader that has nothing of it: a frame takes that much."""


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a topic. `ids`: its current entities. `view`: the JSON fields of one; None if it is gone.

    `moving`: ids to re-read after any touch, because they aggregate other entities.
    """

    ids: Callable[[], Iterable[str]]
    view: Callable[[str], Mapping[str, Any] | None]
    moving: Callable[[], Iterable[str]] = tuple


class Log(Protocol):
    """The source of a topic that only grows: numbered lines, of which the last ones are kept."""

    @property
    def newest(self) -> int:
        """The number of the last line; 0 if there is none."""

    def since(self, number: int, most: int = ..., /) -> list[dict[str, Any]]:
        """The newest lines after `number`, oldest first; by default as many as a reader may get at once."""


@dataclass(slots=True)
class _Entity:
    fields: dict[str, Any]
    revs: dict[str, int]
    rev: int


@dataclass(slots=True)
class _Topic:
    """Entities by id in the order of their last change."""

    source: Source
    rev: int = 1
    entities: OrderedDict[str, _Entity] = field(default_factory=OrderedDict)
    deleted: OrderedDict[str, int] = field(default_factory=OrderedDict)
    horizon: int = 1  # the oldest revision from which all deletions are remembered
    touched: set[str] = field(default_factory=set)
    stale: bool = True  # any entity may have changed
    seen: int = 0  # the number of touches, of all topics, at the last `settle`
    pieces: dict[int, list[str]] = field(default_factory=dict)  # cached frames, by first revision

    def settle(self, touches: int) -> None:
        """Re-read the touched entities. `touches` is the number of touches of all topics so far."""
        if self.stale:
            self.stale = False
            self.touched = {*self.source.ids(), *self.entities}
        elif touches != self.seen:
            self.touched.update(self.source.moving())
        self.seen = touches
        if not self.touched:
            return
        touched, self.touched = self.touched, set()
        rev = self.rev + 1
        for id in touched:
            if self._look(id, rev):
                self.rev = rev
        if self.rev == rev:
            self.pieces.clear()

    def _look(self, id: str, rev: int) -> bool:
        """Re-read one entity. True if it has changed."""
        view, known = self.source.view(id), self.entities.get(id)
        if view is None:
            if known is not None:
                del self.entities[id]
                self.deleted[id] = rev
                if len(self.deleted) > MOST_TOMBSTONES:
                    self.horizon = self.deleted.popitem(last=False)[1]
            return known is not None
        if known is None:
            self.deleted.pop(id, None)
            self.entities[id] = _Entity(dict(view), dict.fromkeys(view, rev), rev)
            return True
        changed = {name: value for name, value in view.items() if known.fields[name] != value}
        if changed:
            known.fields.update(changed)
            known.revs.update(dict.fromkeys(changed, rev))
            known.rev = rev
            self.entities.move_to_end(id)
        return bool(changed)

    def frames(self, name: str, since: int) -> list[str]:
        """The frames that bring a reader from revision `since` to the current one, each without its first brace."""
        if not self.horizon <= since <= self.rev:
            since = 0
        if since not in self.pieces:
            if len(self.pieces) >= MOST_PIECES:
                self.pieces.clear()
            self.pieces[since] = self._snapshot(name) if since == 0 else self._delta(name, since)
        return self.pieces[since]

    def _snapshot(self, name: str) -> list[str]:
        items = (f"{_json(id)}:{_json(entity.fields)}" for id, entity in self.entities.items())
        *first, last = _packed(items)
        head = f'"t":"snap","topic":{_json(name)},"rev":{self.rev},"items":{{'
        return [*(f'{head}{piece}}},"more":true}}' for piece in first), f"{head}{last}}}}}"]

    def _delta(self, name: str, since: int) -> list[str]:
        *first, last = _packed(self._changes(since))
        gone = _json([id for id, rev in self.deleted.items() if rev > since])
        head = f'"t":"delta","topic":{_json(name)},"rev":{self.rev},"set":{{'
        return [
            *(f'{head}{piece}}},"del":[],"more":true}}' for piece in first),
            f'{head}{last}}},"del":{gone}}}',
        ]

    def _changes(self, since: int) -> Iterator[str]:
        for id in reversed(self.entities):
            entity = self.entities[id]
            if entity.rev <= since:
                break
            changed = {name: value for name, value in entity.fields.items() if entity.revs[name] > since}
            yield f"{_json(id)}:{_json(changed)}"


class Revisions:
    """The topics of the dashboard, entities and logs. The feed's touches say which entities to re-read."""

    def __init__(
        self, feed: Feed, sources: Mapping[str, Source], logs: Mapping[str, Log], *, epoch: str
    ) -> None:
        self.epoch = epoch
        self._topics = {name: _Topic(source) for name, source in sources.items()}
        self._logs = dict(logs)
        # Cached frames, by first revision.
        self._lines: dict[str, dict[int, list[str]]] = {name: {} for name in logs}
        self._waiting: set[asyncio.Event] = set()
        self._telling = False
        self._touches = 0
        feed.on_touch(self._touched)

    def __contains__(self, topic: object) -> bool:
        return topic in self._logs or topic in self._topics

    @property
    def watched(self) -> bool:
        """Whether a dashboard follows."""
        return bool(self._waiting)

    def sweep(self) -> None:
        """Mark everything as possibly changed, since time alone may have changed it."""
        for topic in self._topics.values():
            topic.stale = True
        self._tell_soon()

    def frames(self, topic: str, since: int) -> tuple[int, list[str]]:
        """The current revision, and the frames that lead to it from `since`; 0 for a reader that has nothing.

        A frame is a JSON object without its first brace, so that the sender can put its number in front.
        """
        if topic in self._logs:
            return self._lines_after(topic, since)
        found = self._topics[topic]
        found.settle(self._touches)
        return found.rev, found.frames(topic, since)

    def rev(self, topic: str) -> int:
        """The revision that the topic has reached."""
        if topic in self._logs:
            return self._logs[topic].newest
        found = self._topics[topic]
        found.settle(self._touches)
        return found.rev

    def follow(self, news: asyncio.Event) -> None:
        """Set `news` whenever something may have changed, until `unfollow`."""
        if not self._waiting:
            self.sweep()
        self._waiting.add(news)

    def unfollow(self, news: asyncio.Event) -> None:
        self._waiting.discard(news)

    def _lines_after(self, topic: str, since: int) -> tuple[int, list[str]]:
        """The lines of a log after `since`; `dropped` are those that are missing between."""
        found, pieces = self._logs[topic], self._lines[topic]
        newest = found.newest
        if since not in pieces:
            if len(pieces) >= MOST_PIECES:
                pieces.clear()
            known = 0 < since <= newest
            lines = found.since(since) if known else found.since(0, FIRST_LINES[topic])
            dropped = newest - since - len(lines) if known else 0
            told = f',"dropped":{dropped}' if dropped else ""
            head = f'"t":"ev","topic":{_json(topic)},"rev":{newest}'
            pieces[since] = [f'{head},"items":{_json(lines)}{told}}}']
        return newest, pieces[since]

    def _touched(self, topic: str, id: str) -> None:
        self._touches += 1
        if topic in self._lines:
            self._lines[topic].clear()
        found = self._topics.get(topic)
        if found is not None and not found.stale:
            if self._waiting and len(found.touched) < MOST_TOUCHED:
                found.touched.add(id)
            else:
                found.stale = True
                found.touched.clear()
        self._tell_soon()

    def _tell_soon(self) -> None:
        # Once per turn of the event loop, however many touches it brings.
        if self._waiting and not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        for news in self._waiting:
            news.set()


def _packed(items: Iterable[str]) -> list[str]:
    """The items joined by commas, in pieces of a bounded size; at least one."""
    pieces: list[str] = []
    taken: list[str] = []
    size = 0
    for item in items:
        if taken and size + len(item) > PIECE_BYTES:
            pieces.append(",".join(taken))
            taken, size = [], 0
        taken.append(item)
        size += len(item) + 1
    return [*pieces, ",".join(taken)]


def _json(value: object) -> str:
    return ujson.dumps(value, escape_forward_slashes=False)
