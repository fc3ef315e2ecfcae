"""The remaining quota of an account, from the rate-limit headers (unified and classic) of its latest answers."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from proxy.clock import rfc3339
from proxy.http.headers import AnswerHeaders
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

    @property
    def left(self) -> float | None:
        """The fraction that is left, from 0 to 1; None if unknown."""
        if self.status == "rejected":
            return 0.0
        if self.used is not None:
            return min(1.0, max(0.0, 1.0 - self.used))
        if self.remaining is not None and self.limit:
            return min(1.0, max(0.0, self.remaining / self.limit))
        return None


_NOTHING = Window()

Quota = dict[str, Window]
"""By window: `5h`, `7d`, …, or `requests`, `tokens`, `input_tokens`, `output_tokens`."""


def read_quota(headers: AnswerHeaders, known: Quota, now: float) -> Quota:
    """Merge the quota in `headers` into `known`; resets are moved to this machine's clock.

    Windows that the headers leave out stay. A window that they name is replaced whole, since it may have been reset.
    """
    if not headers.limits:
        return known
    limits = Limits(headers.limits)
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
    if skew := skew_s(headers.get("date"), now):
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
        and not _is_of_a_model(name)
    ]
    return min((each for each in left if each is not None), default=1.0)


def room_until(quota: Quota, now: float) -> float:
    """When `room` changes next by time alone: a window is reset, or begins to count. Infinity if never."""
    resets = [window.resets_at for window in quota.values() if window.resets_at is not None]
    moments = resets + [reset - LONGEST_LIMIT_S for reset in resets]
    return min((moment for moment in moments if moment > now), default=math.inf)


def view(quota: Quota, now: float) -> dict[str, Any]:
    """The quota for admins, without windows that have been reset since."""
    return {
        name: window._asdict()
        | {"resets_at": None if window.resets_at is None else rfc3339(window.resets_at)}
        for name, window in sorted(quota.items())
        if window.resets_at is None or window.resets_at > now
    }


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


def _is_of_a_model(name: str) -> bool:
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
