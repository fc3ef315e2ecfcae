"""When access tokens expire, by either clock: a jump of the wall clock causes at most one refresh of each."""

from __future__ import annotations

from proxy.accounts.account import Account
from proxy.clock import Clock


class Lifetimes:
    """The ends of tokens on the monotonic clock, as they were when the tokens came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[str, float] = {}

    def learn(self, account: Account) -> None:
        """Note when the account's token expires."""
        if account.expires_at is not None:
            self._ends[account.id] = self._clock.monotonic() + account.expires_at - self._clock.now()

    def ends(self, account: Account, within_s: float) -> bool:
        """Whether the access token expires within `within_s`, by either clock."""
        if account.expires_at is None:
            return False
        ends = self._ends.get(account.id)
        return account.expires_at - self._clock.now() <= within_s or (
            ends is not None and ends - self._clock.monotonic() <= within_s
        )
