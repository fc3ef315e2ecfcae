"""The interfaces of a storage, which keeps the engine's state across restarts and, if it is shared, over instances."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from proxy.errors import StorageError

Record = dict[str, Any]
"""A JSON object; storage does not know what it means."""

Kind = Literal["accounts", "tokens", "signins", "logins", "findings", "counters", "sessions", "quota"]
"""`counters`, `sessions` and `quota` are disposable (`update`), the others durable (`put`, `delete`).

`logins` are in shared stores alone: elsewhere they end with the process.
"""

Reader = Callable[[str, Record], object]
"""Reads the record of an id. Raises ValueError, which names the field and no value, if it is malformed."""

Outcome = Coroutine[Any, Any, int]


@dataclass(frozen=True, slots=True)
class Stored:
    """A durable record as it is in storage; None if there is none. A later write has a higher generation."""

    generation: int
    record: Record | None = field(repr=False)


NOTHING = Stored(0, None)


class Outdated(StorageError):
    """The record is not what the caller knows: `stored` is there. `stale`: a later holder of its lease has written."""

    def __init__(self, name: str, stored: Stored, *, stale: bool = False) -> None:
        super().__init__(f"{name} was changed by another instance")
        self.stored = stored
        self.stale = stale


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All records of a kind as they are now, and the generations of those that were deleted."""

    records: Mapping[str, Stored]
    deleted: Mapping[str, int]


class Follower(Protocol):
    """Hears of a kind's records that other instances have changed. It takes a note and returns."""

    def changed(self, id: str, stored: Stored) -> None:
        """One record was set or deleted."""

    def compare(self, snapshot: Snapshot) -> None:
        """Changes may have been missed: this is what is there now."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What one instance alone may do for a time. A later lease of the same name has a higher fence."""

    name: str
    fence: int


class Records(Protocol):
    """Durable records by kind and id. An id is 1 to 64 of `A-Z a-z 0-9 _ -`; others raise ValueError.

    A write copies its record and is queued when it is called, not when it is awaited. So later changes of the record
    do not matter, and cancelling the caller neither stops nor reorders the write.
    """

    @property
    def degraded(self) -> bool:
        """Whether writes reach only a place of last resort, or none: begin nothing that needs more of them."""

    @property
    def away(self) -> str | None:
        """Why the shared store is not asked now; None if it is, and if there is none."""

    @property
    def is_shared(self) -> bool:
        """Whether other instances change it too, so that a `put` has to say what it `knows`."""

    async def load(self, kind: Kind) -> dict[str, Record]:
        """All records by id, disposable ones too, as of every write queued before. Raises StorageError."""

    async def stored(self, kind: Kind) -> dict[str, Stored]:
        """All durable records with their generations, as `load`."""

    async def get(self, kind: Kind, id: str) -> Stored:
        """One durable record; NOTHING, or the generation of its deletion, if there is none. Raises StorageError."""

    def put(
        self, kind: Kind, id: str, record: Record, *, known: int | None = None, fence: int | None = None
    ) -> Outcome:
        """Set one record; durable when it is awaited, which gives its generation.

        `known`: the generation that is replaced, 0 for none; with None, whichever is there. Raises Outdated if there
        is another, or if `fence` is lower than that of a put before; StorageError if it failed: then the old or the
        new record is there, until the next write.
        """

    def put_new(self, kind: Kind, records: Mapping[str, Record]) -> Coroutine[Any, Any, None]:
        """Set records that are not there yet, as when a storage is filled; durable when it is awaited.

        It takes time in proportion to their number: with a `put` of each, their common file would be written as often.
        Raises Outdated if one is there; StorageError if it failed, without a try of the place of last resort: then any
        of them may be there.
        """

    def delete(self, kind: Kind, id: str, *, known: int | None = None) -> Outcome:
        """Remove one record, if there is one; as durable as `put`. Raises as it does."""

    async def write_anew(self) -> None:
        """Write from memory what somebody else has removed or changed in the data folder. Raises StorageError."""

    def follow(self, kind: Kind, follower: Follower) -> None:
        """Tell `follower` of what other instances have changed since the opening, once `listen` was called."""


class Counters(Protocol):
    """Disposable records: a power cut may lose their last changes. Records are not copied: do not change them."""

    async def load(self, kind: Kind) -> dict[str, Record]:
        """All records by id, as of every write queued before. Raises StorageError."""

    async def update(self, kind: Kind, records: Mapping[str, Record | None]) -> None:
        """Set these records of a disposable kind, and remove those that are None; the others stay.

        Raises StorageError: then none of them is set.
        """


class Logs(Protocol):
    """Named logs of lines. A crash costs a log its last lines at most, no durable one.

    Names are as ids. Lines are not copied, since thousands of them would block the event loop: do not change them. An
    iterator of lines makes them when they are written, which may be in another thread.
    """

    async def logs(self) -> list[str]:
        """The names of the logs of usage, in order: all but those of ROOT_LOGS. Raises StorageError."""

    async def event_days(self) -> list[str]:
        """The days that have a log of events, in order; `layout.event_log` names the log. Raises StorageError."""

    async def read_log(self, log: str) -> list[Record]:
        """The lines of a log, as of every write queued before; none if there is no such log.

        Damaged lines are left out, with one warning that counts them. Raises StorageError.
        """

    async def each_line(self, log: str, take: Callable[[bytes], object]) -> None:
        """Hand each line of a log to `take`, in order and in another thread; none if there is no such log.

        The bytes are JSON without the newline. Whatever the log's length is, one line at a time is held. A line for
        which `take` raises ValueError counts as damaged, as in `read_log`. Raises StorageError, after any number of
        lines.
        """

    async def append(self, log: str, lines: Iterable[Record], *, durable: bool = False) -> None:
        """Append lines to a log, which is created if missing; a power cut may lose them unless they are `durable`.

        Raises StorageError: then none of them is in the log, for as long as this process lives.
        """

    async def replace_log(self, log: str, lines: Iterable[Record], *, as_read: bool = False) -> None:
        """Set all lines of a log at once, durably. Raises StorageError: then the old or the new ones are there.

        They stand for what `each_line` has read and what was taken by following since; with `as_read`, for what was
        read alone. What other instances have appended besides is kept.

        `lines` are iterated in another thread, some at a time between writes. Other orders wait: 2 s for 300,000 lines.
        """

    async def remove_log(self, log: str) -> None:
        """Remove a log, if there is one. Raises StorageError."""

    def follow_log(self, log: str, take: Callable[[bytes], object] | None, *, own: bool = False) -> None:
        """Hand each line that another instance appends, after those that `each_line` has read, to `take`.

        With `own`, this instance's lines as well. None: follow it no longer.
        """

    async def catch_up(self) -> None:
        """Return when every line that is in a followed log by now has been taken. Raises StorageError."""


class Leases(Protocol):
    """Leases by name, each with one holder at a time."""

    async def take(self, name: str, ttl_s: float) -> Lease | None:
        """A lease for so long; None if somebody has it. Raises StorageError."""

    async def renew(self, lease: Lease, ttl_s: float) -> bool:
        """Keep a lease for so long from now. False if it has ended. Raises StorageError."""

    async def release(self, lease: Lease) -> None:
        """End a lease, if it has not ended. Raises StorageError."""


class Storage(Records, Counters, Logs, Leases, Protocol):
    """All of it."""

    @property
    def notices(self) -> Sequence[str]:
        """What was found and repaired at opening, one line each, for the log."""

    def listen(self) -> None:
        """Begin to tell those who follow: all of them are there."""

    async def close(self) -> None:
        """Finish the queued writes and release the lock. A second call does nothing."""
