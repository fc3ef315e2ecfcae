"""What holds the event loop or takes memory: large, dense, compressed and unfinished bodies, and dense answers.

`python -m tests.attacks.stalls` prints a table. While each attack runs, a client asks `GET /health` all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import brotli

from tests.attacks.row import Row
from tests.process import Running, running, write_config
from tests.service import CLIENT_KEY
from tests.wire import request_bytes

NAME = "stalls"
LONGEST_MS = 100
MOST_MB = 200
MB = 1 << 20
BUDGETED_KEY = "cp-a-budgeted-key-of-attacks-3Kd8"
MODEL = "claude-sonnet-5-5"
START = b'{"model":"claude-sonnet-5-5","max_tokens":64,"messages":'
AFTER_S = 3.0
"""How long after an attack its memory may still be held."""


# ---- bodies


def dense(unit: bytes, size: int) -> bytes:
    """A request of `size` bytes with a list of nothing but `unit`."""
    return START + b"[" + unit * (size // len(unit)) + b"0]}"


def names(count: int) -> bytes:
    """A request with so many tools that name a model each."""
    tools = b",".join(b'{"model":"claude-%d"}' % number for number in range(count))
    return START + b'[],"tools":[' + tools + b"]}"


# ---- the upstream


class Upstream:
    """Reads requests and throws them away; answers each with `body` as `content_type`."""

    def __init__(self) -> None:
        self.content_type = "application/json"
        self.encoding = "identity"
        self.body = b"{}"
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def says(
        self, body: bytes = b"{}", content_type: str = "application/json", encoding: str = "identity"
    ) -> None:
        self.body, self.content_type, self.encoding = body, content_type, encoding

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            data = bytearray()
            while True:
                while (end := data.find(b"\r\n\r\n")) < 0:
                    if not (more := connection.recv(65536)):
                        return
                    data += more
                length = re.search(rb"(?i)content-length: (\d+)", data[:end])
                left = (int(length[1]) if length else 0) - (len(data) - end - 4)
                data.clear()
                while left > 0:
                    left -= len(connection.recv(min(left, MB)))
                head = (
                    f"HTTP/1.1 200 OK\r\nContent-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n"
                    f"Content-Encoding: {self.encoding}\r\n\r\n"
                )
                connection.sendall(head.encode() + self.body)


# ---- the proxy, watched


def rss_mb(pid: int) -> float:
    """Anonymous memory of a process; what the page cache has of its files is not its own."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def ask(port: int, pipe: Connection) -> None:
    """Ask `GET /health` all the time; at each word from the pipe say the longest answer since the one before, in ms."""
    client, longest_s = HTTPConnection("127.0.0.1", port, timeout=120), 0.0
    while True:
        if pipe.poll(0.002):
            pipe.recv()
            pipe.send(longest_s * 1000)
            longest_s = 0.0
        began = time.perf_counter()
        client.request("GET", "/health")
        client.getresponse().read()
        longest_s = max(longest_s, time.perf_counter() - began)


