"""What one organization has does not exist for another: each route, each reference in a body, each list."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tests.proxy.simulator.http import Client
from tests.proxy.simulator.uploads import FORM, form, new_skill

OTHER = "sk-ant-api03-other"
HELLO = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
# What is below what in a path, by the word before its id, and an id that never was.
UNKNOWN = {
    "batches": "msgbatch_01x", "files": "file_01x", "skills": "skill_01x", "versions": "skver_01x",
    "agents": "agent_01x", "environments": "env_01x", "vaults": "vlt_01x", "credentials": "vcrd_01x",
    "memory_stores": "memstore_01x", "memories": "mem_01x", "user_profiles": "uprof_01x",
    "sessions": "sesn_01x", "resources": "sesrsc_01x", "threads": "sthr_01x",
}  # fmt: skip


@pytest.fixture
def other(client: Client) -> str:
    client.sim.add_api_key(OTHER, organization="Other")
    return OTHER


async def one_of_each(client: Client) -> dict[str, str]:
    """The ids of what the first organization has made, by the word before it in a path."""
    file = (await client.send("POST", "/v1/files", form(("file", "a", b"x")), content_type=FORM)).json()
    skill = await new_skill(client)
    batch = await client.made("/v1/messages/batches", requests=[{"custom_id": "one", "params": HELLO}])
    agent = await client.made("/v1/agents", name="Ada", model="claude-opus-5-5")
    environment = await client.made("/v1/environments", name="here")
    vault = await client.made("/v1/vaults", display_name="keys")
    credential = await client.made(
        f"/v1/vaults/{vault['id']}/credentials", auth={"type": "static_bearer", "token": "t"}
    )
    store = await client.made("/v1/memory_stores", name="notes")
    memory = await client.made(f"/v1/memory_stores/{store['id']}/memories", path="/a", content="b")
    profile = await client.made("/v1/user_profiles", name="Bo")
    session = await client.made(
        "/v1/sessions",
        agent=agent["id"],
        environment_id=environment["id"],
        vault_ids=[vault["id"]],
        resources=[{"type": "file", "file_id": file["id"]}],
    )
    threads = (await client.get(f"/v1/sessions/{session['id']}/threads")).json()["data"]
    things = [
        batch,
        file,
        skill,
        {"id": skill["latest_version_id"]},
        agent,
        environment,
        vault,
        credential,
        store,
    ]
    things += [memory, profile, session, session["resources"][0], threads[0]]
    return {word: thing["id"] for word, thing in zip(UNKNOWN, things, strict=True)}


@pytest.fixture
def ids(io_loop: IOLoop, client: Client) -> dict[str, str]:
    return io_loop.run_sync(lambda: one_of_each(client))


def targets(client: Client, ids: dict[str, str]) -> list[tuple[str, str]]:
    """Method and path of every route that has an id in it, but a model's."""
    patterns = [
        (method, path.pattern) for method, path in client.sim.api.routes if "models/" not in path.pattern
    ]
    return [
        (method, re.sub(r"(\w+)/\(\[\^/\]\+\)", lambda found: f"{found[1]}/{ids[found[1]]}", pattern))
        for method, pattern in patterns
        if "(" in pattern
    ]


def without_ids(text: bytes, ids: dict[str, str]) -> Any:
    """An answer in which ids and the request's own are all alike."""
    found = text.decode()
    for value in ids.values():
        found = found.replace(value, "ID")
    return re.sub('req_[^"]*', "", found)


async def test_what_another_organization_has_is_answered_as_what_never_was(
    client: Client, other: str, ids: dict[str, str]
) -> None:
    routes = targets(client, ids)
    assert len(routes) > 60
    for (method, path), (_, never) in zip(routes, targets(client, UNKNOWN), strict=True):
        body = {"name": "n", "path": "p", "events": []} if method == "POST" else None
        foreign = await client.send(method, path, body, credential=other)
        unknown = await client.send(method, never, body, credential=other)
        assert (path, foreign.status) == (path, unknown.status) == (path, 404)
        assert (path, without_ids(foreign.body, ids)) == (path, without_ids(unknown.body, UNKNOWN))
        assert foreign.json()["error"]["type"] == "not_found_error"


