"""The way to Redis: order, time-outs, scripts and what happens while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from tornado.ioloop import IOLoop

from proxy.errors import StorageError, StoreAway
from proxy.storage.address import StoreAddress
from proxy.storage.redis import RedisLink, script
from tests.redis_server import RedisServer, redis_process
from tests.service import TestClock

Connect = Callable[..., RedisLink]


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def connect(redis_server: RedisServer, clock: TestClock, io_loop: IOLoop) -> Iterator[Connect]:
    """A link to the worker's server or another one, closed at the end of the test."""
    links: list[RedisLink] = []

    def to(url: str = redis_server.url, timeout_s: float = 5.0) -> RedisLink:
        links.append(RedisLink(StoreAddress.read(url), clock=clock, timeout_s=timeout_s))
        return links[-1]

    yield to
    for link in links:
        io_loop.run_sync(link.close)


async def test_calls_take_effect_in_their_order_whoever_waits_first(connect: Connect) -> None:
    link = connect()
    calls = [link.call("RPUSH", "list", n) for n in range(100)]
    await asyncio.gather(*reversed(calls))
    assert await link.call("LRANGE", "list", 0, -1) == [b"%d" % n for n in range(100)]


async def test_a_cancelled_caller_does_not_take_its_call_back(connect: Connect) -> None:
    link = connect()
    call = link.call("SET", "a", 1)
    call.cancel()
    assert await link.call("GET", "a") == b"1"


async def test_a_script_runs_also_if_the_server_has_forgotten_it(
    connect: Connect, redis_server: RedisServer
) -> None:
    link = connect()
    keys = [link.key(name) for name in ("accounts", "changes", "generation", "gone", "fences")]
    for n in range(2):
        assert await link.run("put", keys, ["accounts", "a", n, "{}", "ins", "", 100]) == [b"done", n + 1]
        redis_server.call("SCRIPT", "FLUSH")


async def test_what_the_server_refuses_is_no_sign_that_it_is_away(connect: Connect) -> None:
    link = connect()
    for _ in range(5):
        with pytest.raises(StorageError, match="unknown command") as told:
            await link.call("NONSENSE")
        assert not isinstance(told.value, StoreAway)
    assert link.away is None


async def test_a_server_that_hangs_is_away_after_three_calls_and_asked_once_a_second(
    connect: Connect, redis_server: RedisServer, clock: TestClock
) -> None:
    link = connect(timeout_s=0.05)
    redis_server.pause()
    for _ in range(3):
        with pytest.raises(StoreAway, match="not answered within 50 ms"):
            await link.call("PING")
    assert link.away is not None
    call = link.call("PING")
    assert call.done()  # it fails at once
    with suppress(StoreAway):
        await call
    redis_server.resume()
    clock.advance(1.0)
    link.timeout_s = 5.0
    assert await link.call("PING") == b"PONG"
    assert link.away is None


async def test_a_process_that_was_busy_itself_does_not_take_the_store_for_away(connect: Connect) -> None:
    link = connect(timeout_s=0.05)
    await link.call("PING")
    call = link.call("PING")
    for _ in range(2):
        await asyncio.sleep(0)  # it is sent
    busy = asyncio.get_running_loop().time() + 0.1
    while asyncio.get_running_loop().time() < busy:
        pass
    assert await call == b"PONG"


async def test_all_who_wait_are_told_when_the_server_dies_and_the_next_call_finds_the_new_one(
    connect: Connect, redis_server: RedisServer
) -> None:
    link = connect()
    await link.call("PING")
    redis_server.pause()
    calls = [link.call("INCR", "n") for _ in range(10)]
    await asyncio.sleep(0)
    redis_server.kill()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in outcomes} == {StoreAway}
    redis_server.start()
    assert await link.call("PING") == b"PONG"


async def test_a_password_is_sent_and_never_told(connect: Connect, clock: TestClock) -> None:
    with redis_process("--requirepass", "pass-Of/tests", "--loglevel", "notice") as server:
        at = str(server.path)
        with pytest.raises(StoreAway) as told:
            await connect(f"unix://:wrong-pass@{at}").call("PING")
        assert "wrong-pass" not in str(told.value)
        assert await connect(f"unix://:pass-Of%2Ftests@{at}").call("PING") == b"PONG"


def test_a_script_is_known_by_its_text() -> None:
    assert len(script("put").sha1) == 40


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://store", "redis://store:6379/0"),
        ("redis://me:secret@store:7000/3", "redis://store:7000/3"),
        ("rediss://:s%2Fe@[fd00::1]:7000", "rediss://[fd00::1]:7000/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis+sentinel://:secret@a,b:27000,c/pool", "redis+sentinel://a:26379,b:27000,c:26379/pool"),
    ],
)
def test_an_address_is_read_and_shown_without_its_password(url: str, shown: str) -> None:
    assert str(StoreAddress.read(url)) == shown
    assert "secret" not in repr(StoreAddress.read(url))


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "http://store",
        "redis://secret@store",
        "redis://a,b",
        "redis+sentinel://a,b",
        "redis://a:70000",
    ],
)
def test_an_address_that_will_not_do_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="redis://") as told:
        StoreAddress.read(url)
    assert "store" not in str(told.value)


def test_the_parts_of_a_login_are_decoded() -> None:
    at = StoreAddress.read("redis://m%40e:s%2Fe%3Ac@store")
    assert (at.user, at.password) == ("m@e", "s/e:c")
