"""What holds the event loop or takes memory: large, dense, compressed and unfinished bodies, and dense answers.

`python -m tests.attacks.stalls` prints a table. While each attack runs, a client asks `GET /health` all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
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


@dataclass
class Watch:
    """What a parallel client saw: the longest answer to `GET /health`, and the memory before, at most and after."""

    port: int
    pid: int
    longest_ms: float = 0.0
    asked: int = 0
    before_mb: float = 0.0
    peak_mb: float = 0.0
    after_mb: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        self.before_mb = self.peak_mb = rss_mb(self.pid)
        threads = [threading.Thread(target=work) for work in (self._ask, self._weigh)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()
            until = time.monotonic() + AFTER_S
            while rss_mb(self.pid) > self.before_mb + 10 and time.monotonic() < until:
                time.sleep(0.1)
            self.after_mb = rss_mb(self.pid)

    def _ask(self) -> None:
        client = HTTPConnection("127.0.0.1", self.port, timeout=120)
        while not self._ended.wait(0.005):
            began = time.perf_counter()
            client.request("GET", "/health")
            client.getresponse().read()
            self.longest_ms = max(self.longest_ms, (time.perf_counter() - began) * 1000)
            self.asked += 1
        client.close()

    def _weigh(self) -> None:
        while not self._ended.wait(0.01):
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


async def run(long: bool) -> Row:
    """All of them, each shown as it ends."""
    row = Row(NAME)
    size, count = (31 * MB, 20) if long else (8 * MB, 4)
    began, longest_ms, most_mb = time.monotonic(), 0.0, 0.0
    upstream = Upstream()
    with tempfile.TemporaryDirectory(prefix="stalls") as folder:
        config = str(write_config(Path(folder)))
        limits = {"SESSION__MAX_CONCURRENT": "10000", "LOGGER__LEVEL": "error"}
        async with running(
            Path(folder), "--config", config, CLAUDE__BASE_URL=upstream.url, **limits
        ) as process:
            await prepare(process)
            print(
                "| attack | answers | longest /health ms | MB before, at most, after | seconds |\n|---|---|---|---|---|"
            )
            for name, attack in attacks(process.port, upstream, size, count):
                watch = Watch(process.port, process.pid)
                at = time.monotonic()
                with watch.on():
                    answers = await asyncio.to_thread(attack)
                memory = f"{watch.before_mb:.0f}, {watch.peak_mb:.0f}, {watch.after_mb:.0f}"
                told = ", ".join(f"{number} × {status}" for status, number in sorted(answers.items()))
                seconds = time.monotonic() - at
                print(f"| {name} | {told} | {watch.longest_ms:.0f} | {memory} | {seconds:.1f} |", flush=True)
                row.tried += sum(answers.values())
                longest_ms = max(longest_ms, watch.longest_ms)
                most_mb = max(most_mb, watch.peak_mb - watch.before_mb)
                if watch.longest_ms > LONGEST_MS or watch.peak_mb - watch.before_mb > MOST_MB:
                    row.faults.append(f"{name}: {watch.longest_ms:.0f} ms, {memory} MB")
    row.seconds = time.monotonic() - began
    row.note = f"longest stall {longest_ms:.0f} ms, at most +{most_mb:.0f} MB"
    return row


if __name__ == "__main__":
    print(asyncio.run(run("--short" not in sys.argv)))
