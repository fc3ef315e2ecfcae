"""Counting tokens out of a copy of an answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.simulator import Cut, MidStreamError, Simulator, Steady
from proxy.usage.meter import Meter, Usage
from tests.proxy.usage.message_answers import (
    ALL,
    COUNTED,
    ENCODERS,
    SPLIT,
    STOP,
    STREAMS,
    delta,
    encoded,
    end,
    event,
    start,
)
from tests.wire import Cut as WireCut
from tests.wire import connect, fetch

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json"
SDK = Path(sys.prefix) / "clients" / "anthropic-2.14.0" / "bin" / "python"
MIB = 1 << 20


def metered(
    body: bytes | Iterable[bytes],
    kind: str = SSE,
    *,
    encoding: str = "",
    status: int = 200,
    complete: bool = True,
) -> Usage | None:
    meter = Meter(kind, encoding, status)
    for piece in [body] if isinstance(body, bytes) else body:
        meter.feed(piece)
    return meter.finish(complete)


def bytewise(body: bytes) -> Iterator[bytes]:
    return (body[at : at + 1] for at in range(len(body)))


# What the simulator says

TOOL = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
CACHED = [
    {"type": "text", "text": "long " * 400, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    {"type": "text", "text": "short " * 90, "cache_control": {"type": "ephemeral"}},
]
ASKED: dict[str, dict[str, Any]] = {
    "text": {},
    "text cut by max_tokens": {"max_tokens": 3},
    "thinking": {"thinking": {"type": "adaptive"}},
    "thinking not shown": {"thinking": {"type": "adaptive", "display": "omitted"}},
    "tool use": {"tools": [TOOL]},
    "web search": {"tools": [{"type": "web_search_20260209", "name": "web_search"}]},
    "cache written": {"system": CACHED},
    "cache read": {"system": CACHED},
    "in the US": {"inference_geo": "us"},
    "fast": {"speed": "fast"},
}


async def ask(sim: Simulator, key: str, *, stream: bool, headers: Any = (), **more: Any) -> bytes:
    body = {
        "model": "claude-opus-5-5",
        "max_tokens": 200,
        "stream": stream,
        "messages": [{"role": "user", "content": "What is a façade — in 30 words?"}],
    }
    fields = {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": JSON} | dict(headers)
    port = int(sim.base_url.rpartition(":")[2])
    answer = await fetch(port, "POST", "/v1/messages", fields.items(), json.dumps(body | more).encode())
    assert answer.status == 200, answer.body
    return answer.body


async def answers() -> dict[str, tuple[bytes, bytes]]:
    """Each of `ASKED` as a stream and as JSON; organizations apart, so that neither warms the other's cache."""
    sim = Simulator()
    for key in "ab":
        sim.add_api_key(f"sk-ant-api03-{key}", organization=key)
    await sim.start()
    try:
        return {
            name: (
                await ask(sim, "sk-ant-api03-a", stream=True, **more),
                await ask(sim, "sk-ant-api03-b", stream=False, **more),
            )
            for name, more in ASKED.items()
        }
    finally:
        await sim.stop()


@pytest.fixture(scope="module")
def simulated() -> dict[str, tuple[bytes, bytes]]:
    return asyncio.run(answers())


def told(message: dict[str, Any]) -> Usage:
    """The usage of a finished message, read plainly."""
    usage = message["usage"]
    split = usage.get("cache_creation") or {}
    one_hour = split.get("ephemeral_1h_input_tokens") or 0
    return Usage(
        model=message["model"],
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        cache_creation_5m_tokens=(usage.get("cache_creation_input_tokens") or 0) - one_hour,
        cache_creation_1h_tokens=one_hour,
        cache_read_tokens=usage.get("cache_read_input_tokens") or 0,
        web_search_requests=(usage.get("server_tool_use") or {}).get("web_search_requests") or 0,
        service_tier=usage.get("service_tier"),
        inference_geo=usage.get("inference_geo"),
        speed=usage.get("speed"),
    )


# Whole answers


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", ALL)
def test_a_stream_that_comes_byte_by_byte_is_counted(name: str, encoder: str) -> None:
    body, expected = ALL[name]
    assert metered(bytewise(encoded(body, encoder)), encoding=ENCODERS[encoder][0]) == expected


