"""Marks a data folder that is being filled, so that one that holds only a part is never served."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from proxy.failpoints import failstep
from proxy.storage import files
from proxy.storage.folder import filled_by, take, usable
from proxy.storage.layout import INVENTORY, UNFINISHED
from proxy.storage.recovery import stored


@contextlib.contextmanager
def unfinished(folder: Path, by: str) -> Iterator[None]:
    """Mark an empty folder as filled by a command, until this block has ended without an error.

    For who has its lock. Raises StorageError.
    """
    with usable(folder):
        files.replace(folder / UNFINISHED, by.encode(), durable=True)
    yield
    with usable(folder), failstep("storage.finish"):
        (folder / UNFINISHED).unlink()
        files.sync_folder(folder)


def begin_anew(folder: Path, by: str) -> None:
    """Remove all records if this command was interrupted as it filled the folder, and then the mark.

    Raises StorageError.
    """
    with usable(folder):
        lock = take(folder)
        try:
            if filled_by(folder) != by:
                return
            (folder / INVENTORY).unlink(missing_ok=True)  # else it would tell that they are gone
            for _, path in stored(folder):
                files.remove(path)
            (folder / UNFINISHED).unlink()
            files.sync_folder(folder)
        finally:
            os.close(lock)
