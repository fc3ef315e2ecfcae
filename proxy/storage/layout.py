"""The names of the files on disk. Their formats: `codec` for records, `logs` for logs, `journal` for the journal."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from proxy.storage.protocols import Kind

ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
BACKUP: Final = ".bak"


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one kind; with `{id}` in `name`, one per record or log.

    Of records, only durable kinds have a backup and fsync. A durable log that cannot be read refuses the start.
    """

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
DISPOSABLE: Final[Collection[Kind]] = [kind for kind, layout in LAYOUTS.items() if not layout.durable]
DURABLE: Final[Collection[Kind]] = ("logins", *(kind for kind in LAYOUTS if kind not in DISPOSABLE))
"""The durable kinds. Logins have no file: they last ten minutes, so no folder, backup or copy of a store has them."""

ROOT_LOGS: Final[Mapping[str, Layout]] = MappingProxyType(
    {
        "resources": Layout("resources.jsonl", durable=True),
        "conversations": Layout("conversations.jsonl", durable=False),
    }
)
"""The logs that have their own place. One of any other name is a day of usage."""

USAGE_LOG: Final = Layout("usage/{id}.jsonl", durable=False)
EVENT_LOG: Final = Layout("events/{id}.jsonl", durable=True)
INVENTORY: Final = "inventory.json"
JOURNAL: Final = "journal.bin"
LOCK: Final = ".lock"
UNFINISHED: Final = "unfinished"  # there while a command fills the folder: its text is the command
QUARANTINE: Final = "quarantine"
KEPT: Final = f"it is kept in {QUARANTINE}/"
USAGE: Final = "usage"
EVENTS: Final = "events"
REQUESTS: Final = "requests"  # made with its first line: most servers keep none
SPOOL: Final = "tmp"
HANDED: Final = "handed"
SUBFOLDERS: Final = (
    QUARANTINE,
    USAGE,
    EVENTS,
    SPOOL,
    HANDED,
    *sorted({str(Path(each.name).parent) for each in LAYOUTS.values()} - {"."}),
)

_FILES: Final = [each.name for each in (*LAYOUTS.values(), *ROOT_LOGS.values()) if not each.one_each]
ROOT_FILES: Final = frozenset(
    {*_FILES, *(f"{each}{BACKUP}" for each in _FILES), INVENTORY, JOURNAL, LOCK, UNFINISHED}
)
"""What the root of a data folder may have beside folders."""

OURS: Final = frozenset({*ROOT_FILES, *SUBFOLDERS, REQUESTS} - {LOCK, SPOOL})
"""Each of these tells that a folder is a data folder. The others are common: `/` and `/var` have a `tmp` too."""

OF_NOBODY: Final = frozenset({"lost+found", SPOOL, "config", "config.yaml", "config.yml"})
"""What may be in a folder before it becomes a data folder."""

_EVENTS_OF: Final = "events-"


def checked(id: str) -> str:
    """The id, if it may be part of a file's name. Raises ValueError if not."""
    if not ID.fullmatch(id):
        raise ValueError(f"{id[:80]!r} will not do as an id: it takes 1 to 64 of A-Z a-z 0-9 _ -")
    return id


def kind_of(kind: Kind, *, durable: bool) -> Kind:
    """The kind, if it is durable or not, as said. Raises ValueError, which names the right verb."""
    if (kind in DURABLE) is not durable:
        raise ValueError(
            f"{kind} is {'not ' if durable else ''}durable: use {'update' if durable else 'put'}"
        )
    return kind


def log_file(folder: Path, log: str) -> Path:
    """The file of a log."""
    if log.startswith(_EVENTS_OF):
        return EVENT_LOG.file(folder, log.removeprefix(_EVENTS_OF))
    return ROOT_LOGS.get(log, USAGE_LOG).file(folder, log)


def event_log(day: str) -> str:
    """The name of the log of a day's events."""
    return f"{_EVENTS_OF}{day}"


def event_day(log: str) -> str | None:
    """The day whose events a log has; None if it is none of events."""
    return log.removeprefix(_EVENTS_OF) if log.startswith(_EVENTS_OF) else None


def backup(path: Path) -> Path:
    """The path of a file's backup, which has the same content."""
    return path.with_name(path.name + BACKUP)
