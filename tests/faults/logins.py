"""OAuth accounts under a proxy that is killed: the OAuth server that outlives it, and what each death leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.accounts.account import Account, OAuthTokens
from proxy.clock import SystemClock, rfc3339
from proxy.simulator import Simulator
from proxy.storage.codec import decode
from tests.process import Life, Running, forking, write_config

CLIENT_KEY = "cp-a-client-key-of-crash-tests-9Kd"
# What a start and a life may log at warning level; the last two are about accounts that are lost, or mended.
INTERRUPTED = re.compile(
    r"WARNING proxy.accounts.refresh refresh interrupted, .* account=(\S+)$", re.MULTILINE
)
ABOUT_LOST = re.compile(r"WARNING proxy.accounts.(refresh refresh failed|table account state) account=(\S+) ")


class LoginServer(Simulator):
    """The OAuth server and the API behind it."""

    def refreshes(self) -> list[dict[str, Any]]:
        """The refresh calls since this was asked last, in their order. 200 means rotated, whether or not it arrived."""
        calls = [
            {"organization": entry.organization, "presented": entry.credential, "status": entry.status}
            for entry in self.ledger.token_calls()
            if entry.body and entry.json()["grant_type"] == "refresh_token"
        ]
        self.ledger.clear()
        return calls

    async def settled(self) -> None:
        """Return once nothing is left of what came from processes that have ended.

        What one sent before it was killed still waits in a socket: read first, then no connection is left.
        """
        turns = 0
        while turns < 10:
            await asyncio.sleep(0)
            turns = 0 if self.open_connections else turns + 1


@dataclass(frozen=True)
class Left:
    """What a death leaves of one account, as the disk and the server's ledger show it."""

    intent: bool
    """On disk: a refresh had begun."""

    answer_lost: bool
    """The server has rotated the refresh token that is on disk."""


UNTOUCHED = Left(intent=False, answer_lost=False)
"""All that the server gave is on disk, and nothing had begun."""


