"""POST /v1/messages and its kin."""

from __future__ import annotations

import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.proxy.simulator.http import KEY, Client, FakeClock, events

TOOL = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["c", "f"]}},
        "required": ["city", "days"],
    },
}
STREAM = {"stream": True}


async def test_the_same_request_gets_the_same_text_and_usage(client: Client) -> None:
    first, second = (await client.message()).json(), (await client.message()).json()
    assert (first["content"], first["usage"]) == (second["content"], second["usage"])
    assert first["id"] != second["id"]


async def test_max_tokens_cuts_the_answer(client: Client) -> None:
    message = (await client.message(more={"max_tokens": 7})).json()
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("max_tokens", 7)


async def test_as_many_words_come_as_are_asked_for(client: Client) -> None:
    message = (await client.message("Write 700 words", more={"max_tokens": 9000})).json()
    assert len(message["content"][0]["text"].split()) == 700


async def test_the_first_stop_sequence_in_the_text_ends_it(client: Client) -> None:
    whole = ((await client.message()).json())["content"][0]["text"]
    first, second = whole.split()[2], whole.split()[5]
    message = (await client.message(more={"stop_sequences": [second, first]})).json()
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", first)
    assert message["content"][0]["text"] == whole[: whole.index(first)]


async def test_a_stream_carries_the_message_in_the_documented_order(client: Client) -> None:
    whole = (await client.message()).json()
    stream = events(await client.message(more=STREAM))
    assert all(name == data["type"] for name, data in stream)
    kinds = [name for name, _ in stream]
    assert kinds[:3] == ["message_start", "content_block_start", "ping"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[3:-3]) == {"content_block_delta"}
    text = "".join(data["delta"]["text"] for name, data in stream if name == "content_block_delta")
    assert text == whole["content"][0]["text"]


async def test_usage_is_cumulative_and_its_cache_split_only_in_message_start(client: Client) -> None:
    stream = dict(events(await client.message(more=STREAM | {"cache_control": {"type": "ephemeral"}})))
    start = stream["message_start"]["message"]["usage"]
    end = stream["message_delta"]["usage"]
    assert start["output_tokens"] == 1 < end["output_tokens"]
    assert start["cache_creation"]["ephemeral_5m_input_tokens"] == end["cache_creation_input_tokens"] > 0
    assert "cache_creation" not in end
    assert end["server_tool_use"] == {"web_search_requests": 0, "web_fetch_requests": 0}


@pytest.mark.parametrize("thinking", [{"type": "adaptive"}, {"type": "enabled", "budget_tokens": 1024}])
async def test_thinking_comes_first_and_is_signed(client: Client, thinking: dict[str, Any]) -> None:
    stream = events(await client.message(more=STREAM | {"thinking": thinking, "max_tokens": 2000}))
    deltas = [d["delta"]["type"] for n, d in stream if n == "content_block_delta" and d["index"] == 0]
    assert deltas[0] == "thinking_delta"
    assert deltas.count("signature_delta") == 1 and deltas[-1] == "signature_delta"
    assert dict(stream)["message_delta"]["usage"]["output_tokens_details"]["thinking_tokens"] > 0


async def test_thinking_that_is_not_displayed_is_only_a_signature(client: Client) -> None:
    message = (await client.message(more={"thinking": {"type": "adaptive", "display": "omitted"}})).json()
    assert message["content"][0]["thinking"] == "" != message["content"][0]["signature"]


async def test_a_tool_is_called_with_input_that_fits_its_schema(client: Client) -> None:
    stream = events(await client.message(more=STREAM | {"tools": [TOOL]}))
    pieces = [
        data["delta"]["partial_json"]
        for name, data in stream
        if name == "content_block_delta" and data["delta"]["type"] == "input_json_delta"
    ]
    assert pieces[0] == "" and len(pieces) > 2
    assert json.loads("".join(pieces)) == {"city": "Paris", "days": 1}
    assert dict(stream)["message_delta"]["delta"]["stop_reason"] == "tool_use"


async def test_a_tool_result_is_answered_in_prose(client: Client) -> None:
    called = (await client.message(more={"tools": [TOOL]})).json()
    use = called["content"][-1]
    messages = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": called["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use["id"], "content": "sun"}]},
    ]
    answer = (await client.message(more={"tools": [TOOL], "messages": messages})).json()
    assert [block["type"] for block in answer["content"]] == ["text"]


