"""The counters of client keys: one record per key, with its requests and its spending; and what is read of counters."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET, Struct, UnsetType, to_builtins

from proxy.clients.budgets import Budgets, Window, read_window
from proxy.clients.keys import ClientKeys
from proxy.storage.fields import Fields
from proxy.storage.protocols import Record, Storage
from proxy.storage.unsaved import Unsaved


class Counted(Struct, gc=False):
    """The counters of a key as they are stored: its requests, when the last one was, and what they have spent.

    A save copies thousands at once: structs, so that no garbage collection comes of it.
    """

    requests: int
    last_used_at: float | None
    day: Window | UnsetType = UNSET
    month: Window | UnsetType = UNSET


class KeyCounters:
    """Notes which keys' counters change, and saves those. `stored`: ids that may be in storage."""

    def __init__(self, keys: ClientKeys, budgets: Budgets, *, stored: Iterable[str]) -> None:
        self._keys = keys
        self._budgets = budgets
        self._unsaved = Unsaved("counters", self._counted, to_builtins, stored)
        keys.on_use(self._unsaved.add)
        budgets.on_spend(self._unsaved.add)

    async def save(self, storage: Storage) -> None:
        """Write the counters that have changed. Raises StorageError."""
        await self._unsaved.save(storage)

    def _counted(self, key_id: str) -> Counted | None:
        use = self._keys.use(key_id)
        if use is None:
            return None
        return Counted(use.requests, use.last_used_at, *self._budgets.spent(key_id))


def read_counters(id: str, record: Record) -> None:
    """Check the counters of an account, a client key or a sign-in.

    Raises ValueError, which names the field, if a number or time is not within reason.
    """
    fields = Fields(record)
    for name in ("requests", "errors", "rate_limits"):
        if name in fields or (name == "requests" and "last_seen_at" not in fields):
            fields.count(name)
    for name in ("last_used_at", "last_seen_at"):
        if name in fields:
            fields.time_or_none(name)
    for name in ("day", "month"):
        if name in fields:
            read_window(fields.inside(name))
