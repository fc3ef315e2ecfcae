"""Files that somebody removes or edits while they are in use: `write_anew` writes them from memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.errors import StorageError
from proxy.storage.json_files import JsonFiles
from proxy.storage.layout import LOCK
from proxy.storage.protocols import Storage

ACCOUNTS = {"a": {"n": 2}, "b": {"n": 3}}
TOKENS = {"a": {"n": 2}}


async def filled(open_files: Callable[[], JsonFiles]) -> JsonFiles:
    """The folder `made`, open, with more in it."""
    storage = open_files()
    await storage.put("accounts", "b", {"n": 3})
    await storage.update("sessions", {"s": {"n": 4}})
    return storage


async def kept(storage: JsonFiles, open_files: Callable[[], JsonFiles], folder: Path) -> None:
    """A start finds everything, and says nothing of it."""
    assert {"inventory.json", "journal.bin"} <= set(os.listdir(folder))
    await storage.close()
    again = open_files()
    assert await again.load("accounts") == ACCOUNTS
    assert await again.load("tokens") == TOKENS
    assert await again.load("sessions") == {"s": {"n": 4}}
    assert not again.notices


@pytest.mark.parametrize(
    "removed",
    [
        ["accounts/a.json", "accounts/a.json.bak"],
        ["accounts/b.json"],
        ["tokens.json", "tokens.json.bak"],
        ["sessions.json"],
        ["accounts"],
        ["accounts", "tokens.json", "tokens.json.bak", "sessions.json", "inventory.json", "journal.bin"],
        ["quarantine", "usage", "events", "tmp", "handed"],
        ["journal.bin"],
        [LOCK],
        ["."],
    ],
    ids=",".join,
)
async def test_what_is_removed_is_written_anew(
    open_files: Callable[[], JsonFiles], made: Path, removed: list[str]
) -> None:
    storage = await filled(open_files)
    for name in removed:
        path = made / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    await storage.write_anew()
    await kept(storage, open_files, made)


@pytest.mark.parametrize("text", [b"", b"edited by hand", b'{"records": {"a": {"n": 9}}}'])
async def test_what_is_edited_is_kept_aside_and_written_anew(
    open_files: Callable[[], JsonFiles], made: Path, text: bytes
) -> None:
    storage = await filled(open_files)
    for name in ("accounts/a.json", "tokens.json"):
        (made / name).write_bytes(text)
    await storage.write_anew()
    assert [path.read_bytes() for path in (made / "quarantine").iterdir()] == [text, text]
    await kept(storage, open_files, made)


async def test_an_older_copy_is_an_edit(open_files: Callable[[], JsonFiles], made: Path) -> None:
    storage = await filled(open_files)
    path = made / "accounts/a.json"
    older = path.read_bytes()
    await storage.put("accounts", "a", {"n": 5})
    newer = path.read_bytes()
    path.write_bytes(older)
    await storage.write_anew()
    assert b'{"n": 5}' in path.read_bytes() != newer


@pytest.mark.parametrize("key", [None, bytes(32)], ids=["plain", "encrypted"])
async def test_the_same_content_is_no_edit(
    open_files: Callable[..., JsonFiles], made: Path, caplog: pytest.LogCaptureFixture, key: bytes | None
) -> None:
    storage = open_files(key)
    path = made / "tokens.json"
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    os.replace(copy, path)
    before = path.stat()
    for _ in range(2):
        await storage.write_anew()
    assert path.stat() == before
    assert not caplog.records


def stats(folder: Path) -> dict[Path, os.stat_result]:
    return {path: path.stat() for path in folder.rglob("*")}


async def test_nothing_is_written_where_nothing_was_changed(
    open_storage: Callable[[], Storage], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage()
    await storage.put("accounts", "a", {"n": 1})
    await storage.put("tokens", "a", {"n": 1})
    await storage.delete("tokens", "a")
    before = stats(folder)
    await storage.write_anew()
    assert stats(folder) == before
    assert not caplog.records


async def test_a_folder_that_another_process_has_taken_since_is_left_alone(
    open_files: Callable[[], JsonFiles], made: Path
) -> None:
    storage = await filled(open_files)
    shutil.rmtree(made)
    other = open_files()
    with pytest.raises(StorageError, match=rf"is in use by process {os.getpid()}"):
        await storage.write_anew()
    assert not list((made / "accounts").iterdir())
    await other.close()
    await storage.write_anew()
    await kept(storage, open_files, made)


async def test_a_file_that_cannot_be_written_is_told_and_tried_again(
    open_files: Callable[[], JsonFiles], made: Path
) -> None:
    storage = await filled(open_files)
    path = made / "tokens.json"
    path.unlink()
    path.mkdir()
    for _ in range(2):
        with pytest.raises(StorageError, match="cannot be used"):
            await storage.write_anew()
    path.rmdir()
    await storage.write_anew()
    await kept(storage, open_files, made)
