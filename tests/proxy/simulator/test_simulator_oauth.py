"""Logging in, refreshing, and calling with what that gives."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from simulator_wire import FakeClock, Wire
from tornado.httpclient import HTTPResponse

from proxy.simulator import Amend, Error, Grant, Lost, Simulator

VERIFIER = "v" * 43
REDIRECT = "http://localhost:4000/oauth/callback"
TOKEN_PATH = "/v1/oauth/token"
BETA = "oauth-2025-04-20"


def login_url(sim: Simulator, **more: str) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    query = {
        "client_id": sim.client_id,
        "response_type": "code",
        "redirect_uri": REDIRECT,
        "scope": "user:profile user:inference",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "state": "st",
    }
    return f"{sim.authorize_url}?{urlencode(query | more)}"


def arguments(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


async def exchange(wire: Wire, **more: str) -> HTTPResponse:
    code = arguments(wire.sim.authorize(login_url(wire.sim), organization="Acme"))["code"]
    body = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
        "state": "st",
    }
    return await wire.token(**(body | more))


async def call(wire: Wire, access_token: str, path: str = "/v1/models", beta: str = BETA) -> HTTPResponse:
    return await wire.get(
        path, credential=None, authorization=f"Bearer {access_token}", anthropic_beta=f"x, {beta}"
    )


def error_of(response: HTTPResponse) -> tuple[int, Any]:
    return response.code, json.loads(response.body)["error"]


@pytest.fixture
def grant(sim: Simulator) -> Grant:
    return sim.add_oauth(organization="Acme", email="ada@acme.example")


async def test_a_login_gives_tokens_that_work(wire: Wire) -> None:
    response = await exchange(wire)
    answer = json.loads(response.body)
    assert answer["access_token"].startswith("sk-ant-oat01-")
    assert answer["refresh_token"].startswith("sk-ant-ort01-")
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 28800)
    assert answer["scope"] == "user:profile user:inference"
    assert answer["organization"]["name"] == "Acme" and answer["account"]["email_address"]
    assert response.headers["cache-control"] == "no-store"
    assert (await call(wire, answer["access_token"])).code == 200


async def test_the_page_leads_to_each_organization_and_out(make_wire: Callable[..., Wire]) -> None:
    wire = make_wire(organizations=("Acme", "B & <Co>"))
    path = login_url(wire.sim).removeprefix(wire.sim.base_url)
    page = (await wire.get(path, credential=None)).body.decode()
    assert page.count("Authorise") == 2 and "B &amp; &lt;Co&gt;" in page and "Cancel" in page
    chosen = await wire.get(f"{path}&auto=Acme", credential=None)
    assert chosen.code == 302 and arguments(chosen.headers["location"])["state"] == "st"
    left = await wire.get(f"{path}&cancel=1", credential=None)
    assert arguments(left.headers["location"]) == {"error": "access_denied", "state": "st"}


async def test_the_manual_page_shows_code_and_state(wire: Wire, sim: Simulator) -> None:
    url = sim.authorize(login_url(sim, redirect_uri=sim.manual_redirect_uri), organization="Acme")
    page = (await wire.get(url.removeprefix(sim.base_url), credential=None)).body.decode()
    assert f"{arguments(url)['code']}#st" in page


@pytest.mark.parametrize(
    "wrong", [{"client_id": "other"}, {"redirect_uri": "https://evil.example/"}, {"redirect_uri": ""}]
)
async def test_a_wrong_client_or_redirect_is_never_redirected(wire: Wire, wrong: dict[str, str]) -> None:
    path = login_url(wire.sim, auto="Acme", **wrong).removeprefix(wire.sim.base_url)
    response = await wire.get(path, credential=None)
    assert response.code == 400 and "location" not in response.headers


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"state": ""}, "invalid_request"),
        ({"scope": "user:everything"}, "invalid_scope"),
    ],
)
def test_a_wrong_request_is_sent_back_with_its_error(
    sim: Simulator, wrong: dict[str, str], error: str
) -> None:
    assert arguments(sim.authorize(login_url(sim, **wrong), organization="Acme"))["error"] == error


@pytest.mark.parametrize(
    "wrong",
    [{"code_verifier": "w" * 43}, {"redirect_uri": "http://localhost:1/"}, {"state": "x"}, {"code": "x"}],
)
async def test_a_code_is_refused_where_anything_differs(wire: Wire, wrong: dict[str, str]) -> None:
    assert error_of(await exchange(wire, **wrong)) == (400, "invalid_grant")


async def test_a_code_lives_ten_minutes(wire: Wire, clock: FakeClock) -> None:
    code = arguments(wire.sim.authorize(login_url(wire.sim), organization="Acme"))["code"]
    clock.wall += 600
    assert error_of(await exchange(wire, code=code)) == (400, "invalid_grant")


async def test_a_code_used_twice_takes_back_what_it_gave(wire: Wire) -> None:
    code = arguments(wire.sim.authorize(login_url(wire.sim), organization="Acme"))["code"]
    given = json.loads((await exchange(wire, code=code)).body)
    assert error_of(await exchange(wire, code=code)) == (400, "invalid_grant")
    assert (await call(wire, given["access_token"])).code == 401


async def test_a_refresh_token_works_once(wire: Wire, grant: Grant) -> None:
    old = grant.refresh_token
    answer = json.loads((await wire.refresh(old)).body)
    assert answer["refresh_token"] == grant.refresh_token != old
    assert (await call(wire, answer["access_token"])).code == 200
    assert error_of(await wire.refresh(old)) == (400, "invalid_grant")


async def test_with_grace_the_old_token_works_until_the_new_is_used(make_wire: Callable[..., Wire]) -> None:
    wire = make_wire(refresh_rotation="grace")
    grant = wire.sim.add_oauth()
    old = grant.refresh_token
    lost = json.loads((await wire.refresh(old)).body)
    again = json.loads((await wire.refresh(old)).body)
    assert error_of(await wire.refresh(lost["refresh_token"])) == (400, "invalid_grant")
    assert (await call(wire, again["access_token"])).code == 200
    assert error_of(await wire.refresh(old)) == (400, "invalid_grant")
    assert (await wire.refresh(again["refresh_token"])).code == 200


async def test_a_lost_answer_has_rotated_the_token(wire: Wire, grant: Grant) -> None:
    old = grant.refresh_token
    wire.sim.script(None, Lost(reset=True), path=TOKEN_PATH)
    assert (await wire.refresh(old)).code == 599
    assert grant.refresh_token != old
    assert error_of(await wire.refresh(old)) == (400, "invalid_grant")


async def test_a_script_of_the_token_path_may_be_about_one_grant(wire: Wire, grant: Grant) -> None:
    other = wire.sim.add_oauth()
    wire.sim.script(grant, Error(429, headers=(("retry-after", "7"),)), path=TOKEN_PATH)
    assert (await wire.refresh(other.refresh_token)).code == 200
    assert (await wire.refresh(grant.refresh_token)).headers["retry-after"] == "7"


async def test_a_script_of_a_token_outlives_its_refresh(wire: Wire, grant: Grant) -> None:
    wire.sim.script(grant.access_token, Error(429))
    assert (await wire.refresh(grant.refresh_token)).code == 200
    assert (await call(wire, grant.access_token)).code == 429


async def test_a_token_answer_can_be_made_absurd(wire: Wire, grant: Grant) -> None:
    wire.sim.script(None, Amend(set={"expires_in": -1}, remove=("refresh_token",)), path=TOKEN_PATH)
    answer = json.loads((await wire.refresh(grant.refresh_token)).body)
    assert answer["expires_in"] == -1 and "refresh_token" not in answer


async def test_an_access_token_expires(wire: Wire, grant: Grant, clock: FakeClock) -> None:
    clock.wall += 28800
    response = await call(wire, grant.access_token)
    assert response.code == 401 and b"OAuth token has expired." in response.body


async def test_a_test_may_expire_or_revoke(wire: Wire, grant: Grant) -> None:
    wire.sim.expire(grant.access_token)
    assert (await call(wire, grant.access_token)).code == 401
    assert (await wire.refresh(grant.refresh_token)).code == 200
    wire.sim.revoke(grant)
    assert (await call(wire, grant.access_token)).code == 401
    assert error_of(await wire.refresh(grant.refresh_token)) == (400, "invalid_grant")


async def test_a_token_needs_the_oauth_beta_and_the_bearer_header(wire: Wire, grant: Grant) -> None:
    response = await call(wire, grant.access_token, beta="oauth")
    assert response.code == 401
    assert b"OAuth authentication is currently not supported." in response.body
    assert (await wire.get("/v1/models", credential=grant.access_token, anthropic_beta=BETA)).code == 401


async def test_the_profile_names_account_and_organization(wire: Wire, grant: Grant) -> None:
    profile = json.loads((await call(wire, grant.access_token, "/api/oauth/profile", beta="")).body)
    assert profile["account"]["email"] == "ada@acme.example"
    assert profile["organization"]["uuid"] == grant.organization.uuid


async def test_the_profile_needs_its_scope(wire: Wire) -> None:
    grant = wire.sim.add_oauth(scope="user:inference")
    assert (await call(wire, grant.access_token, "/api/oauth/profile")).code == 403


async def test_the_token_endpoint_takes_json_only(wire: Wire, grant: Grant) -> None:
    form = urlencode({"grant_type": "refresh_token", "refresh_token": grant.refresh_token}).encode()
    response = await wire.send(
        "POST", TOKEN_PATH, form, credential=None, content_type="application/x-www-form-urlencoded"
    )
    assert error_of(response) == (400, "invalid_request")


async def test_token_calls_are_in_the_ledger_with_the_token_they_bring(wire: Wire, grant: Grant) -> None:
    old = grant.refresh_token
    await wire.refresh(old)
    assert [entry.credential for entry in wire.sim.ledger.token_calls()] == [old]
    assert wire.sim.ledger.for_organization("Acme") == list(wire.sim.ledger)
