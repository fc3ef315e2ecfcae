"""What the tests of the storage share: a data folder, ways to open it here and in another process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from proxy.clock import Clock
from proxy.storage.address import StoreAddress
from proxy.storage.envelope import Keyring
from proxy.storage.json_files import JsonFiles
from proxy.storage.protocols import Storage
from proxy.storage.redis import RedisLink
from proxy.storage.redis_store import RedisStore
from proxy.storage.timed import Timed
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[3]
KEY = bytes(range(32))


class StoppedClock:
    """It is always 2026-11-22T10:00:00Z."""

    def now(self) -> float:
        return 1_795_341_600.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("storage does not sleep")


@pytest.fixture
def clock() -> Clock:
    return StoppedClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_files(folder: Path, clock: Clock, io_loop: IOLoop) -> Iterator[Callable[..., JsonFiles]]:
    """Open the data folder, with keys if there are any; closed at the end of the test."""
    opened: list[JsonFiles] = []

    def open_them(key: bytes | None = None, *old: bytes) -> JsonFiles:
        opened.append(JsonFiles.open(folder, clock=clock, keyring=Keyring(key, old)))
        return opened[-1]

    yield open_them
    for storage in opened:
        io_loop.run_sync(storage.close)


@pytest.fixture
def open_encrypted(open_files: Callable[..., JsonFiles]) -> Callable[[], JsonFiles]:
    """Open the data folder with a key."""
    return lambda: open_files(KEY)


@pytest.fixture
def made(open_files: Callable[[], JsonFiles], folder: Path, io_loop: object) -> Path:
    """A closed data folder where record `a` of each durable kind was written twice, so that it has a backup."""

    async def fill(storage: JsonFiles) -> None:
        for n in (1, 2):
            await storage.put("accounts", "a", {"n": n})
            await storage.put("tokens", "a", {"n": n})
        await storage.close()

    asyncio.run(fill(open_files()))
    return folder


@pytest.fixture
def open_timed(open_files: Callable[..., JsonFiles], clock: Clock) -> Callable[[], Timed]:
    """Open the data folder, and measure it."""
    return lambda: Timed(open_files(), clock)


@pytest.fixture
def open_shared(
    redis_server: RedisServer, clock: Clock, io_loop: IOLoop
) -> Iterator[Callable[..., RedisStore]]:
    """Open the worker's Redis as one more instance, with a key if there is one; closed at the end of the test."""
    opened: list[RedisStore] = []

    def open_one(key: bytes | None = None) -> RedisStore:
        link = RedisLink(StoreAddress.read(redis_server.url), clock=clock, timeout_s=10)
        instance = f"ins_{len(opened):016x}"
        opened.append(RedisStore(link, instance=instance, clock=clock, keyring=Keyring(key)))
        return opened[-1]

    yield open_one
    for storage in opened:
        io_loop.run_sync(storage.close)


@pytest.fixture
def open_shared_encrypted(open_shared: Callable[..., RedisStore]) -> Callable[[], RedisStore]:
    """Open it with a key."""
    return lambda: open_shared(KEY)


@pytest.fixture(params=["open_files", "open_encrypted", "open_timed", "open_shared", "open_shared_encrypted"])
def open_storage(request: pytest.FixtureRequest) -> Callable[[], Storage]:
    """Open the same storage, once more; each implementation is a fixture named in `params`."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def storage(open_storage: Callable[[], Storage]) -> Storage:
    return open_storage()


@dataclass(frozen=True)
class Ended:
    status: int
    answers: list[str]


@pytest.fixture
def child_command(folder: Path) -> list[str]:
    """Uses the data folder in a process of its own: see child.py."""
    return [sys.executable, str(Path(__file__).with_name("child.py")), str(folder)]


@pytest.fixture
def child_env() -> Callable[..., dict[str, str]]:
    def env(*, failpoint: str = "", **more: str) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(ROOT), "CP_FAILPOINT": failpoint} | more

    return env


@pytest.fixture
def child(child_command: list[str], child_env: Callable[..., dict[str, str]]) -> Callable[..., Ended]:
    """Run verbs in a process of its own, with failpoints; `under` is a command that starts it, `more` its variables."""

    def run(*verbs: list[Any], failpoint: str = "", under: tuple[str, ...] = (), **more: str) -> Ended:
        done = subprocess.run(  # noqa: S603 - our own child
            [*under, *child_command],
            input="".join(json.dumps(verb) + "\n" for verb in verbs),
            env=child_env(failpoint=failpoint, **more),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout.splitlines())

    return run
