"""What a conversation leaves with its organization: signatures, containers, threads, diagnostics."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.proxy.simulator.http import KEY, Answer, Client, FakeClock, events

OTHER = "sk-ant-api03-other"
THREADS = "message-threads-2026-08-12"
CODE = {"type": "code_execution_20250825", "name": "code_execution"}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
THINKING = {"type": "enabled", "budget_tokens": 1024}
REDACT = "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING"


@pytest.fixture
def other(client: Client) -> str:
    client.sim.add_api_key(OTHER, organization="Other")
    return OTHER


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def goes_on(client: Client, content: Any, credential: str = KEY, **more: Any) -> Answer:
    """The next turn after an answer with that content."""
    messages = [user("hello"), {"role": "assistant", "content": content}, user("and then?")]
    return await client.message(more={"messages": messages} | more, credential=credential)


SIGNED = {
    "thinking": (
        "hello",
        {"thinking": THINKING, "max_tokens": 2000},
        "Invalid `signature` in `thinking` block",
    ),
    "omitted thinking": (
        "hello",
        {"thinking": {"type": "adaptive", "display": "omitted"}},
        "Invalid `signature` in `thinking` block",
    ),
    "redacted thinking": (
        REDACT,
        {"thinking": THINKING, "max_tokens": 2000},
        "Invalid `data` in `redacted_thinking` block",
    ),
    "search results": ("hello", {"tools": [SEARCH]}, "Invalid `encrypted_content` in `search_result` block"),
}


@pytest.mark.parametrize("name", SIGNED)
async def test_what_an_organization_signed_no_other_accepts(client: Client, other: str, name: str) -> None:
    question, more, refusal = SIGNED[name]
    content = (await client.message(question, more=more)).json()["content"]
    assert (await goes_on(client, content)).status == 200
    refused = await goes_on(client, content, other)
    index = 1 if name == "search results" else 0
    assert refused.status == 400
    assert refused.json()["error"]["message"] == f"messages.1.content.{index}: {refusal}"
    assert refused.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("change", ["signature", "thinking", "cut", "none"])
async def test_a_thinking_block_must_come_back_as_it_went(client: Client, change: str) -> None:
    block = (await client.message(more={"thinking": THINKING, "max_tokens": 2000})).json()["content"][0]
    changed = {
        "signature": {"signature": base64.b64encode(b"x" * 48).decode()},
        "thinking": {"thinking": "I think otherwise."},
        "cut": {"signature": block["signature"][:-5]},
        "none": {"signature": None},
    }
    assert (await goes_on(client, [block | changed[change]])).status == 400


async def test_a_signature_in_a_stream_is_that_of_the_message(client: Client) -> None:
    more = {"thinking": THINKING, "max_tokens": 2000}
    block = (await client.message(more=more)).json()["content"][0]
    stream = events(await client.message(more=more | {"stream": True}))
    signatures = [data["delta"]["signature"] for _, data in stream if data.get("delta", {}).get("signature")]
    assert signatures == [block["signature"]]


async def test_code_runs_in_a_container_that_makes_files(client: Client, other: str) -> None:
    message = (await client.message(more={"tools": [CODE]})).json()
    use, result = message["content"][:2]
    assert (use["name"], use["id"]) == ("bash_code_execution", result["tool_use_id"])
    path = f"/v1/files/{result['content']['content'][0]['file_id']}/content"
    assert (await client.get(path)).body.startswith(b"city,days")
    assert (await client.get(path, credential=other)).status == 404
    container = message["container"]["id"]
    assert container.startswith("container_01")
    for named in (container, {"id": container}):
        again = await client.message(more={"tools": [CODE], "container": named})
        assert again.json()["container"]["id"] == container


async def test_a_stream_tells_its_container_at_the_end(client: Client) -> None:
    stream = dict(events(await client.message(more={"tools": [CODE], "stream": True})))
    assert stream["message_start"]["message"]["container"] is None
    assert stream["message_delta"]["delta"]["container"]["id"].startswith("container_01")


async def test_a_container_is_of_its_organization_and_lives_for_a_month(
    client: Client, other: str, clock: FakeClock
) -> None:
    container = (await client.message(more={"tools": [CODE]})).json()["container"]["id"]
    asked = {"tools": [CODE], "container": container}
    foreign = await client.message(more=asked, credential=other)
    unknown = await client.message(more=asked | {"container": "container_01x"}, credential=other)
    assert (foreign.status, unknown.status) == (404, 404)
    assert foreign.json()["error"]["message"] == f"Container not found: {container}"
    clock.wall += 29 * 86400
    assert (await client.message(more=asked)).status == 200
    clock.wall += 86400
    assert (await client.message(more=asked)).status == 404


async def test_without_code_there_is_no_container(client: Client) -> None:
    assert "container" not in (await client.message()).json()


async def threaded(
    client: Client,
    previous: str | None,
    text: str = "more",
    *,
    credential: str = KEY,
    beta: str = THREADS,
    **more: Any,
) -> Answer:
    """A turn that continues `previous`, or that begins a thread if it is None."""
    thread = {"type": "continue", "previous_message_id": previous} if previous else {"type": "create"}
    return await client.message(
        text, more={"thread": thread} | more, credential=credential, anthropic_beta=beta
    )


async def test_a_thread_answers_as_the_whole_conversation_would(client: Client) -> None:
    first = (await threaded(client, None, "hello", system="Be brief.")).json()
    second = (await threaded(client, first["id"], "and then?")).json()
    messages = [user("hello"), {"role": "assistant", "content": first["content"]}, user("and then?")]
    whole = (await client.message(more={"messages": messages, "system": "Be brief."})).json()
    assert (second["content"], second["usage"]) == (whole["content"], whole["usage"])
    assert (await threaded(client, second["id"])).status == 200


def code(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.json()["error"].get("details", {}).get("error_code")


async def test_a_thread_of_another_organization_is_one_that_never_was(client: Client, other: str) -> None:
    first = (await threaded(client, None)).json()
    foreign = await threaded(client, first["id"], credential=other)
    unknown = await threaded(client, "msg_01x", credential=other)
    assert code(foreign) == code(unknown) == (404, "thread_not_found")
    assert (
        foreign.json()["error"]["message"].replace(first["id"], "msg_01x")
        == unknown.json()["error"]["message"]
    )
    assert (await threaded(client, first["id"])).status == 200


async def test_a_thread_ends_five_minutes_after_its_last_turn(client: Client, clock: FakeClock) -> None:
    last = (await threaded(client, None)).json()["id"]
    for _ in range(2):
        clock.wall += 299
        last = (await threaded(client, last)).json()["id"]
    clock.wall += 300
    assert code(await threaded(client, last)) == (404, "thread_not_found")


async def test_a_reply_is_continued_once_and_with_what_its_thread_began_with(client: Client) -> None:
    first = (await threaded(client, None, system="Be brief.")).json()["id"]
    assert code(await threaded(client, first, system="Be long.")) == (400, "thread_fingerprint_mismatch")
    assert (await threaded(client, first)).status == 200
    assert code(await threaded(client, first)) == (400, "thread_already_continued")


async def test_a_turn_that_is_refused_leaves_its_thread_as_it_was(client: Client) -> None:
    first = (await threaded(client, None)).json()["id"]
    assert (await threaded(client, first, max_tokens=0)).status == 400
    assert (await threaded(client, first)).status == 200


@pytest.mark.parametrize(
    ("thread", "beta"), [({"type": "create"}, ""), ({"type": "fork"}, THREADS), ("x", THREADS)]
)
async def test_a_thread_needs_its_beta_and_its_shape(client: Client, thread: Any, beta: str) -> None:
    assert (await client.message(more={"thread": thread}, anthropic_beta=beta)).status == 400


async def test_a_turn_of_a_thread_reads_what_the_last_one_cached(client: Client) -> None:
    marked = {"cache_control": {"type": "ephemeral"}}
    last, cached = None, 0
    for turn in range(6):  # more than a request may have breakpoints
        message = (await threaded(client, last, f"turn {turn}", **marked)).json()
        assert message["usage"]["cache_read_input_tokens"] == cached
        cached += message["usage"]["cache_creation_input_tokens"]
        last = message["id"]


async def test_diagnostics_say_why_the_cache_was_missed(client: Client, other: str) -> None:
    async def ask(previous: str | None, text: str = "hello", credential: str = KEY, **more: Any) -> Any:
        asked = {"diagnostics": {"previous_message_id": previous}} | more
        return (await client.message(text, more=asked, credential=credential)).json()

    first = await ask(None)
    assert first["diagnostics"] is None
    assert (await ask(first["id"]))["diagnostics"] is None
    changes: list[tuple[str, dict[str, Any]]] = [
        ("model_changed", {"model": "claude-opus-5"}),
        ("system_changed", {"system": "Be brief."}),
        ("tools_changed", {"tools": [CODE]}),
        ("messages_changed", {"text": "goodbye"}),
    ]
    for reason, change in changes:
        missed = (await ask(first["id"], **change))["diagnostics"]["cache_miss_reason"]
        assert missed == {"type": reason, "cache_missed_input_tokens": first["usage"]["input_tokens"]}
    for answer in (await ask("msg_01x"), await ask(first["id"], credential=other)):
        assert answer["diagnostics"] == {"cache_miss_reason": {"type": "previous_message_not_found"}}
    assert "diagnostics" not in (await client.message()).json()


async def test_a_result_names_a_use_of_the_servers_tool(client: Client) -> None:
    content = (await client.message(more={"tools": [SEARCH]})).json()["content"]
    content[1]["tool_use_id"] = "srvtoolu_01x"
    refused = await goes_on(client, content)
    assert refused.status == 400 and "srvtoolu_01x" in refused.json()["error"]["message"]
