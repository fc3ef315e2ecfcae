"""What a request is asked for in the store that instances share, and what becomes of it: admit.lua and settle.lua."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Protocol, TypeAlias

import msgspec

from proxy.clients.budgets import KeyLimits
from proxy.clients.sessions import Client, Place
from proxy.storage.totals import NANO

MOST: Final = 2**53 - 2
"""Lua's numbers are exact up to 2^53: $9,007,199. Whoever asks for more asks for `MOST + 1`, and no limit is higher."""

EPOCH: Final = date(1970, 1, 1).toordinal()

Reply: TypeAlias = "bytes | int | list[Reply] | None"


class Line(Protocol):
    """A connection of its own to the store."""

    def call(self, *command: str | bytes | int) -> Future[Reply]:
        """Send a command. Raises StorageError."""


class Talk(Protocol):
    """Ways to ask the store."""

    def call(self, *command: str | bytes | int) -> Awaitable[Reply]:
        """Send a command. Raises StorageError."""

    def run(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int] = ()) -> Awaitable[Reply]:
        """Run a script. Raises StorageError."""


class Scripts(Protocol):
    """The store's scripts: those that all instances run on one pool's keys, in the order in which they are called."""

    @property
    def away(self) -> str | None:
        """Why the store is not asked now; None if it is."""

    def key(self, *parts: str) -> str:
        """The name of one of the pool's keys."""

    def lane(self, *, longer_s: float) -> Line:
        """A connection for calls that take up to `longer_s` longer than others; closed with the rest."""

    def greet(self, greeting: Callable[[Talk], Awaitable[None]]) -> None:
        """Have this said on each new connection before anything else."""

    def call(self, *command: str | bytes | int) -> Future[Reply]:
        """Send a command at once. Raises as `run`."""

    def run(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int] = ()) -> Future[Reply]:
        """Run a script, which is sent at once. Raises StorageError; StoreAway: it may have taken effect."""


class Ask(msgspec.Struct, omit_defaults=True):
    """ARGV[1] of admit.lua."""

    id: str
    owner: str
    key: str
    lease_ms: int
    months: tuple[int, ...]
    minute: int | None = None
    concurrent: int | None = None
    client: str | None = None
    slots: int | None = None
    wait_ms: int | None = None
    tokens: int | None = None
    nano: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    nano_per_day: int | None = None
    nano_per_month: int | None = None


class Settlement(msgspec.Struct, omit_defaults=True):
    """One of the entries of settle.lua."""

    key: str
    id: str | None = None
    owner: str | None = None
    tokens: int | None = None
    nano: int | None = None
    requests: int | None = None
    at: float | None = None
    first: bool = False
    unsure: bool = False
    reaped: bool = False


class Settlements(msgspec.Struct, omit_defaults=True):
    """ARGV[1] of settle.lua."""

    months: tuple[int, ...]
    entries: Sequence[Settlement]
    batch: str | None = None
    owner: str | None = None
    number: int | None = None


@dataclass(slots=True)
class Ticket:
    """What one request asks of its key's and its client's limits.

    `counts`: it is one of the key's requests a minute and at once. `asked`: it was asked for, whatever came of it.
    `open`: the store holds it, `admitted`: and it waits for nothing. `call`: the last call for it that has not been
    answered, or is not known to be.
    """

    id: str
    key_id: str
    limits: KeyLimits
    place: Place
    counts: bool
    client: str | None = None
    asked: bool = False
    open: bool = False
    admitted: bool = False
    call: Future[Reply] | None = None
    tokens: int | None = None
    nano: int = 0

    @property
    def is_unsure(self) -> bool:
        """Whether its last call was lost, and may still take effect. One that is on its way does so before the next."""
        return self.call is not None and self.call.done() and self.call.exception() is not None


def client_id(client: Client) -> str:
    """The name of a client in the store; no bytes of its choice."""
    text = "\0".join((client.key_id, client.address, client.user_agent))
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def nano(cost_usd: float) -> int:
    """A cost as the store keeps it."""
    return min(round(cost_usd * NANO), MOST + 1)


def most_nano(usd: float | None) -> int | None:
    """A limit of cost as the store keeps it."""
    return None if usd is None else min(round(usd * NANO), MOST)


def months_around(now: float) -> tuple[int, ...]:
    """The first days of the months around `now`, and of the one after, in days since the epoch."""
    return _months(int(now // 86_400))


@lru_cache(maxsize=4)
def _months(day: int) -> tuple[int, ...]:
    at = datetime.fromtimestamp(day * 86_400, UTC)
    this = at.year * 12 + at.month - 1
    return tuple(date(n // 12, n % 12 + 1, 1).toordinal() - EPOCH for n in range(this - 1, this + 3))
