"""Limits of one client key: requests in a minute and at once, tokens and money in a day and a month."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import to_builtins

from proxy.clients.budgets import NO_LIMITS, Budgets, KeyLimits, Reservation
from proxy.errors import RateLimited
from proxy.storage.protocols import Record
from tests.service import TestClock

KEY = "tok_1"
TOKENS_A_DAY = KeyLimits(tokens_per_day=100)


def at(clock: TestClock, time: str) -> None:
    """Set the clock to a time such as 2027-01-31T23:59:59."""
    clock.jump(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp() - clock.now())


@pytest.fixture
def budgets(clock: TestClock) -> Budgets:
    return Budgets({}, clock=clock)


def reserved(budgets: Budgets, limits: KeyLimits, tokens: int = 0, cost_usd: float = 0.0) -> Reservation:
    return budgets.reserve(KEY, limits, tokens=tokens, cost_usd=cost_usd)


def refused(budgets: Budgets, limits: KeyLimits, tokens: int = 0, cost_usd: float = 0.0) -> RateLimited:
    """The error that a request of that size gets."""
    with pytest.raises(RateLimited) as caught:
        reserved(budgets, limits, tokens, cost_usd)
    return caught.value


def used(budgets: Budgets, **expected: float) -> bool:
    view = budgets.view(KEY)
    return {name: view[name] for name in expected} == expected


def stored(budgets: Budgets) -> Record:
    """What the key has spent, as its counters hold it."""
    return dict(zip(("day", "month"), to_builtins(budgets.spent(KEY)), strict=False))


# ---- requests in a minute


def begin(budgets: Budgets, limits: KeyLimits, times: int = 1) -> None:
    for _ in range(times):
        budgets.begin(KEY, limits)()


def too_many(budgets: Budgets, limits: KeyLimits) -> RateLimited:
    """The error that one request more gets."""
    with pytest.raises(RateLimited) as caught:
        begin(budgets, limits)
    return caught.value


def test_without_limits_nothing_is_refused(budgets: Budgets) -> None:
    begin(budgets, NO_LIMITS, 1000)
    reserved(budgets, NO_LIMITS, tokens=10**12, cost_usd=1e9)


def test_one_request_more_than_a_minute_allows_waits_for_the_first_to_leave_it(
    budgets: Budgets, clock: TestClock
) -> None:
    limits = KeyLimits(requests_per_minute=3)
    begin(budgets, limits)
    clock.advance(20)
    begin(budgets, limits, 2)
    error = too_many(budgets, limits)
    assert (error.type, error.retry_after_s) == ("rate_limit_error", 40)
    clock.advance(40)
    begin(budgets, limits)


def test_a_refused_request_does_not_count_in_the_minute(budgets: Budgets, clock: TestClock) -> None:
    limits = KeyLimits(requests_per_minute=1)
    begin(budgets, limits)
    clock.advance(59)
    too_many(budgets, limits)
    clock.advance(1)
    begin(budgets, limits)


def test_the_wait_is_right_after_the_limit_was_lowered(budgets: Budgets, clock: TestClock) -> None:
    for _ in range(10):
        begin(budgets, KeyLimits(requests_per_minute=10))
        clock.advance(1)
    lowered = KeyLimits(requests_per_minute=1)
    error = too_many(budgets, lowered)
    assert error.retry_after_s == 59
    clock.advance(59)
    begin(budgets, lowered)


def test_the_minute_takes_no_notice_of_the_wall_clock(budgets: Budgets, clock: TestClock) -> None:
    limits = KeyLimits(requests_per_minute=1)
    begin(budgets, limits)
    clock.jump(3600)
    too_many(budgets, limits)


# ---- requests at once


def test_one_request_more_at_once_is_refused_until_one_ends(budgets: Budgets) -> None:
    limits = KeyLimits(concurrent_requests=2)
    ends = [budgets.begin(KEY, limits) for _ in range(2)]
    error = too_many(budgets, limits)
    assert (error.type, error.retry_after_s) == ("rate_limit_error", 1)
    ends[0]()
    budgets.begin(KEY, limits)


def test_to_end_a_request_twice_frees_one_place(budgets: Budgets) -> None:
    limits = KeyLimits(concurrent_requests=1)
    end = budgets.begin(KEY, limits)
    end()
    end()
    budgets.begin(KEY, limits)
    too_many(budgets, limits)


def test_a_request_refused_by_the_minute_holds_no_place(budgets: Budgets, clock: TestClock) -> None:
    limits = KeyLimits(requests_per_minute=1, concurrent_requests=1)
    begin(budgets, limits)
    too_many(budgets, limits)
    clock.advance(60)
    begin(budgets, limits)


def test_one_keys_requests_are_not_anothers(budgets: Budgets) -> None:
    limits = KeyLimits(requests_per_minute=1, concurrent_requests=1, tokens_per_day=10)
    budgets.begin("one", limits)
    budgets.begin("two", limits)
    budgets.reserve("one", limits, tokens=10, cost_usd=0)
    budgets.reserve("two", limits, tokens=10, cost_usd=0)


# ---- budgets

BUDGETS: list[tuple[KeyLimits, dict[str, Any], str]] = [
    (KeyLimits(tokens_per_day=10), {"tokens": 1}, "the token budget of this key for the day"),
    (KeyLimits(tokens_per_month=10), {"tokens": 1}, "the token budget of this key for the month"),
    (KeyLimits(cost_usd_per_day=10.0), {"cost_usd": 1.0}, "the cost budget of this key for the day"),
    (KeyLimits(cost_usd_per_month=10.0), {"cost_usd": 1.0}, "the cost budget of this key for the month"),
]


@pytest.mark.parametrize(("limits", "size", "named"), BUDGETS)
def test_a_budget_is_used_to_its_last_bit_and_no_further(
    budgets: Budgets, limits: KeyLimits, size: dict[str, Any], named: str
) -> None:
    for _ in range(10):
        reserved(budgets, limits, **size)
    assert named in refused(budgets, limits, **size).message


@pytest.mark.parametrize(("limits", "size", "named"), BUDGETS)
def test_a_budget_that_requests_in_flight_hold_is_worth_another_try(
    budgets: Budgets, limits: KeyLimits, size: dict[str, Any], named: str
) -> None:
    running = [reserved(budgets, limits, **size) for _ in range(10)]
    error = refused(budgets, limits, **size)
    assert (error.type, error.should_retry, error.retry_after_s) == ("rate_limit_error", None, 1)
    assert error.message == f"the rest of {named} is held by requests in flight"
    for each in running:
        each.settle(**{"tokens": 0, "cost_usd": 0.0} | size)
    assert refused(budgets, limits, **size).type == "billing_error"


def test_a_spent_day_is_told_before_a_month_that_is_only_reserved(budgets: Budgets) -> None:
    limits = KeyLimits(tokens_per_day=5, tokens_per_month=8)
    reserved(budgets, limits, tokens=4).settle(tokens=4, cost_usd=0.0)
    reserved(budgets, limits, tokens=1)
    error = refused(budgets, limits, tokens=4)
    assert (error.type, "for the day is spent" in error.message) == ("billing_error", True)


def test_a_spent_budget_is_told_as_anthropics_gateway_tells_it(budgets: Budgets, clock: TestClock) -> None:
    at(clock, "2027-01-15T08:00:00.500")
    error = refused(budgets, TOKENS_A_DAY, tokens=101)
    assert (error.status, error.type, error.should_retry) == (429, "billing_error", False)
    assert error.message.endswith("it resets 2027-01-16T00:00:00.000Z")
    assert error.retry_after_s == 16 * 3600


def test_where_month_and_day_are_spent_the_month_is_told(budgets: Budgets, clock: TestClock) -> None:
    at(clock, "2028-02-28T12:00:00")
    error = refused(budgets, KeyLimits(tokens_per_day=1, tokens_per_month=1), tokens=2)
    assert error.message.endswith("it resets 2028-03-01T00:00:00.000Z")
    assert error.retry_after_s == 1.5 * 86_400


@pytest.mark.parametrize(
    ("now", "resets"),
    [
        ("2027-01-31T23:59:59.999", "2027-02-01T00:00:00.000Z"),
        ("2027-12-31T00:00:00", "2028-01-01T00:00:00.000Z"),
        ("2028-02-29T13:00:00", "2028-03-01T00:00:00.000Z"),
        ("2027-02-01T00:00:00", "2027-03-01T00:00:00.000Z"),
    ],
)
def test_a_month_ends_with_its_last_day_in_utc(
    budgets: Budgets, clock: TestClock, now: str, resets: str
) -> None:
    at(clock, now)
    error = refused(budgets, KeyLimits(tokens_per_month=1), tokens=2)
    assert error.message.endswith(resets)
    assert error.retry_after_s is not None and error.retry_after_s >= 1


def test_what_a_request_did_not_use_is_free_again(budgets: Budgets) -> None:
    first = reserved(budgets, TOKENS_A_DAY, tokens=100)
    refused(budgets, TOKENS_A_DAY, tokens=1)
    first.settle(tokens=30, cost_usd=0.0)
    reserved(budgets, TOKENS_A_DAY, tokens=70)
    refused(budgets, TOKENS_A_DAY, tokens=1)


def test_to_settle_twice_counts_once(budgets: Budgets) -> None:
    reservation = reserved(budgets, TOKENS_A_DAY, tokens=50)
    reservation.settle(tokens=10, cost_usd=0.5)
    reservation.settle(tokens=10, cost_usd=0.5)
    assert used(budgets, tokens_today=10, cost_usd_today=0.5)


def test_a_refused_reservation_sets_nothing_aside(budgets: Budgets) -> None:
    for _ in range(10):
        refused(budgets, TOKENS_A_DAY, tokens=101)
    reserved(budgets, TOKENS_A_DAY, tokens=100)


def test_nothing_stays_reserved_when_all_requests_ended(budgets: Budgets) -> None:
    limits = KeyLimits(cost_usd_per_day=10.0)
    running = [reserved(budgets, limits, cost_usd=0.1 * n) for n in range(1, 10)]
    for each in running:
        each.settle(tokens=0, cost_usd=0.0)
    reserved(budgets, limits, cost_usd=10.0)


def test_what_a_key_without_a_budget_uses_counts_once_it_has_one(budgets: Budgets) -> None:
    budgets.begin(KEY, NO_LIMITS)()
    budgets.spend(KEY, tokens=90, cost_usd=0.0)
    refused(budgets, TOKENS_A_DAY, tokens=11)


# ---- midnight


def test_a_new_day_has_its_whole_budget(budgets: Budgets, clock: TestClock) -> None:
    at(clock, "2027-01-15T23:59:59")
    reserved(budgets, TOKENS_A_DAY, tokens=100).settle(tokens=100, cost_usd=1.0)
    refused(budgets, TOKENS_A_DAY, tokens=1)
    clock.advance(1)
    assert used(budgets, tokens_today=0, tokens_this_month=100, cost_usd_this_month=1.0)
    reserved(budgets, TOKENS_A_DAY, tokens=100)


def test_a_new_month_has_its_whole_budget(budgets: Budgets, clock: TestClock) -> None:
    limits = KeyLimits(tokens_per_month=100)
    at(clock, "2027-01-31T23:59:59")
    reserved(budgets, limits, tokens=100).settle(tokens=100, cost_usd=1.0)
    clock.advance(1)
    assert used(budgets, tokens_this_month=0, cost_usd_this_month=0.0)
    reserved(budgets, limits, tokens=100)


def test_what_runs_over_midnight_is_reserved_in_the_new_day_and_counts_in_it(
    budgets: Budgets, clock: TestClock
) -> None:
    at(clock, "2027-01-31T23:59:59")
    running = reserved(budgets, TOKENS_A_DAY, tokens=60)
    clock.advance(1)
    refused(budgets, TOKENS_A_DAY, tokens=41)
    running.settle(tokens=20, cost_usd=0.0)
    assert used(budgets, tokens_today=20, tokens_this_month=20)
    reserved(budgets, TOKENS_A_DAY, tokens=80)


def test_the_day_turns_in_the_view_too(budgets: Budgets, clock: TestClock) -> None:
    budgets.begin(KEY, NO_LIMITS)()
    budgets.spend(KEY, tokens=5, cost_usd=0.1)
    clock.advance(86_400)
    assert used(budgets, tokens_today=0, tokens_this_month=5)


# ---- kept, and forgotten


def test_what_was_used_survives_a_restart_and_what_was_reserved_does_not(
    budgets: Budgets, clock: TestClock
) -> None:
    reserved(budgets, TOKENS_A_DAY, tokens=70).settle(tokens=70, cost_usd=0.25)
    reserved(budgets, TOKENS_A_DAY, tokens=30)
    again = Budgets({KEY: stored(budgets)}, clock=clock)
    assert again.view(KEY) == budgets.view(KEY)
    reserved(again, TOKENS_A_DAY, tokens=30)
    refused(again, TOKENS_A_DAY, tokens=1)


def test_a_new_day_begins_also_while_it_is_down(budgets: Budgets, clock: TestClock) -> None:
    reserved(budgets, TOKENS_A_DAY, tokens=100).settle(tokens=100, cost_usd=0.0)
    clock.advance(86_400)
    reserved(Budgets({KEY: stored(budgets)}, clock=clock), TOKENS_A_DAY, tokens=100)


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        {},
        {"name": 7, "tokens": 1, "cost_usd": 1.0},
        {"name": "2027-01-15", "tokens": "9", "cost_usd": 1.0},
        {"name": "2027-01-15", "tokens": True, "cost_usd": 1.0},
        {"name": "2027-01-15", "tokens": -9, "cost_usd": 1.0},
        {"name": "2027-01-15", "tokens": 9, "cost_usd": float("nan")},
        {"name": "2027-01-15", "tokens": 9, "cost_usd": float("inf")},
    ],
)
def test_a_damaged_record_counts_nothing(clock: TestClock, damaged: object) -> None:
    budgets = Budgets({KEY: {"day": damaged, "month": damaged}}, clock=clock)
    reserved(budgets, KeyLimits(tokens_per_day=100, cost_usd_per_month=1.0), tokens=100, cost_usd=1.0)


def test_records_of_anything_but_keys_are_passed_over(clock: TestClock) -> None:
    assert Budgets({"acc_1": {"requests": 7, "in_flight": 0}}, clock=clock).spent("acc_1") == ()


def test_a_forgotten_key_is_not_stored_any_more_whatever_of_it_still_runs(budgets: Budgets) -> None:
    end = budgets.begin(KEY, NO_LIMITS)
    reservation = reserved(budgets, TOKENS_A_DAY, tokens=10)
    budgets.forget(KEY)
    end()
    reservation.settle(tokens=10, cost_usd=0.1)
    budgets.spend(KEY, tokens=10, cost_usd=0.1)
    assert budgets.spent(KEY) == ()


# ---- any order


class AnyOrder(RuleBasedStateMachine):
    """Requests that begin, end and run over midnight, against a plain sum of what they were."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = TestClock()
        self.budgets = Budgets({}, clock=self.clock)
        self.running: list[tuple[Reservation, int, float]] = []
        self.today = self.this_month = 0
        self.cost_today = 0.0

    @initialize(day=st.integers(1, 200), month=st.integers(1, 400), usd=st.integers(1, 40))
    def limit(self, day: int, month: int, usd: int) -> None:
        self.limits = KeyLimits(tokens_per_day=day, tokens_per_month=month, cost_usd_per_day=usd / 10)

    @rule(tokens=st.integers(0, 80), tenths=st.integers(0, 9))
    def ask(self, tokens: int, tenths: int) -> None:
        held = sum(tokens for _, tokens, _ in self.running) + tokens
        held_usd = sum(cost for _, _, cost in self.running) + tenths / 10
        fits = (
            self.today + held <= (self.limits.tokens_per_day or 0)
            and self.this_month + held <= (self.limits.tokens_per_month or 0)
            and round(self.cost_today + held_usd, 6) <= (self.limits.cost_usd_per_day or 0)
        )
        near = abs(self.cost_today + held_usd - (self.limits.cost_usd_per_day or 0)) < 1e-6
        try:
            new = reserved(self.budgets, self.limits, tokens, tenths / 10)
        except RateLimited:
            assert not fits or near  # floats that meet exactly may be refused
        else:
            assert fits
            self.running.append((new, tokens, tenths / 10))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        which = data.draw(st.integers(0, len(self.running) - 1))
        reservation, tokens, cost = self.running.pop(which)
        share = data.draw(st.integers(0, 4)) / 4
        reservation.settle(tokens=int(tokens * share), cost_usd=cost * share)
        self.today += int(tokens * share)
        self.this_month += int(tokens * share)
        self.cost_today += cost * share

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        before = datetime.fromtimestamp(self.clock.now(), UTC)
        self.clock.advance(hours * 3600)
        after = datetime.fromtimestamp(self.clock.now(), UTC)
        if after.date() != before.date():
            self.today, self.cost_today = 0, 0.0
        if after.month != before.month:
            self.this_month = 0

    @rule()
    def restart(self) -> None:
        if not self.running:
            self.budgets = Budgets({KEY: stored(self.budgets)}, clock=self.clock)

    @invariant()
    def what_is_used_is_what_was_settled(self) -> None:
        view = self.budgets.view(KEY)
        assert (view["tokens_today"], view["tokens_this_month"]) == (self.today, self.this_month)
        assert abs(view["cost_usd_today"] - self.cost_today) < 1e-6


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


