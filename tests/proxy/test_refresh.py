"""Access tokens stay alive, refresh tokens are never lost, and only a verdict about the grant changes a state."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections import Counter
from pathlib import Path

import pytest

from proxy.accounts import Account, OAuthTokens, Status
from proxy.errors import NotFound, StorageError, TokenRefused, TokenTrouble
from proxy.oauth import DEFAULT_LIFE_S
from proxy.refresh import FIRST_BACKOFF_S, LAST_BACKOFF_S, SPREAD_S, Refresher
from proxy.simulator import (
    Amend,
    Answer,
    Error,
    Fault,
    Grant,
    Lost,
    Real,
    Reset,
    ResetEarly,
    Silence,
    Slow,
    Stall,
)  # fmt: skip
from tests.canaries import holders, leaked
from tests.logins import (
    HOUR,
    REFUSALS,
    TOKEN,
    TROUBLES,
    World,
    as_json,
    cases,
    full_disk,
    pair,
    refreshes,
    sent_tokens,
    stored,
    tokens_of,
    world,
)  # fmt: skip
from tests.service import MESSAGE_HEADERS, Service, SteppedClock, TestClock, message, serve, until
from tests.wire import connect, fetch

DAY = 24 * HOUR
DUE = 30.0
"""A life that makes a token due, but leaves it alive."""


# ---- on demand


async def test_a_token_is_used_until_a_minute_before_its_end() -> None:
    async with world() as w:
        a, grant = await w.add()
        old = grant.access_token
        w.clock.advance(8 * HOUR - 61)
        assert (await w.use(a), w.calls) == (old, 0)
        w.clock.advance(1)
        assert await w.use(a) == grant.access_token != old
        assert await w.use(a) == grant.access_token
        assert w.calls == 1


async def test_new_tokens_are_on_disk_before_they_are_used() -> None:
    async with world() as w:
        a, grant = await w.add(life_s=DUE)
        new = await w.use(a)
        [intent, saved] = [record for _, _, record in w.disk.writes[-2:]]
        assert intent is not None and saved is not None
        assert intent["refresh_began_at"] is not None and pair(intent) != pair(grant)
        assert saved["refresh_began_at"] is None and pair(saved) == pair(grant) == (new, grant.refresh_token)


async def test_what_is_shown_after_a_refresh() -> None:
    async with world() as w:
        a, _ = await w.add(life_s=DUE)
        await w.use(a)
        view, now = w.pool[a].view(), w.clock.now()
        assert w.pool[a].expires_at == now + 28800 and w.pool[a].last_refresh_at == now
        assert view["last_refresh_error"] is None and view["status"] == "active"


async def test_a_second_refresh_uses_the_second_refresh_token() -> None:
    async with world() as w:
        a, grant = await w.add(life_s=DUE)
        first = grant.refresh_token
        await w.use(a)
        second = grant.refresh_token
        w.clock.advance(8 * HOUR)
        await w.use(a)
        assert sent_tokens(w.simulator) == [first, second]


async def test_an_api_key_is_never_refreshed(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.clock.advance(400 * DAY)
        assert (await service.message()).status == 200
        assert not service.simulator.ledger.token_calls()


# ---- single flight


async def test_a_thousand_requests_on_ten_expired_accounts_make_ten_token_calls(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        for number in range(10):
            await service.add_login(f"team-{number}", expires_in=-HOUR)
        service.simulator.always(None, Slow(1), path=TOKEN)
        asked = [asyncio.create_task(service.message()) for _ in range(1000)]
        await until(lambda: service.running == 1000, within_s=30)
        await clock.asleep(1, count=10)
        clock.advance(1)
        answers = await asyncio.gather(*asked)
        assert Counter(answer.status for answer in answers) == {200: 1000}
        assert {answer.header("x-proxy-attempts") for answer in answers} == {"1"}
        tokens = sent_tokens(service.simulator)
        assert len(tokens) == len(set(tokens)) == 10


async def test_those_who_wait_share_one_call_and_its_failure() -> None:
    async with world(SteppedClock()) as w:
        a, _ = await w.add(life_s=-1)
        w.answer(Slow(5, Error(500)))
        waiting = [asyncio.create_task(w.use(a)) for _ in range(20)]
        await w.held()
        w.clock.advance(5)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {"the token server answered 500 api_error"}
        assert w.calls == 1


async def test_accounts_do_not_wait_for_each_other() -> None:
    async with world(SteppedClock()) as w:
        a, slow = await w.add("a", life_s=-1)
        b, fast = await w.add("b", life_s=-1)
        w.simulator.script(slow, Slow(5), path=TOKEN)
        waiting = asyncio.create_task(w.use(a))
        await w.held()
        assert await w.use(b) == fast.access_token
        assert not waiting.done()
        w.clock.advance(5)
        assert await waiting == slow.access_token


async def test_a_client_that_leaves_cancels_nothing(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        account, grant = await service.add_login("a", expires_in=-1)
        service.simulator.script(None, Slow(5), path=TOKEN)
        async with connect(service.port) as wire:
            body = message()
            length = ("content-length", str(len(body)))
            key = ("x-api-key", "cp-a-client-key-of-tests-4fXw")
            asked = asyncio.create_task(
                wire.request("POST", "/v1/messages", [key, length, *MESSAGE_HEADERS], body)
            )
            await clock.asleep(5)
            asked.cancel()
            wire.reset()
        await until(lambda: not service.running)
        clock.advance(5)
        await until(lambda: pair(service.parts.pool[account.id]) == pair(grant))
        assert pair(stored(tmp_path, account.id)) == pair(grant)
        assert not service.simulator.ledger.inference()


async def test_one_who_leaves_takes_nothing_from_those_who_wait() -> None:
    async with world(SteppedClock()) as w:
        a, grant = await w.add(life_s=-1)
        w.answer(Slow(5))
        leaving, staying = (asyncio.create_task(w.use(a)) for _ in range(2))
        await w.held()
        leaving.cancel()
        await asyncio.wait([leaving])
        w.clock.advance(5)
        assert await staying == grant.access_token
        assert w.calls == 1


async def test_a_shutdown_finishes_a_refresh_that_runs(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        account, grant = await service.add_login("a")
        old = pair(grant)
        service.simulator.script(None, Slow(5), path=TOKEN)
        asked = asyncio.create_task(service.admin("POST", f"/api/accounts/{account.id}/refresh"))
        await clock.asleep(5)
        assert pair(stored(tmp_path, account.id)) == old
    with contextlib.suppress(Exception):
        await asked
    assert pair(stored(tmp_path, account.id)) == pair(grant) != old


async def test_who_waits_too_long_is_told_and_the_refresh_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.refresh.LONGEST_WAIT_S", 0.05)
    async with world(SteppedClock()) as w:
        a, grant = await w.add(life_s=-1)
        w.answer(Slow(5))
        with pytest.raises(TokenTrouble, match="takes too long"):
            await w.use(a)
        w.clock.advance(5)
        await until(lambda: pair(w.pool[a]) == pair(grant))


async def test_while_one_account_is_refreshed_another_answers(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=["key"], clock=clock) as service:
        await service.add_login("a", expires_in=DUE)
        assert (await service.message()).header("x-proxy-account") == "key"
        assert not service.simulator.ledger.token_calls()


# ---- the hourly job


async def test_the_job_refreshes_only_what_ends_before_the_next(tmp_path: Path) -> None:
    async with world() as w:
        names = {
            "ends": 30 * 60,
            "just ends": HOUR * 1.1 + 60,
            "stays": HOUR * 1.1 + 61,
            "stays long": 8 * HOUR,
        }
        grants = {name: await w.add(name, life_s=life_s) for name, life_s in names.items()}
        before = {name: pair(grant) for name, (_, grant) in grants.items()}
        await w.refresher.refresh_due(HOUR * 1.1 + 60)
        assert {name for name, (_, grant) in grants.items() if pair(grant) != before[name]} == {
            "ends",
            "just ends",
        }


async def test_the_job_takes_two_at_a_time_each_after_a_pause() -> None:
    clock = SteppedClock()
    async with world(clock) as w:
        for number in range(7):
            await w.add(f"team-{number}", life_s=DUE)
        w.simulator.always(None, Slow(10), path=TOKEN)
        job = asyncio.create_task(w.refresher.refresh_due(HOUR))
        at_once = []
        while not job.done():
            clock.advance(0.25)
            for _ in range(20):
                await asyncio.sleep(0)
            at_once.append(w.simulator.open_requests)
        await job
        pauses = [seconds for seconds in clock.slept if seconds != 10]
        assert max(at_once) == 2 and w.calls == 7
        assert len(pauses) == 7 and all(0 <= pause <= SPREAD_S for pause in pauses) and len(set(pauses)) == 7


async def test_the_job_asks_in_another_order_each_time() -> None:
    orders = set()
    for seed in range(4):
        async with world() as w:
            w.refresher = Refresher(w.pool, w.server, jobs=w.jobs, clock=w.clock, rng=random.Random(seed))
            for number in range(8):
                await w.add(f"team-{number}", life_s=DUE)
            await w.refresher.refresh_due(HOUR)
            orders.add(tuple(entry.organization for entry in w.simulator.ledger.token_calls()))
    assert len(orders) == 4


@pytest.mark.parametrize("status", ["inactive", "invalid"])
async def test_the_job_leaves_alone_what_does_not_work(status: str) -> None:
    async with world() as w:
        a, _ = await w.add(life_s=DUE)
        if status == "inactive":
            await w.pool.update(a, status=Status.INACTIVE)
        else:
            w.pool.invalidate(a, "401")
        await w.refresher.refresh_due(HOUR)
        assert (w.calls, w.pool[a].status.value) == (0, status)


async def test_the_job_leaves_alone_what_was_taken_out_while_it_paused() -> None:
    clock = SteppedClock()
    async with world(clock) as w:
        a, _ = await w.add("a", life_s=DUE)
        b, _ = await w.add("b", life_s=DUE)
        job = asyncio.create_task(w.refresher.refresh_due(HOUR))
        await until(lambda: len(clock.slept) == 2)
        await w.pool.update(a, status=Status.INACTIVE)
        await w.pool.remove(b)
        clock.advance(SPREAD_S)
        await job
        assert w.calls == 0


async def test_the_job_keeps_alive_what_is_rate_limited() -> None:
    async with world() as w:
        a, grant = await w.add(life_s=DUE)
        w.pool.limit(a, w.clock.now() + HOUR, "429")
        await w.refresher.refresh_due(HOUR)
        assert (w.pool[a].status, pair(w.pool[a])) == (Status.RATE_LIMITED, pair(grant))


async def test_one_account_in_trouble_does_not_keep_the_job_from_the_others() -> None:
    async with world() as w:
        grants = [await w.add(f"team-{number}", life_s=DUE) for number in range(6)]
        for number, fault in enumerate((Error(500), as_json({"error": "invalid_grant"}, 400), Answer(200))):
            w.simulator.script(grants[number][1], fault, path=TOKEN)
        await w.refresher.refresh_due(HOUR)
        assert [pair(w.pool[a]) == pair(grant) for a, grant in grants[3:]] == [True] * 3
        assert w.calls == 6


async def test_an_account_deleted_in_the_job_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    clock = SteppedClock()
    async with world(clock) as w:
        ids = [(await w.add(f"team-{number}", life_s=DUE))[0] for number in range(4)]
        w.answer(*(Slow(5) for _ in range(2)))
        job = asyncio.create_task(w.refresher.refresh_due(HOUR))
        await until(lambda: len(clock.slept) == 2)
        clock.advance(SPREAD_S)
        await w.held(2)
        for entry in w.simulator.ledger.token_calls():
            await w.pool.remove(ids[int(str(entry.organization)[-1])])
        clock.free()
        await job
        assert w.calls == 4


async def test_the_job_runs_at_the_start_too(tmp_path: Path) -> None:
    clock = TestClock()
    async with serve(tmp_path, accounts=[], clock=clock) as first:
        account, grant = await first.add_login("a", expires_in=DUE)
        before = pair(grant)
        options = {"clock": clock, "accounts": [], "oauth__token_url": first.simulator.token_url}
        await first.parts.server.drain()
        copy = tmp_path / "copy"
        (copy / "accounts").mkdir(parents=True)
        (copy / "accounts" / f"{account.id}.json").write_bytes(
            (tmp_path / "accounts" / f"{account.id}.json").read_bytes()
        )
        async with serve(copy, **options) as service:
            await until(lambda: pair(service.parts.pool[account.id]) != before)
            assert pair(stored(copy, account.id)) == pair(grant)


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


@pytest.mark.parametrize("fault", [Error(500), Reset(), Error(403)], ids=["500", "reset", "403"])
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
        relay = service.parts.server._v1.relay
        await relay.refresher.reauthorize(account.id, tokens_of(new, clock.now() + HOUR))
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
    monkeypatch.setattr("proxy.oauth.TOTAL_S", 0.1)
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


# ---- the pause after trouble


async def test_the_pause_doubles_from_five_seconds_to_five_minutes_with_jitter() -> None:
    async with world() as w:
        a, _ = await w.add(life_s=-1)
        w.simulator.always(None, Error(500), path=TOKEN)
        calls: list[float] = []
        for _ in range(2500):
            before = w.calls
            with pytest.raises(TokenTrouble):
                await w.use(a)
            if w.calls > before:
                calls.append(w.clock.now())
            w.clock.advance(0.5)
        pauses = [later - earlier for earlier, later in itertools.pairwise(calls)]
        wanted = [min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2**n) for n in range(len(pauses))]
        assert len(pauses) >= 7 and wanted[-1] == LAST_BACKOFF_S
        ratios = [pause / want for pause, want in zip(pauses, wanted, strict=True)]
        assert all(0.8 <= ratio <= 1.3 for ratio in ratios) and len(set(ratios)) > 3


@pytest.mark.parametrize(("retry_after", "pause"), [(120, 120), (0, 4), (100_000, 3600)])
async def test_the_pause_is_as_long_as_the_token_server_asks(retry_after: int, pause: float) -> None:
    async with world() as w:
        a, _ = await w.add(life_s=-1)
        w.answer(Error(429, headers=(("retry-after", str(retry_after)),)))
        with pytest.raises(TokenTrouble):
            await w.use(a)
        w.clock.advance(pause - 1)
        with pytest.raises(TokenTrouble, match="429"):
            await w.use(a)
        w.clock.advance(3)
        await w.use(a)
        assert w.calls == 2


async def test_a_success_ends_the_pauses() -> None:
    async with world() as w:
        a, _ = await w.add(life_s=8 * HOUR)
        w.answer(*[Error(500)] * 4, Real(), Error(500))
        for _ in range(5):
            with contextlib.suppress(TokenTrouble):
                await w.refresher.refresh(a, forced=True)
        w.clock.advance(8 * HOUR - DUE)
        await w.use(a)
        w.clock.advance(7)  # the first pause again
        await w.use(a)
        assert w.calls == 7


async def test_an_admin_waits_for_no_pause() -> None:
    async with world() as w:
        a, grant = await w.add(life_s=DUE)
        w.answer(Error(500))
        await w.use(a)
        await w.refresher.refresh(a, forced=True)
        assert pair(w.pool[a]) == pair(grant)


async def test_without_a_live_token_the_next_account_answers(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        await service.add_login("a", expires_in=-1)
        await service.add_login("b", expires_in=-1)
        service.simulator.script(None, Error(500), path=TOKEN)
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-attempts")) == (200, "1")


async def test_without_any_live_token_the_client_may_try_again_soon(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        await service.add_login("a", expires_in=-1)
        service.simulator.script(None, Error(500), path=TOKEN)
        answer = await service.message()
        assert (answer.status, answer.header("retry-after")) == (503, "5")
        assert answer.header("x-should-retry") is None
        assert answer.json()["error"]["type"] == "api_error"
        service.clock.advance(8)
        assert (await service.message()).status == 200


# ---- an admin


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


# ---- re-authorised


async def reauthorized(w: World, a: str, name: str = "a") -> Grant:
    grant = w.simulator.add_oauth(organization=name)
    await w.refresher.reauthorize(a, tokens_of(grant, w.clock.now() + 8 * HOUR))
    return grant


@pytest.mark.parametrize(
    ("before", "after"),
    [("active", "active"), ("invalid", "active"), ("inactive", "inactive"), ("rate_limited", "rate_limited")],
)
async def test_new_credentials_heal_what_is_invalid_and_nothing_else(before: str, after: str) -> None:
    async with world() as w:
        a, _ = await w.add()
        if before == "inactive":
            await w.pool.update(a, status=Status.INACTIVE)
        elif before == "invalid":
            w.pool.invalidate(a, "401")
        elif before == "rate_limited":
            w.pool.limit(a, w.clock.now() + HOUR, "429")
        grant = await reauthorized(w, a)
        assert (w.pool[a].status.value, w.on_disk(a)["status"]) == (after, after)
        assert pair(w.pool[a]) == pair(w.on_disk(a)) == pair(grant)


async def test_new_credentials_end_the_trouble_of_the_old_ones() -> None:
    async with world() as w:
        a, _ = await w.add(life_s=-1)
        w.answer(*[Error(500)] * 5)
        for _ in range(5):
            with contextlib.suppress(TokenTrouble):
                await w.refresher.refresh(a, forced=True)
        grant = await reauthorized(w, a)
        assert w.pool[a].last_refresh_error is None
        assert await w.use(a) == grant.access_token
        w.clock.advance(8 * HOUR)
        assert await w.use(a) == grant.access_token
        assert w.calls == 6


async def test_new_credentials_wait_for_a_refresh_of_the_old_ones_and_stay() -> None:
    async with world(SteppedClock()) as w:
        a, old = await w.add(life_s=DUE)
        w.answer(Slow(5))
        refreshing = asyncio.create_task(w.refresher.refresh(a))
        await w.held()
        changing = asyncio.create_task(reauthorized(w, a))
        await asyncio.sleep(0)
        w.clock.advance(5)
        await refreshing
        grant = await changing
        assert pair(w.pool[a]) == pair(w.on_disk(a)) == pair(grant) != pair(old)


async def test_a_refresh_that_begins_with_new_credentials_on_their_way_to_disk_shares_them() -> None:
    async with world() as w:
        a, _ = await w.add(life_s=DUE)
        changing = asyncio.create_task(reauthorized(w, a))
        await until(lambda: w.pool[a].received is not None)
        await w.refresher.refresh(a, forced=True)
        grant = await changing
        assert pair(w.pool[a]) == pair(w.on_disk(a)) == pair(grant)
        assert w.calls == 0


# ---- a failing disk


async def test_where_the_intent_cannot_be_written_nothing_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a", expires_in=DUE)
        full_disk(monkeypatch)
        assert (await service.message()).status == 200
        assert not service.simulator.ledger.token_calls()
        assert "cannot be written" in str(service.parts.pool[account.id].last_refresh_error)
        answer = await service.admin("POST", f"/api/accounts/{account.id}/refresh")
        assert answer.status == 502 and "cannot be written" in answer.json()["error"]["message"]
        assert not service.simulator.ledger.token_calls()
        monkeypatch.undo()
        await service.parts.pool.save_again()
        service.clock.advance(13)
        assert (await service.message()).status == 200
        assert pair(stored(tmp_path, account.id)) == pair(grant)


async def received_but_not_saved(service: Service, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails between the call and its answer."""
    assert isinstance(service.clock, SteppedClock)
    service.simulator.script(None, Slow(5), path=TOKEN)
    asked = asyncio.create_task(service.admin("POST", f"/api/accounts/{account.id}/refresh"))
    await service.clock.asleep(5)
    full_disk(monkeypatch)
    service.clock.advance(5)
    answer = await asked
    assert answer.status == 502 and "could not be saved" in answer.json()["error"]["message"]