@settings(deadline=None)
@given(st.data())
def test_neither_cuts_nor_line_ends_nor_encodings_matter(data: st.DataObject) -> None:
    body, expected = data.draw(st.sampled_from(list(ALL.values())))
    encoder = data.draw(st.sampled_from(list(ENCODERS)))
    body = encoded(body, encoder) if encoder != "identity" else body
    if encoder == "identity":
        body = body.replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"])))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=20)))
    pieces = [body[a:b] for a, b in itertools.pairwise([0, *cuts, len(body)])]
    assert metered(pieces, encoding=ENCODERS[encoder][0]) == expected


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", ASKED)
def test_the_simulators_streams_and_messages_are_counted_alike(
    simulated: dict[str, tuple[bytes, bytes]], name: str, encoder: str
) -> None:
    stream, message = simulated[name]
    expected = told(json.loads(message))
    encoding = ENCODERS[encoder][0]
    assert metered(bytewise(encoded(stream, encoder)), encoding=encoding) == expected
    assert metered(bytewise(encoded(message, encoder)), JSON, encoding=encoding) == expected


def test_what_is_simulated_has_every_kind_of_count(simulated: dict[str, tuple[bytes, bytes]]) -> None:
    usages = [metered(stream) for stream, _ in simulated.values()]
    kinds = (
        "cache_creation_5m_tokens",
        "cache_creation_1h_tokens",
        "cache_read_tokens",
        "web_search_requests",
    )
    assert all(any(getattr(usage, kind) for usage in usages) for kind in kinds)


@pytest.mark.skipif(not SDK.exists(), reason="the SDK is not installed: make test does that")
def test_the_count_is_the_sdks(simulated: dict[str, tuple[bytes, bytes]]) -> None:
    streams = [body for body, _ in STREAMS.values()] + [stream for stream, _ in simulated.values()]
    lines = b"".join(base64.b64encode(body) + b"\n" for body in streams)
    done = subprocess.run(  # noqa: S603 our own
        [SDK, "-c", FINAL_MESSAGES], input=lines, capture_output=True, check=True, timeout=60
    )
    expected = [told(json.loads(line)) for line in done.stdout.splitlines()]
    assert [replace(metered(body), iterations=()) for body in streams] == expected


FINAL_MESSAGES = """
import base64, json, sys
import anthropic, httpx2

streams = [base64.b64decode(line) for line in sys.stdin]
answers = iter(streams)
headers = {"content-type": "text/event-stream"}
transport = httpx2.MockTransport(lambda request: httpx2.Response(200, headers=headers, content=next(answers)))
client = anthropic.Anthropic(api_key="sk-ant-api03-none", http_client=httpx2.Client(transport=transport))
asked = {"model": "any", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}
for _ in streams:
    with client.beta.messages.stream(**asked) as stream:
        message = stream.get_final_message()
    print(json.dumps({"model": message.model, "usage": message.usage.to_dict()}))
"""


def test_text_in_a_delta_is_not_read() -> None:
    broken = b"event: content_block_delta\ndata: {no JSON: event: message_delta\n\n"
    assert metered(start(SPLIT) + broken + end({"output_tokens": 65}) + STOP) == COUNTED


def test_what_comes_after_the_last_event_changes_nothing() -> None:
    body = STREAMS["iterations"][0]
    meter = Meter(SSE, "", 200)
    meter.feed(body + event("message_start", message={"usage": {"input_tokens": 9}}) + b": bye")
    assert meter.finish(False) == STREAMS["iterations"][1]


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": "12", "output_tokens": 5},
        {"input_tokens": -1, "output_tokens": 5, "cache_creation": [], "server_tool_use": 7},
        {"input_tokens": 10**13, "output_tokens": 5, "iterations": [None, 3], "speed": {}},
        {"input_tokens": True, "output_tokens": 5, "cache_creation": {"ephemeral_1h_input_tokens": 1.5}},
    ],
)
def test_damaged_counts_count_nothing(usage: dict[str, Any]) -> None:
    assert metered(start(usage) + end({"output_tokens": 5}) + STOP) == Usage("claude-opus-5-5", 0, 5)


@pytest.mark.parametrize("later", [0, None, 5, -1, 10**13, "9", True, {}, []], ids=repr)
@pytest.mark.parametrize(
    "name", ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"]
)
def test_a_count_only_grows(name: str, later: object) -> None:
    usage = SPLIT | {"output_tokens": 65}
    assert metered(start(usage) + end({"output_tokens": 65}) + end({name: later}) + STOP) == COUNTED


