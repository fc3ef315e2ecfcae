"""What affinity comes to, for admins: of all together, and of each account."""

from __future__ import annotations

from typing import Any, get_args

from proxy.accounts.account import Account
from proxy.accounts.affinity import Affinity, Moved
from proxy.accounts.pool import Pool
from proxy.usage.moves import Moves
from proxy.usage.series import Series


class Figures:
    """Numbers of conversations, resources and homes, and how much prompt caches gave."""

    def __init__(self, pool: Pool, affinity: Affinity, moves: Moves, series: Series) -> None:
        self._pool = pool
        self._affinity = affinity
        self._moves = moves
        self._series = series

    def view(self) -> dict[str, Any]:
        """Of all together. Turns and what their moves cost are those since the start.

        `stayed_share`: of the turns that were no first ones; None if there was none.
        """
        turns, affinity = self._affinity.turns, self._affinity
        moved = {reason: turns[reason] for reason in get_args(Moved)}
        later = turns["stayed"] + sum(moved.values())
        return {
            "turns": turns["new"] + later,
            "new": turns["new"],
            "stayed": turns["stayed"],
            "stayed_share": round(turns["stayed"] / later, 6) if later else None,
            "moved": moved,
            "moved_cost_usd": self._moves.cost_usd,
            "moved_unpriced": self._moves.unpriced,
            "conversations": affinity.conversations.lately.count(),
            "resources": len(affinity.resources),
        }

    def account(self, account: Account) -> dict[str, Any]:
        """An account as an admin sees it, with what lives in it.

        `cache_read_share` is that of the last 24 hours, None if the account had no input tokens.
        """
        conversations, resources = self._affinity.conversations, self._affinity.resources
        return self._pool.view(account) | {
            "conversations": conversations.lately.count(account.id),
            "resources": resources.count_of(account.id),
            "homes": resources.homes_in(account.id),
            "cache_read_share": self._series.day("account", account.id).cache_read_share,
        }
