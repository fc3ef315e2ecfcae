"""Cables are cut and mended while three instances refresh one account: no token is used twice, and none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from proxy.errors import ProxyError
from tests.cable import Cable
from tests.instances import everywhere, instances
from tests.redis_server import RedisServer
from tests.service import Service, SteppedClock, until

ROUNDS = 8


async def refreshed(service: Service, account_id: str) -> None:
    with contextlib.suppress(ProxyError):
        await service.parts.refresher.refresh(account_id, forced=True)


async def settled(clock: SteppedClock, services: list[Service], account_id: str) -> None:
    """Let a second pass again and again, as the jobs do, until all instances have stored and heard everything."""
    async with asyncio.timeout(20):
        while len({service.parts.pool[account_id].credential for service in services}) > 1 or any(
            service.parts.pool.unsaved or service.parts.health.status() != "healthy" for service in services
        ):
            clock.advance(1)
            for service in services:
                await service.parts.pool.save_again()
                with contextlib.suppress(ProxyError):
                    await service.parts.pool.reread(account_id)
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_happens_to_their_cables(tmp_path: Path, redis_server: RedisServer, seed: int) -> None:
    rng, clock = random.Random(seed), SteppedClock()
    async with contextlib.AsyncExitStack() as plugged:
        cables = [Cable(redis_server, redis_server.path.with_name(f"{n}.sock")) for n in range(3)]
        for cable in cables:
            await plugged.enter_async_context(cable.plugged())
        running = instances(tmp_path, redis_server, 3, clock, urls=[cable.url for cable in cables])
        services = await plugged.enter_async_context(running)
        account, _ = await services[0].add_login("a")
        await everywhere(services, account.id)
        for _ in range(ROUNDS):
            clock.advance(3600)
            tasks = [asyncio.ensure_future(refreshed(service, account.id)) for service in services]
            for _ in range(rng.randrange(40)):
                await asyncio.sleep(0)
            for cable in rng.sample(cables, rng.randrange(3)):
                cable.cut()
            for _ in range(rng.randrange(200)):
                await asyncio.sleep(0)
            for cable in cables:
                cable.mend()
            await settled(clock, services, account.id)
            await asyncio.gather(*tasks)
            for service in services:
                await until(lambda service=service: service.status("a") == "active")
        used = [entry.json()["refresh_token"] for entry in services[0].simulator.ledger.token_calls()]
        assert len(used) >= ROUNDS / 2
        assert len(used) == len(set(used))
        answers = [await service.message() for service in services]
        assert {answer.status for answer in answers} == {200}
