"""Where resources live: what is told is on disk, what is over may come back, and a full disk loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest

from proxy.accounts import resources as places
from proxy.accounts.conversations import MOST, MOST_AT_ONCE, Conversations
from proxy.accounts.resources import DAY_S, Resources
from proxy.errors import StorageError, StoreAway
from proxy.storage.protocols import Record
from tests.memory import traced
from tests.service import TestClock, until


class Logs:
    """The logs of a storage, in memory. An append waits until `may_go`, and fails while the disk is `full`."""

    is_shared = False
    away: str | None = None

    def __init__(self) -> None:
        self.lines: list[Record] = []
        self.full = False
        self.appended = 0
        self.full_after: int | None = None
        self.replaced = 0
        self.waiting = 0
        self.is_shared = False
        self.may_go = asyncio.Event()
        self.may_go.set()

    async def append(self, log: str, lines: Iterable[Record], *, durable: bool = False) -> None:
        self.waiting += 1
        await self.may_go.wait()
        self.waiting -= 1
        if self.full:
            raise StorageError("no space left on device")
        self.appended += 1
        self.full = self.appended == self.full_after
        self.lines += lines

    async def replace_log(self, log: str, lines: Iterable[Record]) -> None:
        self.waiting += 1
        await self.may_go.wait()
        self.waiting -= 1
        if self.full:
            raise StorageError("no space left on device")
        self.replaced += 1
        self.lines = list(lines)

    async def each_line(self, log: str, take: Callable[[bytes], object]) -> None: ...

    def has(self, id: str) -> bool:
        return any(line.get("id") == id for line in self.lines)


@pytest.fixture
def logs(io_loop: object) -> Logs:
    return Logs()


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def resources(logs: Logs, clock: TestClock) -> Resources:
    return Resources(logs, clock=clock)  # type: ignore[arg-type]


async def test_who_hears_of_it_while_another_one_saves_it_waits_too(resources: Resources, logs: Logs) -> None:
    logs.may_go.clear()
    assert resources.learn(["file_1"], "a", "g", "files")
    first = asyncio.create_task(resources.save())
    await until(lambda: logs.waiting)
    assert resources.learn(["file_1"], "a", "g", "files"), "it is not on disk yet"
    second = asyncio.create_task(resources.save())
    await asyncio.sleep(0)
    assert not second.done()
    logs.may_go.set()
    await asyncio.gather(first, second)
    assert logs.has("file_1") and not resources.learn(["file_1"], "a", "g", "files")


async def test_what_a_client_that_left_was_to_save_is_saved_later(resources: Resources, logs: Logs) -> None:
    logs.may_go.clear()
    logs.full = True
    resources.learn(["file_1"], "a", "g", "files")
    left = asyncio.create_task(resources.save())
    await until(lambda: logs.waiting)
    left.cancel()
    await asyncio.wait([left])
    logs.full = False
    logs.may_go.set()
    await resources.save()
    assert logs.has("file_1")


async def test_as_long_as_anything_is_not_saved_it_is_said(resources: Resources, logs: Logs) -> None:
    logs.may_go.clear()
    logs.full = True
    resources.learn(["file_1"], "a", "g", "files")
    first = asyncio.create_task(resources.save())
    await until(lambda: logs.waiting)
    resources.learn(["file_2"], "a", "g", "files")
    second = asyncio.create_task(resources.save())
    logs.may_go.set()
    for each in (first, second):
        with pytest.raises(StorageError):
            await each
    assert resources.unsaved is not None
    logs.full = False
    await resources.save()
    assert resources.unsaved is None and logs.has("file_1") and logs.has("file_2")


def test_one_that_is_over_is_learnt_anew(resources: Resources, clock: TestClock) -> None:
    resources.learn(["msgbatch_1"], "a", "g", "batches")
    clock.advance(40 * DAY_S)
    assert resources.get("msgbatch_1") is None
    assert resources.learn(["msgbatch_1"], "a", "g", "batches")
    assert resources.get("msgbatch_1") is not None and resources.count_of("a") == 1


# ---- conversations


@pytest.fixture
def conversations(logs: Logs, clock: TestClock) -> Conversations:
    return Conversations(logs, clock=clock, ttl_s=3600)  # type: ignore[arg-type]


def written(logs: Logs) -> list[tuple[str, str]]:
    """The names of conversations in the log, each with its account."""
    return [
        (of, line["account"])
        for line in logs.lines
        for some in line.get("groups", {}).values()
        for of in some
    ]


async def hanging_save(conversations: Conversations, logs: Logs) -> asyncio.Task[None]:
    """A save that has begun, and waits until it `may_go`."""
    logs.may_go.clear()
    saving = asyncio.create_task(conversations.save())
    await until(lambda: logs.waiting)
    return saving


async def test_while_the_disk_is_full_no_more_conversations_are_held_than_ever(
    conversations: Conversations, logs: Logs
) -> None:
    for n in range(3):
        conversations.keep([("g", f"{n}")], "a")
    await conversations.save()
    logs.full = True
    for n in range(MOST + 1000):
        conversations.keep([("g", f"new {n}")], "a")
        if n % 20_000 == 0:
            with pytest.raises(StorageError):
                await conversations.save()
    logs.full = False
    await conversations.save()
    # A hundredth was forgotten twice, each time the oldest: these are the latest, and all of them.
    kept = [f"new {n}" for n in range(2 * MOST // 100 - 3, MOST + 1000)]
    assert [of for of, _ in written(logs)] == kept and len(kept) <= MOST


async def test_a_save_that_was_cancelled_is_made_up_for(conversations: Conversations, logs: Logs) -> None:
    conversations.keep([("g", "1")], "a")
    await conversations.save()
    conversations.keep([("g", "2")], "a")
    saving = await hanging_save(conversations, logs)
    saving.cancel()
    await asyncio.wait([saving])
    logs.may_go.set()
    await conversations.save()
    assert [of for of, _ in written(logs)] == ["1", "2"]


async def test_what_changes_while_all_is_written_anew_is_written_as_it_is_then(
    conversations: Conversations, logs: Logs
) -> None:
    for name in "changed", "same":
        conversations.keep([("g", name)], "a")
    saving = await hanging_save(conversations, logs)
    conversations.keep([("g", "changed")], "b")
    conversations.keep([("g", "new")], "b")
    logs.may_go.set()
    await saving
    await conversations.save()
    assert dict(written(logs)) == {"changed": "b", "same": "a", "new": "b"}


async def test_a_save_that_hangs_lets_no_more_wait_than_are_held(
    conversations: Conversations, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.accounts.conversations.MOST", 5000)
    conversations.keep([("g", "first")], "a")
    await conversations.save()
    conversations.keep([("g", "second")], "a")
    saving = await hanging_save(conversations, logs)
    with traced() as taken:
        for n in range(10_000):
            conversations.keep([("g", n)], "a")
        once = taken()
        for n in range(10_000, 30_000):
            conversations.keep([("g", n)], "a")
        assert taken() < 1.2 * once
    logs.may_go.set()
    await saving
    await conversations.save()
    assert len(written(logs)) == len(conversations)
    assert written(logs)[-1] == (29_999, "a")


# ---- where instances share them


async def test_resources_are_saved_in_parts_and_while_the_store_is_away_none_is_made(
    resources: Resources, logs: Logs
) -> None:
    ids = [f"file_{n}" for n in range(2 * places.MOST_AT_ONCE + 7)]
    resources.learn(ids, "a", "g", "files")
    logs.away = "it is away"
    with pytest.raises(StoreAway):
        await resources.save()
    assert (logs.appended, logs.lines) == (0, []) and resources.unsaved is not None
    logs.away, logs.full_after = None, 2
    with pytest.raises(StorageError):
        await resources.save()
    assert resources.learn(ids[:1], "a", "g", "files") is False and resources.learn(
        ids[-1:], "a", "g", "files"
    )
    logs.full = False
    await resources.save()
    assert logs.appended == 3 and resources.unsaved is None
    assert [line["id"] for line in logs.lines if "id" in line] == ids


@pytest.fixture
def shared(logs: Logs, clock: TestClock) -> Conversations:
    logs.is_shared = True
    return Conversations(logs, clock=clock, ttl_s=3600)  # type: ignore[arg-type]


def have_turns(conversations: Conversations, count: int) -> None:
    for n in range(count):
        conversations.turn([("g", n)], "a", after=None)


def turns(logs: Logs) -> list[object]:
    return [of for line in logs.lines for of, *_ in line.get("turns", ())]


async def test_others_are_told_in_parts(shared: Conversations, logs: Logs) -> None:
    have_turns(shared, 3 * MOST_AT_ONCE)
    await shared.save()
    assert logs.appended == 3
    assert [of for of, _ in written(logs)] == turns(logs) == [*range(3 * MOST_AT_ONCE)]
    await shared.save()
    assert logs.appended == 3


async def test_what_others_were_told_before_the_store_failed_is_not_told_again(
    shared: Conversations, logs: Logs
) -> None:
    have_turns(shared, 3 * MOST_AT_ONCE)
    logs.full_after = 2
    with pytest.raises(StorageError):
        await shared.save()
    logs.full = False
    await shared.save()
    assert [of for of, _ in written(logs)] == turns(logs) == [*range(3 * MOST_AT_ONCE)]


async def test_while_the_store_is_away_nothing_is_made_for_it_and_the_latest_wait(
    shared: Conversations, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.away = "it is away"
    have_turns(shared, MOST + 2 * MOST_AT_ONCE)
    with monkeypatch.context() as patch, pytest.raises(StoreAway):
        patch.delattr("proxy.accounts.conversations._records")
        await shared.save()
    logs.away = None
    await shared.save()
    latest = MOST + 2 * MOST_AT_ONCE - 1
    assert written(logs)[-1] == (latest, "a") and turns(logs)[-1] == latest
    assert len(written(logs)) <= MOST and len(turns(logs)) == MOST
