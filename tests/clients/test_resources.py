"""The `anthropic` SDK straight to a simulator: what organizations have works, and nobody else has it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from proxy.simulator import Simulator
from tests.clients.programs import HERE, folder_of, run
from tests.service import TestClock

KEYS = {name: f"sk-ant-api03-of-{name}-" + "x" * 24 for name in ("own", "other")}
TURN = ["user.message", "session.status_running", "agent.message", "session.status_idle"]


def unknown(text: str) -> dict[str, Any]:
    """What another organization is told of one and of all."""
    return {"foreign": ["NotFoundError", text], "foreign list": []}


EXPECTED: dict[str, Any] = {
    "skills": {"listed": True, "versions": 2, "newest": True, "deleted": "skill_version_deleted"}
    | unknown("Skill not found: ID"),
    "containers": {
        "stays": True,
        "file": "city,days\nParis,1\n",
        "foreign": ["NotFoundError", "Container not found: ID"],
        "foreign file": ["NotFoundError", "File `ID` not found."],
    },
    "thinking": {
        "own": "message",
        "foreign": ["BadRequestError", "messages.1.content.0: Invalid `signature` in `thinking` block"],
    },
    "agents": {"listed": True, "changed": ["Bo", 2], "versions": [2, 1], "archived": True}
    | unknown("agent ID not found"),
    "environments": {
        "listed": True,
        "network": "unrestricted",
        "renamed": "d",
        "deleted": "environment_deleted",
    }
    | unknown("Environment ID not found."),
    "sessions": {
        "listed": True,
        "heard": TURN,
        "events": True,
        "thread events": True,
        "resource": True,
        "removed": "session_resource_deleted",
        "archived": "terminated",
        "deleted": "session_deleted",
        "foreign agent": ["NotFoundError", "agent ID not found"],
    }
    | unknown("Session not found: ID"),
    "vaults": {
        "auth": "static_bearer",
        "listed": [True, True],
        "deleted": ["vault_credential_deleted", "vault_deleted"],
    }
    | unknown("vault ID not found"),
    "memory": {
        "content": "remember",
        "listed": [True, True],
        "deleted": ["memory_deleted", "memory_store_deleted"],
    }
    | unknown("memory store not found: ID"),
}
NEW = {
    "diagnostics": {"first": None, "changed": "system_changed", "foreign": "previous_message_not_found"},
    "threads": {"ids": 3, "messages": 6},
    "tool_runner": {"reasons": ["tool_use", "end_turn"]},
}


@pytest.mark.parametrize(
    ("client", "expected"), [("anthropic-0.121.0", EXPECTED), ("anthropic-2.14.0", EXPECTED | NEW)]
)
async def test_the_sdk_finds_what_its_organization_has(client: str, expected: dict[str, Any]) -> None:
    folder = folder_of(client)
    simulator = Simulator(clock=TestClock(), rng=random.Random(1))
    for name, key in KEYS.items():
        simulator.add_api_key(key, organization=name)
    await simulator.start()
    environ = {
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "ANTHROPIC_API_KEY": KEYS["own"],
        "OTHER_API_KEY": KEYS["other"],
    }
    try:
        command = [str(folder / "bin" / "python"), str(HERE / "python_resources.py")]
        status, out, err = await run(*command, folder=folder, environ=environ)
    finally:
        await simulator.stop()
    assert status == 0, err
    assert json.loads(out) == expected
    if "threads" in expected:  # the helper recovered from an organization that did not have its thread
        lost = [entry for entry in simulator.ledger if entry.status == 404 and entry.path == "/v1/messages"]
        assert [entry.json().get("thread", {}).get("type") for entry in lost] == [None, "continue"]
