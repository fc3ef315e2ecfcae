"""How many conversations had a turn lately, and with which account: figures for people, in memory only."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Final

from proxy.clock import Clock

MOST: Final = 100_000
"""Of so many conversations the oldest are not counted any more; they take some 20 MB."""


class Lately:
    """Conversations by the name of their last turn, for `ttl_s` after it."""

    def __init__(self, *, clock: Clock, ttl_s: float) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._turns: OrderedDict[Hashable, tuple[str, float]] = OrderedDict()
        self._by_account: Counter[str] = Counter()

    def turn(self, name: Hashable, account_id: str, *, after: Hashable | None) -> None:
        """Count a turn of the conversation that was called `after` until then; None if it is a new one."""
        for old in (after, name) if after != name else (name,):
            self._drop(self._turns.pop(old, None))
        self._turns[name] = (account_id, self._clock.now() + self._ttl_s)
        self._by_account[account_id] += 1
        if len(self._turns) > MOST:
            self._drop(self._turns.popitem(last=False)[1])

    def count(self, account_id: str | None = None) -> int:
        """The number of conversations: of all, or of one account."""
        turns, now = self._turns, self._clock.now()
        while turns and next(iter(turns.values()))[1] <= now:
            self._drop(turns.popitem(last=False)[1])
        return len(turns) if account_id is None else self._by_account[account_id]

    def _drop(self, turn: tuple[str, float] | None) -> None:
        if turn is not None:
            self._by_account[turn[0]] -= 1
