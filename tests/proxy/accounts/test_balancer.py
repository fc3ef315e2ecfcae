"""Whom to ask: fair turns within the best tier, the same as if every account was looked at for every choice."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.account import Account, ApiKey, OAuthTokens, Status
from proxy.accounts.balancer import REFRESH_AHEAD_S, ROOM_STEPS
from proxy.accounts.cooldown import LONG_LIMIT_S, LONGEST_TEST_S
from proxy.accounts.pool import Pool
from proxy.accounts.preferences import Preferences
from tests.answer_headers import answer_headers
from tests.disk import Disk, make_pool
from tests.service import TestClock

NOW = TestClock().now()


def account(id: str, status: Status = Status.ACTIVE, *, until: float | None = None) -> Account:
    return Account(
        id=id,
        name=id,
        credential=ApiKey(f"key-of-{id.replace(' ', '-')}"),
        created_at=NOW,
        updated_at=NOW,
        status=status,
        rate_limited_until=until,
    )


def oauth(id: str, expires_at: float | None) -> Account:
    return replace(account(id), credential=OAuthTokens("access", "refresh", expires_at))


HEALTHY, EXPIRING, RECOVERED, UNUSABLE = range(4)
BY_TIER = {
    HEALTHY: [account("key"), oauth("fresh", NOW + 60.1), oauth("without expiry", None)],
    EXPIRING: [oauth("expiring", NOW + 60), oauth("expired", NOW - 3600)],
    RECOVERED: [
        account("just passed", Status.RATE_LIMITED, until=NOW),
        account("long passed", Status.RATE_LIMITED, until=NOW - 9999),
        account("without an end", Status.RATE_LIMITED),
    ],
    UNUSABLE: [
        account("rate limited", Status.RATE_LIMITED, until=NOW + 0.1),
        account("invalid", Status.INVALID),
        account("inactive", Status.INACTIVE),
    ],
}
TIER = {each.id: tier for tier, accounts in BY_TIER.items() for each in accounts}
ALL = [each for accounts in BY_TIER.values() for each in accounts]

some_accounts = st.lists(st.sampled_from(ALL), unique_by=lambda a: a.id)


def pool_of(accounts: Iterable[Account], clock: TestClock | None = None, **options: Any) -> Pool:
    """A pool that starts with these accounts, in this order."""
    disk = Disk()
    for number, each in enumerate(accounts):
        disk["accounts"][each.id] = replace(each, created_at=NOW + number).record()
    return make_pool(disk, clock or TestClock(), **options)


def choose(pool: Pool, **options: Any) -> str | None:
    chosen = pool.choose(**options)
    return None if chosen is None else pool.take(chosen.id).id


@pytest.mark.parametrize("number", [1, 2, 3, 7])
async def test_each_account_has_its_turn(number: int) -> None:
    pool = pool_of(account(str(n)) for n in range(number))
    assert [choose(pool) for _ in range(3 * number)] == [str(n) for n in range(number)] * 3


async def test_an_account_that_was_away_is_next_once_and_then_in_turn() -> None:
    pool = pool_of([account("a"), account("b")])
    for _ in range(100):
        choose(pool, refused={"b"})
    assert [choose(pool) for _ in range(4)] == ["b", "a", "b", "a"]


async def test_new_accounts_come_before_all_others_in_the_order_in_which_they_came() -> None:
    pool = pool_of([account("a"), account("b")])
    assert [choose(pool) for _ in range(3)] == ["a", "b", "a"]
    for name in "cd":
        await pool.add(name, ApiKey(f"sk-ant-api03-{name}"))
    assert [choose(pool) for _ in range(5)] == ["acc_1", "acc_2", "b", "a", "acc_1"]


async def test_who_was_tried_comes_last() -> None:
    pool = pool_of([account("a"), account("b")])
    assert [choose(pool, later={"a"}) for _ in range(2)] == ["b", "b"]


async def test_who_was_tried_is_tried_again_where_no_other_is_usable() -> None:
    pool = pool_of([account("a"), account("b", Status.INVALID), account("c")])
    assert choose(pool, later={"a"}, refused={"c"}) == "a"
    assert choose(pool, later={"a"}, refused={"a", "c"}) is None


async def test_who_was_tried_comes_after_a_worse_tier() -> None:
    pool = pool_of([BY_TIER[HEALTHY][0], BY_TIER[RECOVERED][0]])
    assert choose(pool, later={"key"}) == "just passed"


@given(some_accounts)
def test_the_choice_is_in_the_best_tier(accounts: list[Account]) -> None:
    chosen = pool_of(accounts).choose()
    best = min((TIER[a.id] for a in accounts), default=UNUSABLE)
    assert (UNUSABLE if chosen is None else TIER[chosen.id]) == best


@given(st.sampled_from([HEALTHY, EXPIRING]), st.integers(0, 40))
def test_within_a_tier_nobody_is_asked_twice_more_than_another(tier: int, turns: int) -> None:
    pool = pool_of(ALL if tier == HEALTHY else BY_TIER[tier])
    asked = Counter({a.id: 0 for a in BY_TIER[tier]})
    asked.update(choose(pool) or "" for _ in range(turns))
    assert set(asked) == {a.id for a in BY_TIER[tier]}
    assert max(asked.values()) - min(asked.values()) <= 1


# ---- whatever happens


class Plain:
    """The same rules, told plainly: every choice looks at every account. Times are (wall, monotonic)."""

    def __init__(self, pool: Pool, clock: TestClock, *, by_room: bool) -> None:
        self.pool, self.clock, self.by_room = pool, clock, by_room
        self.room: dict[str, float] = {}
        self.ends: dict[str, tuple[float, float]] = {}
        self.began: dict[str, float] = {}
        self.models: dict[tuple[str, str], tuple[float, float]] = {}
        self.to_test: set[str] = set()
        self.tested_until: dict[str, float] = {}
        self.turn: dict[str, int] = {}
        self.turns = 0
        self.due: dict[str, float] = {}
        self.last_due = 0.0

    def passed(self, end: tuple[float, float]) -> bool:
        return end[0] <= self.clock.now() or end[1] <= self.clock.monotonic()

    def in_s(self, seconds: float) -> tuple[float, float]:
        return self.clock.now() + seconds, self.clock.monotonic() + seconds

    def tier(self, each: Account) -> int | None:
        if each.status is Status.ACTIVE:
            expires_at = each.expires_at
            return int(expires_at is not None and expires_at - REFRESH_AHEAD_S <= self.clock.now())
        return 2 if each.id in self.ends and self.passed(self.ends[each.id]) else None

    def choose(
        self, model: str, refused: Collection[str], later: Collection[str], tags: Collection[str], new: bool
    ) -> str | None:
        ranks = []
        for place, each in enumerate(self.pool):
            id, tier, resting = each.id, self.tier(each), self.models.get((each.id, model))
            tested = self.tested_until.get(id, -1) > self.clock.monotonic()
            if tier is None or id in refused or tested or (resting and not self.passed(resting)):
                continue
            if tags and not set(tags) & set(each.preferences.tags):
                continue
            left, passed, priority = self.room.get(id, 1.0), tier == 2, each.preferences.priority
            held = each.preferences.reserve > 0 and left <= each.preferences.reserve
            room = math.ceil(left * ROOM_STEPS) if self.by_room else 0
            turn = (self.due.get(id, 0.0), self.turn.get(id, 0), place)
            first = (held, passed) if new else (passed, held and passed)
            ranks.append((id in later, first, priority, tier, -room, turn, id))
        return min(ranks)[-1] if ranks else None

    def take(self, id: str, new: bool) -> None:
        self.recover(id)
        if new:
            self.turns += 1
            self.turn[id] = self.turns
            self.last_due = max(self.last_due, self.due.get(id, 0.0))
            self.due[id] = self.last_due + 1 / self.pool[id].preferences.weight
        if id in self.to_test:
            self.to_test.discard(id)
            self.tested_until[id] = self.clock.monotonic() + LONGEST_TEST_S

    def recover(self, id: str) -> None:
        if id in self.ends and self.passed(self.ends[id]):
            long = self.ends.pop(id)[1] - self.began.pop(id) >= LONG_LIMIT_S
            self.to_test |= {id} if long else set()

    def limit(self, id: str, seconds: float) -> None:
        status, (wall, _) = self.pool[id].status, self.in_s(seconds)
        if status is Status.ACTIVE or (status is Status.RATE_LIMITED and self.ends[id][0] < wall):
            self.ends[id] = self.in_s(seconds)
            self.began.setdefault(id, self.clock.monotonic())
            self.tested_until.pop(id, None)

    def limit_model(self, id: str, model: str, seconds: float) -> None:
        known, new = self.models.get((id, model)), self.in_s(seconds)
        if known is None or self.passed(known) or self.earlier(known) < new[0]:
            self.models[id, model] = new

    def earlier(self, end: tuple[float, float]) -> float:
        return min(end[0], self.clock.now() + end[1] - self.clock.monotonic())

    def lifted(self, id: str) -> None:
        self.ends.pop(id, None)
        self.began.pop(id, None)


IDS = [*"abcde"]
some_id = st.sampled_from(IDS)
some_ids = st.sets(some_id, max_size=3)
seconds = st.integers(0, 500)
some_tags = st.sets(st.sampled_from(["eu", "us", "none"]), max_size=2)
none: st.SearchStrategy[set[str]] = st.just(set())
some_preferences = st.builds(
    Preferences,
    priority=st.sampled_from([0, 0, -1, 1]),
    weight=st.sampled_from([1.0, 0.5, 2.0, 3.0]),
    reserve=st.sampled_from([0.0, 0.3, 1.0]),
    tags=st.sampled_from([(), ("eu",), ("us",), ("eu", "us")]),
)
steps = st.one_of(
    st.tuples(
        st.just("choose"),
        st.sampled_from(["opus", "sonnet"]),
        some_ids,
        some_ids,
        none | some_tags,
        st.booleans(),
    ),
    *[st.tuples(st.just("choose"), st.just("opus"), none, none, none, st.just(True))] * 4,
    st.tuples(st.just("prefer"), some_id, some_preferences),
    st.tuples(st.just("limit"), some_id, seconds),
    st.tuples(st.just("limit model"), some_id, seconds),
    st.tuples(st.just("wait"), seconds),
    st.tuples(st.just("set the wall clock"), st.integers(-1000, 1000)),
    st.tuples(st.just("tick")),
    st.tuples(st.just("answered"), some_id),
    st.tuples(st.just("401"), some_id),
    st.tuples(st.just("set"), some_id, st.sampled_from([Status.ACTIVE, Status.INACTIVE])),
    st.tuples(st.just("new tokens"), some_id, seconds),
    st.tuples(st.just("room"), some_id, st.integers(0, 100)),
)


async def both(pool: Pool, plain: Plain, clock: TestClock, step: tuple[Any, ...]) -> None:
    """Do one step in the pool and in the plain one."""
    match step:
        case ("choose", model, refused, later, tags, new):
            chosen = pool.choose((model,), refused=refused, later=later, tags=tags, new=new)
            assert (chosen.id if chosen else None) == plain.choose(model, refused, later, tags, new)
            if chosen is not None:
                plain.take(chosen.id, new)
                assert pool.take(chosen.id, new=new).status is Status.ACTIVE
        case ("prefer", id, preferences):
            await pool.update(id, preferences=preferences)
        case ("limit", id, wait_s):
            plain.limit(id, wait_s)
            pool.limit(id, clock.now() + wait_s, "429")
        case ("limit model", id, wait_s):
            plain.limit_model(id, "opus", wait_s)
            pool.skip(id, "opus", clock.now() + wait_s, "429")
        case ("wait", wait_s):
            clock.advance(wait_s)
        case ("set the wall clock", by_s):
            clock.jump(by_s)
        case ("tick",):
            for id in IDS:
                plain.recover(id)
            plain.models = {key: end for key, end in plain.models.items() if not plain.passed(end)}
            pool.tick()
        case ("answered", id):
            plain.tested_until.pop(id, None)
            pool.answered(id)
        case ("401", id):
            plain.lifted(id)
            pool.invalidate(id, "401")
        case ("set", id, status):
            plain.lifted(id)
            await pool.update(id, status=status)
        case ("new tokens", id, wait_s):
            await pool.change(
                id, lambda a: a.refresh_received(OAuthTokens(id, id, clock.now() + wait_s), clock.now())
            )
            pool.publish(id)
        case ("room", id, percent):
            plain.room[id] = 1 - percent / 100
            unified = "anthropic-ratelimit-unified-5h"
            reset = str(round(NOW + 86_400))
            lines = [(f"{unified}-utilization", str(percent / 100)), (f"{unified}-reset", reset)]
            pool.saw(pool[id], answer_headers(lines))


@pytest.mark.parametrize("by_room", [False, True])
def test_whatever_happens_the_choice_is_that_of_looking_at_everyone(by_room: bool) -> None:
    @given(st.lists(steps, min_size=40, max_size=80))  # without a least size most are five steps long
    def check(story: list[tuple[Any, ...]]) -> None:
        async def live() -> None:
            clock = TestClock()
            pool = pool_of([oauth(id, None) for id in IDS], clock, most_remaining=by_room)
            plain = Plain(pool, clock, by_room=by_room)
            for step in story:
                await both(pool, plain, clock, step)
            counts = Counter(Status.ACTIVE if plain.tier(each) is not None else each.status for each in pool)
            assert {status: n for status, n in pool.count().items() if n} == counts

        asyncio.run(live())

    check()
