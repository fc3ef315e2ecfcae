"""A whole proxy before a simulator, in the test's own loop, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from redis import Redis

from handlers import front
from handlers.front import make_server
from handlers.server import Server
from proxy.accounts.account import Account, ApiKey, OAuthTokens
from proxy.assembly.engine import Parts, engine
from proxy.clock import Clock
from proxy.config.settings import Settings, load_settings
from proxy.simulator import Grant, Simulator
from proxy.storage import redis
from tests.limit_scripts import script_at_test_time, told_time
from tests.redis_server import server_of_worker
from tests.wire import Answer, fetch

ON_REDIS = os.environ.get("TEST_STORE") == "redis"
"""Services keep everything in Redis: `make test-redis`."""

if ON_REDIS:
    redis.script = script_at_test_time  # type: ignore[attr-defined]

# To read the dashboard's files is a quarter of a start, of which there are thousands.
front.Assets = cache(front.Assets)  # type: ignore[misc, assignment]

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
        self._jumped = 0.0
        self.slept: list[float] = []
        self.on_move: Callable[[], object] = lambda: None

    def now(self) -> float:
        return self._now + self._jumped

    def monotonic(self) -> float:
        return self._now - 1_700_000_000.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._now += seconds
        self.on_move()
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self.on_move()

    def told(self) -> str:
        """What this clock shows, as the scripts of a store are told."""
        return told_time(self.now())

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; the monotonic one takes no notice."""
        self._jumped += seconds
        self.on_move()

    def free(self) -> None:
        """Let everyone who sleeps go on, from now on at once."""


class SteppedClock(TestClock):
    """Whoever sleeps stays asleep until `advance` reaches the end of it."""

    def __init__(self) -> None:
        super().__init__()
        self._asleep: dict[asyncio.Future[None], tuple[float, float]] = {}
        self._fell_asleep = asyncio.Event()
        self._freed = False

    async def sleep(self, seconds: float) -> None:
        if self._freed:
            return await super().sleep(seconds)
        self.slept.append(seconds)
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asleep[end] = (seconds, self._now + seconds)
        self._fell_asleep.set()
        try:
            await end
        finally:
            del self._asleep[end]

    async def asleep(self, seconds: float, count: int = 1) -> None:
        """Return once `count` sleep for so long."""
        async with asyncio.timeout(5):
            while [s for end, (s, _) in self._asleep.items() if not end.done()].count(seconds) < count:
                self._fell_asleep.clear()
                await self._fell_asleep.wait()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        for end, (_, at) in self._asleep.items():
            if at <= self._now + 1e-6 and not end.done():
                end.set_result(None)

    def free(self) -> None:
        self._freed = True
        self.advance(1e6)


async def until(condition: Callable[[], object], within_s: float = 5) -> None:
    """Return once `condition` holds; looked at in every turn of the loop. TimeoutError after `within_s`."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - any condition, also one that nobody announces
            await asyncio.sleep(0)


def upstream_key(name: str) -> str:
    """The API key of the account called `name`."""
    return f"sk-ant-api03-of-{name}-" + "x" * 24


@dataclass(frozen=True)
class Proxy(Parts):
    """The engine's parts, and the server before them."""

    server: Server


@contextlib.asynccontextmanager
async def proxy(settings: Settings, clock: Clock, rng: random.Random) -> AsyncIterator[Proxy]:
    """A proxy whose server does not listen yet."""
    async with engine(settings, clock, rng) as parts:
        yield Proxy(**vars(parts), server=make_server(parts))


class Service:
    """What a test has in hand: the simulator behind, the parts inside, and requests from outside."""

    def __init__(self, parts: Proxy, simulator: Simulator, clock: TestClock, port: int) -> None:
        self.parts = parts
        self.simulator = simulator
        self.clock = clock
        self.port = port

    @property
    def running(self) -> int:
        """Requests to `/v1` that have not ended."""
        return self.parts.server.running

    @property
    def transfers(self) -> int:
        """Exchanges with the upstream that libcurl still has."""
        return self.parts.relay.means.client.running

    def tick(self) -> None:
        """Let the engine change what time has changed, as it does each second."""
        self.parts.tick()

    async def add_account(self, name: str) -> tuple[Account, str]:
        """An account with an API key that the simulator knows, of an organisation of its own; and that key."""
        key = upstream_key(name)
        self.simulator.add_api_key(key, organization=name)
        return await self.parts.pool.add(name, ApiKey(key)), key

    async def add_login(self, name: str, *, expires_in: float | None = None) -> tuple[Account, Grant]:
        """An OAuth account of an organisation of its own, as after a login; and its live grant.

        `expires_in` is what the proxy believes, in seconds; the simulator's own is 8 hours.
        """
        grant = self.simulator.add_oauth(organization=name)
        life_s = grant.expires_in if expires_in is None else expires_in
        tokens = OAuthTokens(grant.access_token, grant.refresh_token, self.clock.now() + life_s, grant.scope)
        account = await self.parts.pool.add(name, tokens, organization_uuid=grant.organization.uuid)
        return account, grant

    async def add_key(self, name: str, *, group: str | None = None) -> str:
        """A new client key, as admins make it."""
        asked = {"name": name} if group is None else {"name": name, "group": group}
        made = await self.admin("POST", "/api/tokens", asked)
        assert made.status == 201, made.body
        return str(made.json()["token"]["key"])

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

    async def login(self, key: str = ADMIN_KEY) -> str:
        """The cookie of a new sign-in, as `name=value`."""
        answer = await self.page("POST", "/api/auth/login", {"api_key": key})
        return str(answer.header("set-cookie")).partition(";")[0]

    async def page(self, method: str, path: str, body: Any = None, *, cookie: str = "") -> Answer:
        """One request as the dashboard's own page sends it."""
        data = None if body is None else json.dumps(body).encode()
        return await fetch(self.port, method, path, [*PAGE_HEADERS, ("Cookie", cookie)], data)


