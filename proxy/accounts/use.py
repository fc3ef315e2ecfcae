"""What accounts were used for: counters that outlive a restart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.storage.protocols import Record, Storage
from proxy.storage.unsaved import Unsaved

STORED = ("requests", "errors", "rate_limits", "last_used_at")


@dataclass(slots=True)
class Use:
    """What one account was used for since it was added; `in_flight` since the start, and not stored."""

    requests: int = 0
    errors: int = 0
    rate_limits: int = 0
    last_used_at: float | None = None
    in_flight: int = 0


class Uses:
    """The use of each account by its id."""

    def __init__(self, account_ids: Iterable[str], counters: Mapping[str, Record]) -> None:
        self._uses = {id: _read_use(counters.get(id, {})) for id in account_ids}
        self._unsaved = Unsaved("counters", self._record, dict, counters)

    def __getitem__(self, account_id: str) -> Use:
        return self._uses[account_id]

    def __contains__(self, account_id: object) -> bool:
        return account_id in self._uses

    def add(self, account_id: str) -> None:
        """Count from zero if the account is new."""
        if account_id not in self._uses:
            self._uses[account_id] = Use()

    def forget(self, account_id: str) -> None:
        """The account is gone."""
        self._uses.pop(account_id, None)
        self._unsaved.remove(account_id)

    def begin(self, account_id: str, now: float) -> Use:
        """Count a request that begins; whoever ends it takes it off `in_flight`."""
        use = self._uses[account_id]
        use.requests += 1
        use.in_flight += 1
        use.last_used_at = now
        self._unsaved.add(account_id)
        return use

    def failed(self, account_id: str) -> None:
        """Count an answer that was no success."""
        self._uses[account_id].errors += 1
        self._unsaved.add(account_id)

    def limited(self, account_id: str) -> None:
        """Count an answer that was a rate limit."""
        self._uses[account_id].rate_limits += 1
        self._unsaved.add(account_id)

    async def save(self, storage: Storage) -> None:
        """Write what has changed. Raises StorageError."""
        await self._unsaved.save(storage)

    def _record(self, account_id: str) -> Record | None:
        use = self._uses.get(account_id)
        return None if use is None else {name: getattr(use, name) for name in STORED}


def _read_use(record: Record) -> Use:
    use = Use()
    for name in STORED:
        value = record.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            setattr(use, name, value)
    return use