class Watch:
    """A parallel client, in a process of its own, and a thread that weighs the proxy."""

    def __init__(self, port: int, pid: int) -> None:
        self.pid = pid
        self.peak_mb = 0.0
        self._pipe, end = Pipe()
        self._client = get_context("spawn").Process(target=ask, args=(port, end), daemon=True)
        self._client.start()
        self.longest_ms()
        threading.Thread(target=self._weigh, daemon=True).start()

    def longest_ms(self) -> float:
        """The longest answer to `GET /health` since the last call."""
        self._pipe.send(None)
        return float(self._pipe.recv())

    def settled_mb(self, before_mb: float) -> float:
        """The memory that is still held some seconds after an attack."""
        until = time.monotonic() + AFTER_S
        while rss_mb(self.pid) > before_mb + 10 and time.monotonic() < until:
            time.sleep(0.1)
        return rss_mb(self.pid)

    def end(self) -> None:
        self._client.kill()
        self._client.join()

    def _weigh(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                time.sleep(0.01)
                self.peak_mb = max(self.peak_mb, rss_mb(self.pid))


def post(
    port: int, body: bytes, *, key: str = CLIENT_KEY, encoding: str = "", target: str = "/v1/messages"
) -> str:
    """Send a request and read its answer; its status, or the error."""
    headers = {"x-api-key": key, "content-type": "application/json"}
    if encoding:
        headers["content-encoding"] = encoding
    client = HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        client.request("POST", target, body, headers)
        answer = client.getresponse()
        while answer.read(MB):
            pass
        return str(answer.status)
    except OSError as error:
        return type(error).__name__
    finally:
        client.close()


def get(port: int, target: str) -> str:
    client = HTTPConnection("127.0.0.1", port, timeout=120)
    client.request("GET", target, headers={"x-api-key": CLIENT_KEY})
    answer = client.getresponse()
    answer.read()
    client.close()
    return str(answer.status)


def unfinished(port: int, count: int, size: int) -> Counter[str]:
    """Bodies of which the last byte never comes."""
    held = []
    head = request_bytes("POST", "/v1/messages", [("x-api-key", CLIENT_KEY), ("content-length", str(size))])
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(head + bytes(size - 1))
        held.append(client)
    time.sleep(1)
    for client in held:
        client.close()
    return Counter({"held": count})


# ---- the attacks


def together(count: int, send: Callable[[], str]) -> Counter[str]:
    """What `count` parallel ones came to."""
    with ThreadPoolExecutor(count) as threads:
        return Counter(found.result() for found in [threads.submit(send) for _ in range(count)])


def idle() -> Counter[str]:
    time.sleep(2)
    return Counter()


def event(name: str, data: object, end: str = "\n") -> bytes:
    return f"event: {name}{end}data: {json.dumps(data, separators=(',', ':'))}{end}{end}".encode()


def stream(deltas: int, *, end: str = "\n", usage: object = None) -> bytes:
    """A streamed message with so many deltas."""
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
    start = {"message": {"model": MODEL, "usage": {"input_tokens": 5, "output_tokens": 1}}}
    told = {"type": "message_delta", "usage": usage or {"output_tokens": deltas}}
    return (
        event("message_start", start, end)
        + event("content_block_delta", text, end) * deltas
        + event("message_delta", told, end)
        + event("message_stop", {}, end)
    )


def held(log: Path, since: int) -> tuple[int, str]:
    """The longest hold of the loop that the proxy has logged since then, in ms, and where; it logs those above 50."""
    found = re.findall(r"lag_ms=(\d+) in=([^\n\"]*)", log.read_text()[since:])
    return max(((int(ms), place.strip()) for ms, place in found), default=(0, ""))


def attacks(
    port: int, upstream: Upstream, size: int, count: int
) -> Iterator[tuple[str, Callable[[], Counter[str]]]]:
    """Each with its name; to be run before the next is asked for."""
    iterations = [{"type": "message", "model": f"claude-{n}", "input_tokens": 1} for n in range(size // 100)]
    message = {"type": "message", "model": MODEL, "content": [{"type": "text", "text": "x" * size}]}
    batches = {
        "data": [{"results_url": "https://api.anthropic.com/v1/messages/batches/b/results"}] * (size // 90)
    }
    for name, body in {
        "text": START + b'"' + b"hello wor " * (size // 10) + b'"}',
        "{},": dense(b"{},", size),
        "[[[…]]],": dense(b"[" * 400 + b"]" * 400 + b",", size),
        '"model":1,': b"{" + b'"model":1,' * (size // 10) + b'"x":1}',
        "1.2 million names": names(size * 1_200_000 // (31 * MB)),
        "[ without end": START + b"[" * size,
    }.items():
        for key in (CLIENT_KEY, BUDGETED_KEY):
            whose = "budget" if key is BUDGETED_KEY else "plain"
            yield f"{name} ({whose})", partial(together, count, partial(post, port, body, key=key))
    yield "nothing, to compare with", idle
    bomb = brotli.compress(dense(b"{},", size), quality=11, lgwin=24)
    yield f"brotli bomb, {len(bomb)} bytes", lambda: together(count, lambda: post(port, bomb, encoding="br"))
    yield "200 unfinished of 4 MB", lambda: unfinished(port, count * 10, 4_000_000)
    plain = json.dumps({"model": MODEL, "max_tokens": 64, "messages": []}).encode()
    for name, answer in {
        "75,000 deltas": stream(75_000),
        "75,000 deltas, CRLF": stream(75_000, end="\r\n"),
        "iterations in a stream": stream(1, usage={"output_tokens": 1, "iterations": iterations[:9000]}),
    }.items():
        upstream.says(answer, "text/event-stream")
        yield name, lambda: together(count, lambda: post(port, plain))
    upstream.says(gzip.compress(stream(75_000)), "text/event-stream", "gzip")
    yield "75,000 deltas, gzip", lambda: together(count, lambda: post(port, plain))
    for name, value in {
        "iterations": {"type": "message", "usage": {"output_tokens": 1, "iterations": iterations}},
        "a large message": message | {"usage": {"output_tokens": 1}},
    }.items():
        upstream.says(json.dumps(value).encode())
        yield name, lambda: together(count, lambda: post(port, plain))
    upstream.says(json.dumps(batches).encode())
    yield "a list of batches", lambda: together(count, lambda: get(port, "/v1/messages/batches"))
    upstream.says()


async def prepare(process: Running) -> None:
    """An account, and two client keys."""
    key = "sk-ant-api03-of-attacks-" + "x" * 24
    budget = {"cost_usd_per_day": 1e6}
    for path, body in (
        ("/api/accounts", {"name": "a", "type": "api_key", "api_key": key}),
        ("/api/tokens", {"name": "plain", "key": CLIENT_KEY}),
        ("/api/tokens", {"name": "budget", "key": BUDGETED_KEY, "limits": budget, "models": ["claude-*"]}),
    ):
        assert (await process.admin("POST", path, body)).status == 201


@dataclass
class Seen:
    """What became of one attack."""

    name: str
    answers: Counter[str]
    longest_ms: float
    held: tuple[int, str]
    memory_mb: tuple[float, float, float]
    seconds: float

    @property
    def row(self) -> str:
        answers = ", ".join(f"{number} × {status}" for status, number in sorted(self.answers.items()))
        memory = ", ".join(f"{mb:.0f}" for mb in self.memory_mb)
        held = " ".join(map(str, self.held)) if self.held[0] else "-"
        return f"| {self.name} | {answers} | {self.longest_ms:.0f} | {held} | {memory} | {self.seconds:.1f} |"

    @property
    def more_mb(self) -> float:
        return self.memory_mb[1] - self.memory_mb[0]


def seen(name: str, attack: Callable[[], Counter[str]], watch: Watch, log: Path) -> Seen:
    watch.longest_ms()
    watch.peak_mb = before_mb = rss_mb(watch.pid)
    logged, began = log.stat().st_size, time.monotonic()
    answers = attack()
    seconds, longest_ms = time.monotonic() - began, watch.longest_ms()
    memory_mb = (before_mb, watch.peak_mb, watch.settled_mb(before_mb))
    return Seen(name, answers, longest_ms, held(log, logged), memory_mb, seconds)


HEAD = """\
| attack | answers | longest /health ms | longest hold of the loop ms, where | MB before, at most, after | seconds |
|---|---|---|---|---|---|"""


async def run(long: bool, only: str = "") -> Row:
    """All of them, or those whose name has `only` in it; each is shown as it ends."""
    row = Row(NAME)
    size, count = (31 * MB, 20) if long else (8 * MB, 4)
    began, every = time.monotonic(), []
    upstream = Upstream()
    with tempfile.TemporaryDirectory(prefix="stalls") as folder:
        home = Path(folder)
        more = {
            "SESSION__MAX_CONCURRENT": "10000",
            "LOGGER__LEVEL": "warning",
            "CLAUDE__BASE_URL": upstream.url,
        }
        async with running(home, "--config", str(write_config(home)), **more) as process:
            await prepare(process)
            watch = await asyncio.to_thread(Watch, process.port, process.pid)
            os.nice(10)  # attackers and upstream, so that it is the proxy that is measured, not the machine
            print(HEAD)
            for name, attack in attacks(process.port, upstream, size, count):
                if only in name:
                    every.append(await asyncio.to_thread(seen, name, attack, watch, home / "stderr.log"))
                    print(every[-1].row, flush=True)
            watch.end()
    row.tried = sum(sum(each.answers.values()) for each in every)
    row.faults = [each.row for each in every if each.longest_ms > LONGEST_MS or each.more_mb > MOST_MB]
    row.seconds = time.monotonic() - began
    longest_ms, more_mb = max(each.longest_ms for each in every), max(each.more_mb for each in every)
    row.note = f"longest stall {longest_ms:.0f} ms, at most +{more_mb:.0f} MB"
    return row


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--short"]
    print(asyncio.run(run("--short" not in sys.argv, "".join(words))).note)
