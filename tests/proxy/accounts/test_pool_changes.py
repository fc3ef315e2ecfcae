"""What changes the table of accounts: on disk when told, held in memory where the disk is full, and logged."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from typing import Any

import pytest

from proxy.accounts.account import Account, ApiKey, Status, load_accounts
from proxy.accounts.pool import Pool
from proxy.errors import Conflict, NotFound, StorageError, Unprocessable
from proxy.jobs import Jobs
from tests.disk import Disk, added, make_pool
from tests.service import TestClock, until

# ---- adding, renaming, removing


async def test_an_account_is_on_disk_when_add_returns(pool: Pool, disk: Disk) -> None:
    account = await pool.add("a", ApiKey("sk-ant-api03-a"), organization_uuid="org-1")
    assert Account.from_record(disk["accounts"][account.id]) == account
    assert account.organization_uuid == "org-1"


async def test_accounts_keep_their_order_over_a_restart(pool: Pool, disk: Disk, clock: TestClock) -> None:
    for name in "cab":
        await added(pool, name)
        clock.advance(1)
    assert [account.name for account in make_pool(disk, clock)] == ["c", "a", "b"]


async def test_a_name_loses_the_space_around_it(pool: Pool) -> None:
    assert (await pool.add("  team a ", ApiKey("sk-ant-api03-a"))).name == "team a"


@pytest.mark.parametrize(
    "name", ["", "  ", "x" * 65, "a\nb", "a\x1b[31m", "a\x9bb", "a\u202eb", "a\u2028b", "\ud800"]
)
async def test_a_name_that_will_not_do_is_refused(pool: Pool, name: str) -> None:
    with pytest.raises(Unprocessable, match="name: 1 to 64 printable characters"):
        await pool.add(name, ApiKey("sk-ant-api03-a"))
    assert not len(pool)


@pytest.mark.parametrize("name", ["Team", "team", " TEAM "])
async def test_a_name_is_given_once_in_any_case(pool: Pool, name: str) -> None:
    await added(pool, "team")
    with pytest.raises(Conflict, match=r"An account called '.*' exists"):
        await pool.add(name, ApiKey("sk-ant-api03-other"))


async def test_a_credential_is_one_account_only(pool: Pool) -> None:
    await pool.add("a", ApiKey("sk-ant-api03-a"))
    with pytest.raises(Conflict, match="this key is already the account 'a'") as caught:
        await pool.add("b", ApiKey("sk-ant-api03-a"))
    assert "sk-ant" not in str(caught.value)
    assert len(pool) == 1


async def test_an_account_may_change_the_case_of_its_name(pool: Pool) -> None:
    [a] = await added(pool, "team")
    assert (await pool.update(a, name="Team")).name == "Team"


async def test_an_account_may_not_take_the_name_of_another(pool: Pool) -> None:
    a, _ = await added(pool, "a", "b")
    with pytest.raises(Conflict):
        await pool.update(a, name="B", status=Status.INACTIVE)
    assert (pool[a].name, pool[a].status) == ("a", Status.ACTIVE)


async def test_a_change_is_on_disk_when_update_returns(pool: Pool, disk: Disk) -> None:
    [a] = await added(pool, "a")
    await pool.update(a, name="b", status=Status.INACTIVE)
    assert (disk["accounts"][a]["name"], disk["accounts"][a]["status"]) == ("b", "inactive")


async def test_no_change_is_no_write(pool: Pool, disk: Disk) -> None:
    [a] = await added(pool, "a")
    await pool.update(a, name="a", status=Status.ACTIVE)
    assert len(disk.writes) == 1


async def test_a_removed_account_is_gone_from_memory_and_disk(pool: Pool, disk: Disk) -> None:
    [a] = await added(pool, "a")
    await pool.remove(a)
    await pool.save_counters(disk)
    assert (list(pool), disk["accounts"], disk["counters"]) == ([], {}, {})
    with pytest.raises(NotFound):
        pool[a]


async def test_its_name_and_key_are_free_after_it_was_removed(pool: Pool) -> None:
    [a] = await added(pool, "a")
    await pool.remove(a)
    await added(pool, "a")
    assert [account.name for account in pool] == ["a"]


async def test_late_news_about_a_removed_account_are_dropped(
    pool: Pool, disk: Disk, clock: TestClock, jobs: Jobs
) -> None:
    [a] = await added(pool, "a")
    with closing(pool.begin(a)):
        await pool.remove(a)
        pool.failed(a)
        pool.limit(a, clock.now() + 60, "5h rejected")
        pool.skip(a, "opus", clock.now() + 60, "7d_oi rejected")
        pool.invalidate(a, "401")
    await jobs.close()
    assert (pool.recovers_in(("opus",)), pool.has_refusals) == (None, False)
    await pool.save_counters(disk)
    assert (list(pool), disk["accounts"], disk["counters"]) == ([], {}, {})


# ---- a disk that cannot be written


async def test_adding_to_a_full_disk_leaves_nothing_behind(pool: Pool, disk: Disk, clock: TestClock) -> None:
    disk.full = True
    with pytest.raises(StorageError):
        await pool.add("a", ApiKey("sk-ant-api03-a"))
    assert list(pool) == []
    disk.full = False
    await pool.save_again()
    assert (disk["accounts"], pool.unsaved) == ({}, {})
    await added(pool, "a")


@pytest.mark.parametrize("meanwhile", ["limited", "removed"])
async def test_an_account_that_changes_while_it_cannot_be_added_is_counted_nowhere(
    pool: Pool, disk: Disk, clock: TestClock, meanwhile: str
) -> None:
    disk.full = True
    adding = asyncio.create_task(pool.add("a", ApiKey("sk-ant-api03-a")))
    await until(lambda: bool(len(pool)))
    [a] = pool
    if meanwhile == "limited":
        pool.limit(a.id, clock.now() + 60, "5h rejected")
    else:
        removing = asyncio.create_task(pool.remove(a.id))
    with pytest.raises(StorageError):
        await adding
    if meanwhile == "removed":
        with pytest.raises(StorageError):
            await removing
    await pool.save_counters(disk)
    assert (list(pool), disk["counters"], pool.recovers_in()) == ([], {}, None)
    assert not any(pool.count().values())


async def test_a_change_that_cannot_be_saved_holds_and_is_told(pool: Pool, disk: Disk) -> None:
    [a] = await added(pool, "a")
    disk.full = True
    with pytest.raises(StorageError):
        await pool.update(a, status=Status.INACTIVE)
    assert pool[a].status is Status.INACTIVE
    assert pool.unsaved == {a: "no space left on device"}


async def test_a_limit_that_cannot_be_saved_holds(
    pool: Pool, disk: Disk, clock: TestClock, jobs: Jobs
) -> None:
    [a] = await added(pool, "a")
    disk.full = True
    pool.limit(a, clock.now() + 60, "5h rejected")
    await jobs.close()
    assert (pool[a].status, list(pool.unsaved)) == (Status.RATE_LIMITED, [a])


async def test_a_removal_that_cannot_be_saved_holds_and_happens_later(pool: Pool, disk: Disk) -> None:
    [a] = await added(pool, "a")
    disk.full = True
    with pytest.raises(StorageError):
        await pool.remove(a)
    assert (list(pool), list(pool.unsaved)) == ([], [a])
    disk.full = False
    await pool.save_again()
    assert (disk["accounts"], pool.unsaved) == ({}, {})


async def test_what_could_not_be_saved_is_saved_as_it_is_by_then(
    pool: Pool, disk: Disk, clock: TestClock, jobs: Jobs
) -> None:
    a, b = await added(pool, "a", "b")
    disk.full = True
    pool.limit(a, clock.now() + 60, "5h rejected")
    pool.invalidate(b, "401")
    await jobs.close()
    await pool.save_again()
    assert set(pool.unsaved) == {a, b}
    disk.full = False
    await pool.save_again()
    assert pool.unsaved == {}
    assert [Account.from_record(record) for record in disk["accounts"].values()] == [pool[a], pool[b]]


# ---- what is stored


@pytest.mark.parametrize("change", [{"status": "tired"}, {"rate_limited_until": "soon"}, {"credential": {}}])
async def test_a_stored_account_that_is_none_stops_the_start_by_its_id(
    pool: Pool, disk: Disk, change: dict[str, Any]
) -> None:
    [a] = await added(pool, "a")
    with pytest.raises(StorageError, match=f"account '{a}' in the data folder is not complete"):
        load_accounts({a: disk["accounts"][a] | change})


# ---- the log


async def test_each_change_of_state_is_logged_with_its_reason(
    pool: Pool, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    [a] = await added(pool, "team")
    caplog.clear()
    with caplog.at_level(logging.INFO, "proxy.accounts.table"):
        pool.limit(a, clock.now() + 60, "429 5h rejected")
        clock.advance(60)
        pool.tick()
        pool.invalidate(a, "401 confirmed")
        await pool.update(a, status=Status.INACTIVE)
        await pool.update(a, status=Status.ACTIVE, name="squad")
    who = f"account={a} name=team"
    assert caplog.messages == [
        f"account state {who} from=active to=rate_limited until=2027-01-15T08:01:00.000Z reason=429 5h rejected",
        f"account state {who} from=rate_limited to=active reason=-",
        f"account state {who} from=active to=invalid reason=401 confirmed",
        f"account state {who} from=invalid to=inactive reason=set inactive by an admin",
        f"account renamed account={a} name=squad was=team",
        f"account state account={a} name=squad from=inactive to=active reason=-",
    ]


async def test_no_change_is_no_line(pool: Pool, clock: TestClock, caplog: pytest.LogCaptureFixture) -> None:
    [a] = await added(pool, "a")
    pool.limit(a, clock.now() + 60, "5h rejected")
    caplog.clear()
    pool.limit(a, clock.now() + 30, "5h rejected")
    pool.tick()
    assert caplog.messages == []
