"""The SDKs straight to a simulator: what organizations have works, and nobody else has it."""

from __future__ import annotations

import random

import pytest

from proxy.simulator import Simulator
from tests.clients.resources import CLIENTS, found
from tests.service import TestClock

KEYS = {name: f"sk-ant-api03-of-{name}-" + "x" * 24 for name in ("own", "other")}


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_sdk_finds_what_its_organization_has(client: str) -> None:
    simulator = Simulator(clock=TestClock(), rng=random.Random(1))
    for name, key in KEYS.items():
        simulator.add_api_key(key, organization=name)
    await simulator.start()
    try:
        printed = await found(client, simulator.base_url, KEYS["own"], KEYS["other"])
    finally:
        await simulator.stop()
    assert printed == CLIENTS[client]
    if "threads" in printed:  # the helper recovered from an organization that did not have its thread
        lost = [entry for entry in simulator.ledger if entry.status == 404 and entry.path == "/v1/messages"]
        kinds = [entry.json()["thread"]["type"] for entry in lost if "thread" in entry.json()]
        assert kinds == ["continue"]
