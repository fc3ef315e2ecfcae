"""The quota of each account, as its latest answers have told it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from proxy.accounts import quota
from proxy.accounts.quota import Quota, read_quota
from proxy.clock import Clock
from proxy.http.headers import AnswerHeaders


class Quotas:
    """The quotas by account id. An account whose answers named no limit has an empty one.

    `file_room` is told the room of an account whenever it changes: by an answer, or by `tick`.
    """

    def __init__(self, clock: Clock, file_room: Callable[[str, float], None] | None = None) -> None:
        self._clock = clock
        self._quotas: dict[str, Quota] = {}
        self._file_room = file_room
        self._room_until: dict[str, float] = {}

    def __getitem__(self, account_id: str) -> Quota:
        return self._quotas.get(account_id, {})

    def __iter__(self) -> Iterator[str]:
        """The accounts of which something is known."""
        return (id for id, known in self._quotas.items() if known)

    def saw(self, account_id: str, headers: AnswerHeaders) -> None:
        """Merge what an answer's headers say. On the path of every request."""
        known = self._quotas.get(account_id, {})
        self._quotas[account_id] = read_quota(headers, known, self._clock.now())
        if self._file_room is not None:
            self._file(account_id)

    def set(self, account_id: str, known: Quota) -> None:
        """Set what is known: after a restart, what was known before it."""
        self._quotas[account_id] = known
        self._file(account_id)

    def forget(self, account_id: str) -> None:
        """Remove a deleted account."""
        self._quotas.pop(account_id, None)
        self._room_until.pop(account_id, None)

    def tick(self) -> None:
        """File the rooms that time has changed: a window was reset, or begins to count."""
        now = self._clock.now()
        for account_id in [id for id, until in self._room_until.items() if until <= now]:
            self._file(account_id)

    def _file(self, account_id: str) -> None:
        if self._file_room is not None:
            self._file_room(account_id, self.room(account_id))
            self._room_until[account_id] = quota.room_until(self[account_id], self._clock.now())

    def room(self, account_id: str) -> float:
        """The fraction of its limits that the account has left, from 0 to 1; 1 if nothing is known."""
        return quota.room(self[account_id], self._clock.now())

    def view(self, account_id: str) -> list[dict[str, Any]]:
        """The windows of the account for admins, the tightest first."""
        return quota.view(self[account_id], self._clock.now())
