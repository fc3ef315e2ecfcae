"""The admin's accounts: what is made, changed, deleted and shown, and that it is on disk before the answer."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import Error, Reset, Slow
from tests.canaries import holders
from tests.logins import full_disk
from tests.service import ADMIN_KEY, Service, SteppedClock, kept, serve, upstream_key
from tests.wire import Answer, fetch

NEW = {"name": "team", "type": "api_key", "api_key": "sk-ant-api03-of-team"}
FIELDS = {
    "id", "name", "type", "organization_uuid", "status", "status_reason", "rate_limited_until", "expires_at",
    "last_refresh_at", "last_refresh_error", "last_used_at", "created_at", "updated_at",
    "requests", "errors", "rate_limits", "in_flight",
    "idle_since", "quota", "unchecked",
}  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def id_of(service: Service, name: str) -> str:
    return next(account.id for account in service.parts.pool if account.name == name)


def path_of(service: Service, name: str) -> str:
    return f"/api/accounts/{id_of(service, name)}"


def stored(folder: Path, id: str) -> dict[str, Any]:
    """The account's record."""
    return kept(folder, "accounts", id)


# ---- showing


async def test_all_accounts_are_listed_oldest_first(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["b", "a"]) as service:
        answer = await service.admin("GET", "/api/accounts")
        assert answer.status == 200
        assert [account["name"] for account in answer.json()["accounts"]] == ["b", "a"]


