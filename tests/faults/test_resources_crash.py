"""No id that a client has seen is forgotten, and no group's home, whenever the process is killed.

An id is seen once its bytes have arrived, if nothing else of its answer has.
`RESOURCE_KILLS=200 RESOURCE_SEED=7 pytest tests/faults/test_resources_crash.py` kills more often, at other moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.simulator import Simulator
from tests.process import Running, forking, write_config
from tests.proxy.simulator.uploads import FORM, form, skill_form
from tests.service import MESSAGE, upstream_key
from tests.wire import Answer, Cut, connect

KILLS = int(os.environ.get("RESOURCE_KILLS", "5"))
SEED = int(os.environ.get("RESOURCE_SEED", "1"))
ACCOUNTS = ("a", "b", "c")
KEYS = 6
LONGEST_STORM_S = 0.4
NEVER_KILLED_S = 60
"""A storm that lasts as long waits for a failpoint that it does not pass."""

STEPS = [f"storage.{step}.{when}" for step in ("append", "append_fsync") for when in ("before", "after")]
MOST_TIMES = 40

ID = re.compile(rb'"((?:file|msgbatch|skill|container)_01\w{22})"')
PATHS = {"file": "/v1/files", "msgbatch": "/v1/messages/batches", "skill": "/v1/skills"}
CODE = [{"type": "code_execution_20250825", "name": "code_execution"}]
RUN_CODE = MESSAGE | {"max_tokens": 300, "tools": CODE, "stream": True}
BATCH = {"requests": [{"custom_id": "one", "params": MESSAGE}]}
CREATIONS: list[tuple[str, Any]] = [
    ("/v1/files", form(("file", "a.txt", b"hello"))),
    ("/v1/messages/batches", BATCH),
    ("/v1/skills", skill_form()),
    ("/v1/messages", RUN_CODE),
]


class Client:
    """A client key that is a group by itself, what it has seen so far, and where that came from."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.seen: dict[str, bool] = {}  # ids; whether it was found again
        self.homes: set[str | None] = set()

    async def storm(self, process: Running, rng: random.Random) -> None:
        """Make one thing after the other until the process dies."""
        with contextlib.suppress(Cut, ConnectionError):
            async with connect(process.port) as wire:
                while True:
                    async with self._asked(wire, "POST", *rng.choice(CREATIONS)) as answer:
                        assert answer.status == 200, answer.body
                        self.homes.add(answer.header("x-proxy-account"))

    @contextlib.asynccontextmanager
    async def _asked(self, wire: Any, method: str, path: str, body: Any = None) -> AsyncIterator[Answer]:
        """The answer to one request; what it names is noted, even if it is cut. Raises Cut, ConnectionError."""
        headers = [("x-api-key", self._key), ("anthropic-version", "2023-06-01")]
        if body is not None:
            headers.append(("content-type", FORM if isinstance(body, bytes) else "application/json"))
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        answer = await wire.request(method, path, headers, data)
        try:
            await answer.read()
        finally:
            for id in ID.findall(answer.body):
                self.seen.setdefault(id.decode(), False)
        yield answer

    async def check(self, process: Running) -> None:
        """All that was seen is found; what was found before, in the lists."""
        assert len(self.homes) <= 1, self.homes
        async with connect(process.port) as wire:
            for id in [id for id, found in self.seen.items() if not found]:
                kind = id.partition("_")[0]
                if kind == "container":
                    asked = self._asked(wire, "POST", "/v1/messages", RUN_CODE | {"container": id})
                else:
                    asked = self._asked(wire, "GET", f"{PATHS[kind]}/{id}")
                async with asked as answer:
                    assert answer.status == 200, (id, answer.body)
                self.seen[id] = True
            for kind, path in PATHS.items():
                wanted = {id for id in self.seen if id.startswith(kind)}
                assert wanted <= {id async for id in self._listed(wire, path)}

    async def _listed(self, wire: Any, path: str) -> AsyncIterator[str]:
        cursor: str | None = ""
        while cursor is not None:
            async with self._asked(wire, "GET", f"{path}?limit=100{cursor}") as answer:
                assert answer.status == 200, answer.body
                page = answer.json()
            for item in page["data"]:
                yield item["id"]
            if "next_page" in page:
                cursor = f"&page={page['next_page']}" if page["next_page"] else None
            else:
                cursor = f"&after_id={page['last_id']}" if page["has_more"] else None

    async def finds_nothing_of(self, process: Running, other: Client) -> None:
        """What is another one's is unknown here."""
        async with connect(process.port) as wire:
            for id in [id for id in other.seen if id.startswith("file")][-3:]:
                async with self._asked(wire, "GET", f"/v1/files/{id}") as answer:
                    assert answer.status == 404, answer.body


def moments(rng: random.Random) -> Iterator[str | float]:
    """When to kill: at a step of an append, each of them in turn, or after so many seconds."""
    while True:
        for step in rng.sample(STEPS, len(STEPS)):
            yield f"{step}@{rng.randint(1, MOST_TIMES)}:kill"
            yield rng.uniform(0, LONGEST_STORM_S)


async def begin(process: Running, simulator: Simulator) -> list[Client]:
    """The accounts and the client keys are made."""
    for name in ACCOUNTS:
        simulator.add_api_key(upstream_key(name), organization=name)
        account = {"name": name, "type": "api_key", "api_key": upstream_key(name)}
        assert (await process.admin("POST", "/api/accounts", account)).status == 201
    made = [await process.admin("POST", "/api/tokens", {"name": f"key {number}"}) for number in range(KEYS)]
    return [Client(answer.json()["token"]["key"]) for answer in made]


@pytest.mark.timeout(120 + 20 * KILLS)
async def test_no_id_that_a_client_has_seen_is_forgotten_by_a_kill(tmp_path: Path) -> None:
    rng, armed = random.Random(SEED), tmp_path / "failpoints"
    armed.write_text("")
    simulator = Simulator(clock=SystemClock(), rng=rng, ledger_limit=100)
    await simulator.start(port=0)
    variables = {
        "CLAUDE__BASE_URL": simulator.base_url,
        "LOGGER__LEVEL": "warning",
        "CP_FAILPOINT_FILE": str(armed),
    }
    try:
        async with forking(tmp_path, "--config", str(write_config(tmp_path)), **variables) as life:
            async with life() as process:
                clients = await begin(process, simulator)
            for _, moment in zip(range(KILLS), moments(rng), strict=False):
                async with life() as process:
                    await asyncio.gather(*(client.check(process) for client in clients))
                    if isinstance(moment, str):
                        armed.write_text(moment)
                    else:
                        asyncio.get_running_loop().call_later(moment, process.signal, signal.SIGKILL)
                    async with asyncio.timeout(NEVER_KILLED_S):
                        await asyncio.gather(*(client.storm(process, rng) for client in clients))
                    assert await process.ended() == -signal.SIGKILL
                armed.write_text("")
            async with life() as process:
                await asyncio.gather(*(client.check(process) for client in clients))
                await clients[0].finds_nothing_of(process, clients[1])
    finally:
        await simulator.stop()
    seen = sum(len(client.seen) for client in clients)
    print(f"{KILLS} kills, {seen} ids seen, seed {SEED}")
    assert seen > KILLS
