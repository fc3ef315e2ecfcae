"""Several instances on one store: what one learns of resources and conversations, the others go by."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.instances import everywhere, instances
from tests.redis_server import RedisServer
from tests.service import Service, message, until

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
