"""Who is connected, and how many inference requests each client has in flight."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from proxy.clients.refusals import no_slot
from proxy.clock import Clock, rfc3339
from proxy.errors import NotFound
from proxy.feed import SYSTEM, Feed, Happened, Subject, Who, acting
from proxy.storage.fields import Fields
from proxy.storage.protocols import Record, Storage
from proxy.storage.unsaved import Unsaved

MAX_SESSIONS = 4096
MAX_USER_AGENT = 256
"""Clients choose their User-Agent: without bounds, one could fill the memory with sessions. To save this many takes at
most 3 ms of the event loop."""

TELL_FULL_S = 60.0
"""How often the log says that there are so many."""

log = logging.getLogger(__name__)


class Client(Struct, frozen=True, gc=False):
    """An address (an IPv6 /64 counts as one) and a User-Agent under one client key."""

    key_id: str
    address: str
    user_agent: str


@dataclass(slots=True)
class Session:
    """The requests of one client. `limited` of those in flight hold a slot. Times are seconds since the epoch."""

    id: str
    client: Client
    created_at: float
    last_seen_at: float
    requests: int = 0
    in_flight: int = 0
    limited: int = 0
    account_id: str | None = None  # that answered last
    waiting: list[asyncio.Future[None]] = field(default_factory=list)  # an empty deque takes 600 bytes
    running: set[Callable[[], None]] = field(default_factory=set)


class Sessions:
    """The table of sessions. It is bounded: the least recently used one without requests in flight is dropped.

    Its limits, which are public, may be changed at any time; `cleans`: whether sessions that have expired are removed.
    """

    def __init__(
        self,
        stored: dict[str, Record],
        *,
        enabled: bool,
        max_concurrent: int,
        queue_timeout_s: float,
        ttl_s: float,
        clock: Clock,
        feed: Feed,
        new_id: Callable[[str], str],
        cleans: bool = True,
    ) -> None:
        self.enabled = enabled
        self._max_concurrent = max_concurrent
        self.queue_timeout_s = queue_timeout_s
        self.ttl_s = ttl_s
        self.cleans = cleans
        self._clock = clock
        self._feed = feed
        self._new_id = new_id
        self._by_id: dict[str, Session] = {}
        self._sessions: OrderedDict[Client, Session] = OrderedDict()
        self._unsaved = Unsaved("sessions", self._snapshot, _record, stored)
        self._told_full_at = -math.inf
        self._changed: set[str] | None = None  # since `changes` was called last, if it was
        self._restore(stored)

    def __getitem__(self, session_id: str) -> Session:
        """Raises NotFound."""
        try:
            return self._by_id[session_id]
        except KeyError:
            raise NotFound(f"no session {session_id[:64]!r}") from None

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._by_id

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._sessions.values()))

    def __len__(self) -> int:
        return len(self._sessions)

    def enter(
        self,
        client: Client,
        *,
        limited: bool,
        cut: Callable[[], None],
        lost: Callable[[], None] | None = None,
    ) -> Place:
        """Begin a request. The caller must `leave` the returned place.

        `cut` is called if an admin ends its session, `lost` if its place among all instances was given to another one.
        """
        now = self._clock.now()
        if len(client.user_agent) > MAX_USER_AGENT:
            client = Client(client.key_id, client.address, client.user_agent[:MAX_USER_AGENT])
        session = self._sessions.get(client)
        if session is not None and self._over(session):
            self._drop(session)
            session = None
        if session is None:
            is_full = len(self._sessions) >= MAX_SESSIONS
            if is_full:
                self._make_room()
            session = Session(self._new_id("ses"), client, now, now)
            self._sessions[client] = self._by_id[session.id] = session
            if not is_full:  # else each request of many clients could be an event, on disk too
                by = Who("key", client.key_id, address=client.address)
                self._tell("started", session, f"a session of {client.address} began", by)
        self._sessions.move_to_end(client)
        session.last_seen_at = now
        session.requests += 1
        session.in_flight += 1
        session.running.add(cut)
        self._touch(session)
        return Place(self, session, cut, lost, limited=limited and self.enabled)

    def take_now(self, session: Session) -> bool:
        """Take one of the session's slots if one is free and no request waits for it. False if not."""
        if session.limited >= self._max_concurrent or session.waiting:
            return False
        session.limited += 1
        return True

    def hold(self, session: Session) -> None:
        """Count a slot that was given by whoever knows the slots of all instances."""
        session.limited += 1

    async def take(self, session: Session) -> None:
        """Wait for one of the session's slots. Raises RateLimited if none becomes free in time."""
        if self.take_now(session):
            return
        if self.queue_timeout_s:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            session.waiting.append(turn)
            try:
                async with asyncio.timeout(self.queue_timeout_s):
                    await turn
                return
            except TimeoutError:
                if turn.done() and not turn.cancelled():
                    return  # the slot came in the moment of the timeout
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.give(session)
                raise
            finally:
                if turn in session.waiting:
                    session.waiting.remove(turn)
        raise no_slot(self._max_concurrent)

    def give(self, session: Session) -> None:
        """Free a slot, or pass it to the request that has waited longest, unless there are too many since a change."""
        while session.waiting and session.limited <= self._max_concurrent:
            turn = session.waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
                return
        session.limited -= 1

    def leave(self, session: Session, cut: Callable[[], None]) -> None:
        """A request is over."""
        session.in_flight -= 1
        session.running.discard(cut)
        session.last_seen_at = self._clock.now()
        if self._sessions.get(session.client) is session:
            self._sessions.move_to_end(session.client)
            self._touch(session)

    def changes(self) -> set[str]:
        """The ids that were touched since the last call, gone ones too; by the first one, all that there are."""
        changed, self._changed = self._changed, set()
        return set(self._by_id) if changed is None else changed

    def end(self, session_id: str, by: Who | None = None) -> Session:
        """Forget a session and end its requests, in the name of who is acting, or of `by`. Raises NotFound."""
        session = self[session_id]
        self._end(session, by)
        return session

    def end_of(self, key_id: str) -> None:
        """End every session of a client key, with its requests."""
        for session in self:
            if session.client.key_id == key_id:
                self._end(session)

    @property
    def max_concurrent(self) -> int:
        """Slots of each session. With more of them, requests that wait get theirs at once."""
        return self._max_concurrent

    @max_concurrent.setter
    def max_concurrent(self, slots: int) -> None:
        self._max_concurrent = slots
        for session in self:
            while session.waiting and session.limited < slots:
                session.limited += 1
                self.give(session)

    def tick(self) -> None:
        """Drop expired sessions, if that is wanted."""
        if self.cleans:
            self.clean()

    def clean(self) -> None:
        """Drop expired sessions."""
        for session in _expired(self._sessions.values(), self._clock.now(), self.ttl_s):
            self._drop(session)
            self._tell("ended", session, f"a session of {session.client.address} ended by itself", SYSTEM)

    def view(self, session: Session) -> dict[str, Any]:
        """What an admin may see."""
        return {
            "id": session.id,
            "token_id": session.client.key_id,
            "account_id": session.account_id,
            "ip": session.client.address,
            "user_agent": session.client.user_agent,
            "requests": session.requests,
            "in_flight": session.in_flight,
            "created_at": rfc3339(session.created_at),
            "last_seen_at": rfc3339(session.last_seen_at),
            "expires_at": None if session.in_flight else rfc3339(session.last_seen_at + self.ttl_s),
        }

    async def save(self, storage: Storage) -> None:
        """Write the sessions that have changed, without their requests in flight. Raises StorageError."""
        await self._unsaved.save(storage)

    def _restore(self, stored: dict[str, Record]) -> None:
        """Load the stored sessions, least recently used first. Expired or malformed ones go with the next save."""
        now = self._clock.now()
        found = {id: _restored(id, record, now) for id, record in stored.items()}
        for session in sorted(filter(None, found.values()), key=lambda session: session.last_seen_at):
            self._sessions[session.client] = self._by_id[session.id] = session
        self.clean()
        for id in stored.keys() - self._by_id.keys():
            self._unsaved.remove(id)

    def _snapshot(self, session_id: str) -> Snapshot | None:
        session = self._by_id.get(session_id)
        if session is None:
            return None
        return session.client, session.created_at, session.last_seen_at, session.requests

    def _over(self, session: Session) -> bool:
        return not session.in_flight and session.last_seen_at + self.ttl_s <= self._clock.now()

    def _end(self, session: Session, by: Who | None = None) -> None:
        self._drop(session)
        text = f"a session of {session.client.address} was ended, with {session.in_flight} requests"
        self._tell("ended", session, text, by or acting())
        log.info("session ended session=%s requests_cut=%d", session.id, session.in_flight)
        for cut in tuple(session.running):
            cut()

    def _make_room(self) -> None:
        if (now := self._clock.monotonic()) - self._told_full_at >= TELL_FULL_S:
            self._told_full_at = now
            log.warning("%d sessions: the longest unused make room, no event tells of new ones", MAX_SESSIONS)
        unused = next((s for s in self._sessions.values() if not s.in_flight), None)
        if unused is not None:
            self._drop(unused)

    def _drop(self, session: Session) -> None:
        del self._sessions[session.client], self._by_id[session.id]
        self._unsaved.remove(session.id)
        self._tell_of(session)

    def _touch(self, session: Session) -> None:
        self._unsaved.add(session.id)
        self._tell_of(session)

    def _tell_of(self, session: Session) -> None:
        if self._changed is not None:
            self._changed.add(session.id)
        self._feed.touch("sessions", session.id)

    def _tell(self, what: str, session: Session, text: str, by: Who) -> None:
        self._feed.tell(Happened(f"session.{what}", text, subject=Subject("session", session.id), by=by))


