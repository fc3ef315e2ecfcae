"""Logging in over HTTP: the link, the way back, what is pasted, what is told, and what never comes out."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from proxy.simulator import Amend, Error, Fault, Reset, Simulator, Slow
from tests.canaries import holders, leaked
from tests.logins import TOKEN, Browser, arguments, as_json, begin, full_disk, pair, simulating, stored, visit
from tests.process import forked, write_config
from tests.service import ADMIN_KEY, CLIENT_KEY, Service, SteppedClock, serve
from tests.wire import Answer, fetch

ROUTES = ["/oauth/exchange", "/api/accounts"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def add(service: Service, organization: str = "Acme", **more: str) -> dict[str, Any]:
    """A whole login by what is pasted."""
    browser = await begin(service, organization)
    answer = await service.admin("POST", "/api/accounts", {"code": browser.pasted} | more)
    assert answer.status == 201
    return dict(answer.json()["account"])


def told(answer: Answer) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status, error["type"], error["message"]


# ---- the link


async def test_the_link_leads_to_the_provider_and_back_here(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("GET", "/oauth/authorize")
        shown = answer.json()
        query = arguments(shown["authorization_url"])
        assert answer.status == 200 and set(shown) == {"authorization_url", "state", "flow_id", "expires_at"}
        assert shown["authorization_url"].startswith(service.simulator.authorize_url)
        assert (
            query["redirect_uri"] == "http://127.0.0.1/oauth/callback"
        )  # as the admin called it: the Host header
        assert query["state"] == shown["state"] and query["code_challenge_method"] == "S256"
        assert TIME.fullmatch(shown["expires_at"])


async def test_the_link_ends_in_ten_minutes(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        first = (await service.admin("GET", "/oauth/authorize")).json()["expires_at"]
        service.clock.advance(600)
        account = await add(service)
        assert account["created_at"] == first


async def test_a_redirect_uri_of_one_s_own_is_used_in_the_link_and_in_the_exchange(tmp_path: Path) -> None:
    own = "http://localhost:8123/own"
    async with serve(tmp_path, oauth__redirect_uri=own) as service:
        url = (await service.admin("GET", "/oauth/authorize")).json()["authorization_url"]
        assert arguments(url)["redirect_uri"] == own
        browser = Browser(service.simulator.authorize(url, organization="Acme"))
        assert (await service.admin("POST", "/oauth/exchange", {"code": browser.pasted})).status == 201
        assert service.simulator.ledger.token_calls()[0].json()["redirect_uri"] == own


async def test_behind_a_public_origin_the_way_back_is_there(tmp_path: Path) -> None:
    async with serve(tmp_path, server__public_origins="https://proxy.example.com") as service:
        headers = [("X-API-Key", ADMIN_KEY), ("Host", "proxy.example.com")]
        answer = await fetch(service.port, "GET", "/oauth/authorize", headers)
        query = arguments(answer.json()["authorization_url"])
        assert query["redirect_uri"] == "https://proxy.example.com/oauth/callback"


async def test_a_link_for_an_account_that_is_none_is_not_given(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["key"]) as service:
        [key] = service.parts.pool
        assert (await service.admin("GET", "/oauth/authorize?account_id=acc_unknown")).status == 404
        assert (await service.admin("GET", f"/oauth/authorize?account_id={key.id}")).status == 422


@pytest.mark.parametrize("missing", ["client_id", "authorize_url", "token_url"])
async def test_without_a_registration_it_says_what_to_set(
    tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import service as harness

    real = harness.load_settings
    monkeypatch.setattr(
        harness,
        "load_settings",
        lambda path, environ: real(
            path, {k: v for k, v in environ.items() if k != f"OAUTH__{missing.upper()}"}
        ),
    )
    async with serve(tmp_path) as service:
        [key] = service.parts.pool
        asked = [
            await service.admin("GET", "/oauth/authorize"),
            *[await service.admin("POST", route, {"code": "a-code#state"}) for route in ROUTES],
            await service.admin("POST", f"/api/accounts/{key.id}/reauthorize", {"code": "a-code#state"}),
        ]
        for answer in asked:
            assert answer.status == 422 and "set oauth.client_id" in told(answer)[2]
        assert (await visit(service, "/oauth/callback?code=a-code-of-8&state=x")).status == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/oauth/authorize"),
        ("POST", "/oauth/exchange"),
        ("POST", "/api/accounts"),
        ("POST", "/api/accounts/x/refresh"),
        ("POST", "/api/accounts/x/reauthorize"),
    ],
)
async def test_only_an_admin_logs_in(tmp_path: Path, method: str, path: str) -> None:
    async with serve(tmp_path) as service:
        assert (await visit(service, path, method)).status == 401
        assert (await service.admin(method, path, {"code": "a-code#state"}, key=CLIENT_KEY)).status == 403


# ---- by redirect


async def test_the_way_back_makes_the_account_without_any_key(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        answer = await visit(service, browser.path)
        [account] = service.parts.pool
        assert (answer.status, account.name) == (200, "owner@acme.example")
        assert pair(stored(tmp_path, account.id)) == pair(account)
        assert answer.header("content-type") == "text/html; charset=utf-8"
        assert answer.header("cache-control") == "no-store"
        assert "default-src 'none'" in str(answer.header("content-security-policy"))
        assert answer.header("referrer-policy") == "no-referrer"
        assert (await service.message()).header("x-proxy-account") == "owner@acme.example"


async def test_the_page_shows_nothing_of_the_account(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        page = (await visit(service, browser.path)).body.decode()
        [account] = service.parts.pool
        assert "Account added" in page and "You can close this tab." in page
        private = [account.id, account.name, str(account.organization_uuid), browser.code]
        assert "acme" not in page.lower()
        assert not leaked(page, [*private, browser.state, *map(str, pair(account)), str(tmp_path)])


async def test_an_account_that_logged_in_answers_with_its_token_and_the_beta_header(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        await add(service)
        assert (await service.message(stream=True, headers=[("anthropic-beta", "x-1")])).status == 200
        [entry] = service.simulator.ledger.inference()
        assert entry.credential_headers == ("authorization",)
        assert entry.header("anthropic-beta") == "x-1,oauth-2025-04-20"


@pytest.mark.parametrize("times", [2, 3])
async def test_the_way_back_visited_again_shows_the_same(tmp_path: Path, times: int) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        pages = [(await visit(service, browser.path)).body for _ in range(times)]
        assert len(set(pages)) == len(service.parts.pool) == len(service.simulator.ledger.token_calls()) == 1


@pytest.mark.parametrize("route", ROUTES)
async def test_what_came_back_and_is_pasted_too_is_the_same_success(tmp_path: Path, route: str) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        await visit(service, browser.path)
        [account] = service.parts.pool
        for pasted in (browser.pasted, browser.location, browser.code):
            answer = await service.admin("POST", route, {"code": pasted})
            assert (answer.status, answer.json()["account"]["id"]) == (201, account.id)
        assert len(service.simulator.ledger.token_calls()) == 1


async def test_many_ways_back_at_once_make_one_account(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        browser = await begin(service)
        service.simulator.script(None, Slow(5), path=TOKEN)
        asked = [asyncio.create_task(visit(service, browser.path)) for _ in range(3)]
        await clock.asleep(5)
        asked += [
            asyncio.create_task(service.admin("POST", route, {"code": browser.pasted}))
            for route in ROUTES * 2
        ]
        for _ in range(50):
            await asyncio.sleep(0)
        clock.advance(5)
        answers = await asyncio.gather(*asked)
        assert [answer.status for answer in answers] == [200] * 3 + [201] * 4
        assert len(service.parts.pool) == len(service.simulator.ledger.token_calls()) == 1


async def test_a_state_works_once(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        await visit(service, browser.path)
        other = await begin(service, "Globex")
        stolen = f"/oauth/callback?code={other.code}&state={browser.state}"
        assert (await visit(service, stolen)).status == 400
        assert len(service.parts.pool) == 1


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, "There is no code in this address"),
        ("?code=a-code-of-more", 400, "This link expired"),
        ("?code=a-code-of-more&state=", 400, "This link expired"),
        ("?code=a-code-of-more&state=unknown", 400, "This link expired"),
        ("?state=unknown&error=access_denied", 400, "This link expired"),
        ("?error=access_denied", 400, "This link expired"),
        ("?code=%00&state=%ff", 400, ""),
    ],
)
async def test_a_way_back_that_belongs_to_no_login_shows_a_page(
    tmp_path: Path, query: str, status: int, text: str
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        await begin(service)
        answer = await visit(service, f"/oauth/callback{query}")
        assert answer.status == status and text in answer.body.decode()
        assert len(service.parts.pool) == len(service.simulator.ledger.token_calls()) == 0


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("access_denied", "Authorisation was cancelled"),
        ("invalid_scope", "The provider refused the login: invalid_scope."),
        ("<script>alert(1)</script>", "The provider refused the login: an unknown error."),
    ],
)
async def test_a_login_that_the_provider_refused_is_told_and_used_up(
    tmp_path: Path, error: str, text: str
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        answer = await visit(service, f"/oauth/callback?error={quote(error)}&state={browser.state}")
        assert answer.status == 400 and text in answer.body.decode()
        assert "Nothing was added." in answer.body.decode() and b"<script" not in answer.body
        assert (await visit(service, browser.path)).status == 400
        assert len(service.parts.pool) == 0


async def test_a_code_that_claude_refuses_shows_a_page(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        answer = await visit(service, f"/oauth/callback?code=not-the-code&state={browser.state}")
        assert answer.status == 422 and "Claude did not accept the code." in answer.body.decode()


async def test_a_conflict_shows_nothing_of_other_accounts(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account = await add(service, name="team-a")
        browser = await begin(service)
        answer = await visit(service, browser.path)
        assert answer.status == 409 and "see the dashboard" in answer.body.decode()
        assert not [word for word in ("team-a", account["id"], "Acme") if word.encode() in answer.body]


async def test_what_cannot_be_saved_shows_a_page_without_the_folder_and_works_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        full_disk(monkeypatch)
        answer = await visit(service, browser.path)
        assert (answer.status, answer.header("content-type")) == (503, "text/html; charset=utf-8")
        assert not leaked(answer.body, [str(tmp_path)]) and len(service.parts.pool) == 0
        monkeypatch.undo()
        assert (await visit(service, browser.path)).status == 200
        assert len(service.simulator.ledger.token_calls()) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_the_way_back_is_only_visited(tmp_path: Path, method: str) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        assert (await visit(service, browser.path, method)).status == 405
        assert len(service.parts.pool) == 0


# ---- by hand


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("form", ["code#state", "url", "broken url", "bare", "state beside it"])
async def test_a_login_is_finished_by_whatever_is_pasted(tmp_path: Path, route: str, form: str) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        b = await begin(service)
        body = {
            "code#state": {"code": f"  {b.pasted}\n"},
            "url": {"code": b.location},
            "broken url": {"code": f"{b.location[:30]}\r\n{b.location[30:60]}\n {b.location[60:]}"},
            "bare": {"code": b.code},
            "state beside it": {"code": b.code, "state": b.state},
        }[form]
        answer = await service.admin("POST", route, body | {"name": "team-a"})
        shown = answer.json()["account"]
        assert (answer.status, shown["name"], shown["type"], shown["status"]) == (
            201,
            "team-a",
            "oauth",
            "active",
        )
        assert shown["organization_uuid"] and TIME.fullmatch(shown["expires_at"])
        assert stored(tmp_path, shown["id"])["name"] == "team-a"


async def test_the_page_that_shows_the_code_is_enough(tmp_path: Path) -> None:
    async with (
        simulating(Simulator()) as login,
        serve(
            tmp_path,
            accounts=[],
            oauth__authorize_url=login.authorize_url,
            oauth__token_url=login.token_url,
            oauth__redirect_uri=login.manual_redirect_uri,
        ) as service,
    ):
        url = (await service.admin("GET", "/oauth/authorize")).json()["authorization_url"]
        location = urlsplit(login.authorize(url, organization="Acme"))
        page = await fetch(location.port or 0, "GET", f"{location.path}?{location.query}")
        [pasted] = re.findall(r"<code>(.*)</code>", page.body.decode())
        assert "#" in pasted
        assert (await service.admin("POST", "/api/accounts", {"name": "x", "code": pasted})).status == 201


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"code": None}, 422),
        ({"code": 7}, 422),
        ({"code": "a-code#state", "verifier": "x"}, 422),
        ({"code": "a-code#state", "name": 7}, 422),
        ([], 400),
    ],
    ids=str,
)
async def test_a_body_that_is_off_is_told(tmp_path: Path, route: str, body: Any, status: int) -> None:
    async with serve(tmp_path) as service:
        await begin(service)
        answer = await service.admin("POST", route, body)
        assert answer.status == status and answer.json()["error"]["type"] == "invalid_request_error"


PASTE = "Paste the code shown after you authorised. It is one long string, usually with a # in it."
SIX_DIGITS = "That looks like the 6-digit e-mail sign-in code. Enter it on "
EXPIRED = "This link expired (valid 10 minutes) or the server restarted. Get a new link."
MISMATCH = "This code belongs to a different link. Open the link above again and paste the new code."
REFUSED = "Claude did not accept the code. Codes work once and only for a few minutes. Get a new link."
CANCELLED = "Authorisation was cancelled "
STILL_VALID = "Your code may still be valid: try again."


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("code", "more", "expected"),
    [
        ("", {}, (400, "code_missing", PASTE)),
        (" \n ", {}, (400, "code_missing", PASTE)),
        ("abc", {}, (400, "code_missing", PASTE)),
        ("123456", {}, (400, "six_digits", SIX_DIGITS)),
        (" 123 456\n", {}, (400, "six_digits", SIX_DIGITS)),
        ("{code}#{state}", {"state": "another"}, (400, "state_mismatch", MISMATCH)),
        ("{code}#unknown-state", {}, (400, "flow_expired", EXPIRED)),
        ("{code}", {"state": "unknown-state"}, (400, "flow_expired", EXPIRED)),
        ("not-the-code#{state}", {}, (422, "invalid_grant", REFUSED)),
        ("http://x/oauth/callback?error=access_denied&state={state}", {}, (400, "access_denied", CANCELLED)),
    ],
)
async def test_what_goes_wrong_is_told_in_words(
    tmp_path: Path, route: str, code: str, more: dict[str, str], expected: tuple[int, str, str]
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        pasted = code.format(code=browser.code, state=browser.state)
        status, type, message = told(await service.admin("POST", route, {"code": pasted} | more))
        assert (status, type) == expected[:2] and message.startswith(expected[2])
        assert not leaked(message, [browser.code, browser.state])
        # Nothing is used up by it.
        assert (await service.admin("POST", route, {"code": browser.pasted})).status == 201


@pytest.mark.parametrize("route", ROUTES)
async def test_a_link_of_eleven_minutes_ago_has_expired(tmp_path: Path, route: str) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        service.clock.advance(660)
        answer = await service.admin("POST", route, {"code": browser.pasted})
        assert told(answer) == (400, "flow_expired", EXPIRED)
        assert (await visit(service, browser.path)).status == 400


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("fault", "text", "retry_after"),
    [
        (Reset(), "The server could not reach Claude", None),
        (Error(429, headers=(("retry-after", "30"),)), "Claude asks to wait 30 s.", "30"),
        (Error(502), "answered 502", None),
        (Error(500, html=True), "answered 500", None),
    ],
)
async def test_trouble_at_the_token_server_leaves_the_code_good(
    tmp_path: Path, route: str, fault: Fault, text: str, retry_after: str | None
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        browser = await begin(service)
        service.simulator.script(None, fault, path=TOKEN)
        answer = await service.admin("POST", route, {"code": browser.pasted})
        status, type, message = told(answer)
        assert (status, type, answer.header("retry-after")) == (502, "upstream_unreachable", retry_after)
        assert text in message and message.endswith(STILL_VALID)
        assert (await service.admin("POST", route, {"code": browser.pasted})).status == 201


@pytest.mark.parametrize("route", ROUTES)
async def test_a_token_server_that_is_not_there_leaves_the_code_good(tmp_path: Path, route: str) -> None:
    async with simulating(Simulator()) as gone:
        token_url = gone.token_url
    async with serve(tmp_path, accounts=[], oauth__token_url=token_url) as service:
        browser = await begin(service)
        status, type, message = told(await service.admin("POST", route, {"code": browser.pasted}))
        assert (status, type) == (502, "upstream_unreachable")
        assert message.startswith("The server could not reach Claude") and message.endswith(STILL_VALID)


@pytest.mark.parametrize("route", ROUTES)
async def test_an_organisation_that_is_there_already_may_be_re_authorised_with_the_same_code(
    tmp_path: Path, route: str
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        first = await add(service, name="team-a")
        browser = await begin(service)
        answer = await service.admin("POST", route, {"code": browser.pasted})
        assert (answer.status, answer.json()["error"]) == (
            409,
            {
                "type": "duplicate_org",
                "message": "This organisation is already added as 'team-a'. Re-authorise 'team-a' instead.",
                "account_id": first["id"],
            },
        )
        path = f"/api/accounts/{first['id']}/reauthorize"
        again = await service.admin("POST", path, {"code": browser.code, "state": browser.state})
        assert (again.status, again.json()["account"]["id"]) == (200, first["id"])
        assert len(service.parts.pool) == 1 and len(service.simulator.ledger.token_calls()) == 2


@pytest.mark.parametrize("route", ROUTES)
async def test_a_name_that_is_taken_may_be_replaced_with_the_same_code(tmp_path: Path, route: str) -> None:
    async with serve(tmp_path, accounts=["x"]) as service:
        browser = await begin(service)
        answer = await service.admin("POST", route, {"code": browser.pasted, "name": "X"})
        assert told(answer) == (409, "name_taken", "An account called 'X' exists. Choose another name.")
        answer = await service.admin("POST", route, {"code": browser.pasted, "name": "y"})
        assert (answer.status, answer.json()["account"]["name"]) == (201, "y")
        assert len(service.simulator.ledger.token_calls()) == 1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("where", ["link", "body"])
async def test_an_organisation_that_was_not_asked_for_is_refused(
    tmp_path: Path, route: str, where: str
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        globex = service.simulator.add_oauth(organization="Globex").organization.uuid
        browser = await begin(service, "Acme", f"?org_id={globex}" if where == "link" else "")
        body = {"code": browser.pasted} | ({"org_id": globex} if where == "body" else {})
        status, type, message = told(await service.admin("POST", route, body))
        assert (status, type) == (409, "wrong_org")
        assert message.startswith("You signed in to 'Acme', but") and message.endswith("Nothing was changed.")
        assert len(service.parts.pool) == 0


# ---- re-authorised


@pytest.mark.parametrize("by", ["redirect", "paste"])
async def test_an_account_is_re_authorised_in_place(tmp_path: Path, by: str) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        first = await add(service, name="team-a")
        for _ in range(3):
            assert (await service.message()).status == 200
        service.parts.pool.invalidate(first["id"], "401")
        before = stored(tmp_path, first["id"])
        path = f"/api/accounts/{first['id']}"
        if by == "redirect":
            browser = await begin(service, query=f"?account_id={first['id']}")
            assert (await visit(service, browser.path)).status == 200
        else:
            browser = await begin(service)
            answer = await service.admin("POST", f"{path}/reauthorize", {"code": browser.pasted})
            assert answer.status == 200 and answer.json() == (await service.admin("GET", path)).json()
        shown = (await service.admin("GET", path)).json()["account"]
        kept = ("id", "name", "created_at", "organization_uuid", "type")
        assert [shown[name] for name in kept] == [first[name] for name in kept]
        assert (shown["status"], shown["status_reason"], shown["requests"]) == ("active", None, 3)
        record = stored(tmp_path, first["id"])
        assert record["status"] == "active" and pair(record) != pair(before)
        assert len(service.parts.pool) == 1 and (await service.message()).status == 200


async def test_a_re_authorised_account_that_is_inactive_stays_so(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        first = await add(service)
        path = f"/api/accounts/{first['id']}"
        await service.admin("PUT", path, {"status": "inactive"})
        browser = await begin(service)
        answer = await service.admin("POST", f"{path}/reauthorize", {"code": browser.pasted})
        assert (answer.status, answer.json()["account"]["status"]) == (200, "inactive")
        assert (await service.message()).status == 503


async def test_another_organisation_does_not_re_authorise(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        first = await add(service, name="team-a")
        before = stored(tmp_path, first["id"])
        browser = await begin(service, "Globex")
        answer = await service.admin(
            "POST", f"/api/accounts/{first['id']}/reauthorize", {"code": browser.pasted}
        )
        status, type, message = told(answer)
        assert (status, type) == (409, "wrong_org")
        assert "'Globex'" in message and "'team-a'" in message and message.endswith("Nothing was changed.")
        assert stored(tmp_path, first["id"]) == before


async def test_only_an_oauth_account_that_exists_is_re_authorised(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["key"]) as service:
        [key] = service.parts.pool
        browser = await begin(service)
        for id, status in ((key.id, 422), ("acc_unknown", 404)):
            answer = await service.admin("POST", f"/api/accounts/{id}/reauthorize", {"code": browser.pasted})
            assert answer.status == status
        assert len(service.parts.pool) == 1


# ---- no secret comes out


async def test_no_answer_log_line_page_or_file_holds_a_secret_of_a_login(tmp_path: Path) -> None:
    """Over a process of its own with all its log lines, and every answer with its headers."""
    said: list[bytes] = []

    def heard(answer: Answer) -> Answer:
        said.append(json.dumps(answer.headers).encode() + answer.body)
        return answer

    async with simulating(Simulator(organizations=("Acme", "Globex"))) as simulator:
        variables = {
            "CLAUDE__BASE_URL": simulator.base_url,
            "OAUTH__CLIENT_ID": simulator.client_id,
            "OAUTH__AUTHORIZE_URL": simulator.authorize_url,
            "OAUTH__TOKEN_URL": simulator.token_url,
            "LOGGER__LEVEL": "debug",
        }
        config = write_config(tmp_path)
        async with forked(tmp_path, "--config", str(config), **variables) as process:
            key = heard(await process.admin("POST", "/api/tokens", {"name": "c"})).json()["token"]["key"]
            secrets = await _a_whole_life(process, simulator, heard, key)
            process.signal(signal.SIGTERM)
            await process.ended()  # all lines are written
            said.append(process.printed.encode() + process.stderr.encode())
    folder = tmp_path / "data"
    accounts = {path.name for path in holders(tmp_path, secrets)}
    own = {f"{path.stem}{end}" for path in (folder / "accounts").iterdir() for end in (".json", ".json.bak")}
    assert len(secrets) > 12 and accounts and accounts <= own
    assert not leaked(b"".join(said), [*secrets, ADMIN_KEY])
    assert b"/oauth/callback" in b"".join(said)  # the log is at work


async def _a_whole_life(process: Any, simulator: Simulator, heard: Any, key: str) -> set[str]:
    """Logins good and bad, refreshes good and bad; every secret that was on the way."""
    codes: list[str] = []

    async def back(organization: str) -> Browser:
        url = heard(await process.admin("GET", "/oauth/authorize")).json()["authorization_url"]
        browser = Browser(simulator.authorize(url, organization=organization))
        codes.append(browser.code)
        return browser

    async def post(path: str, body: Any = None) -> Answer:
        answer: Answer = heard(await process.admin("POST", path, body))
        return answer

    acme = await back("Acme")
    heard(await process.send("GET", acme.path))
    heard(await process.send("GET", acme.path))
    await post("/oauth/exchange", {"code": acme.pasted})
    again = await back("Acme")
    heard(await process.send("GET", again.path))
    conflict = await post("/api/accounts", {"code": again.pasted})
    path = f"/api/accounts/{conflict.json()['error']['account_id']}"
    await post(f"{path}/reauthorize", {"code": again.pasted})
    globex = await back("Globex")
    simulator.script(None, Reset(), as_json({"error": globex.code}, 400), path=TOKEN)
    for _ in range(2):
        await post("/api/accounts", {"code": globex.pasted, "name": "x"})
    await post("/api/accounts", {"code": f"{globex.code}x#{globex.state}"})
    await post("/api/accounts", {"code": globex.pasted, "org_id": "another"})
    await post("/api/accounts", {"code": globex.pasted, "verifier": globex.code})
    await post("/api/accounts", {"code": globex.pasted})
    token = simulator.ledger.token_calls()[-1]
    simulator.script(
        None,
        Error(500),
        Amend(set={"access_token": ""}),
        as_json({"error": token.credential}, 400),
        path=TOKEN,
    )
    for _ in range(5):
        await post(f"{path}/refresh")
    for _ in range(4):
        headers = [("x-api-key", key), ("anthropic-version", "2023-06-01")]
        heard(await process.send("GET", "/v1/models", headers))
    heard(await process.admin("GET", "/api/accounts"))
    heard(await process.send("GET", "/health"))
    sent = [entry.json() for entry in simulator.ledger.token_calls()]
    return {
        *codes,
        *simulator.tokens(),
        *(
            value
            for body in sent
            for name, value in body.items()
            if name in ("code", "code_verifier", "refresh_token")
        ),
        *(str(entry.credential) for entry in simulator.ledger if entry.credential),
    }
