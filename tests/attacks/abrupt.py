"""Clients that are slow, that read nothing, and that leave at the worst moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.attacks.row import Row
from tests.attacks.victim import Victim, victim
from tests.attacks.watch import Watch
from tests.service import ADMIN_KEY, CLIENT_KEY, message

NAME = "slow and abrupt clients"
CONNECTIONS = {False: 120, True: 5_000}
AT_ONCE = {False: 30, True: 100}
SETTLE_S = 15.0
"""How long after the last client the proxy may hold a socket of theirs: what was refused may still send its body."""

FILES_OF_ITS_OWN = 12
"""Sockets to the upstream that a proxy keeps, and of the good clients."""

GOOD_IN_FLIGHT = 1
"""The good clients go on."""

RESET = struct.pack("ii", 1, 0)
POST = (
    f"POST /v1/messages HTTP/1.1\r\nHost: a\r\nx-api-key: {CLIENT_KEY}\r\nContent-Type: application/json\r\n"
)
BODY = message(stream=True)
WHOLE = f"{POST}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
LARGE = f"GET /v1/large HTTP/1.1\r\nHost: a\r\nx-api-key: {CLIENT_KEY}\r\n\r\n".encode()
ADMIN = f"GET /api/accounts HTTP/1.1\r\nHost: a\r\nX-API-Key: {ADMIN_KEY}\r\n\r\n".encode()
PAGE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UNFINISHED = (
    b"", b"G", b"GET / HTTP/1.1\r\n", b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX: ", b"\x16\x03\x01\x02\x00\x01\x00",
    POST.encode() + b"Content-Length: 1000000\r\n\r\n{", POST.encode() + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    POST.encode() + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
    POST.replace(CLIENT_KEY, "wrong").encode() + b"Content-Length: 100\r\n\r\n",
    b"POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{",
)  # fmt: skip
LARGE_BODY = b"{" + b" " * 6_000_000
"""More than is kept in memory."""

LARGE_POST = f"{POST}Content-Length: {len(LARGE_BODY)}\r\n\r\n".encode() + LARGE_BODY
FINISHED = (WHOLE, LARGE, ADMIN, PAGE, ADMIN * 30, LARGE * 5, WHOLE * 20, WHOLE + ADMIN + b"G", PAGE + b"\0")


async def run(long: bool) -> Row:
    row = Row(NAME)
    with tempfile.TemporaryDirectory(prefix="attacks-") as home:
        async with victim(Path(home)) as proxy:
            watch = Watch(proxy, timed=long)
            left = iter(range(CONNECTIONS[long]))

            async def one_after_the_other() -> None:
                for seed in left:
                    await _attack(proxy, random.Random(seed), long)
                    row.tried += 1
                    if seed % 100 == 0:
                        watch.look(f"(about seed {seed})")

            async with watch.on():
                await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE[long])))
                row.faults += await _left_behind(proxy, FILES_OF_ITS_OWN if long else sys.maxsize)
            row.faults += watch.faults
            row.note = watch.note
    return row


async def _attack(proxy: Victim, rng: random.Random, long: bool) -> None:
    """One client, from its connection to its end."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rng.choice((1 << 10, 1 << 16)))
        await loop.sock_connect(client, ("127.0.0.1", proxy.port))
        data = rng.choice(UNFINISHED if rng.random() < 0.5 else FINISHED)
        if rng.random() < 0.02:
            data = LARGE_POST[: rng.choice((len(LARGE_POST), 4_500_000, 5_500_000))]
        with contextlib.suppress(ConnectionError, TimeoutError):
            if rng.random() < 0.5:
                await loop.sock_sendall(client, data)
            else:
                for byte in data[:60]:
                    await loop.sock_sendall(client, bytes([byte]))
                    await asyncio.sleep(rng.choice((0, 0.02)) if long else 0)
                await loop.sock_sendall(client, data[60:])
            await _stay(client, rng, long)
        if rng.random() < 0.5:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def _stay(client: socket.socket, rng: random.Random, long: bool) -> None:
    """What the client still does before it leaves."""
    loop = asyncio.get_running_loop()
    match rng.randrange(5):
        case 0:
            client.shutdown(socket.SHUT_WR)
        case 1:
            client.shutdown(socket.SHUT_RD)
        case 2:
            async with asyncio.timeout(0.2):
                await loop.sock_recv(client, rng.choice((1, 100, 1 << 16)))
        case 3 if long:
            await asyncio.sleep(rng.choice((0.1, 1, 3)))  # it takes nothing
            async with asyncio.timeout(2):
                while await loop.sock_recv(client, 1 << 12):
                    pass


async def _left_behind(proxy: Victim, most_sockets: int) -> list[str]:
    """What the proxy still holds when all have left."""
    until = time.monotonic() + SETTLE_S
    while held := await _held(proxy, most_sockets):
        if time.monotonic() > until:
            return [f"the proxy still holds, when all have left: {held}"]
        await asyncio.sleep(0.1)
    return []


async def _held(proxy: Victim, most_sockets: int) -> str:
    """Sockets, spooled bodies and requests in flight of clients that have left; empty if there are none."""
    files = list(_files(proxy.process.pid))
    sockets = sum(file.startswith("socket:") for file in files)
    spooled = sum("(deleted)" in file for file in files)
    spooled += sum(path.is_file() for path in (proxy.home / "data" / "tmp").rglob("*"))
    sessions = (await proxy.process.admin("GET", "/api/admin/sessions")).json()["sessions"]
    in_flight = sum(session["in_flight"] for session in sessions)
    if sockets <= most_sockets and not spooled and in_flight <= GOOD_IN_FLIGHT:
        return ""
    return f"{sockets} sockets, {spooled} spooled bodies, {in_flight} requests in flight"


def _files(pid: int) -> Iterator[str]:
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            yield os.readlink(file)
