"""A running simulator."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from proxy.simulator import Simulator
from tests.proxy.simulator.http import KEY, Client, FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_client(io_loop: IOLoop, clock: FakeClock) -> Iterator[Callable[..., Awaitable[Client]]]:
    """Starts simulators with the options given; all are stopped at the end."""
    made: list[Simulator] = []

    async def make(**options: Any) -> Client:
        sim = Simulator(clock=clock, rng=random.Random(1), **options)
        sim.add_api_key(KEY, organization="Acme")
        await sim.start()
        made.append(sim)
        return Client(sim)

    yield make
    for sim in made:
        io_loop.run_sync(sim.stop)


@pytest.fixture
def client(io_loop: IOLoop, make_client: Callable[..., Awaitable[Client]]) -> Client:
    return io_loop.run_sync(make_client)


@pytest.fixture
def sim(client: Client) -> Simulator:
    return client.sim
