"""The metrics say what the upstream was asked and what clients got, to the unit: after requests with faults.

`make faults` sends ten thousand.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import Entry, Error, Fault, Real, Reset, quota_429
from proxy.usage.allowance import BYTES_PER_TOKEN
from tests.scrape import Scraped, scraped
from tests.service import MESSAGE_HEADERS, Service, message, serve
from tests.wire import Answer

REQUESTS = int(os.environ.get("METRICS_REQUESTS", "200"))
SEED = int(os.environ.get("METRICS_SEED", "1"))
ACCOUNTS = ("a", "b", "c")
FAMILY_OF = {"claude-sonnet-5-5": "sonnet", "claude-haiku-4-5": "haiku", "claude-unpriced-1": "other"}
FAULTS: list[Fault] = [
    Real(), Real(), Real(), Error(529), Error(500), Error(400), Error(403), quota_429(30), Reset(),
]  # fmt: skip
VERDICT_OF = {
    200: "hand_on", 400: "hand_on", 403: "next_account", 429: "bench_then_next", 500: "retry", 529: "retry",
    None: "lost",
}  # fmt: skip
"""What a try comes to, by the status in the ledger."""


class Got:
    """What the clients have seen, in the terms of the metrics."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.tokens: Counter[tuple[str, str]] = Counter()
        self.unpriced = self.begun = 0

    def take(self, model: str, body: bytes, answer: Answer) -> None:
        family, sent = FAMILY_OF[model], answer.header("x-proxy-attempts") is not None
        outcome = {200: "ok", 429: "limited"}.get(answer.status)
        if outcome is None:
            outcome = "upstream_error" if answer.status >= 500 else "client_error"
        self.requests[family, outcome] += 1
        if answer.status == 200:
            assert sent
            self.begun += 1
            self.unpriced += family == "other"
            usage = usage_of(answer)
            for kind, name in (("input", "input_tokens"), ("output", "output_tokens")):
                self.tokens[family, kind] += usage[name]
        elif answer.status == 502:  # lost after it was sent: its prompt is estimated
            self.unpriced += family == "other"
            self.tokens[family, "input"] += len(body) // BYTES_PER_TOKEN


def usage_of(answer: Answer) -> dict[str, Any]:
    """The usage that an answer reports; of a stream, the last one of each count."""
    if answer.header("content-type") == "application/json":
        return dict(answer.json()["usage"])
    found: dict[str, Any] = {}
    for line in answer.body.decode().splitlines():
        if line.startswith("data: "):
            event = json.loads(line[len("data: ") :])
            found |= event.get("usage") or event.get("message", {}).get("usage") or {}
    return found


async def send(service: Service, rng: random.Random, got: Got) -> None:
    """One request, of which the next few tries may come to grief."""
    for fault in rng.choices(FAULTS, k=rng.choice((0, 0, 1, 2, 6))):
        service.simulator.script(None, fault)
    model = rng.choice(list(FAMILY_OF))
    body = message(model=model, stream=rng.random() < 0.5, metadata={"user_id": f"u{rng.random()}"})
    got.take(model, body, await service.send("POST", "/v1/messages", MESSAGE_HEADERS, body))
    service.simulator.calm(None)
    service.clock.advance(rng.choice((0.2, 5, 20)))


@pytest.mark.timeout(60 + REQUESTS // 20)
async def test_the_metrics_agree_with_the_upstreams_ledger(tmp_path: Path) -> None:
    rng, got = random.Random(SEED), Got()
    # Nothing is sent again by libcurl itself, which no try would show.
    async with serve(tmp_path, accounts=ACCOUNTS, retry__resend_posts="false", retry__budget="10") as service:
        for _ in range(REQUESTS):
            await send(service, rng, got)
        found, asked = await scraped(service), service.simulator.ledger.inference()
    print(f"\n{REQUESTS} requests, seed {SEED}: {len(asked)} tries, {dict(got.requests)}")
    agree(found, asked, got)


def agree(found: Scraped, asked: list[Entry], got: Got) -> None:
    """Compare all of it."""
    assert found.by("tries_total", "account") == Counter(entry.organization for entry in asked)
    assert found.by("tries_total", "verdict") == Counter(VERDICT_OF[entry.status] for entry in asked)
    assert found.by("requests_total", "family", "outcome") == got.requests
    assert sum(found.by("requests_total", "account").values()) == REQUESTS
    tokens = found.by("tokens_total", "family", "kind")
    assert {key: tokens[key] for key in got.tokens} == got.tokens
    assert found.value("unpriced_total") == got.unpriced
    assert sum(found.by("time_to_first_byte_seconds_count", "family").values()) == got.begun
    refused = sum(value for labels, value in found.rows("requests_total") if not labels["account"])
    assert sum(found.by("request_duration_seconds_count", "family").values()) == REQUESTS - refused
    limits = sum(found.by("account_rate_limits_total", "account").values())
    assert limits == sum(entry.status == 429 for entry in asked)