# ---- what is shown of it


ALL = KeyLimits(
    requests_per_minute=10,
    concurrent_requests=4,
    tokens_per_day=100,
    tokens_per_month=1000,
    cost_usd_per_day=1.0,
    cost_usd_per_month=20.0,
)


def metered(budgets: Budgets, limits: KeyLimits = ALL) -> dict[str, tuple[float, float, str | None]]:
    """Used, reserved and the reset by limit."""
    return {
        each["limit"]: (each["used"], each["reserved"], each["resets_at"])
        for each in budgets.meters(KEY, limits)
    }


def test_each_limit_has_a_meter_and_what_is_no_limit_has_none(budgets: Budgets, clock: TestClock) -> None:
    at(clock, "2027-01-31T23:00:00")
    assert budgets.meters(KEY, NO_LIMITS) == []
    end = budgets.begin(KEY, ALL)
    budgets.begin(KEY, ALL)
    reserved(budgets, ALL, tokens=60, cost_usd=0.5)
    budgets.spend(KEY, tokens=30, cost_usd=0.25)
    end()
    day = month = "2027-02-01T00:00:00.000Z"
    assert metered(budgets) == {
        "requests_per_minute": (2, 0, "2027-01-31T23:01:00.000Z"),
        "concurrent_requests": (1, 0, None),
        "tokens_per_day": (30, 60, day),
        "tokens_per_month": (30, 60, month),
        "cost_usd_per_day": (0.25, 0.5, day),
        "cost_usd_per_month": (0.25, 0.5, month),
    }
    assert [each["limit"] for each in budgets.meters(KEY, ALL)][:2] == ["tokens_per_day", "cost_usd_per_day"]
    assert metered(budgets, TOKENS_A_DAY) == {"tokens_per_day": (30, 60, day)}


