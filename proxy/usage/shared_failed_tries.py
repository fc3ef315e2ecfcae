"""What accounts failed at, over all instances: each counts its own at once, and soon tells the others."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from proxy.clock import Clock
from proxy.storage.peers import Peers, Ring
from proxy.usage.failed_tries import FailedTries
from proxy.usage.request import Failure, RequestRecord

LOG: Final = "failed-tries"
MOST: Final = 10_000
"""Lines, of 100 bytes for each account that failed meanwhile: an instance that starts knows the newest ones."""

_Tries = tuple[str, Failure, int]


class _Told(msgspec.Struct):
    """What failed at one instance, told `at` a time: accounts, at what they failed, and how often."""

    instance: str
    at: float
    tries: list[_Tries]


_ENCODER: Final = msgspec.json.Encoder()
_TOLD: Final = msgspec.json.Decoder(_Told)


class SharedFailedTries(FailedTries):
    """Those of others are here once they have told of them."""

    def __init__(self, peers: Peers, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._instance = peers.instance
        self._peers = peers
        self._ring = Ring(peers, LOG, most=MOST)
        self._untold: Counter[tuple[str, Failure]] = Counter()

    async def open(self) -> None:
        """Count what instances have told of, and will. Raises StorageError."""
        await self._peers.read_newest(LOG, self._take, then=self._take)

    def count(self, record: RequestRecord) -> None:
        super().count(record)
        for attempt in record.attempts:
            if attempt.failure is not None:
                self._untold[attempt.account_id, attempt.failure] += 1

    async def save(self) -> None:
        """Tell the others. Raises StorageError: then it is tried again."""
        if self._untold:
            tries = [(*key, tries) for key, tries in self._untold.items()]
            self._untold.clear()
            self._ring.put(_ENCODER.encode(_Told(self._instance, self._clock.now(), tries)))
        await self._ring.save()

    def _take(self, number: int, line: bytes) -> None:
        try:
            told = _TOLD.decode(line)
        except msgspec.DecodeError:  # of a newer program
            return
        if told.instance != self._instance:
            for account_id, failure, tries in told.tries:
                self._add(account_id, failure, tries, at=told.at)
