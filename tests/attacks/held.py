"""Connections that are held without a key: half-sent bodies and silence, while good keys are served.

Whoever holds connections is a process of its own, which opens each that
is closed anew; so the proxy's loop has to itself what the clients measure.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import selectors
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from proxy.simulator import Simulator
from tests.attacks.row import Row
from tests.process import ROOT, Running, running, write_config
from tests.service import SteppedClock
from tests.wire import Cut, Wire, connect, request_bytes

NAME = "held connections"

ACCOUNT_KEY = "sk-ant-api03-account-of-held-connections-Zx81"
CLIENT_KEY = "cp-a-client-key-of-held-connections-4fXw"
ADDRESSES = [f"127.0.0.{n}" for n in range(2, 10)]
ROUTES = [
    ("POST", "/v1/messages"),
    ("POST", "/api/tokens"),
    ("POST", "/oauth/exchange"),
    ("POST", "/api/auth/login"),
]
OPENED_S = 500
"""Connections that are opened in a second, at most: this is not a flood."""

P99_S = 0.1
"""What the slowest of a hundred good requests may take."""


@dataclass
class Held:
    """What became of good requests while so many connections were held; times in seconds."""

    bodies: int
    idle: int
    held: int = 0
    took: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def p99_s(self) -> float:
        return sorted(self.took)[len(self.took) * 99 // 100] if self.took else float("inf")

    def row(self) -> str:
        """A row of the table."""
        median = sorted(self.took)[len(self.took) // 2] * 1000 if self.took else float("inf")
        return (
            f"| {self.bodies:,} | {self.idle:,} | {self.held:,} | {len(self.took):,} | {len(self.failed)} | "
            f"{median:.1f} | {self.p99_s * 1000:.1f} | {max(self.took, default=float('inf')) * 1000:.1f} |"
        )


TABLE = (
    "| half-sent bodies | idle | held at once, at most | good requests | failed | median ms | p99 ms | worst ms |\n"
    "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


# --- who holds them ---------------------------------------------------------------------------------------


def hold(port: int, bodies: int, idle: int) -> None:
    """Hold so many connections until standard input ends; print how many were open at once whenever asked.

    One that is closed is opened anew.
    """
    watched = selectors.DefaultSelector()
    watched.register(sys.stdin, selectors.EVENT_READ)
    most, kinds = 0, [number < bodies for number in range(bodies + idle)]

    def begin(number: int) -> None:
        client = socket.socket()
        client.setblocking(False)
        client.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: a port for each pair of addresses
        client.bind((ADDRESSES[number % len(ADDRESSES)], 0))
        client.connect_ex(("127.0.0.1", port))
        watched.register(client, selectors.EVENT_WRITE if kinds[number] else selectors.EVENT_READ, number)

    closed = deque(range(len(kinds)))
    due = time.monotonic()
    while True:
        while closed and due <= time.monotonic():
            begin(closed.popleft())
            due = max(due, time.monotonic() - 0.1) + 1 / OPENED_S
        most = max(most, len(kinds) - len(closed))
        for key, _ in watched.select(0.005):
            if key.fileobj is sys.stdin:
                if not sys.stdin.readline():
                    return
                print(most, flush=True)
                continue
            client, number = key.fileobj, key.data
            assert isinstance(client, socket.socket)
            with contextlib.suppress(OSError):
                if key.events == selectors.EVENT_WRITE:
                    client.send(request_bytes(*ROUTES[number % len(ROUTES)], [("Content-Length", "10")]))
                    watched.modify(client, selectors.EVENT_READ, number)
                    continue
                if client.recv(4096):
                    continue
            watched.unregister(client)
            client.close()
            closed.append(number)


@contextlib.asynccontextmanager
async def holding(port: int, bodies: int, idle: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.attacks.held", *map(str, (port, bodies, idle)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()


# --- who is served ----------------------------------------------------------------------------------------


async def ask(wire: Wire) -> None:
    """One good request. Raises Cut, OSError, TimeoutError or AssertionError."""
    async with asyncio.timeout(5):
        answer = await wire.request("GET", "/v1/models", [("x-api-key", CLIENT_KEY)])
        await answer.read()
        assert answer.status == 200, answer.status


async def be_served(port: int, result: Held, requests: int) -> None:
    """Ask so often, one after the other: on a connection that stays, and on a new one each second time."""
    stays = contextlib.AsyncExitStack()
    async with stays:
        wire: Wire | None = None
        for number in range(requests):
            began = time.perf_counter()
            try:
                if number % 2:
                    async with connect(port) as new:
                        await ask(new)
                else:
                    wire = wire or await stays.enter_async_context(connect(port))
                    await ask(wire)
            except (Cut, OSError, TimeoutError, AssertionError) as error:
                result.failed.append(repr(error))
                wire = wire if number % 2 else None
            else:
                result.took.append(time.perf_counter() - began)
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def victim(home: Path) -> AsyncIterator[Running]:
    """A proxy with an account and a client key."""
    clock = SteppedClock()
    clock.free()
    simulator = Simulator(clock=clock)
    await simulator.start(port=0)
    simulator.add_api_key(ACCOUNT_KEY, organization="team")
    try:
        config = str(write_config(home))
        quiet = {"LOGGER__LEVEL": "error", "CLAUDE__BASE_URL": simulator.base_url}
        async with running(home, "--config", config, **quiet) as process:
            new = {"name": "team", "type": "api_key", "api_key": ACCOUNT_KEY}
            assert (await process.admin("POST", "/api/accounts", new)).status == 201
            made = await process.admin("POST", "/api/tokens", {"name": "n", "key": CLIENT_KEY})
            assert made.status == 201
            yield process
    finally:
        await simulator.stop()


async def attack(*, bodies: int, idle: int, clients: int, requests: int, before_s: float) -> Held:
    """Good requests of so many clients, from `before_s` after the attack has begun."""
    result = Held(bodies, idle)
    with tempfile.TemporaryDirectory() as folder:
        async with victim(Path(folder)) as process, holding(process.port, bodies, idle) as holder:
            await asyncio.sleep(before_s)
            await asyncio.gather(*(be_served(process.port, result, requests) for _ in range(clients)))
            assert holder.stdin is not None and holder.stdout is not None
            holder.stdin.write(b"\n")
            result.held = int(await holder.stdout.readline())
    return result


async def run(long: bool) -> Row:
    """Good requests alone, beside half-sent bodies, beside silent connections, and beside both."""
    raise_file_limit()
    row, times, began = Row(NAME), 100 if long else 2, time.monotonic()
    print(TABLE, flush=True)
    for bodies, idle in ((0, 0), (80 * times, 0), (0, 100 * times), (80 * times, 100 * times)):
        before_s = (bodies + idle) / OPENED_S + (3 if long else 0)
        result = await attack(bodies=bodies, idle=idle, clients=4, requests=250, before_s=before_s)
        print(result.row(), flush=True)
        row.tried += bodies + idle
        row.faults += sorted(set(result.failed))
        if long and result.p99_s > P99_S:
            row.faults.append(
                f"p99 is {result.p99_s * 1000:.0f} ms beside {bodies:,} bodies and {idle:,} silent ones"
            )
        row.note = f"p99 of good requests beside all {result.p99_s * 1000:.0f} ms"
    row.seconds = time.monotonic() - began
    return row


def raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    raise_file_limit()
    hold(*map(int, sys.argv[1:]))
