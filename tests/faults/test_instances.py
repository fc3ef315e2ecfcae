"""Three instances under load while one dies, stands still or is cut off, or the store does: nobody is told an error
that another instance would not heal, no refresh token is used twice, no limit is overrun, and all agree afterwards.

`INSTANCE_ROUNDS=20` makes each fault so often, and for as long as it lasts in earnest: 20 s where an instance stands
still. In the suite each comes once, for a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.trio import BETA, CONCURRENT, PER_MINUTE, ROUNDS, TOKENS, Trio, agreed, secret, trio
from tests.redis_server import RedisServer, redis_process
from tests.sentinels import is_primary, on_port, sentinel
from tests.service import until
from tests.wire import fetch

IN_EARNEST = ROUNDS >= 10
STILL_S = 20.0 if IN_EARNEST else 1.0
AWAY_S = 5.0 if IN_EARNEST else 1.0
BEHIND_S = 0.3
BETWEEN_S = 1.0 if IN_EARNEST else 0.5
LEASE_S = 15.0

Server = tuple[RedisServer, int]

Fault = Callable[[Trio, random.Random], Awaitable[None]]


async def killed(three: Trio, rng: random.Random) -> None:
    """kill -9, and a new process in its place."""
    member = rng.choice(three.members)
    await member.kill()
    await asyncio.sleep(BETWEEN_S)
    await member.start()


async def standing_still(three: Trio, rng: random.Random) -> None:
    member = rng.choice(three.members)
    member.pause()
    try:
        await asyncio.sleep(STILL_S)
        if STILL_S > LEASE_S:
            three.watch.excuse()
    finally:
        member.resume()


async def cut_off(three: Trio, rng: random.Random) -> None:
    """One instance and the store do not reach each other: they are told so, or nobody is."""
    cable = three.members[1].cable
    assert cable is not None
    rng.choice([cable.cut, cable.hang])()
    await asyncio.sleep(AWAY_S)
    cable.mend()


async def slowed_down(three: Trio, rng: random.Random) -> None:
    """Each answer of the store takes 200 ms to one instance."""
    cable = three.members[1].cable
    assert cable is not None
    cable.delay_s = 0.1
    await asyncio.sleep(AWAY_S)
    cable.delay_s = 0.0


async def store_restarted(three: Trio, rng: random.Random) -> None:
    """It is killed, and reads its append-only file."""
    three.server.kill()
    await asyncio.sleep(BETWEEN_S)
    three.server.start()


FAULTS: list[Fault] = [killed, standing_still, cut_off, slowed_down, store_restarted]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", FAULTS)
async def test_of_three_instances(fault: Fault, tmp_path: Path) -> None:
    rotation = "grace" if fault is killed else "strict"
    on_disk = ("--appendonly", "yes", "--appendfsync", "always")
    with redis_process(*on_disk) as server:
        async with trio(tmp_path, server, rotation=rotation) as three:
            await rounds(three, fault)


@contextlib.contextmanager
def watched_store() -> Iterator[tuple[str, list[Server]]]:
    """The URL of a store with two replicas and a Sentinel; its servers with their ports, first the primary."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(on_port()) for _ in range(3)]
        (_, port), *replicas = servers
        for server, _ in replicas:
            server.call("REPLICAOF", "127.0.0.1", str(port))
        quick = ("down-after-milliseconds 500", "failover-timeout 3000")
        watching = stack.enter_context(sentinel(port, *quick))
        yield f"redis+sentinel://127.0.0.1:{watching}/pool", servers


def whole(servers: list[Server]) -> bool:
    """Whether one is the primary, and all others are its replicas and have what it has."""
    primaries = [server for server, _ in servers if is_primary(server)]
    online = [server.call("INFO", "replication").count(b"state=online") for server in primaries]
    return online == [len(servers) - 1]


@pytest.mark.timeout(3600)
async def test_of_three_instances_whose_store_fails_over(tmp_path: Path) -> None:
    with watched_store() as (url, servers):

        async def failing_over(three: Trio, rng: random.Random) -> None:
            """The primary is killed while a replica is behind. One of both takes its place."""
            await until(lambda: whole(servers), 60)
            (killed,) = (each for each, _ in servers if is_primary(each))
            others = [each for each in servers if each[0] is not killed]
            behind = rng.choice(others)[0]
            behind.pause()
            await asyncio.sleep(BEHIND_S)
            killed.kill()
            behind.resume()
            await until(lambda: any(is_primary(server) for server, _ in others), 30)
            (port,) = (port for server, port in others if is_primary(server))
            killed.start()
            killed.call("REPLICAOF", "127.0.0.1", str(port))  # Sentinel would say so within ten seconds

        await until(lambda: whole(servers), 30)
        async with trio(tmp_path, servers[0][0], url=url, STORAGE__DURABILITY="replica") as three:
            await rounds(three, failing_over)


async def rounds(three: Trio, fault: Fault) -> None:
    """Make the fault in so many rounds, and look at everything after each."""
    rng, clock = random.Random(int(os.environ.get("INSTANCE_SEED", "1"))), three.watch.simulator.clock
    began_at = []
    for _ in range(ROUNDS):
        await asyncio.sleep(BETWEEN_S * rng.random())
        began_at.append(clock.monotonic())
        await fault(three, rng)
        lasted_s = clock.monotonic() - began_at[-1]
        await asyncio.sleep(BETWEEN_S)
        await three.load.pause()
        assert three.load.failures == []
        await agreed(three.members)
        await found_everywhere(three)
        assert three.watch.most["concurrent"] <= CONCURRENT
        assert three.watch.most_in(57 - lasted_s, "minute") <= PER_MINUTE
        assert three.load.tokens <= TOKENS
        for first, last in three.watch.tokens_used_twice():
            # The answer may have been on its way to a process that was killed then.
            assert fault is killed and any(first - 1 <= at <= last for at in began_at), (
                first,
                last,
                began_at,
            )
        three.load.go_on()
    print(fault.__name__, dict(sorted(three.load.counts.items())), dict(three.watch.most))


async def found_everywhere(three: Trio) -> None:
    """The newest files, at each instance."""
    for member in three.members:
        for id in three.load.files[-10:]:
            answer = await fetch(member.port, "GET", f"/v1/files/{id}", [BETA, ("x-api-key", secret("free"))])
            assert answer.status == 200, (member.number, answer.body)
