"""Streams: each byte at once, a cut is never an end, who leaves is let go, and a slow reader costs nothing.

Long: one path through the proxy, and all the ways it can end.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import hashlib
import json
import logging
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import brotli
import pytest
from backports import zstd

from proxy.simulator import Cut as CutFault
from proxy.simulator import Error, Fault, Flood, MidStreamError, Raw, Silence, Stall, Steady
from tests.service import (
    CLIENT_KEY,
    MESSAGE_HEADERS,
    Service,
    SteppedClock,
    TestClock,
    message,
    serve,
    until,
    upstream_key,
)
from tests.serving import serving
from tests.wire import Answer, Cut, Wire, connect, request_bytes

PACE_S = 0.5
EVENTS_BESIDE_DELTAS = 6
ENCODE = {"": bytes, "gzip": gzip.compress, "br": brotli.compress, "zstd": zstd.compress}
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"


def stream_request(*, key: str = CLIENT_KEY, stream: bool = True) -> bytes:
    return request_bytes(
        "POST", "/v1/messages", [("x-api-key", key), *MESSAGE_HEADERS], message(stream=stream)
    )


@contextlib.asynccontextmanager
async def streaming(service: Service) -> AsyncIterator[tuple[Wire, Answer]]:
    """A connection with a stream that has begun; with little room in its own buffers."""
    async with connect(service.port, limit=1 << 16) as wire:
        await wire.send(stream_request())
        yield wire, await wire.answer()


async def cut_answer(answer: Answer) -> bytes:
    """What came of an answer that is cut. TimeoutError if nothing comes for 5 s: sockets may hold 10 MB."""
    with pytest.raises(Cut):
        async with asyncio.timeout(5) as silence:
            async for chunk in answer.chunks():
                answer.body += chunk
                silence.reschedule(asyncio.get_running_loop().time() + 5)
    return answer.body


def last_event(body: bytes) -> tuple[str, str]:
    """Type and message of the error event that `body` ends with."""
    assert body.endswith(b"\n\n")
    name, data = body.removesuffix(b"\n\n").rsplit(b"\n", 2)[-2:]
    assert name == b"event: error"
    value = json.loads(data.removeprefix(b"data: "))
    assert value["type"] == "error"
    return value["error"]["type"], value["error"]["message"]


def in_flight(service: Service) -> int:
    return sum(service.parts.pool.view(account)["in_flight"] for account in service.parts.pool)


def reset(wire: Wire) -> None:
    linger = struct.pack("ii", 1, 0)
    wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    wire.writer.transport.abort()


def leave(wire: Wire) -> None:
    wire.writer.close()


def cancel_relays() -> None:
    for task in asyncio.all_tasks():
        if task.get_name() == "relay":
            task.cancel()


# --- at once ----------------------------------------------------------------------------------------------


async def test_the_first_event_arrives_while_the_upstream_still_sends(tmp_path: Path) -> None:
    clock, waits = SteppedClock(), []
    loop = asyncio.get_running_loop()
    async with serve(tmp_path, clock=clock) as service:
        for _ in range(5):
            service.simulator.script(None, Steady(3, PACE_S))
            began = loop.time()
            async with streaming(service) as (_, answer):
                assert (await anext(answer.events())).startswith(b"event: message_start\n")
                waits.append(loop.time() - began)
                entry = service.simulator.ledger[-1]
                assert (entry.events_sent, entry.finished) == (1, False)
        assert sorted(waits)[2] < 0.05


async def test_every_event_arrives_before_the_next_is_sent(tmp_path: Path) -> None:
    clock, waits = SteppedClock(), []
    loop = asyncio.get_running_loop()
    async with serve(tmp_path, clock=clock) as service:
        service.simulator.script(None, Steady(20, PACE_S))
        async with streaming(service) as (_, answer):
            events = answer.events()
            await anext(events)
            for number in range(2, 20 + EVENTS_BESIDE_DELTAS):
                await clock.asleep(PACE_S)
                began = loop.time()
                clock.advance(PACE_S)
                await anext(events)
                waits.append(loop.time() - began)
                assert service.simulator.ledger[0].events_sent == number
        assert sorted(waits)[len(waits) // 2] < 0.05


async def test_the_head_arrives_with_the_first_event(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Stall(after_events=1))
        async with asyncio.timeout(5), streaming(service) as (_, answer):
            assert answer.status == 200
            assert answer.header("content-type") == "text/event-stream; charset=utf-8"
            assert (await anext(answer.events())).startswith(b"event: message_start\n")


async def test_a_stream_without_any_event_is_a_504_after_the_longest_silence(tmp_path: Path) -> None:
    async with serve(tmp_path, server__request_timeout="250ms") as service:
        service.simulator.script(None, Stall(after_events=0))
        assert (await service.message(stream=True)).status == 504


@contextlib.asynccontextmanager
async def silent_after(head: bytes) -> AsyncIterator[str]:
    """The base URL of an upstream that answers with a head, and then says nothing."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        await reader.read()

    async with serving(handle) as port:
        yield f"http://127.0.0.1:{port}"


