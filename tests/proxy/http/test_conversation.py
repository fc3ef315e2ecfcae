"""What a body tells of the conversation it goes on with: its hashes, its session, the message before it."""

from __future__ import annotations

import asyncio
import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.body import Bodies, Body
from proxy.http.conversation import MOST_HASHES
from proxy.http.parts import MOST_PARTS
from proxy.http.peek import Peek, peek

UUID = "1b671a64-40d5-491e-99b0-da01ff1f3341"
CACHED = {"type": "ephemeral"}


async def seen(*, wants_chain: bool = True, **members: Any) -> Peek:
    body = Body(Bodies(None))
    body.write(json.dumps({"model": "m", "max_tokens": 1} | members, ensure_ascii=False).encode())
    found = peek(body, wants_chain=wants_chain)
    return found if isinstance(found, Peek) else await found


async def chain(messages: list[Any], **members: Any) -> tuple[int, ...]:
    return (await seen(messages=messages, **members)).chain


def user(*content: Any) -> dict[str, Any]:
    return {
        "role": "user",
        "content": list(content) if content and isinstance(content[0], dict) else content[0],
    }


def assistant(*content: Any) -> dict[str, Any]:
    return user(*content) | {"role": "assistant"}


def text(said: str, **members: Any) -> dict[str, Any]:
    return {"type": "text", "text": said} | members


def call(number: int = 1, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": "get", "input": arguments}


def result(content: Any, number: int = 1, **members: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": content} | members


def thought(signature: str = "E1") -> dict[str, Any]:
    return {"type": "thinking", "thinking": "hm", "signature": signature}


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
SYSTEM = [text("You are a test.")]
TALK = [
    user("hi\n\u00e9"),
    assistant(thought(), text("yes"), call(path="/a")),
    user(result("done"), text("go on")),
    assistant(call(2, path="/b")),
    user(result([text("seen"), IMAGE], 2)),
]


# ---- the chain


async def test_a_conversation_begins_with_the_hashes_of_what_was_before_it() -> None:
    whole = await chain(TALK, system=SYSTEM)
    assert len(set(whole)) == len(TALK)
    assert all(0 <= each < 1 << 64 for each in whole)
    for length in range(len(TALK)):
        assert await chain(TALK[:length], system=SYSTEM) == whole[:length]


async def test_hashes_are_the_same_after_every_start() -> None:
    assert await chain([user("hi")]) == (1046616840031955794,)


async def test_a_string_is_the_same_as_a_block_of_text() -> None:
    blocks = [user(text("hi\n\u00e9")), *TALK[1:]]
    blocks[2] = user(result([text("done")]), text("go on"))
    as_strings = [*TALK[:2], user(result("done"), text("go on")), *TALK[3:]]
    system = SYSTEM[0]["text"]
    assert (await chain(blocks, system=SYSTEM))[:2] == (await chain(as_strings, system=system))[:2]


async def test_text_is_the_same_however_it_is_escaped() -> None:
    body = Body(Bodies(None))
    body.write(rb'{"messages":[{"role":"user","content":"\u0068i\u000a\u00e9"}]}')
    found = peek(body, wants_chain=True)
    assert isinstance(found, Peek)
    assert found.chain == await chain(TALK[:1])


def moved(messages: list[Any]) -> list[Any]:
    """The same conversation, as a client may send it with the next turn."""
    later = deepcopy(messages)
    later[1]["content"] = [thought("E2"), text("yes", citations=None), call(11, path="/a")]
    later[2]["content"] = [result("done", 11), text("go on", cache_control=CACHED)]
    later[4]["content"][0] |= {"tool_use_id": "toolu_12", "cache_control": CACHED | {"ttl": "1h"}}
    return later


async def test_what_clients_move_or_lose_does_not_matter() -> None:
    before = await chain(TALK, system=SYSTEM)
    assert await chain(moved(TALK), system=[SYSTEM[0] | {"cache_control": CACHED}]) == before
    assert await chain(TALK, system=SYSTEM, tools=[{"name": "x"}], stream=True, model="n") == before


CHANGES = {
    0: [assistant("hi\n\u00e9"), user("ho")],
    1: [assistant(thought(), text("no"), call(path="/a")), assistant(thought(), text("yes"), call(path="/c"))],
    2: [user(result("undone"), text("go on")), user(result("done"))],
    4: [user(result([text("unseen"), IMAGE], 2)), user(result([text("seen"), IMAGE, IMAGE], 2))],
}  # fmt: skip


@pytest.mark.parametrize(("at", "other"), [(at, each) for at, others in CHANGES.items() for each in others])
async def test_every_hash_depends_on_all_that_was_said_before(at: int, other: Any) -> None:
    before, after = await chain(TALK), await chain([*TALK[:at], other, *TALK[at + 1 :]])
    assert after[:at] == before[:at]
    assert not set(after[at:]) & set(before[at:])


async def test_every_hash_depends_on_the_system_prompt() -> None:
    assert not set(await chain(TALK)) & set(await chain(TALK, system=SYSTEM))
    assert not set(await chain(TALK, system="x")) & set(await chain(TALK, system=SYSTEM))


SAYS = [
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "$"}},
    {"type": "document", "source": {"type": "url", "url": "$"}},
    {"type": "document", "source": {"type": "file", "file_id": "$"}},
    {"type": "document", "source": {"type": "content", "content": "$"}},
    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "$"}]}},
    {"type": "document", "title": "$", "source": {"type": "file", "file_id": "x"}},
    {"type": "search_result", "source": "$", "title": "x", "content": []},
    {"type": "redacted_thinking", "data": "$"},
    {"type": "container_upload", "file_id": "$"},
    {"type": "code_execution_tool_result", "content": {"type": "code_execution_result", "stdout": "$"}},
    {"type": "web_search_tool_result", "content": [{"type": "web_search_result", "url": "$"}]},
    {"type": "new_$", "new": 1},
]


