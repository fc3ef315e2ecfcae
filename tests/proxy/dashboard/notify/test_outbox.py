"""Which notices a target gets, and when: its events, quiet hours, repeats, and other targets that are dead."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from proxy.dashboard.notify.notice import Notice, Reply
from proxy.dashboard.notify.outbox import MAX_HELD, Outbox
from proxy.dashboard.notify.target import QuietHours, Target
from proxy.feed import Level
from proxy.jobs import Jobs
from tests.service import TestClock, until

NOON = 1_800_014_400.0  # 2027-01-15T12:00:00Z
HOUR = 3600.0


class Receiver:
    """Takes notices; with `hangs` it never answers."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.taken: list[Notice] = []
        self.tried = 0
        self._hangs = hangs

    @property
    def texts(self) -> list[str]:
        return [notice.told for notice in self.taken]

    async def send(self, notice: Notice) -> Reply:
        self.tried += 1
        if self._hangs:
            await asyncio.Event().wait()
        self.taken.append(notice)
        return Reply(None, 200)

    def close(self) -> None:
        """Nothing is held."""


class Boxes:
    """Outboxes of one clock."""

    def __init__(self, jobs: Jobs, clock: TestClock) -> None:
        self.clock = clock
        self._jobs = jobs
        self.made: list[Outbox] = []

    def make(self, receiver: Receiver, *, repeat_after_s: float = 600.0, **target: object) -> Outbox:
        fields = {"name": "a", "kind": "webhook", "events": ("*",)} | target
        outbox = Outbox(
            Target(**fields),  # type: ignore[arg-type]
            receiver,
            repeat_after_s=repeat_after_s,
            jobs=self._jobs,
            clock=self.clock,
            rng=random.Random(1),
        )
        self.made.append(outbox)
        return outbox

    def notice(
        self, event: str = "x.y", text: str = "It is so", level: Level = "info", about: str = ""
    ) -> Notice:
        return Notice(event, text, level, self.clock.now(), about)


@pytest.fixture
def boxes(jobs: Jobs, clock: TestClock) -> Iterator[Boxes]:
    boxes = Boxes(jobs, clock)
    clock.advance(NOON - clock.now())
    yield boxes
    for outbox in boxes.made:
        outbox.close("the test ends")


