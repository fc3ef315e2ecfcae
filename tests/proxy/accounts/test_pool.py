"""The table of accounts: who is chosen, what is learned, and what a full disk does not take away."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.account import Account, ApiKey, OAuthTokens, Status
from proxy.accounts.exhausted import exhausted
from proxy.accounts.pool import Pool
from proxy.clock import rfc3339
from proxy.errors import RateLimited, Unavailable
from proxy.jobs import Jobs
from proxy.upstream.verdict import OWN_PROXY
from tests.answer_headers import answer_headers
from tests.disk import Disk, added, make_pool
from tests.service import TestClock

DAYS_7 = 7 * 86_400.0


def chosen(pool: Pool, *matters: str, **options: Any) -> str | None:
    """The name of the account that a request takes now."""
    account = pool.choose(matters, **options)
    return None if account is None else pool.take(account.id).name


# ---- choice


async def test_accounts_are_chosen_in_turn(pool: Pool) -> None:
    await added(pool, "a", "b", "c")
    assert [chosen(pool) for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


async def test_a_thousand_requests_are_shared_evenly(pool: Pool) -> None:
    await added(pool, *"abcdefg")
    asked = Counter(chosen(pool) for _ in range(1000))
    assert max(asked.values()) - min(asked.values()) <= 1


async def test_a_refused_account_is_not_chosen(pool: Pool) -> None:
    a, b = await added(pool, "a", "b")
    assert [chosen(pool, refused={a}) for _ in range(2)] == ["b", "b"]
    assert chosen(pool, refused={a, b}) is None


async def test_an_account_is_chosen_again_from_the_end_of_its_limit(pool: Pool, clock: TestClock) -> None:
    [a] = await added(pool, "a")
    pool.limit(a, clock.now() + 60, "5h rejected")
    clock.advance(59)
    assert chosen(pool) is None
    clock.advance(1)
    assert (chosen(pool), pool[a].status) == ("a", Status.ACTIVE)


async def test_an_account_whose_limit_has_passed_is_asked_before_the_tick_only_if_no_other_is_usable(
    pool: Pool, clock: TestClock
) -> None:
    a, b = await added(pool, "a", "b")
    pool.limit(a, clock.now() + 60, "5h rejected")
    clock.advance(60)
    assert [chosen(pool) for _ in range(2)] == ["b", "b"]
    assert (chosen(pool, refused={b}), pool[a].status) == ("a", Status.ACTIVE)


async def test_to_choose_changes_nothing(pool: Pool, clock: TestClock) -> None:
    a, b, _ = await added(pool, "a", "b", "c")
    pool.limit(a, clock.now() + 3600, "5h rejected")
    pool.skip(b, "opus", clock.now() + 3600, "7d_oi rejected")
    clock.advance(3600)
    before = list(pool)
    assert {pool.choose(("opus",)) for _ in range(3)} == {pool[b]}
    assert (list(pool), pool.has_refusals) == (before, True)


async def test_recovery_needs_no_request(pool: Pool, clock: TestClock) -> None:
    [a] = await added(pool, "a")
    pool.limit(a, clock.now() + 60, "5h rejected")
    clock.advance(60)
    pool.tick()
    assert pool[a].status is Status.ACTIVE


async def test_a_model_limit_concerns_that_model_only(pool: Pool, clock: TestClock) -> None:
    a, _ = await added(pool, "a", "b")
    pool.skip(a, "opus", clock.now() + 60, "7d_oi rejected")
    assert [chosen(pool, "opus") for _ in range(2)] == ["b", "b"]
    assert {chosen(pool, "sonnet") for _ in range(2)} == {"a", "b"}
    assert {chosen(pool) for _ in range(2)} == {"a", "b"}
    assert pool[a].status is Status.ACTIVE


async def test_a_model_limit_ends_with_its_time(pool: Pool, clock: TestClock) -> None:
    [a] = await added(pool, "a")
    pool.skip(a, "opus", clock.now() + 60, "7d_oi rejected")
    pool.skip(a, "opus", clock.now() + 30, "an earlier one")
    clock.advance(59)
    assert chosen(pool, "opus") is None
    clock.advance(1)
    assert chosen(pool, "opus") == "a"
    pool.tick()
    assert not pool.has_refusals


async def test_a_refusal_that_repeats_rests_longer_and_a_success_makes_it_short_again(
    pool: Pool, clock: TestClock
) -> None:
    [a] = await added(pool, "a")
    for rest_s in (5, 10, 20, 40, 60, 60):  # no more than a minute
        pool.strike(a, "opus", 60, "429", clock.monotonic())
        assert pool.recovers_in(("opus",)) == pytest.approx(rest_s)
        clock.advance(rest_s)
    pool.served(a, ("sonnet",))
    pool.strike(a, "opus", 60, "429", clock.monotonic())
    assert pool.recovers_in(("opus",)) == pytest.approx(60)
    clock.advance(60)
    pool.served(a, ("opus",))
    pool.strike(a, "opus", 60, "429", clock.monotonic())
    assert pool.recovers_in(("opus",)) == pytest.approx(5)


async def test_refusals_that_come_at_once_are_one(pool: Pool, clock: TestClock) -> None:
    [a] = await added(pool, "a")
    for _ in range(20):
        pool.strike(a, "opus", 3600, "429", clock.monotonic())
        clock.advance(0.1)
    assert pool.recovers_in(("opus",)) == pytest.approx(3)
    clock.advance(3.1)
    pool.strike(a, "opus", 3600, "429", clock.monotonic())
    assert pool.recovers_in(("opus",)) == pytest.approx(10)


async def test_one_blip_of_an_own_proxy_that_many_requests_meet_is_one_failure(
    pool: Pool, clock: TestClock
) -> None:
    [a] = await added(pool, "a")
    for met_at in (clock.monotonic(), clock.monotonic(), clock.monotonic() + 5):
        clock.advance(2)  # until another account has served it
        pool.strike(a, OWN_PROXY, 3600, "down", met_at)
        assert pool.cooldowns.is_lost(a) == (met_at > clock.monotonic() - 2)


async def test_matters_without_end_are_not_remembered(pool: Pool, clock: TestClock) -> None:
    [a] = await added(pool, "a")
    for number in range(1000):
        pool.skip(a, f"route {number}", clock.now() + 60, "429")
        pool.strike(a, f"model {number}", 60, "429", clock.monotonic())
    kept = [n for n in range(1000) for what in ("route", "model") if pool.choose((f"{what} {n}",)) is None]
    assert len(kept) == 256
    clock.advance(60)
    pool.tick()
    pool.skip(a, "route files", clock.now() + 60, "429")
    assert pool.choose(("route files",)) is None


async def test_what_was_refused_long_ago_is_forgotten(pool: Pool, clock: TestClock) -> None:
    a, b = await added(pool, "a", "b")
    pool.strike(a, "opus", 3600, "429", clock.monotonic())
    pool.strike(b, "opus", 3600, "429", clock.monotonic())
    await pool.remove(b)
    clock.advance(3600)
    pool.tick()
    assert pool.has_refusals
    clock.advance(10)
    pool.tick()
    assert not pool.has_refusals


async def test_a_new_key_begins_without_the_limits_of_the_old_one(pool: Pool, clock: TestClock) -> None:
    [a] = await added(pool, "a")
    used = answer_headers([("anthropic-ratelimit-requests-remaining", "0")])
    old = pool[a]
    pool.saw(old, used)
    pool.skip(a, "route files", clock.now() + 60, "429")
    pool.strike(a, "model opus", 60, "429", clock.monotonic())
    pool.limit(a, clock.now() + 600, "429")
    new = await pool.update(a, key=ApiKey("sk-ant-api03-new"))
    assert (new.status, new.rate_limited_until) == (Status.ACTIVE, None)
    assert chosen(pool, "route files", "model opus") == "a"
    assert (pool.quotas[a], pool.cooldowns.any_matter) == ({}, False)
    pool.saw(old, used)
    assert pool.quotas[a] == {}


async def test_new_tokens_of_a_login_keep_what_is_known_of_its_limits(pool: Pool, clock: TestClock) -> None:
    login = await pool.add("login", OAuthTokens("one", "two", clock.now() + 60))
    pool.skip(login.id, "route files", clock.now() + 60, "429")
    tokens = OAuthTokens("three", "four", clock.now() + 3600)
    await pool.change(login.id, lambda a: a.refresh_received(tokens, clock.now()))
    pool.publish(login.id)
    pool.saw(login, answer_headers([("anthropic-ratelimit-unified-5h-utilization", "0.5")]))
    assert (pool.choose(("route files",)), pool.quotas[login.id]["5h"].used) == (None, 0.5)


async def test_refusals_in_a_row_are_shown_until_the_account_serves_or_changes(
    pool: Pool, clock: TestClock
) -> None:
    a, b = await added(pool, "a", "b")
    for count in range(1, 8):
        pool.refused(a, f"403 number {count}")
        assert pool.refusing() == (count >= 5)
    assert pool.view(pool[a])["status_reason"] == "refused 7 requests in a row: 403 number 7"
    assert pool.view(pool[b])["status_reason"] is None
    pool.limit(a, clock.now() + 60, "5h rejected")
    assert (pool.refusing(), pool.view(pool[a])["status_reason"]) == (0, "5h rejected")
    pool.refused(a, "of before the limit")
    pool.refused("acc_gone", "403")
    assert not pool.has_refusals


async def test_counting_states_takes_a_limit_that_passed_for_active(pool: Pool, clock: TestClock) -> None:
    a, b, c, _ = await added(pool, "a", "b", "c", "d")
    pool.limit(a, clock.now(), "passed")
    pool.limit(b, clock.now() + 60, "5h rejected")
    pool.invalidate(c, "401")
    assert pool.count() == {
        Status.ACTIVE: 2,
        Status.INACTIVE: 0,
        Status.RATE_LIMITED: 1,
        Status.INVALID: 1,
    }


# ---- limits by either clock, and after a long one


class JumpingClock(TestClock):
    """Its wall clock can be set, as an operator or NTP does."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by = 0.0

    def now(self) -> float:
        return super().now() + self.set_by


