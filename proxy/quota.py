"""What an account has left, as the rate-limit headers of its last answers say; both families (claude-api.md 3)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from proxy.clock import rfc3339

_UNIFIED = re.compile(
    r"anthropic-ratelimit-unified-([0-9]{1,3}[a-z](?:_[a-z0-9]{1,16})?)-(utilization|reset|status)"
)
_CLASSIC = re.compile(
    r"anthropic-ratelimit-(requests|tokens|input-tokens|output-tokens)-(limit|remaining|reset)"
)
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
        if self.used is not None:
            return min(1.0, max(0.0, 1.0 - self.used))
        if self.remaining is not None and self.limit:
            return min(1.0, max(0.0, self.remaining / self.limit))
        return None


Quota = dict[str, Window]
"""By window: `5h`, `7d`, …, or `requests`, `tokens`, `input_tokens`, `output_tokens`."""


def read_quota(headers: Iterable[tuple[str, str]], known: Quota) -> Quota:
    """What the headers say over what was known; a window that they leave out stays as it was."""
    quota = known
    for name, value in headers:
        lower = name.lower()
        if not lower.startswith("anthropic-ratelimit-"):
            continue
        found = _UNIFIED.fullmatch(lower) or _CLASSIC.fullmatch(lower)
        if found is None:
            continue
        window = found[1].replace("-", "_")
        field = {"utilization": "used", "reset": "resets_at"}.get(found[2], found[2])
        read = _read(field, value.strip())
        if read is None or (window not in quota and len(quota) >= MAX_WINDOWS):
            continue
        if quota is known:
            quota = dict(known)
        quota[window] = replace(quota.get(window, Window()), **{field: read})
    return quota


def room(quota: Quota, now: float) -> float:
    """The fraction left of the window that has the least; 1 where nothing is known."""
    left = [w.left for w in quota.values() if w.resets_at is None or w.resets_at > now]
    return min((each for each in left if each is not None), default=1.0)


def view(quota: Quota) -> dict[str, Any]:
    """A quota as an admin sees it."""
    return {
        name: asdict(window) | {"resets_at": None if window.resets_at is None else rfc3339(window.resets_at)}
        for name, window in sorted(quota.items())
    }


def _read(field: str, value: str) -> Any:
    """A header's value; None where it makes no sense."""
    if field == "status":
        return value if re.fullmatch(r"[a-z_]{1,32}", value) else None
    try:
        if field == "resets_at" and not value.replace(".", "", 1).isdigit():
            return datetime.fromisoformat(value).timestamp()
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number) or not 0 <= number < 1e12:
        return None
    return number if field in ("used", "resets_at") else int(number)
