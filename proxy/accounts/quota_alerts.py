"""Tells people when an account has used most of a quota window."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.accounts.account import Account, Status
from proxy.accounts.pool import Pool
from proxy.accounts.quota import is_of_minutes
from proxy.clock import Clock
from proxy.feed import Feed, Happened, Subject
from proxy.upstream.limits import title

KIND = "account.quota_high"


class QuotaAlerts:
    """Tells once for each window, until its reset. `threshold` is a fraction; 0 for no alerts.

    Windows of minutes are left out, which are full again before anybody has read of them, and accounts that are not
    active: that an account is rate limited has been told.
    """

    def __init__(self, pool: Pool, threshold: float, *, feed: Feed, clock: Clock) -> None:
        self._pool = pool
        self.threshold = threshold
        self._feed = feed
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}  # until when an alert is not repeated
        for _ in self._news():
            """What was high before a restart was told before it."""

    def look(self) -> None:
        """Tell what is high and has not been told. Called periodically."""
        for account, window, used in self._news():
            text = f"{account.name} has used {int(100 * used + 1e-6)} % of its quota ({title(window)})"
            subject = Subject("account", account.id, account.name)
            self._feed.tell(Happened(KIND, text, "warning", subject))

    def _news(self) -> Iterator[tuple[Account, str, float]]:
        if not self.threshold:
            return
        now = self._clock.now()
        self._told = {key: until for key, until in self._told.items() if until > now}
        for account_id in self._pool.quotas:
            for name, window in self._pool.quotas[account_id].items():
                used, resets_at = window.full, window.resets_at
                if used is None or used < self.threshold or resets_at is None or resets_at <= now:
                    continue
                account = self._pool[account_id]
                if (
                    account.status is not Status.ACTIVE
                    or is_of_minutes(name)
                    or (account_id, name) in self._told
                ):
                    continue
                self._told[account_id, name] = resets_at
                yield account, name, used
