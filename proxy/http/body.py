"""A request body, kept so that it can be sent again: in memory if small, else in a private temporary file."""

from __future__ import annotations

import asyncio
import io
import tempfile
from typing import BinaryIO

SPOOL_ABOVE_BYTES = 4 * 1024 * 1024


class Body:
    """Collects a body, which can be read as often as needed. Its creator must close it."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None
        self.size = 0

    async def write(self, data: bytes) -> None:
        """Append data. Raises OSError if the temporary file cannot be written."""
        self.size += len(data)
        if self._file is None:
            self._chunks.append(data)
            if self.size <= SPOOL_ABOVE_BYTES:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
            # 0600 and without a name; `close` closes it.
            self._file = tempfile.TemporaryFile(prefix="claude-proxy-", buffering=0)  # noqa: SIM115
        await asyncio.get_running_loop().run_in_executor(None, _write_all, self._file, data)

    def open(self) -> BinaryIO:
        """The body from its start; one reader at a time."""
        if self._file is not None:
            self._file.seek(0)
            return self._file
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return io.BytesIO(self._chunks[0] if self._chunks else b"")

    def close(self) -> None:
        self._chunks.clear()
        if self._file is not None:
            self._file.close()


def _write_all(file: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]  # on a nearly full disk a write is partial, and the next one fails
