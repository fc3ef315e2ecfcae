"""What holds the event loop is logged, with the place that held it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from proxy.clock import SystemClock
from proxy.lag import LoopLag, where
from tests.service import until


def hold(clock: SystemClock, seconds: float) -> None:
    end = clock.monotonic() + seconds
    while clock.monotonic() < end:
        sum(range(100_000))


async def test_what_holds_the_loop_is_logged_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    clock = SystemClock()
    lag = LoopLag(clock)
    with lag:
        hold(clock, 0.4)
        await until(lambda: caplog.messages)
    assert lag.late_s.buckets()[-1][1] and lag.late_s.total > 0.3
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "tests/proxy/test_lag.py:" in record.getMessage()
    assert "hold" in record.getMessage()


async def test_a_loop_that_is_free_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    class Free(SystemClock):
        """Each look finds the time that was expected."""

        def monotonic(self) -> float:
            return 1.0

    with LoopLag(Free()):
        await asyncio.sleep(0.12)
    assert caplog.messages == []


def test_a_stack_without_a_place_of_ours_is_none() -> None:
    assert where(None) == ""