class Place:
    """One request of a session. Call `take_now` or `take` to get its slot, and `leave` in any case."""

    def __init__(
        self,
        sessions: Sessions,
        session: Session,
        cut: Callable[[], None],
        lost: Callable[[], None] | None,
        *,
        limited: bool,
    ) -> None:
        self._sessions = sessions
        self._session = session
        self._cut = cut
        self._lost = lost
        self._limited = limited
        self._taken = False
        self._left = False

    @property
    def session_id(self) -> str:
        return self._session.id

    @property
    def client(self) -> Client:
        return self._session.client

    @property
    def limited(self) -> bool:
        """Whether the request needs a slot."""
        return self._limited

    def answered_by(self, account_id: str) -> None:
        """Note the account whose answer the client gets."""
        self._session.account_id = account_id

    def take_now(self) -> bool:
        """Try to get a slot without waiting. True if the request has one now, or needs none."""
        if self._limited:
            self._taken = self._sessions.take_now(self._session)
        return self._taken or not self._limited

    def hold(self) -> None:
        """Have a slot that was given by whoever knows the slots of all instances."""
        if self._limited and not self._taken and not self._left:
            self._sessions.hold(self._session)
            self._taken = True

    async def take(self) -> None:
        """Wait for a slot. Raises RateLimited."""
        await self._sessions.take(self._session)
        self._taken = True
        if self._left:
            self._sessions.give(self._session)  # the request ended while it waited

    def lose(self) -> None:
        """End the request, if it still runs: its place is another one's by now."""
        if self._lost is not None and not self._left:
            self._lost()

    def leave(self) -> None:
        """End the request and free its slot. A second call does nothing."""
        if self._left:
            return
        self._left = True
        if self._taken:
            self._sessions.give(self._session)
        self._sessions.leave(self._session, self._cut)


