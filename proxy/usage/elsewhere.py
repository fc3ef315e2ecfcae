"""Usage of other instances: they append it to the same logs, which this one follows."""

from __future__ import annotations

from proxy.clock import Clock
from proxy.feed import Feed
from proxy.storage.logs import parse
from proxy.storage.protocols import Logs
from proxy.usage.buckets import DAY, floor
from proxy.usage.counts import from_line
from proxy.usage.series import RINGS, Series, day_of


class UsageElsewhere:
    """Adds it to the series, a few seconds after it was counted there."""

    def __init__(self, series: Series, logs: Logs, *, feed: Feed, clock: Clock) -> None:
        self._series = series
        self._logs = logs
        self._feed = feed
        self._clock = clock
        self._days: set[str] = set()

    def follow(self) -> None:
        """Follow the logs of three days, since clocks differ. Called periodically, once the series is loaded.

        A log is followed before there is anything in it, or from where it was read.
        """
        now = self._clock.now()
        days = {day_of(now + n * DAY) for n in (-1, 0, 1)}
        for day in days - self._days:
            self._logs.follow_log(day, self._take)
        for day in self._days - days:
            self._logs.follow_log(day, None)
        self._days = days

    def _take(self, line: bytes) -> None:
        row = from_line(parse(line))
        if row is None:
            raise ValueError("it is no line of usage")
        (t, (account, token, _)), sums = row
        self._series.hear(row[0], sums)
        for topic, id in (("accounts", account), ("tokens", token)):
            if id is not None:
                self._feed.touch(topic, id)
        for ring, (_, span_s) in RINGS.items():
            self._feed.touch(f"usage:{ring}", str(floor(t, span_s)))
