"""Access to the data folder: private to its owner, and locked by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from proxy.errors import StorageError
from proxy.http.body import SPOOLED
from proxy.storage import files
from proxy.storage.files import FILE_MODE, make_folder, told
from proxy.storage.layout import LOCK, OF_NOBODY, OURS, ROOT_FILES, SPOOL, SUBFOLDERS, UNFINISHED


class FolderInUse(StorageError):
    """Another process holds the lock of the data folder."""


@contextlib.contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Make a StorageError of an OSError in this block, which uses the folder."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"data folder {folder} cannot be used ({told(error)}): mend that, or set storage.data_folder to "
            "another folder"
        ) from error


def take(folder: Path) -> int:
    """Create the folder if it is missing, and lock it. Returns the descriptor that holds the lock.

    The lock ends with the process, however that ends; the lock file stays. Raises StorageError, OSError.
    """
    make_folder(folder)
    _refuse_foreign(folder)
    _refuse_other_use(folder)
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        _lock(fd, folder)
        os.fchmod(fd, FILE_MODE)
        os.pwrite(fd, f"{os.getpid():<15}\n".encode(), 0)  # never shortened: that may fail on a full disk
    except BaseException:
        os.close(fd)
        raise
    return fd


def keep(fd: int, folder: Path) -> int:
    """The lock that `take` has given, or a new one if somebody has removed its file, or the folder.

    Raises StorageError if another process has taken the folder since; OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(fd), os.lstat(folder / LOCK)):
            return fd
    again = take(folder)
    os.close(fd)
    return again


@contextlib.contextmanager
def held_unchanged(folder: Path) -> Iterator[None]:
    """Hold the lock if the folder has one, and write nothing. Raises StorageError, OSError if `take` would.

    What could be written is judged by access bits alone.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(nearest))
    if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(nearest))
    with contextlib.ExitStack() as held:
        if nearest == folder:
            for path in _ours(folder):
                _refuse_foreign(path)
            _refuse_other_use(folder)
        if (folder / LOCK).exists():
            fd = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            held.callback(os.close, fd)
            _lock(fd, folder)
        yield


def make_spool(folder: Path) -> None:
    """Create the folder for bodies of requests, which is all that an instance of a shared store keeps here.

    Several instances may have the same one. Raises StorageError.
    """
    with usable(folder):
        make_folder(folder)
        _refuse_foreign(folder)
        make_folder(folder / SPOOL)
        clear_spool(folder)


def make_subfolders(folder: Path) -> None:
    """Create those that are missing. Raises OSError."""
    for name in SUBFOLDERS:
        make_folder(folder / name)


def make_private(folder: Path) -> list[str]:
    """Create the subfolders and remove the permissions of other users. Returns a notice if there were any.

    Raises StorageError if something belongs to another user, and OSError.
    """
    make_subfolders(folder)
    open_to_others = [path for path in _ours(folder) if _refuse_foreign(path) & 0o077]
    for path in open_to_others:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)
    if not open_to_others:
        return []
    names = ", ".join(path.name for path in open_to_others[:3])
    more = f" and {len(open_to_others) - 3} more" if len(open_to_others) > 3 else ""
    return [f"{folder} was open to other users: {names}{more} made private; renew what they may have read"]


def _lock(fd: int, folder: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode("ascii", "replace").strip()
        process = f"process {holder}" if holder.isdecimal() else "another process"
        raise FolderInUse(
            f"data folder {folder} is in use by {process}: stop it, "
            "or set storage.data_folder to another folder"
        ) from None


def clear_spool(folder: Path) -> None:
    """Remove the request bodies that a killed process has left, and try that the spool folder takes a new one.

    Raises OSError if it does not; a full disk is no reason, since it passes.
    """
    spool = folder / SPOOL
    for path in spool.glob(f"{SPOOLED}*"):
        path.unlink()
    try:
        tempfile.TemporaryFile(dir=spool, prefix=SPOOLED).close()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(error.errno, error.strerror, str(spool)) from error


def _ours(folder: Path) -> Iterator[Path]:
    """The folders, and the regular files in them; what else is in the root, such as lost+found, is not ours."""
    for place in filter(Path.exists, (folder, *(folder / name for name in SUBFOLDERS))):
        yield place
        for path in place.iterdir():
            named = place != folder or path.name in ROOT_FILES
            if named and path.is_file() and not path.is_symlink():
                yield path


def is_ours(folder: Path) -> bool:
    """Whether anything in the folder is of this program."""
    return not OURS.isdisjoint(os.listdir(folder))


def filled_by(folder: Path) -> str | None:
    """The command that is filling the folder, or was interrupted as it did; None if there is none. Raises OSError."""
    by = files.read(folder / UNFINISHED)
    return None if by is None else by.decode(errors="replace")


def refuse_unfinished(folder: Path) -> None:
    """Raise StorageError if the folder may hold only a part of what is to be there; OSError."""
    by = filled_by(folder)
    if by is not None:
        raise StorageError(
            f"data folder {folder} is not whole: {by} has not ended. If that was interrupted, empty the folder and run "
            "it again; --restore can be run again at once"
        )


def _refuse_other_use(folder: Path) -> None:
    """Raise StorageError if the folder is open to others, and full of other things: it would be made private.

    Names that begin with another character than a letter or digit are those of editors, file systems and NAS.
    """
    others = sorted(name for name in os.listdir(folder) if name[0].isalnum() and name not in OF_NOBODY)
    if not others or is_ours(folder) or not folder.stat().st_mode & 0o077:
        return
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    raise StorageError(
        f"data folder {folder} holds {shown}, and nothing of this program: set storage.data_folder to a new or an "
        "empty folder, or chmod 700 this one if it is meant"
    )


def _refuse_foreign(path: Path) -> int:
    """The mode of a path; symbolic links are followed. Raises StorageError if it belongs to another user."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise StorageError(
            f"{path} belongs to user {status.st_uid}, and this process runs as {os.geteuid()}: run it as "
            f"that user, or give the data folder to this one (chown -R {os.geteuid()})"
        )
    return status.st_mode
