"""What is sampled of the accounts' quota, and who samples it."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.accounts.capacity import Capacity
from proxy.accounts.quota_alerts import QuotaAlerts
from proxy.accounts.quota_history import QuotaHistory


@dataclass(frozen=True, slots=True)
class QuotaWatch:
    """Its parts are independent of each other: each looks at the pool."""

    history: QuotaHistory
    capacity: Capacity
    alerts: QuotaAlerts

    def look(self) -> None:
        """Sample everything, and tell what is high. Called periodically: it looks at all accounts."""
        self.history.sample()
        self.capacity.sample()
        self.alerts.look()
