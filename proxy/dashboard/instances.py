"""All instances on one store, as each of them sees them: what they are, what they add to sums, and their sessions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from proxy.clients.sessions import Sessions
from proxy.clock import Clock
from proxy.errors import NotFound, Unavailable
from proxy.feed import Feed, Who, acting
from proxy.storage.peers import Peers, Ring, Told
from proxy.storage.protocols import Counters

LEASE_S: Final = 15.0
"""An instance that has told nothing for so long is dead, and its sessions are over."""

ORDER_S: Final = 2.0
"""How long an admin waits for another instance to end a session."""

View = dict[str, Any]

ORDERS: Final = "orders"
MOST_ORDERS: Final = 1000
ITSELF: Final = "instance"
"""The name under which an instance tells of itself. Other names are ids of its sessions."""

log = logging.getLogger(__name__)


class Share(msgspec.Struct):
    """What one instance adds to figures of all: since its start, and `in_flight` now, by account."""

    started_at: float
    since_start: list[float]
    turns: dict[str, int]
    moved_cost_usd: float
    moved_unpriced: int
    unclassified: int
    in_flight: dict[str, int]


class Itself(msgspec.Struct):
    """What an instance tells of itself; `facts` are for people."""

    facts: dict[str, Any]
    share: Share


class _Order(msgspec.Struct):
    """To whichever instance has this session: end it, in the name of an admin."""

    session: str
    by: tuple[str | None, str | None, str | None]


@dataclass(slots=True)
class _Instance:
    heard_at: float
    itself: Itself | None = None
    sessions: dict[str, bytes | View] = field(default_factory=dict)  # as JSON until somebody looks

    def view(self, session_id: str) -> View:
        found = self.sessions[session_id]
        if isinstance(found, bytes):
            found = self.sessions[session_id] = _VIEW.decode(found)
        return found


_VIEW: Final = msgspec.json.Decoder(dict[str, Any])
_ENCODER: Final = msgspec.json.Encoder()
_ITSELF: Final = msgspec.json.Decoder(Itself)
_ORDER: Final = msgspec.json.Decoder(_Order)


class Instances:
    """`itself` says what this one is, once a beat; it is given how long the last beat took to come back, in ms."""

    def __init__(
        self,
        peers: Peers,
        sessions: Sessions,
        itself: Callable[[float | None], Itself],
        *,
        counters: Counters,
        feed: Feed,
        clock: Clock,
    ) -> None:
        self._peers = peers
        self._sessions = sessions
        self._itself = itself
        self._counters = counters
        self._feed = feed
        self._clock = clock
        self._instances: dict[str, _Instance] = {}
        self._ended: dict[str, asyncio.Event] = {}  # whoever waits for the end of a session elsewhere
        self._orders = Ring(peers, ORDERS, most=MOST_ORDERS)
        self._number = 0
        self._unknown: set[str] = set()
        self._missed = False
        self._over: set[str] = set()  # sessions of dead instances, to be removed from storage
        self._unsent: set[str] = set()
        self._beat_at: float | None = None
        self._lag_ms: float | None = None

    # called periodically

    async def open(self) -> None:
        """Begin to hear of the others. Raises StorageError."""
        await self._peers.follow(self._take)
        await self._peers.read_newest(ORDERS, None, then=self._obey)
        self._learn(await self._peers.told())
        await self.tell()
        await self.beat()

    async def beat(self) -> None:
        """Tell that this instance lives, and what it is. Raises StorageError."""
        self._beat_at = self._clock.monotonic()
        itself = _ENCODER.encode(self._itself(self._lag_ms))
        if not await self._peers.tell({ITSELF: itself}, LEASE_S):
            self._unsent |= {session.id for session in self._sessions}

    async def tell(self) -> None:
        """Tell which sessions have changed, learn what was missed, and obey. Raises StorageError."""
        self._unsent |= self._sessions.changes()
        if self._unsent:
            some, self._unsent = self._unsent, set()
            try:
                await self._peers.tell({id: self._view_of(id) for id in some}, LEASE_S)
            except BaseException:
                self._unsent |= some
                raise
        await self._orders.save()
        await self._look()
        if self._over:
            over, self._over = self._over, set()
            await self._counters.update("sessions", dict.fromkeys(over))

    async def _look(self) -> None:
        """Read again what was missed, and whether those live that say nothing: the store ends their leases."""
        end = self._clock.monotonic() - LEASE_S
        self._unknown |= {id for id, each in self._instances.items() if each.heard_at <= end}
        if not self._missed and not self._unknown:
            return
        asked = None if self._missed else self._unknown
        self._missed, self._unknown = False, set()
        try:
            told = await self._peers.told(asked)
        except BaseException:
            self._missed = True
            raise
        for id in set(self._instances if asked is None else asked) - told.keys():
            log.warning("instance gone instance=%s", id)
            self._forget(id)
        self._learn(told)

    # for dashboards

    def ids(self) -> list[str]:
        return sorted(id for id, each in self._instances.items() if each.itself is not None)

    def view(self, id: str) -> Mapping[str, Any] | None:
        """What an admin may see of an instance; None if it is gone."""
        found = self._instances.get(id)
        return None if found is None or found.itself is None else {"id": id, **found.itself.facts}

    def shares(self) -> Sequence[Share]:
        """What the others add to sums."""
        own = self._peers.instance
        return [each.itself.share for id, each in self._instances.items() if each.itself and id != own]

    def sessions(self) -> Iterable[str]:
        """The ids of sessions at other instances."""
        return [id for each in self._instances.values() for id in each.sessions]

    def in_flight(self) -> int:
        """Requests that have not ended at other instances."""
        return sum(each.view(id)["in_flight"] for each in self._instances.values() for id in each.sessions)

    def session(self, session_id: str) -> View:
        """A session at another instance. Raises NotFound."""
        for each in self._instances.values():
            if session_id in each.sessions:
                return each.view(session_id)
        raise NotFound(f"no session {session_id[:64]!r}")

    def own_session(self, session_id: str) -> View:
        """A session of this instance, and at which one it is. Raises NotFound."""
        return self._sessions.view(self._sessions[session_id]) | {"instance": self._peers.instance}

    async def end(self, session_id: str) -> View:
        """End a session at another instance, with its requests. Returns what it was.

        Raises NotFound; Unavailable if that instance does not say within ORDER_S that it has; StorageError.
        """
        view, who = self.session(session_id), acting()
        ended = self._ended.setdefault(session_id, asyncio.Event())
        self._orders.put(_ENCODER.encode(_Order(session_id, (who.id, who.name, who.address))))
        try:
            async with asyncio.timeout(ORDER_S):
                await self._orders.save()
                await ended.wait()
        except TimeoutError:
            raise Unavailable(
                f"instance {view.get('instance')} has not ended the session yet: look again", retry_after_s=1
            ) from None
        finally:
            self._ended.pop(session_id, None)
        return view

    # what is heard

    def _take(self, number: int, instance: str, name: str, value: bytes) -> None:
        if self._number and number != self._number + 1:
            self._missed = True
        self._number = number
        if not name:
            self._forget(instance)
            return
        if instance not in self._instances:
            self._instances[instance] = _Instance(self._clock.monotonic())
            self._unknown.add(instance)
        self._set(instance, name, value)

    def _set(self, instance: str, name: str, value: bytes) -> None:
        known, own = self._instances[instance], instance == self._peers.instance
        known.heard_at = self._clock.monotonic()
        if name == ITSELF:
            try:
                known.itself = _ITSELF.decode(value)
            except msgspec.DecodeError:  # of another version
                log.warning("instance not understood instance=%s", instance)
            if own and self._beat_at is not None:
                self._lag_ms, self._beat_at = (known.heard_at - self._beat_at) * 1000, None
            self._feed.touch("instances", instance)
        elif name.startswith("ses_") and not own:
            if value:
                known.sessions[name] = value
            elif known.sessions.pop(name, None) is not None and name in self._ended:
                self._ended[name].set()
            self._feed.touch("sessions", name)

    def _learn(self, told: Mapping[str, Told]) -> None:
        """Take what instances have told so far. What they have told of sessions that are gone has no effect."""
        for instance, fields in told.items():
            known = self._instances.setdefault(instance, _Instance(self._clock.monotonic()))
            for gone in [id for id in known.sessions if id not in fields]:
                self._set(instance, gone, b"")
            for name, value in fields.items():
                self._set(instance, name, value)

    def _forget(self, instance: str) -> None:
        gone = self._instances.pop(instance, None)
        self._feed.touch("instances", instance)
        for id in () if gone is None else gone.sessions:
            self._over.add(id)
            if id in self._ended:
                self._ended[id].set()
            self._feed.touch("sessions", id)

    def _obey(self, number: int, line: bytes) -> None:
        order = _ORDER.decode(line)
        if order.session in self._sessions:
            self._sessions.end(order.session, Who("admin", *order.by))

    def _view_of(self, session_id: str) -> bytes:
        if session_id not in self._sessions:
            return b""
        return _ENCODER.encode(self.own_session(session_id))
