"""What comes of each call of python_resources.py and resources.mjs, and how they are run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.clients.programs import HERE, NOTHING, folder_of, run

TURN = ["user.message", "session.status_running", "agent.message", "session.status_idle"]
NO_FILE = ["NotFoundError", "File `ID` not found."]
NO_BATCH = ["NotFoundError", "Message Batch with id ID not found."]
NO_SKILL = ["NotFoundError", "Skill not found: ID"]


def unknown(text: str) -> dict[str, Any]:
    """What another organization is told of one and of all."""
    return {"foreign": ["NotFoundError", text], "foreign list": []}


EXPECTED: dict[str, Any] = {
    "files": {
        "listed": True,
        "named": "a.txt",
        "content": "b",
        "used": "message",
        "counted": True,
        "foreign": NO_FILE,
        "foreign content": NO_FILE,
        "foreign use": ["NotFoundError", "File not found: ID"],
        "foreign deletion": NO_FILE,
        "foreign list": [],
        "deleted": "file_deleted",
        "then": NO_FILE,
        "left": True,
    },
    "batches": {
        "canceling": "canceling",
        "ended": "ended",
        "results": ["succeeded"],
        "canceled": ["canceled"],
        "listed": True,
        "backwards": True,
        "foreign": NO_BATCH,
        "foreign results": NO_BATCH,
        "foreign cancellation": NO_BATCH,
        "foreign deletion": NO_BATCH,
        "foreign list": [],
        "deleted": "message_batch_deleted",
        "left": True,
    },
    "skills": {
        "listed": True,
        "versions": 2,
        "newest": True,
        "used": "message",
        "foreign use": NO_SKILL,
        "deleted": "skill_version_deleted",
    }
    | unknown("Skill not found: ID"),
    "containers": {
        "stays": True,
        "file": "city,days\nParis,1\n",
        "foreign": ["NotFoundError", "Container not found: ID"],
        "foreign file": NO_FILE,
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
        "pages": True,
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
CLIENTS = {"anthropic-0.121.0": EXPECTED, "anthropic-2.14.0": EXPECTED | NEW, "typescript": EXPECTED | NEW}


async def found(
    client: str, url: str, key: str, other: str, more: Mapping[str, str] = NOTHING
) -> dict[str, Any]:
    """What the client's program prints when it is `key`, and `other` belongs to somebody else."""
    folder = folder_of(client)
    environ = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": key, "OTHER_API_KEY": other, **more}
    if client == "typescript":
        command, stdin = ["node", "--input-type=module"], (HERE / "typescript" / "resources.mjs").read_bytes()
    else:
        command, stdin = [str(folder / "bin" / "python"), str(HERE / "python_resources.py")], b""
    status, out, err = await run(*command, folder=folder, environ=environ, stdin=stdin)
    assert status == 0, err
    printed: dict[str, Any] = json.loads(out)
    return printed
