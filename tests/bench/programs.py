"""The bench's upstream and load, which are C so that they are never what is measured: compiled when they are needed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.bench.versions import BenchError, process

SOURCES = Path(__file__).parent
Mode = Literal["requests", "events", "gone"]
"""What load.c measures."""


def program(name: str) -> Path:
    """The compiled `name.c`, in the virtual environment. Raises BenchError if there is no compiler.

    It is named by what it was compiled from: checkouts may share a virtual environment.
    """
    source = SOURCES / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    built = Path(sys.prefix) / "bench" / f"{name}-{digest}"
    if not built.exists():
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise BenchError(
                "gcc is missing, which compiles the upstream and the load: apt-get install gcc libc6-dev"
            )
        built.parent.mkdir(exist_ok=True)
        unfinished = built.with_name(f"{built.name}.{os.getpid()}")
        done = subprocess.run(  # noqa: S603 - our own sources
            [compiler, "-O2", "-Wall", "-o", str(unfinished), str(source)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            raise BenchError(f"{source.name} does not compile: {done.stderr}")
        unfinished.replace(built)
    return built


@dataclass(frozen=True)
class Upstream:
    """A running upstream."""

    port: int
    pid: int


@contextlib.contextmanager
def upstream(*, pace_ms: int = 50, core: int | None = None) -> Iterator[Upstream]:
    """The upstream; its streams say an event each `pace_ms`."""
    with process([str(program("upstream")), str(pace_ms)], core=core, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        port = running.stdout.readline()
        if not port:
            raise BenchError("the upstream does not start")
        yield Upstream(int(port), running.pid)


@dataclass(frozen=True)
class Counted:
    """What came of a load: requests or events, what they took, and how long they were under way."""

    count: int
    seconds: float
    cpu_s: float
    """Of the process that was measured, user and system."""
    others_cpu_s: float
    """Of the load and the upstream, which share a core."""
    p50_ms: float = 0.0
    """Of requests to the whole answer, of events from the upstream's send to arrival."""
    p99_ms: float = 0.0
    first_p50_ms: float = 0.0
    """To the head of the first answer of each connection."""
    first_p99_ms: float = 0.0

    @property
    def cpu_us_each(self) -> float:
        """CPU microseconds a request or event."""
        return self.cpu_s / self.count * 1e6

    @property
    def per_s(self) -> float:
        """Requests or events a second."""
        return self.count / self.seconds


def load(
    port: int,
    measured: int,
    behind: Upstream,
    *,
    key: str,
    connections: int,
    seconds: float,
    warm_s: float,
    mode: Mode = "requests",
    core: int | None = None,
    **more: int,
) -> Counted:
    """Ask 127.0.0.1:`port` and measure process `measured`; `more` are options of load.c.

    Raises BenchError if an answer is not a 200, or if there is none.
    """
    options = {"warm_ms": round(warm_s * 1000), "window_ms": round(seconds * 1000)} | more
    command = _load_command(port, measured, behind, mode, key, connections, options)
    with process(command, core=core, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            out, errors = running.communicate(timeout=warm_s + seconds + 150)
        except subprocess.TimeoutExpired as error:
            raise BenchError("the load does not end") from error
    if running.returncode:
        raise BenchError(
            errors.decode(errors="replace").strip() or f"the load ended with {running.returncode}"
        )
    counted = Counted(**json.loads(out))
    if counted.count == 0:
        raise BenchError("nothing was answered in the time that is measured")
    return counted


@contextlib.contextmanager
def silent_streams(
    port: int, behind: Upstream, *, key: str, connections: int, core: int | None = None, **more: int
) -> Iterator[None]:
    """So many streams that have begun and say no more. Raises BenchError if one is not answered with a 200."""
    command = _load_command(port, behind.pid, behind, "hold", key, connections, more)
    with process(command, core=core, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        if running.stdout.readline() != b"begun\n":
            raise BenchError("the silent streams do not begin")
        yield


def _load_command(
    port: int, measured: int, behind: Upstream, mode: str, key: str, connections: int, more: Mapping[str, int]
) -> list[str]:
    options = {"key": key, "connections": connections, "behind": behind.pid, "upstream": behind.port, **more}
    return [
        *(str(program("load")), str(port), str(measured), mode),
        *(f"{name}={value}" for name, value in options.items()),
    ]


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of a process since its start (its clock, as in clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)
