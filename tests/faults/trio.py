"""Three instances on one store, each a process, before one simulator: they die and are cut off, and clients go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from proxy.clock import SystemClock
from proxy.simulator import Entry, Ledger, Simulator
from tests.cable import Cable
from tests.process import Running, forked
from tests.redis_server import RedisServer
from tests.service import ADMIN_KEY, MESSAGE_HEADERS, message
from tests.wire import Answer, Cut, fetch

ROUNDS = int(os.environ.get("INSTANCE_ROUNDS", "1"))
CONCURRENT = 3
PER_MINUTE = 30
TOKENS = 1500 * ROUNDS
"""Less than is asked for."""

LIMITS: dict[str, dict[str, str]] = {
    "free": {},
    "concurrent": {"concurrent_requests": str(CONCURRENT)},
    "minute": {"requests_per_minute": str(PER_MINUTE)},
    "tokens": {"tokens_per_day": str(TOKENS)},
}
ACCOUNTS = ("a", "b", "c", "d")
BETA = ("anthropic-beta", "files-api-2025-04-14")
PART = (
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\ncontent-type: text/plain\r\n\r\n'
    b"some text\r\n--x--\r\n"
)
PATIENCE_S = 4.0
"""How long a client waits for an answer before it asks another instance."""

HEALED_WITHIN_S = 30.0
REST_S = 0.03
"""Between two requests of a client."""


def secret(key: str) -> str:
    return f"cp-the-{key}-key-of-tests-6Hj3"


class Member:
    """One of the instances, and the cable between it and the store, if it has one."""

    def __init__(self, number: int, home: Path, variables: dict[str, str], cable: Cable | None) -> None:
        self.number = number
        self.cable = cable
        self._home = home
        self._variables = variables
        self._life = contextlib.AsyncExitStack()
        self._process: Running | None = None
        self.is_stopped = False

    @property
    def port(self) -> int:
        """Where it listens; the former port while there is no process."""
        assert self._process is not None
        return self._process.port

    async def start(self) -> None:
        config = str(self._home.parent / "config.yaml")
        self._home.mkdir(exist_ok=True)
        self._process = await self._life.enter_async_context(
            forked(self._home, "--config", config, **self._variables)
        )

    async def kill(self) -> None:
        await self._life.aclose()

    def pause(self) -> None:
        assert self._process is not None
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.signal(signal.SIGCONT)

    async def admin(self, method: str, path: str, body: Any = None) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        return await fetch(self.port, method, path, [("X-API-Key", ADMIN_KEY)], data)

    async def accounts(self) -> dict[str, dict[str, Any]]:
        """What a dashboard shows of accounts that is not this instance's own, by name."""
        names = ("id", "status", "status_reason", "expires_at", "last_refresh_at")
        found = (await self.admin("GET", "/api/accounts")).json()["accounts"]
        return {each["name"]: {name: each.get(name) for name in names} for each in found}

    async def keys(self) -> dict[str, Any]:
        """What a dashboard shows of keys, by name."""
        names = ("id", "status", "requests", "used")
        found = (await self.admin("GET", "/api/tokens")).json()["tokens"]
        return {each["name"]: {name: each.get(name) for name in names} for each in found}