@pytest.mark.parametrize("block", SAYS, ids=json.dumps)
async def test_what_any_block_says_matters(block: Any) -> None:
    one, same, other = (json.loads(json.dumps(block).replace("$", each)) for each in ("a", "a", "b"))
    hashes = [await chain([user(each), assistant("x")]) for each in (one, same, other)]
    assert hashes[0] == hashes[1]
    assert not set(hashes[0]) & set(hashes[2])


@pytest.mark.parametrize("new", [{"new": {"file_id": "f"}}, {"container": "c"}, {"new": [1]}])
async def test_a_conversation_stays_the_same_when_something_unknown_comes_to_it(new: Any) -> None:
    assert await chain([*TALK, user("x")], **new) == await chain([*TALK, user("x")])
    with_new_block = await chain([*TALK, user({"type": "new"} | new)])
    assert with_new_block[:-1] == await chain(TALK)


async def test_of_a_long_conversation_the_last_hashes_are_kept() -> None:
    many = [user("a"), assistant("b")] * (MOST_HASHES // 2)
    whole = await chain(many)
    longer = await chain([*many, user("c")])
    assert len(longer) == MOST_HASHES
    assert longer[:-1] == whole[1:]


@pytest.mark.parametrize("messages", [[], None, 1, "x", {}, [1], ["x"], [{}], [{"role": "user"}], [user(1)]])
async def test_what_is_no_conversation_has_no_hashes(messages: Any) -> None:
    found = await seen(messages=messages)
    assert (found.model, found.chain) == ("m", ())


async def test_hashes_are_made_only_if_they_are_asked_for() -> None:
    assert (await seen(messages=TALK, wants_chain=False)).chain == ()


words = st.sampled_from(["a", "b", "ab", "", '"', "\u00e9\n"])
contents = st.one_of(
    words,
    st.lists(
        st.one_of(
            words.map(text),
            words.map(lambda said: result(said)),
            words.map(lambda said: call(x=said)),
            st.just(IMAGE),
        ),
        max_size=3,
    ),
)
messages = st.lists(
    st.tuples(st.sampled_from(["user", "assistant"]), contents).map(
        lambda pair: {"role": pair[0], "content": pair[1]}
    ),
    max_size=5,
)


def said(message: Any) -> Any:
    content = message["content"]
    return message["role"], json.dumps([text(content)] if isinstance(content, str) else content)


@given(messages, messages)
def test_two_conversations_share_the_hashes_of_what_they_share(one: list[Any], other: list[Any]) -> None:
    hashes = [asyncio.run(chain(each)) for each in (one, other)]
    shared = 0
    for a, b in zip(one, other, strict=False):
        if said(a) != said(b):
            break
        shared += 1
    assert hashes[0][:shared] == hashes[1][:shared]
    assert not set(hashes[0][shared:]) & set(hashes[1][shared:])


# ---- sessions and threads


@pytest.mark.parametrize(
    ("user_id", "session"),
    [
        (json.dumps({"device_id": "d", "account_uuid": "", "session_id": UUID}), UUID),
        (f"user_{'a' * 64}_account__session_{UUID}", UUID),
        (f"user_{'a' * 64}_account_{UUID}_session_s-1", "s-1"),
        (f"my_session_{UUID}", None),
        ("user_1", None),
        ("", None),
        (None, None),
        (7, None),
        ("{", None),
        ('{"session_id":1}', None),
        ('{"session_id":""}', None),
        ('{"session_id":"a b"}', None),
        (json.dumps({"x": "x" * 2048, "session_id": UUID}), None),
        (json.dumps({"session_id": "x" * 257}), None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_the_session_is_read_from_what_claude_code_writes(user_id: Any, session: str | None) -> None:
    assert (await seen(metadata={"user_id": user_id}, messages=TALK)).session == session


@pytest.mark.parametrize("metadata", [None, 1, "x", [], {}])
async def test_other_metadata_names_no_session(metadata: Any) -> None:
    assert (await seen(metadata=metadata)).session is None


async def test_the_message_that_a_thread_goes_on_from_is_seen() -> None:
    found = await seen(thread={"type": "continue", "previous_message_id": "msg_1"}, messages=TALK)
    assert (found.in_thread, found.previous_message, found.named) == (True, "msg_1", ())
    found = await seen(thread={"type": "new"})
    assert (found.in_thread, found.previous_message) == (True, None)
    for none in ({"thread": None}, {}):
        assert not (await seen(**none)).in_thread
    for odd in (1, "msg_1", {"previous_message_id": 1}, {"previous_message_id": "x" * 257}):
        assert (await seen(thread=odd)).previous_message is None


async def test_the_message_that_diagnostics_name_is_seen() -> None:
    found = await seen(diagnostics={"previous_message_id": "msg_1"}, new=1)
    assert (found.diagnosed_message, found.in_thread, found.named) == ("msg_1", True, ())


# ---- what may come in the answer


@pytest.mark.parametrize(
    ("members", "may"),
    [
        ({"tools": [{"name": "get"}, {"type": "code_execution_20250825", "name": "code_execution"}]}, True),
        ({"tools": [{"type": "code_execution_20270101", "new": {}}]}, True),
        ({"tools": [{}] * (MOST_PARTS + 1)}, True),
        ({"tools": [{"name": "code_execution"}, {"type": "bash_20250124"}, {"type": 1}, 1]}, False),
        ({"container": {"skills": [{"type": "anthropic", "skill_id": "pptx"}]}}, True),
        ({"container": {"id": "c", "skills": []}}, False),
        ({"container": {"id": "c", "skills": None}}, False),
        ({"container": "c"}, False),
        ({"container": None}, False),
        ({}, False),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_can_run_code_may_generate_something(members: dict[str, Any], may: bool) -> None:
    assert (await seen(messages=TALK, **members)).may_generate == may
