"""Of a conversation's next turn only what is new is read, and the same is told of it as of one that is read whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http import beginnings as module
from proxy.http.beginnings import LEAST_BYTES, MOST, Beginnings
from proxy.http.body import Bodies, Body
from proxy.http.conversation import PICTURE_BYTES
from proxy.http.peek import AT_ONCE_BYTES, MOST_BLOCKS_AT_ONCE, Peek, peek

MARK = {"cache_control": {"type": "ephemeral"}}
COMPACT, SPACED = (",", ":"), (", ", ": ")
TOOLS = [{"name": "Edit", "input_schema": {"type": "object"}}]


def seen(data: bytes, beginnings: Beginnings | None) -> Peek:
    """What is told of a body."""
    return look(data, beginnings)[0]


def is_at_once(data: bytes, beginnings: Beginnings | None) -> bool:
    """Whether it is told at once, on the event loop."""
    return look(data, beginnings)[1]


def look(data: bytes, beginnings: Beginnings | None) -> tuple[Peek, bool]:
    body = Body(Bodies(None))
    assert body.write(data) is None
    found = peek(body, wants_chain=True, beginnings=beginnings)
    return (found, True) if isinstance(found, Peek) else (asyncio.run(awaited(found)), False)


async def awaited(found: Awaitable[Peek]) -> Peek:
    return await found


def talk(count: int, size: int = 2000, word: str = "said") -> list[dict[str, Any]]:
    """An agent's conversation of so many messages."""
    return [message(i, size, word) for i in range(count)]


