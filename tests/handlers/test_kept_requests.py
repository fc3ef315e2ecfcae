"""The request log on disk: kept by day, shown again after a restart, removed by age, and in nobody's way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StorageError
from proxy.simulator import Error, quota_429
from proxy.storage.day_files import DayFiles
from tests.canaries import leaked
from tests.instances import instances
from tests.redis_server import RedisServer
from tests.service import (
    ADMIN_KEY,
    CLIENT_KEY,
    MESSAGE_HEADERS,
    ON_REDIS,
    Service,
    TestClock,
    message,
    serve,
    upstream_key,
)
from tests.wire import fetch

DAY_S = 86_400
PROMPT = "The-Prompt-of-this-test"


async def listed(service: Service, query: str = "") -> list[dict[str, Any]]:
    answer = await service.admin("GET", f"/api/admin/requests{query}")
    assert answer.status == 200, answer.body
    return list(answer.json()["requests"])


def lines(folder: Path) -> list[dict[str, Any]]:
    """All that is on disk, oldest first."""
    paths = sorted((folder / "requests").iterdir())
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


async def test_each_request_is_a_line_of_its_day_and_is_shown_again_after_a_restart(tmp_path: Path) -> None:
    clock = TestClock()
    async with serve(tmp_path, accounts=("a", "b"), storage__keep_requests="30d", clock=clock) as service:
        service.simulator.script(upstream_key("a"), quota_429())
        await service.message()
        clock.advance(DAY_S)
        await service.message(stream=True)
        service.simulator.script(upstream_key("b"), Error(404))
        await service.message()
        shown = await listed(service)
    assert [path.name for path in sorted((tmp_path / "requests").iterdir())] == [
        "2027-01-15.jsonl",
        "2027-01-16.jsonl",
    ]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "requests").rglob("*"))
    assert lines(tmp_path) == shown[::-1]
    async with serve(tmp_path, accounts=[], storage__keep_requests="30d", clock=clock) as service:
        assert await listed(service) == shown
        assert await listed(service, "?retried=true") == shown[2:]
        assert await listed(service, "?status=404") == shown[:1]
        account = shown[0]["account_id"]
        assert await listed(service, f"?account={account}") == [
            each for each in shown if account in [tried["account_id"] for tried in each["tries"]]
        ]
        await service.message()
        assert [each["id"] for each in await listed(service)] == [4, 3, 2, 1]
    assert [each["id"] for each in lines(tmp_path)] == [1, 2, 3, 4]


async def test_without_the_setting_nothing_is_written(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        assert len(await listed(service)) == 1
    assert not (tmp_path / "requests").exists()


async def test_days_that_are_kept_no_longer_are_removed(tmp_path: Path) -> None:
    clock = TestClock()
    async with serve(tmp_path, storage__keep_requests="2d", clock=clock) as service:
        for _ in range(4):
            await service.message()
            clock.advance(DAY_S)
    (tmp_path / "requests" / "2020-01-01-notes.jsonl").write_text("not ours")
    async with serve(tmp_path, accounts=[], storage__keep_requests="2d", clock=clock) as service:
        days = [path.stem for path in sorted((tmp_path / "requests").iterdir())]
        assert days == ["2020-01-01-notes", "2027-01-17", "2027-01-18"]
        shown = [each["id"] for each in await listed(service)]
        assert shown == ([4, 3, 2, 1] if ON_REDIS else [4, 3])  # the store has the last ones


async def test_with_a_shared_store_what_ended_just_before_the_end_is_on_disk_too(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with instances(tmp_path, redis_server, 1, storage__keep_requests="30d") as (service,):
        await service.add_account("a")
        await service.message()
    assert [each["status"] for each in lines(tmp_path / "0")] == [200]


@pytest.mark.files  # with a shared store, the last requests are read from it
async def test_no_secret_is_on_disk_and_what_was_edited_is_cleaned_again(tmp_path: Path) -> None:
    secret = upstream_key("a")
    async with serve(tmp_path, storage__keep_requests="30d") as service:
        service.simulator.script(None, Error(400, message=f"a key {secret} is wrong"))
        headers = [("x-api-key", CLIENT_KEY), *MESSAGE_HEADERS]
        body = message(model=f"claude-{secret}-\ud800", messages=[{"role": "user", "content": PROMPT}])
        await fetch(service.port, "POST", f"/v1/messages?key={ADMIN_KEY}", headers, body)
        shown = await listed(service)
    [path] = (tmp_path / "requests").iterdir()
    assert leaked(path.read_text(), [secret, ADMIN_KEY, CLIENT_KEY, PROMPT]) == []
    path.write_text(path.read_text().replace('"/v1/messages"', f'"/v1/{secret}"'))
    async with serve(tmp_path, accounts=[], storage__keep_requests="30d") as service:
        [told] = await listed(service)
        assert told["request_id"] == shown[0]["request_id"] and "[redacted]" in told["path"]


@pytest.mark.files  # with a shared store, the last requests are read from it
async def test_a_full_disk_costs_lines_and_no_request_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: object) -> None:
        raise StorageError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(DayFiles, "append", full)
        async with serve(tmp_path, storage__keep_requests="30d") as service:
            assert (await service.message()).status == 200
            assert len(await listed(service)) == 1
    assert [each.message for each in caplog.records if "requests" in each.message] == [
        "requests not saved, the last ones are kept in memory error=no space left on device",
        "requests lost lines=1",
    ]
    async with serve(tmp_path, accounts=[], storage__keep_requests="30d") as service:
        assert await listed(service) == []
