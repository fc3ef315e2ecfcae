"""What tests of OAuth logins share: the browser's part, the disk, and answers that are no tokens."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.accounts.account import Account, OAuthTokens
from proxy.accounts.oauth import OAuthServer, Registration
from proxy.accounts.pool import Pool
from proxy.accounts.refresh import Refresher
from proxy.accounts.upkeep import Upkeep
from proxy.jobs import Jobs
from proxy.simulator import Answer, Entry, Error, Fault, Grant, Raw, Reset, ResetEarly, Simulator
from proxy.storage.timed import Timed
from tests.disk import Disk, FullDisk, make_pool, new_ids
from tests.service import ON_REDIS, Service, SteppedClock, TestClock, kept
from tests.wire import Answer as Answered
from tests.wire import fetch

T = TypeVar("T")

TOKEN = "/v1/oauth/token"
HOUR = 3600.0
DAY = 24 * HOUR
DUE = 30.0
"""A life that makes a token due, but leaves it alive."""


def arguments(url: str) -> dict[str, str]:
    """The query of a URL."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


class Browser:
    """What comes back from the provider: where the browser is sent to."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.path = location[location.index("/oauth/callback") :] if "/oauth/callback" in location else ""
        self.code = arguments(location).get("code", "")
        self.state = arguments(location)["state"]
        self.pasted = f"{self.code}#{self.state}"


async def begin(
    service: Service, organization: str = "Acme", query: str = "", email: str | None = None
) -> Browser:
    """A login that came as far as the way back."""
    url = (await service.admin("GET", f"/oauth/authorize{query}")).json()["authorization_url"]
    return Browser(service.simulator.authorize(url, organization=organization, email=email))


async def visit(service: Service, path: str, method: str = "GET") -> Answered:
    """What a browser gets, without any key."""
    return await fetch(service.port, method, path)


def sent_tokens(simulator: Simulator) -> list[str | None]:
    """The refresh token or code of each token call."""
    return [entry.credential for entry in simulator.ledger.token_calls()]


def refreshes(simulator: Simulator) -> list[Entry]:
    """The token calls that are refreshes."""
    return [e for e in simulator.ledger.token_calls() if e.json()["grant_type"] == "refresh_token"]


def stored(folder: Path, account_id: str) -> dict[str, Any]:
    """The account's record."""
    return kept(folder, "accounts", account_id)


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No write of the storage succeeds until the monkeypatch is undone."""

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("proxy.storage.files.replace", fail)
    monkeypatch.setattr("proxy.storage.journal.Journal.write", fail)
    if ON_REDIS:
        monkeypatch.setattr(Timed, "put", FullDisk.put)
        monkeypatch.setattr(Timed, "delete", FullDisk.delete)


def as_json(value: object, status: int = 200) -> Answer:
    """An answer as it is, whatever the request was."""
    return Answer(status, (("content-type", "application/json"),), json.dumps(value).encode())


def with_access(access_token: object) -> Answer:
    """An answer with this in the place of the access token, and without a refresh token."""
    return as_json({"access_token": access_token, "token_type": "Bearer", "expires_in": 28800})


PAGE = b"<!doctype html><title>Just a moment...</title>"
HTML = (("content-type", "text/html; charset=UTF-8"),)

TROUBLES: dict[str, tuple[tuple[Fault, ...], str]] = {
    "500": ((Error(500),), "answered 500 api_error"),
    "502": ((Error(502),), "answered 502 api_error"),
    "502 of an edge": ((Error(502, html=True),), "answered 502"),
    "503": ((Error(503),), "answered 503"),
    "529": ((Error(529),), "answered 529 overloaded_error"),
    "429": ((Error(429),), "answered 429 rate_limit_error"),
    "429 with retry-after": ((Error(429, headers=(("retry-after", "7"),)),), "answered 429"),
    "429 with a date": (
        (Error(429, headers=(("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"),)),),
        "answered 429",
    ),
    "200 with HTML": ((Answer(200, HTML, PAGE),), "no JSON object"),
    "403 with HTML": ((Answer(403, HTML, PAGE),), "answered 403"),
    "401 with HTML": ((Answer(401, HTML, PAGE),), "answered 401"),
    "400 with HTML": ((Answer(400, HTML, PAGE),), "answered 400"),
    "redirect": ((Answer(302, (("location", "/v1/models"),)),), "answered 302"),
    "permanent redirect": ((Answer(308, (("location", TOKEN),)),), "answered 308"),
    "201": ((as_json({"access_token": "sk-ant-oat01-new"}, 201),), "answered 201"),
    "204": ((Answer(204),), "answered 204"),
    "empty": ((Answer(200),), "no JSON object"),
    "truncated JSON": ((Answer(200, (), b'{"access_token":"sk-ant-oat01-n'),), "no JSON object"),
    "list": ((as_json([{"access_token": "x"}]),), "no JSON object"),
    "null": ((as_json(None),), "no JSON object"),
    "text": ((as_json("sk-ant-oat01-new"),), "no JSON object"),
    "another encoding": ((Answer(200, (), b"\xff\xfe\x00\xd8{}"),), "no JSON object"),
    "deep nesting": ((Answer(200, (), b"[" * 60_000),), "no JSON object"),
    "10 MB": ((Answer(200, (), b"x" * 10_000_000),), "larger than 65536 bytes"),
    "10 MB of an error": ((Answer(400, (), b"x" * 10_000_000),), "larger than 65536 bytes"),
    "no access_token": ((as_json({"token_type": "Bearer"}),), "no access_token"),
    "empty access_token": ((with_access(""),), "no access_token"),
    "numeric access_token": ((with_access(12345678),), "no access_token"),
    "list as access_token": ((with_access(["sk-ant-oat01-new"]),), "no access_token"),
    "overlong access_token": ((with_access("x" * 20_000),), "no access_token"),
    "control character": ((with_access("sk-ant\r\nx-evil: 1"),), "no access_token"),
    "blank in access_token": ((with_access("sk-ant oat01"),), "no access_token"),
    "umlaut in access_token": ((with_access("sk-änt"),), "no access_token"),
    "200 with an error": ((as_json({"error": "invalid_grant"}),), "no access_token"),
    "404": ((Error(404),), "answered 404 not_found_error"),
    "400 invalid_request": ((as_json({"error": "invalid_request"}, 400),), "answered 400 invalid_request"),
    "400 of the Claude API": ((Error(400),), "answered 400 invalid_request_error"),
    "400 unauthorized_client": (
        (as_json({"error": "unauthorized_client"}, 400),),
        "answered 400 unauthorized_client",
    ),
    "400 invalid_client": ((as_json({"error": "invalid_client"}, 400),), "answered 400 invalid_client"),
    "403 with other JSON": ((as_json({"detail": "blocked"}, 403),), "answered 403"),
    "403 of one who is busy": (
        (as_json({"error": "temporarily_unavailable"}, 403),),
        "answered 403 temporarily_unavailable",
    ),
    # A connection that is lost may hide new tokens: the same question is asked once more.
    "two resets": ((Reset(), Reset()), "cannot be reached"),
    "two early resets": ((ResetEarly(), ResetEarly()), "cannot be reached"),
    "closed twice without an answer": ((Raw(b""), Raw(b"")), "cannot be reached"),
    "no HTTP, twice": ((Raw(b"\x16\x03\x01 hello\r\n\r\n"),) * 2, "cannot be reached"),
    "a cut head, twice": ((Raw(b"HTTP/1.1 200 OK\r\ncontent-le"),) * 2, "cannot be reached"),
    "a cut body, twice": ((Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"),) * 2, "cannot be reached"),
    "a head of 1 MB": (
        (Raw(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 1_000_000 + b"\r\n\r\n"),),
        "cannot be reached",
    ),
}
"""What changes no state, and what is told of it."""

REFUSALS: dict[str, tuple[Answer | Error, str]] = {
    "400 invalid_grant": (as_json({"error": "invalid_grant"}, 400), "answered 400 invalid_grant"),
    "401": (Error(401), "answered 401 authentication_error"),
    "401 invalid_grant": (as_json({"error": "invalid_grant"}, 401), "answered 401 invalid_grant"),
    "401 invalid_client": (as_json({"error": "invalid_client"}, 401), "answered 401 invalid_client"),
    "401 with a sentence": (as_json({"error": "Unauthorized"}, 401), "answered 401"),
    "401 without a code": (as_json({"error": {"message": "revoked"}}, 401), "answered 401"),
    "403 with a sentence": (as_json({"error": "Request not allowed"}, 403), "answered 403"),
    "403": (Error(403), "answered 403 permission_error"),
    "403 access_denied": (as_json({"error": "access_denied"}, 403), "answered 403 access_denied"),
}
"""What ends a grant, and what is told of it."""


def cases(table: dict[str, tuple[Any, str]]) -> Iterable[Any]:
    """A table's rows as parameters of a test."""
    return [pytest.param(*row, id=name) for name, row in table.items()]


