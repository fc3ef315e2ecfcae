"""Time: the one module that reads a clock or sleeps, so that a test can hand over another."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """What the engine may ask about time; all values in seconds."""

    def now(self) -> float:
        """Wall clock, seconds since the Unix epoch."""

    def monotonic(self) -> float:
        """A clock that no one sets; only differences mean anything."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class SystemClock:
    """The machine's own clocks, asked without a step between: each request asks them often."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def rfc3339(epoch_s: float) -> str:
    """`epoch_s` as RFC 3339 in UTC with milliseconds and `Z`: `2026-11-22T10:41:07.123Z`."""
    whole, millis = divmod(int(epoch_s * 1000 + 0.5), 1000)
    return f"{_to_the_second(whole)}.{millis:03d}Z"


def at_most_after(newest: float, now: float) -> float:
    """By when to tell what is old: `now`, but no later than a day after the `newest` there is.

    A clock that is ahead, as one may be after a boot, would have everything removed.
    """
    return min(now, newest + 86_400)


@lru_cache(maxsize=1024)  # a second's log lines share it, and an account's view has six
def _to_the_second(epoch_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_s))
