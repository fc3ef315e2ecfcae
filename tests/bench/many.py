"""What a store has to do for many instances, with nothing but their storage: no proxy, no upstream.

    PYTHONPATH=. python -m tests.bench.many [--instances 100] [--accounts 10000] [--requests 200]

In one process, so many instances open the store and do what a proxy does there by itself: hear of changes and of free
slots, renew their lease, exchange sums. Then they admit and settle requests, and change records. The store's own
processor time is measured in each phase, and what it can carry is reckoned from that. The time to converge is that
until the last instance has heard of a change, all in this one process: an upper bound.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.accounts.account import Account, OAuthTokens, load_accounts, read_account
from proxy.clients.budgets import KeyLimits
from proxy.clients.sessions import Client, Sessions
from proxy.clients.shared import LEASE_S, SharedLimits
from proxy.clock import SystemClock
from proxy.feed import Feed
from proxy.jobs import Jobs
from proxy.storage.address import StoreAddress
from proxy.storage.protocols import Snapshot, Stored
from proxy.storage.redis import RedisLink
from proxy.storage.redis_store import RedisStore
from proxy.storage.shared_table import open_table
from tests.redis_server import RedisServer, redis_process

PHASE_S = 10.0
BATCH = 500


class Heard:
    """Counts what it hears of. Implements Follower."""

    def __init__(self) -> None:
        self.count = 0

    def changed(self, id: str, stored: Stored) -> None:
        self.count += 1

    def compare(self, snapshot: Snapshot) -> None:
        pass


@dataclass
class Instance:
    """What one proxy has of the store."""

    store: RedisStore
    limits: SharedLimits
    sessions: Sessions
    heard: Heard
    jobs: Jobs


@dataclass(frozen=True)
class Taken:
    """What the store did in a phase, per second."""

    commands: float
    cpu: float
    """Share of a core."""
    bytes_out: float


async def instance(number: int, server: RedisServer) -> Instance:
    clock, jobs, heard = SystemClock(), Jobs(), Heard()
    link = RedisLink(StoreAddress.read(server.url), clock=clock, timeout_s=30)
    store = await RedisStore.open(link, instance=f"ins_{number:016x}", clock=clock)
    limits = SharedLimits(
        store.link, instance=store.instance, slots=10, queue_timeout_s=60, jobs=jobs, clock=clock
    )
    sessions = Sessions(
        {},
        feed=Feed(),
        enabled=True,
        max_concurrent=10,
        queue_timeout_s=60,
        ttl_s=300,
        clock=clock,
        new_id=lambda kind: f"{kind}_{number}",
    )
    store.follow("accounts", heard)
    store.listen()
    await limits.renew()
    limits.listen()
    jobs.every("renew", LEASE_S / 3, limits.renew, jitter=0.5)
    jobs.every("listen", 1.0, limits.listen, jitter=0.5)
    return Instance(store, limits, sessions, heard, jobs)


def account(number: int, now: float) -> Account:
    """One as after a login."""
    token = "x" * 90
    tokens = OAuthTokens(
        f"sk-ant-oat01-{number:06d}-{token}", f"sk-ant-ort01-{number:06d}-{token}", now + 28800, "user"
    )
    return Account(
        id=f"acc_{number:016x}", name=f"account {number}", credential=tokens, created_at=now, updated_at=now
    )


async def during(server: RedisServer, work: Callable[[], Awaitable[object]]) -> Taken:
    """What the store does while `work` runs."""
    before, began = _numbers(server), time.monotonic()
    await work()
    seconds = time.monotonic() - began
    return Taken(*((new - old) / seconds for old, new in zip(before, _numbers(server), strict=True)))


def _numbers(server: RedisServer) -> tuple[float, float, float]:
    text = b"".join(server.call("INFO", name) for name in ("stats", "cpu")).decode()
    found = dict(re.findall(r"(\w+):([\d.]+)\r", text))
    cpu = float(found["used_cpu_user"]) + float(found["used_cpu_sys"])
    return float(found["total_commands_processed"]), cpu, float(found["total_net_output_bytes"])


async def requests(members: list[Instance], rate: float) -> None:
    """So many limited requests a second for PHASE_S, of ten clients and keys at each instance."""
    limits, end, number = (
        KeyLimits(requests_per_minute=1_000_000, tokens_per_day=10**12),
        time.monotonic() + PHASE_S,
        0,
    )
    running: set[asyncio.Task[None]] = set()

    async def one(member: Instance, number: int) -> None:
        key = f"key_{number % 997}"
        place = member.sessions.enter(Client(key, "10.0.0.1", "agent"), limited=True, cut=lambda: None)
        ticket = member.limits.ticket(f"req_{number}", key, limits, place, counts=True)
        assert ticket is not None
        await member.limits.admit(ticket, tokens=100, cost_usd=0.001)
        member.limits.settle(ticket, tokens=50, cost_usd=0.0005)
        place.leave()

    while time.monotonic() < end:
        task = asyncio.create_task(one(members[number % len(members)], number))
        running.add(task)
        task.add_done_callback(running.discard)
        number += 1
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*running)


async def change(members: list[Instance], number: int) -> float:
    """Change one record, and return after how many seconds the last one has heard of it."""
    counts = [each.heard.count for each in members[1:]]
    began = time.monotonic()
    stored = await members[0].store.get("accounts", f"acc_{number:016x}")
    assert stored.record is not None
    await members[0].store.put(
        "accounts", f"acc_{number:016x}", stored.record | {"note": str(began)}, known=stored.generation
    )
    while not all(  # noqa: ASYNC110 - whoever is last
        each.heard.count > count for each, count in zip(members[1:], counts, strict=True)
    ):
        await asyncio.sleep(0)
    return time.monotonic() - began


async def fill(store: RedisStore, count: int) -> None:
    now = time.time()
    for begin in range(0, count, BATCH):
        some = range(begin, min(begin + BATCH, count))
        await asyncio.gather(
            *(store.put("accounts", account(n, now).id, account(n, now).record()) for n in some)
        )


async def measure(options: argparse.Namespace, server: RedisServer) -> None:
    count = options.instances
    members = [await instance(0, server)]
    began = time.monotonic()
    await fill(members[0].store, options.accounts)
    stored = int(re.findall(rb"used_memory:(\d+)", server.call("INFO", "memory"))[0])
    wrote_s = time.monotonic() - began
    print(f"{options.accounts} accounts: {stored / 1e6:.0f} MB in the store, written in {wrote_s:.1f} s")
    before, began = _held_mb(), time.monotonic()
    table = await open_table(
        "accounts",
        load=load_accounts,
        record=Account.record,
        read=read_account,
        storage=members[0].store,
        jobs=Jobs(),
    )
    grown, took_s = _held_mb() - before, time.monotonic() - began
    print(f"  an instance holds the {len(table)} in {grown:.0f} MB, loaded in {took_s:.1f} s")
    members += [await instance(number, server) for number in range(1, count)]

    idle = await during(server, lambda: asyncio.sleep(PHASE_S))
    print(f"{count} instances, idle: {_told(idle)}")
    busy = await during(server, lambda: requests(members, options.requests))
    each_us = (busy.cpu - idle.cpu) / options.requests * 1e6
    print(f"{options.requests} limited requests a second: {_told(busy)}; {each_us:.0f} µs each")
    times: list[float] = []

    async def changes() -> None:
        for number in range(100):
            times.append(await change(members, number))

    began = time.monotonic()
    changing = await during(server, changes)
    rate = len(times) / (time.monotonic() - began)
    change_us = max(0.0, changing.cpu - idle.cpu) / rate * 1e6
    times.sort()
    print(
        f"changes, one after the other: {_told(changing)}; {change_us:.0f} µs each at the store; all have heard after "
        f"{times[50] * 1e3:.0f} ms, at most {times[-1] * 1e3:.0f} ms"
    )
    left = 0.8 - idle.cpu
    print(f"reckoned, with 80 % of the store's core: {left / each_us * 1e6:.0f} limited requests a second,")
    print(f"  or {left / max(change_us, 1) * 1e6:.0f} changes a second")
    for member in members:
        await member.jobs.close()
        await member.store.close()


def _held_mb() -> float:
    """What this process has in memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1e6


def _told(taken: Taken) -> str:
    return f"{taken.commands:.0f} commands/s, {taken.cpu:.1%} of a core, {taken.bytes_out / 1e3:.0f} KB/s out"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.many", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--requests", type=float, default=200, help="a second over all (%(default)s)")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with redis_process("--maxclients", "10000") as server:
        asyncio.run(measure(options, server))
    return 0


if __name__ == "__main__":
    sys.exit(main())
