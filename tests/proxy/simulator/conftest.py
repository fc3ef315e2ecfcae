"""A running simulator, and plain HTTP to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from simulator_wire import KEY, FakeClock, Wire
from tornado.httpclient import AsyncHTTPClient
from tornado.ioloop import IOLoop

from proxy.simulator import Simulator


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_wire(io_loop: IOLoop, clock: FakeClock) -> Iterator[Callable[..., Wire]]:
    """Starts simulators with the options given; all are stopped at the end."""
    made: list[Wire] = []

    def make(**options: Any) -> Wire:
        sim = Simulator(clock=clock, rng=random.Random(1), **options)
        sim.add_api_key(KEY, organization="Acme")
        io_loop.run_sync(sim.start)
        made.append(Wire(sim, AsyncHTTPClient(force_instance=True, max_body_size=1 << 30)))
        return made[-1]

    yield make
    for wire in made:
        wire.client.close()
        io_loop.run_sync(wire.sim.stop)


@pytest.fixture
def wire(make_wire: Callable[..., Wire]) -> Wire:
    return make_wire()


@pytest.fixture
def sim(wire: Wire) -> Simulator:
    return wire.sim