async def test_the_head_of_a_stream_that_is_no_message_waits_for_no_event(tmp_path: Path) -> None:
    async with (
        silent_after(SSE_HEAD + b"transfer-encoding: chunked\r\n\r\n") as upstream,
        serve(tmp_path, upstream=upstream) as service,
        connect(service.port) as wire,
    ):
        path = "/v1/sessions/sesn_1/events/stream"
        await wire.send(request_bytes("GET", path, [("x-api-key", CLIENT_KEY)]))
        async with asyncio.timeout(5):
            assert (await wire.answer()).status == 200


async def test_hundreds_of_streams_run_at_once(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service, contextlib.AsyncExitStack() as stack:
        service.simulator.always(None, Steady(3, PACE_S))
        wires = [await stack.enter_async_context(connect(service.port)) for _ in range(300)]
        for wire in wires:
            await wire.send(stream_request())
        async with asyncio.timeout(30):
            events = [(await wire.answer()).events() for wire in wires]
            firsts = [await anext(each) for each in events]
        assert all(first.startswith(b"event: message_start\n") for first in firsts)
        assert (service.simulator.open_requests, in_flight(service)) == (300, 300)
        clock.free()
        lasts = [[event async for event in each][-1] for each in events]
        assert all(last.startswith(b"event: message_stop\n") for last in lasts)


async def test_a_stream_is_the_upstream_s_byte_for_byte(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(int(service.simulator.base_url.rsplit(":")[-1])) as direct:
        service.simulator.always(None, Steady(50, 0))
        await direct.send(stream_request(key=upstream_key("a")))
        expected = await (await direct.answer()).read()
        async with streaming(service) as (_, answer):
            assert await answer.read() == expected


async def test_an_error_event_of_the_upstream_passes_and_ends_the_stream_cleanly(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, MidStreamError(after_events=3))
        async with streaming(service) as (_, answer):
            assert last_event(await answer.read())[0] == "overloaded_error"


def gzipped(pieces: list[bytes]) -> list[bytes]:
    """`pieces` as a gzip stream that is flushed after each."""
    squeeze = zlib.compressobj(wbits=31)
    out = [squeeze.compress(piece) + squeeze.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*out, squeeze.flush()]


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n"


EVENTS = [b"event: ping\ndata: %d\n\n" % n for n in range(20)]
GZIP_HEAD = SSE_HEAD + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_a_gzipped_stream_passes_byte_for_byte(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Raw(GZIP_HEAD + chunked(gzipped(EVENTS))))
        async with streaming(service) as (_, answer):
            assert await answer.read() == b"".join(gzipped(EVENTS))
            assert answer.header("content-encoding") == "gzip"


async def test_a_gzipped_stream_that_is_cut_has_no_plain_text_in_it(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Raw(GZIP_HEAD + chunked(gzipped(EVENTS)[:5])[: -len("0\r\n\r\n")]))
        async with streaming(service) as (_, answer):
            assert await cut_answer(answer) == b"".join(gzipped(EVENTS)[:5])


# --- the client leaves ------------------------------------------------------------------------------------

MOMENTS = {
    "before the head": Silence(),
    "after the head": Stall(after_events=1),
    "inside the stream": Stall(after_events=3),
    "while it does not read": Flood(200_000_000),
}


@pytest.mark.parametrize("going", [leave, reset])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_client_that_leaves_closes_the_upstream_at_once(
    tmp_path: Path, moment: str, going: Callable[[Wire], None]
) -> None:
    loop = asyncio.get_running_loop()
    async with serve(tmp_path) as service, connect(service.port, limit=1 << 16) as wire:
        service.simulator.script(None, MOMENTS[moment])
        await wire.send(stream_request())
        if moment == "before the head":
            await service.simulator.ledger.wait(lambda ledger: ledger and ledger[0].body_read)
        else:
            await wire.answer()
        if moment == "while it does not read":
            await throttled(service)
        began = loop.time()
        going(wire)
        await service.simulator.ledger.wait(lambda ledger: ledger[0].closed_by_peer_at is not None)
        assert loop.time() - began < 0.25
        assert (service.running, service.transfers, in_flight(service)) == (0, 0, 0)


@pytest.mark.parametrize(
    "request_",
    [
        stream_request(),
        stream_request() + stream_request(),
        request_bytes("GET", "/v1/models", [("x-api-key", CLIENT_KEY)]),
        request_bytes("GET", "/v1/models", [("x-api-key", CLIENT_KEY), ("Transfer-Encoding", "chunked")])
        + b"2\r\n{}\r\n0\r\n\r\n",
    ],
    ids=["post", "two posts", "get", "chunked"],
)
async def test_a_client_that_sends_and_leaves_in_one_go_is_noticed(tmp_path: Path, request_: bytes) -> None:
    async with serve(tmp_path) as service:
        service.simulator.always(None, Silence())
        service.simulator.always(None, Error(404), path="/v1/files")
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(request_)
        assert (await service.send("GET", "/v1/files")).status == 404  # so what came before was seen
        await until(lambda: service.running == service.simulator.open_requests == 0, within_s=0.5)


async def test_aborted_clients_leave_nothing_behind(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, contextlib.AsyncExitStack() as stack:
        service.simulator.script(None, *[Silence(), Stall(after_events=0), Stall(after_events=3)] * 100)
        wires = [await stack.enter_async_context(connect(service.port)) for _ in range(300)]
        for wire in wires:
            await wire.send(stream_request())
        await until(lambda: service.simulator.open_requests == 300, within_s=30)
        for number, wire in enumerate(wires):
            (leave if number % 2 else reset)(wire)
        await until(lambda: service.simulator.open_requests == 0, within_s=30)
        await until(lambda: service.running == 0)
        assert (service.transfers, in_flight(service)) == (0, 0)
        service.simulator.calm()
        assert (await service.message()).status == 200


# --- a client that does not read --------------------------------------------------------------------------


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


async def throttled(service: Service) -> int:
    """What the upstream has sent when it can send no more, though everyone else is served."""
    sent = -1
    async with asyncio.timeout(20):
        while sent != service.simulator.ledger[0].bytes_sent:
            sent = service.simulator.ledger[0].bytes_sent
            for _ in range(10):
                await service.send("GET", "/v1/organizations")  # refused by the proxy itself
                await service.send("GET", "/v1/models")
    return sent


async def test_a_client_that_does_not_read_throttles_the_upstream(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Flood(200_000_000))
        async with streaming(service):
            assert await throttled(service) < 30_000_000  # what kernels hold on the way


async def test_a_client_that_does_not_read_costs_no_memory(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Steady(1))
        await service.message()
        await throttled(service)  # warm
        service.simulator.ledger.clear()
        service.simulator.script(None, Flood(200_000_000))
        gc.collect()
        before = resident_bytes()
        async with streaming(service):
            await throttled(service)
            assert resident_bytes() - before < 8_000_000


async def test_a_client_that_reads_on_gets_every_byte(tmp_path: Path) -> None:
    size = 64_000_000

    async def digest(answer: Answer) -> tuple[int, str]:
        length, found = 0, hashlib.sha256()
        async for chunk in answer.chunks():
            length += len(chunk)
            found.update(chunk)
        return length, found.hexdigest()

    async with serve(tmp_path) as service:
        service.simulator.always(None, Flood(size), path="/v1/messages")
        async with streaming(service) as (_, answer):
            assert await throttled(service) < size
            proxied = await digest(answer)
        async with connect(int(service.simulator.base_url.rsplit(":")[-1])) as direct:
            await direct.send(stream_request(key=upstream_key("a")))
            assert await digest(await direct.answer()) == proxied
        assert proxied[0] >= size


async def test_a_stream_whose_task_is_cancelled_by_itself_is_cut(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Stall(after_events=3))
        async with streaming(service) as (_, answer):
            cancel_relays()
            await cut_answer(answer)
            assert service.running == 0


async def test_a_stream_that_is_cut_again_while_its_last_event_waits_ends(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Flood(200_000_000))
        async with streaming(service) as (_, answer):
            await throttled(service)
            (session,) = service.parts.sessions
            service.parts.sessions.end(session.id)
            await until(lambda: service.transfers == 0)
            cancel_relays()
            await until(lambda: service.running == 0)
            await cut_answer(answer)


async def test_a_client_that_takes_nothing_for_too_long_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.answer.STALLED_S", 0.25)
    async with serve(tmp_path) as service:
        service.simulator.script(None, Flood(200_000_000))
        async with streaming(service) as (_, answer):
            await service.simulator.ledger.wait(lambda ledger: ledger[0].closed_by_peer_at is not None)
            await until(lambda: service.running == 0)
            await cut_answer(answer)


# --- the upstream breaks off ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        CutFault(after_events=1),
        CutFault(after_events=4),
        CutFault(after_events=4, reset=True),
        CutFault(after_bytes=30),
        CutFault(after_bytes=777),
    ],
)
async def test_a_stream_that_breaks_ends_with_an_error_event_and_a_cut(
    tmp_path: Path, fault: CutFault
) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, fault)
        async with streaming(service) as (_, answer):
            assert answer.status == 200
            kind, text = last_event(await cut_answer(answer))
            assert kind == "api_error"
            assert text.startswith("the upstream cut its answer")


