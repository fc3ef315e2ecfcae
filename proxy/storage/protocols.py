"""What the engine asks of whatever keeps its state across restarts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

Record = dict[str, Any]
"""A JSON object; storage does not know what it means."""

Kind = Literal["accounts", "tokens", "signins", "counters", "sessions"]
"""`counters` and `sessions` are disposable (`update`), the others durable (`put`, `delete`)."""


class Storage(Protocol):
    """Records by kind and id, and logs, which are lines by name, where nothing is lost to a crash but their end.

    An id, and a log's name, is 1 to 64 of `A-Z a-z 0-9 _ -`; another one is a ValueError.
    A write is taken down and ordered when it is called, not when it is awaited: what happens to the record
    afterwards does not matter, and cancelling the caller neither stops nor reorders it. Only the lines of a
    log and disposable records are storage's own from the call on, since taking down thousands would hold up
    everybody else.
    """

    @property
    def notices(self) -> Sequence[str]:
        """What opening found and mended, one line each, for the log."""

    @property
    def degraded(self) -> bool:
        """Whether writes only reach a place of last resort: nothing should be begun that needs another one."""

    async def load(self, kind: Kind) -> dict[str, Record]:
        """All records by id, after every write ordered before. Raises StorageError."""

    async def put(self, kind: Kind, id: str, record: Record) -> None:
        """Set one record; durable when this returns.

        Raises StorageError where that failed; then the old or the new record is there, until the next write.
        """

    async def delete(self, kind: Kind, id: str) -> None:
        """Remove one record, if there is one; as durable as `put`. Raises StorageError."""

    async def update(self, kind: Kind, records: Mapping[str, Record | None]) -> None:
        """Set these records of a disposable kind, and remove those that are None; the others stay.

        A power cut may lose it. Raises StorageError: then none of them is set.
        """

    async def logs(self) -> list[str]:
        """The names of all logs, in order. Raises StorageError."""

    async def read_log(self, log: str) -> list[Record]:
        """The lines of a log, after every write ordered before; none where there is no such log.

        What a crash or the disk damaged is left out, with one warning that counts it. Raises StorageError.
        """

    async def append(self, log: str, lines: Sequence[Record]) -> None:
        """Add lines to a log, and make it where it is missing; a power cut may lose them.

        Raises StorageError: then none of them is in the log, for as long as this process lives.
        """

    async def replace_log(self, log: str, lines: Sequence[Record]) -> None:
        """Set all lines of a log at once, durably. Raises StorageError: then the old or the new ones are there."""

    async def remove_log(self, log: str) -> None:
        """Remove a log, if there is one. Raises StorageError."""

    async def close(self) -> None:
        """Finish what was ordered and release what is held; a second time does nothing."""
