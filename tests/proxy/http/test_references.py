"""What a body refers to in an organisation: found in every shape of JSON, and no more than that."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import Awaitable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.body import Bodies, Body
from proxy.http.peek import (
    MOST_BLOCKS_AT_ONCE,
    MOST_BYTES,
    MOST_MARKS,
    MOST_OBJECTS_AT_ONCE,
    Peek,
    peek,
)
from proxy.http.references import (
    BYTES_A_STEP,
    FUNCTIONS,
    LONGEST_ID,
    MOST_DEPTH,
    MOST_REFERENCES,
    NO_REFERENCES,
    OPAQUE,
    References,
    references,
)


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def named(value: Any) -> list[tuple[str, str]]:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return list(references([data]).named)


async def seen(data: bytes, encoding: str = "", bodies: Bodies | None = None) -> Peek:
    body = Body(bodies or Bodies(None))
    for piece in in_pieces(data, 4 << 20):
        if (spooling := body.write(piece)) is not None:
            await spooling
    try:
        found: Peek | Awaitable[Peek] = peek(body, encoding, wants_chain=True)
        return found if isinstance(found, Peek) else await found
    finally:
        body.close()


def message(*blocks: Any, **members: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": list(blocks)}]} | members


FILE = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
CONTAINER = {
    "id": "container_1",
    "skills": [
        {"type": "anthropic", "skill_id": "pptx", "version": "latest"},
        {"skill_id": "skill_1", "type": "custom"},
    ],
}
SEARCH = {"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_1"}
REFERRING = [
    (message(FILE), [("file_id", "file_1")]),
    (message({"type": "container_upload", "file_id": "file_1"}), [("file_id", "file_1")]),
    (message({"type": "tool_result", "tool_use_id": "toolu_1", "content": [FILE]}), [("file_id", "file_1")]),
    (
        message(SEARCH | {"content": {"type": "code_execution_result", "content": [{"file_id": "file_1"}]}}),
        [("file_id", "file_1")],
    ),
    (
        message({"type": "text", "text": "x", "citations": [{"type": "char_location", "file_id": "file_1"}]}),
        [("file_id", "file_1")],
    ),
    (message(tools=[{"new": 1}] * 40 + [{"new": {"file_id": "file_1"}}]), [("file_id", "file_1")]),
    (message(FILE, FILE), [("file_id", "file_1")]),
    (message(container="container_1"), [("container", "container_1")]),
    (message(container=CONTAINER), [("container", "container_1"), ("skill_id", "skill_1")]),
    (message(user_profile_id="uprof_1"), [("user_profile_id", "uprof_1")]),
    (message(tools=[{"type": "new_20270101", "store": {"memory_store_id": "m_1"}}]), [("memory_store_id", "m_1")]),
    (message(new={"file_id": "file_1"}), [("file_id", "file_1")]),
    ({"parameters": {"file_id": "file_1"}}, [("file_id", "file_1")]),
    ({"function": {"x": {"parameters": {"file_id": "file_1"}}}}, [("file_id", "file_1")]),
    ({"agent": "agent_1", "environment_id": "env_1"}, [("agent", "agent_1"), ("environment_id", "env_1")]),
    ({"agent": {"type": "agent", "id": "agent_1", "version": 2}}, [("agent", "agent_1")]),
    ({"vault_ids": ["vlt_1", "vlt_2"]}, [("vault_ids", "vlt_1"), ("vault_ids", "vlt_2")]),
    (
        {"resources": [{"type": "file", "file_id": "file_1"}, {"type": "memory_store", "memory_store_id": "m_1"}]},
        [("file_id", "file_1"), ("memory_store_id", "m_1")],
    ),
    (
        {"multiagent": {"type": "coordinator", "agents": ["agent_1", {"id": "agent_2"}, {"type": "self"}]}},
        [("agents", "agent_1"), ("agents", "agent_2")],
    ),
    ({"requests": [{"custom_id": "1", "params": message(FILE)}]}, [("file_id", "file_1")]),
    ([{"events": [{"content": [FILE]}]}], [("file_id", "file_1")]),
]  # fmt: skip
NOT_REFERRING = [
    message({"type": "text", "text": json.dumps(FILE)}),
    message({"type": "tool_use", "id": "toolu_1", "name": "get", "input": {"file_id": "f", "x": {"agent": "a"}}}),
    message({"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}),
    message({"type": "text", "text": "x", "citations": [{"type": "char_location", "file_id": None}]}),
    message(tools=[{"name": "get", "input_schema": {"agent": "x"}, "input_examples": [{"a_id": "x"}]}]),
    message(metadata={"user_id": "u"}),
    {"tools": [{"type": "function", "function": {"name": "get", "parameters": {"default": {"container": "web"}}}}]},
    {"functions": [{"name": "get", "parameters": {"examples": [{"agent": "bob"}]}}]},
    {"function": {"id": "x", "y": ["z"]}, "functions": ["x"]},
    {"metadata": {"customer_id": "c_1"}, "name": "agent"},
    {"container": {"skills": [{"type": "anthropic", "skill_id": "pptx"}]}},
    {name: "x" for name in sorted(NO_REFERENCES)},
    {"file_id": ""},
    {"file_id": "a b"},
    {"file_id": "x" * (LONGEST_ID + 1)},
    {"file_id": 1, "agent": None, "container": [1], "vault_ids": {"x": "y"}},
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), REFERRING, ids=lambda value: json.dumps(value)[:60])
async def test_what_a_body_refers_to_is_found_in_the_order_of_the_body(body: Any, expected: Any) -> None:
    data = json.dumps(body).encode()
    assert named(data) == expected
    assert list((await seen(data)).named) == expected
    assert list((await seen(gzip.compress(data), "gzip")).named) == expected


@pytest.mark.parametrize("body", NOT_REFERRING, ids=lambda value: json.dumps(value)[:60])
async def test_what_names_nothing_of_an_organisation_is_no_reference(body: Any) -> None:
    data = json.dumps(body).encode()
    assert named(data) == []
    assert (await seen(data)).named == ()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000])
@pytest.mark.parametrize(("body", "expected"), REFERRING, ids=lambda value: json.dumps(value)[:60])
def test_it_does_not_matter_how_the_body_is_cut(body: Any, expected: Any, size: int) -> None:
    data = json.dumps({"text": '\\"\\\\' * 500 + '"file_id": "no' * 300, "body": body}, indent=1).encode()
    assert list(references(in_pieces(data, size)).named) == expected


@pytest.mark.parametrize(
    "data",
    [
        rb'{"file\u005fid": "file_1"}',
        rb'{"\u0066ile_\u0069d": "file_1"}',
        rb'{"file_id": "\u0066ile\u005F1"}',
        rb'{"text": "\\", "file_id": "file_1"}',
        rb'{"text": "\\\"", "file_id": "file_1"}',
        rb'{"text": "\\\u0022\u005c", "file_id": "file_1"}',
        b'{"file_id"\n\t:\r \n"file_1"}',
        b'{"file_id" ' + b" " * 200_000 + b': "file_1"}',
        b'{"x": NaN, "y": "\\ud800", "file_id": "file_1"}',
        b'\xef\xbb\xbf{"file_id": "file_1"}',
        b'{"x": "\xff", "file_id": "file_1"',
        b'{"model": "m", "model": 1, "messages": [], "file_id": "file_1"}',
    ],
    ids=lambda data: repr(data)[:40],
)
async def test_no_way_to_write_it_hides_a_reference(data: bytes) -> None:
    for size in (1, 7, len(data)):
        assert references(in_pieces(data, size)).named == (("file_id", "file_1"),)
    assert (await seen(data)).named == (("file_id", "file_1"),)


def test_both_values_of_a_member_that_is_there_twice_are_found() -> None:
    data = b'{"file_id":"a","file_id":"b","container":{"id":"c","id":"d"}}'
    assert [value for _, value in named(data)] == ["a", "b", "c", "d"]


async def test_neither_of_two_lists_of_messages_hides_a_file() -> None:
    file, url = b'"source":{"type":"file","file_id":"a"}', b'"source":{"type":"url","url":"u"}'
    for first, second in ((file, url), (url, file)):
        block = b'{"type":"image",%b,%b}' % (first, second)
        data = b'{"messages":[{"role":"user","content":[%b]}],"messages":[]}' % block
        assert (await seen(data)).named == (("file_id", "a"),)


async def test_neither_of_two_contents_of_a_block_hides_a_file() -> None:
    lists = b'"content":[{"type":"image","source":{"type":"file","file_id":"a"}}]', b'"content":"x"'
    for contents in (lists, lists[::-1]):
        block = b'{"type":"tool_result","tool_use_id":"t",%b,%b}' % contents
        data = b'{"messages":[{"role":"user","content":[%b]}]}' % block
        assert (await seen(data)).named == (("file_id", "a"),)


@pytest.mark.parametrize("types", [("anthropic", "custom"), ("custom", "anthropic"), (None, "anthropic")])
def test_a_skill_that_is_perhaps_not_anthropics_is_a_reference(types: tuple[str | None, str]) -> None:
    first, second = map(json.dumps, types)
    data = f'{{"skills":[{{"type":{first},"skill_id":"s","type":{second}}}]}}'.encode()
    assert named(data) == ([("skill_id", "s")] if types[0] else [])


# ---- as a parser that builds everything sees it


class Members(list[tuple[str, Any]]):
    """The members of an object, with those that are there twice."""


def walked(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The references in a value of the member `name`."""
    for key, inner in value if isinstance(value, Members) else [(name, each) for each in value]:
        is_reference = (
            key.endswith(("_id", "_ids")) or key in ("container", "agent", "agents")
        ) and key not in NO_REFERENCES
        is_member = isinstance(value, Members)
        if is_member and (key in OPAQUE or (key == "parameters" and name in FUNCTIONS)):
            continue
        if not isinstance(inner, str):
            if isinstance(inner, list):
                yield from walked(inner, key if is_reference or key in ("skills", *FUNCTIONS) else "")
        elif is_member and name == "skills" and key == "skill_id":
            types = {kind for member, kind in value if member == "type" and isinstance(kind, str)}
            if types != {"anthropic"}:
                yield key, inner
        elif is_reference:
            yield key, inner
        elif is_member and key == "id" and name not in ("", "skills", *FUNCTIONS):
            yield name, inner


