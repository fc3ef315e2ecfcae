"""The topics of the dashboard, with the revision at which each field changed last.

A reader that has revision r of a topic needs only the fields that changed after r. So even a slow reader costs no
memory here, and a value that has been replaced by another is never sent.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol, TypeAlias, TypeVar

import ujson

from proxy.feed import Feed
from proxy.slices import at_once

MOST_TOMBSTONES = 1000
"""Deleted ids that a topic remembers. A reader that missed more of them gets a new snapshot."""

MOST_TOUCHED = 10_000
"""Touched ids that a topic collects for its next reader. Of more, or while no dashboard is open, it collects none: the
reader has all of them re-read."""

MOST_MADE = 64
"""Start revisions for which the frames are cached, for other readers at the same revision."""

PIECE_BYTES = 60_000
EVENTS = "events"
REQUESTS = "requests"
FIRST_LINES = {EVENTS: 150, REQUESTS: 200}
"""Of each log, for a reader that has nothing of it: a frame takes that much."""

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]
Made: TypeAlias = tuple[int, list[str]]
"""A revision, and the frames that lead to it."""


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a topic. `ids`: its current entities. `view`: the JSON fields of one; None if it is gone.

    `moving`: ids to re-read a few times a second if anything was touched, because they aggregate other entities.
    """

    ids: Callable[[], Iterable[str]]
    view: Callable[[str], Mapping[str, Any] | None]
    moving: Callable[[], Iterable[str]] = tuple


class Log(Protocol):
    """The source of a topic that only grows: lines with a number as `id`, of which the last ones are kept."""

    @property
    def newest(self) -> int:
        """The number of the last line; 0 if there is none."""

    def since(self, number: int, most: int = ..., /) -> Iterable[dict[str, Any]]:
        """The newest lines after `number`, oldest first; by default as many as a reader may get at once."""


@dataclass(slots=True)
class _Entity:
    fields: dict[str, Any]
    revs: dict[str, int]
    rev: int

    def after(self, since: int) -> dict[str, Any]:
        """The fields that changed after that revision."""
        return {name: value for name, value in self.fields.items() if self.revs[name] > since}


@dataclass(slots=True)
class _Topic:
    """Entities by id in the order of their last change. Each change of one is a revision.

    Work of many entities is a generator, a step for each: others may have their turn between two steps, and may change
    the topic there.
    """

    name: str
    source: Source
    rev: int = 1
    entities: OrderedDict[str, _Entity] = field(default_factory=OrderedDict)
    deleted: OrderedDict[str, int] = field(default_factory=OrderedDict)
    horizon: int = 1  # the oldest revision from which all deletions are remembered
    touched: set[str] = field(default_factory=set)
    stale: bool = True  # any entity may have changed
    made: dict[int, Made] = field(default_factory=dict)  # by first revision

    def reading(self) -> Steps[None]:
        """Re-read as many entities as are touched now."""
        if self.stale:
            self.stale = False
            self.touched = {*self.source.ids(), *self.entities}
        for _ in range(len(self.touched)):
            if self.touched:
                self._look(self.touched.pop())
            yield

    def _look(self, id: str) -> None:
        """Re-read one entity. If it has changed, there is a new revision."""
        rev = self.rev + 1
        view, known = self.source.view(id), self.entities.get(id)
        if view is None:
            if known is None:
                return
            del self.entities[id]
            self.deleted[id] = rev
            if len(self.deleted) > MOST_TOMBSTONES:
                self.horizon = self.deleted.popitem(last=False)[1]
        elif known is None:
            self.deleted.pop(id, None)
            self.entities[id] = _Entity(dict(view), dict.fromkeys(view, rev), rev)
        else:
            changed = {name: value for name, value in view.items() if known.fields[name] != value}
            if not changed:
                return
            known.fields.update(changed)
            known.revs.update(dict.fromkeys(changed, rev))
            known.rev = rev
            self.entities.move_to_end(id)
        self.rev = rev
        self.made.clear()

    def making(self, since: int) -> Steps[Made]:
        """Make the frames that bring a reader from revision `since` to the current one, if they are not made yet.

        What changes between two steps may be among them, and comes again with the next revision.
        """
        if since not in self.made:
            first = since if self.horizon <= since <= self.rev else 0
            rev, items = self.rev, []
            # Now, since a tombstone may be forgotten between two steps.
            gone = [id for id, deleted_at in self.deleted.items() if deleted_at > first]
            for id in self._changed(first):
                if (entity := self.entities.get(id)) is not None:
                    items.append(f"{_json(id)}:{_json(entity.after(first))}")
                yield
            pieces = _packed(items)
            frames = self._delta(rev, pieces, gone) if first else self._snapshot(rev, pieces)
            _keep(self.made, since, (rev, frames))
        return self.made[since]

    def _changed(self, since: int) -> list[str]:
        """The ids of the entities that changed after that revision."""
        newest_first = reversed(self.entities.items())
        return [id for id, _ in takewhile(lambda item: item[1].rev > since, newest_first)]

    def _snapshot(self, rev: int, pieces: list[str]) -> list[str]:
        *begun, last = pieces
        head = f'"t":"snap","topic":{_json(self.name)},"rev":{rev},"items":{{'
        return [*(f'{head}{piece}}},"more":true}}' for piece in begun), f"{head}{last}}}}}"]

    def _delta(self, rev: int, pieces: list[str], gone: list[str]) -> list[str]:
        *begun, last = pieces
        head = f'"t":"delta","topic":{_json(self.name)},"rev":{rev},"set":{{'
        return [
            *(f'{head}{piece}}},"del":[],"more":true}}' for piece in begun),
            f'{head}{last}}},"del":{_json(gone)}}}',
        ]


