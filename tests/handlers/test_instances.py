"""Several instances on one store: each dashboard shows what all of them do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.dashboard.instances import Instances
from proxy.errors import StorageError, StoreAway
from proxy.simulator import Error, Silence
from proxy.storage.address import StoreAddress
from proxy.storage.audit import verified_in
from proxy.storage.layout import event_log
from proxy.storage.redis import RedisLink
from proxy.storage.redis_store import RedisStore
from proxy.usage.shared_failed_tries import SharedFailedTries
from tests.dashboards import dashboard
from tests.instances import everywhere, instances
from tests.redis_server import RedisServer
from tests.service import MESSAGE_HEADERS, Service, serve, until, upstream_key

TOPICS = ("accounts", "tokens", "sessions", "stats", "instances", "usage:1h", "usage:24h")
LOGS = ("requests", "events")


def of(service: Service) -> Instances:
    found = service.parts.shown.instances
    assert found is not None
    return found


async def told(services: list[Service]) -> None:
    """Have every instance tell what it has to tell, and hear of it."""
    for service in services:
        await service.parts.request_log.save()
        await of(service).tell()
        await of(service).beat()
        await service.parts.archive.save()
    for service in services:
        shared = service.parts.shared_keys
        assert shared is not None
        await shared.use.exchange()
        service.parts.quota.look()


@asynccontextmanager
async def three(folder: Path, server: RedisServer, *accounts: str) -> AsyncIterator[list[Service]]:
    async with instances(folder, server) as services:
        for name in accounts or ("a",):
            account, _ = await services[0].add_account(name)
            await everywhere(services, account.id)
        yield services


async def seen_at(service: Service, cookie: str) -> dict[str, Any]:
    """All that a dashboard shows, by topic."""
    async with dashboard(service, cookie=cookie) as page:
        await page.hello(*TOPICS, *LOGS)
        lines = {frame["topic"]: frame["items"] for frame in page.frames if frame["t"] == "ev"}
        return json.loads(json.dumps(page.items | lines))


async def agree(services: list[Service], cookie: str, about: Callable[[dict[str, Any]], Any]) -> Any:
    """Return what all dashboards show, once it is the same."""
    async with asyncio.timeout(8):
        while True:
            await told(services)
            shown = [about(await seen_at(service, cookie)) for service in services]
            if shown[0] == shown[1] == shown[2]:
                return shown[0]


async def test_three_dashboards_show_the_same_of_all_instances(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EXCHANGE_USE_S", "SAVE_USAGE_S"):
        monkeypatch.setattr(f"proxy.assembly.periods.{name}", 0.05)
    async with three(tmp_path, redis_server, "a", "b") as services:
        cookie = await services[1].login()
        for n in range(10):
            assert (await services[n % 3].message(stream=n % 2 == 0)).status == 200
        assert (await services[2].send("POST", "/v1/messages", MESSAGE_HEADERS, b"{")).status == 400
        seen = await agree(services, cookie, lambda shown: shown)

        assert len(seen["sessions"]) == len(seen["instances"]) == 3
        assert len(seen["requests"]) == 11
        assert [each["id"] for each in seen["requests"]] == list(range(1, 12))
        assert {each["instance"] for each in seen["requests"]} == set(seen["instances"])
        ids = [each["id"] for each in seen["events"]]
        assert ids == list(range(1, len(ids) + 1))
        assert [each["kind"] for each in seen["events"]].count("server.started") == 3
        traffic = seen["stats"]["traffic"]
        assert (traffic["sessions"], traffic["in_flight"]) == (3, 0)
        assert traffic["since_start"]["requests"] == 11
        assert {each["port"] for each in seen["instances"].values()} == {each.port for each in services}


async def test_usage_of_all_instances_is_in_every_chart_and_stays_right_when_it_is_compacted(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.assembly.periods.SAVE_USAGE_S", 0.02)
    monkeypatch.setattr("proxy.assembly.periods.COMPACT_USAGE_S", 0.05)
    monkeypatch.setattr("proxy.assembly.periods.COMPACTED_S", 0.01)
    async with three(tmp_path, redis_server) as services:
        for n in range(60):
            assert (await services[n % 3].message()).status == 200
        parts = [service.parts for service in services]
        await until(lambda: [each.series.totals("today").requests for each in parts] == [60] * 3)
        assert [each.series.totals("start").requests for each in parts] == [20] * 3
        minute = [sum(each.requests for each in one.series.ring("1h").buckets) for one in parts]
        assert minute == [60] * 3


async def test_a_request_of_another_instance_is_found_by_its_id(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with three(tmp_path, redis_server) as services:
        answer = await services[2].message()
        id = answer.header("x-request-id") or answer.header("request-id")
        await services[2].parts.request_log.save()
        await until(lambda: services[0].parts.request_log.newest == 1)
        (shown,) = (await services[0].admin("GET", "/api/admin/requests")).json()["requests"]
        assert shown["status"] == 200
        path = f"/api/admin/requests/{shown['request_id']}"
        assert (await services[1].admin("GET", path)).json()["request"] == shown
        assert id in (shown["request_id"], shown["upstream_request_id"])


async def over(services: list[Service], end: Callable[[], Awaitable[Any]]) -> Any:
    """Hold a request at the last instance, and return what `end` says once the request was cut."""
    services[0].simulator.always(None, Silence())
    held = asyncio.create_task(services[-1].message())
    await until(lambda: services[-1].running == 1 and len(services[0].simulator.ledger.inference()) == 1)
    await of(services[-1]).tell()
    (id,) = (session.id for session in services[-1].parts.sessions)
    await until(lambda: id in services[0].parts.shown.sessions.ids())
    said = await end()
    await until(lambda: services[-1].running == 0, within_s=1)
    await asyncio.gather(held, return_exceptions=True)
    return said


async def test_a_session_that_is_ended_at_one_instance_ends_its_stream_at_another(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with three(tmp_path, redis_server) as services:

        async def end() -> Any:
            listed = (await services[0].admin("GET", "/api/admin/sessions")).json()["sessions"]
            return await services[0].admin("DELETE", f"/api/sessions/{listed[0]['id']}")

        answer = await over(services, end)
        assert (answer.status, answer.json()["session"]["in_flight"]) == (200, 1)
        await told(services)
        await until(lambda: [each.parts.shown.sessions.ids() for each in services] == [[], [], []])
        kinds = [event["actor"]["kind"] for event in await ended_at(services[1])]
        assert kinds == ["admin"]


async def ended_at(service: Service) -> list[dict[str, Any]]:
    answer = await service.admin("GET", "/api/admin/events?kind=session.ended")
    return list(answer.json()["events"])


@pytest.mark.parametrize("how", ["deleted", "inactive", "revoked"])
async def test_a_key_that_is_ended_at_one_instance_ends_its_requests_at_all(
    tmp_path: Path, redis_server: RedisServer, how: str
) -> None:
    async with three(tmp_path, redis_server) as services:
        id = next(key.id for key in services[0].parts.keys if key.name == "tests")
        path = f"/api/tokens/{id}"

        async def end() -> Any:
            if how == "deleted":
                return await services[0].admin("DELETE", path)
            return await services[0].admin("PUT", path, {"status": how})

        assert (await over(services, end)).status == 200


async def test_a_killed_instance_disappears_after_its_lease_with_its_sessions(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with three(tmp_path, redis_server) as services:
        for service in services:
            assert (await service.message()).status == 200
        await told(services)
        await until(lambda: len(services[0].parts.shown.sessions) == 3)
        assert len((await services[0].admin("GET", "/api/admin/instances")).json()["instances"]) == 3

        dead = of(services[2])
        dead.tell = dead.beat = unreachable  # type: ignore[method-assign]
        (id,) = {session.id for session in services[2].parts.sessions}
        instance = services[2].parts.shown.sessions.view(id)["instance"]
        redis_server.call("DEL", f"{{claude-proxy}}:told:{instance}")
        services[0].clock.advance(16)
        for service in services[:2]:
            await of(service).tell()
            await of(service).beat()
        await until(lambda: len(of(services[0]).ids()) == len(of(services[1]).ids()) == 2)
        for service in services[:2]:
            listed = (await service.admin("GET", "/api/admin/sessions")).json()
            assert listed["total"] == 2 and id not in {each["id"] for each in listed["sessions"]}


async def unreachable() -> None:
    raise StoreAway("it is dead")


async def test_a_proxy_with_its_state_in_files_shows_no_instances(tmp_path: Path) -> None:
    async with serve(tmp_path, storage__url=None) as service:
        assert (await service.admin("GET", "/api/admin/instances")).json() == {"instances": []}
        async with dashboard(service) as page:
            await page.hello("instances")
            assert page.items == {"instances": {}}


async def test_an_instance_that_ends_is_gone_at_once_and_one_that_begins_knows_all(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with three(tmp_path, redis_server) as services:
        assert (await services[0].message()).status == 200
        await told(services)
        own = {"storage__url": redis_server.url, "storage__timeout": "5s"}
        async with serve(
            tmp_path / "new",
            accounts=(),
            clock=services[0].clock,
            upstream=services[0].simulator.base_url,
            **own,
        ) as new:
            (session,) = services[0].parts.sessions
            assert new.parts.shown.sessions.ids() == [session.id]
            assert new.parts.request_log.newest == 1
            await until(lambda: len(of(services[0]).ids()) == 4)
        services[0].clock.advance(0)
        await until(lambda: len(of(services[0]).ids()) == 3)


async def test_the_audit_log_of_all_instances_is_one_chain(tmp_path: Path, redis_server: RedisServer) -> None:
    async with three(tmp_path, redis_server) as services, store(redis_server) as storage:
        names = [f"key {n}" for n in range(30)]
        await asyncio.gather(
            *(service.add_key(name) for name, service in zip(names, services * 10, strict=True))
        )
        await told(services)
        (day,) = await storage.event_days()
        lines = await storage.read_log(event_log(day))
        assert [line["id"] for line in lines] == list(range(1, len(lines) + 1))
        assert sum(line["kind"].startswith("token.") and line["text"].count("key ") for line in lines) >= 30
        assert await verified_in(storage, "the store") == f"ok, {len(lines)} events"

        await storage.replace_log(event_log(day), [*lines[:3], *lines[4:]])
        with pytest.raises(StorageError, match=f"events of {day}, line 4: it does not follow"):
            await verified_in(storage, "the store")


@asynccontextmanager
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    """Another look at the store."""
    link = RedisLink(StoreAddress.read(server.url), clock=SystemClock(), timeout_s=5)
    storage = await RedisStore.open(link, instance="ins_test", clock=SystemClock())
    try:
        yield storage
    finally:
        await storage.close()


async def test_what_an_account_failed_at_is_a_sum_over_all_instances_and_known_to_one_that_starts(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with three(tmp_path, redis_server) as services:
        (account,) = services[0].parts.pool
        clock = services[0].clock
        for service in services[:2]:
            services[0].simulator.script(upstream_key("a"), Error(404))
            assert (await service.message()).status == 404
        clock.advance(60)
        for service in services[:2]:
            told = service.parts.failed_tries
            assert isinstance(told, SharedFailedTries)
            await told.save()
        end = int(clock.now()) // 60 * 60
        bars = range(end - 120, end + 60, 60)

        def failed(service: Service) -> int:
            return sum(service.parts.failed_tries.columns(account.id, bars)["try_client_error"])

        for service in services:
            await until(lambda service=service: failed(service) == 2)
        async with instances(tmp_path / "more", redis_server, 1, clock) as (late,):
            assert failed(late) == 2
