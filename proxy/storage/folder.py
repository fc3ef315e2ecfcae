"""Who may use the data folder: its owner alone, and one process at a time."""

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
    """Make the folder where it is missing and lock it: the descriptor that holds the lock.

    The lock goes with the process, however that ends, and the file stays. Raises StorageError, OSError.
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
    """Make the subfolders and take away what others may do; a notice where they could do anything.

    Raises StorageError where something belongs to another user, OSError.
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
    """The mode of a path that is this user's; a folder may be reached by a symbolic link."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise StorageError(
            f"{path} belongs to user {status.st_uid}, and this process runs as {os.geteuid()}: run it as "
            f"that user, or give the data folder to this one (chown -R {os.geteuid()})"
        )
    return status.st_mode
