"""An account that nears a limit is told once, in words, until the limit is reset."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.accounts.account import ApiKey, Status
from proxy.accounts.pool import Pool
from proxy.accounts.quota import Window
from proxy.accounts.quota_alerts import QuotaAlerts
from proxy.feed import Feed, Happened, Subject
from tests.disk import Disk, make_pool
from tests.service import TestClock, serve

HOUR = 3600.0


class Told:
    def __init__(self, pool: Pool, clock: TestClock, threshold: float = 0.9) -> None:
        self.events: list[Happened] = []
        feed = Feed()
        feed.on_event(self.events.append)
        self._alerts = QuotaAlerts(pool, threshold, feed=feed, clock=clock)

    def now(self) -> list[str]:
        """What is told now."""
        self.events.clear()
        self._alerts.look()
        return [event.text for event in self.events]


@pytest.fixture
def pool(disk: Disk, clock: TestClock) -> Pool:
    return make_pool(disk, clock)


async def test_each_window_is_told_once_until_its_reset(pool: Pool, clock: TestClock) -> None:
    account = await pool.add("team", ApiKey("sk-ant-api03-a"))
    told = Told(pool, clock)
    at = clock.now() + HOUR

    def use(five: float, seven: float, at: float) -> None:
        pool.quotas.set(
            account.id, {"5h": Window(five, resets_at=at), "7d_opus": Window(seven, resets_at=at + 9 * HOUR)}
        )

    use(0.89, 0.5, at)
    assert told.now() == []
    use(0.9, 0.5, at)
    assert told.now() == ["team has used 90 % of its quota (5 hours)"]
    assert told.events[0].subject == Subject("account", account.id, "team")
    use(0.97, 0.934, at)
    assert told.now() == ["team has used 93 % of its quota (Opus, 7 days)"]
    assert told.now() == []
    clock.advance(2 * HOUR)
    assert told.now() == []  # the old one is over
    use(0.95, 0.95, at + 5 * HOUR)
    assert told.now() == ["team has used 95 % of its quota (5 hours)"]


async def test_what_is_full_again_in_a_minute_or_has_no_reset_is_not_told(
    pool: Pool, clock: TestClock
) -> None:
    account = await pool.add("team", ApiKey("sk-ant-api03-a"))
    requests = Window(limit=100, remaining=1, resets_at=clock.now() + 60)
    pool.quotas.set(account.id, {"requests": requests, "5h": Window(1.0)})
    assert Told(pool, clock).now() == []


async def test_of_an_account_out_of_service_nothing_is_told(pool: Pool, clock: TestClock) -> None:
    account = await pool.add("team", ApiKey("sk-ant-api03-a"))
    pool.quotas.set(account.id, {"5h": Window(1.0, resets_at=clock.now() + 60)})
    await pool.update(account.id, status=Status.INACTIVE)
    assert Told(pool, clock).now() == []


async def test_it_can_be_turned_off(pool: Pool, clock: TestClock) -> None:
    account = await pool.add("team", ApiKey("sk-ant-api03-a"))
    told = Told(pool, clock, 0.0)
    pool.quotas.set(account.id, {"5h": Window(1.0, resets_at=clock.now() + 60)})
    assert told.now() == []


async def test_a_restart_repeats_no_alert(tmp_path: Path) -> None:
    clock = TestClock()
    for expected in (1, 0):
        async with serve(tmp_path, accounts=["a"] if expected else [], clock=clock) as service:
            [account] = service.parts.pool
            if expected:
                service.parts.pool.quotas.set(account.id, {"5h": Window(0.95, resets_at=clock.now() + HOUR)})
            told: list[str] = []
            service.parts.feed.on_event(lambda event, told=told: told.append(event.kind))
            service.parts.quota.look()
            assert told.count("account.quota_high") == expected
