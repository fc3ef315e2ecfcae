"""Calls the Claude API with the `anthropic` package as programs do, and prints what came of each call as JSON.

Runs in the package's own virtual environment; `ANTHROPIC_BASE_URL` and `ANTHROPIC_API_KEY` say where and as whom.
Prints `{"sync": {call: outcome}, "async": {call: outcome}}`; an outcome has what the call returned, or raised, and
the requests it made as `[method, url, status]`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anthropic
from calling import Calls, Client, every, got, in_turn, until_broken

MODEL = "claude-sonnet-5-5"
ASKED: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 2048,
    "messages": [{"role": "user", "content": "What is a façade — in 30 words?"}],
}
TOOL = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
FILE = ("ünïcode.txt", b"\0\xff line\r\n" * 1000, "text/plain")
STATUSES = (400, 403, 404, 500, 529)


async def create(client: Client) -> Any:
    return await got(client.messages.create(**ASKED, system="Answer briefly."))


async def headers(client: Client) -> Any:
    raw = await got(client.messages.with_raw_response.create(**ASKED))
    return dict(raw.headers)


async def create_stream(client: Client) -> Any:
    return await every(await got(client.messages.create(**ASKED, stream=True)))


async def stream_helper(client: Client) -> Any:
    async with AsyncExitStack() as held:
        manager = client.messages.stream(**ASKED)
        enter = held.enter_async_context if hasattr(manager, "__aenter__") else held.enter_context
        stream = await got(enter(manager))
        return {"events": await every(stream), "message": await got(stream.get_final_message())}


async def thinking(client: Client) -> Any:
    asked = ASKED | {"thinking": {"type": "enabled", "budget_tokens": 1024}, "stream": True}
    return await every(await got(client.messages.create(**asked)))


async def tool_use(client: Client) -> Any:
    question = {"role": "user", "content": "What is the weather in Paris?"}
    asked = ASKED | {"tools": [TOOL]}
    call = await got(client.messages.create(**asked | {"messages": [question]}))
    result = {"type": "tool_result", "tool_use_id": call.content[-1].id, "content": "18 °C"}
    turns = [
        question,
        {"role": "assistant", "content": call.content},
        {"role": "user", "content": [result]},
    ]
    return [call, await got(client.messages.create(**asked | {"messages": turns}))]


async def tool_runner(client: Client) -> Any:
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"18 °C in {city}"

    async def get_weather_soon(city: str) -> str:
        return get_weather(city)

    name = "get_weather"
    if isinstance(client, anthropic.Anthropic):
        tool = anthropic.beta_tool(get_weather, name=name)
    else:
        tool = anthropic.beta_async_tool(get_weather_soon, name=name, description=get_weather.__doc__)
    question = {"role": "user", "content": "What is the weather in Paris?"}
    return await every(client.beta.messages.tool_runner(**ASKED | {"messages": [question]}, tools=[tool]))


async def count_tokens(client: Client) -> Any:
    return await got(client.messages.count_tokens(model=MODEL, messages=ASKED["messages"]))


async def models(client: Client) -> Any:
    return [await every(client.models.list(limit=5)), await got(client.models.retrieve(MODEL))]


async def files(client: Client) -> Any:
    resource = getattr(client, "files", None) or client.beta.files  # 0.121.0 has them as a beta only
    uploaded = await got(resource.upload(file=FILE))
    content = await got(resource.download(uploaded.id))
    return [
        uploaded,
        await got(resource.retrieve_metadata(uploaded.id)),
        await every(resource.list(limit=1)),
        (await got(content.read())).decode("latin-1"),
        await got(resource.delete(uploaded.id)),
    ]


async def batches(client: Client) -> Any:
    resource = client.messages.batches
    requests = [{"custom_id": name, "params": ASKED} for name in ("first", "second")]
    created = await got(resource.create(requests=requests))
    ended = await got(resource.retrieve(created.id))
    results = await every(await got(resource.results(created.id)))
    canceled = await got(resource.create(requests=requests))
    return [
        created,
        ended,
        results,
        await got(resource.cancel(canceled.id)),
        await every(resource.list(limit=1)),
        await every(await got(resource.results(canceled.id))),
        await got(resource.delete(created.id)),
    ]


def refused(status: int) -> Callable[[Client], Awaitable[Any]]:
    """A call that is answered with that status, by a client that does not try again."""

    async def call(client: Client) -> Any:
        impatient = client.with_options(max_retries=0, default_headers={"x-simulate": str(status)})
        return await got(impatient.messages.create(**ASKED))

    return call


async def no_such_model(client: Client) -> Any:
    return await got(client.models.retrieve("claude-none"))


async def invalid_request(client: Client) -> Any:
    return await got(client.messages.create(**ASKED | {"max_tokens": 0}))


def broken(wish: str) -> Callable[[Client], Awaitable[Any]]:
    """A stream that breaks: its events up to there, and the error."""

    async def call(client: Client) -> Any:
        headers = {"x-simulate": wish}
        stream = await got(client.messages.create(**ASKED, stream=True, extra_headers=headers))
        return await until_broken(stream, anthropic.APIError)

    return call


async def wrong_key(client: Client) -> Any:
    return await got(client.with_options(api_key="not-a-key-of-this-proxy").messages.create(**ASKED))


async def rate_limit(client: Client) -> Any:
    # Without a proxy, `should-retry` spares the hour's sleep.
    headers = {"x-simulate": "429; retry-after=3600; should-retry=false"}
    return await got(client.messages.create(**ASKED, extra_headers=headers))


ANSWERED: Calls = {
    "create": create,
    "headers": headers,
    "create stream": create_stream,
    "stream helper": stream_helper,
    "thinking": thinking,
    "tool use": tool_use,
    "tool runner": tool_runner,
    "count tokens": count_tokens,
    "models": models,
    "files": files,
    "batches": batches,
}
# After these the ids differ: a proxy may try one request several times.
REFUSED: Calls = {
    "error mid-stream": broken("error-mid-stream; after-events=5"),
    "cut stream": broken("cut; after-events=5"),
    "invalid request": invalid_request,
    "no such model": no_such_model,
    **{f"status {status}": refused(status) for status in STATUSES},
    "wrong key": wrong_key,
}
# After this there may be no account left to ask.
LIMITED: Calls = {"rate limit": rate_limit}


found = asyncio.run(
    in_turn(anthropic, anthropic.Anthropic, anthropic.AsyncAnthropic, ANSWERED, REFUSED, LIMITED)
)
json.dump(found, sys.stdout)
