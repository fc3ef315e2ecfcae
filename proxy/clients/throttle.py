"""Limits the failed authentications of an address in a sliding window. A valid key is never locked out."""

from __future__ import annotations

from collections import OrderedDict, deque

from proxy.clock import Clock

MAX_ADDRESSES = 10_000


class Throttle:
    """Counts failures by address over a sliding window of `window_s`, for a bounded number of addresses."""

    def __init__(self, *, limit: int, window_s: float, clock: Clock) -> None:
        self._limit = limit
        self._window_s = window_s
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, address: str) -> None:
        """Count one failure."""
        times = self._failures.setdefault(address, deque(maxlen=self._limit + 1))
        times.append(self._clock.monotonic())
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def wait_s(self, address: str) -> float:
        """Seconds until the address may try again; 0 if it may now."""
        times = self._failures.get(address, deque())
        now = self._clock.monotonic()
        while times and times[0] <= now - self._window_s:
            times.popleft()
        return times[0] + self._window_s - now if len(times) > self._limit else 0.0
