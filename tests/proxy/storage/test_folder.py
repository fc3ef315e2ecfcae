"""The data folder is private to its owner and belongs to one process at a time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.errors import StorageError
from proxy.storage.envelope import Keyring
from proxy.storage.inspection import inspect
from proxy.storage.json_files import JsonFiles

NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def made(open_files: Callable[[], JsonFiles], folder: Path, io_loop: object) -> Path:
    """A closed data folder with something in each of its files."""
    asyncio.run(fill(open_files()))
    return folder


async def fill(storage: JsonFiles) -> None:
    for n in range(2):
        await storage.put("accounts", "a", {"n": n})
        await storage.put("tokens", "a", {"n": n})
    await storage.update("counters", {})
    await storage.update("sessions", {})
    await storage.close()


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> set[tuple[str, str]]:
    """("folder" or "file", its mode) of everything in the data folder, and of the folder."""
    return {
        ("folder" if path.is_dir() else "file", oct(stat.S_IMODE(path.stat().st_mode)))
        for path in (folder, *folder.rglob("*"))
    }


PRIVATE = {("folder", "0o700"), ("file", "0o600")}


async def test_everything_is_private_whatever_the_umask_is(
    umask: int, open_files: Callable[[], JsonFiles], folder: Path
) -> None:
    await fill(open_files())
    assert modes(folder) == PRIVATE


def test_parents_that_are_made_are_private_too(tmp_path: Path, umask: int, clock: object) -> None:
    storage = JsonFiles.open(tmp_path / "one" / "two" / "data", clock=clock)
    asyncio.run(storage.close())
    assert modes(tmp_path / "one") == PRIVATE


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("", 0o755),
        ("accounts", 0o701),
        ("accounts/a.json", 0o640),
        ("accounts/a.json.bak", 0o604),
        ("tokens.json", 0o666),
        ("journal.bin", 0o660),
    ],
)
async def test_what_is_open_to_others_is_made_private_with_a_notice(
    open_files: Callable[[], JsonFiles], made: Path, name: str, mode: int
) -> None:
    (made / name).chmod(mode)
    storage = open_files()
    assert modes(made) == PRIVATE
    assert len(storage.notices) == 1
    assert f"was open to other users: {(made / name).name} made private" in storage.notices[0]


@as_root
@pytest.mark.parametrize("name", ["", "accounts", "accounts/a.json", "tokens.json.bak", ".lock"])
async def test_what_belongs_to_another_user_is_refused(
    open_files: Callable[[], JsonFiles], made: Path, name: str
) -> None:
    os.chown(made / name, NOBODY, NOBODY)
    with pytest.raises(
        StorageError, match=rf"{made / name} belongs to user {NOBODY}, .* runs as 0: run it as"
    ):
        open_files()


@as_root
async def test_another_users_folder_in_it_is_not_ours_to_judge(
    open_files: Callable[[], JsonFiles], made: Path
) -> None:
    (made / "lost+found").mkdir(0o700)
    os.chown(made / "lost+found", NOBODY, NOBODY)
    assert not open_files().notices


# ---- whose folder it is


@pytest.mark.parametrize(
    "names", [["notes.txt"], ["etc/", "tmp/", "usr/"], ["projects/", ".bashrc"]], ids=str
)
@pytest.mark.parametrize("look", [False, True], ids=["start", "check"])
def test_a_folder_of_somebody_else_is_refused_and_stays_as_it_is(
    open_files: Callable[[], JsonFiles], folder: Path, names: list[str], look: bool
) -> None:
    folder.mkdir()
    for name in names:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).write_text("theirs")
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    before = sorted(folder.rglob("*"))
    with pytest.raises(
        StorageError, match=rf"{folder} holds {names[0].strip('/')}.*: set storage\.data_folder"
    ):
        inspect(folder, Keyring()) if look else open_files()
    assert sorted(folder.rglob("*")) == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, *before)} == {0o755}


@pytest.mark.parametrize(
    "name", ["lost+found", ".gitkeep", "@eaDir", "#recycle", "config", "config.yaml", "tmp"]
)
def test_a_folder_with_nothing_that_matters_is_taken(
    open_files: Callable[[], JsonFiles], folder: Path, name: str
) -> None:
    (folder / name).mkdir(parents=True)
    inspect(folder, Keyring())
    open_files()


def test_a_private_folder_is_taken_whatever_is_in_it(
    open_files: Callable[[], JsonFiles], folder: Path
) -> None:
    folder.mkdir(mode=0o700)
    (folder / "admin.key").write_text("ours to keep")
    inspect(folder, Keyring())
    open_files()
    assert (folder / "admin.key").read_text() == "ours to keep"


REMAINS = ["accounts", "tokens.json", "tokens.json.bak", "counters.json", "inventory.json", "journal.bin"]


@pytest.mark.parametrize("name", [*REMAINS, "quarantine", "usage", "events", "handed", "requests"])
def test_whatever_is_left_of_ours_the_folder_is_ours(
    open_files: Callable[[], JsonFiles], made: Path, tmp_path: Path, name: str
) -> None:
    (made / "requests").mkdir()
    made.rename(tmp_path / "before")
    made.mkdir()
    (tmp_path / "before" / name).rename(made / name)
    (made / "notes.txt").write_text("a stranger's")
    inspect(made, Keyring())
    open_files()


@as_root
def test_a_strangers_file_in_our_folder_stays_as_it_is(
    open_files: Callable[[], JsonFiles], made: Path
) -> None:
    (made / "notes.txt").write_text("a stranger's")
    (made / "notes.txt").chmod(0o644)
    os.chown(made / "notes.txt", NOBODY, NOBODY)
    assert not open_files().notices
    assert stat.S_IMODE((made / "notes.txt").stat().st_mode) == 0o644


async def test_a_data_folder_may_be_a_symbolic_link(
    open_files: Callable[[], JsonFiles], made: Path, tmp_path: Path
) -> None:
    os.rename(made, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", made)
    storage = open_files()
    await storage.put("accounts", "b", {})
    assert await storage.load("accounts") == {"a": {"n": 1}, "b": {}}
    assert (tmp_path / "elsewhere" / "accounts" / "b.json").is_file()


@pytest.mark.parametrize("name", ["accounts/a.json", "tokens.json", "journal.bin", ".lock"])
async def test_a_file_that_is_a_symbolic_link_is_refused(
    open_files: Callable[[], JsonFiles], made: Path, tmp_path: Path, name: str
) -> None:
    (made / name).rename(tmp_path / "elsewhere")
    (made / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=f"{name}: "):
        open_files()


async def test_a_pipe_in_place_of_a_file_is_refused(open_files: Callable[[], JsonFiles], made: Path) -> None:
    (made / "tokens.json").unlink()
    os.mkfifo(made / "tokens.json", 0o600)
    with pytest.raises(StorageError, match=r"tokens\.json: not a regular file"):
        open_files()


def test_a_file_in_place_of_the_folder_is_refused(open_files: Callable[[], JsonFiles], folder: Path) -> None:
    folder.write_bytes(b"")
    with pytest.raises(StorageError, match=rf"{folder} cannot be used \({folder}: File exists\)"):
        open_files()


def test_left_over_temporary_files_are_removed(open_files: Callable[[], JsonFiles], made: Path) -> None:
    for name in (
        ".tokens.json.tmp",
        "accounts/.a.json.tmp",
        "accounts/.a.json.bak.tmp",
        "accounts/.new.json.tmp",
    ):
        (made / name).write_bytes(b"half of it")
        (made / name).chmod(0o600)
    assert not open_files().notices
    assert not list(made.rglob("*.tmp"))


def test_request_bodies_that_a_killed_process_has_left_are_removed(
    open_files: Callable[[], JsonFiles], made: Path
) -> None:
    (made / "tmp" / "body-x3k_").write_bytes(b"a part of it")
    (made / "tmp" / "another's").write_bytes(b"left alone")
    for path in (made / "tmp").iterdir():
        path.chmod(0o600)
    assert not open_files().notices
    assert [path.name for path in (made / "tmp").iterdir()] == ["another's"]


def test_where_no_request_body_can_be_stored_the_start_is_refused(
    open_files: Callable[[], JsonFiles], made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(StorageError, match=r"cannot be used \(.*/data/tmp: Read-only file system\)"):
        open_files()


async def test_a_second_opening_is_refused_with_the_process_that_has_the_folder(
    open_files: Callable[[], JsonFiles], made: Path
) -> None:
    open_files()
    with pytest.raises(StorageError) as refused:
        open_files()
    assert str(refused.value) == (
        f"data folder {made} is in use by process {os.getpid()}: stop it, "
        "or set storage.data_folder to another folder"
    )


async def test_a_second_process_is_refused_and_touches_nothing(
    open_files: Callable[[], JsonFiles], made: Path, child: Callable[..., object]
) -> None:
    storage = open_files()
    (made / "tokens.json").chmod(0o644)
    (made / ".tokens.json.tmp").write_bytes(b"being written")
    assert (
        child().answers[0].startswith(f"StorageError: data folder {made} is in use by process {os.getpid()}:")
    )
    assert (made / ".tokens.json.tmp").exists()
    assert stat.S_IMODE((made / "tokens.json").stat().st_mode) == 0o644
    await storage.close()


async def test_the_folder_is_free_as_soon_as_its_process_was_killed(
    open_files: Callable[[], JsonFiles],
    made: Path,
    child_command: list[str],
    child_env: Callable[..., dict[str, str]],
) -> None:
    with subprocess.Popen(  # noqa: S603, ASYNC220 - our own child, and nothing else runs
        child_command, env=child_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ok\n"
        with pytest.raises(StorageError, match=f"in use by process {holder.pid}"):
            open_files()
        holder.kill()
    assert await open_files().load("accounts") == {"a": {"n": 1}}


def test_of_many_processes_that_start_at_once_one_has_the_folder(
    child_command: list[str], child_env: Callable[..., dict[str, str]]
) -> None:
    with contextlib.ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(  # noqa: S603 - our own child
                    child_command, env=child_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(6)
        ]
        answers = [racer.stdout.readline() for racer in racers if racer.stdout]
        for racer in racers:
            racer.kill()
    assert answers.count("ok\n") == 1
    assert sum("is in use by " in answer for answer in answers) == 5


async def test_a_program_that_was_started_does_not_inherit_the_lock(
    open_files: Callable[[], JsonFiles], made: Path
) -> None:
    storage = open_files()
    with subprocess.Popen(  # noqa: ASYNC220 - waits for its input
        [sys.executable, "-c", "input('ok\\n')"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    ) as other:
        # With `close_fds=False` Popen uses posix_spawn, which may return before the program has closed anything.
        assert other.stdout is not None and other.stdout.readline() == b"ok\n"
        await storage.close()
        open_files()
        other.communicate(b"\n")


async def test_a_file_edited_while_running_is_kept_and_memory_wins(
    open_files: Callable[[], JsonFiles], made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_files()
    (made / "accounts/a.json").write_bytes(b"edited by hand")
    await storage.put("accounts", "a", {"n": 2})
    assert "changed by somebody else" in caplog.text
    assert [path.read_bytes() for path in (made / "quarantine").iterdir()] == [b"edited by hand"]
    assert (made / "accounts/a.json.bak").read_bytes() == (made / "accounts/a.json").read_bytes()
    await storage.close()
    assert await open_files().load("accounts") == {"a": {"n": 2}}


async def test_a_file_removed_while_running_is_written_again(
    open_files: Callable[[], JsonFiles], made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_files()
    (made / "tokens.json").unlink()
    await storage.put("tokens", "b", {})
    assert "changed by somebody else" in caplog.text
    await storage.close()
    assert await open_files().load("tokens") == {"a": {"n": 1}, "b": {}}


async def test_our_own_writes_are_not_taken_for_edits(
    open_files: Callable[[], JsonFiles], made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_files()
    for n in range(3):
        await storage.put("accounts", "a", {"n": n})
        await storage.put("tokens", "a", {"n": n})
        await storage.delete("tokens", "a")
    assert not caplog.records
