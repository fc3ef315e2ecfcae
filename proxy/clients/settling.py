"""Ended requests on their way to the store that instances share: each counts once, whatever becomes of a call."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from functools import partial
from typing import Final

import msgspec

from proxy.clients.ticket import Reply, Scripts, Settlement, Settlements, Talk, months_around
from proxy.clock import Clock

MOST_AT_ONCE: Final = 500
"""Settlements in one call: the store does nothing else meanwhile."""

KEPT_S: Final = 60.0
"""How long what was settled is remembered: a failover loses what the old primary has said for far less long."""

_PACK: Final = msgspec.msgpack.Encoder()

Sent = tuple[int, float, list[Settlement]]
"""Settlements with the number of their call and when it was answered."""


class Settling:
    """Sends what ends in one turn of the loop together. What could not be settled is tried again until it is."""

    def __init__(self, scripts: Scripts, *, instance: str, clock: Clock) -> None:
        self._scripts = scripts
        self._instance = instance
        self._clock = clock
        self._keys = (scripts.key(""),)
        self._ended: list[Settlement] = []
        self._unsettled: list[Settlement] = []
        self._sending: dict[asyncio.Future[Reply], list[Settlement]] = {}
        self._settled: deque[Sent] = deque()
        self._numbers = itertools.count(1)

    def put(self, entry: Settlement) -> None:
        """Settle a request before whatever is called in a later turn of the loop."""
        if not self._ended:
            asyncio.get_running_loop().call_soon(self.send)
        self._ended.append(entry)

    def send(self) -> None:
        """Settle the requests that have ended, before whatever is called next."""
        if self._ended:
            entries, self._ended = self._ended, []
            number = next(self._numbers)
            asked = self._packed(entries, number)
            sent = self._scripts.run("settle", self._keys, (asked,))
            self._sending[sent] = entries
            sent.add_done_callback(partial(self._answered, number))

    async def save(self) -> None:
        """Settle what could not be settled before. Raises StorageError."""
        self.send()
        while self._sending:
            await asyncio.wait(self._sending)
        while self._unsettled:
            entries = self._unsettled[:MOST_AT_ONCE]
            await self.settle(entries, self._scripts)
            del self._unsettled[: len(entries)]

    async def settle(self, entries: list[Settlement], talk: Talk) -> None:
        """Settle what is not of this instance, or was sent before. Raises StorageError."""
        for begin in range(0, len(entries), MOST_AT_ONCE):
            asked = self._packed(entries[begin : begin + MOST_AT_ONCE])
            await talk.run("settle", self._keys, (asked,))

    def under_way(self) -> set[str | None]:
        """The requests that have ended, for which the store has not said yet that it knows."""
        sending = itertools.chain.from_iterable(self._sending.values())
        return {each.id for each in itertools.chain(self._ended, self._unsettled, sending)}

    def lost(self, last: int) -> list[Settlement]:
        """What a store has settled whose successor knows the calls up to the number `last` alone."""
        return [each for number, _, entries in self._settled if number > last for each in entries]

    def _packed(self, entries: list[Settlement], number: int | None = None) -> bytes:
        owner = None if number is None else self._instance
        return _PACK.encode(
            Settlements(months_around(self._clock.now()), entries, owner=owner, number=number)
        )

    def _answered(self, number: int, sent: asyncio.Future[Reply]) -> None:
        entries, now = self._sending.pop(sent), self._clock.monotonic()
        if sent.cancelled() or sent.exception() is not None:
            for each in entries:
                each.first, each.unsure = False, True
            self._unsettled += entries
            return
        self._settled.append((number, now, entries))
        while self._settled[0][1] < now - KEPT_S:
            self._settled.popleft()
