"""What is measured: this checkout's proxy, nginx, caddy, and nothing at all, each as a process before the upstream."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers import caddy_command, make_certificate, nginx_command, tls_front_command
from tests.bench.programs import Upstream
from tests.bench.seeds import KEY, seed
from tests.bench.versions import ROOT, BenchError, free_port, process, proxy

START_WITHIN_S = 30.0
MOST_AT_ONCE = "10000"
"""Requests of one client: as many as session.max_concurrent takes, so that sessions are counted and refuse nobody."""


@dataclass(frozen=True)
class Setup:
    """How a proxy is set up before it is measured. `keys` are client keys; peers know neither keys nor accounts."""

    accounts: int = 4
    keys: int = 1
    tls: bool = False


@dataclass(frozen=True)
class Target:
    """A proxy that serves on 127.0.0.1."""

    name: str
    port: int
    pid: int
    start_s: float
    """From the start of its process to its first answer to a request to the upstream."""

    def rss_kb(self) -> float:
        """Resident memory (proc(5), statm)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024


@dataclass(frozen=True)
class Behind:
    """The upstream, and the port of its TLS with the certificate to trust, if there is TLS."""

    upstream: Upstream
    tls_port: int = 0
    certificate: Path | None = None

    @property
    def port(self) -> int:
        """Where a proxy asks."""
        return self.tls_port or self.upstream.port


@contextlib.contextmanager
def behind_tls(upstream: Upstream, core: int | None) -> Iterator[Behind]:
    """The upstream behind an nginx that speaks TLS with a certificate of its own."""
    with tempfile.TemporaryDirectory(prefix="claude-proxy-bench-") as folder:
        home, port = Path(folder), free_port()
        certificate, key = make_certificate(home)
        command = tls_front_command(home, port, upstream.port, certificate, key)
        with (home / "stderr").open("wb") as log, process(command, core=core, stderr=log) as running:
            _wait_until_listening(port, running, home)
            yield Behind(upstream, port, certificate)


def _wait_until_listening(port: int, running: subprocess.Popen[bytes], home: Path) -> None:
    """Raises BenchError if it does not start, with the last line of `stderr` in its folder.

    A TLS port answers the plain request with a 400, and so it listens.
    """
    until = time.monotonic() + START_WITHIN_S
    while time.monotonic() < until and running.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            ask(port)
            return
        time.sleep(0.005)
    said = (home / "stderr").read_text(errors="replace").strip().rpartition("\n")[2]
    raise BenchError(f"it does not start: status {running.poll()} {said[-300:]}")


def ask(port: int) -> int:
    """The status of one small request to the upstream through 127.0.0.1:`port`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/v1/models", headers={"x-api-key": f"{KEY}000000"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


@contextlib.contextmanager
def ours(setup: Setup, behind: Behind, core: int | None) -> Iterator[Target]:
    """This checkout with everything on: accounts, client keys with budgets, sessions, usage, log at info to a file."""
    with tempfile.TemporaryDirectory(prefix="claude-proxy-bench-") as home:
        data, log = Path(home) / "data", Path(home) / "log"
        seed(data, accounts=setup.accounts, keys=setup.keys)
        variables = {
            "SESSION__MAX_CONCURRENT": MOST_AT_ONCE,
            "STORAGE__DATA_FOLDER": str(data),
            # Or 5,000 streams of one address would be more than its half of the connections.
            "SERVER__TRUSTED_PROXIES": "127.0.0.1",
        }
        if behind.certificate is not None:
            variables["CLAUDE__BASE_URL"] = f"https://127.0.0.1:{behind.port}"
            variables["SSL_CERT_FILE"] = str(behind.certificate)
        began = time.monotonic()
        with proxy(ROOT, behind.port, variables, core=core, log=log) as serving:
            if (status := ask(serving.port)) != 200:
                raise BenchError(f"the proxy answers {status}: {log.read_text()[-500:]}")
            yield Target("ours", serving.port, serving.pid, time.monotonic() - began)


@contextlib.contextmanager
def _peer(
    name: str,
    command: Callable[[Path, int, int, Path | None], list[str]],
    behind: Behind,
    core: int | None,
) -> Iterator[Target]:
    with tempfile.TemporaryDirectory(prefix="claude-proxy-bench-") as folder:
        home, port = Path(folder), free_port()
        arguments = command(home, port, behind.port, behind.certificate)
        variables = {"PATH": os.environ["PATH"], "HOME": folder, "TMPDIR": folder, "GOMAXPROCS": "1"}
        began = time.monotonic()
        with (
            (home / "stderr").open("wb") as log,
            process(arguments, core=core, cwd=home, env=variables, stderr=log) as running,
        ):
            _wait_until_listening(port, running, home)
            if (status := ask(port)) != 200:
                raise BenchError(f"{name} answers {status}")
            yield Target(name, port, running.pid, time.monotonic() - began)


@contextlib.contextmanager
def nginx(_: Setup, behind: Behind, core: int | None) -> Iterator[Target]:
    """One process, connections to the upstream kept, no buffering of answers, access log to a file."""
    with _peer("nginx", nginx_command, behind, core) as target:
        yield target


@contextlib.contextmanager
def caddy(_: Setup, behind: Behind, core: int | None) -> Iterator[Target]:
    """One thread of Go code, connections to the upstream kept, access log to a file."""
    with _peer("caddy", caddy_command, behind, core) as target:
        yield target


@contextlib.contextmanager
def bare(_: Setup, behind: Behind, core: int | None) -> Iterator[Target]:
    """What ours is made of, without anything of ours."""
    with _peer("bare", _bare_command, behind, core) as target:
        yield target


def _bare_command(_home: Path, port: int, upstream_port: int, _certificate: Path | None) -> list[str]:
    return [sys.executable, str(ROOT / "tests" / "bench" / "bare.py"), str(port), str(upstream_port)]


@contextlib.contextmanager
def direct(_: Setup, behind: Behind, core: int | None) -> Iterator[Target]:
    """The upstream itself: what the load and the machine take."""
    yield Target("direct", behind.upstream.port, behind.upstream.pid, 0.0)


STARTERS: Mapping[str, Callable[[Setup, Behind, int | None], contextlib.AbstractContextManager[Target]]] = {
    "ours": ours,
    "nginx": nginx,
    "caddy": caddy,
    "bare": bare,
    "direct": direct,
}
