"""An instance that stood still for longer than its lease ends the requests whose places went to others."""

from __future__ import annotations

from pathlib import Path

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
