"""What client keys have used over all instances, as totals.lua tells it and as records of counters hold it."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.clock import rfc3339
from proxy.storage.protocols import Record

NANO: Final = 1e9
"""Costs are kept in billionths of a US dollar, in which a token's price is a whole number."""

DAY_S: Final = 86_400


class Wanted(msgspec.Struct):
    """ARGV[1] of totals.lua."""

    since: int
    most: int
    keys: tuple[str, ...] = ()


class Total(msgspec.Struct, array_like=True):
    """One key. Days count from the epoch, `month` is the first of its days; `newest_us` ago was the last request."""

    id: str
    day: int
    day_tokens: int
    day_nano: int
    month: int
    month_tokens: int
    month_nano: int
    requests: int
    last_used_at: float
    reservations: int
    reserved_tokens: int
    reserved_nano: int
    running: int
    recent: int
    newest_us: int

    @property
    def day_name(self) -> str:
        return _name(self.day)

    @property
    def month_name(self) -> str:
        return _name(self.month)[:7]

    def record(self) -> Record:
        """The counters of the key, as without a store that several instances share."""
        day, month = (self.day_tokens, self.day_nano), (self.month_tokens, self.month_nano)
        windows = {"day": (self.day_name, *day), "month": (self.month_name, *month)}
        return {"requests": self.requests, "last_used_at": self.last_used_at or None} | {
            period: {"name": name, "tokens": tokens, "cost_usd": nano / NANO}
            for period, (name, tokens, nano) in windows.items()
        }


TOTALS: Final = msgspec.msgpack.Decoder(tuple[int, int, list[Total]])
"""The number of the last change, how many changed keys there are, and the keys."""


def _name(day: int) -> str:
    """A day since the epoch as `2026-11-29`."""
    return rfc3339(day * DAY_S)[:10]
