"""A start that waits for the shared store, also if that goes away while the proxy loads what is there."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import AsyncIterator

import pytest

from handlers.server import Listening
from handlers.waiting import once_there
from proxy.errors import StorageError, StoreAway
from tests.service import TestClock

HERE = Listening("127.0.0.1", 0)


async def present() -> str | None:
    return None


async def test_a_store_that_goes_away_during_the_start_is_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, tries = TestClock(), []

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[str]:
        tries.append(clock.now())
        if len(tries) < 3:
            raise StoreAway("it has not answered within 250 ms")
        yield "parts"

    with caplog.at_level(logging.WARNING):
        async with once_there(opened, present, HERE, clock) as parts:
            assert parts == "parts"
    assert [later - earlier for earlier, later in itertools.pairwise(tries)] == [0.5, 0.5]
    assert caplog.text.count("went away") == 2


async def test_what_goes_wrong_later_is_not_tried_again() -> None:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[str]:
        yield "parts"

    with pytest.raises(StoreAway):
        async with once_there(opened, present, HERE, TestClock()):
            raise StoreAway("it does not answer")


async def test_a_store_that_will_not_do_ends_the_start() -> None:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[str]:
        raise StorageError("it has no append-only file")
        yield ""

    with pytest.raises(StorageError, match="no append-only file"):
        async with once_there(opened, present, HERE, TestClock()):
            pass
