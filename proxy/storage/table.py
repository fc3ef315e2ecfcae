"""A table of items by id, in memory and in storage. Only `commit`, `add`, `publish` and `forget` change it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from proxy.errors import StorageError
from proxy.jobs import Jobs
from proxy.storage.protocols import Kind, Record, Records

T = TypeVar("T")

log = logging.getLogger(__name__)


class Table(Mapping[str, T], Generic[T]):
    """Memory is authoritative; changes go to storage in their order.

    A change takes effect in memory at once. The task that `commit` or `forget` returns ends when it is on disk. If the
    write fails, the task raises StorageError, `unsaved` has the id with the reason, and `save_again` retries it.
    """

    def __init__(
        self,
        kind: Kind,
        items: Iterable[tuple[str, T]],
        *,
        record: Callable[[T], Record],
        storage: Records,
        jobs: Jobs,
    ) -> None:
        self._kind = kind
        self._items = dict(items)
        self._record = record
        self._tell: Callable[[T | None, T | None], None] = _ignore
        self._storage = storage
        self._jobs = jobs
        self.unsaved: dict[str, str] = {}

    def __getitem__(self, id: str) -> T:
        return self._items[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def commit(self, id: str, item: T) -> asyncio.Task[None]:
        """Set one item; the task ends when it is on disk."""
        self._items[id] = item
        return self._jobs.start(f"save {self._kind}/{id}", self._save(id, self._record(item)))

    async def add(self, id: str, item: T, *, undo: Callable[[], object]) -> None:
        """Add a new item; it is on disk when this returns.

        If it cannot be saved, `undo` reverts what the caller did for it, and it is deleted: the caller reports a
        failure, so the item must neither work now nor appear after a restart. Raises StorageError then.
        """
        try:
            await self.commit(id, item)
        except StorageError:
            undo()
            with contextlib.suppress(StorageError):
                await self.forget(id)
            raise

    @property
    def writable(self) -> bool:
        """Whether the data folder takes writes: nothing is unsaved, and storage is not degraded."""
        return not self.unsaved and not self._storage.degraded

    def publish(self, id: str, item: T) -> None:
        """Set one item whose record is on disk already."""
        self._items[id] = item

    async def stored(self, id: str) -> Record | None:
        """The record as it is in storage."""
        return (await self._storage.get(self._kind, id)).record

    def on_change(self, tell: Callable[[T | None, T | None], None]) -> None:
        """Call `tell` with each item that another instance has changed, as it was and as it is: None if it is not."""
        self._tell = tell

    def fence(self, id: str, fence: int | None) -> None:
        """Write this item under a lease from now on, or under none: an earlier holder of it writes over nothing."""

    async def reread(self, id: str) -> None:
        """Take what is in storage, if another instance has changed it. Raises StorageError."""

    def forget(self, id: str) -> asyncio.Task[None]:
        """Remove one item; the task ends when it is gone from disk."""
        self._items.pop(id, None)
        return self._jobs.start(f"delete {self._kind}/{id}", self._save(id, None))

    async def left(self) -> list[str]:
        """What is not on disk yet, for people."""
        return [
            f"the last change of {self._kind}/{id}"
            if id in self._items
            else f"the deletion of {self._kind}/{id}"
            for id in self.unsaved
        ]

    async def save_again(self) -> None:
        """Retry the writes that have failed, with the items as they are now."""
        for id in tuple(self.unsaved):
            item = self._items.get(id)
            try:
                await self._save(id, None if item is None else self._record(item))
            except StorageError:
                return  # logged by _save; the disk still fails
            log.warning("saved at last kind=%s id=%s", self._kind, id)

    async def _save(self, id: str, record: Record | None) -> None:
        try:
            await self._store(id, record)
        except StorageError as error:
            self.unsaved[id] = str(error)
            log.error("not saved, kept in memory kind=%s id=%s error=%s", self._kind, id, error)
            raise
        self.unsaved.pop(id, None)

    async def _store(self, id: str, record: Record | None) -> None:
        """Write a record, or delete it. Raises StorageError."""
        if record is None:
            await self._storage.delete(self._kind, id)
        else:
            await self._storage.put(self._kind, id, record)


class Unstored(Table[T], Generic[T]):
    """A table in memory alone: what is in it ends with the process."""

    async def _store(self, id: str, record: Record | None) -> None:
        """There is nothing to write."""


def _ignore(old: object, new: object) -> None:
    """Stand in for the listener until one is set."""
