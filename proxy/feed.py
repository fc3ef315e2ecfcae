"""What changed, as three channels: account changes, events for people, and touched views.

Listeners are called in order, within the step that made the change. They take a note and return: no listener awaits,
changes state or raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Changed(Generic[T]):
    """One item before and after a change. `old` is None if it was added, `new` is None if it was deleted."""

    old: T | None
    new: T | None


@dataclass(frozen=True, slots=True)
class Happened:
    """An event for people other than an account change: `kind` such as `session.started`, `text` in plain words."""

    kind: str
    text: str
    level: Level = "info"
    key_id: str | None = None
    session_id: str | None = None
    account_id: str | None = None


class Feed:
    """Passes changes on to whoever listens. An exception of a listener is a bug and reaches the caller."""

    def __init__(self) -> None:
        self._on_account_change: list[Callable[[Changed[Any]], None]] = []
        self._on_event: list[Callable[[Happened], None]] = []
        self._on_touch: Callable[[str, str], None] = _ignore

    def on_account_change(self, listener: Callable[[Changed[Any]], None]) -> None:
        """Call `listener` with each change of an account."""
        self._on_account_change.append(listener)

    def on_event(self, listener: Callable[[Happened], None]) -> None:
        """Call `listener` with each event for people."""
        self._on_event.append(listener)

    def on_touch(self, listener: Callable[[str, str], None]) -> None:
        """Set the listener for (topic, id) touches. A single one: `touch` is on the hot path."""
        self._on_touch = listener

    def publish(self, change: Changed[Any]) -> None:
        """Tell of a change of an account."""
        for listener in self._on_account_change:
            listener(change)

    def tell(self, event: Happened) -> None:
        """Tell of an event for people."""
        for listener in self._on_event:
            listener(event)

    def touch(self, topic: str, id: str) -> None:
        """Mark an entity as possibly changed; its view is re-read when a dashboard asks."""
        self._on_touch(topic, id)


def _ignore(topic: str, id: str) -> None:
    """Stand in for the listener until the dashboard's feed sets one."""
