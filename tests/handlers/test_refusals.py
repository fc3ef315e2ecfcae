"""Every refusal on every route: it comes before the body, and one that closes the connection says so.

A proxy in front may share a connection among its clients: what is closed under it without a word is the next client's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.base import OPEN_BODY_BYTES
from proxy.clients.keys import Role
from proxy.simulator import Silence
from tests.routes import ROUTES
from tests.service import ADMIN_KEY, CLIENT_KEY, MESSAGE_HEADERS, Service, message, serve, until
from tests.wire import Answer, Cut, Wire, connect, request_bytes

LIMITED_KEY = "cp-a-limited-key-of-tests-8Rq1"
WRONG = ("x-api-key", "wrong-key-of-nobody-at-all")
RIGHT = ("x-api-key", CLIENT_KEY)
ADMIN = ("x-api-key", ADMIN_KEY)

OPEN = [("GET", "/"), ("GET", "/health"), ("POST", "/health"), ("HEAD", "/api/hello"), ("POST", "/nowhere")]
ADMIN_ROUTES = [route for route in ROUTES if route[1].startswith(("/api/", "/oauth/a", "/oauth/e"))]
ADMIN_ROUTES = [route for route in ADMIN_ROUTES if route[1] not in ("/api/hello", "/api/auth/login")]
V1 = [("POST", "/v1/messages"), ("GET", "/v1/models"), ("PUT", "/v1/files/x"), ("POST", "/v1/../admin")]

Head = tuple[str, str, tuple[tuple[str, str], ...]]
KEYS = [(), (WRONG,), (("Authorization", "Bearer nonsense"),), (("Cookie", "claude-proxy=nonsense"),)]

REFUSED: list[tuple[Head, set[int]]] = [
    *(((*route, keys), {400, 401, 403, 429}) for route, keys in product(ADMIN_ROUTES + V1, KEYS)),
    *(((*route, (RIGHT,)), {403}) for route in ADMIN_ROUTES),
    *(((*route, keys), {404, 405}) for route, keys in product(OPEN[4:], [*KEYS, (ADMIN,)])),
    (("POST", "/v1/../admin", (RIGHT,)), {400}),
    (("POST", "/v1/organizations", (RIGHT,)), {404}),
    (("POST", "/v1/messages", (("x-api-key", LIMITED_KEY), *MESSAGE_HEADERS)), {429}),
    (("POST", "/api/tokens", (ADMIN, ("Content-Length", "1048577"))), {413}),
    (("POST", "/api/auth/login", (("Content-Length", str(OPEN_BODY_BYTES + 1)),)), {413}),
    (("POST", "/v1/messages", (RIGHT, ("Content-Length", "100001"))), {413}),
]
BODIES = [
    ((("Content-Length", "10"),), b""),
    ((("Content-Length", "10"),), b"half "),
    ((("Content-Length", "10"),), b"whole body"),
    ((("Content-Length", "10"), ("Expect", "100-continue")), b""),
    ((("Transfer-Encoding", "chunked"),), b""),
    ((("Transfer-Encoding", "chunked"),), b"4\r\nbody\r\n"),
    ((("Transfer-Encoding", "chunked"),), b"4\r\nbody\r\n0\r\n\r\n"),
    ((), b""),
]
MALFORMED = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /" + b"a" * 40_000,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000,
    b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST /api/tokens HTTP/1.1\r\nHost: a\r\nX-API-Key: %b\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    % ADMIN_KEY.encode(),
]


@contextlib.asynccontextmanager
async def refusing(folder: Path) -> AsyncIterator[Service]:
    """A proxy whose limits are reached."""
    async with serve(folder, server__max_body_size="100000") as service, connect(service.port) as busy:
        limits = {"limits": {"concurrent_requests": 1}}
        new = {"name": "limited", "key": LIMITED_KEY} | limits
        assert (await service.admin("POST", "/api/tokens", new)).status == 201
        service.simulator.script(None, Silence())
        key = ("x-api-key", LIMITED_KEY)
        await busy.send(request_bytes("POST", "/v1/messages", [key, *MESSAGE_HEADERS], message()))
        await service.simulator.ledger.wait(len)
        yield service


async def answered(wire: Wire, *, head: bool = False) -> Answer:
    async with asyncio.timeout(5):
        answer = await wire.answer(head=head)
        await answer.read()
        return answer


async def check_end(wire: Wire, answer: Answer) -> None:
    """It is closed if it says so; else the next request is answered, and not what was sent before."""
    if answer.header("connection") == "close":
        async with asyncio.timeout(5):
            assert await wire.reader.read() == b""
    else:
        await wire.send(request_bytes("GET", "/health"))
        assert (await answered(wire)).json().keys() >= {"status", "version"}


def head_of(request: Head, framing: tuple[tuple[str, str], ...]) -> bytes:
    method, path, headers = request
    names = {name for name, _ in headers}
    own = [line for line in framing if "Content-Length" not in names or line[0] == "Expect"]
    return request_bytes(method, path, [*headers, *own])


async def check_refusal(service: Service, number: int, framing: int) -> None:
    (request, statuses), (lines, body) = REFUSED[number], BODIES[framing]
    service.clock.advance(60)  # a wrong key is remembered for so long
    async with connect(service.port) as wire:
        await wire.send(head_of(request, lines) + body)
        answer = await answered(wire, head=request[0] == "HEAD")
        assert answer.status in statuses, (request, lines, answer)
        whole = body == b"whole body" or not lines
        if not whole:
            assert answer.header("connection") == "close", (request, lines)
        await check_end(wire, answer)


async def test_a_refusal_that_closes_says_so_on_every_route(tmp_path: Path) -> None:
    async with refusing(tmp_path) as service:
        for number in range(len(REFUSED)):
            for framing in (0, 2, 5) if number % 4 else range(len(BODIES)):
                if REFUSED[number][1] != {413} or framing == 0:
                    await check_refusal(service, number, framing)


async def test_a_malformed_request_that_closes_says_so(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for data in MALFORMED:
            async with connect(service.port) as wire:
                await wire.send(data)
                answer = await answered(wire)
                assert answer.status in (400, 414, 431)
                assert answer.header("connection") == "close"
                await check_end(wire, answer)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from([r for r, statuses in REFUSED if statuses != {413}]), st.sampled_from(BODIES)
        ),
        min_size=1,
        max_size=6,
    ),
    cuts=st.lists(st.integers(1, 400), max_size=4),
)
def test_no_refusal_of_several_on_a_connection_is_for_another_request(
    tmp_path_factory: pytest.TempPathFactory,
    requests: list[tuple[Head, tuple[tuple[tuple[str, str], ...], bytes]]],
    cuts: list[int],
) -> None:
    """As a proxy in front does it: the next request is sent when the one before is answered and nothing says close."""

    async def run() -> None:
        async with (
            refusing(tmp_path_factory.mktemp("proxy")) as service,
            contextlib.AsyncExitStack() as stack,
        ):
            wire = await stack.enter_async_context(connect(service.port))
            for request, (lines, body) in requests:
                service.clock.advance(60)
                data, at = head_of(request, lines) + body, 0
                for cut in sorted(cuts):
                    await wire.send(data[at:cut])
                    await asyncio.sleep(0)
                    at = max(at, cut)
                await wire.send(data[at:])
                answer = await answered(wire, head=request[0] == "HEAD")
                assert 400 <= answer.status < 500
                if answer.header("connection") == "close":
                    await check_end(wire, answer)
                    wire = await stack.enter_async_context(connect(service.port))
            await wire.send(request_bytes("GET", "/health"))
            assert (await answered(wire)).json()["status"] == "healthy"

    asyncio.run(run())


# ---- what is read before a caller is known


@pytest.mark.parametrize("framing", [("Content-Length", "10"), ("Transfer-Encoding", "chunked")])
async def test_an_admin_gets_as_long_as_anyone_to_send_a_body(
    tmp_path: Path, framing: tuple[str, str]
) -> None:
    async with serve(tmp_path) as service:
        _, admin = await service.parts.keys.add("admin", role=Role.ADMIN)
        for key in (ADMIN_KEY, admin):
            async with connect(service.port) as wire:
                body = b'{"name": 1}' if framing[0] != "Content-Length" else b'{"name":1}'
                coded = (
                    body if framing[0] == "Content-Length" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
                )
                await wire.send(request_bytes("POST", "/api/tokens", [("x-api-key", key), framing]))
                for byte in coded:
                    await wire.send(bytes([byte]))
                    await asyncio.sleep(0)
                answer = await answered(wire)
                assert (answer.status, "name" in answer.json()["error"]["message"]) == (422, True)


async def test_who_leaves_inside_a_body_leaves_nothing(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        cookie = await service.login()
        for method, path in ROUTES:
            before = len(asyncio.all_tasks())
            async with connect(service.port) as wire:
                headers = [ADMIN, ("Content-Length", "10"), ("Cookie", cookie), ("Upgrade", "websocket")]
                await wire.send(request_bytes(method, path, headers))
                await until(lambda before=before: len(asyncio.all_tasks()) > before)
            await until(lambda before=before: len(asyncio.all_tasks()) <= before)


async def test_a_login_is_no_larger_than_a_key_needs_it(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        lines = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")]
        await wire.send(request_bytes("POST", "/api/auth/login", lines))
        with contextlib.suppress(Cut, ConnectionError):
            await wire.send(b"%x\r\n" % 5000 + b"x" * 5000)
        assert (await answered(wire)).status == 413
