"""The verdict on the whole, by the states of the accounts and what could not be saved."""

from __future__ import annotations

import pytest

from proxy.accounts.account import ApiKey, Status
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKeys
from proxy.dashboard.health import Health
from proxy.errors import StorageError
from proxy.usage.series import Series
from tests.disk import Disk, make_findings
from tests.service import TestClock


@pytest.fixture
def series(clock: TestClock) -> Series:
    return Series(clock=clock)


@pytest.fixture
def health(pool: Pool, tokens: ClientKeys, series: Series, disk: Disk, clock: TestClock) -> Health:
    return Health(pool, tokens, series, make_findings(disk), clock)


async def fill(pool: Pool, clock: TestClock, states: str) -> None:
    """An account for each word of `states`; `passed` is rate limited until now."""
    for number, state in enumerate(states.split()):
        account = await pool.add(f"account {number}", ApiKey(f"sk-ant-api03-{number}"))
        match state:
            case "limited":
                pool.limit(account.id, clock.now() + 60, "5h rejected")
            case "passed":
                pool.limit(account.id, clock.now(), "5h rejected")
            case "invalid":
                pool.invalidate(account.id, "401")
            case "inactive":
                await pool.update(account.id, status=Status.INACTIVE)


@pytest.mark.parametrize(
    ("states", "status", "pool_is"),
    [
        ("", "unhealthy", "no usable account"),
        ("active", "healthy", None),
        ("active inactive", "healthy", None),
        ("active passed", "healthy", None),
        ("passed", "healthy", None),
        ("active limited", "degraded", None),
        ("active invalid", "degraded", None),
        ("inactive", "unhealthy", "no usable account"),
        ("invalid", "unhealthy", "no usable account"),
        ("limited", "unhealthy", "no usable account"),
        ("limited invalid inactive", "unhealthy", "no usable account"),
    ],
)
async def test_health_follows_from_the_states_of_the_accounts(
    health: Health, pool: Pool, clock: TestClock, states: str, status: str, pool_is: str | None
) -> None:
    await fill(pool, clock, states)
    assert (health.status(), health.pool_exhausted(), health.not_ready()) == (status, pool_is, None)


async def test_an_account_that_is_not_saved_degrades(
    health: Health, pool: Pool, clock: TestClock, disk: Disk
) -> None:
    await fill(pool, clock, "active active")
    disk.full = True
    with pytest.raises(StorageError):
        await pool.remove(next(iter(pool)).id)
    assert health.status() == "degraded"
    disk.full = False
    await pool.save_again()
    assert health.status() == "healthy"


async def test_a_client_key_that_is_not_saved_degrades(
    health: Health, pool: Pool, tokens: ClientKeys, clock: TestClock, disk: Disk
) -> None:
    await fill(pool, clock, "active")
    token, _ = await tokens.add("client")
    disk.full = True
    with pytest.raises(StorageError):
        await tokens.remove(token.id)
    assert health.status() == "degraded"


async def test_usage_that_is_not_saved_degrades(
    health: Health, pool: Pool, series: Series, clock: TestClock
) -> None:
    await fill(pool, clock, "active")
    series.unsaved = "no space left on device"
    assert health.status() == "degraded"
    series.unsaved = None
    assert health.status() == "healthy"


async def test_what_a_start_has_found_degrades_until_an_admin_has_seen_it(
    pool: Pool, tokens: ClientKeys, series: Series, clock: TestClock, disk: Disk
) -> None:
    findings = make_findings(disk, "tokens.json was gone", "tokens.json: its backup serves")
    health = Health(pool, tokens, series, findings, clock)
    await fill(pool, clock, "active")
    assert (health.status(), health.reasons()) == (
        "degraded",
        ["tokens.json was gone", "tokens.json: its backup serves"],
    )
    await findings.acknowledge([each["id"] for each in findings.view()])
    assert (health.status(), health.reasons()) == ("healthy", [])


async def test_an_account_that_refuses_everything_degrades(
    health: Health, pool: Pool, clock: TestClock
) -> None:
    await fill(pool, clock, "active active")
    account = next(iter(pool))
    for _ in range(5):
        pool.refused(account.id, "403 permission_error: no")
    assert health.status() == "degraded"
    assert health.reasons() == ["1 of 2 accounts refuse all requests"]
    pool.served(account.id, ())
    assert (health.status(), health.reasons()) == ("healthy", [])


async def test_every_reason_is_told(
    health: Health, pool: Pool, tokens: ClientKeys, series: Series, disk: Disk
) -> None:
    token, _ = await tokens.add("client")
    disk.full = True
    series.unsaved = "no space left on device"
    with pytest.raises(StorageError):
        await tokens.remove(token.id)
    assert health.status() == "unhealthy"
    assert health.reasons() == [
        "no accounts",
        "1 changes are not on disk yet: the data folder cannot be written",
        "usage is not on disk yet: the data folder cannot be written",
    ]


async def test_what_drains_is_not_ready_and_says_so(health: Health, pool: Pool, clock: TestClock) -> None:
    await fill(pool, clock, "active")
    health.draining = True
    assert (health.status(), health.not_ready(), health.pool_exhausted()) == ("healthy", "draining", None)


def test_uptime_is_since_the_start(health: Health, clock: TestClock) -> None:
    clock.advance(90)
    assert health.uptime_s() == 90
