"""Recent latency: percentiles of the time to first byte."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

from proxy.clock import Clock
from proxy.usage.request import RequestRecord

RECENT: Final = 2048
RECENT_S: Final = 900.0
"""How many requests are kept, and how far back."""

PERCENTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Latency:
    """Keeps the time to first byte of successful inference requests."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._at: deque[float] = deque(maxlen=RECENT)
        self._ttfb_s: deque[float] = deque(maxlen=RECENT)

    def count(self, record: RequestRecord) -> None:
        """Record an ended request: a sink."""
        ttfb_s = record.ttfb_s
        if record.is_inference and ttfb_s is not None and record.status < 400:
            self._at.append(self._clock.monotonic())
            self._ttfb_s.append(ttfb_s)

    def ttfb_ms(self) -> dict[str, float | None]:
        """Percentiles of recent requests in milliseconds, None if there are none."""
        first = bisect_left(self._at, self._clock.monotonic() - RECENT_S)
        return percentiles_ms(islice(self._ttfb_s, first, None))


def percentiles_ms(times_s: Iterable[float]) -> dict[str, float | None]:
    """The times at PERCENTILES, in milliseconds; None if there are none."""
    times = sorted(times_s)
    return {
        name: round(times[min(len(times) - 1, int(len(times) * place))] * 1000, 1) if times else None
        for name, place in PERCENTILES.items()
    }
