"""Atomic replacement of private files: after a crash at any step, a file has its old content or its new one.

A durable write: temporary file, fsync, rename, fsync of the folder; a record is written so to its file and then to
its backup. Without the last step, acknowledged updates were lost in every simulated power cut, on ext4 and on xfs. The
file system must support hard links, for the quarantine. All functions block and raise OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from proxy.failpoints import failstep
from proxy.storage.layout import backup

FILE_MODE = 0o600
FOLDER_MODE = 0o700
BUFFER = 64 * 1024
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO would wait for its writer

Identity = tuple[int, int, int]
"""Inode, mtime in ns, size. If it differs from that of the last write, somebody else has written the file."""


def identity(path: Path) -> Identity | None:
    """The identity of a file; None if there is no such file."""
    try:
        return _identity(os.lstat(path))
    except FileNotFoundError:
        return None


def read(path: Path) -> bytes | None:
    """The content; None if there is no such file. A symbolic link is refused."""
    with opened(path) as file:
        return None if file is None else file.read()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO | None]:
    """The file to be read; None if there is no such file. A symbolic link is refused."""
    fd = _open(path)
    if fd is None:
        yield None
        return
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with os.fdopen(fd, "rb", BUFFER, closefd=False) as file:
            yield file
    finally:
        os.close(fd)


def replace(path: Path, data: bytes | Iterator[bytes], *, durable: bool) -> Identity:
    """Replace the file by one with `data`, which may come in pieces."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        written = _write_new(temporary, data, durable=durable)
        with failstep("storage.rename"):
            os.rename(temporary, path)
    except BaseException:
        # An error here is ignored: the earlier one matters more, and the next start removes what is left.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        with failstep("storage.dirsync"):
            sync_folder(path.parent)
    return written


def replace_both(path: Path, data: bytes) -> Identity:
    """Replace a file and then its backup, durably.

    Both have the same content, so that a backup that has to serve gives neither less nor more than its file. The file
    goes first: a backup that is newer than its file was swapped with it.
    """
    written = replace(path, data, durable=True)
    with failstep("storage.backup"):
        replace(backup(path), data, durable=True)
    return written


def remove(path: Path) -> None:
    """Remove a file and its backup. The backup goes first: left alone, recovery would put it in the file's place."""
    with failstep("storage.unlink_backup"):
        backup(path).unlink(missing_ok=True)
    with failstep("storage.dirsync"):
        sync_folder(path.parent)
    with failstep("storage.unlink"):
        path.unlink(missing_ok=True)
    sync_folder(path.parent)


def link_aside(path: Path, folder: Path, name: str) -> Path:
    """Hard-link the file into `folder` as `name`, with a number appended if the name is taken. Returns the link."""
    aside, n = folder / name, 1
    while True:
        try:
            os.link(path, aside, follow_symlinks=False)
            break
        except FileExistsError:
            n += 1
            aside = folder / f"{name}.{n}"
    sync_folder(folder)
    return aside


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files of interrupted writes."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def make_folder(path: Path) -> None:
    """Make a private folder, its missing parents too, whatever the umask is."""
    if path.is_dir():
        return
    if not path.is_symlink():
        make_folder(path.parent)
    path.mkdir(FOLDER_MODE, exist_ok=True)  # another process may be starting too
    path.chmod(FOLDER_MODE)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames, links and removals in the folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def told(error: OSError) -> str:
    """The error as a text for people, with its path if it has one."""
    told = error.strerror or str(error)
    return f"{error.filename}: {told}" if error.filename else told


def _open(path: Path) -> int | None:
    try:
        return os.open(path, OLD)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "a symbolic link is not followed here", str(path)) from error
        raise


def _write_new(path: Path, data: bytes | Iterator[bytes], *, durable: bool) -> Identity:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, NEW, FILE_MODE), "wb") as file:
        with failstep("storage.tmp"):
            os.fchmod(file.fileno(), FILE_MODE)  # the umask may have taken bits
            for piece in (data,) if isinstance(data, bytes) else data:
                file.write(piece)
            file.flush()
        if durable:
            with failstep("storage.fsync"):
                os.fsync(file.fileno())
        return _identity(os.fstat(file.fileno()))


def _identity(status: os.stat_result) -> Identity:
    return status.st_ino, status.st_mtime_ns, status.st_size
