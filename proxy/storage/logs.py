"""Append-only logs of JSON lines. A log can also be replaced whole or removed."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from proxy.errors import StorageError
from proxy.failpoints import failstep
from proxy.storage import files
from proxy.storage.codec import to_text_unread
from proxy.storage.files import told
from proxy.storage.inventory import Inventory
from proxy.storage.layout import DAY, EVENTS, ID, QUARANTINE, USAGE, log_file
from proxy.storage.protocols import Record

SUFFIX: Final = ".jsonl"
GROWING: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

AT_ONCE: Final = 50
"""Lines of a replacement that are encoded between two writes. With 500, the event loop waited several times as long."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Seen:
    """What a log was found to hold: `lines` that were read, and `damaged` ones."""

    lines: int = 0
    damaged: int = 0
    by_crash: bool = True  # each damaged line has lost its end, as happens in a crash


class Logs:
    """The logs of one folder, for use by one thread. All methods raise StorageError."""

    def __init__(self, folder: Path, inventory: Inventory) -> None:
        self._folder = folder
        self._inventory = inventory
        self._damaged: set[Path] = set()  # logs with lines that are left out
        self._whole: dict[Path, int] = {}  # the size before an append that failed and may have left a part

    def names(self) -> list[str]:
        """The names of the logs of usage. Other files in the folder are ignored."""
        return [path.stem for path in self._in(USAGE) if self._path(path.stem) == path]

    def event_days(self) -> list[str]:
        """The days that have a log of events, as `2026-11-29`. Other files in the folder are ignored."""
        return [path.stem for path in self._in(EVENTS) if DAY.fullmatch(path.stem)]

    def _in(self, folder: str) -> list[Path]:
        place = self._folder / folder
        with _failing(place):
            return sorted(p for p in place.iterdir() if p.suffix == SUFFIX and ID.fullmatch(p.stem))

    def read(self, name: str) -> list[Record]:
        lines: list[Record] = []
        self.each_line(name, lambda text: lines.append(parse(text)))
        return lines

    def each_line(self, name: str, take: Callable[[bytes], object]) -> None:
        """Hand each line to `take`, as `each_line` does, and log a warning if some are damaged."""
        path = self._path(name)
        with _failing(path):
            seen = each_line(path, take, self._whole.get(path))
        if not seen.by_crash:
            self._damaged.add(path)
        if seen.damaged:
            log.warning("damaged lines are left out file=%s lines=%s", path, seen.damaged)

    def append(self, name: str, lines: Iterable[Record]) -> None:
        """Append all of the lines or, as far as this process can tell, none."""
        self.append_encoded(name, encoded(lines), durable=False)

    def append_encoded(self, name: str, data: bytes, *, durable: bool) -> None:
        path = self._path(name)
        with _failing(path):
            self._trim(path)
            is_new = files.identity(path) is None
            fd = os.open(path, GROWING, files.FILE_MODE)
            try:
                os.fchmod(fd, files.FILE_MODE)  # the umask may have taken bits
                self._whole[path] = size = os.fstat(fd).st_size
                if not size:
                    self._begin(path, is_new)
                # A crash in the middle of a line must not spoil the next one.
                torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
                with failstep("storage.append"):
                    _write(fd, b"\n" + data if torn else data)
                if durable:
                    with failstep("storage.append_fsync"):
                        os.fsync(fd)
            finally:
                os.close(fd)
        del self._whole[path]

    def replace(self, name: str, lines: Iterable[Record]) -> None:
        path = self._path(name)
        with _failing(path):
            self._trim(path)  # first: after a failed replacement it is unknown which file is there
            if path in self._damaged:
                files.link_aside(path, self._folder / QUARANTINE, self._name(path).replace("/", "-"))
            files.replace(path, _pieces(lines), durable=True)
            self._list(path)
            self._damaged.discard(path)

    def remove(self, name: str) -> None:
        path = self._path(name)
        with _failing(path):
            self._inventory.drop(self._name(path))
            path.unlink(missing_ok=True)
        self._whole.pop(path, None)

    def _path(self, name: str) -> Path:
        return log_file(self._folder, name)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._folder))

    def _begin(self, path: Path, is_new: bool) -> None:
        """Make durable that there is this file, before anything is in it."""
        if is_new and self._name(path) in self._inventory:
            log.warning("removed by somebody else, so begun anew file=%s", path)
        with failstep("storage.dirsync"):
            files.sync_folder(path.parent)
        self._list(path)

    def _list(self, path: Path) -> None:
        if path.parent == self._folder:
            self._inventory.add(path.name)

    def _trim(self, path: Path) -> None:
        """Cut off what a failed append left."""
        whole = self._whole.get(path)
        if whole is not None:
            found = files.identity(path)
            if found is not None and found[2] > whole:
                os.truncate(path, whole)
            del self._whole[path]


def each_line(path: Path, take: Callable[[bytes], object], size: int | None = None) -> Seen:
    """Hand each line to `take`, without its newline; one for which it raises ValueError is damaged. Raises OSError.

    With `size`, only so many bytes are read. No more than a buffer and a line are held.
    """
    seen, left = Seen(), sys.maxsize if size is None else size
    with files.opened(path) as file:
        for line in file or ():
            text = line[: max(left, 0)].rstrip(b"\n")
            left -= len(line)
            if not text:
                continue
            try:
                take(text)
                seen.lines += 1
            except (ValueError, RecursionError):
                seen.damaged += 1
                seen.by_crash = seen.by_crash and not text.endswith(b"}")
    return seen


def parse(text: bytes) -> Record:
    """Parse a line. Less strict than for records, since a log has many lines. Raises ValueError, RecursionError."""
    line = json.loads(text)
    if not isinstance(line, dict):
        raise ValueError("it is not a JSON object")
    return line


def encoded(lines: Iterable[Record]) -> bytes:
    """The lines as they are in a log. Raises TypeError or ValueError if one could not be read back."""
    return "".join(f"{to_text_unread(line)}\n" for line in lines).encode()


def _pieces(lines: Iterable[Record]) -> Iterator[bytes]:
    rest = iter(lines)
    while piece := encoded(islice(rest, AT_ONCE)):
        yield piece


def _write(fd: int, data: bytes) -> None:
    """Write all of the data. On a disk that gets full, the last write is short, but no error."""
    left = memoryview(data)
    while left:
        written = os.write(fd, left)
        if not written:
            raise OSError(errno.EIO, "nothing is written any more")
        left = left[written:]


@contextlib.contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = told(error) if error.filename else f"{path}: {told(error)}"
        what = next((name for name in (USAGE, EVENTS) if name in (path.name, path.parent.name)), path.name)
        raise StorageError(f"{what} is not read or saved ({reason})") from error
