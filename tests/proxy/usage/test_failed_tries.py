"""What accounts failed at: each try by its kind, at the lengths of charts, and no longer than these are kept."""

from __future__ import annotations

import pytest

from proxy.usage.failed_tries import FailedTries
from proxy.usage.request import Attempt, Failure, RequestRecord
from tests.service import TestClock


def ended(*tries: tuple[str, int, str]) -> RequestRecord:
    """A request with these tries: account, status, verdict."""
    record = RequestRecord(0.0)
    record.attempts = [
        Attempt(account, account, 0.0, 1.0, status, verdict) for account, status, verdict in tries
    ]
    return record


@pytest.mark.parametrize(
    ("status", "verdict", "failure"),
    [
        (200, "hand_on", None),
        (0, "", None),  # cut
        (200, "", None),
        (404, "hand_on", "client_error"),
        (429, "hand_on", "limited"),
        (429, "bench_then_next", "limited"),
        (429, "skip_then_next", "limited"),
        (400, "bench_then_next", "refused"),  # no credit
        (404, "skip_then_next", "refused"),
        (403, "next_account", "refused"),
        (401, "refresh_then_next", "credential"),
        (401, "confirm_key_then_next", "credential"),
        (529, "retry", "upstream_error"),
        (500, "hand_on", "upstream_error"),
        (200, "retry", "upstream_error"),  # its first event was an error
        (0, "UpstreamTimeout", "upstream_error"),
    ],
)
def test_each_try_has_failed_at_one_thing(status: int, verdict: str, failure: Failure | None) -> None:
    assert ended(("a", status, verdict)).attempts[0].failure == failure


def test_they_count_for_the_account_that_failed_at_each_length_of_bars() -> None:
    clock = TestClock()
    failed = FailedTries(clock=clock)
    failed.count(ended(("a", 429, "bench_then_next"), ("a", 529, "retry"), ("b", 200, "hand_on")))
    clock.advance(60)
    failed.count(ended(("b", 401, "refresh_then_next"), ("a", 429, "bench_then_next")))
    now = int(clock.now())
    minutes = range(now - 120, now + 60, 60)
    assert failed.columns("a", minutes)["try_limited"] == [0, 1, 1]
    assert failed.columns("a", minutes)["try_upstream_error"] == [0, 1, 0]
    assert failed.columns("b", minutes)["try_credential"] == [0, 0, 1]
    for span_s in (900, 7200, 86_400):
        start = now // span_s * span_s
        assert failed.columns("a", range(start, start + span_s, span_s))["try_limited"] == [2]


@pytest.mark.parametrize("jump_s", [3 * 3600, -3 * 3600])
def test_what_is_too_old_is_forgotten_also_if_the_clock_was_set_back(jump_s: float) -> None:
    clock = TestClock()
    failed = FailedTries(clock=clock)
    then = int(clock.now())
    failed.count(ended(("a", 429, "bench_then_next")))
    clock.jump(jump_s)
    failed.count(ended(("a", 429, "bench_then_next")))
    assert failed.columns("a", range(then, then + 60, 60))["try_limited"] == [0]
    assert sum(failed.columns("a", range(then // 900 * 900, then + 900, 900))["try_limited"]) == 1
