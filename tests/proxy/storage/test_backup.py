"""A backup of many client keys: what was written is read, and what fills a folder is written once."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.errors import StartError, StorageError
from proxy.storage import backup, files
from proxy.storage.json_files import JsonFiles

PASSPHRASE = "five words of the tests"


def records(count: int) -> list[dict[str, str]]:
    return [{"id": f"r{n}"} for n in range(count)]


async def test_a_folder_is_filled_with_one_write_of_each_file(
    open_files: Callable[[], JsonFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key wrote the file of all keys: 4,000 took 25 s, and 100,000 would have taken hours."""
    storage, writes, really = open_files(), Counter[str](), files.replace

    def replace(path: Path, data: bytes, *, durable: bool) -> files.Identity:
        writes[path.name] += 1
        return really(path, data, durable=durable)

    monkeypatch.setattr(files, "replace", replace)
    await backup.fill(storage, {"accounts": records(3), "tokens": records(500)})
    own = {f"r{n}.json{end}": 1 for n in range(3) for end in ("", ".bak")}
    assert writes == own | {"tokens.json": 1, "tokens.json.bak": 1, "inventory.json": 2}


async def test_a_full_disk_is_told_at_the_first_file(
    open_files: Callable[[], JsonFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, tried = open_files(), Counter[str]()

    def replace_both(path: Path, data: bytes) -> files.Identity:
        tried[path.name] += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "replace_both", replace_both)
    with pytest.raises(StorageError, match=r"tokens could not be saved in .*No space left"):
        await backup.fill(storage, {"tokens": records(500)})
    assert tried == {"tokens.json": 1}
    assert await storage.load("tokens") == {}


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup of 100,000 client keys was written, and then refused as too large."""
    keys = {each["id"]: each for each in records(50)}
    file, larger = tmp_path / "backup.json", tmp_path / "larger.json"
    backup.write(file, {"tokens": keys}, PASSPHRASE)
    monkeypatch.setattr(backup, "MOST_BYTES", file.stat().st_size)
    found = backup.read(file, PASSPHRASE, {"tokens": lambda id, record: None})
    assert found == {"accounts": [], "tokens": records(50)}
    with pytest.raises(StartError, match=r"larger\.json would be larger than \d+ bytes"):
        backup.write(larger, {"tokens": keys | {"r50": {"id": "r50"}}}, PASSPHRASE)
    assert not larger.exists()
