"""What is read of a request's body: its models, its most tokens, its size; and bodies that cannot be read."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import brotli
import msgspec
import pytest
from backports.zstd import compress as zstd
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.body import SPOOL_ABOVE_BYTES, Bodies, Body
from proxy.http.parts import MAX_MODEL, MOST_MODELS, MOST_PARTS, MOST_TOKENS
from proxy.http.peek import AT_ONCE_BYTES, MOST_BYTES, MOST_MARKS, Peek, peek
from tests.service import MESSAGE_HEADERS, serve, until

MODEL = "claude-haiku-5-5"


async def seen(data: bytes | None, encoding: str = "", bodies: Bodies | None = None) -> Peek:
    """What is seen of a body with these bytes."""
    if data is None:
        return await awaited(peek(None, encoding))
    body = Body(bodies or Bodies(None))
    if (spooling := body.write(data)) is not None:
        await spooling
    try:
        return await awaited(peek(body, encoding))
    finally:
        body.close()


async def awaited(found: Peek | Awaitable[Peek]) -> Peek:
    return found if isinstance(found, Peek) else await found


def request(**members: Any) -> bytes:
    return json.dumps({"model": MODEL, "max_tokens": 64} | members).encode()


async def test_model_and_most_tokens_and_size_are_seen() -> None:
    assert await seen(request()) == Peek(MODEL, (), 64, False, len(request()))


async def test_fast_is_seen() -> None:
    assert (await seen(request(speed="fast"))).fast
    assert not (await seen(request(speed="standard"))).fast


async def test_the_body_can_be_read_again() -> None:
    body = Body(Bodies(None))
    body.write(request())
    assert peek(body) == peek(body) == await seen(request())
    assert body.open() == request()


# ---- other models


async def test_fallbacks_and_advisors_are_models_too() -> None:
    tools = [{"name": "get", "input_schema": {}}, {"type": "advisor_20260301", "model": "claude-fable-5-1"}]
    found = await seen(request(fallbacks=[{"model": "claude-opus-5"}], tools=tools))
    assert (found.model, found.others) == (MODEL, ("claude-opus-5", "claude-fable-5-1"))


async def test_the_servers_own_fallbacks_have_a_name_that_only_a_pattern_for_all_allows() -> None:
    assert (await seen(request(fallbacks="default"))).others == ("default",)


async def test_the_most_tokens_of_all_attempts_count() -> None:
    found = await seen(request(fallbacks=[{"model": "m", "max_tokens": 4000, "speed": "fast"}]))
    assert (found.max_tokens, found.fast) == (4000, True)


@pytest.mark.parametrize("name", [None, 7, ["claude"], {}, "x" * (MAX_MODEL + 1)], ids=lambda n: str(n)[:9])
async def test_what_cannot_be_a_models_name_is_none(name: object) -> None:
    found = await seen(request(model=name, fallbacks=[{"model": name}]))
    assert (found.model, found.others) == (None, ("",))


@pytest.mark.parametrize("odd", [{"fallbacks": "x"}, {"fallbacks": {"model": 1}}, {"tools": [1, "x", None]}])
async def test_oddly_shaped_lists_name_no_model(odd: dict[str, Any]) -> None:
    assert (await seen(request(**odd))).others == ()


async def test_what_names_more_models_than_are_counted_is_unknown_but_for_its_own_model() -> None:
    most = [{"model": f"claude-{number}"} for number in range(MOST_MODELS)]
    assert len((await seen(request(tools=most))).others) == MOST_MODELS
    for more in ({"tools": [*most, most[0]]}, {"tools": most, "fallbacks": "default"}):
        found = await seen(request(**more))
        assert (found.model, found.size, len(found.others)) == (MODEL, None, MOST_MODELS)


@pytest.mark.parametrize("advisor_at", [0, 127, 128, 129, MOST_PARTS - 1])
async def test_a_model_is_found_among_many_tools(advisor_at: int) -> None:
    tools: list[Any] = [{"name": "get", "input_schema": {"model": 1}}] * MOST_PARTS
    tools[advisor_at] = {"name": "advisor", "model": "claude-opus-5"}
    found = await seen(request(tools=tools))
    assert (found.others, found.size) == (("claude-opus-5",), len(request(tools=tools)))


async def test_with_more_tools_than_are_looked_at_what_is_asked_for_is_unknown() -> None:
    found = await seen(request(tools=[{}] * (MOST_PARTS + 1)))
    assert (found.model, found.size) == (MODEL, None)


# ---- most tokens


@pytest.mark.parametrize(
    ("named", "counted"),
    [
        (0, 0),
        (128_000, 128_000),
        (-1, 0),
        (None, None),
        (10**400, MOST_TOKENS),
        (100_000.0, MOST_TOKENS),
        (1e300, MOST_TOKENS),
        ("100000", MOST_TOKENS),
        (True, MOST_TOKENS),
        ([], MOST_TOKENS),
    ],
    ids=lambda value: str(value)[:12],
)
async def test_what_may_pass_for_a_number_upstream_counts_as_the_most(
    named: object, counted: int | None
) -> None:
    assert (await seen(request(max_tokens=named))).max_tokens == counted


async def test_a_number_with_more_digits_than_python_reads_counts_as_the_most() -> None:
    assert (await seen(b'{"max_tokens": ' + b"9" * 5000 + b"}")).max_tokens == MOST_TOKENS


async def test_without_max_tokens_there_is_none() -> None:
    assert (await seen(json.dumps({"model": MODEL}).encode())).max_tokens is None


# ---- JSON as others read it


def as_built(value: dict[str, Any], size: int) -> Peek:
    """What is asked for, found in the objects that the body stands for."""

    def name(found: object) -> str | None:
        return found if isinstance(found, str) and len(found) <= MAX_MODEL else None

    def count(found: object) -> int:
        return min(max(found, 0), MOST_TOKENS) if type(found) is int else MOST_TOKENS

    lists = [each for each in (value.get("fallbacks"), value.get("tools")) if isinstance(each, list)]
    parts = [part for each in lists for part in each if isinstance(part, dict) and "model" in part]
    counts = [count(part["max_tokens"]) for part in (value, *parts) if part.get("max_tokens") is not None]
    default = ("default",) if value.get("fallbacks") == "default" else ()
    return Peek(
        name(value.get("model")),
        (*(name(part["model"]) or "" for part in parts), *default),
        max(counts, default=None),
        any(part.get("speed") == "fast" for part in (value, *parts)),
        size,
    )


def as_object(members: list[tuple[str, str]]) -> str:
    """An object, which may have a name twice; the third of its names is escaped."""
    told = [json.dumps(name) for name, _ in members]
    for index in range(2, len(told)):
        told[index] = '"' + "".join(f"\\u{ord(character):04x}" for character in members[index][0]) + '"'
    return "{" + ",".join(f"{name} :{value}" for name, (_, value) in zip(told, members, strict=True)) + "}"


names = st.sampled_from(["model", "max_tokens", "speed", "fallbacks", "tools", "x"])
words = st.sampled_from(["fast", "default", "claude", "Fast", "", "\u00e9\U0001f600"])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words
texts = st.recursive(
    scalars.map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda each: f"[ {','.join(each)}]")
        | st.lists(st.tuples(names, inner), max_size=5).map(as_object)
    ),
    max_leaves=20,
)


@given(st.lists(st.tuples(names, texts), max_size=6).map(as_object))
def test_a_body_is_seen_as_a_parser_that_builds_everything_sees_it(text: str) -> None:
    data = text.encode()
    assert asyncio.run(seen(data)) == as_built(json.loads(data), len(data))


def nothing(found: Peek) -> bool:
    """Whether nothing is told of a body, except perhaps that it cannot be read."""
    return msgspec.structs.replace(found, unreadable=False, too_many=False) == Peek()


async def test_a_byte_order_mark_is_passed_over() -> None:
    assert (await seen(b"\xef\xbb\xbf" + request())).model == MODEL


@pytest.mark.parametrize("odd", [request().decode().encode("utf-16"), b'{"model": NaN}', b'{"x": "\\ud800"}'])
async def test_what_only_python_takes_for_json_is_unreadable(odd: bytes) -> None:
    json.loads(odd)
    assert nothing(await seen(odd))


# ---- encodings


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    " GZip ": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_an_encoded_body_is_seen_as_what_it_is_decoded(encoding: str) -> None:
    plain = request(system="x" * 100_000)
    assert await seen(ENCODINGS[encoding](plain), encoding) == await seen(plain)


async def test_deflate_without_its_envelope_is_read() -> None:
    assert (await seen(raw_deflate(request()), "deflate")).model == MODEL


async def test_all_members_of_a_gzip_body_are_read() -> None:
    cut = len(request()) // 2
    data = gzip.compress(request()[:cut]) + gzip.compress(request()[cut:])
    assert (await seen(data, "gzip")).model == MODEL


# ---- what cannot be read


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (None, ""),
        (b"", ""),
        (b"{", ""),
        (b"[]", ""),
        (b'"claude"', ""),
        (b"null", ""),
        (b"\xff\xfe{}", ""),
        (b'{"model": "\xff"}', ""),
        (b"[" * 100_000, ""),
        (request(), "gzip"),
        (request(), "br"),
        (request(), "zstd"),
        (request(), "deflate"),
        (gzip.compress(request(), mtime=0)[:-20], "gzip"),
        (gzip.compress(request(), mtime=0), ""),
        (gzip.compress(gzip.compress(request(), mtime=0), mtime=0), "gzip, gzip"),
        (request(), "rot13"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_what_is_no_json_object_is_unreadable(data: bytes | None, encoding: str) -> None:
    assert nothing(await seen(data, encoding))


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate"])
async def test_a_body_that_expands_without_end_is_unreadable(encoding: str) -> None:
    bomb = ENCODINGS[encoding](request(system=" " * (MOST_BYTES + 1)))
    assert len(bomb) < 100_000
    assert await seen(bomb, encoding) == Peek(unreadable=True)


# ---- bounds


async def peak_bytes(data: bytes, encoding: str = "") -> int:
    """The most memory that a look at the body takes beside it."""
    body = Body(Bodies(None))
    body.write(data)
    tracemalloc.start()
    try:
        await awaited(peek(body, encoding))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["messages", "tools", "fallbacks", "model", "max_tokens"])
@pytest.mark.parametrize("unit", [b"{},", b"[[]],", b'"x",', b'{"x":"y"},'])
async def test_of_what_is_not_looked_for_nothing_is_built(name: str, unit: bytes) -> None:
    dense = b'{"%b":[' % name.encode() + unit * (AT_ONCE_BYTES // len(unit) - 20) + b"0]}"
    await seen(dense)  # what is made once and kept
    assert await peak_bytes(dense) < 2_000_000  # 10,000 elements are looked at; a thread has a copy


async def test_a_bomb_is_decoded_no_further_than_its_ratio_allows() -> None:
    bomb = brotli.compress(b"[" + b"{}," * (MOST_BYTES // 3 - 10) + b"{}]")
    assert len(bomb) < 300
    assert await seen(bomb, "br") == Peek(unreadable=True)
    assert await peak_bytes(bomb, "br") < 3_000_000


async def test_a_body_with_more_to_scan_than_a_model_reads_is_unknown() -> None:
    def dense(count: int) -> bytes:
        return request(system=0).replace(b": 0", b":[" + b"[]," * count + b"0]")

    assert (await seen(dense(MOST_MARKS // 3 - 10))).model == MODEL
    assert await seen(dense(MOST_MARKS // 3)) == Peek()


async def test_a_key_with_a_budget_is_told_what_cannot_be_known_and_any_other_passes(tmp_path: Path) -> None:
    dense = request(system=0).replace(b": 0", b":[" + b"[]," * (MOST_MARKS // 3) + b"0]")
    many = request(tools=[{"model": f"claude-{number}"} for number in range(MOST_MODELS + 1)])
    bomb = brotli.compress(b"[" + b"{}," * (MOST_BYTES // 3 - 10) + b"{}]")
    async with serve(tmp_path) as service:
        limited = "cp-a-limited-key-of-tests-8Hs3"
        new = {"name": "limited", "key": limited, "limits": {"cost_usd_per_day": 1000.0}}
        assert (await service.admin("POST", "/api/tokens", new)).status == 201
        for body, encoding in ((dense, "identity"), (many, "identity"), (bomb, "br")):
            headers = [*MESSAGE_HEADERS, ("content-encoding", encoding)]
            refused = await service.send("POST", "/v1/messages", headers, body, key=limited)
            assert (refused.status, refused.json()["error"]["type"]) == (403, "permission_error")
            assert f"at most {MOST_BYTES} bytes" in refused.json()["error"]["message"]
        assert len(service.simulator.ledger) == 0
        await service.send("POST", "/v1/messages", MESSAGE_HEADERS, many)
        assert len(service.simulator.ledger) == 1


async def test_large_bodies_are_scanned_one_at_a_time() -> None:
    bodies, running, most = Bodies(None), 0, 0

    def read(_: object) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        done.wait(0.01)
        running -= 1

    done = threading.Event()
    await asyncio.gather(*(Body(bodies).read_in_thread(read) for _ in range(4)))
    assert most == 1


async def test_a_large_body_keeps_its_turn_until_its_thread_has_ended() -> None:
    bodies, go, order = Bodies(None), threading.Event(), []
    try:
        gone = asyncio.ensure_future(
            Body(bodies).read_in_thread(lambda _: go.wait() and order.append("gone"))
        )
        await until(lambda: bodies.turn.locked())
        gone.cancel()
        await asyncio.wait([gone])
        waiting = asyncio.ensure_future(Body(bodies).read_in_thread(lambda _: order.append("next")))
        left = asyncio.ensure_future(Body(bodies).read_in_thread(lambda _: order.append("left")))
        await asyncio.sleep(0)
        left.cancel()
        assert bodies.turn.locked()
    finally:
        go.set()
    await waiting
    assert order == ["gone", "next"]
    assert not bodies.turn.locked()


async def test_a_body_larger_than_the_api_takes_is_not_even_read() -> None:
    assert await seen(b" " * (MOST_BYTES + 1) + request()) == Peek()


@pytest.mark.parametrize("size", [AT_ONCE_BYTES + 1, SPOOL_ABOVE_BYTES + 1])
async def test_a_large_body_is_read_beside_the_loop(size: int) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    ticking = asyncio.create_task(turn())
    try:
        assert (await seen(request(system="x" * size))).model == MODEL
        assert turns > 0
    finally:
        ticking.cancel()


@given(st.binary(max_size=200), st.sampled_from([*ENCODINGS, "nonsense"]))
def test_no_bytes_make_it_fail(data: bytes, encoding: str) -> None:
    asyncio.run(seen(data, encoding))


json_values = st.recursive(
    scalars | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["model", "max_tokens", "speed"]), inner)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["model", "max_tokens", "speed", "fallbacks", "tools"]), json_values))
def test_no_json_makes_it_fail(value: dict[str, Any]) -> None:
    found = asyncio.run(seen(json.dumps(value).encode()))
    assert found.size is not None
    assert found.max_tokens is None or 0 <= found.max_tokens <= MOST_TOKENS
