"""What client keys have used over all instances: adds what was used here, and takes the sums in place of our own."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from datetime import date
from typing import Final

import msgspec

from proxy.clients.budgets import Budgets, Held, Window, read_window
from proxy.clients.keys import ClientKeys
from proxy.clients.ticket import EPOCH, Scripts, Settlement, Settlements, months_around, nano
from proxy.clock import Clock
from proxy.feed import Feed
from proxy.storage.fields import Fields
from proxy.storage.protocols import Record
from proxy.storage.totals import NANO, TOTALS, Total, Wanted

MOST_AT_ONCE: Final = 500
"""Keys whose use is told, or read, in one call: the store does nothing else meanwhile."""

_PACK: Final = msgspec.msgpack.Encoder()


class SharedUse:
    """Sums that are read every few seconds. Between two reads, what was used here is already among them."""

    def __init__(
        self,
        scripts: Scripts,
        keys: ClientKeys,
        budgets: Budgets,
        *,
        instance: str,
        feed: Feed,
        clock: Clock,
    ) -> None:
        self._scripts = scripts
        self._keys = keys
        self._budgets = budgets
        self._instance = instance
        self._feed = feed
        self._clock = clock
        self._names = (scripts.key(""),)
        self._pending: dict[str, Settlement] = {}
        self._batch: Settlements | None = None  # told, and not answered yet
        self._numbers = itertools.count(1)
        self._forgotten: set[str] = set()
        self._since = 0
        self._moving: set[str] = set()  # keys whose requests of a minute become fewer by themselves
        keys.on_use(self._used)

    def spend(self, key_id: str, *, tokens: int, cost_usd: float, told: bool = False) -> None:
        """Record spend. Ignored if the key was deleted. `told`: the others know it by the request's ticket."""
        if self._keys.use(key_id) is None:
            return
        entry = self._entry(key_id)
        self._budgets.spend(key_id, tokens=tokens, cost_usd=cost_usd)
        if not told:
            entry.tokens, entry.nano = (entry.tokens or 0) + tokens, (entry.nano or 0) + nano(cost_usd)

    async def adopt(self, counters: Mapping[str, Record]) -> list[str]:
        """Take over the counters of keys that were kept as records. Returns whose. Raises StorageError."""
        ids = [id for id in counters if self._keys.use(id) is not None]
        for begin in range(0, len(ids), MOST_AT_ONCE):
            some = {id: _fields(counters[id]) for id in ids[begin : begin + MOST_AT_ONCE]}
            await self._scripts.run("adopt", self._names, (_PACK.encode(some),))
        return ids

    async def exchange(self) -> None:
        """Tell the others what was used here, and learn what they have used. Raises StorageError."""
        await self.tell()
        changed, moving = MOST_AT_ONCE, tuple(self._moving)
        while changed == MOST_AT_ONCE:
            wanted = Wanted(self._since, MOST_AT_ONCE, moving)
            packed = await self._scripts.run("totals", self._names, (_PACK.encode(wanted),))
            assert isinstance(packed, bytes)
            self._since, changed, totals = TOTALS.decode(packed)
            for each in totals:
                self._take(each)
            moving = ()

    async def tell(self) -> None:
        """Add what was used here to the sums. Whatever is told twice counts once. Raises StorageError."""
        while self._batch is not None or self._pending:
            if self._batch is None:
                ids = tuple(itertools.islice(self._pending, MOST_AT_ONCE))
                entries = [self._pending.pop(id) for id in ids]
                self._batch = Settlements((), entries, f"{self._instance}.{next(self._numbers)}")
            batch = self._batch
            batch.months = months_around(self._clock.now())
            await self._scripts.run("settle", self._names, (_PACK.encode(batch),))
            if self._batch is batch:  # else another call was here first
                self._batch = None
        while self._forgotten:
            key_id = next(iter(self._forgotten))
            await self._scripts.run("forget", self._names, (key_id,))
            self._forgotten.discard(key_id)
            self._moving.discard(key_id)

    def _used(self, key_id: str) -> None:
        """Count a request of a key, or forget the key if it is gone."""
        if self._keys.use(key_id) is None:
            self._pending.pop(key_id, None)
            self._forgotten.add(key_id)
            return
        entry = self._entry(key_id)
        entry.requests, entry.at = (entry.requests or 0) + 1, self._clock.now()

    def _entry(self, key_id: str) -> Settlement:
        entry = self._pending.get(key_id)
        if entry is None:
            entry = self._pending[key_id] = Settlement(key_id)
            self._budgets.know(key_id)
        return entry

    def _take(self, total: Total) -> None:
        use = self._keys.use(total.id)
        if use is None:
            return
        told = [] if self._batch is None else [each for each in self._batch.entries if each.key == total.id]
        ours = [*told, *([self._pending[total.id]] if total.id in self._pending else [])]
        tokens, cost = sum(each.tokens or 0 for each in ours), sum(each.nano or 0 for each in ours)
        use.requests = total.requests + sum(each.requests or 0 for each in ours)
        use.last_used_at = max(total.last_used_at, use.last_used_at or 0.0) or None
        self._budgets.mirror(
            total.id,
            Window(total.day_name, total.day_tokens + tokens, (total.day_nano + cost) / NANO),
            Window(total.month_name, total.month_tokens + tokens, (total.month_nano + cost) / NANO),
            Held(
                total.recent,
                total.newest_us / 1e6,
                total.running,
                total.reservations,
                total.reserved_tokens,
                total.reserved_nano / NANO,
            ),
        )
        (self._moving.add if total.recent else self._moving.discard)(total.id)
        self._feed.touch("tokens", total.id)


def _fields(record: Record) -> dict[str, int | float]:
    """The counters of a key in the terms of the scripts. What is malformed is left out, as everywhere."""
    fields: dict[str, int | float] = {}
    for name, end in (("day", ""), ("month", "-01")):
        with contextlib.suppress(ValueError):
            window = read_window(Fields(record).inside(name))
            fields |= {
                name: date.fromisoformat(window.name + end).toordinal() - EPOCH,
                f"{name}_tokens": window.tokens,
                f"{name}_nano": nano(window.cost_usd),
            }
    with contextlib.suppress(ValueError):
        fields["requests"] = Fields(record).count("requests")
        fields["last_used_at"] = Fields(record).time_or_none("last_used_at") or 0
    return fields
