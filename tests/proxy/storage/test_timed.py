"""Each write of a storage is measured, from its order to its end, and each that fails is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proxy.errors import StorageError
from proxy.storage.json_files import JsonFiles
from proxy.storage.timed import WRITES, Timed
from tests.disk import FullDisk
from tests.service import TestClock


def counted(storage: Timed) -> dict[str, int]:
    """How many writes of each kind were measured."""
    return {name: storage.seconds[name].buckets()[-1][1] for name in WRITES}


async def test_every_write_is_measured_and_no_read(open_timed: Callable[[], Timed]) -> None:
    storage = open_timed()
    await storage.put("accounts", "a", {})
    await storage.delete("accounts", "a")
    await storage.update("counters", {"a": {}})
    await storage.append("usage", [{}])
    await storage.replace_log("usage", [{}])
    await storage.remove_log("usage")
    await storage.load("accounts")
    assert counted(storage) == dict.fromkeys(WRITES, 1)
    assert storage.errors.total() == 0


async def test_a_write_takes_from_its_order_on(open_files: Callable[[], JsonFiles]) -> None:
    clock = TestClock()
    storage = Timed(open_files(), clock)
    write = asyncio.ensure_future(storage.put("accounts", "a", {}))
    clock.advance(0.2)
    await write
    assert round(storage.seconds["put"].total, 6) == 0.2


async def test_a_write_that_fails_is_measured_and_counted(
    open_timed: Callable[[], Timed], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_timed()
    monkeypatch.setattr(JsonFiles, "put", FullDisk.put)
    for _ in range(2):
        with pytest.raises(StorageError):
            await storage.put("accounts", "a", {})
    assert (storage.errors["put"], storage.errors.total(), counted(storage)["put"]) == (2, 2, 2)
