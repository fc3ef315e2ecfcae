"""Breakpoints, lifetimes and lengths of the prompt cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.proxy.simulator.http import Client, FakeClock

MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


async def usage(client: Client, *blocks: dict[str, Any], **more: Any) -> Any:
    messages = [{"role": "user", "content": list(blocks)}]
    answer = await client.message(more={"messages": messages} | more)
    assert answer.status == 200, answer.body
    return answer.json()["usage"]


async def test_a_breakpoint_inside_a_tools_result_moves_like_any_other(client: Client) -> None:
    tool = {"name": "look", "input_schema": {"type": "object"}}

    def turn(number: int, *, marked: bool) -> list[dict[str, Any]]:
        use = {"type": "tool_use", "id": f"toolu_{number}", "name": "look", "input": {}}
        inside = text("seen " * 50, **(MARK if marked else {}))
        result = {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": [inside]}
        return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]

    start = [{"role": "user", "content": "look"}]
    body = {"tools": [tool], "messages": [*start, *turn(1, marked=True)]}
    first = (await client.message(more=body)).json()["usage"]
    body["messages"] = [*start, *turn(1, marked=False), *turn(2, marked=True)]
    second = (await client.message(more=body)).json()["usage"]
    assert first["cache_creation_input_tokens"] > 50
    assert second["cache_read_input_tokens"] == first["cache_creation_input_tokens"]


async def test_a_request_has_four_breakpoints_at_most(client: Client) -> None:
    await usage(client, *(text(f"part {number}", **MARK) for number in range(4)))
    blocks = [text(f"part {number}", **MARK) for number in range(5)]
    refused = await client.message(more={"messages": [{"role": "user", "content": blocks}]})
    wanted = "A maximum of 4 blocks with cache_control may be provided. Found 5."
    assert (refused.status, refused.json()["error"]["message"]) == (400, wanted)


async def test_the_longer_lifetime_comes_first(client: Client) -> None:
    both = await usage(client, text("one", **HOUR), text("two", **MARK))
    assert all(both["cache_creation"].values())
    messages = [{"role": "user", "content": [text("one", **MARK), text("two", **HOUR)]}]
    assert (await client.message(more={"messages": messages})).status == 400


@pytest.mark.parametrize(("between", "found"), [(19, True), (20, True), (21, False)])
async def test_an_earlier_prefix_is_looked_for_twenty_blocks_back(
    client: Client, between: int, found: bool
) -> None:
    written = await usage(client, text("start", **MARK))
    blocks = [text("start"), *(text(f"block {number}") for number in range(between - 1)), text("end", **MARK)]
    read = (await usage(client, *blocks))["cache_read_input_tokens"]
    assert read == (written["cache_creation_input_tokens"] if found else 0)


async def test_what_is_read_lives_on(client: Client, clock: FakeClock) -> None:
    await usage(client, text("start", **MARK))
    for _ in range(3):
        clock.wall += 200
        assert (await usage(client, text("start", **MARK), text("more")))["cache_read_input_tokens"] > 0
    clock.wall += 300
    assert (await usage(client, text("start", **MARK)))["cache_read_input_tokens"] == 0


async def test_a_prefix_that_is_read_without_a_breakpoint_of_its_own_lives_on(
    client: Client, clock: FakeClock
) -> None:
    await usage(client, text("start", **MARK))
    for branch in range(3):
        clock.wall += 200
        read = await usage(client, text("start"), text(f"branch {branch}", **MARK))
        assert read["cache_read_input_tokens"] > 0


async def test_another_model_has_a_cold_cache(client: Client) -> None:
    await usage(client, text("start", **MARK))
    assert (await usage(client, text("start", **MARK), model="claude-opus-5"))["cache_read_input_tokens"] == 0


@pytest.mark.parametrize(
    ("model", "least"), [("claude-sonnet-5-5", 1024), ("claude-haiku-4-5-20251001", 4096)]
)
async def test_a_short_prompt_is_not_cached_if_told_so(
    make_client: Callable[..., Awaitable[Client]], model: str, least: int
) -> None:
    client = await make_client(real_cache_minimum=True)
    for tokens, cached in ((least - 100, False), (least + 100, True)):
        block = text("x" * 4 * tokens, **MARK)
        assert bool((await usage(client, block, model=model))["cache_creation_input_tokens"]) is cached