@pytest.mark.parametrize("later", [0, None, "9"])
def test_counts_inside_others_only_grow_too(later: object) -> None:
    split = {"ephemeral_1h_input_tokens": later, "ephemeral_5m_input_tokens": later}
    searched = {"server_tool_use": {"web_search_requests": 2}}
    last = {"cache_creation": split, "server_tool_use": {"web_search_requests": later}, "iterations": []}
    body = start(SPLIT | searched) + end(last | {"output_tokens": 65}) + STOP
    assert metered(body) == replace(COUNTED, web_search_requests=2)


@pytest.mark.parametrize("kind", [SSE, JSON])
def test_of_more_iterations_than_are_priced_the_first_are_and_the_count_is_an_estimate(kind: str) -> None:
    each = {"type": "message", "input_tokens": 2, "output_tokens": 1}

    def counted(number: int) -> Usage | None:
        usage = {"output_tokens": 1, "iterations": [each] * number}
        if kind == SSE:
            return metered(start(SPLIT) + end(usage) + STOP)
        return metered(json.dumps(MESSAGE | {"content": [], "usage": usage}).encode(), JSON)

    few, many, too_many = counted(256), counted(257), counted(100_000)
    assert few is not None and (few.total, few.estimated) == (256 * 3, False)
    assert many is not None and (many.total, many.estimated) == (256 * 3, True)
    assert too_many is not None and too_many.estimated


def test_all_iterations_are_billed() -> None:
    usage = STREAMS["iterations"][1]
    assert usage.total == 180_000 + 3500 + 823 + 1612 + 23_000 + 1000 + 7
    assert COUNTED.total == 12 + 2048 + 9000 + 65


def lines_read(pieces: Iterable[bytes]) -> int:
    """How many lines of Python it takes to count a stream."""
    count = 0

    def trace(frame: FrameType, kind: str, _: object) -> Any:
        nonlocal count
        count += kind == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        metered(pieces, complete=False)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("cut", [131_072, 131_001])
def test_many_deltas_in_one_piece_are_skipped_at_once(cut: int, line_end: bytes) -> None:
    body = (start(SPLIT) + delta("x" * 40) * 20_000).replace(b"\n", line_end)
    body += (end({"output_tokens": 65}) + STOP).replace(b"\n", line_end)
    pieces = [body[at : at + cut] for at in range(0, len(body), cut)]
    assert lines_read(pieces) < 100 * len(pieces)
    assert metered(pieces) == COUNTED
    usage = metered(pieces[:10], complete=False)
    texts = b"".join(pieces[:10]).count(b"x" * 40)
    assert usage is not None and 10 * texts <= usage.output_tokens <= 10 * (texts + 1)


@pytest.mark.parametrize(
    "odd", [b"event: ping\ndata: {}\n\n", b"\n", b": comment\n\n", b"\r\n", end({"output_tokens": 65})]
)
def test_among_many_deltas_no_other_event_is_missed(odd: bytes) -> None:
    many = delta("x" * 40) * 300
    body = start(SPLIT) + many + odd + many + end({"output_tokens": 65}) + many + STOP
    assert metered(body) == COUNTED
    cut = replace(COUNTED, output_tokens=65 + 3000, estimated=True)
    assert metered(body[: -len(STOP)], complete=False) == cut


# What is no message


@pytest.mark.parametrize("status", [201, 400, 429, 529])
def test_an_error_counts_nothing(status: int) -> None:
    assert metered(STREAMS["a refusal"][0], status=status) is None
    assert metered(b'{"type":"error","error":{"type":"api_error"}}', JSON, status=status) is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"input_tokens":14}', JSON),
        (b'{"type":"error","error":{}}', JSON),
        (b"[1]", JSON),
        (b"null", JSON),
        (b"", JSON),
        (b"", SSE),
        (event("error", error={"type": "overloaded_error"}), SSE),
        (end({"output_tokens": 5}) + STOP, SSE),
        (b'{"type":"message"}', "text/html"),
        (STREAMS["a refusal"][0], ""),
    ],
)
def test_what_is_no_message_counts_nothing(body: bytes, kind: str) -> None:
    assert metered(body, kind) is None


# Cut short


