"""The feed's topics: what a reader gets from the revision that it has is what there is now, however it came here."""

from __future__ import annotations

import asyncio
import json
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.dashboard import revisions as module
from proxy.dashboard.event_log import MOST, EventLog
from proxy.dashboard.revisions import EVENTS, FIRST_LINES, PIECE_BYTES, Revisions, Source
from proxy.feed import Feed, Happened
from proxy.slices import at_once
from tests.service import TestClock

Items = dict[str, dict[str, Any]]


class Page:
    """What a dashboard does with the frames of one topic."""

    def __init__(self) -> None:
        self.items: Items = {}
        self.rev = 0

    def take(self, frames: list[str]) -> list[dict[str, Any]]:
        """Apply frames; what they were."""
        read = [json.loads("{" + frame) for frame in frames]
        if read[0]["t"] == "snap":
            self.items = {}
        for frame in read:
            for id, fields in (frame.get("items") or frame.get("set") or {}).items():
                self.items.setdefault(id, {}).update(fields)
            for id in frame.get("del", ()):
                self.items.pop(id, None)
        self.rev = read[-1]["rev"]
        return read


class World:
    """A feed over things that a test sets."""

    def __init__(self) -> None:
        self.things: Items = {}
        self.views = 0
        self.feed = Feed()
        self.chronicle = EventLog(self.feed, clock=TestClock())
        self.live = self.make()

    def make(self) -> Revisions:
        source = Source(lambda: list(self.things), self.view)
        return Revisions(self.feed, {"things": source}, {EVENTS: self.chronicle}, epoch="e")

    def view(self, id: str) -> dict[str, Any] | None:
        self.views += 1
        return self.things.get(id)

    def set(self, id: str, **fields: Any) -> None:
        self.things[id] = self.things.get(id, {"a": 0, "b": 0}) | fields
        self.feed.touch("things", id)

    def delete(self, id: str) -> None:
        del self.things[id]
        self.feed.touch("things", id)

    def frames(self, since: int) -> list[str]:
        if self.live.watched:
            at_once(self.live.reading(["things"]))
        return self.live.frames("things", since)[1]


@pytest.fixture
def world() -> Iterator[World]:
    yield World()


def test_a_new_reader_gets_everything(world: World) -> None:
    world.set("x", a=1)
    (frame,) = Page().take(world.frames(0))
    assert (frame["t"], frame["items"]) == ("snap", {"x": {"a": 1, "b": 0}})


def test_what_was_there_before_the_feed_is_shown_too() -> None:
    world = World()
    world.things["x"] = {"a": 1}
    assert Page().take(world.make().frames("things", 0)[1])[0]["items"] == {"x": {"a": 1}}


def test_only_the_fields_that_changed_are_sent(world: World) -> None:
    world.set("x")
    world.set("y")
    page = Page()
    page.take(world.frames(0))
    world.set("x", b=2)
    (frame,) = page.take(world.frames(page.rev))
    assert (frame["t"], frame["set"], frame["del"]) == ("delta", {"x": {"b": 2}}, [])


def test_of_many_changes_only_the_last_is_sent(world: World) -> None:
    page = Page()
    page.take(world.frames(0))
    for n in range(1000):
        world.set("x", a=n)
        world.frames(page.rev)
    (frame,) = page.take(world.frames(page.rev))
    assert frame["set"] == {"x": {"a": 999, "b": 0}}


def test_a_touch_that_changes_nothing_sends_nothing(world: World) -> None:
    world.set("x")
    rev = world.live.rev("things")
    world.feed.touch("things", "x")
    world.feed.touch("things", "never there")
    assert world.live.rev("things") == rev


def test_a_reader_that_is_up_to_date_gets_an_empty_delta(world: World) -> None:
    world.set("x")
    (frame,) = Page().take(world.frames(world.live.rev("things")))
    assert (frame["t"], frame["set"], frame["del"]) == ("delta", {}, [])


def test_a_revision_that_was_never_reached_gets_everything(world: World) -> None:
    world.set("x")
    assert Page().take(world.frames(99))[0]["t"] == "snap"


