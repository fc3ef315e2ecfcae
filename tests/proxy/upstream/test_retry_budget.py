"""How many further tries all requests together have."""

from __future__ import annotations

import pytest

from proxy.upstream.retry_budget import ROOM, RetryBudget


def spent(budget: RetryBudget) -> int:
    """The further tries that it grants now."""
    count = 0
    while budget.spend():
        count += 1
    return count


def test_ten_further_tries_may_come_at_once() -> None:
    assert spent(RetryBudget(0.2)) == ROOM


@pytest.mark.parametrize(("share", "granted"), [(0.0, 0), (0.2, 2), (0.5, 5), (10.0, ROOM)])
def test_after_that_each_request_adds_its_share(share: float, granted: float) -> None:
    budget = RetryBudget(share)
    spent(budget)
    for _ in range(10):
        budget.earn()
    assert spent(budget) == pytest.approx(granted, abs=1)


def test_there_is_never_room_for_more_than_ten() -> None:
    budget = RetryBudget(0.2)
    for _ in range(1000):
        budget.earn()
    assert spent(budget) == ROOM