async def health_of(service: Service) -> str:
    return str((await fetch(service.port, "GET", "/health")).json()["status"])


async def test_tokens_that_cannot_be_saved_are_kept_told_saved_later_and_then_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(tmp_path, accounts=[], clock=SteppedClock()) as service:
        account, grant = await service.add_login("a", expires_in=HOUR)
        old, pool = pair(grant), service.parts.pool
        assert await health_of(service) == "healthy"
        await received_but_not_saved(service, account, monkeypatch)
        assert await health_of(service) == "degraded" and pool.unsaved
        assert any(r.levelno >= logging.ERROR and "not on disk" in r.getMessage() for r in caplog.records)
        assert pair(stored(tmp_path, account.id)) == old
        assert (await service.message()).status == 200
        assert service.simulator.ledger.inference()[-1].credential == old[0]
        monkeypatch.undo()
        await pool.save_again()
        assert pair(stored(tmp_path, account.id)) == pair(grant)
        assert await health_of(service) == "healthy"
        assert (await service.message()).status == 200
        assert service.simulator.ledger.inference()[-1].credential == grant.access_token
        assert not leaked(caplog.text, [*old, *pair(grant)])


async def test_while_tokens_wait_for_the_disk_none_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=[], clock=SteppedClock()) as service:
        account, _ = await service.add_login("a", expires_in=HOUR)
        other, _ = await service.add_login("b", expires_in=HOUR)
        await received_but_not_saved(service, account, monkeypatch)
        for id in (account.id, other.id):
            answer = await service.admin("POST", f"/api/accounts/{id}/refresh")
            assert answer.status == 502 and "no token is rotated" in answer.json()["error"]["message"]
        assert len(service.simulator.ledger.token_calls()) == 1
        monkeypatch.undo()


