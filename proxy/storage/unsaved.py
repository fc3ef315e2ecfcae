"""Which disposable records have changed since they were last written."""

from __future__ import annotations

from collections.abc import Callable

from proxy.storage.protocols import Kind, Record, Storage


class Unsaved:
    """The ids of one owner's records that are not written yet.

    `record` makes the record of an id as it is now, a new dict each time; None if it is gone.
    """

    def __init__(self, kind: Kind, record: Callable[[str], Record | None]) -> None:
        self._kind = kind
        self._record = record
        self._ids: set[str] = set()

    def add(self, id: str) -> None:
        """Note a change. On the hot path: it costs one entry of a set."""
        self._ids.add(id)

    async def save(self, storage: Storage) -> None:
        """Write what has changed; if that fails, it stays noted. Raises StorageError."""
        writing, self._ids = self._ids, set()
        if not writing:
            return
        try:
            await storage.update(self._kind, {id: self._record(id) for id in writing})
            writing = set()
        finally:
            self._ids |= writing
