"""POST /v1/chat/completions: OpenAI's shape of a message."""

from __future__ import annotations

import json
from typing import Any

from tests.proxy.simulator.http import Client

ASKED = {"model": "claude-sonnet-5-5", "messages": [{"role": "user", "content": "hello"}]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


async def asked(client: Client, **more: Any) -> Any:
    answer = await client.send("POST", "/v1/chat/completions", ASKED | more)
    assert answer.status == 200, answer.body
    return answer.json()


async def test_a_completion_says_what_a_message_says(client: Client) -> None:
    message, completion = (await client.message()).json(), await asked(client)
    (choice,) = completion["choices"]
    assert choice["message"] == {"role": "assistant", "content": message["content"][0]["text"]}
    assert choice["finish_reason"] == "stop"
    usage = completion["usage"]
    assert usage["completion_tokens"] == message["usage"]["output_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_a_stream_is_the_completion_in_pieces(client: Client) -> None:
    whole = (await asked(client))["choices"][0]["message"]["content"]
    body = ASKED | {"stream": True, "stream_options": {"include_usage": True}}
    answer = await client.send("POST", "/v1/chat/completions", body)
    *events, done, end = answer.body.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == whole
    assert (chunks[-1]["choices"], chunks[-2]["choices"][0]["finish_reason"]) == ([], "stop")
    assert chunks[-1]["usage"]["completion_tokens"] > 0


async def test_a_function_is_called_and_its_result_answered(client: Client) -> None:
    first = (await asked(client, tools=[TOOL]))["choices"][0]
    (call,) = first["message"]["tool_calls"]
    assert (first["finish_reason"], call["function"]["name"]) == ("tool_calls", "get_weather")
    result = {"role": "tool", "tool_call_id": call["id"], "content": "18 °C"}
    turns = [*ASKED["messages"], first["message"], result]
    second = (await asked(client, tools=[TOOL], messages=turns))["choices"][0]
    assert second["finish_reason"] == "stop"


async def test_a_refusal_has_the_shape_of_openai(client: Client) -> None:
    answer = await client.send("POST", "/v1/chat/completions", ASKED | {"model": "gpt-5"})
    kind = "not_found_error"
    error = {"code": kind, "message": "model: gpt-5", "type": kind, "param": None}
    assert (answer.status, answer.json()) == (404, {"error": error})
