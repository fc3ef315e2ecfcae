"""Tables of several instances on one Redis: every one ends with what is stored, and no change is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import pytest

from proxy.errors import StorageError
from proxy.jobs import Jobs
from proxy.storage.address import StoreAddress
from proxy.storage.protocols import Record
from proxy.storage.redis import RedisLink
from proxy.storage.redis_store import RedisStore
from proxy.storage.shared_table import SharedTable
from tests.redis_server import RedisServer
from tests.service import SteppedClock, until

Item = Mapping[str, object]


class Instance:
    """A store, its table of accounts, and what its owner was told."""

    def __init__(self, store: RedisStore, clock: SteppedClock) -> None:
        self.store = store
        self.clock = clock
        self.jobs = Jobs()
        self.told: list[tuple[Item | None, Item | None]] = []

    async def open(self) -> None:
        stored = await self.store.stored("accounts")
        self.table: SharedTable[Item] = SharedTable(
            "accounts",
            [(id, each.record) for id, each in stored.items() if each.record is not None],
            record=dict,
            read=read,
            stored=stored,
            storage=self.store,
            jobs=self.jobs,
            leased=["credential"],
        )
        self.table.on_change(lambda old, new: self.told.append((old, new)))
        self.store.listen()

    async def change(self, id: str, **fields: object) -> None:
        await self.table.commit(id, {**self.table[id], **fields})


def read(id: str, record: Record) -> Item:
    if "broken" in record:
        raise ValueError("broken is not known")
    return record


@asynccontextmanager
async def pool(server: RedisServer, count: int = 2) -> AsyncIterator[list[Instance]]:
    made = []
    try:
        for n in range(count):
            clock = SteppedClock()
            link = RedisLink(StoreAddress.read(server.url), clock=clock, timeout_s=5)
            made.append(Instance(await RedisStore.open(link, instance=f"ins_{n}", clock=clock), clock))
            await made[-1].open()
        yield made
    finally:
        for each in made:
            await each.jobs.close()
            await each.store.close()


@contextmanager
def away(server: RedisServer, *instances: Instance, keeps: bool = True) -> Iterator[None]:
    """The store has ended meanwhile."""
    server.stop() if keeps else server.kill()
    yield
    server.start()
    for each in instances:
        each.clock.advance(6)


async def saved(*instances: Instance) -> None:
    """Save again, as a job does each second, until all is saved."""
    async with asyncio.timeout(5):
        for each in instances:
            while each.table.unsaved:
                each.clock.advance(1)
                await each.table.save_again()


async def test_a_change_is_everywhere_and_owners_are_told_of_those_of_others(
    redis_server: RedisServer,
) -> None:
    async with pool(redis_server) as (one, other):
        await one.table.commit("a", {"n": 1})
        await until(lambda: dict(other.table) == {"a": {"n": 1}})
        await other.change("a", n=2)
        await until(lambda: one.table["a"] == {"n": 2})
        await one.table.forget("a")
        await until(lambda: not other.table)
        assert one.told == [({"n": 1}, {"n": 2})]
        assert other.told == [(None, {"n": 1}), ({"n": 2}, None)]


async def test_two_changes_at_once_of_different_fields_are_both_kept(redis_server: RedisServer) -> None:
    async with pool(redis_server) as (one, other):
        await one.table.commit("a", {"n": 1, "m": 1})
        await until(lambda: other.table)
        await asyncio.gather(one.change("a", n=2), other.change("a", m=2))
        for each in (one, other):
            await until(lambda each=each: each.table["a"] == {"n": 2, "m": 2})
        assert (await one.store.get("accounts", "a")).record == {"n": 2, "m": 2}


async def test_what_was_deleted_elsewhere_stays_deleted_whoever_changes_it_at_once(
    redis_server: RedisServer,
) -> None:
    async with pool(redis_server) as (one, other):
        for id in ("a", "b"):
            await one.table.commit(id, {"n": 1})
        await until(lambda: len(other.table) == 2)
        await asyncio.gather(one.table.forget("a"), other.change("a", n=2))
        await asyncio.gather(one.change("b", n=2), other.table.forget("b"))
        await until(lambda: not one.table and not other.table)
        assert await one.store.load("accounts") == {}


async def test_any_mix_of_changes_ends_alike_everywhere(redis_server: RedisServer) -> None:
    rng = random.Random(7)
    async with pool(redis_server, 3) as instances:
        tasks = []
        for n in range(300):
            table, id = rng.choice(instances).table, rng.choice("abcdef")
            if id in table and rng.random() < 0.2:
                tasks.append(table.forget(id))
            elif id in table:
                tasks.append(table.commit(id, {**table[id], rng.choice("xyz"): n}))
            else:
                tasks.append(table.commit(id, {"n": n}))
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        stored = await instances[0].store.load("accounts")
        for each in instances:
            await until(lambda table=each.table: dict(table) == stored)
            assert not each.table.unsaved


async def test_changes_without_the_store_are_kept_and_merged_when_it_is_back(
    redis_server: RedisServer,
) -> None:
    async with pool(redis_server) as (one, other):
        await one.table.commit("a", {"n": 1, "m": 1})
        await until(lambda: other.table)
        with away(redis_server, one, other):
            with pytest.raises(StorageError):
                await one.change("a", n=2)
            with pytest.raises(StorageError):
                await other.change("a", m=2)
            assert list(one.table.unsaved) == ["a"]
            await one.clock.asleep(0.25)
            await other.clock.asleep(0.25)
        await saved(one, other)
        for each in (one, other):
            await until(lambda each=each: each.table["a"] == {"n": 2, "m": 2})


async def test_tokens_that_could_not_be_saved_do_not_replace_those_of_a_later_refresh(
    redis_server: RedisServer,
) -> None:
    async with pool(redis_server) as (one, other):
        await one.table.commit("a", {"credential": 1, "name": "a"})
        await until(lambda: other.table)
        with away(redis_server, one, other), pytest.raises(StorageError):
            await one.change("a", credential=2, name="b")
        await other.change("a", credential=3)
        await saved(one)
        for each in (one, other):
            await until(lambda each=each: each.table["a"] == {"credential": 3, "name": "b"})


async def test_what_the_store_has_lost_is_written_again(redis_server: RedisServer) -> None:
    async with pool(redis_server) as (one, other):
        await one.table.commit("a", {"n": 1})
        await one.table.commit("b", {"n": 1})
        await one.change("b", n=2)
        await until(lambda: len(other.table) == 2 and other.table["b"] == {"n": 2})
        with away(redis_server, one, other, keeps=False):
            await one.clock.asleep(0.25)
            await other.clock.asleep(0.25)
        await until(lambda: one.table.unsaved)
        assert dict(one.table) == {"a": {"n": 1}, "b": {"n": 2}}
        await saved(one, other)
        assert await one.store.load("accounts") == {"a": {"n": 1}, "b": {"n": 2}}
        await until(lambda: dict(other.table) == dict(one.table) and not other.table.unsaved)


async def test_a_store_that_is_full_keeps_nobody_from_anything_else(redis_server: RedisServer) -> None:
    async with pool(redis_server) as (one, other):
        await one.table.commit("a", {"n": 1})
        await until(lambda: other.table)
        redis_server.call("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(StorageError, match="maxmemory"):
                await one.change("a", n=2)
        finally:
            redis_server.call("CONFIG", "SET", "maxmemory", "0")
        assert one.table["a"] == {"n": 2} and list(one.table.unsaved) == ["a"]
        assert one.store.away is None
        await saved(one)
        await until(lambda: other.table["a"] == {"n": 2})


async def test_a_record_of_a_newer_version_is_left_as_it_was(redis_server: RedisServer) -> None:
    async with pool(redis_server) as (one, other):
        await one.table.commit("a", {"n": 1})
        await until(lambda: other.table)
        await one.change("a", broken=1)
        await one.table.commit("b", {"n": 1})
        await until(lambda: len(other.table) == 2)
        assert other.table["a"] == {"n": 1}
