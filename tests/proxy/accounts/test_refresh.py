"""Access tokens stay alive: who refreshes them and when, by which clock, and who waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections import Counter
from pathlib import Path

import pytest

from proxy.accounts.account import OAuthTokens, Status
from proxy.accounts.refresh import Refresher
from proxy.accounts.troubles import FIRST_BACKOFF_S, LAST_BACKOFF_S
from proxy.accounts.upkeep import SPREAD_S
from proxy.errors import NotFound, StorageError, TokenTrouble
from proxy.simulator import Amend, Answer, Error, Grant, Real, Slow
from tests.canaries import leaked
from tests.logins import (
    DAY,
    DUE,
    HOUR,
    TOKEN,
    World,
    as_json,
    pair,
    refreshes,
    sent_tokens,
    stored,
    tokens_of,
    world,
)
from tests.service import MESSAGE_HEADERS, SteppedClock, TestClock, message, serve, until
from tests.wire import Cut, connect

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
    with contextlib.suppress(Cut):
        await asked
    assert pair(stored(tmp_path, account.id)) == pair(grant) != old


async def test_a_shutdown_begins_no_refresh_of_a_look_and_finishes_those_that_run() -> None:
    async with world(clock := SteppedClock()) as w:
        grants = [await w.add(f"team-{number}", life_s=DUE) for number in range(8)]
        before = [pair(grant) for _, grant in grants]
        w.simulator.always(None, Slow(5), path=TOKEN)
        w.jobs.start("look", w.upkeep.look(), wait=False)
        await until(lambda: len(clock.slept) == 2)
        clock.advance(SPREAD_S)
        await w.held(2)
        closing = asyncio.create_task(w.jobs.close())
        await asyncio.sleep(0)
        clock.free()
        await closing
        new = [a for (a, grant), old in zip(grants, before, strict=True) if pair(grant) != old]
        assert w.calls == len(new) == 2
        assert [pair(w.on_disk(a)) for a, _ in grants] == [pair(grant) for _, grant in grants]


async def test_a_shutdown_begins_no_refresh_that_pauses_before_its_turn() -> None:
    async with world(clock := SteppedClock()) as w:
        await w.add(life_s=DUE)
        w.jobs.start("look", w.upkeep.look(), wait=False)
        await until(lambda: clock.slept)
        closing = asyncio.create_task(w.jobs.close())
        await asyncio.sleep(0)
        clock.free()
        await closing
        assert w.calls == 0


async def test_who_waits_too_long_is_told_and_the_refresh_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.accounts.refresh.LONGEST_WAIT_S", 0.05)
    async with world(SteppedClock()) as w:
        a, grant = await w.add(life_s=-1)
        w.answer(Slow(5))
        with pytest.raises(TokenTrouble, match="takes too long"):
            await w.use(a)
        w.clock.advance(5)
        await until(lambda: pair(w.pool[a]) == pair(grant))


async def test_a_token_that_lives_is_used_if_the_token_server_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.accounts.refresh.SHORT_WAIT_S", 0.0)
    async with world(SteppedClock()) as w:
        a, grant = await w.add(life_s=50)
        old = grant.access_token
        w.answer(Slow(5))
        for _ in range(3):
            assert await w.use(a) == old
        await w.held()
        w.clock.advance(5)
        await until(lambda: pair(w.pool[a]) == pair(grant))
        assert w.calls == 1


@pytest.mark.parametrize(("life_s", "waits"), [(11, False), (10, True)])
async def test_a_token_that_could_end_on_its_way_is_waited_for(
    life_s: float, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.accounts.refresh.SHORT_WAIT_S", 0.0)
    async with world(SteppedClock()) as w:
        a, grant = await w.add(life_s=life_s)
        old = grant.access_token
        w.answer(Slow(5))
        using = asyncio.create_task(w.use(a))
        await w.held()
        w.clock.advance(5)
        assert await using == (grant.access_token if waits else old)


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
        await w.upkeep.look()
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
        job = asyncio.create_task(w.upkeep.look())
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
            for number in range(8):
                await w.add(f"team-{number}", life_s=DUE)
            await w.upkeep_of(random.Random(seed)).look()
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
        await w.upkeep.look()
        assert (w.calls, w.pool[a].status.value) == (0, status)


async def test_the_job_leaves_alone_what_was_taken_out_while_it_paused() -> None:
    clock = SteppedClock()
    async with world(clock) as w:
        a, _ = await w.add("a", life_s=DUE)
        b, _ = await w.add("b", life_s=DUE)
        job = asyncio.create_task(w.upkeep.look())
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
        await w.upkeep.look()
        assert (w.pool[a].status, pair(w.pool[a])) == (Status.RATE_LIMITED, pair(grant))


async def test_one_account_in_trouble_does_not_keep_the_job_from_the_others() -> None:
    async with world() as w:
        grants = [await w.add(f"team-{number}", life_s=DUE) for number in range(6)]
        for number, fault in enumerate((Error(500), as_json({"error": "invalid_grant"}, 400), Answer(200))):
            w.simulator.script(grants[number][1], fault, path=TOKEN)
        await w.upkeep.look()
        assert [pair(w.pool[a]) == pair(grant) for a, grant in grants[3:]] == [True] * 3
        assert w.calls == 6


async def test_an_account_deleted_in_the_job_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    clock = SteppedClock()
    async with world(clock) as w:
        ids = [(await w.add(f"team-{number}", life_s=DUE))[0] for number in range(4)]
        w.answer(*(Slow(5) for _ in range(2)))
        job = asyncio.create_task(w.upkeep.look())
        await until(lambda: len(clock.slept) == 2)
        clock.advance(SPREAD_S)
        await w.held(2)
        for entry in w.simulator.ledger.token_calls():
            await w.pool.remove(ids[int(str(entry.organization)[-1])])
        clock.free()
        await job
        assert w.calls == 4


async def test_what_failed_at_the_job_is_tried_again_after_its_pause_and_not_at_the_next_only() -> None:
    async with world() as w:
        grants = [await w.add(f"team-{number}", life_s=HOUR) for number in range(3)]
        w.simulator.script(grants[0][1], Error(500), Error(500), path=TOKEN)
        await w.upkeep.look()
        assert w.calls == 3
        calls = []
        for _ in range(12):
            await w.upkeep.look_again()
            calls.append(w.calls)
            w.clock.advance(2)
        assert calls[0] == 3 and calls[-1] == 5
        assert [pair(w.pool[a]) for a, _ in grants] == [pair(grant) for _, grant in grants]


async def test_what_cannot_succeed_is_left_to_the_next_job() -> None:
    async with world() as w:
        grant = w.simulator.add_oauth(organization="a")
        account = await w.pool.add("a", OAuthTokens(grant.access_token, None, w.clock.now() + HOUR))
        w.refresher.learn(account)
        for server, why in ((w.server, "no refresh token"), (None, "not configured")):
            refresher = Refresher(w.pool, server, jobs=w.jobs, clock=w.clock, rng=random.Random(1))
            with pytest.raises(TokenTrouble, match=why):
                await refresher.refresh(account.id)
            w.clock.advance(2 * LAST_BACKOFF_S)
            assert not refresher.may_try_again(w.pool[account.id])


async def test_no_token_that_could_be_refreshed_at_the_job_is_refreshed_between_two() -> None:
    async with world() as w:
        await w.add("due", life_s=HOUR)
        a, _ = await w.add("not due", life_s=8 * HOUR)
        w.answer(Error(500))
        with pytest.raises(TokenTrouble):
            await w.refresher.refresh(a)
        w.clock.advance(7)
        await w.upkeep.look_again()
        assert w.calls == 1


async def test_two_looks_are_one_after_the_other() -> None:
    clock = SteppedClock()
    async with world(clock) as w:
        for number in range(6):
            await w.add(f"team-{number}", life_s=DUE)
        w.simulator.always(None, Slow(10, Error(500)), path=TOKEN)
        looks = [
            asyncio.create_task(each) for each in (w.upkeep.look(), w.upkeep.look_again(), w.upkeep.look())
        ]
        at_once = []
        while not all(look.done() for look in looks):
            clock.advance(0.25)
            for _ in range(20):
                await asyncio.sleep(0)
            at_once.append(w.simulator.open_requests)
        assert max(at_once) == 2


async def test_a_minute_of_trouble_at_the_job_takes_no_account_out_for_the_rest_of_the_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.assembly.periods.LOOK_AGAIN_S", 0.01)
    async with serve(tmp_path, accounts=["key"]) as service:
        account, grant = await service.add_login("a", expires_in=20 * 60)
        old = pair(grant)
        service.simulator.script(None, Error(503), path=TOKEN)
        with pytest.raises(TokenTrouble):
            await service.parts.refresher.refresh(account.id)
        service.clock.advance(7)
        await until(lambda: pair(service.parts.pool[account.id]) == pair(grant) != old)
        service.clock.advance(30 * 60)
        assert {(await service.message()).header("x-proxy-account") for _ in range(2)} == {"a", "key"}


@pytest.mark.files
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


# ---- the pause after trouble


async def test_the_pause_doubles_from_five_seconds_to_five_minutes_with_jitter() -> None:
    async with world() as w:
        a, _ = await w.add(life_s=-1)
        w.simulator.always(None, Error(500), path=TOKEN)
        calls: list[float] = []
        while len(calls) < 12:
            before = w.calls
            with pytest.raises(TokenTrouble):
                await w.use(a)
            if w.calls > before:
                calls.append(w.clock.now())
            w.clock.advance(0.5 if len(calls) < 5 else 5)
        pauses = [later - earlier for earlier, later in itertools.pairwise(calls)]
        wanted = [min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2**n) for n in range(len(pauses))]
        assert wanted[-4:] == [LAST_BACKOFF_S] * 4
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


async def test_another_outbound_proxy_ends_the_pause(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, _ = await service.add_login("a", expires_in=-5)
        path = f"/api/accounts/{account.id}"
        await service.admin("PUT", path, {"proxy": "http://127.0.0.1:1"})
        assert (await service.message()).status == 503
        await service.admin("PUT", path, {"note": "its proxy is down"})
        assert (await service.message()).status == 503, "the pause after the failure"
        await service.admin("PUT", path, {"proxy": None})
        assert (await service.message()).status == 200


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


# ---- re-authorised


async def reauthorized(w: World, a: str, *, life_s: float = 8 * HOUR) -> Grant:
    grant = w.simulator.add_oauth(organization="a")
    await w.refresher.reauthorize(a, tokens_of(grant, w.clock.now() + life_s))
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
        w.answer(*[Error(500)] * 8)
        for _ in range(8):
            with contextlib.suppress(TokenTrouble):
                await w.refresher.refresh(a, forced=True)
        grant = await reauthorized(w, a, life_s=120)
        assert w.pool[a].last_refresh_error is None
        assert await w.use(a) == grant.access_token
        w.clock.advance(60)
        assert await w.use(a) == grant.access_token
        assert w.calls == 9


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
                await w.upkeep.look()
                for a in ids:
                    await w.use(a)
                w.clock.advance(90)
            assert w.calls - before <= 5


@pytest.mark.parametrize("days", [1, 30])
async def test_a_token_that_has_ended_by_the_wall_clock_is_refreshed_once(days: float) -> None:
    async with world() as w:
        a, grant = await w.add()
        old = grant.access_token
        w.clock.jump(days * DAY)
        assert await w.use(a) == await w.use(a) == grant.access_token != old
        assert w.calls == 1


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
