"""Tables of the engine on a disk in memory."""

from __future__ import annotations

import pytest

from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKeys
from proxy.jobs import Jobs
from tests.disk import Disk, make_pool, make_tokens
from tests.service import TestClock


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def jobs() -> Jobs:
    """What the pool saves with."""
    return Jobs()


@pytest.fixture
def pool(disk: Disk, clock: TestClock, jobs: Jobs) -> Pool:
    return make_pool(disk, clock, jobs)


@pytest.fixture
def tokens(disk: Disk, clock: TestClock) -> ClientKeys:
    return make_tokens(disk, clock)
