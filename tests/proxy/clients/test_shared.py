"""Limits over several instances on one store: exact, given back, and what goes on without the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from msgspec import to_builtins
from tornado.ioloop import IOLoop

from proxy.clients.budgets import NO_LIMITS, Budgets, KeyLimits
from proxy.clients.keys import ClientKeys, Role, declared_key
from proxy.clients.sessions import Client, Sessions
from proxy.clients.shared import SharedLimits
from proxy.clients.shared_use import SharedUse
from proxy.clients.ticket import Ticket
from proxy.errors import RateLimited, StorageError, Unavailable
from proxy.feed import Feed
from proxy.jobs import Jobs
from proxy.storage.address import StoreAddress
from proxy.storage.redis import RedisLink
from proxy.storage.table import Table
from tests.disk import Disk, new_ids
from tests.limit_scripts import LimitScripts
from tests.redis_server import RedisServer
from tests.service import TestClock, until

KEY = declared_key("k", "cp-a-key-of-this-test", Role.USER, NO_LIMITS, ())
CLIENT = Client(KEY.id, "1.2.3.4", "curl/8")


@dataclass
class Instance:
    """One of the pool, as far as limits go."""

    name: str
    link: RedisLink
    clock: TestClock
    sessions: Sessions
    keys: ClientKeys
    budgets: Budgets
    limits: SharedLimits
    use: SharedUse
    jobs: Jobs
    lost: list[str] = field(default_factory=list)
    count: int = 0

    def ticket(self, limits: KeyLimits = NO_LIMITS, *, slot: bool = False, counts: bool = True) -> Ticket:
        self.count += 1
        id = f"{self.name}-{self.count}"
        place = self.sessions.enter(CLIENT, limited=slot, cut=lambda: None, lost=lambda: self.lost.append(id))
        ticket = self.limits.ticket(id, KEY.id, limits, place, counts=counts)
        assert ticket is not None
        return ticket

    async def admit(
        self,
        limits: KeyLimits = NO_LIMITS,
        *,
        slot: bool = False,
        tokens: int | None = None,
        usd: float = 0.0,
    ) -> Ticket:
        ticket = self.ticket(limits, slot=slot)
        await self.limits.admit(ticket, tokens=tokens, cost_usd=usd)
        return ticket

    async def end(self, ticket: Ticket, tokens: int = 0, usd: float = 0.0) -> None:
        ticket.place.leave()
        self.limits.settle(ticket, tokens=tokens, cost_usd=usd)
        await self.limits.save()

    def used(self) -> tuple[object, ...]:
        view, use = self.budgets.view(KEY.id), self.keys.use(KEY.id)
        assert use is not None
        return view["tokens_today"], view["tokens_this_month"], view["cost_usd_today"], use.requests

    def meters(self, limits: KeyLimits) -> dict[str, tuple[float, float]]:
        return {
            each["limit"]: (each["used"], each["reserved"]) for each in self.budgets.meters(KEY.id, limits)
        }


class Pool:
    """Makes instances, and closes them."""

    def __init__(self, url: str, store: LimitScripts) -> None:
        self.url = url
        self.store = store
        self.made: list[Instance] = []

    def instance(
        self, *, slots: int = 1, queue_timeout_s: float = 0.0, timeout_s: float = 5.0, poll_s: float = 60.0
    ) -> Instance:
        clock, jobs, feed, name = TestClock(), Jobs(), Feed(), f"ins_{len(self.made)}"
        link = RedisLink(StoreAddress.read(self.url), name="tests", clock=clock, timeout_s=timeout_s)
        sessions = Sessions(
            {},
            enabled=True,
            max_concurrent=slots,
            queue_timeout_s=queue_timeout_s,
            ttl_s=300,
            clock=clock,
            feed=feed,
            new_id=new_ids(),
        )
        keys = ClientKeys(
            Table("tokens", [], record=lambda key: {}, storage=Disk(), jobs=jobs),
            {},
            clock=clock,
            feed=feed,
            new_id=new_ids(),
            declared=[KEY],
        )
        budgets = Budgets({}, clock=clock)
        limits = SharedLimits(
            link,
            instance=name,
            sessions=sessions,
            jobs=jobs,
            clock=clock,
            poll_s=poll_s,
        )
        use = SharedUse(link, keys, budgets, instance=name, feed=feed, clock=clock)
        self.made.append(Instance(name, link, clock, sessions, keys, budgets, limits, use, jobs))
        return self.made[-1]

    def move(self, seconds: float) -> None:
        """Set the time forward for all."""
        self.store.move(seconds)
        for each in self.made:
            each.clock.advance(seconds)

    async def close(self) -> None:
        for each in self.made:
            await each.jobs.close()
            await each.link.close()


@pytest.fixture
def pool(redis_server: RedisServer, store: LimitScripts, io_loop: IOLoop) -> Iterator[Pool]:
    pool = Pool(redis_server.url, store)
    yield pool
    io_loop.run_sync(pool.close)


@asynccontextmanager
async def refused(text: str) -> AsyncIterator[None]:
    with pytest.raises(RateLimited, match=text):
        yield


# ---- over instances


@pytest.mark.parametrize(
    ("limits", "text", "wait_s"),
    [
        (KeyLimits(concurrent_requests=2), "this key has 2 requests in flight", 1),
        (KeyLimits(requests_per_minute=2), "this key may send 2 requests a minute", 60),
        (KeyLimits(tokens_per_day=20), "the token budget of this key for the day is held", 1),
        (KeyLimits(cost_usd_per_month=2.0), "the cost budget of this key for the month is held", 1),
    ],
)
async def test_a_limit_holds_over_instances_to_the_unit(
    pool: Pool, limits: KeyLimits, text: str, wait_s: float
) -> None:
    one, two, three = (pool.instance() for _ in range(3))
    for each in (one, two):
        await each.admit(limits, tokens=10, usd=1.0)
    with pytest.raises(RateLimited, match=text) as caught:
        await three.admit(limits, tokens=1, usd=1e-9)
    assert (caught.value.type, caught.value.retry_after_s) == ("rate_limit_error", wait_s)


@pytest.mark.parametrize(
    ("limits", "text", "wait_s"),
    [
        (KeyLimits(tokens_per_day=20), "the token budget of this key for the day is spent", 57_600),
        (KeyLimits(cost_usd_per_month=2.0), "resets 2027-02-01T00:00:00.000Z", 1_440_000),
    ],
)
async def test_a_budget_is_spent_once_what_was_reserved_is_used(
    pool: Pool, limits: KeyLimits, text: str, wait_s: float
) -> None:
    one, two, three = (pool.instance() for _ in range(3))
    for each in (one, two):
        await each.end(await each.admit(limits, tokens=10, usd=1.0), tokens=10, usd=1.0)
    with pytest.raises(RateLimited, match=text) as caught:
        await three.admit(limits, tokens=1, usd=1e-9)
    assert (caught.value.type, caught.value.retry_after_s) == ("billing_error", wait_s)


@pytest.mark.parametrize("told", [True, False])
async def test_a_slot_that_is_freed_elsewhere_goes_to_who_has_waited_longest(pool: Pool, told: bool) -> None:
    one, two = (pool.instance(queue_timeout_s=5, poll_s=60 if told else 0.01) for _ in range(2))
    if told:
        for each in (one, two):
            each.limits.listen()
    first, order = await one.admit(slot=True), []

    async def wait(at: Instance, name: str) -> None:
        ticket = await at.admit(slot=True)
        order.append(name)
        await at.end(ticket)

    waiting = []
    for at, name in ((two, "a"), (one, "b"), (two, "c")):
        waiting.append(asyncio.create_task(wait(at, name)))
        await until(lambda: len(pool.store.left_of("queue:")) == len(waiting))
        pool.move(0.001)
    assert order == []
    await one.end(first)
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "c"] and pool.store.left() == set()


async def test_who_waits_for_too_long_or_leaves_holds_nothing(pool: Pool) -> None:
    one, two = pool.instance(queue_timeout_s=5), pool.instance(queue_timeout_s=0.02)
    first, late = await one.admit(slot=True), two.ticket(slot=True)
    async with refused("this client has 1 requests in flight"):
        await two.limits.admit(late)
    await two.end(late)
    leaving = one.ticket(slot=True)
    task = asyncio.create_task(one.limits.admit(leaving))
    await until(lambda: pool.store.left_of("queue:"))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await one.end(leaving)
    assert pool.store.left() == {"open:ins_0", "running:" + KEY.id, *pool.store.left_of("slots:")}
    await one.end(first)
    assert pool.store.left() == set()


async def test_a_request_whose_client_leaves_while_it_is_asked_for_holds_nothing(pool: Pool) -> None:
    one = pool.instance()
    for turns in range(6):
        ticket = one.ticket(KeyLimits(concurrent_requests=1), slot=True)
        task = asyncio.create_task(one.limits.admit(ticket))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await one.end(ticket)
        assert pool.store.left() == set()
    # Nor leaves it anything: whoever comes and goes could fill the store.
    assert pool.store.left_of("done:") == set()


async def test_the_next_request_finds_what_the_last_one_held(pool: Pool) -> None:
    one, limits = pool.instance(), KeyLimits(concurrent_requests=1)
    for _ in range(20):
        ticket = await one.admit(limits, slot=True)
        ticket.place.leave()
        one.limits.settle(ticket, tokens=0, cost_usd=0.0)
    await one.limits.save()
    assert pool.store.left() == set()


# ---- instances that die


async def test_what_a_dead_instance_held_comes_back_and_its_slots_with_it(pool: Pool) -> None:
    one, two = pool.instance(), pool.instance()
    limits = KeyLimits(concurrent_requests=1, tokens_per_day=10)
    for each in (one, two):
        await each.limits.renew()
    lost = await one.admit(limits, slot=True, tokens=10)
    pool.store.die("ins_0")
    await two.limits.renew()
    mine = await two.admit(limits, slot=True, tokens=10)
    await two.end(mine)
    await one.end(lost, tokens=7)  # it stood still, and goes on
    await two.use.exchange()
    assert two.used() == (7, 7, 0.0, 0) and pool.store.left() == set()


async def test_a_request_that_was_given_back_meanwhile_is_not_admitted_any_more(pool: Pool) -> None:
    one, two = pool.instance(), pool.instance()
    ticket = await one.admit(KeyLimits(tokens_per_day=10))
    pool.store.die("ins_0")
    await two.limits.renew()
    with pytest.raises(Unavailable, match="lost sight"):
        await one.limits.admit(ticket, tokens=5)


@pytest.mark.parametrize("limits", [KeyLimits(concurrent_requests=1), NO_LIMITS])
async def test_who_was_taken_for_dead_ends_what_has_no_place_any_more(pool: Pool, limits: KeyLimits) -> None:
    one, two = pool.instance(), pool.instance()
    for each in (one, two):
        await each.limits.renew()
    lost = await one.admit(limits, slot=True)
    pool.store.die("ins_0")
    await two.limits.renew()
    mine = await two.admit(limits, slot=True)
    await one.limits.renew()
    assert one.lost == [lost.id] and two.lost == []
    await one.end(lost)
    async with refused("has 1 requests in flight"):
        await one.admit(limits, slot=True)
    await two.end(mine)
    assert pool.store.left() == set()


async def test_who_was_taken_for_dead_has_its_free_places_back(pool: Pool) -> None:
    one, two = pool.instance(), pool.instance()
    limits = KeyLimits(concurrent_requests=1, tokens_per_day=10)
    for each in (one, two):
        await each.limits.renew()
    mine = await one.admit(limits, slot=True, tokens=8)
    pool.store.die("ins_0")
    await two.limits.renew()
    await one.limits.renew()
    assert one.lost == []
    async with refused("1 requests in flight"):
        await two.admit(limits)
    async with refused("token budget of this key"):
        await two.admit(KeyLimits(tokens_per_day=10), tokens=3)
    await one.end(mine, tokens=7)
    await two.use.exchange()
    assert two.used() == (7, 7, 0.0, 0) and pool.store.left() == set()


# ---- a store that has lost the last moment, as by a failover


async def test_another_store_admits_nothing_before_all_have_told_it_what_they_hold(
    pool: Pool, redis_server: RedisServer
) -> None:
    one, two = pool.instance(), pool.instance()
    limits = KeyLimits(requests_per_minute=3, concurrent_requests=2)
    for each in (one, two):
        await each.limits.renew()
    with forgetful(redis_server):
        short = await one.admit(limits)
        await one.end(short)
        await two.admit(limits)
    await back(one)
    with pytest.raises(Unavailable):
        await one.admit(limits)
    assert pool.store.client.smembers("{tests}:awaited") == {b"ins_1"}
    await back(two)
    await one.admit(limits)
    assert pool.store.used(KEY.id)["minute"] == 3 and one.lost == two.lost == []
    async with refused("2 requests in flight"):
        await one.admit(limits)
    async with refused("3 requests a minute"):
        await one.admit(KeyLimits(requests_per_minute=3))


@pytest.mark.parametrize("admitted_before", [True, False])
async def test_what_another_store_has_not_heard_of_counts_once(
    pool: Pool, redis_server: RedisServer, admitted_before: bool
) -> None:
    one = pool.instance()
    limits = KeyLimits(concurrent_requests=5, tokens_per_day=100)
    await one.limits.renew()
    await one.end(await one.admit(limits, tokens=50), tokens=10)
    begun = await one.admit(limits, slot=True, tokens=20) if admitted_before else None
    with forgetful(redis_server):
        ended = begun or await one.admit(limits, slot=True, tokens=20)
        await one.end(ended, tokens=15)
        runs = await one.admit(limits, slot=True, tokens=30)
    await back(one)
    await one.use.exchange()
    assert one.used()[0] == 25
    assert one.meters(limits)["tokens_per_day"] == (25, 30)
    assert one.meters(limits)["concurrent_requests"] == (1, 0)
    await one.end(runs, tokens=30)
    await one.use.exchange()
    assert one.used()[0] == 55 and pool.store.left() == set()


@contextmanager
def forgetful(server: RedisServer) -> Iterator[None]:
    """What the store is told in this block is lost: it starts again with what it had before, and is another server."""
    dump = server.path.with_name("dump.rdb")
    server.call("SAVE")
    before = dump.read_bytes()
    yield
    server.kill()
    dump.write_bytes(before)
    server.start()
    dump.unlink()


async def back(instance: Instance) -> None:
    """Return once an instance reaches the store again."""
    async with asyncio.timeout(5):
        while True:
            with suppress(StorageError):
                return await instance.limits.renew()
            instance.clock.advance(1)
            await asyncio.sleep(0)


# ---- sums


async def test_every_instance_shows_the_sums_over_all(pool: Pool) -> None:
    one, two = pool.instance(), pool.instance()
    limits = KeyLimits(
        requests_per_minute=9, concurrent_requests=9, tokens_per_day=100, cost_usd_per_month=9.0
    )
    for each in (one, two, two):
        each.keys.used(KEY)
        ticket = await each.admit(limits, tokens=10, usd=1.0)
        if each is one:
            await each.end(ticket, 7, 0.25)
    two.use.spend(KEY.id, tokens=5, cost_usd=0.5)
    assert two.used() == (5, 5, 0.5, 2)
    for each in (one, two, one):
        await each.use.exchange()
    for each in (one, two):
        assert each.used() == (12, 12, 0.75, 3)
        assert each.meters(limits) == {
            "requests_per_minute": (3, 0),
            "concurrent_requests": (2, 0),
            "tokens_per_day": (12, 20),
            "cost_usd_per_month": (0.75, 2.0),
        }
    pool.move(61)
    await one.use.exchange()
    assert one.meters(limits)["requests_per_minute"] == (0, 0)


async def test_what_is_told_twice_counts_once(pool: Pool, redis_server: RedisServer) -> None:
    one = pool.instance(timeout_s=0.05)
    await one.use.exchange()
    one.keys.used(KEY)
    one.use.spend(KEY.id, tokens=5, cost_usd=0.5)
    redis_server.pause()
    with pytest.raises(StorageError):
        await one.use.exchange()
    redis_server.resume()
    one.keys.used(KEY)
    assert one.used() == (5, 5, 0.5, 2)
    await until(lambda: pool.store.used(KEY.id)["requests"] == 1)  # it was not lost: only its answer was
    for _ in range(2):
        await one.use.exchange()
    assert one.used() == (5, 5, 0.5, 2) and pool.store.used(KEY.id)["day_tokens"] == 5


async def test_what_was_used_before_there_was_a_store_goes_on_and_is_taken_over_once(pool: Pool) -> None:
    one, before = pool.instance(), Budgets({}, clock=TestClock())
    before.know(KEY.id)
    before.spend(KEY.id, tokens=7, cost_usd=0.25)
    day, month = to_builtins(before.spent(KEY.id))
    counters = {
        KEY.id: {"requests": 3, "last_used_at": 1_799_999_999.5, "day": day, "month": month},
        "acc_1": {"requests": 9},
    }
    for _ in range(2):
        assert await one.use.adopt(counters) == [KEY.id]
        await one.use.exchange()
        assert one.used() == (7, 7, 0.25, 3)
        one.use.spend(KEY.id, tokens=0, cost_usd=0.0)
    assert await one.use.adopt({KEY.id: {"day": "damaged", "requests": -1}}) == [KEY.id]


async def test_a_deleted_key_is_forgotten(pool: Pool) -> None:
    one = pool.instance()
    made, _ = await one.keys.add("n")
    one.keys.used(made)
    await one.use.exchange()
    assert pool.store.used(made.id)["requests"] == 1
    await one.keys.remove(made.id)
    one.use.spend(made.id, tokens=5, cost_usd=0.0)
    await one.use.exchange()
    assert pool.store.used(made.id)["requests"] == 0 and pool.store.totals()[1] == 0


# ---- without the store


async def test_without_the_store_limited_keys_are_refused_and_others_have_their_slots_here(
    pool: Pool, redis_server: RedisServer
) -> None:
    one = pool.instance(slots=2, timeout_s=0.05)
    before = await one.admit(slot=True)
    redis_server.pause()
    limited = one.ticket(KeyLimits(requests_per_minute=5))
    with pytest.raises(Unavailable, match="share, and their store is away"):
        await one.limits.admit(limited)
    one.limits.settle(limited, tokens=0, cost_usd=0.0)
    after = await one.admit(slot=True)
    async with refused("this client has 2 requests in flight"):
        await one.admit(slot=True)
    assert one.limits.settle(after, tokens=5, cost_usd=0.0) is False
    before.place.leave()
    assert one.limits.settle(before, tokens=6, cost_usd=0.0) is True
    redis_server.resume()
    one.clock.advance(2)
    await until_saved(one)
    assert pool.store.left() == set() and pool.store.used(KEY.id)["day_tokens"] == 6


async def until_saved(one: Instance) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                return await one.limits.save()
            except StorageError:
                one.clock.advance(2)
                await asyncio.sleep(0)


async def test_a_store_that_was_emptied_counts_what_ends_after_it(pool: Pool) -> None:
    one = pool.instance()
    ticket = await one.admit(KeyLimits(tokens_per_day=10), tokens=5)
    pool.store.client.flushall()
    pool.store.move(0)
    await one.end(ticket, tokens=4)
    assert pool.store.used(KEY.id)["day_tokens"] == 4 and pool.store.left() == set()
