"""A refresh by hand, and what an admin changes while one runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.accounts.account import OAuthTokens, Status
from proxy.simulator import Answer, Error, Fault, Slow
from tests.canaries import holders, leaked
from tests.logins import HOUR, TOKEN, as_json, pair, stored
from tests.service import SteppedClock, serve
from tests.wire import fetch


async def test_a_refresh_by_hand_answers_with_the_account(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a", expires_in=HOUR)
        old = pair(grant)
        answer = await service.admin("POST", f"/api/accounts/{account.id}/refresh")
        shown = answer.json()["account"]
        assert (answer.status, shown["id"], shown["last_refresh_error"]) == (200, account.id, None)
        assert shown["last_refresh_at"] and shown["expires_at"]
        assert pair(stored(tmp_path, account.id)) == pair(grant) != old
        assert not leaked(answer.body, [*old, *pair(grant)])


async def test_a_refresh_by_hand_never_reactivates(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a", expires_in=HOUR)
        await service.admin("PUT", f"/api/accounts/{account.id}", {"status": "inactive"})
        answer = await service.admin("POST", f"/api/accounts/{account.id}/refresh")
        assert (answer.status, answer.json()["account"]["status"]) == (200, "inactive")
        record = stored(tmp_path, account.id)
        assert (pair(record), record["status"]) == (pair(grant), "inactive")


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        (as_json({"error": "invalid_grant"}, 400), 422, "re-authorise 'a'"),
        (Error(500), 502, "answered 500"),
        (Answer(200), 502, "no JSON object"),
    ],
)
async def test_a_refresh_by_hand_tells_what_went_wrong(
    tmp_path: Path, fault: Fault, status: int, text: str
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, _ = await service.add_login("a")
        service.simulator.script(None, fault, path=TOKEN)
        answer = await service.admin("POST", f"/api/accounts/{account.id}/refresh")
        assert answer.status == status and text in answer.json()["error"]["message"]


async def test_a_refresh_by_hand_repeats_the_wait_that_the_token_server_asks_for(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, _ = await service.add_login("a")
        service.simulator.script(None, Error(429, headers=(("retry-after", "30"),)), path=TOKEN)
        answer = await service.admin("POST", f"/api/accounts/{account.id}/refresh")
        assert (answer.status, answer.header("retry-after")) == (502, "30")


async def test_only_an_oauth_account_that_exists_is_refreshed_by_hand(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["key"]) as service:
        [key] = service.parts.pool
        answers = [
            await service.admin("POST", f"/api/accounts/{key.id}/refresh"),
            await service.admin("POST", "/api/accounts/acc_unknown/refresh"),
            await fetch(service.port, "POST", f"/api/accounts/{key.id}/refresh", body=b""),
            await service.admin("GET", f"/api/accounts/{key.id}/refresh"),
        ]
        assert [answer.status for answer in answers] == [422, 404, 401, 405]
        assert not service.simulator.ledger.token_calls()


async def test_a_rename_and_a_deactivation_during_a_refresh_survive_it(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        account, grant = await service.add_login("a")
        path = f"/api/accounts/{account.id}"
        service.simulator.script(None, Slow(5), path=TOKEN)
        asked = asyncio.create_task(service.admin("POST", f"{path}/refresh"))
        await clock.asleep(5)
        await service.admin("PUT", path, {"name": "renamed", "status": "inactive"})
        clock.advance(5)
        assert (await asked).json()["account"]["name"] == "renamed"
        record = stored(tmp_path, account.id)
        assert (record["name"], record["status"], pair(record)) == ("renamed", "inactive", pair(grant))
        found = service.parts.pool[account.id]
        assert (found.name, found.status, pair(found)) == ("renamed", Status.INACTIVE, pair(grant))


async def test_an_account_deleted_during_its_refresh_stays_deleted(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        account, grant = await service.add_login("a")
        old = [grant.access_token, grant.refresh_token]
        service.simulator.script(None, Slow(5), path=TOKEN)
        asked = asyncio.create_task(service.admin("POST", f"/api/accounts/{account.id}/refresh"))
        await clock.asleep(5)
        await service.admin("DELETE", f"/api/accounts/{account.id}")
        clock.advance(5)
        assert (await asked).status == 404
        await service.parts.pool.save_again()
        assert len(service.parts.pool) == 0
        assert not holders(tmp_path, [*old, *map(str, pair(grant))])


@pytest.mark.parametrize("works", [True, False])
async def test_an_invalid_account_is_set_active_where_a_refresh_and_the_api_say_so(
    tmp_path: Path, works: bool
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a", expires_in=-1)
        service.parts.pool.invalidate(account.id, "401")
        if not works:
            service.simulator.revoke(grant)
        answer = await service.admin("PUT", f"/api/accounts/{account.id}", {"status": "active"})
        assert (answer.status, service.status("a")) == ((200, "active") if works else (422, "invalid"))


@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("refresh_token", [True, False])
async def test_where_no_refresh_can_be_had_the_token_that_is_there_tells(
    tmp_path: Path, refresh_token: bool, works: bool
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        grant = service.simulator.add_oauth(organization="a")
        second = grant.refresh_token if refresh_token else None
        tokens = OAuthTokens(grant.access_token, second, service.clock.now() + 3600)
        account = await service.parts.pool.add("a", tokens)
        service.parts.pool.invalidate(account.id, "401")
        service.simulator.always(None, Error(503), path=TOKEN)
        if not works:
            service.simulator.revoke(grant.access_token)
        answer = await service.admin("PUT", f"/api/accounts/{account.id}", {"status": "active"})
        assert (answer.status, service.status("a")) == ((200, "active") if works else (422, "invalid"))
        assert len(service.simulator.ledger.token_calls()) == refresh_token
