"""The journal takes changes whose own file cannot be written. Its blocks are allocated before they are needed."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxy.errors import StorageError
from proxy.failpoints import failstep
from proxy.storage import files
from proxy.storage.codec import Document, from_text, to_text
from proxy.storage.envelope import Keyring
from proxy.storage.layout import ID, LAYOUTS
from proxy.storage.protocols import Kind

SIZE = 64 * 1024
HALF = SIZE // 2

Key = tuple[Kind, str]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One write of one record. `text` is its JSON; None if the record was deleted."""

    kind: Kind
    id: str
    generation: int
    text: str | None = field(repr=False)

    @property
    def key(self) -> Key:
        return self.kind, self.id


class Journal:
    """Holds all changes that wait for their files. Each write puts all of them into one half, then into the other.

    Of the valid halves, the later one counts: a torn write leaves the one before, and for a damaged half the other one
    serves. Overwriting works on a full disk, where replacing a file does not. A copy-on-write file system (btrfs, ZFS)
    does not guarantee that.
    """

    def __init__(self, path: Path, keyring: Keyring) -> None:
        self.path = path
        self._keyring = keyring
        self._generation = 0
        self._next_half = 0
        self._held: Mapping[Key, Change] | None = None  # None: not known, since a write failed
        self.damaged = False

    def read(self) -> dict[Key, Change]:
        """The changes in the journal. Sets `damaged` if a half is not valid. Raises StorageError, OSError."""
        data = files.read(self.path)
        if data is None:
            return {}
        whole: dict[int, tuple[int, dict[Key, Change]]] = {}
        for half in (0, 1):
            try:
                whole[half] = self._decode(data[half * HALF :][:HALF])
            except ValueError:
                self.damaged = True  # most likely its write was cut short, and so never acknowledged
        if not whole:
            return {}
        latest = max(whole, key=lambda half: whole[half][0])
        self._generation, self._held = whole[latest]
        self._next_half = 1 - latest
        return dict(self._held)

    def create(self, changes: Mapping[Key, Change]) -> None:
        """Create the file anew, with these changes. Raises OSError."""
        half = self._encode(changes, 1)
        self._held = None
        # Zeros are written, not only allocated: the first write into an allocated hole may need space again.
        files.replace(self.path, half + bytes(HALF), durable=True)
        self._wrote(0, changes)

    def write_anew(self) -> None:
        """Create the file, with what it held, if somebody has removed it. Raises OSError."""
        if self._held is not None and files.identity(self.path) is None:
            self.create(self._held)

    def is_stale(self) -> bool:
        """Whether any of it is not encrypted with the present key, or is if there is none. Raises OSError."""
        data = files.read(self.path) or b""
        halves = (data[half * HALF :][:HALF] for half in (0, 1))
        return any(half.strip(b"\0") and not self._keyring.writes_as(half) for half in halves)

    def write(self, changes: Mapping[Key, Change]) -> None:
        """Replace the journal's content by these changes, durably. Raises OSError."""
        if changes == self._held:
            return
        if self._held is None:  # then it is not known which half is valid
            self.create(changes)
            return
        halves = [self._encode(changes, later) for later in (1, 2)]
        try:
            for half in halves:
                self._overwrite(half)
                self._wrote(self._next_half, changes)
        except OSError:
            log.warning("the journal cannot be overwritten, so it is made anew file=%s", self.path)
            self.create(changes)

    def _encode(self, changes: Mapping[Key, Change], later: int) -> bytes:
        records = {
            f"{kind}/{id}": f'{{"generation": {change.generation}, "record": {change.text or "null"}}}'
            for (kind, id), change in changes.items()
        }
        data = self._keyring.encode(Document(self._generation + later, records), self.path.name)
        if len(data) > HALF:
            raise OSError(errno.ENOSPC, f"{self.path.name} is full")
        return data.ljust(HALF, b"\0")

    def _decode(self, half: bytes) -> tuple[int, dict[Key, Change]]:
        if half == bytes(HALF):
            return 0, {}  # not written yet
        shown = str(self.path)
        document = self._keyring.decode(half.partition(b"\0")[0], self.path.name, shown)
        return document.generation, _changes(document, shown)

    def _overwrite(self, half: bytes) -> None:
        # Opened for each write: after a failed fsync, the next one on the same descriptor reports success.
        fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "r+b") as file, failstep("storage.journal"):
            file.seek(self._next_half * HALF)
            file.write(half)
            file.flush()
            os.fsync(file.fileno())

    def _wrote(self, half: int, changes: Mapping[Key, Change]) -> None:
        self._generation += 1
        self._next_half = 1 - half
        self._held = dict(changes)


def _changes(document: Document, name: str) -> dict[Key, Change]:
    if document.by_hand:
        raise ValueError("it has no checksum")
    changes: dict[Key, Change] = {}
    for key, text in document.records.items():
        kind_name, _, id = key.partition("/")
        kind = next((kind for kind in LAYOUTS if kind == kind_name), None)
        if kind is None:
            raise StorageError(
                f"{name} holds {kind_name}, unknown to this program: start the newer one that wrote it"
            )
        entry = from_text(text)
        generation, record = entry.get("generation"), entry.get("record")
        if type(generation) is not int or not ID.fullmatch(id):
            raise ValueError("it holds what is no change")
        changes[kind, id] = Change(kind, id, generation, None if record is None else to_text(record))
    return changes