def test_a_cut_stream_is_settled_from_its_text() -> None:
    texts = ["So it ", "began — ", '"quoted"']
    body = start(SPLIT) + b"".join(map(delta, texts)) + delta('{"a":', "input_json_delta", "partial_json")
    size = sum(len(json.dumps(text, ensure_ascii=False).encode()) - 2 for text in [*texts, '{"a":'])
    assert metered(body, complete=False) == replace(COUNTED, output_tokens=-(-size // 4), estimated=True)


def test_of_a_stream_cut_after_a_message_delta_only_later_text_is_estimated() -> None:
    body = start(SPLIT) + delta("x" * 400) + end({"output_tokens": 65}) + delta("x" * 40)
    assert metered(body, complete=False) == replace(COUNTED, output_tokens=75, estimated=True)


def test_text_in_spaced_json_is_estimated_too() -> None:
    spaced = delta("x" * 400).replace(b'":', b'": ').replace(b',"', b', "')
    usage = metered(start(SPLIT) + spaced, complete=False)
    assert usage is not None and 95 <= usage.output_tokens <= 105


@pytest.mark.parametrize("last", [b"", end(), STOP, event("error", error={"type": "overloaded_error"})])
def test_a_stream_that_never_names_its_output_is_estimated(last: bytes) -> None:
    body = start(SPLIT) + delta("x" * 400) + last
    assert metered(body) == replace(COUNTED, output_tokens=100, estimated=True)


def test_a_stream_that_ends_in_an_error_is_estimated() -> None:
    body = start(SPLIT) + end({"output_tokens": 65}) + event("error", error={"type": "overloaded_error"})
    assert metered(body) == replace(COUNTED, estimated=True)


@pytest.mark.parametrize("value", [None, "none", [], {"type": 7}])
@pytest.mark.parametrize("name", ["error", "message", "content_block"])
def test_what_another_event_means_takes_no_usage_away(name: str, value: object) -> None:
    member = f'{json.dumps(name)}:{json.dumps(value)},"type":"message_'.encode()
    first, last = start(SPLIT), end({"output_tokens": 65})
    if name != "message":  # which `message_start` itself means
        first = first.replace(b'"type":"message_', member)
    assert metered(first + last.replace(b'"type":"message_', member) + STOP) == COUNTED


def test_a_client_that_leaves_after_the_last_event_leaves_an_exact_count() -> None:
    assert metered(start(SPLIT) + end({"output_tokens": 65}) + STOP, complete=False) == COUNTED


@pytest.mark.parametrize("name", ALL)
def test_cut_at_any_byte_more_is_never_less(name: str) -> None:
    body, expected = ALL[name]
    seen = Usage("", 0, 0, estimated=True)
    for at in range(len(body)):
        usage = metered(body[:at], complete=False)
        if usage is None:
            assert seen.model == ""
        elif usage.estimated:
            assert usage.total >= seen.total or b"event: message_delta" in body[:at]
            seen = usage
        else:
            assert usage == expected and b"event: message_stop" in body[:at]
    assert metered(body, complete=False) == expected


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != "identity"])
def test_a_compressed_answer_cut_at_any_byte_is_settled(encoder: str) -> None:
    body = encoded(STREAMS["cumulative deltas with nulls"][0], encoder)
    usages = [metered(body[:at], encoding=encoder.split()[-1], complete=False) for at in range(len(body) + 1)]
    assert usages[-1] == COUNTED
    counts = [usage.input_tokens for usage in usages if usage is not None]
    assert set(counts) == {12} and len(counts) > len(body) / 2


@pytest.mark.parametrize("fault", [Cut(after_events=5), Cut(after_bytes=900), MidStreamError(4)])
async def test_a_fault_of_the_simulator_inside_a_stream_is_estimated(fault: Cut | MidStreamError) -> None:
    sim = Simulator()
    sim.add_api_key("sk-ant-api03-a")
    await sim.start()
    meter = Meter(SSE, "gzip", 200)
    try:
        sim.script(None, fault)
        fields = {
            "x-api-key": "sk-ant-api03-a",
            "anthropic-version": "2023-06-01",
            "x-simulate-encoding": "gzip",
        }
        body = {
            "model": "claude-opus-5-5",
            "max_tokens": 99,
            "stream": True,
            "messages": [{"role": "user", "content": "hi, write 50 words"}],
        }
        async with connect(int(sim.base_url.rpartition(":")[2])) as wire:
            answer = await wire.request("POST", "/v1/messages", fields.items(), json.dumps(body).encode())
            with contextlib.suppress(WireCut):
                async for chunk in answer.chunks():
                    meter.feed(chunk)
    finally:
        await sim.stop()
    usage = meter.finish(isinstance(fault, MidStreamError))
    assert usage is not None and usage.estimated and usage.input_tokens > 0 and usage.output_tokens > 0


