"""What changed: followers are told in order, in the same step, and only take note."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from proxy.accounts.account import Account

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """`old` is None where it was added, `new` where it was deleted."""

    old: Account | None
    new: Account | None


@dataclass(frozen=True, slots=True)
class Happened:
    """Something else that an admin may want to read of; `kind` as `session.started`, `text` for people."""

    kind: str
    text: str
    level: Level = "info"
    token_id: str | None = None
    session_id: str | None = None


Follower = Callable[[AccountChanged], None]


class Feed:
    """Tells its followers. One that raises is a bug, and is heard."""

    def __init__(self) -> None:
        self._followers: list[Follower] = []
        self._readers: list[Callable[[Happened], None]] = []
        self._touched: Callable[[str, str], None] = _nobody

    def follow(self, follower: Follower) -> None:
        self._followers.append(follower)

    def read(self, reader: Callable[[Happened], None]) -> None:
        """Hear what is told."""
        self._readers.append(reader)

    def watch(self, touched: Callable[[str, str], None]) -> None:
        """Hear what is touched: the topic and the id. There is one who does, since this is called often."""
        self._touched = touched

    def publish(self, event: AccountChanged) -> None:
        for follower in self._followers:
            follower(event)

    def tell(self, event: Happened) -> None:
        for reader in self._readers:
            reader(event)

    def touch(self, topic: str, id: str) -> None:
        """What is shown of this one may be another by now."""
        self._touched(topic, id)


def _nobody(topic: str, id: str) -> None:
    """Before the dashboard's feed there is nobody to hear."""
