"""Rotated tokens and a disk that fails: none is lost, none is rotated meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.accounts.account import Account
from proxy.simulator import Error, Grant, Slow
from tests.canaries import leaked
from tests.logins import DUE, HOUR, TOKEN, full_disk, pair, sent_tokens, stored
from tests.service import Service, SteppedClock, serve, until
from tests.wire import fetch


async def test_where_the_intent_cannot_be_written_nothing_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("a", expires_in=DUE)
        full_disk(monkeypatch)
        assert (await service.message()).status == 200
        assert not service.simulator.ledger.token_calls()
        assert "cannot be written" in str(service.parts.pool[account.id].last_refresh_error)
        answer = await service.admin("POST", f"/api/accounts/{account.id}/refresh")
        assert answer.status == 502 and "cannot be written" in answer.json()["error"]["message"]
        assert not service.simulator.ledger.token_calls()
        monkeypatch.undo()
        await service.parts.pool.save_again()
        service.clock.advance(13)
        assert (await service.message()).status == 200
        assert pair(stored(tmp_path, account.id)) == pair(grant)


async def received_but_not_saved(service: Service, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails between the call and its answer."""
    assert isinstance(service.clock, SteppedClock)
    service.simulator.script(None, Slow(5), path=TOKEN)
    asked = asyncio.create_task(service.admin("POST", f"/api/accounts/{account.id}/refresh"))
    await service.clock.asleep(5)
    full_disk(monkeypatch)
    service.clock.advance(5)
    answer = await asked
    assert answer.status == 502 and "could not be saved" in answer.json()["error"]["message"]


@contextlib.asynccontextmanager
async def unsaved(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Service, Account, Grant]]:
    """An account whose new tokens are in memory only; the disk is full until the monkeypatch is undone."""
    async with serve(folder, accounts=[], clock=SteppedClock()) as service:
        account, grant = await service.add_login("a", expires_in=HOUR)
        await received_but_not_saved(service, account, monkeypatch)
        yield service, account, grant


async def health_of(service: Service) -> str:
    return str((await fetch(service.port, "GET", "/health")).json()["status"])


async def test_tokens_that_cannot_be_saved_are_kept_told_saved_later_and_then_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(tmp_path, accounts=[], clock=SteppedClock()) as service:
        account, grant = await service.add_login("a", expires_in=HOUR)
        old, pool = pair(grant), service.parts.pool
        assert await health_of(service) == "healthy"
        await received_but_not_saved(service, account, monkeypatch)
        assert await health_of(service) == "degraded" and pool.unsaved
        assert any(r.levelno >= logging.ERROR and "not on disk" in r.getMessage() for r in caplog.records)
        assert pair(stored(tmp_path, account.id)) == old
        assert (await service.message()).status == 200
        assert service.simulator.ledger.inference()[-1].credential == old[0]
        monkeypatch.undo()
        await pool.save_again()
        assert pair(stored(tmp_path, account.id)) == pair(grant)
        assert await health_of(service) == "healthy"
        assert (await service.message()).status == 200
        assert service.simulator.ledger.inference()[-1].credential == grant.access_token
        assert not leaked(caplog.text, [*old, *pair(grant)])


async def test_while_tokens_wait_for_the_disk_none_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=[], clock=SteppedClock()) as service:
        account, _ = await service.add_login("a", expires_in=HOUR)
        other, _ = await service.add_login("b", expires_in=HOUR)
        await received_but_not_saved(service, account, monkeypatch)
        for id in (account.id, other.id):
            answer = await service.admin("POST", f"/api/accounts/{id}/refresh")
            assert answer.status == 502 and "no token is rotated" in answer.json()["error"]["message"]
        assert len(service.simulator.ledger.token_calls()) == 1
        monkeypatch.undo()


async def test_a_shutdown_saves_what_could_not_be_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unsaved(tmp_path, monkeypatch) as (_, account, grant):
        monkeypatch.undo()
    assert pair(stored(tmp_path, account.id)) == pair(grant)


async def test_tokens_saved_at_last_are_used_by_a_refresh_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unsaved(tmp_path, monkeypatch) as (service, account, grant):
        second = grant.refresh_token
        monkeypatch.undo()
        await service.parts.pool.save_again()
        assert (await service.admin("POST", f"/api/accounts/{account.id}/refresh")).status == 200
        assert sent_tokens(service.simulator)[1:] == [second]
        assert pair(stored(tmp_path, account.id)) == pair(grant)


async def test_tokens_saved_at_last_are_shown_before_anybody_uses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unsaved(tmp_path, monkeypatch) as (service, account, grant):
        monkeypatch.undo()
        service.clock.advance(2)
        await until(lambda: pair(service.parts.pool[account.id].credential) == pair(grant))


async def test_tokens_that_cannot_be_saved_are_used_where_the_old_ones_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, accounts=[], clock=SteppedClock()) as service:
        account, grant = await service.add_login("a", expires_in=HOUR)
        service.parts.refresher.learn(account)
        await received_but_not_saved(service, account, monkeypatch)
        service.clock.advance(HOUR)
        for _ in range(3):
            assert (await service.message()).status == 200
            assert service.simulator.ledger.inference()[-1].credential == grant.access_token
        monkeypatch.undo()
        await service.parts.pool.save_again()
        assert pair(stored(tmp_path, account.id)) == pair(grant)


async def test_tokens_that_cannot_be_saved_are_used_where_the_old_ones_are_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unsaved(tmp_path, monkeypatch) as (service, account, grant):
        found = service.parts.pool[account.id]
        service.simulator.revoke(pair(found)[0])
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-attempts")) == (200, "2")
        assert (await service.message()).header("x-proxy-attempts") == "1"
        assert service.status("a") == "active" and pair(service.parts.pool[account.id]) == pair(grant)
        assert len(service.simulator.ledger.token_calls()) == 1
        monkeypatch.undo()
        await service.parts.pool.save_again()
        assert pair(stored(tmp_path, account.id)) == pair(grant)


async def test_many_who_find_the_old_token_revoked_use_the_unsaved_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unsaved(tmp_path, monkeypatch) as (service, account, _):
        service.simulator.revoke(pair(service.parts.pool[account.id])[0])
        answers = await asyncio.gather(*(service.message() for _ in range(20)))
        assert {answer.status for answer in answers} == {200}
        assert service.status("a") == "active"
        monkeypatch.undo()


async def test_an_old_token_that_is_told_to_be_revoked_condemns_no_unsaved_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unsaved(tmp_path, monkeypatch) as (service, _, grant):
        revoked = Error(403, "permission_error", "OAuth token has been revoked.")
        service.simulator.script(grant, revoked)
        await service.message()
        assert service.status("a") == "active"
        monkeypatch.undo()


async def test_a_rename_with_tokens_that_wait_for_the_disk_brings_them_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unsaved(tmp_path, monkeypatch) as (service, account, grant):
        monkeypatch.undo()
        await service.admin("PUT", f"/api/accounts/{account.id}", {"name": "b"})
        assert pair(stored(tmp_path, account.id)) == pair(grant)
        assert (await service.message()).status == 200
        assert service.simulator.ledger.inference()[-1].credential == grant.access_token
