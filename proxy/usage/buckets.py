"""Sums of requests over time, at four resolutions, each kept as long as charts and reports can ask for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypeVar

from proxy.usage.counts import Ids, Key, Sums, no_sums, plus, total

MINUTE: Final = 60
QUARTER: Final = 15 * MINUTE
HOUR: Final = 60 * MINUTE
TWO_HOURS: Final = 2 * HOUR
DAY: Final = 24 * HOUR

A = TypeVar("A")

By: TypeAlias = Literal["account", "token", "model"]

EVERYTHING: Final = 0
PLACE: Final[Mapping[By, int]] = {"account": 1, "token": 2, "model": 3}

Bucket: TypeAlias = tuple[dict[str | None, Sums], ...]
"""Four mappings to sums: of everything (under None), by account, by client key, by model. There are none by
combinations of these, which would take the product of their numbers in memory."""

OTHER: Final = "other"
MOST_IDS: Final = (1000, 1000, 100)
"""How many accounts, client keys and models are counted by name in a day; the rest counts as `OTHER`. The API has some
twenty models, but a client may name any."""


def floor(t: float, span_s: int) -> int:
    """The start of the span that holds `t`: UTC has no time zone and, in this count, no leap seconds."""
    return int(t // span_s) * span_s


@dataclass(slots=True)
class Level:
    """Buckets of one length, by their start."""

    span_s: int
    keep_s: int
    buckets: dict[int, Bucket] = field(default_factory=dict)

    def oldest(self, now: float) -> int:
        """The start of the oldest bucket that is kept, rounded down so that its hour is complete."""
        return floor(now - self.keep_s, max(self.span_s, HOUR))

    def bucket(self, t: float, now: float) -> Bucket | None:
        """The bucket that holds `t`, created if missing; None if that time is not kept."""
        start = floor(t, self.span_s)
        bucket = self.buckets.get(start)
        if bucket is None:
            oldest, newest = self.oldest(now), now + self.keep_s  # the clock may have been set back
            if oldest <= start <= newest:
                for old in [each for each in self.buckets if not oldest <= each <= newest]:
                    del self.buckets[old]
                bucket = self.buckets[start] = ({}, {}, {}, {})
        return bucket


class Buckets:
    """Each level counts every request of its period, so a span is summed from the longest buckets that fit into it."""

    def __init__(self) -> None:
        levels = (
            Level(MINUTE, 2 * HOUR),
            Level(QUARTER, 8 * DAY),
            Level(TWO_HOURS, 8 * DAY),
            Level(DAY, 31 * DAY),
        )
        self.levels = {each.span_s: each for each in levels}

    def counted_as(self, key: Key, now: float) -> Key:
        """The key with the ids by which its requests count: `OTHER` for those above MOST_IDS."""
        day = self.levels[DAY].bucket(key[0], now)
        return key if day is None else (key[0], _told_apart(key[1], day))

    def add(self, t: float, rows: Mapping[Ids, Sums], now: float) -> Mapping[Ids, Sums]:
        """Add rows at `t`. Returns them by the ids under which they count: `OTHER` for those above MOST_IDS."""
        day = self.levels[DAY].bucket(t, now)
        if day is None:
            return rows
        told: dict[Ids, Sums] = {}
        for ids, sums in rows.items():
            _add(told, _told_apart(ids, day), sums)
        # First what is new, then that to each level: of many rows, most have an account and a model in common.
        for place, new in enumerate(_by_each_id(told)):
            for level in self.levels.values():
                if (bucket := level.bucket(t, now)) is not None:
                    for id, sums in new.items():
                        _add(bucket[place], id, sums)
        return told

    def between(self, start: int, end: int) -> Iterator[Bucket]:
        """The buckets of a span that begins and ends at bucket boundaries."""
        while start < end:
            span_s = max(each for each in self.levels if start % each == 0 and start + each <= end)
            bucket = self.levels[span_s].buckets.get(start)
            if bucket is not None:
                yield bucket
            start += span_s

    def coarse(self, t: int, now: float) -> int:
        """The start of the shortest bucket that is still kept and holds `t`."""
        return floor(t, next((each.span_s for each in self.levels.values() if each.oldest(now) <= t), DAY))


def _add(sums_by_id: dict[A, Sums], id: A, sums: Sums) -> None:
    before = sums_by_id.get(id)
    sums_by_id[id] = sums if before is None else plus(before, sums)


def _by_each_id(rows: Mapping[Ids, Sums]) -> list[dict[str | None, Sums]]:
    """The sums of all rows, and of those of each account, client key and model, as a bucket has them."""
    found: tuple[dict[str | None, list[Sums]], ...] = ({None: list(rows.values())}, {}, {}, {})
    for ids, sums in rows.items():
        for by_id, id in zip(found[1:], ids, strict=True):
            by_id.setdefault(id, []).append(sums)
    return [{id: total(some) for id, some in by_id.items()} for by_id in found]


def _told_apart(ids: Ids, day: Bucket) -> Ids:
    """The ids by which the day counts: those that it knows, and new ones while there is room for them."""
    told = []
    for id, known, most in zip(ids, day[1:], MOST_IDS, strict=True):
        if id not in known:
            if id is not None and len(known) >= most + (None in known) + (OTHER in known):
                id = OTHER
            known.setdefault(id, no_sums())
        told.append(id)
    account, token, model = told
    return account, token, model
