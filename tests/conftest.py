"""What every test gets without asking."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import settings
from tornado.ioloop import IOLoop

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
