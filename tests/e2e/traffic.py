"""What makes a dashboard change all the time, without any request: the verbs that requests call, and their records."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence

from proxy.accounts.account import Account
from proxy.clients.keys import ClientKey
from proxy.clients.sessions import Client, Session
from proxy.usage.meter import Meter
from proxy.usage.request import Attempt, RequestRecord
from tests.service import Service

TICK_S = 0.01
AT_ONCE = 20
MODEL = "claude-sonnet-5-5"
ANSWER = json.dumps(
    {
        "type": "message",
        "model": MODEL,
        "usage": {"input_tokens": 1200, "output_tokens": 340, "cache_read_input_tokens": 50_000},
    }
).encode()


Ended = dict[str, float]
"""The requests that have ended: when, in seconds since the epoch, by id."""


@contextlib.asynccontextmanager
async def traffic(service: Service, *, per_s: float, but: str = "") -> AsyncIterator[Ended]:
    """Requests begin and end, `per_s` of them, on random accounts but that one, until the end."""
    ended: Ended = {}
    task = asyncio.create_task(_flow(service, per_s, but, ended))
    try:
        yield ended
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _flow(service: Service, per_s: float, but: str, ended: Ended) -> None:
    began, done = time.monotonic(), 0
    rng = random.Random(1)
    running: deque[contextlib.ExitStack] = deque()
    try:
        while True:
            due = round((time.monotonic() - began) * per_s)
            sessions = tuple(service.parts.sessions) if due > done else ()
            for _ in range(due - done):
                running.append(_begin(service, but, rng, sessions, ended))
                if len(running) > AT_ONCE:
                    running.popleft().close()
            done = due
            await asyncio.sleep(TICK_S)
    finally:
        for request in running:
            request.close()


def _begin(
    service: Service, but: str, rng: random.Random, sessions: Sequence[Session], ended: Ended
) -> contextlib.ExitStack:
    """A request that runs until it is closed."""
    request, parts = contextlib.ExitStack(), service.parts
    account = rng.choice([account for account in parts.pool if account.id != but])
    key = rng.choice(tuple(parts.keys))
    record = _record(parts.clock.monotonic(), key, account)
    request.callback(_end, service, record, ended)
    request.callback(parts.pool.begin(account.id).close)
    parts.keys.used(key)
    if sessions:
        session = rng.choice(sessions)
        record.session_id = session.id
        request.callback(parts.sessions.enter(session.client, limited=False, cut=_nothing).leave)
    return request


def _record(began_at: float, key: ClientKey, account: Account) -> RequestRecord:
    """Of a request that the account has answered."""
    record = RequestRecord(began_at, method="POST", path="/v1/messages", key=key, model=MODEL, form="message")
    attempt = Attempt(account.id, account.name, began_at)
    attempt.end(200, "hand_on", "", began_at)
    record.attempts.append(attempt)
    record.status, record.complete, record.first_byte_at = 200, True, began_at
    record.meter = Meter("application/json", "", 200)
    record.meter.feed(ANSWER)
    return record


def _end(service: Service, record: RequestRecord, ended: Ended) -> None:
    record.ended_at = service.parts.clock.monotonic()
    ended[record.id] = time.time()
    for sink in service.parts.sinks:
        sink(record)


def add_sessions(service: Service, count: int) -> None:
    """Clients of the key called `tests`."""
    [token] = [token for token in service.parts.keys if token.name == "tests"]
    for n in range(count):
        client = Client(token.id, f"10.0.{n // 256}.{n % 256}", f"client/{n}")
        service.parts.sessions.enter(client, limited=False, cut=_nothing).leave()


def _nothing() -> None:
    """What is cut where an admin ends a session."""
