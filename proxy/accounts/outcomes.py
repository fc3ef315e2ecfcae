"""How refreshes of access tokens have ended since the start."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Literal

from proxy.errors import TokenRefused

Outcome = Literal["renewed", "refused", "failed"]
"""`refused`: by the OAuth server, so the account is invalid. `failed`: another try may succeed."""


class Outcomes(Counter[tuple[str, Outcome]]):
    """Numbers of refreshes by the account's id and the outcome."""

    def count(self, account_id: str, refresh: asyncio.Task[None]) -> None:
        """Count a refresh that has ended."""
        self[account_id, _outcome(refresh)] += 1


def _outcome(refresh: asyncio.Task[None]) -> Outcome:
    error = None if refresh.cancelled() else refresh.exception()
    if isinstance(error, TokenRefused):
        return "refused"
    return "failed" if error is not None or refresh.cancelled() else "renewed"
