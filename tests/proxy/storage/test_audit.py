"""The audit log is a chain: a change, a gap, a file that is gone shows; a line that a crash has cut short is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StorageError
from proxy.jobs import Jobs
from proxy.storage.audit import REMOVED, verified, verified_in, verify
from proxy.storage.chained_log import ChainedLog
from proxy.storage.json_files import JsonFiles
from proxy.storage.redis_store import RedisStore

DAYS = ("2026-11-27", "2026-11-28", "2026-11-29")


def event(n: int, **more: Any) -> dict[str, Any]:
    return {"id": n, "kind": "thing.done", "text": f"thing {n}"} | more


@pytest.fixture
def begin(open_files: Callable[[], JsonFiles]) -> Callable[[], ChainedLog]:
    return lambda: ChainedLog(open_files(), Jobs())


async def write(log: ChainedLog, *days: str, first: int = 1) -> None:
    """One event on each day, durable as one that an admin has caused."""
    for n, day in enumerate(days, first):
        log.put(day, event(n), durable=True)
    await log.saved()


def lines(folder: Path, day: str) -> list[bytes]:
    return (folder / "events" / f"{day}.jsonl").read_bytes().splitlines(keepends=True)


def rewrite(folder: Path, day: str, *new: bytes) -> None:
    (folder / "events" / f"{day}.jsonl").write_bytes(b"".join(new))


THREE_EACH = [day for day in DAYS for _ in range(3)]


async def test_what_is_as_it_was_written_is_ok(begin: Callable[[], ChainedLog], folder: Path) -> None:
    log = begin()
    assert verified(folder) == "ok, 0 events"
    await write(log, DAYS[0])
    assert verified(folder) == "ok, 1 event"
    await write(log, *THREE_EACH[1:], first=2)
    assert verified(folder) == "ok, 9 events"
    assert json.loads(lines(folder, DAYS[0])[0])["prev_sha256"] == "0" * 64


@pytest.mark.parametrize("whole", [False, True], ids=["its files", "its folder"])
async def test_a_log_that_is_gone_is_not_ok_if_there_is_something_that_it_told_of(
    open_files: Callable[[], JsonFiles], folder: Path, whole: bool
) -> None:
    storage = open_files()
    await storage.put("accounts", "acc_1", {})
    await write(ChainedLog(storage, Jobs()), *THREE_EACH)
    assert verified(folder) == "ok, 9 events"
    for path in (folder / "events").iterdir():
        path.unlink()
    if whole:
        (folder / "events").rmdir()
    with pytest.raises(StorageError, match=f"the audit log in {folder} is gone: there are accounts"):
        verified(folder)


def test_a_folder_of_somebody_else_has_no_audit_log(folder: Path) -> None:
    folder.mkdir()
    (folder / "passwd").write_text("root:x:0:0")
    with pytest.raises(StorageError, match=f"data folder {folder} holds nothing of this program"):
        verified(folder)


async def test_the_log_of_a_shared_store_that_is_gone_is_not_ok_either(
    open_shared: Callable[[], RedisStore],
) -> None:
    storage = open_shared()
    assert await verified_in(storage, "the store") == "ok, 0 events"
    await storage.put("tokens", "key_1", {})
    with pytest.raises(StorageError, match="the audit log in the store is gone: there are tokens"):
        await verified_in(storage, "the store")


def edited(line: bytes) -> bytes:
    return line.replace(b"thing ", b"think ")


@pytest.mark.parametrize(
    ("day", "change", "place"),
    [
        (DAYS[1], lambda a, b, c: (a, edited(b), c), f"events/{DAYS[1]}.jsonl, line 3: "),
        (DAYS[1], lambda a, b, c: (a, c), f"events/{DAYS[1]}.jsonl, line 2: "),
        (DAYS[1], lambda a, b, c: (a, c, b), f"events/{DAYS[1]}.jsonl, line 2: "),
        (DAYS[1], lambda a, b, c: (a, a, b, c), f"events/{DAYS[1]}.jsonl, line 2: "),
        (DAYS[1], lambda a, b, c: (a, b, edited(c)), f"events/{DAYS[2]}.jsonl, line 1: "),
        (DAYS[1], lambda a, b, c: (a, b, b"nonsense\n"), f"events/{DAYS[2]}.jsonl, line 1: "),
        (DAYS[1], lambda a, b, c: (a, b, c[:-9]), f"events/{DAYS[2]}.jsonl, line 1: "),
        (DAYS[1], lambda a, b, c: (), f"events/{DAYS[2]}.jsonl, line 1: "),
        (DAYS[0], lambda a, b, c: (b, c), f"events/{DAYS[0]}.jsonl, line 1: it does not begin the log"),
        (DAYS[0], lambda a, b, c: (), f"events/{DAYS[1]}.jsonl, line 1: it does not begin the log"),
    ],
)
async def test_what_was_changed_is_named_with_file_and_line(
    begin: Callable[[], ChainedLog],
    folder: Path,
    day: str,
    change: Callable[..., tuple[bytes, ...]],
    place: str,
) -> None:
    await write(begin(), *THREE_EACH)
    rewrite(folder, day, *change(*lines(folder, day)))
    with pytest.raises(StorageError, match=place):
        verified(folder)


async def test_each_change_of_a_byte_but_of_the_last_line_shows(
    begin: Callable[[], ChainedLog], folder: Path
) -> None:
    """Nothing names the last line yet."""
    await write(begin(), *DAYS[:1] * 3)
    whole = b"".join(lines(folder, DAYS[0]))
    last = len(whole) - len(lines(folder, DAYS[0])[-1])
    for at in range(last):
        rewrite(folder, DAYS[0], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert verify(folder).problems, at


async def test_a_line_that_a_crash_has_cut_short_is_no_damage(
    open_files: Callable[[], JsonFiles], folder: Path
) -> None:
    storage = open_files()
    await write(ChainedLog(storage, Jobs()), DAYS[0], DAYS[0])
    await storage.close()
    with (folder / "events" / f"{DAYS[0]}.jsonl").open("ab") as file:
        file.write(lines(folder, DAYS[0])[-1][:-20])
    assert verified(folder) == "ok, 2 events"
    log = ChainedLog(open_files(), Jobs())
    newest, damaged = await log.open(10)
    assert ([each["id"] for each in newest], damaged) == ([1, 2], 0)
    await write(log, DAYS[0], DAYS[1], first=3)
    assert verified(folder) == "ok, 4 events"


async def test_an_opening_finds_damage_of_the_last_day_and_goes_on(
    open_files: Callable[[], JsonFiles], folder: Path
) -> None:
    storage = open_files()
    await write(ChainedLog(storage, Jobs()), *THREE_EACH)
    await storage.close()
    a, b, c = lines(folder, DAYS[2])
    rewrite(folder, DAYS[2], a, edited(b), c)
    log = ChainedLog(open_files(), Jobs())
    newest, damaged = await log.open(4)
    assert ([each["id"] for each in newest], damaged) == ([6, 7, 8, 9], 1)
    await write(log, DAYS[2], first=10)
    assert [text.partition(": ")[0] for text in verify(folder).problems] == [
        f"events/{DAYS[2]}.jsonl, line 3"
    ]


async def test_after_the_clock_was_set_back_the_chain_goes_on_in_the_newest_file(
    begin: Callable[[], ChainedLog], folder: Path
) -> None:
    await write(begin(), DAYS[1], DAYS[0], DAYS[2])
    assert (len(lines(folder, DAYS[1])), verified(folder)) == (2, "ok, 3 events")


async def test_days_that_were_removed_by_age_are_no_gap_and_others_are(
    begin: Callable[[], ChainedLog], folder: Path
) -> None:
    log = begin()
    await write(log, *THREE_EACH)
    days, last = await log.days_before(DAYS[1])
    assert days == [DAYS[0]]
    log.put(DAYS[2], event(10, kind=REMOVED, after={"last_sha256": last}), durable=True)
    await log.saved()
    await log.remove(days)
    assert verified(folder) == "ok, 7 events"
    (folder / "events" / f"{DAYS[1]}.jsonl").unlink()
    with pytest.raises(StorageError, match=f"{DAYS[2]}.jsonl, line 1: it does not begin the log"):
        verified(folder)


@pytest.mark.parametrize("shared", [False, True], ids=["files", "store"])
async def test_a_removal_by_age_that_was_interrupted_is_no_gap(
    open_files: Callable[[], JsonFiles], open_shared: Callable[[], RedisStore], shared: bool
) -> None:
    """The process may end between the event and the removal of a day, and between those of two days."""
    storage = open_shared() if shared else open_files()
    log = ChainedLog(storage, Jobs())
    await write(log, *THREE_EACH)
    days, last = await log.days_before(DAYS[2])
    log.put(DAYS[2], event(10, kind=REMOVED, after={"last_sha256": last}), durable=True)
    await log.saved()
    for count, day in zip((10, 7), days, strict=True):
        assert await verified_in(storage, "it") == f"ok, {count} events"
        await log.remove([day])
    assert await verified_in(storage, "it") == "ok, 4 events"


async def test_what_cannot_be_written_is_kept_in_its_order(
    begin: Callable[[], ChainedLog], folder: Path
) -> None:
    log = begin()
    await write(log, DAYS[0])
    path = folder / "events" / f"{DAYS[0]}.jsonl"
    aside = path.rename(folder / "aside")
    path.mkdir()
    with pytest.raises(StorageError):
        await write(log, DAYS[0], first=2)
    assert (len(log), log.unsaved is not None) == (1, True)
    path.rmdir()
    aside.rename(path)
    await write(log, DAYS[0], first=3)
    assert (log.unsaved, verified(folder)) == (None, "ok, 3 events")
    assert [json.loads(line)["id"] for line in lines(folder, DAYS[0])] == [1, 2, 3]


async def test_who_stops_waiting_stops_no_write(begin: Callable[[], ChainedLog], folder: Path) -> None:
    log = begin()
    log.put(DAYS[0], event(1), durable=True)
    waiting = asyncio.ensure_future(log.saved())
    await asyncio.sleep(0)
    waiting.cancel()
    await write(log, DAYS[0], first=2)
    assert verified(folder) == "ok, 2 events"


async def test_what_is_durable_is_flushed_with_all_before_it_and_the_rest_is_not(
    open_files: Callable[[], JsonFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that no admin has caused cost no flush of their own."""
    flushed: list[bool] = []
    append = JsonFiles.append

    def appending(self: JsonFiles, log: str, lines: Any, *, durable: bool = False) -> Any:
        flushed.append(durable)
        return append(self, log, lines, durable=durable)

    monkeypatch.setattr(JsonFiles, "append", appending)
    log = ChainedLog(open_files(), Jobs())
    log.put(DAYS[0], event(1), durable=False)
    await log.saved()
    log.put(DAYS[0], event(2), durable=False)
    log.put(DAYS[0], event(3), durable=True)
    await log.saved()
    assert flushed == [False, True]
