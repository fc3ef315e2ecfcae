"""A process that is killed at any step leaves what was acknowledged: the old record or the new one, never a mix."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.storage.json_files import JsonFiles
from proxy.storage.protocols import Kind, Record

KILLED = -signal.SIGKILL
OLD, NEW = {"n": 2}, {"n": 3}

PUT_STEPS = {
    f"storage.{step}.{when}": NEW
    if step in ("dirsync", "backup") or (step, when) == ("rename", "after")
    else OLD
    for step in ("tmp", "fsync", "rename", "dirsync", "backup")
    for when in ("before", "after")
}
DELETE_STEPS = {
    "storage.unlink_backup.before": OLD,
    "storage.unlink_backup.after": OLD,
    "storage.dirsync.before": OLD,
    "storage.dirsync.after": OLD,
    "storage.unlink.before": OLD,
    "storage.unlink.after": None,
}


@pytest.fixture
def reopen(open_files: Callable[[], JsonFiles], made: Path) -> Callable[..., Any]:
    """What an opening of the folder after the crash finds of the kind, and whether it still writes."""

    async def found(kind: Kind = "accounts") -> dict[str, Record]:
        storage = open_files()
        records = await storage.load(kind)
        assert not leftovers(made)
        await storage.put(kind, "later", {})
        await storage.close()
        return records

    return found


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob("**/.*.tmp"))


def only(record: Record | None) -> dict[str, Record]:
    return {} if record is None else {"a": record}


@pytest.mark.parametrize(
    ("kind", "step", "left"),
    [("accounts", step, left) for step, left in PUT_STEPS.items()]
    + [("tokens", step, PUT_STEPS[step]) for step in ("storage.rename.before", "storage.rename.after")],
)
async def test_a_kill_in_a_write_leaves_the_old_or_the_new_record(
    reopen: Callable[..., Any], child: Callable[..., Any], kind: Kind, step: str, left: Record
) -> None:
    ended = child(["put", kind, "a", NEW], failpoint=f"{step}:kill")
    assert (ended.status, ended.answers) == (KILLED, ["ok"])
    assert await reopen(kind) == only(left)


@pytest.mark.parametrize(("step", "left"), DELETE_STEPS.items())
async def test_a_kill_in_a_deletion_leaves_the_record_or_nothing_but_never_the_backup(
    reopen: Callable[..., Any], child: Callable[..., Any], step: str, left: Record | None
) -> None:
    ended = child(["delete", "accounts", "a"], failpoint=f"{step}:kill")
    assert (ended.status, ended.answers) == (KILLED, ["ok"])
    assert await reopen() == only(left)


@pytest.mark.parametrize(("step", "left"), [("before", OLD), ("after", NEW)])
async def test_a_kill_at_the_journal_leaves_the_old_or_the_new_record(
    reopen: Callable[..., Any], child: Callable[..., Any], step: str, left: Record
) -> None:
    ended = child(
        ["put", "accounts", "a", NEW], failpoint=f"storage.fsync.before:28,storage.journal.{step}:kill"
    )
    assert (ended.status, ended.answers) == (KILLED, ["ok"])
    assert await reopen() == only(left)


@pytest.mark.parametrize(
    "step", ["rename.before", "rename.after", "dirsync.after", "journal.before", "journal.after"]
)
async def test_a_kill_while_the_journal_is_brought_into_the_files_loses_nothing(
    reopen: Callable[..., Any], child: Callable[..., Any], step: str
) -> None:
    assert child(["put", "accounts", "a", NEW], failpoint="storage.fsync.before:28").answers == ["ok", "ok"]
    assert child(failpoint=f"storage.{step}:kill").status == KILLED
    assert await reopen() == only(NEW)


@pytest.mark.parametrize("step", ["storage.mend.before", "storage.mend.after"])
async def test_a_kill_while_a_damaged_file_is_mended_loses_nothing(
    reopen: Callable[..., Any], child: Callable[..., Any], made: Path, step: str
) -> None:
    (made / "accounts" / "a.json").write_bytes(b"damaged")
    assert child(failpoint=f"{step}:kill").status == KILLED
    assert await reopen() == {"a": OLD}
    assert {path.read_bytes() for path in (made / "quarantine").iterdir()} == {b"damaged"}


async def test_a_deletion_that_was_acknowledged_stays_one_when_the_next_write_is_killed(
    reopen: Callable[..., Any], child: Callable[..., Any]
) -> None:
    ended = child(
        ["delete", "accounts", "a"], ["put", "accounts", "b", NEW], failpoint="storage.backup.before:kill"
    )
    assert (ended.status, ended.answers) == (KILLED, ["ok", "ok"])
    assert await reopen() == {"b": NEW}


def test_every_acknowledged_write_survives_a_storm_of_kills(
    tmp_path: Path, child_env: Callable[..., dict[str, str]]
) -> None:
    storm = Path(__file__).with_name("kill_storm.py")
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(storm), "--kills", "30", str(tmp_path / "data")],
        env=child_env(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
