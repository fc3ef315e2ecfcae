"""Limits that all instances share: of client keys, and of the slots of clients. Decided by scripts in their store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from proxy.clients import refusals
from proxy.clients.budgets import NO_LIMITS, KeyLimits
from proxy.clients.holdings import Holdings
from proxy.clients.sessions import Place, Sessions
from proxy.clients.settling import MOST_AT_ONCE, Settling
from proxy.clients.ticket import (
    MOST,
    Ask,
    Scripts,
    Settlement,
    Talk,
    Ticket,
    client_id,
    months_around,
    most_nano,
    nano,
)
from proxy.clock import Clock
from proxy.errors import RateLimited, StorageError, StoreAway, Unavailable
from proxy.jobs import Jobs

LEASE_S: Final = 15.0
"""An instance that does not renew its lease for so long is dead, and its requests hold nothing any more."""

HEAR_S: Final = 5.0
"""How long one call waits to be told that a slot was freed for a request that waits here."""

POLL_S: Final = 2.0
"""How often the first of a client's waiting requests asks if it is told nothing, since what is told may be lost."""

BEHIND_S: Final = 0.1
BEHIND_TRIES: Final = 20
"""A store that took another's place admits nothing until all instances have told it what they hold: for how long a
request waits for that."""

_PACK: Final = msgspec.msgpack.Encoder()

log = logging.getLogger(__name__)


