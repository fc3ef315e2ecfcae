"""What affinity comes to, for admins: of all together, and of each account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, get_args

from proxy.accounts.account import Account
from proxy.accounts.affinity import Affinity, Moved
from proxy.accounts.pool import Pool
from proxy.dashboard.instances import Share
from proxy.usage.moves import Moves
from proxy.usage.series import Series

Shares = Callable[[], Sequence[Share]]
"""What other instances add to sums."""


def no_shares() -> Sequence[Share]:
    """Those of an instance that is alone."""
    return ()


class Figures:
    """Numbers of conversations, resources and homes, and how much prompt caches gave."""

    def __init__(
        self, pool: Pool, affinity: Affinity, moves: Moves, series: Series, shares: Shares = no_shares
    ) -> None:
        self._pool = pool
        self._affinity = affinity
        self._moves = moves
        self._series = series
        self._shares = shares

    def view(self) -> dict[str, Any]:
        """Of all together. Turns and what their moves cost are those since the start.

        `stayed_share`: of the turns that were no first ones; None if there was none.
        """
        affinity, shares = self._affinity, self._shares()
        turns = sum((Counter(each.turns) for each in shares), Counter(affinity.turns))
        moved = {reason: turns[reason] for reason in get_args(Moved)}
        cost_usd = (self._moves.cost_usd or 0.0) + sum(each.moved_cost_usd for each in shares)
        unpriced = self._moves.unpriced + sum(each.moved_unpriced for each in shares)
        later = turns["stayed"] + sum(moved.values())
        return {
            "turns": turns["new"] + later,
            "new": turns["new"],
            "stayed": turns["stayed"],
            "stayed_share": round(turns["stayed"] / later, 6) if later else None,
            "moved": moved,
            "moved_cost_usd": None if unpriced and not cost_usd else round(cost_usd, 6),
            "moved_unpriced": unpriced,
            "conversations": affinity.conversations.lately.count(),
            "resources": len(affinity.resources),
        }

    def account(self, account: Account) -> dict[str, Any]:
        """An account as an admin sees it, with what lives in it.

        `cache_read_share` is that of the last 24 hours, None if the account had no input tokens.
        """
        conversations, resources = self._affinity.conversations, self._affinity.resources
        view = self._pool.view(account)
        view["in_flight"] += sum(each.in_flight.get(account.id, 0) for each in self._shares())
        return view | {
            "conversations": conversations.lately.count(account.id),
            "resources": resources.count_of(account.id),
            "homes": resources.homes_in(account.id),
            "cache_read_share": self._series.day("account", account.id).cache_read_share,
        }