def message(i: int, size: int, word: str) -> dict[str, Any]:
    text = f"{word} {i}: " + "all of it, " * (size // 11)
    if i % 2 == 0:
        return {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": f"toolu_{i - 1}", "content": text}],
        }
    call = {
        "type": "tool_use",
        "id": f"toolu_{i}",
        "name": "Edit",
        "input": {"old": text, "messages": [{"role": "x"}]},
    }
    return {"role": "assistant", "content": [{"type": "text", "text": "I edit"}, call]}


def request(messages: list[dict[str, Any]], separators: tuple[str, str] = COMPACT, **members: Any) -> bytes:
    """A request as clients write it, with a marker at its last message."""
    last = messages[-1]
    marked = [*messages[:-1], last | {"content": [last["content"][0] | MARK, *last["content"][1:]]}]
    whole = {"model": "claude-haiku-5-5", "messages": marked, "max_tokens": 64} | members
    return json.dumps(whole, separators=separators).encode()


def read_of(data: bytes, beginnings: Beginnings) -> int:
    """How many bytes of it are read."""
    turn = beginnings.find(data)
    assert turn is not None
    start, end = turn.span
    return len(data) - (end - start)


@pytest.mark.parametrize("separators", [COMPACT, SPACED])
def test_of_the_next_turn_only_what_is_new_is_read(separators: tuple[str, str]) -> None:
    beginnings = Beginnings()
    seen(request(talk(41), separators), beginnings)
    later = request(talk(43), separators)
    assert read_of(later, beginnings) < 32 * 1024 < len(later) / 2
    assert seen(later, beginnings) == seen(later, None)


def test_a_long_conversation_stays_known_as_it_grows() -> None:
    beginnings = Beginnings()
    for count in range(21, 121, 2):
        data = request(talk(count), tools=TOOLS, system="brief")
        if count > 23:
            assert read_of(data, beginnings) < max(32 * 1024, len(data) / 5)
        assert seen(data, beginnings) == seen(data, None)
    assert len(beginnings) < 6  # one a size


def test_a_known_one_is_told_at_once_however_large_it_is() -> None:
    beginnings = Beginnings()
    for count in range(41, 340, 20):
        assert is_at_once(request(talk(count)), beginnings)
    later = request(talk(341))
    assert len(later) > AT_ONCE_BYTES
    assert is_at_once(later, beginnings)
    assert seen(later, beginnings) == seen(later, None)


def test_a_large_one_that_is_not_known_is_read_in_a_thread() -> None:
    assert not is_at_once(request(talk(341)), Beginnings())


EDITS = st.sampled_from(["grow", "edit", "fork", "system", "tools", "cut"])


@settings(max_examples=40, deadline=None)
@given(
    edits=st.lists(st.tuples(EDITS, st.integers(0, 60)), max_size=8),
    separators=st.sampled_from([COMPACT, SPACED]),
    behind=st.booleans(),
    size=st.integers(10, 1500),
)
def test_the_same_is_told_as_of_one_that_is_read_whole(
    edits: list[tuple[str, int]], separators: tuple[str, str], behind: bool, size: int
) -> None:
    beginnings = Beginnings()
    messages, tools, system = talk(31, size), TOOLS * 3, "You are brief. " * 200
    for number, (edit, at) in enumerate([("grow", 2), *edits]):
        match edit:
            case "grow":
                start = len(messages)
                messages = [*messages, *(message(i, size, "more") for i in range(start, start + at))]
            case "edit":
                at %= len(messages)
                messages = [*messages[:at], message(at, size, f"edit {number}"), *messages[at + 1 :]]
            case "fork":
                messages = [*messages[: at + 1], message(at + 1, size, f"fork {number}")]
            case "system":
                system = f"{number} {system}"
            case "tools":
                tools = [*tools, {"name": f"Tool{number}", "input_schema": {}}]
            case "cut":
                messages = messages[: at + 1]
        before = {} if behind else {"system": system, "tools": tools}
        after = {"system": system, "tools": tools} if behind else {}
        whole = json.loads(request(messages))
        data = json.dumps(before | whole | after, separators=separators).encode()
        assert seen(data, beginnings) == seen(data, None)


# ---- pictures

SOURCE = {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}
PICTURE = {"role": "user", "content": [{"type": "image", "source": SOURCE}]}


@pytest.mark.parametrize("at", [0, 4, 20, 36])
def test_a_picture_counts_for_the_same_in_every_turn(at: int) -> None:
    beginnings = Beginnings()
    for count in (31, 33, 41, 43, 45):
        data = request([*talk(count)[:at], PICTURE, *talk(count)[at + 1 :]])
        assert seen(data, beginnings) == seen(data, None)
        assert seen(data, None).size == len(data) - 100_002 + PICTURE_BYTES
    assert len(beginnings) > 0


def test_what_looks_like_a_picture_of_the_conversation_counts_for_all_its_bytes() -> None:
    beginnings = Beginnings()
    false = b",".join(json.dumps(each, separators=COMPACT).encode() for each in [PICTURE, *talk(30)])
    schema = b'{"tools":[{"name":"n","input_schema":{"messages":[%b]}}],"messages":[' % false
    for count in (3, 3, 5):
        real = b",".join(json.dumps(each, separators=COMPACT).encode() for each in talk(count))
        data = schema + real + b"]}"
        assert seen(data, beginnings) == seen(data, None)
        assert seen(data, beginnings).size == len(data)


# ---- nothing that refers to something passes unseen

FILE = {"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "file_011"}}]}


@pytest.mark.parametrize("at", [0, 1, 5, 20, 35, 39, 40])
def test_a_file_is_seen_wherever_it_is_put(at: int) -> None:
    beginnings = Beginnings()
    seen(request(talk(41)), beginnings)
    messages = talk(43)
    data = request([*messages[:at], FILE, *messages[at + 1 :]])
    assert seen(data, beginnings).named == (("file_id", "file_011"),)
    assert seen(data, beginnings).named == (("file_id", "file_011"),)


def test_a_beginning_that_differs_in_a_byte_is_another() -> None:
    beginnings = Beginnings()
    first = request(talk(41))
    seen(first, beginnings)
    plain, file = b'"content":"said 20: ', b'"file_id":"f","a": "'
    assert len(plain) == len(file)
    changed = first.replace(plain, file)
    assert seen(changed, beginnings).named == seen(changed, None).named == (("file_id", "f"),)


@pytest.mark.parametrize(
    "last", [b'"container":"container_011"', b'"messages":[{"role":"user","content":[{"file_id":"f1"}]}]']
)
def test_what_comes_behind_or_twice_is_seen(last: bytes) -> None:
    beginnings = Beginnings()
    seen(request(talk(41)), beginnings)
    data = request(talk(43))[:-1] + b"," + last + b"}"
    assert seen(data, beginnings).named == seen(data, None).named != ()


@pytest.mark.parametrize(
    "inside",
    [
        b'"thinking":{"messages":[%b],"file_id":"file_011"}',
        b'"context_management":{"a":[{"messages":[%b,{"file_id":"file_011"}]}]}',
    ],
)
def test_what_looks_like_the_conversation_is_looked_through(inside: bytes) -> None:
    beginnings = Beginnings()
    false = b",".join(json.dumps(each, separators=COMPACT).encode() for each in talk(30))
    data = b"{" + inside % false + b"," + request(talk(11))[1:]
    for _ in range(2):
        assert seen(data, beginnings).named == seen(data, None).named == (("file_id", "file_011"),)


# ---- bounds


def test_so_many_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    beginnings = Beginnings()
    for number in range(8):
        seen(request(talk(21, word=f"talk {number}")), beginnings)
    assert len(beginnings) == 5
    assert MOST >= 1000


def test_a_small_one_is_read_whole() -> None:
    beginnings = Beginnings()
    data = request(talk(11, size=100))
    assert len(data) < LEAST_BYTES
    assert beginnings.find(data) is None


def test_a_single_prompt_is_not_kept() -> None:
    beginnings = Beginnings()
    data = request([message(0, 100_000, "all")])
    assert seen(data, beginnings) == seen(data, None)
    assert len(beginnings) == 0


def test_one_with_too_many_blocks_is_read_in_a_thread() -> None:
    many = talk(41)
    many[30]["content"] = [{"type": "text", "text": "x"}] * MOST_BLOCKS_AT_ONCE
    assert not is_at_once(request(many), Beginnings())


def test_one_with_too_many_objects_behind_what_is_known_is_read_in_a_thread() -> None:
    beginnings = Beginnings()
    assert is_at_once(request(talk(201)), beginnings)
    many = [*talk(201), {"role": "user", "content": [{"type": "text"}] * 26_000}]
    assert not is_at_once(request(many), beginnings)
