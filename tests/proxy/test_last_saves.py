"""The exit of a proxy whose disk fails: it goes on trying for 30 s, and says what is lost in the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.accounts.account import OAuthTokens
from proxy.errors import StorageError, UnsavedError
from proxy.storage.json_files import JsonFiles
from proxy.storage.last_saves import PATIENCE_S
from tests.disk import full_disk
from tests.service import Proxy, SteppedClock, TestClock, proxy
from tests.settings import load

OLD = OAuthTokens("sk-ant-oat01-old", "sk-ant-ort01-old", 1_803_000_000.0)
NEW = OAuthTokens("sk-ant-oat01-new", "sk-ant-ort01-new", 1_804_000_000.0)


@contextlib.asynccontextmanager
async def ending(folder: Path, clock: SteppedClock) -> AsyncIterator[tuple[Proxy, asyncio.Task[None]]]:
    """A proxy that ends while its disk takes nothing, and has an account whose new tokens are only in memory."""
    async with contextlib.AsyncExitStack() as life:
        parts = await life.enter_async_context(
            proxy(load(STORAGE__DATA_FOLDER=str(folder)), clock, random.Random(1))
        )
        account = await parts.pool.add("team", OLD)
        with full_disk():
            with pytest.raises(StorageError):
                await parts.pool.change(account.id, lambda a: a.refresh_received(NEW, clock.now()))
            end = asyncio.ensure_future(life.aclose())
            await clock.asleep(1)
            yield parts, end


async def stored(folder: Path) -> str:
    """The refresh token that a start finds."""
    async with proxy(load(STORAGE__DATA_FOLDER=str(folder)), TestClock(), random.Random(1)) as parts:
        [account] = parts.pool
        assert isinstance(account.credential, OAuthTokens)
        return str(account.credential.refresh_token)


async def test_an_exit_waits_for_a_disk_that_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SteppedClock()
    async with ending(tmp_path, clock) as (_, end):
        clock.advance(1)
        await clock.asleep(1)
        assert "waiting for the disk timeout_s=30" in caplog.text
        assert "the new tokens of account 'team'" in caplog.text and "sk-ant" not in caplog.text
        assert not end.done()
    clock.advance(1)
    await end
    assert await stored(tmp_path) == NEW.refresh_token


async def test_after_30_s_an_exit_says_what_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = SteppedClock()
    async with ending(tmp_path, clock) as (_, end):
        clock.advance(PATIENCE_S)
        with pytest.raises(
            UnsavedError, match=r"lost: .*the new tokens of account 'team' \(.*re-authorise it"
        ):
            await end
    assert "lost: the new tokens of account 'team'" in caplog.text
    assert await stored(tmp_path) == OLD.refresh_token


async def test_a_second_signal_ends_the_wait(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with ending(tmp_path, clock) as (parts, end):
        parts.hurried.set()
        with pytest.raises(UnsavedError):
            await end
    assert clock.slept.count(1) <= 1


async def test_counters_that_cannot_be_saved_are_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **options: object) -> None:
        raise StorageError("no space left on device")

    with pytest.raises(UnsavedError, match="lost: the counters and budgets of client keys; the usage since"):
        async with proxy(load(STORAGE__DATA_FOLDER=str(tmp_path)), TestClock(), random.Random(1)) as parts:
            key, _ = await parts.keys.add("client")
            parts.keys.used(key)
            parts.series.add((None, key.id, "claude"), [(0, 1.0)])
            monkeypatch.setattr(JsonFiles, "update", fail)
            monkeypatch.setattr(JsonFiles, "append", fail)
