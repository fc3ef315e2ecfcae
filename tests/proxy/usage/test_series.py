"""Usage over time: whatever is asked for, however it is kept, the sums are those of what was recorded."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tornado.ioloop import IOLoop

from proxy.errors import StorageError, Unprocessable
from proxy.storage.json_files import JsonFiles
from proxy.storage.protocols import Record
from proxy.usage.counts import Counts, amounts_of
from proxy.usage.report import Report, Row
from proxy.usage.series import MOST_AT_ONCE, MOST_UNFOLDED, Ring, Series
from tests.memory import traced
from tests.service import TestClock

MINUTE, HOUR, DAY = 60, 3600, 86400
START = TestClock().now()  # 2027-01-15T08:00:00Z
TODAY = "2027-01-15"
ONE = Counts(ok=1)


class Shelf:
    """A storage of logs in memory. While `full`, nothing can be written; `unreadable` ones cannot be read."""

    def __init__(self) -> None:
        self.files: dict[str, list[str]] = {}
        self.away: str | None = None
        self.full = False
        self.unreadable: set[str] = set()

    async def logs(self) -> list[str]:
        return sorted(self.files)

    async def read_log(self, log: str) -> list[Record]:
        await asyncio.sleep(0)
        if log in self.unreadable:
            raise StorageError(f"{log} cannot be read")
        return [json.loads(line) for line in self.files[log]]

    async def append(self, log: str, lines: Iterable[Record]) -> None:
        await asyncio.sleep(0)
        self._written()
        self.files.setdefault(log, []).extend(map(json.dumps, lines))

    async def replace_log(self, log: str, lines: Iterable[Record], *, as_read: bool = False) -> None:
        self._written()
        self.files[log] = [json.dumps(line) for line in lines]

    async def remove_log(self, log: str) -> None:
        self._written()
        del self.files[log]

    def _written(self) -> None:
        if self.full:
            raise StorageError("no space left on device")


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def open_disk(tmp_path: Path, clock: TestClock, io_loop: IOLoop) -> Iterator[Callable[[], JsonFiles]]:
    """Real files; closed at the end of the test."""
    opened: list[JsonFiles] = []

    def open_it() -> JsonFiles:
        opened.append(JsonFiles.open(tmp_path, clock=clock))
        return opened[-1]

    yield open_it
    for disk in opened:
        io_loop.run_sync(disk.close)


@pytest.fixture
def series(clock: TestClock) -> Series:
    return Series(clock=clock)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def restarted(clock: TestClock, shelf: Shelf) -> Series:
    """What another process knows after reading what is on disk."""
    again = Series(clock=clock)
    await again.load(shelf)
    return again


def ask(series: Series, counts: Counts = ONE, **ids: str | None) -> None:
    """A request has ended, of account a, client key t and model m, but for other `ids`."""
    found = {"account": "a", "token": "t", "model": "m"} | ids
    series.add((found["account"], found["token"], found["model"]), amounts_of(counts))


def total(parts: Iterable[Counts]) -> dict[str, float]:
    """The sum by field."""
    sums = asdict(Counts())
    for part in parts:
        for name, value in asdict(part).items():
            sums[name] += value
    return sums


def about(expected: Any) -> Any:
    """Whole numbers exactly; costs to 1e-9, since the order in which they were added is another."""
    return pytest.approx(expected, rel=0, abs=1e-9)


def answers(series: Series, now: float) -> list[object]:
    """All that can be asked for, flat."""
    asked: list[object] = [series.ring(name) for name in ("1h", "24h", "7d", "30d")]
    for by in ("account", "token", "model"):
        for interval, back in (("minute", 2 * HOUR), ("hour", 8 * DAY), ("day", 31 * DAY)):
            asked.append(series.rows(by, start=now - back, end=now, interval=interval))
            asked.append(series.rows(by, start=now - back, end=now))
    return list(flat(asked))


def flat(answer: Any) -> Iterator[object]:
    if isinstance(answer, list | tuple):
        for each in answer:
            yield from flat(each)
    elif isinstance(answer, Report | Row | Ring):
        for field in fields(answer):
            yield from flat(getattr(answer, field.name))
    else:
        yield answer


def same(one: list[object], other: list[object]) -> bool:
    """But for the order in which costs were added."""
    return len(one) == len(other) and all(
        a == b or (isinstance(a, Counts) and isinstance(b, Counts) and asdict(a) == about(asdict(b)))
        for a, b in zip(one, other, strict=True)
    )


# What is asked for


def test_a_request_is_counted_under_its_account_its_client_key_and_its_model(series: Series) -> None:
    counts = Counts(ok=1, input_tokens=12, output_tokens=34, cost_usd=0.25, ttfb_ms=80, ttfb_count=1)
    ask(series, counts)
    for by, id in (("account", "a"), ("token", "t"), ("model", "m")):
        (row,) = series.rows(by, start=START - 1, end=START).rows
        assert (row.id, row.counts) == (id, counts)


def test_requests_are_all_outcomes_and_errors_those_that_failed() -> None:
    counts = Counts(ok=1, client_error=10, limited=100, upstream_error=1000, refused=10_000, aborted=100_000)
    assert (counts.requests, counts.errors) == (111_111, 11_110)


def test_rows_come_in_the_order_of_their_ids_and_one_without_id_first(series: Series) -> None:
    for account in ("b", None, "a"):
        ask(series, account=account, model=None)
    report = series.rows("account", start=START - 1, end=START)
    assert [row.id for row in report.rows] == [None, "a", "b"]
    assert [row.id for row in series.rows("model", start=START - 1, end=START).rows] == [None]


@pytest.mark.parametrize(
    ("back", "length", "rounded"),
    [
        (70 * MINUTE, 30, (START - 70 * MINUTE, START - 69 * MINUTE)),
        (2 * HOUR, 30, (START - 2 * HOUR, START - 2 * HOUR + MINUTE)),
        (2 * HOUR + 1, 30, (START - 2 * HOUR - 15 * MINUTE, START - 2 * HOUR + 15 * MINUTE)),
        (8 * DAY - 1, 30, (START - 8 * DAY, START - 8 * DAY + 15 * MINUTE)),
        (8 * DAY + 1, 30, (START - 8 * DAY - 8 * HOUR, START - 7 * DAY - 8 * HOUR)),
        (31 * DAY, DAY, (START - 31 * DAY - 8 * HOUR, START - 29 * DAY - 8 * HOUR)),
    ],
)
def test_a_span_is_rounded_outwards_to_the_finest_buckets_that_are_kept(
    series: Series, back: int, length: int, rounded: tuple[float, float]
) -> None:
    report = series.rows("account", start=START - back, end=START - back + length)
    assert (report.start, report.end) == rounded


@pytest.mark.parametrize(
    ("interval", "back", "rounded"),
    [
        ("minute", 90 * MINUTE, (START - 90 * MINUTE, START + MINUTE)),
        ("hour", 90 * MINUTE, (START - 2 * HOUR, START + HOUR)),
        ("hour", 8 * DAY, (START - 8 * DAY, START + HOUR)),
        ("day", 90 * MINUTE, (START - 8 * HOUR, START + 16 * HOUR)),
    ],
)
def test_with_an_interval_a_span_is_rounded_outwards_to_it(
    series: Series, interval: Any, back: int, rounded: tuple[float, float]
) -> None:
    report = series.rows("account", start=START - back, end=START, interval=interval)
    assert (report.start, report.end) == rounded


def test_an_interval_adds_the_buckets_with_requests(series: Series, clock: TestClock) -> None:
    ask(series, Counts(ok=1))
    clock.advance(3 * HOUR + 10)
    ask(series, Counts(ok=2))
    (row,) = series.rows("token", start=START, end=clock.now(), interval="hour").rows
    assert row.buckets == ((int(START), Counts(ok=1)), (int(START) + 3 * HOUR, Counts(ok=2)))
    assert row.counts == Counts(ok=3)


@pytest.mark.parametrize("interval", [None, "hour"])
def test_what_was_taken_for_a_report_stays_as_it_was(series: Series, interval: Any) -> None:
    ask(series, Counts(ok=1))
    taken = series.taken("account", start=START, end=START + 1, interval=interval)
    ask(series, Counts(ok=2))
    ask(series, Counts(ok=4), account="b")
    (row,) = taken.report().rows
    assert (row.counts.ok, [counts.ok for _, counts in row.buckets]) == (1, [1] if interval else [])


@pytest.mark.parametrize("second", [0, 1, 59])
def test_what_happens_now_is_in_a_span_that_ends_now(series: Series, clock: TestClock, second: int) -> None:
    clock.advance(second)
    ask(series)
    now = clock.now()
    assert series.rows("account", start=now - 60, end=now).rows[0].counts.ok == 1
    assert series.rows("account", start=now, end=now + DAY).rows[0].counts.ok == 1


@pytest.mark.parametrize(
    ("span", "why"),
    [
        ({"start": START, "end": START}, "from has to be before to"),
        ({"start": START - 1, "end": START - 2}, "from has to be before to"),
        ({"start": math.nan, "end": START}, "from has to be before to"),
        ({"start": START - 1, "end": math.nan}, "from has to be before to"),
        ({"start": START + 1, "end": START + 2}, "from is in the future"),
        ({"start": START - 31 * DAY - 1, "end": START}, "by day for 31 days"),
        ({"start": -math.inf, "end": START}, "by day for 31 days"),
        ({"start": START - 2 * HOUR - 1, "end": START, "interval": "minute"}, "by minute for 2 hours"),
        ({"start": START - 8 * DAY - 1, "end": START, "interval": "hour"}, "by hour for 8 days"),
        ({"start": START - 31 * DAY - 1, "end": START, "interval": "day"}, "by day for 31 days"),
    ],
)
def test_a_span_that_is_not_kept_or_none_is_refused(series: Series, span: Any, why: str) -> None:
    with pytest.raises(Unprocessable, match=why):
        series.rows("account", **span)


def test_an_endless_span_ends_with_the_bucket_that_time_is_in(series: Series) -> None:
    assert series.rows("account", start=START - 1, end=math.inf).end == START + MINUTE


@pytest.mark.parametrize(
    ("name", "count", "span_s"),
    [("1h", 60, MINUTE), ("24h", 96, 15 * MINUTE), ("7d", 84, 2 * HOUR), ("30d", 30, DAY)],
)
def test_a_ring_ends_with_the_bucket_that_time_is_in(
    series: Series, clock: TestClock, name: Any, count: int, span_s: int
) -> None:
    ask(series, Counts(ok=1))
    ring = series.ring(name)
    assert (len(ring.buckets), ring.span_s, ring.start % span_s) == (count, span_s, 0)
    assert ring.start + (count - 1) * span_s <= START < ring.start + count * span_s
    assert ring.buckets[-1] == Counts(ok=1)
    clock.advance((count - 1) * span_s)
    assert series.ring(name).buckets == (Counts(ok=1), *[Counts()] * (count - 1))
    clock.advance(span_s)
    assert series.ring(name).buckets == (Counts(),) * count


def test_a_ring_is_of_everything_or_of_one(series: Series) -> None:
    for account, ok in (("a", 1), ("b", 2), (None, 4)):
        ask(series, Counts(ok=ok), account=account)
    last = {id: series.ring("1h", "account", id).buckets[-1].ok for id in ("a", "b", None, "c")}
    assert last == {"a": 1, "b": 2, None: 4, "c": 0}
    assert series.ring("1h").buckets[-1].ok == 7


async def test_totals_are_of_this_process_or_of_this_day(clock: TestClock, shelf: Shelf) -> None:
    before = Series(clock=clock)
    ask(before)
    await before.flush(shelf)
    series = await restarted(clock, shelf)
    ask(series, Counts(ok=2))
    assert series.totals("today") == Counts(ok=3)
    assert series.totals("start") == Counts(ok=2)
    clock.advance(16 * HOUR)
    assert series.totals("today") == Counts()
    assert series.totals("start") == Counts(ok=2)


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
async def test_days_are_those_of_utc_whatever_the_zone_and_its_summer_time(
    monkeypatch: pytest.MonkeyPatch, clock: TestClock, shelf: Shelf, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        series = Series(clock=clock)
        clock.advance(58 * DAY - 8 * HOUR)  # 2027-03-14, when New York's day has 23 hours
        for _ in range(3 * 24):
            ask(series)
            clock.advance(HOUR)
        await series.flush(shelf)
        buckets = series.rows("account", start=clock.now() - 4 * DAY, end=clock.now(), interval="day")
        assert [counts.ok for _, counts in buckets.rows[0].buckets] == [24, 24, 24]
        assert await shelf.logs() == ["2027-03-14", "2027-03-15", "2027-03-16"]
    finally:
        monkeypatch.undo()
        time.tzset()


# The sums

whole = st.integers(0, 10**9)
some_counts = st.builds(
    Counts,
    ok=st.integers(0, 3),
    limited=st.integers(0, 3),
    input_tokens=whole,
    cache_read_tokens=whole,
    duration_ms=whole,
    cost_usd=st.floats(0, 100),
)
some_id = st.sampled_from(["a", "b", "c"])
recorded = st.tuples(st.floats(0, 2 * DAY), st.none() | some_id, some_id, st.none() | some_id, some_counts)


@settings(max_examples=60, deadline=None, database=None)
@given(
    st.lists(recorded, max_size=25),
    st.lists(st.floats(0, 31 * DAY), min_size=2, max_size=5, unique=True),
    st.sampled_from([None, "minute", "hour", "day"]),
)
def test_the_parts_of_any_split_sum_up_to_what_was_recorded(
    records: list[Any], backs: list[float], interval: Any
) -> None:
    clock = TestClock()
    series = Series(clock=clock)
    happened = []
    for wait, account, token, model, counts in records:
        clock.advance(wait)
        series.add((account, token, model), amounts_of(counts))
        happened.append((clock.now(), account, token, model, counts))
    now = clock.now()
    for end, start in pairwise([now, *(now - back for back in sorted(backs) if back)]):
        for place, by in enumerate(("account", "token", "model"), 1):
            try:
                report = series.rows(by, start=start, end=end, interval=interval)
            except Unprocessable:
                continue
            assert report.start <= start < end <= report.end or report.end > now
            inside = [each for each in happened if report.start <= each[0] < report.end]
            assert {row.id for row in report.rows} == {each[place] for each in inside}
            for row in report.rows:
                expected = total(each[-1] for each in inside if each[place] == row.id)
                assert total([row.counts]) == about(expected)
                if interval:
                    parts = total(part for _, part in row.buckets)
                    assert parts == about(expected)
    for name in ("1h", "24h", "7d", "30d"):
        ring = series.ring(name)
        inside = [each for each in happened if each[0] >= ring.start]
        expected = total(each[-1] for each in inside)
        assert total(ring.buckets) == about(expected)


@dataclass
class Happened:
    at: float
    ids: tuple[str | None, str, str | None]
    counts: Counts
    saved: bool = False


class ASeriesIsAListOfWhatHappened(RuleBasedStateMachine):
    """Through flushes that work and fail, compaction, restarts and kills."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.clock = TestClock()
        self.shelf = Shelf()
        self.series = Series(clock=self.clock)
        self.happened: list[Happened] = []

    @rule(account=st.none() | some_id, token=some_id, model=st.none() | some_id, counts=some_counts)
    def record(self, account: str | None, token: str, model: str | None, counts: Counts) -> None:
        self.series.add((account, token, model), amounts_of(counts))
        self.happened.append(Happened(self.clock.now(), (account, token, model), counts))

    @rule(seconds=st.sampled_from([1, 20, MINUTE, 20 * MINUTE, HOUR, 5 * HOUR, DAY, 9 * DAY]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(full=st.booleans())
    def flush(self, full: bool) -> None:
        self.shelf.full = full
        self.loop.run(self.series.flush(self.shelf))
        if not full:
            assert self.series.unsaved is None
            for each in self.happened:
                each.saved = True

    @rule()
    def compact(self) -> None:
        self.shelf.full = False
        self.loop.run(self.series.compact(self.shelf))

    @rule()
    def kill(self) -> None:
        self.shelf.full = False
        self.happened = [each for each in self.happened if each.saved]
        self.series = self.loop.run(restarted(self.clock, self.shelf))

    @rule()
    def restart(self) -> None:
        self.flush(full=False)
        before = answers(self.series, self.clock.now())
        self.kill()
        assert same(answers(self.series, self.clock.now()), before)

    @invariant()
    def the_sums_are_right(self) -> None:
        now = self.clock.now()
        for place, by in enumerate(("account", "token", "model")):
            report = self.series.rows(by, start=now - 31 * DAY, end=now)
            found = {row.id: total([row.counts]) for row in report.rows}
            inside = [each for each in self.happened if each.at >= report.start]
            assert found.keys() == {each.ids[place] for each in inside}
            for id, sums in found.items():
                expected = total(each.counts for each in inside if each.ids[place] == id)
                assert sums == about(expected)

    def teardown(self) -> None:
        self.restart()
        self.the_sums_are_right()
        self.loop.close()


TestASeriesIsAListOfWhatHappened = ASeriesIsAListOfWhatHappened.TestCase
TestASeriesIsAListOfWhatHappened.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, database=None
)


# The disk


async def test_a_line_on_disk_is_what_version_1_wrote(series: Series, shelf: Shelf, clock: TestClock) -> None:
    line = {
        **{"v": 1, "t": int(START), "account": "a", "token": "t", "model": None},
        **{"ok": 1, "client_error": 2, "limited": 3, "upstream_error": 4, "refused": 5, "aborted": 6},
        **{"in": 7, "out": 8, "cache_5m": 9, "cache_1h": 10, "cache_read": 11, "searches": 12},
        **{"unpriced": 13, "estimated": 14, "stayed": 15, "moved": 16},
        **{"ttfb_ms": 17, "ttfb_n": 18, "duration_ms": 19, "usd": 0.2},
    }
    values = [*range(1, 20), 0.2]
    names = (field.name for field in fields(Counts))
    ask(series, Counts(**dict(zip(names, values, strict=True))), model=None)
    clock.advance(1)
    await series.flush(shelf)
    assert [json.loads(text) for text in shelf.files[TODAY]] == [line]
    (row,) = (await restarted(clock, shelf)).rows("account", start=START, end=START + 1).rows
    assert list(asdict(row.counts).values()) == values


async def test_a_line_of_before_turns_were_counted_is_read(shelf: Shelf, clock: TestClock) -> None:
    line = {
        **{"v": 1, "t": int(START), "account": "a", "token": "t", "model": "m", "ok": 2, "in": 7, "out": 8},
        **{"cache_5m": 9, "cache_read": 16, "ttfb_ms": 15, "ttfb_n": 2, "duration_ms": 17, "usd": 0.18},
    }
    shelf.files[TODAY] = [json.dumps(line)]
    later = await restarted(clock, shelf)
    (row,) = later.rows("account", start=START, end=START + 1).rows
    assert (row.counts.ok, row.counts.cache_read_tokens, row.counts.cost_usd) == (2, 16, 0.18)
    assert (row.counts.stayed, row.counts.moved, row.counts.cache_read_share) == (0, 0, 0.5)
    ask(later, Counts(stayed=1))
    await later.flush(shelf)
    assert [json.loads(text).get("stayed", 0) for text in shelf.files[TODAY]] == [0, 1]
    (row,) = (await restarted(clock, shelf)).rows("account", start=START, end=START + 1).rows
    assert (row.counts.ok, row.counts.stayed) == (2, 1)


async def test_a_flush_writes_one_line_of_what_is_new_in_a_minute(
    series: Series, shelf: Shelf, clock: TestClock
) -> None:
    for _ in range(3):
        ask(series)
        ask(series, account="b")
        clock.advance(30)
    await series.flush(shelf)
    await series.flush(shelf)
    ask(series)
    await series.flush(shelf)
    lines = [json.loads(text) for text in shelf.files[TODAY]]
    assert [(line["t"] - START, line["account"], line["ok"]) for line in lines] == [
        (0, "a", 2),
        (0, "b", 2),
        (60, "a", 1),
        (60, "b", 1),
        (60, "a", 1),
    ]


async def test_what_cannot_be_written_is_kept_and_written_once(
    series: Series, shelf: Shelf, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.full = True
    for _ in range(3):
        ask(series)
        await series.flush(shelf)
        assert series.unsaved == "no space left on device"
    shelf.full = False
    await series.flush(shelf)
    assert series.unsaved is None
    assert caplog.messages == [
        "usage not saved, kept in memory error=no space left on device",
        "usage saved at last",
    ]
    assert (await restarted(clock, shelf)).totals("today").ok == 3


async def test_what_is_counted_while_a_flush_writes_is_in_the_next_one(
    series: Series, shelf: Shelf, clock: TestClock
) -> None:
    for full in (True, False, False):
        shelf.full = full
        ask(series)
        flush = asyncio.ensure_future(series.flush(shelf))
        await asyncio.sleep(0)  # the append has begun
        ask(series)
        await flush
    await series.flush(shelf)
    assert (await restarted(clock, shelf)).totals("today").ok == 6


async def test_a_flush_that_is_cancelled_doubles_nothing(
    open_disk: Callable[[], JsonFiles], series: Series, clock: TestClock
) -> None:
    disk = open_disk()
    ask(series)
    flush = asyncio.ensure_future(series.flush(disk))
    await asyncio.sleep(0)
    flush.cancel()
    assert await asyncio.gather(flush, return_exceptions=True)
    await series.flush(disk)
    assert (await restarted(clock, disk)).totals("today").ok == 1


async def test_a_disk_that_is_full_for_long_takes_no_more_memory_and_no_sum(
    series: Series, shelf: Shelf, clock: TestClock
) -> None:
    shelf.full = True
    for n in range(30_000):
        ask(series, Counts(ok=1, input_tokens=n), token=f"t{n % 500}")
        clock.advance(2)
    await series.flush(shelf)
    shelf.full = False
    await series.flush(shelf)
    assert sum(map(len, shelf.files.values())) < 10_000
    again = await restarted(clock, shelf)
    days = again.rows("model", start=START, end=clock.now(), interval="day").rows
    assert sum(row.counts.input_tokens for row in days) == sum(range(30_000))


async def test_a_tail_torn_at_any_byte_loses_its_own_line(
    open_disk: Callable[[], JsonFiles], series: Series, clock: TestClock, tmp_path: Path
) -> None:
    disk = open_disk()
    for n in (1, 2):
        ask(series, Counts(ok=n, cost_usd=0.1))
        await series.flush(disk)
    whole = (tmp_path / "usage" / f"{TODAY}.jsonl").read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(len(whole) + 1):
        (tmp_path / "usage" / f"{TODAY}.jsonl").write_bytes(whole[:cut])
        again = await restarted(clock, disk)
        assert again.totals("today").ok == (cut >= first - 1) + 2 * (cut >= len(whole) - 1)
        ask(again, Counts(ok=10))
        await again.flush(disk)
        assert (await restarted(clock, disk)).totals("today") == again.totals("today")


async def test_an_old_day_is_left_with_a_line_for_each_quarter_of_an_hour_and_then_with_one(
    series: Series, shelf: Shelf, clock: TestClock
) -> None:
    lines = []
    for wait in (0, HOUR, DAY, 8 * DAY):
        for _ in range(60 if wait < DAY else 0):
            ask(series)
            await series.flush(shelf)
            clock.advance(MINUTE)
        clock.advance(wait)
        if wait >= DAY:  # what is old is told by the newest day there is
            ask(series)
            await series.flush(shelf)
        await series.compact(shelf)
        lines.append(len(shelf.files[TODAY]))
    assert lines == [60, 64, 8, 1]
    assert json.loads(shelf.files[TODAY][0])["ok"] == 120


async def test_compaction_changes_no_answer(series: Series, shelf: Shelf, clock: TestClock) -> None:
    for n in range(200):
        ask(series, Counts(ok=1, input_tokens=n, cost_usd=0.1 * n), account=f"a{n % 3}")
        await series.flush(shelf)
        clock.advance(97 * MINUTE if n < 150 else 50)
    before = answers(series, clock.now())
    for _ in range(2):
        await series.compact(shelf)
        assert same(answers(series, clock.now()), before)
        assert same(answers(await restarted(clock, shelf), clock.now()), before)


async def test_what_is_written_during_compaction_stays(
    series: Series, shelf: Shelf, clock: TestClock
) -> None:
    for _ in range(3):
        ask(series)
        await series.flush(shelf)
    compaction = asyncio.ensure_future(series.compact(shelf))
    await asyncio.sleep(0)  # it reads
    ask(series)
    await asyncio.gather(series.flush(shelf), compaction)
    assert len(shelf.files[TODAY]) == 2
    assert (await restarted(clock, shelf)).totals("today").ok == 4


async def test_compaction_that_cannot_write_leaves_the_lines(
    series: Series, shelf: Shelf, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        ask(series)
        await series.flush(shelf)
    shelf.full = True
    assert (await restarted(clock, shelf)).totals("today").ok == 3
    assert caplog.messages == [f"usage not compacted day={TODAY} error=no space left on device"]
    assert len(shelf.files[TODAY]) == 3
    shelf.full = False
    await series.compact(shelf)
    assert len(shelf.files[TODAY]) == 1


async def test_a_log_that_cannot_be_read_is_told_of_and_left_alone(
    series: Series, shelf: Shelf, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        ask(series)
        ask(series)
        await series.flush(shelf)
        clock.advance(DAY)
    shelf.unreadable = {TODAY}
    before = shelf.files[TODAY].copy()
    again = await restarted(clock, shelf)
    assert again.rows("account", start=START, end=clock.now()).rows[0].counts.ok == 2
    assert caplog.messages == [f"usage of a day is left out day={TODAY} error={TODAY} cannot be read"]
    assert shelf.files[TODAY] == before


@pytest.mark.parametrize(
    "change",
    [
        *({"v": 2}, {"v": True}, {"t": "x"}, {"t": 1.5}, {"account": 1}, {"new": 1}),
        *({"ok": -1}, {"ok": 1.5}, {"ok": True}, {"ok": 10**400}),
        *({"usd": -0.1}, {"usd": math.nan}, {"usd": math.inf}, {"usd": "1"}),
    ],
    ids=lambda change: str(change)[:12],
)
async def test_lines_of_another_program_are_left_out_and_alone(
    series: Series, shelf: Shelf, clock: TestClock, caplog: pytest.LogCaptureFixture, change: Record
) -> None:
    for _ in range(2):
        ask(series)
        await series.flush(shelf)
    shelf.files[TODAY].append(json.dumps(json.loads(shelf.files[TODAY][0]) | change))
    before = shelf.files[TODAY].copy()
    clock.advance(DAY)
    again = await restarted(clock, shelf)
    assert again.rows("account", start=START, end=clock.now()).rows[0].counts.ok == 2
    assert caplog.messages == [f"lines of another program are left alone, and out day={TODAY} lines=1"]
    assert shelf.files[TODAY] == before


async def test_logs_are_removed_once_no_answer_needs_them(
    series: Series, shelf: Shelf, clock: TestClock
) -> None:
    shelf.files["notes"] = ["mine"]
    ask(series)
    await series.flush(shelf)
    clock.advance(31 * DAY)
    for is_left in (True, False):
        ask(series)
        await series.flush(shelf)
        await series.compact(shelf)
        assert (TODAY in shelf.files) == is_left
        clock.advance(DAY)
    assert shelf.files["notes"] == ["mine"]


async def test_many_rows_are_saved_in_parts_and_while_the_store_is_away_none_is_made(
    series: Series, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[int] = []
    append = shelf.append

    async def count(log: str, lines: Iterable[Record]) -> None:
        some = list(lines)
        parts.append(len(some))
        await append(log, some)

    monkeypatch.setattr(shelf, "append", count)
    for n in range(2 * MOST_AT_ONCE + 7):
        ask(series, token=f"t{n % 900}", account=f"a{n // 900}")
    shelf.away = "it is away"
    with monkeypatch.context() as patch:
        patch.delattr("proxy.usage.series.to_line")
        await series.flush(shelf)
    assert (series.unsaved, parts) == ("it is away", [])
    shelf.away = None
    await series.flush(shelf)
    assert (series.unsaved, parts) == (None, [MOST_AT_ONCE, MOST_AT_ONCE, 7])
    assert sum(json.loads(line)["ok"] for line in shelf.files[TODAY]) == 2 * MOST_AT_ONCE + 7


async def test_old_logs_are_removed_at_the_start(series: Series, shelf: Shelf, clock: TestClock) -> None:
    for _ in range(2):
        ask(series)
        await series.flush(shelf)
        clock.advance(32 * DAY)
    await restarted(clock, shelf)
    assert len(shelf.files) == 1 and TODAY not in shelf.files


async def test_a_clock_that_is_ahead_at_the_start_removes_and_merges_nothing(
    series: Series, shelf: Shelf, clock: TestClock
) -> None:
    for _ in range(20):
        for _ in range(3):
            ask(series)
            await series.flush(shelf)
            clock.advance(MINUTE)
        clock.advance(DAY)
    for each in (series, await restarted(clock, shelf)):
        await each.compact(shelf)
    before = {name: lines.copy() for name, lines in shelf.files.items()}
    clock.jump(60 * DAY)
    await (await restarted(clock, shelf)).compact(shelf)
    clock.jump(-60 * DAY)
    assert shelf.files == before
    assert sum(each.ok for each in (await restarted(clock, shelf)).ring("30d").buckets) == 60


# The clock, and what clients make up


async def test_a_clock_that_is_set_back_loses_nothing(series: Series, shelf: Shelf, clock: TestClock) -> None:
    for step in (0, 90 * MINUTE, -3 * HOUR, 10, 5 * HOUR, -DAY, DAY):
        clock.advance(step)
        ask(series)
        await series.flush(shelf)
        await series.compact(shelf)
    clock.advance(DAY)
    for each in (series, await restarted(clock, shelf)):
        assert each.rows("token", start=START - 2 * DAY, end=clock.now()).rows[0].counts.ok == 7


async def test_a_clock_that_is_set_ahead_and_back_counts_on(
    series: Series, shelf: Shelf, clock: TestClock
) -> None:
    for step in (0, 20 * 365 * DAY, -20 * 365 * DAY):
        clock.advance(step)
        ask(series)
        await series.flush(shelf)
    assert series.totals("start").ok == 3
    assert series.totals("today").ok >= 1
    assert (await restarted(clock, shelf)).totals("today").ok == 2


def test_the_first_hundred_models_of_a_day_are_told_apart(series: Series, clock: TestClock) -> None:
    for n in range(150):
        ask(series, model=f"m{n}")
    ask(series, model="m7")
    rows = {row.id: row.counts.ok for row in series.rows("model", start=START, end=START + 1).rows}
    assert len(rows) == 101
    assert (rows["m7"], rows["other"]) == (2, 50)
    clock.advance(DAY)
    ask(series, model="m149")
    assert series.rows("model", start=clock.now(), end=clock.now() + 1).rows[0].id == "m149"


async def test_a_restart_tells_the_same_models_apart(series: Series, shelf: Shelf, clock: TestClock) -> None:
    for n in range(150):
        ask(series, model=f"m{n}")
    await series.flush(shelf)
    shelf.files[TODAY].reverse()  # the rest comes first
    again = await restarted(clock, shelf)
    for each in (series, again):
        ask(each, model="new")
        ask(each, model=None)
    assert answers(again, clock.now()) == answers(series, clock.now())


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("x" * 1000, "x" * 80),
        ("a\nb\x00c\ud800", "a\ufffdb\ufffdc\ufffd"),
        ("", None),
        (None, None),
        ("modèle 5", "modèle 5"),
    ],
    ids=["long", "unprintable", "empty", "none", "accented"],
)
async def test_a_model_is_shown_as_one_short_line(
    open_disk: Callable[[], JsonFiles], series: Series, clock: TestClock, model: str | None, shown: str | None
) -> None:
    disk = open_disk()
    ask(series, model=model)
    await series.flush(disk)
    for each in (series, await restarted(clock, disk)):
        assert [row.id for row in each.rows("model", start=START, end=START + 1).rows] == [shown]


def test_more_models_than_are_told_apart_take_no_memory(series: Series) -> None:
    def ask_for(numbers: Iterable[int]) -> None:
        for n in numbers:
            ask(series, model=f"model-{n}")

    ask_for(range(2 * MOST_UNFOLDED))
    with traced() as memory:
        ask_for(range(2 * MOST_UNFOLDED, 7 * MOST_UNFOLDED))
        grown = memory()
    assert grown < MOST_UNFOLDED  # those that are not told apart make one row


async def test_years_take_the_memory_of_a_month(series: Series, shelf: Shelf, clock: TestClock) -> None:
    async def a_month() -> None:
        for n in range(31 * 24):
            ask(series, model=f"model-{n}")
            clock.advance(HOUR)
        await series.flush(shelf)
        shelf.files.clear()

    with traced() as memory:
        await a_month()
        await a_month()
        second = memory()
        await a_month()
        await a_month()
        assert memory() < 1.1 * second
