"""The demo's clients: they send requests to the proxy as real ones would, until they are stopped."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from random import Random
from typing import Final

from proxy.clock import Clock
from proxy.jobs import Jobs
from proxy.simulator import Grant, Simulator, api_key_429, quota_429
from proxy.upstream.driver import CurlClient
from proxy.upstream.exchange import Request

from .history import load
from .world import MINUTE_S, PROGRAMS, Program

LIMITED_EVERY_S: Final = 40.0
LIMITED_FOR_S: Final = (50.0, 100.0)
"""Together: about two accounts are limited at any time, and none is when its turn comes again."""

QUESTIONS: Final = (
    "Why does this test fail only when it runs after the others?",
    "Review this change and name what could break.",
    "Summarise the customer's last three messages.",
    "Write a query for the weekly numbers of each region.",
    "Explain this stack trace, and suggest a fix.",
    "Which of these tickets are about the same problem?",
)
FAULTS: Final = {
    "529; times=1": 0.015,  # another account answers
    "500": 0.004,
    "cut; after-events=20": 0.01,
    "error-mid-stream; after-events=12": 0.008,
}
"""What the simulator is told to do wrong, and in what share of the requests; then what clients do themselves."""

UNKNOWN_MODEL: Final = 0.012
LEAVES: Final = 0.015
LEFT_AFTER: Final = 10  # pieces of the answer


class Traffic:
    """Requests of all programs, and the limits that the accounts in `busy` run into in turn."""

    def __init__(
        self,
        simulator: Simulator,
        busy: Sequence[str | Grant],
        keys: Mapping[str, str],
        *,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._simulator = simulator
        self._busy = busy
        self._keys = keys
        self._clock = clock
        self._rng = rng

    @contextlib.asynccontextmanager
    async def running(self, url: str) -> AsyncIterator[None]:
        """Against the proxy at `url`; what is under way at the end is given up."""
        client, jobs = CurlClient.to(url, idle_timeout_s=60), Jobs()
        jobs.start("demo limits", self._limit(), wait=False)
        jobs.start("demo requests", self._send_all(client, jobs), wait=False)
        try:
            yield
        finally:
            await jobs.close()
            client.close()

    async def _limit(self) -> None:
        turn = 0
        while True:
            # Two at once at the start, so that there is one to see.
            for _ in range(1 if turn else 2):
                account = self._busy[turn % len(self._busy)]
                seconds = self._rng.uniform(*LIMITED_FOR_S)
                limit = quota_429(seconds) if isinstance(account, Grant) else api_key_429(seconds)
                self._simulator.calm(account)
                self._simulator.script(account, limit, path="/v1/messages")
                turn += 1
            await self._clock.sleep(LIMITED_EVERY_S)

    async def _send_all(self, client: CurlClient, jobs: Jobs) -> None:
        rates = [program.per_minute for program in PROGRAMS]
        for program in PROGRAMS:
            jobs.start("demo request", self._send(client, program), wait=False)
        while True:
            per_minute = sum(rates) * load(self._clock.now())
            await self._clock.sleep(self._rng.expovariate(per_minute / MINUTE_S))
            program = self._rng.choices(PROGRAMS, rates)[0]
            jobs.start("demo request", self._send(client, program), wait=False)

    async def _send(self, client: CurlClient, program: Program) -> None:
        """One request, its answer read as it comes. Raises UpstreamError where that was cut."""
        rng = self._rng
        [fault] = rng.choices([None, *FAULTS], [1 - sum(FAULTS.values()), *FAULTS.values()])
        leaves = rng.random() < LEAVES
        model = "claude-next" if rng.random() < UNKNOWN_MODEL else rng.choice(program.models)
        body = _body(program, model, rng)
        headers = [
            ("x-api-key", self._keys[program.key]),
            ("user-agent", program.user_agent),
            ("x-forwarded-for", program.address),
            ("anthropic-version", "2023-06-01"),
            ("content-type", "application/json"),
        ]
        if fault is not None:
            headers.append(("x-simulate", fault))
        exchange = client.open(Request("POST", "/v1/messages", headers, body))
        try:
            pieces = 0
            while await exchange.read():
                pieces += 1
                if leaves and pieces == LEFT_AFTER:
                    return
        finally:
            exchange.close()


def _body(program: Program, model: str, rng: Random) -> bytes:
    words = round(program.words * rng.uniform(0.5, 1.5))
    context = f"You work for {program.key}. " + "Keep to the guide. " * (program.prompt_tokens * 4 // 19)
    return json.dumps(
        {
            "model": model,
            "max_tokens": 1024,
            "stream": True,
            "system": [{"type": "text", "text": context, "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": f"{rng.choice(QUESTIONS)} In {words} words."}],
        }
    ).encode()
