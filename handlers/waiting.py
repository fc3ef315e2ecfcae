"""What is answered before there is a proxy: its shared store cannot be reached, and is tried again and again."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine

from handlers.server import sockets_at
from proxy.clock import Clock

FIRST_AGAIN_S: Final = 0.5
LAST_AGAIN_S: Final = 10.0

ANSWER: Final = json.dumps(
    {
        "status": "unhealthy",
        "type": "error",
        "error": {"type": "api_error", "message": "this proxy waits for its shared store: try again soon"},
    }
).encode()

log = logging.getLogger(__name__)


async def wait_for_store(
    why: Callable[[], Awaitable[str | None]], host: str, port: int, clock: Clock
) -> None:
    """Return once `why` says nothing; until then every request gets a 503. Raises StartError."""
    reason = await why()
    if reason is None:
        return
    server = HTTPServer(_refuse)
    server.add_sockets(sockets_at(host, port))
    again_s = FIRST_AGAIN_S
    try:
        while reason is not None:
            log.error("cannot start yet, trying again in_s=%g reason=%s", again_s, reason)
            await clock.sleep(again_s)
            again_s = min(again_s * 2, LAST_AGAIN_S)
            reason = await why()
    finally:
        server.stop()
        await server.close_all_connections()
    log.warning("the shared store is there")


def _refuse(request: HTTPServerRequest) -> None:
    headers = HTTPHeaders(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(ANSWER)),
            "Retry-After": "5",
            "Cache-Control": "no-store",
        }
    )
    connection = request.connection
    assert connection is not None
    connection.write_headers(ResponseStartLine("HTTP/1.1", 503, "Service Unavailable"), headers, ANSWER)
    connection.finish()
