"""What instances on one store say to each other: what each tells of itself, and logs of their newest lines."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from proxy.storage.protocols import Record

AT_ONCE: Final = 200
"""Lines of one call: the store does nothing else meanwhile."""

Told = Mapping[str, bytes]
"""What an instance tells of itself: JSON by name."""

TakeTold = Callable[[int, str, str, bytes], object]
"""Takes the number of a line, an instance, and a name with its value, which is b"" if it is gone. No name: it left."""

TakeLine = Callable[[int, bytes], object]
"""Takes a line with its number."""


class Peers(Protocol):
    """The part of a shared store that is for instances alone. All methods that await raise StorageError."""

    @property
    def instance(self) -> str:
        """The id of this one."""

    async def tell(self, changed: Told, lease_s: float) -> bool:
        """Tell what has changed, which lasts for the lease. False if nothing was known: everything has to be told."""

    async def leave(self) -> None:
        """Have the others forget this instance at once, and no store wait for what it holds (retake.lua)."""

    async def told(self, instances: Collection[str] | None = None) -> Mapping[str, Told]:
        """What each instance, or each of these, has told; those are left out whose lease has ended."""

    async def follow(self, take: TakeTold) -> None:
        """Hand over what any instance tells from now on, this one too."""

    def append_newest(self, log: str, lines: Sequence[bytes], most: int) -> Awaitable[int]:
        """Append lines to a log that keeps about so many. Returns the number of the last one."""

    async def read_newest(self, log: str, take: TakeLine | None, *, then: TakeLine) -> None:
        """Hand the lines of such a log to `take`, in another thread, and to `then` those that come, one's own too.

        Without `take`, those that are there already are left out.
        """


@dataclass(frozen=True, slots=True)
class Sum:
    """What an account comes to over all instances: its counters, when it was used last, and its quota as JSON."""

    counters: tuple[int, int, int]
    used_at: float
    quota: bytes


class Sums(Protocol):
    """The counters of accounts over all instances. All methods that await raise StorageError."""

    async def sums(self) -> Mapping[str, Sum]:
        """What each account comes to."""

    async def add(
        self, rows: Mapping[str, tuple[tuple[int, int, int], Sum]]
    ) -> Mapping[str, tuple[int, int, int]]:
        """Add to the counters of accounts, whose others are those given first if there are none. Returns the sums.

        What else is given takes the place of what was there.
        """

    async def forget(self, ids: Collection[str]) -> None:
        """Remove what is known of accounts that were deleted."""

    async def follow(self, take: Callable[[str, Sum], object]) -> None:
        """Hand each account that any instance adds to from now on to `take`, with what it comes to."""


class Chained(Protocol):
    """Logs whose lines are one chain over all instances."""

    async def append_chained(
        self, log: str, lines: Sequence[Record], *, follows: str, makes: str, durable: bool
    ) -> str:
        """Append lines if `follows` is the tip of their chain; it is `makes` then. Returns the tip that is there now.

        Raises StorageError.
        """


class Ring:
    """Lines for such a log that wait to be written. Of more than it keeps, the oldest are dropped."""

    def __init__(self, peers: Peers, log: str, *, most: int) -> None:
        self._peers = peers
        self._log = log
        self._most = most
        self._waiting: deque[bytes] = deque(maxlen=most)
        self._writing = asyncio.Lock()  # what is on its way must not be written again
        self.written = 0
        """The number of the last line that was written from here."""

    def put(self, line: bytes) -> None:
        self._waiting.append(line)

    async def save(self) -> None:
        """Write what waits. Raises StorageError: then it is tried again."""
        async with self._writing:
            while self._waiting:
                some = list(islice(self._waiting, AT_ONCE))
                self.written = await self._peers.append_newest(self._log, some, self._most)
                for line in some:
                    if self._waiting and self._waiting[0] is line:  # else it was dropped meanwhile
                        self._waiting.popleft()
