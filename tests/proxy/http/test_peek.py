"""What is read of a request's body: its models, its most tokens, its size; and bodies that cannot be read."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import brotli
import pytest
from backports.zstd import compress as zstd
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.body import SPOOL_ABOVE_BYTES, Body
from proxy.http.peek import AT_ONCE_BYTES, MAX_MODEL, MOST_BYTES, MOST_TOKENS, Peek, peek

MODEL = "claude-haiku-5-5"


async def seen(data: bytes | None, encoding: str = "") -> Peek:
    """What is seen of a body with these bytes."""
    if data is None:
        return await peek(None, encoding)
    body = Body(Path(gettempdir()))
    if (spooling := body.write(data)) is not None:
        await spooling
    try:
        return await peek(body, encoding)
    finally:
        body.close()


def request(**members: Any) -> bytes:
    return json.dumps({"model": MODEL, "max_tokens": 64} | members).encode()


async def test_model_and_most_tokens_and_size_are_seen() -> None:
    assert await seen(request()) == Peek(MODEL, (), 64, False, len(request()))


async def test_fast_is_seen() -> None:
    assert (await seen(request(speed="fast"))).fast
    assert not (await seen(request(speed="standard"))).fast


async def test_the_body_can_be_read_again() -> None:
    body = Body(Path(gettempdir()))
    body.write(request())
    assert await peek(body) == await peek(body)
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


async def test_without_max_tokens_there_is_none() -> None:
    assert (await seen(json.dumps({"model": MODEL}).encode())).max_tokens is None


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
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", ""),
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
    assert await seen(data, encoding) == Peek()


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate"])
async def test_a_body_that_expands_without_end_is_unreadable(encoding: str) -> None:
    bomb = ENCODINGS[encoding](request(system=" " * (MOST_BYTES + 1)))
    assert len(bomb) < 100_000
    assert await seen(bomb, encoding) == Peek()


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
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
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