PAGE_HEADERS = [("Origin", "http://127.0.0.1"), ("Content-Type", "application/json")]
MESSAGE_HEADERS = [("anthropic-version", "2023-06-01"), ("content-type", "application/json")]


def message(**fields: Any) -> bytes:
    """The body of a message request."""
    return json.dumps(MESSAGE | fields).encode()


def shared_store(folder: Path, clock: TestClock) -> dict[str, str | None]:
    """Settings of a pool of its own on the worker's Redis, in place of what would be in the folder. Its time is that
    of the clock.
    """
    server, name = server_of_worker(), shared_name(folder)
    server.ensure()
    clock.on_move = lambda: server.call("SET", f"{{{name}}}:time", clock.told())
    clock.on_move()
    return {"STORAGE__URL": server.url, "STORAGE__NAME": name, "STORAGE__TIMEOUT": "10s"}


def shared_name(folder: Path) -> str:
    """The name of the pool in Redis that stands for this folder."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def kept(folder: Path, kind: str, id: str) -> dict[str, Any]:
    """A record as a service in this folder has stored it, which keeps it in a file or in Redis."""
    if ON_REDIS:
        reply = server_of_worker().call("HGET", f"{{{shared_name(folder)}}}:records:{kind}", id)
        document = json.loads(reply.partition(b"\n")[2].partition(b" ")[2])
    else:
        path = folder / "accounts" / f"{id}.json" if kind == "accounts" else folder / f"{kind}.json"
        document = json.loads(path.read_text())
    return dict(document["records"][id])


def kept_text(folder: Path, name: str) -> str:
    """All that a service in this folder has stored of a kind of records, or in a log."""
    if not ON_REDIS:
        paths = [folder / f"{name}.json", folder / f"{name}.jsonl"]
        return "".join(path.read_text() for path in paths if path.exists())
    return "".join(map(str, kept_lines(folder, name))) + repr(
        _client().hgetall(_key(folder, "records", name))
    )


def kept_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The lines of a log, oldest first; `events` are those of all days."""
    if not ON_REDIS:
        paths = sorted((folder / name).iterdir()) if name == "events" else [folder / f"{name}.jsonl"]
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    names = sorted(_client().scan_iter(_key(folder, "log", f"{name}-*" if name == "events" else name)))
    return [json.loads(entry[b"l"]) for each in names for _, entry in _client().xrange(each) if b"l" in entry]


def _client() -> Any:
    return Redis(unix_socket_path=str(server_of_worker().path))


def _key(folder: Path, *parts: str) -> str:
    return ":".join((f"{{{shared_name(folder)}}}", *parts))


@contextlib.asynccontextmanager
async def serve(
    folder: Path,
    *,
    accounts: Iterable[str] = ("a",),
    clock: TestClock | None = None,
    upstream: str | None = None,
    config: Path | None = None,
    **options: str | None,
) -> AsyncIterator[Service]:
    """A running proxy with `accounts`; `options` are settings over `config`, as `retry__max_attempts="2"`.

    An option that is None has its own default.
    """
    clock = clock or TestClock()
    simulator = Simulator(clock=clock, rng=random.Random(1))
    await simulator.start(port=0)
    environ = {
        "AUTH__API_KEY": ADMIN_KEY,
        "CLAUDE__BASE_URL": upstream or simulator.base_url,
        "OAUTH__CLIENT_ID": simulator.client_id,
        "OAUTH__AUTHORIZE_URL": simulator.authorize_url,
        "OAUTH__TOKEN_URL": simulator.token_url,
        "SESSION__MAX_CONCURRENT": "10000",  # all requests of a test come from one client
        "SESSION__QUEUE_TIMEOUT": "0s",  # and none waits for another, if the test does not say so
        "STORAGE__DATA_FOLDER": str(folder),
    } | {name.upper(): value for name, value in options.items()}
    if ON_REDIS and "STORAGE__URL" not in environ:
        environ |= shared_store(folder, clock)
    given = {name: value for name, value in environ.items() if value is not None}
    try:
        async with proxy(load_settings(config, given), clock, random.Random(1)) as parts:
            port = await parts.server.listen("127.0.0.1", 0)
            service = Service(parts, simulator, clock, port)
            if not any(token.name == "tests" for token in parts.keys):
                await parts.keys.add("tests", CLIENT_KEY)
            for name in accounts:
                await service.add_account(name)
            try:
                yield service
            finally:
                clock.free()
                await parts.server.drain()
    finally:
        await simulator.stop()
