"""The inventory: which files of records and logs there are. So a start notices one that is gone with its backup."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from proxy.storage import files
from proxy.storage.codec import Document
from proxy.storage.envelope import Keyring


class Inventory:
    """Names of files, relative to the data folder; of logs, those in its root.

    A crash may leave out one that is there, never name one that is not. It has no backup, since it can be made anew.
    """

    def __init__(self, path: Path, keyring: Keyring) -> None:
        self.path = path
        self._keyring = keyring
        self._stale = False  # not encrypted as the keyring says
        self._names: set[str] = set()
        self._made: set[str] | None = None  # the files to be noted at once; None: each at its time
        self.damaged = False

    def read(self) -> frozenset[str]:
        """The names; none if there is no inventory yet, or it is `damaged`. Raises StorageError, OSError."""
        data = files.read(self.path)
        try:
            self._names = set() if data is None else self._decode(data)
        except ValueError:
            self.damaged = True
        return frozenset(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def write(self, names: Iterable[str]) -> None:
        """Set the names, durably. Raises OSError."""
        wanted = set(names)
        if wanted != self._names or self._stale or files.identity(self.path) is None:
            self._write(wanted)

    def write_anew(self) -> None:
        """Write it, durably, if somebody has removed it. Raises OSError."""
        self.write(self._names)

    def add(self, name: str) -> None:
        """Note a file that was made just now. Raises OSError."""
        if self._made is not None:
            self._made.add(name)
        elif name not in self._names:
            self._write(self._names | {name})

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Note the files that are made in this block in one write at its end. Raises OSError."""
        made = self._made = set[str]()
        try:
            yield
        finally:
            self._made = None
        self.write(self._names | made)

    def drop(self, name: str) -> None:
        """Note that a file is about to be removed. Raises OSError."""
        if name in self._names:
            self._write(self._names - {name})

    def _write(self, names: set[str]) -> None:
        document = Document(0, dict.fromkeys(sorted(names), "{}"))
        data = self._keyring.encode(document, self.path.name)
        files.replace(self.path, data, durable=True)
        self._names, self._stale = names, False

    def _decode(self, data: bytes) -> set[str]:
        self._stale = not self._keyring.writes_as(data)
        document = self._keyring.decode(data, self.path.name, str(self.path))
        if set(document.records.values()) - {"{}"}:
            raise ValueError("it is the content of another file")
        return set(document.records)
