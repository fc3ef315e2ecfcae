"""Whom to ask: fair turns within the best tier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.account import Account, ApiKey, OAuthTokens, Status
from proxy.accounts.balancer import RoundRobin

NOW = 1_800_000_000.0


def account(id: str, status: Status = Status.ACTIVE, *, until: float | None = None) -> Account:
    return Account(
        id=id,
        name=id,
        credential=ApiKey(f"key of {id}"),
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


def choose(balancer: RoundRobin, accounts: Iterable[Account], later: Iterable[str] = ()) -> str:
    chosen = balancer.choose(accounts, NOW, later=set(later))
    assert chosen is not None
    return chosen.id


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_each_account_has_its_turn(number: int) -> None:
    balancer, accounts = RoundRobin(), [account(str(n)) for n in range(number)]
    order = [choose(balancer, accounts) for _ in range(3 * number)]
    assert order == [str(n) for n in range(number)] * 3


def test_an_account_that_was_away_is_next_once_and_then_in_turn() -> None:
    balancer, a, b = RoundRobin(), account("a"), account("b")
    for _ in range(100):
        choose(balancer, [a])
    assert [choose(balancer, [a, b]) for _ in range(4)] == ["b", "a", "b", "a"]


def test_an_account_that_was_forgotten_is_new() -> None:
    balancer, a, b = RoundRobin(), account("a"), account("b")
    assert [choose(balancer, [a, b]) for _ in range(2)] == ["a", "b"]
    balancer.forget("b")
    assert choose(balancer, [a, b]) == "b"


def test_who_was_tried_comes_last() -> None:
    balancer, a, b = RoundRobin(), account("a"), account("b")
    assert [choose(balancer, [a, b], later=["a"]) for _ in range(2)] == ["b", "b"]


def test_who_was_tried_is_tried_again_where_no_other_is_usable() -> None:
    assert choose(RoundRobin(), [account("a"), account("b", Status.INVALID)], later=["a"]) == "a"


def test_who_was_tried_comes_after_a_worse_tier() -> None:
    assert choose(RoundRobin(), [BY_TIER[HEALTHY][0], BY_TIER[RECOVERED][0]], later=["key"]) == "just passed"


@given(some_accounts)
def test_the_choice_is_in_the_best_tier(accounts: list[Account]) -> None:
    chosen = RoundRobin().choose(accounts, NOW)
    best = min((TIER[a.id] for a in accounts), default=UNUSABLE)
    assert (UNUSABLE if chosen is None else TIER[chosen.id]) == best


@given(some_accounts, st.sets(st.sampled_from([a.id for a in ALL])))
def test_what_is_unusable_is_never_chosen(accounts: list[Account], later: set[str]) -> None:
    balancer = RoundRobin()
    chosen = [balancer.choose(accounts, NOW, later=later) for _ in range(20)]
    assert all(each is None or TIER[each.id] != UNUSABLE for each in chosen)


@given(st.sampled_from([HEALTHY, EXPIRING, RECOVERED]), st.integers(0, 40))
def test_within_a_tier_nobody_is_asked_twice_more_than_another(tier: int, turns: int) -> None:
    balancer = RoundRobin()
    asked = Counter({a.id: 0 for a in BY_TIER[tier]})
    asked.update(choose(balancer, ALL if tier == HEALTHY else BY_TIER[tier]) for _ in range(turns))
    assert max(asked.values()) - min(asked.values()) <= 1


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_whoever_joins_or_leaves_the_others_keep_their_turns(present: list[str]) -> None:
    balancer, last = RoundRobin(), {"a": 0, "b": 0, "c": 0}
    for turn, away in enumerate(present, start=1):
        here = [name for name in "abc" if name != away]
        chosen = choose(balancer, map(account, here))
        assert last[chosen] == min(last[name] for name in here)
        last[chosen] = turn
