"""Sentinels say who the primary is, and after a failover the next connection goes to the new one."""

from __future__ import annotations

import contextlib

import pytest

from proxy.errors import StorageError, StoreAway
from proxy.storage.address import StoreAddress
from proxy.storage.redis import RedisLink
from proxy.storage.redis_store import RedisStore
from tests.sentinels import on_port, sentinel, told
from tests.service import SteppedClock


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
