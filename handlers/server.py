"""The listening socket and its end: stop accepting, let streams finish, cut what is left."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tornado.httputil import HTTPServerConnectionDelegate
from tornado.netutil import bind_sockets

from handlers.answer import LAST_EVENT_S
from handlers.connection import Connection, end_soon, is_settled
from handlers.dashboards import Dashboards
from handlers.places import Places
from handlers.routes import Front
from handlers.v1 import V1
from proxy.clock import Clock
from proxy.dashboard.health import Health
from proxy.errors import StartError
from proxy.http.addresses import Network

BACKLOG = 1024

AT_ONCE = 16
"""Connections that are accepted, or ended, in one turn of the loop. A thousand in one would make all others wait for
0.1 s, and more where each asks for something at once. When files have run out, asyncio makes so many tries in one turn,
and logs each.
"""

HAND_OVER_S = 10.0
"""How long the process that follows waits for requests that are not answered yet: a request for an answer in one piece
may take minutes."""

SWEEP_S = 0.25
"""How late a connection's deadline may be noticed. A timer for each would be set anew with each request."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listening:
    """Where a server listens: on inherited sockets, if there are any.

    `worker`: its number among those of one port, on which `others_serve` already if it was started after them, by the
    process `parent`.
    """

    host: str
    port: int
    inherited: Sequence[socket.socket] = ()
    worker: int | None = None
    others_serve: bool = False
    parent: int | None = None

    def sockets(self) -> list[socket.socket]:
        """Raises StartError."""
        return list(self.inherited) or sockets_at(self.host, self.port, shared=self.worker is not None)


