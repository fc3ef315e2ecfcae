"""The feeder: what is new is made once, nobody waits for another, and requests go on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers import dashboards
from handlers.feeder import Feeder, News
from proxy import slices
from proxy.dashboard.revisions import Revisions, Source
from proxy.dashboard.topics import Topics
from proxy.feed import Feed
from proxy.jobs import Jobs
from proxy.simulator import quota_429
from tests.dashboards import dashboard
from tests.service import serve, until, upstream_key


class Reader:
    """Takes what is new of one topic, once in `interval_s`."""

    def __init__(self, interval_s: float = 0.0) -> None:
        self.topics = ("things",)
        self.rev = 0
        self.frames: list[str] = []
        self._interval_s = interval_s
        self.due_at = 0.0

    def bring_up_to_date(self, news: News) -> Iterator[None]:
        (self.rev,), frames = yield from news.making((("things", self.rev),))
        self.frames += frames
        self.due_at = asyncio.get_running_loop().time() + self._interval_s


class World:
    """Things, and a feeder of those who read them."""

    def __init__(self, jobs: Jobs) -> None:
        self.things: dict[str, dict[str, Any]] = {"x": {"a": 0}}
        self.feed = Feed()
        self.live = Revisions(self.feed, {"things": Source(self.things.keys, self.things.get)}, {}, epoch="e")
        self.readers: set[Reader] = set()
        self.feeder = Feeder(self.live, self.readers, jobs)

    def add(self, reader: Reader) -> Reader:
        self.readers.add(reader)
        self.feeder.hurry(reader)
        return reader

    def set(self, id: str, **fields: Any) -> None:
        self.things[id] = fields
        self.feed.touch("things", id)


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    jobs = Jobs()
    try:
        yield World(jobs)
    finally:
        await jobs.close()


def shown(reader: Reader) -> dict[str, Any]:
    items: dict[str, Any] = {}
    for frame in reader.frames:
        read = json.loads("{" + frame)
        items |= read.get("items", {}) | read.get("set", {})
    return items


async def test_all_are_brought_up_to_date_by_the_same_frames() -> None:
    async with world() as it:
        readers = [it.add(Reader()) for _ in range(3)]
        await until(lambda: all(reader.frames for reader in readers))
        it.set("x", a=1)
        await until(lambda: all(shown(reader) == {"x": {"a": 1}} for reader in readers))
        first, *others = readers
        assert all(reader.frames[-1] is first.frames[-1] for reader in others)


async def test_who_is_not_due_yet_holds_up_nobody_and_misses_nothing() -> None:
    async with world() as it:
        slow, fast = it.add(Reader(interval_s=3600)), it.add(Reader())
        await until(lambda: slow.frames and fast.frames)
        for n in range(3):
            it.set("x", a=n)
            await until(lambda n=n: shown(fast) == {"x": {"a": n}})
        assert shown(slow) == {"x": {"a": 0}}
        slow.due_at = 0.0
        it.feeder.hurry(slow)
        await until(lambda: shown(slow) == {"x": {"a": 2}})


async def test_who_has_left_is_followed_no_more() -> None:
    async with world() as it:
        reader = it.add(Reader())
        await until(lambda: reader.frames)
        read = len(reader.frames)
        it.readers.discard(reader)
        it.feeder.forget(reader)
        it.feeder.hurry(reader)
        assert not it.live.watched
        again = it.add(Reader())
        await until(lambda: again.frames)
        assert it.live.watched and len(reader.frames) == read


async def test_a_defect_of_one_view_does_not_end_it_for_good(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as it:
        reader = it.add(Reader())
        await until(lambda: reader.frames)
        it.things["broken"] = {"a": {1, 2}}  # no JSON
        it.feed.touch("things", "broken")
        await until(lambda: "job failed job=dashboards" in caplog.text)
        del it.things["broken"]
        it.set("x", a=5)
        it.feed.touch("things", "broken")
        it.feeder.hurry(reader)
        await until(lambda: shown(reader) == {"x": {"a": 5}})
        caplog.clear()


async def test_between_any_two_accounts_that_are_read_requests_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    turn, read_in = 0, []
    view = Topics.account

    def noted(topics: Topics, account_id: str) -> dict[str, Any]:
        read_in.append(turn)
        return view(topics, account_id)

    monkeypatch.setattr(Topics, "account", noted)
    async with serve(tmp_path, accounts=[f"a{n}" for n in range(20)]) as service, dashboard(service) as page:
        loop = asyncio.get_running_loop()

        def count() -> None:
            nonlocal turn
            turn += 1
            loop.call_soon(count)

        loop.call_soon(count)
        await page.hello("accounts", "stats")
        assert len(page.items["accounts"]) == 20
        assert len(set(read_in)) == len(read_in) >= 20
        count = lambda: None  # noqa: E731 - it ends


async def test_a_topic_that_is_asked_for_after_all_were_read_is_read_before_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets: list[dashboards.Socket] = []
    receive, reading, passes = dashboards.Socket.receive, Revisions.reading, itertools.count(1)

    def received(socket: dashboards.Socket, text: str | bytes) -> None:
        sockets.append(socket)
        receive(socket, text)

    def read(live: Revisions, topics: Iterable[str]) -> Iterator[None]:
        yield from reading(live, topics)
        if next(passes) == 2:  # in the first one it is greeted
            receive(sockets[0], '{"t":"sub","topic":"accounts"}')

    monkeypatch.setattr(dashboards.Socket, "receive", received)
    monkeypatch.setattr(Revisions, "reading", read)
    async with serve(tmp_path, accounts=["a", "b"]) as service, dashboard(service) as page:
        await page.hello("stats")
        assert (await page.read())["t"] == "snap" and len(page.items["accounts"]) == 2


async def test_news_follow_a_pong_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboards, "SLOWEST_HZ", 1e-6)
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.hello("accounts", hz=0)  # it is not due again in this test
        account, _ = await service.add_account("b")
        await page.send(t="ping", c=1)
        assert (await page.read())["t"] == "pong"
        assert (await page.read())["set"].keys() == {account.id}


async def test_a_state_that_changes_is_shown_before_the_next_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboards, "SUMS_S", 3600)
    async with serve(tmp_path, accounts=["a", "b"]) as service, dashboard(service) as page:
        service.parts.topics.tick()  # with the first one of a minute all is read again
        await page.hello("stats")
        service.simulator.script(upstream_key("a"), quota_429(reset_in=60))
        await service.message()
        stats = page.items["stats"]
        await page.until(lambda: stats["accounts"]["rate_limited"] == 1)
        assert stats["health"]["status"] == "degraded"
