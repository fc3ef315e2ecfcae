"""Accounts that refuse whatever they are asked, in whichever words: they stay active, but admins are told."""

from __future__ import annotations

SHOWN_FROM = 5
"""An account that has refused so many requests in a row is shown with the reason. One request may be odd."""


class Refusals:
    """The refusals of each account since it last served a request, with the latest reason. In memory only."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def note(self, account_id: str, evidence: str) -> int:
        """Count one refusal; the number in a row."""
        count = self._of.get(account_id, (0, ""))[0] + 1
        self._of[account_id] = (count, evidence)
        return count

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
