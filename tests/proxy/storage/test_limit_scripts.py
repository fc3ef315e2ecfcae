"""The scripts of shared limits: each on its own, then in any order against a plain model."""

from __future__ import annotations

import calendar
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.limit_scripts import DAY_S, PREFIX, START, LimitScripts

MINUTE_US = 60_000_000
HELD_US = 1_000_000  # the wait for what requests in flight have reserved


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


# ---- admit.lua


def test_a_request_without_limits_is_admitted(store: LimitScripts) -> None:
    assert [store.admit(id) for id in "abc"] == [("admitted", 0)] * 3


def test_one_more_than_may_run_at_once_is_refused_until_one_ends(store: LimitScripts) -> None:
    assert store.admit("a", concurrent=2)[0] == store.admit("b", concurrent=2, owner="i2")[0] == "admitted"
    assert store.admit("c", concurrent=2) == ("concurrent_requests", 1_000_000)
    assert store.admit("c", concurrent=2, key="another")[0] == "admitted"
    store.settle("b", owner="i2")
    assert store.admit("d", concurrent=2)[0] == "admitted"


def test_the_minute_slides_and_tells_the_wait(store: LimitScripts) -> None:
    store.admit("a", minute=2)
    store.move(20)
    store.admit("b", minute=2, owner="i2")
    assert store.admit("c", minute=2) == ("requests_per_minute", 40_000_000)
    assert store.admit("c", minute=1) == (
        "requests_per_minute",
        60_000_000,
    )  # it was lowered: both have to pass
    store.move(40)
    assert store.admit("c", minute=2)[0] == "admitted"
    assert store.admit("d", minute=2) == ("requests_per_minute", 20_000_000)


def test_what_is_refused_takes_nothing(store: LimitScripts) -> None:
    store.admit("a", concurrent=1)
    store.admit("b", concurrent=1, minute=5, client="c", slots=5, tokens=5, nano=5)
    store.settle("a")
    assert store.left() == set() and store.used()["minute"] == store.used()["reservations"] == 0
    store.admit("c", client="c", slots=5, tokens=5, nano=5, tokens_per_day=4)
    assert store.left() == set()


def test_what_a_budget_refuses_is_one_of_the_minute(store: LimitScripts) -> None:
    asked = {"minute": 2, "tokens": 5, "nano": 5, "tokens_per_day": 4}
    assert [store.admit(id, **asked)[0] for id in "abc"] == ["tokens_per_day"] * 2 + ["requests_per_minute"]
    assert store.left() == set()


def test_a_client_has_so_many_slots_over_all_instances(store: LimitScripts) -> None:
    asked = {"client": "c", "slots": 2}
    assert store.admit("a", **asked)[0] == store.admit("b", owner="i2", **asked)[0] == "admitted"
    assert store.admit("d", **asked) == ("slots", 1_000_000)
    assert store.admit("d", client="c2", slots=2)[0] == "admitted"


def test_who_waits_for_a_slot_is_served_in_the_order_of_coming(store: LimitScripts) -> None:
    asked = {"client": "c", "slots": 1, "wait_ms": 60_000}
    store.admit("a", **asked)
    for id, owner in (("b", "i2"), ("d", "i1")):
        assert store.admit(id, owner=owner, **asked)[0] == "waiting"
        store.move(0.001)
    store.settle("a")
    assert store.admit("late", **asked)[0] == "waiting"
    assert store.admit("d", **asked)[0] == "waiting"
    assert store.admit("b", owner="i2", **asked)[0] == "admitted"
    store.settle("b", owner="i2")
    assert store.admit("d", **asked)[0] == "admitted"