def expected_of(data: bytes) -> set[tuple[str, str]]:
    found = walked([json.loads(data, object_pairs_hook=Members)])
    return {(name, value) for name, value in found if value and not any(map(str.isspace, value))}


def written(value: Any, escaped: Iterator[bool]) -> str:
    """JSON of a value, with some strings written in escapes."""
    if isinstance(value, str) and next(escaped):
        return '"' + "".join(f"\\u{ord(character):04x}" for character in value) + '"'
    if isinstance(value, Members):
        return "{" + ", ".join(f"{written(k, escaped)} :{written(v, escaped)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(each, escaped) for each in value) + "]"
    return json.dumps(value, ensure_ascii=False)


names = st.sampled_from(
    [
        "file_id",
        "vault_ids",
        "container",
        "agent",
        "agents",
        "skills",
        "skill_id",
        "type",
        "id",
        "input",
        "metadata",
        "function",
        "parameters",
        "tool_use_id",
        "content",
        "x",
        "\u00e9_id",
        "text",
    ]
)
ids = st.sampled_from(["a", "b", "anthropic", "custom", "x y", "", 'q"', "\\", "\u00e9", "file_id", "a" * 40])
values = st.recursive(
    st.none() | st.integers() | ids,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(names, inner), max_size=5).map(Members),
    max_leaves=25,
)


