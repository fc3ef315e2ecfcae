"""Conversations that had a turn lately are counted once each, with the account of the last turn."""

from __future__ import annotations

import random

import pytest

from proxy.accounts import lately
from proxy.accounts.lately import Lately
from tests.service import TestClock


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def counted(clock: TestClock) -> Lately:
    return Lately(clock=clock, ttl_s=60)


def test_each_turn_has_another_name_and_it_is_one_conversation(counted: Lately) -> None:
    counted.turn("one", "a", after=None)
    counted.turn("two", "a", after="one")
    counted.turn("three", "b", after="two")
    assert (counted.count(), counted.count("a"), counted.count("b")) == (1, 0, 1)


def test_a_session_keeps_its_name(counted: Lately) -> None:
    counted.turn("session", "a", after=None)
    counted.turn("session", "a", after="session")
    counted.turn("session", "a", after=None)
    assert (counted.count(), counted.count("a")) == (1, 1)


def test_a_fork_is_another_one(counted: Lately) -> None:
    for name, after in (("one", None), ("two", "one"), ("other two", "one")):
        counted.turn(name, "a", after=after)
    assert counted.count("a") == 2


def test_one_without_a_turn_for_long_is_not_counted_any_more(counted: Lately, clock: TestClock) -> None:
    counted.turn("one", "a", after=None)
    clock.advance(59)
    counted.turn("other", "a", after=None)
    assert counted.count("a") == 2
    clock.advance(1)
    assert (counted.count("a"), counted.count()) == (1, 1)
    clock.advance(59)
    assert (counted.count("a"), counted.count()) == (0, 0)


def test_an_account_is_counted_without_asking_for_all_first(counted: Lately, clock: TestClock) -> None:
    counted.turn("one", "a", after=None)
    clock.advance(60)
    assert counted.count("a") == 0


def test_the_oldest_make_room(counted: Lately, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lately, "MOST", 100)
    rng = random.Random(1)
    for number in range(1000):
        counted.turn(number, rng.choice("ab"), after=number - 1 if rng.random() < 0.5 else None)
    assert counted.count() == 100
    assert counted.count("a") + counted.count("b") == 100
