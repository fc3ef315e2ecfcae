"""Whether the audit log is as it was written: a look at the files of events, without a write and without the lock, or
at a shared store."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.errors import StorageError
from proxy.storage import files
from proxy.storage.chain import START, Chain
from proxy.storage.folder import is_ours, refuse_unfinished, usable
from proxy.storage.layout import DAY, EVENTS, LAYOUTS, backup, event_log
from proxy.storage.protocols import Kind, Storage
from proxy.storage.recovery import stored

REMOVED: Final = "audit.removed"
"""The kind of the event that tells of days removed by age; `after.last_sha256` is the hash of their last line."""

MOST_SHOWN: Final = 10
"""Of the places that do not fit."""

MOST_LINE_BYTES: Final = 1 << 20
"""Of more, a line is none that was written here."""

_CHANGED: Final = (
    "it does not follow the line before it: that was changed, or lines between them were removed"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many events there are, and what does not fit, each with file and line, for people."""

    events: int
    problems: list[str]


def verify(folder: Path) -> Verdict:
    """Read all events of a data folder. Raises OSError."""
    look = _Look()
    for path in _files(folder / EVENTS):
        for number, line in enumerate(_lines(path), 1):
            look.at(f"{EVENTS}/{path.name}, line {number}", line)
        look.day_ended()
    return look.verdict()


def verified(folder: Path) -> str:
    """What is said of an audit log that is as it was written. Raises StorageError, which says what does not fit."""
    with usable(folder):
        refuse_unfinished(folder)
        verdict = verify(folder)
        if not is_ours(folder):
            raise StorageError(
                f"data folder {folder} holds nothing of this program: set storage.data_folder to the right one"
            )
        kept = {kind for kind, path in stored(folder) if path.exists() or backup(path).exists()}
    return _told(verdict, str(folder), kept)


async def verified_in(storage: Storage, name: str) -> str:
    """As `verified`, of a storage that is called `name`. Raises StorageError."""
    look = _Look()
    for day in await storage.event_days():
        numbers = itertools.count(1)

        def take(line: bytes, day: str = day, numbers: Iterator[int] = numbers) -> None:
            look.at(f"{EVENTS} of {day}, line {next(numbers)}", line + b"\n")

        await storage.each_line(event_log(day), take)
        look.day_ended()
    kept = {kind for kind in LAYOUTS if await storage.load(kind)}
    return _told(look.verdict(), name, kept)


def _told(verdict: Verdict, name: str, kept: Collection[Kind]) -> str:
    """`kept`: the kinds of which there are records; no durable one is made without an event."""
    if verdict.problems:
        shown = "; ".join(verdict.problems[:MOST_SHOWN])
        more = (
            f"; and {len(verdict.problems) - MOST_SHOWN} more" if len(verdict.problems) > MOST_SHOWN else ""
        )
        raise StorageError(f"the audit log in {name} is not as it was written: {shown}{more}")
    of = [kind for kind in LAYOUTS if kind in kept and LAYOUTS[kind].durable]
    if of and not verdict.events:
        raise StorageError(
            f"the audit log in {name} is gone: there are {', '.join(of)}, and no event that tells of them"
        )
    return f"ok, {verdict.events} event{'s' * (verdict.events != 1)}"


class _Look:
    """Goes through the lines of all files, in order."""

    def __init__(self) -> None:
        self._chain = Chain()
        self._problems: list[str] = []
        self._first = ""
        self._unread = ""  # the last line that is no event, until one follows
        self._is_cut = False  # whether that has no newline
        self._removed = START
        self._ends: set[str | None] = set()  # the hashes of the last lines of the days

    def at(self, place: str, line: bytes) -> None:
        """Look at one line, with its newline if it has one."""
        text = line.rstrip(b"\n")
        before = self._chain.lines
        fits = self._chain.take(text)
        if self._chain.lines == before:
            # A crash cuts the last line short: no problem, since no one was told that it is there. Of one that was
            # whole once, the next line tells.
            self._unread = place if text else self._unread
            self._is_cut = text == line
            return
        self._first = self._first or place
        if not fits:
            unread = f"; {self._unread} is no event" if self._unread else ""
            self._problems.append(f"{place}: {_CHANGED}{unread}")
        self._unread = ""
        self._removed = _removed(text) or self._removed

    def day_ended(self) -> None:
        """What was looked at last is the last line of its day."""
        self._ends.add(self._chain.head)

    def verdict(self) -> Verdict:
        if self._unread and not self._is_cut:
            self._problems.append(f"{self._unread}: it is no event")
        # If the last day to be removed is there, the removal was interrupted: the days before it may be gone.
        if self._chain.first not in (None, START, self._removed) and self._removed not in self._ends:
            self._problems.append(f"{self._first}: it does not begin the log: what was before it is gone")
        return Verdict(self._chain.lines, self._problems)


def _files(folder: Path) -> list[Path]:
    found = folder.glob("*.jsonl") if folder.is_dir() else ()
    return sorted(path for path in found if DAY.fullmatch(path.stem))


def _lines(path: Path) -> Iterator[bytes]:
    """The lines, a very long one in pieces."""
    with os.fdopen(os.open(path, files.OLD), "rb") as file:
        while line := file.readline(MOST_LINE_BYTES):
            yield line


def _removed(line: bytes) -> str | None:
    """The hash of the last line that was removed by age, if the line tells of that."""
    if REMOVED.encode() not in line:
        return None
    event = json.loads(line)
    return str(event["after"]["last_sha256"]) if event["kind"] == REMOVED else None
