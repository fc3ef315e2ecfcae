"""Logging in, refreshing, and calling with what that gives."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from proxy.simulator import Amend, Error, Grant, Lost, Simulator
from tests.proxy.simulator.http import Client, FakeClock
from tests.wire import Answer, Cut

VERIFIER = "v" * 43
REDIRECT = "http://localhost:4000/oauth/callback"
TOKEN = "/v1/oauth/token"
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


async def exchange(client: Client, **more: str) -> Answer:
    code = arguments(client.sim.authorize(login_url(client.sim), organization="Acme"))["code"]
    body = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
        "state": "st",
    }
    return await client.token(**(body | more))


async def call(client: Client, access_token: str, path: str = "/v1/models", beta: str = BETA) -> Answer:
    return await client.get(
        path, credential=None, authorization=f"Bearer {access_token}", anthropic_beta=f"x, {beta}"
    )


def error_of(response: Answer) -> tuple[int, Any]:
    return response.status, response.json()["error"]


@pytest.fixture
def grant(sim: Simulator) -> Grant:
    return sim.add_oauth(organization="Acme", email="ada@acme.example")


async def test_a_login_gives_tokens_that_work(client: Client) -> None:
    response = await exchange(client)
    answer = response.json()
    assert answer["access_token"].startswith("sk-ant-oat01-")
    assert answer["refresh_token"].startswith("sk-ant-ort01-")
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 28800)
    assert answer["scope"] == "user:profile user:inference"
    assert answer["organization"]["name"] == "Acme" and answer["account"]["email_address"]
    assert response.header("cache-control") == "no-store"
    assert (await call(client, answer["access_token"])).status == 200


async def test_the_page_leads_to_each_organization_and_out(
    make_client: Callable[..., Awaitable[Client]],
) -> None:
    client = await make_client(organizations=("Acme", "B & <Co>"))
    path = login_url(client.sim).removeprefix(client.sim.base_url)
    page = (await client.get(path, credential=None)).body.decode()
    assert page.count('type="radio"') == 2 and "B &amp; &lt;Co&gt;" in page and "Cancel" in page
    assert '<input type="hidden" name="state" value="st">' in page
    chosen = await client.get(f"{path}&auto=Acme", credential=None)
    assert chosen.status == 302 and arguments(chosen.header("location"))["state"] == "st"
    left = await client.get(f"{path}&cancel=1", credential=None)
    assert arguments(left.header("location")) == {"error": "access_denied", "state": "st"}


async def test_the_manual_page_shows_code_and_state(client: Client, sim: Simulator) -> None:
    url = sim.authorize(login_url(sim, redirect_uri=sim.manual_redirect_uri), organization="Acme")
    page = (await client.get(url.removeprefix(sim.base_url), credential=None)).body.decode()
    assert f"{arguments(url)['code']}#st" in page


async def test_a_code_for_a_redirect_can_be_shown_instead_and_works(client: Client) -> None:
    path = login_url(client.sim, auto="Acme", paste="1").removeprefix(client.sim.base_url)
    location = (await client.get(path, credential=None)).header("location")
    assert location.startswith(client.sim.manual_redirect_uri)
    assert (await exchange(client, code=arguments(location)["code"])).status == 200


@pytest.mark.parametrize(
    "wrong", [{"client_id": "other"}, {"redirect_uri": "https://evil.example/"}, {"redirect_uri": ""}]
)
async def test_a_wrong_client_or_redirect_is_never_redirected(client: Client, wrong: dict[str, str]) -> None:
    path = login_url(client.sim, auto="Acme", **wrong).removeprefix(client.sim.base_url)
    response = await client.get(path, credential=None)
    assert response.status == 400 and response.header("location") is None


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
async def test_a_code_is_refused_where_anything_differs(client: Client, wrong: dict[str, str]) -> None:
    assert error_of(await exchange(client, **wrong)) == (400, "invalid_grant")


async def test_a_code_lives_ten_minutes(client: Client, clock: FakeClock) -> None:
    code = arguments(client.sim.authorize(login_url(client.sim), organization="Acme"))["code"]
    clock.wall += 600
    assert error_of(await exchange(client, code=code)) == (400, "invalid_grant")


async def test_a_code_used_twice_takes_back_what_it_gave(client: Client) -> None:
    code = arguments(client.sim.authorize(login_url(client.sim), organization="Acme"))["code"]
    given = (await exchange(client, code=code)).json()
    assert error_of(await exchange(client, code=code)) == (400, "invalid_grant")
    assert (await call(client, given["access_token"])).status == 401


async def test_a_refresh_token_works_once(client: Client, grant: Grant) -> None:
    old = grant.refresh_token
    answer = (await client.refresh(old)).json()
    assert answer["refresh_token"] == grant.refresh_token != old
    assert (await call(client, answer["access_token"])).status == 200
    assert error_of(await client.refresh(old)) == (400, "invalid_grant")


async def test_with_grace_the_old_token_works_until_the_new_is_used(
    make_client: Callable[..., Awaitable[Client]],
) -> None:
    client = await make_client(refresh_rotation="grace")
    grant = client.sim.add_oauth()
    old = grant.refresh_token
    lost = (await client.refresh(old)).json()
    again = (await client.refresh(old)).json()
    assert error_of(await client.refresh(lost["refresh_token"])) == (400, "invalid_grant")
    assert (await call(client, again["access_token"])).status == 200
    assert error_of(await client.refresh(old)) == (400, "invalid_grant")
    assert (await client.refresh(again["refresh_token"])).status == 200


async def test_a_lost_answer_has_rotated_the_token(client: Client, grant: Grant) -> None:
    old = grant.refresh_token
    client.sim.script(None, Lost(reset=True), path=TOKEN)
    with pytest.raises(Cut):
        await client.refresh(old)
    assert grant.refresh_token != old
    assert error_of(await client.refresh(old)) == (400, "invalid_grant")


async def test_a_refusal_can_be_lost_too(client: Client) -> None:
    client.sim.script(None, Lost(reset=True), path=TOKEN)
    with pytest.raises(Cut):
        await client.refresh("sk-ant-ort01-unknown")


async def test_a_script_of_the_token_path_may_be_about_one_grant(client: Client, grant: Grant) -> None:
    other = client.sim.add_oauth()
    client.sim.script(grant, Error(429, headers=(("retry-after", "7"),)), path=TOKEN)
    assert (await client.refresh(other.refresh_token)).status == 200
    assert (await client.refresh(grant.refresh_token)).header("retry-after") == "7"


async def test_a_script_of_a_token_outlives_its_refresh(client: Client, grant: Grant) -> None:
    client.sim.script(grant.access_token, Error(429))
    assert (await client.refresh(grant.refresh_token)).status == 200
    assert (await call(client, grant.access_token)).status == 429


async def test_a_token_answer_can_be_made_absurd(client: Client, grant: Grant) -> None:
    client.sim.script(None, Amend(set={"expires_in": -1}, remove=("refresh_token",)), path=TOKEN)
    answer = (await client.refresh(grant.refresh_token)).json()
    assert answer["expires_in"] == -1 and "refresh_token" not in answer


async def test_an_access_token_expires(client: Client, grant: Grant, clock: FakeClock) -> None:
    clock.wall += 28800
    response = await call(client, grant.access_token)
    assert response.status == 401 and b"OAuth token has expired." in response.body


async def test_a_test_may_expire_or_revoke(client: Client, grant: Grant) -> None:
    client.sim.expire(grant.access_token)
    assert (await call(client, grant.access_token)).status == 401
    assert (await client.refresh(grant.refresh_token)).status == 200
    client.sim.revoke(grant)
    assert (await call(client, grant.access_token)).status == 401
    assert error_of(await client.refresh(grant.refresh_token)) == (400, "invalid_grant")


async def test_a_token_needs_the_oauth_beta_and_the_bearer_header(client: Client, grant: Grant) -> None:
    response = await call(client, grant.access_token, beta="oauth")
    assert response.status == 401
    assert b"OAuth authentication is currently not supported." in response.body
    assert (await client.get("/v1/models", credential=grant.access_token, anthropic_beta=BETA)).status == 401


async def test_the_profile_names_account_and_organization(client: Client, grant: Grant) -> None:
    profile = (await call(client, grant.access_token, "/api/oauth/profile", beta="")).json()
    assert profile["account"]["email"] == "ada@acme.example"
    assert profile["organization"]["uuid"] == grant.organization.uuid


async def test_the_profile_needs_its_scope(client: Client) -> None:
    grant = client.sim.add_oauth(scope="user:inference")
    assert (await call(client, grant.access_token, "/api/oauth/profile")).status == 403


async def test_the_token_endpoint_takes_json_only(client: Client, grant: Grant) -> None:
    form = urlencode({"grant_type": "refresh_token", "refresh_token": grant.refresh_token}).encode()
    response = await client.send(
        "POST", TOKEN, form, credential=None, content_type="application/x-www-form-urlencoded"
    )
    assert error_of(response) == (400, "invalid_request")


async def test_token_calls_are_in_the_ledger_with_the_token_they_bring(client: Client, grant: Grant) -> None:
    old = grant.refresh_token
    await client.refresh(old)
    assert [entry.credential for entry in client.sim.ledger.token_calls()] == [old]
    assert client.sim.ledger.for_organization("Acme") == list(client.sim.ledger)
