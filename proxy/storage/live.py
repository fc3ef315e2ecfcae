"""The durable records of a data folder, read without its lock: a proxy may be using it.

Each file is replaced as a whole, so it is read whole, as it was at some moment of the reading; no two files need be of
the same moment. What was durable when the reading began is in it, or what came in its place: a change goes to the
journal before its file is given up, and the journal is read first. Only the journal is overwritten in place, and only
a start moves files about. Where either may have been met half-way, everything is read anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from proxy.errors import StorageError
from proxy.storage.envelope import Keyring
from proxy.storage.folder import usable
from proxy.storage.inventory import Inventory
from proxy.storage.journal import Journal
from proxy.storage.layout import INVENTORY, JOURNAL, LAYOUTS
from proxy.storage.log_survey import LogSurvey
from proxy.storage.protocols import Kind, Reader, Record
from proxy.storage.recovery import State, look

LOOKS: Final = 20
"""Milliseconds each. A half of the journal that is torn in all of them was torn by a crash."""


def read_live(
    folder: Path, keyring: Keyring, readers: Mapping[Kind, Reader] = MappingProxyType({})
) -> Mapping[Kind, Mapping[str, Record]]:
    """The records by kind and id; none if there is no such folder. Writes nothing. Raises StorageError."""
    gone: list[str] = []
    for _ in range(LOOKS):
        with usable(folder):
            journal = Journal(folder / JOURNAL, keyring)
            state = look(
                folder, journal, Inventory(folder / INVENTORY, keyring), keyring, readers, LogSurvey()
            )
            gone = _gone(folder, state, keyring)
        if not gone and not journal.damaged:
            break
    if gone:
        raise StorageError(
            f"{', '.join(gone)} is gone from data folder {folder}: restore it from a backup, or start the proxy anew, "
            "which notes the loss"
        )
    return {
        kind: {id: json.loads(text) for id, text in texts.items()} for kind, texts in state.records.items()
    }


def _gone(folder: Path, state: State, keyring: Keyring) -> list[str]:
    """Durable files that should be there and were not read. The inventory forgets a file before it is removed."""
    waiting = (LAYOUTS[kind].file(folder, id) for kind, id in state.waiting)
    found = {str(path.relative_to(folder)) for path in (*state.generations, *waiting)}
    places = [Path(layout.name) for layout in LAYOUTS.values() if layout.durable]
    names = map(Path, Inventory(folder / INVENTORY, keyring).read() - found)
    return sorted(
        str(name)
        for name in names
        if any(name == place or (name.parent == place.parent != Path()) for place in places)
    )
