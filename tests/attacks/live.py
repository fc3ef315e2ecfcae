"""Handshakes, frames and messages of a hostile dashboard, who has the admin key."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import random
import tempfile
from pathlib import Path

from tests.attacks.row import Row
from tests.attacks.victim import Victim, victim
from tests.attacks.watch import Watch
from tests.service import ADMIN_KEY

NAME = "odd WebSocket frames"
CONNECTIONS = {False: 60, True: 5_000}
AT_ONCE = 10
QUIET_S = 0.02
"""A connection on which so long nothing comes is left open by the proxy."""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
TOPICS = ("accounts", "tokens", "sessions", "stats", "events", "health", "nothing", "", "__proto__")
NUMBERS = (
    "0",
    "-1",
    "1e999",
    "-1e999",
    "NaN",
    "9" * 400,
    "9" * 5000,
    "1.5",
    "null",
    "true",
    '"x"',
    "[]",
    "{}",
    "18446744073709551616",
)
TEXTS = ('""', '"\\ud800"', '"x"', "5", "null", "[1]", "{}", '"' + "x" * 60_000 + '"')
ODD_LENGTHS = (1 << 62, (1 << 64) - 1, 1 << 31, 70_000)
CODES = (
    b"",
    b"x",
    b"\0\5",
    b"\3\xe8",
    b"\3\xe8\xff\xfe",
    b"\3\xe8" + b"a" * 123,
    b"\3\xed",
    b"\xff\xff",
    b"\x0f\xa0",
)
HANDSHAKES = (
    "Sec-WebSocket-Version: 8", "Sec-WebSocket-Version: 13, 8", "Sec-WebSocket-Version: x",
    "Sec-WebSocket-Key: short",
    "Sec-WebSocket-Key: " + "A" * 5000, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=x; y=\"",
    "Sec-WebSocket-Protocol: " + "x, " * 3000,
    "Upgrade: WebSocket, h2c", "Connection: close", "Content-Length: 5", "Origin: http://evil.test", "Origin: null",
    "Sec-WebSocket-Accept: x", "Host: a", "Transfer-Encoding: chunked", "Expect: 100-continue",
)  # fmt: skip


def framed(opcode: int, data: bytes, *, last: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """A frame as a client sends it (RFC 6455 §5.2); a mask of zeros changes nothing."""
    start = bytes([last << 7 | reserved << 4 | opcode])
    mask = 0x80 if masked else 0
    if len(data) < 126:
        size = bytes([mask | len(data)])
    elif len(data) < 1 << 16:
        size = bytes([mask | 126]) + len(data).to_bytes(2, "big")
    else:
        size = bytes([mask | 127]) + len(data).to_bytes(8, "big")
    return start + size + (bytes(4) if masked else b"") + data


class Frames:
    """What one seed sends after its handshake."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def handshake(self) -> bytes:
        rng = self._rng
        lines = [
            "GET /api/live HTTP/1.1", "Host: 127.0.0.1", f"X-API-Key: {ADMIN_KEY}", "Connection: Upgrade",
            "Upgrade: websocket", f"Sec-WebSocket-Key: {base64.b64encode(rng.randbytes(16)).decode()}",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: cproxy.admin.v1",
        ]  # fmt: skip
        if rng.random() < 0.15:
            odd = rng.choice(HANDSHAKES)
            name = odd.partition(":")[0]
            if rng.random() < 0.7:
                lines = [line for line in lines if not line.startswith(f"{name}:")]
            lines.append(odd)
        if rng.random() < 0.05:
            del lines[rng.randrange(1, len(lines))]
        return "\r\n".join([*lines, "", ""]).encode()

    def frames(self) -> list[bytes]:
        hello = framed(TEXT, b'{"t":"hello","topics":{"accounts":0,"events":0}}')
        return [hello, *(self._frame() for _ in range(self._rng.choice((1, 2, 5, 30))))]

    def _frame(self) -> bytes:
        rng = self._rng
        junk = rng.choice((b"", b"\xff\xfe", b"a" * 125, b"a" * 126, rng.randbytes(40), self._message()))
        match rng.randrange(12):
            case 0:
                return framed(rng.choice((PING, PONG)), junk, last=rng.random() < 0.9)
            case 1:
                return (
                    framed(TEXT, junk, last=False)
                    + framed(PING, b"")
                    + framed(0, junk, last=rng.random() < 0.5)
                )
            case 2:
                return framed(
                    rng.randrange(16), junk, last=rng.random() < 0.7, reserved=rng.choice((0, 0, 1, 4, 7))
                )
            case 3:
                return bytes([0x81, 0xFF]) + rng.choice(ODD_LENGTHS).to_bytes(8, "big") + bytes(4) + junk
            case 4 if rng.random() < 0.3:
                return framed(CLOSE, rng.choice(CODES))
            case 5:
                return framed(TEXT, b"{", last=False) + framed(0, b"a" * 1000, last=False) * rng.choice(
                    (1, 70)
                )
            case 6:
                return framed(rng.choice((TEXT, BINARY)), junk, masked=rng.random() < 0.5)
            case 7:
                return framed(TEXT, self._message())[: rng.randrange(1, 30)]
        return framed(TEXT, self._message())

    def _message(self) -> bytes:
        rng = self._rng
        topic, text, number = rng.choice(TOPICS), rng.choice(TEXTS), rng.choice(NUMBERS)
        return rng.choice(
            (
                f'{{"t":"ping","c":{number}}}',
                f'{{"t":"rate","hz":{number}}}',
                f'{{"t":"sub","topic":"{topic}","rev":{number}}}',
                f'{{"t":"sub","topic":{text}}}',
                f'{{"t":"unsub","topic":{text}}}',
                f'{{"t":"hello","topics":{{"{topic}":{number}}},"epoch":{text},"hz":{number}}}',
                f'{{"t":"hello","topics":{text}}}',
                f'{{"t":{text}}}',
                text,
                number,
                "[" * rng.choice((10, 5000)),
            )
        ).encode()


