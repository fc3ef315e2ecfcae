"""Files edited by hand with values that make no sense: a start names file and field, or sets the file aside.

MUTATIONS=10000 tries every value in every field, else each field gets some of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.account import OAuthTokens
from proxy.clients.budgets import KeyLimits
from proxy.clients.keys import Role
from proxy.clients.sessions import Client
from proxy.errors import StorageError
from tests.service import CLIENT_KEY, TestClock, proxy
from tests.settings import load

ABSURD: list[Any] = [
    *(1e308, -1e308, 2**70, -(2**70), -1, -0.5, 1e999, float("nan"), 253_402_300_800, 0.1, 0),
    *("", "99999-01-01T00:00:00Z", "1e308", "\ud800", [], [[[]]], {}, {"a": {"a": 1}}, None, True),
]
LIMITS = KeyLimits(
    requests_per_minute=60,
    concurrent_requests=5,
    tokens_per_day=1000,
    tokens_per_month=9000,
    cost_usd_per_day=1.5,
    cost_usd_per_month=9.5,
)
DISPOSABLE = ("counters.json", "sessions.json")


async def fill(folder: Path) -> None:
    async with proxy(load(STORAGE__DATA_FOLDER=str(folder)), TestClock(), random.Random(1)) as parts:
        now = parts.clock.now()
        tokens = OAuthTokens("sk-ant-oat01-a", "sk-ant-ort01-a", now + 90_000, "user:inference")
        account = await parts.pool.add("team", tokens, organization_uuid="u", organization_name="o")
        parts.pool.limit(account.id, now + 60, "5h rejected")
        key, _ = await parts.keys.add(
            "client", CLIENT_KEY, role=Role.ADMIN, expires_at=now + 9e6, limits=LIMITS, models=("claude-*",)
        )
        await parts.signins.begin(key, "127.0.0.1")
        parts.keys.used(key)
        parts.budgets.begin(key.id, LIMITS)
        parts.budgets.spend(key.id, tokens=5, cost_usd=0.5)
        parts.sessions.enter(Client(key.id, "127.0.0.1", "tests"), limited=False, cut=lambda: None).leave()
        parts.series.add((account.id, key.id, "claude"), [(0, 1.0), (6, 12.0), (17, 0.5)])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edited") / "data"
    asyncio.run(fill(folder))
    return folder


async def look(folder: Path) -> list[str]:
    """Start, show everything, let time pass; why the start is not healthy."""
    async with proxy(load(STORAGE__DATA_FOLDER=str(folder)), TestClock(), random.Random(1)) as parts:
        assert [parts.pool.view(each) for each in parts.pool]
        key = parts.keys.accept([CLIENT_KEY])
        for client_key in parts.keys:
            parts.keys.view(client_key)
            parts.budgets.view(client_key.id)
        if key is not None:
            parts.keys.used(key)
            parts.budgets.begin(key.id, key.limits)()
            parts.budgets.spend(key.id, tokens=5, cost_usd=0.5)
        for session in parts.sessions:
            parts.sessions.view(session)
        for source in parts.topics.sources().values():
            for id in source.ids():
                source.view(id)
        parts.tick()
        return parts.health.findings.texts()


def values(field: object) -> list[Any]:
    """What is put into a field."""
    return ABSURD if "MUTATIONS" in os.environ else random.Random(str(field)).sample(ABSURD, 4)


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member below a record, and the record."""
    yield path
    if isinstance(value, dict):
        for name, below in value.items():
            yield from places(below, (*path, name))


def replaced(value: Any, path: tuple[str, ...], new: Any) -> Any:
    if not path:
        return new
    return {
        name: replaced(below, path[1:], new) if name == path[0] else below for name, below in value.items()
    }


@pytest.mark.parametrize(
    "name",
    ["accounts", "tokens.json", "signins.json", "counters.json", "sessions.json", "findings.json"],
)
def test_an_absurd_value_in_any_field_is_named_and_never_a_traceback(
    filled: Path, tmp_path: Path, name: str
) -> None:
    if name == "findings.json":
        found = {"id": "finding_1", "at": 1.0, "text": "tokens.json was gone"}
        document = {"version": 1, "generation": 1, "records": {"finding_1": found}}
        path = filled / name
    else:
        [path] = [filled / name] if "." in name else (filled / name).glob("*.json")
        document = json.loads(path.read_bytes())
    plain = {key: value for key, value in document.items() if key != "crc32"}
    [*fields] = [("generation",), *(("records", *each) for each in places(document["records"]))]
    for field in fields:
        for value in values(field):
            folder = tmp_path / "data"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(filled, folder)
            edited = folder / path.relative_to(filled)
            edited.write_text(json.dumps(replaced(plain, field, value)))
            edited.chmod(0o600)
            try:
                findings = asyncio.run(look(folder))
            except StorageError as error:
                assert str(edited) in str(error), (field, value)
                continue
            if findings and name != "findings.json":
                assert any(edited.name in text for text in findings), (field, value)
                assert edited.name in DISPOSABLE or any("backup" in text for text in findings)


def test_an_absurd_value_in_usage_is_left_out_and_left_alone(filled: Path, tmp_path: Path) -> None:
    [log] = (filled / "usage").iterdir()
    line = json.loads(log.read_bytes().splitlines()[0])
    for field in line:
        for value in values(field):
            folder = tmp_path / "data"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(filled, folder)
            data = f"{json.dumps(line | {field: value})}\n".encode()
            (folder / "usage" / log.name).write_bytes(data)
            assert asyncio.run(look(folder)) == []
            kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
            assert data.rstrip() in kept or isinstance(value, float | int), (field, value)