async def test_a_wall_clock_set_back_does_not_prolong_a_limit(disk: Disk) -> None:
    clock = JumpingClock()
    pool = make_pool(disk, clock)
    [a] = await added(pool, "a")
    pool.limit(a, clock.now() + 60, "5h rejected")
    clock.set_by = -86_400
    clock.advance(59)
    assert chosen(pool) is None
    clock.advance(1)
    assert (pool.count()[Status.ACTIVE], chosen(pool), pool[a].status) == (1, "a", Status.ACTIVE)


async def test_a_wall_clock_set_ahead_ends_a_limit(disk: Disk) -> None:
    clock = JumpingClock()
    pool = make_pool(disk, clock)
    [a] = await added(pool, "a")
    pool.limit(a, clock.now() + 60, "5h rejected")
    clock.set_by = 60
    assert (chosen(pool), pool[a].status) == ("a", Status.ACTIVE)


async def test_after_a_long_limit_one_request_finds_out(pool: Pool, clock: TestClock) -> None:
    [a] = await added(pool, "a")
    pool.limit(a, clock.now() + 3600, "5h rejected")
    clock.advance(3600)
    with closing(pool.begin(a)):
        assert [chosen(pool), chosen(pool)] == ["a", None]
        pool.answered(a)
        assert chosen(pool) == "a"


