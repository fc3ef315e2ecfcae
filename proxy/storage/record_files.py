"""Writes the files of records, and notices those that somebody else has changed since they were written."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from proxy.clock import Clock, rfc3339
from proxy.storage import files
from proxy.storage.codec import Document
from proxy.storage.envelope import Keyring
from proxy.storage.recovery import set_aside
from proxy.storage.rekey import is_current, rewrite_aside

log = logging.getLogger(__name__)


class RecordFiles:
    """What somebody else has written is kept in quarantine, and written anew from memory. `paths`: what is there."""

    def __init__(self, folder: Path, keyring: Keyring, clock: Clock, paths: Iterable[Path]) -> None:
        self._folder = folder
        self._keyring = keyring
        self._clock = clock
        self._identities = {path: files.identity(path) for path in paths}

    def write(self, path: Path, document: Document) -> None:
        """Replace a file and its backup, durably. Raises OSError."""
        written, found = self._identities.pop(path, None), files.identity(path)
        # After a write that failed it is not known what was there.
        edited = written != found if written or not found else not is_current(path, self._keyring)
        if edited:
            aside = self._set_aside(path) if found else None
            log.warning("changed by somebody else, so written anew from memory file=%s kept=%s", path, aside)
        data = self._keyring.encode(document, str(path.relative_to(self._folder)))
        self._identities[path] = files.replace_both(path, data)

    def remove(self, path: Path) -> None:
        """Remove a file and its backup, durably. Raises OSError."""
        files.remove(path)
        self._identities.pop(path, None)

    def _set_aside(self, path: Path) -> str:
        aside = set_aside(self._folder, path, rfc3339(self._clock.now()), keep=True)
        if self._keyring:
            rewrite_aside(self._folder, self._folder / aside, self._keyring)
        return aside
