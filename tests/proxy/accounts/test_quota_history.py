"""How much of each window was used lately: in points, within bounds, and still known after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.account import ApiKey
from proxy.accounts.pool import Pool
from proxy.accounts.quota import Window
from proxy.accounts.quota_history import POINTS, QuotaHistory, read_quota_record
from proxy.feed import Feed
from tests.disk import Disk, make_pool
from tests.memory import traced
from tests.service import TestClock, serve

DAY = 86_400.0
NOW = 1_800_000_000.0


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def pool(disk: Disk, clock: TestClock, feed: Feed) -> Pool:
    return make_pool(disk, clock, feed=feed)


@pytest.fixture
def history(pool: Pool, feed: Feed, clock: TestClock) -> QuotaHistory:
    return QuotaHistory(pool, {}, feed=feed, clock=clock)


def window(used: float, clock: TestClock, lasts_s: float = 5 * 3600) -> Window:
    return Window(used, resets_at=clock.now() + lasts_s)


def known(points: list[float | None]) -> list[float]:
    return [point for point in points if point is not None]


async def test_each_five_minutes_of_a_day_have_a_point_with_the_most_that_was_used(
    pool: Pool, history: QuotaHistory, clock: TestClock
) -> None:
    account = await pool.add("a", ApiKey("sk-ant-api03-a"))
    for used in (0.1, 0.3, 0.2):  # within one step of 5 minutes
        pool.quotas.set(account.id, {"5h": window(used, clock)})
        history.sample()
        clock.advance(60)
    clock.advance(600)  # nobody looks for two steps
    pool.quotas.set(account.id, {"5h": window(0.5, clock)})
    history.sample()
    day = history.points(account.id, "24h")["5h"]
    assert (len(day), day[-3:], known(day)) == (288, [0.3, None, 0.5], [0.3, 0.5])
    week = history.points(account.id, "7d")["5h"]
    assert (len(week), known(week)) == (168, [0.5])


async def test_what_is_older_than_the_range_is_gone(
    pool: Pool, history: QuotaHistory, clock: TestClock
) -> None:
    account = await pool.add("a", ApiKey("sk-ant-api03-a"))
    pool.quotas.set(account.id, {"5h": window(0.5, clock)})
    history.sample()
    clock.advance(DAY)
    assert known(history.points(account.id, "24h")["5h"]) == []
    assert known(history.points(account.id, "7d")["5h"]) == [0.5]
    clock.advance(400 * DAY)
    assert known(history.points(account.id, "7d")["5h"]) == []


async def test_a_window_has_no_point_after_its_reset(
    pool: Pool, history: QuotaHistory, clock: TestClock
) -> None:
    account = await pool.add("a", ApiKey("sk-ant-api03-a"))
    pool.quotas.set(account.id, {"5h": window(0.9, clock, lasts_s=300)})
    for _ in range(3):
        history.sample()
        clock.advance(300)
    assert known(history.points(account.id, "24h")["5h"]) == [0.9]


async def test_a_clock_that_was_far_ahead_leaves_no_points_in_the_future(
    pool: Pool, history: QuotaHistory, clock: TestClock
) -> None:
    account = await pool.add("a", ApiKey("sk-ant-api03-a"))
    for used, jump in ((0.9, 30 * DAY), (0.8, -30 * DAY), (0.7, 0)):
        pool.quotas.set(account.id, {"5h": window(used, clock)})
        history.sample()
        clock.jump(jump)
    assert known(history.points(account.id, "24h")["5h"]) == [0.7]


async def test_a_deleted_account_leaves_nothing(
    pool: Pool, history: QuotaHistory, clock: TestClock, disk: Disk
) -> None:
    account = await pool.add("a", ApiKey("sk-ant-api03-a"))
    pool.quotas.set(account.id, {"5h": window(0.5, clock)})
    history.sample()
    await history.save(disk)
    assert disk["quota"].keys() == {account.id}
    await pool.remove(account.id)
    await history.save(disk)
    assert (history.points(account.id, "24h"), disk["quota"]) == ({}, {})


async def test_bars_and_history_are_there_again_after_a_restart(tmp_path: Path) -> None:
    clock = TestClock()
    async with serve(tmp_path, accounts=(), clock=clock) as service:
        account, _ = await service.add_login("login")
        assert (await service.message()).status == 200
        service.parts.quota.look()
        before = (await service.admin("GET", f"/api/accounts/{account.id}")).json()["account"]["quota"]
    clock.advance(600)
    async with serve(tmp_path, accounts=(), clock=clock) as service:
        after = (await service.admin("GET", f"/api/accounts/{account.id}")).json()["account"]["quota"]
        assert {each["window"] for each in after} == {"5h", "7d"} and after == before
        answer = (await service.admin("GET", f"/api/accounts/{account.id}/quota")).json()
        assert [known(each["used"]) for each in answer["windows"]] == [[0.0], [0.0]]


async def test_the_history_is_read_by_range(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert (await service.message()).status == 200
        service.parts.quota.look()
        [account] = service.parts.pool
        path = f"/api/accounts/{account.id}/quota"
        for range, first, step_s in (
            ("24h", "2027-01-14T08:05:00.000Z", 300),
            ("7d", "2027-01-08T09:00:00.000Z", 3600),
        ):
            answer = (await service.admin("GET", f"{path}?range={range}")).json()
            assert (answer["range"], answer["from"], answer["step_seconds"]) == (range, first, step_s)
            windows = {each["window"]: each["used"] for each in answer["windows"]}
            assert windows.keys() == {"requests", "tokens", "input_tokens", "output_tokens"}
            assert len(windows["requests"]) == {"24h": 288, "7d": 168}[range]
            assert windows["requests"][-1] == 0.0
        assert (await service.admin("GET", f"{path}?range=1h")).status == 422
        assert (await service.admin("GET", "/api/accounts/acc_none/quota")).status == 404


GOOD: dict[str, Any] = {
    "used": 0.5,
    "resets_at": NOW,
    "24h": {"end": 6_000_000, "points": "/" * 384},
    "7d": {"end": 500_000, "points": "/" * 224},
}


@pytest.mark.parametrize(
    "record",
    [
        {"5h": []},
        {"5h": GOOD | {"used": "much"}},
        {"5h": GOOD | {"resets_at": -1}},
        {"5h": GOOD | {"24h": {"end": 6_000_000, "points": "?"}}},
        {"5h": GOOD | {"24h": {"end": 6_000_000, "points": "////"}}},
        {"5h": GOOD | {"7d": {"points": "/" * 224}}},
        {"": GOOD},
        {"<b>": GOOD},
        {f"{n}h": GOOD for n in range(9)},
    ],
)
def test_a_record_that_is_damaged_is_not_taken(record: dict[str, Any]) -> None:
    read_quota_record("acc_1", {"5h": GOOD, "requests": {"limit": 5, "remaining": 4}})
    with pytest.raises(ValueError, match=r"5h|window"):
        read_quota_record("acc_1", record)


async def test_a_thousand_accounts_with_three_windows_take_few_bytes(
    pool: Pool, history: QuotaHistory, clock: TestClock, disk: Disk
) -> None:
    for n in range(1000):
        account = await pool.add(f"account-{n}", ApiKey(f"sk-ant-api03-{n}"))
        pool.quotas.set(account.id, {name: window(0.5, clock) for name in ("5h", "7d", "7d_oi")})
    with traced() as memory:
        history.sample()
        await history.save(disk)
        taken = memory()
    assert len(disk["quota"]) == 1000
    assert taken < 15e6  # the test's disk included
    assert POINTS == {"24h": 288, "7d": 168}
