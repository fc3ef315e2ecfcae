"""The storage as JSON files in a data folder, written by one thread in the order of the calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from proxy.clock import Clock, rfc3339
from proxy.errors import StorageError
from proxy.storage import files
from proxy.storage.codec import to_line, to_text, to_text_unread
from proxy.storage.envelope import Keyring
from proxy.storage.files import told
from proxy.storage.folder import clear_spool, keep, make_private, make_subfolders, take, usable
from proxy.storage.group import Group
from proxy.storage.inventory import Inventory
from proxy.storage.journal import Change, Journal, Key
from proxy.storage.layout import DISPOSABLE, INVENTORY, JOURNAL, LAYOUTS, checked, kind_of
from proxy.storage.leases import LocalLeases
from proxy.storage.logs import Logs
from proxy.storage.protocols import NOTHING, Follower, Kind, Outcome, Reader, Record, Stored
from proxy.storage.record_files import RecordFiles
from proxy.storage.recovery import recover, set_record
from proxy.storage.rekey import rekey
from proxy.storage.stamps import Stamps

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


class JsonFiles(LocalLeases):
    """Implements Storage. After `open`, only the writer thread uses the attributes, except the notices and the group.

    A durable change is done when it is in its own file or, if that cannot be written, in the journal; each later
    write retries the changes in the journal. Generations number all writes of the folder: the higher is the later.
    """

    def __init__(
        self, folder: Path, lock: int, clock: Clock, keyring: Keyring, readers: Mapping[Kind, Reader]
    ) -> None:
        super().__init__(clock)
        self._folder = folder
        self._keyring = keyring
        self._lock = lock
        self._is_open = True
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="storage")
        self._journal = Journal(folder / JOURNAL, keyring)
        self._inventory = Inventory(folder / INVENTORY, keyring)
        self._logs = Logs(folder, self._inventory)
        self._group: Group | None = None  # takes the next durable append, if that is to the same log
        notices = make_private(folder)
        clear_spool(folder)
        state = recover(folder, self._journal, self._inventory, keyring, readers, clock)
        rekeyed = rekey(folder, keyring, self._journal, state.waiting, rfc3339(clock.now()))
        self.notices: Sequence[str] = (*notices, *state.notices, *rekeyed)
        self._records = state.records
        # What is not durable is written often: its records are kept as they stand in the file.
        self._lines = {kind: _lines(self._records.pop(kind)) for kind in DISPOSABLE}
        self._files = RecordFiles(folder, keyring, clock, self._inventory, state.generations)
        self._stamps = Stamps()
        self._waiting: dict[Key, Change] = {}
        self._generation = max(
            (*state.generations.values(), *(c.generation for c in state.waiting.values())), default=0
        )
        with contextlib.suppress(OSError):  # else with the next file
            self._inventory.write((*map(self._files.name, state.generations), *state.logs))
        self._store(state.waiting.values())

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        clock: Clock,
        keyring: Keyring | None = None,
        readers: Mapping[Kind, Reader] = MappingProxyType({}),
    ) -> JsonFiles:
        """Lock the folder, read all of it, repair damage, and bring it under the key. Raises StorageError.

        Without a keyring, files are plain. `readers` check the records of their kinds.
        """
        with usable(folder):
            lock = take(folder)
            try:
                return cls(folder, lock, clock, keyring or Keyring(), readers)
            except BaseException:
                os.close(lock)
                raise

    @property
    def degraded(self) -> bool:
        return bool(self._waiting)

    away = None
    is_shared = False

    async def load(self, kind: Kind) -> dict[str, Record]:
        return await self._order(self._load, kind)

    async def stored(self, kind: Kind) -> dict[str, Stored]:
        return await self._order(self._stored, kind_of(kind, durable=True))

    async def get(self, kind: Kind, id: str) -> Stored:
        return await self._order(self._get, kind_of(kind, durable=True), checked(id))

    def follow(self, kind: Kind, follower: Follower) -> None:
        """Nobody else changes anything."""

    # Not `async def`: the call itself queues the write and copies a durable record, before anything is awaited.

    def put(
        self, kind: Kind, id: str, record: Record, *, known: int | None = None, fence: int | None = None
    ) -> Outcome:
        text = to_text(record)
        return self._order(self._commit, kind_of(kind, durable=True), checked(id), text, known, fence)

    def put_new(self, kind: Kind, records: Mapping[str, Record]) -> Coroutine[Any, Any, None]:
        texts = {checked(id): to_text(record) for id, record in records.items()}
        return self._order(self._commit_new, kind_of(kind, durable=True), texts)

    def delete(self, kind: Kind, id: str, *, known: int | None = None) -> Outcome:
        return self._order(self._commit, kind_of(kind, durable=True), checked(id), None, known)

    def update(self, kind: Kind, records: Mapping[str, Record | None]) -> Coroutine[Any, Any, None]:
        return self._order(self._update, kind_of(kind, durable=False), records)

    async def logs(self) -> list[str]:
        return await self._order(self._logs.names)

    async def event_days(self) -> list[str]:
        return await self._order(self._logs.event_days)

    async def read_log(self, log: str) -> list[Record]:
        return await self._order(self._logs.read, checked(log))

    async def each_line(self, log: str, take: Callable[[bytes], object]) -> None:
        await self._order(self._logs.each_line, checked(log), take)

    def append(
        self, log: str, lines: Iterable[Record], *, durable: bool = False
    ) -> Coroutine[Any, Any, None]:
        if not durable:
            return self._order(self._logs.append, checked(log), lines)
        group = self._group
        if group is None or group.log != log:
            group = Group(checked(log), self._logs)
        outcome = self._order(group.commit, group.join(lines))
        self._group = group
        return outcome

    def replace_log(
        self, log: str, lines: Iterable[Record], *, as_read: bool = False
    ) -> Coroutine[Any, Any, None]:
        return self._order(self._logs.replace, checked(log), lines)

    def remove_log(self, log: str) -> Coroutine[Any, Any, None]:
        return self._order(self._logs.remove, checked(log))

    def listen(self) -> None:
        return

    def follow_log(self, log: str, take: Callable[[bytes], object] | None, *, own: bool = False) -> None:
        """Nobody else appends anything, and `own` is asked of a shared store alone."""

    async def catch_up(self) -> None:
        return

    async def write_anew(self) -> None:
        await self._order(self._write_anew)

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            released = self._order(lambda: os.close(self._lock))
            self._writer.shutdown(wait=False)
            await released

    def _order(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        self._group = None  # what is ordered later must not be done earlier
        return _outcome(self._writer.submit(work, *args, **kwargs))

    # in the writer thread

    def _load(self, kind: Kind) -> dict[str, Record]:
        if kind in self._lines:
            records: dict[str, Record] = json.loads(b"{%b}" % b",".join(self._lines[kind].values()))
            return records
        return {id: json.loads(text) for id, text in self._records[kind].items()}

    def _stored(self, kind: Kind) -> dict[str, Stored]:
        return {id: self._get(kind, id) for id in self._records[kind]}

    def _get(self, kind: Kind, id: str) -> Stored:
        text = self._records[kind].get(id)
        return NOTHING if text is None else Stored(self._stamps.of((kind, id)), json.loads(text))

    def _commit(
        self, kind: Kind, id: str, text: str | None, known: int | None, fence: int | None = None
    ) -> int:
        records = self._records[kind]
        before = records.get(id)
        self._stamps.check((kind, id), known, fence, lambda: self._get(kind, id))
        self._generation += 1
        set_record(records, id, text)
        change = Change(kind, id, self._generation, text)
        try:
            self._store([change, *(other for other in self._waiting.values() if other.key != change.key)])
        except OSError as error:
            set_record(records, id, before)
            raise StorageError(f"{kind}/{id} could not be saved in {self._folder}: {told(error)}") from error
        self._stamps.set(change.key, None if text is None else self._generation, fence)
        return self._generation

    def _commit_new(self, kind: Kind, texts: dict[str, str]) -> None:
        """Without the journal, which would not take them all."""
        for id in texts:
            self._stamps.check((kind, id), 0, None, partial(self._get, kind, id))
        self._generation += 1
        before = self._records[kind]
        self._records[kind] = before | texts
        try:
            with self._inventory.at_once():
                for id, text in texts.items():
                    self._write(Change(kind, id, self._generation, text))
        except OSError as error:
            self._records[kind] = before
            raise StorageError(f"{kind} could not be saved in {self._folder}: {told(error)}") from error
        for id in texts:
            self._stamps.set((kind, id), self._generation, None)

    def _store(self, changes: Iterable[Change]) -> None:
        """Write each change to its file, or to the journal if that fails. Raises OSError if the journal fails too."""
        waiting: dict[Key, Change] = {}
        for change in changes:
            try:
                self._write(change)
            except OSError as error:
                waiting[change.key] = change
                if self._waiting.get(change.key) != change:
                    log.warning(
                        "cannot write, so it goes to the journal record=%s/%s error=%s",
                        *change.key,
                        told(error),
                    )
        self._journal.write(waiting)
        if self._waiting and not waiting:
            log.warning("everything from the journal is in its own file now folder=%s", self._folder)
        self._waiting = waiting

    def _write(self, change: Change) -> None:
        self._files.write(change, self._records[change.kind], self._generation)

    def _write_anew(self) -> None:
        with usable(self._folder):
            self._lock = keep(self._lock, self._folder)
            make_subfolders(self._folder)
            self._journal.write_anew()
            self._inventory.write_anew()
            self._generation += 1
            for kind, records in self._records.items():
                for id, text in islice(records.items(), None if LAYOUTS[kind].one_each else 1):
                    if self._files.is_edited(kind, id):
                        self._write(Change(kind, id, self._generation, text))
        for kind, lines in self._lines.items():
            if lines and files.identity(LAYOUTS[kind].file(self._folder)) is None:
                self._update(kind, {})

    def _update(self, kind: Kind, records: Mapping[str, Record | None]) -> None:
        lines = self._lines[kind].copy()
        for id, record in records.items():
            set_record(lines, id, None if record is None else to_line(checked(id), to_text_unread(record)))
        self._generation += 1
        path = LAYOUTS[kind].file(self._folder)
        try:
            data = self._keyring.encode_lines(self._generation, lines.values(), self._files.name(path))
            files.replace(path, data, durable=False)
            self._inventory.add(self._files.name(path))
        except OSError as error:
            raise StorageError(f"{kind} could not be saved in {self._folder}: {told(error)}") from error
        self._lines[kind] = lines


def _lines(texts: Mapping[str, str]) -> dict[str, bytes]:
    return {id: to_line(id, text) for id, text in texts.items()}


async def _outcome(future: Future[T]) -> T:
    # Shielded: if the caller is cancelled, its queued write must not be.
    return await asyncio.shield(asyncio.wrap_future(future))
