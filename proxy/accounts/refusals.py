"""Accounts that refuse whatever they are asked, in whichever words: they stay active, but admins are told."""

from __future__ import annotations

import logging

from proxy.accounts.account import Account
from proxy.feed import Feed, Happened, Subject

SHOWN_FROM = 5
"""An account that has refused so many requests in a row is shown with the reason. One request may be odd."""


log = logging.getLogger(__name__)


class Refusals:
    """The refusals of each account since it last served a request, with the latest reason. In memory only."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._of: dict[str, tuple[int, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def note(self, account: Account, evidence: str) -> None:
        """Count one refusal of the account. Again and again, admins are told."""
        count = self._of.get(account.id, (0, ""))[0] + 1
        self._of[account.id] = (count, evidence)
        if count == SHOWN_FROM:
            reason = self.reason(account.id)
            log.warning("account refuses account=%s name=%s reason=%s", account.id, account.name, reason)
            subject = Subject("account", account.id, account.name)
            self._feed.tell(Happened("account.refusing", f"{account.name} {reason}", "warning", subject))

    def end(self, account_id: str) -> None:
        """The account has served a request, has changed its state, or is gone."""
        self._of.pop(account_id, None)

    def reason(self, account_id: str) -> str | None:
        """What to show of the account; None if it does not refuse again and again."""
        count, evidence = self._of.get(account_id, (0, ""))
        return f"refused {count} requests in a row: {evidence}" if count >= SHOWN_FROM else None

    def shown(self) -> int:
        """Number of accounts that have a reason."""
        return sum(1 for count, _ in self._of.values() if count >= SHOWN_FROM)
