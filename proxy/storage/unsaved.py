"""Which disposable records have changed since they were last written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from proxy.storage.protocols import Kind, Record, Storage

T = TypeVar("T")


class Unsaved(Generic[T]):
    """The ids of one owner's records that are not written yet; `stored` are those that may be in storage.

    `snapshot` takes down what is behind an id as it is now; None if it is gone. `record` makes what is stored of
    it, in the storage's own thread: that takes longer, and there may be thousands.
    There are never more ids than records now and at the last save, whatever comes and goes between two saves or
    while none succeeds.
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
    """Records that are made when they are read."""

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
