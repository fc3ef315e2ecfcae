"""The Claude API's rate-limit headers, for what judges an answer and for what shows what an account has left.

Two families: of subscriptions the unified windows (`anthropic-ratelimit-unified-5h-utilization`), of API keys the
classic limits (`anthropic-ratelimit-requests-remaining`). Beside them `retry-after`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

_UNIFIED = "anthropic-ratelimit-unified-"
_WINDOW = re.compile(r"(.+)-(utilization|reset|status)")
_CLASSIC = re.compile(r"anthropic-ratelimit-(.+)-(limit|remaining|reset)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")

_LEAST_SKEW_S = 2.0  # `Date` has whole seconds, and an answer is on its way for a while
_MOST_SKEW_S = (
    7 * 86_400.0
)  # with a clock further off than this, no TLS certificate would be taken for valid for long

# The longest recorded name has 53 characters, the longest value 29. What is longer is damage, and kept in no cache.
_LONGEST = 100

_PARTS = re.compile(r"([0-9]+)([mhdw])(?:[_-]([a-z0-9]+))?")
_UNITS = {"m": "minute", "h": "hour", "d": "day", "w": "week"}
_UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SOME_MODELS = "oi"

Fields = dict[str, str]
"""What an answer says of one limit, as text: `utilization`, `limit`, `remaining`, `reset`, `status`."""


def skew_s(date: str, now: float) -> float:
    """How far this machine's clock is ahead of the one that wrote an answer's `Date`, in seconds.

    0 if `date` is missing or absurd, or if both clocks agree. With it, what an answer says of times is true here too.
    """
    written_at = _http_date(date) if date else None
    if written_at is None:
        return 0.0
    skew = now - written_at
    return skew if _LEAST_SKEW_S < abs(skew) <= _MOST_SKEW_S else 0.0


def title(limit: str) -> str:
    """A limit in words for people: `5 hours`, `Opus, 7 days`, `requests per minute`."""
    match = _PARTS.fullmatch(limit)
    if match is None:
        return limit if limit[:1].isdigit() else f"{limit.replace('_', ' ').replace('-', ' ')} per minute"
    count, unit, model = match.groups()
    span = f"{count} {_UNITS[unit]}{'' if count == '1' else 's'}"
    if model is None:
        return span
    return f"{'some models' if model == _SOME_MODELS else model.capitalize()}, {span}"


def length_s(window: str) -> float | None:
    """How long a window such as `5h` or `7d_opus` lasts; None if its name does not say."""
    match = _PARTS.fullmatch(window)
    return None if match is None else int(match[1]) * _UNITS_S[match[2]]


class Limits:
    """What an answer says of limits, by their names: windows as `7d_oi`, classic limits as `input-tokens`.

    `unified` is what it says of no window in particular, as `status` or `representative-claim`.
    """

    __slots__ = ("_headers", "classic", "unified", "windows")

    def __init__(self, headers: Mapping[str, str]) -> None:
        """`headers` are those of the rate-limit family, by lower-case name."""
        self._headers = headers
        self.windows: dict[str, Fields] = {}
        self.classic: dict[str, Fields] = {}
        self.unified: Fields = {}
        for name, value in headers.items():
            if len(name) > _LONGEST or len(value) > _LONGEST:
                continue
            is_unified, limit, field = _parts_of(name)
            if limit:
                (self.windows if is_unified else self.classic).setdefault(limit, {})[field] = value
            elif is_unified:
                self.unified[field] = value

    def retries(self, now: float) -> Iterator[float]:
        """The times that the `retry-after` headers name; the milliseconds first, as SDKs read them."""
        retry_after = self._headers.get("retry-after", "")
        if (wait_ms := number(self._headers.get("retry-after-ms", ""))) is not None:
            yield now + wait_ms / 1000
        if (wait_s := number(retry_after)) is not None:
            yield now + wait_s
        elif (at := _http_date(retry_after)) is not None:
            yield at


@lru_cache(maxsize=256)
def _parts_of(name: str) -> tuple[bool, str, str]:
    """Whether a header is of the unified family, then the limit that it names, "" if none, and the field."""
    if name.startswith(_UNIFIED):
        rest = name.removeprefix(_UNIFIED)
        match = _WINDOW.fullmatch(rest)
        return (True, match[1], match[2]) if match else (True, "", rest)
    match = _CLASSIC.fullmatch(name)
    return (False, match[1], match[2]) if match else (False, "", name)


def number(text: str) -> float | None:
    """A count as limit headers have it: not negative, no `nan`, not in another script's digits."""
    if text.isdigit() and text.isascii():  # the most of them, without a regex
        return float(text)
    return float(text) if text and _NUMBER.fullmatch(text) else None


@lru_cache(maxsize=1024)  # an answer names the same time for several limits, and the next answer again
def moment(text: str) -> float | None:
    """Unix seconds (the unified family) or RFC 3339 (the classic one), as seconds since the epoch."""
    if (seconds := number(text)) is not None:
        return seconds
    try:
        return _epoch(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=64)  # all answers of a second have the same one
def _http_date(text: str) -> float | None:
    if len(text) > _LONGEST:
        return None
    try:
        return _epoch(parsedate_to_datetime(text))
    except (ValueError, OverflowError):
        return None


def _epoch(at: datetime) -> float:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
