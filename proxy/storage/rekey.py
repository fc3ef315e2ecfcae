"""Brings the files of a data folder under the present key, at its opening: encrypts, encrypts anew or decrypts.

Each file is replaced at once, and can be read with the keys that are set before and after; so after a crash at any
step the next start goes on. The content that was plain is overwritten, as far as the disk allows that: flash memory
and copy-on-write file systems keep it for a while.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from proxy.errors import StorageError
from proxy.failpoints import failstep
from proxy.storage import files
from proxy.storage.codec import Document
from proxy.storage.envelope import HEAD_BYTES, Keyring, is_sealed
from proxy.storage.journal import Change, Journal, Key
from proxy.storage.layout import BACKUP, QUARANTINE, backup
from proxy.storage.recovery import set_aside, stored

OLD_KEY = "storage.encryption_key_old"


def rekey(
    folder: Path, keyring: Keyring, journal: Journal, waiting: Mapping[Key, Change], stamp: str
) -> list[str]:
    """Rewrite what is not as the keys say; returns a notice if there was anything. `waiting`: what the journal holds.

    Raises StorageError if there is no key for a file of records, OSError.
    """
    if not keyring:
        return []
    done = 0
    for path in stale_records(folder, keyring):
        done += _rewrite(folder, path, keyring, stamp)
    if journal.is_stale():
        with _overwritten(journal.path):
            journal.create(waiting)
        done += 1
    for path in (folder / QUARANTINE).iterdir():
        done += rewrite_aside(folder, path, keyring)
    now = "plain" if keyring.id is None else f"encrypted with key {keyring.id}"
    changed = [f"all credentials on disk are {now} now: files rewritten {done}"] if done else []
    return changed + [f"{OLD_KEY} is not needed any more: take it out"] * bool(keyring.old)


def stale_records(folder: Path, keyring: Keyring) -> list[Path]:
    """The files of records, and backups, that are not encrypted with the present key, or are if there is none."""
    paths = (path for _, main in stored(folder) for path in (main, backup(main)))
    return [path for path in paths if path.exists() and not is_current(path, keyring)]


def is_current(path: Path, keyring: Keyring) -> bool:
    """Whether the file is encrypted with the present key, or plain if there is none. Raises OSError.

    One that the disk cannot read is not.
    """
    with contextlib.suppress(ValueError), _unreadable_is_damage():
        fd = os.open(path, files.OLD)
        try:
            return keyring.writes_as(os.read(fd, HEAD_BYTES))
        finally:
            os.close(fd)
    return False


def rewrite_aside(folder: Path, path: Path, keyring: Keyring) -> bool:
    """Encrypt or decrypt a file in quarantine, whatever is in it. What no key opens is left as it is."""
    if path.is_symlink() or not path.is_file() or is_current(path, keyring):
        return False
    try:
        data = _content(path)
        opened = keyring.open(data, str(path)) if is_sealed(data) else None
    except (ValueError, StorageError):
        return False
    if opened:
        new = keyring.seal(opened.content, opened.name, opened.generation)
    else:
        new = keyring.seal(data, str(path.relative_to(folder)), 0)
    _replace(path, new)
    return True


def read_record(folder: Path, path: Path, keyring: Keyring) -> Document:
    """The document in a file of records or its backup. Raises ValueError if it is damaged, StorageError, OSError."""
    return keyring.decode(_content(path), _name(folder, path), str(path))


def _rewrite(folder: Path, path: Path, keyring: Keyring, stamp: str) -> bool:
    try:
        document = read_record(folder, path, keyring)
    except ValueError:  # a backup: of the files themselves, damaged ones are in quarantine by now
        set_aside(folder, path, stamp)
        return False
    _replace(path, keyring.encode(document, _name(folder, path)))
    return True


def _content(path: Path) -> bytes:
    """All of a file. Raises ValueError if the disk cannot read it, OSError."""
    with _unreadable_is_damage():
        return files.read(path) or b""


@contextlib.contextmanager
def _unreadable_is_damage() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EIO:
            raise ValueError("the disk cannot read it") from error
        raise


def _name(folder: Path, path: Path) -> str:
    """The name that a file's content is encrypted for: a backup has that of its file."""
    return str(path.relative_to(folder)).removesuffix(BACKUP)


def _replace(path: Path, data: bytes) -> None:
    with failstep("storage.rekey"), _overwritten(path):
        files.replace(path, data, durable=True)


@contextlib.contextmanager
def _overwritten(path: Path) -> Iterator[None]:
    """Overwrite the old content of a plain file that is replaced in this block, unless it has another link."""
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield
        if is_sealed(os.pread(fd, HEAD_BYTES, 0)):
            return
        with contextlib.suppress(OSError):
            status = os.fstat(fd)
            if status.st_nlink == 0:
                os.pwrite(fd, bytes(status.st_size), 0)
                os.fsync(fd)
    finally:
        os.close(fd)
