"""Items in memory with storage behind: what is true at once, and what is true on disk."""

from __future__ import annotations

import asyncio
import logging

import pytest

from proxy.errors import StorageError
from proxy.jobs import Jobs
from proxy.storage.protocols import Record
from proxy.storage.table import Table
from tests.disk import Disk


def record(item: int) -> Record:
    return {"n": item}


@pytest.fixture
def table(disk: Disk, jobs: Jobs) -> Table[int]:
    return Table("tokens", [("a", 1), ("b", 2)], record=record, storage=disk, jobs=jobs)


async def test_a_change_works_at_once_and_is_on_disk_when_awaited(table: Table[int], disk: Disk) -> None:
    saved = table.commit("a", 3)
    assert (table["a"], disk["tokens"]) == (3, {})
    await saved
    assert disk["tokens"] == {"a": {"n": 3}}


async def test_a_removal_works_at_once_and_is_on_disk_when_awaited(table: Table[int], disk: Disk) -> None:
    await table.commit("a", 3)
    gone = table.forget("a")
    assert "a" not in table and "a" in disk["tokens"]
    await gone
    assert disk["tokens"] == {}


async def test_an_added_item_is_on_disk(table: Table[int], disk: Disk) -> None:
    undone: list[str] = []
    await table.add("c", 3, undo=lambda: undone.append("c"))
    assert (table["c"], disk["tokens"], undone) == (3, {"c": {"n": 3}}, [])


async def test_an_item_that_cannot_be_added_is_undone_and_forgotten(table: Table[int], disk: Disk) -> None:
    undone: list[bool] = []
    disk.full = True
    with pytest.raises(StorageError):
        await table.add("c", 3, undo=lambda: undone.append("c" in table))
    assert (list(table), undone) == (["a", "b"], [True])
    disk.full = False
    await table.save_again()
    assert (disk["tokens"], table.unsaved) == ({}, {})


async def test_it_reads_as_a_mapping_in_the_order_of_the_items(table: Table[int]) -> None:
    await table.commit("0", 0)
    assert dict(table) == {"a": 1, "b": 2, "0": 0}
    assert (list(table), len(table)) == (["a", "b", "0"], 3)


async def test_writes_are_in_the_order_of_the_changes(table: Table[int], disk: Disk, jobs: Jobs) -> None:
    table.commit("a", 3)
    table.forget("a")
    table.commit("b", 4)
    table.commit("a", 5)
    await jobs.close()
    assert disk.writes == [
        ("tokens", "a", {"n": 3}),
        ("tokens", "a", None),
        ("tokens", "b", {"n": 4}),
        ("tokens", "a", {"n": 5}),
    ]


async def test_a_caller_that_leaves_does_not_take_the_write_along(
    table: Table[int], disk: Disk, jobs: Jobs
) -> None:
    async def change() -> None:
        await asyncio.shield(table.commit("a", 3))

    caller = asyncio.create_task(change())
    await asyncio.sleep(0)
    caller.cancel()
    await jobs.close()
    assert disk["tokens"] == {"a": {"n": 3}}


async def test_what_cannot_be_saved_is_told_kept_and_logged(
    table: Table[int], disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.full = True
    with pytest.raises(StorageError, match="no space left"):
        await table.commit("a", 3)
    assert (table["a"], table.unsaved) == (3, {"a": "no space left on device"})
    assert caplog.messages == ["not saved, kept in memory kind=tokens id=a error=no space left on device"]


async def test_a_later_write_that_succeeds_settles_an_earlier_that_failed(
    table: Table[int], disk: Disk
) -> None:
    disk.full = True
    with pytest.raises(StorageError):
        await table.commit("a", 3)
    disk.full = False
    await table.commit("a", 4)
    assert (table.unsaved, disk["tokens"]) == ({}, {"a": {"n": 4}})


async def test_saving_again_writes_what_failed_as_it_is_now_and_says_so(
    table: Table[int], disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.full = True
    for change in (table.commit("a", 3), table.commit("a", 4), table.forget("b")):
        with pytest.raises(StorageError):
            await change
    disk.full = False
    caplog.clear()
    with caplog.at_level(logging.WARNING, "proxy.storage.table"):
        await table.save_again()
    assert (table.unsaved, disk.writes) == ({}, [("tokens", "a", {"n": 4}), ("tokens", "b", None)])
    assert caplog.messages == ["saved at last kind=tokens id=a", "saved at last kind=tokens id=b"]


async def test_saving_again_on_a_full_disk_keeps_what_is_unsaved(table: Table[int], disk: Disk) -> None:
    disk.full = True
    with pytest.raises(StorageError):
        await table.commit("a", 3)
    await table.save_again()
    assert list(table.unsaved) == ["a"]


async def test_saving_again_writes_nothing_where_all_is_saved(table: Table[int], disk: Disk) -> None:
    await table.commit("a", 3)
    await table.save_again()
    assert len(disk.writes) == 1
