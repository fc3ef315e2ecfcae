"""What a write has reached in the shared store when it counts as done."""

from __future__ import annotations

import asyncio

from proxy.errors import StorageError
from proxy.storage.redis_lane import Lane, Reply

WAIT_MS = 200
"""Below the time-out of a call: a replica that is behind is told as such, and not as a store that is away."""


class Durability:
    """`none`: the primary's memory. `aof`: its file, by fsync. `replica`: the memory of one replica as well.

    `appends_always`: the server syncs each write before it answers, so that nothing has to be asked.
    """

    def __init__(self, level: str, *, appends_always: bool = False) -> None:
        self._level = level
        self._asks = level == "replica" or (level == "aof" and not appends_always)

    def confirm(self, lane: Lane) -> asyncio.Future[Reply] | None:
        """Ask whether what was sent on this lane has got there; None if that is certain with its answer."""
        if not self._asks:
            return None
        if self._level == "replica":
            return lane.call("WAIT", 1, WAIT_MS)
        return lane.call("WAITAOF", 1, 0, WAIT_MS)

    def check(self, reply: Reply) -> None:
        """Raises StorageError if it has not got there."""
        reached = reply[0] if isinstance(reply, list) else reply
        if not reached:
            where = "a replica" if self._level == "replica" else "its append-only file"
            raise StorageError(f"the shared store has it, but within {WAIT_MS} ms not on {where}")
