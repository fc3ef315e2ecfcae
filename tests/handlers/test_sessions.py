"""The limit of each client's requests in flight, from the outside; and the admin's view of sessions.

Long: one limit, and all the ways in which a request may come, wait and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import handlers.connection
from proxy.simulator import Answer as Canned
from proxy.simulator import Cut as CutFault
from proxy.simulator import Error, Fault, Reset, Silence, Stall
from proxy.simulator import Raw as RawBytes
from tests.disk import full_disk
from tests.service import ADMIN_KEY, CLIENT_KEY, MESSAGE_HEADERS, Service, message, serve, until
from tests.wire import Answer, Cut, Wire, connect, request_bytes

OTHER_KEY = "cp-another-key-of-tests-9Lm3"
KEY = ("x-api-key", CLIENT_KEY)
POST = ("POST", "/v1/messages")

Headers = Iterable[tuple[str, str]]


def post(headers: Headers = (), body: bytes | None = None, *, key: str = CLIENT_KEY) -> bytes:
    """A message request as it goes on the wire."""
    return request_bytes(
        *POST, [("x-api-key", key), *MESSAGE_HEADERS, *headers], message() if body is None else body
    )


def agent(name: str) -> list[tuple[str, str]]:
    return [("User-Agent", name)]


def forwarded(*hops: str) -> list[tuple[str, str]]:
    return [("X-Forwarded-For", hop) for hop in hops]


async def sessions(service: Service) -> list[dict[str, Any]]:
    """As the admin sees them."""
    answer = await service.admin("GET", "/api/admin/sessions")
    assert answer.status == 200
    assert answer.json()["total"] == len(answer.json()["sessions"])
    return list(answer.json()["sessions"])


async def in_flight(service: Service) -> list[int]:
    return [session["in_flight"] for session in await sessions(service)]


@contextlib.asynccontextmanager
async def running(
    service: Service, count: int = 1, headers: Headers = (), *, key: str = CLIENT_KEY
) -> AsyncIterator[list[Wire]]:
    """Connections with a request each that the upstream has and does not answer."""
    service.simulator.script(None, *[Silence()] * count, path="/v1/messages")
    before = len(service.simulator.ledger.inference())
    async with contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connect(service.port)) for _ in range(count)]
        for wire in wires:
            await wire.send(post(headers, key=key))
        await service.simulator.ledger.wait(lambda ledger: len(ledger.inference()) == before + count)
        yield wires


@contextlib.asynccontextmanager
async def queued(folder: Path) -> AsyncIterator[tuple[Service, Wire, Wire]]:
    """Two requests: the first has the only place, and the second waits for it."""
    async with (
        serve(folder, session__max_concurrent="1", session__queue_timeout="60s") as service,
        running(service) as (first,),
        connect(service.port) as wire,
    ):
        await wire.send(post())
        await until(lambda: service.running == 2)
        yield service, first, wire


async def status(service: Service, headers: Headers = (), *, key: str = CLIENT_KEY) -> int:
    """What one more message request gets."""
    return (await service.send(*POST, [*MESSAGE_HEADERS, *headers], message(), key=key)).status


async def whole(wire: Wire) -> Answer:
    async with asyncio.timeout(5):
        answer = await wire.answer()
        await answer.read()
    return answer


async def other_key(service: Service) -> str:
    """The id of one more client key."""
    answer = await service.admin("POST", "/api/tokens", {"name": "other", "key": OTHER_KEY})
    return str(answer.json()["token"]["id"])


# ---- the limit


async def test_one_more_request_than_allowed_is_told_to_come_back(tmp_path: Path) -> None:
    async with serve(tmp_path, session__max_concurrent="3") as service, running(service, 3):
        answer = await service.message()
        assert (answer.status, answer.json()["error"]["type"]) == (429, "rate_limit_error")
        assert (answer.header("retry-after"), answer.header("x-should-retry")) == ("1", None)
        assert len(service.simulator.ledger.inference()) == 3


@pytest.mark.parametrize("path", ["/v1/complete", "/v1/chat/completions"])
async def test_older_and_foreign_shapes_of_inference_are_limited_too(tmp_path: Path, path: str) -> None:
    async with serve(tmp_path, session__max_concurrent="1") as service, running(service):
        answer = await service.send("POST", path, MESSAGE_HEADERS, message())
        assert (answer.status, answer.json()["error"]["type"]) == (429, "rate_limit_error")
        assert len(service.simulator.ledger) == 1


async def test_it_is_told_before_its_body_is_read(tmp_path: Path) -> None:
    async with (
        serve(tmp_path, session__max_concurrent="1") as service,
        running(service),
        connect(service.port) as wire,
    ):
        await wire.send(request_bytes(*POST, [KEY, ("Content-Length", "1000")]))
        assert (await whole(wire)).status == 429


async def test_it_is_told_instead_of_a_100_continue(tmp_path: Path) -> None:
    async with (
        serve(tmp_path, session__max_concurrent="1") as service,
        running(service),
        connect(service.port) as wire,
    ):
        await wire.send(request_bytes(*POST, [KEY, ("Content-Length", "9"), ("Expect", "100-continue")]))
        async with asyncio.timeout(5):
            assert (await wire.reader.read()).startswith(b"HTTP/1.1 429 ")


async def test_a_client_that_sends_on_after_its_429_gets_one_whole_answer(tmp_path: Path) -> None:
    async with (
        serve(tmp_path, session__max_concurrent="1") as service,
        running(service),
        connect(service.port) as wire,
    ):
        await wire.send(post(body=b"x" * 3_000_000))
        answer = await whole(wire)
        assert (answer.status, answer.header("connection")) == (429, "close")
        async with asyncio.timeout(5):
            assert await wire.reader.read() == b""


async def test_what_is_no_inference_is_not_limited(tmp_path: Path) -> None:
    async with serve(tmp_path, session__max_concurrent="1") as service, running(service):
        count = json.dumps({"model": "claude-sonnet-5-5", "messages": [{"role": "user", "content": "x"}]})
        answers = await asyncio.gather(
            *(
                service.send("POST", "/v1/messages/count_tokens", MESSAGE_HEADERS, count.encode())
                for _ in range(10)
            ),
            *(service.send("GET", "/v1/models", MESSAGE_HEADERS) for _ in range(10)),
            *(service.send("GET", "/v1/files", MESSAGE_HEADERS) for _ in range(10)),
            *(service.send("GET", "/v1/messages/batches", MESSAGE_HEADERS) for _ in range(10)),
        )
        assert {answer.status for answer in answers} == {200}


async def test_where_sessions_are_off_nothing_is_limited_but_shown(tmp_path: Path) -> None:
    async with (
        serve(tmp_path, session__max_concurrent="1", session__enabled="false") as service,
        running(service, 5),
    ):
        assert await status(service) == 200
        await until(lambda: service.running == 5)
        assert await in_flight(service) == [5]


# ---- who is one client


async def test_another_user_agent_is_another_client(tmp_path: Path) -> None:
    async with serve(tmp_path, session__max_concurrent="1") as service, running(service, 1, agent("a")):
        assert [await status(service, agent(name)) for name in ("a", "b")] == [429, 200]


async def test_another_key_is_another_client(tmp_path: Path) -> None:
    async with serve(tmp_path, session__max_concurrent="1") as service, running(service):
        await other_key(service)
        assert await status(service, key=OTHER_KEY) == 200


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (forwarded("1.2.3.4"), forwarded("1.2.3.4"), True),
        (forwarded("1.2.3.4"), forwarded("1.2.3.5"), False),
        (forwarded("6.6.6.6, 1.2.3.4"), forwarded("7.7.7.7, 1.2.3.4"), True),
        (forwarded("6.6.6.6", "1.2.3.4"), forwarded("1.2.3.4"), True),
        (forwarded("1.2.3.4, 10.0.0.7"), forwarded("1.2.3.4"), True),
        (forwarded("2001:db8::1"), forwarded("2001:db8::ffff:1"), True),
        (forwarded("2001:db8:0:1::1"), forwarded("2001:db8:0:2::1"), False),
        (forwarded("::ffff:1.2.3.4"), forwarded("1.2.3.4"), True),
        (forwarded(), forwarded("nonsense"), True),
    ],
)
async def test_one_client_is_who_a_trusted_proxy_says(
    tmp_path: Path, one: Headers, two: Headers, same: bool
) -> None:
    trusted = "127.0.0.1/32,10.0.0.0/8"
    async with (
        serve(tmp_path, session__max_concurrent="1", server__trusted_proxies=trusted) as service,
        running(service, 1, one),
    ):
        assert await status(service, two) == (429 if same else 200)


async def test_without_trusted_proxies_nobody_is_believed(tmp_path: Path) -> None:
    async with (
        serve(tmp_path, session__max_concurrent="1") as service,
        running(service, 1, forwarded("1.2.3.4")),
    ):
        assert await status(service, forwarded("5.6.7.8")) == 429
        assert [session["ip"] for session in await sessions(service)] == ["127.0.0.1"]


# ---- the queue


async def test_who_waits_is_served_when_a_place_becomes_free(tmp_path: Path) -> None:
    async with queued(tmp_path) as (service, first, wire):
        assert len(service.simulator.ledger) == 1
        first.reset()
        assert (await whole(wire)).status == 200


async def test_who_waits_longest_is_served_first(tmp_path: Path) -> None:
    async with (
        serve(tmp_path, session__max_concurrent="1", session__queue_timeout="60s") as service,
        running(service) as (first,),
        contextlib.AsyncExitStack() as stack,
    ):
        wires = [await stack.enter_async_context(connect(service.port)) for _ in range(10)]
        for number, wire in enumerate(wires, 1):
            await wire.send(post([("x-number", str(number))]))
            await until(lambda number=number: service.running == number + 1)
        first.reset()
        answers = await asyncio.gather(*map(whole, wires))
        assert {answer.status for answer in answers} == {200}
        numbers = [entry.header("x-number") for entry in service.simulator.ledger]
        assert numbers == [None, *map(str, range(1, 11))]


async def test_who_waits_too_long_is_told_to_come_back(tmp_path: Path) -> None:
    async with (
        serve(tmp_path, session__max_concurrent="1", session__queue_timeout="30ms") as service,
        running(service),
    ):
        assert await status(service) == 429
        assert await in_flight(service) == [1]


async def test_who_leaves_the_queue_takes_no_place_with_it(tmp_path: Path) -> None:
    async with (
        serve(tmp_path, session__max_concurrent="1", session__queue_timeout="60s") as service,
        running(service) as (first,),
        connect(service.port) as gone,
        connect(service.port) as wire,
    ):
        await gone.send(request_bytes(*POST, [KEY, *MESSAGE_HEADERS, ("Content-Length", "1000")]))
        await until(lambda: service.running == 2)
        await wire.send(post())
        await until(lambda: service.running == 3)
        gone.reset()
        first.reset()
        assert (await whole(wire)).status == 200
        await until(lambda: service.running == 0)
        assert await in_flight(service) == [0]


@pytest.mark.parametrize("going", [Wire.reset, lambda wire: wire.writer.close()], ids=["reset", "close"])
async def test_who_left_the_queue_is_never_sent_upstream(
    tmp_path: Path, going: Callable[[Wire], None]
) -> None:
    async with queued(tmp_path) as (service, first, gone):
        going(gone)
        first.reset()
        await until(lambda: service.running == 0)
        assert len(service.simulator.ledger) == 1


@pytest.mark.parametrize("size", [0, 300_000], ids=["no body", "more than is held"])
@pytest.mark.parametrize("going", [Wire.reset, lambda wire: wire.writer.close()], ids=["reset", "close"])
async def test_who_leaves_the_queue_gives_up_its_turn_at_once(
    tmp_path: Path, going: Callable[[Wire], None], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers.connection, "LOOK_S", 0.02)
    async with queued(tmp_path) as (service, _, _), connect(service.port) as gone:
        await gone.send(post(body=b"x" * size))
        await until(lambda: service.running == 3)
        going(gone)
        await until(lambda: service.running == 2)
        assert await in_flight(service) == [2]


async def test_hundreds_who_wait_are_all_served_never_too_many_at_once(tmp_path: Path) -> None:
    async with serve(tmp_path, session__max_concurrent="3", session__queue_timeout="60s") as service:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, service.simulator.open_requests)
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        answers = await asyncio.gather(*(service.message() for _ in range(100)))
        watching.cancel()
        assert {answer.status for answer in answers} == {200}
        assert 1 <= most <= 3
        await until(lambda: service.running == 0)
        assert await in_flight(service) == [0]


# ---- however a request ends, its place is free

ENDS: dict[str, tuple[bytes, Fault | None]] = {
    "an answer": (post(), None),
    "a stream": (post(body=message(stream=True)), None),
    "an error of the upstream": (post(), Error(400)),
    "an overload that stays": (post(), Error(529)),
    "no connection": (post(), Reset()),
    "a cut answer": (post(), CutFault()),
    "a cut stream": (post(body=message(stream=True)), CutFault()),
    "nonsense for an answer": (post(), RawBytes(b"nonsense\r\n\r\n")),
    "an answer without a body": (post(), Canned(204)),
    "no JSON": (post(body=b"{"), None),
    "no body": (post(body=b""), None),
    "too large": (post([("Content-Length", "100001")], b"x" * 100_001), None),
    "too large, as it grows": (
        request_bytes(*POST, [KEY, ("Transfer-Encoding", "chunked")])
        + b"186a1\r\n%b\r\n0\r\n\r\n" % (b"x" * 100_001),
        None,
    ),
    "chunks that are none": (
        request_bytes(*POST, [KEY, ("Transfer-Encoding", "chunked")]) + b"nonsense\r\n",
        None,
    ),
    "a malformed host": (request_bytes(*POST, [KEY, ("Host", "a b")], message()), None),
    "a path that may not pass": (request_bytes("POST", "/v1/messages/../x", [KEY], message()), None),
}


@pytest.mark.parametrize("end", ENDS)
async def test_however_a_request_ends_its_place_is_free(tmp_path: Path, end: str) -> None:
    request, fault = ENDS[end]
    options = {"session__max_concurrent": "1", "server__max_body_size": "100000", "retry__max_attempts": "2"}
    async with serve(tmp_path, **options) as service:
        for _ in range(2):
            if fault is not None:
                service.simulator.script(None, fault, fault)
            async with connect(service.port) as wire:
                await wire.send(request)
                with contextlib.suppress(Cut):
                    assert (await whole(wire)).status != 429
            await until(lambda: service.running == 0)
            assert await in_flight(service) in ([0], [])
        service.simulator.calm()
        assert await status(service) == 200


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (post(), Silence()),
        (post(body=message(stream=True)), Stall()),
        (post()[:-5], None),
        (request_bytes(*POST, [KEY, ("Content-Length", "9")]), None),
        (request_bytes(*POST, [KEY, ("Transfer-Encoding", "chunked")]) + b"5\r\n123", None),
    ],
    ids=["before the head", "inside a stream", "inside its body", "before its body", "inside a chunk"],
)
async def test_the_place_of_a_client_that_leaves_is_free(
    tmp_path: Path, sent: bytes, fault: Fault | None
) -> None:
    async with serve(tmp_path, session__max_concurrent="1") as service:
        if fault is not None:
            service.simulator.script(None, fault)
        async with connect(service.port) as wire:
            await wire.send(sent)
            await until(lambda: len(service.parts.sessions) == 1)
            if fault is not None:
                await service.simulator.ledger.wait(lambda ledger: ledger and ledger[0].body_read)
            assert await in_flight(service) == [1]
            wire.reset()
            await until(lambda: service.running == 0)
        assert await in_flight(service) == [0]
        assert await status(service) == 200


async def test_a_refused_request_holds_no_place_while_its_body_still_comes(tmp_path: Path) -> None:
    options = {"session__max_concurrent": "1", "server__max_body_size": "1000"}
    async with serve(tmp_path, **options) as service, connect(service.port) as wire:
        await wire.send(request_bytes(*POST, [KEY, ("Transfer-Encoding", "chunked")]))
        await wire.send(b"3e9\r\n%b\r\n" % (b"x" * 1001))
        assert (await whole(wire)).status == 413
        assert await status(service) == 200


# ---- the admin's view


async def test_sessions_are_listed_with_what_they_do(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, running(service, 2, agent("curl/8")):
        await service.send("GET", "/v1/models", agent("curl/8"))
        await until(lambda: service.running == 2)
        (session,) = await sessions(service)
        assert session.pop("id").startswith("ses_")
        assert session.pop("token_id").startswith("tok_")
        assert session.pop("account_id").startswith("acc_")
        assert session.pop("instance", "ins_").startswith("ins_")  # if several share a store
        assert session == {
            "ip": "127.0.0.1",
            "user_agent": "curl/8",
            "requests": 3,
            "in_flight": 2,
            "created_at": "2027-01-15T08:00:00.000Z",
            "last_seen_at": "2027-01-15T08:00:00.000Z",
            "expires_at": None,
        }


async def test_who_was_not_let_in_has_no_session(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert await status(service, key="cp-nobody-knows-this-key") == 401
        assert await sessions(service) == []


async def test_sessions_end_by_themselves(tmp_path: Path) -> None:
    async with serve(tmp_path, session__cleanup_interval="10ms") as service:
        await status(service, agent("a"))
        service.clock.advance(200)
        await status(service, agent("b"))
        service.clock.advance(100)
        await until(lambda: len(service.parts.sessions) == 1)
        assert [session["user_agent"] for session in await sessions(service)] == ["b"]


async def test_sessions_survive_a_restart_without_what_was_in_flight(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await status(service, agent("a"))
        async with running(service, 2, agent("a")):
            before = await sessions(service)
    async with serve(tmp_path, accounts=()) as service:
        (after,) = await sessions(service)
        same = {"id", "token_id", "ip", "user_agent", "requests", "created_at"}
        assert {name: after[name] for name in same} == {name: before[0][name] for name in same}
        assert (before[0]["in_flight"], after["in_flight"]) == (2, 0)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_one_session_can_only_be_ended(tmp_path: Path, method: str) -> None:
    async with serve(tmp_path) as service:
        await status(service)
        (session,) = await sessions(service)
        answer = await service.admin(method, f"/api/sessions/{session['id']}", {})
        assert (answer.status, answer.header("allow")) == (405, "DELETE")


@pytest.mark.parametrize("id", ["ses_0000000000000000", "tok_1", "%2e%2e", "%00", "x" * 2000])
async def test_an_unknown_session_is_not_found(tmp_path: Path, id: str) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("DELETE", f"/api/sessions/{id}")
        assert (answer.status, answer.json()["error"]["type"]) == (404, "not_found_error")
        assert len(answer.body) < 300


# ---- ended by an admin


async def end_session(service: Service, user_agent: str = "") -> None:
    (session,) = [each for each in await sessions(service) if each["user_agent"] == user_agent]
    answer = await service.admin("DELETE", f"/api/sessions/{session['id']}")
    assert (answer.status, answer.json()["session"]["id"]) == (200, session["id"])


async def told_and_cut(answer: Answer) -> bool:
    """Whether the answer ends with an error event, and not cleanly."""
    try:
        async with asyncio.timeout(5):
            await answer.read()
    except Cut:
        name, data = answer.body.rstrip(b"\n").rsplit(b"\n", 2)[-2:]
        return (name, json.loads(data[6:])["error"]["type"]) == (b"event: error", "api_error")
    return False


async def test_an_ended_session_is_gone_and_its_streams_are_told_and_cut(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        service.simulator.script(None, Stall())
        await wire.send(post(body=message(stream=True)))
        answer = await wire.answer()
        await service.simulator.ledger.wait(lambda ledger: ledger[0].events_sent == 3)
        await end_session(service)
        assert await told_and_cut(answer)
        assert b"an admin ended this session" in answer.body
        assert await sessions(service) == []
        await until(lambda: service.running == service.transfers == 0)
        await service.simulator.ledger.wait(lambda ledger: ledger[0].closed_by_peer_at is not None)


async def test_a_request_that_has_no_answer_yet_is_told_in_one(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, running(service) as (wire,):
        await end_session(service)
        answer = await whole(wire)
        assert (answer.status, answer.json()["error"]["type"]) == (503, "api_error")
        assert "an admin ended this session" in answer.json()["error"]["message"]
        await until(lambda: service.running == service.transfers == 0)


async def test_a_request_whose_body_still_comes_is_told(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(post()[:-5])
        await until(lambda: len(service.parts.sessions) == 1)
        await end_session(service)
        assert (await whole(wire)).status == 503
        await wire.send(post()[-5:])
        await until(lambda: service.running == 0)
        assert len(service.simulator.ledger) == 0


async def test_a_request_that_waits_is_told_and_never_sent(tmp_path: Path) -> None:
    async with queued(tmp_path) as (service, first, wire):
        await end_session(service)
        assert {(await whole(first)).status, (await whole(wire)).status} == {503}
        await until(lambda: service.running == 0)
        assert len(service.simulator.ledger) == 1
        assert await status(service) == 200


async def test_a_request_that_is_about_to_begin_is_told_too(tmp_path: Path) -> None:
    """In the one turn of the loop between its last byte and its first step."""
    async with serve(tmp_path) as service, connect(service.port) as wire:
        table = service.parts.sessions
        await wire.send(request_bytes(*POST, [KEY]))
        await until(lambda: len(table) == 1)
        table.end(next(iter(table)).id)
        assert (await whole(wire)).status == 503
        await until(lambda: service.running == 0)


async def test_the_other_sessions_go_on(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, running(service, 1, agent("a")), running(service, 2, agent("b")):
        await end_session(service, "a")
        assert await in_flight(service) == [2]


async def test_a_client_whose_session_was_ended_may_come_again(tmp_path: Path) -> None:
    async with serve(tmp_path, session__max_concurrent="1") as service, running(service):
        await end_session(service)
        assert await status(service) == 200


# ---- ended with its key


@pytest.mark.parametrize(
    ("method", "change"),
    [("PUT", {"status": "revoked"}), ("PUT", {"status": "inactive"}), ("DELETE", None)],
)
async def test_a_key_that_stops_working_stops_its_streams(
    tmp_path: Path, method: str, change: dict[str, str] | None
) -> None:
    async with serve(tmp_path) as service, running(service), connect(service.port) as wire:
        id = await other_key(service)
        service.simulator.script(None, Stall())
        await wire.send(post(body=message(stream=True), key=OTHER_KEY))
        answer = await wire.answer()
        assert (await service.admin(method, f"/api/tokens/{id}", change)).status == 200
        assert await told_and_cut(answer)
        assert await in_flight(service) == [1]
        assert await status(service, key=OTHER_KEY) == 401


@pytest.mark.parametrize(("method", "change"), [("PUT", {"status": "revoked"}), ("DELETE", None)])
async def test_it_does_so_also_where_the_disk_does_not_take_it(
    tmp_path: Path, method: str, change: dict[str, str] | None
) -> None:
    async with serve(tmp_path) as service:
        id = await other_key(service)
        async with running(service, 1, key=OTHER_KEY) as (wire,):
            with full_disk():
                answer = await service.admin(method, f"/api/tokens/{id}", change)
            assert answer.status == 503
            assert (await whole(wire)).status == 503


async def test_a_change_that_leaves_a_key_active_leaves_its_requests_alone(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        id = await other_key(service)
        async with running(service, 1, key=OTHER_KEY):
            for change in ({"name": "new"}, {"status": "active"}, {"status": "none"}, {"role": "admin"}):
                await service.admin("PUT", f"/api/tokens/{id}", change)
            assert await in_flight(service) == [1]


async def test_only_admins_see_and_end_sessions(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await status(service)
        (session,) = await sessions(service)
        for method, path in (("GET", "/api/admin/sessions"), ("DELETE", f"/api/sessions/{session['id']}")):
            assert (await service.admin(method, path, key=CLIENT_KEY)).status == 403
            assert (await service.admin(method, path, key=ADMIN_KEY + "x")).status == 401
        assert len(await sessions(service)) == 1
