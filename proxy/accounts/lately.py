"""How many conversations had a turn lately, and with which account: figures for people, in memory only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import islice, takewhile
from typing import Final

from proxy.clock import Clock

Name = tuple[str, str | int]
"""What names a conversation: a group, and its session there, or the hash of its first messages. A plain tuple of such
is nothing that the garbage collector looks at."""

Held = tuple[str, float]
"""The id of the account that a conversation is with, and until when it is remembered, in seconds since the epoch."""

MOST: Final = 100_000
"""Of more conversations the oldest tenth is not counted any more; they take some 20 MB."""


class Lately:
    """Conversations by the name of their last turn, until its end: the oldest come first."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._turns: dict[Name, Held] = {}
        self._by_account: defaultdict[str, int] = defaultdict(int)

    def turn(self, name: Name, held: Held, *, after: Name | None) -> None:
        """Count a turn of the conversation that was called `after` before; None if it is a new one.

        It is forgotten at its end, which is never earlier than with the turn before.
        """
        turns, by_account = self._turns, self._by_account
        if turns.get(name) is held and after in (None, name):
            return
        if after is not None and after != name and (old := turns.pop(after, None)) is not None:
            by_account[old[0]] -= 1
        if (old := turns.pop(name, None)) is not None:
            by_account[old[0]] -= 1
        turns[name] = held
        by_account[held[0]] += 1
        if len(turns) > MOST:
            self._drop(islice(turns, MOST // 10))

    def turns(self) -> list[tuple[Name, Held]]:
        """All of them, each with its account and its end."""
        return list(self._turns.items())

    def count(self, account_id: str | None = None) -> int:
        """The number of conversations: of all, or of one account."""
        now, turns = self._clock.now(), self._turns
        self._drop(takewhile(lambda name: turns[name][1] <= now, turns))
        return len(turns) if account_id is None else self._by_account.get(account_id, 0)

    def _drop(self, names: Iterable[Name]) -> None:
        for name in tuple(names):
            self._by_account[self._turns.pop(name)[0]] -= 1
