"""Usage counters of accounts, which survive a restart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from proxy.storage.fields import Fields
from proxy.storage.protocols import Record, Storage
from proxy.storage.unsaved import Unsaved

STORED = ("requests", "errors", "rate_limits", "last_used_at")


@dataclass(slots=True)
class Use:
    """Counters of one account since it was added. `in_flight` is not stored."""

    requests: int = 0
    errors: int = 0
    rate_limits: int = 0
    last_used_at: float | None = None
    in_flight: int = 0


class Uses:
    """The counters by account id."""

    def __init__(self, account_ids: Iterable[str], counters: Mapping[str, Record]) -> None:
        self._uses = {id: _read_use(counters.get(id, {})) for id in account_ids}
        self._unsaved = Unsaved("counters", self._record, dict, counters)
        self._changed: set[str] | None = None  # since `changes` was called last, if it was

    def __getitem__(self, account_id: str) -> Use:
        return self._uses[account_id]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._uses))

    def __contains__(self, account_id: object) -> bool:
        return account_id in self._uses

    def add(self, account_id: str) -> None:
        """Start counters for an account; existing ones stay."""
        if account_id not in self._uses:
            self._uses[account_id] = Use()

    def forget(self, account_id: str) -> None:
        """Remove a deleted account."""
        self._uses.pop(account_id, None)
        self._unsaved.remove(account_id)
        if self._changed is not None:
            self._changed.add(account_id)

    def begin(self, account_id: str, now: float) -> Use:
        """Count a request that begins. The caller decrements `in_flight` when it ends."""
        use = self._uses[account_id]
        use.requests += 1
        use.in_flight += 1
        use.last_used_at = now
        self._unsaved.add(account_id)
        if self._changed is not None:
            self._changed.add(account_id)
        return use

    def failed(self, account_id: str) -> None:
        """Count an unsuccessful answer."""
        self._uses[account_id].errors += 1
        self._note(account_id)

    def limited(self, account_id: str) -> None:
        """Count a rate-limited answer."""
        self._uses[account_id].rate_limits += 1
        self._note(account_id)

    def changes(self) -> set[str]:
        """The accounts that were used or forgotten since the last call; none by the first one."""
        changed, self._changed = self._changed, set()
        return changed or set()

    def _note(self, account_id: str) -> None:
        self._unsaved.add(account_id)
        if self._changed is not None:
            self._changed.add(account_id)

    async def save(self, storage: Storage) -> None:
        """Write what has changed. Raises StorageError."""
        await self._unsaved.save(storage)

    def _record(self, account_id: str) -> Record | None:
        use = self._uses.get(account_id)
        return None if use is None else {name: getattr(use, name) for name in STORED}


def _read_use(record: Record) -> Use:
    """The stored counters; those that are malformed begin anew."""
    use, fields = Use(), Fields(record)
    with contextlib.suppress(ValueError):
        for name in STORED[:-1]:
            setattr(use, name, fields.count(name))
        use.last_used_at = fields.time_or_none("last_used_at")
    return use
