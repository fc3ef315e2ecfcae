"""What the process takes from systemd, or who else starts it, and what it tells it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from handlers.supervisor import inherited_sockets
from tests.process import RUN, environ, refused, write_config
from tests.upgrades import HANDED, started


def test_variables_for_another_process_are_not_taken_and_not_handed_on() -> None:
    variables = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "PATH": "/bin"}
    assert inherited_sockets(variables) == []
    assert variables == {"PATH": "/bin"}


@pytest.mark.parametrize("kind", ["file", "unix", "connected"])
def test_what_is_no_listening_tcp_socket_is_refused_with_the_fix(tmp_path: Path, kind: str) -> None:
    with (
        (tmp_path / "file").open("wb") as file,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.create_connection(tcp.getsockname()) as connected,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        fd = {"file": file, "unix": unix, "connected": connected}[kind].fileno()
        config = str(write_config(tmp_path))
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-S", "-c", HANDED, str(fd), *RUN, "--config", config],
            env=environ(tmp_path, {}),
            pass_fds=[fd],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert "LISTEN_FDS" in refused(done)


async def test_it_says_when_it_serves_that_it_lives_and_when_it_stops(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        told.bind(str(tmp_path / "notify"))
        told.settimeout(30)
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        config = str(write_config(tmp_path))
        async with started(tmp_path, 0, listening, "--config", config, **variables) as process:
            await process.read_until("data folder")
            assert (await process.send("GET", "/health/ready")).status == 200
            assert told.recv(99) == b"READY=1\nWATCHDOG_USEC=200000"
            assert told.recv(99) == b"WATCHDOG=1"
            process.signal(15)
            assert await process.ended() == 0
        seen = set()
        while (state := told.recv(99)) != b"STOPPING=1":
            seen.add(state)
        assert seen <= {b"WATCHDOG=1"}
        assert process.stderr.count("ERROR") == 0
