"""Lines by day that may be lost: appended whole or not at all, and found from their end."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from proxy.errors import StorageError
from proxy.storage import day_files as module
from proxy.storage.day_files import DayFiles


@pytest.fixture
def stored(tmp_path: Path) -> DayFiles:
    return DayFiles(tmp_path / "requests")


def numbers(lines: list[bytes]) -> list[int]:
    return [json.loads(line)["n"] for line in lines]


def test_the_newest_are_found_over_days_without_a_look_at_the_rest(
    stored: DayFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 64)
    assert stored.newest(5) == []
    stored.append("2026-11-28", ({"n": n, "text": "x" * n} for n in range(120)))
    stored.append("2026-11-29", ({"n": n} for n in range(120, 123)))
    assert numbers(stored.newest(2)) == [121, 122]
    assert numbers(stored.newest(7)) == list(range(116, 123))
    assert numbers(stored.newest(1000)) == list(range(123))
    monkeypatch.setattr(module, "MOST_BYTES", 300)
    assert numbers(stored.newest(1000)) == [118, 119, 120, 121, 122]  # the line that was cut is left out


def test_a_write_that_fails_on_the_way_leaves_nothing(
    stored: DayFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.append("2026-11-29", [{"n": 0}])
    room = [70]
    write = os.write

    def filling(fd: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(fd, data[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", filling)
        with pytest.raises(StorageError, match=r"2026-11-29\.jsonl is not read or saved \(No space left"):
            stored.append("2026-11-29", ({"n": n} for n in range(1, 100)))
    assert (tmp_path / "requests" / "2026-11-29.jsonl").read_bytes() == b'{"n": 0}\n'


def test_a_line_that_a_crash_cut_does_not_spoil_the_next(stored: DayFiles, tmp_path: Path) -> None:
    stored.append("2026-11-29", [{"n": 0}])
    path = tmp_path / "requests" / "2026-11-29.jsonl"
    path.write_bytes(path.read_bytes() + b'{"n": 1, "te')
    stored.append("2026-11-29", [{"n": 2}])
    assert stored.newest(3) == [b'{"n": 0}', b'{"n": 1, "te', b'{"n": 2}']


def test_other_files_and_links_are_left_alone(stored: DayFiles, tmp_path: Path) -> None:
    stored.append("2026-11-29", [{"n": 0}])
    folder = tmp_path / "requests"
    (folder / "2026-11-01.jsonl.gz").write_bytes(b"theirs")
    (folder / "2026-11-30.jsonl").symlink_to("/etc/passwd")
    with pytest.raises(StorageError, match="symbolic link"):
        stored.newest(5)
    with pytest.raises(StorageError):
        stored.append("2026-11-30", [{"n": 1}])
    stored.remove_before("2026-12-01")
    assert [path.name for path in folder.iterdir()] == ["2026-11-01.jsonl.gz"]
