"""What lives in one account: the ids that were learnt from answers, and the home account of each group of keys."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

import msgspec

from proxy.clock import Clock, at_most_after
from proxy.errors import StorageError, StoreAway
from proxy.storage.protocols import Record, Storage

LOG = "resources"
VERSION = 1
DAY_S = 86_400

LIVES_DAYS: Final[Mapping[str, int]] = {"batches": 31, "containers": 31}
"""After so many days an id is forgotten: a batch ends within one, and its results go 29 days after it was made
(platform.claude.com/docs/en/build-with-claude/batch-processing); a container lives for 30."""

MOST_AT_ONCE = 1000
"""Lines that are appended in one call."""

MOST_OBSOLETE = 1000
"""Lines that say nothing any more are removed once there are more of them than this, and than of the others."""

log = logging.getLogger(__name__)


Key = tuple[str, str, str, int]


@dataclass(eq=False, slots=True)
class Holding:
    """Where a resource lives, and whose it is: shared by all that are alike. `day` is that of the epoch."""

    account_id: str
    group: str
    collection: str
    day: int
    count: int = 0
    """Of the resources that share it."""


class _Line(msgspec.Struct, omit_defaults=True):
    """A line of the log: the version, a resource, one that is gone, a group's home, or a batch that was counted."""

    version: int = 0
    id: str = ""
    account: str = ""
    group: str = ""
    in_: str = msgspec.field(default="", name="in")
    day: int = 0
    gone: str = ""
    home: str = ""
    counted: str = ""


_LINE: Final = msgspec.json.Decoder(_Line)


def read_line(text: bytes) -> _Line:
    """A line of the log. Raises ValueError if it is malformed, StorageError if a newer program wrote it."""
    line = _LINE.decode(text)
    if line.version > VERSION:
        raise StorageError(f"{LOG}.jsonl is of version {line.version}: start the newer program that wrote it")
    return line


