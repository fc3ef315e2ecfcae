"""`--import`: accounts of other programs, told first and then added, which the audit log tells."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.canaries import leaked
from tests.instances import instances
from tests.process import refusal, run_fork, running, write_config
from tests.redis_server import RedisServer
from tests.service import until
from tests.test_command_line import account_file

TOKENS = {"access_token": "sk-ant-oat01-canary-Tz6", "refresh_token": "sk-ant-ort01-canary-Pk9"}
OAUTH = {
    "OAUTH__CLIENT_ID": "ours",
    "OAUTH__TOKEN_URL": "https://127.0.0.1:9/token",
    "OAUTH__AUTHORIZE_URL": "https://127.0.0.1:9/authorize",
}
WORDS = {"BACKUP_PASSPHRASE": "five words of the tests"}
BY_COMMAND = {"kind": "admin", "id": None, "name": "command line", "address": None}


def foreign_file(folder: Path) -> Path:
    """An `accounts.json` of the Go original."""
    there = {"organization_uuid": "org-1", "expires_at": "2099-01-01T00:00:00Z", "status": "inactive"}
    file = folder / "accounts.json"
    file.write_text(json.dumps([TOKENS | there | {"id": "1", "name": "team"}]))
    return file


def about(event: dict[str, Any]) -> dict[str, Any]:
    """What an event says, apart from when and of which account."""
    return {name: event[name] for name in ("kind", "text", "level", "actor", "before", "after")}


def added(name: str) -> dict[str, Any]:
    """What the event of the account of the file says."""
    fields = {"name": name, "type": "oauth", "status": "inactive"}
    edited = {"priority": 0, "weight": 1, "reserve": False, "tags": [], "note": "", "proxy": None}
    text = f"{name} was added"
    said = {"kind": "account.added", "text": text, "level": "info", "actor": BY_COMMAND, "before": None}
    return said | {"after": fields | edited}


async def test_accounts_of_another_program_are_told_first_and_then_added(tmp_path: Path) -> None:
    config, file = write_config(tmp_path), foreign_file(tmp_path)
    account_file(tmp_path)
    asked = ("--config", str(config), "--import", str(file))
    without = run_fork(tmp_path, *asked, "--dry-run")
    assert (without.returncode, without.stderr) == (0, "")
    assert "0 of 1 accounts can be taken" in without.stdout and "oauth.client_id" in without.stdout
    async with running(tmp_path, "--config", str(config), **OAUTH) as process:
        dry = run_fork(tmp_path, *asked, "--dry-run", **OAUTH)
        assert (dry.returncode, dry.stderr) == (0, "")
        assert "taken      'team' (oauth), as 'team 2', since that name is not free" in dry.stdout
        assert "1 of 1 accounts can be taken, and nothing was written" in dry.stdout
        assert "is in use by process" in refusal(tmp_path, *asked, **OAUTH)
        assert len((await process.admin("GET", "/api/accounts")).json()["accounts"]) == 1
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    done = run_fork(tmp_path, *asked, "--import-from", "claude-proxy-go", **OAUTH)
    assert (done.returncode, done.stderr) == (0, "") and "1 of 1 accounts were added" in done.stdout
    again = run_fork(tmp_path, *asked, **OAUTH)
    assert "it is there already" in again.stdout and "0 of 1 accounts" in again.stdout
    assert (again.returncode, again.stderr) == (1, f"claude-proxy: no account of {file} was added\n")
    assert not leaked(without.stdout + dry.stdout + done.stdout + again.stdout, TOKENS.values())
    async with running(tmp_path, "--config", str(config), **OAUTH) as process:
        accounts = (await process.admin("GET", "/api/accounts")).json()["accounts"]
        assert [(a["name"], a["type"], a["status"]) for a in accounts] == [
            ("team", "api_key", "active"),
            ("team 2", "oauth", "inactive"),
        ]
        path = "/api/admin/events?kind=account.added"
        [event] = (await process.admin("GET", path)).json()["events"]
        assert about(event) == added("team 2")
        assert event["subject"] == {"kind": "account", "id": accounts[1]["id"], "name": "team 2"}
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    assert run_fork(tmp_path, "--config", str(config), "--verify-audit").stdout.startswith("ok, ")


async def test_accounts_that_are_added_to_a_shared_store_are_seen_by_all_at_once(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    config, file = write_config(tmp_path), foreign_file(tmp_path)
    store = OAUTH | {"STORAGE__URL": redis_server.url, "STORAGE__TIMEOUT": "5s"}
    asked = ("--config", str(config), "--import", str(file))
    async with instances(tmp_path / "instances", redis_server, 2) as services:
        done = await asyncio.to_thread(run_fork, tmp_path, *asked, **store)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "1 of 1 accounts were added" in done.stdout and not leaked(done.stdout, TOKENS.values())
        for service in services:
            await until(lambda service=service: [account.name for account in service.parts.pool] == ["team"])

            async def told(service: Any = service) -> list[dict[str, Any]]:
                answer = await service.admin("GET", "/api/admin/events?kind=account.added")
                return list(answer.json()["events"])

            [event] = await told()
            assert about(event) == added("team") and event["instance"].startswith("ins_")
        again = await asyncio.to_thread(run_fork, tmp_path, *asked, **store)
        assert "0 of 1 accounts" in again.stdout
    audit = run_fork(tmp_path, "--config", str(config), "--verify-audit", **store)
    assert audit.stdout.startswith("ok, "), audit


@pytest.mark.parametrize("flags", [(), ("--import-from", "claude-proxy-go")], ids=["told apart", "named"])
def test_for_a_backup_or_an_export_of_our_own_the_right_way_is_named(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    account_file(tmp_path)
    asked = ("--config", str(write_config(tmp_path)))
    file = tmp_path / "backup.json"
    done = run_fork(tmp_path, *asked, "--backup", str(file), **WORDS)
    assert done.returncode == 0, done.stderr
    line = refusal(tmp_path, *asked, "--import", str(file), *flags)
    assert line.startswith(f"{file} is a backup or an export of this program: --restore fills")


def test_a_dry_run_writes_no_event(tmp_path: Path) -> None:
    config, file = write_config(tmp_path), foreign_file(tmp_path)
    account_file(tmp_path)
    done = run_fork(tmp_path, "--config", str(config), "--import", str(file), "--dry-run", **OAUTH)
    assert "nothing was written" in done.stdout
    assert not (tmp_path / "data/events").exists()


def test_where_the_audit_log_cannot_be_gone_on_with_nothing_is_added(tmp_path: Path) -> None:
    config, file = write_config(tmp_path), foreign_file(tmp_path)
    there = account_file(tmp_path)
    (tmp_path / "data/events/2999-01-01.jsonl").mkdir(parents=True)
    line = refusal(tmp_path, "--config", str(config), "--import", str(file), **OAUTH)
    assert "events/2999-01-01.jsonl" in line
    assert list((tmp_path / "data/accounts").glob("*.json")) == [there]
