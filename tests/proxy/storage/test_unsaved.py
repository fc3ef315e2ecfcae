"""Only what has changed is written, once, and nothing is lost when a write fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.errors import StorageError
from proxy.storage.codec import PIECE
from proxy.storage.envelope import Keyring
from proxy.storage.json_files import JsonFiles
from proxy.storage.protocols import Kind, Record
from proxy.storage.unsaved import Unsaved

Update = dict[str, Record | None]


class Written:
    """Takes down each update; while it is full, it takes none."""

    def __init__(self) -> None:
        self.full = False
        self.updates: list[Update] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def update(self, kind: Kind, records: Mapping[str, Record | None]) -> None:
        assert kind == "counters"
        if self.full:
            raise StorageError("no space left on device")
        self.updates.append(dict(records))
        await self.may_end.wait()


class Owner:
    """Records by id, and what of them is unsaved."""

    def __init__(self, stored: Mapping[str, Record] | None = None) -> None:
        self.records = dict(stored or {})
        self.unsaved = Unsaved("counters", self.records.get, dict, self.records)
        self.written = Written()

    def set(self, id: str, n: int) -> None:
        self.records[id] = {"n": n}
        self.unsaved.add(id)

    def remove(self, id: str) -> None:
        del self.records[id]
        self.unsaved.remove(id)

    async def save(self) -> list[Update]:
        """The updates that this save made."""
        before = len(self.written.updates)
        await self.unsaved.save(self.written)  # type: ignore[arg-type]
        return self.written.updates[before:]

    async def fail(self) -> None:
        self.written.full = True
        with pytest.raises(StorageError):
            await self.save()
        self.written.full = False


async def test_what_was_stored_and_has_not_changed_is_not_written() -> None:
    assert await Owner({"a": {"n": 1}}).save() == []


async def test_each_change_is_written_once_as_it_is_then() -> None:
    owner = Owner({"a": {"n": 1}, "b": {"n": 1}})
    owner.set("a", 2)
    owner.set("a", 3)
    assert await owner.save() == [{"a": {"n": 3}}]
    assert await owner.save() == []


async def test_what_is_gone_is_removed_once() -> None:
    owner = Owner({"a": {"n": 1}})
    owner.remove("a")
    assert await owner.save() == [{"a": None}]
    assert await owner.save() == []


async def test_what_came_and_went_between_two_saves_is_never_written() -> None:
    owner = Owner()
    owner.set("a", 1)
    owner.remove("a")
    assert await owner.save() == []


async def test_a_save_that_fails_is_made_up_for_by_the_next() -> None:
    owner = Owner({"gone": {"n": 1}})
    owner.set("a", 1)
    owner.remove("gone")
    await owner.fail()
    owner.set("b", 2)
    assert await owner.save() == [{"a": {"n": 1}, "gone": None, "b": {"n": 2}}]


async def test_what_came_and_went_while_no_save_succeeded_is_never_written() -> None:
    owner = Owner()
    owner.set("a", 1)
    await owner.fail()
    owner.remove("a")
    await owner.unsaved.save(owner.written)  # type: ignore[arg-type]
    assert owner.written.updates == []


async def test_what_changes_during_a_save_is_written_by_the_next() -> None:
    owner = Owner()
    owner.set("a", 1)
    owner.set("b", 1)
    owner.written.may_end.clear()
    saving = asyncio.create_task(owner.save())
    await asyncio.sleep(0)
    owner.set("a", 2)
    owner.remove("b")
    owner.written.may_end.set()
    assert await saving == [{"a": {"n": 1}, "b": {"n": 1}}]
    assert await owner.save() == [{"a": {"n": 2}, "b": None}]


async def test_records_are_made_into_json_off_the_loop(tmp_path: Path) -> None:
    threads = []

    class Told(dict[str, Any]):
        def items(self) -> Any:
            threads.append(threading.current_thread())
            return super().items()

    storage = JsonFiles.open(tmp_path / "data", clock=SystemClock())
    try:
        await storage.update("counters", {"a": Told(n=1)})
        assert await storage.load("counters") == {"a": {"n": 1}}
    finally:
        await storage.close()
    assert threads and threading.main_thread() not in threads


@pytest.mark.parametrize("key", [None, bytes(range(32))], ids=["plain", "encrypted"])
@pytest.mark.parametrize("count", [0, 1, PIECE, PIECE + 1, 2 * PIECE + 1])
async def test_a_file_of_many_records_is_read_as_it_was_written(
    tmp_path: Path, key: bytes | None, count: int
) -> None:
    records: dict[str, Record] = {f"id_{n}": {"n": n, "name": "é\n\"'"} for n in range(count)}
    storage = JsonFiles.open(tmp_path, clock=SystemClock(), keyring=Keyring(key))
    await storage.update("counters", records | {"gone": {}})
    await storage.update("counters", {"gone": None, "id_0": {"n": -1}})
    await storage.close()
    storage = JsonFiles.open(tmp_path, clock=SystemClock(), keyring=Keyring(key))
    assert list(storage.notices) == []
    assert await storage.load("counters") == records | {"id_0": {"n": -1}}
    await storage.close()