async def test_a_shutdown_saves_what_could_not_be_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=[], clock=SteppedClock()) as service:
        account, grant = await service.add_login("a", expires_in=HOUR)
        await received_but_not_saved(service, account, monkeypatch)
        monkeypatch.undo()
    assert pair(stored(tmp_path, account.id)) == pair(grant)


async def test_tokens_saved_at_last_are_used_by_a_refresh_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=[], clock=SteppedClock()) as service:
        account, grant = await service.add_login("a", expires_in=HOUR)
        await received_but_not_saved(service, account, monkeypatch)
        second = grant.refresh_token
        monkeypatch.undo()
        await service.parts.pool.save_again()
        assert (await service.admin("POST", f"/api/accounts/{account.id}/refresh")).status == 200
        assert sent_tokens(service.simulator)[1:] == [second]
        assert pair(stored(tmp_path, account.id)) == pair(grant)


async def test_tokens_that_cannot_be_saved_are_used_where_the_old_ones_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=[], clock=SteppedClock()) as service:
        account, grant = await service.add_login("a", expires_in=HOUR)
        service.parts.server._v1.relay.refresher.learn(account)
        await received_but_not_saved(service, account, monkeypatch)
        service.clock.advance(HOUR)
        for _ in range(3):
            assert (await service.message()).status == 200
            assert service.simulator.ledger.inference()[-1].credential == grant.access_token
        monkeypatch.undo()
        await service.parts.pool.save_again()
        assert pair(stored(tmp_path, account.id)) == pair(grant)