class SharedLimits:
    """Admits requests and settles them, each by one call.

    While the store is away, keys without limits go on: the slots of their clients are those of this instance alone.
    What could not be settled is tried again until it is.
    """

    def __init__(
        self,
        scripts: Scripts,
        *,
        instance: str,
        sessions: Sessions,
        jobs: Jobs,
        clock: Clock,
        poll_s: float = POLL_S,
    ) -> None:
        self._scripts = scripts
        self._instance = instance
        self._sessions = sessions  # knows how many slots there are, and how long a request waits for one
        self._poll_s = poll_s
        self._jobs = jobs
        self._clock = clock
        self._keys = (scripts.key(""),)
        self._settling = Settling(scripts, instance=instance, clock=clock)
        self._holdings = Holdings(
            self._settling, instance=instance, key=self._keys[0], lease_s=LEASE_S, clock=clock
        )
        self._queues: dict[str, deque[asyncio.Event]] = {}
        self._line = scripts.lane(longer_s=HEAR_S)
        self._hearing: asyncio.Task[None] | None = None
        self._renewed = self._told = False
        scripts.greet(self._tell)

    def ticket(
        self, request_id: str, key_id: str, limits: KeyLimits, place: Place, *, counts: bool
    ) -> Ticket | None:
        """A request's, which has asked for nothing yet. None if nothing limits the request."""
        limits = limits if counts else NO_LIMITS
        if place.limited:
            return Ticket(request_id, key_id, limits, place, counts, client_id(place.client))
        return None if limits == NO_LIMITS else Ticket(request_id, key_id, limits, place, counts)

    async def admit(self, ticket: Ticket, *, tokens: int | None = None, cost_usd: float = 0.0) -> None:
        """Take what the request does not hold yet, and reserve what it may use, if that is given.

        Waits for a slot of its client. Raises RateLimited; Unavailable if the store is away and the key has limits.
        """
        ticket.asked = True
        if tokens is not None:  # what is not limited is not reserved
            limits = ticket.limits
            ticket.tokens = min(tokens, MOST + 1) if limits.tokens_per_day or limits.tokens_per_month else 0
            ticket.nano = nano(cost_usd) if limits.cost_usd_per_day or limits.cost_usd_per_month else 0
        if self._scripts.away is None:
            try:
                if not await self._asked(ticket):
                    await self._wait(ticket)
                return
            except StorageError as error:
                log.debug("the store does not admit request=%s reason=%s", ticket.id, error)
        if ticket.limits != NO_LIMITS:
            raise Unavailable(
                "this key has limits that all instances of this proxy share, and their store is away: try again",
                retry_after_s=1,
            )
        await ticket.place.take()

    def settle(self, ticket: Ticket, *, tokens: int, cost_usd: float) -> bool:
        """Give back what the request holds and count what it has used. False if that has to be counted elsewhere."""
        self._holdings.ended(ticket)
        if ticket.open or ticket.call is not None:
            unsure = ticket.is_unsure
            entry = Settlement(ticket.key_id, ticket.id, self._instance, unsure=unsure)
            if ticket.open and (tokens or cost_usd):
                entry.tokens, entry.nano, entry.first = tokens, nano(cost_usd), not unsure
            self._settling.put(entry)
            self._turn(ticket.client)
        return ticket.open

    async def renew(self) -> None:
        """Say that this instance lives, and give back what those hold that do not. Called every third of LEASE_S.

        Raises StorageError.
        """
        args = (self._instance, int(LEASE_S * 1000), MOST_AT_ONCE, int(not self._renewed))
        found = await self._scripts.run("reap", self._keys, args)
        self._renewed = True
        assert isinstance(found, list)
        if found[0] or not self._told:  # others may have taken the places of what runs here
            await self._tell(self._scripts)
        names = [name.decode() for name in found if isinstance(name, bytes)]
        reaped = [
            Settlement("", id, owner, reaped=True) for owner, id in zip(names[::2], names[1::2], strict=True)
        ]
        if reaped:
            log.warning("requests of dead instances ended requests=%d", len(reaped))
            await self._settling.settle(reaped, self._scripts)

    def listen(self) -> None:
        """Begin to hear of slots that are freed at other instances; again if that was cut. Called every second."""
        if self._hearing is None or self._hearing.done():
            self._hearing = self._jobs.start("hear of free slots", self._hear(), wait=False)

    async def _hear(self) -> None:
        name = self._scripts.key("turns", self._instance)
        while self._scripts.away is None:
            try:
                told = await self._line.call("BLPOP", name, int(HEAR_S))
            except StorageError:
                return
            match told:
                case [_, bytes(client)]:
                    self._turn(client.decode())

    def _turn(self, client: str | None) -> None:
        """Let the first of a client's waiting requests ask."""
        queue = self._queues.get(client or "")
        if queue:
            queue[0].set()

    async def save(self) -> None:
        """Settle what could not be settled before. Raises StorageError."""
        await self._settling.save()

    async def _tell(self, talk: Talk) -> None:
        """Tell the store what it may have lost, and end the requests that have no place any more."""
        self._told = False
        gone = await self._holdings.tell(talk, self._sessions.max_concurrent)
        self._told = True
        for ticket in gone:
            log.warning("a request was ended: its place was given to another one request=%s", ticket.id)
            ticket.place.lose()

    async def _asked(self, ticket: Ticket) -> bool:
        """Ask the store. True if it admits the request, False if the request waits for a slot. Raises RateLimited."""
        self._holdings.asked(ticket)
        for _ in range(BEHIND_TRIES):
            self._settling.send()
            ticket.call = self._scripts.run("admit", self._keys, (_PACK.encode(self._ask(ticket)),))
            said = await asyncio.shield(ticket.call)
            ticket.call = None
            if said != [b"behind"]:
                break
            await self._clock.sleep(BEHIND_S)
        match said:
            case [b"admitted"]:
                ticket.open = True
                self._holdings.admitted(ticket)
                ticket.place.hold()
                return True
            case [b"waiting"]:
                ticket.open = True
                return False
            case [bytes(limit), int(wait_us), int(number)]:
                raise self._refusal(ticket, limit.decode(), wait_us / 1e6, number)
            case [b"behind"]:
                raise StorageError("not all instances have told it yet what they hold")
        # It is over for the store: this process stood still, and was taken for dead.
        raise Unavailable("this proxy has lost sight of the request: try again", retry_after_s=1)

    def _ask(self, ticket: Ticket) -> Ask:
        limits, now = ticket.limits, self._clock.now()
        ask = Ask(ticket.id, self._instance, ticket.key_id, int(LEASE_S * 1000), months_around(now))
        if ticket.counts:
            ask.minute, ask.concurrent = limits.requests_per_minute, limits.concurrent_requests
        if ticket.client is not None:
            ask.client, ask.slots = ticket.client, self._sessions.max_concurrent
            ask.wait_ms = int(self._sessions.queue_timeout_s * 1000) or None
        if ticket.tokens is not None:
            ask.tokens, ask.nano = ticket.tokens, ticket.nano
            ask.tokens_per_day, ask.tokens_per_month = limits.tokens_per_day, limits.tokens_per_month
            ask.nano_per_day = most_nano(limits.cost_usd_per_day)
            ask.nano_per_month = most_nano(limits.cost_usd_per_month)
        return ask

    def _refusal(self, ticket: Ticket, limit: str, wait_s: float, number: int) -> RateLimited:
        match limit:
            case "slots":
                return refusals.no_slot(self._sessions.max_concurrent)
            case "concurrent_requests":
                return refusals.too_many(number)
            case "requests_per_minute":
                return refusals.too_often(ticket.limits.requests_per_minute or 0, wait_s)
        amount, _, period = limit.partition("_per_")
        unit = "token" if amount == "tokens" else "cost"
        if number:
            return refusals.spent(unit, period, resets_at=number, wait_s=wait_s)
        return refusals.held(unit, period)

    async def _wait(self, ticket: Ticket) -> None:
        """Wait for a slot. The first of a client's waiting requests asks for all. Raises RateLimited."""
        assert ticket.client is not None
        queue, turn = self._queues.setdefault(ticket.client, deque()), asyncio.Event()
        queue.append(turn)
        try:
            async with asyncio.timeout(self._sessions.queue_timeout_s):
                while queue[0] is not turn or not await self._asked(ticket):
                    await self._woken(turn)
        except TimeoutError:
            raise refusals.no_slot(self._sessions.max_concurrent) from None
        finally:
            queue.remove(turn)
            if not queue:
                del self._queues[ticket.client]
            self._turn(ticket.client)

    async def _woken(self, turn: asyncio.Event) -> None:
        again = asyncio.get_running_loop().call_later(self._poll_s, turn.set)
        try:
            await turn.wait()
            turn.clear()
        finally:
            again.cancel()


def unless_away(work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Work for the store that is left for the next time while it is away, which is logged once, elsewhere."""

    async def run() -> None:
        with contextlib.suppress(StoreAway):
            await work()

    return run