class Home:
    """A data folder, the proxies that live on it one after the other, and the failpoints they have."""

    def __init__(self, folder: Path, server: LoginServer, armed: Path, life: Life) -> None:
        self.folder = folder
        self.server = server
        self.names: dict[str, str] = {}
        """The accounts: id, name; the name is the organization's too."""
        self.acknowledged: dict[str, str] = {}
        """By account, the `last_refresh_at` of the newest refresh that was answered."""
        self._armed = armed
        self._life = life

    def arm(self, failpoints: str) -> None:
        """From now on these, as CP_FAILPOINT has them and counted: see sitecustomize.py."""
        new = self._armed.with_suffix(".new")
        new.write_text(failpoints)
        new.replace(self._armed)

    @contextlib.asynccontextmanager
    async def life(self, *, failpoints: str = "") -> AsyncIterator[Running]:
        """One process, killed at the end where it lives on; `failpoints` are there from its start on."""
        self.arm(failpoints)
        async with self._life() as process:
            yield process

    # what an admin and a client do

    async def log_in(self, process: Running, name: str) -> None:
        """Add an account as an admin does, in the browser and by pasting where that lands."""
        landed = await self._landed(process, name, "")
        made = await ask(process, "POST", "/oauth/exchange", {"name": name, "code": landed})
        self.names[made["account"]["id"]] = name

    async def log_in_again(self, process: Running, id: str) -> None:
        """Re-authorise an account."""
        landed = await self._landed(process, self.names[id], f"?account_id={id}")
        done = await ask(process, "POST", f"/api/accounts/{id}/reauthorize", {"code": landed})
        assert done["account"]["status"] == "active"

    async def _landed(self, process: Running, name: str, query: str) -> Any:
        begun = await ask(process, "GET", f"/oauth/authorize{query}")
        return self.server.authorize(begun["authorization_url"], organization=name)

    async def refresh(self, process: Running, id: str) -> None:
        """A refresh that works."""
        done = await ask(process, "POST", f"/api/accounts/{id}/refresh")
        self.acknowledged[id] = done["account"]["last_refresh_at"]

    async def use(self, process: Running) -> None:
        """As many requests as there are accounts: round robin asks each of them once, and all answer."""
        asked = set()
        for _ in self.names:
            answer = await process.send("GET", "/v1/models", [("x-api-key", CLIENT_KEY)])
            assert answer.status == 200, answer.body
            asked.add(answer.header("x-proxy-account"))
        assert asked == set(self.names.values())

    # what a death leaves

    async def left(self) -> dict[str, Left]:
        """By account; with no process alive. AssertionError where something is missing that was acknowledged."""
        await self.server.settled()
        calls = self.server.refreshes()
        return {id: self._left(self.stored(id), calls) for id in self.names}

    def stored(self, id: str) -> Account:
        """The account as it is on disk, in its own file. Raises ValueError where that is torn."""
        path = self.folder / "data" / "accounts" / f"{id}.json"
        return Account.from_record(json.loads(decode(path.read_bytes(), path.name).records[id]))

    def _left(self, account: Account, calls: list[dict[str, Any]]) -> Left:
        stored_at = rfc3339(account.last_refresh_at or 0.0)
        assert self.acknowledged.get(account.id, "") <= stored_at, (
            f"an answered refresh is not on disk: {account}"
        )
        assert isinstance(account.credential, OAuthTokens)
        token = account.credential.refresh_token
        rotated = [c for c in calls if c["status"] == 200 and c["organization"] == self.names[account.id]]
        # Each token was presented once, and only the last answer can be missing: what was sent on was on disk.
        presented = [c["presented"] for c in rotated]
        assert len(set(presented)) == len(presented), f"a token was sent twice: {account}"
        assert token not in presented[:-1], f"the token on disk is two rotations old: {account}"
        intent, answer_lost = account.refresh_began_at is not None, presented[-1:] == [token]
        assert intent or not answer_lost, f"a refresh began, and left no intent: {account}"
        return Left(intent, answer_lost)

    async def check(self, process: Running, left: dict[str, Left], lost: set[str]) -> None:
        """The start found what was left and had no other complaint; all accounts work but the lost ones.

        Those are told so, keep their token, and work again after a new login.
        """
        begun = {id for id, each in left.items() if each.intent}
        assert set(INTERRUPTED.findall(process.stderr)) == begun, process.stderr
        for id in self.names.keys() - lost:
            await self.refresh(process, id)
        for id in lost:
            before = self.stored(id).credential
            refused = await process.admin("POST", f"/api/accounts/{id}/refresh")
            assert refused.status == 422, refused.body
            assert self.stored(id).credential == before
            shown = await ask(process, "GET", f"/api/accounts/{id}")
            assert shown["account"]["status"] == "invalid"
            await self.log_in_again(process, id)
        await self.use(process)
        assert not (told := complaints(process, lost)), told


@contextlib.asynccontextmanager
async def at_home(folder: Path, rotation: str, *, expires_in: int, seed: int = 1) -> AsyncIterator[Home]:
    """An empty one before a server of its own; `rotation` is `strict` or `grace`."""
    armed = folder / "failpoints"
    server = LoginServer(
        clock=SystemClock(), rng=random.Random(seed), refresh_rotation=rotation, expires_in=expires_in
    )
    await server.start(port=0)
    variables = {
        "CLAUDE__BASE_URL": server.base_url,
        "OAUTH__CLIENT_ID": server.client_id,
        "OAUTH__AUTHORIZE_URL": server.authorize_url,
        "OAUTH__TOKEN_URL": server.token_url,
        "CP_FAILPOINT_FILE": str(armed),
        "LOGGER__LEVEL": "warning",
    }
    try:
        async with forking(folder, "--config", str(write_config(folder)), **variables) as life:
            yield Home(folder, server, armed, life)
    finally:
        await server.stop()


def complaints(process: Running, lost: set[str]) -> list[str]:
    """What it logged that nothing explains."""
    return [
        line
        for line in process.stderr.splitlines()
        if not (INTERRUPTED.search(line) or ((about := ABOUT_LOST.search(line)) and about[2] in lost))
    ]


async def ask(process: Running, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """The answer to one request that succeeds. Raises Cut or ConnectionError where the process died."""
    answer = await process.admin(method, path, body)
    assert answer.status in (200, 201), answer.body
    return dict(answer.json())
