"""Moving everything from one storage to another one: an empty one, which is read again and compared at the end."""

from __future__ import annotations

import asyncio
import filecmp
import hashlib
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Final

from proxy.errors import StorageError
from proxy.storage import files
from proxy.storage.codec import to_text_unread
from proxy.storage.day_files import BLOCK, DayFiles
from proxy.storage.folder import usable
from proxy.storage.layout import LAYOUTS, REQUESTS, ROOT_LOGS, event_log
from proxy.storage.logs import SUFFIX, parse
from proxy.storage.protocols import Kind, Record, Storage

AT_ONCE: Final = 500
"""Records or lines of one write."""

PATIENCE_S: Final = 60.0


async def migrate(
    source: Storage,
    target: Storage,
    unfinished: AbstractAsyncContextManager[None],
    requests: tuple[Path, Path] | None = None,
) -> Mapping[str, int]:
    """Copy all records and logs. Returns how many there are, by kind and log. Raises StorageError.

    A target that is not empty is refused, and a source that is. After a failure the target holds a part: empty it, and
    begin again. `unfinished` is entered as the first is written, and left once all of it was compared. `requests` are
    the folders of a request log, which no storage has: where it is, and where it goes.
    """
    filled = await _filled(target)
    if requests is not None and all(DayFiles(folder).days() for folder in requests):
        filled.append(str(requests[1]))
    if filled:
        raise StorageError(
            f"there is something already ({', '.join(filled[:5])}): name an empty folder or store"
        )
    if not await _filled(source):
        raise StorageError("there is nothing to move: name the folder or store that has it")
    async with unfinished:
        for kind in LAYOUTS:
            await _copy(kind, source, target)
        for log in await _logs(source):
            await _Copied(log, target).all_of(source)
        found, wanted = await _contents(target), await _contents(source)
        names = wanted.keys() | found.keys()
        if differing := sorted(name for name in names if wanted.get(name) != found.get(name)):
            raise StorageError(f"what was written is not what was read: {', '.join(differing)}")
        counts = {name: count for name, (count, _) in found.items()}
        if requests is not None:
            with usable(requests[1].parent):
                counts["request log, days"] = copy_requests(*requests)
    return counts


def copy_requests(source: Path, target: Path) -> int:
    """Copy the days of a request log to where there is none, and compare them. Returns how many. It blocks.

    Raises StorageError, OSError.
    """
    days = DayFiles(source).days()
    for day in days:
        name = f"{day}{SUFFIX}"
        files.make_folder(target)
        with (source / name).open("rb") as file:
            files.replace(target / name, iter(partial(file.read, BLOCK), b""), durable=True)
        if not filecmp.cmp(source / name, target / name, shallow=False):
            raise StorageError(f"what was written is not what was read: {REQUESTS}/{name}")
    return len(days)


async def _filled(storage: Storage) -> list[str]:
    """The kinds and logs that hold something."""
    filled: list[str] = [kind for kind in LAYOUTS if await storage.load(kind)]
    return filled + [log for log in await _logs(storage) if (await _content(storage, log))[0]]


async def _copy(kind: Kind, source: Storage, target: Storage) -> None:
    records = await source.load(kind)
    if LAYOUTS[kind].durable:
        await target.put_new(kind, records)
        return
    items = list(records.items())
    for start in range(0, len(items), AT_ONCE):
        await target.update(kind, dict(items[start : start + AT_ONCE]))


async def _logs(storage: Storage) -> list[str]:
    return [*ROOT_LOGS, *await storage.logs(), *map(event_log, await storage.event_days())]


class _Copied:
    """Takes the lines of a log in the source's thread, and has them written by the event loop, some at a time."""

    def __init__(self, log: str, target: Storage) -> None:
        self._log = log
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._lines: list[Record] = []

    async def all_of(self, source: Storage) -> None:
        await source.each_line(self._log, self._take)
        if self._lines:
            await self._target.append(self._log, self._lines, durable=True)

    def _take(self, line: bytes) -> None:
        self._lines.append(parse(line))
        if len(self._lines) == AT_ONCE:
            lines, self._lines = self._lines, []
            asyncio.run_coroutine_threadsafe(self._append(lines), self._loop).result(PATIENCE_S)

    async def _append(self, lines: list[Record]) -> None:
        await self._target.append(self._log, lines)


async def _contents(storage: Storage) -> dict[str, tuple[int, str]]:
    """How much there is, and its hash, by kind and log; but for logs without lines."""
    found: dict[str, tuple[int, str]] = {}
    for kind in LAYOUTS:
        records = await storage.load(kind)
        texts = sorted(f"{id} {to_text_unread(record)}" for id, record in records.items())
        found[kind] = len(texts), hashlib.sha256("\n".join(texts).encode()).hexdigest()
    for log in await _logs(storage):
        content = await _content(storage, log)
        if content[0]:
            found[log] = content
    return found


async def _content(storage: Storage, log: str) -> tuple[int, str]:
    digest, count = hashlib.sha256(), Counter[str]()

    def take(line: bytes) -> None:
        digest.update(to_text_unread(parse(line)).encode() + b"\n")
        count["lines"] += 1

    await storage.each_line(log, take)
    return count["lines"], digest.hexdigest()
