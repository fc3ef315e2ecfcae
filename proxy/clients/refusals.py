"""What a client is told whose key, or who itself, has reached a limit."""

from __future__ import annotations

import math

from proxy.clock import rfc3339
from proxy.errors import RateLimited


def too_many(running: int) -> RateLimited:
    """The key has so many requests in flight."""
    return RateLimited(f"this key has {running} requests in flight, which is its limit", retry_after_s=1)


def too_often(per_minute: int, wait_s: float) -> RateLimited:
    """The key has sent its requests of a minute."""
    return RateLimited(
        f"this key may send {per_minute} requests a minute", retry_after_s=max(1, math.ceil(wait_s))
    )


def spent(unit: str, period: str, *, resets_at: float, wait_s: float) -> RateLimited:
    """The key's budget of `unit` (token, cost) for the `period` (day, month) does not hold the request."""
    return RateLimited(
        f"the {unit} budget of this key for the {period} is spent, or would be by "
        f"this request; it resets {rfc3339(resets_at)}",
        type="billing_error",
        should_retry=False,
        retry_after_s=math.ceil(wait_s),
    )


def held(unit: str, period: str) -> RateLimited:
    """The budget has room for the request once requests in flight give back what they do not use."""
    return RateLimited(
        f"the rest of the {unit} budget of this key for the {period} is held by requests in flight",
        retry_after_s=1,
    )


def no_slot(most: int) -> RateLimited:
    """The client has all its slots taken."""
    return RateLimited(f"this client has {most} requests in flight, which is its limit", retry_after_s=1)
