"""What changed: followers are told in order, in the same step, and only take note."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.accounts import Account


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """`old` is None where it was added, `new` where it was deleted."""

    old: Account | None
    new: Account | None


Follower = Callable[[AccountChanged], None]


class Feed:
    """Tells its followers. One that raises is a bug, and is heard."""

    def __init__(self) -> None:
        self._followers: list[Follower] = []

    def follow(self, follower: Follower) -> None:
        self._followers.append(follower)

    def publish(self, event: AccountChanged) -> None:
        for follower in self._followers:
            follower(event)
