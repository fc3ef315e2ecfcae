"""What was acknowledged is there, and works, after the process was killed at any moment.

`CRASH_ROUNDS=1000 CRASH_SEED=7 pytest tests/faults/test_crash.py` kills it a thousand times, at other moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.clock import SystemClock
from proxy.simulator import Simulator
from tests.process import Running, forking, write_config
from tests.wire import Cut

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "12"))
SEED = int(os.environ.get("CRASH_SEED", "1"))
LONGEST_LIFE_S = 0.25
"""A process under load is killed within this time; a write of it takes about a millisecond."""


@dataclass
class Acknowledged:
    """What the process said it has; a change that was under way when it died may be there or not."""

    accounts: dict[str, tuple[str, str]] = field(default_factory=dict)  # id: name, key
    tokens: dict[str, str] = field(default_factory=dict)  # id: key
    deleted: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)


class Admin:
    """Makes, renames and deletes accounts and client keys, one after the other, until the process dies."""

    def __init__(self, number: int, simulator: Simulator, done: Acknowledged) -> None:
        self._number = number
        self._simulator = simulator
        self._done = done
        self._made = 0

    async def work(self, process: Running) -> None:
        with contextlib.suppress(Cut, ConnectionError):
            while True:
                await self._account(process)
                await self._token(process)
                if self._made % 5 == 0:
                    await self._rename(process)
                if self._made % 7 == 0:
                    await self._delete(process)

    async def _account(self, process: Running) -> None:
        self._made += 1
        name = f"account-{self._number}-{self._made}"
        key = f"sk-ant-api03-{name}-" + "x" * 16
        self._simulator.add_api_key(key, organization=name)
        made = await ask(process, "POST", "/api/accounts", {"name": name, "type": "api_key", "api_key": key})
        self._done.accounts[made["account"]["id"]] = (name, key)

    async def _token(self, process: Running) -> None:
        made = await ask(process, "POST", "/api/tokens", {"name": f"token-{self._number}"})
        self._done.tokens[made["token"]["id"]] = made["token"]["key"]

    async def _rename(self, process: Running) -> None:
        id, (name, key) = self._oldest()
        self._done.unsure.add(id)
        await ask(process, "PUT", f"/api/accounts/{id}", {"name": f"{name}-renamed"})
        self._done.accounts[id] = (f"{name}-renamed", key)
        self._done.unsure.discard(id)

    async def _delete(self, process: Running) -> None:
        id, _ = self._oldest()
        self._done.unsure.add(id)
        await ask(process, "DELETE", f"/api/accounts/{id}")
        del self._done.accounts[id]
        self._done.deleted.add(id)

    def _oldest(self) -> tuple[str, tuple[str, str]]:
        """The first account of this admin that is sure to be there."""
        mine = f"account-{self._number}-"
        return next(
            (id, (name, key))
            for id, (name, key) in self._done.accounts.items()
            if name.startswith(mine) and not name.endswith("-renamed") and id not in self._done.unsure
        )


async def ask(process: Running, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """The answer to one request that succeeds. Raises Cut or ConnectionError where the process died."""
    answer = await process.admin(method, path, body)
    assert answer.status in (200, 201), answer.body
    return dict(answer.json())


async def check(process: Running, simulator: Simulator, done: Acknowledged) -> None:
    """All that was acknowledged is there and works, nothing deleted is, and the start had no complaint."""
    assert process.stderr == ""
    listed = (await ask(process, "GET", "/api/accounts"))["accounts"]
    names = {account["id"]: account["name"] for account in listed}
    sure = {id: name for id, (name, _) in done.accounts.items() if id not in done.unsure}
    assert sure.items() <= names.items()
    assert not done.deleted & names.keys()
    tokens, total, page = set[str](), 1, 1
    while len(tokens) < total:  # the long form makes more than a page holds
        found = await ask(process, "GET", f"/api/tokens?limit=1000&page={page}")
        tokens |= {token["id"] for token in found["tokens"]}
        total, page = found["paging"]["total"], page + 1
    assert done.tokens.keys() <= tokens

    # As many requests as there are accounts: round robin asks each of them once.
    simulator.ledger.clear()
    keys = random.Random(SEED).sample(sorted(done.tokens.values()), min(len(done.tokens), 10))
    for number in range(len(listed)):
        answer = await process.send("GET", "/v1/models", [("x-api-key", keys[number % len(keys)])])
        assert answer.status == 200, answer.body
    asked = {entry.credential for entry in simulator.ledger}
    assert {key for id, (_, key) in done.accounts.items() if id not in done.unsure} <= asked


async def test_what_was_acknowledged_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    rng, done = random.Random(SEED), Acknowledged()
    simulator = Simulator(clock=SystemClock(), rng=rng)
    await simulator.start(port=0)
    admins = [Admin(number, simulator, done) for number in range(3)]
    variables = {"CLAUDE__BASE_URL": simulator.base_url, "LOGGER__LEVEL": "warning"}
    try:
        async with forking(tmp_path, "--config", str(write_config(tmp_path)), **variables) as life:
            for _ in range(ROUNDS):
                async with life() as process:
                    if done.tokens:
                        await check(process, simulator, done)
                    work = asyncio.gather(*(admin.work(process) for admin in admins))
                    asyncio.get_running_loop().call_later(
                        rng.uniform(0, LONGEST_LIFE_S), process.signal, signal.SIGKILL
                    )
                    await work
                    assert await process.ended() == -signal.SIGKILL
            async with life() as process:
                await check(process, simulator, done)
    finally:
        await simulator.stop()
    assert len(done.accounts) + len(done.deleted) > ROUNDS
