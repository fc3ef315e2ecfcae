"""The names of the files on disk. Their formats: `codec` for records, `logs` for usage, `journal` for the journal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from proxy.storage.protocols import Kind

ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
BACKUP: Final = ".bak"


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one kind; with `{id}` in `name`, one per record. Only durable kinds have a backup and fsync."""

    name: str
    durable: bool

    @property
    def one_each(self) -> bool:
        return "{id}" in self.name

    def file(self, folder: Path, id: str = "") -> Path:
        """The file that holds the record `id`."""
        return folder / self.name.format(id=id)


LAYOUTS: Final[Mapping[Kind, Layout]] = MappingProxyType(
    {
        "findings": Layout("findings.json", durable=True),
        "accounts": Layout("accounts/{id}.json", durable=True),
        "tokens": Layout("tokens.json", durable=True),
        "signins": Layout("signins.json", durable=True),
        "counters": Layout("counters.json", durable=False),
        "sessions": Layout("sessions.json", durable=False),
        "quota": Layout("quota.json", durable=False),
    }
)
INVENTORY: Final = "inventory.json"
JOURNAL: Final = "journal.bin"
LOCK: Final = ".lock"
QUARANTINE: Final = "quarantine"
USAGE: Final = "usage"
SPOOL: Final = "tmp"
SUBFOLDERS: Final = (
    QUARANTINE,
    USAGE,
    SPOOL,
    *sorted({str(Path(each.name).parent) for each in LAYOUTS.values()} - {"."}),
)


def checked(id: str) -> str:
    """The id, if it may be part of a file's name. Raises ValueError if not."""
    if not ID.fullmatch(id):
        raise ValueError(f"{id[:80]!r} will not do as an id: it takes 1 to 64 of A-Z a-z 0-9 _ -")
    return id


def backup(path: Path) -> Path:
    """The path of a file's backup, which has the same content."""
    return path.with_name(path.name + BACKUP)
