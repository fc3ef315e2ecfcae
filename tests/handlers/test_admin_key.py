"""The admin key is replaced while the proxy serves: who came with the old one is out at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.canaries import leaked
from tests.dashboards import dashboard
from tests.service import ADMIN_KEY, CLIENT_KEY, Service, serve, upstream_key

NEW = "another-Admin-key-of-tests-3Kx"


@contextlib.asynccontextmanager
async def replacing(tmp_path: Path) -> AsyncIterator[tuple[Service, Path]]:
    """A proxy, and the file that holds its admin key."""
    config, file = tmp_path / "config.yaml", tmp_path / "admin-key"
    file.write_text(f"{ADMIN_KEY}\n")
    config.write_text(f"auth: {{api_key_file: {file}}}\n")
    async with serve(tmp_path / "data", config=config, auth__api_key=None) as service:
        yield service, file


def put(file: Path, text: str) -> None:
    file.write_text(text)


async def replace(service: Service, file: Path) -> None:
    put(file, f"{NEW}\n")
    answer = await service.admin("POST", "/api/admin/reload")
    assert answer.json()["changed"] == [
        {
            "key": "auth.api_key_file",
            "value": "***",
            "place": f"{file.parent}/config.yaml, line 1",
            "applied": True,
        }
    ]
    assert leaked(answer.body, [NEW, ADMIN_KEY]) == []


async def me(service: Service, cookie: str) -> int:
    return (await service.page("GET", "/api/auth/me", cookie=cookie)).status


async def test_the_new_key_opens_and_the_old_one_does_not(tmp_path: Path) -> None:
    async with replacing(tmp_path) as (service, file):
        await replace(service, file)
        seen = [(await service.admin("GET", "/api/accounts", key=key)).status for key in (ADMIN_KEY, NEW)]
        assert seen == [401, 200]
        assert (await service.message()).status == 200  # clients take no notice


async def test_every_sign_in_ends_and_stays_ended(tmp_path: Path) -> None:
    async with replacing(tmp_path) as (service, file):
        made = await service.admin("POST", "/api/tokens", {"name": "boss", "role": "admin"})
        key = made.json()["token"]["key"]
        cookies = [await service.login(), await service.login(key)]
        assert [await me(service, cookie) for cookie in cookies] == [200, 200]
        await replace(service, file)
        assert [await me(service, cookie) for cookie in cookies] == [401, 401]
        assert await me(service, await service.login(NEW)) == 200
        file.write_text(ADMIN_KEY)
        assert (await service.admin("POST", "/api/admin/reload", key=NEW)).status == 200
        assert [await me(service, cookie) for cookie in cookies] == [401, 401]


async def test_the_dashboards_of_the_old_key_are_closed(tmp_path: Path) -> None:
    async with replacing(tmp_path) as (service, file):
        made = await service.admin("POST", "/api/tokens", {"name": "boss", "role": "admin"})
        own = made.json()["token"]["key"]
        async with (
            dashboard(service, cookie=await service.login()) as signed_in,
            dashboard(service, Cookie="", Origin="", X_API_Key=ADMIN_KEY) as program,
            dashboard(service, Cookie="", Origin="", X_API_Key=own) as other,
        ):
            for each in (signed_in, program, other):
                await each.hello("stats")
            await replace(service, file)
            assert [await signed_in.closed(), await program.closed()] == [4401, 4401]
            await service.add_account("b")
            await other.until(lambda: other.items["stats"]["accounts"]["total"] == 2)


async def test_a_dashboard_of_a_client_key_that_is_no_admins_now_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.dashboards.TICK_S", 0.01)
    async with serve(tmp_path) as service:
        for change in ({"status": "inactive"}, {"role": "user"}, None):
            made = await service.admin("POST", "/api/tokens", {"name": "boss", "role": "admin"})
            token = made.json()["token"]
            async with dashboard(service, Cookie="", Origin="", X_API_Key=token["key"]) as page:
                await page.hello("stats")
                method = "DELETE" if change is None else "PUT"
                await service.admin(method, f"/api/tokens/{token['id']}", change)
                assert await page.closed() == 4401


async def test_the_new_key_is_known_as_a_key_of_ours_and_kept_out_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with replacing(tmp_path) as (service, file):
        await replace(service, file)
        body = {"name": "mine", "type": "api_key", "api_key": NEW}
        answer = await service.admin("POST", "/api/accounts", body, key=NEW)
        assert (answer.status, "opens this proxy" in answer.body.decode()) == (422, True)
        await service.send("GET", f"/v1/models/{NEW}", key=CLIENT_KEY)
        requests = await service.admin("GET", "/api/admin/requests", key=NEW)
        events = await service.admin("GET", "/api/admin/events", key=NEW)
        assert leaked(requests.body + events.body, [NEW, ADMIN_KEY, upstream_key("a")]) == []


@pytest.mark.parametrize("text", ["", "short", "change-me-change-me-change-me", "é" * 20])
async def test_a_file_without_a_key_changes_nothing(tmp_path: Path, text: str) -> None:
    async with replacing(tmp_path) as (service, file):
        cookie = await service.login()
        file.write_text(text)
        answer = await service.admin("POST", "/api/admin/reload")
        assert answer.status == 422 and "line 1: auth.api_key_file: " in answer.json()["error"]["message"]
        assert await me(service, cookie) == 200
