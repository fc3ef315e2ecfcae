"""A data folder is read while its owner writes: nothing torn, nothing older than what was durable before."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.storage import backup, files
from proxy.storage.envelope import Keyring
from proxy.storage.inspection import inspect
from proxy.storage.json_files import JsonFiles
from proxy.storage.live import read_live
from proxy.storage.protocols import Record, Storage
from tests.proxy.storage.conftest import KEY

BACKUPS = 20
ACCOUNTS = ("a", "b", "c")


def rotated(id: str, number: int) -> Record:
    """An account of which each number has tokens of its own; long, so that a torn one would show."""
    tokens = f"{number}-" + "x" * 2000
    return {"id": id, "access_token": tokens, "refresh_token": tokens}


def number_of(record: Record) -> int:
    """Which rotation it is. Its two tokens have to be of the same one."""
    assert record["access_token"] == record["refresh_token"]
    return int(record["access_token"].partition("-")[0])


def stamps(folder: Path) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@contextlib.asynccontextmanager
async def storm(storage: Storage) -> AsyncIterator[dict[str, int]]:
    """Rotates all accounts without a pause; gives the last number of each that is durable."""
    durable = dict.fromkeys(ACCOUNTS, 0)

    async def rotate(id: str) -> None:
        for number in itertools.count(1):
            await storage.put("accounts", id, rotated(id, number))
            durable[id] = number

    async def come_and_go() -> None:
        for number in itertools.count():
            id = f"short-{number}"
            await storage.put("accounts", id, rotated(id, number))
            await storage.put("tokens", "t", {"id": "t", "number": number})
            await storage.delete("accounts", id)

    for id in ACCOUNTS:
        await storage.put("accounts", id, rotated(id, 0))
    tasks = [asyncio.create_task(work) for work in (*map(rotate, ACCOUNTS), come_and_go())]
    try:
        yield durable
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize("failing", [False, True], ids=["", "with a failing disk"])
async def test_backups_in_a_storm_of_rotations_have_all_that_was_durable_when_they_began(
    folder: Path,
    open_files: Callable[..., JsonFiles],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    key: bytes | None,
    failing: bool,
) -> None:
    storage, turns, really = open_files(key), itertools.count(), files.replace_both

    def replace_both(path: Path, data: bytes) -> files.Identity:
        if path.parent.parent == folder and next(turns) % 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # then it goes to the journal
        return really(path, data)

    async with storm(storage) as durable:
        if failing:
            monkeypatch.setattr(files, "replace_both", replace_both)
        for number in range(BACKUPS):
            before = durable.copy()
            read = await asyncio.to_thread(read_live, folder, Keyring(key))
            restored = folder.parent / f"restored-{number}"
            records = {kind: list(read[kind].values()) for kind in backup.KINDS}
            new = JsonFiles.open(restored, clock=clock)
            await backup.fill(new, records)
            await new.close()
            found = inspect(restored, Keyring())
            assert found.notices == []
            accounts = {id: number_of(record) for id, record in found.records["accounts"].items()}
            assert all(before[id] <= accounts[id] for id in ACCOUNTS)
            assert found.records["tokens"].keys() <= {"t"}
            await asyncio.sleep(0)


def test_a_folder_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    assert not any(read_live(tmp_path / "nowhere", Keyring()).values())
    assert not (tmp_path / "nowhere").exists()


async def test_reading_writes_nothing_and_takes_no_lock(
    folder: Path, open_files: Callable[..., JsonFiles]
) -> None:
    await open_files().put("accounts", "a", rotated("a", 1))
    (folder / "accounts" / ".b.json.tmp").write_text("half")
    before = stamps(folder)
    assert number_of(read_live(folder, Keyring())["accounts"]["a"]) == 1
    assert stamps(folder) == before


async def test_an_account_that_is_gone_with_its_backup_is_not_passed_over(
    folder: Path, open_files: Callable[..., JsonFiles]
) -> None:
    storage = open_files()
    for id in ACCOUNTS:
        await storage.put("accounts", id, rotated(id, 1))
    for name in ("a.json", "a.json.bak"):
        (folder / "accounts" / name).unlink()
    with pytest.raises(StorageError, match=r"accounts/a\.json is gone"):
        read_live(folder, Keyring())


async def test_a_half_of_the_journal_that_stays_torn_does_not_stop_it(
    folder: Path, open_files: Callable[..., JsonFiles]
) -> None:
    await open_files().put("accounts", "a", rotated("a", 1))
    with (folder / "journal.bin").open("r+b") as journal:
        journal.seek(32 * 1024)
        journal.write(b"torn")
    assert number_of(read_live(folder, Keyring())["accounts"]["a"]) == 1
