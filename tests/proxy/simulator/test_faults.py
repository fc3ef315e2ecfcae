"""What a test or a header tells the simulator to do, seen from the socket."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from asyncio import StreamReader
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from proxy.simulator import (
    Amend,
    Answer,
    Cut,
    Error,
    Flood,
    MidStreamError,
    Raw,
    Real,
    Reset,
    ResetEarly,
    Silence,
    Simulator,
    Slow,
    Stall,
    Steady,
    api_key_429,
    bare_429,
    model_429,
    quota_429,
    throttle_429,
)
from tests.proxy.simulator.http import KEY, Client, events
from tests.wire import connect, request_bytes

STREAM = {"stream": True}


HEADERS = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")]
BODY = (
    b'{"model":"claude-opus-5","max_tokens":200,"stream":true,"messages":[{"role":"user","content":"hello"}]}'
)


@contextlib.asynccontextmanager
async def asking(sim: Simulator, body: bytes = BODY, *more: tuple[str, str]) -> AsyncIterator[StreamReader]:
    """What comes back on a connection that has sent a message request; it ends with the block."""
    port = int(sim.base_url.rpartition(":")[2])
    async with connect(port, limit=1 << 12) as socket:
        await socket.send(request_bytes("POST", "/v1/messages", [*HEADERS, *more], body))
        yield socket.reader


async def everything(sim: Simulator, body: bytes = BODY) -> bytes:
    """All that comes back until the connection ends."""
    async with asking(sim, body) as reader:
        return await reader.read(-1)


async def test_scripted_answers_come_in_turn_then_the_truth(client: Client, sim: Simulator) -> None:
    sim.script(KEY, Error(529), Real(), Error(500))
    assert [(await client.message()).status for _ in range(4)] == [529, 200, 500, 200]


async def test_a_script_is_about_its_credential_only(client: Client, sim: Simulator) -> None:
    sim.add_api_key("sk-ant-api03-other")
    sim.script("sk-ant-api03-other", Error(529))
    sim.script(None, Error(503))
    assert (await client.message(credential="sk-ant-api03-other")).status == 529
    assert (await client.message()).status == 503


async def test_a_script_may_be_about_a_path(client: Client, sim: Simulator) -> None:
    sim.script(None, Error(529), path="/v1/models")
    assert (await client.message()).status == 200
    assert (await client.get("/v1/models?limit=1")).status == 529


async def test_a_lasting_answer_ends_with_calm(client: Client, sim: Simulator) -> None:
    sim.always(KEY, Error(529))
    assert [(await client.message()).status for _ in range(3)] == [529] * 3
    sim.calm(KEY)
    assert (await client.message()).status == 200


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        (401, "authentication_error"),
        (402, "billing_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
async def test_errors_have_the_type_of_their_status(
    client: Client, sim: Simulator, status: int, type_: str
) -> None:
    sim.script(KEY, Error(status, details={"error_code": "x"}))
    response = await client.message()
    body = response.json()
    assert (response.status, body["error"]["type"]) == (status, type_)
    assert body["error"]["details"] == {"error_code": "x"}


async def test_an_edge_answers_in_html(client: Client, sim: Simulator) -> None:
    sim.script(KEY, Error(502, html=True))
    response = await client.message()
    assert response.header("content-type").startswith("text/html") and b"<html>" in response.body


async def test_each_429_has_its_headers(client: Client, sim: Simulator) -> None:
    sim.script(
        KEY, quota_429(120, window="7d"), model_429("7d_oi"), api_key_429(30), bare_429(), throttle_429()
    )
    quota, model, key, bare, throttle = [await client.message() for _ in range(5)]
    unified = "anthropic-ratelimit-unified-"
    assert (quota.header(unified + "7d-status"), quota.header(unified + "5h-status")) == (
        "rejected",
        "allowed",
    )
    assert quota.header(unified + "reset") == str(int(sim.clock.now()) + 120)
    assert quota.header("retry-after") == "120"
    statuses = [model.header(f"{unified}{window}-status") for window in ("5h", "7d", "7d_oi")]
    assert statuses == ["allowed", "allowed", "rejected"]
    assert (key.header("anthropic-ratelimit-tokens-remaining"), key.header("retry-after")) == ("0", "30")
    assert bare.header("retry-after") is None and bare.header("x-should-retry") is None
    assert throttle.header("x-should-retry") == "true"
    assert not any("ratelimit" in name.lower() for name, _ in (*bare.headers, *throttle.headers))


@pytest.mark.parametrize(("fault", "read"), [(Reset(), True), (ResetEarly(), False)])
async def test_a_reset_comes_after_or_before_the_body(
    sim: Simulator, fault: Reset | ResetEarly, read: bool
) -> None:
    sim.script(KEY, fault)
    with pytest.raises(ConnectionResetError):
        async with asking(sim, BODY, *([] if read else [("content-length", "10000000")])) as reader:
            await reader.read(-1)
    entry = sim.ledger[0]
    assert (entry.body_read, entry.status, entry.finished) == (read, None, False)
    assert entry.closed_by_peer_at is None and sim.open_requests == 0


async def test_silence_lasts_until_the_peer_goes(sim: Simulator) -> None:
    sim.script(KEY, Silence())
    async with asking(sim):
        await sim.ledger.wait(lambda ledger: len(ledger) and ledger[0].body_read)
        assert sim.open_requests == 1
    await sim.ledger.wait(lambda ledger: ledger[0].closed_by_peer_at is not None)
    assert sim.open_requests == 0 and not sim.ledger[0].finished


async def test_a_peer_that_goes_amid_its_body_is_noticed(sim: Simulator) -> None:
    async with asking(sim, b"{", ("content-length", "100")):
        await sim.ledger.wait(len)
    await sim.ledger.wait(lambda ledger: ledger[0].closed_by_peer_at is not None)
    assert not sim.ledger[0].body_read and sim.open_requests == 0


async def test_a_cut_stream_ends_without_its_last_chunk(sim: Simulator) -> None:
    sim.script(KEY, Cut(after_events=3))
    received = await everything(sim)
    assert received.count(b"event: ") == 3 and not received.endswith(b"0\r\n\r\n")
    assert sim.ledger[0].events_sent == 3 and not sim.ledger[0].finished


async def test_a_stream_is_cut_at_the_very_byte(sim: Simulator) -> None:
    sim.script(KEY, Cut(after_bytes=20))
    received = await everything(sim)
    assert received.endswith(b"14\r\nevent: message_start\r\n") and sim.ledger[0].bytes_sent == 20


async def test_a_cut_json_answer_is_short_of_its_length(sim: Simulator) -> None:
    sim.script(KEY, Cut(after_bytes=5))
    head, _, body = (await everything(sim, b"{}")).partition(b"\r\n\r\n")
    assert body == b'{"typ' and b"Content-Length: 1" in head


async def test_an_error_inside_a_stream_ends_it(client: Client, sim: Simulator) -> None:
    sim.script(KEY, MidStreamError(after_events=4))
    stream = events(await client.message(more=STREAM))
    assert len(stream) == 5
    assert (stream[-1][0], stream[-1][1]["error"]["type"]) == ("error", "overloaded_error")


async def test_an_error_inside_a_gzipped_stream_can_be_read(client: Client, sim: Simulator) -> None:
    sim.script(KEY, MidStreamError(after_events=1))
    answer = await client.message(more=STREAM, x_simulate_encoding="gzip")
    assert gzip.decompress(answer.body).count(b"event: ") == 2


async def test_a_stalled_stream_stays_open(sim: Simulator) -> None:
    sim.script(KEY, Stall(after_events=2))
    async with asking(sim):
        await sim.ledger.wait(lambda ledger: len(ledger) and ledger[0].events_sent == 2)
        assert sim.open_requests == 1


async def test_a_flood_waits_for_its_reader(sim: Simulator) -> None:
    sim.script(KEY, Flood(100_000_000))
    async with asking(sim) as reader:
        await reader.read(1000)
        for _ in range(200):
            await asyncio.sleep(0)
        assert 0 < sim.ledger[0].bytes_sent < 20_000_000


async def test_a_flood_is_a_whole_stream(client: Client, sim: Simulator) -> None:
    sim.script(KEY, Flood(200_000))
    response = await client.message(more=STREAM)
    stream = events(response)
    assert stream[-1][0] == "message_stop"
    assert len(response.body) == sim.ledger[0].bytes_sent >= 200_000
    assert len(stream) == sim.ledger[0].events_sent


async def test_a_steady_stream_has_as_many_deltas_as_told(client: Client, sim: Simulator) -> None:
    sim.script(KEY, Steady(7, interval_s=0.5))
    names = [name for name, _ in events(await client.message(more=STREAM))]
    assert names.count("content_block_delta") == 7 and names[-1] == "message_stop"


async def test_raw_bytes_are_all_that_is_sent(sim: Simulator) -> None:
    sim.script(KEY, Raw(b"HTTP/1.1 999 Odd\r\n\r\n\x00"))
    assert await everything(sim) == b"HTTP/1.1 999 Odd\r\n\r\n\x00"


async def test_an_answer_is_sent_as_given(client: Client, sim: Simulator) -> None:
    sim.script(KEY, Answer(302, (("location", "http://x/"), ("x-two", "a"), ("x-two", "b")), b"moved"))
    response = await client.message()
    assert (response.status, response.body) == (302, b"moved")
    assert [value for name, value in response.headers if name.lower() == "x-two"] == ["a", "b"]


async def test_a_slow_answer_is_late(client: Client, sim: Simulator) -> None:
    sim.script(KEY, Slow(40, Error(500)))
    before = sim.clock.now()
    assert (await client.message()).status == 500
    assert sim.clock.now() == before + 40


async def test_a_true_answer_can_be_amended(client: Client, sim: Simulator) -> None:
    sim.script(KEY, Amend(set={"model": "other"}, remove=("usage",)))
    message = (await client.message()).json()
    assert message["model"] == "other" and "usage" not in message and message["content"]


@pytest.mark.parametrize(
    ("wish", "status", "header"),
    [
        ("529", 529, None),
        ("429; retry-after=5", 429, ("retry-after", "5")),
        ("quota-429; reset-in=9", 429, ("retry-after", "9")),
        ("model-429", 429, ("anthropic-ratelimit-unified-7d_oi-status", "rejected")),
        ("throttle-429", 429, ("x-should-retry", "true")),
        ("slow; seconds=1", 200, None),
        ("nonsense", 400, None),
        ("cut; after-events=many", 400, None),
    ],
)
async def test_a_header_asks_for_a_fault(
    client: Client, wish: str, status: int, header: tuple[str, str] | None
) -> None:
    response = await client.message(x_simulate=wish)
    assert response.status == status
    assert header is None or response.header(header[0]) == header[1]


async def test_a_wish_may_be_for_the_first_times_only(client: Client) -> None:
    codes = [(await client.message(x_simulate="529; times=2")).status for _ in range(6)]
    assert codes == [529, 529, 200, 529, 529, 200]


async def test_a_wish_may_be_about_one_organization(client: Client, sim: Simulator) -> None:
    sim.add_api_key("sk-ant-api03-other", organization="Other")
    wish = "529; organization=Other"
    assert (await client.message(x_simulate=wish)).status == 200
    assert (await client.message(x_simulate=wish, credential="sk-ant-api03-other")).status == 529


async def test_the_ledger_has_what_was_sent_and_answered(client: Client, sim: Simulator) -> None:
    response = await client.message("hi", x_one="1")
    await client.get("/v1/models?limit=1")
    entry, other = sim.ledger
    assert (entry.number, entry.method, entry.target) == (1, "POST", "/v1/messages")
    assert (entry.credential, entry.credential_headers, entry.organization) == (KEY, ("x-api-key",), "Acme")
    assert entry.header("x-one") == "1" and entry.json()["messages"][0]["content"] == "hi"
    assert (entry.status, entry.bytes_sent, entry.finished) == (200, len(response.body), True)
    assert entry.request_id == response.header("request-id")
    assert other.target == "/v1/models?limit=1" and other.path == "/v1/models"
    assert sim.ledger.inference() == [entry] and sim.ledger.for_credential(KEY) == [entry, other]


async def test_the_ledger_keeps_no_more_than_its_limit(make_client: Callable[..., Awaitable[Client]]) -> None:
    client = await make_client(ledger_limit=2)
    for _ in range(3):
        await client.get("/v1/models")
    assert [entry.number for entry in client.sim.ledger] == [2, 3]


async def test_a_condition_that_never_holds_times_out(sim: Simulator) -> None:
    with pytest.raises(TimeoutError):
        await sim.ledger.wait(len, timeout_s=0.01)


async def test_one_connection_serves_many_requests(sim: Simulator) -> None:
    async with connect(int(sim.base_url.rpartition(":")[2])) as socket:
        for _ in range(2):
            await (await socket.request("GET", "/v1/models", HEADERS)).read()
    assert {entry.connection for entry in sim.ledger} == {1}


async def test_stop_ends_what_is_still_open(sim: Simulator) -> None:
    sim.script(KEY, Silence())
    async with asking(sim) as reader:
        await sim.ledger.wait(lambda ledger: len(ledger) and ledger[0].body_read)
        await sim.stop()
        assert await reader.read(-1) == b"" and sim.open_requests == 0