async def test_tool_choice_names_the_tool(client: Client) -> None:
    other = TOOL | {"name": "other"}
    choice = {"type": "tool", "name": "other"}
    message = (await client.message(more={"tools": [TOOL, other], "tool_choice": choice})).json()
    assert [block["name"] for block in message["content"]] == ["other"]


async def test_without_eager_tools_only_a_named_tool_is_called(
    make_client: Callable[..., Awaitable[Client]],
) -> None:
    client = await make_client(eager_tools=False)
    assert ((await client.message(more={"tools": [TOOL]})).json())["stop_reason"] == "end_turn"
    assert ((await client.message("Call get_weather", more={"tools": [TOOL]})).json())[
        "stop_reason"
    ] == "tool_use"


async def test_a_cached_prefix_is_written_once_then_read(client: Client, clock: FakeClock) -> None:
    system = [{"type": "text", "text": "rule " * 400, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    first = ((await client.message(more={"system": system})).json())["usage"]
    again = ((await client.message("another question", more={"system": system})).json())["usage"]
    clock.wall += 3601
    late = ((await client.message(more={"system": system})).json())["usage"]
    written = first["cache_creation"]["ephemeral_1h_input_tokens"]
    assert written > 400 and first["cache_read_input_tokens"] == 0
    assert (again["cache_creation_input_tokens"], again["cache_read_input_tokens"]) == (0, written)
    assert late["cache_read_input_tokens"] == 0


async def test_a_conversation_reads_what_its_last_turn_wrote(client: Client) -> None:
    def turn(text: str, *, marked: bool) -> dict[str, Any]:
        block: dict[str, Any] = {"type": "text", "text": text}
        return {
            "role": "user",
            "content": [block | ({"cache_control": {"type": "ephemeral"}} if marked else {})],
        }

    first = (await client.message(more={"messages": [turn("one " * 50, marked=True)]})).json()
    messages = [turn("one " * 50, marked=False), {"role": "assistant", "content": first["content"]}]
    second = (await client.message(more={"messages": [*messages, turn("two", marked=True)]})).json()
    assert second["usage"]["cache_read_input_tokens"] == first["usage"]["cache_creation_input_tokens"]
    assert second["usage"]["cache_creation_input_tokens"] > 0


async def test_another_organization_has_a_cold_cache(client: Client) -> None:
    client.sim.add_api_key("sk-ant-api03-other", organization="Other")
    marked = {"cache_control": {"type": "ephemeral"}, "system": [{"type": "text", "text": "a" * 99}]}
    (await client.message(more=marked)).json()
    other = (await client.message(more=marked, credential="sk-ant-api03-other")).json()
    assert other["usage"]["cache_read_input_tokens"] == 0


async def test_counted_tokens_are_those_of_the_usage(client: Client) -> None:
    body = {"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "hello"}]}
    counted = (await client.send("POST", "/v1/messages/count_tokens", body)).json()
    usage = ((await client.message(more={"model": "claude-opus-5-5"})).json())["usage"]
    assert counted == {"input_tokens": usage["input_tokens"]}


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        ({"model": "claude-nope"}, 404, "model: claude-nope"),
        ({"max_tokens": 0}, 400, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": None}, 400, "max_tokens: Input should be a valid integer"),
        ({"messages": []}, 400, "messages: at least one message is required"),
        ({"temperature": 1.5}, 400, "temperature: Input should be between 0 and 1"),
        ({"tools": [{"name": "x"}]}, 400, "tools.0.input_schema: Field required"),
        ({"thinking": {"type": "enabled"}}, 400, "thinking.enabled.budget_tokens: Input should be greater"),
        ({"system": 5}, 400, "system: Input has the wrong type"),
    ],
)
async def test_what_is_wrong_is_said_in_the_documented_shape(
    client: Client, more: dict[str, Any], status: int, message: str
) -> None:
    response = await client.message(more=more)
    answer = response.json()
    assert response.status == status
    assert answer["type"] == "error" and answer["request_id"] == response.header("request-id")
    assert answer["error"]["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert answer["error"]["message"].startswith(message)


async def test_the_new_api_version_refuses_sampling_parameters(client: Client) -> None:
    hot = {"temperature": 0.5}
    assert (await client.message(more=hot)).status == 200
    assert (await client.message(more=hot, anthropic_version="2026-10-21")).status == 400


async def test_a_gzipped_request_is_understood(client: Client) -> None:
    body = {"model": "claude-opus-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    packed = gzip.compress(json.dumps(body).encode())
    response = await client.send("POST", "/v1/messages", packed, content_encoding="gzip")
    assert response.status == 200
    broken = await client.send("POST", "/v1/messages", packed[:20] + b"x", content_encoding="gzip")
    assert broken.json()["error"]["type"] == "invalid_request_error"


async def test_an_answer_is_gzipped_where_that_is_accepted(client: Client) -> None:
    plain = await client.get("/v1/models")
    packed = await client.get("/v1/models", accept_encoding="gzip, deflate")
    assert packed.header("content-encoding") == "gzip"
    assert gzip.decompress(packed.body) == plain.body


async def test_a_stream_is_gzipped_on_demand(client: Client) -> None:
    response = await client.message(more=STREAM, x_simulate_encoding="gzip")
    assert response.header("content-encoding") == "gzip"
    assert gzip.decompress(response.body).endswith(b'data: {"type":"message_stop"}\n\n')


async def test_streams_are_paced_as_told(
    make_client: Callable[..., Awaitable[Client]], clock: FakeClock
) -> None:
    client = await make_client(event_interval_s=0.03)
    stream = events(await client.message(more=STREAM))
    assert clock.slept == [0.03] * (len(stream) - 1)


async def test_a_body_over_32_megabytes_is_too_large(client: Client) -> None:
    response = await client.send("POST", "/v1/messages", b" " * (32 << 20) + b"{}")
    assert (response.status, response.json()["error"]["type"]) == (413, "request_too_large")


async def test_models_come_in_pages(client: Client) -> None:
    first = (await client.get("/v1/models?limit=2")).json()
    after = (await client.get(f"/v1/models?limit=2&after_id={first['last_id']}")).json()
    back = (await client.get(f"/v1/models?limit=2&before_id={after['first_id']}")).json()
    assert first["has_more"] and after["data"][0] not in first["data"]
    assert back["data"] == first["data"] and not back["has_more"]


async def test_a_dated_model_is_its_model(client: Client) -> None:
    model = (await client.get("/v1/models/claude-haiku-4-5-20251001")).json()
    assert (model["id"], model["display_name"]) == ("claude-haiku-4-5-20251001", "Claude Haiku 4.5")


async def test_an_unknown_path_is_not_found_in_the_apis_shape(client: Client) -> None:
    response = await client.get("/v1/nothing")
    assert (response.status, response.json()["error"]["type"]) == (404, "not_found_error")


async def test_clients_may_say_hello_without_a_credential(client: Client) -> None:
    for path in ("/", "/api/hello"):
        assert (await client.send("HEAD", path, credential=None)).status == 200


async def test_an_api_key_is_taken_in_either_header(client: Client) -> None:
    assert (await client.get("/v1/models")).status == 200
    assert (await client.get("/v1/models", credential=None, authorization=f"Bearer {KEY}")).status == 200


@pytest.mark.parametrize(
    "headers", [{}, {"x_api_key": "sk-ant-api03-x"}, {"x_api_key": KEY, "authorization": f"Bearer {KEY}"}]
)
async def test_no_unknown_and_two_credentials_are_refused(client: Client, headers: dict[str, str]) -> None:
    response = await client.get("/v1/models", credential=None, **headers)
    assert (response.status, response.json()["error"]["type"]) == (401, "authentication_error")


async def test_limits_are_of_the_credentials_family(client: Client) -> None:
    grant = client.sim.add_oauth()
    by_key = await client.message()
    by_token = await client.message(
        credential=None,
        authorization=f"Bearer {grant.access_token}",
        anthropic_beta="a,oauth-2025-04-20",
    )
    assert by_key.header("anthropic-ratelimit-requests-remaining") == "3999"
    assert by_token.header("anthropic-ratelimit-unified-status") == "allowed"
    assert by_key.header("anthropic-ratelimit-unified-status") is None
    assert by_key.header("anthropic-organization-id") == by_token.header("anthropic-organization-id")
