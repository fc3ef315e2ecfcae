"""Conversations that had a turn lately are counted once each, with the account of the last turn."""

from __future__ import annotations

import random
from collections.abc import Hashable

import pytest

from proxy.accounts import lately
from proxy.accounts.lately import Lately
from tests.service import TestClock


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


class Minutes(Lately):
    """Each conversation is forgotten a minute after its last turn."""

    def __init__(self, clock: TestClock) -> None:
        super().__init__(clock=clock)
        self.clock = clock

    def had(self, name: Hashable, account_id: str, *, after: Hashable | None) -> None:
        self.turn(name, (account_id, self.clock.now() + 60), after=after)


@pytest.fixture
def counted(clock: TestClock) -> Minutes:
    return Minutes(clock)


def test_each_turn_has_another_name_and_it_is_one_conversation(counted: Minutes) -> None:
    counted.had("one", "a", after=None)
    counted.had("two", "a", after="one")
    counted.had("three", "b", after="two")
    assert (counted.count(), counted.count("a"), counted.count("b")) == (1, 0, 1)


def test_a_session_keeps_its_name(counted: Minutes) -> None:
    counted.had("session", "a", after=None)
    counted.had("session", "a", after="session")
    counted.had("session", "a", after=None)
    assert (counted.count(), counted.count("a")) == (1, 1)


def test_a_fork_is_another_one(counted: Minutes) -> None:
    for name, after in (("one", None), ("two", "one"), ("other two", "one")):
        counted.had(name, "a", after=after)
    assert counted.count("a") == 2


def test_one_without_a_turn_for_long_is_not_counted_any_more(counted: Minutes, clock: TestClock) -> None:
    counted.had("one", "a", after=None)
    clock.advance(59)
    counted.had("other", "a", after=None)
    assert counted.count("a") == 2
    clock.advance(1)
    assert (counted.count("a"), counted.count()) == (1, 1)
    clock.advance(59)
    assert (counted.count("a"), counted.count()) == (0, 0)


def test_an_account_is_counted_without_asking_for_all_first(counted: Minutes, clock: TestClock) -> None:
    counted.had("one", "a", after=None)
    clock.advance(60)
    assert counted.count("a") == 0


def test_the_oldest_make_room(counted: Minutes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lately, "MOST", 100)
    rng = random.Random(1)
    for number in range(1000):
        counted.had(number, rng.choice("ab"), after=number - 1 if rng.random() < 0.5 else None)
    assert 90 <= counted.count() <= 100
    assert counted.count("a") + counted.count("b") == counted.count()