@dataclass
class Load:
    """Clients that ask one instance after the other, and another one if that fails. `failures` did not heal."""

    members: list[Member]
    failures: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)
    tokens: int = 0
    """Of the key with a budget, as its answers say."""
    _goes: asyncio.Event = field(default_factory=asyncio.Event)
    _busy: int = 0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _rng: random.Random = field(default_factory=lambda: random.Random(1))

    def start(self) -> None:
        kinds: list[Callable[[], Awaitable[object]]] = [
            lambda: self._message("free"),
            lambda: self._message("concurrent"),
            lambda: self._message("concurrent"),
            lambda: self._message("minute"),
            lambda: self._message("tokens"),
            lambda: self._message("concurrent", slow=True),
            lambda: self._message("concurrent", slow=True),
            lambda: self._message("free", slow=True),
            self._file,
            self._refresh,
        ]
        self._tasks = [asyncio.create_task(self._repeat(kind)) for kind in kinds]
        self._goes.set()

    async def pause(self) -> None:
        """Return once nothing runs."""
        self._goes.clear()
        async with asyncio.timeout(2 * HEALED_WITHIN_S):
            while self._busy:  # noqa: ASYNC110 - the last of several
                await asyncio.sleep(0.02)

    def go_on(self) -> None:
        self._goes.set()

    async def stop(self) -> None:
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._goes.wait()
            self._busy += 1
            try:
                await work()
            finally:
                self._busy -= 1
            await asyncio.sleep(REST_S * self._rng.random() * 2)

    async def ask(
        self,
        what: str,
        method: str,
        target: str,
        headers: list[tuple[str, str]],
        body: bytes | None,
        key: str,
        allowed: tuple[int, ...] = (200,),
    ) -> Answer | None:
        """Ask until an instance answers with one of the allowed statuses; None if none does in time."""
        at, told = self._rng.randrange(3), ""
        end = asyncio.get_running_loop().time() + HEALED_WITHIN_S
        while asyncio.get_running_loop().time() < end:
            member = self.members[at % 3]
            try:
                async with asyncio.timeout(PATIENCE_S):
                    answer = await fetch(
                        member.port, method, target, [*headers, ("x-api-key", secret(key))], body
                    )
                if answer.status in allowed and not (answer.body and b"event: error" in answer.body):
                    self.counts[f"{what} {answer.status}"] += 1
                    return answer
                told = f"{answer.status} {answer.body[-200:]!r}"
            except (Cut, OSError, TimeoutError) as error:
                told = repr(error)
            self.counts[f"{what} asked again"] += 1
            at += 1
            await asyncio.sleep(REST_S)
        self.failures.append(f"{what}: {told}")
        return None

    async def _message(self, key: str, *, slow: bool = False) -> None:
        said = [{"role": "user", "content": f"I am {key}."}]
        headers = list(MESSAGE_HEADERS)
        if slow:
            headers.append(("x-simulate", "steady; events=10; interval=0.05"))
        body = message(messages=said, stream=slow)
        what = f"{'stream' if slow else 'message'} {key}"
        allowed = (200,) if key == "free" else (200, 429)
        answer = await self.ask(what, "POST", "/v1/messages", headers, body, key, allowed)
        if answer is None or answer.status != 200:
            return
        if slow and b"message_stop" not in answer.body:
            self.failures.append(f"{what}: a stream was cut, and nobody said so: {answer.body[-200:]!r}")
        if key == "tokens":
            used = answer.json()["usage"]
            self.tokens += used["input_tokens"] + used["output_tokens"]

    async def _file(self) -> None:
        """Make a file at one instance, and find it at another."""
        headers = [BETA, ("content-type", "multipart/form-data; boundary=x")]
        made = await self.ask("file", "POST", "/v1/files", headers, PART, "free")
        if made is not None:
            self.files.append(str(made.json()["id"]))
            await self.ask("find", "GET", f"/v1/files/{self.files[-1]}", [BETA], None, "free")

    async def _refresh(self) -> None:
        """Have all instances refresh one account at once. What comes of it, the ledger shows."""
        name = self._rng.choice(ACCOUNTS)

        async def refresh(member: Member) -> None:
            with contextlib.suppress(Cut, OSError, TimeoutError, KeyError):
                async with asyncio.timeout(PATIENCE_S):
                    id = (await member.accounts())[name]["id"]
                    answer = await member.admin("POST", f"/api/accounts/{id}/refresh")
                    self.counts[f"refresh {answer.status}"] += 1

        await asyncio.gather(*map(refresh, self.members))
        await asyncio.sleep(10 * REST_S)