async def test_a_long_steady_stream_is_counted() -> None:
    sim = Simulator()
    sim.add_api_key("sk-ant-api03-a")
    await sim.start()
    try:
        sim.script(None, Steady(500, interval_s=0))
        assert metered(await ask(sim, "sk-ant-api03-a", stream=True)) == Usage("claude-haiku-4-5", 10, 1500)
    finally:
        await sim.stop()


# JSON

MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5"}
DECOY = {"type": "tool_use", "input": {"usage": {"output_tokens": 7}, "content": [{"usage": {}}]}}


def large_message(size: int, **after: Any) -> bytes:
    content = [{"type": "text", "text": 'say "usage":{} ' * (size // 15)}, DECOY]
    return json.dumps(MESSAGE | {"content": content, "stop_reason": "end_turn"} | after).encode()


@pytest.mark.parametrize("size", [100_000, 300_000, 3_000_000])
def test_a_message_of_any_size_is_counted(size: int) -> None:
    body = large_message(size, usage=SPLIT | {"output_tokens": 65}, container=None)
    assert metered((body[at : at + 9999] for at in range(0, len(body), 9999)), JSON) == COUNTED


def test_a_message_whose_usage_comes_first_is_counted() -> None:
    body = json.dumps({"usage": SPLIT | {"output_tokens": 65}} | MESSAGE | {"content": [DECOY]}).encode()
    assert metered(body, JSON) == COUNTED


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_a_cut_message_is_estimated_from_its_size(size: int) -> None:
    body = large_message(size, usage=SPLIT)[:-10]
    expected = Usage("claude-opus-5-5", 0, len(body) // 4, estimated=True)
    assert metered(body, JSON, complete=False) == expected


# Hostile bytes


@settings(deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([SSE, JSON]),
    st.sampled_from(["", "gzip", "deflate", "br", "zstd"]),
)
def test_no_bytes_make_it_fail(body: bytes, kind: str, encoding: str) -> None:
    metered([body, body], kind, encoding=encoding)


@settings(deadline=None)
@given(st.data())
def test_no_damage_to_an_answer_makes_it_fail(data: st.DataObject) -> None:
    body, _ = data.draw(st.sampled_from(list(ALL.values())))
    encoder = data.draw(st.sampled_from(list(ENCODERS)))
    damaged = bytearray(encoded(body, encoder))
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=5)):
        damaged[at] = data.draw(st.integers(0, 255))
    metered([bytes(damaged[:500]), bytes(damaged[500:])], encoding=ENCODERS[encoder][0])


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_of_a_broken_encoding_what_was_read_is_counted(encoding: str) -> None:
    comment = b": " + random.Random(1).randbytes(2000).hex().encode()
    body = encoded(start(SPLIT) + delta("x" * 400) + comment, encoding)
    usage = metered(bytewise(body[:-200] + b"\xff" * 200), encoding=encoding)
    assert usage == replace(COUNTED, output_tokens=100, estimated=True)


@pytest.mark.parametrize("encoding", ["compress", "gzip, br", "aws-chunked"])
def test_an_unknown_encoding_is_not_counted(encoding: str) -> None:
    assert metered(STREAMS["a refusal"][0], encoding=encoding) is None


def test_every_member_of_a_gzip_answer_is_counted() -> None:
    first, second = start(SPLIT), end({"output_tokens": 65}) + STOP
    assert metered(encoded(first, "gzip") + encoded(second, "gzip"), encoding="gzip") == COUNTED


def test_deeply_nested_json_counts_nothing() -> None:
    assert metered(b'{"type":"message","a":' + b"[" * 100_000, JSON) is None


def peak_of(pieces: Iterable[bytes], kind: str = SSE, encoding: str = "") -> tuple[int, Usage | None]:
    """Bytes that the meter held at most, and its count."""
    pieces = list(pieces)
    tracemalloc.start()
    usage = metered(pieces, kind, encoding=encoding)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, usage


@pytest.mark.parametrize(
    "huge",
    [
        b'data: "' + b"x" * 65_529,  # one endless line
        b"data: %s\n" % (b"x" * 57) * 1024,  # many lines of one event
        b"x" * 65_536,
    ],
)
def test_a_huge_event_is_passed_over_in_bounded_memory(huge: bytes) -> None:
    pieces = [
        start(SPLIT),
        b"event: message_delta\n",
        *[huge] * 200,
        b"\n\n",
        end({"output_tokens": 65}),
        STOP,
    ]
    peak, usage = peak_of(pieces)
    assert usage == COUNTED
    assert peak < 3 * MIB


@pytest.mark.parametrize("line", [b"data: %s" % (b" " * 2_000_000), b"data: %s\ndata:" % (b" " * 2_000_000)])
def test_a_huge_event_is_passed_over_as_a_whole(line: bytes) -> None:
    read = b'event: message_delta\ndata: {"usage":{"output_tokens":1}}\n\n'
    huge = read.replace(b"data:", line)
    assert metered(start(SPLIT) + end({"output_tokens": 65}) + huge + STOP) == COUNTED
    pieces = [huge[at : at + 9999] for at in range(0, len(huge), 9999)]
    assert metered([start(SPLIT), end({"output_tokens": 65}), *pieces, STOP]) == COUNTED


@pytest.mark.parametrize("name", ["message", "usage", "delta", "content_block"])
def test_of_what_is_not_looked_for_in_an_event_nothing_is_built(name: str) -> None:
    dense = b'event: message_delta\ndata: {"%b":[%b0]}\n\n' % (name.encode(), b"{}," * 200_000)
    peak, usage = peak_of([start(SPLIT), dense, end({"output_tokens": 65}), STOP])
    assert usage == COUNTED
    assert peak < 3 * MIB


def test_of_a_messages_content_nothing_is_built() -> None:
    body = json.dumps(MESSAGE | {"content": [{}] * 30_000, "usage": SPLIT | {"output_tokens": 65}}).encode()
    peak, usage = peak_of([body], JSON)
    assert usage == COUNTED
    assert peak < MIB


def test_a_huge_message_is_counted_in_bounded_memory() -> None:
    body = large_message(20_000_000, usage=SPLIT | {"output_tokens": 65})
    peak, usage = peak_of((body[at : at + 65_536] for at in range(0, len(body), 65_536)), JSON)
    assert usage == COUNTED
    assert peak < 4 * MIB


def test_of_a_usage_only_what_is_counted_is_kept() -> None:
    odd = [end({f"{event}_{number}": 1 for number in range(2000)}) for event in range(100)]
    nested = [end({"server_tool_use": {f"{event}_{n}": 1 for n in range(2000)}}) for event in range(100)]
    peak, usage = peak_of([start(SPLIT), *odd, *nested, end({"output_tokens": 65}), STOP])
    assert usage == COUNTED
    assert peak < 2 * MIB


@pytest.mark.parametrize("encoder", ["gzip", "deflate", "br", "zstd"])
def test_more_lines_than_a_stream_can_have_are_not_read_on(encoder: str) -> None:
    """Each takes time, however short it is: here 64 KB or less became a million of them."""
    filler = random.Random(1).randbytes(50_000).hex().encode()
    lines = b"".join([start(SPLIT), b": ", filler, b"\n" * MIB, end({"output_tokens": 65}), STOP])
    usage = metered([ENCODERS[encoder][1]()([lines])], encoding=encoder)
    assert usage == replace(COUNTED, output_tokens=1, estimated=True)


@pytest.mark.parametrize("kind", [SSE, JSON])
@pytest.mark.parametrize("encoder", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_not_read_on(encoder: str, kind: str) -> None:
    filler = itertools.repeat(b"x" * MIB, 40)
    body = ENCODERS[encoder][1]()([start(SPLIT), *filler, b"\n\n", end({"output_tokens": 65}), STOP])
    peak, usage = peak_of([body], kind, encoder)
    assert usage == (replace(COUNTED, output_tokens=1, estimated=True) if kind == SSE else None)
    assert peak < 4 * MIB


@pytest.mark.parametrize("encoder", ["gzip", "deflate", "br", "zstd"])
def test_a_long_repetitive_answer_is_no_bomb(encoder: str) -> None:
    body = start(SPLIT) + delta("0 0 0 0 0 ") * 50_000 + end({"output_tokens": 65}) + STOP
    assert metered([encoded(body, encoder)], encoding=encoder) == COUNTED
