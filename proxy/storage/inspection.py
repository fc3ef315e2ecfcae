"""A look at a data folder before a start: what an opening would find and repair, without a write."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from proxy.storage.envelope import Keyring
from proxy.storage.folder import held_unchanged, usable
from proxy.storage.inventory import Inventory
from proxy.storage.journal import Journal
from proxy.storage.layout import INVENTORY, JOURNAL
from proxy.storage.log_survey import survey_logs
from proxy.storage.protocols import Kind, Reader, Record
from proxy.storage.recovery import look
from proxy.storage.rekey import read_record, stale_records


@dataclass(frozen=True, slots=True)
class Inspection:
    """The records, what a start would repair, and what it would do about encryption, each for people.

    `logs`: how many lines the logs in the root have that can be read, by the name of the file.
    """

    records: Mapping[Kind, Mapping[str, Record]] = field(repr=False)
    notices: list[str]
    encryption: str
    logs: Mapping[str, int]


def inspect(
    folder: Path,
    keyring: Keyring,
    readers: Mapping[Kind, Reader] = MappingProxyType({}),
    takes: Mapping[str, Callable[[bytes], object]] = MappingProxyType({}),
) -> Inspection:
    """Read the folder as an opening would, and its logs by `takes`. Raises StorageError if that would."""
    with usable(folder), held_unchanged(folder):
        journal, inventory = Journal(folder / JOURNAL, keyring), Inventory(folder / INVENTORY, keyring)
        state = look(folder, journal, inventory, keyring, readers, survey_logs(folder, takes))
        stale = stale_records(folder, keyring) if keyring else []
        for path in stale:
            with contextlib.suppress(ValueError):  # damaged: a start sets it aside
                read_record(folder, path, keyring)
        count = len(stale) + journal.is_stale()
    records = {
        kind: {id: json.loads(text) for id, text in texts.items()} for kind, texts in state.records.items()
    }
    now = "none" if keyring.id is None else f"key {keyring.id}"
    change = "encrypted" if keyring.id else "decrypted"
    encryption = f"{now}; files to be {change}: {count}" if keyring else now
    lines = {name: seen.lines for name, seen in state.logs.items()}
    return Inspection(records, state.notices, encryption, lines)
