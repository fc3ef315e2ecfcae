"""What each account has left of its limits, and what that means for its place in the choice."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.accounts import quota
from proxy.accounts.account import Account
from proxy.accounts.balancer import Balancer
from proxy.accounts.quota import Quota
from proxy.clock import Clock
from proxy.http.headers import AnswerHeaders


class Rooms:
    """The quota of the accounts, in memory only.

    It tells the balancer who has how much left, if that counts (`by_room`), and who has but its reserve.
    """

    def __init__(
        self, accounts: Mapping[str, Account], balancer: Balancer, *, by_room: bool, clock: Clock
    ) -> None:
        self._accounts = accounts
        self._balancer = balancer
        self._by_room = by_room
        self._clock = clock
        self._quota: dict[str, Quota] = {}
        self._until: dict[str, float] = {}
        """When an account's room changes next by time alone, if it counts."""

    def quota(self, account_id: str) -> Quota:
        """What the account's answers have told of its limits."""
        return self._quota.get(account_id, {})

    def left(self, account_id: str) -> float:
        """The fraction of its limits that the account has left, from 0 to 1; 1 if nothing is known."""
        return quota.room(self.quota(account_id), self._clock.now())

    def saw(self, account_id: str, headers: AnswerHeaders) -> None:
        """Update the account's quota from an answer's headers."""
        self._quota[account_id] = quota.read_quota(headers, self.quota(account_id), self._clock.now())
        account = self._accounts[account_id]
        if self._by_room or account.preferences.reserve:
            self.file(account)

    def file(self, account: Account) -> None:
        """Update the account's place, after a change of its quota or of its reserve."""
        left, reserve = self.left(account.id), account.preferences.reserve
        self._balancer.hold(account.id, reserve > 0 and left <= reserve)
        if self._by_room:
            self._balancer.set_room(account.id, left)
        if self._by_room or reserve:
            self._until[account.id] = quota.room_until(self.quota(account.id), self._clock.now())
        else:
            self._until.pop(account.id, None)

    def tick(self) -> None:
        """Apply what is due by time: windows are reset."""
        now = self._clock.now()
        for account_id in [id for id, until in self._until.items() if until <= now]:
            self.file(self._accounts[account_id])

    def forget(self, account_id: str) -> None:
        """Remove a deleted account."""
        self._quota.pop(account_id, None)
        self._until.pop(account_id, None)
