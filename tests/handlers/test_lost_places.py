"""What instances tell a store that took their places for free, or that took another one's place."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from proxy.errors import StorageError
from proxy.simulator import Stall
from proxy.usage.request_log import Wanted
from tests.handlers.test_sessions import post, told_and_cut
from tests.instances import everywhere, instances
from tests.redis_server import RedisServer
from tests.service import Service, message, until
from tests.wire import connect


async def renew(service: Service) -> None:
    shared = service.parts.shared_keys
    assert shared is not None
    await shared.limits.renew()


async def test_a_stream_whose_place_was_given_away_is_told_and_cut(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with instances(tmp_path, redis_server, 2, session__max_concurrent="1") as (still, other):
        account, _ = await still.add_account("a")
        await everywhere([still, other], account.id)
        still.simulator.script(None, Stall(), Stall())
        async with connect(still.port) as wire, connect(other.port) as second:
            await wire.send(post(body=message(stream=True)))
            cut = await wire.answer()
            holder = redis_server.call("SMEMBERS", "{claude-proxy}:holders").split()[-1].decode()
            redis_server.call("DEL", f"{{claude-proxy}}:alive:{holder}")
            await renew(other)
            await second.send(post(body=message(stream=True)))
            goes_on = await second.answer()
            assert goes_on.status == 200
            await renew(still)
            assert await told_and_cut(cut)
            assert b"place was given to another one" in cut.body
            await until(lambda: still.running == 0)
            assert other.running == 1
            log = still.parts.request_log
            await log.save()
            await until(lambda: [each.view()["cut_by"] for each in log.find(Wanted())] == ["proxy"])


async def test_an_instance_that_has_left_is_not_awaited_by_a_store_that_took_anothers_place(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with instances(tmp_path / "one", redis_server, 1) as (stays,):
        async with instances(tmp_path / "other", redis_server, 1):
            assert redis_server.call("SCARD", "{claude-proxy}:instances") == b":2\r\n"
        redis_server.stop()
        redis_server.start()
        async with asyncio.timeout(5):
            while True:
                with suppress(StorageError):
                    await renew(stays)
                    break
                stays.clock.advance(1)
                await asyncio.sleep(0)
        assert redis_server.call("EXISTS", "{claude-proxy}:awaited") == b":0\r\n"
