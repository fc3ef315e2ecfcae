"""What accounts failed at, over time: tries that failed, also those after which another account answered.

The usage of a request counts for the account that was asked last, so it tells nothing of the others.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, get_args

from proxy.clock import Clock
from proxy.usage.buckets import Buckets, floor
from proxy.usage.chart import Columns
from proxy.usage.request import Failure, RequestRecord

FAILURES: Final[tuple[Failure, ...]] = get_args(Failure)


class FailedTries:
    """Counts since the start, in buckets as long and as many as those of the usage."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        levels = Buckets().levels.values()
        self._keep_s = {level.span_s: level.keep_s for level in levels}
        self._levels: dict[int, dict[int, Counter[tuple[str, Failure]]]] = {span: {} for span in self._keep_s}

    def count(self, record: RequestRecord) -> None:
        """Count the tries of an ended request: a sink."""
        for attempt in record.attempts:
            failure = attempt.failure
            if failure is not None:
                self._add(attempt.account_id, failure, 1, at=self._clock.now())

    def _add(self, account_id: str, failure: Failure, tries: int, *, at: float) -> None:
        now = self._clock.now()
        for span_s, buckets in self._levels.items():
            start = floor(at, span_s)
            if start not in buckets:
                kept_s = self._keep_s[span_s]  # the clock may have been set back
                for old in [each for each in buckets if not now - kept_s <= each <= now + kept_s]:
                    del buckets[old]
                if not now - kept_s <= start <= now + kept_s:
                    continue
                buckets[start] = Counter()
            buckets[start][account_id, failure] += tries

    def columns(self, account_id: str, starts: range) -> Columns:
        """For each failure, as `try_limited`, the numbers of a chart's bars."""
        level = self._levels[starts.step]
        found = [level.get(start) or Counter[tuple[str, Failure]]() for start in starts]
        return {f"try_{failure}": [bar[account_id, failure] for bar in found] for failure in FAILURES}
