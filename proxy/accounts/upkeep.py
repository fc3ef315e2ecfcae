"""The periodic look at every account: what time has changed, who is idle, and whose token ends soon."""

from __future__ import annotations

from proxy.accounts.balancer import REFRESH_AHEAD_S
from proxy.accounts.pool import Pool
from proxy.accounts.refresh import Refresher


class Upkeep:
    """Renews only the tokens that end before the next look. `deactivates`: idle accounts become inactive."""

    def __init__(self, pool: Pool, refresher: Refresher, *, interval_s: float, deactivates: bool) -> None:
        self._pool = pool
        self._refresher = refresher
        self.interval_s = interval_s
        self.deactivates = deactivates

    async def look(self) -> None:
        """Look at every account now."""
        self._pool.tick()
        if self.deactivates:
            self._pool.deactivate_idle()
        await self._refresher.refresh_due(self.interval_s * 1.1 + REFRESH_AHEAD_S)
