"""What instances do while their store is away, and when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.errors import StorageError
from proxy.simulator import Steady
from tests.cable import Cable
from tests.instances import everywhere, instances
from tests.process import RUN, environ, refusal, write_config
from tests.redis_server import RedisServer
from tests.service import Service, SteppedClock, until
from tests.wire import fetch


@contextlib.asynccontextmanager
async def cut_off(
    folder: Path, server: RedisServer, clock: SteppedClock, **options: str
) -> AsyncIterator[tuple[Service, Service, Cable]]:
    """Two instances, and the cable of the second."""
    async with Cable(server, server.path.with_name("cable.sock")).plugged() as cable:
        urls = [server.url, cable.url]
        async with instances(folder, server, 2, clock, urls=urls, **options) as (one, other):
            account, _ = await one.add_account("a")
            await everywhere([one, other], account.id)
            yield one, other, cable
            cable.mend()


@pytest.mark.parametrize(("how", "within"), [("cut", "5s"), ("hang", "500ms")])
async def test_who_is_cut_off_serves_on_says_so_and_takes_what_happened_meanwhile(
    tmp_path: Path, redis_server: RedisServer, how: str, within: str
) -> None:
    clock = SteppedClock()
    async with cut_off(tmp_path, redis_server, clock, storage__timeout=within) as (one, other, cable):
        getattr(cable, how)()
        for _ in range(3):
            await lost(other)
        assert (await other.message()).status == 200
        health = other.parts.health
        assert health.status() == "degraded"
        assert ["the shared store is away" in each for each in health.reasons()] == [True]
        account = next(iter(one.parts.pool))
        await one.parts.pool.update(account.id, name="renamed")
        added, _ = await one.add_account("b")
        with contextlib.suppress(StorageError):
            await other.parts.pool.update(account.id, proxy="http://proxy.example.com:3128")
        assert other.parts.pool[account.id].name == "a"
        cable.mend()
        await settled(clock, one, other)
        for service in (one, other):
            await until(lambda service=service: added.id in service.parts.pool)
            await until(lambda service=service: service.parts.pool[account.id].name == "renamed")
            await until(lambda service=service: service.parts.pool[account.id].proxy is not None)
        assert other.parts.health.status() == "healthy"


async def lost(service: Service) -> None:
    """One call that does not get through; the breaker counts it."""
    with contextlib.suppress(StorageError):
        await service.parts.pool.reread(next(iter(service.parts.pool)).id)


async def settled(clock: SteppedClock, *services: Service) -> None:
    """Let time pass until nothing is unsaved."""
    async with asyncio.timeout(10):
        for service in services:
            while service.parts.pool.unsaved or service.parts.health.status() != "healthy":
                clock.advance(1)
                await service.parts.pool.save_again()
                await lost(service)
                await asyncio.sleep(0)
    clock.advance(2)  # the next try to hear of changes


async def test_a_stream_goes_on_while_the_store_dies(tmp_path: Path, redis_server: RedisServer) -> None:
    clock = SteppedClock()
    async with instances(tmp_path, redis_server, 1, clock) as (service,):
        await service.add_account("a")
        service.simulator.script(None, Steady(events=5, interval_s=1))
        answer = asyncio.ensure_future(service.message(stream=True))
        await clock.asleep(1)
        redis_server.kill()
        while not answer.done():
            sleeps = asyncio.ensure_future(clock.asleep(1))
            await asyncio.wait([answer, sleeps], return_when=asyncio.FIRST_COMPLETED)
            sleeps.cancel()
            clock.advance(1)
        assert b"message_stop" in (await answer).body
        redis_server.start()
        clock.advance(10)


async def test_a_start_waits_for_the_store_and_answers_503_meanwhile(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.stop()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = write_config(tmp_path)
    variables = {"STORAGE__URL": redis_server.url, "SERVER__PORT": str(port), "STORAGE__TIMEOUT": "5s"}
    process = await asyncio.create_subprocess_exec(
        *RUN,
        "--config",
        str(config),
        env=environ(tmp_path, variables),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        async with asyncio.timeout(60):
            line = await process.stderr.readline()
            assert b"cannot start yet" in line and b"the shared store is away" in line
            answer = await fetch(port, "GET", "/health")
            assert answer.status == 503
            assert answer.json()["error"]["type"] == "api_error"
            redis_server.start()
            assert b"Claude Proxy" in await process.stdout.readline()
            assert (await fetch(port, "GET", "/health/ready")).status == 200
    finally:
        process.kill()
        await process.communicate()


def test_a_store_that_will_not_do_refuses_the_start(tmp_path: Path, redis_server: RedisServer) -> None:
    told = refusal(
        tmp_path,
        "--config",
        str(write_config(tmp_path)),
        STORAGE__URL=redis_server.url,
        STORAGE__TIMEOUT="5s",
        STORAGE__DURABILITY="aof",
    )
    assert "no append-only file" in told