class Listener:
    """Accepts connections and ends those whose time is up.

    It refuses some before the files run out, since an accept that fails is tried again without end.
    """

    def __init__(
        self, delegate: HTTPServerConnectionDelegate, trusted_proxies: Sequence[Network] = ()
    ) -> None:
        self._delegate = delegate
        self._open: set[Connection] = set()
        self._listening: list[asyncio.Server] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._none_open = asyncio.Event()
        self._is_closed = False
        self._is_ending = False
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A stream holds two sockets, and a fifth is left for files and the upstream's idle connections.
        self._places = Places(max(8, int(soft * 0.8) // 2), trusted_proxies)

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on these sockets from now on."""
        loop = asyncio.get_running_loop()
        for each in sockets:
            self._listening.append(await loop.create_server(self._accepted, sock=each, backlog=AT_ONCE))
            each.listen(BACKLOG)  # asyncio knows one number for both
        self._end_overdue()

    def stop(self) -> None:
        """Accept no more."""
        loop = asyncio.get_running_loop()
        for each in self._listening:
            for listening in each.sockets:
                loop.remove_reader(listening.fileno())
            # What was accepted in this turn comes in the next one: a server that was closed meanwhile would lose it.
            loop.call_soon(each.close)

    def end_soon(self) -> None:
        """Have each connection end with its next answer: the open ones, and those that are being accepted."""
        self._is_ending = True
        for connection in self._open:
            end_soon(connection)

    @property
    def is_settled(self) -> bool:
        """Whether all that is still open are answers that have begun."""
        return all(map(is_settled, self._open))

    async def close_all_connections(self) -> None:
        """Close what is open, WebSockets excepted, and what is accepted meanwhile."""
        self._is_closed = True
        await asyncio.sleep(0)  # until all that was accepted is known
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in self._open:
            connection.abort()
        while self._open:
            self._none_open.clear()
            await self._none_open.wait()

    def _accepted(self) -> asyncio.Protocol:
        connection = Connection(self._delegate, self._places, self._ended)
        self._open.add(connection)
        connection.is_last = self._is_ending
        if self._is_closed:
            connection.abort()
        return connection

    def _ended(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()

    def _end_overdue(self) -> None:
        now = asyncio.get_running_loop().time()
        self._expire([each for each in self._open if each.deadline <= now])

    def _expire(self, overdue: list[Connection]) -> None:
        loop = asyncio.get_running_loop()
        for connection in overdue[-AT_ONCE:]:
            if connection.deadline <= loop.time() and connection in self._open:
                connection.expire()
        del overdue[-AT_ONCE:]
        if overdue:
            self._sweep = loop.call_later(0, self._expire, overdue)
        else:
            self._sweep = loop.call_later(SWEEP_S, self._end_overdue)


class Server:
    """Serves until `drain`."""

    def __init__(
        self,
        front: Front,
        v1: V1,
        dashboards: Dashboards,
        health: Health,
        *,
        drain_timeout_s: float,
        hurried: asyncio.Event,
        clock: Clock,
        trusted_proxies: Sequence[Network],
        listening: Callable[[int], None] = lambda port: None,
    ) -> None:
        self._v1 = v1
        self._listening = listening  # told the port
        self._dashboards = dashboards
        self._health = health
        self.drain_timeout_s = drain_timeout_s
        self._hurried = hurried  # ends the wait for what runs
        self._clock = clock
        self._sockets: list[socket.socket] = []
        self._listener = Listener(front, trusted_proxies)

    async def listen(self, host: str, port: int) -> int:
        """Start to accept; the port in use. Raises StartError."""
        return await self.listen_at(Listening(host, port))

    async def listen_at(self, place: Listening) -> int:
        """Start to accept there; the port in use. Raises StartError."""
        self._sockets = place.sockets()
        await self._listener.listen(self._sockets)
        bound = int(self._sockets[0].getsockname()[1])
        self._listening(bound)
        return bound

    def descriptors(self) -> list[int]:
        """Of the listening sockets."""
        return [each.fileno() for each in self._sockets]

    @property
    def running(self) -> int:
        """Requests to `/v1` that have not ended."""
        return len(self._v1.running)

    async def hand_over(self) -> None:
        """Leave new connections to the process that follows, and answer what the open ones still ask.

        Returns once all that runs are answers that have begun, or after HAND_OVER_S: `drain` waits for their ends.
        """
        log.info("handing over requests=%d", self.running)
        self._listener.stop()
        self._dashboards.close()
        self._listener.end_soon()
        end = self._clock.monotonic() + HAND_OVER_S
        while not (self._listener.is_settled or self._hurried.is_set() or self._clock.monotonic() >= end):
            await self._clock.sleep(0.05)
        self._health.draining = self._v1.draining = True

    async def drain(self) -> None:
        """Refuse what is new, wait for what runs, cut what runs too long."""
        # It goes on listening: what comes now is told so, and so is who asks whether it is ready.
        self._health.draining = self._v1.draining = True
        if self.running:
            log.info("draining requests=%d timeout_s=%g", self.running, self.drain_timeout_s)
        if not await self._ended(self.drain_timeout_s, self._hurried):
            log.warning("cutting requests=%d", self.running)
            self._v1.cut_all()
            await self._ended(LAST_EVENT_S, asyncio.Event())
        self._dashboards.close()
        self._listener.stop()
        await self._listener.close_all_connections()

    async def _ended(self, within_s: float, hurried: asyncio.Event) -> bool:
        end = self._clock.monotonic() + within_s
        while self.running:
            if self._clock.monotonic() >= end or hurried.is_set():
                return False
            await self._clock.sleep(0.05)
        return True


def sockets_at(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Sockets that listen; `shared`: others of this user may listen there too (SO_REUSEPORT). Raises StartError."""
    try:
        if host == "::":
            return [_of_both_kinds(port, shared)]
        return bind_sockets(port, host, backlog=BACKLOG, reuse_port=shared)
    except OSError as error:
        fix = (
            "stop what listens there, or set another server.port (SERVER__PORT=4001)"
            if error.errno == errno.EADDRINUSE
            else "set server.host and server.port to an address of this machine"
        )
        raise StartError(f"cannot listen on {host}:{port} ({error.strerror or error}): {fix}") from error


def _of_both_kinds(port: int, shared: bool) -> socket.socket:
    """A socket for every address, IPv4 too, if this machine can: Tornado makes `::` one for IPv6 alone."""
    both = socket.has_dualstack_ipv6()
    return socket.create_server(
        ("::", port), family=socket.AF_INET6, backlog=BACKLOG, reuse_port=shared, dualstack_ipv6=both
    )
