"""The periodic look at every account: what time has changed, who is idle, and whose token ends soon."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

from proxy.accounts.account import Account
from proxy.accounts.balancer import REFRESH_AHEAD_S
from proxy.accounts.pool import Pool
from proxy.accounts.refresh import Refresher
from proxy.clock import Clock
from proxy.errors import NotFound, TokenRefused, TokenTrouble

AT_ONCE = 2
SPREAD_S = 2.0
"""Two tokens are refreshed at a time over all looks, each after a random pause up to this long."""


class Upkeep:
    """Renews only the tokens that end before the next look. `deactivates`: idle accounts become inactive."""

    def __init__(
        self,
        pool: Pool,
        refresher: Refresher,
        *,
        interval_s: float,
        deactivates: bool,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._pool = pool
        self._refresher = refresher
        self.interval_s = interval_s
        self.deactivates = deactivates
        self._clock = clock
        self._rng = rng
        self._turn = asyncio.Lock()

    async def look(self) -> None:
        """Look at every account now."""
        self._pool.tick()
        if self.deactivates:
            self._pool.deactivate_idle()
        async with self._turn:
            await self._refresh([account.id for account in self._pool if self._is_due(account)])

    async def look_again(self) -> None:
        """Look at the accounts whose last refresh failed, and try those again that may be."""
        async with self._turn:
            failed = filter(self._refresher.may_try_again, self._pool)
            await self._refresh([account.id for account in failed if self._is_due(account)])

    async def _refresh(self, due: list[str]) -> None:
        """Refresh the tokens of these accounts, two at a time, in random order."""
        self._rng.shuffle(due)

        async def some() -> None:
            while due:
                account_id = due.pop()
                await self._clock.sleep(self._rng.uniform(0, SPREAD_S))
                if account_id in self._pool and self._is_due(self._pool[account_id]):
                    with contextlib.suppress(TokenRefused, TokenTrouble, NotFound):  # logged by the refresh
                        await self._refresher.refresh(account_id)

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))

    def _is_due(self, account: Account) -> bool:
        """Whether the account works, and its token ends before the next look at all."""
        return self._refresher.needs_refresh(account, self.interval_s * 1.1 + REFRESH_AHEAD_S)
