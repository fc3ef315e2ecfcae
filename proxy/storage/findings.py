"""What starts have found damaged or missing: kept on disk, and told as degraded health, until an admin has seen it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from proxy.clock import rfc3339
from proxy.errors import NotFound
from proxy.feed import Feed, Happened
from proxy.storage.fields import Fields
from proxy.storage.protocols import Record
from proxy.storage.table import Table

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """`at`: when it was found, in seconds since the epoch."""

    id: str
    at: float
    text: str

    @classmethod
    def of(cls, text: str, at: float) -> Finding:
        """Its id is made of the text, so that a start which is cut short and repeated tells it once."""
        return cls(f"finding_{hashlib.sha256(text.encode()).hexdigest()[:16]}", at, text)

    def record(self) -> Record:
        return asdict(self)

    def view(self) -> dict[str, Any]:
        """What an admin may see."""
        return {"id": self.id, "at": rfc3339(self.at), "text": self.text}


def read_finding(id: str, record: Record) -> Finding:
    """The finding in a stored record. Raises ValueError, which names the field, if it is malformed."""
    fields = Fields(record)
    if fields.text("id") != id:
        raise ValueError("id is another finding's")
    return Finding(id, fields.time("at"), fields.text("text"))


def load_findings(records: dict[str, Record]) -> list[tuple[str, Finding]]:
    """The stored findings with their ids, oldest first. Raises ValueError if a record is malformed."""
    found = [read_finding(id, record) for id, record in records.items()]
    return [(each.id, each) for each in sorted(found, key=lambda each: (each.at, each.id))]


class Findings:
    """The findings that no admin has acknowledged yet."""

    def __init__(self, table: Table[Finding], feed: Feed) -> None:
        self._table = table
        self._table.on_change(lambda old, new: feed.touch("stats", "health"))
        self._feed = feed

    def __len__(self) -> int:
        return len(self._table)

    def texts(self) -> list[str]:
        return [each.text for each in self._table.values()]

    def view(self) -> list[dict[str, Any]]:
        return [each.view() for each in self._table.values()]

    @property
    def unsaved(self) -> dict[str, str]:
        """Ids whose last change is not on disk yet, with the reason."""
        return self._table.unsaved

    async def acknowledge(self, ids: Iterable[str]) -> None:
        """Forget findings that an admin has seen; gone from disk when this returns. Raises NotFound, StorageError."""
        wanted = list(ids)
        for id in wanted:
            if id not in self._table:
                raise NotFound(f"no finding {id[:64]!r}")
        forgotten = [self._table.forget(id) for id in wanted]
        self._feed.touch("stats", "health")
        self._feed.tell(Happened("storage.acknowledged", f"{len(wanted)} findings of the start were seen"))
        log.info("findings acknowledged count=%d", len(wanted))
        for each in forgotten:
            await each

    async def left(self) -> list[str]:
        """What is not on disk yet, for people."""
        return await self._table.left()

    async def save_again(self) -> None:
        """Retry the writes that have failed."""
        await self._table.save_again()