@pytest.mark.parametrize("outcome", ["answered", "limited", "removed", "over"])
async def test_whoever_waits_for_the_one_that_finds_out_goes_on(
    pool: Pool, clock: TestClock, outcome: str
) -> None:
    [a] = await added(pool, "a")
    pool.limit(a, clock.now() + 3600, "5h rejected")
    clock.advance(3600)
    assert chosen(pool) == "a"
    with closing(pool.begin(a)):
        waiting = asyncio.create_task(pool.probation_ended())
        await asyncio.sleep(0)
        match outcome:
            case "answered":
                pool.answered(a)
            case "limited":
                pool.limit(a, clock.now() + 3600, "5h rejected")
            case "removed":
                await pool.remove(a)
    assert await waiting
    assert not await pool.probation_ended()


# ---- idle accounts


async def test_an_account_that_nobody_used_for_the_threshold_is_taken_out(
    pool: Pool, clock: TestClock
) -> None:
    a, b = await added(pool, "a", "b")
    clock.advance(DAYS_7 - 1)
    with closing(pool.begin(b)):
        pass
    pool.deactivate_idle()
    assert pool.count()[Status.ACTIVE] == 2
    clock.advance(1)
    pool.deactivate_idle()
    assert (pool[a].status, pool[b].status) == (Status.INACTIVE, Status.ACTIVE)
    assert pool[a].status_reason == "idle: no request since 2027-01-15T08:00:00.000Z"


async def test_an_idle_account_that_an_admin_sets_active_has_its_time_anew(
    pool: Pool, clock: TestClock
) -> None:
    [a] = await added(pool, "a")
    clock.advance(DAYS_7)
    pool.deactivate_idle()
    await pool.update(a, status=Status.ACTIVE)
    pool.deactivate_idle()
    assert pool[a].status is Status.ACTIVE


