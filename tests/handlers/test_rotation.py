"""Rotation from the outside: clients change over within the overlap, and what had the former key ends with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from handlers.dashboards import SIGNED_OUT
from proxy.simulator import Stall
from tests.canaries import holders
from tests.dashboards import dashboard
from tests.disk import full_disk
from tests.service import MESSAGE_HEADERS, Service, message, serve, until, upstream_key
from tests.wire import fetch

KEY = "cp-a-key-of-a-client-8Jw2"


async def made(service: Service, **fields: Any) -> str:
    """The path of the client key KEY."""
    answer = await service.admin("POST", "/api/tokens", {"name": "client", "key": KEY} | fields)
    assert answer.status == 201, answer.body
    return f"/api/tokens/{answer.json()['token']['id']}"


async def rotated(service: Service, path: str, body: Any = None) -> dict[str, Any]:
    answer = await service.admin("POST", f"{path}/rotate", body)
    assert answer.status == 200, answer.body
    return dict(answer.json()["token"])


async def statuses(service: Service, *keys: str) -> list[int]:
    """What clients get who show these keys."""
    return [(await service.send("GET", "/v1/models", key=key)).status for key in keys]


async def test_both_keys_work_for_a_day_and_the_new_one_is_shown_once(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        path = await made(service)
        token = await rotated(service, path)
        assert [each["ends_at"] for each in token["former_keys"]] == ["2027-01-16T08:00:00.000Z"]
        assert await statuses(service, KEY, token["key"]) == [200, 200]
        shown = await service.admin("GET", path)
        assert shown.json()["token"]["former_keys"][0]["last_used_at"] == "2027-01-15T08:00:00.000Z"
        assert token["key"].encode() not in shown.body
        assert shown.json()["token"]["requests"] == 2
        service.clock.advance(86_400)
        service.tick()
        assert await statuses(service, KEY, token["key"]) == [401, 200]
        ended = (await service.admin("GET", "/api/admin/events?kind=token.former_ended")).json()["events"]
        assert [(each["actor"]["kind"], each["subject"]["name"]) for each in ended] == [("system", "client")]
    assert holders(tmp_path, [KEY, token["key"]]) == []


async def test_it_holds_after_a_restart(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await rotated(service, await made(service), {"overlap": 600})
    async with serve(tmp_path, accounts=[]) as service:
        service.simulator.add_api_key(upstream_key("a"), organization="a")
        assert await statuses(service, KEY, token["key"]) == [200, 200]
        service.clock.advance(600)
        assert await statuses(service, KEY, token["key"]) == [401, 200]


async def test_without_overlap_the_former_key_ends_at_once_with_its_requests_and_sign_ins(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path) as service:
        path = await made(service, role="admin")
        cookie, admins = await service.login(KEY), await service.login()
        service.simulator.script(upstream_key("a"), Stall(2))
        asked = asyncio.create_task(
            fetch(
                service.port,
                "POST",
                "/v1/messages",
                [("x-api-key", KEY), *MESSAGE_HEADERS],
                message(stream=True),
            )
        )
        await until(lambda: service.transfers)
        token = await rotated(service, path, {"overlap": 0})
        await until(lambda: not service.running)
        await asyncio.wait([asked])
        assert asked.exception() is not None or b"message_stop" not in asked.result().body
        assert await statuses(service, KEY, token["key"]) == [401, 200]
        seen = [(await service.page("GET", "/api/auth/me", cookie=each)).status for each in (cookie, admins)]
        assert seen == [401, 200]


async def test_an_admin_who_rotates_the_own_key_stays_signed_in_to_read_the_new_one(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        path = await made(service, role="admin")
        cookie = await service.login(KEY)
        answer = await service.page("POST", f"{path}/rotate", {"overlap": 0}, cookie=cookie)
        assert (answer.status, answer.json()["token"]["key"][:3]) == (200, "cp-")
        assert (await service.page("GET", "/api/auth/me", cookie=cookie)).status == 200


async def test_with_the_time_of_a_former_key_end_the_sign_ins_that_have_shown_it(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        path = await made(service, role="admin")
        before = await service.login(KEY)
        token = await rotated(service, path, {"overlap": 600})
        after = await service.login(token["key"])

        async def signed_in() -> list[int]:
            return [
                (await service.page("GET", "/api/auth/me", cookie=each)).status for each in (before, after)
            ]

        service.clock.advance(599)
        service.tick()
        assert await signed_in() == [200, 200]
        service.clock.advance(1)
        service.tick()
        assert await signed_in() == [401, 200]


async def test_a_rotation_before_the_next_tick_ends_no_fewer_sign_ins(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        path = await made(service, role="admin")
        before = await service.login(KEY)
        await rotated(service, path, {"overlap": 60})
        service.clock.advance(60.5)
        await rotated(service, path, {"overlap": 60})
        service.tick()
        assert (await service.page("GET", "/api/auth/me", cookie=before)).status == 401


@pytest.mark.parametrize("overlap", [0, 600])
async def test_a_dashboard_that_came_with_a_former_key_is_closed_with_it(
    tmp_path: Path, overlap: int
) -> None:
    async with serve(tmp_path) as service:
        path = await made(service, role="admin")
        async with dashboard(service, cookie="", X_API_Key=KEY) as page:
            await page.hello("tokens")
            await rotated(service, path, {"overlap": overlap})
            service.clock.advance(overlap)
            service.tick()
            assert await page.closed() == SIGNED_OUT


async def test_former_keys_end_when_an_admin_says_so(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        path = await made(service, role="admin")
        cookie = await service.login(KEY)
        token = await rotated(service, path)
        assert (await service.page("GET", "/api/auth/me", cookie=cookie)).status == 200
        answer = await service.admin("DELETE", f"{path}/former_keys")
        assert (answer.status, answer.json()["token"]["former_keys"]) == (200, [])
        assert await statuses(service, KEY, token["key"]) == [401, 200]
        assert (await service.page("GET", "/api/auth/me", cookie=cookie)).status == 401


async def test_one_who_has_seen_another_key_does_not_rotate(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        path = await made(service)
        seen = (await service.admin("GET", path)).json()["token"]["etag"]
        token = await rotated(service, path)
        headers = [("X-API-Key", "an-Admin-key-of-tests-7Qd2"), ("If-Match", f'"{seen}"')]
        answer = await fetch(service.port, "POST", f"{path}/rotate", headers)
        assert (answer.status, answer.json()["error"]["type"]) == (409, "edit_conflict")
        assert await statuses(service, token["key"]) == [200]


@pytest.mark.parametrize("overlap", [-1, 1.5, "1d", None, True, 90 * 86_400 + 1])
async def test_an_overlap_that_makes_no_sense_is_refused_by_name(tmp_path: Path, overlap: Any) -> None:
    async with serve(tmp_path) as service:
        path = await made(service)
        answer = await service.admin("POST", f"{path}/rotate", {"overlap": overlap})
        assert (answer.status, answer.json()["error"]["message"].startswith("overlap")) == (422, True)
        assert await statuses(service, KEY) == [200]


async def test_a_rotation_that_cannot_be_stored_is_refused_and_the_key_stays(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        path = await made(service)
        with full_disk():
            answer = await service.admin("POST", f"{path}/rotate", {"overlap": 0})
        assert answer.status == 503
        assert await statuses(service, KEY) == [200]
