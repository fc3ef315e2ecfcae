"""The request log on its way to disk: in order, none twice, and the oldest are given up if the disk takes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.errors import StorageError
from proxy.feed import Feed
from proxy.storage.day_files import DayFiles
from proxy.usage import request_log as module
from proxy.usage.request import RequestRecord
from proxy.usage.request_archive import RequestArchive
from proxy.usage.request_log import RequestLog, Wanted
from tests.proxy.usage.test_request_log import KEY
from tests.service import TestClock

DAY_S = 86_400


class World:
    """A request log and its archive, as after a start."""

    def __init__(self, folder: Path) -> None:
        self.clock = TestClock()
        self.log = RequestLog(Feed(), clock=self.clock)
        self.folder = folder
        self.archive = RequestArchive(self.log, DayFiles(folder), clock=self.clock, keep_s=2 * DAY_S)

    def end(self, count: int = 1) -> None:
        """Requests that end now."""
        for _ in range(count):
            record = RequestRecord(self.clock.monotonic(), method="POST", path="/v1/messages", key=KEY)
            record.ended_at, record.status, record.complete = record.began_at, 200, True
            self.log.keep(record)

    def stored(self) -> list[int]:
        return [
            json.loads(line)["id"]
            for path in sorted(self.folder.glob("*.jsonl"))
            for line in path.read_bytes().splitlines()
        ]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_each_is_written_once_and_in_order(world: World) -> None:
    await world.archive.save()
    assert world.stored() == []
    for count in (3, 1200, 1):
        world.end(count)
        await world.archive.save()
        await world.archive.save()
    assert world.stored() == list(range(1, 1205))


async def test_a_full_disk_costs_the_oldest_lines_and_says_how_many(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: object) -> None:
        raise StorageError("no space left on device")

    world.end(2)
    await world.archive.save()
    with monkeypatch.context() as patch:
        patch.setattr(DayFiles, "append", full)
        for _ in range(3):
            world.end(module.MOST // 2)
            await world.archive.save()
    world.end()
    await world.archive.save()
    assert world.stored() == [1, 2, *range(world.log.newest - module.MOST + 1, world.log.newest + 1)]
    told = [each.message for each in caplog.records]
    assert told == [
        "requests not saved, the last ones are kept in memory error=no space left on device",
        f"requests saved at last lost={module.MOST // 2 + 1}",
    ]


async def test_old_days_go_while_it_runs_too(world: World) -> None:
    for _ in range(4):
        world.end()
        world.clock.advance(DAY_S)
    await world.archive.save()
    await world.archive.remove_old()
    assert world.stored() == [3, 4]


async def test_a_clock_that_is_ahead_at_the_start_removes_nothing_that_is_not_old(world: World) -> None:
    for _ in range(2):
        world.end()
        world.clock.advance(DAY_S)
    await world.archive.save()
    world.clock.jump(60 * DAY_S)
    await world.archive.remove_old(at_start=True)
    assert world.stored() == [1, 2]
    await world.archive.remove_old()
    assert world.stored() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"status": 200', '"status": "two hundred"'),
        ('"tries": []', '"tries": 5'),
        ('"at": "', '"at": "x'),
        ("{", ""),
    ],
)
async def test_lines_that_are_none_are_left_out(tmp_path: Path, old: str, new: str) -> None:
    before = World(tmp_path)
    before.end(3)
    await before.archive.save()
    path = before.folder / "2027-01-15.jsonl"
    first, second, third = path.read_text().splitlines()
    path.write_text("\n".join([first, second.replace(old, new, 1), third, ""]))
    world = World(tmp_path)
    await world.archive.open()
    assert [each.request_id for each in reversed(world.log.find(Wanted()))] == [
        json.loads(line)["request_id"] for line in (first, third)
    ]
    world.end()
    await world.archive.save()
    assert world.log.newest == 4 and len(path.read_text().splitlines()) == 4


async def test_a_folder_that_cannot_be_read_costs_what_was_before(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    (world.folder / "2027-01-14.jsonl").mkdir()
    await world.archive.open()
    world.end()
    await world.archive.save()
    assert [each.message.partition(" error=")[0] for each in caplog.records] == [
        "the requests of earlier runs are not shown"
    ]
    assert (world.folder / "2027-01-15.jsonl").exists()
