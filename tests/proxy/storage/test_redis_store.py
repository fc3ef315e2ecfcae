"""Several instances on one Redis: what one changes, the others hear."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.storage.address import StoreAddress
from proxy.storage.envelope import Keyring
from proxy.storage.protocols import Snapshot, Stored
from proxy.storage.redis import RedisLink
from proxy.storage.redis_store import RedisStore
from tests.redis_server import RedisServer, redis_process
from tests.service import SteppedClock, until

KEY = bytes(range(32))


@dataclass
class Notes:
    """A follower that writes everything down."""

    changes: list[tuple[str, Stored]] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)

    def changed(self, id: str, stored: Stored) -> None:
        self.changes.append((id, stored))

    def compare(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)


@asynccontextmanager
async def instances(
    server: RedisServer,
    count: int = 2,
    *,
    clock: Clock | None = None,
    key: bytes | None = None,
    listening: bool = True,
) -> AsyncIterator[list[RedisStore]]:
    """So many instances on one server."""
    opened = []
    try:
        for n in range(count):
            link = RedisLink(StoreAddress.read(server.url), clock=clock or SteppedClock(), timeout_s=5)
            opened.append(
                await RedisStore.open(
                    link, instance=f"ins_{n:016x}", clock=clock or SteppedClock(), keyring=Keyring(key)
                )
            )
        for each in opened if listening else ():
            each.listen()
        yield opened
    finally:
        for each in opened:
            await each.close()


@pytest.mark.parametrize("key", [None, KEY])
async def test_others_hear_of_each_change_and_its_author_does_not(
    redis_server: RedisServer, key: bytes | None
) -> None:
    async with instances(redis_server, key=key) as (one, other):
        own, heard = Notes(), Notes()
        one.follow("accounts", own)
        other.follow("accounts", heard)
        first = await one.put("accounts", "a", {"n": 1})
        await one.put("tokens", "t", {"n": 1})
        await one.delete("accounts", "a")
        await until(lambda: len(heard.changes) == 2)
        assert heard.changes[0] == ("a", Stored(first, {"n": 1}))
        assert heard.changes[1][1].record is None
        assert own.changes == []


async def test_a_key_encrypts_what_is_stored(redis_server: RedisServer) -> None:
    async with instances(redis_server, 1, key=KEY) as (one,):
        await one.put("accounts", "a", {"secret": "of-the-account"})
        found = redis_server.call("HGETALL", one.link.key("records", "accounts"))
    assert b'"key": ' in found and b"of-the-account" not in found


async def test_a_start_with_another_key_writes_everything_anew(redis_server: RedisServer) -> None:
    async with instances(redis_server, 1) as (one,):
        await one.put("accounts", "a", {"secret": "of-the-account"})
    for key, old in ((KEY, None), (KEY[::-1], KEY), (None, KEY[::-1])):
        link = RedisLink(StoreAddress.read(redis_server.url), clock=SteppedClock(), timeout_s=5)
        keyring = Keyring(key, [old] if old else [])
        store = await RedisStore.open(link, instance="ins_0", clock=SteppedClock(), keyring=keyring)
        assert [notice.endswith("1 records") for notice in store.notices] == [True]
        found = redis_server.call("HGETALL", link.key("records", "accounts"))
        assert (b"of-the-account" in found) is (key is None)
        await store.close()
    async with instances(redis_server, 1) as (one,):
        assert one.notices == ()
        assert await one.load("accounts") == {"a": {"secret": "of-the-account"}}


async def test_one_record_that_cannot_be_read_does_not_hide_the_others(redis_server: RedisServer) -> None:
    async with instances(redis_server) as (one, other):
        heard = Notes()
        other.follow("accounts", heard)
        await one.put("accounts", "a", {"n": 1})
        redis_server.call("HSET", one.link.key("records", "accounts"), "b", "7 nonsense")
        redis_server.call("INCR", one.link.key("generation"))
        await one.put("accounts", "c", {"n": 1})
        await until(lambda: heard.snapshots)
        assert heard.snapshots[0].records.keys() == {"a", "c"}
        with pytest.raises(StorageError, match="accounts/b in the shared store cannot be read"):
            await one.load("accounts")


async def test_after_a_restart_of_the_store_everything_is_compared(redis_server: RedisServer) -> None:
    clock = SteppedClock()
    async with instances(redis_server, clock=clock) as (one, other):
        heard = Notes()
        other.follow("accounts", heard)
        await one.put("accounts", "a", {"n": 1})
        await until(lambda: heard.changes)
        redis_server.kill()
        await clock.asleep(0.25, 2)
        redis_server.start()
        clock.advance(6)
        await until(lambda: heard.snapshots)
        assert heard.snapshots[0].records == {}


async def test_changes_that_were_missed_are_compared(redis_server: RedisServer) -> None:
    async with instances(redis_server) as (one, other):
        heard = Notes()
        other.follow("accounts", heard)
        await one.put("accounts", "a", {"n": 1})
        await until(lambda: heard.changes)
        redis_server.call("INCR", one.link.key("generation"))  # as if a change had been trimmed away
        await one.put("accounts", "a", {"n": 2})
        await until(lambda: heard.snapshots)
        assert heard.snapshots[0].records["a"].record == {"n": 2}


async def test_a_snapshot_tells_what_was_deleted(redis_server: RedisServer) -> None:
    async with instances(redis_server) as (one, other):
        heard = Notes()
        other.follow("accounts", heard)
        await one.put("tokens", "b", {"n": 1})
        await one.put("accounts", "a", {"n": 1})
        await one.delete("accounts", "a")
        await one.delete("tokens", "b")
        redis_server.call("INCR", one.link.key("generation"))
        await one.put("accounts", "c", {"n": 1})
        await until(lambda: heard.snapshots)
        assert list(heard.snapshots[0].deleted) == ["a"]


async def test_lines_of_others_are_followed_from_where_the_log_was_read(redis_server: RedisServer) -> None:
    async with instances(redis_server) as (one, other):
        await one.append("resources", [{"n": 1}])
        read: list[int] = []
        await other.each_line("resources", lambda line: read.append(json.loads(line)["n"]))
        other.follow_log("resources", lambda line: read.append(json.loads(line)["n"]))
        await other.append("resources", [{"n": 2}])
        await one.append("resources", [{"n": 3}, {"n": 4}])
        await until(lambda: len(read) == 3)
        assert read == [1, 3, 4]


async def test_to_catch_up_is_to_have_every_line_of_now_once(redis_server: RedisServer) -> None:
    async with instances(redis_server) as (one, other):
        read: list[int] = []
        other.follow_log("resources", lambda line: read.append(json.loads(line)["n"]))
        for n in range(3):
            await one.append("resources", [{"n": n}])
            await other.catch_up()
            assert read == list(range(n + 1))
        await one.append("resources", [{"n": 3}])
        await until(lambda: len(read) == 4)
        assert read == [0, 1, 2, 3]


async def test_a_replacement_keeps_what_others_have_appended_meanwhile_and_nobody_takes_a_line_twice(
    redis_server: RedisServer,
) -> None:
    async with instances(redis_server, 3) as (one, other, third):
        read: list[int] = []
        third.follow_log("resources", lambda line: read.append(json.loads(line)["n"]))
        await one.append("resources", [{"n": 1}])
        assert [line["n"] for line in await other.read_log("resources")] == [1]
        await one.append("resources", [{"n": 2}])
        await third.catch_up()
        await other.replace_log("resources", [{"n": 100}])
        await one.append("resources", [{"n": 3}])
        assert [line["n"] for line in await other.read_log("resources")] == [100, 2, 3]
        await third.catch_up()
        await until(lambda: len(read) == 3)
        assert read == [1, 2, 3]


async def test_counters_are_added_up_over_the_instances(redis_server: RedisServer) -> None:
    async with instances(redis_server) as (one, other):
        day = {"name": "2026-11-29", "tokens": 5, "cost_usd": 0.5}
        await one.update("counters", {"a": {"requests": 10, "last_used_at": 5.0, "day": day}})
        assert (await other.load("counters"))["a"]["requests"] == 10
        for each, requests, at in ((one, 13, 7.0), (other, 15, 6.0)):
            more = {"name": "2026-11-29", "tokens": requests, "cost_usd": 0.75}
            await each.update("counters", {"a": {"requests": requests, "last_used_at": at, "day": more}})
        summed = (await one.load("counters"))["a"]
        assert summed == {
            "requests": 18,
            "last_used_at": 7,
            "day": {"name": "2026-11-29", "tokens": 23, "cost_usd": 1.0},
        }
        tomorrow = {"name": "2026-11-30", "tokens": 1, "cost_usd": 0.1}
        await other.update("counters", {"a": {"requests": 15, "last_used_at": 6.0, "day": tomorrow}})
        await one.update("counters", {"a": summed | {"requests": 20}})
        assert (await one.load("counters"))["a"] == summed | {"requests": 20, "day": tomorrow}


async def test_a_lease_of_a_dead_instance_ends_by_itself(redis_server: RedisServer) -> None:
    async with instances(redis_server) as (one, other):
        lease = await one.take("a", 0.05)
        assert lease is not None
        assert await other.take("a", 60) is None
        while (next := await other.take("a", 60)) is None:  # noqa: ASYNC110 - each turn asks the server
            await asyncio.sleep(0)
        assert next.fence > lease.fence
        assert not await one.renew(lease, 60)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], "forgets records"),
        (["--appendonly", "no"], "no append-only file"),
        (["--appendonly", "yes", "--appendfsync", "everysec"], "set appendfsync to always"),
    ],
)
async def test_a_server_that_does_not_keep_what_it_should_is_refused_with_the_fix(
    options: list[str], told: str
) -> None:
    with redis_process(*options) as server:
        link = RedisLink(StoreAddress.read(server.url), clock=SteppedClock(), timeout_s=5)
        with pytest.raises(StorageError, match=told):
            await RedisStore.open(link, instance="ins_0", clock=SteppedClock(), durability="aof")


async def test_without_a_replica_nothing_is_durable_on_one() -> None:
    with redis_process() as server:
        link = RedisLink(StoreAddress.read(server.url), clock=SteppedClock(), timeout_s=5)
        store = await RedisStore.open(link, instance="ins_0", clock=SteppedClock(), durability="replica")
        with pytest.raises(StorageError, match="not on a replica"):
            await store.put("accounts", "a", {"n": 1})
        await store.close()


async def test_a_lease_whose_answer_was_lost_is_taken_anew_by_its_own_instance_alone(
    redis_server: RedisServer,
) -> None:
    async with instances(redis_server) as (one, other):
        await one.link.run(
            "take", [one.link.key("lease", "a"), one.link.key("fence")], [one.instance, 60_000, ""]
        )
        assert await other.take("a", 60) is None
        lease = await one.take("a", 60)
        assert lease is not None
        assert await one.take("a", 60) is None
        await one.release(lease)
        assert await other.take("a", 60) is not None