def test_after_too_many_deletions_a_reader_gets_everything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TOMBSTONES", 3)
    for n in range(5):
        world.set(str(n))
    old = world.live.rev("things")
    for n in range(4):
        world.delete(str(n))
        newer = world.live.rev("things")
    assert Page().take(world.frames(old))[0]["t"] == "snap"
    assert Page().take(world.frames(newer))[0]["t"] == "delta"


def test_frames_are_bounded_and_say_that_more_comes(world: World) -> None:
    for n in range(2000):
        world.set(str(n), a="x" * 100)
    page = Page()
    snapshot = world.frames(0)
    assert all(len(frame) < PIECE_BYTES + 1000 for frame in snapshot)
    assert [frame.get("more") for frame in page.take(snapshot)] == [True] * (len(snapshot) - 1) + [None]
    assert page.items == world.things
    for n in range(2000):
        world.set(str(n), a="y" * 100)
    delta = world.frames(page.rev)
    assert len(delta) > 1 and all(len(frame) < PIECE_BYTES + 1000 for frame in delta)
    page.take(delta)
    assert page.items == world.things


def test_whatever_is_touched_while_nobody_looks_takes_little_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TOUCHED", 10)

    def touch(numbers: range) -> None:
        for n in numbers:
            world.feed.touch("things", f"id {n}")  # of what is no longer there

    touch(range(100))
    tracemalloc.start()
    try:
        touch(range(100, 2_100))
        assert tracemalloc.get_traced_memory()[0] < 4_000  # an id alone has fifty bytes
    finally:
        tracemalloc.stop()


def test_nothing_is_read_again_while_nobody_looks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TOUCHED", 10)
    world.set("x")
    world.frames(0)
    read_before = world.views
    for n in range(100):
        world.set(f"id {n}")
    assert world.views == read_before


