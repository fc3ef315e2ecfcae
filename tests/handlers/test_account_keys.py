"""Accounts' credentials: keys of a wrong kind, the proof before one is stored, its test, and a new key in place."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import Error, Fault, Raw, Reset, Slow, bare_429, model_429, no_credit, no_plan
from tests.canaries import leaked
from tests.service import ADMIN_KEY, CLIENT_KEY, Service, SteppedClock, kept, serve, upstream_key
from tests.wire import Answer

KEY, NEW_KEY = "sk-ant-api03-of-team-4Rt9", "sk-ant-api03-of-team-8Wq2"
NEW = {"name": "team", "type": "api_key", "api_key": KEY}
PAGE = Error(403, html=True)


async def add(service: Service, **changes: Any) -> Answer:
    return await service.admin("POST", "/api/accounts", NEW | changes)


def path_of(service: Service, name: str) -> str:
    return "/api/accounts/" + next(account.id for account in service.parts.pool if account.name == name)


async def view(service: Service, name: str) -> dict[str, Any]:
    return dict((await service.admin("GET", path_of(service, name))).json()["account"])


def refusal(answer: Answer) -> str:
    """The text of a 422 at the field of the key."""
    error = answer.json()["error"]
    assert (answer.status, error["type"]) == (422, "invalid_request_error"), error
    assert error["message"].startswith("api_key: ")
    return str(error["message"])


# ---- kinds of keys

OTHER_KINDS = {
    "sk-ant-admin01-of-tests-Vb2Kq8": "Admin API key",
    "sk-ant-sid01-of-tests-Vb2Kq8": "session key of a browser",
    "sk-ant-oat01-of-tests-Vb2Kq8": "OAuth",
    "sk-ant-ort01-of-tests-Vb2Kq8": "OAuth",
    "sk-proj-of-tests-Vb2Kq8": "OpenAI",
    "sk-svcacct-of-tests-Vb2Kq8": "OpenAI",
    "sk-or-v1-of-tests-Vb2Kq8": "OpenRouter",
    "AIzaSyof-tests-Vb2Kq8": "Google",
    "cp-of-tests-Vb2Kq8": "client key of this proxy",
    CLIENT_KEY: "client key of this proxy",
    "a-clients-own-key-of-tests": "this proxy",
    ADMIN_KEY: "this proxy",
}


@pytest.mark.parametrize("verify", [{}, {"verify": False}], ids=["verified", "unchecked"])
async def test_a_key_of_another_kind_is_refused_and_sent_nowhere(
    tmp_path: Path, verify: dict[str, bool]
) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        await service.parts.keys.add("own", "a-clients-own-key-of-tests")
        for key, kind in OTHER_KINDS.items():
            answers = [await add(service, api_key=key, **verify)]
            answers.append(await service.admin("PUT", path_of(service, "a"), {"api_key": key}))
            for answer in answers:
                assert kind in refusal(answer) and "sk-ant-api" in refusal(answer)
                assert not leaked(answer.body.decode(), [key])
        assert [account.name for account in service.parts.pool] == ["a"]
        assert len(service.simulator.ledger) == 0


async def test_what_looks_like_no_key_is_taken_only_with_a_proof(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        assert "401" in refusal(await add(service, api_key="nonsense"))
        assert "verify" in refusal(await add(service, api_key="nonsense", verify=False))
        service.simulator.add_api_key("a-gateways-own-key", organization="team")
        assert (await add(service, api_key="a-gateways-own-key")).status == 201


# ---- the proof


async def test_a_key_is_proven_before_it_is_stored(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        service.simulator.add_api_key(KEY, organization="team")
        answer = await add(service)
        assert (answer.status, answer.json()["account"]["unchecked"]) == (201, False)
        [asked] = service.simulator.ledger
        assert (asked.method, asked.path, asked.credential) == ("GET", "/v1/models", KEY)


REFUSED: dict[str, Fault] = {
    "unknown": Error(401),
    "disabled": Error(400, message="This organization has been disabled."),
    "forbidden": Error(403),
    "unpaid": Error(402),
}


@pytest.mark.parametrize("how", REFUSED)
async def test_a_key_that_the_upstream_refuses_is_not_stored(tmp_path: Path, how: str) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        service.simulator.add_api_key(KEY, organization="team")
        service.simulator.script(KEY, REFUSED[how])
        answer = await add(service)
        assert str(getattr(REFUSED[how], "status", "")) in refusal(answer)
        assert len(service.parts.pool) == 0
        assert (await add(service)).status == 201


UNPROVEN: dict[str, Fault] = {
    "overloaded": Error(529),
    "limited": Error(429),
    "an edge's page": PAGE,
    "an edge's 401": Error(401, html=True),
    "no such path": Error(404),
    "a page": Raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nhello"),
    "elsewhere": Raw(b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n"),
    "reset": Reset(),
    "garbled": Raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
}


@pytest.mark.parametrize("how", UNPROVEN)
async def test_where_nobody_can_tell_it_is_502_and_may_be_added_unchecked(tmp_path: Path, how: str) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        service.simulator.add_api_key(KEY, organization="team")
        service.simulator.always(KEY, UNPROVEN[how])
        answer = await add(service)
        error = answer.json()["error"]
        assert (answer.status, error["type"]) == (502, "upstream_unreachable")
        assert '"verify": false' in error["message"] and not leaked(answer.body.decode(), [KEY])
        assert len(service.parts.pool) == 0
        asked = len(service.simulator.ledger)
        answer = await add(service, verify=False)
        assert (answer.status, answer.json()["account"]["unchecked"]) == (201, True)
        assert len(service.simulator.ledger) == asked


async def test_an_upstream_that_is_not_there_is_502(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[], upstream="http://127.0.0.1:9") as service:
        assert (await add(service)).status == 502


async def test_a_name_or_key_that_exists_costs_no_proof(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        assert (await add(service, name="A")).status == 409
        assert (await add(service, api_key=upstream_key("a"))).status == 409
        assert len(service.simulator.ledger) == 0


async def test_one_key_added_twice_at_once_is_one_account(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        service.simulator.add_api_key(KEY, organization="team")
        answers = await asyncio.gather(add(service), add(service, name="other"))
        assert sorted(answer.status for answer in answers) == [201, 409]


# ---- unchecked


async def test_unchecked_ends_with_a_test_or_an_answer_and_survives_a_restart(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        await add(service, verify=False)
        await add(service, name="other", api_key=NEW_KEY, verify=False)
    async with serve(tmp_path, accounts=[]) as service:
        assert [(await view(service, name))["unchecked"] for name in ("team", "other")] == [True, True]
        service.simulator.add_api_key(KEY, organization="team")
        service.simulator.add_api_key(NEW_KEY, organization="other")
        await service.admin("POST", f"{path_of(service, 'team')}/test")
        assert [(await view(service, name))["unchecked"] for name in ("team", "other")] == [False, True]
        assert [(await service.message()).status for _ in range(2)] == [200, 200]
        assert (await view(service, "other"))["unchecked"] is False
    async with serve(tmp_path, accounts=[]) as service:
        assert [(await view(service, name))["unchecked"] for name in ("team", "other")] == [False, False]


async def test_what_refuses_an_unchecked_key_does_not_check_it(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        await add(service, verify=False)
        assert (await service.message()).status == 503
        assert await view(service, "team") | {"status": "invalid", "unchecked": True} == await view(
            service, "team"
        )


# ---- the test


async def found(service: Service, name: str = "a") -> dict[str, Any]:
    answer = await service.admin("POST", f"{path_of(service, name)}/test")
    assert (answer.status, answer.json().keys()) == (200, {"ok", "status", "latency_ms", "message"})
    return dict(answer.json())


async def test_a_key_that_works_is_told_with_its_time(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        service.simulator.script(None, Slow(0.25))
        testing = asyncio.create_task(found(service))
        await clock.asleep(0.25)
        clock.advance(0.25)
        told = await testing
        assert (told["ok"], told["status"], told["latency_ms"]) == (True, 200, 250)
        assert "GET /v1/models" in told["message"]


@pytest.mark.parametrize("how", UNPROVEN)
async def test_a_test_that_says_nothing_changes_nothing(tmp_path: Path, how: str) -> None:
    async with serve(tmp_path) as service:
        before = await view(service, "a")
        service.simulator.always(None, UNPROVEN[how])
        told = await found(service)
        assert (told["ok"], bool(told["message"])) == (False, True)
        assert (told["status"] is None) == (how in ("reset", "garbled"))
        assert await view(service, "a") == before


async def test_a_key_that_is_refused_in_a_test_is_invalid(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.revoke(upstream_key("a"))
        told = await found(service)
        assert (told["ok"], told["status"], "invalid x-api-key" in told["message"]) == (False, 401, True)
        account = await view(service, "a")
        assert account["status"] == "invalid" and "GET /v1/models" in account["status_reason"]


async def test_a_test_leads_an_account_out_of_no_state(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        await service.admin("PUT", path_of(service, "a"), {"status": "inactive"})
        service.parts.pool.invalidate(path_of(service, "b").rpartition("/")[2], "401")
        assert [(await found(service, name))["ok"] for name in "ab"] == [True, True]
        assert [service.status(name) for name in "ab"] == ["inactive", "invalid"]


async def test_a_login_is_tested_with_a_live_token(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        _, grant = await service.add_login("a", expires_in=-1)
        assert (await found(service))["ok"] is True
        service.simulator.revoke(grant)
        service.clock.advance(30_000)
        told = await found(service)
        assert (told["ok"], told["status"]) == (False, None)
        assert service.status("a") == "invalid"


async def test_an_account_that_is_not_there_is_404(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert (await service.admin("POST", "/api/accounts/nobody/test")).status == 404


# ---- a new key in place


@pytest.mark.parametrize("state", ["active", "invalid", "inactive", "rate_limited"])
async def test_a_new_key_keeps_id_history_and_what_is_not_the_keys(tmp_path: Path, state: str) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        path = path_of(service, "a")
        id = path.rpartition("/")[2]
        match state:
            case "invalid":
                service.parts.pool.invalidate(id, "401")
            case "inactive":
                await service.admin("PUT", path, {"status": "inactive"})
            case "rate_limited":
                service.parts.pool.limit(id, service.clock.now() + 60, "5h rejected")
        before = await view(service, "a")
        service.simulator.add_api_key(NEW_KEY, organization="a")
        answer = await service.admin("PUT", path, {"api_key": f" {NEW_KEY}\n"})
        after = answer.json()["account"]
        same = ("id", "name", "requests", "created_at", "last_used_at", "etag")
        assert (answer.status, [after[name] for name in same]) == (200, [before[name] for name in same])
        assert after["status"] == ("inactive" if state == "inactive" else "active")
        assert not leaked(answer.body.decode(), [NEW_KEY])
        assert kept(tmp_path, "accounts", id)["credential"] == {"api_key": NEW_KEY}
        await service.admin("PUT", path, {"status": "active"})
        await service.message()
        assert service.simulator.ledger[-1].credential == NEW_KEY
    assert upstream_key("a") not in str(kept(tmp_path, "accounts", id))


async def test_a_new_key_comes_with_other_changes_or_not_at_all(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        change = {"name": "c", "status": "inactive", "api_key": NEW_KEY}
        refusal(await service.admin("PUT", path_of(service, "a"), change))
        assert service.status("a") == "active"
        service.simulator.add_api_key(NEW_KEY, organization="a")
        assert (await service.admin("PUT", path_of(service, "a"), change)).status == 200
        assert service.status("c") == "inactive"


async def test_a_new_key_is_refused_where_it_does_not_belong(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        await service.add_login("login")
        answer = await service.admin("PUT", path_of(service, "a"), {"api_key": upstream_key("b")})
        assert (answer.status, answer.json()["error"]["type"]) == (409, "conflict_error")
        answer = await service.admin("PUT", path_of(service, "login"), {"api_key": NEW_KEY})
        assert (answer.status, "re-authorise" in answer.json()["error"]["message"]) == (422, True)
        service.simulator.always(None, Error(529))
        assert (await service.admin("PUT", path_of(service, "a"), {"api_key": NEW_KEY})).status == 502


async def test_the_same_key_again_revives_an_invalid_account(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.parts.pool.invalidate(path_of(service, "a").rpartition("/")[2], "401")
        answer = await service.admin("PUT", path_of(service, "a"), {"api_key": upstream_key("a")})
        assert (answer.status, service.status("a")) == (200, "active")


@pytest.mark.parametrize(
    "told",
    [
        Error(401),
        Error(403),
        Error(403, message="This organization has been disabled."),
        Error(429, headers=(("retry-after", "2592000"),)),
        model_429(),
        no_credit(),
        no_plan(),
        bare_429(),
    ],
    ids=["401", "403", "disabled", "429", "model's 429", "no credit", "no plan", "bare 429"],
)
async def test_what_the_old_key_is_told_says_nothing_of_the_new_one(tmp_path: Path, told: Error) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=["a", "b"], clock=clock) as service:
        service.simulator.script(upstream_key("a"), Slow(9, then=told))
        service.simulator.add_api_key(NEW_KEY, organization="a")
        request = asyncio.create_task(service.message())
        await clock.asleep(9)
        await service.admin("PUT", path_of(service, "a"), {"api_key": NEW_KEY})
        service.simulator.revoke(upstream_key("a"))
        clock.advance(9)
        assert (await request).status == 200
        assert service.status("a") == "active"
        assert sorted([(await service.message()).header("x-proxy-account") for _ in "ab"]) == ["a", "b"]


async def test_a_request_that_the_old_key_of_the_only_account_refused_is_served_by_the_new_one(
    tmp_path: Path,
) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        service.simulator.script(
            upstream_key("a"), Slow(9, then=Error(429, headers=(("retry-after", "2592000"),)))
        )
        service.simulator.add_api_key(NEW_KEY, organization="a")
        request = asyncio.create_task(service.message())
        await clock.asleep(9)
        await service.admin("PUT", path_of(service, "a"), {"api_key": NEW_KEY})
        clock.advance(9)
        assert (await request).status == 200
        assert [entry.credential for entry in service.simulator.ledger.inference()][-1] == NEW_KEY
        account = await view(service, "a")
        assert (account["status"], account["rate_limited_until"]) == ("active", None)


async def test_an_account_that_is_deleted_while_its_new_key_is_proven_stays_deleted(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        service.simulator.add_api_key(NEW_KEY, organization="a")
        service.simulator.script(NEW_KEY, Slow(7))
        path = path_of(service, "a")
        put = asyncio.create_task(service.admin("PUT", path, {"api_key": NEW_KEY}))
        await clock.asleep(7)
        assert (await service.admin("DELETE", path)).status == 200
        clock.advance(7)
        assert (await put).status == 404
        assert len(service.parts.pool) == 0
