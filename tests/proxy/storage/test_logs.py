"""A log that a crash or a full disk cut short loses its end and nothing else."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StorageError
from proxy.storage.json_files import JsonFiles

ONE, TWO, THREE = {"n": 1}, {"n": 2, "text": "é"}, {"n": 3}


DAY = "2026-11-22"
FILE = f"{DAY}.jsonl"


@pytest.fixture
def usage(folder: Path) -> Path:
    return folder / "usage"


async def test_a_log_is_a_private_file_of_one_line_each(
    open_files: Callable[[], JsonFiles], usage: Path
) -> None:
    before = os.umask(0o277)
    try:
        await open_files().append(DAY, [ONE, TWO])
    finally:
        os.umask(before)
    assert (usage / FILE).read_text() == '{"n": 1}\n{"n": 2, "text": "é"}\n'
    assert [oct(stat.S_IMODE(path.stat().st_mode)) for path in (usage / FILE, usage)] == ["0o600", "0o700"]


async def test_a_tail_torn_at_any_byte_takes_no_other_line_along(
    open_files: Callable[[], JsonFiles], usage: Path
) -> None:
    storage = open_files()
    await storage.append(DAY, [ONE, TWO])
    whole = (usage / FILE).read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole) + 1):
        kept = [ONE, TWO] if cut >= len(whole) - 1 else [ONE]
        (usage / FILE).write_bytes(whole[:cut])
        assert await storage.read_log(DAY) == kept
        await storage.append(DAY, [THREE])
        assert await storage.read_log(DAY) == [*kept, THREE]


@pytest.mark.parametrize(
    "damaged",
    [b"x", b'{"n": 9', b"[1]", bytes(20), b'{"a": "\xff"}', b"[" * 10_000, b"9" * 5_000],
    ids=lambda line: line[:8].decode(errors="replace"),
)
async def test_damaged_lines_are_left_out_with_one_warning_that_counts_them(
    open_files: Callable[[], JsonFiles], usage: Path, caplog: pytest.LogCaptureFixture, damaged: bytes
) -> None:
    storage = open_files()
    (usage / FILE).write_bytes(b'{"n": 1}\n' + damaged + b"\n" + damaged + b'\n{"n": 3}\n')
    assert await storage.read_log(DAY) == [ONE, THREE]
    assert caplog.messages == [f"damaged lines are left out file={usage / FILE} lines=2"]


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is of util-linux")
async def test_a_log_with_damaged_lines_is_kept_when_it_is_replaced(
    open_files: Callable[[], JsonFiles], usage: Path
) -> None:
    storage = open_files()
    await storage.append(DAY, [{"n": 1}, {"n": 2}])
    log = usage / f"{DAY}.jsonl"
    damaged = log.read_bytes().replace(b": 2}", b"; 2}")
    log.write_bytes(damaged)
    lines = await storage.read_log(DAY)
    await storage.replace_log(DAY, lines)
    assert await storage.read_log(DAY) == [{"n": 1}]
    assert [path.read_bytes() for path in (usage.parent / "quarantine").iterdir()] == [damaged]
    await storage.replace_log(DAY, lines)
    assert len(list((usage.parent / "quarantine").iterdir())) == 1


def test_an_append_that_is_cut_short_leaves_nothing(child: Callable[..., Any], usage: Path) -> None:
    big = {"text": "x" * 60_000}
    ended = child(
        ["append", DAY, [big]],
        ["append", DAY, [ONE, big]],
        ["read_log", DAY],
        ["append", DAY, [TWO]],
        ["read_log", DAY],
        ["append", DAY, [ONE, big]],
        ["replace_log", DAY, [THREE]],
        ["read_log", DAY],
        under=("prlimit", "--fsize=100000"),
    )
    failed = f"StorageError: usage is not read or saved ({usage / FILE}: File too large)"
    answers = [json.loads(each) if each[0] == "[" else each for each in ended.answers[1:]]
    assert answers == ["ok", failed, [big], "ok", [big, TWO], failed, "ok", [THREE]]


def test_an_append_that_failed_after_it_was_written_leaves_nothing(
    child: Callable[..., Any], usage: Path
) -> None:
    child(["append", DAY, [ONE]])
    ended = child(
        ["append", DAY, [TWO]],
        ["append", DAY, [THREE]],
        ["read_log", DAY],
        failpoint=f"storage.append.after:{errno.EIO}",
    )
    assert ended.answers[1].startswith("StorageError: usage is not read or saved")
    assert json.loads(ended.answers[3]) == [ONE]


@pytest.mark.parametrize(
    ("verb", "step", "left"),
    [
        ("append", "append.before", [ONE]),
        ("append", "append.after", [ONE, TWO]),
        ("replace_log", "rename.before", [ONE]),
        ("replace_log", "rename.after", [TWO]),
    ],
)
async def test_a_kill_leaves_the_lines_from_before_or_from_after(
    open_files: Callable[[], JsonFiles],
    child: Callable[..., Any],
    usage: Path,
    verb: str,
    step: str,
    left: list[object],
) -> None:
    child(["append", DAY, [ONE]])
    assert child([verb, DAY, [TWO]], failpoint=f"storage.{step}:kill").status < 0
    storage = open_files()
    assert await storage.read_log(DAY) == left
    assert os.listdir(usage) == [FILE]


async def test_a_replacement_that_fails_leaves_the_old_lines(child: Callable[..., Any], usage: Path) -> None:
    child(["append", DAY, [ONE]])
    ended = child(
        ["replace_log", DAY, [TWO]], ["read_log", DAY], failpoint=f"storage.tmp.after:{errno.ENOSPC}"
    )
    assert ended.answers[1].endswith(f"({usage / FILE}: No space left on device)")
    assert json.loads(ended.answers[2]) == [ONE]


async def test_a_folder_that_is_gone_is_told_by_every_verb(
    open_files: Callable[[], JsonFiles], usage: Path
) -> None:
    storage = open_files()
    os.rmdir(usage)
    for call in (
        lambda: storage.logs(),
        lambda: storage.append(DAY, [ONE]),
        lambda: storage.replace_log(DAY, [ONE]),
    ):
        with pytest.raises(StorageError, match=r"/data/usage.*: No such file or directory"):
            await call()


async def test_a_symbolic_link_is_not_followed(open_files: Callable[[], JsonFiles], usage: Path) -> None:
    storage = open_files()
    elsewhere = usage.parent / "elsewhere"
    (usage / FILE).symlink_to(elsewhere)
    for call in (lambda: storage.append(DAY, [ONE]), lambda: storage.read_log(DAY)):
        with pytest.raises(StorageError, match="symbolic link"):
            await call()
    assert not elsewhere.exists()


async def test_what_is_no_log_is_left_alone(open_files: Callable[[], JsonFiles], usage: Path) -> None:
    storage = open_files()
    for name in ("notes.txt", "a b.jsonl", ".hidden"):
        (usage / name).write_text("mine")
    await storage.append(DAY, [ONE])
    assert await storage.logs() == [DAY]
    assert len(os.listdir(usage)) == 4
