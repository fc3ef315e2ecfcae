"""What keys spend in requests that end after their process has given up the data folder: another one counts it."""

from __future__ import annotations

from proxy.storage.handover import SPENDING
from proxy.storage.protocols import Storage
from proxy.usage.allowance import spent
from proxy.usage.request import RequestRecord


class LateSpending:
    """Sums by key. They are handed over, since the budgets themselves were stored before and are another's now."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._is_late = False
        self._spent: dict[str, tuple[int, float]] = {}

    def begin(self) -> None:
        """All that ends from now on is late. To be called in the step that reads the budgets to store them."""
        self._is_late, self._spent = True, {}

    def count(self, record: RequestRecord) -> None:
        """Count what a late request has spent: a sink, called after it was priced."""
        if self._is_late and record.is_inference and record.key is not None:
            self._add(record.key.id, *spent(record))

    def _add(self, key_id: str, tokens: int, cost_usd: float) -> None:
        before = self._spent.get(key_id, (0, 0.0))
        self._spent[key_id] = before[0] + tokens, before[1] + cost_usd

    async def save(self) -> None:
        """Hand over what has come since the last time. Raises StorageError: then it is kept for the next one."""
        if not self._spent:
            return
        handed, self._spent = self._spent, {}
        lines = [{"key": id, "tokens": tokens, "cost_usd": usd} for id, (tokens, usd) in handed.items()]
        try:
            await self._storage.append(SPENDING, lines)
        except BaseException:
            for id, sums in handed.items():
                self._add(id, *sums)
            raise
