"""A log that must not be lost is on disk before anyone hears of it, and is never taken for empty."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StorageError
from proxy.storage import files
from proxy.storage.envelope import Keyring
from proxy.storage.inspection import inspect
from proxy.storage.json_files import JsonFiles

ONE, TWO, THREE = {"n": 1}, {"n": 2}, {"n": 3}
BOTH = ("resources", "conversations")


@pytest.fixture
def written(open_files: Callable[[], JsonFiles], folder: Path, io_loop: object) -> Path:
    """A closed data folder with one line in each log."""

    async def fill(storage: JsonFiles) -> None:
        for log in BOTH:
            await storage.append(log, [ONE], durable=True)
        await storage.close()

    asyncio.run(fill(open_files()))
    return folder


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were flushed to disk, in order."""
    names: list[str] = []
    fsync = os.fsync

    def note(fd: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    return names


async def held_up(storage: JsonFiles) -> tuple[asyncio.Future[None], threading.Event]:
    """Occupy the writer thread until the event is set, so that what is ordered meanwhile waits together."""
    begun, may_go = threading.Event(), threading.Event()

    def take(line: bytes) -> None:
        begun.set()
        may_go.wait(10)

    reading = asyncio.ensure_future(storage.each_line("resources", take))
    await asyncio.to_thread(begun.wait, 10)
    return reading, may_go


# ---- where they are


@pytest.mark.parametrize("log", BOTH)
async def test_it_is_a_private_plain_file_in_the_folder_even_with_a_key(
    open_encrypted: Callable[[], JsonFiles], folder: Path, log: str
) -> None:
    before = os.umask(0o277)
    try:
        await open_encrypted().append(log, [ONE, TWO], durable=True)
    finally:
        os.umask(before)
    assert (folder / f"{log}.jsonl").read_text() == '{"n": 1}\n{"n": 2}\n'
    assert oct(stat.S_IMODE((folder / f"{log}.jsonl").stat().st_mode)) == "0o600"


async def test_a_file_of_its_name_among_the_days_of_usage_is_not_it(
    open_files: Callable[[], JsonFiles], folder: Path
) -> None:
    storage = open_files()
    (folder / "usage" / "resources.jsonl").write_text('{"n": 1}\n')
    assert await storage.logs() == []
    assert await storage.read_log("resources") == []


# ---- when it is there


async def test_a_durable_append_is_flushed_to_disk_with_the_folder_of_a_new_file(
    open_files: Callable[[], JsonFiles], folder: Path, synced: list[str]
) -> None:
    storage = open_files()
    synced.clear()
    await storage.append("resources", [ONE], durable=True)
    assert synced[0] == folder.name and synced[-1] == "resources.jsonl"
    synced.clear()
    await storage.append("resources", [TWO], durable=True)
    assert synced == ["resources.jsonl"]
    synced.clear()
    await storage.append("resources", [THREE])
    assert synced == []


async def test_appends_that_wait_together_share_one_flush(
    open_files: Callable[[], JsonFiles], written: Path, synced: list[str]
) -> None:
    storage = open_files()
    reading, may_go = await held_up(storage)
    appends = [storage.append("resources", [{"n": n}], durable=True) for n in range(2, 100)]
    synced.clear()
    may_go.set()
    await asyncio.gather(reading, *appends)
    assert synced == ["resources.jsonl"]
    assert await storage.read_log("resources") == [{"n": n} for n in range(1, 100)]


async def test_appends_that_wait_together_are_not_done_before_what_was_ordered_between_them(
    open_files: Callable[[], JsonFiles], written: Path, synced: list[str]
) -> None:
    storage = open_files()
    reading, may_go = await held_up(storage)
    calls = [
        storage.append("resources", [TWO], durable=True),
        storage.replace_log("resources", [THREE]),
        storage.append("resources", [{"n": 4}], durable=True),
        storage.append("resources", [{"n": 5}]),
        storage.append("resources", [{"n": 6}], durable=True),
        storage.append("conversations", [{"n": 7}], durable=True),
        storage.append("resources", [{"n": 8}], durable=True),
    ]
    may_go.set()
    await asyncio.gather(reading, *reversed(calls))
    assert await storage.read_log("resources") == [{"n": n} for n in (3, 4, 5, 6, 8)]
    assert [name for name in synced if name.endswith(".jsonl")] == [
        *["resources.jsonl"] * 3,
        "conversations.jsonl",
        "resources.jsonl",
    ]


async def test_a_flush_that_fails_is_told_to_all_that_share_it(
    open_files: Callable[[], JsonFiles], written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_files()
    reading, may_go = await held_up(storage)
    appends = [storage.append("resources", [TWO], durable=True) for _ in range(3)]

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        may_go.set()
        done = await asyncio.gather(reading, *appends, return_exceptions=True)
    path = written / "resources.jsonl"
    told = f"resources.jsonl is not read or saved ({path}: Input/output error)"
    assert [str(each) for each in done[1:]] == [told] * 3
    assert await storage.read_log("resources") == [ONE]
    await storage.append("resources", [THREE], durable=True)
    assert path.read_text() == '{"n": 1}\n{"n": 3}\n'


async def test_what_fails_in_an_unforeseen_way_is_acknowledged_to_nobody(
    open_files: Callable[[], JsonFiles], written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_files()
    reading, may_go = await held_up(storage)
    appends = [storage.append("resources", [TWO], durable=True) for _ in range(3)]

    def fail(fd: int) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        may_go.set()
        done = await asyncio.gather(reading, *appends, return_exceptions=True)
    assert [type(each) for each in done[1:]] == [MemoryError, StorageError, StorageError]
    assert await storage.read_log("resources") == [ONE]


@pytest.mark.parametrize("step", ["append", "append_fsync"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_kill_in_a_durable_append_leaves_what_was_acknowledged_and_acknowledges_nothing_else(
    open_files: Callable[[], JsonFiles], written: Path, child: Callable[..., Any], step: str, when: str
) -> None:
    ended = child(["durable", "resources", [TWO, THREE]], failpoint=f"storage.{step}.{when}:kill")
    assert ended.status < 0 and ended.answers == ["ok"]  # it was opened
    left = [ONE] if (step, when) == ("append", "before") else [ONE, TWO, THREE]
    storage = open_files()
    assert await storage.read_log("resources") == left
    assert not storage.notices


@pytest.mark.parametrize("step", ["dirsync", "tmp", "fsync", "rename", "append", "append_fsync"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_kill_in_the_first_append_harms_no_start(
    open_files: Callable[[], JsonFiles], made: Path, child: Callable[..., Any], step: str, when: str
) -> None:
    ended = child(["durable", "resources", [ONE]], failpoint=f"storage.{step}.{when}:kill")
    assert ended.status < 0 and ended.answers == ["ok"]
    storage = open_files()
    assert not storage.notices
    assert await storage.read_log("resources") in ([], [ONE])
    await storage.append("resources", [TWO], durable=True)
    assert (await storage.read_log("resources"))[-1] == TWO


@pytest.mark.parametrize("step", ["tmp", "fsync", "rename", "dirsync"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_kill_in_a_replacement_leaves_the_old_lines_or_the_new_ones(
    open_files: Callable[[], JsonFiles], written: Path, child: Callable[..., Any], step: str, when: str
) -> None:
    ended = child(["replace_log", "resources", [TWO]], failpoint=f"storage.{step}.{when}:kill")
    assert ended.status < 0 and ended.answers == ["ok"]
    is_new = step == "dirsync" or (step, when) == ("rename", "after")
    storage = open_files()
    assert await storage.read_log("resources") == ([TWO] if is_new else [ONE])
    assert not storage.notices


@pytest.mark.parametrize(
    "step", ["append.before", "append.after", "append_fsync.before", "append_fsync.after"]
)
def test_nothing_is_acknowledged_before_it_was_flushed(
    written: Path, child: Callable[..., Any], step: str
) -> None:
    ended = child(
        ["all_durable", "resources", [TWO, THREE]],
        ["read_log", "resources"],
        failpoint=f"storage.{step}:{errno.EIO}",
    )
    assert ended.answers[1].startswith("StorageError: resources.jsonl is not read or saved")
    assert json.loads(ended.answers[2]) == [ONE]


@pytest.mark.parametrize("step", ["dirsync", "rename"])
def test_a_first_append_that_fails_is_tried_again_as_a_whole(
    made: Path, child: Callable[..., Any], step: str
) -> None:
    ended = child(
        ["durable", "resources", [ONE]],
        ["durable", "resources", [TWO]],
        failpoint=f"storage.{step}.before:{errno.ENOSPC}",
    )
    assert [answer.partition(":")[0] for answer in ended.answers] == ["ok", "StorageError", "StorageError"]
    assert child(["durable", "resources", [THREE]], ["read_log", "resources"]).answers[1:] == [
        "ok",
        json.dumps([THREE]),
    ]


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is of util-linux")
def test_a_durable_append_that_is_cut_short_leaves_nothing(child: Callable[..., Any]) -> None:
    big = {"text": "x" * 60_000}
    ended = child(
        ["durable", "resources", [big]],
        ["durable", "resources", [ONE, big]],
        ["durable", "resources", [TWO]],
        ["read_log", "resources"],
        under=("prlimit", "--fsize=100000"),
    )
    assert ended.answers[2].endswith("File too large)")
    assert json.loads(ended.answers[4]) == [big, TWO]


# ---- damage


async def test_a_tail_torn_at_any_byte_takes_no_other_line_along(
    open_files: Callable[[], JsonFiles], folder: Path
) -> None:
    storage = open_files()
    await storage.append("resources", [ONE, TWO], durable=True)
    whole = (folder / "resources.jsonl").read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole) + 1):
        kept = [ONE, TWO] if cut >= len(whole) - 1 else [ONE]
        (folder / "resources.jsonl").write_bytes(whole[:cut])
        await storage.append("resources", [THREE], durable=True)
        lines: list[object] = []
        await storage.each_line("resources", lambda line, lines=lines: lines.append(json.loads(line)))  # type: ignore[misc]
        assert lines == [*kept, THREE]


async def test_damaged_lines_are_counted_in_one_warning_and_kept_when_the_log_is_replaced(
    open_files: Callable[[], JsonFiles], written: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written / "resources.jsonl"
    damaged = b'{"n": 1}\n{"n"; 9}\n\x00\x00\n{"n": 3}\n'
    path.write_bytes(damaged)
    storage = open_files()
    lines: list[object] = []
    await storage.each_line("resources", lambda line: lines.append(json.loads(line)))
    assert lines == [ONE, THREE]
    assert caplog.messages == [f"damaged lines are left out file={path} lines=2"]
    await storage.replace_log("resources", [ONE, THREE])
    kept = {path.name: path.read_bytes() for path in (written / "quarantine").iterdir()}
    assert kept == {"resources.jsonl": damaged}


@pytest.mark.parametrize("log", BOTH)
async def test_one_that_is_gone_is_noticed(
    open_files: Callable[[], JsonFiles], written: Path, log: str
) -> None:
    (written / f"{log}.jsonl").unlink()
    storage = open_files()
    assert storage.notices == (f"{log}.jsonl is gone: it starts without",)
    assert [each["text"] for each in (await storage.load("findings")).values()] == list(storage.notices)
    await storage.close()
    assert not open_files().notices


async def test_one_that_was_removed_by_its_owner_is_not_missed(
    open_files: Callable[[], JsonFiles], written: Path
) -> None:
    storage = open_files()
    await storage.remove_log("resources")
    await storage.close()
    assert not open_files().notices


async def test_one_that_was_replaced_before_anything_was_appended_is_missed_too(
    open_files: Callable[[], JsonFiles], folder: Path
) -> None:
    storage = open_files()
    await storage.replace_log("resources", [ONE])
    await storage.close()
    (folder / "resources.jsonl").unlink()
    assert open_files().notices == ("resources.jsonl is gone: it starts without",)


async def test_one_that_goes_while_it_is_in_use_is_told(
    open_files: Callable[[], JsonFiles], written: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_files()
    (written / "resources.jsonl").unlink()
    await storage.append("resources", [TWO], durable=True)
    assert caplog.messages == [f"removed by somebody else, so begun anew file={written / 'resources.jsonl'}"]


@pytest.mark.parametrize("log", BOTH)
@pytest.mark.parametrize(
    "put_there",
    [
        pytest.param(Path.mkdir, id="directory"),
        pytest.param(lambda path: path.symlink_to(path.with_name("elsewhere")), id="symbolic link"),
        pytest.param(os.mkfifo, id="pipe"),
    ],
)
async def test_what_is_no_file_refuses_the_start_and_is_left_alone(
    open_files: Callable[[], JsonFiles], written: Path, log: str, put_there: Callable[[Path], None]
) -> None:
    path = written / f"{log}.jsonl"
    path.unlink()
    put_there(path)
    before = path.lstat()
    for look in (open_files, lambda: inspect(written, Keyring())):
        with pytest.raises(
            StorageError, match=rf"{path}: (not a regular file|a symbolic link is not followed)"
        ):
            look()
    assert path.lstat() == before


def test_one_that_the_disk_cannot_read_refuses_the_start(written: Path, child: Callable[..., Any]) -> None:
    before = (written / "resources.jsonl").stat()
    assert child(failpoint=f"storage.survey.resources.before:{errno.EIO}").answers == [
        f"StorageError: {written / 'resources.jsonl'} cannot be used (the disk cannot read it): restore it from a "
        "backup, or move it away to start without"
    ]
    assert (written / "resources.jsonl").stat() == before


def test_conversations_that_the_disk_cannot_read_are_kept_and_start_empty(
    written: Path, child: Callable[..., Any]
) -> None:
    ended = child(
        ["read_log", "conversations"],
        ["read_log", "resources"],
        ["load", "findings"],
        failpoint=f"storage.survey.conversations.after:{errno.EIO}",
    )
    assert [json.loads(answer) for answer in ended.answers[1:3]] == [[], [ONE]]
    assert [each["text"] for each in json.loads(ended.answers[3]).values()] == [
        "conversations.jsonl was damaged (the disk cannot read it): it is kept in quarantine/",
        "conversations.jsonl starts empty",
    ]
    assert [path.read_text() for path in (written / "quarantine").iterdir()] == ['{"n": 1}\n']


async def test_a_read_error_after_the_start_is_told_and_not_taken_for_the_end(
    open_files: Callable[[], JsonFiles], written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_files()

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "opened", fail)
    with pytest.raises(StorageError, match=r"resources\.jsonl is not read or saved .*Input/output error"):
        await storage.each_line("resources", print)


# ---- the look before a start


def test_an_inspection_counts_their_lines_and_changes_nothing(written: Path) -> None:
    (written / "conversations.jsonl").write_bytes(b'{"n": 1}\n{"n"; 2}\n{"n": 3}\n{"n": 4')
    before = {path: path.lstat() for path in written.rglob("*")}
    found = inspect(written, Keyring())
    assert found.logs == {"resources.jsonl": 1, "conversations.jsonl": 2}
    assert found.notices == ["conversations.jsonl has damaged lines: 2, which are left out"]
    assert {path: path.lstat() for path in written.rglob("*")} == before


def test_an_inspection_misses_one_that_is_gone(written: Path) -> None:
    (written / "resources.jsonl").unlink()
    found = inspect(written, Keyring())
    assert found.logs == {"conversations.jsonl": 1}
    assert found.notices == ["resources.jsonl is gone: it starts without"]