@dataclass(slots=True)
class _Lines:
    """A log. Its readers get what there was at the last `reading`, so that they share their frames."""

    name: str
    log: Log
    rev: int = 0
    made: dict[int, Made] = field(default_factory=dict)  # by first revision

    def reading(self) -> Steps[None]:
        """Look which line is the last one."""
        if self.rev != self.log.newest:
            self.rev = self.log.newest
            self.made.clear()
        yield

    def making(self, since: int) -> Steps[Made]:
        """Make the frame of the lines after `since`, one a step; `dropped` are those that are missing between."""
        if since not in self.made:
            rev, lines = self.rev, []
            known = 0 < since <= rev
            for line in self.log.since(since) if known else self.log.since(0, FIRST_LINES[self.name]):
                if line["id"] > rev:
                    break
                lines.append(_json(line))
                yield
            dropped = rev - since - len(lines) if known else 0
            told = f',"dropped":{dropped}' if dropped else ""
            head = f'"t":"ev","topic":{_json(self.name)},"rev":{rev}'
            _keep(self.made, since, (rev, [f'{head},"items":[{",".join(lines)}]{told}}}']))
        return self.made[since]


class Revisions:
    """The topics of the dashboard, entities and logs. The feed's touches say which entities to re-read.

    Whoever follows re-reads them, at its own pace, before it asks for frames; if nobody follows, `frames` does so.
    """

    def __init__(
        self, feed: Feed, sources: Mapping[str, Source], logs: Mapping[str, Log], *, epoch: str
    ) -> None:
        self.epoch = epoch
        self._topics = {name: _Topic(name, source) for name, source in sources.items()}
        self._all: dict[str, _Topic | _Lines] = {
            **self._topics,
            **{name: _Lines(name, log) for name, log in logs.items()},
        }
        self._news: asyncio.Event | None = None
        self._touches = 0
        self._summed_at = 0  # the number of touches
        feed.on_touch(self._touched)

    def __contains__(self, topic: object) -> bool:
        return topic in self._all

    @property
    def watched(self) -> bool:
        """Whether somebody follows."""
        return self._news is not None

    def follow(self, news: asyncio.Event) -> None:
        """Set `news` whenever something may have changed, until `unfollow`."""
        self._news = news
        self.sweep()

    def unfollow(self) -> None:
        self._news = None

    def sweep(self) -> None:
        """Mark everything as possibly changed, since time alone may have changed it."""
        for topic in self._topics.values():
            topic.stale = True
        self._tell()

    def sum_up(self) -> None:
        """Mark what aggregates other entities as possibly changed, if any of these was touched since the last call."""
        if self._touches != self._summed_at:
            for name, topic in self._topics.items():
                for id in topic.source.moving():
                    self._touched(name, id)
            self._summed_at = self._touches

    def reading(self, topics: Iterable[str]) -> Steps[None]:
        """Re-read what was touched of these topics, an entity a step."""
        for name in topics:
            yield from self._all[name].reading()

    def making(self, topic: str, since: int) -> Steps[Made]:
        """Make what `frames` returns, a part a step."""
        return self._all[topic].making(since)

    def frames(self, topic: str, since: int) -> Made:
        """The current revision, and the frames that lead to it from `since`; 0 for a reader that has nothing.

        A frame is a JSON object without its first brace, so that the sender can put its number in front.
        """
        if not self.watched:
            at_once(self.reading([topic]))
        return at_once(self.making(topic, since))

    def rev(self, topic: str) -> int:
        """The revision that the topic has reached."""
        if not self.watched:
            at_once(self.reading([topic]))
        return self._all[topic].rev

    def _touched(self, topic: str, id: str) -> None:
        self._touches += 1
        found = self._topics.get(topic)
        if found is not None and not found.stale:
            if self._news is not None and len(found.touched) < MOST_TOUCHED:
                found.touched.add(id)
            else:
                found.stale = True
                found.touched.clear()
        self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()


def _keep(all_made: dict[int, Made], since: int, made: Made) -> None:
    if len(all_made) >= MOST_MADE:
        all_made.clear()
    all_made[since] = made


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
