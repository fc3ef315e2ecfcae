"""Which disposable records have changed since they were last written."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from proxy.storage.protocols import Kind, Record, Storage


class Unsaved:
    """The ids of one owner's records that are not written yet; `stored` are those that may be in storage.

    `record` makes the record of an id as it is now, a new dict each time; None if it is gone. There are never more
    ids than records now and at the last save, whatever comes and goes between two saves or while none succeeds.
    """

    def __init__(
        self, kind: Kind, record: Callable[[str], Record | None], stored: Iterable[str] = ()
    ) -> None:
        self._kind = kind
        self._record = record
        self._stored = set(stored)
        self._changed: set[str] = set()

    def add(self, id: str) -> None:
        """Note a change. On the hot path: it costs one entry of a set."""
        self._changed.add(id)

    def remove(self, id: str) -> None:
        """Note that a record is gone. If it was never written, there is nothing to remove."""
        if id in self._stored:
            self._changed.add(id)
        else:
            self._changed.discard(id)

    async def save(self, storage: Storage) -> None:
        """Write what has changed; if that fails, it stays noted. Raises StorageError."""
        if not self._changed:
            return
        changed, self._changed = self._changed, set()
        records = {id: self._record(id) for id in changed}
        new = changed - self._stored
        self._stored |= new  # what is removed during the write has to be removed by the next one
        try:
            await storage.update(self._kind, records)
        except BaseException:
            self._stored -= new
            self._changed |= {id for id in changed if id in self._stored or self._record(id) is not None}
            raise
        self._stored -= {id for id, record in records.items() if record is None}