def test_the_minute_passes_by_itself_and_the_tick_tells_whose_meters_move(
    budgets: Budgets, clock: TestClock
) -> None:
    assert budgets.tick() == set()
    begin(budgets, ALL, 3)
    end = budgets.begin(KEY, KeyLimits(concurrent_requests=1))
    budgets.begin("tok_2", NO_LIMITS)()
    assert budgets.tick() == {KEY} and metered(budgets)["requests_per_minute"][0] == 3
    clock.advance(59)
    assert budgets.tick() == set() and metered(budgets)["requests_per_minute"][0] == 3
    clock.advance(1)
    assert budgets.tick() == {KEY} and metered(budgets)["requests_per_minute"] == (0, 0, None)
    end()
    assert metered(budgets)["concurrent_requests"][0] == 0
    assert budgets.tick() == {KEY}
    assert budgets.tick() == set()


def test_each_request_of_a_minute_is_forgotten_in_its_second(budgets: Budgets, clock: TestClock) -> None:
    for _ in range(3):
        begin(budgets, ALL, 1)
        clock.advance(20)
    for left in (2, 1, 0):
        assert KEY in budgets.tick() and metered(budgets)["requests_per_minute"][0] == left
        clock.advance(19.5)
        assert budgets.tick() == set()
        clock.advance(0.5)
    assert budgets.tick() == set()


