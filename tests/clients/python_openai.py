"""Calls `/v1/chat/completions` with the `openai` package, and prints what came of each call as JSON.

Runs in the package's own virtual environment; `OPENAI_BASE_URL` (with its `/v1`) and `OPENAI_API_KEY` say where and as
whom. Prints `{"sync": {call: outcome}, "async": {call: outcome}}`; see `calling.outcomes`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import openai
from calling import Calls, Client, every, got, in_turn, until_broken

ASKED: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "messages": [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "What is a façade — in 30 words?"},
    ],
}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
STATUSES = (400, 403, 404, 500, 529)


async def create(client: Client) -> Any:
    return await got(client.chat.completions.create(**ASKED, max_completion_tokens=500))


async def headers(client: Client) -> Any:
    return dict((await got(client.chat.completions.with_raw_response.create(**ASKED))).headers)


async def create_stream(client: Client) -> Any:
    options = {"include_usage": True}
    return await every(
        await got(client.chat.completions.create(**ASKED, stream=True, stream_options=options))
    )


async def tool_use(client: Client) -> Any:
    asked = ASKED | {"tools": [TOOL]}
    call = await got(client.chat.completions.create(**asked))
    said = call.choices[0].message
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "18 °C"}
    turns = [*ASKED["messages"], said.model_dump(exclude_none=True), result]
    return [call, await got(client.chat.completions.create(**asked | {"messages": turns}))]


def wishing(wish: str) -> Callable[[Client], Awaitable[Any]]:
    """A call that is answered as `wish` says, by a client that does not try again."""

    async def call(client: Client) -> Any:
        impatient = client.with_options(max_retries=0, default_headers={"x-simulate": wish})
        return await got(impatient.chat.completions.create(**ASKED))

    return call


def broken(wish: str) -> Callable[[Client], Awaitable[Any]]:
    """A stream that breaks: its events up to there, and the error."""

    async def call(client: Client) -> Any:
        asked = client.chat.completions.create(**ASKED, stream=True, extra_headers={"x-simulate": wish})
        return await until_broken(await got(asked), openai.APIError)

    return call


async def no_such_model(client: Client) -> Any:
    return await got(client.chat.completions.create(**ASKED | {"model": "gpt-5"}))


async def wrong_key(client: Client) -> Any:
    return await got(client.with_options(api_key="not-a-key-of-this-proxy").chat.completions.create(**ASKED))


ANSWERED: Calls = {
    "create": create,
    "headers": headers,
    "create stream": create_stream,
    "tool use": tool_use,
}
# After these the ids differ: a proxy may try one request several times.
REFUSED: Calls = {
    "error mid-stream": broken("error-mid-stream; after-events=5"),
    "cut stream": broken("cut; after-events=5"),
    "no such model": no_such_model,
    **{f"status {status}": wishing(str(status)) for status in STATUSES},
    "wrong key": wrong_key,
}

json.dump(
    asyncio.run(in_turn(openai, openai.OpenAI, openai.AsyncOpenAI, ANSWERED, REFUSED)),
    sys.stdout,
)
