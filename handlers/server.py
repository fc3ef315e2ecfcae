"""The listening socket and its end: stop accepting, let streams finish, cut what is left."""

from __future__ import annotations

import errno
import logging

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from handlers.routes import Front
from handlers.v1 import LAST_EVENT_S, V1
from proxy.clock import Clock
from proxy.errors import StartError
from proxy.health import Health

MAX_HEADER_BYTES = 32 * 1024
IDLE_CONNECTION_S = 75.0
"""Longer than clients keep an idle connection, so that it is seldom closed under a request of theirs."""

log = logging.getLogger(__name__)


class Server:
    """Serves until `drain`."""

    def __init__(self, front: Front, v1: V1, health: Health, *, drain_timeout_s: float, clock: Clock) -> None:
        self._v1 = v1
        self._health = health
        self._drain_timeout_s = drain_timeout_s
        self._clock = clock
        self._http = HTTPServer(
            front,
            max_header_size=MAX_HEADER_BYTES,
            max_buffer_size=1024 * 1024,
            idle_connection_timeout=IDLE_CONNECTION_S,
        )

    def listen(self, host: str, port: int) -> int:
        """Start to accept; the port in use. Raises StartError."""
        try:
            sockets = bind_sockets(port, host, backlog=1024)
        except OSError as error:
            fix = (
                "stop what listens there, or set another server.port"
                if error.errno == errno.EADDRINUSE
                else "set server.host and server.port to an address of this machine"
            )
            raise StartError(f"cannot listen on {host}:{port} ({error.strerror or error}): {fix}") from error
        self._http.add_sockets(sockets)
        return int(sockets[0].getsockname()[1])

    async def drain(self) -> None:
        """Refuse what is new, wait for what runs, cut what runs too long."""
        self._health.draining = self._v1.draining = True
        self._http.stop()
        if self._v1.running:
            log.info("draining requests=%d timeout_s=%g", len(self._v1.running), self._drain_timeout_s)
        if not await self._ended(self._drain_timeout_s):
            log.warning("cutting requests=%d", len(self._v1.running))
            self._v1.cut_all()
            await self._ended(LAST_EVENT_S)
        await self._http.close_all_connections()

    async def _ended(self, within_s: float) -> bool:
        end = self._clock.monotonic() + within_s
        while self._v1.running:
            if self._clock.monotonic() >= end:
                return False
            await self._clock.sleep(0.05)
        return True