@asynccontextmanager
async def simulating(simulator: Simulator) -> AsyncIterator[Simulator]:
    """The simulator, started; stopped at the end."""
    await simulator.start(port=0)
    try:
        yield simulator
    finally:
        await simulator.stop()


class CrashingJobs(Jobs):
    """What was started can be broken off."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[asyncio.Task[Any]] = []

    def start(self, name: str, work: Coroutine[Any, Any, T], *, wait: bool = True) -> asyncio.Task[T]:
        task = super().start(name, work, wait=wait)
        self.started.append(task)
        return task

    def crash(self) -> None:
        for task in self.started:
            task.cancel()


class World:
    """The refresher on a disk in memory, before a simulator."""

    def __init__(self, simulator: Simulator, clock: TestClock) -> None:
        self.simulator = simulator
        self.clock = clock
        self.disk = Disk()
        self._new_id = new_ids()
        self.start()

    def start(self) -> None:
        """As after a start with what is on disk."""
        self.jobs = CrashingJobs()
        # No id is given again after a restart.
        self.pool: Pool = make_pool(self.disk, self.clock, self.jobs, new_id=self._new_id)
        registration = Registration(
            client_id=self.simulator.client_id,
            authorize_url=self.simulator.authorize_url,
            token_url=self.simulator.token_url,
            scope="user:inference",
        )
        self.server = OAuthServer(registration, clock=self.clock)
        self.refresher = Refresher(
            self.pool, self.server, jobs=self.jobs, clock=self.clock, rng=random.Random(1)
        )
        self.refresher.start()
        self.upkeep = self.upkeep_of(random.Random(1))

    def upkeep_of(self, rng: random.Random) -> Upkeep:
        return Upkeep(
            self.pool, self.refresher, interval_s=HOUR, deactivates=False, clock=self.clock, rng=rng
        )

    async def stop(self) -> None:
        """As a shutdown: what runs is finished."""
        await self.jobs.close()
        self.server.close()

    async def crash(self) -> None:
        """As a kill: nothing is finished."""
        self.jobs.crash()
        await self.stop()

    async def add(self, name: str = "a", *, life_s: float = 8 * HOUR) -> tuple[str, Grant]:
        """An account as after a login, and its live grant."""
        grant = self.simulator.add_oauth(organization=name)
        account = await self.pool.add(name, tokens_of(grant, self.clock.now() + life_s))
        self.refresher.learn(account)
        return account.id, grant

    async def use(self, account_id: str) -> str:
        """The access token that a request would use now."""
        account = await self.refresher.usable(self.pool[account_id])
        assert isinstance(account.credential, OAuthTokens)
        return account.credential.access_token

    def answer(self, *faults: Fault) -> None:
        """What the token endpoint says next."""
        self.simulator.script(None, *faults, path=TOKEN)

    def on_disk(self, account_id: str) -> dict[str, Any]:
        return self.disk["accounts"][account_id]

    @property
    def calls(self) -> int:
        return len(self.simulator.ledger.token_calls())

    async def held(self, count: int = 1) -> None:
        """Return once so many token calls wait in the server for five seconds to pass."""
        assert isinstance(self.clock, SteppedClock)
        await self.clock.asleep(5, count=count)


def tokens_of(grant: Grant, expires_at: float) -> OAuthTokens:
    return OAuthTokens(grant.access_token, grant.refresh_token, expires_at, grant.scope)


def pair(tokens: Any) -> tuple[str, str | None]:
    """Access and refresh token of whatever has them."""
    if isinstance(tokens, dict):
        return tokens["credential"]["access_token"], tokens["credential"]["refresh_token"]
    if isinstance(tokens, Account):
        tokens = tokens.credential
    return tokens.access_token, tokens.refresh_token


@asynccontextmanager
async def world(clock: TestClock | None = None, *, rotation: str = "strict") -> AsyncIterator[World]:
    clock = clock or TestClock()
    simulator = Simulator(clock=clock, rng=random.Random(1), refresh_rotation=rotation)
    async with simulating(simulator):
        w = World(simulator, clock)
        try:
            yield w
        finally:
            clock.free()
            await w.stop()
