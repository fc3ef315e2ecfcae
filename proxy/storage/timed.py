"""A storage that measures another one: how long each write takes from its order to its end, and which fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.histogram import Histogram
from proxy.storage.protocols import Follower, Kind, Lease, Outcome, Outdated, Record, Storage, Stored

T = TypeVar("T")

WRITES: Final = ("put", "delete", "update", "append", "replace_log", "remove_log")

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
"""Bounds of the histograms: a disk that flushes takes 1 to 10 ms."""


class Timed:
    """Implements Storage. `seconds` and `errors` are by the name of the method that wrote."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self.seconds = {name: Histogram(SECONDS) for name in WRITES}
        self.errors: Counter[str] = Counter(dict.fromkeys(WRITES, 0))

    def replace(self, storage: Storage) -> Storage:
        """Measure another storage from now on. Returns the former one."""
        former, self._storage = self._storage, storage
        return former

    @property
    def measured(self) -> Storage:
        """The storage that is measured."""
        return self._storage

    @property
    def notices(self) -> Sequence[str]:
        return self._storage.notices

    @property
    def degraded(self) -> bool:
        return self._storage.degraded

    @property
    def away(self) -> str | None:
        return self._storage.away

    @property
    def is_shared(self) -> bool:
        return self._storage.is_shared

    async def load(self, kind: Kind) -> dict[str, Record]:
        return await self._storage.load(kind)

    async def stored(self, kind: Kind) -> dict[str, Stored]:
        return await self._storage.stored(kind)

    async def get(self, kind: Kind, id: str) -> Stored:
        return await self._storage.get(kind, id)

    async def write_anew(self) -> None:
        await self._storage.write_anew()

    def follow(self, kind: Kind, follower: Follower) -> None:
        self._storage.follow(kind, follower)

    def listen(self) -> None:
        self._storage.listen()

    async def take(self, name: str, ttl_s: float) -> Lease | None:
        return await self._storage.take(name, ttl_s)

    async def renew(self, lease: Lease, ttl_s: float) -> bool:
        return await self._storage.renew(lease, ttl_s)

    async def release(self, lease: Lease) -> None:
        await self._storage.release(lease)

    async def logs(self) -> list[str]:
        return await self._storage.logs()

    async def event_days(self) -> list[str]:
        return await self._storage.event_days()

    async def read_log(self, log: str) -> list[Record]:
        return await self._storage.read_log(log)

    async def each_line(self, log: str, take: Callable[[bytes], object]) -> None:
        await self._storage.each_line(log, take)

    def follow_log(self, log: str, take: Callable[[bytes], object] | None, *, own: bool = False) -> None:
        self._storage.follow_log(log, take, own=own)

    async def catch_up(self) -> None:
        await self._storage.catch_up()

    async def close(self) -> None:
        await self._storage.close()

    # Not `async def`: a write is queued when it is called.

    def put(
        self, kind: Kind, id: str, record: Record, *, known: int | None = None, fence: int | None = None
    ) -> Outcome:
        return self._timed("put", self._storage.put(kind, id, record, known=known, fence=fence))

    def put_new(self, kind: Kind, records: Mapping[str, Record]) -> Coroutine[Any, Any, None]:
        return self._timed("put", self._storage.put_new(kind, records))

    def delete(self, kind: Kind, id: str, *, known: int | None = None) -> Outcome:
        return self._timed("delete", self._storage.delete(kind, id, known=known))

    def update(self, kind: Kind, records: Mapping[str, Record | None]) -> Coroutine[Any, Any, None]:
        return self._timed("update", self._storage.update(kind, records))

    def append(
        self, log: str, lines: Iterable[Record], *, durable: bool = False
    ) -> Coroutine[Any, Any, None]:
        return self._timed("append", self._storage.append(log, lines, durable=durable))

    def replace_log(
        self, log: str, lines: Iterable[Record], *, as_read: bool = False
    ) -> Coroutine[Any, Any, None]:
        return self._timed("replace_log", self._storage.replace_log(log, lines, as_read=as_read))

    def remove_log(self, log: str) -> Coroutine[Any, Any, None]:
        return self._timed("remove_log", self._storage.remove_log(log))

    def _timed(self, what: str, write: Awaitable[T]) -> Coroutine[Any, Any, T]:
        return self._end(what, write, self._clock.monotonic())

    async def _end(self, what: str, write: Awaitable[T], began_at: float) -> T:
        try:
            return await write
        except Outdated:  # an answer, and no failure
            raise
        except StorageError:
            self.errors[what] += 1
            raise
        finally:
            self.seconds[what].observe(self._clock.monotonic() - began_at)
