"""Which disposable records have changed since they were last written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from proxy.storage.protocols import Kind, Record, Storage

T = TypeVar("T")


class Unsaved(Generic[T]):
    """Ids of one owner's records that have changed since the last save. `stored`: ids that may be in storage.

    `snapshot` copies the current state of an id; None if it is gone. `record` makes the stored form of a snapshot,
    which takes longer, so it is called in the storage's thread.
    The set is bounded by the records of now and those of the last save, even if no save succeeds for long.
    """

    def __init__(
        self,
        kind: Kind,
        snapshot: Callable[[str], T | None],
        record: Callable[[T], Record],
        stored: Iterable[str] = (),
    ) -> None:
        self._kind = kind
        self._snapshot = snapshot
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
        snapshots = {id: self._snapshot(id) for id in changed}
        new = changed - self._stored
        self._stored |= new  # what is removed during the write has to be removed by the next one
        try:
            await storage.update(self._kind, _Records(snapshots, self._record))
        except BaseException:
            self._stored -= new
            self._changed |= {id for id in changed if id in self._stored or self._snapshot(id) is not None}
            raise
        self._stored -= {id for id, snapshot in snapshots.items() if snapshot is None}


class _Records(Mapping[str, Record | None], Generic[T]):
    """Records that are made when they are read, in the storage's thread."""

    def __init__(self, snapshots: dict[str, T | None], record: Callable[[T], Record]) -> None:
        self._snapshots = snapshots
        self._record = record

    def __getitem__(self, id: str) -> Record | None:
        snapshot = self._snapshots[id]
        return None if snapshot is None else self._record(snapshot)

    def __iter__(self) -> Iterator[str]:
        return iter(self._snapshots)

    def __len__(self) -> int:
        return len(self._snapshots)