def is_simple(pair: tuple[str, str]) -> bool:
    """Whether no quote or backslash is in it: no id has any."""
    return not set('"\\') & set(pair[0] + pair[1])


@given(
    st.lists(st.tuples(names, values), max_size=6).map(Members),
    st.lists(st.booleans(), max_size=30),
    st.integers(1, 100),
)
def test_any_json_refers_to_what_a_parser_finds_in_it(body: Members, escaped: list[bool], size: int) -> None:
    data = written(body, iter([*escaped, *[False] * 1000])).encode()
    found = references(in_pieces(data, size))
    assert set(found.named) == {pair for pair in expected_of(data) if is_simple(pair)}
    assert not found.too_many
    assert set(asyncio.run(seen(data)).named) == set(found.named)


sources = st.one_of(
    ids.map(lambda value: {"type": "file", "file_id": value}),
    st.just({"type": "base64", "media_type": "image/png", "data": "iVBO"}),
    st.just({"type": "url", "url": "https://example.com/agent"}),
)
blocks: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        ids.map(lambda value: {"type": "text", "text": value, "cache_control": {"type": "ephemeral"}}),
        ids.map(lambda value: {"type": "thinking", "thinking": value, "signature": "E"}),
        values.map(lambda value: {"type": "tool_use", "id": "toolu_1", "name": "a", "input": value}),
        sources.map(lambda value: {"type": "image", "source": value}),
        ids.map(lambda value: {"type": "container_upload", "file_id": value}),
        st.lists(st.tuples(names, values), max_size=3).map(lambda value: {"type": "new", "new": Members(value)}),
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(
            lambda value: {"tool_use_id": "t", "type": "tool_result", "content": value}
        )
        | st.lists(inner, max_size=3).map(
            lambda value: {"type": "document", "source": {"type": "content", "content": value}}
        )
    ),
    max_leaves=6,
)  # fmt: skip


