"""Whether the shared store is asked at all: after failures in a row it is left alone, but for a try now and then."""

from __future__ import annotations

import logging
from typing import Final

from proxy.clock import Clock
from proxy.errors import StoreAway

FAILURES: Final = 3
TRY_S: Final = 1.0
"""Between two tries of a store that is away."""

log = logging.getLogger(__name__)


class Breaker:
    """Opens after three failures in a row; then one call a second is let through, and the first success closes it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._next_try = 0.0
        self.away: str | None = None
        """Why the store is not asked now; None if it is."""

    def check(self) -> None:
        """Raise StoreAway, at once, if the store is away and no try is due."""
        if self.away is None:
            return
        now = self._clock.monotonic()
        if now < self._next_try:
            raise StoreAway(self.away)
        self._next_try = now + TRY_S

    def failed(self, why: str) -> None:
        """Count one connection that broke or could not be made."""
        self._failures += 1
        if self._failures >= FAILURES:
            self._next_try = self._clock.monotonic() + TRY_S
            if self.away is None:
                log.error("the shared store is away reason=%s", why)
            self.away = why

    def succeeded(self) -> None:
        """Note an answer."""
        self._failures = 0
        if self.away is not None:
            log.warning("the shared store answers again")
            self.away = None
