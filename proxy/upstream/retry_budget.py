"""Bounds the further tries of all requests together, so that an upstream in trouble is not asked five times as much."""

from __future__ import annotations

ROOM = 10.0
"""So many further tries may come at once, after a while without trouble."""


class RetryBudget:
    """A token bucket: each request adds `share` of a try, each further try because of upstream trouble takes one."""

    def __init__(self, share: float) -> None:
        self.share = share
        self._tries = ROOM

    def earn(self) -> None:
        """Note a request."""
        tries = self._tries + self.share
        self._tries = tries if tries < ROOM else ROOM

    def spend(self) -> bool:
        """Take one further try. False if there is none left."""
        if self._tries < 1:
            return False
        self._tries -= 1
        return True
