"""Whom to ask where admins have a say: priority first, turns by weight, a reserve kept, tags binding."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.account import Account, ApiKey, OAuthTokens, Status
from proxy.accounts.exhausted import exhausted
from proxy.accounts.pool import Pool
from proxy.accounts.preferences import Preferences
from proxy.errors import RateLimited, Unavailable
from tests.answer_headers import answer_headers
from tests.disk import Disk, make_pool
from tests.service import TestClock

NOW = TestClock().now()


def account(id: str, **preferences: Any) -> Account:
    key = ApiKey(f"key-of-{id}")
    return Account(id, id, key, NOW + ord(id[0]), NOW, preferences=Preferences(**preferences))


def pool_of(accounts: Iterable[Account], **options: Any) -> Pool:
    disk = Disk()
    for each in accounts:
        disk["accounts"][each.id] = each.record()
    return make_pool(disk, options.pop("clock", None) or TestClock(), **options)


def weighing(*weights: float) -> Pool:
    """Accounts `a`, `b`, … of these weights."""
    return pool_of(account(chr(97 + number), weight=weight) for number, weight in enumerate(weights))


def chosen(pool: Pool, times: int = 1, **options: Any) -> str:
    """Who is chosen so many times, each of one letter; `-` for none."""
    found = ""
    for _ in range(times):
        account = pool.choose(**options)
        found += "-" if account is None else pool.take(account.id).id
    return found


def has_left(pool: Pool, id: str, left: float, *, resets_in: float = 3600) -> None:
    unified = "anthropic-ratelimit-unified-5h"
    lines = [(f"{unified}-utilization", f"{1 - left}"), (f"{unified}-reset", str(round(NOW + resets_in)))]
    pool.saw(pool[id], answer_headers(lines))


# ---- priority


async def test_a_lower_priority_is_asked_first_and_the_next_only_where_none_of_it_is_usable() -> None:
    pool = pool_of(
        [account("a", priority=5), account("b"), account("c", priority=-1), account("d", priority=-1)]
    )
    assert chosen(pool, 4) == "cdcd"
    assert chosen(pool, 2, refused={"c"}) == "dd"
    assert chosen(pool, 2, refused={"c", "d"}) == "bb"
    pool.limit("b", NOW + 60, "429")
    assert chosen(pool, 2, refused={"c", "d"}) == "aa"
    await pool.update("a", preferences=Preferences(priority=-2))
    assert chosen(pool, 2) == "aa"


async def test_priority_goes_before_room_and_before_a_fresh_token() -> None:
    expiring = replace(account("a"), credential=OAuthTokens("t", "r", NOW + 30))
    pool = pool_of([expiring, account("b", priority=1)], most_remaining=True)
    has_left(pool, "a", 0.1)
    assert chosen(pool, 2) == "aa"
    fresh = pool_of([expiring, account("b")])
    assert chosen(fresh, 2) == "bb"


# ---- weight


@pytest.mark.parametrize(
    ("weights", "turns"),
    [
        ((1, 1, 1), "abcabcabc"),
        ((2, 1), "ababaabaa"),
        ((1, 2), "abbabbabb"),
        ((0.5, 0.5, 0.5), "abcabcabc"),
        ((3, 1), "abaabaaaa"),
    ],
)
async def test_turns_are_interleaved_by_weight(weights: tuple[float, ...], turns: str) -> None:
    assert chosen(weighing(*weights), 9) == turns


weights = st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0, 7.0]), min_size=1, max_size=8)


@given(weights, st.integers(1, 200))
def test_at_any_moment_each_has_had_its_share_but_for_a_turn_each(weights: list[float], turns: int) -> None:
    asked = Counter(chosen(weighing(*weights), turns))
    for number, weight in enumerate(weights):
        share = turns * weight / sum(weights)
        assert abs(asked[chr(97 + number)] - share) <= 1 + weight / min(weights)


async def test_an_account_that_was_away_catches_nothing_up() -> None:
    pool = weighing(2, 1)
    chosen(pool, 100, refused={"a"})
    assert chosen(pool, 6) == "aabaab"
    chosen(pool, 100, refused={"b"})
    assert Counter(chosen(pool, 30)) == {"a": 19, "b": 11}  # one at once, then in turn


async def test_a_new_weight_counts_from_the_next_turn_on() -> None:
    pool = weighing(1, 1)
    chosen(pool, 100)
    await pool.update("b", preferences=Preferences(weight=3))
    assert Counter(chosen(pool, 40)) == {"a": 10, "b": 30}


async def test_a_turn_that_is_nothing_new_is_none() -> None:
    pool = weighing(1, 1)
    for _ in range(9):
        pool.take("b", new=False)
    assert chosen(pool, 4) == "abab"


CRITICAL = {1: 10.8, 4: 18.5, 6: 22.5}
"""χ² that chance exceeds once in a thousand times, by degrees of freedom."""


@pytest.mark.parametrize("weights", [(1, 1), (1, 1, 1, 1, 1, 1, 1), (1, 2, 3, 0.5, 5)])
async def test_ten_thousand_choices_are_shared_by_weight_while_accounts_come_and_go(
    weights: tuple[float, ...],
) -> None:
    rng, pool = random.Random(14), weighing(*weights)
    ids = [each.id for each in pool]
    asked = Counter(chosen(pool, refused=set(rng.sample(ids, rng.randrange(2)))) for _ in range(10_000))
    expected = {id: 10_000 * weight / sum(weights) for id, weight in zip(ids, weights, strict=True)}
    chi_squared = sum((asked[id] - share) ** 2 / share for id, share in expected.items())
    assert asked.total() == 10_000 and chi_squared < CRITICAL[len(ids) - 1], asked


async def test_a_limited_accounts_traffic_is_spread_evenly_over_the_others() -> None:
    pool = weighing(1, 1, 1, 1)
    assert Counter(chosen(pool, 400)) == dict.fromkeys("abcd", 100)
    pool.limit("b", NOW + 3600, "429")
    assert Counter(chosen(pool, 300)) == dict.fromkeys("acd", 100)


# ---- reserve


async def test_a_reserve_is_kept_for_what_is_not_new_as_long_as_another_is_usable() -> None:
    pool = pool_of([account("a", reserve=0.2), account("b"), account("c")])
    has_left(pool, "a", 0.21)
    assert chosen(pool, 3) == "abc"
    has_left(pool, "a", 0.2)
    assert chosen(pool, 4) == "bcbc"
    assert chosen(pool, 2, new=False) == "ab"
    assert chosen(pool, 2, refused={"b", "c"}) == "aa"
    assert chosen(pool, 2, later={"b", "c"}) == "aa"  # before one that has just failed
    pool.limit("c", NOW + 60, "429")
    pool.invalidate("b", "401")
    assert chosen(pool, 2) == "aa"


async def test_a_reserve_ends_with_its_window_and_with_an_admins_word() -> None:
    clock = TestClock()
    pool = pool_of([account("a", reserve=0.5), account("b")], clock=clock)
    has_left(pool, "a", 0.1, resets_in=60)
    assert chosen(pool, 2) == "bb"
    clock.advance(60)
    pool.tick()
    assert chosen(pool, 2) == "ab"
    has_left(pool, "a", 0.1)
    assert chosen(pool, 2) == "bb"
    await pool.update("a", preferences=Preferences())
    assert chosen(pool, 2) == "ab"
    await pool.update("a", preferences=Preferences(reserve=0.1))
    assert chosen(pool, 2) == "bb"


async def test_an_account_that_keeps_all_gets_nothing_new_and_one_that_keeps_nothing_is_asked_to_the_end() -> (
    None
):
    pool = pool_of([account("a", reserve=1), account("b")])
    has_left(pool, "b", 0.0)
    assert chosen(pool, 3) == "bbb"
    assert chosen(pool, 1, refused={"b"}) == "a"


async def test_an_account_whose_limit_has_just_passed_comes_before_a_reserve() -> None:
    clock = TestClock()
    pool = pool_of([account("a", reserve=1), account("b")], clock=clock)
    pool.limit("b", NOW + 60, "429")
    assert chosen(pool) == "a"
    clock.advance(60)
    assert chosen(pool) == "b"


async def test_a_deleted_account_keeps_no_reserve() -> None:
    pool = pool_of([account("a", reserve=1), account("b", priority=1), account("c", priority=1)])
    await pool.remove("a")
    assert chosen(pool, 4, new=False) == "bcbc"


# ---- tags

EU, US, BOTH, PLAIN = (
    account("a", tags=("eu",)),
    account("b", tags=("us",)),
    account("c", tags=("us", "eu")),
    account("d"),
)


@pytest.mark.parametrize(
    ("tags", "turns"),
    [((), "abcd"), (("eu",), "acac"), (("us",), "bcbc"), (("eu", "us"), "abca"), (("none",), "----")],
)
async def test_tags_bind_to_accounts_that_have_one_of_them(tags: tuple[str, ...], turns: str) -> None:
    assert chosen(pool_of([EU, US, BOTH, PLAIN]), 4, tags=tags) == turns


async def test_tags_bind_whatever_becomes_of_the_accounts_that_have_them() -> None:
    clock = TestClock()
    pool = pool_of([EU, US, BOTH, PLAIN], clock=clock)
    pool.limit("c", NOW + 30, "429")
    pool.limit("a", NOW + 60, "429")
    pool.limit("d", NOW + 5, "429")
    assert chosen(pool, tags=("eu",)) == "-"
    refused = exhausted(pool, clock.now(), tags=("eu",))
    assert isinstance(refused, RateLimited) and refused.retry_after_s == 30
    assert "'c' comes back first" in refused.message
    clock.advance(5)
    assert chosen(pool, tags=("eu",)) == "-"  # `d` is usable again, and not theirs
    clock.advance(25)
    assert chosen(pool, tags=("eu",)) == "c"
    await pool.update("b", preferences=Preferences(tags=("eu",)))
    await pool.update("c", preferences=Preferences())
    assert chosen(pool, 2, tags=("eu",)) == "bb"


async def test_where_no_account_has_a_tag_of_the_key_that_is_said() -> None:
    refused = exhausted(pool_of([EU, PLAIN]), 0.0, tags=("us",))
    assert isinstance(refused, Unavailable)
    assert (refused.message, refused.should_retry) == ("no account has one of this client key's tags", False)
    pool = pool_of([EU, PLAIN])
    await pool.update("a", status=Status.INACTIVE)
    assert exhausted(pool, 0.0, tags=("eu",)).message == "all accounts invalid or inactive"
