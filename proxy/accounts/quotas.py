"""The quota of each account, as its latest answers have told it, and what that means for its place in the choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from proxy.accounts import quota
from proxy.accounts.account import Account
from proxy.accounts.balancer import Balancer
from proxy.accounts.quota import Quota, read_quota
from proxy.clock import Clock
from proxy.http.headers import AnswerHeaders


class _Said(NamedTuple):
    """What an answer has said of limits, by lower-case header name; its `Date`, and when it came."""

    limits: Mapping[str, str]
    date: str
    at: float


class Quotas:
    """The quotas by account id. An account whose answers named no limit has an empty one.

    The balancer is told who has how much left, if that counts (`by_room`), and who has but its reserve.
    """

    def __init__(
        self, accounts: Mapping[str, Account], balancer: Balancer, *, by_room: bool, clock: Clock
    ) -> None:
        self._accounts = accounts
        self._balancer = balancer
        self._by_room = by_room
        self._clock = clock
        self._quotas: dict[str, Quota] = {}
        self._unread: dict[str, _Said] = {}
        """What the latest answer of an account has said and nobody has asked for. Few look, and answers are many."""
        self._at: dict[str, float] = {}
        """When the answer came that was read last."""
        self._until: dict[str, float] = {}
        """When an account's room changes next by time alone, if it counts."""

    def __getitem__(self, account_id: str) -> Quota:
        if account_id in self._unread:
            self._read(account_id)
        return self._quotas.get(account_id, {})

    def __iter__(self) -> Iterator[str]:
        """The accounts of which something is known."""
        for account_id in tuple(self._unread):
            self._read(account_id)
        return (id for id, known in self._quotas.items() if known)

    def saw(self, account_id: str, headers: AnswerHeaders) -> None:
        """Merge what an answer's headers say. On the path of every request."""
        limits = headers.limits
        if not limits:
            return
        before = self._unread.get(account_id)
        if before is not None and not before.limits.keys() <= limits.keys():
            self._read(account_id)  # it told of something that this answer leaves out
        self._unread[account_id] = _Said(limits, headers.get("date"), self._clock.now())
        account = self._accounts[account_id]
        if self._by_room or account.preferences.reserve:
            self.file(account)

    def _read(self, account_id: str) -> None:
        said = self._unread.pop(account_id)
        known = self._quotas.get(account_id, {})
        self._quotas[account_id] = read_quota(said.limits, said.date, known, said.at)
        self._at[account_id] = said.at

    def set(self, account_id: str, known: Quota) -> None:
        """Set what is known: after a restart, what was known before it."""
        self._quotas[account_id] = known
        self.file(self._accounts[account_id])

    def told(self, account_id: str) -> tuple[Quota, float]:
        """What is known, and when the answer came that has told it, in seconds since the epoch; 0 if none has."""
        return self[account_id], self._at.get(account_id, 0.0)

    def hear(self, account_id: str, known: Quota, at: float) -> None:
        """Take what an answer to another instance has told, if none has told more since."""
        if at >= self.told(account_id)[1]:
            self._at[account_id] = at
            self.set(account_id, known)

    def file(self, account: Account) -> None:
        """Update the account's place, after a change of its quota or of its reserve."""
        left, preferences = self.room(account.id), account.preferences
        self._balancer.hold(account.id, preferences.reserves(left))
        if self._by_room:
            self._balancer.set_room(account.id, left)
        if self._by_room or preferences.reserve:
            self._until[account.id] = quota.room_until(self[account.id], self._clock.now())
        else:
            self._until.pop(account.id, None)

    def forget(self, account_id: str) -> None:
        """Remove a deleted account."""
        self._unread.pop(account_id, None)
        self._at.pop(account_id, None)
        self._quotas.pop(account_id, None)
        self._until.pop(account_id, None)

    def count_room(self, counts: bool) -> None:
        """Set whether it counts who has how much left."""
        self._by_room = counts
        for account in self._accounts.values():
            self.file(account)
            if not counts:
                self._balancer.set_room(account.id, 1.0)

    def tick(self) -> None:
        """File the rooms that time has changed: a window was reset, or begins to count."""
        now = self._clock.now()
        for account_id in [id for id, until in self._until.items() if until <= now]:
            self.file(self._accounts[account_id])

    def room(self, account_id: str) -> float:
        """The fraction of its limits that the account has left, from 0 to 1; 1 if nothing is known."""
        return quota.room(self[account_id], self._clock.now())

    def view(self, account_id: str) -> list[dict[str, Any]]:
        """The windows of the account for admins, the tightest first."""
        return quota.view(self[account_id], self._clock.now())
