"""JSON lines by day, in a folder of their own. No thread of the storage writes them, so that nothing waits for them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from proxy.errors import StorageError
from proxy.storage import files
from proxy.storage.layout import DAY
from proxy.storage.logs import AT_ONCE, GROWING, SUFFIX
from proxy.storage.protocols import Record

BLOCK: Final = 1 << 20
"""Bytes that are read at once from a file's end."""

MOST_BYTES: Final = 64 << 20
"""Of a file's end, in which its newest lines are looked for."""

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)


class DayFiles:
    """The files `<day>.jsonl` of a folder, which is made with the first line.

    Its methods block, and raise StorageError. No two may run at the same time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, day: str, lines: Iterable[Record]) -> None:
        """Append all of the lines, or none. A crash may lose the last ones.

        `lines` are made and encoded a few at a time: between two writes, other threads can go on.
        """
        path = self._folder / f"{day}{SUFFIX}"
        with _failing(path):
            files.make_folder(self._folder)
            fd = os.open(path, GROWING, files.FILE_MODE)
            try:
                os.fchmod(fd, files.FILE_MODE)  # the umask may have taken bits
                size = os.fstat(fd).st_size
                try:
                    _write(fd, size, iter(lines))
                except BaseException:
                    os.ftruncate(fd, size)
                    raise
            finally:
                os.close(fd)

    def newest(self, most: int) -> list[bytes]:
        """The last lines, oldest first, as they are in the files."""
        newest: list[bytes] = []
        for day in reversed(self.days()):
            path = self._folder / f"{day}{SUFFIX}"
            with _failing(path):
                newest[:0] = _tail(path, most - len(newest))
            if len(newest) == most:
                break
        return newest

    def remove_before(self, day: str) -> None:
        """Remove the files of earlier days."""
        for each in self.days():
            if each < day:
                path = self._folder / f"{each}{SUFFIX}"
                with _failing(path):
                    path.unlink(missing_ok=True)

    def days(self) -> list[str]:
        """The days that have a file, in order. Other files in the folder are ignored."""
        with _failing(self._folder):
            if not self._folder.is_dir():
                return []
            found = [path.stem for path in self._folder.iterdir() if path.suffix == SUFFIX]
        return sorted(day for day in found if DAY.fullmatch(day))


def _write(fd: int, size: int, lines: Iterator[Record]) -> None:
    # A crash in the middle of a line must not spoil the next one.
    torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
    start = b"\n" if torn else b""
    while piece := _encoded(islice(lines, AT_ONCE)):
        left = memoryview(start + piece)
        while left:
            left = left[os.write(fd, left) :]
        start = b""


def _encoded(lines: Iterable[Record]) -> bytes:
    # Clients choose some of the texts: half a surrogate pair, which UTF-8 does not have, becomes a question mark.
    return "".join(f"{_ENCODER.encode(line)}\n" for line in lines).encode("utf-8", "replace")


def _tail(path: Path, most: int) -> list[bytes]:
    """The last lines of a file, without a first one whose beginning was not read."""
    with files.opened(path) as file:
        if file is None:
            return []
        begin = size = file.seek(0, os.SEEK_END)
        blocks: list[bytes] = []
        ends = 0
        while begin > 0 and ends <= most and size - begin < MOST_BYTES:
            end, begin = begin, max(0, begin - BLOCK)
            file.seek(begin)
            blocks.append(file.read(end - begin))
            ends += blocks[-1].count(b"\n")
    lines = b"".join(reversed(blocks)).split(b"\n")
    whole = lines[1:] if begin else lines
    return [line for line in whole if line][-most:]


@contextlib.contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} is not read or saved ({files.told(error)})") from error
