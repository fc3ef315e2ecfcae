"""What instances say to each other: each script on a real store, and what is heard of it."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from proxy.errors import StorageError
from proxy.storage.peers import Ring, Sum
from proxy.storage.redis_store import RedisStore
from tests.proxy.storage.test_redis_store import instances
from tests.redis_server import RedisServer
from tests.service import until

Heard = list[tuple[int, bytes]]
Told = list[tuple[int, str, str, bytes]]


# ---- ring.lua


async def test_lines_of_all_are_numbered_and_heard_in_one_order(redis_server: RedisServer) -> None:
    async with instances(redis_server, 3) as stores:
        heard: list[Heard] = [[] for _ in stores]
        for store, lines in zip(stores, heard, strict=True):
            await store.peers.read_newest("ring", None, then=lambda n, line, to=lines: to.append((n, line)))
        rings = [Ring(store.peers, "ring", most=1000) for store in stores]
        for n in range(300):
            rings[n % 3].put(b"line %d" % n)
        await asyncio.gather(*(ring.save() for ring in rings))
        await until(lambda: all(len(lines) == 300 for lines in heard))
        assert heard[0] == heard[1] == heard[2]
        assert [number for number, _ in heard[0]] == list(range(1, 301))
        assert {line for _, line in heard[0]} == {b"line %d" % n for n in range(300)}


async def test_a_ring_keeps_its_newest_lines_with_their_numbers(redis_server: RedisServer) -> None:
    async with instances(redis_server, 1) as (store,):
        for n in range(50):
            await store.peers.append_newest("ring", [b"line %d" % (10 * n + i) for i in range(10)], 100)
        found: Heard = []
        await store.peers.read_newest(
            "ring", lambda n, line: found.append((n, line)), then=lambda n, line: None
        )
        assert 100 <= len(found) < 300 and found[-1] == (500, b"line 499")
        assert all(b[0] == a[0] + 1 for a, b in pairwise(found))


async def test_two_saves_at_once_write_each_line_once(redis_server: RedisServer) -> None:
    async with instances(redis_server, 1) as (store,):
        ring = Ring(store.peers, "ring", most=1000)
        for n in range(10):
            ring.put(b"%d" % n)
        await asyncio.gather(ring.save(), ring.save(), ring.save())
        found: Heard = []
        await store.peers.read_newest(
            "ring", lambda n, line: found.append((n, line)), then=lambda n, line: None
        )
        assert found == [(n + 1, b"%d" % n) for n in range(10)]


async def test_what_could_not_be_written_is_written_later(redis_server: RedisServer) -> None:
    async with instances(redis_server, 1) as (store,):
        ring = Ring(store.peers, "ring", most=3)
        for n in range(5):
            ring.put(b"%d" % n)
        redis_server.call("SET", "{claude-proxy}:log:ring", "no stream")
        with pytest.raises(StorageError):
            await ring.save()
        redis_server.call("DEL", "{claude-proxy}:log:ring")
        await ring.save()
        found: Heard = []
        await store.peers.read_newest(
            "ring", lambda n, line: found.append((n, line)), then=lambda n, line: None
        )
        assert found == [(1, b"2"), (2, b"3"), (3, b"4")]


# ---- tell.lua


async def test_what_an_instance_tells_is_heard_and_is_there_for_who_comes_later(
    redis_server: RedisServer,
) -> None:
    async with instances(redis_server, 2) as (one, other):
        heard: Told = []
        await other.peers.follow(lambda *told: heard.append(told))
        assert not await one.peers.tell({"a": b"1", "b": b"2 of them"}, 15)
        assert await one.peers.tell({"a": b"", "c": b"3"}, 15)
        await until(lambda: len(heard) == 4)
        me = one.peers.instance
        assert heard == [
            (1, me, "a", b"1"),
            (2, me, "b", b"2 of them"),
            (3, me, "a", b""),
            (4, me, "c", b"3"),
        ]
        assert await other.peers.told() == {me: {"b": b"2 of them", "c": b"3"}}
        assert await other.peers.told([me, "ins_unknown"]) == {me: {"b": b"2 of them", "c": b"3"}}


async def test_what_it_told_ends_with_its_lease_or_when_it_leaves(redis_server: RedisServer) -> None:
    async with instances(redis_server, 2) as (one, other):
        await one.peers.tell({"a": b"1"}, 15)
        redis_server.call("PEXPIRE", "{claude-proxy}:told:ins_0000000000000000", "0")
        assert await other.peers.told() == {}
        assert not await one.peers.tell({"b": b"2"}, 15)
        heard: Told = []
        await other.peers.follow(lambda *told: heard.append(told))
        await one.peers.leave()
        await until(lambda: heard)
        assert heard[0][1:] == (one.peers.instance, "", b"")
        assert await other.peers.told() == {}


# ---- chain.lua


async def test_lines_are_chained_to_the_tip_that_is_there_or_not_at_all(redis_server: RedisServer) -> None:
    async with instances(redis_server, 2) as (one, other):
        assert await chain(one, "", "tip 1", 1) == "tip 1"
        assert await chain(other, "tip 0", "tip 2", 2) == "tip 1"
        assert await chain(other, "tip 1", "tip 2", 2) == "tip 2"
        assert [line["n"] for line in await one.read_log("events-2026-11-29")] == [1, 2]
        assert await one.event_days() == ["2026-11-29"]


async def chain(store: RedisStore, follows: str, makes: str, n: int) -> str:
    return await store.append_chained(
        "events-2026-11-29", [{"n": n}], follows=follows, makes=makes, durable=False
    )


# ---- use.lua


async def test_counters_add_up_over_instances(redis_server: RedisServer) -> None:
    async with instances(redis_server, 2) as (one, other):
        heard: list[tuple[str, Sum]] = []
        await one.sums.follow(lambda id, found: heard.append((id, found)))
        first = await one.sums.add({"a": ((10, 0, 0), Sum((1, 0, 0), 5.0, b"[5,{}]"))})
        second = await other.sums.add({"a": ((10, 0, 0), Sum((2, 1, 1), 4.0, b"[4,{}]"))})
        assert (first, second) == ({"a": (11, 0, 0)}, {"a": (13, 1, 1)})
        await until(lambda: len(heard) == 2)
        assert heard[1] == ("a", Sum((13, 1, 1), 5.0, b"[4,{}]"))
        assert await other.sums.sums() == {"a": heard[1][1]}
        await other.sums.forget(["a"])
        assert await one.sums.sums() == {}


# ---- logs that are read while they are followed


async def test_who_reads_a_log_that_is_followed_misses_no_line_of_it(redis_server: RedisServer) -> None:
    async with instances(redis_server, 2, listening=False) as (one, other):
        heard: list[bytes] = []
        one.follow_log("2026-11-29", heard.append)
        for n in range(40):
            await other.append("2026-11-29", [{"n": n}])
            if n % 2:
                assert len(await one.read_log("2026-11-29")) == n + 1
        one.listen()
        await until(lambda: len(heard) == 40)
        assert heard == [b'{"n": %d}' % n for n in range(40)]


async def test_a_replacement_keeps_what_was_heard_after_its_lines_were_read(
    redis_server: RedisServer,
) -> None:
    async with instances(redis_server, 2) as (one, other):
        heard: list[bytes] = []
        one.follow_log("2026-11-29", heard.append)
        await other.append("2026-11-29", [{"n": 1}, {"n": 2}])
        assert len(await one.read_log("2026-11-29")) == 2
        await other.append("2026-11-29", [{"n": 4}])
        await until(lambda: len(heard) == 3)
        await one.replace_log("2026-11-29", [{"n": 3}], as_read=True)
        assert await other.read_log("2026-11-29") == [{"n": 3}, {"n": 4}]
        await other.append("2026-11-29", [{"n": 5}])
        await until(lambda: len(heard) == 4)
        assert heard[-1] == b'{"n": 5}'
