"""The span of a report: rounded outwards to the buckets that are kept that far back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from proxy.errors import Unprocessable
from proxy.usage.buckets import DAY, HOUR, MINUTE, QUARTER, Level, floor

Interval: TypeAlias = Literal["minute", "hour", "day"]

INTERVALS: Final[Mapping[Interval, tuple[int, int]]] = {
    "minute": (MINUTE, MINUTE),
    "hour": (HOUR, QUARTER),
    "day": (DAY, DAY),
}
"""The length in seconds, and the level that it is summed from."""

MOST_CELLS: Final = (
    50_000  # rows times buckets of a report; more would be a second of a thread, and megabytes
)


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` to `end`, in buckets of `bucket_s` seconds."""

    start: int
    end: int
    bucket_s: int

    @property
    def starts(self) -> range:
        """The starts of its buckets."""
        return range(self.start, self.end, self.bucket_s)

    def check(self, rows: int) -> None:
        """Raise Unprocessable if so many rows with all buckets are too much."""
        if rows * len(self.starts) > MOST_CELLS:
            raise Unprocessable("that is too much at once: choose a shorter span, or a longer interval")


def span_of(
    levels: Mapping[int, Level], *, start: float, end: float, interval: Interval | None, now: float
) -> Span:
    """The span in buckets of the interval, or of the shortest level that is kept back to `start`.

    Raises Unprocessable if it is empty, in the future, or not kept at that interval.
    """
    if start > now:
        raise Unprocessable("from is in the future")
    if not start < end:
        raise Unprocessable("from has to be before to")
    spans = zip(levels, levels, strict=True) if interval is None else (INTERVALS[interval],)
    for bucket_s, level in spans:
        if now - levels[level].keep_s <= start:
            # A span that ends now or later includes the current bucket.
            last = -floor(-end, bucket_s) if end < now else floor(now, bucket_s) + bucket_s
            return Span(floor(start, bucket_s), last, bucket_s)
    raise Unprocessable(
        "usage is kept by minute for 2 hours, by hour for 8 days and by day for 31 days: "
        "choose a later from, or a longer interval"
    )
