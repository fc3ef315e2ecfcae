"""What makes a dashboard change all the time, without any request: the same verbs that requests call."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator

from proxy.clients.sessions import Client
from tests.service import Service

TICK_S = 0.01
AT_ONCE = 20


@contextlib.asynccontextmanager
async def traffic(service: Service, *, per_s: float, but: str = "") -> AsyncIterator[None]:
    """Requests begin and end, `per_s` of them, on random accounts but that one, until the end."""
    task = asyncio.create_task(_flow(service, per_s, but, random.Random(1)))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _flow(service: Service, per_s: float, but: str, rng: random.Random) -> None:
    began, done = time.monotonic(), 0
    running: deque[contextlib.ExitStack] = deque()
    try:
        while True:
            due = round((time.monotonic() - began) * per_s)
            for _ in range(due - done):
                running.append(_begin(service, but, rng))
                if len(running) > AT_ONCE:
                    running.popleft().close()
            done = due
            await asyncio.sleep(TICK_S)
    finally:
        for request in running:
            request.close()


def _begin(service: Service, but: str, rng: random.Random) -> contextlib.ExitStack:
    """A request that runs until it is closed."""
    request = contextlib.ExitStack()
    accounts = [account for account in service.parts.pool if account.id != but]
    request.callback(service.parts.pool.begin(rng.choice(accounts).id).close)
    service.parts.keys.used(rng.choice(tuple(service.parts.keys)))
    sessions = service.parts.sessions
    if len(sessions):
        client = rng.choice(tuple(sessions)).client
        request.callback(sessions.enter(client, limited=False, cut=_nothing).leave)
    return request


def add_sessions(service: Service, count: int) -> None:
    """Clients of the key called `tests`."""
    [token] = [token for token in service.parts.keys if token.name == "tests"]
    for n in range(count):
        client = Client(token.id, f"10.0.{n // 256}.{n % 256}", f"client/{n}")
        service.parts.sessions.enter(client, limited=False, cut=_nothing).leave()


def _nothing() -> None:
    """What is cut where an admin ends a session."""
