"""POST /v1/chat/completions: a message asked for and answered in the shape of OpenAI's API (docs: api/openai-sdk)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from proxy.clock import Clock

from .auth import Credential
from .messages import MAX_BYTES, Messages
from .replies import Answer, ApiError, EventStream, Json, dumps, json_answer
from .requests import Request
from .routes import Routes
from .validation import SAMPLING_VERSION

_PIECE = 18
_DEFAULT_MAX_TOKENS = 4096
_REASONS = {"max_tokens": "length", "tool_use": "tool_calls"}


class Chat:
    """What `messages` answers, translated. Only text, functions and their results are; the rest is ignored."""

    def __init__(self, messages: Messages, *, clock: Clock) -> None:
        self._messages = messages
        self._clock = clock

    @property
    def routes(self) -> Routes:
        return (("POST", "/v1/chat/completions", self.create),)

    async def create(self, caller: Credential, request: Request) -> Answer | EventStream:
        try:
            body = request.json(MAX_BYTES)
            message = self._messages.compose(caller.organization, _asked(body), SAMPLING_VERSION)
        except ApiError as error:
            shape = {"code": error.type, "message": error.message, "type": error.type, "param": None}
            return json_answer({"error": shape}, error.status)
        now, usage = self._clock.now(), message["usage"]
        caller.meter.count(now, usage["input_tokens"], usage["output_tokens"])
        completion = _completion(message, int(now))
        if not body.get("stream"):
            return json_answer(completion)
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        chunks = (dumps(chunk) for chunk in _chunks(completion, with_usage))
        return EventStream(tuple(b"data: " + data + b"\n\n" for data in (*chunks, b"[DONE]")))


def _asked(body: Json) -> Json:
    """The body of /v1/messages that asks the same. System messages are joined and stand first, as the API has it."""
    turns = body.get("messages")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ApiError(400, "messages: Field required")
    said = [turn["content"] for turn in turns if turn.get("role") in ("system", "developer")]
    asked = {
        "model": body.get("model"),
        "max_tokens": body.get("max_completion_tokens") or body.get("max_tokens") or _DEFAULT_MAX_TOKENS,
        "messages": [_turn(turn) for turn in turns if turn.get("role") not in ("system", "developer")],
        "stop_sequences": [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or [],
        "tools": [_tool(tool["function"]) for tool in body.get("tools") or []],
    }
    return asked | ({"system": "\n".join(map(str, said))} if said else {})


def _tool(function: Json) -> Json:
    return {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}


def _turn(turn: Json) -> Json:
    if turn.get("role") == "tool":
        result = {
            "type": "tool_result",
            "tool_use_id": turn.get("tool_call_id"),
            "content": turn.get("content"),
        }
        return {"role": "user", "content": [result]}
    if not turn.get("tool_calls"):
        return {"role": turn.get("role"), "content": turn.get("content")}
    uses = [
        {"type": "tool_use", "id": call["id"], "name": call["function"]["name"]}
        | {"input": json.loads(call["function"]["arguments"])}
        for call in turn["tool_calls"]
    ]
    return {"role": "assistant", "content": uses}


def _completion(message: Json, created: int) -> Json:
    texts = [block["text"] for block in message["content"] if block["type"] == "text"]
    calls = [
        {"id": block["id"], "type": "function"}
        | {"function": {"name": block["name"], "arguments": dumps(block["input"]).decode()}}
        for block in message["content"]
        if block["type"] == "tool_use"
    ]
    said: Json = {"role": "assistant", "content": "".join(texts) if texts else None}
    prompt, completion = message["usage"]["input_tokens"], message["usage"]["output_tokens"]
    choice = {"index": 0, "message": said | ({"tool_calls": calls} if calls else {})}
    return {
        "id": message["id"],
        "object": "chat.completion",
        "created": created,
        "model": message["model"],
        "choices": [choice | {"finish_reason": _REASONS.get(message["stop_reason"], "stop")}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        },
    }


def _chunks(completion: Json, with_usage: bool) -> Iterator[Json]:
    (choice,) = completion["choices"]
    said = choice["message"]
    head = {name: completion[name] for name in ("id", "created", "model")} | {
        "object": "chat.completion.chunk"
    }
    text = said["content"] or ""
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": text[start : start + _PIECE]} for start in range(0, len(text), _PIECE)]
    deltas += [{"tool_calls": [{"index": i} | call]} for i, call in enumerate(said.get("tool_calls") or [])]
    for delta in deltas:
        yield head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield head | {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    if with_usage:
        yield head | {"choices": [], "usage": completion["usage"]}
