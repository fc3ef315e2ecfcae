"""What holds for every storage: generations, fences and leases."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.storage.protocols import NOTHING, Outdated, Storage


async def test_each_write_of_a_record_has_a_higher_generation(storage: Storage) -> None:
    first = await storage.put("accounts", "a", {"n": 1})
    second = await storage.put("accounts", "a", {"n": 2}, known=first)
    assert second > first
    stored = await storage.get("accounts", "a")
    assert (stored.generation, stored.record) == (second, {"n": 2})
    assert await storage.stored("accounts") == {"a": stored}


async def test_generations_survive_reopening_in_so_far_as_they_are_told_again(
    open_storage: Callable[[], Storage],
) -> None:
    storage = open_storage()
    await storage.put("accounts", "a", {"n": 1})
    await storage.close()
    again = open_storage()
    known = (await again.stored("accounts"))["a"].generation
    assert known > 0
    assert await again.put("accounts", "a", {"n": 2}, known=known) > known


async def test_what_is_not_there_has_no_generation(storage: Storage) -> None:
    assert await storage.get("accounts", "a") == NOTHING
    await storage.put("accounts", "a", {"n": 1}, known=0)
    with pytest.raises(Outdated) as told:
        await storage.put("accounts", "a", {"n": 2}, known=0)
    assert told.value.stored == await storage.get("accounts", "a")


async def test_a_write_over_another_generation_changes_nothing_and_tells_what_is_there(
    storage: Storage,
) -> None:
    first = await storage.put("accounts", "a", {"n": 1})
    second = await storage.put("accounts", "a", {"n": 2})
    for write in (
        lambda: storage.put("accounts", "a", {"n": 3}, known=first),
        lambda: storage.delete("accounts", "a", known=first),
    ):
        with pytest.raises(Outdated) as told:
            await write()
        assert (told.value.stored.generation, told.value.stored.record) == (second, {"n": 2})
        assert not told.value.stale
    assert await storage.load("accounts") == {"a": {"n": 2}}


async def test_a_deleted_record_may_be_made_anew(storage: Storage) -> None:
    first = await storage.put("accounts", "a", {"n": 1})
    await storage.delete("accounts", "a", known=first)
    assert (await storage.get("accounts", "a")).record is None
    assert await storage.put("accounts", "a", {"n": 2}, known=0) > first


async def test_an_earlier_holder_of_a_lease_cannot_write_over_what_a_later_one_wrote(
    storage: Storage,
) -> None:
    await storage.put("accounts", "a", {"n": 1}, fence=2)
    with pytest.raises(Outdated) as told:
        await storage.put("accounts", "a", {"n": 2}, fence=1)
    assert told.value.stale
    assert told.value.stored.record == {"n": 1}
    await storage.put("accounts", "a", {"n": 3}, fence=2)
    await storage.put("accounts", "a", {"n": 4})
    assert await storage.load("accounts") == {"a": {"n": 4}}


async def test_a_lease_has_one_holder_and_the_next_one_a_higher_fence(storage: Storage) -> None:
    lease = await storage.take("refresh-a", 60)
    assert lease is not None
    assert await storage.take("refresh-a", 60) is None
    other = await storage.take("refresh-b", 60)
    assert other is not None
    await storage.release(lease)
    next = await storage.take("refresh-a", 60)
    assert next is not None
    assert next.fence > lease.fence


async def test_only_its_holder_renews_or_ends_a_lease(storage: Storage) -> None:
    lease = await storage.take("a", 60)
    assert lease is not None
    assert await storage.renew(lease, 60)
    await storage.release(lease)
    assert not await storage.renew(lease, 60)
    assert await storage.take("a", 60) is not None
    await storage.release(lease)  # which is another's by now
    assert await storage.take("a", 60) is None
