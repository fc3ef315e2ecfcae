"""What this instance holds of the limits that instances share, told again to a store that has lost it."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from proxy.clients.settling import Settling
from proxy.clients.ticket import Settlement, Talk, Ticket
from proxy.clock import Clock

MINUTE_S: Final = 60.0

_PACK: Final = msgspec.msgpack.Encoder()


class Held(msgspec.Struct, omit_defaults=True):
    """A running request in ARGV[1] of retake.lua."""

    id: str
    key: str
    client: str | None = None
    slots: int | None = None
    concurrent: int | None = None
    tokens: int | None = None
    nano: int | None = None


class Retake(msgspec.Struct, omit_defaults=True):
    """ARGV[1] of retake.lua."""

    owner: str
    lease_ms: int
    tickets: list[Held]
    minute: list[str | int]
    server: str | None = None


class Holdings:
    """The tickets of requests that go on, and which requests of a minute were admitted here.

    A failover, or a restart that lost the last moment, takes the store back to what it was before. Then each instance
    says what it holds before anything is admitted (retake.lua), so that no limit is overrun by what was forgotten, and
    gives back what it does not hold any more, so that nothing is kept by it.
    """

    def __init__(self, settling: Settling, *, instance: str, key: str, lease_s: float, clock: Clock) -> None:
        self._settling = settling
        self._instance = instance
        self._prefix = key
        self._lease_ms = int(lease_s * 1000)
        self._clock = clock
        self._tickets: dict[str, Ticket] = {}
        self._minute: deque[tuple[float, str, str]] = deque()

    def asked(self, ticket: Ticket) -> None:
        """Note a request that the store may hold from now on."""
        self._tickets[ticket.id] = ticket

    def admitted(self, ticket: Ticket) -> None:
        """Note a request that waits for nothing any more."""
        if ticket.counts and ticket.limits.requests_per_minute and not ticket.admitted:
            now, minute = self._clock.monotonic(), self._minute
            minute.append((now, ticket.key_id, ticket.id))
            while minute[0][0] <= now - MINUTE_S:
                minute.popleft()
        ticket.admitted = True

    def ended(self, ticket: Ticket) -> None:
        self._tickets.pop(ticket.id, None)

    async def tell(self, talk: Talk, slots: int) -> list[Ticket]:
        """Say what the store does not know, or knows and is over. Returns the requests that have no place any more.

        `slots`: how many each client has. Raises StorageError.
        """
        running = [each for each in self._tickets.values() if each.admitted]
        info = await talk.call("INFO", "server")
        there = await talk.call("HKEYS", self._prefix + "open:" + self._instance)
        last = await talk.call("GET", self._prefix + "settled:" + self._instance)
        assert isinstance(info, bytes) and isinstance(there, list)
        known = {each.decode() for each in there if isinstance(each, bytes)}
        lost = self._settling.lost(int(last) if isinstance(last, bytes) else 0)
        over = known - self._tickets.keys() - self._settling.under_way() - {each.id for each in lost}
        strays = [Settlement("", id, self._instance) for id in over]
        if lost or strays:
            await self._settling.settle(lost + strays, talk)
        missing = {
            each.id: each for each in running if each.id not in known and self._tickets.get(each.id) is each
        }
        tickets = [_held(each, slots) for each in missing.values()]
        server = info.partition(b"run_id:")[2][:40].decode()
        asked = _PACK.encode(Retake(self._instance, self._lease_ms, tickets, self._recent(), server))
        gone = await talk.run("retake", (self._prefix,), (asked,))
        assert isinstance(gone, list)
        return [missing[id.decode()] for id in gone if isinstance(id, bytes)]

    def _recent(self) -> list[str | int]:
        now = self._clock.monotonic()
        return [
            part
            for at, key, id in self._minute
            if at > now - MINUTE_S
            for part in (key, id, int((now - at) * 1e6))
        ]


def _held(ticket: Ticket, slots: int) -> Held:
    held = Held(ticket.id, ticket.key_id)
    if ticket.counts:
        held.concurrent = ticket.limits.concurrent_requests
    if ticket.client is not None:
        held.client, held.slots = ticket.client, slots
    if ticket.tokens is not None:
        held.tokens, held.nano = ticket.tokens, ticket.nano
    return held
