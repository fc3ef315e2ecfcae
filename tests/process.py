"""`run.py` as a process of its own: what it prints, what it answers, how it ends."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.canaries import leaked
from tests.service import ADMIN_KEY
from tests.wire import Answer, fetch

ROOT = Path(__file__).parents[1]
RUN = [sys.executable, str(ROOT / "run.py")]
FORKED = [sys.executable, str(ROOT / "tests/forked.py")]


# A session leader without a terminal gets the one that it opens (tty(4)).
LEADS = "import os, sys; os.setsid(); os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])"

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


def program(home: Path, text: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program that imports ours until it ends by itself."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", text, *arguments],
        env=environ(home, {"PYTHONPATH": str(ROOT), **variables}),
        capture_output=True,
        text=True,
        timeout=60,
    )


@cache
def _forks() -> subprocess.Popen[str]:
    """An interpreter for all short lives of this process: see tests/forked.py."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        FORKED,
        env=environ(ROOT, {"PYTHONPATH": str(ROOT)}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.communicate)
    return process


def run_fork(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As `run`, but in a fork, at a tenth of the cost."""
    process = _forks()
    assert process.stdin is not None and process.stdout is not None
    with tempfile.TemporaryDirectory(prefix="fork") as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        start = {"arguments": arguments, "environ": environ(home, variables)}
        print(
            json.dumps(start | {"stdout": str(stdout), "stderr": str(stderr)}), file=process.stdin, flush=True
        )
        assert process.stdout.readline().startswith("pid ")
        status = int(process.stdout.readline().removeprefix("ended "))
        print(file=process.stdin, flush=True)
        return subprocess.CompletedProcess(arguments, status, stdout.read_text(), stderr.read_text())


def refusal(home: Path, *arguments: str, **variables: str) -> str:
    """The one line with which it refuses to start."""
    return refused(run_fork(home, *arguments, **variables))


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line with which it has refused to start."""
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

    def __init__(self, process: asyncio.subprocess.Process | Interpreter, stderr: Path) -> None:
        self._process = process
        self._stderr = stderr
        self.printed = ""
        self.port = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        """What it has logged so far, but for what a machine at work makes its loop wait for."""
        lines = self._stderr.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if "proxy.lag" not in line)

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


ENDED = r"^ended (?P<status>-?\d+)$"


class Interpreter:
    """One that has imported `run.py` and forks: see tests/forked.py. One test at a time has it, on its own loop."""

    stdout: asyncio.StreamReader

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            FORKED,
            env=environ(ROOT, {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        atexit.register(self._process.communicate)

    @contextlib.asynccontextmanager
    async def heard(self) -> AsyncIterator[None]:
        """What it and its forks print is in `stdout`. After an exception it ends: who knows what it still prints."""
        assert self._process.stdout is not None
        self.stdout = asyncio.StreamReader()
        loop, pipe = asyncio.get_running_loop(), os.fdopen(os.dup(self._process.stdout.fileno()), "rb")
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self.stdout), pipe)
        try:
            yield
        except BaseException:
            self._process.kill()
            raise
        finally:
            transport.close()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    async def wait(self) -> int:
        """Its exit status."""
        return await asyncio.to_thread(self._process.wait)


_idle: list[Interpreter] = []


class Forked(Running):
    """A process that tests/forked.py has forked, and whose end that announces."""

    _pid = 0
    _status: int | None = None

    @property
    def pid(self) -> int:
        return self._pid

    async def begun(self) -> None:
        """Return once it has been forked."""
        self._pid = int((await self.read_until(r"^pid (\d+)$"))[1])

    async def read_until(self, pattern: str) -> re.Match[str]:
        found = await super().read_until(f"{pattern}|{ENDED}")
        if found["status"] is not None:
            self._status = int(found["status"])
            raise AssertionError(f"it ended with {self._status}: {self.stderr}")
        return found

    def signal(self, number: int) -> None:
        if self._status is None:
            os.kill(self._pid, number)

    async def ended(self) -> int:
        if self._status is None:
            self._status = int((await super().read_until(ENDED))["status"])
        return self._status


@contextlib.asynccontextmanager
async def running(
    home: Path,
    *arguments: str,
    errors: int | None = None,
    terminal: str | None = None,
    command: Sequence[str] = RUN,
    **variables: str,
) -> AsyncIterator[Running]:
    """The process, serving; killed at the end where it has not ended by then.

    `errors`: a descriptor for its log. `terminal`: the terminal that it leads a session of, for its signals alone.
    """
    stderr = home / "stderr.log"
    with stderr.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *([] if terminal is None else [sys.executable, "-c", LEADS, terminal]),
            *command,
            *arguments,
            env=environ(home, {"PYTHONWARNINGS": "error"} | variables),
            stdout=subprocess.PIPE,
            stderr=file if errors is None else errors,
        )
    async with _serving(Running(process, stderr)) as serving:
        yield serving


Life = Callable[[], contextlib.AbstractAsyncContextManager[Running]]


@contextlib.asynccontextmanager
async def forking(home: Path, *arguments: str, **variables: str) -> AsyncIterator[Life]:
    """Starts such processes one after the other, each at a tenth of the cost: all are forks of an interpreter
    that the next test has after this one.
    """
    stderr = home / "stderr.log"
    start = {
        "arguments": arguments,
        "stderr": str(stderr),
        "environ": environ(home, {"PYTHONWARNINGS": "error"} | variables),
    }
    interpreter = _idle.pop() if _idle else Interpreter()

    @contextlib.asynccontextmanager
    async def life() -> AsyncIterator[Running]:
        forked = Forked(interpreter, stderr)
        interpreter.tell(json.dumps(start))
        try:
            await forked.begun()
            async with _serving(forked) as serving:
                yield serving
        finally:
            interpreter.tell("")  # after its end: no signal is sent to it any more

    async with interpreter.heard():
        yield life
    _idle.append(interpreter)


@contextlib.asynccontextmanager
async def forked(home: Path, *arguments: str, **variables: str) -> AsyncIterator[Running]:
    """As `running`, but a fork, at a tenth of the cost: where it does not matter how it was started."""
    async with forking(home, *arguments, **variables) as life, life() as process:
        yield process


@contextlib.asynccontextmanager
async def _serving(process: Running) -> AsyncIterator[Running]:
    """Once it serves; killed at the end."""
    try:
        process.port = int((await process.read_until(r"listening on +http://.*:(\d+)$"))[1])
        await process.read_until("data folder")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.signal(signal.SIGKILL)
        await process.ended()