async def test_a_rename_with_tokens_that_wait_for_the_disk_brings_them_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=[], clock=SteppedClock()) as service:
        account, grant = await service.add_login("a", expires_in=HOUR)
        await received_but_not_saved(service, account, monkeypatch)
        monkeypatch.undo()
        await service.admin("PUT", f"/api/accounts/{account.id}", {"name": "b"})
        assert pair(stored(tmp_path, account.id)) == pair(grant)
        assert (await service.message()).status == 200
        assert service.simulator.ledger.inference()[-1].credential == grant.access_token


async def test_new_credentials_that_cannot_be_saved_are_told() -> None:
    async with world() as w:
        a, _ = await w.add()
        w.disk.full = True
        with pytest.raises(StorageError):
            await reauthorized(w, a)
        w.disk.full = False
        await w.pool.save_again()
        assert not w.pool.unsaved


# ---- a restart


async def test_an_interrupted_refresh_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async with world(rotation="grace") as w:
        a, grant = await w.add(life_s=8 * HOUR)
        await w.pool.change(a, lambda account: account.refresh_begun(w.clock.now()))
        await w.stop()
        w.start()
        assert f"refresh interrupted, its answer may be lost: trying again account={a}" in caplog.text
        assert await w.use(a) == grant.access_token
        assert w.calls == 1 and w.on_disk(a)["refresh_began_at"] is None


