"""Recent latency: percentiles of the time to first byte."""

from __future__ import annotations

from collections import deque
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
        self._first_bytes: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def count(self, record: RequestRecord) -> None:
        """Record an ended request: a sink."""
        ttfb_s = record.ttfb_s
        if record.is_inference and ttfb_s is not None and record.status < 400:
            self._first_bytes.append((self._clock.monotonic(), ttfb_s))

    def ttfb_ms(self) -> dict[str, float | None]:
        """Percentiles of recent requests in milliseconds, None if there are none."""
        since = self._clock.monotonic() - RECENT_S
        return percentiles([ttfb_s * 1000 for at, ttfb_s in self._first_bytes if at >= since])


def percentiles(times: list[float]) -> dict[str, float | None]:
    """The times at PERCENTILES; None if there are none."""
    times = sorted(times)
    return {
        name: round(times[min(len(times) - 1, int(len(times) * place))], 1) if times else None
        for name, place in PERCENTILES.items()
    }
