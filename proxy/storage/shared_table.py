"""A table that other instances change as well: it hears of their changes, and merges what two have changed at once."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from proxy.errors import StorageError
from proxy.jobs import Jobs
from proxy.storage.codec import to_text
from proxy.storage.merge import merged
from proxy.storage.protocols import NOTHING, Kind, Outcome, Outdated, Record, Records, Snapshot, Stored
from proxy.storage.table import Table

T = TypeVar("T")

TRIES: Final = 20
"""Of a write that others are faster than each time."""

MOST_DELETED: Final = 10_000
LOST: Final = "the shared store may have lost it"

log = logging.getLogger(__name__)


class SharedTable(Table[T], Generic[T]):
    """Implements Follower. Its memory is what this instance knows: what is stored, and its own changes over that.

    `read` makes an item of a record, and `adopt` what is to follow an item from that. `together` and `leased`:
    see `merged`.
    """

    def __init__(
        self,
        kind: Kind,
        items: Iterable[tuple[str, T]],
        *,
        record: Callable[[T], Record],
        read: Callable[[str, Record], T],
        stored: dict[str, Stored],
        storage: Records,
        jobs: Jobs,
        adopt: Callable[[T, T], T] | None = None,
        together: Sequence[Sequence[str]] = (),
        leased: Collection[str] = (),
    ) -> None:
        super().__init__(kind, items, record=record, storage=storage, jobs=jobs)
        self._read = read
        self._adopt = adopt
        self._together = together
        self._leased = leased
        self._known = dict(stored)  # what is stored, as far as was heard
        self._deleted: OrderedDict[str, int] = OrderedDict()  # generations of own deletions
        self._writing: dict[str, _Turns] = {}
        self._heard: dict[str, Stored] = {}  # while the same record was being written
        self._fences: dict[str, int] = {}
        self._doubted: set[str] = set()
        storage.follow(kind, self)

    def fence(self, id: str, fence: int | None) -> None:
        self._fences.pop(id, None)
        if fence is not None:
            self._fences[id] = fence

    async def reread(self, id: str) -> None:
        self.changed(id, await self._storage.get(self._kind, id))

    # what others change

    def changed(self, id: str, stored: Stored) -> None:
        if id in self._writing:
            if stored.generation > self._heard.get(id, NOTHING).generation:
                self._heard[id] = stored
        elif stored.generation > max(self._known.get(id, NOTHING).generation, self._deleted.get(id, 0)):
            self._take(id, stored)

    def compare(self, snapshot: Snapshot) -> None:
        """Take what is newer there, and write again what is older: the store has lost its last writes."""
        for id, stored in snapshot.records.items():
            if id in self._writing:
                continue
            known = max(self._known.get(id, NOTHING).generation, self._deleted.get(id, 0))
            if stored.generation > known:
                self._take(id, stored)
            elif stored.generation < known:
                self._doubt(id)
        for id in [id for id in self._items if id not in snapshot.records and id not in self._writing]:
            known = self._known.get(id, NOTHING).generation
            if snapshot.deleted.get(id, 0) > known:
                self._take(id, Stored(snapshot.deleted[id], None))
            elif known:
                self._doubt(id)

    def _doubt(self, id: str) -> None:
        """Look the record up with the next save: it may have been written after the snapshot was taken."""
        self._doubted.add(id)
        self.unsaved.setdefault(id, LOST)

    def _take(self, id: str, theirs: Stored, *, yields: bool = False) -> None:
        """Make the item what others and this instance have made of it."""
        base, mine = self._known.get(id, NOTHING).record, self._form(id)
        self._know(id, theirs)
        if mine == theirs.record or (mine is None and base is not None):
            return  # we have deleted it, and say so again
        result = theirs.record
        if mine != base and result is not None:
            assert mine is not None
            result = merged(
                base or {}, mine, result, together=self._together, yields=yields, leased=self._leased
            )
        self._set(id, result)

    def _set(self, id: str, record: Record | None) -> None:
        old = self._items.get(id)
        try:
            new = None if record is None else self._read(id, record)
        except ValueError as error:
            log.error("not understood, left as it was kind=%s id=%s error=%s", self._kind, id, error)
            return
        if new is not None and old is not None and self._adopt is not None:
            new = self._adopt(old, new)
        if new == old:
            return
        if new is None:
            del self._items[id]
            self.unsaved.pop(id, None)
        else:
            self._items[id] = new
        self._tell(old, new)

    def _know(self, id: str, stored: Stored) -> None:
        if stored.record is not None:
            self._known[id] = stored
            return
        self._known.pop(id, None)
        if stored.generation:
            self._deleted[id] = stored.generation
            if len(self._deleted) > MOST_DELETED:
                self._deleted.popitem(last=False)

    def _form(self, id: str) -> Record | None:
        """The record of an item as it would be read; None if there is no item."""
        item = self._items.get(id)
        if item is None:
            return None
        record: Record = json.loads(to_text(self._record(item)))
        return record

    # what this instance changes

    async def _store(self, id: str, record: Record | None) -> None:
        """Write the item as it is when its turn comes; each write is one step after what is known."""
        turns = self._writing.setdefault(id, _Turns())
        turns.count += 1
        try:
            async with turns.lock:
                await self._write(id)
        finally:
            turns.count -= 1
            if not turns.count:
                del self._writing[id]
                heard = self._heard.pop(id, None)
                if heard is not None:
                    self.changed(id, heard)

    async def _write(self, id: str) -> None:
        if id in self._doubted:
            self._meet(id, await self._storage.get(self._kind, id))
            self._doubted.discard(id)
        for _ in range(TRIES):
            mine, known = self._form(id), self._known.get(id, NOTHING)
            if mine == known.record:
                return
            try:
                generation = await self._order(id, mine, known.generation)
            except Outdated as other:
                if other.stale:
                    self._fences.pop(id, None)
                self._meet(id, other.stored, yields=other.stale)
            else:
                self._know(id, Stored(generation, mine))
        raise StorageError(f"{self._kind}/{id}: other instances change it all the time")

    def _meet(self, id: str, stored: Stored, *, yields: bool = False) -> None:
        """Go on from what is stored. If that is older than what is known, it is written over."""
        known = max(self._known.get(id, NOTHING).generation, self._deleted.get(id, 0))
        if stored.generation >= known:
            self._take(id, stored, yields=yields)
            return
        log.warning("lost by the shared store, so written again kind=%s id=%s", self._kind, id)
        self._deleted.pop(id, None)
        self._know(id, stored)

    def _order(self, id: str, record: Record | None, known: int) -> Outcome:
        if record is None:
            return self._storage.delete(self._kind, id, known=known)
        return self._storage.put(self._kind, id, record, known=known, fence=self._fences.get(id))


async def open_table(
    kind: Kind,
    *,
    load: Callable[[dict[str, Record]], Iterable[tuple[str, T]]],
    record: Callable[[T], Record],
    read: Callable[[str, Record], T],
    storage: Records,
    jobs: Jobs,
    adopt: Callable[[T, T], T] | None = None,
    together: Sequence[Sequence[str]] = (),
    leased: Collection[str] = (),
) -> Table[T]:
    """The table of a kind with what is stored. Raises StorageError; and what `load` raises for malformed records."""
    if not storage.is_shared:
        return Table(kind, load(await storage.load(kind)), record=record, storage=storage, jobs=jobs)
    stored = await storage.stored(kind)
    items = load({id: each.record for id, each in stored.items() if each.record is not None})
    return SharedTable(
        kind,
        items,
        record=record,
        read=read,
        stored=stored,
        storage=storage,
        jobs=jobs,
        adopt=adopt,
        together=together,
        leased=leased,
    )


@dataclass(slots=True)
class _Turns:
    """Who writes one record, and how many want to."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    count: int = 0
