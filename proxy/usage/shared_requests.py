"""The last requests of all instances, in one order: each appends its own to one log, and reads that of all."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.feed import Feed
from proxy.redaction import Redaction
from proxy.storage.peers import Peers, Ring
from proxy.usage.latency import RECENT, RECENT_S, percentiles_ms
from proxy.usage.request import RequestRecord
from proxy.usage.request_log import MOST, Kept, RequestLog, Wanted
from proxy.usage.stored_request import kept_of

LOG: Final = "requests"
BACK_S: Final = 0.5
"""How long an admin waits for what was written to come back."""

_ENCODER: Final = msgspec.json.Encoder()


class SharedRequests(RequestLog):
    """A request is there once it has come back from the store. It is read when somebody looks: most are never."""

    def __init__(self, feed: Feed, peers: Peers, *, clock: Clock, redact: Redaction) -> None:
        super().__init__(feed, clock=clock, redact=redact)
        self._peers = peers
        self._ring = Ring(peers, LOG, most=MOST)
        self._unread: deque[tuple[int, bytes]] = deque(maxlen=MOST)
        self._ended: deque[Kept] = deque(maxlen=MOST)
        self._came = asyncio.Event()

    async def open(self) -> None:
        """Take those that are there, and all to come. Raises StorageError."""
        await self._peers.read_newest(LOG, self._take, then=self._take)

    def keep(self, record: RequestRecord) -> None:
        key, ended_at = record.key, record.ended_at
        if key is not None and ended_at is not None:
            self._ended.append(self._kept_of(record, key, ended_at))

    async def save(self) -> None:
        """Tell the others what has ended. Called some times a second. Raises StorageError: then it is tried again."""
        while self._ended:
            kept = self._ended.popleft()
            told = kept.view() | {"is_inference": kept.is_inference, "instance": self._peers.instance}
            self._ring.put(_ENCODER.encode(told))
        await self._ring.save()

    async def told(self) -> None:
        """While the store is away, those that have ended since are not here."""
        with contextlib.suppress(StorageError, TimeoutError):
            await self.save()
            async with asyncio.timeout(BACK_S):
                while self.newest < self._ring.written:
                    self._came.clear()
                    await self._came.wait()

    def find(self, wanted: Wanted, *, before: int | None = None, most: int = MOST) -> list[Kept]:
        self._read()
        return super().find(wanted, before=before, most=most)

    def one(self, id: str) -> Kept | None:
        self._read()
        return super().one(id)

    def restore(self, kept: Sequence[Kept]) -> None:
        """What this instance has on disk is here already, if it is among the last requests of all."""

    def after(self, number: int) -> list[Kept]:
        self._read()
        return super().after(number)

    def ttfb_ms(self) -> dict[str, float | None]:
        """As Latency has it, of all instances."""
        self._read()
        times: list[float] = []
        since = self._clock.now() - RECENT_S
        for kept in reversed(self._kept):
            if kept.end < since or len(times) == RECENT:
                break
            if kept.is_inference and kept.first_byte_at is not None and kept.status < 400:
                times.append(kept.first_byte_at - kept.began_at)
        return percentiles_ms(times)

    def _take(self, number: int, line: bytes) -> None:
        if number <= self.newest:  # the store has lost the last ones, and numbers them anew
            self._unread.clear()
            self._kept.clear()
        self._unread.append((number, line))
        self.newest = number
        self._came.set()
        self._feed.touch("requests", "")

    def _read(self) -> None:
        while self._unread:
            number, line = self._unread.popleft()
            with contextlib.suppress(ValueError):  # of a newer program
                self._kept.append(kept_of(line, self.clean)._replace(number=number))
