"""What the accounts have left together, what is reset next, and when nothing is left at this pace."""

from __future__ import annotations

import pytest

from proxy.accounts.account import Account, ApiKey, Status
from proxy.accounts.capacity import Capacity
from proxy.accounts.pool import Pool
from proxy.accounts.quota import Window
from proxy.clock import rfc3339
from proxy.feed import Feed
from tests.disk import Disk, make_pool
from tests.service import TestClock

HOUR = 3600.0


class Accounts:
    """Accounts whose use the test sets, and their capacity."""

    def __init__(self, pool: Pool, clock: TestClock) -> None:
        self.pool = pool
        self.clock = clock
        self.capacity = Capacity(pool, feed=Feed(), clock=clock)

    async def add(self, name: str, **used: float) -> Account:
        account = await self.pool.add(name, ApiKey(f"sk-ant-api03-{name}"))
        self.use(account, **used)
        return account

    def use(self, account: Account, **used: float) -> None:
        """Windows as `h5=0.4`, each reset so many hours from now."""
        now = self.clock.now()
        self.pool.quotas.set(
            account.id,
            {
                f"{name[1:]}h": Window(part, resets_at=now + float(name[1:]) * HOUR)
                for name, part in used.items()
            },
        )

    def left(self) -> float | None:
        self.capacity.sample()
        left: float | None = self.capacity.view()["left"]
        return left

    async def falls(self, account: Account, per_minute: float, minutes: int, start: float = 0.0) -> None:
        for minute in range(minutes):
            self.use(account, h5=start + per_minute * minute)
            self.capacity.sample()
            self.clock.advance(60)


@pytest.fixture
def accounts(disk: Disk, clock: TestClock) -> Accounts:
    return Accounts(make_pool(disk, clock), clock)


async def test_it_is_the_mean_of_what_the_tightest_windows_leave(accounts: Accounts) -> None:
    await accounts.add("a", h5=0.4, h168=0.1)
    await accounts.add("b", h5=0.2, h168=0.8)
    assert accounts.left() == 0.4


async def test_limits_that_refill_each_minute_have_no_pace(accounts: Accounts, clock: TestClock) -> None:
    key = await accounts.add("key")

    def remain(count: int) -> None:
        minute = Window(limit=1000, remaining=count, resets_at=clock.now() + 45)
        accounts.pool.quotas.set(key.id, {"requests": minute})

    for count in range(1000, 400, -10):
        remain(count)
        accounts.capacity.sample()
        clock.advance(30)
    remain(500)
    assert accounts.left() == 0.5 and accounts.capacity.view()["empty_at"] is None


async def test_an_account_of_which_nothing_is_known_does_not_count(accounts: Accounts) -> None:
    assert accounts.left() is None
    await accounts.add("new")
    assert accounts.left() is None
    await accounts.add("a", h5=0.5)
    assert accounts.left() == 0.5
    view = accounts.capacity.view()
    assert (view["known"], view["accounts"]) == (1, 2)


async def test_a_limited_account_has_nothing_left_and_one_out_of_service_does_not_count(
    accounts: Accounts,
) -> None:
    await accounts.add("a", h5=0.5)
    limited = await accounts.add("limited", h5=0.9)
    off = await accounts.add("off", h5=0.9)
    accounts.pool.limit(limited.id, accounts.clock.now() + HOUR, "429")
    await accounts.pool.update(off.id, status=Status.INACTIVE)
    assert accounts.left() == 0.25


async def test_the_next_resets_are_those_of_the_tightest_windows(accounts: Accounts) -> None:
    now = accounts.clock.now()
    await accounts.add("a", h5=0.4, h3=0.1)
    await accounts.add("b", h4=0.4)
    await accounts.add("c", h1=0.4)
    await accounts.add("d", h2=0.4)
    key = await accounts.add("key")
    accounts.pool.quotas.set(key.id, {"requests": Window(limit=9, remaining=1, resets_at=now + 60)})
    accounts.capacity.sample()
    shown = [(each["name"], each["window"], each["at"]) for each in accounts.capacity.view()["resets"]]
    assert shown == [(name, f"{h}h", rfc3339(now + h * HOUR)) for name, h in (("c", 1), ("d", 2), ("b", 4))]


async def test_what_falls_is_empty_at_some_time(accounts: Accounts) -> None:
    account = await accounts.add("a", h5=0.0)
    await accounts.falls(account, 0.01, 31)  # 0.3 in half an hour: 70 minutes more, from the last sample on
    empty_at = accounts.clock.now() - 60 + 70 * 60
    accounts.clock.advance(-60)
    accounts.capacity.sample()
    assert accounts.capacity.view()["empty_at"] == rfc3339(empty_at)


@pytest.mark.parametrize(("start", "per_minute"), [(0.5, 0.0), (0.9, -0.01), (0.5, 0.00001)])
async def test_what_does_not_fall_within_days_has_no_end(
    accounts: Accounts, start: float, per_minute: float
) -> None:
    account = await accounts.add("a", h5=0.0)
    await accounts.falls(account, per_minute, 31, start)
    assert accounts.capacity.view()["empty_at"] is None


async def test_a_few_minutes_say_nothing_about_the_pace(accounts: Accounts) -> None:
    account = await accounts.add("a", h5=0.0)
    await accounts.falls(account, 0.05, 5)
    assert accounts.capacity.view()["empty_at"] is None


async def test_only_the_last_half_hour_counts(accounts: Accounts) -> None:
    account = await accounts.add("a", h5=0.0)
    await accounts.falls(account, 0.05, 10)
    await accounts.falls(account, 0.0, 31, 0.5)
    assert accounts.capacity.view()["empty_at"] is None
