"""The order in which accounts are chosen: by priority, then in weighted turns or by quota left. No clock, no I/O."""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from proxy.accounts.account import Account, Status

REFRESH_AHEAD_S = 60.0
"""An access token this close to its expiry is refreshed before it is used."""

ROOM_STEPS = 20
"""Room is rounded to twentieths, and accounts with equal room take turns: otherwise every answer would reorder the
accounts, and all new requests would go to the first one."""


class Place(NamedTuple):
    """Sort key of an account."""

    held: bool
    """Whether nothing is left of its limits but its reserve."""

    priority: int
    room: int
    """Steps of room, negative: most room first."""

    due: float
    """When its next turn is due, in turns of an account of weight 1."""

    turn: int
    joined: int
    id: str


class Balancer:
    """Keeps the accounts in the order of choice: lowest priority, most room, longest due, least recently used.

    Turns are fair queueing by start tags (SFQ, Goyal 1996): each makes the account's next one due 1/weight later, and
    one that was away catches nothing up. With equal weights this is plain round robin.
    Active accounts are in sorted lists: a choice reads the head of one, and a turn moves an entry in each of its lists.
    Without `set_room` all accounts have the same room.
    """

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self._accounts = accounts
        self._places: dict[str, Place] = {}
        self._active: list[Place] = []
        self._tagged: dict[str, list[Place]] = {}
        self._listed: dict[str, tuple[list[Place], ...]] = {}
        """The lists that an account is in: those of its tags, and `_active`."""

        self._held = 0
        self._due = 0.0
        self._turns = itertools.count(1)
        self._joined = itertools.count()

    def file(self, account: Account) -> None:
        """Update the account's place after a change. Only active accounts are listed. A new account comes first."""
        place = self._places.get(account.id)
        if place is None:
            place = Place(False, 0, -ROOM_STEPS, 0.0, 0, next(self._joined), account.id)
        self._take_out(account.id)
        self._places[account.id] = place = place._replace(priority=account.preferences.priority)
        if account.status is Status.ACTIVE:
            tagged = (self._tagged.setdefault(tag, []) for tag in account.preferences.tags)
            self._listed[account.id] = (*tagged, self._active)
        for places in self._listed.get(account.id, ()):
            insort(places, place)

    def forget(self, account_id: str) -> None:
        """Remove a deleted account."""
        self.hold(account_id, False)
        self._take_out(account_id)
        self._places.pop(account_id, None)

    def took(self, account_id: str) -> None:
        """Record a turn: the account moves behind the others with the same priority and room, as its weight says."""
        held, priority, room, due, _, joined, _ = self._places[account_id]
        if due > self._due:
            self._due = due
        due = self._due + 1 / self._accounts[account_id].preferences.weight
        self._move(Place(held, priority, room, due, next(self._turns), joined, account_id))

    def set_room(self, account_id: str, room: float) -> None:
        """Set the fraction of its limits that the account has left, from 0 to 1."""
        place, steps = self._places[account_id], -math.ceil(room * ROOM_STEPS)
        if place.room != steps:
            self._move(place._replace(room=steps))

    def hold(self, account_id: str, held: bool) -> None:
        """Set whether the account is kept for what belongs to it, and gets what is new only if no other is usable."""
        place = self._places.get(account_id)
        if place is not None and place.held is not held:
            self._held += 1 if held else -1
            self._move(place._replace(held=held))

    def is_held(self, account_id: str) -> bool:
        """Whether `hold` has set that."""
        return self._held > 0 and self._places[account_id].held

    def first_active(
        self, now: float, *, away: Callable[[str], bool], tags: Collection[str] = (), new: bool = True
    ) -> str | None:
        """Id of the first active account in order; None if there is none. Those that need a token refresh come last
        among accounts of their priority.

        It has one of `tags`, if any are given. If it is not `new` what is to be done, the reserve counts as well.
        """
        expiring: Place | None = None
        order = self._active if new and not tags else self._order(tags, new)
        for place in order:
            if expiring is not None and place[:2] != expiring[:2]:
                break
            account_id = place[-1]
            if away(account_id):
                continue
            expires_at = self._accounts[account_id].expires_at
            if expires_at is None or expires_at - REFRESH_AHEAD_S > now:
                return account_id
            expiring = expiring or place
        return None if expiring is None else expiring.id

    def first_of(self, account_ids: Iterable[str]) -> str | None:
        """The first of these accounts in order, active or not; None if there are none."""
        return min(account_ids, key=self._places.__getitem__, default=None)

    def _order(self, tags: Collection[str], new: bool) -> Iterable[Place]:
        """The active accounts that may be chosen; more than once if they have several of the tags."""
        lists = [self._tagged.get(tag, []) for tag in tags] if tags else [self._active]
        if new or not self._held:
            return lists[0] if len(lists) == 1 else heapq.merge(*lists)
        return heapq.merge(*(half for places in lists for half in _without_reserve(places)))

    def _move(self, place: Place) -> None:
        old = self._places[place.id]
        self._places[place.id] = place
        for places in self._listed.get(place.id, ()):
            del places[bisect_left(places, old)]
            insort(places, place)

    def _take_out(self, account_id: str) -> None:
        for places in self._listed.pop(account_id, ()):
            del places[bisect_left(places, self._places[account_id])]
        self._tagged = {tag: places for tag, places in self._tagged.items() if places}


def _without_reserve(places: list[Place]) -> tuple[Iterable[Place], Iterable[Place]]:
    """Both halves of a list, those that are not held and those that are, as if nobody was held."""
    at = bisect_left(places, (True,))
    free, held = itertools.islice(places, at), itertools.islice(places, at, None)
    return free, (place._replace(held=False) for place in held)
