"""When a write counts as done that has to be on replicas: asked of a store that the test plays."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import StorageError
from proxy.storage.durability import LAG_S, Durability
from proxy.storage.redis_lane import Lane
from proxy.storage.redis_wire import Part, Reply


class Played(Lane):
    """A connection to a primary with these replicas, each by its lag in seconds; `reached` is what WAIT answers."""

    def __init__(self, *lags: int, reached: int) -> None:
        self.lags = lags
        self.reached = reached
        self.connections = 1
        self.asked: list[Part] = []

    def call(self, *command: Part) -> asyncio.Future[Reply]:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if command[0] == "WAIT":
            self.asked.append(command[1])
            answer.set_result(min(self.reached, int(command[1])))
        else:
            lines = [
                f"slave{n}:ip=127.0.0.1,port=1,state=online,offset=1,lag={lag}\r\n"
                for n, lag in enumerate(self.lags)
            ]
            answer.set_result(("role:master\r\n" + "".join(lines)).encode())
        return answer


async def confirm(durability: Durability, lane: Lane) -> None:
    confirmed = durability.confirm(lane)
    assert confirmed is not None
    await confirmed


async def test_all_replicas_that_keep_up_are_waited_for() -> None:
    durability, lane = Durability("replica"), Played(0, 1, reached=2)
    await confirm(durability, lane)
    await confirm(durability, lane)
    assert lane.asked == [1, 2, 2]  # how many there are, it learns by the first answer
    lane.reached = 1
    with pytest.raises(StorageError, match="not on all its replicas"):
        await confirm(durability, lane)


async def test_one_that_is_far_behind_is_not_waited_for() -> None:
    await confirm(Durability("replica"), Played(0, LAG_S + 1, reached=1))


async def test_one_that_went_away_is_not_missed_by_the_write_that_waited_for_it() -> None:
    durability, lane = Durability("replica"), Played(0, 0, reached=2)
    await confirm(durability, lane)
    lane.lags, lane.reached = (0,), 1
    await confirm(durability, lane)
    await confirm(durability, lane)
    assert lane.asked == [1, 2, 2, 1]


@pytest.mark.parametrize("lags", [(), (LAG_S + 1,)])
async def test_without_a_replica_nothing_is_done(lags: tuple[int, ...]) -> None:
    with pytest.raises(StorageError, match="not on a replica"):
        await confirm(Durability("replica"), Played(*lags, reached=0))


async def test_what_another_connection_says_does_not_count() -> None:
    """After a failover between the two questions the new primary's replicas have everything that it knows of."""

    class Broken(Played):
        def call(self, *command: Part) -> asyncio.Future[Reply]:
            if command == ("WAIT", 2, 200):
                self.connections += 1
            return super().call(*command)

    with pytest.raises(StorageError, match="not on all"):
        await confirm(Durability("replica"), Broken(0, 0, reached=2))
