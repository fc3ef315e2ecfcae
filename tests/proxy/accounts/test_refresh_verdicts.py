"""What the token server and the API say of a token: only a verdict about the grant changes a state."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from proxy.accounts.account import OAuthTokens, Status
from proxy.accounts.oauth import DEFAULT_LIFE_S
from proxy.errors import TokenRefused, TokenTrouble
from proxy.simulator import (
    Amend,
    Error,
    Fault,
    Lost,
    Real,
    Reset,
    ResetEarly,
    Silence,
    Slow,
    Stall,
    quota_429,
)
from tests.canaries import holders, leaked
from tests.logins import (
    DUE,
    HOUR,
    REFUSALS,
    TOKEN,
    TROUBLES,
    as_json,
    cases,
    pair,
    sent_tokens,
    stored,
    tokens_of,
    world,
)
from tests.service import SteppedClock, serve, until, upstream_key

# ---- the API refuses a token in mid-life


async def test_a_401_in_mid_life_is_one_refresh_and_one_replay(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        _, grant = await service.add_login("a")
        old = grant.access_token
        service.simulator.revoke(old)
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-attempts")) == (200, "2")
        assert [e.credential for e in service.simulator.ledger.inference()] == [old, grant.access_token]
        assert len(service.simulator.ledger.token_calls()) == 1
        assert service.status("a") == "active"


async def test_many_401s_at_once_are_one_refresh(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        _, grant = await service.add_login("a")
        service.simulator.script(grant, *[Slow(1, Error(401)) for _ in range(30)])
        asked = [asyncio.create_task(service.message()) for _ in range(30)]
        await clock.asleep(1, count=30)
        clock.advance(1)
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
        assert len(service.simulator.ledger.token_calls()) == 1


async def test_a_late_401_reuses_what_is_already_rotated(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        account, grant = await service.add_login("a")
        service.simulator.script(grant, Slow(5, Error(401)))
        asked = asyncio.create_task(service.message())
        await clock.asleep(5)
        assert (await service.admin("POST", f"/api/accounts/{account.id}/refresh")).status == 200
        clock.advance(5)
        assert (await asked).status == 200
        assert len(service.simulator.ledger.token_calls()) == 1
        assert service.simulator.ledger.inference()[-1].credential == grant.access_token


async def test_a_fresh_token_that_is_refused_makes_it_invalid(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a")
        service.simulator.always(grant, Error(401, message="OAuth token has been revoked."))
        answer = await service.message()
        assert (answer.status, answer.json()["error"]["message"]) == (503, "all accounts invalid or inactive")
        found = service.parts.pool[account.id]
        assert found.status is Status.INVALID
        assert "fresh token is refused" in str(found.status_reason) and "GET /v1/models" in str(
            found.status_reason
        )
        paths = [entry.path for entry in service.simulator.ledger]
        assert paths == ["/v1/messages", TOKEN, "/v1/messages", "/v1/models"]
        assert pair(stored(tmp_path, account.id)) == pair(grant)


async def test_a_fresh_token_that_only_one_route_refuses_is_valid(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["key"]) as service:
        _, grant = await service.add_login("a")
        service.simulator.always(grant, Error(401), path="/v1/messages")
        for _ in range(4):
            assert (await service.message()).header("x-proxy-account") == "key"
        assert service.status("a") == "active"
        assert len(service.simulator.ledger.token_calls()) == 1


@pytest.mark.parametrize(
    "fault",
    [Error(500), Reset(), Error(403), Error(401, html=True)],
    ids=["500", "reset", "403", "401 page"],
)
async def test_a_fresh_token_is_valid_where_nobody_can_tell(tmp_path: Path, fault: Fault) -> None:
    async with serve(tmp_path, accounts=["key"]) as service:
        _, grant = await service.add_login("a")
        service.simulator.always(grant, Error(401), path="/v1/messages")
        service.simulator.always(grant, fault, path="/v1/models")
        for _ in range(2):
            assert (await service.message()).status == 200
        assert service.status("a") == "active"


async def test_a_token_refused_in_the_minute_after_its_refresh_is_not_refreshed_again(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["key"]) as service:
        account, grant = await service.add_login("a", expires_in=DUE)
        await service.admin("POST", f"/api/accounts/{account.id}/refresh")
        service.simulator.always(grant, Error(401))
        for _ in range(2):
            assert (await service.message()).header("x-proxy-account") == "key"
        assert len(service.simulator.ledger.token_calls()) == 1
        assert service.status("a") == "invalid"


async def test_a_401_with_a_token_server_in_trouble_goes_to_the_next_account(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["key"]) as service:
        account, grant = await service.add_login("a")
        service.simulator.revoke(grant.access_token)
        service.simulator.always(None, Error(500), path=TOKEN)
        for _ in range(4):
            assert (await service.message()).header("x-proxy-account") == "key"
        assert service.status("a") == "active"
        assert "500" in str(service.parts.pool[account.id].last_refresh_error)
        assert len(service.simulator.ledger.token_calls()) == 1


async def test_a_401_is_followed_by_a_refused_refresh(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a")
        before = pair(grant)
        service.simulator.revoke(grant)
        assert (await service.message()).status == 503
        assert service.status("a") == "invalid"
        assert pair(stored(tmp_path, account.id)) == before


@pytest.mark.parametrize("order", ["passes, refused", "refused, passes"])
async def test_a_token_server_in_trouble_is_told_whatever_another_grant_has_come_to(
    tmp_path: Path, order: str
) -> None:
    answers = {"passes": Error(503), "refused": as_json({"error": "invalid_grant"}, 400)}
    async with serve(tmp_path, accounts=[]) as service:
        for name in "ab":
            await service.add_login(name, expires_in=-10)
        service.simulator.script(None, *(answers[each] for each in order.split(", ")), path=TOKEN)
        answer = await service.message()
        assert answer.status == 503
        assert answer.json()["error"]["message"].startswith("no account has a live token: ")
        assert (answer.header("x-should-retry"), answer.header("retry-after")) == (None, "5")


@pytest.mark.parametrize(
    ("limit_s", "told"), [(18_000, (503, "5", None)), (3, (429, "3", None)), (None, (503, "5", None))]
)
async def test_a_login_without_a_token_for_now_is_back_before_a_long_limit_ends(
    tmp_path: Path, limit_s: int | None, told: tuple[int, str, str | None]
) -> None:
    async with serve(tmp_path, accounts=["b"]) as service:
        await service.add_login("a", expires_in=-10)
        service.simulator.always(None, Error(503), path=TOKEN)
        fault = Error(401) if limit_s is None else quota_429(limit_s)
        service.simulator.always(upstream_key("b"), fault)
        for _ in range(2):  # the limit is met by the first one, and known to the second
            answer = await service.message()
            seen = answer.status, answer.header("retry-after"), answer.header("x-should-retry")
            assert seen == told


@pytest.mark.parametrize("lacks", ["refresh token", "configuration"])
async def test_a_login_that_cannot_get_a_token_hides_no_limit(tmp_path: Path, lacks: str) -> None:
    options = dict.fromkeys(("oauth__client_id", "oauth__authorize_url", "oauth__token_url"))
    async with serve(tmp_path, accounts=["b"], **(options if lacks == "configuration" else {})) as service:
        renewal = None if lacks == "refresh token" else "sk-ant-ort01-of-tests"
        ended = OAuthTokens("sk-ant-oat01-of-tests", renewal, service.clock.now() - 10, "user:inference")
        await service.parts.pool.add("a", ended)
        service.simulator.always(upstream_key("b"), quota_429(3600))
        for _ in range(2):
            answer = await service.message()
            assert (answer.status, answer.header("retry-after")) == (429, "3600")


async def test_an_account_deleted_while_its_token_is_refreshed_is_no_404_for_the_client(
    tmp_path: Path,
) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        account, grant = await service.add_login("a", expires_in=-1)
        service.simulator.script(None, Slow(5), path=TOKEN)
        asked = asyncio.create_task(service.message())
        await clock.asleep(5)
        await service.add_account("key")
        await service.admin("DELETE", f"/api/accounts/{account.id}")
        clock.advance(5)
        answer = await asked
        assert (answer.status, answer.header("x-proxy-account")) == (200, "key")
        assert account.id not in service.parts.pool and not holders(tmp_path, [grant.access_token])


async def test_an_account_deleted_before_its_401_comes_is_no_404_for_the_client(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        account, grant = await service.add_login("a")
        service.simulator.script(grant, Slow(5, Error(401)))
        asked = asyncio.create_task(service.message())
        await clock.asleep(5)
        await service.add_account("key")
        await service.admin("DELETE", f"/api/accounts/{account.id}")
        clock.advance(5)
        assert (await asked).status == 200


async def test_the_probe_of_a_token_that_was_replaced_meanwhile_condemns_nobody(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=["key"], clock=clock) as service:
        account, old = await service.add_login("a", expires_in=HOUR)
        await service.admin("POST", f"/api/accounts/{account.id}/refresh")
        service.simulator.always(old, Error(401), path="/v1/messages")
        service.simulator.always(old, Slow(5, Error(401)), path="/v1/models")
        asked = asyncio.gather(*(service.message() for _ in range(2)))
        await clock.asleep(5)
        new = service.simulator.add_oauth(organization="a")
        await service.parts.refresher.reauthorize(account.id, tokens_of(new, clock.now() + HOUR))
        clock.advance(5)
        await asked
        assert service.status("a") == "active"


# ---- verdicts


@pytest.mark.parametrize(("answers", "why"), cases(TROUBLES))
async def test_trouble_changes_no_state_and_loses_no_token(
    tmp_path: Path, answers: tuple[Fault, ...], why: str
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a", expires_in=DUE)
        before, simulator, pool = pair(grant), service.simulator, service.parts.pool
        simulator.script(None, *answers, path=TOKEN)
        for _ in range(3):  # the token lives, and there is a pause before the next try
            assert (await service.message()).status == 200
        assert len(simulator.ledger.token_calls()) == len(answers)
        assert {entry.credential for entry in simulator.ledger.inference()} == {before[0]}
        found = pool[account.id]
        assert found.status is Status.ACTIVE
        assert pair(found) == pair(stored(tmp_path, account.id)) == pair(grant) == before
        assert why in str(found.last_refresh_error)
        shown = (await service.admin("GET", f"/api/accounts/{account.id}")).body
        assert why in shown.decode() and not leaked(shown, [*before])
        service.clock.advance(8)  # the first pause is 5 s with jitter, or the 7 s that were asked for
        assert (await service.message()).status == 200
        assert pair(pool[account.id]) == pair(stored(tmp_path, account.id)) == pair(grant) != before
        assert pool[account.id].last_refresh_error is None


@pytest.mark.parametrize("fault", [Silence(), Stall()], ids=["silence", "half an answer"])
async def test_a_token_server_that_falls_silent_changes_no_state(
    tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.accounts.oauth.TOTAL_S", 0.1)
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a", expires_in=DUE)
        service.simulator.script(None, Silence(), path=TOKEN)
        assert (await service.message()).status == 200
        assert service.status("a") == "active"
        assert "0.1 s" in str(service.parts.pool[account.id].last_refresh_error)
        assert pair(stored(tmp_path, account.id)) == pair(grant)


@pytest.mark.parametrize(
    ("expires_in", "life"),
    [
        (None, 3600), (0, 3600), (-5, 3600), ("1800", 1800), ("soon", 3600), (1e300, 3600), (10**300, 3600),
        (float("nan"), 3600), (float("inf"), 3600), (True, 3600), ([], 3600), ({}, 3600), (28800.5, 28800.5),
    ],
)  # fmt: skip
async def test_an_absurd_life_is_an_hour_and_no_loop(tmp_path: Path, expires_in: object, life: float) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a", expires_in=DUE)
        service.simulator.script(None, Amend(set={"expires_in": expires_in}), path=TOKEN)
        for _ in range(3):
            assert (await service.message()).status == 200
        assert len(service.simulator.ledger.token_calls()) == 1
        found = service.parts.pool[account.id]
        assert (found.status, found.expires_at) == (Status.ACTIVE, service.clock.now() + life)
        assert pair(found) == pair(stored(tmp_path, account.id)) == pair(grant)


async def test_a_missing_life_is_an_hour() -> None:
    async with world() as w:
        a, _ = await w.add(life_s=DUE)
        w.answer(Amend(remove=("expires_in",)))
        await w.use(a)
        assert w.pool[a].expires_at == w.clock.now() + DEFAULT_LIFE_S


async def test_tokens_of_one_second_make_no_loop() -> None:
    async with world() as w:
        a, _ = await w.add(life_s=DUE)
        w.simulator.always(None, Amend(set={"expires_in": 1}), path=TOKEN)
        for _ in range(300):
            with contextlib.suppress(TokenTrouble):
                await w.use(a)
            w.clock.advance(1)
        assert w.calls == 5


@pytest.mark.parametrize("refresh_token", [None, 7, "", [], "a\r\nb: c", "x" * 20_000])
async def test_the_old_refresh_token_stays_where_the_answer_has_none(
    tmp_path: Path, refresh_token: object
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a", expires_in=DUE)
        old = grant.refresh_token
        service.simulator.script(None, Amend(set={"refresh_token": refresh_token}), path=TOKEN)
        assert (await service.message()).status == 200
        found = service.parts.pool[account.id]
        assert pair(found) == pair(stored(tmp_path, account.id)) == (grant.access_token, old)
        assert (found.status, found.last_refresh_error) == (Status.ACTIVE, None)


@pytest.mark.parametrize("access_token", [None, "", 7, "x" * 20_000, "a\nb"])
async def test_a_rotated_refresh_token_is_kept_where_no_access_token_came(
    tmp_path: Path, access_token: object
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a", expires_in=DUE)
        old = pair(grant)
        service.simulator.script(None, Amend(set={"access_token": access_token}), path=TOKEN)
        assert (await service.message()).status == 200
        found = service.parts.pool[account.id]
        assert pair(found) == pair(stored(tmp_path, account.id)) == (old[0], grant.refresh_token)
        assert found.status is Status.ACTIVE and "no access_token" in str(found.last_refresh_error)
        assert found.last_refresh_at is None and grant.refresh_token != old[1]
        service.clock.advance(8)
        assert (await service.message()).status == 200
        assert pair(service.parts.pool[account.id]) == pair(stored(tmp_path, account.id)) == pair(grant)


@pytest.mark.parametrize(("answer", "why"), cases(REFUSALS))
async def test_a_refused_refresh_token_makes_it_invalid_and_stays_on_disk(
    tmp_path: Path, answer: Fault, why: str
) -> None:
    async with serve(tmp_path, accounts=["key"]) as service:
        account, grant = await service.add_login("a", expires_in=DUE)
        before = pair(grant)
        service.simulator.script(None, answer, path=TOKEN)
        assert (await service.admin("POST", f"/api/accounts/{account.id}/refresh")).status == 422
        await until(lambda: stored(tmp_path, account.id)["status"] == "invalid")
        found, record = service.parts.pool[account.id], stored(tmp_path, account.id)
        assert found.status is Status.INVALID
        assert why in str(found.status_reason) and why in str(found.last_refresh_error)
        assert pair(found) == pair(record) == before
        for _ in range(2):
            assert (await service.message()).header("x-proxy-account") == "key"
        assert len(service.simulator.ledger.token_calls()) == 1


async def test_a_request_whose_account_turns_out_invalid_goes_to_the_next(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        _, dead = await service.add_login("a", expires_in=-1)
        await service.add_login("b", expires_in=-1)
        service.simulator.revoke(dead)
        assert (await service.message()).header("x-proxy-account") == "b"
        assert (service.status("a"), service.status("b")) == ("invalid", "active")


async def test_a_refusal_leaves_an_inactive_account_inactive() -> None:
    async with world() as w:
        a, grant = await w.add(life_s=DUE)
        await w.pool.update(a, status=Status.INACTIVE)
        w.simulator.revoke(grant)
        with pytest.raises(TokenRefused):
            await w.refresher.refresh(a, forced=True)
        assert (w.pool[a].status, w.on_disk(a)["status"]) == (Status.INACTIVE, "inactive")


async def test_a_refusal_is_no_verdict_where_somebody_else_has_rotated_the_token() -> None:
    async with world(SteppedClock()) as w:
        a, grant = await w.add(life_s=DUE)
        used = tokens_of(grant, 0)
        w.answer(Slow(5))
        asked = asyncio.create_task(w.use(a))
        await w.held()
        others = await w.server.refresh(used)
        w.on_disk(a)["credential"] |= {
            "access_token": others.access_token,
            "refresh_token": others.refresh_token,
            "expires_at": others.expires_at,
        }
        w.clock.advance(5)
        assert await asked == others.access_token == grant.access_token
        assert w.pool[a].status is Status.ACTIVE and pair(w.on_disk(a)) == pair(grant)


@pytest.mark.parametrize("lost", [Lost(reset=True), Reset(), ResetEarly()], ids=["lost", "reset", "early"])
async def test_a_lost_answer_costs_nothing_where_the_old_token_still_works(
    tmp_path: Path, lost: Fault
) -> None:
    async with world(rotation="grace") as w:
        a, grant = await w.add(life_s=DUE)
        old = grant.refresh_token
        w.answer(lost, Real())
        assert await w.use(a) == grant.access_token
        assert sent_tokens(w.simulator) == [old, old]
        assert pair(w.on_disk(a)) == pair(grant)


async def test_an_answer_lost_twice_is_trouble_and_the_old_token_is_tried_later() -> None:
    async with world(rotation="grace") as w:
        a, grant = await w.add(life_s=DUE)
        old = pair(grant)
        w.answer(Lost(reset=True), Lost(reset=True))
        assert await w.use(a) == old[0]
        assert pair(w.on_disk(a)) == old and w.pool[a].status is Status.ACTIVE
        w.clock.advance(8)
        assert await w.use(a) == grant.access_token
        assert pair(w.on_disk(a)) == pair(grant)
