"""A request body, kept so that it can be sent again: in memory if small, else in a file of its own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

SPOOL_ABOVE_BYTES = 4 * 1024 * 1024
SPOOLED = "body-"
"""What the names of such files begin with, on a file system that needs names (one without O_TMPFILE)."""

T = TypeVar("T")


class Body:
    """Collects a body, which can be read as often as needed. Its creator must close it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder  # a large body's file is made here
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None
        self._working: asyncio.Future[Any] | None = None  # a thread, with the file
        self._closed = False
        self.size = 0

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Append data. What is returned is awaited first: it raises OSError if the file cannot be written."""
        self.size += len(data)
        if self._file is None:
            self._chunks.append(data)
            if self.size <= SPOOL_ABOVE_BYTES:
                return None
            data = b"".join(self._chunks)
            self._chunks.clear()
        return self._spool(data)

    async def _spool(self, data: bytes) -> None:
        if self._closed:
            return
        if self._file is None:
            # 0600 and without a name; `close` closes it.
            self._file = tempfile.TemporaryFile(dir=self._folder, prefix=SPOOLED, buffering=0)  # noqa: SIM115
        await self._in_thread(partial(_write_all, self._file, data))

    def open(self) -> bytes | BinaryIO:
        """The body: its bytes, or the file at its start, for one reader at a time."""
        if self._file is not None:
            self._file.seek(0)
            return self._file
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0] if self._chunks else b""

    async def read_in_thread(self, read: Callable[[bytes | BinaryIO], T]) -> T:
        """Call `read` in a thread with what `open` returns."""
        return await self._in_thread(partial(read, self.open()))

    def close(self) -> None:
        """Free memory and file, the file once no thread uses it: its number might be a socket's before that is done."""
        self._closed = True
        self._chunks.clear()
        file, self._file = self._file, None
        if file is None:
            return
        if self._working is None:
            file.close()
        else:
            self._working.add_done_callback(lambda _: file.close())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        working = asyncio.get_running_loop().run_in_executor(None, work)
        self._working = working
        try:
            return await asyncio.shield(working)  # a thread goes on when its task is cancelled
        finally:
            if working.done():
                self._working = None


def _write_all(file: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]  # on a nearly full disk a write is partial, and the next one fails