async def settled() -> None:
    """Let what is sent arrive."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("patterns", "event", "wanted"),
    [
        (("account.*",), "account.renamed", True),
        (("account.*",), "accounts.renamed", False),
        (("*.exhausted", "a"), "pool.exhausted", True),
        (("pool.exhausted",), "pool.exhausted.twice", False),
        ((), "pool.exhausted", False),
    ],
)
async def test_a_target_gets_the_events_that_it_names(
    boxes: Boxes, patterns: tuple[str, ...], event: str, wanted: bool
) -> None:
    receiver = Receiver()
    boxes.make(receiver, events=patterns).put(boxes.notice(event))
    await settled()
    assert bool(receiver.taken) is wanted


async def test_the_same_about_the_same_is_counted_and_told_once_later(boxes: Boxes) -> None:
    receiver = Receiver()
    outbox = boxes.make(receiver)
    for number in range(4):
        outbox.put(boxes.notice(text=f"number {number}", about="one"))
    outbox.put(boxes.notice(text="another", about="two"))
    await settled()
    assert receiver.texts == ["number 0", "another"]
    boxes.clock.advance(599)
    outbox.look()
    await settled()
    assert len(receiver.taken) == 2
    boxes.clock.advance(1)
    outbox.look()
    outbox.put(boxes.notice(text="number 4", about="one"))  # within the time of the one just told
    await settled()
    assert receiver.texts[2:] == ["number 3 (2 more like this)"]
    boxes.clock.advance(600)
    outbox.look()
    outbox.look()
    await settled()
    assert receiver.texts[3:] == ["number 4"]


async def test_a_repeat_that_comes_late_is_told_at_once_with_those_before(boxes: Boxes) -> None:
    receiver = Receiver()
    outbox = boxes.make(receiver)
    for number in range(3):
        outbox.put(boxes.notice(text=f"number {number}"))
    boxes.clock.advance(601)
    outbox.put(boxes.notice(text="number 3"))
    await settled()
    assert receiver.texts == ["number 0", "number 3 (2 more like this)"]


async def test_without_a_time_for_repeats_each_is_told(boxes: Boxes) -> None:
    receiver = Receiver()
    outbox = boxes.make(receiver, repeat_after_s=0.0)
    for _ in range(3):
        outbox.put(boxes.notice())
    await settled()
    assert receiver.texts == ["It is so"] * 3


async def test_in_quiet_hours_only_errors_are_told_and_the_rest_afterwards(boxes: Boxes) -> None:
    receiver = Receiver()
    outbox = boxes.make(receiver, quiet=QuietHours(11 * 60, 13 * 60, "UTC"))
    outbox.put(boxes.notice("a.info", "first"))
    outbox.put(boxes.notice("a.info", "second"))
    outbox.put(boxes.notice("a.warning", "warned", "warning"))
    outbox.put(boxes.notice("an.error", "broken", "error"))
    outbox.look()
    await settled()
    assert receiver.texts == ["broken"]
    boxes.clock.advance(HOUR)
    outbox.look()
    await settled()
    assert receiver.texts[1:] == ["second (1 more like this)", "warned"]
    assert receiver.taken[1].at == NOON  # when it happened, not when it is told


async def test_errors_wait_too_if_they_shall(boxes: Boxes) -> None:
    receiver = Receiver()
    outbox = boxes.make(receiver, quiet=QuietHours(11 * 60, 13 * 60, "UTC"), quiet_errors=True)
    outbox.put(boxes.notice(level="error"))
    await settled()
    assert receiver.taken == []


@pytest.mark.parametrize(
    ("start", "end", "zone", "quiet"),
    [
        ("11:00", "13:00", "UTC", True),
        ("12:00", "12:01", "UTC", True),
        ("11:00", "12:00", "UTC", False),
        ("22:00", "07:00", "UTC", False),
        ("22:00", "12:01", "UTC", True),
        ("20:00", "22:00", "Asia/Tokyo", True),  # it is 21:00 there
        ("12:00", "13:00", "Asia/Tokyo", False),
    ],
)
def test_quiet_hours_are_those_of_the_time_zone(start: str, end: str, zone: str, quiet: bool) -> None:
    minutes = [int(each[:2]) * 60 + int(each[3:]) for each in (start, end)]
    assert QuietHours(*minutes, zone).at(NOON) is quiet


def health(boxes: Boxes, status: str, level: Level) -> Notice:
    return replace(boxes.notice("health.changed", status, level, status), state_of="health")


async def test_that_all_is_well_again_is_told_at_once_and_a_flapping_health_now_and_then(
    boxes: Boxes,
) -> None:
    receiver = Receiver()
    outbox = boxes.make(receiver)
    outbox.put(health(boxes, "well", "info"))
    boxes.clock.advance(60)
    outbox.put(health(boxes, "ill", "error"))
    boxes.clock.advance(60)
    outbox.put(health(boxes, "well", "info"))
    await settled()
    assert receiver.texts == ["well", "ill", "well"]
    for status, level in (("ill", "error"), ("well", "info"), ("ill", "error"), ("well", "info")):
        boxes.clock.advance(10)
        outbox.put(health(boxes, status, level))  # type: ignore[arg-type]
    outbox.put(health(boxes, "ill", "error"))
    await settled()
    assert len(receiver.taken) == 3
    boxes.clock.advance(600)
    outbox.look()
    outbox.look()
    await settled()
    assert receiver.texts[3:] == ["ill (4 more like this)"]  # the last state alone
    outbox.put(health(boxes, "well", "info"))
    await settled()
    assert receiver.texts[4:] == ["well"]


async def test_what_is_held_is_bounded(boxes: Boxes, caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver()
    outbox = boxes.make(receiver, quiet=QuietHours(11 * 60, 13 * 60, "UTC"))
    for number in range(MAX_HELD + 5):
        outbox.put(boxes.notice(text=str(number), about=str(number)))
    boxes.clock.advance(HOUR)
    outbox.look()
    await until(lambda: len(receiver.taken) == MAX_HELD)
    assert receiver.texts == [str(number) for number in range(5, MAX_HELD + 5)]
    assert caplog.text.count("notification dropped, too many are held") == 5


async def test_a_target_that_hangs_delays_no_other(boxes: Boxes) -> None:
    dead, well = Receiver(hangs=True), Receiver()
    outboxes = boxes.make(dead, name="dead"), boxes.make(well, name="well")
    for number in range(5):
        for outbox in outboxes:
            outbox.put(boxes.notice(text=str(number), about=str(number)))
    await settled()
    assert well.texts == ["0", "1", "2", "3", "4"] and dead.tried == 1
