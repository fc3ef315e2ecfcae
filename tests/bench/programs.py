"""The bench's upstream and load, which are C so that they are never what is measured: compiled when they are needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.versions import BenchError, process

SOURCES = Path(__file__).parent


def program(name: str) -> Path:
    """The compiled `name.c`, in the virtual environment. Raises BenchError if there is no compiler."""
    source, built = SOURCES / f"{name}.c", Path(sys.prefix) / "bench" / name
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise BenchError(
                "gcc is missing, which compiles the upstream and the load: apt-get install gcc libc6-dev"
            )
        built.parent.mkdir(exist_ok=True)
        unfinished = built.with_name(f"{name}.{os.getpid()}")
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
    """What came of a load: requests or events, and what they took."""

    count: int
    seconds: float
    cpu_s: float
    """Of the process that was measured, user and system."""
    others_cpu_s: float
    """Of the load and the upstream, which share a core."""

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
    events: bool = False,
    core: int | None = None,
) -> Counted:
    """Ask 127.0.0.1:`port` and measure process `measured`. Raises BenchError if an answer is not a 200."""
    before = cpu_s(behind.pid)
    arguments = [port, measured, connections, round(warm_s * 1000), round(seconds * 1000), key]
    command = [str(program("load")), *map(str, arguments), "events" if events else "requests"]
    with process(command, core=core, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            out, errors = running.communicate(timeout=warm_s + seconds + 60)
        except subprocess.TimeoutExpired as error:
            raise BenchError("the load does not end") from error
    if running.returncode:
        raise BenchError(
            errors.decode(errors="replace").strip() or f"the load ended with {running.returncode}"
        )
    count, lasted, cpu, own = out.split()
    if int(count) == 0:
        raise BenchError("nothing was answered in the time that is measured")
    share = seconds / (warm_s + seconds)
    return Counted(int(count), float(lasted), float(cpu), float(own) + (cpu_s(behind.pid) - before) * share)


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of a process since its start (its clock, as in clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)
