"""What is told to a target, and what becomes of one try to tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol

from proxy.feed import Level

ALARMS: Final = (
    "account.invalid",
    "account.quota_high",
    "account.exported",
    "pool.exhausted",
    "health.changed",
)
"""The events that a target gets if its configuration names none."""

TIMEOUT_S: Final = 10.0
"""The longest that one try may take, whatever the receiver does meanwhile."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened, for people. `at` is in seconds since the epoch.

    Two notices with the same `event` and `about` are repeats; `more` counts those that this one stands for too. Of
    those with the same `state_of`, the newest alone is true: each says how one thing is by now.
    `details` are members of a generic webhook's body beside its text.
    """

    event: str
    text: str
    level: Level
    at: float
    about: str = ""
    state_of: str = ""
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    more: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What its repeats have too."""
        return self.event, self.about

    @property
    def told(self) -> str:
        """The text, and how often the same has happened since the last notice."""
        return f"{self.text} ({self.more} more like this)" if self.more else self.text


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver said: the status of its answer, None if there was none, and what is wrong, None if nothing is."""

    problem: str | None
    status: int | None = None
    latency_ms: int = 0


class Sender(Protocol):
    """The way to one target."""

    async def send(self, notice: Notice) -> Reply:
        """Try once, for at most TIMEOUT_S. It raises nothing but CancelledError."""

    def close(self) -> None:
        """Let go of connections."""
