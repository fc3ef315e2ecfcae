"""Open dashboards: WebSockets of the feed that ask for every topic at full rate, and read what comes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import socket
import threading
from collections.abc import Iterator

from tests.bench.versions import ADMIN_KEY, BenchError

TOPICS = ("accounts", "sessions", "tokens", "stats", "events", "requests")
TEXT = 0x81
"""The first byte of a whole frame of text (RFC 6455 §5.2)."""


@contextlib.contextmanager
def dashboards(port: int, count: int) -> Iterator[list[int]]:
    """So many of them on 127.0.0.1:`port`; yields the bytes that each has read.

    Raises BenchError if one is refused, or ends before it is left.
    """
    ended = threading.Event()
    with contextlib.ExitStack() as stack:
        feeds = [stack.enter_context(_open(port)) for _ in range(count)]
        read, lost = [0] * count, set[int]()
        reader = threading.Thread(target=_read, args=(feeds, ended, read, lost))
        reader.start()
        try:
            yield read
        finally:
            ended.set()
            reader.join()
    if lost:
        raise BenchError(f"{len(lost)} of {count} dashboards were closed")


def _open(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    nonce = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: cproxy.admin.v1\r\nX-API-Key: {ADMIN_KEY}\r\n\r\n"
    )
    connection.sendall(head.encode())
    answer = b""
    while b"\r\n\r\n" not in answer and (got := connection.recv(4096)):
        answer += got
    if not answer.startswith(b"HTTP/1.1 101 "):
        connection.close()
        raise BenchError(f"a dashboard is refused: {answer[:100]!r}")
    hello = {"t": "hello", "epoch": None, "topics": dict.fromkeys(TOPICS, 0), "hz": 20, "lists": True}
    connection.sendall(_text_frame(json.dumps(hello).encode()))
    first = answer.partition(b"\r\n\r\n")[2] or connection.recv(1)
    if first[:1] != bytes([TEXT]):
        connection.close()
        raise BenchError(f"a dashboard is not greeted: {first[:100]!r}")
    connection.setblocking(False)
    return connection


def _text_frame(text: bytes) -> bytes:
    """A frame of 126 to 65535 bytes under the mask 0, which leaves it as it is (RFC 6455 §5.2)."""
    assert 126 <= len(text) < 65536
    return bytes([TEXT, 0xFE]) + len(text).to_bytes(2, "big") + bytes(4) + text


def _read(feeds: list[socket.socket], ended: threading.Event, read: list[int], lost: set[int]) -> None:
    with selectors.DefaultSelector() as selector:
        for at, feed in enumerate(feeds):
            selector.register(feed, selectors.EVENT_READ, at)
        while not ended.is_set():
            for key, _ in selector.select(0.05):
                count = _received(feeds[key.data])
                read[key.data] += count
                if not count:
                    lost.add(key.data)
                    selector.unregister(key.fileobj)


def _received(feed: socket.socket) -> int:
    """How many bytes came; 0 if the connection has ended."""
    try:
        return len(feed.recv(1 << 18))
    except OSError:
        return 0
