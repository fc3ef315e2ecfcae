"""What charts show adds up to what was used, whichever way it is split, and is never too much."""

from __future__ import annotations

import pytest

from proxy.errors import Unprocessable
from proxy.usage.chart import LARGEST, MOST_BARS, Yesterday, bars_before, bars_between, chart
from proxy.usage.counts import Counts, amounts_of
from proxy.usage.series import RINGS, Series
from tests.service import TestClock

MINUTE, QUARTER, HOUR, DAY = 60, 900, 3600, 86_400


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def series(clock: TestClock) -> Series:
    return Series(clock=clock)


def ask(series: Series, account: str | None, counts: Counts) -> None:
    series.add((account, "t", "m"), amounts_of(counts))


def test_the_bars_of_a_span_are_those_of_its_range(series: Series, clock: TestClock) -> None:
    clock.advance(61)
    now = clock.now()
    for ring in RINGS:
        starts = series.starts(ring)
        assert bars_between(series, starts.start, starts.stop, now) == starts
        assert len(starts) <= MOST_BARS


def test_a_shorter_span_has_shorter_bars_while_they_are_kept(series: Series, clock: TestClock) -> None:
    now = clock.now()
    steps = [
        bars_between(series, now - back_s, now - back_s + HOUR, now).step
        for back_s in (HOUR, 5 * HOUR, 9 * DAY)
    ]
    assert steps == [MINUTE, QUARTER, DAY]


@pytest.mark.parametrize(
    ("start", "end"), [(HOUR, 2 * HOUR), (-HOUR, -2 * HOUR), (-HOUR, -HOUR), (-32 * DAY, 0)]
)
def test_a_span_without_bars_is_refused(series: Series, clock: TestClock, start: int, end: int) -> None:
    now = clock.now()
    with pytest.raises(Unprocessable):
        bars_between(series, now + start, now + end, now)


def test_the_time_before_is_as_long_if_it_is_kept(series: Series) -> None:
    for ring in ("1h", "24h"):
        starts = series.starts(ring)
        before = bars_before(series, starts)
        assert before is not None
        assert (before.stop, before.step, len(before)) == (starts.start, starts.step, len(starts))


def test_the_week_before_is_shown_by_days_and_the_month_before_is_not_kept(series: Series) -> None:
    starts = series.starts("7d")
    before = bars_before(series, starts)
    assert before is not None and before.step == DAY
    assert before.start <= starts.start - 7 * DAY < before.start + DAY
    assert bars_before(series, series.starts("30d")) is None


def test_a_split_shows_the_largest_and_what_is_left(series: Series) -> None:
    for n in range(LARGEST + 3):
        for _ in range(n + 1):
            ask(
                series,
                f"a{n}",
                Counts(ok=1, cost_usd=0.1, cache_creation_5m_tokens=2, cache_creation_1h_tokens=3),
            )
    shown = chart(series, series.starts("1h"), "account")
    assert [id for id, _ in shown.split] == [f"a{n}" for n in range(LARGEST + 2, 2, -1)]
    assert [columns["ok"][-1] for _, columns in shown.split] == list(range(LARGEST + 3, 3, -1))
    assert shown.rest is not None
    rest = {name: column[-1] for name, column in shown.rest.items() if any(column)}
    assert rest == {"ok": 6, "cost_usd": pytest.approx(0.6), "cache_creation_input_tokens": 30}


def test_what_is_split_into_few_leaves_nothing(series: Series) -> None:
    ask(series, "a", Counts(ok=1, unpriced=1, ttfb_ms=250, ttfb_count=1))
    ask(series, None, Counts(refused=1))
    shown = chart(series, series.starts("1h"), "account")
    assert shown.rest is None and {id for id, _ in shown.split} == {"a", None}
    [(id, columns)] = chart(series, series.starts("1h"), "account", "a").split
    assert id == "a" and {name: column[-1] for name, column in columns.items() if any(column)} == {
        "ok": 1,
        "unpriced_requests": 1,
        "ttfb_ms": 250,
        "ttfb_count": 1,
    }
    [(nothing, columns)] = chart(series, series.starts("24h")).split
    assert (nothing, columns["ok"][-1], columns["refused"][-1]) == (None, 1, 1)


def test_yesterday_counts_up_to_this_time(clock: TestClock) -> None:
    series = Series(clock=clock)  # at 8:00 UTC
    yesterday = Yesterday(series)
    for hours in (2, 2, 6):
        ask(series, "a", Counts(ok=1, cost_usd=1))
        clock.advance(hours * HOUR)
    ask(series, "a", Counts(ok=1, cost_usd=8))  # at 18:00
    assert yesterday.by(clock.now()) == Counts()
    clock.advance(DAY - 8 * HOUR)  # until 10:00
    assert yesterday.by(clock.now()).cost_usd == 1
    clock.advance(HOUR + 60)
    assert yesterday.by(clock.now()).cost_usd == 2
    clock.advance(7 * HOUR - 60 + QUARTER / 2)
    assert yesterday.by(clock.now()) == Counts(ok=3, cost_usd=7)
    clock.advance(DAY)
    assert yesterday.by(clock.now()) == Counts()