async def test_an_interrupted_refresh_takes_no_living_token_away() -> None:
    async with world() as w:
        a, grant = await w.add(life_s=8 * HOUR)
        await w.refresher.refresh(a, forced=True)
        await w.pool.change(a, lambda account: account.refresh_begun(w.clock.now()))
        await w.stop()
        w.start()
        assert await w.use(a) == grant.access_token
        w.clock.advance(61)
        w.answer(Error(500))
        assert await w.use(a) == grant.access_token


# ---- time


@pytest.mark.parametrize("days", [1, -1, 30, -30])
async def test_a_jump_of_the_wall_clock_is_at_most_one_refresh_of_each_account(days: float) -> None:
    async with world() as w:
        ids = [(await w.add(f"team-{number}"))[0] for number in range(5)]
        for jump in (days * DAY, -days * DAY, days * DAY):
            w.clock.jump(jump)
            before = w.calls
            for _ in range(10):
                await w.refresher.refresh_due(HOUR)
                for a in ids:
                    await w.use(a)
                w.clock.advance(90)
            assert w.calls - before <= 5


@pytest.mark.parametrize("days", [-1, -30])
async def test_a_clock_set_back_does_not_prolong_a_token(days: float) -> None:
    async with world() as w:
        a, grant = await w.add()
        old = grant.access_token
        w.clock.jump(days * DAY)
        assert await w.use(a) == old
        w.clock.advance(8 * HOUR - 60)
        assert await w.use(a) != old
        assert w.calls == 1


