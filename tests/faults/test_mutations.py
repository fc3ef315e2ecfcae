"""A data folder of which a file was damaged, swapped or removed: no start has less than was stored without saying so.

Each start either refuses and names the file, or has everything, or is degraded with a reason. No right that was taken
away comes back, and nothing is overwritten. MUTATIONS=10000 is the long form.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.account import ApiKey, Status
from proxy.clients.budgets import KeyLimits
from proxy.clients.keys import KeyStatus, Role
from proxy.errors import StorageError
from tests.service import CLIENT_KEY, Proxy, TestClock, proxy
from tests.settings import load

MUTATIONS = int(os.environ.get("MUTATIONS", "60"))
REVOKED, DELETED, DEMOTED = (f"cp-{word}-key-of-the-mutations" for word in ("revoked", "deleted", "demoted"))


def serve(folder: Path) -> contextlib.AbstractAsyncContextManager[Proxy]:
    return proxy(load(STORAGE__DATA_FOLDER=str(folder)), TestClock(), random.Random(1))


async def fill(folder: Path) -> dict[str, Any]:
    """Use every kind of file; take rights away last, as their backups would otherwise have lost them anyway."""
    async with serve(folder) as parts:
        for name in ("one", "two", "three"):
            await parts.pool.add(name, ApiKey(f"sk-ant-api03-{name}-of-the-mutations"))
        for key in (CLIENT_KEY, REVOKED, DELETED):
            await parts.keys.add(key, key)
        demoted, _ = await parts.keys.add("demoted", DEMOTED, role=Role.ADMIN)
        ended, sign_in = await parts.signins.begin(None, "127.0.0.1")
        kept, _ = await parts.signins.begin(None, "127.0.0.2")
        parts.keys.used(parts.keys.accept([CLIENT_KEY]) or demoted)
        by_name = {key.name: key.id for key in parts.keys}
        await parts.pool.update(next(iter(parts.pool)).id, status=Status.INACTIVE)
        await parts.keys.update(demoted.id, role=Role.USER, limits=KeyLimits(requests_per_minute=1))
        await parts.signins.end(sign_in)
        await parts.keys.remove(by_name[DELETED])
        await parts.keys.update(by_name[REVOKED], status=KeyStatus.REVOKED)
    return await state(folder, ended, kept) | {"ended": ended, "kept": kept}


async def state(folder: Path, ended: str, kept: str) -> dict[str, Any]:
    """What a start has, and why it is not healthy. The cookies are those of two sign-ins."""
    async with serve(folder) as parts:
        assert parts.keys.accept([REVOKED, DELETED]) is None
        assert parts.signins.find(ended) is None
        demoted = parts.keys.accept([DEMOTED])
        assert demoted is None or (demoted.role, demoted.limits.requests_per_minute) == (Role.USER, 1)
        return {
            "accounts": sorted((each.name, each.status, str(each.sent)) for each in parts.pool),
            "keys": sorted((each.name, each.status, each.role) for each in parts.keys),
            "used": sum(parts.keys.view(each)["requests"] for each in parts.keys),
            "signed in": parts.signins.find(kept) is not None,
            "reasons": parts.health.findings.texts(),
        }


def flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) * 8)
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]


DAMAGE: list[Callable[[bytes, random.Random], bytes]] = [
    flip,
    flip,
    lambda data, rng: flip(flip(data, rng), rng),
    lambda data, rng: data[: rng.randrange(len(data))],
    lambda data, rng: bytes(len(data)),
    lambda data, rng: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    lambda data, rng: rng.randbytes(len(data)),
]


def mutate(folder: Path, rng: random.Random) -> tuple[str, set[bytes]]:
    """Damage, swap or remove one file of those that hold something. Returns what was done, and what must be kept."""
    names = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock" and path.stat().st_size and path.parent.name != "usage"
    ]
    path = rng.choice(names)
    name, data = str(path.relative_to(folder)), path.read_bytes()
    match rng.randrange(10):
        case 0:
            path.unlink()
            return f"{name} removed", set()
        case 1:
            other = path.with_name(
                path.name.removesuffix(".bak") if path.suffix == ".bak" else f"{path.name}.bak"
            )
            if other.exists():
                swapped = other.read_bytes()
                other.write_bytes(data)
                path.write_bytes(swapped)
            return f"{name} swapped with its backup", set()
        case 2:
            other = rng.choice(names)
            swapped = other.read_bytes()
            if swapped == data:
                return f"{name} left as it is", set()
            other.write_bytes(data)
            path.write_bytes(swapped)
            return f"{name} swapped with {other.relative_to(folder)}", {data, swapped}
    damaged = rng.choice(DAMAGE)(data, rng)
    path.write_bytes(damaged)
    return f"{name} damaged", {damaged} - {data}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("filled") / "data"
    return folder, asyncio.run(fill(folder))


def contents(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_mutation_takes_away_or_gives_back_anything_unsaid(
    filled: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    original, whole = filled
    assert whole["reasons"] == []
    outcomes = {"refused": 0, "whole": 0, "degraded": 0}
    for seed in range(MUTATIONS):
        folder = tmp_path / "data"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        what, kept = mutate(folder, random.Random(seed))
        before = contents(folder)
        try:
            found = asyncio.run(state(folder, whole["ended"], whole["kept"]))
        except StorageError as error:
            assert str(folder) in str(error) and contents(folder) == before, (seed, what)
            outcomes["refused"] += 1
            continue
        after = contents(folder)  # logs go on, so that what was damaged may be the beginning of a file
        assert all(any(each.startswith(data) for each in after) for data in kept), (seed, what)
        reasons = found.pop("reasons")
        assert reasons or found == {key: whole[key] for key in found}, (seed, what, found)
        outcomes["degraded" if reasons else "whole"] += 1
    print(f"{MUTATIONS} mutations: {outcomes}")
    assert outcomes["degraded"] and sum(outcomes.values()) == MUTATIONS
