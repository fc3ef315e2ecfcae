"""What admins set for an account: when it is chosen, who may use it, and a note."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

from proxy.errors import Unprocessable
from proxy.storage.fields import Fields
from proxy.storage.names import clean_tags

MOST_PRIORITY: Final = 1000
LEAST_WEIGHT: Final = 0.001
MOST_WEIGHT: Final = 1000.0
MAX_NOTE: Final = 1000
MAX_TOLD: Final = 40
"""Of a value that an event names, so many characters."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """Checked when it is made: raises Unprocessable, which names the field."""

    priority: int = 0
    """Accounts with a lower one are chosen first."""

    weight: float = 1.0
    """Accounts of one priority share new work in proportion to it."""

    reserve: float = 0.0
    """The fraction of its limits, from 0 to 1, that is kept for what belongs to the account already."""

    tags: tuple[str, ...] = ()
    """A client key with tags uses only accounts that have one of them."""

    note: str = ""

    def __post_init__(self) -> None:
        # Each comparison is false for NaN.
        if not -MOST_PRIORITY <= self.priority <= MOST_PRIORITY:
            raise Unprocessable(
                f"priority: a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY} is needed"
            )
        if not LEAST_WEIGHT <= self.weight <= MOST_WEIGHT:
            raise Unprocessable(f"weight: a number from {LEAST_WEIGHT} to {MOST_WEIGHT:.0f} is needed")
        if not 0 <= self.reserve <= 1:
            raise Unprocessable("reserve: a number from 0 to 1 is needed")
        if len(self.note) > MAX_NOTE or not all(line.isprintable() for line in self.note.split("\n")):
            raise Unprocessable(f"note: up to {MAX_NOTE} printable characters and line breaks are possible")

    def reserves(self, left: float) -> bool:
        """Whether all that is `left` of an account's limits, from 0 to 1, is its reserve."""
        return 0 < self.reserve >= left

    def view(self) -> dict[str, Any]:
        """The fields as they are shown and stored."""
        return {
            "priority": self.priority,
            "weight": self.weight,
            "reserve": self.reserve,
            "tags": list(self.tags),
            "note": self.note,
        }

    def told(self, old: Preferences) -> str:
        """What has changed since `old`, in one line: `priority 0 → 5, tags – → eu`; "" if nothing has."""
        return ", ".join(f"{name} {before} → {after}" for name, before, after in self._changes(old))

    def _changes(self, old: Preferences) -> Iterator[tuple[str, str, str]]:
        for each in fields(self):
            before, after = getattr(old, each.name), getattr(self, each.name)
            if before != after:
                yield each.name, _told(before), _told(after)


USUAL = Preferences()


def read_preferences(stored: Fields) -> Preferences:
    """Those of a stored account; older records lack some. Raises ValueError, which names the field."""
    try:
        return Preferences(
            priority=stored.integer("priority") if "priority" in stored else USUAL.priority,
            weight=stored.amount("weight") if "weight" in stored else USUAL.weight,
            reserve=stored.amount("reserve") if "reserve" in stored else USUAL.reserve,
            tags=clean_tags(stored.texts("tags")) if "tags" in stored else USUAL.tags,
            note=stored.text("note") if "note" in stored else USUAL.note,
        )
    except Unprocessable as error:
        raise ValueError(str(error)) from None


def _told(value: object) -> str:
    """A value in an event: in one line, and not all of a long one."""
    match value:
        case tuple():
            text = ", ".join(value)
        case float():
            text = f"{value:g}"
        case _:
            text = " ".join(str(value).split())
    return f"{text[: MAX_TOLD - 1]}…" if len(text) > MAX_TOLD else text or "–"
