"""What a write has reached in the shared store when it counts as done."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from proxy.errors import StorageError
from proxy.storage.redis_lane import Lane
from proxy.storage.redis_wire import Reply

WAIT_MS: Final = 200
"""Below the time-out of a call: a replica that is behind is told as such, and not as a store that is away."""

LAG_S: Final = 10
"""A replica that has acknowledged nothing for longer is not waited for. Sentinel looks at the offsets of replicas more
often than that (every 5 s if the primary is down), so it prefers each of the others."""

_ONLINE: Final = re.compile(rb"^slave\d+:.*\bstate=online\b.*\blag=(\d+)", re.MULTILINE)


class Durability:
    """`none`: the primary's memory. `aof`: its file, by fsync. `replica`: the memory of its replicas as well.

    `appends_always`: the server syncs each write before it answers, so that nothing has to be asked.
    """

    def __init__(self, level: str, *, appends_always: bool = False) -> None:
        self._level = level
        self._asks = level == "replica" or (level == "aof" and not appends_always)
        self._replicas = 1  # as the store said last

    def confirm(self, lane: Lane) -> asyncio.Future[None] | None:
        """Ask whether what was sent on this lane has got there, which raises StorageError if it has not.

        None if that is certain with its answer.
        """
        if not self._asks:
            return None
        if self._level == "aof":
            return asyncio.ensure_future(_on_disk(lane.call("WAITAOF", 1, 0, WAIT_MS)))
        asked = self._replicas
        both = asyncio.gather(lane.call("WAIT", asked, WAIT_MS), lane.call("INFO", "replication"))
        return asyncio.ensure_future(self._on_replicas(lane, asked, both))

    async def _on_replicas(self, lane: Lane, asked: int, both: asyncio.Future[tuple[Reply, Reply]]) -> None:
        """Any replica may be chosen at a failover, so the write has to be on all, and on one at least."""
        reached, info = await both
        wanted = self._replicas = max(1, _online(info))
        connection = lane.connections
        if _count(reached) < wanted and asked < wanted:
            reached = await lane.call("WAIT", wanted, WAIT_MS)
        # Another connection knows nothing of the write.
        if _count(reached) < wanted or lane.connections != connection:
            raise _not_on("all its replicas" if wanted > 1 else "a replica")


async def _on_disk(asked: asyncio.Future[Reply]) -> None:
    reply = await asked
    if not _count(reply[0] if isinstance(reply, list) else reply):
        raise _not_on("its append-only file")


def _online(info: Reply) -> int:
    """How many replicas keep up with the primary."""
    return sum(int(lag) <= LAG_S for lag in _ONLINE.findall(info if isinstance(info, bytes) else b""))


def _count(reply: Reply) -> int:
    return reply if isinstance(reply, int) else 0


def _not_on(where: str) -> StorageError:
    return StorageError(f"the shared store has it, but within {WAIT_MS} ms not on {where}")
