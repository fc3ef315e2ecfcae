"""The log of a whole process: who does not read it, or floods it, keeps nobody waiting, and no key gets into it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.canaries import leaked
from tests.process import ROOT, RUN, Running, environ, run, running, write_config
from tests.service import ADMIN_KEY
from tests.wire import connect

PAGE = 4096
"""The least that a pipe can hold."""


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that holds no more than a page, and that page is in it: its ends for the reader and the writer."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PAGE)
    os.write(writer, b"-" * PAGE)
    yield reader, writer
    os.close(reader)
    os.close(writer)


@contextlib.asynccontextmanager
async def logging_to(descriptor: int, home: Path, **variables: str) -> AsyncIterator[Running]:
    """A process whose standard error is `descriptor`."""
    arguments = ("--config", str(write_config(home)))
    async with asyncio.timeout(30), running(home, *arguments, errors=descriptor, **variables) as process:
        yield process


def read(descriptor: int) -> str:
    """All that a pipe holds after its writers have ended."""
    os.set_blocking(descriptor, False)
    parts = []
    with contextlib.suppress(BlockingIOError):
        while part := os.read(descriptor, 65536):
            parts.append(part)
    return b"".join(parts).decode()


# ---- nobody reads it


async def test_a_log_that_nobody_reads_keeps_nobody_waiting(
    tmp_path: Path, full_pipe: tuple[int, int]
) -> None:
    async with logging_to(full_pipe[1], tmp_path) as process:
        for _ in range(200):
            assert (await process.admin("GET", "/api/accounts")).status == 200
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0


async def test_what_was_waiting_is_written_once_somebody_reads(
    tmp_path: Path, full_pipe: tuple[int, int]
) -> None:
    reader, writer = full_pipe
    async with logging_to(writer, tmp_path) as process:
        for number in range(20):
            await process.admin("GET", f"/api/accounts?{number}")
        written = os.read(reader, PAGE).decode()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 16)
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    assert (written + read(reader)).count("GET /api/accounts 200") == 20


def test_the_last_word_of_a_process_waits_for_nobody(tmp_path: Path, full_pipe: tuple[int, int]) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [*RUN, "--config", str(tmp_path / "missing.yaml")],
        env=environ(tmp_path, {}),
        stderr=full_pipe[1],
        timeout=20,
    )
    assert done.returncode == 2


# ---- floods


async def test_a_flood_of_malformed_requests_is_summed_up(tmp_path: Path) -> None:
    async with running(tmp_path, "--config", str(write_config(tmp_path))) as process:
        for _ in range(200):
            async with connect(process.port) as wire:
                await wire.send(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
                assert (await wire.answer()).status == 400
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
        lines = [line for line in process.stderr.splitlines() if "request refused" in line]
    assert len(lines) < 40
    told = [line for line in lines if "status=400" in line and "more=" not in line]
    left_out = sum(int(found[1]) for line in lines if (found := re.search(r"more=(\d+)", line)))
    assert len(told) + left_out == 200
    assert all("address=127.0.0.1" in line for line in lines)


async def test_a_flood_of_wrong_keys_is_summed_up(tmp_path: Path) -> None:
    async with running(tmp_path, "--config", str(write_config(tmp_path))) as process:
        for _ in range(100):
            assert (await process.send("GET", "/v1/models", [("x-api-key", "wrong")])).status in (401, 429)
        assert (await process.admin("GET", "/api/accounts")).status == 200
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
        log = process.stderr
    assert log.count("GET /v1/models 4") < 45
    assert "GET /api/accounts 200" in log and "more=" in log


# ---- what ends a process


def test_an_error_of_a_start_stands_alone_and_after_the_log(tmp_path: Path) -> None:
    done = run(tmp_path, "--config", str(write_config(tmp_path)), SERVER__HOST="192.0.2.1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("claude-proxy: cannot listen")


UNCAUGHT = """
import sys, threading, warnings
from proxy.logs import set_up

class Odd:
    def __del__(self):
        raise ValueError("unraisable KEY")

