"""How much of their quota the accounts have left together, what is reset next, and how long that lasts."""

from __future__ import annotations

from collections import deque
from heapq import nsmallest
from statistics import linear_regression
from typing import Any, Final, TypeAlias

from proxy.accounts.account import Account, Status
from proxy.accounts.pool import Pool
from proxy.accounts.quota import Quota, is_of_a_model, is_of_minutes, room
from proxy.clock import Clock, rfc3339
from proxy.feed import Feed

PACE_S: Final = 1800.0
"""The pace is that of the last half hour."""

LEAST_S: Final = 300.0
"""Less than this says nothing about a pace."""

MOST_S: Final = 7 * 86_400.0
"""An end further off than the longest window is none: a reset comes before it."""

MOST_RESETS: Final = 3

Known: TypeAlias = list[tuple[Account, Quota]]
"""Accounts with their windows."""


class Capacity:
    """Samples what is left, and tells at which pace it falls.

    An account in service counts with its tightest window, one that is rate limited with nothing: else the mean would
    rise whenever an account is used up. One of which no answer has told a limit yet does not count.
    """

    def __init__(self, pool: Pool, *, feed: Feed, clock: Clock) -> None:
        self._pool = pool
        self._feed = feed
        self._clock = clock
        self._means: deque[tuple[float, float]] = deque()
        self._view = self._sampled([], has_pace=False)

    def sample(self) -> None:
        """Compute it anew: called periodically, since it looks at all accounts."""
        quotas = self._pool.quotas
        known = [(each, quota) for each in self._pool if each.works and (quota := quotas[each.id])]
        # A pace over limits that refill each minute says nothing.
        lasting = [(each, left) for each, quota in known if (left := _without_minutes(quota))]
        if lasting:
            self._note(self._mean(lasting))
        self._view = self._sampled(known, has_pace=bool(lasting))
        self._feed.touch("stats", "capacity")

    def view(self) -> dict[str, Any]:
        """`left`: the mean over `known` of the `accounts` in service, a fraction; None if nothing is known.

        `empty_at`: when nothing is left at the pace of the last half hour; None if it does not fall. `resets`: the next
        ones of what limits an account. Windows of minutes count in neither of the two.
        """
        return self._view

    def _mean(self, known: Known) -> float:
        now, limited = self._clock.now(), Status.RATE_LIMITED
        return sum(0.0 if each.status is limited else room(quota, now) for each, quota in known) / len(known)

    def _note(self, mean: float) -> None:
        now = self._clock.monotonic()
        self._means.append((now, mean))
        while self._means[0][0] < now - PACE_S:
            self._means.popleft()

    def _sampled(self, known: Known, *, has_pace: bool) -> dict[str, Any]:
        lasts_s = self._lasts_s() if has_pace else None
        return {
            "left": round(self._mean(known), 3) if known else None,
            "known": len(known),
            "accounts": sum(account.works for account in self._pool),
            "empty_at": None if lasts_s is None else rfc3339(self._clock.now() + lasts_s),
            "resets": self._resets(known),
        }

    def _lasts_s(self) -> float | None:
        """Seconds until the line through the means of the last half hour (least squares) comes to nothing."""
        times, means = [t for t, _ in self._means], [mean for _, mean in self._means]
        if times[-1] - times[0] < LEAST_S:
            return None
        slope, _ = linear_regression(times, means)
        lasts_s = -means[-1] / slope if slope < 0 else MOST_S
        return lasts_s if lasts_s < MOST_S else None

    def _resets(self, known: Known) -> list[dict[str, Any]]:
        now = self._clock.now()
        found = []
        for account, quota in known:
            limiting = _limiting(quota, now)
            if limiting is not None:
                found.append((*limiting, account))
        return [
            {"account_id": account.id, "name": account.name, "window": window, "at": rfc3339(at)}
            for at, window, account in nsmallest(MOST_RESETS, found, key=lambda each: each[0])
        ]


def _without_minutes(quota: Quota) -> Quota:
    return {name: window for name, window in quota.items() if not is_of_minutes(name)}


def _limiting(quota: Quota, now: float) -> tuple[float, str] | None:
    """The reset and the name of the tightest window, if it is a shared one with a reset ahead."""
    tightest = max(
        (
            (window.full or 0.0, window.resets_at, name)
            for name, window in quota.items()
            if window.resets_at is not None
            and window.resets_at > now
            and not (is_of_a_model(name) or is_of_minutes(name))
        ),
        default=None,
    )
    return None if tightest is None else tightest[1:]
