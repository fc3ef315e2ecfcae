"""What an account has left, as the rate-limit headers of its last answers say; both families."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from proxy.clock import rfc3339
from proxy.upstream.verdict import LONGEST_LIMIT_S

_UNIFIED = re.compile(
    r"anthropic-ratelimit-unified-([0-9]{1,3}[a-z](?:_[a-z0-9]{1,16})?)-(utilization|reset|status)"
)
_CLASSIC = re.compile(
    r"anthropic-ratelimit-(requests|tokens|input-tokens|output-tokens)-(limit|remaining|reset)"
)
_OF_A_MODEL = re.compile(r"[0-9]+[a-z]_.+")  # `7d_oi`
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?")
_MOST = 1e11  # more is damage: as a time, milliseconds; as a limit, more than anyone has

MAX_WINDOWS = 8


@dataclass(frozen=True, slots=True)
class Window:
    """One limit. `used` is a fraction, above 1 where it is overdrawn; `resets_at` in seconds since the epoch.

    None is what no header has said.
    """

    used: float | None = None
    limit: int | None = None
    remaining: int | None = None
    resets_at: float | None = None
    status: str | None = None

    @property
    def left(self) -> float | None:
        """The fraction that is left, from 0 to 1."""
        if self.status == "rejected":
            return 0.0
        if self.used is not None:
            return min(1.0, max(0.0, 1.0 - self.used))
        if self.remaining is not None and self.limit:
            return min(1.0, max(0.0, self.remaining / self.limit))
        return None


Quota = dict[str, Window]
"""By window: `5h`, `7d`, …, or `requests`, `tokens`, `input_tokens`, `output_tokens`."""


def read_quota(headers: Iterable[tuple[str, str]], known: Quota) -> Quota:
    """What the headers say over what was known.

    A window that they leave out stays as it was; one that they name is as they say, since it may be another one by now.
    """
    told: dict[str, dict[str, Any]] = {}
    for name, value in headers:
        lower = name.lower()
        if not lower.startswith("anthropic-ratelimit-"):
            continue
        found = _UNIFIED.fullmatch(lower) or _CLASSIC.fullmatch(lower)
        if found is None:
            continue
        field = {"utilization": "used", "reset": "resets_at"}.get(found[2], found[2])
        read = _read(field, value.strip().lower())
        if read is not None:
            told.setdefault(found[1].replace("-", "_"), {})[field] = read
    if not told:
        return known
    news = {window: Window(**fields) for window, fields in told.items()}
    return dict(islice((news | (known | news)).items(), MAX_WINDOWS))


def room(quota: Quota, now: float) -> float:
    """The fraction left of the account's window that has the least; 1 where nothing is known.

    A window of one model says nothing of the others. One without a reset that is ahead may have been reset: with the
    room that it had then, the account would get no request, and so no answer that says better.
    """
    left = [
        window.left
        for name, window in quota.items()
        if window.resets_at is not None
        and now < window.resets_at <= now + LONGEST_LIMIT_S
        and not _OF_A_MODEL.fullmatch(name)
    ]
    return min((each for each in left if each is not None), default=1.0)


def room_until(quota: Quota, now: float) -> float:
    """When time alone changes `room`: a window is reset, or a reset comes near enough to count. Infinity if never."""
    resets = [window.resets_at for window in quota.values() if window.resets_at is not None]
    moments = resets + [reset - LONGEST_LIMIT_S for reset in resets]
    return min((moment for moment in moments if moment > now), default=math.inf)


def view(quota: Quota, now: float) -> dict[str, Any]:
    """A quota as an admin sees it, without what has been reset since."""
    return {
        name: asdict(window) | {"resets_at": None if window.resets_at is None else rfc3339(window.resets_at)}
        for name, window in sorted(quota.items())
        if window.resets_at is None or window.resets_at > now
    }


def _read(field: str, value: str) -> Any:
    """A header's value; None where it makes no sense."""
    if field == "status":
        return value if re.fullmatch(r"[a-z_]{1,32}", value) else None
    if _NUMBER.fullmatch(value):
        number = float(value)
    elif field == "resets_at":
        try:
            moment = datetime.fromisoformat(value.upper())
        except ValueError:
            return None
        number = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    else:
        return None
    if not 0 <= number < _MOST:
        return None
    return number if field in ("used", "resets_at") else int(number)