def fail():
    raise ValueError("thread KEY")

with set_up("info", "FORM", ["KEY"]):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    warnings.warn("warned KEY")
    Odd()
raise ValueError("uncaught KEY")
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_nobody_catches_is_logged_without_secrets(form: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", UNCAUGHT.replace("KEY", KEYS[0]).replace("FORM", form)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    for word in ("thread", "warned", "unraisable", "uncaught"):
        assert f"{word} [redacted]" in done.stderr
    assert leaked(done.stderr, KEYS) == []


def test_without_a_standard_error_nothing_is_written_into_another_file(tmp_path: Path) -> None:
    code = """
import os, sys
from proxy.logs import set_up
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
with set_up("info", "text"):
    import logging
    logging.getLogger("proxy").error("x")
sys.exit(file != 2)
"""
    done = subprocess.run(  # noqa: S603 - our own program
        ["sh", "-c", 'exec "$0" -c "$1" "$2" 2>&-', sys.executable, code, str(tmp_path / "f")],  # noqa: S607
        cwd=ROOT,
    )
    assert (done.returncode, (tmp_path / "f").read_bytes()) == (0, b"")


# ---- secrets

KEYS = [ADMIN_KEY, "cp-" + "Ab3_x" * 8, "sk-ant-api03-" + "Zq7-" * 10]
PLACES = [
    "X-API-Key",
    "Authorization",
    "Cookie",
    "Host",
    "X-Forwarded-For",
    "User-Agent",
    "Content-Length",
    "Expect",
]
PLACES += ["Transfer-Encoding", "Connection", "Upgrade", "Origin", "X-Request-Id", "Sec-WebSocket-Key"]
CONTROLS = st.text(st.sampled_from("\r\n\0\t\x01\x1b\x7f\x80\x85\x9b: "), max_size=3)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One with a key somewhere in its head, and control characters around it or in it."""
    key = draw(st.sampled_from(KEYS))
    planted = draw(CONTROLS) + key + draw(CONTROLS)
    target = draw(
        st.sampled_from(["/", "/v1/models", "/api/accounts", "/api/live", "/oauth/callback?code=x"])
    )
    place = draw(st.sampled_from(["method", "target", "query", "version", "name", *PLACES]))
    match place:
        case "method":
            head = f"{planted} {target} HTTP/1.1\r\nHost: x"
        case "target":
            head = f"GET {target}/{planted} HTTP/1.1\r\nHost: x"
        case "query":
            head = f"GET {target}?{planted}={planted} HTTP/1.1\r\nHost: x"
        case "version":
            head = f"GET {target} HTTP/1.1{planted}\r\nHost: x"
        case "name":
            head = f"GET {target} HTTP/1.1\r\nHost: x\r\n{planted}: x"
        case _:
            host = "" if place == "Host" else "\r\nHost: x"
            head = f"GET {target} HTTP/1.1{host}\r\n{place}: {planted}"
    return head.encode("latin-1") + b"\r\nConnection: close\r\n\r\n"


async def log_of(home: Path, sent: list[bytes], form: str) -> str:
    """What a process logs and prints when it is sent all these."""
    variables = {"LOGGER__LEVEL": "debug", "LOGGER__FORMAT": form}
    async with running(home, "--config", str(write_config(home)), **variables) as process:
        await process.admin("POST", "/api/tokens", {"name": "n", "key": KEYS[1]})
        for each in sent:
            async with connect(process.port) as wire:
                with contextlib.suppress(ConnectionError):
                    await wire.send(each)
                    wire.writer.write_eof()
                    await wire.reader.read()
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
        return process.printed + process.stderr


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(st.lists(requests(), min_size=40, max_size=40), st.sampled_from(["text", "json"]))
def test_a_key_planted_anywhere_in_a_head_is_never_logged(sent: list[bytes], form: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        log = asyncio.run(log_of(Path(home), sent, form))
    assert leaked(log, KEYS) == []
    assert leaked(re.sub(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}", "", log), KEYS) == []
