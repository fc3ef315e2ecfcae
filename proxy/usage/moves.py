"""What it cost that conversations changed their accounts: the new one's prompt cache was cold."""

from __future__ import annotations

from proxy.clock import Clock
from proxy.usage import prices
from proxy.usage.request import RequestRecord


class Moves:
    """The cost of all changes since the start."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._cost_usd = 0.0
        self.unpriced = 0
        """Turns that wrote to a cache with a model whose price is not known."""

    @property
    def cost_usd(self) -> float | None:
        """In US dollars; None if nothing of it has a price, which is not the same as zero."""
        return None if self.unpriced and not self._cost_usd else round(self._cost_usd, 6)

    def count(self, record: RequestRecord) -> None:
        """Count what a turn that moved has written to the cache, and would have read from the other one: a sink."""
        if record.moved is None:
            return
        now = self._clock.now()
        costs = [prices.cold_usd(charge.usage, at=now) for charge in record.charges]
        self._cost_usd += sum(cost for cost in costs if cost is not None)
        self.unpriced += None in costs
