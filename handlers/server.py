"""The listening socket and its end: stop accepting, let streams finish, cut what is left."""

from __future__ import annotations

import errno
import logging
import resource
import secrets
from http.client import responses
from typing import Any

from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets

from handlers.live import Dashboards
from handlers.refusal import refusal
from handlers.routes import Front
from handlers.v1 import LAST_EVENT_S, V1
from proxy.clock import Clock
from proxy.dashboard.health import Health
from proxy.errors import InvalidRequest, RequestError, StartError, Unavailable

MAX_HEADER_BYTES = 32 * 1024
IDLE_CONNECTION_S = 75.0
"""Longer than clients keep an idle connection, so that it is seldom closed under a request of theirs."""

TELL_EVERY_S = 10.0

log = logging.getLogger(__name__)


class _CappedServer(HTTPServer):
    """Refuses connections before the files run out, since an accept that fails is tried again without end."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A stream holds two sockets, and a fifth is left for files and the upstream's idle connections.
        self._most = max(8, int(soft * 0.8) // 2)
        self._told_at = -TELL_EVERY_S

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        if len(self._connections) >= self._most:
            if stream.io_loop.time() - self._told_at >= TELL_EVERY_S:
                self._told_at = stream.io_loop.time()
                log.error("connection refused connections=%d: raise the limit of open files", self._most)
            stream.write(_answer(Unavailable("this proxy has too many connections", retry_after_s=1)))
            stream.close()
            return
        # Tornado answers what it cannot parse with a bare status line, which tells an API client nothing.
        write = stream.write
        stream.write = lambda data: write(_MALFORMED if data is _BARE_400 else data)  # type: ignore[method-assign]
        super().handle_stream(stream, address)


def _answer(error: RequestError) -> bytes:
    headers, body = refusal(error, f"req_{secrets.token_hex(12)}")
    headers["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.get_all())
    return f"HTTP/1.1 {error.status} {responses[error.status]}\r\n{lines}\r\n".encode() + body


# Tornado's own object, since an answer's body may have the same bytes.
_BARE_400 = next(c for c in HTTP1Connection._read_message_inner.__code__.co_consts if isinstance(c, bytes))
_MALFORMED = _answer(InvalidRequest("malformed request", should_retry=False))


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
        clock: Clock,
    ) -> None:
        self._v1 = v1
        self._dashboards = dashboards
        self._health = health
        self._drain_timeout_s = drain_timeout_s
        self._clock = clock
        self._http = _CappedServer(
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
                "stop what listens there, or set another server.port (SERVER__PORT=4001)"
                if error.errno == errno.EADDRINUSE
                else "set server.host and server.port to an address of this machine"
            )
            raise StartError(f"cannot listen on {host}:{port} ({error.strerror or error}): {fix}") from error
        self._http.add_sockets(sockets)
        return int(sockets[0].getsockname()[1])

    @property
    def running(self) -> int:
        """Requests to `/v1` that have not ended."""
        return len(self._v1.running)

    async def drain(self) -> None:
        """Refuse what is new, wait for what runs, cut what runs too long."""
        # It goes on listening: what comes now is told so, and so is who asks whether it is ready.
        self._health.draining = self._v1.draining = True
        if self.running:
            log.info("draining requests=%d timeout_s=%g", self.running, self._drain_timeout_s)
        if not await self._ended(self._drain_timeout_s):
            log.warning("cutting requests=%d", self.running)
            self._v1.cut_all()
            await self._ended(LAST_EVENT_S)
        self._dashboards.close()
        self._http.stop()
        await self._http.close_all_connections()

    async def _ended(self, within_s: float) -> bool:
        end = self._clock.monotonic() + within_s
        while self.running:
            if self._clock.monotonic() >= end:
                return False
            await self._clock.sleep(0.05)
        return True