async def test_a_pause_is_not_shortened_by_a_clock_set_forward() -> None:
    async with world() as w:
        a, _ = await w.add(life_s=-1)
        w.answer(Error(500))
        with pytest.raises(TokenTrouble):
            await w.use(a)
        w.clock.jump(DAY)
        with pytest.raises(TokenTrouble):
            await w.use(a)
        assert w.calls == 1


async def test_what_is_not_configured_is_told_and_tokens_live_on() -> None:
    async with world() as w:
        a, grant = await w.add(life_s=DUE)
        refresher = Refresher(w.pool, None, jobs=w.jobs, clock=w.clock, rng=random.Random(1))
        account = await refresher.usable(w.pool[a])
        assert pair(account) == pair(grant)
        assert "oauth.client_id" in str(w.pool[a].last_refresh_error)


async def test_without_a_refresh_token_a_token_lives_to_its_end() -> None:
    async with world() as w:
        grant = w.simulator.add_oauth(organization="a")
        tokens = OAuthTokens(grant.access_token, None, w.clock.now() + DUE)
        account = await w.pool.add("a", tokens)
        assert await w.use(account.id) == grant.access_token
        w.clock.advance(DUE)
        with pytest.raises(TokenTrouble, match="no refresh token"):
            await w.use(account.id)
        assert w.calls == 0 and w.pool[account.id].status is Status.ACTIVE


async def test_an_account_that_is_gone_is_not_found() -> None:
    async with world() as w:
        with pytest.raises(NotFound):
            await w.refresher.refresh("acc_unknown")


async def test_no_log_line_of_a_refresh_holds_a_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with world() as w:
        a, grant = await w.add(life_s=DUE)
        secrets = [*pair(grant)]
        w.answer(
            Error(500), Amend(set={"access_token": ""}), as_json({"error": grant.refresh_token}, 400), Real()
        )
        for _ in range(4):
            with contextlib.suppress(TokenTrouble):
                await w.refresher.refresh(a, forced=True)
            secrets += pair(grant)
        assert len(refreshes(w.simulator)) == 4 and not leaked(caplog.text, secrets)
