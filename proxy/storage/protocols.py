"""The interface of a storage, which keeps the engine's state across restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

Record = dict[str, Any]
"""A JSON object; storage does not know what it means."""

Kind = Literal["accounts", "tokens", "signins", "findings", "counters", "sessions", "quota"]
"""`counters`, `sessions` and `quota` are disposable (`update`), the others durable (`put`, `delete`)."""

Reader = Callable[[str, Record], object]
"""Reads the record of an id. Raises ValueError, which names the field and no value, if it is malformed."""


class Storage(Protocol):
    """Records by kind and id, and named logs of lines. A crash costs a log its last lines at most, no durable one.

    An id or a log's name is 1 to 64 of `A-Z a-z 0-9 _ -`; others raise ValueError.
    A write copies its record and is queued when it is called, not when it is awaited. So later changes of the record
    do not matter, and cancelling the caller neither stops nor reorders the write. Lines of a log and disposable
    records are not copied, since thousands of them would block the event loop: the caller must not change them.
    """

    @property
    def notices(self) -> Sequence[str]:
        """What was found and repaired at opening, one line each, for the log."""

    @property
    def degraded(self) -> bool:
        """Whether writes reach only a place of last resort: the caller should begin nothing that needs more of them."""

    async def load(self, kind: Kind) -> dict[str, Record]:
        """All records by id, as of every write queued before. Raises StorageError."""

    async def put(self, kind: Kind, id: str, record: Record) -> None:
        """Set one record; durable when this returns.

        Raises StorageError if that failed; then the old or the new record is there, until the next write.
        """

    async def delete(self, kind: Kind, id: str) -> None:
        """Remove one record, if there is one; as durable as `put`. Raises StorageError."""

    async def update(self, kind: Kind, records: Mapping[str, Record | None]) -> None:
        """Set these records of a disposable kind, and remove those that are None; the others stay.

        A power cut may lose it. Raises StorageError: then none of them is set.
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

    async def append(self, log: str, lines: Sequence[Record], *, durable: bool = False) -> None:
        """Append lines to a log, which is created if missing; a power cut may lose them unless they are `durable`.

        Raises StorageError: then none of them is in the log, for as long as this process lives.
        """

    async def replace_log(self, log: str, lines: Iterable[Record]) -> None:
        """Set all lines of a log at once, durably. Raises StorageError: then the old or the new ones are there.

        `lines` are iterated in another thread, some at a time between writes. Other orders wait: 2 s for 300,000 lines.
        """

    async def remove_log(self, log: str) -> None:
        """Remove a log, if there is one. Raises StorageError."""

    async def close(self) -> None:
        """Finish the queued writes and release the lock. A second call does nothing."""
