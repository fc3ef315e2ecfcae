"""A whole proxy before a simulator, in the test's own loop, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from proxy.accounts import Account, ApiKey
from proxy.settings import load_settings
from proxy.simulator import Simulator
from run import Parts, proxy
from tests.wire import Answer, fetch

ADMIN_KEY = "an-Admin-key-of-tests-7Qd2"
CLIENT_KEY = "cp-a-client-key-of-tests-4fXw"
MESSAGE = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hello"}],
}


class TestClock:
    """Stands still until `advance`; `sleep` moves it on and returns at once, and is written down."""

    __test__ = False

    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now - 1_700_000_000.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._now += seconds
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self._now += seconds


class Service:
    """What a test has in hand: the simulator behind, the parts inside, and requests from outside."""

    def __init__(self, parts: Parts, simulator: Simulator, clock: TestClock, port: int) -> None:
        self.parts = parts
        self.simulator = simulator
        self.clock = clock
        self.port = port

    async def add_account(self, name: str) -> tuple[Account, str]:
        """An account with an API key that the simulator knows, of an organisation of its own; and that key."""
        key = f"sk-ant-api03-of-{name}-" + "x" * 24
        self.simulator.add_api_key(key, organization=name)
        return await self.parts.pool.add(name, ApiKey(key)), key

    def status(self, name: str) -> str:
        """The state of the account called `name`."""
        return next(a.status.value for a in self.parts.pool if a.name == name)

    async def send(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        *,
        key: str = CLIENT_KEY,
    ) -> Answer:
        """One request with a client key; the answer is read whole."""
        return await fetch(self.port, method, target, [("x-api-key", key), *headers], body)

    async def message(self, *, stream: bool = False, headers: Iterable[tuple[str, str]] = ()) -> Answer:
        """`POST /v1/messages`"""
        return await self.send("POST", "/v1/messages", [*MESSAGE_HEADERS, *headers], message(stream=stream))

    async def admin(self, method: str, path: str, body: Any = None, *, key: str = ADMIN_KEY) -> Answer:
        """One request to the admin API."""
        data = None if body is None else json.dumps(body).encode()
        return await fetch(self.port, method, path, [("X-API-Key", key)], data)


MESSAGE_HEADERS = [("anthropic-version", "2023-06-01"), ("content-type", "application/json")]


def message(**fields: Any) -> bytes:
    """The body of a message request."""
    return json.dumps(MESSAGE | fields).encode()


@contextlib.asynccontextmanager
async def serve(
    folder: Path,
    *,
    accounts: Iterable[str] = ("a",),
    clock: TestClock | None = None,
    upstream: str | None = None,
    **options: str,
) -> AsyncIterator[Service]:
    """A running proxy with `accounts`; `options` are settings, as `retry__max_attempts="2"`."""
    clock = clock or TestClock()
    simulator = Simulator(clock=clock, rng=random.Random(1))
    await simulator.start(port=0)
    environ = {
        "AUTH__API_KEY": ADMIN_KEY,
        "CLAUDE__BASE_URL": upstream or simulator.base_url,
        "STORAGE__DATA_FOLDER": str(folder),
    } | {name.upper(): value for name, value in options.items()}
    try:
        async with proxy(load_settings(None, environ), clock, random.Random(1)) as parts:
            port = parts.server.listen("127.0.0.1", 0)
            service = Service(parts, simulator, clock, port)
            if not any(token.name == "tests" for token in parts.tokens):
                await parts.tokens.add("tests", CLIENT_KEY)
            for name in accounts:
                await service.add_account(name)
            try:
                yield service
            finally:
                await parts.server.drain()
    finally:
        await simulator.stop()