async def run(long: bool) -> Row:
    row = Row(NAME)
    with tempfile.TemporaryDirectory(prefix="attacks-") as home:
        async with victim(Path(home)) as proxy:
            watch = Watch(proxy, timed=long)
            left = iter(range(1, CONNECTIONS[long] + 1))

            async def one_after_the_other() -> None:
                for seed in left:
                    await _attack(proxy, seed, row)
                    watch.look(f"(about seed {seed})")

            async with watch.on():
                await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
            row.faults += watch.faults
            row.note = watch.note
    return row


async def _attack(proxy: Victim, seed: int, row: Row) -> None:
    """One connection: its handshake and its frames; what comes back has to be frames of JSON."""
    frames = Frames(seed)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=1 << 22)
    said = b""
    try:
        writer.write(frames.handshake())
        for frame in frames.frames():
            row.tried += 1
            if not writer.transport.is_closing():
                writer.write(frame)
        while True:
            async with asyncio.timeout(QUIET_S):
                data = await reader.read(1 << 16)
            said += data
            if not data:
                break
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    head, _, rest = said.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 101"):
        row.faults += [f"seed {seed}: {fault}" for fault in _wrong(rest)]
    elif head and not head.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")):  # without `Upgrade` it is a poll
        row.faults.append(f"seed {seed}: the handshake was answered {head[:100]!r}")


def _wrong(data: bytes) -> list[str]:
    """What is wrong with the frames of a server; the last may be cut."""
    while len(data) >= 2:
        opcode, size, start = data[0] & 0x0F, data[1], 2
        if size & 0x80 or data[0] & 0x70:
            return [f"a masked or reserved frame: {data[:20]!r}"]
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        payload, data = data[start : start + size], data[start + size :]
        if opcode not in (TEXT, CLOSE, PING, PONG):
            return [f"a frame of kind {opcode}"]
        if opcode == TEXT and len(payload) == size:
            try:
                json.loads(payload, parse_constant=_no_number)
            except ValueError as error:
                return [f"a message that is no JSON ({error}): {payload[:100]!r}"]
    return []


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number: {math.inf}")
