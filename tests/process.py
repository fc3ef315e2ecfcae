"""`run.py` as a process of its own: what it prints, what it answers, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from tests.canaries import leaked
from tests.service import ADMIN_KEY
from tests.wire import Answer, fetch

ROOT = Path(__file__).parents[1]
RUN = [sys.executable, str(ROOT / "run.py")]


CLOCK = {name: value for name, value in os.environ.items() if name == "LD_PRELOAD" or "FAKE" in name}
"""What gives a process the time of the tests: see tests/hours.py."""


def environ(home: Path, variables: dict[str, str]) -> dict[str, str]:
    """Nothing of the caller's own but its PATH and its clock."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)} | CLOCK | variables


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it until it ends by itself."""
    return subprocess.run(  # noqa: S603 - our own program
        [*RUN, *arguments], env=environ(home, variables), capture_output=True, text=True, timeout=60
    )


def refusal(home: Path, *arguments: str, **variables: str) -> str:
    """The one line with which it refuses to start."""
    done = run(home, *arguments, **variables)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert re.fullmatch(r"claude-proxy: [^\n]+\n", done.stderr), done.stderr
    assert not leaked(done.stderr, [ADMIN_KEY])
    return done.stderr.removeprefix("claude-proxy: ").rstrip("\n")


def write_config(home: Path, text: str = "") -> Path:
    """A configuration with the admin key, a data folder below `home` and any free port."""
    path = home / "config.yaml"
    path.write_text(
        f"auth:\n  api_key: {ADMIN_KEY}\nstorage:\n  data_folder: {home / 'data'}\nserver:\n  port: 0\n{text}"
    )
    return path


class Running:
    """A process that serves; `printed` is its standard output so far."""

    def __init__(self, process: asyncio.subprocess.Process, stderr: Path) -> None:
        self._process = process
        self._stderr = stderr
        self.printed = ""
        self.port = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self._stderr.read_text()

    async def read_until(self, pattern: str) -> re.Match[str]:
        """Read what it prints up to a line that matches. AssertionError where it ends before."""
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            async for line in self._process.stdout:
                self.printed += line.decode()
                if found := re.search(pattern, line.decode()):
                    return found
        raise AssertionError(f"it ended with {await self._process.wait()}: {self.stderr}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status, once it has ended."""
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            self.printed += (await self._process.stdout.read()).decode()
            return await self._process.wait()

    async def send(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> Answer:
        """One request; the answer is read whole."""
        return await fetch(self.port, method, target, headers, body)

    async def admin(self, method: str, path: str, body: Any = None) -> Answer:
        """One request to the admin API."""
        data = None if body is None else json.dumps(body).encode()
        return await self.send(method, path, [("X-API-Key", ADMIN_KEY)], data)


@contextlib.asynccontextmanager
async def running(home: Path, *arguments: str, **variables: str) -> AsyncIterator[Running]:
    """The process, serving; killed at the end where it has not ended by then."""
    stderr = home / "stderr.log"
    with stderr.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *RUN,
            *arguments,
            env=environ(home, {"PYTHONWARNINGS": "error"} | variables),
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    serving = Running(process, stderr)
    try:
        serving.port = int((await serving.read_until(r"listening on +http://.*:(\d+)$"))[1])
        await serving.read_until("data folder")
        yield serving
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await serving.ended()
