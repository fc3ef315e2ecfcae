"""Odd upstreams: answers cut at every byte, and answers from a grammar of what goes wrong, plain and over TLS.

A client gets a right answer, a 502 or a cut; never another request's, never a cut one that ends cleanly. The next
request gets its own. `python -m tests.attacks.upstreams --long` prints a table; `--seed N` replays from one seed on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import logging
import os
import random
import re
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.attacks.row import Row, table
from tests.service import CLIENT_KEY, MESSAGE_HEADERS, Service, message, serve, until, upstream_key
from tests.serving import serving
from tests.wire import Answer, Cut, connect

NAME = "odd upstreams"
SECRET = upstream_key("a").encode()
NONCE = re.compile(rb"nonce-\d{8}")
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
ASKED = MESSAGE_HEADERS


@dataclass
class Said:
    """What the upstream says to the next request: `raw` in pieces of `piece` bytes, then how it ends."""

    raw: bytes
    piece: int = 1 << 20
    end: str = "close"  # or "reset", or "stay"


class Upstream:
    """Says what is next; without it a right answer, which names the request's target."""

    def __init__(self) -> None:
        self.next: Said | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            said, self.next = self.next, None
            if said is None:
                body = head.split()[1]
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            elif await self.say(said, writer):
                return

    async def say(self, said: Said, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection has ended."""
        for at in range(0, len(said.raw), said.piece):
            writer.write(said.raw[at : at + said.piece])
            await writer.drain()
            await asyncio.sleep(0)
        if said.end == "reset":
            writer.transport.abort()
        return said.end != "stay"


def events(nonce: bytes) -> bytes:
    """A short streamed message."""
    parts = [
        ("message_start", {"message": {"model": "claude-x", "usage": {"input_tokens": 3}}}),
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": nonce.decode()}}),
        ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
        ("message_stop", {}),
    ]
    return b"".join(
        f"event: {name}\ndata: {json.dumps({'type': name} | more)}\n\n".encode() for name, more in parts
    )


def chunked(body: bytes, size: int = 100) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def framed(head: bytes, body: bytes, framing: str) -> tuple[bytes, bytes]:
    """Head and body as they go on the wire."""
    match framing:
        case "length":
            return head + b"content-length: %d\r\n\r\n" % len(body), body
        case "chunks":
            return head + b"transfer-encoding: chunked\r\n\r\n", chunked(body)
    return head + b"\r\n", body


def whole_answers(nonce: bytes) -> Iterator[tuple[str, bytes, bytes, bytes]]:
    """Each kind of answer: its name, head, body on the wire, and body."""
    text = json.dumps({"type": "message", "content": nonce.decode(), "usage": {"output_tokens": 2}}).encode()
    zipped = gzip.compress(events(nonce), mtime=0)
    for framing in ("length", "chunks", "close"):
        yield (f"stream by {framing}", *framed(SSE, events(nonce), framing), events(nonce))
        yield (f"message by {framing}", *framed(JSON, text, framing), text)
        yield (f"gzip by {framing}", *framed(SSE + b"content-encoding: gzip\r\n", zipped, framing), zipped)


class Attack:
    """Asks a proxy whose upstream is odd, and judges what comes."""

    def __init__(self, service: Service, upstream: Upstream, row: Row, log: list[logging.LogRecord]) -> None:
        self.service = service
        self.upstream = upstream
        self.row = row
        self.log = log
        self.number = 0

    def nonce(self) -> bytes:
        self.number += 1
        return b"nonce-%08d" % self.number

    async def ask(self, nonce: bytes, said: Said | None, method: str = "POST") -> tuple[Answer | None, bool]:
        """The answer, and whether it is whole; None where there is not even a head."""
        self.upstream.next = said
        body = message(stream=True) if method == "POST" else None
        target = "/v1/messages" if said is not None and method == "POST" else f"/v1/{nonce.decode()}"
        async with asyncio.timeout(10), connect(self.service.port) as wire:
            try:
                headers = [("x-api-key", CLIENT_KEY), *ASKED]
                answer = await wire.request(method, target, headers, body)
            except Cut:
                return None, False
            try:
                await answer.read()
            except Cut:
                return answer, False
            return answer, True

    async def try_one(self, name: str, said: Said, nonce: bytes, method: str = "POST") -> Answer | None:
        """Send one, and look at all that holds whatever the upstream says. None if it was cut or refused."""
        self.row.tried += 1
        answer = whole = None
        try:
            answer, whole = await self.ask(nonce, said, method)
        except TimeoutError:
            self.fault(name, said, "hangs")
        got = b"" if answer is None else repr(answer.headers).encode() + answer.body
        if set(NONCE.findall(got)) - {nonce}:
            self.fault(name, said, "another request's answer")
        head_or_error = got if answer is None or answer.status >= 400 else repr(answer.headers).encode()
        if SECRET in head_or_error:  # the body of a 2xx is whatever it is
            self.fault(name, said, "the credential is shown")
        return answer if whole else None

    async def look(self, name: str, said: Said) -> None:
        """What must hold after it: the next request gets its own answer, and nothing is left."""
        nonce = self.nonce()
        self.service.clock.advance(3601)  # past what a 429 costs
        answer, whole = await self.ask(nonce, None, "GET")
        if not whole or answer is None or answer.body != b"/v1/" + nonce:
            self.fault(name, said, f"the next request gets {answer}")
        if any(record.exc_info for record in self.log):
            self.fault(name, said, "traceback")
        if any(SECRET.decode() in record.getMessage() for record in self.log):
            self.fault(name, said, "the credential is in the log")
        self.log.clear()
        try:
            await until(lambda: self.service.running == self.service.transfers == 0)
        except TimeoutError:
            self.fault(name, said, "something goes on")

    def fault(self, name: str, said: Said, what: str) -> None:
        self.row.faults.append(f"{name}: {what}: {said.end} after {said.raw[:300]!r} in {said.piece}")

    async def cut(self, step: int) -> None:
        """Every kind of answer, cut at each `step`-th byte, by an end or by a reset in turn; then whole."""
        nonce = b"nonce-00000000"
        for name, head, body, content in whole_answers(nonce):
            raw = head + body
            for n, end in enumerate(range(0, len(raw), step)):
                said = Said(raw[:end], end="reset" if n % 2 else "close")
                answer = await self.try_one(name, said, nonce)
                self.judge_cut(name, said, answer, is_head=end < len(head))
                await self.look(name, said)
            said = Said(raw)
            answer = await self.try_one(name, said, nonce)
            if answer is None or answer.body != content:
                self.fault(name, said, "a whole answer does not arrive")

    def judge_cut(self, name: str, said: Said, answer: Answer | None, *, is_head: bool) -> None:
        if answer is None:
            if is_head:
                self.fault(name, said, "no 502 for a cut head")
        elif is_head and answer.body == b"/v1/messages":
            pass  # the connection had been kept, and libcurl asked again on another
        elif (
            answer.status != 502
        ):  # which is the proxy's own: nothing of the cut answer had reached the client
            self.fault(name, said, f"a cut answer ends cleanly with {answer.status}")

    async def odd(self, seeds: range) -> None:
        """Answers from the grammar."""
        for seed in seeds:
            chance, nonce = random.Random(seed), self.nonce()
            said, method = odd(chance, nonce), chance.choice(["POST", "POST", "GET", "HEAD"])
            await self.try_one(f"seed {seed} {method}", said, nonce, method)
            await self.look(f"seed {seed} {method}", said)


ODD_BYTES = b'\0\t\n\r\x0b\x1b \x7f\x80\x85\xa0\xff:,;"x'
STATUSES = [
    b"200 OK", b"200", b"404 No", b"429 Slow", b"529 x", b"204 No", b"304 No", b"206 Part", b"101 Switch", b"999 x",
    b"200 a\rb", b"2x0 OK", b"200 \xe9\0", b"", b"099 x", b"401 No",
]  # fmt: skip
VERSIONS = [b"HTTP/1.1 "] * 9 + [b"HTTP/1.0 ", b"HTTP/2 ", b"ICY ", b""]
FRAMINGS = [
    b"Content-Length: %d", b"Content-Length: %d\r\nContent-Length: %d", b"Content-Length: 1%d",
    b"Content-Length: +%d", b"Content-Length: %d, %d", b"Content-Length : %d", b"content-length:%d\xa0",
    b"X-A: b\r\n Content-Length: %d", b"Content-Length: -%d", b"Connection: close", b"",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: %d",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding:\x0bchunked",
]  # fmt: skip
BEFORE = [
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: <x>\r\n\r\n", b"\r\n",
    b"HTTP/1.1 102 x\r\n\r\n" * 30,
]  # fmt: skip
CODINGS = [b"gzip", b"br", b"zstd", b"deflate", b"gzip, br", b"what", b"identity"]


def odd(chance: random.Random, nonce: bytes) -> Said:
    """An answer in which a few things are wrong."""
    body = chance.choice([b"", nonce, events(nonce), b'{"error":{"message":"%b"}}' % nonce, nonce * 20_000])
    odd_start = chance.choice(VERSIONS) + chance.choice(STATUSES)
    lines = [odd_start if chance.random() < 0.5 else b"HTTP/1.1 200 OK"]
    framing = chance.choice(FRAMINGS)
    lines.append(framing.replace(b"%d", b"%d" % len(body)))
    lines += [odd_line(chance, nonce) for _ in range(chance.choice([0, 1, 3, 200]))]
    if chance.random() < 0.3:
        lines.append(b"content-encoding: " + chance.choice(CODINGS))
        body = gzip.compress(body, mtime=0) if chance.random() < 0.7 else body
    if b"chunked" in framing:
        body = chunked(body, chance.choice([1, 7, 5000]) if len(body) < 5000 else 5000)
    line_end = chance.choice([b"\r\n", b"\r\n", b"\r\n", b"\n"])
    raw = line_end.join([*lines, b"", b""]) + body
    raw = (chance.choice(BEFORE) if chance.random() < 0.2 else b"") + raw
    if chance.random() < 0.2:
        raw += raw  # a second answer, which nobody asked for
    if chance.random() < 0.3:
        raw = raw[: chance.randrange(len(raw) + 1)]
    elif chance.random() < 0.3:
        at = chance.randrange(len(raw) + 1)
        raw = raw[:at] + bytes([chance.choice(ODD_BYTES)]) + raw[at + chance.randint(0, 1) :]
    return Said(
        raw,
        chance.choice([1 << 20, 1 << 20, 1000 if len(raw) > 3000 else 1]),
        chance.choice(["close", "reset"]),
    )


def odd_line(chance: random.Random, nonce: bytes) -> bytes:
    name = chance.choice(
        [
            b"X-A",
            b"Connection",
            b"Set-Cookie",
            b"x-proxy-account",
            b"content-type",
            b"retry-after",
            b"X\xe9",
            b"X A",
        ]
    )
    value = bytearray(
        chance.choice([b"b", nonce, b"text/event-stream", b"x" * 3000, SECRET, b"keep-alive, X-A", b"1e999"])
    )
    for _ in range(chance.choice([0, 0, 1, 5])):
        value.insert(chance.randrange(len(value) + 1), chance.choice(ODD_BYTES))
    return name + b": " + bytes(value)


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextlib.asynccontextmanager
async def attack(row: Row, folder: Path, tls: ssl.SSLContext | None) -> AsyncIterator[Attack]:
    """A proxy before an odd upstream."""
    upstream, records = Upstream(), Records()
    logging.getLogger().addHandler(records)
    scheme = "https" if tls else "http"
    try:
        async with (
            serving(upstream.serve, tls) as port,
            serve(folder, upstream=f"{scheme}://127.0.0.1:{port}", retry__max_attempts="1") as service,
        ):
            yield Attack(service, upstream, row, records.records)
    finally:
        logging.getLogger().removeHandler(records)


def server_tls(folder: Path) -> ssl.SSLContext:
    """A certificate whose authority SSL_CERT_FILE names from now on."""
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    ca.issue_cert("127.0.0.1").configure_cert(context)
    os.environ["SSL_CERT_FILE"] = str(folder / "ca.pem")
    return context


async def run(long: bool, first_seed: int = 1) -> Row:
    row = Row(NAME)
    seeds, step = (5_000, 1) if long else (150, 61)
    before = os.environ.get("SSL_CERT_FILE")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each, tls in (("plain", None), ("tls", server_tls(folder))):
            async with attack(row, folder / each, tls) as hostile:
                await hostile.cut(step if tls is None else step * 7)
                await hostile.odd(range(first_seed, first_seed + (seeds if tls is None else seeds // 5)))
    os.environ.pop("SSL_CERT_FILE")
    if before is not None:
        os.environ["SSL_CERT_FILE"] = before
    return row


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.upstreams", description=__doc__)
    parser.add_argument("--long", action="store_true", help="every byte and 5,000 seeds: some minutes")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    options = parser.parse_args()
    began = time.monotonic()
    logging.disable(logging.NOTSET)
    row = asyncio.run(run(options.long, options.seed))
    row.seconds = time.monotonic() - began
    print(*row.faults[:20], table([row]), sep="\n")
    return 1 if row.faults else 0


if __name__ == "__main__":
    sys.exit(main())
