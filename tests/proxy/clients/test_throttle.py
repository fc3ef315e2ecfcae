"""Failures of one address within a sliding minute."""

from __future__ import annotations

import pytest

from proxy.clients import throttle
from proxy.clients.throttle import Throttle
from tests.service import TestClock


@pytest.fixture
def limit_of_ten(clock: TestClock) -> Throttle:
    return Throttle(limit=10, window_s=60, clock=clock)


def fail(throttle: Throttle, times: int, address: str = "1.2.3.4") -> None:
    for _ in range(times):
        throttle.failed(address)


def test_who_has_not_failed_need_not_wait(limit_of_ten: Throttle) -> None:
    assert limit_of_ten.wait_s("1.2.3.4") == 0


def test_ten_failures_are_free(limit_of_ten: Throttle) -> None:
    fail(limit_of_ten, 10)
    assert limit_of_ten.wait_s("1.2.3.4") == 0


def test_the_eleventh_has_to_wait_out_the_minute(limit_of_ten: Throttle, clock: TestClock) -> None:
    fail(limit_of_ten, 11)
    assert limit_of_ten.wait_s("1.2.3.4") == 60
    clock.advance(59)
    assert limit_of_ten.wait_s("1.2.3.4") == 1
    clock.advance(1)
    assert limit_of_ten.wait_s("1.2.3.4") == 0


def test_the_minute_slides(limit_of_ten: Throttle, clock: TestClock) -> None:
    for _ in range(11):
        fail(limit_of_ten, 1)
        clock.advance(5)
    assert limit_of_ten.wait_s("1.2.3.4") == 5
    clock.advance(5)
    assert limit_of_ten.wait_s("1.2.3.4") == 0
    fail(limit_of_ten, 1)
    assert limit_of_ten.wait_s("1.2.3.4") == 5


def test_who_goes_on_failing_waits_on(limit_of_ten: Throttle, clock: TestClock) -> None:
    fail(limit_of_ten, 11)
    clock.advance(30)
    fail(limit_of_ten, 1000)
    assert limit_of_ten.wait_s("1.2.3.4") == 60


def test_one_address_does_not_count_for_another(limit_of_ten: Throttle) -> None:
    fail(limit_of_ten, 100)
    assert limit_of_ten.wait_s("4.3.2.1") == 0


def test_the_addresses_it_remembers_are_bounded_and_the_newest_stay(limit_of_ten: Throttle) -> None:
    fail(limit_of_ten, 11, "old")
    fail(limit_of_ten, 11, "new")
    for number in range(throttle.MAX_ADDRESSES - 1):
        limit_of_ten.failed(str(number))
    assert (limit_of_ten.wait_s("old"), limit_of_ten.wait_s("new")) == (0, 60)
