"""Logins of several instances on one store: begun at one, finished at another, and once over all of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from proxy.simulator import Slow
from proxy.storage.address import StoreAddress
from proxy.storage.redis import RedisLink
from proxy.storage.redis_store import RedisStore
from tests.canaries import leaked
from tests.instances import instances
from tests.logins import TOKEN, begin, visit
from tests.redis_server import RedisServer
from tests.service import Service, SteppedClock, until

KEY = "7f3c0a91d2e84b56c3f017a8e95b2d64d10c8e7f3a526b94f7e1280d3c6a59b4"


def names(service: Service) -> list[str]:
    return [account.name for account in service.parts.pool]


def calls(services: list[Service]) -> int:
    """Calls to the OAuth server."""
    return len(services[0].simulator.ledger.token_calls())


def flows(service: Service) -> list[str]:
    """The states of the logins that a dashboard of this instance shows."""
    logins = service.parts.logins
    return [str((logins.view(id) or {})["status"]) for id in logins.ids()]


def everything(server: RedisServer) -> str:
    """All that the store has been told of logins."""
    with redis.Redis(unix_socket_path=str(server.path)) as client:
        return str([client.hgetall("{claude-proxy}:records:logins"), client.xrange("{claude-proxy}:changes")])


@asynccontextmanager
async def two(folder: Path, server: RedisServer, **options: str) -> AsyncIterator[list[Service]]:
    async with instances(folder, server, 2, **options) as services:
        yield services


async def test_a_login_that_began_at_one_instance_comes_back_to_another(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server) as services:
        browser = await begin(services[0], email="a@example.com")
        assert (await visit(services[1], browser.path)).status == 200
        for service in services:
            await until(lambda service=service: names(service) == ["a@example.com"])
            await until(lambda service=service: flows(service) == ["done"])
        assert calls(services) == 1


@pytest.mark.parametrize("form", ["pasted", "location", "code"])
async def test_what_is_pasted_at_another_instance_is_as_good(
    tmp_path: Path, redis_server: RedisServer, form: str
) -> None:
    async with two(tmp_path, redis_server) as services:
        browser = await begin(services[0])
        await until(lambda: flows(services[1]) == ["waiting"])
        answer = await services[1].admin("POST", "/api/accounts", {"code": getattr(browser, form)})
        assert answer.status == 201
        again = await services[0].admin("POST", "/oauth/exchange", {"code": browser.pasted})
        assert again.json()["account"]["id"] == answer.json()["account"]["id"]
        assert calls(services) == 1


async def test_one_that_comes_back_everywhere_at_once_is_finished_once(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with instances(tmp_path, redis_server, 3) as services:
        browser = await begin(services[0])
        answers = await asyncio.gather(*(visit(each, browser.path) for each in services * 3))
        assert {answer.status for answer in answers} == {200}
        assert calls(services) == 1
        for service in services:
            await until(lambda service=service: len(names(service)) == 1)


async def test_who_finishes_it_is_waited_for(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.accounts.logins.AGAIN_S", 0.02)
    clock = SteppedClock()
    async with two(tmp_path, redis_server, clock=clock) as services:
        browser = await begin(services[0])
        services[0].simulator.script(None, Slow(5), path=TOKEN)
        first = asyncio.create_task(visit(services[0], browser.path))
        await clock.asleep(5)
        second = asyncio.create_task(visit(services[1], browser.path))
        for _ in range(50):
            await asyncio.sleep(0)
        clock.advance(5)
        assert [(await first).status, (await second).status] == [200, 200]
        assert calls(services) == 1


async def test_a_state_that_was_used_is_used_up_everywhere(tmp_path: Path, redis_server: RedisServer) -> None:
    async with two(tmp_path, redis_server) as services:
        browser = await begin(services[0])
        await visit(services[0], browser.path)
        stolen = f"/oauth/callback?code=another-code&state={browser.state}"
        assert (await visit(services[1], stolen)).status == 400
        assert calls(services) == 1


async def test_what_the_provider_refused_is_over_everywhere(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server) as services:
        browser = await begin(services[0])
        cancelled = f"/oauth/callback?state={browser.state}&error=access_denied"
        assert "cancelled" in (await visit(services[1], cancelled)).body.decode()
        await until(lambda: flows(services[0]) == ["failed"])
        assert (await visit(services[0], browser.path)).status == 400
        assert calls(services) == 0


async def test_a_code_that_could_not_be_used_is_as_good_at_another_instance(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server) as services:
        await services[0].add_account("taken")
        browser = await begin(services[0])
        given = {"code": browser.pasted, "name": "taken"}
        assert (await services[0].admin("POST", "/api/accounts", given)).status == 409
        given["name"] = "free"
        assert (await services[1].admin("POST", "/api/accounts", given)).status == 201
        assert calls(services) == 1


async def test_who_comes_after_an_instance_that_died_finishes_it(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.accounts.logins.AGAIN_S", 0.02)
    async with two(tmp_path, redis_server) as services:
        browser = await begin(services[0])
        link = RedisLink(StoreAddress.read(redis_server.url), clock=services[0].clock, timeout_s=5)
        dead = await RedisStore.open(link, instance="ins_dead", clock=services[0].clock)
        lease = await dead.take(f"login:{hashlib.sha256(browser.state.encode()).hexdigest()}", 90)
        assert lease is not None
        back = asyncio.create_task(visit(services[1], browser.path))
        for _ in range(50):
            await asyncio.sleep(0)
        assert calls(services) == 0
        await dead.renew(lease, 0.001)  # its time is over
        assert (await back).status == 200
        await dead.close()


async def test_a_login_ends_in_ten_minutes_and_leaves_nothing(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server) as services:
        browser = await begin(services[0])
        await until(lambda: flows(services[1]) == ["waiting"])
        assert redis_server.call("HLEN", "{claude-proxy}:records:logins") == b":1\r\n"
        services[0].clock.advance(601)
        for service in services:
            service.tick()
        assert (await visit(services[1], browser.path)).status == 400
        await until(lambda: redis_server.call("HLEN", "{claude-proxy}:records:logins") == b":0\r\n")
        assert calls(services) == 0


async def test_a_store_that_is_away_leaves_the_code_good(tmp_path: Path, redis_server: RedisServer) -> None:
    async with two(tmp_path, redis_server) as services:
        browser = await begin(services[0])
        await until(lambda: flows(services[1]) == ["waiting"])
        redis_server.stop()
        assert (await visit(services[1], browser.path)).status == 503
        redis_server.start()
        services[0].clock.advance(60)
        async with asyncio.timeout(10):
            while (await visit(services[1], browser.path)).status != 200:
                services[0].clock.advance(1)
        assert calls(services) == 1


async def test_the_store_holds_no_secret_of_a_login_in_clear(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with two(tmp_path, redis_server, storage__encryption_key=KEY) as services:
        await services[0].add_account("taken")
        browser = await begin(services[0])
        given = {"code": browser.pasted, "name": "taken"}
        assert (await services[0].admin("POST", "/api/accounts", given)).status == 409
        secrets = [browser.state, browser.code, *services[0].simulator.tokens()]
        assert leaked(everything(redis_server), secrets) == []
