"""What a process hands over that has given up its data folder, and how the next one takes it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from proxy.accounts.resources import Resources
from proxy.clients.budgets import Budgets
from proxy.errors import StorageError
from proxy.storage.handover import SPENDING, USAGE, HandOver, TakeOver
from proxy.storage.json_files import JsonFiles
from proxy.storage.protocols import Record
from proxy.usage.counts import no_sums, to_line
from proxy.usage.late import restore
from proxy.usage.series import Series
from tests.service import TestClock


class Taken:
    """A process that takes: what it was given, and how often it stored that."""

    def __init__(self, folder: Path) -> None:
        self.lines: dict[str, list[Record]] = {"resources": [], SPENDING: [], USAGE: []}
        self.saved = 0
        self.fails = False
        self.over = TakeOver(folder, {name: lines.extend for name, lines in self.lines.items()}, [self._save])

    async def _save(self) -> None:
        if self.fails:
            raise StorageError("the disk is full")
        self.saved += 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handed").mkdir()
    return tmp_path


def waiting(folder: Path) -> int:
    return len(list((folder / "handed").iterdir()))


async def test_what_is_handed_over_is_taken_once_and_removed(folder: Path) -> None:
    handing, taken = HandOver(folder, TestClock()), Taken(folder)
    await handing.append("2026-11-29", [{"t": 1}])
    await handing.append(SPENDING, [{"key": "tok_1"}, {"key": "tok_2"}])
    assert waiting(folder) == 2
    await taken.over.take()
    await taken.over.take()
    assert taken.lines == {"resources": [], SPENDING: [{"key": "tok_1"}, {"key": "tok_2"}], USAGE: [{"t": 1}]}
    assert (taken.saved, waiting(folder)) == (1, 0)


async def test_what_cannot_be_stored_is_kept_and_not_counted_twice(folder: Path) -> None:
    taken = Taken(folder)
    await HandOver(folder, TestClock()).append("2026-11-29", [{"t": 1}])
    taken.fails = True
    for _ in range(2):
        with pytest.raises(StorageError):
            await taken.over.take()
    assert waiting(folder) == 1
    taken.fails = False
    await taken.over.take()
    assert (taken.lines[USAGE], taken.saved, waiting(folder)) == ([{"t": 1}], 1, 0)


async def test_a_durable_line_waits_until_the_next_process_knows_of_it(folder: Path) -> None:
    class Waits(TestClock):
        """Every wait is time in which the other process takes."""

        async def sleep(self, seconds: float) -> None:
            await taken.over.take()
            await super().sleep(seconds)

    taken = Taken(folder)
    await HandOver(folder, Waits()).append("resources", [{"id": "file_1"}], durable=True)
    assert taken.lines["resources"] == [{"id": "file_1"}]


async def test_without_a_next_process_a_durable_line_waits_no_longer_than_a_second(folder: Path) -> None:
    clock = TestClock()
    await HandOver(folder, clock).append("resources", [{"id": "file_1"}], durable=True)
    assert 1 <= sum(clock.slept) < 1.1
    assert waiting(folder) == 1


async def test_all_else_is_refused(folder: Path) -> None:
    handing = HandOver(folder, TestClock())
    for write in (
        handing.put("accounts", "acc_1", {}),
        handing.delete("tokens", "tok_1"),
        handing.update("counters", {}),
        handing.append("events-2026-11-29", [{}]),
        handing.replace_log("conversations", []),
        handing.load("accounts"),
    ):
        with pytest.raises(StorageError, match="in use by the process that follows"):
            await write
    assert handing.degraded and waiting(folder) == 0


async def test_a_file_that_is_no_hand_over_stops_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.json", '{"log": "accounts", "lines": []}')):
        (folder / "handed" / name).write_text(text)
    taken = Taken(folder)
    await HandOver(folder, TestClock()).append(SPENDING, [{"key": "tok_1"}])
    await taken.over.take()
    assert taken.lines[SPENDING] == [{"key": "tok_1"}]
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 3
    assert sorted(path.name for path in (folder / "handed").iterdir()) == [f"{n}.json.bad" for n in "abc"]


def test_usage_of_another_process_is_added_to_our_own() -> None:
    clock = TestClock()
    ours, theirs = Series(clock=clock), Series(clock=clock)
    amounts = ("acc_1", "tok_1", "claude-sonnet-5-5")
    minute = int(clock.now() // 60 * 60)
    sums = no_sums()
    sums[0] = 1
    line = to_line((minute, amounts), sums)
    restore(theirs, [line])
    restore(ours, [line, line, {"v": 99}])
    assert ours.totals("today").requests == 2 * theirs.totals("today").requests == 2


def test_what_another_process_has_spent_is_counted() -> None:
    budgets = Budgets({}, clock=TestClock())
    budgets.restore([{"key": "tok_1", "tokens": 5, "cost_usd": 0.25}] * 2)
    assert budgets.view("tok_1")["tokens_today"] == 10
    assert budgets.view("tok_1")["cost_usd_today"] == 0.5


async def test_what_another_process_has_learnt_is_on_disk(tmp_path: Path) -> None:
    clock = TestClock()
    storage = JsonFiles.open(tmp_path, clock=clock)
    ours = Resources(storage, clock=clock)
    day = int(clock.now() // 86_400)
    ours.restore(
        [
            {"version": 1},
            {"id": "file_1", "account": "acc_1", "group": "g", "in": "files", "day": day},
            {"home": "g", "account": "acc_1"},
            {"id": "file_2", "account": "acc_1", "group": "g", "in": "files", "day": day},
            {"gone": "file_2"},
        ]
    )
    await ours.save()
    await storage.close()
    again = Resources(storage := JsonFiles.open(tmp_path, clock=clock), clock=clock)
    await again.load()
    await storage.close()
    for each in (ours, again):
        found = each.get("file_1")
        assert found is not None and found.account_id == "acc_1"
        assert (each.get("file_2"), each.home("g")) == (None, "acc_1")


def test_the_format_is_plain_json(folder: Path) -> None:
    asyncio.run(HandOver(folder, TestClock()).append(SPENDING, [{"key": "tok_1"}]))
    [path] = (folder / "handed").iterdir()
    assert json.loads(path.read_text()) == {"log": SPENDING, "lines": [{"key": "tok_1"}]}
    assert path.stat().st_mode & 0o777 == 0o600