async def test_all_events_before_the_break_arrive(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, CutFault(after_events=4))
        async with streaming(service) as (_, answer):
            body = await cut_answer(answer)
            assert [event.split(b"\n")[0] for event in body.replace(b"\n\n\n", b"\n\n").split(b"\n\n")] == [
                b"event: message_start",
                b"event: content_block_start",
                b"event: ping",
                b"event: content_block_delta",
                b"event: error",
                b"",
            ]


async def test_nothing_is_tried_again_after_the_first_byte(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b")) as service:
        service.simulator.script(None, CutFault(after_events=1))
        async with streaming(service) as (_, answer):
            await cut_answer(answer)
        assert len(service.simulator.ledger) == 1


BODY = b'{"type":"message","content":[]}'
BROKEN = {
    "with its length": JSON_HEAD + b"content-length: 99\r\n\r\n" + BODY,
    "one byte short": JSON_HEAD + b"content-length: %d\r\n\r\n" % (len(BODY) + 1) + BODY,
    "chunked": JSON_HEAD + b"transfer-encoding: chunked\r\n\r\n1f\r\n" + BODY + b"\r\n",
    "inside a chunk": JSON_HEAD + b"transfer-encoding: chunked\r\n\r\nff\r\n" + BODY,
    "a chunk of nonsense": JSON_HEAD + b"transfer-encoding: chunked\r\n\r\n1f\r\n" + BODY + b"\r\nzz\r\n",
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
async def test_a_body_that_breaks_never_ends_cleanly(tmp_path: Path, raw: bytes) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Raw(raw))
        async with streaming(service) as (_, answer):
            assert answer.status == 200
            assert BODY.startswith(await cut_answer(answer))


@pytest.mark.parametrize("missing", [1, 1000])
async def test_a_stream_with_a_length_that_breaks_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, missing: int
) -> None:
    """There may be no room for an error event."""
    body = b"event: ping\ndata: {}\n\n"
    async with serve(tmp_path) as service:
        service.simulator.script(
            None, Raw(SSE_HEAD + b"content-length: %d\r\n\r\n" % (len(body) + missing) + body)
        )
        async with streaming(service) as (_, answer):
            assert (await cut_answer(answer)).startswith(body)
        assert service.running == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_no_error_event_fills_a_stream_up_to_its_length(tmp_path: Path) -> None:
    body = b"event: ping\ndata: {}\n\n"
    async with serve(tmp_path) as service:
        for length in range(len(body) + 100, len(body) + 300):
            service.simulator.script(None, Raw(SSE_HEAD + b"content-length: %d\r\n\r\n" % length + body))
            async with streaming(service) as (_, answer):
                await cut_answer(answer)


