"""A write that fails leaves the old file whole; the record waits in the journal, or the caller is told."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.storage.json_files import JsonFiles
from proxy.storage.protocols import Kind

OLD, NEW = {"n": 2}, {"n": 3}
FAILURES = [
    f"storage.tmp.before:{errno.EACCES}",
    f"storage.tmp.after:{errno.ENOSPC}",
    f"storage.fsync.before:{errno.EIO}",
    f"storage.backup.before:{errno.ENOSPC}",
    f"storage.rename.before:{errno.ENOSPC}",
    f"storage.dirsync.before:{errno.EIO}",
]
JOURNAL_TOO = f"storage.fsync.before:{errno.ENOSPC},storage.journal.before:{errno.EIO}"


class Break:
    """Makes the account files unwritable, as root too: their folder is elsewhere."""

    def __init__(self, folder: Path) -> None:
        self._accounts, self._elsewhere = folder / "accounts", folder / "elsewhere"

    def __enter__(self) -> None:
        self._accounts.rename(self._elsewhere)

    def __exit__(self, *exc: object) -> None:
        self._elsewhere.rename(self._accounts)


@pytest.mark.parametrize(
    ("kind", "failure"), [*(("accounts", failure) for failure in FAILURES), ("tokens", FAILURES[-1])]
)
async def test_a_failing_write_is_kept_in_the_journal(
    open_files: Callable[[], JsonFiles], made: Path, child: Callable[..., Any], kind: Kind, failure: str
) -> None:
    assert child(["put", kind, "a", NEW], failpoint=failure).answers == ["ok", "ok"]
    storage = open_files()
    assert await storage.load(kind) == {"a": NEW}
    assert storage.notices == (f"{kind}/a: its last change comes from journal.bin",)
    await storage.close()
    again = open_files()
    assert await again.load(kind) == {"a": NEW}
    assert not again.notices  # it is in its own file now


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_write_leaves_the_old_file_and_no_temporary_one(
    made: Path, child: Callable[..., Any], failure: str
) -> None:
    before = (made / "accounts/a.json").read_bytes()
    child(["put", "accounts", "a", NEW], failpoint=failure)
    renamed = failure.startswith(("storage.dirsync", "storage.backup"))
    assert ((made / "accounts/a.json").read_bytes() == before) is not renamed
    assert sorted(os.listdir(made / "accounts")) == ["a.json", "a.json.bak"]


@pytest.mark.parametrize("step", ["unlink_backup", "unlink", "dirsync"])
async def test_a_failing_deletion_is_kept_in_the_journal(
    open_files: Callable[[], JsonFiles], made: Path, child: Callable[..., Any], step: str
) -> None:
    failure = f"storage.{step}.before:{errno.EROFS}"
    assert child(["delete", "accounts", "a"], failpoint=failure).answers == ["ok", "ok"]
    assert await open_files().load("accounts") == {}


@pytest.mark.parametrize("kind", ["accounts", "tokens"])
async def test_where_the_journal_fails_too_the_caller_is_told_and_the_old_record_stays(
    open_files: Callable[[], JsonFiles], made: Path, child: Callable[..., Any], kind: Kind
) -> None:
    ended = child(["put", kind, "a", NEW], ["load", kind], failpoint=JOURNAL_TOO)
    assert ended.answers[1] == f"StorageError: {kind}/a could not be saved in {made}: No space left on device"
    assert json.loads(ended.answers[2]) == {"a": OLD}
    assert await open_files().load(kind) == {"a": OLD}


async def test_a_deletion_that_nothing_could_hold_is_no_deletion(
    open_files: Callable[[], JsonFiles], made: Path, child: Callable[..., Any]
) -> None:
    failure = f"storage.unlink_backup.before:5,{JOURNAL_TOO}"
    assert child(["delete", "accounts", "a"], failpoint=failure).answers[1].startswith("StorageError")
    assert await open_files().load("accounts") == {"a": OLD}


def test_a_deletion_is_not_acknowledged_while_the_journal_may_hold_the_record(
    made: Path, child: Callable[..., Any]
) -> None:
    # The journal's write reports an error after all of it has reached the disk.
    failure = f"storage.tmp.before:{errno.ENOSPC},storage.journal.after:{errno.EIO}"
    ended = child(["put", "accounts", "a", NEW], ["delete", "accounts", "a"], failpoint=failure)
    assert [answer.split(":")[0] for answer in ended.answers] == ["ok", "StorageError", "StorageError"]


def test_a_journal_that_cannot_be_overwritten_is_made_anew(made: Path, child: Callable[..., Any]) -> None:
    failure = f"storage.backup.before:{errno.EIO},storage.journal.before:{errno.EIO}"
    before = (made / "journal.bin").stat().st_ino
    assert child(["put", "accounts", "a", NEW], failpoint=failure).answers == ["ok", "ok"]
    assert (made / "journal.bin").stat().st_ino != before
    assert json.loads(child(["load", "accounts"]).answers[1]) == {"a": NEW}


async def test_what_waits_is_written_with_the_next_write_that_works(
    open_files: Callable[[], JsonFiles], made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_files()
    with Break(made):
        await storage.put("accounts", "a", NEW)
        assert "cannot write, so it goes to the journal record=accounts/a" in caplog.text
    await storage.put("tokens", "b", {})
    assert "everything from the journal is in its own file now" in caplog.text
    await storage.close()
    again = open_files()
    assert await again.load("accounts") == {"a": NEW}
    assert not again.notices


async def test_many_accounts_wait_together_each_with_its_last_record(
    open_files: Callable[[], JsonFiles], made: Path
) -> None:
    storage = open_files()
    with Break(made):
        for n in range(100):
            await storage.put("accounts", f"a{n % 10}", {"n": n, "token": "x" * 1000})
    await storage.close()
    records = await open_files().load("accounts")
    assert [records[f"a{n}"]["n"] for n in range(10)] == list(range(90, 100))


async def test_a_full_journal_tells_the_caller_and_keeps_what_it_has(
    open_files: Callable[[], JsonFiles], made: Path
) -> None:
    storage = open_files()
    with Break(made):
        await storage.put("accounts", "a", NEW)
        with pytest.raises(StorageError, match=r"accounts/b could not .* journal\.bin is full"):
            await storage.put("accounts", "b", {"token": "x" * 40_000})
        await storage.put("accounts", "c", NEW)
    await storage.close()
    assert await open_files().load("accounts") == {"a": NEW, "c": NEW}


@pytest.mark.parametrize("deleted_while_broken", [True, False])
async def test_a_deletion_takes_the_record_out_of_the_journal_too(
    open_files: Callable[[], JsonFiles], made: Path, deleted_while_broken: bool
) -> None:
    storage = open_files()
    with Break(made):
        await storage.put("accounts", "a", NEW)
        await storage.put("accounts", "b", NEW)
        if deleted_while_broken:
            await storage.delete("accounts", "a")
    if not deleted_while_broken:
        await storage.delete("accounts", "a")
    await storage.close()
    assert await open_files().load("accounts") == {"b": NEW}


async def test_a_record_made_again_after_its_deletion_waited_is_there(
    open_files: Callable[[], JsonFiles], made: Path
) -> None:
    storage = open_files()
    with Break(made):
        await storage.delete("accounts", "a")
    await storage.put("accounts", "a", NEW)
    await storage.close()
    assert await open_files().load("accounts") == {"a": NEW}


async def test_the_journal_serves_where_file_and_backup_are_damaged(
    open_files: Callable[[], JsonFiles], made: Path, child: Callable[..., Any]
) -> None:
    child(["put", "accounts", "a", NEW], failpoint=FAILURES[0])
    for name in ("a.json", "a.json.bak"):
        (made / "accounts" / name).write_bytes(b"damaged")
    storage = open_files()
    assert await storage.load("accounts") == {"a": NEW}
    assert len(os.listdir(made / "quarantine")) == 2


async def test_what_cannot_be_written_at_the_start_goes_on_waiting(
    open_files: Callable[[], JsonFiles], made: Path, child: Callable[..., Any]
) -> None:
    child(["put", "accounts", "a", NEW], failpoint=FAILURES[0])
    ended = child(["load", "accounts"], failpoint=FAILURES[0])
    assert json.loads(ended.answers[1]) == {"a": NEW}
    assert await open_files().load("accounts") == {"a": NEW}


async def test_a_torn_journal_write_leaves_the_one_before(
    open_files: Callable[[], JsonFiles], made: Path, child: Callable[..., Any]
) -> None:
    half, journal = 32768, made / "journal.bin"
    child(["put", "accounts", "a", NEW], failpoint=FAILURES[0])
    before = journal.read_bytes()
    child(["put", "accounts", "b", NEW], failpoint=FAILURES[0])
    after = journal.read_bytes()
    end = after.index(b"accounts/b")
    journal.write_bytes(after[:end] + before[end:half] + before[half:])
    storage = open_files()
    assert await storage.load("accounts") == {"a": NEW}
    assert (
        storage.notices[0]
        == "journal.bin was damaged, and may have lost its last write: it is kept in quarantine/"
    )


@pytest.mark.parametrize("half", [0, 32768])
async def test_a_damaged_half_of_the_journal_loses_nothing(
    open_files: Callable[[], JsonFiles], made: Path, child: Callable[..., Any], half: int
) -> None:
    child(["put", "accounts", "a", NEW], ["delete", "tokens", "a"], failpoint=FAILURES[0])
    journal = bytearray((made / "journal.bin").read_bytes())
    journal[half + 100] ^= 1
    (made / "journal.bin").write_bytes(journal)
    storage = open_files()
    assert (await storage.load("accounts"), await storage.load("tokens")) == ({"a": NEW}, {})


@pytest.mark.parametrize(
    "data", [b"", b"x" * 65536, b"{}", bytes(1000)], ids=["empty", "x", "short", "zeros"]
)
async def test_a_damaged_journal_is_kept_and_made_anew(
    open_files: Callable[[], JsonFiles], made: Path, data: bytes
) -> None:
    (made / "journal.bin").write_bytes(data)
    storage = open_files()
    assert await storage.load("accounts") == {"a": OLD}
    assert [path.read_bytes() for path in (made / "quarantine").iterdir()] == [data]
    assert (made / "journal.bin").stat().st_size == 65536
    await storage.close()
    assert not open_files().notices


async def test_a_flipped_bit_in_the_journal_changes_no_record_and_is_kept(
    folder: Path, made: Path, child: Callable[..., Any], clock: Clock
) -> None:
    child(["put", "accounts", "a", NEW], failpoint=FAILURES[0])
    files = {path: path.read_bytes() for path in (made / "journal.bin", made / "accounts/a.json")}
    whole = files[made / "journal.bin"]
    for n in [n for n, byte in enumerate(whole) if byte][::3]:
        for path, data in files.items():
            path.write_bytes(data)
        mutated = whole[:n] + bytes([whole[n] ^ 1 << n % 8]) + whole[n + 1 :]
        (made / "journal.bin").write_bytes(mutated)
        try:
            storage = JsonFiles.open(folder, clock=clock)
        except StorageError:
            assert (made / "journal.bin").read_bytes() == mutated
            continue
        records = await storage.load("accounts")
        await storage.close()
        kept = [path.read_bytes() for path in (made / "quarantine").iterdir()]
        assert records == {"a": NEW} or (records == {"a": OLD} and mutated in kept)


def test_the_journal_is_written_and_not_only_allocated(made: Path) -> None:
    status = (made / "journal.bin").stat()
    assert status.st_blocks * 512 >= status.st_size == 65536


@pytest.mark.parametrize("kind", ["counters", "sessions", "quota"])
async def test_counters_that_cannot_be_written_keep_the_old_ones(
    made: Path, child: Callable[..., Any], kind: Kind
) -> None:
    ended = child(["update", kind, {"a": NEW}], ["load", kind], failpoint=f"storage.tmp.after:{errno.ENOSPC}")
    assert ended.answers[1:] == [
        f"StorageError: {kind} could not be saved in {made}: No space left on device",
        "{}",
    ]


UNSHARE = ("unshare", "--map-root-user", "--mount")
SMALL_DISK = 'mount -t tmpfs -o size=256k,mode=0700 none "$0" && exec "$@"'
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


def mounted(script: str, at: Path) -> tuple[str, ...]:
    """A command that starts another with a file system of its own at `at`, without privileges; or skips."""
    under = (*UNSHARE, "sh", "-c", script, str(at))
    if not shutil.which("unshare") or subprocess.run([*under, "true"], capture_output=True).returncode:  # noqa: S603
        pytest.skip("no user namespaces here")
    return under


def test_a_read_only_data_folder_refuses_the_start(made: Path, child: Callable[..., Any]) -> None:
    assert child(under=mounted(READ_ONLY, made)).answers == [
        f"StorageError: data folder {made} cannot be used ({made}/.lock: Read-only file system): mend that, "
        "or set storage.data_folder to another folder"
    ]


def test_a_full_disk_loses_nothing_over_a_restart(child: Callable[..., Any], tmp_path: Path) -> None:
    answers = child(
        ["put", "accounts", "a", OLD],
        ["fill"],
        ["put", "accounts", "a", NEW],
        ["put", "tokens", "t", NEW],
        ["update", "counters", {"a": NEW}],
        ["reopen"],
        ["load", "accounts"],
        ["put", "accounts", "a", {"n": 4}],
        ["free"],
        ["put", "accounts", "b", NEW],
        ["reopen"],
        ["load", "accounts"],
        ["load", "tokens"],
        under=mounted(SMALL_DISK, tmp_path),
    ).answers
    assert answers[1:5] == ["ok", "ok", "ok", "ok"]
    assert answers[5].endswith("No space left on device")
    assert [json.loads(answer) if answer.startswith("{") else answer for answer in answers[6:]] == [
        "ok",
        {"a": NEW},
        "ok",
        "ok",
        "ok",
        "ok",
        {"a": {"n": 4}, "b": NEW},
        {"t": NEW},
    ]
