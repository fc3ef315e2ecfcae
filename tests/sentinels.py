"""Sentinels of the tests' own, and servers that they can watch."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.versions import free_port
from tests.redis_server import RedisServer, redis_process


@contextlib.contextmanager
def on_port() -> Iterator[tuple[RedisServer, int]]:
    """A server that others can reach, and its port."""
    port = free_port()
    with redis_process(
        *("--port", str(port), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
    ) as server:
        yield server, port


@contextlib.contextmanager
def sentinel(primary: int, *settings: str) -> Iterator[int]:
    """A Sentinel that watches the primary on that port under the name `pool`; its own port.

    `settings` are those of `pool`, such as `down-after-milliseconds 500`.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="sentinel-") as folder:
        config = Path(folder, "sentinel.conf")
        lines = [
            f"sentinel {name} pool {value}" for name, _, value in (each.partition(" ") for each in settings)
        ]
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor pool 127.0.0.1 {primary} 1\n"
            + "\n".join(lines)
        )
        process = subprocess.Popen(  # noqa: S603 - the tests' own words
            ["redis-server", str(config), "--sentinel"],  # noqa: S607
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "+monitor" in line:
                    break
            yield port
        finally:
            process.kill()
            process.wait(5)
            process.stdout.close()


def told(port: int, *command: str) -> None:
    """Send a command to a Sentinel."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(" ".join(command).encode() + b"\r\n")
        assert client.recv(100).startswith(b"+OK")


def knows_replicas(port: int, count: int) -> bool:
    """Whether a Sentinel has found so many replicas that it could choose; it looks when it starts, then every 10 s."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"SENTINEL MASTER pool\r\n")
        return b"num-slaves\r\n$1\r\n%d\r\n" % count in client.recv(4096)


def is_primary(server: RedisServer) -> bool:
    with contextlib.suppress(ConnectionError):  # Sentinel has just ended all its connections
        return b"role:master" in server.call("INFO", "replication")
    return False
