"""What ends after a process has given up its data folder: handed to the process that has the folder now.

An upgrade starts the new process while the old one's streams still run. The old one gives up the lock, and what its
streams add from then on becomes files in a folder of their own, which the new one reads and removes. Each is written
whole and durably under a name of its own, so two processes never write one file.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.storage import files
from proxy.storage.files import told
from proxy.storage.layout import DAY, HANDED
from proxy.storage.protocols import Follower, Kind, Lease, Outcome, Record, Stored

USAGE: Final = "usage"
SPENDING: Final = "spending"
LOGS: Final = ("resources", SPENDING)
"""Beside the days of usage."""

TAKEN_WITHIN_S: Final = 1.0
"""How long a durable append waits for the new process to know of it: a client may use at once what it was told."""
LOOK_S: Final = 0.02

Restore = Callable[[Sequence[Record]], None]

log = logging.getLogger(__name__)


class HandOver:
    """Implements Storage for a process whose folder is another one's: it takes a few logs, and refuses all else."""

    notices: Sequence[str] = ()
    degraded = True
    away = None
    is_shared = False

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder / HANDED
        self._clock = clock
        self._numbers = itertools.count()

    async def append(self, log: str, lines: Iterable[Record], *, durable: bool = False) -> None:
        if log not in LOGS and not DAY.fullmatch(log):
            self._refuse()
        path = self._folder / f"{os.getpid()}-{next(self._numbers)}.json"
        data = json.dumps({"log": log, "lines": list(lines)}).encode()
        try:
            await asyncio.to_thread(files.replace, path, data, durable=True)
        except OSError as error:
            raise StorageError(f"{log} could not be handed over in {path.parent}: {told(error)}") from error
        if durable:
            await self._taken(path)

    async def _taken(self, path: Path) -> None:
        end = self._clock.monotonic() + TAKEN_WITHIN_S
        while await asyncio.to_thread(path.exists) and self._clock.monotonic() < end:
            await self._clock.sleep(LOOK_S)

    # All else belongs to the other process.

    async def load(self, kind: Kind) -> dict[str, Record]:
        self._refuse()

    async def stored(self, kind: Kind) -> dict[str, Stored]:
        self._refuse()

    async def get(self, kind: Kind, id: str) -> Stored:
        self._refuse()

    async def logs(self) -> list[str]:
        self._refuse()

    async def event_days(self) -> list[str]:
        self._refuse()

    async def read_log(self, log: str) -> list[Record]:
        self._refuse()

    async def each_line(self, log: str, take: Callable[[bytes], object]) -> None:
        self._refuse()

    def put(
        self, kind: Kind, id: str, record: Record, *, known: int | None = None, fence: int | None = None
    ) -> Outcome:
        return self._refused()

    def put_new(self, kind: Kind, records: Mapping[str, Record]) -> Coroutine[Any, Any, None]:
        return self._refused()

    def delete(self, kind: Kind, id: str, *, known: int | None = None) -> Outcome:
        return self._refused()

    def update(self, kind: Kind, records: Mapping[str, Record | None]) -> Coroutine[Any, Any, None]:
        return self._refused()

    def replace_log(
        self, log: str, lines: Iterable[Record], *, as_read: bool = False
    ) -> Coroutine[Any, Any, None]:
        return self._refused()

    def remove_log(self, log: str) -> Coroutine[Any, Any, None]:
        return self._refused()

    async def take(self, name: str, ttl_s: float) -> Lease | None:
        self._refuse()

    async def renew(self, lease: Lease, ttl_s: float) -> bool:
        return False

    async def release(self, lease: Lease) -> None:
        return

    async def write_anew(self) -> None:
        """Nothing is written but what is handed over."""

    async def close(self) -> None:
        """Nothing is held."""

    def follow(self, kind: Kind, follower: Follower) -> None:
        """What the other process changes is not told here."""

    def follow_log(self, log: str, take: Callable[[bytes], object] | None, *, own: bool = False) -> None:
        """What the other process appends is not told here."""

    def listen(self) -> None:
        return

    async def catch_up(self) -> None:
        return

    async def _refused(self) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise StorageError(
            f"data folder {self._folder.parent} is in use by the process that follows this one"
        )


class TakeOver:
    """Reads what former processes have handed over.

    `restores` take the lines of each log, `saves` store what they add.
    """

    def __init__(
        self, folder: Path, restores: Mapping[str, Restore], saves: Sequence[Callable[[], Awaitable[None]]]
    ) -> None:
        self._folder = folder / HANDED
        self._restores = restores
        self._saves = saves
        self._done: set[Path] = set()  # taken, and perhaps not removed yet

    async def take(self) -> None:
        """Take what there is, store it, and only then remove it. Raises StorageError: then it is tried again."""
        found = [path for path in self._folder.glob("*.json") if path.name[0] != "."]
        if not found:
            return
        for path in sorted(set(found) - self._done):
            self._take(path)
            self._done.add(path)
        for save in self._saves:
            await save()
        try:
            for path in found:
                path.unlink(missing_ok=True)
                self._done.discard(path)
        except OSError as error:
            raise StorageError(f"{path} is taken and cannot be removed: {told(error)}") from error

    def _take(self, path: Path) -> None:
        try:
            handed = json.loads(path.read_bytes())
            name, lines = handed["log"], handed["lines"]
            self._restores[USAGE if DAY.fullmatch(name) else name](lines)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("what was handed over cannot be read, and is kept as %s.bad error=%r", path, error)
            path.rename(f"{path}.bad")