class Resources:
    """Resources by id, in memory whole: a million take some 120 MB, and 4 s of a start.

    A change is in memory at once, and on disk once `save` has returned.
    """

    def __init__(self, storage: Storage, *, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._held: dict[str, Holding] = {}
        self._shared: dict[Key, Holding] = {}
        # by group and collection, then by account
        self._accounts: dict[tuple[str, str], dict[str, set[Holding]]] = {}
        self._groups: dict[str, Counter[str]] = {}  # by collection
        self._by_account: Counter[str] = Counter()
        self._homes: dict[str, str] = {}
        self._housed: Counter[str] = Counter()  # homes by account
        self._counted: dict[str, int] = {}  # the day on which a batch was
        self._pending: list[Record] = []
        self._untold: set[str] = set()  # learnt, and not on disk yet
        self._saving = asyncio.Lock()
        self._save_usage: Callable[[], Awaitable[None]] = _nothing
        self._lines = 0
        self.unsaved: str | None = None
        """Why the last write failed; None if it did not."""

    async def load(self) -> None:
        """Read the log, and rewrite it if most of it is obsolete. Raises StorageError.

        Two instances may give a group a home at once. All go by the last line of the log that they share, so each
        follows its own lines as well.
        """
        await self._storage.each_line(LOG, self._read)
        days = (holding.day for holding in self._shared.values())
        newest = max(chain(days, self._counted.values()), default=0) * DAY_S
        now = at_most_after(newest, self._clock.now())
        for id in [id for id, holding in self._held.items() if _is_over(holding, now)]:
            self._drop(id)
        today, lives = now // DAY_S, LIVES_DAYS["batches"]
        self._counted = {id: day for id, day in self._counted.items() if day + lives >= today}
        if self._lines - self._live > max(MOST_OBSOLETE, self._live):
            await self._storage.replace_log(LOG, self._all())  # nothing changes them until all is loaded
            self._lines = self._live
        self._storage.follow_log(LOG, self._read, own=True)

    @property
    def is_shared(self) -> bool:
        """Whether other instances learn of some as well."""
        return self._storage.is_shared

    async def catch_up(self) -> None:
        """Learn what other instances have learnt by now. Raises StorageError."""
        await self._storage.catch_up()

    @property
    def _live(self) -> int:
        return len(self._held) + len(self._homes) + len(self._counted)

    def _read(self, text: bytes) -> None:
        line = read_line(text)
        self._lines += 1
        if line.gone:
            self._drop(line.gone)
        elif line.home:
            self._house(line.home, line.account)
        elif line.counted:
            self._counted[line.counted] = line.day
        elif line.id:
            self._hold(line.id, (line.account, line.group, line.in_, line.day))

    def _all(self) -> Iterator[Record]:
        yield {"version": VERSION}
        for group, account_id in self._homes.items():
            yield {"home": group, "account": account_id}
        for id, day in self._counted.items():
            yield {"counted": id, "day": day}
        for id, holding in self._held.items():
            yield _record(id, holding)

    # resources

    def __len__(self) -> int:
        return len(self._held)

    def get(self, id: str) -> Holding | None:
        """Where the resource lives; None if it is not known."""
        holding = self._held.get(id)
        if holding is None or holding.collection not in LIVES_DAYS:  # the clock is asked for few
            return holding
        return None if _is_over(holding, self._clock.now()) else holding

    def learn(self, ids: Iterable[str], account_id: str, group: str, collection: str) -> bool:
        """Remember resources, if they are new. Whether any is not on disk yet: `save` before a client knows of it."""
        today = int(self._clock.now() // DAY_S)
        is_untold = False
        for id in ids:
            if self.get(id) is None:
                holding = self._hold(id, (account_id, group, collection, today))
                self._pending.append(_record(id, holding))
                self._untold.add(id)
            is_untold = is_untold or id in self._untold
        return is_untold

    def forget(self, id: str) -> None:
        """Remove a resource that was deleted."""
        if self._drop(id):
            self._pending.append({"gone": id})

    def is_counted(self, batch_id: str) -> bool:
        """Whether what the batch has used is counted."""
        return batch_id in self._counted

    def note_counted(self, batch_id: str) -> None:
        """Note that what the batch has used is counted. On disk after the next `save`."""
        day = self._counted[batch_id] = int(self._clock.now() // DAY_S)
        self._pending.append({"counted": batch_id, "day": day})

    def save_first(self, usage: Callable[[], Awaitable[None]]) -> None:
        """Have `usage` saved before it is on disk that a batch is counted: else a crash between loses what it used."""
        self._save_usage = usage

    def restore(self, lines: Iterable[Record]) -> None:
        """Take lines of the log that another process has made: on disk once `save` has returned."""
        for line in lines:
            self._read(msgspec.json.encode(line))
            self._lines -= 1  # of the log there is none yet
            if "version" not in line:
                self._pending.append(line)

    def accounts_of(self, group: str, collection: str) -> Iterable[str]:
        """The accounts in which the group has some of a collection."""
        now, accounts = self._clock.now(), self._accounts.get((group, collection), {})
        return [id for id, some in accounts.items() if not all(_is_over(holding, now) for holding in some)]

    def groups_of(self, collection: str) -> Iterable[str]:
        """The groups that have some of a collection."""
        return self._groups.get(collection, ())

    def has_others_than(self, group: str) -> bool:
        """Whether there are some of another group."""
        return any(other != group for groups in self._groups.values() for other in groups)

    def count_of(self, account_id: str) -> int:
        """The number of resources in an account."""
        return self._by_account[account_id]

    def _hold(self, id: str, key: Key) -> Holding:
        self._drop(id)
        holding = self._shared.get(key)
        if holding is None:
            holding = self._shared[key] = Holding(*key)
        self._held[id] = holding
        self._count(holding, 1)
        return holding

    def _drop(self, id: str) -> bool:
        holding = self._held.pop(id, None)
        if holding is not None:
            self._count(holding, -1)
        return holding is not None

    def _count(self, holding: Holding, by: int) -> None:
        holding.count += by
        self._by_account[holding.account_id] += by
        if not holding.count:
            del self._shared[holding.account_id, holding.group, holding.collection, holding.day]
        if holding.count == max(by, 0):  # the first one, or none is left
            accounts = self._accounts.setdefault((holding.group, holding.collection), {})
            some = accounts.setdefault(holding.account_id, set())
            some.add(holding) if by > 0 else some.remove(holding)
            _add(self._groups.setdefault(holding.collection, Counter()), holding.group, by)

    # homes

    def home(self, group: str) -> str | None:
        """The account to which what the group makes goes; None if it has none yet."""
        return self._homes.get(group)

    def homes_in(self, account_id: str) -> int:
        """The number of groups whose home the account is."""
        return self._housed[account_id]

    def house(self, group: str, account_id: str) -> None:
        """Set the home of a group."""
        if self._homes.get(group) != account_id:
            self._house(group, account_id)
            self._pending.append({"home": group, "account": account_id})

    def _house(self, group: str, account_id: str) -> None:
        before = self._homes.get(group)
        if before is not None:
            self._housed[before] -= 1
        self._homes[group] = account_id
        self._housed[account_id] += 1

    # to disk

    async def save(self) -> None:
        """Append what is new, durably. Raises StorageError: then it is tried again with the next one.

        One at a time, in parts, each of which a slow store takes in time: what comes before the last one goes with it.
        """
        async with self._saving:
            try:
                for _ in range(0, len(self._pending), MOST_AT_ONCE):
                    await self._append()
            except StorageError as error:
                self._failed(error)
                raise
            self.unsaved = None

    async def _append(self) -> None:
        if (away := self._storage.away) is not None:  # then nothing is made ready for it
            raise StoreAway(away)
        pending, self._pending = self._pending[:MOST_AT_ONCE], self._pending[MOST_AT_ONCE:]
        lines = pending if self._lines else [{"version": VERSION}, *pending]
        try:
            if any("counted" in line for line in pending):
                await self._save_usage()
            await self._storage.append(LOG, lines, durable=True)
        except BaseException:  # also if the client left: nobody would hear whether it was written
            self._pending = pending + self._pending
            raise
        self._lines += len(lines)
        self._untold.difference_update(str(line["id"]) for line in pending if "id" in line)

    def _failed(self, error: StorageError) -> None:
        if self.unsaved is None:
            log.error("resources are not saved, kept in memory lines=%d error=%s", len(self._pending), error)
        self.unsaved = str(error)

    async def left(self) -> list[str]:
        """What is not on disk yet, for people."""
        return [f"where {len(self._pending)} files, batches and the like live"] if self._pending else []


async def _nothing() -> None:
    """Stand in for the usage until it is known how to save it."""


def _is_over(holding: Holding, now: float) -> bool:
    lives = LIVES_DAYS.get(holding.collection)
    return lives is not None and holding.day + lives < now // DAY_S


def _add(counts: Counter[str], what: str, by: int) -> None:
    counts[what] += by
    if not counts[what]:
        del counts[what]


def _record(id: str, holding: Holding) -> Record:
    return {
        "id": id,
        "account": holding.account_id,
        "group": holding.group,
        "in": holding.collection,
        "day": holding.day,
    }