@pytest.mark.parametrize("seed", range(200))
async def test_any_reader_ends_where_the_server_is(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TOMBSTONES", 4)
    monkeypatch.setattr(module, "MOST_TOUCHED", 3)
    monkeypatch.setattr(module, "PIECE_BYTES", 80)
    rng, world = random.Random(seed), World()
    if seed % 2:
        world.live.follow(asyncio.Event())
    pages = [Page() for _ in range(3)]
    for _ in range(60):
        id = rng.choice("abcdefgh")
        if id in world.things and rng.random() < 0.4:
            world.delete(id)
        else:
            world.set(id, **{rng.choice("ab"): rng.randrange(3)})
        if rng.random() < 0.3:
            page = rng.choice(pages)
            page.take(world.frames(page.rev))
            assert page.items == world.things
    for page in pages:
        page.take(world.frames(page.rev))
        assert page.items == world.things


def test_events_are_numbered_and_only_newer_ones_are_sent(world: World) -> None:
    for n in range(3):
        world.feed.tell(Happened("thing.done", f"thing {n}"))
    rev, (frame,) = world.live.frames("events", 1)
    read = json.loads("{" + frame)
    assert (rev, read["rev"], [event["id"] for event in read["items"]]) == (3, 3, [2, 3])
    assert "dropped" not in read
    assert read["items"][0] == {
        "id": 2, "at": "2027-01-15T08:00:00.000Z", "level": "info", "kind": "thing.done", "text": "thing 1",
        "actor": {"kind": "system", "id": None, "name": None, "address": None},
        "subject": None, "before": None, "after": None,
    }  # fmt: skip


def test_a_new_reader_gets_the_newest_events(world: World) -> None:
    for n in range(FIRST_LINES[EVENTS] + 50):
        world.feed.tell(Happened("thing.done", str(n)))
    events = json.loads("{" + world.live.frames("events", 0)[1][0])["items"]
    assert [event["text"] for event in events] == [str(n) for n in range(50, FIRST_LINES[EVENTS] + 50)]


def test_events_that_are_forgotten_are_counted(world: World) -> None:
    world.feed.tell(Happened("thing.done", "first"))
    for n in range(MOST + 7):
        world.feed.tell(Happened("thing.done", str(n)))
    assert json.loads("{" + world.live.frames("events", 1)[1][0])["dropped"] == 7


def test_readers_of_a_log_share_their_frames(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    since = world.chronicle.since
    monkeypatch.setattr(
        world.chronicle, "since", lambda id, most=MOST: (reads.append(id), since(id, most))[1]
    )
    world.feed.tell(Happened("server.note", "first"))
    world.feed.tell(Happened("server.note", "second"))
    assert world.live.frames(EVENTS, 1) == world.live.frames(EVENTS, 1)
    assert reads == [1]
    world.feed.tell(Happened("server.note", "third"))
    rev, (frame,) = world.live.frames(EVENTS, 1)
    assert (rev, [event["text"] for event in json.loads("{" + frame)["items"]]) == (3, ["second", "third"])


def test_who_follows_is_told_of_each_touch(world: World) -> None:
    news = asyncio.Event()
    world.live.follow(news)
    assert news.is_set()  # much may have changed before
    news.clear()
    world.set("x")
    assert news.is_set()
    news.clear()
    world.live.unfollow()
    world.set("x", a=5)
    assert not news.is_set()


@pytest.mark.parametrize("seed", range(100))
async def test_what_changes_between_two_steps_is_not_lost(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TOMBSTONES", 4)
    rng, world = random.Random(seed), World()
    pages = [Page() for _ in range(3)]
    world.live.follow(asyncio.Event())

    def change() -> None:
        id = rng.choice("abcdefgh")
        if id in world.things and rng.random() < 0.4:
            world.delete(id)
        else:
            world.set(id, **{rng.choice("ab"): rng.randrange(3)})
        if rng.random() < 0.1:  # somebody polls
            Page().take(world.frames(0))

    for _ in range(40):
        change()
        for _ in world.live.reading(["things"]):
            if rng.random() < 0.3:
                change()
        page = rng.choice(pages)
        for _ in world.live.making("things", page.rev):
            if rng.random() < 0.3:
                change()
        page.take(world.live.frames("things", page.rev)[1])
    for page in pages:
        page.take(world.frames(page.rev))
        assert page.items == world.things


def test_a_deletion_that_is_forgotten_between_two_steps_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TOMBSTONES", 1)
    page = Page()
    for id in ("gone", "stays", "goes"):
        world.set(id)
    page.take(world.frames(0))
    world.delete("gone")
    world.set("stays", a=1)
    world.live.rev("things")
    steps = world.live.making("things", page.rev)
    next(steps)
    world.delete("goes")
    world.live.rev("things")
    page.take(at_once(steps)[1])
    assert page.items.keys() == {"stays", "goes"}
    page.take(world.frames(page.rev))
    assert page.items == world.things


def test_each_step_reads_or_makes_one_thing(world: World) -> None:
    world.live.follow(asyncio.Event())
    for n in range(5):
        world.set(str(n))
    assert [world.views for _ in world.live.reading(["things"])] == [1, 2, 3, 4, 5]
    assert len(list(world.live.making("things", 0))) == 5
    assert list(world.live.making("things", 0)) == []  # they are made


def test_readers_of_a_log_are_led_to_the_same_line_though_more_come_meanwhile(world: World) -> None:
    world.live.follow(asyncio.Event())
    for n in range(3):
        world.feed.tell(Happened("thing.done", str(n)))
    at_once(world.live.reading([EVENTS]))
    for since in (0, 1, 2):
        world.feed.tell(Happened("thing.done", "meanwhile"))
        rev, (frame,) = world.live.frames(EVENTS, since)
        assert (rev, json.loads("{" + frame)["items"][-1]["id"]) == (3, 3)
    at_once(world.live.reading([EVENTS]))
    assert world.live.rev(EVENTS) == 6


def test_sums_are_read_again_now_and_then_if_anything_was_touched() -> None:
    feed, read = Feed(), []
    things = Source(lambda: ["x"], lambda id: {})
    sums = Source(lambda: ["all"], lambda id: {"read": read.append(id)}, moving=lambda: ["all"])
    live = Revisions(feed, {"things": things, "sums": sums}, {}, epoch="e")
    live.follow(asyncio.Event())

    def reads() -> int:
        read.clear()
        at_once(live.reading(["things", "sums"]))
        return len(read)

    assert reads() == 1
    feed.touch("things", "x")
    assert reads() == 0
    live.sum_up()
    assert reads() == 1
    live.sum_up()
    assert reads() == 0
