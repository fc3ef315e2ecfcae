"""What becomes of a request whose account cannot answer it, or goes while it is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from proxy.accounts.account import ApiKey
from proxy.simulator import Answer as Canned
from proxy.simulator import Error, Slow
from tests.proxy.simulator.uploads import FORM, form
from tests.service import CLIENT_KEY, MESSAGE_HEADERS, Service, kept_text, message, serve, until, upstream_key
from tests.wire import Answer, fetch

THREE = ("a", "b", "c")
JSON = [("content-type", "application/json")]


async def upload(
    service: Service, picked: str | None = None, *headers: tuple[str, str], key: str = CLIENT_KEY
) -> Answer:
    named = [] if picked is None else [("x-proxy-account", picked)]
    return await service.send(
        "POST",
        "/v1/files",
        [("content-type", FORM), *named, *headers],
        form(("file", "a.txt", b"x")),
        key=key,
    )


def account_id(service: Service, name: str) -> str:
    return next(each.id for each in service.parts.pool if each.name == name)


async def made_beside(service: Service, name: str) -> str:
    """The id of a file that was made in an account of the upstream without the proxy."""
    port = int(service.simulator.base_url.rpartition(":")[2])
    headers = [("x-api-key", upstream_key(name)), ("content-type", FORM)]
    made = await fetch(port, "POST", "/v1/files", headers, form(("file", "a.txt", b"x")))
    return str(made.json()["id"])


async def put_out_of_service(service: Service, name: str, state: str) -> None:
    if state == "invalid":
        service.parts.pool.invalidate(account_id(service, name), "401")
    else:
        await service.admin("PUT", f"/api/accounts/{account_id(service, name)}", {"status": state})


async def test_an_account_that_is_removed_while_it_is_asked_costs_a_truthful_answer(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE, retry__max_attempts="3") as service:
        made = await upload(service, "a")
        service.simulator.always(upstream_key("a"), Slow(0.2, Error(529)), path="/v1/files")
        asked = asyncio.create_task(service.send("GET", f"/v1/files/{made.json()['id']}"))
        entries = len(service.simulator.ledger)
        await until(lambda: len(service.simulator.ledger) > entries)
        await service.admin("DELETE", f"/api/accounts/{account_id(service, 'a')}")
        answer = await asked
        assert "acc_" not in answer.body.decode()
        assert answer.status in (503, 529), answer.body


async def test_while_the_token_server_is_ill_what_a_login_holds_is_not_given_up(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a",)) as service:
        await service.add_login("o")
        made = await upload(service, "o")
        assert made.status == 200
        service.clock.advance(9 * 3600)
        service.simulator.always(None, Error(503), path="/oauth")
        service.simulator.always(None, Error(503), path="/v1/oauth")
        service.parts.pool.limit(account_id(service, "a"), service.clock.now() + 50, "5h")
        answer = await service.send("GET", f"/v1/files/{made.json()['id']}")
        assert answer.status == 503, answer.body
        assert answer.header("x-should-retry") != "false" and answer.header("retry-after")


async def test_without_isolation_an_id_is_not_said_to_be_missing_if_not_all_could_be_asked(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path, accounts=THREE, balancer__isolation="none") as service:
        made = await made_beside(service, "c")
        service.parts.pool.limit(account_id(service, "c"), service.clock.now() + 50, "5h")
        answer = await service.send("GET", f"/v1/files/{made}")
        assert (answer.status, answer.header("retry-after")) == (429, "50")


@pytest.mark.parametrize("status", [403, 500, 529])
async def test_without_isolation_an_answer_that_says_nothing_of_the_id_leaves_it_open(
    tmp_path: Path, status: int
) -> None:
    async with serve(tmp_path, accounts=THREE, balancer__isolation="none") as service:
        made = await made_beside(service, "c")
        service.simulator.always(upstream_key("c"), Error(status), path="/v1/files")
        answer = await service.send("GET", f"/v1/files/{made}")
        retry = "false" if status == 403 else None  # another try would be told the same
        assert (answer.status, answer.header("x-should-retry")) == (503, retry)
        assert answer.json()["error"]["message"] == f"account 'c', which may have {made}, answered {status}"
        service.simulator.calm(upstream_key("c"))
        assert (await service.send("GET", f"/v1/files/{made}")).status == 200


PAGE = Canned(200, (("content-type", "text/html"),), b"<html>Sign in</html>")


@pytest.mark.parametrize(
    "fault", [Error(404, html=True), Error(403, html=True), PAGE], ids=["404", "403", "200"]
)
async def test_without_isolation_a_page_of_an_edge_says_nothing_of_an_id(
    tmp_path: Path, fault: Error | Canned
) -> None:
    async with serve(tmp_path, accounts=("a", "b"), balancer__isolation="none") as service:
        service.simulator.always(upstream_key("a"), fault, path="/v1/files")
        answer = await service.send("GET", "/v1/files/file_01there")
        assert (answer.status, answer.header("x-should-retry")) == (503, None)
        why = f"account 'a', which may have file_01there, answered {fault.status}, and not as the API does"
        assert answer.json()["error"]["message"] == why


async def fails_by_its_proxy(service: Service) -> None:
    given = {"proxy": "http://127.0.0.1:1"}
    await service.admin("PUT", f"/api/accounts/{account_id(service, 'b')}", given)


async def fails_by_its_key(service: Service) -> None:
    service.simulator.always(upstream_key("b"), Error(401), path="/v1/files")


async def fails_by_a_page(service: Service) -> None:
    service.simulator.always(upstream_key("b"), Error(401, html=True), path="/v1/files")


async def fails_by_its_token(service: Service) -> None:
    await service.admin("DELETE", f"/api/accounts/{account_id(service, 'b')}")
    await service.add_login("b", expires_in=-5)
    service.simulator.always(None, Error(503), path="/v1/oauth/token")


@pytest.mark.parametrize("path", ["/v1/files/file_01there", "/v1/files"])
@pytest.mark.parametrize(
    ("fails", "status", "retry", "told"),
    [
        (fails_by_its_proxy, 502, None, "account 'b': the upstream's server cannot be reached"),
        (fails_by_its_key, 503, "false", "the credential of account 'b' is not accepted: 401"),
        (fails_by_a_page, 502, None, "account 'b': the upstream refuses: 401 of an edge"),
        (fails_by_its_token, 503, None, "account 'b' has no live token: the token server answered 503"),
    ],
)
async def test_without_isolation_the_account_that_keeps_an_answer_is_named(
    tmp_path: Path,
    path: str,
    fails: Callable[[Service], Awaitable[None]],
    status: int,
    retry: str | None,
    told: str,
) -> None:
    async with serve(tmp_path, accounts=("a", "b"), balancer__isolation="none") as service:
        await fails(service)
        answer = await service.send("GET", path)
        assert (answer.status, answer.header("x-should-retry")) == (status, retry), answer.body
        assert answer.json()["error"]["message"].startswith(told)


async def test_a_look_up_asks_for_all_of_an_answer_whatever_its_client_has_of_it(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b"), balancer__isolation="none") as service:
        made = await made_beside(service, "b")
        part = {"Range": "bytes=0-3", "If-None-Match": '"1"'}
        seen = len(service.simulator.ledger)
        found = await service.send("GET", f"/v1/files/{made}/content", [*part.items()])
        assert found.status == 200
        *looked_up, asked = [dict(entry.headers) for entry in service.simulator.ledger][seen:]
        assert len(looked_up) == 2 and not any(part.keys() & headers.keys() for headers in looked_up)
        assert part.items() <= asked.items()


@pytest.mark.parametrize("state", ["invalid", "inactive"])
async def test_without_isolation_an_account_out_of_service_leaves_an_unknown_id_open(
    tmp_path: Path, state: str
) -> None:
    async with serve(tmp_path, accounts=THREE, balancer__isolation="none") as service:
        made = await made_beside(service, "c")
        await put_out_of_service(service, "c", state)
        answer = await service.send("GET", f"/v1/files/{made}")
        assert (answer.status, answer.header("x-should-retry")) == (503, "false")
        assert answer.json()["error"]["message"] == f"account 'c', which may have {made}, is {state}"
        service.parts.pool.limit(account_id(service, "b"), service.clock.now() + 50, "5h")
        assert (await service.send("GET", f"/v1/files/{made}")).status == 429, "b may have it, and comes back"
        await service.admin("PUT", f"/api/accounts/{account_id(service, 'c')}", {"status": "active"})
        assert (await service.send("GET", f"/v1/files/{made}")).status == 200


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_without_isolation_an_id_that_every_account_denies_is_missing(
    tmp_path: Path, status: int
) -> None:
    async with serve(tmp_path, accounts=THREE, balancer__isolation="none") as service:
        service.simulator.always(None, Error(status), path="/v1/files")
        assert (await service.send("GET", "/v1/files/file_nowhere")).status == 404


@pytest.mark.parametrize("state", ["invalid", "inactive"])
@pytest.mark.parametrize("isolation", ["per_key", "none"])
async def test_a_list_of_which_an_account_out_of_service_has_a_part_is_not_cut_short(
    tmp_path: Path, isolation: str, state: str
) -> None:
    async with serve(tmp_path, accounts=THREE, balancer__isolation=isolation) as service:
        for name in ("a", "b"):
            await upload(service, name)
        counts = isolation == "none" and state == "invalid"
        if not counts:
            await put_out_of_service(service, "c", state)
            listed = await service.send("GET", "/v1/files")
            assert (listed.status, len(listed.json()["data"])) == (200, 2), "nothing is known of c"
        await put_out_of_service(service, "b", state)
        listed = await service.send("GET", "/v1/files")
        assert (listed.status, listed.header("x-should-retry")) == (503, "false")
        why = f"account 'b', which alone can answer this, is {state}"
        assert listed.json()["error"]["message"] == why
        asked = {"path": "/v1/files", "headers": {"x-api-key": CLIENT_KEY}}
        explained = await service.admin("POST", "/api/admin/explain", asked)
        assert explained.json()["error"] == {"status": 503, "type": "api_error", "message": why}
        verdicts = {each["name"]: each["verdict"] for each in explained.json()["accounts"]}
        assert verdicts == {"a": "elsewhere", "b": state, "c": "elsewhere" if counts else state}
        batches = await service.send("GET", "/v1/messages/batches")
        assert batches.status == (503 if counts else 200)


async def test_without_isolation_a_list_lacks_no_invalid_account_of_which_nothing_is_known(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path, accounts=THREE, balancer__isolation="none") as service:
        made = await made_beside(service, "c")
        await put_out_of_service(service, "c", "invalid")
        listed = await service.send("GET", "/v1/files")
        assert (listed.status, listed.header("x-should-retry")) == (503, "false")
        assert listed.json()["error"]["message"] == "account 'c', which alone can answer this, is invalid"
        await service.admin("DELETE", f"/api/accounts/{account_id(service, 'c')}")
        listed = await service.send("GET", "/v1/files")
        assert listed.status == 200 and made not in listed.body.decode()


async def test_a_list_is_not_kept_by_an_account_out_of_service_whose_part_of_it_is_over(
    tmp_path: Path,
) -> None:
    body = json.dumps({"requests": [{"custom_id": "1", "params": json.loads(message())}]}).encode()
    async with serve(tmp_path, accounts=("a", "b")) as service:
        picked = [*MESSAGE_HEADERS, ("x-proxy-account", "b")]
        assert (await service.send("POST", "/v1/messages/batches", picked, body)).status == 200
        await put_out_of_service(service, "b", "invalid")
        assert (await service.send("GET", "/v1/messages/batches")).status == 503
        service.clock.advance(33 * 86_400)
        assert (await service.send("GET", "/v1/messages/batches")).status == 200


async def test_without_isolation_a_batch_that_is_over_is_looked_up_once_more(tmp_path: Path) -> None:
    body = json.dumps({"requests": [{"custom_id": "1", "params": json.loads(message())}]}).encode()
    async with serve(tmp_path, accounts=THREE, balancer__isolation="none") as service:
        made = await service.send("POST", "/v1/messages/batches", MESSAGE_HEADERS, body)
        service.clock.advance(40 * 86_400)
        async with asyncio.timeout(5):
            answer = await service.send("GET", f"/v1/messages/batches/{made.json()['id']}", MESSAGE_HEADERS)
        assert answer.status == 200


# ---- homes


async def test_a_home_is_not_moved_by_hand_nor_by_a_session(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        home = (await upload(service)).header("x-proxy-account")
        other = next(name for name in THREE if name != home)
        assert (await upload(service, other)).header("x-proxy-account") == other
        session = ("x-claude-code-session-id", "0b1f1f0e-6f5c-4f0e-9d51-3c4f2d1f8a11")
        said = await service.send(
            "POST", "/v1/messages", [*MESSAGE_HEADERS, session, ("x-proxy-account", other)], message()
        )
        assert said.header("x-proxy-account") == other
        assert (await upload(service, None, session)).header("x-proxy-account") == home
        assert (await upload(service)).header("x-proxy-account") == home


async def test_a_home_is_not_moved_by_a_key_of_the_group_that_may_not_use_it(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        free = await service.add_key("free", group="team")
        asked = {"name": "bound", "group": "team", "tags": ["x"]}
        bound = (await service.admin("POST", "/api/tokens", asked)).json()["token"]["key"]
        home = (await upload(service, key=free)).header("x-proxy-account")
        other = next(name for name in THREE if name != home)
        await service.admin("PUT", f"/api/accounts/{account_id(service, other)}", {"tags": ["x"]})
        assert (await upload(service, key=bound)).header("x-proxy-account") == other
        assert (await upload(service, key=free)).header("x-proxy-account") == home


async def test_what_is_made_first_at_once_lies_together(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        keys = [await service.add_key(f"{n}") for n in range(4)]
        headers, body = [("content-type", FORM)], form(("file", "a.txt", b"x"))
        made = await asyncio.gather(
            *(service.send("POST", "/v1/files", headers, body, key=key) for _ in range(5) for key in keys)
        )
        homes = [{made[at].header("x-proxy-account") for at in range(n, 20, 4)} for n in range(4)]
        assert [len(home) for home in homes] == [1, 1, 1, 1], homes


# ---- what belongs to something of the group


@pytest.mark.parametrize("accounts", [("a",), THREE], ids=["one", "three"])
async def test_the_files_of_a_session_are_its_group_s_and_those_of_others_are_not(
    tmp_path: Path, accounts: tuple[str, ...]
) -> None:
    async with serve(tmp_path, accounts=accounts) as service:
        other = await service.add_key("other")
        made = {}
        for path, body in (
            ("agents", {"name": "Ada", "model": "claude-sonnet-5-5"}),
            ("environments", {"name": "here"}),
        ):
            sent = await service.send("POST", f"/v1/{path}", MESSAGE_HEADERS, json.dumps(body).encode())
            made[path] = sent.json()["id"]
        asked = json.dumps({"agent": made["agents"], "environment_id": made["environments"]}).encode()
        session = (await service.send("POST", "/v1/sessions", MESSAGE_HEADERS, asked)).json()["id"]
        own = (
            await service.send(
                "POST", "/v1/files", [("content-type", FORM)], form(("file", "a.txt", b"x")), key=other
            )
        ).json()["id"]
        page = {
            "data": [
                {"type": "file", "id": id, "created_at": "2026-11-29T10:00:00Z"} for id in ("file_01new", own)
            ],
            "next_page": None,
        }
        canned = Canned(200, (("content-type", "application/json"),), json.dumps(page).encode())
        for name in accounts:
            service.simulator.always(upstream_key(name), canned, path="/v1/files")
        listed = await service.send("GET", f"/v1/files?scope_id={session}")
        assert listed.status == 200, listed.body
        assert [item["id"] for item in listed.json()["data"]] == ["file_01new"]
        assert "file_01new" in kept_text(tmp_path, "resources")
        hidden = await service.send("GET", f"/v1/files?scope_id={session}", key=other)
        assert hidden.status == 404
        again = await service.send("GET", "/v1/files/file_01new", key=other)
        assert again.status == 404


@pytest.mark.parametrize("isolation", ["per_key", "none"])
async def test_what_an_account_had_is_found_again_once_it_is_added_anew(
    tmp_path: Path, isolation: str
) -> None:
    accounts = ("a",) if isolation == "per_key" else THREE
    async with serve(tmp_path, accounts=accounts, balancer__isolation=isolation) as service:
        other = await service.add_key("other")
        made = await upload(service, "a")
        path = f"/v1/files/{made.json()['id']}"
        await service.admin("DELETE", f"/api/accounts/{account_id(service, 'a')}")
        await service.parts.pool.add("a", ApiKey(upstream_key("a")))
        assert (await service.send("GET", path)).status == 200
        await upload(service, "a", key=other)
        listed = await service.send("GET", "/v1/files")
        assert made.json()["id"] in [item["id"] for item in listed.json()["data"]]
        assert (await service.send("GET", path, key=other)).status == (404 if isolation == "per_key" else 200)
