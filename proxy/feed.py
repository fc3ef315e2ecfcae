"""What changed, as three channels: account changes, events for people, and touched views; and who is at work.

Listeners are called in order, within the step that made the change. They take a note and return: no listener awaits,
changes state or raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Who:
    """Who did something: an admin, a client key, or the proxy itself.

    `id` and `name` are those of the key or the sign-in, `address` is that of the client; None if there is none.
    """

    kind: Literal["admin", "key", "system"]
    id: str | None = None
    name: str | None = None
    address: str | None = None

    def view(self) -> dict[str, str | None]:
        """What an admin may see."""
        return {"kind": self.kind, "id": self.id, "name": self.name, "address": self.address}


SYSTEM = Who("system")

_acting: ContextVar[Who] = ContextVar("acting", default=SYSTEM)


def act_as(who: Who) -> None:
    """Do the rest of this task, and the tasks that it starts, in the name of `who`."""
    _acting.set(who)


def acting() -> Who:
    """In whose name this task runs: the admin who sent a request, else the proxy itself."""
    return _acting.get()


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about. The name is the one that it had then."""

    kind: Literal["account", "token", "session"]
    id: str
    name: str | None = None

    def view(self) -> dict[str, str | None]:
        """What an admin may see."""
        return {"kind": self.kind, "id": self.id, "name": self.name}


@dataclass(frozen=True, slots=True)
class Changed(Generic[T]):
    """One item before and after a change. `old` is None if it was added, `new` is None if it was deleted."""

    old: T | None
    new: T | None
    elsewhere: bool = False
    """Whether another instance has changed it, which tells people of it as well."""


Fields = Mapping[str, Any]


def changes(old: Fields | None, new: Fields | None) -> tuple[Fields | None, Fields | None]:
    """What differs between two states of one thing, before and after; None if it was not there."""
    if old is None or new is None:
        return old, new
    names = [name for name in new if old.get(name) != new[name]]
    return {name: old.get(name) for name in names}, {name: new[name] for name in names}


@dataclass(frozen=True, slots=True)
class Happened:
    """An event for people other than an account change: `kind` such as `session.started`, `text` in plain words.

    A time in the text stands as RFC 3339. `before` and `after` hold what was changed, by name, and never a secret.
    `by` is who did it; None if it is who is acting.
    """

    kind: str
    text: str
    level: Level = "info"
    subject: Subject | None = None
    before: Fields | None = None
    after: Fields | None = None
    by: Who | None = None


class Feed:
    """Passes changes on to whoever listens. An exception of a listener is a bug and reaches the caller."""

    def __init__(self) -> None:
        self._on_account_change: list[Callable[[Changed[Any]], None]] = []
        self._on_event: list[Callable[[Happened], None]] = []
        self.touch: Callable[[str, str], None] = _ignore
        """`touch(topic, id)` marks an entity as possibly changed; its view is re-read when a dashboard asks."""

    def on_account_change(self, listener: Callable[[Changed[Any]], None]) -> None:
        """Call `listener` with each change of an account."""
        self._on_account_change.append(listener)

    def on_event(self, listener: Callable[[Happened], None]) -> None:
        """Call `listener` with each event for people."""
        self._on_event.append(listener)

    def on_touch(self, listener: Callable[[str, str], None]) -> None:
        """Set the listener for (topic, id) touches. It is called without a step between: requests touch much."""
        self.touch = listener

    def publish(self, change: Changed[Any]) -> None:
        """Tell of a change of an account."""
        for listener in self._on_account_change:
            listener(change)

    def tell(self, event: Happened) -> None:
        """Tell of an event for people."""
        for listener in self._on_event:
            listener(event)


def _ignore(topic: str, id: str) -> None:
    """Stand in for the listener until the dashboard's feed sets one."""
