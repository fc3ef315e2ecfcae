"""Durable appends to a log that wait at the same time share one fsync, which takes most of their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.errors import StorageError
from proxy.storage.logs import Logs, encoded
from proxy.storage.protocols import Record


@dataclass(slots=True)
class Share:
    """One append of a group. `failure` is why its lines are not in the log, if that is known."""

    lines: Iterable[Record]
    is_durable: bool = False
    failure: Exception | None = None


class Group:
    """Appends to one log with no other order between them. The first whose turn it is writes all that wait."""

    def __init__(self, log: str, logs: Logs) -> None:
        self.log = log
        self._logs = logs
        self._waiting: deque[Share] = deque()  # filled by the event loop, emptied by the writer thread

    def join(self, lines: Iterable[Record]) -> Share:
        """Add an append; the caller then orders its `commit`."""
        share = Share(lines)
        self._waiting.append(share)
        return share

    def commit(self, share: Share) -> None:
        """Make the lines of this append durable. For the writer thread. Raises StorageError, TypeError, ValueError."""
        if not share.is_durable and share.failure is None:
            self._commit_waiting()
        if not share.is_durable:
            raise share.failure or StorageError(f"{self.log}: what was written along with this has failed")

    def _commit_waiting(self) -> None:
        data: list[bytes] = []
        sound: list[Share] = []
        while self._waiting:
            share = self._waiting.popleft()
            try:
                data.append(encoded(share.lines))
                sound.append(share)
            except (TypeError, ValueError) as error:
                share.failure = error
        if not sound:
            return
        try:
            self._logs.append_encoded(self.log, b"".join(data), durable=True)
        except StorageError as error:
            for share in sound:
                share.failure = StorageError(str(error))
        else:
            for share in sound:
                share.is_durable = True