async def test_no_list_shows_what_another_organization_has(
    client: Client, other: str, ids: dict[str, str]
) -> None:
    lists = [
        path.pattern for method, path in client.sim.api.routes if method == "GET" and "(" not in path.pattern
    ]
    assert len(lists) > 9
    for path in (path for path in lists if path.startswith("/v1/") and path != "/v1/models"):
        assert (await client.get(f"{path}?source=custom")).json()["data"]
        assert (await client.get(f"{path}?source=custom", credential=other)).json()["data"] == []


async def test_a_batch_finds_the_files_of_its_organization_only(
    client: Client, other: str, ids: dict[str, str]
) -> None:
    source = {"type": "file", "file_id": ids["files"]}
    params = HELLO | {"messages": [{"role": "user", "content": [{"type": "document", "source": source}]}]}
    for credential, outcome in (("sk-ant-api03-test", "succeeded"), (other, "errored")):
        requests = [{"custom_id": "one", "params": params}]
        answer = await client.send(
            "POST", "/v1/messages/batches", {"requests": requests}, credential=credential
        )
        path = f"/v1/messages/batches/{answer.json()['id']}"
        assert (await client.get(path, credential=credential)).json()["request_counts"][outcome] == 1
        line = (await client.get(f"{path}/results", credential=credential)).json()
        assert line["result"]["type"] == outcome


REFERENCES: dict[str, tuple[str, dict[str, Any], int]] = {
    "a document's file": (
        "/v1/messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "<files>"}}]}
            ]
        },
        404,
    ),
    "a skill of a container": (
        "/v1/messages",
        {
            "container": {"skills": [{"type": "custom", "skill_id": "<skills>", "version": "<versions>"}]},
            "tools": [{"type": "code_execution_20250825", "name": "code_execution"}],
        },
        404,
    ),
    "a skill of an agent": (
        "/v1/agents",
        {"name": "n", "model": "claude-opus-5", "skills": [{"type": "custom", "skill_id": "<skills>"}]},
        400,
    ),
    "a session's agent": ("/v1/sessions", {"agent": "<agents>", "environment_id": "<environments>"}, 404),
    "a session's vault": (
        "/v1/sessions", {"agent": "own", "environment_id": "own", "vault_ids": ["<vaults>"]}, 400,
    ),
    "a session's environment": ("/v1/sessions", {"agent": "own", "environment_id": "<environments>"}, 404),
    "a session's file": (
        "/v1/sessions",
        {"agent": "own", "environment_id": "own", "resources": [{"type": "file", "file_id": "<files>"}]},
        404,
    ),
    "a session's memory store": (
        "/v1/sessions",
        {
            "agent": "own",
            "environment_id": "own",
            "resources": [{"type": "memory_store", "memory_store_id": "<memory_stores>"}],
        },
        404,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFERENCES)
async def test_a_body_may_name_what_its_organization_has_only(
    client: Client, other: str, ids: dict[str, str], name: str
) -> None:
    path, body, status = REFERENCES[name]

    async def send(ids: dict[str, str], credential: str) -> tuple[int, Any]:
        own = {"agents": ids["agents"], "environments": ids["environments"]}
        if '"own"' in json.dumps(body) and credential == other:
            for word, more in (("agents", {"model": "claude-opus-5"}), ("environments", {})):
                made = await client.send("POST", f"/v1/{word}", {"name": "n"} | more, credential=credential)
                own[word] = made.json()["id"]
        text = json.dumps(HELLO | body if path == "/v1/messages" else body)
        text = text.replace('"agent": "own"', f'"agent": "{own["agents"]}"')
        text = text.replace('"environment_id": "own"', f'"environment_id": "{own["environments"]}"')
        text = re.sub(r"<(\w+)>", lambda found: ids[found[1]], text)
        answer = await client.send("POST", path, json.loads(text), credential=credential)
        return answer.status, without_ids(answer.body, ids | {"own": own["agents"]})

    assert (await send(ids, "sk-ant-api03-test"))[0] == 200
    foreign, unknown = await send(ids, other), await send(UNKNOWN, other)
    assert foreign == unknown and foreign[0] == status