def as_members(value: Any) -> Any:
    if isinstance(value, dict):
        return Members((key, as_members(inner)) for key, inner in value.items())
    return [as_members(each) for each in value] if type(value) is list else value


@given(st.lists(blocks, max_size=4), st.dictionaries(st.sampled_from(["container", "metadata", "x"]), values))
def test_a_message_refers_to_what_a_parser_finds_in_it(content: list[Any], more: dict[str, Any]) -> None:
    data = written(as_members(message(*content) | more), iter([False] * 10_000)).encode()
    expected = {pair for pair in expected_of(data) if is_simple(pair)}
    assert set(references([data]).named) == expected
    assert set(asyncio.run(seen(data)).named) == expected


LONG = "x" * 100_000
AS_CLAUDE_CODE_SENDS_IT = {
    "model": "claude-opus-5-5",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]},
        {"role": "system", "content": LONG, "output_config": {"effort": "medium"}},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "x", "signature": "E"},
                {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}, "caller": {"type": "direct"}},
            ],
        },
        {"role": "user", "content": [{"tool_use_id": "toolu_1", "type": "tool_result", "content": "x"}]},
    ],
    "system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "tools": [{"name": "Read", "description": "x", "input_schema": {}, "defer_loading": True}],
    "metadata": {"user_id": '{"session_id":"s-1"}'},
    "max_tokens": 128_000,
    "thinking": {"type": "adaptive", "display": "omitted"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "medium"},
    "stream": True,
}  # fmt: skip


def test_of_what_claude_code_sends_it_is_told_at_once_that_it_refers_to_nothing() -> None:
    body = Body(Bodies(None))
    body.write(json.dumps(AS_CLAUDE_CODE_SENDS_IT).encode())
    found = peek(body, wants_chain=True)
    assert isinstance(found, Peek)
    assert (found.named, found.session, len(found.chain)) == ((), "s-1", 4)


# ---- bounds


