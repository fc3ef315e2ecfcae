"""What every test gets without asking, and what it may ask for."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tornado.ioloop import IOLoop

from tests.limit_scripts import limit_store  # noqa: F401 - a fixture
from tests.redis_server import redis_of_worker, redis_server  # noqa: F401 - fixtures

# A proxy waits for the disk ten times before it serves. Memory takes what is on disk as well as a disk does where
# no more than a process is killed, and does not keep its tests waiting.
MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own in it
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def io_loop() -> Iterator[IOLoop]:
    """Each test's own event loop; what the test leaves running on it is cancelled at its end.

    In place of pytest-tornasync's, which calls what Tornado 6.2 deprecated, and which a test has to ask for:
    without it, coroutine tests would share one loop that nobody closes.
    """
    with asyncio.Runner() as runner:
        runner.get_loop()
        yield IOLoop.current()


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else is given."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that a test may listen there later
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