class Watch:
    """What the upstream saw: how many requests of each key ran at once, and each refresh token that was used."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.most: Counter[str] = Counter()
        self.arrived: dict[str, list[float]] = {key: [] for key in LIMITS}
        self._open: dict[int, tuple[Entry, str]] = {}
        self._seen = 0
        self._excused: set[int] = set()

    def excuse(self) -> None:
        """What runs now may be over for the store before it is for the upstream."""
        self._excused |= self._open.keys()

    def look(self, ledger: Ledger) -> bool:
        for index in range(self._seen, len(ledger)):
            self._open[index] = ledger[index], ""
        self._seen = len(ledger)
        running: Counter[str] = Counter()
        for index, (entry, key) in list(self._open.items()):
            over = entry.finished or entry.closed_by_peer_at is not None
            if over or (entry.body is not None and entry.path != "/v1/messages"):
                del self._open[index]
            elif key or entry.body:
                if not key:
                    key = str(entry.json()["messages"][0]["content"])[5:-1]
                    self._open[index] = entry, key
                    self.arrived[key].append(entry.received_at)
                running[key] += index not in self._excused
        for each, count in running.items():
            self.most[each] = max(self.most[each], count)
        return False

    async def run(self) -> None:
        with contextlib.suppress(TimeoutError):
            await self.simulator.ledger.wait(self.look, timeout_s=36_000)

    def tokens_used_twice(self) -> list[tuple[float, float]]:
        """When each refresh token was used that was used more than once: the first time and the last."""
        uses: dict[str, list[float]] = {}
        for entry in self.simulator.ledger.token_calls():
            if entry.body and entry.json()["grant_type"] == "refresh_token":
                uses.setdefault(str(entry.json()["refresh_token"]), []).append(entry.received_at)
        return [(times[0], times[-1]) for times in uses.values() if len(times) > 1]

    def most_in(self, seconds: float, key: str) -> int:
        """The most requests of a key that came within so many seconds."""
        times = sorted(self.arrived[key])
        most = begin = 0
        for end, at in enumerate(times):
            while times[begin] <= at - seconds:
                begin += 1
            most = max(most, end - begin + 1)
        return most


@dataclass
class Trio:
    """The instances, who asks them, and what was seen."""

    members: list[Member]
    load: Load
    watch: Watch
    server: RedisServer


@contextlib.asynccontextmanager
async def trio(
    folder: Path, server: RedisServer, *, url: str | None = None, rotation: str = "strict", **variables: str
) -> AsyncIterator[Trio]:
    """Running, with accounts, and under load. The second one has a cable, unless `url` says where the store is."""
    simulator = Simulator(clock=SystemClock(), refresh_rotation=rotation, organizations=ACCOUNTS)
    await simulator.start(port=0)
    keys = [{"name": name, "key": secret(name), "limits": limits} for name, limits in LIMITS.items()]
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"auth": {"api_key": ADMIN_KEY, "client_keys": keys}}))
    config.chmod(0o600)
    given = {
        "CLAUDE__BASE_URL": simulator.base_url,
        "OAUTH__CLIENT_ID": simulator.client_id,
        "OAUTH__AUTHORIZE_URL": simulator.authorize_url,
        "OAUTH__TOKEN_URL": simulator.token_url,
        "SESSION__MAX_CONCURRENT": "10000",
        "SERVER__PORT": "0",
        "RETRY__BUDGET": "1",
    } | variables
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(simulator.stop)
        cable = Cable(server, server.path.with_name("cable.sock"))
        await stack.enter_async_context(cable.plugged())
        members = []
        for number in range(3):
            own = cable if number == 1 and url is None else None
            at = {
                "STORAGE__URL": url or (own or server).url,
                "STORAGE__DATA_FOLDER": str(folder / f"d{number}"),
            }
            members.append(Member(number, folder / str(number), given | at, own))
            stack.push_async_callback(members[-1].kill)
            await members[-1].start()
        watch, load = Watch(simulator), Load(members)
        await _log_in(simulator, members)
        watching = asyncio.create_task(watch.run())
        stack.callback(watching.cancel)
        load.start()
        stack.push_async_callback(load.stop)
        yield Trio(members, load, watch, server)


async def _log_in(simulator: Simulator, members: list[Member]) -> None:
    for name in ACCOUNTS:
        begun = (await members[0].admin("GET", "/oauth/authorize")).json()
        landed = simulator.authorize(begun["authorization_url"], organization=name)
        made = await members[0].admin("POST", "/oauth/exchange", {"name": name, "code": landed})
        assert made.status == 201, made.body
    await agreed(members)
    assert set(await members[0].accounts()) == set(ACCOUNTS)


async def agreed(members: list[Member], within_s: float = 20) -> None:
    """Return once the dashboards of all show the same accounts and keys. AssertionError if that never comes."""
    end = asyncio.get_running_loop().time() + within_s
    while True:
        shown = [await member.accounts() | await member.keys() for member in members]
        differing = {
            name: [each.get(name) for each in shown]
            for name in shown[0].keys() | shown[1].keys() | shown[2].keys()
            if not all(each.get(name) == shown[0].get(name) for each in shown)
        }
        if not differing:
            return
        assert asyncio.get_running_loop().time() < end, differing
        await asyncio.sleep(0.05)
