"""The remaining quota of an account, from the rate-limit headers (unified and classic) of its latest answers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from proxy.clock import rfc3339
from proxy.upstream.limits import Fields, Limits, moment, number, skew_s
from proxy.upstream.verdict import LONGEST_LIMIT_S

_WINDOW = re.compile(r"[0-9]{1,3}[a-z](?:_[a-z0-9]{1,16})?")
_CLASSIC = frozenset({"requests", "tokens", "input-tokens", "output-tokens"})
_FLOAT = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?")
_STATUS = re.compile(r"[a-z_]{1,32}")
_MOST = 1e11  # larger values are ignored: a time would be in milliseconds, a limit beyond any real one

MAX_WINDOWS = 8


class Window(NamedTuple):
    """One limit. `used` is a fraction, above 1 where it is overdrawn; `resets_at` in seconds since the epoch.

    A field is None if no header named it.
    """

    used: float | None = None
    limit: int | None = None
    remaining: int | None = None
    resets_at: float | None = None
    status: str | None = None

    def moved(self, by_s: float) -> Window:
        """The window with its reset so much later."""
        return self if self.resets_at is None else self._replace(resets_at=self.resets_at + by_s)

    def is_over(self, now: float) -> bool:
        """Whether its reset has passed: what was used of it is unknown until an answer tells."""
        return self.resets_at is not None and self.resets_at <= now

    @property
    def full(self) -> float | None:
        """The fraction that is used: above 1 if it is overdrawn, 1 at least if it is rejected; None if unknown."""
        used = self.used
        if used is None and self.remaining is not None and self.limit:
            used = max(0.0, 1.0 - self.remaining / self.limit)
        return max(1.0, used or 0.0) if self.status == "rejected" else used

    @property
    def left(self) -> float | None:
        """The fraction that is left, from 0 to 1; None if unknown."""
        full = self.full
        return None if full is None else max(0.0, 1.0 - full)


_NOTHING = Window()

Quota = dict[str, Window]
"""By window: `5h`, `7d`, …, or `requests`, `tokens`, `input_tokens`, `output_tokens`."""


def read_quota(said: Mapping[str, str], date: str, known: Quota, now: float) -> Quota:
    """Merge what an answer says of limits into `known`; resets are moved to this machine's clock.

    `said` are the headers of the rate-limit family by lower-case name, `date` is its `Date`, `now` when it came.
    Windows that the headers leave out stay. A window that they name is replaced whole, since it may have been reset.
    """
    limits = Limits(said)
    news: Quota = {}
    for (
        name,
        fields,
    ) in limits.classic.items():  # first: nothing unknown is among them that could crowd others out
        if name in _CLASSIC and (window := _told(fields)) is not None:
            news[name.replace("-", "_")] = window
    for name, fields in limits.windows.items():
        if _is_window(name) and (window := _told(fields)) is not None:
            news[name] = window
    if not news:
        return known
    if skew := skew_s(date, now):
        news = {name: window.moved(skew) for name, window in news.items()}
    if len(news) <= MAX_WINDOWS and news.keys() >= known.keys():
        return news  # the usual case: the answer names every known window
    return dict(islice((news | (known | news)).items(), MAX_WINDOWS))


def room(quota: Quota, now: float) -> float:
    """The smallest fraction that is left in a window of the account, from 0 to 1; 1 if nothing is known.

    Windows of one model do not count. Nor do windows without a reset in the future: they may have been reset, and an
    account that seems used up would get no request whose answer could correct that.
    """
    left = [
        window.left
        for name, window in quota.items()
        if window.resets_at is not None
        and now < window.resets_at <= now + LONGEST_LIMIT_S
        and not is_of_a_model(name)
    ]
    return min((each for each in left if each is not None), default=1.0)


def room_until(quota: Quota, now: float) -> float:
    """When `room` changes next by time alone: a window is reset, or begins to count. Infinity if never."""
    resets = [window.resets_at for window in quota.values() if window.resets_at is not None]
    moments = resets + [reset - LONGEST_LIMIT_S for reset in resets]
    return min((moment for moment in moments if moment > now), default=math.inf)


def live(quota: Quota, now: float) -> list[tuple[str, Window]]:
    """The windows of which it is known how much is used, the tightest first."""
    known = [
        (name, window)
        for name, window in quota.items()
        if window.full is not None and not window.is_over(now)
    ]
    return sorted(known, key=lambda each: (-(each[1].full or 0.0), each[0]))


def view(quota: Quota, now: float) -> list[dict[str, Any]]:
    """The windows for admins, the tightest first, and last those of which nothing is known since their reset.

    `used` is a fraction, above 1 if the window is overdrawn; None if it is unknown.
    """
    known = live(quota, now)
    names = {name for name, _ in known}
    unknown = [(name, _NOTHING if quota[name].is_over(now) else quota[name]) for name in sorted(quota)]
    return [
        _shown(name, window) for name, window in (*known, *(each for each in unknown if each[0] not in names))
    ]


def _shown(name: str, window: Window) -> dict[str, Any]:
    full, resets_at = window.full, window.resets_at
    return {
        "window": name,
        "used": None if full is None else round(full, 4),
        "limit": window.limit,
        "remaining": window.remaining,
        "status": window.status,
        "resets_at": None if resets_at is None else rfc3339(resets_at),
    }


def is_name(name: str) -> bool:
    """Whether a window can be called that."""
    return _is_window(name) or name.replace("_", "-") in _CLASSIC


def is_of_minutes(name: str) -> bool:
    """Whether it is a classic limit, which fills up again within a minute: `requests`, `input_tokens`, …"""
    return not name[0].isdigit()


def _told(fields: Fields) -> Window | None:
    """Parse the header fields of one limit; None if no field is valid."""
    get = fields.get
    return _window(
        get("utilization", ""), get("limit", ""), get("remaining", ""), get("reset", ""), get("status", "")
    )


@lru_cache(maxsize=1024)
def _window(used: str, limit: str, remaining: str, reset: str, status: str) -> Window | None:
    """Cached, since most answers repeat the same windows."""
    status = status.lower()
    window = Window(
        used=_fraction(used.lower()) if used else None,
        limit=_count(limit),
        remaining=_count(remaining),
        resets_at=_sane(moment(reset)),
        status=status if status and _STATUS.fullmatch(status) else None,
    )
    return None if window == _NOTHING else window


@lru_cache(maxsize=256)
def _is_window(name: str) -> bool:
    """Whether a name of the unified family is a window (`5h`, `7d_oi`); `overage`, for example, is not."""
    return _WINDOW.fullmatch(name) is not None


def is_of_a_model(name: str) -> bool:
    """Whether the window is for one model (`7d_oi`). A classic limit (`input_tokens`) begins with a letter."""
    return "_" in name and name[0].isdigit()


def _fraction(text: str) -> float | None:
    """Parse a utilization, which may have an exponent (`1e-05`)."""
    return _sane(float(text)) if _FLOAT.fullmatch(text) else None


def _count(text: str) -> int | None:
    counted = _sane(number(text))
    return None if counted is None else int(counted)


def _sane(value: float | None) -> float | None:
    return value if value is not None and 0 <= value < _MOST else None
