"""The demo: what it begins with, and that it goes on."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from statistics import fmean

import pytest

from proxy.accounts.account import load_accounts
from proxy.accounts.quota_history import QuotaHistory
from proxy.clients.keys import load_keys
from proxy.clock import SystemClock
from proxy.errors import StartError
from proxy.feed import Feed
from proxy.simulator.demo import Demo, started
from proxy.storage.json_files import JsonFiles
from proxy.usage.series import RINGS, Series
from tests.disk import Disk, make_pool
from tests.service import Proxy, SteppedClock, TestClock, proxy, until


@contextlib.asynccontextmanager
async def filled(folder: Path, clock: TestClock) -> AsyncIterator[tuple[Demo, JsonFiles]]:
    """A demo whose data folder is full, and open."""
    demo = Demo(clock=clock, rng=random.Random(1))
    await demo.simulator.start()
    storage = JsonFiles.open(folder, clock=clock)
    try:
        await demo.fill(storage)
        yield demo, storage
    finally:
        await storage.close()
        await demo.simulator.stop()


@contextlib.asynccontextmanager
async def serving(folder: Path, clock: SteppedClock) -> AsyncIterator[Proxy]:
    """A proxy on that folder, with the demo's traffic."""
    async with filled(folder, clock) as (demo, storage):
        await storage.close()
        settings = demo.settings(folder, {})
        async with proxy(settings, clock, random.Random(1)) as parts:
            port = await parts.server.listen("127.0.0.1", 0)
            try:
                async with demo.traffic(f"http://127.0.0.1:{port}"):
                    yield parts
            finally:  # of a test that fails too, or all of this would wait for a clock that nobody moves
                clock.free()
                await parts.server.drain()


async def reach(clock: SteppedClock, condition: Callable[[], object]) -> None:
    """Let time pass, slowly enough for answers to come meanwhile, until `condition` holds."""

    def holds() -> object:
        clock.advance(0.05)
        return condition()

    await until(holds, within_s=30)


def named(parts: Proxy, status: str) -> set[str]:
    return {account.name for account in parts.pool if account.status.value == status}


async def test_accounts_in_all_four_states_are_there_within_seconds(tmp_path: Path) -> None:
    clock = SteppedClock()
    start = clock.now()
    async with serving(tmp_path, clock) as parts:
        await reach(clock, lambda: all(parts.pool.count().values()))
        assert clock.now() - start < 10
        assert named(parts, "invalid") == {"Contractor"} and named(parts, "inactive") == {"Hackathon"}


async def test_limits_pass_and_come_again_elsewhere(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serving(tmp_path, clock) as parts:
        await reach(clock, lambda: len(named(parts, "rate_limited")) >= 2)
        first = named(parts, "rate_limited")
        await reach(clock, lambda: named(parts, "rate_limited") - first)
        await reach(clock, lambda: first & named(parts, "active"))


async def test_requests_come_from_several_clients_at_several_addresses(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serving(tmp_path, clock) as parts:
        sessions = parts.sessions
        await reach(clock, lambda: len({session.client.address for session in sessions}) >= 9)
        assert len({session.client.user_agent for session in sessions}) >= 6
        assert len({session.client.key_id for session in sessions}) >= 4


async def test_the_past_fills_each_chart(tmp_path: Path) -> None:
    clock = TestClock()
    async with filled(tmp_path, clock) as (_, storage):
        series = Series(clock=clock)
        await series.load(storage)
        for name in RINGS:
            *past, _ = series.ring(name).buckets
            assert all(each.requests and each.cost_usd for each in past), name
            # Nothing is there twice, nor left out, where spans of different lengths meet.
            mean = fmean(each.requests for each in past)
            assert all(mean / 2 < each.requests < mean * 1.6 for each in past), name


async def test_the_past_is_that_of_the_accounts_and_keys(tmp_path: Path) -> None:
    clock = TestClock()
    async with filled(tmp_path, clock) as (_, storage):
        series = Series(clock=clock)
        await series.load(storage)
        counters = await storage.load("counters")
        accounts = load_accounts(await storage.load("accounts"))
        tokens = load_keys((await storage.load("tokens")).values())
        assert len(accounts) == 10
        assert {id for id, _ in accounts} <= counters.keys() <= {id for id, _ in [*accounts, *tokens]}
        start = clock.now() - 30 * 86_400
        for row in series.rows("account", start=start, end=clock.now()).rows:
            assert row.counts.requests == counters[str(row.id)]["requests"]
        spent_today = sum(each["day"]["cost_usd"] for each in counters.values() if "day" in each)
        assert abs(spent_today - series.totals("today").cost_usd) < 1e-6


async def test_logins_have_used_their_quota_for_a_week(tmp_path: Path) -> None:
    clock = TestClock()
    async with filled(tmp_path, clock) as (_, storage):
        accounts = dict(load_accounts(await storage.load("accounts")))
        pool = make_pool(Disk(), clock)
        for account in accounts.values():
            await pool.add(account.name, account.credential)
        stored = await storage.load("quota")
        ids = {account.name: account.id for account in pool}
        mine = {ids[accounts[id].name]: record for id, record in stored.items()}
        history = QuotaHistory(pool, mine, feed=Feed(), clock=clock)
        assert len(mine) == 5
        for name, least in {"Platform team": 280, "Contractor": 265}.items():
            for points in history.points(ids[name], "24h").values():
                assert sum(point is not None for point in points) >= least
        tightest = {
            name: max(w.full or 0 for w in pool.quotas[id].values()) for name, id in ids.items() if id in mine
        }
        assert tightest["Platform team"] == 0.87 and tightest["Research"] == 0.96


async def test_it_is_told_where_to_listen_and_nothing_of_what_is_in_production(tmp_path: Path) -> None:
    """A demo that joined a production store refreshed the accounts there at its simulator."""
    told = {"SERVER__PORT": "4321", "LOGGER__LEVEL": "info", "AUTH__API_KEY": "an-admin-key-of-the-demo-4Kd"}
    theirs = {
        "AUTH__API_KEY_FILE": str(tmp_path / "key"),
        "NOTIFICATIONS__WEBHOOK_URL": "https://hooks.example.com/secret",
        "SERVER__WORKERS": "4",
        "STORAGE__URL": "redis://store.lan:6379",
    }
    async with filled(tmp_path, TestClock()) as (demo, _):
        settings = demo.settings(tmp_path, {"PATH": "/bin", **told, **theirs})
        assert settings == demo.settings(tmp_path, told)
        assert [str(settings.server.port), settings.logger.level, settings.auth.key] == [*told.values()]
        demo.settings(tmp_path, {"PATH": "/bin", **told, **theirs})
        text = demo.welcome("http://127.0.0.1:4321", settings.auth.key)
    assert f"set and not used here: {', '.join(theirs)}\n" in text
    assert "hooks.example.com" not in text and "store.lan" not in text


async def test_without_a_folder_for_its_data_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/missing")
    with pytest.raises(StartError, match="set TMPDIR to one that can be written"):
        async with started({}, clock=SystemClock(), rng=random.Random(1)):
            pass
