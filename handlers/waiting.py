"""What is answered before there is a proxy: its shared store cannot be reached, and is tried again and again."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, TypeVar

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine

from handlers.server import Listening
from proxy.clock import Clock
from proxy.errors import StoreAway

T = TypeVar("T")

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


@contextlib.asynccontextmanager
async def once_there(
    opened: Callable[[], AbstractAsyncContextManager[T]],
    why: Callable[[], Awaitable[str | None]],
    place: Listening,
    clock: Clock,
) -> AsyncIterator[T]:
    """What is opened, once `why` says nothing; until then every request gets a 503. Raises StartError.

    If the store goes away while it is opened, that begins again. Inherited sockets keep connections waiting meanwhile,
    and where others serve without the store they get all.
    """
    async with contextlib.AsyncExitStack() as stack:
        yield await _begun(stack, opened, partial(_wait, why, place, clock), clock)


async def _begun(
    stack: contextlib.AsyncExitStack,
    opened: Callable[[], AbstractAsyncContextManager[T]],
    wait: Callable[[], Awaitable[None]],
    clock: Clock,
) -> T:
    while True:
        await wait()
        try:
            return await stack.enter_async_context(opened())
        except StoreAway as error:
            log.error("cannot start yet, the shared store went away in_s=%g reason=%s", FIRST_AGAIN_S, error)
        await clock.sleep(FIRST_AGAIN_S)


async def _wait(why: Callable[[], Awaitable[str | None]], place: Listening, clock: Clock) -> None:
    reason = await why()
    if reason is None:
        return
    server = HTTPServer(_refuse)
    if not place.inherited and not place.others_serve:
        server.add_sockets(place.sockets())
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
