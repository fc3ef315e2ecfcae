"""Refreshes that failed: the next try of an account comes later with each failure in a row."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from proxy.clock import Clock

FIRST_BACKOFF_S = 5.0
LAST_BACKOFF_S = 300.0
LONGEST_RETRY_AFTER_S = 3600.0


@dataclass(slots=True)
class Trouble:
    """Failed refreshes in a row; the next try is not before `until`, on the monotonic clock."""

    failures: int
    until: float
    reason: str


class Troubles:
    """The trouble of each account, by its id. In memory only."""

    def __init__(self, *, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self._by_id: dict[str, Trouble] = {}

    def now(self, account_id: str) -> str | None:
        """Why the account is not tried now; None if it may be."""
        trouble = self._by_id.get(account_id)
        return None if trouble is None or trouble.until <= self._clock.monotonic() else trouble.reason

    def failed(self, account_id: str, why: str, retry_after_s: float | None) -> float:
        """Note a failure. Returns the seconds until the next try."""
        before = self._by_id.get(account_id)
        failures = before.failures + 1 if before else 1
        wait_s = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 10))
        wait_s = max(wait_s * self._rng.uniform(0.8, 1.2), min(retry_after_s or 0.0, LONGEST_RETRY_AFTER_S))
        self._by_id[account_id] = Trouble(failures, self._clock.monotonic() + wait_s, why)
        return wait_s

    def over(self, account_id: str) -> None:
        """Forget the account's trouble."""
        self._by_id.pop(account_id, None)
