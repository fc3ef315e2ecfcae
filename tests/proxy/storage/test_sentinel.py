"""Sentinels say who the primary is, and after a failover the next connection goes to the new one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from proxy.clock import SystemClock
from proxy.errors import StorageError, StoreAway
from proxy.storage.address import StoreAddress
from proxy.storage.redis import RedisLink
from proxy.storage.redis_store import RedisStore
from tests.sentinels import is_primary, knows_replicas, on_port, sentinel, told
from tests.service import SteppedClock, until

T = TypeVar("T")


async def test_after_a_failover_writes_go_to_the_new_primary_and_nothing_is_lost() -> None:
    with on_port() as (first, port), on_port() as (second, other), sentinel(port) as watching:
        second.call("REPLICAOF", "127.0.0.1", str(port))
        address = StoreAddress.read(f"redis+sentinel://127.0.0.1:{watching}/pool")
        link = RedisLink(address, clock=SteppedClock(), timeout_s=5)
        store = await RedisStore.open(link, instance="ins_0", clock=SteppedClock(), durability="replica")
        generation = 0
        for _ in range(50):  # until the replica has caught up
            with contextlib.suppress(StorageError):
                generation = await store.put("accounts", "a", {"n": 1})
                break
        assert generation > 0
        second.call("REPLICAOF", "NO", "ONE")
        first.call("REPLICAOF", "127.0.0.1", str(other))
        told(watching, "SENTINEL", "REMOVE", "pool")
        told(watching, "SENTINEL", "MONITOR", "pool", "127.0.0.1", str(other), "1")
        with pytest.raises(StoreAway, match="it is a replica"):
            await store.put("accounts", "a", {"n": 2}, known=generation)
        stored = await store.get("accounts", "a")
        assert (stored.generation, stored.record) == (generation, {"n": 1})
        with contextlib.suppress(StorageError):  # it need not have a replica yet
            await store.put("accounts", "b", {"n": 1})
        assert second.call("HLEN", link.key("records", "accounts")) == b":2\r\n"
        await store.close()


async def test_a_name_that_no_sentinel_knows_is_told() -> None:
    with on_port() as (_, port), sentinel(port) as watching:
        address = StoreAddress.read(f"redis+sentinel://127.0.0.1:{watching}/other")
        link = RedisLink(address, clock=SteppedClock(), timeout_s=5)
        with pytest.raises(StoreAway, match="other"):
            await RedisStore.open(link, instance="ins_0", clock=SteppedClock())


async def test_what_counts_as_done_is_on_whichever_replica_is_chosen() -> None:
    """One replica lags behind, and is the one that the Sentinel prefers."""
    with on_port() as (primary, port), on_port() as (behind, _), on_port() as (other, _):
        quick = ("down-after-milliseconds 500", "failover-timeout 3000")
        for replica, priority in ((behind, "1"), (other, "100")):
            replica.call("CONFIG", "SET", "replica-priority", priority)
            replica.call("REPLICAOF", "127.0.0.1", str(port))
        await until(lambda: primary.call("INFO", "replication").count(b"state=online") == 2, 60)
        with sentinel(port, *quick) as watching:
            await until(lambda: knows_replicas(watching, 2), 60)
            address = StoreAddress.read(f"redis+sentinel://127.0.0.1:{watching}/pool")
            link = RedisLink(address, clock=SystemClock(), timeout_s=5)
            store = await RedisStore.open(link, instance="ins_0", clock=SystemClock(), durability="replica")
            await _in_time(lambda: store.put("accounts", "a", {"n": 1}))
            behind.pause()
            with pytest.raises(StorageError, match="not on all its replicas"):
                await store.put("accounts", "a", {"n": 2})
            behind.resume()
            await _in_time(lambda: store.put("accounts", "a", {"n": 3}))
            primary.kill()
            await until(lambda: is_primary(behind), 60)
            assert (await _in_time(lambda: store.get("accounts", "a"))).record == {"n": 3}
            await store.close()


async def _in_time(ask: Callable[[], Awaitable[T]]) -> T:
    """What the store answers in the end: a replica has just come, or the primary has just gone."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(StorageError):
                return await ask()
            await asyncio.sleep(0)