def test_the_instance_of_who_is_next_is_told_when_a_slot_is_free(store: LimitScripts) -> None:
    asked = {"client": "c", "slots": 2, "wait_ms": 60_000}
    for id, owner in (("a", "i1"), ("b", "i1"), ("d", "i2"), ("e", "i3"), ("f", "i2")):
        store.admit(id, owner=owner, **asked)
    assert store.turns("i2") == store.turns("i3") == []
    store.settle("a", "b")
    assert (store.turns("i2"), store.turns("i3")) == (["c", "c"], [])
    assert store.admit("d", owner="i2", **asked)[0] == "admitted" and store.turns("i3") == ["c"]
    store.settle("e", owner="i3")  # its client has left
    assert store.turns("i2") == ["c"]


def test_the_order_is_that_of_coming_if_the_clock_is_set_back(store: LimitScripts) -> None:
    asked = {"client": "c", "slots": 1, "wait_ms": 60_000}
    store.admit("a", **asked)
    store.admit("b", **asked)
    store.move(-10)
    store.admit("d", **asked)
    store.settle("a")
    assert [store.admit(id, **asked)[0] for id in ("d", "b")] == ["waiting", "admitted"]


def test_who_has_waited_for_long_enough_is_refused_and_holds_nobody_up(store: LimitScripts) -> None:
    asked = {"client": "c", "slots": 1, "wait_ms": 10_000}
    store.admit("a", **asked)
    store.admit("b", **asked)
    store.move(5)
    store.admit("d", **asked)
    store.move(5)
    assert store.admit("b", **asked)[0] == "slots"
    store.settle("a")
    assert store.admit("d", **asked)[0] == "admitted"
    store.settle("b", "d")
    assert store.left() == set()


def test_who_waits_holds_its_place_in_the_key_and_reserves_with_the_slot(store: LimitScripts) -> None:
    asked = {"client": "c", "slots": 1, "wait_ms": 10_000, "tokens": 5, "nano": 7, "tokens_per_day": 10}
    store.admit("a", **asked)
    store.admit("b", concurrent=2, **asked)
    assert store.admit("d", concurrent=2)[0] == "concurrent_requests"
    assert store.used()["reserved_tokens"] == 5
    store.settle("a")
    assert store.admit("b", concurrent=2, **asked)[0] == "admitted" and store.used()["reserved_tokens"] == 5


@pytest.mark.parametrize("period", ["day", "month"])
@pytest.mark.parametrize("unit", ["tokens", "nano"])
def test_a_budget_is_kept_to_the_unit(store: LimitScripts, period: str, unit: str) -> None:
    store.now = at("2027-01-31T23:59:50")
    store.move(0)
    most = {f"{unit}_per_{period}": 10}
    asked = {"tokens": 0, "nano": 0, unit: 6} | most
    assert store.admit("a", **asked)[0] == "admitted"
    said = f"{'tokens' if unit == 'tokens' else 'cost_usd'}_per_{period}"
    assert store.admit("b", **asked | {unit: 5}) == (said, HELD_US)
    assert store.admit("b", **asked | {unit: 11}) == (said, 10_000_000)
    assert store.admit("b", **asked | {unit: 4})[0] == "admitted"
    store.settle("a", **{unit: 3})
    assert store.admit("c", **asked | {unit: 8}) == (said, 10_000_000)
    assert store.admit("c", **asked | {unit: 4}) == (said, HELD_US)
    assert store.admit("c", **asked | {unit: 3})[0] == "admitted"
    store.settle("b", "c")
    store.move(10)  # February
    assert store.admit("d", **asked | {unit: 11})[0] == said
    assert store.admit("d", **asked | {unit: 10})[0] == "admitted"


def test_where_day_and_month_are_spent_the_month_is_told(store: LimitScripts) -> None:
    said, wait = store.admit("a", tokens=2, nano=0, tokens_per_day=1, tokens_per_month=1)
    assert (said, wait / 1e6) == ("tokens_per_month", at("2027-02-01") - store.now)


def test_a_spent_day_is_told_before_a_month_that_is_only_reserved(store: LimitScripts) -> None:
    asked = {"nano": 0, "tokens_per_day": 5, "tokens_per_month": 8}
    store.admit("a", tokens=4, **asked)
    store.settle("a", tokens=4)
    store.admit("b", tokens=1, **asked)
    said, wait = store.admit("c", tokens=4, **asked)
    assert (said, wait / 1e6) == ("tokens_per_day", at("2027-01-16") - store.now)


