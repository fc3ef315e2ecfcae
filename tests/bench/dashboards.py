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

TOPICS = ("accounts", "sessions", "stats")


@contextlib.contextmanager
def dashboards(port: int, count: int) -> Iterator[None]:
    """So many of them on 127.0.0.1:`port`. Raises BenchError if one is refused, or ends before it is left."""
    ended = threading.Event()
    lost: list[str] = []
    with contextlib.ExitStack() as stack:
        feeds = [stack.enter_context(_open(port)) for _ in range(count)]
        reader = threading.Thread(target=_read, args=(feeds, ended, lost))
        reader.start()
        try:
            yield
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
        f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\nX-API-Key: {ADMIN_KEY}\r\n\r\n"
    )
    connection.sendall(head.encode())
    answer = b""
    while b"\r\n\r\n" not in answer and (got := connection.recv(4096)):
        answer += got
    if not answer.startswith(b"HTTP/1.1 101 "):
        connection.close()
        raise BenchError(f"a dashboard is refused: {answer[:100]!r}")
    hello = {"t": "hello", "epoch": None, "topics": dict.fromkeys(TOPICS, 0), "hz": 20}
    connection.sendall(_text_frame(json.dumps(hello).encode()))
    connection.setblocking(False)
    return connection


def _text_frame(text: bytes) -> bytes:
    """A frame of fewer than 126 bytes under the mask 0, which leaves it as it is (RFC 6455 §5.2)."""
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


def _read(feeds: list[socket.socket], ended: threading.Event, lost: list[str]) -> None:
    with selectors.DefaultSelector() as selector:
        for feed in feeds:
            selector.register(feed, selectors.EVENT_READ)
        while not ended.is_set():
            for key, _ in selector.select(0.05):
                try:
                    data = feeds[feeds.index(key.fileobj)].recv(1 << 18)  # type: ignore[arg-type]
                except BlockingIOError:
                    continue
                except OSError as error:
                    data = str(error).encode()[:0]
                if not data:
                    lost.append("closed")
                    selector.unregister(key.fileobj)
