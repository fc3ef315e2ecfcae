"""Writes the files of records, and notices those that somebody else has changed since they were written."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

from proxy.clock import Clock, rfc3339
from proxy.errors import StorageError
from proxy.storage import files
from proxy.storage.codec import Document
from proxy.storage.envelope import Keyring
from proxy.storage.inventory import Inventory
from proxy.storage.journal import Change
from proxy.storage.layout import LAYOUTS
from proxy.storage.protocols import Kind
from proxy.storage.recovery import set_aside
from proxy.storage.rekey import is_current, rewrite_aside

log = logging.getLogger(__name__)


class RecordFiles:
    """What somebody else has written is kept in quarantine, and written anew from memory.

    `generations`: those of the files that are there.
    """

    def __init__(
        self,
        folder: Path,
        keyring: Keyring,
        clock: Clock,
        inventory: Inventory,
        generations: Mapping[Path, int],
    ) -> None:
        self._folder = folder
        self._keyring = keyring
        self._clock = clock
        self._inventory = inventory
        self._generations = dict(generations)
        self._identities = {path: files.identity(path) for path in generations}

    def write(self, change: Change, records: Mapping[str, str], generation: int) -> None:
        """Put a change into its file, where `records` are all of its kind. Raises OSError."""
        layout = LAYOUTS[change.kind]
        path = layout.file(self._folder, change.id)
        if self._generations.get(path, 0) >= change.generation:
            return  # a later write of this file included it
        if layout.one_each and change.text is None:
            self._inventory.drop(self.name(path))
            files.remove(path)
            self._identities.pop(path, None)
            self._generations.pop(path, None)
            return
        if change.text is not None and layout.one_each:
            document = Document(change.generation, {change.id: change.text})
        else:
            document = Document(generation, records)
        self._replace(path, document)
        self._inventory.add(self.name(path))
        self._generations[path] = document.generation

    def is_edited(self, kind: Kind, id: str) -> bool:
        """Whether the file of a record is gone, or holds something else than was written. Raises OSError."""
        path = LAYOUTS[kind].file(self._folder, id)
        written, found = self._identities.get(path), files.identity(path)
        if written is not None and written == found:
            return False
        if found is None or not self._is_ours(path):
            return True
        self._identities[path] = found  # a file system may number its files anew
        return False

    def name(self, path: Path) -> str:
        """What a file is called in the inventory, in its envelope and by people."""
        return str(path.relative_to(self._folder))

    def _replace(self, path: Path, document: Document) -> None:
        """Replace a file and its backup, durably. Raises OSError."""
        written, found = self._identities.pop(path, None), files.identity(path)
        # After a write that failed it is not known what was there.
        edited = written != found if written or not found else not is_current(path, self._keyring)
        if edited:
            aside = self._set_aside(path) if found else None
            log.warning("changed by somebody else, so written anew from memory file=%s kept=%s", path, aside)
        data = self._keyring.encode(document, self.name(path))
        self._identities[path] = files.replace_both(path, data)

    def _is_ours(self, path: Path) -> bool:
        with contextlib.suppress(ValueError, StorageError, OSError):
            document = self._keyring.decode(files.read(path) or b"", self.name(path), str(path))
            return not document.by_hand and document.generation == self._generations.get(path)
        return False

    def _set_aside(self, path: Path) -> str:
        aside = set_aside(self._folder, path, rfc3339(self._clock.now()), keep=True)
        if self._keyring:
            rewrite_aside(self._folder, self._folder / aside, self._keyring)
        return aside