def test_what_was_used_before_a_limit_was_set_counts(store: LimitScripts) -> None:
    store.settle_all([{"key": "k", "tokens": 9, "nano": 0}], "b1")
    assert store.admit("a", tokens=2, nano=0, tokens_per_day=10)[0] == "tokens_per_day"
    assert store.admit("a", tokens=1, nano=0, tokens_per_day=10)[0] == "admitted"


def test_to_ask_again_takes_only_what_is_not_held(store: LimitScripts) -> None:
    asked = {"concurrent": 1, "minute": 1, "client": "c", "slots": 1}
    for _ in range(2):
        assert store.admit("a", **asked)[0] == "admitted"
    for _ in range(2):
        assert store.admit("a", tokens=6, nano=1, tokens_per_day=10, **asked)[0] == "admitted"
    used = store.used()
    assert (used["running"], used["minute"], used["reservations"], used["reserved_tokens"]) == (1, 1, 1, 6)
    store.settle("a")
    assert store.left() == set() and store.used()["reserved_tokens"] == 0


def test_sums_beyond_what_floats_show_stay_exact(store: LimitScripts) -> None:
    much = 2**53 - 3
    store.settle_all([{"key": "k", "tokens": much, "nano": much}], "b1")
    assert (store.used()["day_tokens"], store.used()["month_nano"]) == (much, much)
    assert store.admit("a", tokens=1, nano=1, tokens_per_month=2**53 - 2)[0] == "admitted"
    assert store.admit("b", tokens=1, nano=1, tokens_per_month=2**53 - 2)[0] == "tokens_per_month"


# ---- settle.lua


