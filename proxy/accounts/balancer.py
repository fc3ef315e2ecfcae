"""The order in which accounts are chosen: round robin, or most quota left first. Uses no clock and no I/O."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from proxy.accounts.account import Account, Status

REFRESH_AHEAD_S = 60.0
"""An access token this close to its expiry is refreshed before it is used."""

ROOM_STEPS = 20
"""Room is rounded to twentieths, and accounts with equal room take turns: otherwise every answer would reorder the
accounts, and all new requests would go to the first one."""

Place: TypeAlias = tuple[int, int, int, str]
"""Sort key of an account: steps of room (negative: most room first), last turn, order of joining, id."""


class Balancer:
    """Keeps the accounts in the order of choice: most room first, then least recently used.

    Active accounts are in a sorted list: a choice reads its head, and a turn moves one entry.
    Without `set_room` all accounts have the same room, and the order is plain round robin.
    """

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self._accounts = accounts
        self._places: dict[str, Place] = {}
        self._active: list[Place] = []
        self._turns = itertools.count(1)
        self._joined = itertools.count()

    def file(self, account: Account) -> None:
        """Update the account's place after a change. Only active accounts are listed. A new account comes first."""
        place = self._places.get(account.id)
        if place is None:
            place = self._places[account.id] = (-ROOM_STEPS, 0, next(self._joined), account.id)
        self._take_out(place)
        if account.status is Status.ACTIVE:
            insort(self._active, place)

    def forget(self, account_id: str) -> None:
        """Remove a deleted account."""
        place = self._places.pop(account_id, None)
        if place is not None:
            self._take_out(place)

    def took(self, account_id: str) -> None:
        """Record a turn: the account moves behind the others with the same room."""
        room, _, joined, _ = self._places[account_id]
        self._move((room, next(self._turns), joined, account_id))

    def set_room(self, account_id: str, room: float) -> None:
        """Set the fraction of its limits that the account has left, from 0 to 1."""
        steps = -math.ceil(room * ROOM_STEPS)
        place = self._places[account_id]
        if place[0] != steps:
            self._move((steps, *place[1:]))

    def first_active(self, now: float, *, away: Callable[[str], bool]) -> str | None:
        """Id of the first active account in order; None if there is none. Those that need a token refresh come last."""
        needs_refresh = None
        for _, _, _, account_id in self._active:
            if away(account_id):
                continue
            expires_at = self._accounts[account_id].expires_at
            if expires_at is None or expires_at - REFRESH_AHEAD_S > now:
                return account_id
            needs_refresh = needs_refresh or account_id
        return needs_refresh

    def first_of(self, account_ids: Iterable[str]) -> str | None:
        """The first of these accounts in order, active or not; None if there are none."""
        return min(account_ids, key=self._places.__getitem__, default=None)

    def _move(self, place: Place) -> None:
        listed = self._take_out(self._places[place[-1]])
        self._places[place[-1]] = place
        if listed:
            insort(self._active, place)

    def _take_out(self, place: Place) -> bool:
        at = bisect_left(self._active, place)
        if at == len(self._active) or self._active[at] != place:
            return False
        del self._active[at]
        return True
