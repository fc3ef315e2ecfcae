"""Whom to ask: a choice over candidates, without a clock and without I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable

from proxy.accounts.account import Account, Status

REFRESH_AHEAD_S = 60.0
"""An access token this close to its expiry is refreshed before it is used."""

ROOM_STEPS = 20
"""Accounts in the same twentieth of room take turns: not each answer moves all that comes."""


class RoundRobin:
    """Whoever was chosen longest ago is next, within the best tier that has anyone.

    With `room`, which says what fraction of its limits an account has left, those with the most come first.

    Tiers: active accounts; active ones whose token needs a refresh; those whose rate limit has just passed.
    """

    def __init__(self, room: Callable[[str], float] | None = None) -> None:
        self._room = room
        self._turn = 0
        self._last_turn: dict[str, int] = {}

    def choose(
        self, accounts: Iterable[Account], now: float, *, later: Collection[str] = ()
    ) -> Account | None:
        """The next account, or None where no candidate is usable; ids in `later` only where no other is."""
        best: tuple[tuple[bool, int, int, int], Account] | None = None
        for account in accounts:
            tier = _tier(account, now)
            if tier is None:
                continue
            used = 0 if self._room is None else -math.ceil(self._room(account.id) * ROOM_STEPS)
            rank = (account.id in later, tier, used, self._last_turn.get(account.id, 0))
            if best is None or rank < best[0]:
                best = (rank, account)
        if best is None:
            return None
        self._turn += 1
        self._last_turn[best[1].id] = self._turn
        return best[1]

    def forget(self, account_id: str) -> None:
        """The account is gone."""
        self._last_turn.pop(account_id, None)


def _tier(account: Account, now: float) -> int | None:
    if account.status is Status.ACTIVE:
        expires_at = account.expires_at
        return 1 if expires_at is not None and expires_at - REFRESH_AHEAD_S <= now else 0
    return 2 if account.limit_passed(now) else None