def test_what_was_used_counts_once_in_the_day_and_month_of_the_end(store: LimitScripts) -> None:
    store.now = at("2027-01-31T23:59:59")
    store.move(0)
    store.settle_all([{"key": "k", "tokens": 100, "nano": 100}], "b1")
    store.admit("a", tokens=50, nano=50)
    store.move(2)
    assert store.settle("a", tokens=20, nano=30) == 1
    assert store.settle("a", tokens=20, nano=30) == store.settle("a", tokens=20, unsure=True) == 0
    used = store.used()
    assert [used[each] for each in ("day_tokens", "day_nano", "month_tokens", "month_nano")] == [
        20,
        30,
        20,
        30,
    ]
    assert (used["day"], used["month"]) == (at("2027-02-01") // DAY_S,) * 2
    assert store.left() == set()


def test_the_month_stays_when_the_day_turns(store: LimitScripts) -> None:
    store.settle_all([{"key": "k", "tokens": 100}], "b1")
    store.move(DAY_S)
    store.settle_all([{"key": "k", "tokens": 1}], "b2")
    assert (store.used()["day_tokens"], store.used()["month_tokens"]) == (1, 101)


def test_a_batch_counts_once(store: LimitScripts) -> None:
    batch = [{"key": "k", "tokens": 5, "nano": 6, "requests": 2, "at": 1_800_000_000.25}]
    assert (store.settle_all(batch, "b1"), store.settle_all(batch, "b1")) == (1, 0)
    store.settle_all([{"key": "k", "requests": 1, "at": 1_700_000_000.5}], "b2")
    used = store.used()
    assert (used["day_tokens"], used["requests"], used["last_used_at"]) == (5, 3, 1_800_000_000.25)


def test_an_admission_that_comes_after_its_end_takes_nothing(store: LimitScripts) -> None:
    assert store.settle("a", unsure=True) == 0
    assert store.admit("a", concurrent=1)[0] == "over" and store.left() == set()
    store.admit("b", concurrent=1)
    store.settle("b", tokens=3, unsure=True)
    assert store.admit("b", concurrent=1, tokens=5, nano=0)[0] == "over" and store.left() == set()
    assert store.settle("b", tokens=3, unsure=True) == 0 and store.used()["day_tokens"] == 3


def test_what_was_used_counts_also_if_the_store_has_lost_the_ticket(store: LimitScripts) -> None:
    assert store.settle("a", tokens=5, first=True) == 1
    store.settle("b", tokens=5, unsure=True)
    assert store.settle("b", tokens=5, first=True) == 0
    assert store.used()["day_tokens"] == 5 and store.left() == set()


def test_of_a_deleted_key_nothing_stays_when_its_requests_end(store: LimitScripts) -> None:
    store.admit("a", minute=5, tokens=5, nano=5)
    store.settle_all([{"key": "k", "requests": 1, "at": 1.5}], "b1")
    store.run("forget", "k")
    assert store.settle("a", tokens=5) == 1
    assert store.left_of("use:", "minute:") == store.left() == set() and store.totals()[1] == 0


# ---- reap.lua


def test_the_tickets_of_a_dead_instance_come_back_and_others_stay(store: LimitScripts) -> None:
    asked = {"concurrent": 3, "client": "c", "slots": 2, "wait_ms": 60_000, "tokens": 5, "nano": 5}
    store.admit("a", owner="i1", **asked)
    store.admit("b", owner="i2", **asked)
    store.admit("d", owner="i1", **asked)
    assert store.reap() == []
    store.die("i1")
    assert sorted(store.reap()) == [("i1", "a"), ("i1", "d")]
    assert store.left() == {"open:i2", "running:k", "slots:c"}
    assert store.used()["reserved_tokens"] == 5 and store.reap() == []
    store.settle("b", owner="i2")
    assert store.left() == set()


def test_a_lease_is_renewed_by_its_instance(store: LimitScripts) -> None:
    store.admit("a", owner="i1")
    store.die("i1")
    assert store.reap("i1") == [] and store.reap("i2") == []


def test_who_was_cut_off_itself_takes_nobody_for_dead(store: LimitScripts) -> None:
    for owner in ("i1", "i2"):
        store.admit(owner, owner=owner)
        store.die(owner)
    assert store.reap("i1", new=False) == store.reap("i3") == store.reap("i2", new=False) == []
    store.die("i2")
    store.client.delete(PREFIX + "grace")
    assert store.reap("i1", new=False) == [("i2", "i2")]


def test_so_many_tickets_are_found_at_a_time(store: LimitScripts) -> None:
    for n in range(7):
        store.admit(f"a{n}", owner=f"i{n % 2}")
    store.die("i0")
    store.die("i1")
    assert [len(store.reap(most=3)) for _ in range(4)] == [3, 3, 1, 0]
    assert store.left() == set()


def test_what_a_reaped_request_has_used_counts_once_when_its_instance_comes_back(store: LimitScripts) -> None:
    store.admit("a", tokens=50, nano=50)
    store.die("i1")
    store.reap()
    assert store.settle("a", tokens=20) == 1
    assert store.settle("a", tokens=20) == store.settle("a", tokens=20, unsure=True) == 0
    assert store.used()["day_tokens"] == 20 and store.used()["reserved_tokens"] == 0
    assert store.admit("a")[0] == "over"


# ---- totals.lua


def test_the_keys_that_changed_are_told_from_a_cursor_on(store: LimitScripts) -> None:
    assert store.totals() == (0, 0, [])
    store.admit("a", key="k1", minute=9, tokens=5, nano=6)
    store.move(1)
    store.settle_all([{"key": "k2", "tokens": 7, "requests": 1, "at": 1.5}], "b1")
    last, changed, rows = store.totals()
    assert (last, changed, [row[0] for row in rows]) == (2, 2, ["k1", "k2"])
    assert rows[0][-6:] == [1, 5, 6, 1, 1, 1_000_000] and rows[1][2] == 7
    assert [store.totals(n)[2] for n in (1, 2)] == [rows[1:], []]
    assert store.totals(2, keys=["k1"])[2] == rows[:1]
    assert store.totals(most=1) == (1, 1, rows[:1])
    store.move(59)
    assert store.used("k1")["minute"] == 0
    store.client.delete(PREFIX + "uses", PREFIX + "used")
    store.settle_all([{"key": "k1", "tokens": 1}], "b2")
    assert store.totals(last)[:2] == (1, 1)  # what was emptied numbers anew


# ---- retake.lua


def test_another_server_awaits_all_instances_that_live(store: LimitScripts) -> None:
    for owner in ("i1", "i2", "i3"):
        store.reap(owner)
    assert store.retake("i1", server="one") == []
    assert store.admit("a") == ("admitted", 0)  # the first server that there is
    store.die("i3")
    store.reap("i1", new=False)
    assert store.retake("i1", server="two") == []
    assert store.admit("b") == ("behind", 0)
    assert store.retake("i2", server="two") == []
    assert store.admit("b") == ("admitted", 0)


def test_an_instance_that_never_comes_is_awaited_for_as_long_as_a_lease(store: LimitScripts) -> None:
    store.reap("i2")
    store.retake("i1", server="one")
    store.retake("i1", server="two")
    assert 14_000 < store.client.pttl(f"{PREFIX}awaited") <= 15_000


def test_what_was_forgotten_is_held_again_until_it_ends(store: LimitScripts) -> None:
    store.reap("i2")
    store.retake("i2", server="one")
    store.retake("i1", server="two")
    held = {"id": "a", "key": "k", "client": "c", "slots": 1, "concurrent": 1, "tokens": 5, "nano": 7}
    assert store.retake("i2", held, minute=["k", "a", 20_000_000, "k", "z", 50_000_000], server="two") == []
    used = store.used()
    assert (used["running"], used["minute"], used["reserved_tokens"], used["reserved_nano"]) == (1, 2, 5, 7)
    assert store.admit("b", client="c", slots=1) == ("slots", 1_000_000)
    store.move(15)
    assert store.used()["minute"] == 1
    assert store.settle("a", owner="i2", tokens=3) == 1
    assert store.left() == set() and store.used()["reserved_tokens"] == 0 == store.used()["reservations"]


def test_what_is_held_all_the_same_is_not_taken_twice(store: LimitScripts) -> None:
    store.admit("a", client="c", slots=1, minute=5, tokens=5, nano=0)
    store.move(10)
    held = {"id": "a", "key": "k", "client": "c", "slots": 1, "tokens": 5, "nano": 0}
    assert store.retake("i1", held, minute=["k", "a", 1_000_000]) == []
    assert (store.used()["minute"], store.used()["reserved_tokens"]) == (1, 5)
    store.move(50)
    assert store.used()["minute"] == 0


def test_who_is_not_awaited_has_a_place_again_if_there_is_one(store: LimitScripts) -> None:
    store.admit("a", owner="i1", client="c", slots=2)
    store.admit("b", owner="i1", client="c", slots=2)
    store.die("i1")
    store.reap("i2")
    store.admit("x", owner="i2", client="c", slots=2)
    held = [{"id": id, "key": "k", "client": "c", "slots": 2} for id in ("a", "b")]
    assert store.retake("i1", *held) == ["b"]
    assert store.admit("a", owner="i1", client="c", slots=2) == ("admitted", 0)
    assert store.admit("b", owner="i1", client="c", slots=2) == ("over", 0)


# ---- any order


@dataclass
class Asked:
    """A request of the model, with what it holds."""

    id: str
    owner: str
    client: str
    came: int
    slot: bool = False
    waits_until: float | None = None
    queued: int = 0
    tokens: int | None = None
    reaped: bool = False


@dataclass
class Limits:
    minute: int
    concurrent: int
    slots: int
    day: int
    month: int


@dataclass
class Model:
    """What the scripts should say, in plain Python."""

    limits: Limits
    open: dict[str, Asked] = field(default_factory=dict)
    sent: list[float] = field(default_factory=list)
    day: tuple[int, int] = (0, 0)
    month: tuple[int, int] = (0, 0)
    queued: int = 0

    def admit(self, new: Asked, tokens: int | None, wait_s: float, now: float) -> str:
        old = self.open.get(new.id)
        each = old or new
        if old is None:
            if len(self.open) >= self.limits.concurrent:
                return "concurrent_requests"
            if sum(t > now - 60 for t in self.sent) >= self.limits.minute:
                return "requests_per_minute"
        if tokens is not None and each.tokens is None:
            held = sum(r.tokens or 0 for r in self.open.values())
            refused = self.over(tokens, now) or self.over(tokens + held, now)
            if refused:
                self.sent += [] if old else [now]
                return refused
        waits = False
        if not each.slot:
            said = self.slot(each, wait_s, now)
            if said == "slots":
                return said
            waits = said == "waiting"
        if old is None:
            self.open[new.id] = new
            self.sent.append(now)
        if waits:
            if each.waits_until is None:
                self.queued += 1
                each.queued, each.waits_until = self.queued, now + wait_s
            return "waiting"
        each.slot, each.waits_until = True, None
        if tokens is not None and each.tokens is None:
            each.tokens = tokens
        return "admitted"

    def over(self, tokens: int, now: float) -> str | None:
        today, this_month = self.spent(now)
        if this_month + tokens > self.limits.month:
            return "tokens_per_month"
        return "tokens_per_day" if today + tokens > self.limits.day else None

    def slot(self, each: Asked, wait_s: float, now: float) -> str:
        mine = [r for r in self.open.values() if r.client == each.client]
        waiting = [r for r in mine if r.waits_until is not None and r.waits_until > now and r is not each]
        if each.waits_until is not None:
            waiting = [r for r in waiting if r.queued < each.queued]
        if sum(r.slot for r in mine) + len(waiting) < self.limits.slots:
            return "taken"
        late = each.waits_until is not None and each.waits_until <= now
        return "slots" if late or not wait_s else "waiting"

    def spent(self, now: float) -> tuple[int, int]:
        date = datetime.fromtimestamp(now, UTC)
        day, month = date.toordinal(), date.year * 12 + date.month
        return self.day[1] if self.day[0] == day else 0, self.month[1] if self.month[0] == month else 0

    def spend(self, tokens: int, now: float) -> None:
        today, this_month = self.spent(now)
        date = datetime.fromtimestamp(now, UTC)
        self.day = date.toordinal(), today + tokens
        self.month = date.year * 12 + date.month, this_month + tokens


class AnyOrder(RuleBasedStateMachine):
    """Requests of three instances that are admitted, asked again, settled, settled twice, and whose instances die."""

    def __init__(self, store: LimitScripts) -> None:
        super().__init__()
        store.client.flushall()
        store.now = START
        store.move(0)
        self.store = store
        self.count = 0
        self.ended: list[Asked] = []
        self.reaped: list[Asked] = []

    def teardown(self) -> None:
        for each in list(self.model.open.values()):
            self.store.settle(each.id, owner=each.owner)
        assert self.store.left() == set() and self.store.used()["reserved_tokens"] == 0

    @initialize(
        minute=st.integers(1, 12),
        concurrent=st.integers(1, 8),
        slots=st.integers(1, 3),
        day=st.integers(1, 300),
        month=st.integers(1, 900),
    )
    def limit(self, minute: int, concurrent: int, slots: int, day: int, month: int) -> None:
        self.model = Model(Limits(minute, concurrent, slots, day, month))

    @rule(
        owner=st.sampled_from(["i1", "i2", "i3"]),
        client=st.sampled_from(["c1", "c2"]),
        tokens=st.none() | st.integers(0, 120),
        wait_s=st.sampled_from([0, 20]),
    )
    def ask(self, owner: str, client: str, tokens: int | None, wait_s: int) -> None:
        self.count += 1
        self.say(Asked(f"r{self.count:04}", owner, client, self.count), tokens, wait_s)

    @precondition(lambda self: self.model.open)
    @rule(data=st.data(), tokens=st.none() | st.integers(0, 120))
    def ask_again(self, data: st.DataObject, tokens: int | None) -> None:
        self.say(self.model.open[data.draw(st.sampled_from(sorted(self.model.open)))], tokens, 20)

    def say(self, new: Asked, tokens: int | None, wait_s: int) -> None:
        limits = self.model.limits
        asked = {"client": new.client, "slots": limits.slots} | ({"wait_ms": wait_s * 1000} if wait_s else {})
        if tokens is not None:
            asked |= {
                "tokens": tokens,
                "nano": 0,
                "tokens_per_day": limits.day,
                "tokens_per_month": limits.month,
            }
        said = self.store.admit(
            new.id, owner=new.owner, minute=limits.minute, concurrent=limits.concurrent, **asked
        )
        assert said[0] == self.model.admit(new, tokens, wait_s, self.store.now)

    @precondition(lambda self: self.model.open)
    @rule(data=st.data(), share=st.integers(0, 4), unsure=st.booleans())
    def end(self, data: st.DataObject, share: int, unsure: bool) -> None:
        each = self.model.open.pop(data.draw(st.sampled_from(sorted(self.model.open))))
        tokens = (each.tokens or 0) * share // 4
        assert (
            self.store.settle(
                each.id, owner=each.owner, tokens=tokens, **({"unsure": True} if unsure else {})
            )
            == 1
        )
        self.model.spend(tokens, self.store.now)
        self.ended.append(each)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def end_again(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.ended))
        assert self.store.settle(each.id, owner=each.owner, tokens=50, unsure=True) == 0

    @rule(owner=st.sampled_from(["i1", "i2", "i3"]))
    def die(self, owner: str) -> None:
        self.store.die(owner)
        lost = [each for each in self.model.open.values() if each.owner == owner]
        assert sorted(id for _, id in self.store.reap() if _ == owner) == sorted(each.id for each in lost)
        for each in lost:
            del self.model.open[each.id]
            if (each.tokens or 0) > 0:
                self.reaped.append(each)
        if lost:
            self.model.spend(0, self.store.now)

    @precondition(lambda self: self.reaped)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        each = self.reaped.pop(data.draw(st.integers(0, len(self.reaped) - 1)))
        assert self.store.settle(each.id, owner=each.owner, tokens=each.tokens) == 1
        self.model.spend(each.tokens or 0, self.store.now)
        self.ended.append(each)

    @rule(seconds=st.sampled_from([0.5, 7, 30, 61, 40_000, 12 * DAY_S]))
    def wait(self, seconds: float) -> None:
        self.store.move(seconds)

    @invariant()
    def no_limit_is_overrun_and_nothing_leaks(self) -> None:
        used = self.store.used()
        assert used["running"] == len(self.model.open) <= self.model.limits.concurrent
        assert used["minute"] <= self.model.limits.minute
        assert used["reserved_tokens"] == sum(each.tokens or 0 for each in self.model.open.values())
        assert used["reservations"] == sum(each.tokens is not None for each in self.model.open.values())
        today = datetime.fromtimestamp(self.store.now, UTC)
        tokens = used["day_tokens"] if used["day"] == self.store.now // DAY_S else 0
        first = calendar.timegm((today.year, today.month, 1, 0, 0, 0)) // DAY_S
        this_month = used["month_tokens"] if used["month"] == first else 0
        assert (tokens, this_month) == self.model.spent(self.store.now)
        for client in ("c1", "c2"):
            slots = self.store.client.scard(f"{PREFIX}slots:{client}")
            assert slots == sum(each.slot for each in self.model.open.values() if each.client == client)
            assert slots <= self.model.limits.slots


def test_no_order_of_events_overruns_a_limit_or_leaks(store: LimitScripts) -> None:
    steps = settings(max_examples=80, stateful_step_count=40)
    run_state_machine_as_test(lambda: AnyOrder(store), settings=steps)  # type: ignore[no-untyped-call]
