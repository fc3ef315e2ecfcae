"""Merged lists over three organizations of a simulator, beside an organization that has the same things alone."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from proxy.http.target import parse
from proxy.relay.lists import Lists
from proxy.relay.merge import Fetched
from proxy.simulator import Simulator
from tests.proxy.simulator.http import Client, FakeClock
from tests.proxy.simulator.uploads import FORM, form, skill_form
from tests.wire import Answer

Json = dict[str, Any]
ACCOUNTS = ("acc_1", "acc_2", "acc_3")
ALONE = "acc_alone"
THINGS = 26

Make = Callable[[Client, str], Awaitable[Answer]]


def batch() -> Json:
    message = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    return {"requests": [{"custom_id": "one", "params": message}]}


async def make_session(client: Client, key: str) -> Answer:
    agent = await client.send("POST", "/v1/agents", {"name": "a", "model": "claude-opus-5"}, credential=key)
    environment = await client.send("POST", "/v1/environments", {"name": "e"}, credential=key)
    named = {"agent": agent.json()["id"], "environment_id": environment.json()["id"]}
    return await client.send("POST", "/v1/sessions", named, credential=key)


def posts(path: str, body: Any, **headers: str) -> Make:
    return lambda client, key: client.send("POST", path, body, credential=key, **headers)


UPLOAD = form(("file", "a.txt", b"hello"))
ROUTES: dict[str, tuple[str, str, Make]] = {
    "files": ("/v1/files", "", posts("/v1/files", UPLOAD, content_type=FORM)),
    "files of old": (
        "/v1/files",
        "files-api-2025-04-14",
        posts("/v1/files", UPLOAD, content_type=FORM),
    ),
    "batches": ("/v1/messages/batches", "", posts("/v1/messages/batches", batch())),
    "skills": ("/v1/skills", "", posts("/v1/skills", skill_form(), content_type=FORM)),
    "skills of old": (
        "/v1/skills",
        "skills-2025-10-02",
        posts("/v1/skills", skill_form(), content_type=FORM),
    ),
    "agents": ("/v1/agents", "", posts("/v1/agents", {"name": "a", "model": "claude-opus-5"})),
    "sessions": ("/v1/sessions", "", make_session),
}


class Pool:
    """Three accounts in which a group and others have things; the group's are in `ALONE` too, under other ids."""

    def __init__(self, client: Client, path: str, beta: str) -> None:
        self.client = client
        self.lists = Lists()
        self.numbers: dict[str, int] = {}  # by id
        self.owners: set[tuple[str, str]] = set()
        self.path = path
        self._beta = beta

    async def fetch(self, account_id: str, target: str) -> Fetched:
        answer = await self.client.get(target, credential=account_id, anthropic_beta=self._beta)
        return Fetched(answer.status, list(answer.headers), answer.body)

    def owns(self, account_id: str, item_id: str) -> bool:
        return (account_id, item_id) in self.owners or "_" not in item_id  # premade skills are everybody's

    async def page(self, query: str) -> Json:
        target = parse(self.path + query, allow_admin_paths=False)
        answer = await self.lists.merged(target, accounts=ACCOUNTS, fetch=self.fetch, owns=self.owns)
        return self._read(answer)

    async def page_alone(self, query: str) -> Json:
        return self._read(await self.fetch(ALONE, self.path + query))

    def _read(self, answer: Fetched) -> Json:
        assert answer.status == 200, answer.body
        page: Json = json.loads(answer.body)
        return page

    def facts(self, page: Json) -> Json:
        """A page with what differs between organizations left out."""

        def told(name: str, value: Any) -> Any:
            if name == "data":
                return [self.numbers.get(each["id"], each["id"]) for each in value]
            return (
                self.numbers[value]
                if name in ("first_id", "last_id") and value in self.numbers
                else bool(value)
            )

        return {name: told(name, value) for name, value in page.items()}


@pytest.fixture(params=list(ROUTES))
def pool(request: pytest.FixtureRequest, io_loop: IOLoop) -> Iterator[Pool]:
    path, beta, make = ROUTES[request.param]
    clock = FakeClock()
    sim = Simulator(clock=clock, rng=random.Random(1))
    for account_id in (*ACCOUNTS, ALONE):
        sim.add_api_key(account_id, organization=account_id)

    async def fill() -> Pool:
        await sim.start()
        pool = Pool(Client(sim), path, beta)
        chance = random.Random(7)
        for n in range(THINGS):
            clock.wall += 1
            account_id = chance.choice(ACCOUNTS)
            for where in (account_id, ALONE):
                made = (await make(pool.client, where)).json()["id"]
                pool.numbers[made] = n
                pool.owners.add((where, made))
            await make(pool.client, chance.choice(ACCOUNTS))  # another group's
        return pool

    yield io_loop.run_sync(fill)
    io_loop.run_sync(sim.stop)


def onward(page: Json) -> str:
    if "next_page" in page:
        return f"&page={page['next_page']}" if page["next_page"] else ""
    return f"&after_id={page['last_id']}" if page["has_more"] else ""


def back(page: Json) -> str:
    if "next_page" in page:
        return f"&page={page['prev_page']}" if page.get("prev_page") else ""
    return f"&before_id={page['first_id']}" if page["data"] else ""


@pytest.mark.parametrize("limit", [1, 4, 100])
async def test_a_walk_there_and_back_is_that_of_one_account(pool: Pool, limit: int) -> None:
    merged, alone = await pool.page(f"?limit={limit}"), await pool.page_alone(f"?limit={limit}")
    assert pool.facts(merged) == pool.facts(alone)
    listed = len(merged["data"])
    for way in (onward, back):
        while query := way(merged):
            merged, alone = (
                await pool.page(f"?limit={limit}{query}"),
                await pool.page_alone(f"?limit={limit}{way(alone)}"),
            )
            assert pool.facts(merged) == pool.facts(alone)
            listed += len(merged["data"]) if way is onward else 0
    assert listed == THINGS + (4 if pool.path == "/v1/skills" else 0)


async def test_an_order_and_a_default_limit_are_those_of_the_route(pool: Pool) -> None:
    for query in ("", "?order=asc", "?order=asc&limit=7", "?order=desc"):
        assert pool.facts(await pool.page(query)) == pool.facts(await pool.page_alone(query))