async def test_only_an_active_account_is_taken_out_for_being_idle(pool: Pool, clock: TestClock) -> None:
    a, b = await added(pool, "a", "b")
    clock.advance(DAYS_7)
    pool.limit(a, clock.now() + 60, "5h rejected")
    pool.invalidate(b, "401")
    pool.deactivate_idle()
    assert (pool[a].status, pool[b].status) == (Status.RATE_LIMITED, Status.INVALID)


# ---- what a client is told when nobody can be asked


async def test_without_accounts_there_are_none_available(pool: Pool, clock: TestClock) -> None:
    error = exhausted(pool, clock.now())
    assert isinstance(error, Unavailable)
    assert (error.message, error.should_retry) == ("no accounts available", False)


async def test_where_no_time_brings_one_back_all_are_invalid_or_inactive(
    pool: Pool, clock: TestClock
) -> None:
    a, b = await added(pool, "a", "b")
    pool.invalidate(a, "401")
    await pool.update(b, status=Status.INACTIVE)
    error = exhausted(pool, clock.now())
    assert isinstance(error, Unavailable)
    assert (error.message, error.should_retry) == ("all accounts invalid or inactive", False)


@pytest.mark.parametrize(("wait_s", "should_retry"), [(0.2, None), (60, None), (60.1, False), (7200, False)])
async def test_where_all_are_rate_limited_the_wait_is_for_the_first_to_return(
    pool: Pool, clock: TestClock, wait_s: float, should_retry: bool | None
) -> None:
    a, b = await added(pool, "a", "b")
    pool.limit(a, clock.now() + wait_s + 100, "7d rejected")
    pool.limit(b, clock.now() + wait_s, "5h rejected")
    error = exhausted(pool, clock.now())
    assert isinstance(error, RateLimited)
    back_at = rfc3339(clock.now() + wait_s)
    told = f"all accounts rate limited: 'b' comes back first, at {back_at}"
    assert (error.message, error.should_retry) == (told, should_retry)
    assert error.retry_after_s is not None and 0 <= error.retry_after_s - wait_s < 1


async def test_the_wait_for_a_model_ends_when_both_account_and_model_are_back(
    pool: Pool, clock: TestClock
) -> None:
    [a] = await added(pool, "a")
    pool.limit(a, clock.now() + 10, "5h rejected")
    pool.skip(a, "opus", clock.now() + 90, "7d_oi rejected")
    told = f"all accounts rate limited: 'a' comes back first, at {rfc3339(clock.now() + 90)}"
    assert exhausted(pool, clock.now(), ("opus",)).message == told
    assert (pool.recovers_in(("opus",)), pool.recovers_in(("sonnet",)), pool.recovers_in()) == (90, 10, 10)


async def test_who_is_usable_need_not_be_waited_for(pool: Pool) -> None:
    await added(pool, "a")
    assert pool.recovers_in() is None


# ---- counters


async def test_a_use_is_counted_while_it_runs_and_after(pool: Pool, clock: TestClock) -> None:
    [a] = await added(pool, "a")
    with closing(pool.begin(a)):
        assert pool.view(pool[a])["in_flight"] == 1
    view = pool.view(pool[a])
    assert (view["requests"], view["in_flight"]) == (1, 0)
    assert view["last_used_at"] == "2027-01-15T08:00:00.000Z"


async def test_a_use_that_fails_is_over_too(pool: Pool) -> None:
    [a] = await added(pool, "a")
    with pytest.raises(asyncio.CancelledError), closing(pool.begin(a)):
        raise asyncio.CancelledError
    assert pool.view(pool[a])["in_flight"] == 0


async def test_failures_and_limits_are_counted(pool: Pool, clock: TestClock) -> None:
    [a] = await added(pool, "a")
    pool.failed(a)
    pool.failed(a)
    pool.limit(a, clock.now() + 1, "5h rejected")
    view = pool.view(pool[a])
    assert (view["errors"], view["rate_limits"]) == (2, 1)


async def test_counters_survive_a_restart(pool: Pool, disk: Disk, clock: TestClock) -> None:
    [a] = await added(pool, "a")
    with closing(pool.begin(a)):
        pool.failed(a)
        await pool.save_counters(disk)
    after = make_pool(disk, clock)
    view = after.view(after[a])
    assert (view["requests"], view["errors"], view["in_flight"]) == (1, 1, 0)
    assert view["last_used_at"] == "2027-01-15T08:00:00.000Z"