async def test_an_upstream_that_dies_while_its_stream_waits_for_the_client_is_a_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Flood(200_000_000))
        async with streaming(service) as (_, answer):
            await throttled(service)
            await service.simulator.stop()
            assert last_event(await cut_answer(answer))[0] == "api_error"
        await until(lambda: service.running == service.transfers == 0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_http_1_0_learns_of_a_break_by_a_reset(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        service.simulator.script(None, CutFault(after_events=3))
        await wire.send(stream_request().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        answer = await wire.answer()
        assert answer.header("transfer-encoding") is None
        await cut_answer(answer)


def unchunked(data: bytes) -> bytes:
    """The content of a chunked body that may be cut anywhere."""
    content = b""
    while b"\r\n" in data:
        size, data = data.split(b"\r\n", 1)
        content += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return content


async def test_wherever_a_stream_breaks_all_that_came_arrives_and_no_more(tmp_path: Path) -> None:
    async with serve(tmp_path, retry__max_attempts="1") as service:
        async with connect(int(service.simulator.base_url.rsplit(":")[-1])) as direct:
            await direct.send(stream_request(key=upstream_key("a")))
            events = [event async for event in (await direct.answer()).events()]
        head = SSE_HEAD + b"transfer-encoding: chunked\r\n\r\n"
        raw = head + chunked(events)
        for end in range(0, len(raw), 13):
            service.simulator.script(upstream_key("a"), Raw(raw[:end]))
            async with streaming(service) as (_, answer):
                if len(unchunked(raw[len(head) : end])) < len("event: message_start"):
                    assert (answer.status, end) == (502, end)
                    continue
                body = await cut_answer(answer)
                assert last_event(body)[0] == "api_error"
                assert body[: body.rindex(b"\nevent: error\n")] == unchunked(raw[len(head) : end])
        service.simulator.script(upstream_key("a"), Raw(raw))
        async with streaming(service) as (_, answer):
            assert await answer.read() == b"".join(events)


@pytest.mark.parametrize("encoding", ["", "gzip", "br", "zstd"])
async def test_a_stream_that_only_its_connection_ends_is_whole_if_it_says_so(
    tmp_path: Path, encoding: str
) -> None:
    head = SSE_HEAD + (b"content-encoding: %b\r\n\r\n" % encoding.encode() if encoding else b"\r\n")
    async with serve(tmp_path, retry__max_attempts="1") as service:
        async with connect(int(service.simulator.base_url.rsplit(":")[-1])) as direct:
            await direct.send(stream_request(key=upstream_key("a")))
            body = ENCODE[encoding](await (await direct.answer()).read())
        for end in (*range(0, len(body) - 1, 1 + len(body) // 60), len(body) - 1):
            service.simulator.script(upstream_key("a"), Raw(head + body[:end]))
            async with streaming(service) as (_, answer):
                if answer.status == 502:  # its first event was not whole
                    assert encoding or end < len("event: message_start")
                    continue
                got = await cut_answer(answer)
                if encoding:
                    assert body.startswith(got)
                else:
                    assert last_event(got)[0] == "api_error"
                    assert got[: got.rindex(b"\nevent: error\n")] == body[:end]
        service.simulator.script(upstream_key("a"), Raw(head + body))
        async with streaming(service) as (_, answer):
            assert await answer.read() == body


MESSAGE_BODY = b'{"type":"message","content":[{"type":"text","text":"%b"}],"usage":{"output_tokens":1}}'


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_a_message_that_only_its_connection_ends_is_whole_if_it_parses(
    tmp_path: Path, size: int
) -> None:
    body = MESSAGE_BODY % (b"x" * size)
    async with serve(tmp_path) as service, connect(service.port) as wire:
        service.simulator.script(None, Raw(JSON_HEAD + b"\r\n" + body))
        await wire.send(stream_request(stream=False))
        assert await (await wire.answer()).read() == body
        for end in (1, len(body) // 2, len(body) - 1):
            async with connect(service.port) as another:
                service.simulator.script(None, Raw(JSON_HEAD + b"\r\n" + body[:end]))
                await another.send(stream_request(stream=False))
                assert body.startswith(await cut_answer(await another.answer()))


async def test_an_error_event_ends_a_stream_that_only_its_connection_ends(tmp_path: Path) -> None:
    event = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'
    async with serve(tmp_path, retry__max_attempts="1") as service:
        for before in (b"", b"event: ping\ndata: {}\n\n"):
            service.simulator.script(None, Raw(SSE_HEAD + b"\r\n" + before + event))
            async with streaming(service) as (_, answer):
                assert await answer.read() == before + event


@pytest.mark.parametrize("stream", [True, False])
async def test_an_upstream_that_falls_silent_is_cut(tmp_path: Path, stream: bool) -> None:
    async with serve(tmp_path, server__request_timeout="250ms") as service, connect(service.port) as wire:
        service.simulator.script(None, Stall(after_events=3))
        await wire.send(stream_request(stream=stream))
        body = await cut_answer(await wire.answer())
        if stream:
            assert last_event(body)[0] == "api_error"
        await service.simulator.ledger.wait(lambda ledger: ledger[0].closed_by_peer_at is not None)


class RealTime(TestClock):
    """Sleeps for as long as it says."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def test_a_live_stream_is_not_cut_however_long_it_takes(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with serve(tmp_path, clock=RealTime(), server__request_timeout="400ms") as service:
        service.simulator.script(None, Steady(14, interval_s=0.05))
        began = loop.time()
        async with streaming(service) as (_, answer):
            assert (await answer.read()).endswith(b'data: {"type":"message_stop"}\n\n')
        assert loop.time() - began > 0.8


# --- the process ends -------------------------------------------------------------------------------------


async def test_a_drain_waits_for_streams(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        service.simulator.script(None, Steady(3, PACE_S))
        async with streaming(service) as (_, answer):
            drain = asyncio.create_task(service.parts.server.drain())
            await clock.asleep(0.05)
            events = answer.events()
            for _ in range(3 + EVENTS_BESIDE_DELTAS - 1):
                await clock.asleep(PACE_S)
                clock.advance(PACE_S)
                await anext(events)
                assert not drain.done()
            assert [event async for event in events][-1].startswith(b"event: message_stop\n")
            await clock.asleep(0.05)
            clock.advance(0.05)
            async with asyncio.timeout(5):
                await drain


@contextlib.asynccontextmanager
async def drained(service: Service, clock: SteppedClock) -> AsyncIterator[None]:
    """A drain whose time runs out."""
    drain = asyncio.create_task(service.parts.server.drain())
    await clock.asleep(0.05)
    clock.advance(29)
    assert not drain.done()
    clock.free()
    yield
    async with asyncio.timeout(5):
        await drain


async def test_a_drain_cuts_a_stream_that_takes_too_long(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        service.simulator.script(None, Stall(after_events=3))
        async with streaming(service) as (_, answer):
            await service.simulator.ledger.wait(lambda ledger: ledger[0].events_sent == 3)
            async with drained(service, clock):
                assert last_event(await cut_answer(answer)) == ("api_error", "this proxy is shutting down")
                await service.simulator.ledger.wait(lambda ledger: ledger[0].closed_by_peer_at is not None)


@pytest.mark.parametrize("fault", [Silence(), Error(529)], ids=["silent upstream", "backoff"])
async def test_a_drain_ends_a_request_without_an_answer_with_a_503(tmp_path: Path, fault: Fault) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock, retry__jitter_max="0s", retry__base_delay="60s") as service:
        service.simulator.always(None, fault)
        request = asyncio.create_task(service.message())
        await service.simulator.ledger.wait(lambda ledger: ledger and ledger[0].body_read)
        if isinstance(fault, Error):
            await clock.asleep(60.0)
        async with drained(service, clock):
            answer = await request
            assert (answer.status, answer.json()["error"]["type"]) == (503, "api_error")


async def test_a_drain_ends_a_body_that_is_still_coming(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service, connect(service.port) as wire:
        headers = [("x-api-key", CLIENT_KEY), ("Content-Length", "100"), ("Expect", "100-continue")]
        await wire.send(request_bytes("POST", "/v1/messages", headers))
        await wire.reader.readuntil(b"\r\n\r\n")
        async with drained(service, clock):
            assert (await wire.reader.read()).startswith(b"HTTP/1.1 503 ")
        assert service.running == 0


async def test_a_drain_without_requests_ends_at_once(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        await service.parts.server.drain()
        assert service.clock.slept == []
