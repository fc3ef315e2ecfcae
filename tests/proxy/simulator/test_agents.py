"""Agents, what they work with, and their sessions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.proxy.simulator.http import KEY, Client, FakeClock
from tests.wire import connect


async def agent_and_environment(client: Client) -> dict[str, str]:
    agent = await client.made("/v1/agents", name="Ada", model="claude-opus-5-5")
    environment = await client.made("/v1/environments", name="here")
    return {"agent": agent["id"], "environment_id": environment["id"]}


async def begin(client: Client, **more: Any) -> Any:
    return await client.made("/v1/sessions", **await agent_and_environment(client), **more)


async def test_each_change_of_an_agent_is_a_version(client: Client, clock: FakeClock) -> None:
    first = await client.made(
        "/v1/agents", name="Ada", model="claude-opus-5-5", metadata={"a": "1", "b": "2"}
    )
    path = f"/v1/agents/{first['id']}"
    assert (first["version"], first["model"], first["archived_at"]) == (1, {"id": "claude-opus-5-5"}, None)
    clock.wall += 1
    second = await client.made(path, name="Bo", version=1, metadata={"a": None})
    assert (second["version"], second["name"], second["metadata"]) == (2, "Bo", {"b": "2"})
    assert second["created_at"] == first["created_at"] < second["updated_at"]
    assert (await client.send("POST", path, {"name": "Cy", "version": 1})).status == 409
    assert (await client.get(path)).json() == second
    assert (await client.get(f"{path}?version=1")).json() == first
    missing = await client.get(f"{path}?version=9")
    assert missing.json()["error"]["message"] == f"agent {first['id']} version 9 not found"
    page = (await client.get(f"{path}/versions?limit=1")).json()
    rest = (await client.get(f"{path}/versions?limit=1&page={page['next_page']}")).json()
    assert page["data"] + rest["data"] == [second, first] and rest["next_page"] is None


async def test_what_is_archived_is_listed_only_on_demand(client: Client) -> None:
    environment = await client.made("/v1/environments", name="here")
    archived = await client.made(f"/v1/environments/{environment['id']}/archive")
    assert archived["archived_at"]
    assert (await client.get("/v1/environments")).json()["data"] == []
    assert (await client.get("/v1/environments?include_archived=true")).json()["data"] == [archived]


async def test_what_is_deleted_is_gone(client: Client) -> None:
    vault = await client.made("/v1/vaults", display_name="keys")
    path = f"/v1/vaults/{vault['id']}"
    assert (await client.send("DELETE", path)).json() == {"type": "vault_deleted", "id": vault["id"]}
    assert (await client.get(path)).json()["error"]["message"] == f"vault {vault['id']} not found"


async def test_a_secret_is_never_told_again(client: Client) -> None:
    vault = await client.made("/v1/vaults", display_name="keys")
    path = f"/v1/vaults/{vault['id']}/credentials"
    auth = {"type": "static_bearer", "token": "hidden", "mcp_server_url": "https://example.com"}
    credential = await client.made(path, auth=auth)
    assert credential["vault_id"] == vault["id"]
    for answer in (await client.get(path), await client.get(f"{path}/{credential['id']}")):
        assert answer.status == 200 and b"hidden" not in answer.body


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/agents", "name"), ("/v1/environments", "name"), ("/v1/sessions", "agent")]
)
async def test_what_is_required_is_missed(client: Client, path: str, name: str) -> None:
    refused = await client.send("POST", path, {})
    assert (refused.status, refused.json()["error"]["message"]) == (400, f"{name}: Field required")


async def test_sessions_are_listed_both_ways_and_by_agent(client: Client, clock: FakeClock) -> None:
    named = await agent_and_environment(client)
    ids = []
    for _ in range(5):
        clock.wall += 1
        ids.append((await client.made("/v1/sessions", **named))["id"])
    other = await begin(client)
    path = f"/v1/sessions?limit=2&agent_id={named['agent']}"
    first = (await client.get(path)).json()
    second = (await client.get(f"{path}&page={first['next_page']}")).json()
    third = (await client.get(f"{path}&page={second['next_page']}")).json()
    assert [session["id"] for page in (first, second, third) for session in page["data"]] == ids[::-1]
    assert (first["prev_page"], third["next_page"]) == (None, None)
    assert (await client.get(f"{path}&page={third['prev_page']}")).json() == second
    assert (await client.get(f"{path}&page={second['prev_page']}")).json() == first
    oldest = (await client.get(f"{path}&order=asc")).json()["data"]
    assert [session["id"] for session in oldest] == ids[:2]
    assert other["id"] not in ids
    bad = await client.get("/v1/sessions?page=bogus")
    assert (bad.status, bad.json()["error"]["message"]) == (400, "invalid page cursor")


async def test_a_session_has_its_agent_as_it_was(client: Client) -> None:
    session = await begin(client, title="a talk")
    await client.made(f"/v1/agents/{session['agent']['id']}", name="Bo")
    again = (await client.get(f"/v1/sessions/{session['id']}")).json()
    assert again == session and again["agent"]["name"] == "Ada"
    renamed = await client.made(f"/v1/sessions/{session['id']}", title="another")
    assert (renamed["title"], renamed["agent"]) == ("another", session["agent"])


async def test_resources_come_and_go(client: Client) -> None:
    session = await begin(client)
    path = f"/v1/sessions/{session['id']}/resources"
    store = await client.made("/v1/memory_stores", name="notes")
    added = await client.made(path, type="memory_store", memory_store_id=store["id"])
    assert (await client.get(f"/v1/sessions/{session['id']}")).json()["resources"] == [added]
    assert (await client.get(path)).json()["data"] == [added]
    gone = await client.send("DELETE", f"{path}/{added['id']}")
    assert gone.json() == {"type": "session_resource_deleted", "id": added["id"]}
    assert (await client.get(path)).json()["data"] == []


async def test_what_is_below_one_is_not_below_another(client: Client) -> None:
    one, two = await begin(client), await begin(client)
    (thread,) = (await client.get(f"/v1/sessions/{one['id']}/threads")).json()["data"]
    assert (await client.get(f"/v1/sessions/{one['id']}/threads/{thread['id']}")).json() == thread
    missing = await client.get(f"/v1/sessions/{two['id']}/threads/{thread['id']}")
    assert (missing.status, missing.json()["error"]["message"]) == (404, f"thread {thread['id']} not found")


def message(text: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


async def test_a_message_is_answered_in_events(client: Client) -> None:
    session = await begin(client, initial_events=[message("hello")])
    path = f"/v1/sessions/{session['id']}/events"
    (sent,) = (await client.made(path, events=[message("and then?")]))["data"]
    assert sent["id"].startswith("sevt_") and sent["content"][0]["text"] == "and then?"
    turn = ["user.message", "session.status_running", "agent.message", "session.status_idle"]
    events = (await client.get(path)).json()["data"]
    assert [event["type"] for event in events] == turn * 2
    page = (await client.get(f"{path}?limit=3")).json()
    rest = (await client.get(f"{path}?page={page['next_page']}")).json()
    assert page["data"] + rest["data"] == events
    (thread,) = (await client.get(f"/v1/sessions/{session['id']}/threads")).json()["data"]
    thread_path = f"/v1/sessions/{session['id']}/threads/{thread['id']}/events"
    said = (await client.get(f"{thread_path}?types[]=agent.message&order=desc")).json()["data"]
    assert [event["type"] for event in said] == ["agent.message"] * 2 and said[1] == events[2]


async def test_a_stream_tells_what_happens_from_now_on_until_its_session_ends(client: Client) -> None:
    session = await begin(client, initial_events=[message("before")])
    path = f"/v1/sessions/{session['id']}"
    headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")]
    async with connect(int(client.sim.base_url.rpartition(":")[2])) as socket:
        answer = await socket.request("GET", f"{path}/events/stream", headers)
        await client.made(f"{path}/events", events=[message("now")])
        await client.made(f"{path}/archive")
        body = (await answer.read()).decode()
    names = [line.removeprefix("event: ") for line in body.splitlines() if line.startswith("event: ")]
    turn = ["user.message", "session.status_running", "agent.message", "session.status_idle"]
    assert names == [*turn, "session.status_terminated"]
    assert "before" not in body
    assert (await client.get(f"{path}/events/stream")).body == b""
    assert (await client.send("POST", f"{path}/events", {"events": [message("late")]})).status == 400


async def test_a_listener_that_goes_is_forgotten(client: Client) -> None:
    session = await begin(client)
    headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")]
    async with connect(int(client.sim.base_url.rpartition(":")[2])) as socket:
        await socket.request("GET", f"/v1/sessions/{session['id']}/events/stream", headers)
        assert client.sim.open_requests == 1
    await client.sim.ledger.wait(lambda ledger: ledger[-1].closed_by_peer_at is not None)
    assert client.sim.open_requests == 0
    assert (await client.send("DELETE", f"/v1/sessions/{session['id']}")).status == 200
