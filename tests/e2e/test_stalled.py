"""Dashboards that do not read cost the server nothing: it forgets what is overtaken, and goes on for the others."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.dashboard import RunningClock
from tests.e2e.traffic import add_sessions, traffic
from tests.service import ADMIN_KEY, Service, serve

LONG = "E2E_LONG" in os.environ
STALLED = 20
PER_S = 1000
FOR_S = 60.0 if LONG else 4.0
TURNS = 5
MOST_GROWTH = 10 * 2**20


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def narrow(service: Service) -> None:
    """Let the kernel hold no more than a little of what a dashboard does not read."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing itself was open, and is no longer
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as opened:
                    if opened.family == socket.AF_INET and opened.getsockname()[1] == service.port:
                        # What it accepts from now on has the buffer of the listening socket.
                        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)


@contextlib.asynccontextmanager
async def stalled(service: Service) -> AsyncIterator[None]:
    """A dashboard that has said hello and reads no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=1024)
    try:
        writer.write(
            f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nX-API-Key: {ADMIN_KEY}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: cproxy.admin.v1\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        topics = dict.fromkeys(("accounts", "stats", "sessions", "tokens", "events"), 0)
        writer.write(text_frame(json.dumps({"t": "hello", "epoch": None, "topics": topics, "hz": 20})))
        writer.transport.pause_reading()
        yield
    finally:
        writer.transport.abort()


def text_frame(text: str) -> bytes:
    """RFC 6455 5.2, masked with zeros."""
    data = text.encode()
    assert len(data) < 65536
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + length + b"\0\0\0\0" + data


async def latencies(service: Service, for_s: float) -> list[float]:
    """How long each of a row of requests took."""
    end, took = time.monotonic() + for_s, []
    while time.monotonic() < end:
        began = time.monotonic()
        assert (await service.message()).status == 200
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.02)
    return took


async def test_stalled_dashboards_cost_no_memory(tmp_path: Path) -> None:
    names = [f"team-{n}" for n in range(50)]
    async with serve(tmp_path, accounts=names, clock=RunningClock()) as service:
        add_sessions(service, 200)
        narrow(service)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(STALLED):
                await stack.enter_async_context(stalled(service))
            async with traffic(service, per_s=PER_S) as ended:
                before = 0
                for part in range(40):
                    ended.clear()  # or it would be most of what grows
                    await latencies(service, FOR_S / 40)
                    if part == 9:  # what each of them holds at most is there
                        before = resident()
                print(f"{(resident() - before) / 2**20:.1f} MiB more after {FOR_S:g} s")
                assert resident() - before < MOST_GROWTH


def p99_ms(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)] * 1000


@pytest.mark.timed
async def test_stalled_dashboards_slow_no_request_down(tmp_path: Path) -> None:
    names = [f"team-{n}" for n in range(50)]
    async with serve(tmp_path, accounts=names, clock=RunningClock()) as service:
        add_sessions(service, 200)
        narrow(service)
        alone: list[float] = []
        beside: list[float] = []
        async with traffic(service, per_s=PER_S):
            for _ in range(TURNS):  # since the machine is not the same from one minute to the next
                alone += await latencies(service, FOR_S / 2 / TURNS)
                async with contextlib.AsyncExitStack() as stack:
                    for _ in range(STALLED):
                        await stack.enter_async_context(stalled(service))
                    beside += await latencies(service, FOR_S / 2 / TURNS)
        p99 = p99_ms(alone), p99_ms(beside)
        print(f"p99 of a request: {p99[0]:.1f} ms alone, {p99[1]:.1f} ms beside {STALLED} stalled dashboards")
        assert p99[1] < p99[0] * 1.05