async def test_without_accounts_the_list_is_empty(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        assert (await service.admin("GET", "/api/accounts")).json() == {"accounts": []}


async def test_one_account_is_shown_as_in_the_list_with_every_field(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        one = (await service.admin("GET", path_of(service, "a"))).json()["account"]
        assert [one] == (await service.admin("GET", "/api/accounts")).json()["accounts"]
        assert one.keys() >= FIELDS
        assert (one["name"], one["type"], one["status"], one["requests"]) == ("a", "api_key", "active", 1)
        assert all(TIME.fullmatch(one[name]) for name in ("created_at", "updated_at", "last_used_at"))


async def test_a_limit_is_shown_with_its_end_and_reason(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.parts.pool.limit(id_of(service, "a"), service.clock.now() + 60, "5h rejected")
        account = (await service.admin("GET", path_of(service, "a"))).json()["account"]
        assert (account["status"], account["status_reason"]) == ("rate_limited", "5h rejected")
        assert account["rate_limited_until"] == "2027-01-15T08:01:00.000Z"


async def test_counters_go_on_after_a_restart(tmp_path: Path) -> None:
    for expected in (1, 2):
        async with serve(tmp_path, accounts=["a"] if expected == 1 else []) as service:
            service.simulator.add_api_key(upstream_key("a"), organization="a")
            await service.message()
            account = (await service.admin("GET", path_of(service, "a"))).json()["account"]
            token = (await service.admin("GET", "/api/tokens")).json()["tokens"][0]
            assert account["requests"] == token["requests"] == expected


# ---- adding


async def test_an_account_that_is_added_is_answered_stored_and_used(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        service.simulator.add_api_key(NEW["api_key"], organization="team")
        answer = await service.admin("POST", "/api/accounts", NEW)
        account = answer.json()["account"]
        assert (answer.status, account["name"], account["status"]) == (201, "team", "active")
        assert stored(tmp_path, account["id"])["credential"] == {"api_key": NEW["api_key"]}
        assert (await service.message()).header("x-proxy-account") == "team"


async def test_space_around_name_and_key_is_none_of_them(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        service.simulator.add_api_key(NEW["api_key"], organization="team")
        body = {"name": " team ", "type": "api_key", "api_key": f" {NEW['api_key']}\n"}
        account = (await service.admin("POST", "/api/accounts", body)).json()["account"]
        assert account["name"] == "team"
        assert stored(tmp_path, account["id"])["credential"] == {"api_key": NEW["api_key"]}


@pytest.mark.parametrize("type", [{}, {"type": None}, {"type": "key"}], ids=["absent", "null", "another"])
async def test_a_key_without_its_type_is_told_of_the_type(tmp_path: Path, type: dict[str, Any]) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        body = {"name": NEW["name"], "api_key": NEW["api_key"]} | type
        error = (await service.admin("POST", "/api/accounts", body)).json()["error"]
        assert error["message"] == "type: api_key or oauth is needed"


@pytest.mark.parametrize(
    ("change", "type"),
    [({"name": "A"}, "name_taken"), ({"api_key": upstream_key("a")}, "conflict_error")],
    ids=["name", "key"],
)
async def test_a_name_or_key_that_exists_is_a_conflict(
    tmp_path: Path, change: dict[str, str], type: str
) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        answer = await service.admin("POST", "/api/accounts", NEW | change)
        assert (answer.status, answer.json()["error"]["type"]) == (409, type)
        assert upstream_key("a") not in answer.body.decode()
        assert len(service.parts.pool) == 1


@pytest.mark.parametrize(
    "key",
    [
        "",
        "  ",
        "short",
        "of 15 character",
        "with a space in it",
        "with\na break in it",
        "with-é-in-its-middle",
        "k" * 4097,
        "sk-ant-oat01-x",
        "sk-ant-ort01-x",
        "sk-ant-sid01-of-a-browser",
        "sk-ant-admin01-of-an-organization",
        "sk-proj-of-another-vendor",
        "cp-a-client-key-of-this-proxy",
    ],
)
async def test_what_is_no_api_key_is_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        answer = await service.admin("POST", "/api/accounts", NEW | {"api_key": key})
        message = answer.json()["error"]["message"]
        assert (answer.status, message.startswith("api_key: ")) == (422, True)
        assert not key.strip() or key not in message
        assert len(service.parts.pool) == 0


@pytest.mark.parametrize("missing", ["name", "api_key"])
async def test_a_missing_field_is_named(tmp_path: Path, missing: str) -> None:
    async with serve(tmp_path) as service:
        body = {name: value for name, value in NEW.items() if name != missing}
        answer = await service.admin("POST", "/api/accounts", body)
        assert answer.status == 422 and missing in answer.json()["error"]["message"]


async def test_what_cannot_be_stored_is_503_and_not_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        service.simulator.add_api_key(NEW["api_key"], organization="team")
        full_disk(monkeypatch)
        answer = await service.admin("POST", "/api/accounts", NEW)
        assert (answer.status, answer.json()["error"]["type"]) == (503, "api_error")
        assert len(service.parts.pool) == 0
        monkeypatch.undo()
        assert (await service.admin("POST", "/api/accounts", NEW)).status == 201


# ---- changing


async def test_an_account_that_is_renamed_is_answered_stored_and_keeps_its_id(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        id = id_of(service, "a")
        answer = await service.admin("PUT", f"/api/accounts/{id}", {"name": " b "})
        assert (answer.status, answer.json()["account"]["id"]) == (200, id)
        assert answer.json()["account"]["name"] == stored(tmp_path, id)["name"] == "b"
        assert (await service.message()).header("x-proxy-account") == "b"


async def test_a_change_of_nothing_changes_nothing(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        before = (await service.admin("GET", path_of(service, "a"))).json()
        service.clock.advance(5)
        answer = await service.admin("PUT", path_of(service, "a"), {})
        assert (answer.status, answer.json()) == (200, before)


async def test_an_inactive_account_is_not_used_until_it_is_set_active(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        path = path_of(service, "a")
        answer = await service.admin("PUT", path, {"status": "inactive"})
        assert (answer.status, answer.json()["account"]["status"]) == (200, "inactive")
        assert stored(tmp_path, id_of(service, "a"))["status"] == "inactive"
        assert (await service.message()).status == 503
        assert (await service.admin("PUT", path, {"status": "active"})).json()["account"][
            "status"
        ] == "active"
        assert (await service.message()).status == 200


async def test_an_admin_lifts_a_limit(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.parts.pool.limit(id_of(service, "a"), service.clock.now() + 3600, "5h rejected")
        account = (await service.admin("PUT", path_of(service, "a"), {"status": "active"})).json()["account"]
        assert (account["status"], account["rate_limited_until"]) == ("active", None)
        assert (await service.message()).status == 200


@pytest.mark.parametrize("status", ["rate_limited", "invalid", "ACTIVE", ""])
async def test_an_admin_sets_active_or_inactive_only(tmp_path: Path, status: str) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("PUT", path_of(service, "a"), {"status": status, "name": "b"})
        assert answer.status == 422 and "status" in answer.json()["error"]["message"]
        assert (service.status("a"), [a.name for a in service.parts.pool]) == ("active", ["a"])


async def test_an_invalid_account_becomes_active_where_its_credential_works(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.parts.pool.invalidate(id_of(service, "a"), "401")
        answer = await service.admin("PUT", path_of(service, "a"), {"status": "active"})
        assert (answer.status, answer.json()["account"]["status"]) == (200, "active")
        [asked] = service.simulator.ledger
        assert (asked.method, asked.path, asked.credential) == ("GET", "/v1/models", upstream_key("a"))


async def test_an_invalid_account_whose_credential_is_dead_stays_so(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.parts.pool.invalidate(id_of(service, "a"), "401")
        service.simulator.revoke(upstream_key("a"))
        answer = await service.admin("PUT", path_of(service, "a"), {"status": "active", "name": "b"})
        assert answer.status == 422
        assert (service.status("a"), len(service.simulator.ledger)) == ("invalid", 1)


@pytest.mark.parametrize(("dead", "status", "state"), [(False, 200, "active"), (True, 422, "inactive")])
async def test_being_inactive_does_not_heal_an_invalid_account(
    tmp_path: Path, dead: bool, status: int, state: str
) -> None:
    async with serve(tmp_path) as service:
        path = path_of(service, "a")
        service.parts.pool.invalidate(id_of(service, "a"), "401")
        if dead:
            service.simulator.revoke(upstream_key("a"))
        assert (await service.admin("PUT", path, {"status": "inactive"})).status == 200
        answer = await service.admin("PUT", path, {"status": "active"})
        assert (answer.status, service.status("a")) == (status, state)
        assert len(service.simulator.ledger) == 1


async def test_a_key_that_was_refused_while_its_account_was_inactive_has_to_work(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        path = path_of(service, "a")
        service.simulator.revoke(upstream_key("a"))
        assert (await service.admin("PUT", path, {"status": "inactive"})).status == 200
        assert (await service.admin("POST", f"{path}/test")).json()["ok"] is False
        answer = await service.admin("PUT", path, {"status": "active"})
        assert (answer.status, service.status("a")) == (422, "inactive")


@pytest.mark.parametrize(("dead", "status", "state"), [(False, 200, "active"), (True, 422, "invalid")])
async def test_an_invalid_login_becomes_active_where_it_can_still_be_refreshed(
    tmp_path: Path, dead: bool, status: int, state: str
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a")
        service.parts.pool.invalidate(account.id, "invalid_grant")
        if dead:
            service.simulator.revoke(grant)
        answer = await service.admin("PUT", path_of(service, "a"), {"status": "active"})
        assert (answer.status, service.status("a")) == (status, state)


@pytest.mark.parametrize("fault", [Error(529), Error(403), Error(429), Reset()], ids=str)
async def test_an_invalid_account_stays_so_where_nobody_can_tell(tmp_path: Path, fault: Any) -> None:
    async with serve(tmp_path) as service:
        service.parts.pool.invalidate(id_of(service, "a"), "401")
        service.simulator.always(None, fault)
        answer = await service.admin("PUT", path_of(service, "a"), {"status": "active"})
        assert (answer.status, service.status("a")) == (422, "invalid")


async def test_an_invalid_account_may_be_renamed_and_set_inactive_without_asking(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.parts.pool.invalidate(id_of(service, "a"), "401")
        path = path_of(service, "a")
        assert (await service.admin("PUT", path, {"name": "b"})).json()["account"]["status"] == "invalid"
        assert (await service.admin("PUT", path, {"status": "inactive"})).status == 200
        assert len(service.simulator.ledger) == 0


async def test_a_change_that_cannot_be_stored_is_503_and_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        full_disk(monkeypatch)
        answer = await service.admin("PUT", path_of(service, "a"), {"status": "inactive"})
        assert (answer.status, service.status("a")) == (503, "inactive")
        assert (await fetch(service.port, "GET", "/health")).json()["status"] == "degraded"
        monkeypatch.undo()
        await service.parts.pool.save_again()
        assert stored(tmp_path, id_of(service, "a"))["status"] == "inactive"
        assert (await fetch(service.port, "GET", "/health")).json()["status"] == "healthy"


# ---- deleting


async def test_a_deleted_account_is_answered_and_gone(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        path = path_of(service, "a")
        answer = await service.admin("DELETE", path)
        assert (answer.status, answer.json()["account"]["name"]) == (200, "a")
        assert (await service.admin("GET", path)).status == 404
        assert {(await service.message()).header("x-proxy-account") for _ in range(3)} == {"b"}


@pytest.mark.files
async def test_nothing_of_a_deleted_accounts_credential_stays_on_disk(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        await service.admin("PUT", path_of(service, "a"), {"name": "b"})
        assert holders(tmp_path, [upstream_key("a")])
        await service.admin("DELETE", path_of(service, "b"))
        assert holders(tmp_path, [upstream_key("a")]) == []


async def test_a_deleted_account_stays_deleted_over_a_restart(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        await service.admin("DELETE", path_of(service, "a"))
    async with serve(tmp_path, accounts=[]) as service:
        assert [account.name for account in service.parts.pool] == ["b"]


async def test_a_request_that_runs_outlives_its_account(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        account = service.parts.pool[id_of(service, "a")]
        with closing(service.parts.pool.begin(account.id)):
            assert (await service.admin("DELETE", f"/api/accounts/{account.id}")).status == 200
        assert len(service.parts.pool) == 0


# ---- what is not there


async def test_two_admins_at_once_meet_no_internal_error(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        for number in range(10):
            await service.add_account(f"a{number}")
            path = path_of(service, f"a{number}")
            answers = await asyncio.gather(
                service.admin("PUT", path, {"name": f"b{number}"}),
                service.admin("DELETE", path),
                service.admin("PUT", path, {"status": "inactive"}),
                service.admin("DELETE", path),
                service.admin("GET", path),
            )
            assert {answer.status for answer in answers} <= {200, 404}
        assert len(service.parts.pool) == 0


async def test_an_account_deleted_while_its_credential_is_probed_stays_deleted(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        service.parts.pool.invalidate(id_of(service, "a"), "401")
        service.simulator.script(None, Slow(7))
        path = path_of(service, "a")
        put = asyncio.create_task(service.admin("PUT", path, {"status": "active"}))
        await clock.asleep(7)
        assert (await service.admin("DELETE", path)).status == 200
        clock.advance(7)
        assert (await put).status == 404
        assert len(service.parts.pool) == 0


async def test_a_name_is_text_in_any_script_and_comes_back_as_it_is(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        service.simulator.add_api_key(NEW["api_key"], organization="team")
        answer = await service.admin("POST", "/api/accounts", NEW | {"name": "Team <b>&amp;</b> é 東京"})
        assert answer.json()["account"]["name"] == "Team <b>&amp;</b> é 東京"


# ---- two admins at once


async def test_an_edit_that_was_made_while_a_key_was_verified_is_a_conflict_too(tmp_path: Path) -> None:
    clock, new = SteppedClock(), upstream_key("new")
    async with serve(tmp_path, accounts=["a"], clock=clock) as service:
        (old,) = (await service.admin("GET", "/api/accounts")).json()["accounts"]
        service.simulator.add_api_key(new, organization="a")
        service.simulator.script(new, Slow(7))

        async def edit(**fields: str) -> Answer:
            headers = [("X-API-Key", ADMIN_KEY), ("If-Match", f'"{old["etag"]}"')]
            body = json.dumps(fields).encode()
            return await fetch(service.port, "PUT", f"/api/accounts/{old['id']}", headers, body)

        slow = asyncio.create_task(edit(api_key=new, name="first", note="one"))
        await clock.asleep(7)
        assert (await edit(name="second")).status == 200
        clock.advance(7)
        assert (await slow).status == 409
        (now,) = (await service.admin("GET", "/api/accounts")).json()["accounts"]
        assert (now["name"], now["note"]) == ("second", old["note"])


@pytest.mark.parametrize("thing", ["accounts", "tokens"])
async def test_an_edit_of_what_another_has_edited_is_a_conflict_that_shows_it(
    tmp_path: Path, thing: str
) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        (old,) = (await service.admin("GET", f"/api/{thing}")).json()[thing]
        path, etag = f"/api/{thing}/{old['id']}", ("If-Match", f'"{old["etag"]}"')

        async def rename(name: str, *headers: tuple[str, str]) -> Answer:
            body = json.dumps({"name": name}).encode()
            return await fetch(service.port, "PUT", path, [("X-API-Key", ADMIN_KEY), *headers], body)

        await service.message()  # counts, but edits nothing
        assert (await rename("first", etag)).status == 200
        answer = await rename("second", etag)
        error = answer.json()["error"]
        assert (answer.status, error["type"], error["current"]["name"]) == (409, "edit_conflict", "first")
        assert error["current"]["etag"] != old["etag"]
        assert (await rename("second", ("If-Match", f'"{error["current"]["etag"]}"'))).status == 200
        assert (await rename("third", ("If-Match", "*"))).status == 200
        assert (await rename("fourth")).status == 200
