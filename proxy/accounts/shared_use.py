"""How much accounts were used over all instances, and what their latest answers have said of their quota."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from proxy.accounts.pool import Pool
from proxy.accounts.quota import Window
from proxy.accounts.use import Use
from proxy.feed import Feed
from proxy.storage.peers import Sum, Sums

Counters = tuple[int, int, int]

NONE: Final[Counters] = (0, 0, 0)

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(tuple[float, dict[str, Window]])
"""When an answer came, and the quota by then."""


class SharedUse:
    """Adds what was used here to the sums, and takes these. What was used since is on top of them, so none is lost.

    A call whose answer is lost may count twice.
    """

    def __init__(self, sums: Sums, pool: Pool, *, feed: Feed) -> None:
        self._sums = sums
        self._pool = pool
        self._feed = feed
        self._known: dict[str, Counters] = {}  # the sums, as far as they are known
        self._sent: dict[str, Counters] = {}  # what is on its way to be added
        self._unsent: set[str] = set()
        self._sending = asyncio.Lock()  # what is on its way must not be sent again

    async def open(self) -> None:
        """Take what there is. Raises StorageError."""
        self._pool.uses.changes()
        for id in self._pool.uses:
            self._known[id] = _counters(self._pool.uses[id])
        await self._sums.follow(self._take)
        for id, found in (await self._sums.sums()).items():
            self._take(id, found)

    async def exchange(self) -> None:
        """Add what was used since the last call. Raises StorageError: then it is added the next time."""
        async with self._sending:
            self._unsent |= self._pool.uses.changes()
            ids, self._unsent = self._unsent, set()
            try:
                await self._forget({id for id in ids if id not in self._pool.uses})
                await self._add([id for id in ids if id in self._pool.uses])
            except BaseException:
                self._unsent |= ids
                raise

    async def _forget(self, ids: set[str]) -> None:
        for id in ids:
            self._known.pop(id, None)
        await self._sums.forget(ids)

    async def _add(self, ids: list[str]) -> None:
        if not ids:
            return
        rows: dict[str, tuple[Counters, Sum]] = {}
        for id in ids:
            use, known = self._pool.uses[id], self._known.get(id, NONE)
            more = self._sent[id] = _less(_counters(use), known)
            quota, at = self._pool.quotas.told(id)
            rows[id] = known, Sum(more, use.last_used_at or 0.0, _ENCODER.encode((at, quota)))
        try:
            found = await self._sums.add(rows)
        except BaseException:
            self._sent.clear()  # it is above what is known, so it is sent again
            raise
        for id, sums in found.items():
            self._set(id, sums, sent=self._sent.pop(id))

    def _take(self, id: str, found: Sum) -> None:
        if id not in self._pool.uses:
            return
        self._set(id, found.counters, sent=NONE)
        use = self._pool.uses[id]
        use.last_used_at = max(use.last_used_at or 0.0, found.used_at) or None
        at, quota = _DECODER.decode(found.quota)
        if quota:
            self._pool.quotas.hear(id, quota, at)
        self._feed.touch("accounts", id)

    def _set(self, id: str, sums: Counters, *, sent: Counters) -> None:
        """Take newer sums, in which `sent` is, and keep on top of them what is not."""
        if id not in self._pool.uses:
            return
        use, known = self._pool.uses[id], self._known.get(id, NONE)
        on_top = _less(_less(_counters(use), known), sent)
        newest = self._known[id] = max(known[0], sums[0]), max(known[1], sums[1]), max(known[2], sums[2])
        use.requests, use.errors, use.rate_limits = map(sum, zip(newest, on_top, strict=True))


def _counters(use: Use) -> Counters:
    return use.requests, use.errors, use.rate_limits


def _less(some: Counters, others: Counters) -> Counters:
    return some[0] - others[0], some[1] - others[1], some[2] - others[2]
