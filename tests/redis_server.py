"""A redis-server of the tests' own: on a socket in a private folder, one for each worker, empty for each test."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it


class RedisServer:
    """One process. `start` it, and `stop` it by `kill`, as a crash does, or by SIGTERM."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.path = folder / "redis.sock"  # no longer than 107 bytes
        self.url = f"unix://{self.path}"
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        command = [
            "redis-server",
            *("--port", "0", "--unixsocket", str(self.path), "--dir", str(self._folder), "--save", ""),
            *self._options,
        ]
        self._process = subprocess.Popen(  # noqa: S603 - the tests' own words
            command, stdout=subprocess.PIPE, text=True, cwd=self._folder
        )
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if "eady to accept connections" in line:
                break
        else:
            raise AssertionError(f"redis-server does not start: {''.join(lines)}")
        self.call("CONFIG", "SET", "loglevel", "warning")  # nobody reads the pipe from now on

    def ensure(self) -> None:
        """Start it if it does not run, and let it go on if it was stopped."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        self.resume()

    def kill(self) -> None:
        """End it at once: what it has not written is lost."""
        self._end(signal.SIGKILL)
        (self._folder / "dump.rdb").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it when it has written everything, for the next start."""
        self.call("SAVE")
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Connections are accepted by the kernel, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def call(self, *command: str) -> bytes:
        """Send a command; the beginning of what it answers, as it is on the wire."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(self.path))
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(part.encode()), part.encode()) for part in command)
            client.sendall(b"*%d\r\n%s" % (len(command), parts))
            return client.recv(65536)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # one that was paused ends by SIGTERM only when it goes on
        process.wait(5)
        assert process.stdout is not None
        process.stdout.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


@contextlib.contextmanager
def redis_process(*options: str) -> Iterator[RedisServer]:
    """A running server in a folder of its own; ended when this is left."""
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="redis-", dir=memory) as folder:
        server = RedisServer(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@cache
def server_of_worker() -> RedisServer:
    """The server of this worker, which ends with it."""
    process = redis_process()
    atexit.register(process.__exit__, None, None, None)
    return process.__enter__()


@pytest.fixture
def redis_of_worker() -> RedisServer:
    """The server of this worker, with whatever tests have left in it."""
    return server_of_worker()


@pytest.fixture
def redis_server(redis_of_worker: RedisServer) -> RedisServer:
    """A server that answers, and has no data and no scripts."""
    redis_of_worker.ensure()
    redis_of_worker.call("FLUSHALL")
    redis_of_worker.call("SCRIPT", "FLUSH")
    return redis_of_worker