Snapshot = tuple[Client, float, float, int]


def _record(snapshot: Snapshot) -> Record:
    """A session as it is stored."""
    client, created_at, last_seen_at, requests = snapshot
    return {
        "token_id": client.key_id,
        "ip": client.address,
        "user_agent": client.user_agent,
        "created_at": created_at,
        "last_seen_at": last_seen_at,
        "requests": requests,
    }


def _expired(longest_unused_first: Iterable[Session], now: float, ttl_s: float) -> list[Session]:
    """Looked for every second, so not beyond the first that is to stay."""
    found = []
    for session in longest_unused_first:
        if session.in_flight or session.last_seen_at > now:  # the clock was set back
            continue
        if session.last_seen_at + ttl_s > now:
            break
        found.append(session)
    return found


def read_session(id: str, record: Record) -> Session:
    """The session in a stored record. Raises ValueError, which names the field, if it is malformed."""
    fields = Fields(record)
    client = Client(fields.text("token_id"), fields.text("ip"), fields.text("user_agent"))
    return Session(
        id, client, fields.time("created_at"), fields.time("last_seen_at"), fields.count("requests")
    )


def _restored(id: str, record: Record, now: float) -> Session | None:
    """A stored session; None if it is malformed: sessions are disposable."""
    try:
        session = read_session(id, record)
    except ValueError:
        return None
    # If the clock was set back meanwhile, no session lives longer because of it.
    session.created_at, session.last_seen_at = min(session.created_at, now), min(session.last_seen_at, now)
    return session
