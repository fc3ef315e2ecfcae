"""Several instances on one store: one token call for one refresh, whatever happens to the one that makes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.accounts.account import OAuthTokens
from proxy.errors import TokenTrouble
from proxy.simulator.faults import Error, Slow
from proxy.storage.address import StoreAddress
from proxy.storage.redis import RedisLink
from proxy.storage.redis_store import RedisStore
from tests.instances import everywhere, instances
from tests.redis_server import RedisServer
from tests.service import Service, SteppedClock, until

DUE = 60.0
"""Seconds until a token ends that is to be refreshed before it is used."""


@asynccontextmanager
async def one_more(server: RedisServer) -> AsyncIterator[RedisStore]:
    """An instance of which there is only the store."""
    clock = SteppedClock()
    link = RedisLink(StoreAddress.read(server.url), clock=clock, timeout_s=5)
    store = await RedisStore.open(link, instance="ins_dead", clock=clock)
    yield store
    await store.close()


def tokens(service: Service, account_id: str) -> OAuthTokens:
    found = service.parts.pool[account_id].credential
    assert isinstance(found, OAuthTokens)
    return found


def calls(services: list[Service]) -> int:
    """Calls to the OAuth server."""
    return len(services[0].simulator.ledger.token_calls())


async def test_three_instances_make_one_call_for_one_refresh(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with instances(tmp_path, redis_server) as services:
        account, grant = await services[0].add_login("a", expires_in=DUE)
        old = grant.access_token
        await everywhere(services, account.id)
        answers = await asyncio.gather(*(each.message() for each in services for _ in range(3)))
        assert {answer.status for answer in answers} == {200}
        assert calls(services) == 1
        assert len({tokens(each, account.id) for each in services}) == 1
        assert tokens(services[0], account.id).access_token != old


async def test_the_tokens_of_a_refresh_are_known_everywhere_at_once(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with instances(tmp_path, redis_server, 2) as services:
        account, _ = await services[0].add_login("a")
        await everywhere(services, account.id)
        await services[0].parts.refresher.refresh(account.id, forced=True)
        new = tokens(services[0], account.id)
        await until(lambda: tokens(services[1], account.id) == new)
        assert not services[1].parts.refresher.needs_refresh(services[1].parts.pool[account.id])
        assert (await services[1].message()).status == 200
        assert calls(services) == 1


async def test_a_token_that_the_api_refused_is_refreshed_by_one(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with instances(tmp_path, redis_server) as services:
        account, grant = await services[0].add_login("a")
        await everywhere(services, account.id)
        services[0].simulator.revoke(grant.access_token)
        answers = await asyncio.gather(*(each.message() for each in services))
        assert {answer.status for answer in answers} == {200}
        assert calls(services) == 1


async def test_who_comes_after_a_holder_that_died_refreshes(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.accounts.alone.AGAIN_S", 0.02)
    async with instances(tmp_path, redis_server, 2) as services, one_more(redis_server) as dead:
        account, _ = await services[0].add_login("a", expires_in=DUE)
        await everywhere(services, account.id)
        assert await dead.take(f"refresh:{account.id}", 0.3) is not None
        answers = await asyncio.gather(*(each.message() for each in services))
        assert {answer.status for answer in answers} == {200}
        assert calls(services) == 1


async def test_the_tokens_of_a_holder_that_was_paused_are_not_lost(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    # Its lease has ended, another instance took over, was refused the token that is used up, and says so.
    clock = SteppedClock()
    async with instances(tmp_path, redis_server, 2, clock) as services:
        account, _ = await services[0].add_login("a")
        await everywhere(services, account.id)
        pool = services[1].parts.pool
        pool.fence(account.id, 1_000_000)
        simulator = services[0].simulator
        simulator.script(None, Slow(5), path="/v1/oauth/token")
        refresh = asyncio.ensure_future(services[0].parts.refresher.refresh(account.id, forced=True))
        await clock.asleep(5)
        await pool.change(account.id, lambda a: a.refresh_begun(clock.now()))
        await pool.change(account.id, lambda a: a.invalidated("refused", clock.now()))
        clock.advance(5)
        await refresh
        for service in services:
            await until(lambda service=service: service.status("a") == "active")
            assert tokens(service, account.id) == tokens(services[0], account.id)
        assert (await services[1].message()).status == 200


async def test_a_refresh_whose_lease_the_store_has_lost_is_waited_for(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    # A failover may lose the lease, but not what was written as the refresh began.
    clock = SteppedClock()
    async with instances(tmp_path, redis_server, 2, clock) as services:
        account, _ = await services[0].add_login("a")
        await everywhere(services, account.id)
        services[0].simulator.script(None, Slow(5), path="/v1/oauth/token")
        refresh = asyncio.ensure_future(services[0].parts.refresher.refresh(account.id, forced=True))
        await clock.asleep(5)
        assert redis_server.call("DEL", f"{{claude-proxy}}:lease:refresh:{account.id}") == b":1\r\n"
        with pytest.raises(TokenTrouble, match="another instance"):
            await services[1].parts.refresher.refresh(account.id, forced=True)
        clock.advance(5)
        await refresh
        assert calls(services) == 1
        await until(lambda: tokens(services[1], account.id) == tokens(services[0], account.id))


async def test_those_who_wait_share_a_failure_that_is_the_same_as_the_last(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    clock = SteppedClock()
    async with instances(tmp_path, redis_server, 3, clock) as services:
        account, _ = await services[0].add_login("a")
        await everywhere(services, account.id)
        services[0].simulator.always(None, Slow(5, Error(503)), path="/v1/oauth/token")
        for number in (1, 2):
            refreshes = [
                asyncio.ensure_future(each.parts.refresher.refresh(account.id, forced=True))
                for each in services
            ]
            await clock.asleep(5)
            clock.advance(5)
            async with asyncio.timeout(5):
                outcomes = await asyncio.gather(*refreshes, return_exceptions=True)
            assert [str(outcome) for outcome in outcomes] == ["the token server answered 503 api_error"] * 3
            assert calls(services) == number
            clock.advance(400)


async def test_without_the_store_a_live_token_serves_and_none_is_rotated(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with instances(tmp_path, redis_server, 2) as services:
        account, _ = await services[0].add_login("a", expires_in=DUE)
        await everywhere(services, account.id)
        redis_server.kill()
        for service in services:
            assert (await service.message()).status == 200
        assert calls(services) == 0
        redis_server.start()