def test_a_minute_has_so_many_requests_whenever_they_come(budgets: Budgets, clock: TestClock) -> None:
    rng, begun = random.Random(1), list[float]()
    limits = KeyLimits(requests_per_minute=7)
    for _ in range(2000):
        clock.advance(rng.choice([0, 0.25, 1, 9, 30, 70]))
        now = clock.monotonic()
        begun = [each for each in begun if each + 60 > now]
        if len(begun) < 7:
            begin(budgets, limits)
            begun.append(now)
        else:
            assert too_many(budgets, limits).retry_after_s == math.ceil(begun[-7] + 60 - now)
        if rng.random() < 0.1:
            budgets.tick()
            assert metered(budgets, limits)["requests_per_minute"][0] == len(begun)


def test_a_tick_tells_only_of_keys_whose_minute_has_passed(budgets: Budgets, clock: TestClock) -> None:
    for number in range(1000):
        budgets.begin(f"tok_{number}", ALL)
        clock.advance(0.0625)
    assert len(budgets.tick()) == 1000
    assert budgets.tick() == set()
    clock.advance(0.25)
    assert budgets.tick() == {f"tok_{number}" for number in range(41, 45)}


@pytest.mark.parametrize("began_at", [0.1, 1 / 3, 1e6 + 0.7, 2.0**33 + 0.1])
def test_a_request_is_forgotten_whatever_its_time_is_rounded_to(
    budgets: Budgets, clock: TestClock, began_at: float
) -> None:
    clock.advance(began_at)
    begin(budgets, ALL, 1)
    budgets.tick()
    clock.advance(60)
    budgets.tick()
    clock.advance(0.001)
    budgets.tick()
    assert metered(budgets)["requests_per_minute"] == (0, 0, None)


def test_a_reservation_is_told_though_the_request_began_before_the_tick(
    budgets: Budgets, clock: TestClock
) -> None:
    budgets.begin(KEY, ALL)
    assert budgets.tick() == {KEY}
    clock.advance(2)
    reserved(budgets, ALL, tokens=1)
    assert budgets.tick() == {KEY}
    assert budgets.tick() == set()


def test_a_deleted_key_is_forgotten_by_the_tick(budgets: Budgets, clock: TestClock) -> None:
    begin(budgets, ALL, 1)
    budgets.forget(KEY)
    clock.advance(61)
    assert budgets.tick() == set()
    begin(budgets, ALL, 1)
    clock.advance(61)
    assert budgets.tick() == {KEY} and metered(budgets)["requests_per_minute"] == (0, 0, None)


def test_a_new_day_begins_at_nothing(budgets: Budgets, clock: TestClock) -> None:
    at(clock, "2027-01-31T23:59:59")
    budgets.spend(KEY, tokens=30, cost_usd=0.25)
    clock.advance(1)
    assert metered(budgets, TOKENS_A_DAY) == {"tokens_per_day": (0, 0, "2027-02-02T00:00:00.000Z")}
