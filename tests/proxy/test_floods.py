"""What comes in floods is logged a few times, and counted from then on."""

from __future__ import annotations

import logging

from proxy.floods import FIRST, MOST_ADDRESSES, OTHERS, WINDOW_S, Floods
from tests.service import TestClock


def flood(floods: Floods, times: int, address: str = "192.0.2.1", kind: str = "refused") -> int:
    """How many of so many records are logged."""
    return sum(floods.passes(kind, address, logging.INFO) for _ in range(times))


def left_out(floods: Floods, clock: TestClock) -> dict[tuple[str, str], int]:
    """What the window has left out, at its end."""
    clock.advance(WINDOW_S)
    return {(each.kind, each.address): each.left_out for each in floods.sums()}


def test_the_first_few_are_logged_and_the_rest_counted() -> None:
    clock = TestClock()
    floods = Floods(clock)
    assert flood(floods, 1000) == FIRST
    assert left_out(floods, clock) == {("refused", "192.0.2.1"): 1000 - FIRST}


def test_kinds_and_addresses_are_counted_apart() -> None:
    floods = Floods(TestClock())
    flood(floods, 1000)
    assert flood(floods, 1, address="192.0.2.2") == flood(floods, 1, kind="malformed") == 1


def test_each_window_begins_anew() -> None:
    clock = TestClock()
    floods = Floods(clock)
    flood(floods, 1000)
    left_out(floods, clock)
    assert flood(floods, FIRST) == FIRST
    assert left_out(floods, clock) == {}


def test_nothing_is_summed_up_before_the_end_unless_it_is_the_end_of_all() -> None:
    floods = Floods(TestClock())
    flood(floods, FIRST + 1)
    assert floods.sums() == []
    assert [each.left_out for each in floods.sums(now=True)] == [1]


def test_a_flood_from_everywhere_is_few_lines_and_little_memory() -> None:
    clock = TestClock()
    floods = Floods(clock)
    logged = sum(flood(floods, FIRST + 1, address=f"192.0.2.{number}") for number in range(10_000))
    assert logged == (MOST_ADDRESSES + 1) * FIRST
    told = left_out(floods, clock)
    assert len(told) == MOST_ADDRESSES + 1 and OTHERS in told
    assert sum(told.values()) == 10_000 * (FIRST + 1) - logged
