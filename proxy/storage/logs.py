"""Append-only logs of JSON lines. A log can also be replaced whole or removed."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from proxy.errors import StorageError
from proxy.failpoints import failstep
from proxy.storage import files
from proxy.storage.codec import to_text
from proxy.storage.files import told
from proxy.storage.layout import ID, QUARANTINE, USAGE
from proxy.storage.protocols import Record

SUFFIX: Final = ".jsonl"
GROWING: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

log = logging.getLogger(__name__)


class Logs:
    """The logs of one folder, for use by one thread. All methods raise StorageError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._damaged: set[Path] = set()  # logs with lines that are left out
        self._whole: dict[Path, int] = {}  # the size before an append that failed and may have left a part

    def names(self) -> list[str]:
        """The names of the logs. Other files in the folder are ignored."""
        with _failing(self._folder):
            found = sorted(path for path in self._folder.iterdir() if path.suffix == SUFFIX)
        return [path.stem for path in found if ID.fullmatch(path.stem)]

    def read(self, name: str) -> list[Record]:
        path = self._path(name)
        with _failing(path):
            data = files.read(path) or b""
        lines: list[Record] = []
        damaged = 0
        for text in filter(None, data[: self._whole.get(path)].split(b"\n")):
            line = _line(text)
            if line is None:
                damaged += 1
                if text.endswith(b"}"):  # else a crash has cut it short, as crashes do
                    self._damaged.add(path)
            else:
                lines.append(line)
        if damaged:
            log.warning("damaged lines are left out file=%s lines=%s", path, damaged)
        return lines

    def append(self, name: str, lines: Sequence[Record]) -> None:
        """Append all of the lines or, as far as this process can tell, none."""
        path, data = self._path(name), _bytes(lines)
        with _failing(path):
            self._trim(path)
            fd = os.open(path, GROWING, files.FILE_MODE)
            try:
                os.fchmod(fd, files.FILE_MODE)  # the umask may have taken bits
                self._whole[path] = size = os.fstat(fd).st_size
                # A crash in the middle of a line must not spoil the next one.
                torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
                with failstep("storage.append"):
                    _write(fd, b"\n" + data if torn else data)
            finally:
                os.close(fd)
        del self._whole[path]

    def replace(self, name: str, lines: Sequence[Record]) -> None:
        path, data = self._path(name), _bytes(lines)
        with _failing(path):
            self._trim(path)  # first: after a failed replacement it is unknown which file is there
            if path in self._damaged:
                files.link_aside(path, self._folder.parent / QUARANTINE, f"{USAGE}-{path.name}")
            files.replace(path, data, durable=True)
            self._damaged.discard(path)

    def remove(self, name: str) -> None:
        path = self._path(name)
        with _failing(path):
            path.unlink(missing_ok=True)
        self._whole.pop(path, None)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{SUFFIX}"

    def _trim(self, path: Path) -> None:
        """Cut off what a failed append left."""
        whole = self._whole.get(path)
        if whole is not None:
            found = files.identity(path)
            if found is not None and found[2] > whole:
                os.truncate(path, whole)
            del self._whole[path]


def _bytes(lines: Sequence[Record]) -> bytes:
    return "".join(f"{to_text(line)}\n" for line in lines).encode()


def _line(text: bytes) -> Record | None:
    """Parse a line; None if it is not a JSON object. Less strict than for records, since a log has many lines."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


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
        raise StorageError(f"usage is not read or saved ({reason})") from error
