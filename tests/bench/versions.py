"""Versions of the proxy side by side: a revision in a folder of its own, and `run.py` of such a folder as a process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).parents[2]
ADMIN_KEY = "bench-admin-key-0123456789"
START_WITHIN_S = 30.0


class BenchError(Exception):
    """What keeps a run from its end; the message is for whoever started it."""


def end_on_signals() -> None:
    """SIGTERM and SIGHUP end this process as Ctrl-C does: through every `finally`."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A folder with that git revision, as long as it is needed. Raises BenchError if git knows none."""
    with tempfile.TemporaryDirectory(prefix="claude-proxy-bench-") as folder:
        path = Path(folder) / "checkout"
        try:
            _git("worktree", "add", "--quiet", "--detach", str(path), f"{revision}^{{commit}}")
            yield path
        finally:
            with contextlib.suppress(BenchError):  # there is none if git refused
                _git("worktree", "remove", "--force", "--force", str(path))


def short_name(folder: Path) -> str:
    """The commit of a checkout, with a + if files differ from it."""
    commit = _git("-C", str(folder), "rev-parse", "--short", "HEAD").strip()
    changed = _git("-C", str(folder), "status", "--porcelain", "--untracked-files=no").strip()
    return f"{commit}+" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)  # noqa: S603, S607
    if done.returncode:
        raise BenchError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def pin(core: int | None) -> list[str]:
    """How a command line begins so that it runs on that core alone."""
    if core is None:
        return []
    code = f"import os,sys; os.sched_setaffinity(0,{{{core}}}); os.execv(sys.argv[1],sys.argv[1:])"
    return [sys.executable, "-I", "-S", "-c", code]


@contextlib.contextmanager
def process(
    command: Sequence[str],
    *,
    core: int | None = None,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone at the end. Its session is its own, so that Ctrl-C reaches us alone."""
    running = subprocess.Popen(  # noqa: S603 - our own programs
        [*pin(core), *command],
        cwd=cwd,
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        for pipe in (running.stdin, running.stdout):
            if pipe is not None:
                pipe.close()


@dataclass(frozen=True)
class Proxy:
    """A proxy that serves on 127.0.0.1."""

    port: int
    pid: int

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """What the admin API answers. Raises BenchError if it refuses."""
        status, answer = self._ask(method, path, None if body is None else json.dumps(body))
        if status >= 300:
            raise BenchError(f"{method} {path}: {status} {answer[:300]!r}")
        return json.loads(answer)

    def add_accounts(self, count: int) -> None:
        """API key accounts a0, a1, …"""
        for number in range(count):
            key = f"sk-ant-api03-bench-{number:04d}-{'x' * 40}"
            self.admin("POST", "/api/accounts", {"name": f"a{number}", "type": "api_key", "api_key": key})

    def new_client_key(self, name: str) -> str:
        """A client key of that name."""
        return str(self.admin("POST", "/api/tokens", {"name": name})["token"]["key"])

    def serves(self) -> bool:
        """Whether it answers yet."""
        try:
            return self._ask("GET", "/health", None)[0] == 200
        except OSError:
            return False

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {"X-API-Key": ADMIN_KEY} | ({"Content-Type": "application/json"} if body else {})
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextlib.contextmanager
def proxy(
    folder: Path,
    upstream_port: int,
    variables: Mapping[str, str],
    *,
    core: int | None = None,
    log: Path | None = None,
    client_key: str | None = None,
) -> Iterator[Proxy]:
    """`run.py` of `folder` with a data folder of its own, serving; `log` gets its standard error.

    `client_key` is declared in the configuration.
    """
    with tempfile.TemporaryDirectory(prefix="claude-proxy-bench-") as home, contextlib.ExitStack() as stack:
        port = free_port()
        keys = "" if client_key is None else f"  client_keys:\n  - name: declared\n    key: {client_key}\n"
        config = Path(home) / "config.yaml"
        config.write_text(
            f"auth:\n  api_key: {ADMIN_KEY}\n{keys}"
            f"server:\n  port: {port}\n"
            f"claude:\n  base_url: http://127.0.0.1:{upstream_port}\n"
            f"storage:\n  data_folder: {home}/data\n"
        )
        running = stack.enter_context(
            process(
                [sys.executable, str(folder / "run.py"), "--config", str(config)],
                core=core,
                cwd=folder,
                env={"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": home, **variables},
                stderr=subprocess.DEVNULL if log is None else stack.enter_context(log.open("wb")),
            )
        )
        serving = Proxy(port, running.pid)
        _wait_until_it_serves(serving, running, folder, log)
        yield serving


def _wait_until_it_serves(
    serving: Proxy, running: subprocess.Popen[bytes], folder: Path, log: Path | None
) -> None:
    until = time.monotonic() + START_WITHIN_S
    while not serving.serves():
        if running.poll() is not None or time.monotonic() > until:
            said = "" if log is None else log.read_text()[-2000:]
            raise BenchError(f"the proxy of {folder} does not start: status {running.poll()} {said}")
        time.sleep(0.01)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
