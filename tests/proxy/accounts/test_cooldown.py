"""When a rested account is asked again: by which clock, by how many at first, and who is idle."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.account import Account, ApiKey, Status
from proxy.accounts.cooldown import LONG_LIMIT_S, LONGEST_TEST_S
from proxy.accounts.exhausted import exhausted
from proxy.accounts.pool import Pool
from proxy.errors import RateLimited
from proxy.simulator import Error, Reset, Slow, Steady, long_context_429, quota_429
from tests.disk import Disk, make_pool
from tests.logins import DAY, HOUR, TOKEN, stored
from tests.service import CLIENT_KEY, MESSAGE_HEADERS, Service, SteppedClock, TestClock, message, serve, until
from tests.wire import connect


async def limited(pool: Pool, *names: str, seconds: float) -> list[str]:
    """The ids of new accounts that rest for so long."""
    accounts = [await pool.add(name, ApiKey(f"sk-ant-api03-{name}")) for name in names]
    for account in accounts:
        pool.limit(account.id, account.created_at + seconds, "429")
    return [account.id for account in accounts]


def chosen(pool: Pool, **options: Any) -> str | None:
    """The name of the account that a request takes now."""
    account = pool.choose(options.pop("matters", ()), **options)
    return None if account is None else pool.take(account.id).name


async def waited_for(pool: Pool, clock: TestClock) -> tuple[str, asyncio.Task[bool]]:
    """The id of an account in its test after a long limit, and a request that waits for the end of that."""
    [a] = await limited(pool, "a", seconds=HOUR)
    clock.advance(HOUR)
    chosen(pool)
    waiting = asyncio.create_task(pool.probation_ended())
    assert not await is_over(waiting)
    return a, waiting


async def is_over(waiting: asyncio.Task[bool]) -> bool:
    """Whether it comes to its end without any time passing."""
    for _ in range(5):
        await asyncio.sleep(0)
    return waiting.done()


# ---- two clocks


@pytest.mark.parametrize("jump", [0, -HOUR, -DAY, -30 * DAY])
async def test_a_limit_ends_although_the_wall_clock_was_set_back(
    pool: Pool, clock: TestClock, jump: float
) -> None:
    [a] = await limited(pool, "a", seconds=60)
    clock.jump(jump)
    clock.advance(59)
    assert (chosen(pool), pool.count()[Status.RATE_LIMITED]) == (None, 1)
    clock.advance(1.001)
    assert pool.count()[Status.ACTIVE] == 1
    assert (chosen(pool), pool[a].status) == ("a", Status.ACTIVE)


@pytest.mark.parametrize("jump", [60, DAY, 30 * DAY])
async def test_a_limit_ends_where_the_wall_clock_says_so(pool: Pool, clock: TestClock, jump: float) -> None:
    await limited(pool, "a", seconds=60)
    clock.jump(jump)
    assert chosen(pool) == "a"


async def test_the_job_recovers_by_either_clock(pool: Pool, clock: TestClock) -> None:
    [a] = await limited(pool, "a", seconds=60)
    clock.jump(-DAY)
    clock.advance(61)
    pool.tick()
    assert (pool[a].status, pool[a].rate_limited_until) == (Status.ACTIVE, None)


async def test_the_countdown_takes_no_notice_of_a_wall_clock_that_is_set_back(
    pool: Pool, clock: TestClock
) -> None:
    await limited(pool, "a", seconds=60)
    clock.jump(-DAY)
    clock.advance(20)
    assert pool.recovers_in() == pytest.approx(40)
    error = exhausted(pool, clock.now())
    assert isinstance(error, RateLimited) and error.retry_after_s == pytest.approx(40, abs=1)


@pytest.mark.parametrize("change", ["rename", "refresh"])
async def test_a_change_meanwhile_does_not_count_anew(pool: Pool, clock: TestClock, change: str) -> None:
    [a] = await limited(pool, "a", seconds=60)
    clock.jump(-DAY)
    if change == "rename":
        await pool.update(a, name="b")
    else:
        await pool.change(a, lambda account: account.refresh_failed("500", clock.now()))
    clock.advance(61)
    assert chosen(pool) is not None


async def test_a_limit_of_a_model_ends_although_the_wall_clock_was_set_back(
    pool: Pool, clock: TestClock
) -> None:
    a = await pool.add("a", ApiKey("sk-ant-api03-a"))
    pool.skip(a.id, "opus", clock.now() + 60, "429")
    clock.jump(-DAY)
    clock.advance(20)
    assert chosen(pool, matters=("opus",)) is None
    assert pool.recovers_in(("opus",)) == pytest.approx(40)
    clock.advance(41)
    assert chosen(pool, matters=("opus",)) == "a"


async def test_a_limit_outlives_a_restart_by_the_wall_clock(pool: Pool, disk: Disk, clock: TestClock) -> None:
    await limited(pool, "a", seconds=60)
    await asyncio.sleep(0)
    again = make_pool(disk, clock)
    clock.advance(59)
    assert chosen(again) is None
    clock.advance(1)
    assert chosen(again) == "a"


# ---- one finds out


async def test_after_a_long_limit_one_is_sent_and_others_wait_for_it(pool: Pool, clock: TestClock) -> None:
    [a] = await limited(pool, "a", seconds=LONG_LIMIT_S)
    clock.advance(LONG_LIMIT_S)
    assert (chosen(pool), chosen(pool)) == ("a", None)
    waiting = asyncio.create_task(pool.probation_ended())
    assert not await is_over(waiting)
    pool.answered(a)
    assert await waiting
    assert [chosen(pool) for _ in range(3)] == ["a"] * 3
    assert not await pool.probation_ended()


async def test_after_a_short_limit_all_go_at_once(pool: Pool, clock: TestClock) -> None:
    await limited(pool, "a", seconds=LONG_LIMIT_S - 1)
    clock.advance(LONG_LIMIT_S)
    assert (chosen(pool), chosen(pool)) == ("a", "a")


async def test_the_job_leaves_the_test_to_the_first_request(pool: Pool, clock: TestClock) -> None:
    await limited(pool, "a", seconds=HOUR)
    clock.advance(HOUR)
    pool.tick()
    assert (chosen(pool), chosen(pool)) == ("a", None)


async def test_others_go_to_other_accounts_meanwhile(pool: Pool, clock: TestClock) -> None:
    await limited(pool, "a", "b", seconds=HOUR)
    await pool.add("c", ApiKey("sk-ant-api03-c"))
    clock.advance(HOUR)
    pool.tick()
    assert sorted(str(chosen(pool)) for _ in range(5)) == ["a", "b", "c", "c", "c"]


async def test_a_limit_that_was_prolonged_is_as_long_as_all_of_it(pool: Pool, clock: TestClock) -> None:
    [a] = await limited(pool, "a", seconds=200)
    clock.advance(150)
    pool.limit(a, clock.now() + 200, "429")
    clock.advance(200)
    assert (chosen(pool), chosen(pool)) == ("a", None)


async def test_a_limit_is_as_long_as_it_was_whatever_was_changed_meanwhile(
    pool: Pool, clock: TestClock
) -> None:
    [a] = await limited(pool, "a", seconds=HOUR)
    clock.advance(HOUR - 1)
    await pool.update(a, name="b")
    await pool.change(a, lambda account: account.refresh_failed("500", clock.now()))
    clock.advance(1)
    assert (chosen(pool), chosen(pool)) == ("b", None)


async def test_a_limit_found_at_the_start_is_as_long_as_it_was(
    pool: Pool, disk: Disk, clock: TestClock
) -> None:
    await limited(pool, "a", seconds=HOUR)
    await asyncio.sleep(0)
    clock.advance(HOUR - 1)
    again = make_pool(disk, clock)
    clock.advance(1)
    assert (chosen(again), chosen(again)) == ("a", None)


async def test_an_admin_who_lifts_a_limit_asks_for_no_test(pool: Pool) -> None:
    [a] = await limited(pool, "a", seconds=HOUR)
    await pool.update(a, status=Status.ACTIVE)
    assert (chosen(pool), chosen(pool)) == ("a", "a")


async def test_a_test_that_meets_the_next_limit_lets_the_others_go_elsewhere(
    pool: Pool, clock: TestClock
) -> None:
    a, waiting = await waited_for(pool, clock)
    pool.limit(a, clock.now() + HOUR, "429")
    assert await is_over(waiting) and chosen(pool) is None


async def test_an_account_that_is_deleted_in_its_test_is_waited_for_no_longer(
    pool: Pool, clock: TestClock
) -> None:
    a, waiting = await waited_for(pool, clock)
    await pool.remove(a)
    assert await is_over(waiting)


async def test_a_test_without_an_answer_keeps_the_account_away_for_five_seconds_only(
    pool: Pool, clock: TestClock
) -> None:
    await limited(pool, "a", seconds=HOUR)
    clock.advance(HOUR)
    assert chosen(pool) == "a"
    clock.advance(LONGEST_TEST_S - 0.1)
    assert chosen(pool) is None
    clock.advance(0.1)
    assert not await pool.probation_ended()
    assert (chosen(pool), chosen(pool)) == ("a", "a")


async def test_whoever_waits_for_two_goes_with_the_first(pool: Pool, clock: TestClock) -> None:
    _, b = await limited(pool, "a", "b", seconds=HOUR)
    clock.advance(HOUR)
    assert {chosen(pool), chosen(pool)} == {"a", "b"}
    waiting = asyncio.create_task(pool.probation_ended())
    assert not await is_over(waiting)
    pool.answered(b)
    assert await is_over(waiting) and chosen(pool) == "b"


# ---- one finds out, through the proxy


async def bench(service: Service, *, seconds: float = HOUR) -> None:
    """Let the accounts meet a limit, and its time pass."""
    for account in service.parts.pool:
        service.parts.pool.limit(account.id, service.clock.now() + seconds, "429")
    service.clock.advance(seconds)


async def test_of_many_requests_after_a_long_limit_one_is_sent_and_then_all(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        await bench(service)
        service.simulator.script(None, Slow(1))
        asked = [asyncio.create_task(service.message()) for _ in range(20)]
        await clock.asleep(1)
        await until(lambda: service.running == 20)
        assert len(service.simulator.ledger.inference()) == 1
        clock.advance(1)
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
        assert len(service.simulator.ledger.inference()) == 20


async def test_others_go_as_soon_as_the_test_is_answered_though_its_stream_goes_on(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        await bench(service)
        service.simulator.script(None, Steady(events=3, interval_s=10))
        async with connect(service.port) as wire:
            headers = [("x-api-key", CLIENT_KEY), *MESSAGE_HEADERS]
            assert (await wire.request("POST", "/v1/messages", headers, message(stream=True))).status == 200
            async with asyncio.timeout(LONGEST_TEST_S - 2):
                assert (await service.message()).status == 200
            assert service.running == 1


async def test_whoever_waits_is_not_turned_away_while_another_account_is_tested(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, accounts=["a", "b"], clock=clock) as service:
        await bench(service)
        service.simulator.script(None, Slow(1, Error(429, headers=(("retry-after", "600"),))), Slow(2))
        tests = [asyncio.create_task(service.message())]
        await clock.asleep(1)
        tests.append(asyncio.create_task(service.message()))
        await clock.asleep(2)
        waiting = asyncio.create_task(service.message())
        await until(lambda: service.running == 3)
        clock.advance(1)
        await until(lambda: service.parts.pool.count()[Status.RATE_LIMITED] == 1)
        clock.advance(1)
        assert [(await answer).status for answer in (*tests, waiting)] == [200] * 3


async def test_where_the_limit_goes_on_one_request_has_found_out_for_all(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        await bench(service)
        service.simulator.script(None, Slow(1, Error(429, headers=(("retry-after", "600"),))))
        asked = [asyncio.create_task(service.message()) for _ in range(20)]
        await clock.asleep(1)
        await until(lambda: service.running == 20)
        clock.advance(1)
        async with asyncio.timeout(LONGEST_TEST_S - 2):  # nobody waits for a test that is over
            answers = await asyncio.gather(*asked)
        assert {(answer.status, answer.header("retry-after")) for answer in answers} == {(429, "600")}
        assert len(service.simulator.ledger.inference()) == 1


@pytest.mark.parametrize("fault", [Error(529), Error(500), Reset(), long_context_429()], ids=str)
async def test_a_test_that_fails_otherwise_lets_all_go_at_once(tmp_path: Path, fault: Any) -> None:
    async with serve(tmp_path) as service:
        await bench(service)
        service.simulator.script(None, fault)
        async with asyncio.timeout(LONGEST_TEST_S - 2):
            first = await service.message()
            second = await service.message()
        assert first.status in (200, 429) and second.status == 200


async def test_a_limit_met_by_the_test_of_several_accounts_is_told_at_once(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b", "c"]) as service:
        await bench(service)
        service.simulator.always(None, quota_429(reset_in=600))
        async with asyncio.timeout(LONGEST_TEST_S - 2):
            assert (await service.message()).status == 429
        service.simulator.calm()
        service.clock.advance(600)
        async with asyncio.timeout(LONGEST_TEST_S - 2):
            assert {(await service.message()).status for _ in range(6)} == {200}


async def test_an_account_whose_token_cannot_be_refreshed_is_not_lost_by_its_test(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        await service.add_login("a", expires_in=-1)
        await bench(service)
        service.simulator.script(None, Error(500), path=TOKEN)
        assert (await service.message()).status == 503
        await service.admin("POST", f"/api/accounts/{next(iter(service.parts.pool)).id}/refresh")
        async with asyncio.timeout(LONGEST_TEST_S - 2):
            assert (await service.message()).status == 200


async def test_a_client_that_leaves_in_its_test_lets_the_others_go(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        await bench(service)
        service.simulator.script(None, Slow(1))
        async with connect(service.port) as wire:
            headers = [("x-api-key", CLIENT_KEY), *MESSAGE_HEADERS]
            asked = asyncio.create_task(wire.request("POST", "/v1/messages", headers, message()))
            await clock.asleep(1)
            waiting = asyncio.create_task(service.message())
            await until(lambda: service.running == 2)
            asked.cancel()
            wire.reset()
        async with asyncio.timeout(LONGEST_TEST_S - 2):
            assert (await waiting).status == 200


async def test_a_test_that_takes_long_is_not_waited_for_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.accounts.cooldown.LONGEST_TEST_S", 0.1)
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        await bench(service)
        service.simulator.script(None, Slow(100))
        slow = asyncio.create_task(service.message())
        await clock.asleep(100)
        waiting = asyncio.create_task(service.message())
        await until(lambda: service.running == 2)
        clock.advance(0.2)
        assert (await waiting).status == 200 and not slow.done()
        clock.advance(100)
        assert (await slow).status == 200


# ---- recovery by the job


async def upkeep(folder: Path, clock: TestClock, **options: str) -> dict[str, Any]:
    """Start on `folder`, wait until the job at the start is done, and stop; the accounts as they are shown."""
    async with serve(folder, accounts=[], clock=clock, **options) as service:
        await until(lambda: not any(t.get_name() == "upkeep at start" for t in asyncio.all_tasks()))
        accounts = (await service.admin("GET", "/api/accounts")).json()["accounts"]
        return {account["name"]: account for account in accounts}


async def test_a_limit_that_has_passed_is_recovered_by_the_job_without_a_request(tmp_path: Path) -> None:
    clock = TestClock()
    async with serve(tmp_path, clock=clock) as service:
        [account] = service.parts.pool
        await service.parts.pool.change(account.id, lambda a: a.limited(clock.now() + 60, "429", clock.now()))
    clock.advance(60)
    shown = (await upkeep(tmp_path, clock))["a"]
    assert (shown["status"], shown["rate_limited_until"]) == ("active", None)
    assert stored(tmp_path, account.id)["status"] == "active"


# ---- idle accounts


async def test_an_idle_account_is_shown_and_stays(tmp_path: Path) -> None:
    clock = TestClock()
    async with serve(tmp_path, clock=clock) as service:
        [account] = service.parts.pool
    clock.advance(7 * DAY)
    shown = (await upkeep(tmp_path, clock))["a"]
    assert (shown["status"], shown["idle_since"]) == ("active", account.view()["created_at"])


async def test_an_idle_account_is_taken_out_with_the_reason_where_that_is_set(tmp_path: Path) -> None:
    clock = TestClock()
    async with serve(tmp_path, clock=clock) as service:
        [account] = service.parts.pool
        clock.advance(DAY)
        assert (await service.message()).status == 200
        used = (await service.admin("GET", f"/api/accounts/{account.id}")).json()["account"]["last_used_at"]
    clock.advance(7 * DAY)
    shown = (await upkeep(tmp_path, clock, accounts__auto_deactivate="true"))["a"]
    assert (shown["status"], shown["status_reason"]) == ("inactive", f"idle: no request since {used}")
    assert stored(tmp_path, account.id)["status"] == "inactive"


@pytest.mark.parametrize(("days", "status"), [(2.9, "active"), (3, "inactive")])
async def test_how_long_is_idle_is_set_too(tmp_path: Path, days: float, status: str) -> None:
    clock = TestClock()
    async with serve(tmp_path, clock=clock):
        pass
    clock.advance(days * DAY)
    shown = await upkeep(tmp_path, clock, accounts__auto_deactivate="true", accounts__idle_threshold="3d")
    assert shown["a"]["status"] == status


async def test_an_account_that_was_just_reactivated_is_not_idle_again(tmp_path: Path) -> None:
    clock = TestClock()
    options = {"accounts__auto_deactivate": "true"}
    async with serve(tmp_path, clock=clock):
        pass
    clock.advance(8 * DAY)
    assert (await upkeep(tmp_path, clock, **options))["a"]["status"] == "inactive"
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        [account] = service.parts.pool
        answer = await service.admin("PUT", f"/api/accounts/{account.id}", {"status": "active"})
        assert answer.json()["account"]["idle_since"] is None
    clock.advance(6 * DAY)
    assert (await upkeep(tmp_path, clock, **options))["a"]["status"] == "active"
    clock.advance(1 * DAY)
    assert (await upkeep(tmp_path, clock, **options))["a"]["status"] == "inactive"


async def test_an_account_with_a_limit_that_recovers_is_not_idle_at_once(
    pool: Pool, clock: TestClock
) -> None:
    [a] = await limited(pool, "a", seconds=8 * DAY)
    clock.advance(8 * DAY)
    pool.tick()
    pool.deactivate_idle()
    assert pool[a].status is Status.ACTIVE


@pytest.mark.parametrize("state", ["rate_limited", "invalid", "inactive"])
async def test_only_an_active_account_is_taken_out(pool: Pool, clock: TestClock, state: str) -> None:
    [a] = await limited(pool, "a", seconds=30 * DAY)
    if state == "invalid":
        pool.invalidate(a, "401")
    elif state == "inactive":
        await pool.update(a, status=Status.INACTIVE)
    before = pool[a]
    clock.advance(10 * DAY)
    pool.deactivate_idle()
    assert pool[a] == before and pool[a].status.value == state


async def test_a_request_that_runs_for_days_is_no_idleness(pool: Pool, clock: TestClock) -> None:
    a: Account = await pool.add("a", ApiKey("sk-ant-api03-a"))
    with closing(pool.begin(a.id)):
        clock.advance(6 * DAY)
    clock.advance(6 * DAY)
    pool.deactivate_idle()
    assert pool[a.id].status is Status.INACTIVE
