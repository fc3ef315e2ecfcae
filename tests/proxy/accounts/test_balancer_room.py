"""Whom to ask where room counts: who has the most left, in turns within a step, and only where that is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.accounts.account import Account, ApiKey, OAuthTokens, Status
from proxy.accounts.balancer import Balancer
from proxy.simulator import Answer
from tests.service import Service, serve, upstream_key

NOW = 1_800_000_000.0


def account(id: str) -> Account:
    return Account(id=id, name=id, credential=ApiKey(f"key-of-{ord(id)}"), created_at=NOW, updated_at=NOW)


def expiring(id: str) -> Account:
    return replace(account(id), credential=OAuthTokens("access", "refresh", NOW + 60))


def order(
    rooms: dict[str, float], turns: int, *, accounts: Iterable[Account] = (), later: Iterable[str] = ()
) -> str:
    """The accounts' ids, each one letter, as they are chosen."""
    candidates = {each.id: each for each in accounts} or {id: account(id) for id in rooms}
    balancer = Balancer(candidates)
    for id, each in candidates.items():
        balancer.file(each)
        balancer.set_room(id, rooms[id])
    chosen = ""
    for _ in range(turns):
        id = balancer.first_active(NOW, away=set(later).__contains__) or "-"
        balancer.took(id)
        chosen += id
    return chosen


@pytest.mark.parametrize(
    ("rooms", "chosen"),
    [
        ({"a": 0.2, "b": 0.9}, "bbbb"),
        ({"a": 0.2, "b": 0.9, "c": 0.9}, "bcbc"),
        ({"a": 1.0, "b": 0.96}, "abab"),
        ({"a": 1.0, "b": 0.95}, "aaaa"),
        ({"a": 0.001, "b": 0.05}, "abab"),
        ({"a": 0.0, "b": 0.001}, "bbbb"),
        ({"a": 0.0, "b": 0.0}, "abab"),
    ],
)
def test_who_has_more_room_is_asked_and_those_within_a_step_in_turn(
    rooms: dict[str, float], chosen: str
) -> None:
    assert order(rooms, 4) == chosen


def test_a_token_that_needs_a_refresh_comes_after_less_room() -> None:
    accounts = [account("a"), expiring("b")]
    assert order({"a": 0.1, "b": 1.0}, 2, accounts=accounts) == "aa"


def test_who_was_tried_comes_after_less_room() -> None:
    assert order({"a": 0.1, "b": 1.0}, 2, later=["b"]) == "aa"


def test_room_makes_nobody_usable() -> None:
    limited = replace(account("b"), status=Status.RATE_LIMITED, rate_limited_until=NOW + 1)
    assert order({"a": 0.0, "b": 1.0}, 2, accounts=[account("a"), limited]) == "aa"


fractions = st.lists(st.sampled_from([0.0, 0.01, 0.3, 0.31, 0.99, 1.0]) | st.floats(0, 1), min_size=1)


@settings(deadline=None, database=None)
@given(fractions, st.integers(1, 30))
def test_nobody_is_asked_who_has_a_step_less_than_another_and_turns_are_fair(
    fractions: list[float], turns: int
) -> None:
    rooms = {chr(0x4E00 + number): room for number, room in enumerate(fractions)}
    asked = Counter(order(rooms, turns))
    most = max(rooms.values())
    assert all(most - rooms[id] < 0.05 + 1e-9 for id in asked)
    # Whoever has as much as one that was asked has turns too.
    equal = [asked[id] for id in rooms if rooms[id] == most]
    assert max(equal) - min(equal) <= 1


# ---- in a proxy


def has_left(service: Service, name: str, left: float, *, resets_in: float = 3600) -> None:
    """The account's answers say so from now on."""
    reset = str(round(service.clock.now() + resets_in))
    unified = "anthropic-ratelimit-unified-5h"
    headers = ((f"{unified}-utilization", f"{1 - left:.4f}"), (f"{unified}-reset", reset))
    service.simulator.calm(upstream_key(name))
    service.simulator.always(upstream_key(name), Answer(200, headers, b"{}"))


async def asked(service: Service, requests: int) -> str:
    """Who answered so many requests, by name."""
    answers = [await service.message() for _ in range(requests)]
    return "".join(str(answer.header("x-proxy-account")) for answer in answers)


async def test_round_robin_is_the_default_and_looks_at_no_room(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        has_left(service, "a", 0.0)
        has_left(service, "b", 1.0)
        assert await asked(service, 6) == "ababab"


async def test_most_remaining_follows_what_answers_say(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"], balancer__strategy="most_remaining") as service:
        has_left(service, "a", 0.5)
        has_left(service, "b", 0.8)
        assert await asked(service, 5) == "abbbb"
        has_left(service, "b", 0.3)
        assert await asked(service, 4) == "baaa"


async def test_an_account_that_has_told_nothing_is_taken_for_unused(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"], balancer__strategy="most_remaining") as service:
        has_left(service, "a", 0.5)
        assert await asked(service, 1) == "a"
        await service.add_account("b")
        service.simulator.always(upstream_key("b"), Answer(200, (), b"{}"))
        assert await asked(service, 3) == "bbb"


async def test_an_account_whose_window_was_reset_is_asked_again(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"], balancer__strategy="most_remaining") as service:
        has_left(service, "a", 0.0, resets_in=60)
        has_left(service, "b", 0.5)
        assert await asked(service, 4) == "abbb"
        service.clock.advance(59)
        assert await asked(service, 1) == "b"
        service.clock.advance(1)
        service.parts.pool.tick()
        assert await asked(service, 1) == "a"


async def test_who_has_nothing_left_is_asked_where_there_is_no_other(tmp_path: Path) -> None:
    async with serve(tmp_path, balancer__strategy="most_remaining") as service:
        has_left(service, "a", 0.0)
        assert await asked(service, 2) == "aa"
