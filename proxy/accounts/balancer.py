"""Whom to ask: the accounts in turn order, without a clock and without I/O."""

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
"""Accounts in the same twentieth of room take turns: otherwise each answer would move all that comes."""

Place: TypeAlias = tuple[int, int, int, str]
"""What accounts are sorted by: steps of room (negative: most room first), last turn, order of joining; and the id."""


class Balancer:
    """Keeps the accounts in the order in which they are asked: by room, then whoever was asked longest ago.

    The active ones are in a sorted list, so a choice looks at its head only, and a turn moves one place.
    Without `set_room` all have the same room, and the order is plain round robin.
    """

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self._accounts = accounts
        self._places: dict[str, Place] = {}
        self._active: list[Place] = []
        self._turns = itertools.count(1)
        self._joined = itertools.count()

    def file(self, account: Account) -> None:
        """Follow a change of the account: only active ones are in the list. A new one is asked before all others."""
        place = self._places.get(account.id)
        if place is None:
            place = self._places[account.id] = (-ROOM_STEPS, 0, next(self._joined), account.id)
        self._take_out(place)
        if account.status is Status.ACTIVE:
            insort(self._active, place)

    def forget(self, account_id: str) -> None:
        """The account is gone."""
        place = self._places.pop(account_id, None)
        if place is not None:
            self._take_out(place)

    def took(self, account_id: str) -> None:
        """The account had its turn: it comes last among those with as much room."""
        room, _, joined, _ = self._places[account_id]
        self._move((room, next(self._turns), joined, account_id))

    def set_room(self, account_id: str, room: float) -> None:
        """The account has the fraction `room` of its limits left."""
        steps = -math.ceil(room * ROOM_STEPS)
        place = self._places[account_id]
        if place[0] != steps:
            self._move((steps, *place[1:]))

    def first_active(self, now: float, *, away: Callable[[str], bool]) -> str | None:
        """The active account to ask next, by id; one whose token needs a refresh only if no other is left."""
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
        """The one of these accounts, active or not, that is asked next; None if there is none."""
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