def test_many_strings_that_name_nothing_hide_none_that_does() -> None:
    # A step over strings is bounded; where it ends must not matter.
    for count in range(995, 1006):
        plain = {f"n{number}": "[" for number in range(count // 2)} | ({"odd": 1} if count % 2 else {})
        for data in (plain | {"file_id": "f"}, {"input": plain, "file_id": "f"}, [plain, {"file_id": "f"}]):
            assert named(data) == [("file_id", "f")]


def test_more_ids_than_are_kept_are_too_many() -> None:
    most = [{"file_id": f"file_{number}"} for number in range(MOST_REFERENCES + 1)]
    assert len(named(most[1:])) == MOST_REFERENCES
    found = references([json.dumps(most).encode()])
    assert (len(found.named), found.too_many) == (MOST_REFERENCES, True)
    many = [{"skill_id": f"s{number}"} for number in range(MOST_REFERENCES + 1)]
    assert references([json.dumps({"skills": many}).encode()]).too_many


async def test_what_is_too_much_to_look_through_may_refer_to_anything() -> None:
    assert references([b'{"agent":' + b"[" * (MOST_DEPTH + 1)]).too_many
    brackets = b'{"agent":[%b]}' % (b"[]" * 100)
    assert references([brackets], most_steps=100).too_many
    assert not references([brackets]).too_many
    assert (await seen(b'{"a_id":[' * 20_000)).too_many


def test_brackets_around_what_names_nothing_cost_no_step_and_hide_nothing() -> None:
    data = b"[" * (MOST_DEPTH + 1) + b'{"x":{}},' * 1000 + b'{"file_id":"f"}'
    assert references([data], most_steps=10) == References((("file_id", "f"),))


def test_a_large_body_may_take_more_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.http.references.MOST_STEPS", 1000)
    metadata = b'{"metadata":[%b]}' % (b"[]" * 1000)
    assert references([metadata]).too_many
    assert references([b" " * (BYTES_A_STEP * 2000), metadata]) == References()


def test_a_batch_may_name_a_file_in_each_of_the_most_requests_that_there_are() -> None:
    params = [message(FILE | {"source": {"file_id": f"file_{number}"}}) for number in range(100_000)]
    batch = {"requests": [{"custom_id": "x", "params": each} for each in params]}
    found = references(in_pieces(json.dumps(batch).encode(), 65_536))
    assert (len(found.named), found.too_many) == (100_000, False)


async def test_work_that_takes_long_is_done_in_a_thread() -> None:
    for data in (
        b'{"file_id":"f","agent":[' + b"{}," * 2000 + b"0]}",
        b'{"file_id":"f","x":"' + b"y" * 70_000 + b'"}',
    ):
        body = Body(Bodies(None))
        body.write(data)
        found = peek(body)
        assert not isinstance(found, Peek)
        assert (await found).named == (("file_id", "f"),)


BLOCK = {"type": "text", "text": ""}


@pytest.mark.parametrize(
    "many",
    [
        message(*[BLOCK] * MOST_BLOCKS_AT_ONCE),
        message({"type": "tool_result", "content": [BLOCK] * MOST_BLOCKS_AT_ONCE}),
        message(BLOCK, system=[BLOCK] * MOST_BLOCKS_AT_ONCE),
        {"messages": [{"role": "user", "content": ""}] * (MOST_BLOCKS_AT_ONCE + 1)},
    ],
    ids=["blocks", "results", "system", "messages"],
)
async def test_a_conversation_of_many_blocks_is_hashed_in_a_thread(many: Any) -> None:
    body = Body(Bodies(None))
    body.write(json.dumps(many, separators=(",", ":")).encode())
    found = peek(body, wants_chain=True)
    assert not isinstance(found, Peek)
    assert len((await found).chain) == len(many["messages"])


@pytest.mark.parametrize(
    "unit", [b"{}", b"[", b'"",', b'"a_id":"",', b'"input":{', b'{"skills":[{"skill_id":"', rb"\u0041", b'"a_id"   ']
)  # fmt: skip
def test_memory_does_not_grow_with_the_body(unit: bytes) -> None:
    def peak(size: int) -> int:
        pieces = (b"{" + unit * (65_536 // len(unit)) for _ in range(size))
        tracemalloc.start()
        try:
            references(pieces, most_steps=40_000)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20) < 6_000_000


async def test_references_are_found_in_a_batch_larger_than_any_other_body(tmp_path: Path) -> None:
    filler = json.dumps({"custom_id": "1", "params": message({"type": "text", "text": "x" * 1_000_000})})
    last = json.dumps({"custom_id": "2", "params": message(FILE)})
    data = f'{{"requests":[{",".join([filler] * 34)},{last}]}}'.encode()
    assert len(data) > MOST_BYTES
    assert await seen(data, bodies=Bodies(tmp_path)) == Peek(named=(("file_id", "file_1"),))


async def test_references_are_found_among_more_marks_than_are_scanned() -> None:
    data = b'{"model":"m","x":[' + b"," * (MOST_MARKS + 1) + b'0],"file_id":"f"}'
    assert await seen(data) == Peek(named=(("file_id", "f"),))


async def test_a_conversation_of_too_many_objects_is_none_but_its_references_are_found() -> None:
    many = message(*[{"type": 0}] * (MOST_OBJECTS_AT_ONCE + 1), FILE)
    found = await seen(json.dumps(many, separators=(",", ":")).encode())
    assert (found.named, len(found.chain)) == ((("file_id", "file_1"),), 1)
    found = await seen(json.dumps(message(*[{"type": 0}] * 100_001, FILE)).encode())
    assert (found.model, found.named, found.chain) == ("m", (("file_id", "file_1"),), ())


# ---- what cannot be read


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b'{"file_id":"f"}', "rot13"),
        (b'{"file_id":"f"}', "gzip, gzip"),
        (b'{"file_id":"f"}', "gzip"),
        ('{"file_id":"f"}'.encode("utf-16"), ""),
        ('{"file_id":"f"}'.encode("utf-16-le"), ""),
        (' {"file_id":"f"}'.encode("utf-32-be"), ""),
    ],
)
async def test_what_another_parser_might_read_may_refer_to_anything(data: bytes, encoding: str) -> None:
    assert await seen(data, encoding) == Peek(unreadable=True)


async def test_a_form_refers_to_nothing(tmp_path: Path) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n{"file_id":"f"}\0\r\n--x--\r\n'
    assert await seen(form) == Peek()
    assert await seen(form + b"x" * MOST_BYTES, bodies=Bodies(tmp_path)) == Peek()


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_make_it_fail(data: bytes, size: int) -> None:
    pieces: Iterable[bytes] = in_pieces(data, size)
    assert isinstance(references(pieces), References)
