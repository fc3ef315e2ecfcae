"""Access to the data folder: private to its owner, and locked by one process at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from proxy.errors import StorageError
from proxy.storage.files import FILE_MODE, make_folder
from proxy.storage.layout import LOCK, SUBFOLDERS


def take(folder: Path) -> int:
    """Create the folder if it is missing, and lock it. Returns the descriptor that holds the lock.

    The lock ends with the process, however that ends; the lock file stays. Raises StorageError, OSError.
    """
    make_folder(folder)
    _refuse_foreign(folder)
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip()
            process = f"process {holder}" if holder.isdecimal() else "another process"
            raise StorageError(
                f"data folder {folder} is in use by {process}: stop it, "
                "or set storage.data_folder to another folder"
            ) from None
        os.fchmod(fd, FILE_MODE)
        os.pwrite(fd, f"{os.getpid():<15}\n".encode(), 0)  # never shortened: that may fail on a full disk
    except BaseException:
        os.close(fd)
        raise
    return fd


def make_private(folder: Path) -> list[str]:
    """Create the subfolders and remove the permissions of other users. Returns a notice if there were any.

    Raises StorageError if something belongs to another user, and OSError.
    """
    for name in SUBFOLDERS:
        make_folder(folder / name)
    open_to_others = [path for path in _ours(folder) if _refuse_foreign(path) & 0o077]
    for path in open_to_others:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)
    if not open_to_others:
        return []
    names = ", ".join(path.name for path in open_to_others[:3])
    more = f" and {len(open_to_others) - 3} more" if len(open_to_others) > 3 else ""
    return [f"{folder} was open to other users: {names}{more} made private; renew what they may have read"]


def _ours(folder: Path) -> Iterator[Path]:
    """The folders, and the regular files in them; other folders in it, such as lost+found, are not ours."""
    for place in (folder, *(folder / name for name in SUBFOLDERS)):
        yield place
        yield from (path for path in place.iterdir() if path.is_file() and not path.is_symlink())


def _refuse_foreign(path: Path) -> int:
    """The mode of a path; symbolic links are followed. Raises StorageError if it belongs to another user."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise StorageError(
            f"{path} belongs to user {status.st_uid}, and this process runs as {os.geteuid()}: run it as "
            f"that user, or give the data folder to this one (chown -R {os.geteuid()})"
        )
    return status.st_mode
