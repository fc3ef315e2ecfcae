"""Several instances on one store: what one learns of resources and conversations, the others go by."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy.accounts.conversations import Conversations
from proxy.accounts.resources import Resources
from tests.instances import everywhere, instances
from tests.proxy.storage.test_redis_store import instances as stores
from tests.redis_server import RedisServer
from tests.service import Service, TestClock, message, until

VERSION = [("anthropic-version", "2023-06-01"), ("content-type", "application/json")]
UNKNOWN = "/v1/messages/batches/msgbatch_01ABCDEFGHIJKLMNOPQRSTUV"
BATCH = b'{"requests":[{"custom_id":"a","params":%s}]}' % message()


async def two_accounts(services: list[Service]) -> None:
    for name in ("a", "b"):
        account, _ = await services[0].add_account(name)
        await everywhere(services, account.id)


async def test_a_resource_is_found_at_every_instance_at_once(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with instances(tmp_path, redis_server) as services:
        await two_accounts(services)
        made = [await services[0].send("POST", "/v1/messages/batches", VERSION, BATCH) for _ in range(4)]
        assert {each.status for each in made} == {200}
        for answer in made:
            path = f"/v1/messages/batches/{answer.json()['id']}"
            found = await asyncio.gather(*(each.send("GET", path, VERSION) for each in services))
            assert {each.status for each in found} == {200}


async def test_what_nobody_has_is_not_found(tmp_path: Path, redis_server: RedisServer) -> None:
    async with instances(tmp_path, redis_server, 2) as services:
        await two_accounts(services)
        assert (
            await services[1].send("GET", "/v1/messages/batches/msgbatch_01ABCDEFGHIJKLMNOPQRSTUV")
        ).status == 404


async def test_a_group_has_one_home_at_every_instance(tmp_path: Path, redis_server: RedisServer) -> None:
    async with instances(tmp_path, redis_server) as services:
        await two_accounts(services)
        answer = await services[0].send("POST", "/v1/messages/batches", VERSION, BATCH)
        key_id = next(key.id for key in services[0].parts.keys if key.name == "tests")
        home = services[0].parts.affinity.resources.home(key_id)
        assert answer.status == 200 and home is not None
        for service in services[1:]:
            await until(lambda service=service: service.parts.affinity.resources.home(key_id) == home)


async def test_a_conversation_goes_on_with_its_account_at_another_instance(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with instances(tmp_path, redis_server, 2) as services:
        await two_accounts(services)
        said = [{"role": "user", "content": "one"}]
        first = await services[0].send("POST", "/v1/messages", VERSION, message(messages=said))
        await services[0].parts.affinity.conversations.save()
        await until(lambda: len(services[1].parts.affinity.conversations) > 0)
        for turn in range(6):
            said += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": f"more {turn}"}]
            service = services[(turn + 1) % 2]
            answer = await service.send("POST", "/v1/messages", VERSION, message(messages=said))
            assert answer.status == 200
            known = len(services[turn % 2].parts.affinity.conversations)
            await service.parts.affinity.conversations.save()
            await until(
                lambda turn=turn, known=known: len(services[turn % 2].parts.affinity.conversations) > known
            )
        assert first.status == 200
        asked = [entry.credential for entry in services[0].simulator.ledger.inference()]
        assert len(asked) == 7 and len(set(asked)) == 1


async def test_whose_turn_counts_is_the_same_at_every_instance_if_two_go_on_with_it_at_once(
    redis_server: RedisServer,
) -> None:
    clock, name = TestClock(), ("red", "s")
    async with stores(redis_server, 3) as three:
        places = [Conversations(store, clock=clock, ttl_s=3600) for store in three]
        for each in places:
            await each.load()
        for each, account in zip(places, ("acc_a", "acc_b"), strict=False):
            each.turn([name], account, after=None)
        for each in places:
            await each.save()
        for store in three:
            await store.catch_up()
        assert [each.account_of([name]) for each in places] == ["acc_b"] * 3
        assert [each.lately.count("acc_b") for each in places] == [1, 1, 1]
        assert [each.lately.count() for each in places] == [1, 1, 1]


async def test_a_turn_that_is_not_told_yet_is_not_undone_by_what_was_told_before(
    redis_server: RedisServer,
) -> None:
    clock, name = TestClock(), ("red", "s")
    async with stores(redis_server, 2) as both:
        one, other = (Conversations(store, clock=clock, ttl_s=3600) for store in both)
        for each in (one, other):
            await each.load()
            each.turn([name], "acc_a", after=None)
            await each.save()
        one.turn([name], "acc_b", after=name)
        await both[0].catch_up()
        assert one.account_of([name]) == "acc_b"
        await one.save()
        for store, each in zip(both, (one, other), strict=True):
            await store.catch_up()
            assert (each.account_of([name]), each.lately.count("acc_b")) == ("acc_b", 1)


async def test_a_group_has_one_home_if_two_instances_give_it_one_at_once(redis_server: RedisServer) -> None:
    async with stores(redis_server, 3) as three:
        places = [Resources(store, clock=TestClock()) for store in three]
        for each in places:
            await each.load()
        for each, account in zip(places, ("acc_a", "acc_b"), strict=False):
            each.house("red", account)
            each.learn(["file_1"], account, "red", "files")
        for each in places:
            await each.save()
        for each in places:
            await each.catch_up()
        assert [each.home("red") for each in places] == ["acc_b"] * 3
        assert [each.homes_in("acc_a") for each in places] == [0, 0, 0]
        assert [each.count_of("acc_b") for each in places] == [1, 1, 1]
