"""Usage outlives the process: a kill costs at most its last seconds, an orderly end nothing.

`USAGE_CRASH_ROUNDS=50 USAGE_CRASH_SEED=7 pytest tests/faults/test_usage_crash.py` kills it more often.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.assembly.periods import SAVE_USAGE_S
from proxy.clock import SystemClock
from proxy.simulator import Simulator
from tests.process import Life, Running, forking, write_config
from tests.service import MESSAGE_HEADERS, message, upstream_key
from tests.wire import Cut

ROUNDS = int(os.environ.get("USAGE_CRASH_ROUNDS", "2"))
SEED = int(os.environ.get("USAGE_CRASH_SEED", "1"))
LAST_SECONDS = SAVE_USAGE_S + 1.0
"""What may be lost: what came since the last save, which may take a moment itself."""

CLIENT_KEY = "cp-client-key-of-the-usage-crash-3Tz8"
ACCOUNTS = ("a", "b")
MODELS = ("claude-sonnet-5-5", "claude-haiku-5-5")


@dataclass(frozen=True)
class Asked:
    """One request as its client knows it."""

    account: str
    model: str
    input_tokens: int
    output_tokens: int
    ended_at: float


class Client:
    """Sends one request after the other, and keeps the books."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.books: list[Asked] = []

    async def work(self, process: Running) -> None:
        """Until the process dies."""
        with contextlib.suppress(Cut, ConnectionError):
            while True:
                await self.ask(process)

    async def ask(self, process: Running) -> None:
        model, stream = self._rng.choice(MODELS), self._rng.random() < 0.5
        text = "word " * self._rng.randrange(1, 50)
        body = message(model=model, stream=stream, messages=[{"role": "user", "content": text}])
        headers = [*MESSAGE_HEADERS, ("x-api-key", CLIENT_KEY)]
        answer = await process.send("POST", "/v1/messages", headers, body)
        assert answer.status == 200, answer.body
        used = streamed(answer.body) if stream else answer.json()["usage"]
        account = str(answer.header("x-proxy-account"))
        ended_at = time.monotonic()
        self.books.append(Asked(account, model, used["input_tokens"], used["output_tokens"], ended_at))


def streamed(body: bytes) -> dict[str, Any]:
    events = [json.loads(event.partition(b"data: ")[2]) for event in body.split(b"\n\n")[:-1]]
    used: dict[str, Any] = dict(events[0]["message"]["usage"])
    for event in events:
        used |= event.get("usage") or {}
    return used


async def rows(process: Running, by: str) -> dict[str, tuple[int, int, int]]:
    """Requests, tokens in and tokens out, by name."""
    answer = await process.admin("GET", f"/api/admin/usage?by={by}")
    assert answer.status == 200, answer.body
    found = answer.json()["rows"]
    return {row["name"]: (row["requests"], row["input_tokens"], row["output_tokens"]) for row in found}


def sums(books: list[Asked], name: Callable[[Asked], str]) -> dict[str, tuple[int, int, int]]:
    """The same by the client's books."""
    counted: dict[str, Counter[str]] = {}
    for asked in books:
        each = counted.setdefault(name(asked), Counter())
        each.update(n=1, tokens_in=asked.input_tokens, tokens_out=asked.output_tokens)
    return {name: (each["n"], each["tokens_in"], each["tokens_out"]) for name, each in counted.items()}


async def kept(process: Running, books: list[Asked]) -> int:
    """How many of the books' requests the process knows of: all up to one, and nothing else, to the token."""
    number = sum(requests for requests, _, _ in (await rows(process, "token")).values())
    assert number <= len(books)
    known = books[:number]
    assert await rows(process, "account") == sums(known, lambda asked: asked.account)
    assert await rows(process, "model") == sums(known, lambda asked: asked.model)
    assert await rows(process, "token") == sums(known, lambda asked: "client")
    statistics = (await process.admin("GET", "/api/admin/statistics")).json()
    assert statistics["since_start"]["requests"] == 0
    assert statistics["reasons"] == []
    return number


@contextlib.asynccontextmanager
async def simulated() -> AsyncIterator[Simulator]:
    simulator = Simulator(clock=SystemClock(), rng=random.Random(SEED))
    await simulator.start(port=0)
    for name in ACCOUNTS:
        simulator.add_api_key(upstream_key(name), organization=name)
    try:
        yield simulator
    finally:
        await simulator.stop()


async def set_up(process: Running) -> None:
    for name in ACCOUNTS:
        new = {"name": name, "type": "api_key", "api_key": upstream_key(name)}
        assert (await process.admin("POST", "/api/accounts", new)).status == 201
    assert (await process.admin("POST", "/api/tokens", {"name": "client", "key": CLIENT_KEY})).status == 201


def lives(folder: Path, simulator: Simulator) -> contextlib.AbstractAsyncContextManager[Life]:
    variables = {"CLAUDE__BASE_URL": simulator.base_url, "LOGGER__LEVEL": "warning"}
    return forking(folder, "--config", str(write_config(folder)), **variables)


async def test_a_kill_loses_the_last_seconds_of_usage_and_an_orderly_end_nothing(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    client = Client(rng)
    async with simulated() as simulator, lives(tmp_path, simulator) as life:
        for turn in range(ROUNDS):
            async with life() as process:
                if not turn:
                    await set_up(process)
                assert await kept(process, client.books) == len(client.books)
                life_s = LAST_SECONDS + rng.uniform(0.2, 1.0)
                asyncio.get_running_loop().call_later(life_s, process.signal, signal.SIGKILL)
                simulator.ledger.clear()
                before = len(client.books)
                await client.work(process)
                killed_at = time.monotonic()
                assert await process.ended() == -signal.SIGKILL
            entries = [entry for entry in simulator.ledger.inference() if entry.finished]
            asked = client.books[before:]
            assert [entry.organization for entry in entries][: len(asked)] == [each.account for each in asked]
            assert len(entries) - len(asked) in (0, 1)  # the last answer may not have arrived
            async with life() as process:
                number = await kept(process, client.books)
                lost = client.books[number:]
                assert number > before
                assert all(each.ended_at > killed_at - LAST_SECONDS for each in lost)
                del client.books[number:]
                await client.ask(process)
                process.signal(signal.SIGTERM)
                assert await process.ended() == 0
        async with life() as process:
            assert await kept(process, client.books) == len(client.books) > 10 * ROUNDS
