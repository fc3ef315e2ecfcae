"""The engine as a whole: what time changes, what it writes, and what it finds on disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.login import LIFE_S
from proxy.assembly.engine import Parts, engine
from proxy.clients.signins import IDLE_S
from proxy.config.settings import load_settings
from proxy.simulator import Simulator, Slow
from proxy.storage.codec import Document, encode, to_text
from tests.logins import DUE, HOUR, TOKEN, simulating, tokens_of
from tests.service import ADMIN_KEY, Service, SteppedClock, serve, until, upstream_key

SAVE = ("proxy.assembly.periods.SAVE_COUNTERS_S", 0.01)


def written(folder: Path, name: str) -> dict[str, Any]:
    """The records in a file of the data folder."""
    records: dict[str, Any] = json.loads((folder / name).read_text())["records"]
    return records


async def test_a_tick_changes_what_time_has_changed(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        parts, clock = service.parts, service.clock
        [account] = parts.pool
        await service.message()
        await parts.signins.begin(None, "127.0.0.1")
        parts.logins.begin(redirect_uri="http://localhost/callback")
        ended: list[str] = []
        parts.signins.on_end(ended.append)
        parts.pool.limit(account.id, clock.now() + 60, "5h rejected")
        clock.advance(max(LIFE_S, IDLE_S, 300) + 1)
        service.tick()
        assert service.status("a") == "active"
        assert (len(parts.sessions), parts.logins.ids(), len(ended)) == (0, [], 1)


@pytest.mark.parametrize("look", ["at the start", "periodic"])
async def test_a_shutdown_ends_the_look_at_all_accounts(
    tmp_path: Path, look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, pause_s = SteppedClock(), 0.0
    monkeypatch.setattr("proxy.accounts.upkeep.SPREAD_S", pause_s)
    async with simulating(Simulator(clock=clock, rng=random.Random(1))) as simulator:
        environ = {
            "AUTH__API_KEY": ADMIN_KEY,
            "OAUTH__CLIENT_ID": simulator.client_id,
            "OAUTH__AUTHORIZE_URL": simulator.authorize_url,
            "OAUTH__TOKEN_URL": simulator.token_url,
            "SCHEDULER__INTERVAL": "1h" if look == "at the start" else "10ms",
            "STORAGE__DATA_FOLDER": str(tmp_path),
        }

        def running() -> AbstractAsyncContextManager[Parts]:
            return engine(load_settings(None, environ), clock, random.Random(1))

        async with running() as parts:
            for number in range(6):
                grant = simulator.add_oauth(organization=f"team-{number}")
                await parts.pool.add(f"team-{number}", tokens_of(grant, clock.now() + HOUR))
        simulator.always(None, Slow(5), path=TOKEN)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(running())
            if look == "periodic":
                clock.advance(HOUR - DUE)
            await clock.asleep(pause_s, count=2)
            clock.advance(pause_s)
            await clock.asleep(5, count=2)
            closing = asyncio.create_task(stack.pop_all().aclose())
            await asyncio.sleep(0)
            clock.free()
            await closing
        assert len(simulator.ledger.token_calls()) == 2


async def test_looking_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "proxy.assembly.periods.TICK_S", 3600.0
    )  # what the tick changes meanwhile is not by looking
    async with serve(tmp_path) as service:
        [account] = service.parts.pool
        await service.message()
        service.parts.pool.limit(account.id, service.clock.now() + 60, "5h rejected")
        service.clock.advance(301)
        for path in ("accounts", f"accounts/{account.id}", "admin/sessions", "admin/statistics", "live"):
            assert (await service.admin("GET", f"/api/{path}")).status == 200
        assert (service.status("a"), len(service.parts.sessions)) == ("rate_limited", 1)


async def test_without_cleanup_sessions_stay_until_their_client_comes_again(tmp_path: Path) -> None:
    async with serve(tmp_path, session__cleanup_enabled="false") as service:
        await service.message()
        [old] = service.parts.sessions
        service.clock.advance(301)
        service.tick()
        assert [session.id for session in service.parts.sessions] == [old.id]
        await service.message()
        assert [session.id for session in service.parts.sessions] != [old.id]


async def test_what_has_not_changed_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*SAVE)
    files = [tmp_path / "counters.json", tmp_path / "sessions.json"]
    async with serve(tmp_path) as service:
        await service.message()
        await until(lambda: service.running == 0)
        await until(lambda: all(file.exists() for file in files))
        await saves(service)
        before = [file.read_bytes() for file in files]  # with the generation, which each write raises
        await saves(service)
        assert [file.read_bytes() for file in files] == before
        await service.message()
        await until(lambda: all(file.read_bytes() not in before for file in files))


async def saves(service: Service) -> None:
    """Some rounds of the periodic saves; requests to the admin API take long enough for that."""
    for _ in range(20):
        assert (await service.admin("GET", "/api/accounts")).status == 200


async def test_all_counters_go_on_from_the_one_file_that_there_was_before(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.login()
        await service.message()
        [account], [key] = service.parts.pool, service.parts.keys
    records = written(tmp_path, "counters.json")
    assert records[account.id].keys() == {"requests", "errors", "rate_limits", "last_used_at"}
    assert records[key.id].keys() == {"requests", "last_used_at", "day", "month"}
    [signin] = records.keys() - {account.id, key.id}
    records[account.id]["requests"] = records[key.id]["requests"] = 70
    records[key.id]["day"]["tokens"] = 700
    records[signin]["last_seen_at"] += 5
    records["acc_gone"] = {"requests": 1, "errors": 0, "rate_limits": 0, "last_used_at": None}
    texts = {id: to_text(record) for id, record in records.items()}
    (tmp_path / "counters.json").write_bytes(encode(Document(1_000, texts)))
    async with serve(tmp_path, accounts=()) as service:
        parts = service.parts
        service.simulator.add_api_key(upstream_key("a"), organization="a")
        assert parts.pool.view(parts.pool[account.id])["requests"] == 70
        assert parts.keys.view(parts.keys[key.id])["requests"] == 70
        assert parts.budgets.view(key.id)["tokens_today"] == 700
        await service.message()
    after = written(tmp_path, "counters.json")
    assert after[account.id]["requests"] == after[key.id]["requests"] == 71
    assert after[key.id]["day"]["tokens"] > 700
    assert after[signin] == records[signin]


async def test_counters_of_what_was_deleted_before_a_crash_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*SAVE)
    async with serve(tmp_path) as service:
        await service.message()
    texts = {id: to_text(each) for id, each in written(tmp_path, "counters.json").items()}
    (tmp_path / "counters.json").write_bytes(encode(Document(1_000, texts | {"acc_gone": '{"requests": 1}'})))
    async with serve(tmp_path, accounts=()):
        await until(lambda: written(tmp_path, "counters.json").keys() == texts.keys())
