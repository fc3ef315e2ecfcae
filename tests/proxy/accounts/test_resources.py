"""What lives where: in memory, and in a log of lines that a later start reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.accounts.resources import Resources
from proxy.errors import StorageError
from proxy.storage.json_files import JsonFiles
from tests.service import TestClock

DAY = 86_400.0


async def loaded(folder: Path, clock: TestClock) -> tuple[JsonFiles, Resources]:
    storage = JsonFiles.open(folder, clock=clock)
    resources = Resources(storage, clock=clock)
    await resources.load()
    return storage, resources


async def test_what_was_saved_is_there_at_the_next_start_and_what_was_forgotten_is_not(
    tmp_path: Path,
) -> None:
    clock = TestClock()
    storage, resources = await loaded(tmp_path, clock)
    assert resources.learn(["file_1", "file_2", "file_3"], "acc_a", "red", "files")
    assert resources.learn(["msgbatch_1"], "acc_b", "blue", "batches")
    resources.forget("file_2")
    resources.house("red", "acc_a")
    await resources.save()
    assert not resources.learn(["file_1"], "acc_b", "blue", "files"), "it has its account already"
    await storage.close()
    storage, resources = await loaded(tmp_path, clock)
    held = {id: resources.get(id) for id in ("file_1", "file_2", "file_3", "msgbatch_1")}
    assert {id: each and (each.account_id, each.group) for id, each in held.items()} == {
        "file_1": ("acc_a", "red"),
        "file_2": None,
        "file_3": ("acc_a", "red"),
        "msgbatch_1": ("acc_b", "blue"),
    }
    assert (resources.home("red"), resources.homes_in("acc_a"), resources.count_of("acc_a")) == (
        "acc_a",
        1,
        2,
    )
    assert [*resources.accounts_of("red", "files")] == ["acc_a"]
    assert [*resources.groups_of("files")] == ["red"]
    await storage.close()


async def test_who_has_none_left_of_a_collection_is_not_among_those_who_have(tmp_path: Path) -> None:
    clock = TestClock()
    storage, resources = await loaded(tmp_path, clock)
    resources.learn(["file_1"], "acc_a", "red", "files")
    clock.advance(DAY)
    resources.learn(["file_2"], "acc_a", "red", "files")
    resources.forget("file_1")
    assert [*resources.groups_of("files")] == ["red"]
    resources.forget("file_2")
    assert [*resources.groups_of("files"), *resources.accounts_of("red", "files")] == []
    assert resources.count_of("acc_a") == 0
    await storage.close()


async def test_batches_and_containers_are_forgotten_in_time_and_their_lines_go(tmp_path: Path) -> None:
    clock = TestClock()
    storage, resources = await loaded(tmp_path, clock)
    resources.learn([f"msgbatch_{n}" for n in range(3000)], "acc_a", "red", "batches")
    resources.learn(["file_1"], "acc_a", "red", "files")
    await resources.save()
    clock.advance(33 * DAY)
    assert resources.get("msgbatch_1") is None and resources.get("file_1") is not None
    assert [*resources.accounts_of("red", "batches")] == []
    resources.learn(["file_2"], "acc_a", "red", "files")
    await resources.save()
    await storage.close()
    storage, resources = await loaded(tmp_path, clock)
    assert len(resources) == 2
    await storage.close()
    assert len((tmp_path / "resources.jsonl").read_text().splitlines()) == 3


async def test_a_batch_is_counted_once_also_after_a_restart_and_as_long_as_its_results_live(
    tmp_path: Path,
) -> None:
    clock = TestClock()
    storage, resources = await loaded(tmp_path, clock)
    assert not resources.is_counted("msgbatch_1")
    resources.note_counted("msgbatch_1")
    assert resources.is_counted("msgbatch_1")
    await resources.save()
    await storage.close()
    storage, resources = await loaded(tmp_path, clock)
    assert resources.is_counted("msgbatch_1")
    assert resources.get("msgbatch_1") is None, "whose it is does not follow from that"
    clock.advance(32 * DAY)
    resources.note_counted("msgbatch_2")
    await resources.save()
    await storage.close()
    storage, resources = await loaded(tmp_path, clock)
    assert [resources.is_counted(f"msgbatch_{n}") for n in (1, 2)] == [False, True]
    await storage.close()


async def test_usage_is_saved_before_it_is_on_disk_that_a_batch_is_counted(tmp_path: Path) -> None:
    storage, resources = await loaded(tmp_path, TestClock())
    log, before = tmp_path / "resources.jsonl", []

    async def save_usage() -> None:
        before.append(log.exists())

    resources.save_first(save_usage)
    resources.note_counted("msgbatch_1")
    await resources.save()
    assert (before, log.exists()) == ([False], True)
    resources.learn(["file_1"], "acc_a", "red", "files")
    await resources.save()
    assert len(before) == 1, "only batches have usage"
    await storage.close()


async def test_a_start_with_a_clock_that_is_ahead_forgets_nothing(tmp_path: Path) -> None:
    clock = TestClock()
    storage, resources = await loaded(tmp_path, clock)
    ids = [f"msgbatch_{n}" for n in range(1500)]
    resources.learn([*ids, "file_1"], "acc_a", "red", "batches")
    for id in ids[1:]:
        resources.forget(id)
    await resources.save()
    await storage.close()
    clock.jump(40 * DAY)
    storage, resources = await loaded(tmp_path, clock)
    assert resources.get("msgbatch_0") is None, "by this clock it is over"
    clock.jump(-40 * DAY)
    assert resources.get("msgbatch_0") is not None
    await storage.close()
    assert len((tmp_path / "resources.jsonl").read_text().splitlines()) == 3, "it was written anew"
    storage, resources = await loaded(tmp_path, clock)
    assert resources.get("msgbatch_0") is not None
    await storage.close()


async def test_what_a_full_disk_did_not_take_is_written_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise StorageError("no space left on device")

    clock = TestClock()
    storage, resources = await loaded(tmp_path, clock)
    resources.learn(["file_1"], "acc_a", "red", "files")
    with monkeypatch.context() as patch, pytest.raises(StorageError):
        patch.setattr(JsonFiles, "append", full)
        await resources.save()
    assert resources.unsaved == "no space left on device" and len(await resources.left()) == 1
    resources.learn(["file_2"], "acc_a", "red", "files")
    await resources.save()
    assert resources.unsaved is None and await resources.left() == []
    await storage.close()
    storage, resources = await loaded(tmp_path, clock)
    assert len(resources) == 2
    await storage.close()


async def test_a_log_of_a_newer_program_refuses_the_start(tmp_path: Path) -> None:
    (tmp_path / "resources.jsonl").write_text('{"version":2}\n')
    storage = JsonFiles.open(tmp_path, clock=TestClock())
    with pytest.raises(StorageError, match=r"resources\.jsonl is of version 2"):
        await Resources(storage, clock=TestClock()).load()
    await storage.close()
