"""A request body, kept so that it can be sent again: in memory if small and if there is room, else in a file."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

SPOOL_ABOVE_BYTES = 4 * 1024 * 1024
SPOOLED = "body-"
"""What the names of such files begin with, on a file system that needs names (one without O_TMPFILE)."""

MEMORY_BYTES = 128 * 1024 * 1024
"""What all bodies of a proxy may take of its memory together. Each is kept to the end of its answer, so this is for
1,000 streams. Beyond it, each further one goes to a file sooner."""

NEVER_SPOOLED_BYTES = 16 * 1024
"""A body up to this size is not worth a file: 10,000 of them are 160 MB."""

KEPT_FREE_BYTES = 64 * 1024 * 1024
"""Bodies take no more of a disk than leaves this much: the tokens and the usage are on the same one, and a single
client may send as many bodies as it likes."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class Bodies:
    """What the request bodies of a proxy share: a folder, a budget of memory, and the turn to read one in a thread.

    Without a `folder`, large bodies go to the system's for temporary files.
    """

    def __init__(self, folder: Path | None, memory_bytes: int = MEMORY_BYTES) -> None:
        self.folder = folder
        self._memory_bytes = memory_bytes
        self.in_memory = 0  # bytes
        self.turn = asyncio.Lock()

    @property
    def full(self) -> bool:
        return self.in_memory > self._memory_bytes


class Body:
    """Collects a body, which can be read as often as needed. Its creator must close it."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._data: bytes | bytearray = b""
        self._file: BinaryIO | None = None
        self._working: asyncio.Future[Any] | None = None  # a thread, with the file
        self._closed = False
        self._held = 0  # bytes of it that are in memory
        self.size = 0

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Append data. What is returned is awaited first: it raises OSError if the file cannot be written."""
        self.size += len(data)
        self._held += len(data)
        self._bodies.in_memory += len(data)
        if self._file is not None:
            return self._spool(data)
        if not self._data:
            self._data = data
        else:
            if isinstance(self._data, bytes):
                self._data = bytearray(self._data)
            self._data += data
        if self.size <= NEVER_SPOOLED_BYTES:
            return None
        if self.size <= SPOOL_ABOVE_BYTES and not self._bodies.full:
            return None
        whole, self._data = self._data, b""
        return self._spool(whole)

    async def _spool(self, data: bytes | bytearray) -> None:
        try:
            if self._closed:
                return
            if self._file is None:
                # 0600 and without a name; `close` closes it.
                self._file = tempfile.TemporaryFile(  # noqa: SIM115
                    dir=self._bodies.folder, prefix=SPOOLED, buffering=0
                )
            await self._ended(self._start(partial(_write_all, self._file, data)))
        finally:
            self._give_back()

    def open(self) -> bytes | BinaryIO:
        """The body: its bytes, or the file at its start, for one reader at a time."""
        if self._file is not None:
            self._file.seek(0)
            return self._file
        if isinstance(self._data, bytearray):
            self._data = bytes(self._data)
        return self._data

    async def read_in_thread(self, read: Callable[[bytes | BinaryIO], T]) -> T:
        """Call `read` in a thread with what `open` returns.

        One body at a time: what reads it may need much memory and keep the interpreter's lock.
        """
        turn = self._bodies.turn
        await turn.acquire()
        try:
            working = self._start(partial(read, self.open()))
        except BaseException:
            turn.release()
            raise
        # Not sooner, also if nobody waits for it any more.
        working.add_done_callback(lambda _: turn.release())
        return await self._ended(working)

    def close(self) -> None:
        """Free memory and file, the file once no thread uses it: its number might be a socket's before that is done."""
        self._closed = True
        self._data = b""
        self._give_back()
        file, self._file = self._file, None
        if file is None:
            return
        if self._working is None:
            _close(file)
        else:
            self._working.add_done_callback(lambda _: _close(file))

    def _give_back(self) -> None:
        self._bodies.in_memory -= self._held
        self._held = 0

    def _start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have a thread do `work`."""
        self._working = working = asyncio.get_running_loop().run_in_executor(None, work)
        return working

    async def _ended(self, working: asyncio.Future[T]) -> T:
        try:
            return await asyncio.shield(working)  # a thread goes on when its task is cancelled
        finally:
            if working.done():
                self._working = None


def _close(file: BinaryIO) -> None:
    try:
        file.close()
    except (
        OSError
    ) as error:  # of what was written last, which nobody reads any more; the number is free (close(2))
        log.warning("closing the file of a body failed error=%s", error.strerror)


def _write_all(file: BinaryIO, data: bytes | bytearray) -> None:
    disk = os.fstatvfs(file.fileno())
    free = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and free < KEPT_FREE_BYTES + len(data):  # without blocks it has no limit
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]  # on a nearly full disk a write is partial, and the next one fails
