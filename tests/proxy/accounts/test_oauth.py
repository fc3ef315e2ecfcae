"""The calls to the OAuth server: what is sent, what is taken, and what an answer without tokens means."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import __version__
from proxy.accounts.account import OAuthTokens
from proxy.accounts.oauth import DEFAULT_LIFE_S, LONGEST_LIFE_S, OAuthServer, Pkce, Registration, life_s
from proxy.errors import TokenRefused, TokenTrouble
from proxy.simulator import Amend, Answer, Error, Fault, Grant, Lost, Real, Silence, Simulator, Stall
from tests.canaries import leaked
from tests.logins import REFUSALS, TOKEN, TROUBLES, arguments, as_json, cases, sent_tokens, simulating
from tests.service import TestClock
from tests.serving import serving

REDIRECT = "http://127.0.0.1:4000/oauth/callback"


class World:
    """A simulator, and the client that is tested."""

    def __init__(self, simulator: Simulator, server: OAuthServer, clock: TestClock) -> None:
        self.simulator = simulator
        self.server = server
        self.clock = clock
        self.pkce = Pkce.new()

    def login(self) -> tuple[Grant, OAuthTokens]:
        """A login that was made before."""
        grant = self.simulator.add_oauth(organization="Acme")
        return grant, OAuthTokens(grant.access_token, grant.refresh_token, self.clock.now() + 8, "old scope")

    def code(self, state: str = "the-state") -> str:
        """What the browser comes back with."""
        url = self.server.authorization_url(state=state, challenge=self.pkce.challenge, redirect_uri=REDIRECT)
        return arguments(self.simulator.authorize(url, organization="Acme", email="ada@acme.example"))["code"]

    async def exchange(self, code: str, **other: str) -> Any:
        given = {"state": "the-state", "verifier": self.pkce.verifier, "redirect_uri": REDIRECT} | other
        return await self.server.exchange(code, **given)

    def answer(self, *faults: Fault) -> None:
        """What the token endpoint says next."""
        self.simulator.script(None, *faults, path=TOKEN)


@contextlib.asynccontextmanager
async def world(*, rotation: str = "strict", token_url: str | None = None) -> AsyncIterator[World]:
    clock = TestClock()
    async with simulating(
        Simulator(clock=clock, rng=random.Random(1), refresh_rotation=rotation)
    ) as simulator:
        registration = Registration(
            client_id=simulator.client_id,
            authorize_url=simulator.authorize_url,
            token_url=token_url or simulator.token_url,
            scope="user:profile user:inference",
        )
        server = OAuthServer(registration, clock=clock)
        try:
            yield World(simulator, server, clock)
        finally:
            server.close()


# ---- the link


def test_the_challenge_is_that_of_rfc_7636_appendix_b() -> None:
    pkce = Pkce("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert pkce.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_verifiers_are_long_and_never_the_same() -> None:
    verifiers = {Pkce.new().verifier for _ in range(100)}
    assert len(verifiers) == 100 and {len(verifier) for verifier in verifiers} == {43}


async def test_the_link_has_what_rfc_6749_and_7636_ask_for_and_no_verifier() -> None:
    async with world() as w:
        url = w.server.authorization_url(state="s", challenge=w.pkce.challenge, redirect_uri=REDIRECT)
        assert url.startswith(w.simulator.authorize_url + "?") and w.pkce.verifier not in url
        assert arguments(url) == {
            "response_type": "code",
            "client_id": w.simulator.client_id,
            "redirect_uri": REDIRECT,
            "scope": "user:profile user:inference",
            "code_challenge": w.pkce.challenge,
            "code_challenge_method": "S256",
            "state": "s",
        }


async def test_an_authorize_url_keeps_its_own_query() -> None:
    server = OAuthServer(
        Registration("c", "https://x.example/a?code=true", "http://127.0.0.1/t", "s"), clock=TestClock()
    )
    url = server.authorization_url(state="s", challenge="c", redirect_uri=REDIRECT)
    assert url.startswith("https://x.example/a?code=true&") and arguments(url)["state"] == "s"
    server.close()


# ---- a code


async def test_a_code_gives_tokens_and_whose_they_are() -> None:
    async with world() as w:
        grant = await w.exchange(w.code())
        [entry] = w.simulator.ledger.token_calls()
        sent = entry.json()
        assert sent == {
            "grant_type": "authorization_code",
            "code": sent["code"],
            "redirect_uri": REDIRECT,
            "client_id": w.simulator.client_id,
            "code_verifier": w.pkce.verifier,
            "state": "the-state",
        }
        assert grant.tokens.access_token.startswith("sk-ant-oat01-")
        assert (grant.organization_name, grant.email) == ("Acme", "ada@acme.example")
        assert grant.tokens.expires_at == w.clock.now() + 28800
        assert grant.tokens.scope == "user:profile user:inference"


@pytest.mark.parametrize(
    "wrong", [{"verifier": "v" * 43}, {"redirect_uri": REDIRECT + "/"}, {"state": "another"}]
)
async def test_a_code_is_refused_where_the_simulator_sees_a_difference(wrong: dict[str, str]) -> None:
    async with world() as w:
        with pytest.raises(TokenRefused, match="400 invalid_grant"):
            await w.exchange(w.code(), **wrong)


async def test_a_code_is_never_sent_twice_by_itself_also_where_there_is_an_idle_connection() -> None:
    async with world() as w:
        await w.exchange(w.code())
        w.simulator.ledger.clear()
        w.answer(Lost(reset=True))
        with pytest.raises(TokenTrouble):
            await w.exchange(w.code())
        assert len(w.simulator.ledger.token_calls()) == 1


@pytest.mark.parametrize("missing", [("account",), ("organization",), ("account", "organization", "scope")])
async def test_who_logged_in_may_be_left_out(missing: tuple[str, ...]) -> None:
    async with world() as w:
        w.answer(Amend(remove=missing))
        grant = await w.exchange(w.code())
        assert (grant.email is None) == ("account" in missing)
        assert (grant.organization_uuid is None) == ("organization" in missing)


@pytest.mark.parametrize(
    "odd", ["text", 7, [], {"uuid": 7, "name": "a\nb"}, {"uuid": "", "name": "x" * 2000}]
)
async def test_who_logged_in_may_be_nonsense(odd: object) -> None:
    async with world() as w:
        w.answer(Amend(set={"organization": odd, "account": odd}))
        grant = await w.exchange(w.code())
        assert (grant.organization_uuid, grant.organization_name, grant.email) == (None, None, None)


# ---- a refresh


async def test_a_refresh_is_json_with_the_beta_header_and_gives_new_tokens() -> None:
    async with world() as w:
        grant, tokens = w.login()
        new = await w.server.refresh(tokens)
        [entry] = w.simulator.ledger.token_calls()
        assert entry.json() == {
            "grant_type": "refresh_token",
            "refresh_token": tokens.refresh_token,
            "client_id": w.simulator.client_id,
        }
        assert entry.header("content-type") == entry.header("accept") == "application/json"
        assert entry.header("anthropic-beta") == "oauth-2025-04-20"
        assert entry.header("user-agent") == f"claude-proxy/{__version__}"
        assert entry.header("authorization") is None and entry.header("x-api-key") is None
        assert (new.access_token, new.refresh_token) == (grant.access_token, grant.refresh_token)
        assert new.expires_at == w.clock.now() + 28800 and new != tokens


@pytest.mark.parametrize(
    "answer",
    [
        Amend(remove=("refresh_token",)),
        *(Amend(set={"refresh_token": x}) for x in (None, 7, "", [], {}, True)),
    ],
)
async def test_the_old_refresh_token_stays_where_the_answer_has_none(answer: Fault) -> None:
    async with world() as w:
        grant, tokens = w.login()
        w.answer(answer)
        new = await w.server.refresh(tokens)
        assert (new.access_token, new.refresh_token) == (grant.access_token, tokens.refresh_token)


@pytest.mark.parametrize("odd", ["a b", "a\r\nb", "a\0", "é", "x" * 16_385])
async def test_the_old_refresh_token_stays_where_the_new_one_cannot_be_one(odd: str) -> None:
    async with world() as w:
        _, tokens = w.login()
        w.answer(Amend(set={"refresh_token": odd}))
        assert (await w.server.refresh(tokens)).refresh_token == tokens.refresh_token


@pytest.mark.parametrize("odd", [None, "", 7, "a\nb"])
async def test_a_new_refresh_token_is_kept_where_the_access_token_is_none(odd: object) -> None:
    async with world() as w:
        grant, tokens = w.login()
        w.answer(Amend(set={"access_token": odd}))
        new = await w.server.refresh(tokens)
        assert new == replace(tokens, refresh_token=grant.refresh_token)
        assert grant.refresh_token != tokens.refresh_token


async def test_the_old_scope_stays_where_the_answer_has_none() -> None:
    async with world() as w:
        _, tokens = w.login()
        w.answer(Amend(remove=("scope",)))
        assert (await w.server.refresh(tokens)).scope == "old scope"


# ---- how long a token lives


@pytest.mark.parametrize(
    ("expires_in", "life"),
    [
        (28800, 28800), (28800.5, 28800.5), ("3600", 3600), (1, 1), (LONGEST_LIFE_S, LONGEST_LIFE_S),
        *((odd, DEFAULT_LIFE_S) for odd in (
            None, 0, -1, -1e9, LONGEST_LIFE_S + 1, 1e308, 10**400, math.nan, math.inf, -math.inf,
            True, False, "", "soon", "-5", "nan", "inf", "0x10", [], [5], {}, {"seconds": 5},
        )),
    ],
)  # fmt: skip
def test_what_is_absurd_lives_an_hour(expires_in: object, life: float) -> None:
    assert life_s(expires_in) == life


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(JSON)
def test_a_life_is_always_ahead_and_has_an_end(expires_in: object) -> None:
    assert 0 < life_s(expires_in) <= LONGEST_LIFE_S


@pytest.mark.parametrize("digits", [309, 5_000, 60_000])
async def test_a_number_of_any_length_costs_no_tokens(digits: int) -> None:
    async with world() as w:
        _, tokens = w.login()
        w.answer(Answer(200, (), b'{"access_token":"new","expires_in":' + b"9" * digits + b"}"))
        new = await w.server.refresh(tokens)
        assert (new.access_token, new.expires_at) == ("new", w.clock.now() + DEFAULT_LIFE_S)


# ---- answers without tokens


@pytest.mark.parametrize(("answers", "why"), cases(TROUBLES))
async def test_trouble_is_told_without_a_secret(answers: tuple[Fault, ...], why: str) -> None:
    async with world() as w:
        _, tokens = w.login()
        w.answer(*answers)
        with pytest.raises(TokenTrouble, match=why) as trouble:
            await w.server.refresh(tokens)
        assert not leaked(str(trouble.value), [tokens.access_token, str(tokens.refresh_token)])
        assert "\n" not in str(trouble.value) and len(str(trouble.value)) < 200
        assert len(w.simulator.ledger) == len(answers)  # no redirect was followed, nothing asked again


async def test_an_answer_that_came_while_this_process_stood_still_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.accounts.oauth.TOTAL_S", 0.0)  # as if it had passed at the first look
    async with world() as w:
        _, tokens = w.login()
        renewed = await w.server.refresh(tokens)
        assert renewed.refresh_token != tokens.refresh_token


@pytest.mark.parametrize(("answer", "why"), cases(REFUSALS))
async def test_a_refusal_is_told_by_its_code(answer: Fault, why: str) -> None:
    async with world() as w:
        _, tokens = w.login()
        w.answer(answer)
        with pytest.raises(TokenRefused, match=why):
            await w.server.refresh(tokens)


@pytest.mark.parametrize(
    ("header", "seconds"), [("30", 30), ("0", 0), ("soon", None), ("-1", None), ("²", None)]
)
async def test_the_wait_that_is_asked_for_is_told(header: str, seconds: float | None) -> None:
    async with world() as w:
        _, tokens = w.login()
        w.answer(Error(429, headers=(("retry-after", header),)))
        with pytest.raises(TokenTrouble) as trouble:
            await w.server.refresh(tokens)
        assert trouble.value.retry_after_s == seconds


@pytest.mark.parametrize(
    "error", ["sk-ant-ort01-secret", "6TTJ8WhFuHs1v3", "a b", "", "x" * 65, 7, None, ["invalid_grant"], {}]
)
async def test_of_a_body_only_what_looks_like_a_code_is_repeated(error: object) -> None:
    async with world() as w:
        _, tokens = w.login()
        w.answer(as_json({"error": error, "error_description": "sk-ant-ort01-secret"}, 400))
        with pytest.raises(TokenTrouble) as trouble:
            await w.server.refresh(tokens)
        assert str(trouble.value) == "the token server answered 400"


@given(
    st.fixed_dictionaries(
        {"status": st.sampled_from([200, 400, 401, 403, 429, 500])},
        optional={
            name: JSON
            for name in (
                "access_token",
                "refresh_token",
                "expires_in",
                "scope",
                "error",
                "organization",
                "account",
            )
        },
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_answer_it_is_tokens_or_one_of_two_errors(answer: dict[str, Any]) -> None:
    async def ask() -> None:
        async with world() as w:
            _, tokens = w.login()
            body = {name: value for name, value in answer.items() if name != "status"}
            w.answer(as_json(body, answer["status"]))
            with contextlib.suppress(TokenTrouble, TokenRefused):
                new = await w.server.refresh(tokens)
                assert new.access_token and new.refresh_token and new.expires_at

    asyncio.run(ask())


# ---- the wire


@pytest.mark.parametrize("lost", [Lost(reset=True), Amend()], ids=["reset", "no reset"])
async def test_a_lost_answer_is_asked_for_once_more_with_the_same_token(lost: Fault) -> None:
    async with world(rotation="grace") as w:
        grant, tokens = w.login()
        await w.server.refresh(w.login()[1])  # leaves a connection that may be used again
        w.simulator.ledger.clear()
        w.answer(lost, Real())
        new = await w.server.refresh(tokens)
        assert sent_tokens(w.simulator) == [tokens.refresh_token] * (2 if isinstance(lost, Lost) else 1)
        assert new.refresh_token == grant.refresh_token


async def test_a_strict_server_refuses_what_it_has_rotated_in_a_lost_answer() -> None:
    async with world() as w:
        _, tokens = w.login()
        w.answer(Lost(reset=True))
        with pytest.raises(TokenRefused):
            await w.server.refresh(tokens)


async def test_a_server_that_is_not_there_is_asked_once(unused_port: int) -> None:
    async with world(token_url=f"http://127.0.0.1:{unused_port}/token") as w:
        _, tokens = w.login()
        with pytest.raises(TokenTrouble, match="cannot be reached"):
            await w.server.refresh(tokens)


@pytest.mark.parametrize("fault", [Silence(), Stall()], ids=["silence", "half an answer"])
async def test_a_server_that_falls_silent_is_left_after_a_while(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.accounts.oauth.TOTAL_S", 0.1)
    async with world() as w:
        _, tokens = w.login()
        w.answer(fault)
        with pytest.raises(TokenTrouble, match=r"within 0\.1 s|for 0\.1 s"):
            await w.server.refresh(tokens)
        await w.simulator.ledger.wait(lambda ledger: ledger[-1].closed_by_peer_at)


async def test_an_answer_that_drips_without_end_is_left_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        finally:
            left.set()

    monkeypatch.setattr("proxy.accounts.oauth.TOTAL_S", 0.2)
    left = asyncio.Event()
    async with serving(drip) as port, world(token_url=f"http://127.0.0.1:{port}/token") as w:
        _, tokens = w.login()
        with pytest.raises(TokenTrouble, match=r"within 0\.2 s"):
            await w.server.refresh(tokens)
        await asyncio.wait_for(left.wait(), 5)


async def test_64_kib_of_answer_are_read_and_no_more() -> None:
    async with world() as w:
        _, tokens = w.login()
        start = b'{"access_token":"new"'
        w.answer(Answer(200, (), start + b" " * (65_536 - len(start) - 1) + b"}"))
        assert (await w.server.refresh(tokens)).access_token == "new"
        w.answer(Answer(200, (), start + b" " * (65_537 - len(start) - 1) + b"}"))
        with pytest.raises(TokenTrouble):
            await w.server.refresh(tokens)


async def test_what_is_too_long_is_cut_off() -> None:
    async with world() as w:
        _, tokens = w.login()
        w.answer(Answer(200, (), b"x" * 50_000_000))
        with pytest.raises(TokenTrouble):
            await w.server.refresh(tokens)
        await w.simulator.ledger.wait(lambda ledger: not w.simulator.open_requests)
        assert not w.simulator.ledger[0].finished


async def test_a_proxy_named_in_the_environment_gets_no_token(
    monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port}")
    async with world() as w:
        _, tokens = w.login()
        assert (await w.server.refresh(tokens)).access_token


async def test_a_token_url_keeps_its_query() -> None:
    async with world() as w:
        server = OAuthServer(
            replace(w.server.registration, token_url=w.simulator.token_url + "?tenant=7"), clock=w.clock
        )
        _, tokens = w.login()
        await server.refresh(tokens)
        server.close()
        assert w.simulator.ledger[0].target == TOKEN + "?tenant=7"


async def test_no_repr_shows_a_secret() -> None:
    async with world() as w:
        grant = await w.exchange(w.code())
        secrets = [grant.tokens.access_token, grant.tokens.refresh_token, w.pkce.verifier]
        assert not leaked(repr((grant, grant.tokens, w.pkce, w.server, w.server.registration)), secrets)