@pytest.mark.parametrize("stored", [{}, {"requests": "many", "errors": None, "rate_limits": True}, {"x": 1}])
async def test_counters_that_cannot_be_read_are_zero(
    pool: Pool, disk: Disk, clock: TestClock, stored: dict[str, Any]
) -> None:
    [a] = await added(pool, "a")
    await disk.update("counters", {a: stored})
    after = make_pool(disk, clock)
    view = after.view(after[a])
    counters = ("requests", "errors", "rate_limits", "last_used_at")
    assert [view[name] for name in counters] == [0, 0, 0, None]


async def test_the_view_holds_no_credential(pool: Pool) -> None:
    account = await pool.add("a", OAuthTokens("access-secret", "refresh-secret", None))
    assert "secret" not in repr(pool.view(account)) + repr(account)


# ---- whatever happens

NAMES = ["a", "b", "c"]
some_name = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("429"), some_name, st.floats(0, 500)),
    st.tuples(st.just("401"), some_name, st.none()),
    st.tuples(st.just("model"), some_name, st.floats(0, 200)),
    st.tuples(st.just("wait"), st.just(""), st.floats(0, 300)),
    st.tuples(st.just("tick"), st.just(""), st.none()),
    st.tuples(st.just("choose"), st.just(""), st.none()),
    st.tuples(st.just("rename"), some_name, st.sampled_from(["x", "y"])),
    st.tuples(st.just("refreshed"), some_name, st.none()),
    st.tuples(st.just("not refreshed"), some_name, st.none()),
    st.tuples(st.just("idle"), st.just(""), st.none()),
    st.tuples(st.just("set"), some_name, st.sampled_from([Status.ACTIVE, Status.INACTIVE])),
)


async def take(pool: Pool, clock: TestClock, account_id: str, step: tuple[str, str, Any]) -> Account | None:
    """Do one step; the account that was chosen."""
    what, _, value = step
    match what:
        case "429":
            pool.limit(account_id, clock.now() + value, "429")
        case "401":
            pool.invalidate(account_id, "401")
        case "model":
            pool.skip(account_id, "opus", clock.now() + value, "429")
        case "wait":
            clock.advance(value)
        case "tick":
            pool.tick()
        case "choose":
            found = pool.choose(("opus",))
            return None if found is None else pool.take(found.id)
        case "refreshed":
            tokens = OAuthTokens(f"new of {account_id}", "new", clock.now() + 3600)
            pool.change(account_id, lambda a: a.refresh_received(tokens, clock.now()))
            pool.publish(account_id)
        case "not refreshed":
            pool.change(account_id, lambda a: a.refresh_begun(clock.now()))
            pool.change(account_id, lambda a: a.refresh_failed("502", clock.now()))
        case "idle":
            pool.deactivate_idle()
        case "rename":
            await pool.update(account_id, name=value + account_id)
        case "set":
            await pool.update(account_id, status=value)
    return None


def passed(account: Account, clock: TestClock) -> bool:
    """Whether its limit is over, as far as floats can tell."""
    return account.limit_passed(clock.now() + 1e-3)


@given(st.lists(steps, max_size=40))
def test_whatever_happens_the_states_hold(story: list[tuple[str, str, Any]]) -> None:
    async def live() -> None:
        disk, clock, jobs = Disk(), TestClock(), Jobs()
        pool = make_pool(disk, clock, jobs)
        ids = {name: (await pool.add(name, OAuthTokens(name, name, None))).id for name in NAMES}
        for step in story:
            before = {account.id: account for account in pool}
            chosen = await take(pool, clock, ids.get(step[1], ""), step)
            for old, new in ((before[id], pool[id]) for id in before):
                by_an_admin = step[0] == "set" and ids[step[1]] == new.id
                if not by_an_admin and old.status in (Status.INACTIVE, Status.INVALID):
                    assert new.status is old.status
                if old.status is new.status is Status.RATE_LIMITED:
                    assert (new.rate_limited_until or 0) >= (old.rate_limited_until or 0)
                if not by_an_admin and old.status is Status.RATE_LIMITED is not new.status:
                    assert passed(old, clock) or new.status is Status.INVALID
            if chosen is not None:
                old = before[chosen.id]
                assert old.status is Status.ACTIVE or passed(old, clock)
                assert chosen is pool[chosen.id] and chosen.status is Status.ACTIVE
        await jobs.close()
        assert {id: Account.from_record(r) for id, r in disk["accounts"].items()} == {a.id: a for a in pool}

    asyncio.run(live())
