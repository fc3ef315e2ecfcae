"""More clients than places: who gives way, who stays, and what each is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from ipaddress import ip_network

import pytest

from handlers.client_socket import ClientSocket, Context
from handlers.places import TURNED_AWAY, Places
from tests.delegate import Recorder, Seen, listening
from tests.service import until
from tests.wire import Wire, connect, request_bytes

GET = request_bytes("GET", "/a")
MB = 1 << 20


class Guest(ClientSocket):
    """A client of whom only its address is known."""

    has_request = True

    def __init__(self, address: str) -> None:
        super().__init__()
        self.context = Context((address, 1))
        self.closed = False

    def answered(self, *, keep_alive: bool) -> None: ...

    def vouch(self) -> None: ...

    def detach(self) -> None: ...  # type: ignore[override]

    def abort(self, *, reset: bool = False) -> None:
        self.closed = True


def taken(places: Places, addresses: Iterable[str]) -> list[Guest]:
    """Guests that got a place, one for each address."""
    guests = [Guest(address) for address in addresses]
    assert [places.take(guest) for guest in guests] == [True] * len(guests)
    return guests


def closed(guests: list[Guest]) -> list[int]:
    return [number for number, guest in enumerate(guests) if guest.closed]


async def test_the_oldest_stranger_gives_way_to_who_comes_next() -> None:
    places = Places(8)
    guests = taken(places, [f"10.0.0.{n}" for n in range(12)])
    assert closed(guests) == [0, 1, 2, 3]


async def test_who_has_shown_a_key_gives_way_to_nobody() -> None:
    places = Places(8)
    guests = taken(places, [f"10.0.0.{n}" for n in range(4)])
    for guest in guests:
        places.vouch(guest)
    strangers = taken(places, [f"10.0.1.{n}" for n in range(200)])
    assert (closed(guests), closed(strangers)) == ([], list(range(196)))


async def test_where_all_have_shown_a_key_the_next_is_turned_away() -> None:
    places = Places(8)
    guests = taken(places, [f"10.0.0.{n}" for n in range(8)])
    for guest in guests:
        places.vouch(guest)
    assert not places.take(Guest("10.0.1.1"))
    places.leave(guests[3])
    assert places.take(Guest("10.0.1.1"))
    assert closed(guests) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["10.0.0.1"] * 9, "10.0.0.2"),
        ([f"2001:db8::{n:x}" for n in range(1, 10)], "2001:db8:0:1::1"),
        (["::ffff:10.0.0.1", *["10.0.0.1"] * 8], "::ffff:10.0.0.2"),
    ],
    ids=["IPv4", "an IPv6 /64", "IPv4 by IPv6"],
)
async def test_an_address_has_half_of_the_places_and_its_own_give_way(one: list[str], other: str) -> None:
    places = Places(8)
    first = taken(places, [other])
    guests = taken(places, one)
    assert (closed(first), closed(guests)) == ([], [0, 1, 2, 3, 4])
    for guest in guests[5:]:
        places.vouch(guest)
    assert not places.take(Guest(one[0]))  # with keys too
    assert closed(taken(places, [other] * 3)) == []


async def test_a_trusted_proxy_has_no_limit_of_an_address_and_gives_way_to_nobody() -> None:
    places = Places(8, [ip_network("10.0.0.0/8")])
    stranger = taken(places, ["192.0.2.1"])
    fronts = taken(places, ["10.0.0.1"] * 8)
    assert (closed(stranger), closed(fronts)) == ([0], [])
    assert not places.take(Guest("192.0.2.1"))


async def test_a_few_who_got_no_place_may_stay_to_read_so() -> None:
    places = Places(8)
    guests = [Guest("10.0.0.1") for _ in range(TURNED_AWAY + 2)]
    assert [places.turn_away(guest) for guest in guests] == [True] * TURNED_AWAY + [False] * 2
    places.leave(guests[0])
    assert places.turn_away(guests[-1])


async def test_what_is_left_leaves_nothing() -> None:
    places = Places(4)
    for _ in range(100):
        guests = taken(places, ["10.0.0.1", "10.0.0.2", "10.0.0.3"])
        places.vouch(guests[1])
        for guest in guests * 2:
            places.leave(guest)
        assert closed(guests) == []


# --- over the wire ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def narrow(monkeypatch: pytest.MonkeyPatch, front: Recorder) -> AsyncIterator[int]:
    """A server with eight places, four for each address."""
    monkeypatch.setattr("resource.getrlimit", lambda which: (20, 20))
    async with listening(front) as port:
        yield port


@contextlib.asynccontextmanager
async def come_from(address: str, port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ended(wire: Wire) -> bytes:
    async with asyncio.timeout(5):
        return await wire.reader.read()


@pytest.mark.parametrize("held", [b"", b"GET / HT", request_bytes("POST", "/", [("Content-Length", "9")])])
async def test_held_connections_of_strangers_take_no_place_from_others(
    monkeypatch: pytest.MonkeyPatch, held: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    front = Recorder()

    def key_shown(seen: Seen) -> None:
        if seen.start_line[0] == "GET":
            seen.connection.vouch()

    front.on_head = key_shown
    async with narrow(monkeypatch, front) as port, contextlib.AsyncExitStack() as stack:
        good = await stack.enter_async_context(connect(port))
        await good.send(GET)
        await (await good.answer()).read()
        wires = []
        for number in range(40):
            wires.append(await stack.enter_async_context(come_from(f"127.0.0.{2 + number % 4}", port)))
            await wires[-1].send(held)
        assert [await ended(wire) for wire in wires[:33]] == [b""] * 33
        async with connect(port) as wire:
            await wire.send(GET)
            assert (await wire.answer()).status == 200
        await good.send(GET)
        assert (await good.answer()).status == 200
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "connections run out" in line and "most=8" in line


async def test_a_connection_too_many_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    front = Recorder()
    front.on_head = lambda seen: seen.connection.vouch()
    async with narrow(monkeypatch, front) as port, contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connect(port)) for _ in range(4)]
        for wire in wires:
            await wire.send(GET)
            await (await wire.answer()).read()
        for _ in range(3):
            async with connect(port) as wire:
                answer = await wire.answer()
                assert (answer.status, answer.header("connection")) == (503, "close")
                assert answer.header("retry-after") == "1"
                await answer.read()
                assert await ended(wire) == b""
        for _ in range(3):  # and has time to read so, whatever it goes on to send
            async with connect(port) as wire:
                await wire.send(request_bytes("POST", "/", [("Content-Length", str(4 * MB))]))
                assert (await wire.answer()).status == 503
                await wire.send(bytes(4 * MB))
        wires[0].reset()
        await until(lambda: front.requests[0].connection.gone and front.requests[0].server.gone)
        async with connect(port) as wire:
            await wire.send(GET)
            assert (await wire.answer()).status == 200
