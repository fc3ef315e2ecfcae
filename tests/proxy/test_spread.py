"""What is new goes to all accounts alike; what has an account stays, and moves once when it has to.

`make conversations` places ten thousand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from proxy.simulator import quota_429
from tests.instances import everywhere, instances
from tests.proxy.simulator.uploads import FORM, form
from tests.redis_server import RedisServer
from tests.service import CLIENT_KEY, MESSAGE, MESSAGE_HEADERS, Service, serve, upstream_key
from tests.wire import Wire, connect

PLACED = 10 * int(os.environ.get("CONVERSATIONS", "60"))
GROUPS = 300
FIVE = ("a", "b", "c", "d", "e")
MOST_CHI_SQUARE = {3: 16.27, 4: 18.47}
"""By degrees of freedom: chance alone goes beyond this once in a thousand times."""


def assert_even(accounts: Iterable[str], among: Iterable[str]) -> None:
    """Each of the accounts as often as another, as far as chance may have it otherwise."""
    counts = Counter(dict.fromkeys(among, 0))
    counts.update(accounts)
    mean = counts.total() / len(counts)
    chi_square = sum((count - mean) ** 2 / mean for count in counts.values())
    assert chi_square <= MOST_CHI_SQUARE[len(counts) - 1], counts


class Talks:
    """Conversations on one connection; each is named by its first message alone."""

    def __init__(self, wire: Wire, service: Service, name: str = "") -> None:
        self._wire = wire
        self._service = service
        self._name = name
        self._messages: list[list[Any]] = []

    async def begin(self) -> str:
        """One more; the account that answers it."""
        self._messages.append([])
        return await self.go_on(len(self._messages) - 1)

    async def go_on(self, number: int) -> str:
        """One more turn of a conversation; the account that answers it."""
        messages = self._messages[number]
        messages.append({"role": "user", "content": f"{self._name}{number}, {len(messages)}"})
        body = json.dumps(MESSAGE | {"messages": messages}).encode()
        headers = [("x-api-key", CLIENT_KEY), *MESSAGE_HEADERS]
        answer = await self._wire.request("POST", "/v1/messages", headers, body)
        await answer.read()
        assert answer.status == 200, answer.body
        messages.append({"role": "assistant", "content": answer.json()["content"]})
        self._service.simulator.ledger.clear()
        return str(answer.header("x-proxy-account"))


async def test_new_conversations_go_to_all_accounts_alike_between_the_turns_of_others(tmp_path: Path) -> None:
    rng = random.Random(1)
    async with serve(tmp_path, accounts=FIVE) as service, connect(service.port) as wire:
        talks, placed = Talks(wire, service), list[str]()
        while len(placed) < PLACED:
            placed.append(await talks.begin())
            if rng.random() < 0.4:
                number = rng.randrange(max(0, len(placed) - 20), len(placed))
                assert await talks.go_on(number) == placed[number]
    assert_even(placed, FIVE)


async def test_conversations_of_a_limited_account_move_once_to_all_others_alike_and_stay(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path, accounts=FIVE) as service, connect(service.port) as wire:
        talks = Talks(wire, service)
        began = [await talks.begin() for _ in range(200)]
        service.simulator.script(upstream_key("a"), quota_429(3600))
        moved = [await talks.go_on(number) for number in range(200)]
        assert service.status("a") == "rate_limited"
        stayed = [await talks.go_on(number) for number in range(200)]
    assert [now for now, then in zip(moved, began, strict=True) if then != "a"] == [
        each for each in began if each != "a"
    ]
    others = [now for now, then in zip(moved, began, strict=True) if then == "a"]
    assert len(others) == began.count("a") > 20 and "a" not in others
    assert_even(others, FIVE[1:])
    assert stayed == moved


async def test_conversations_do_not_move_back_when_their_limited_account_recovers(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=FIVE) as service, connect(service.port) as wire:
        talks = Talks(wire, service)
        for _ in range(20):
            await talks.begin()
        service.simulator.script(upstream_key("a"), quota_429(600))
        moved = [await talks.go_on(number) for number in range(20)]
        service.clock.advance(700)
        service.tick()
        assert service.status("a") == "active"
        assert [await talks.go_on(number) for number in range(20)] == moved
        assert "a" in [await talks.begin() for _ in range(5)]


async def test_a_session_moves_as_a_whole_though_several_of_its_turns_are_under_way(tmp_path: Path) -> None:
    session = [("X-Claude-Code-Session-Id", "11111111-2222-3333-4444-555555555555")]

    async def turns(service: Service, count: int) -> set[str | None]:
        answers = await asyncio.gather(*(service.message(headers=session) for _ in range(count)))
        assert {answer.status for answer in answers} == {200}
        return {answer.header("x-proxy-account") for answer in answers}

    async with serve(tmp_path, accounts=FIVE) as service:
        (began,) = await turns(service, 6)
        service.simulator.always(upstream_key(str(began)), quota_429(3600))
        assert len(moved := await turns(service, 6)) == 1
        assert moved != {began}
        assert await turns(service, 6) == moved


async def test_new_sessions_that_begin_with_the_same_words_go_to_all_accounts_alike(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=FIVE) as service:
        placed = []
        for number in range(20):
            answer = await service.message(headers=[("X-Claude-Code-Session-Id", f"session-{number}")])
            placed.append(str(answer.header("x-proxy-account")))
        assert Counter(placed) == dict.fromkeys(FIVE, 4)


async def test_over_three_instances_what_is_new_goes_to_all_accounts_alike(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """Each instance takes turns by itself, so no account is ahead of another by more than one turn at each."""
    rng = random.Random(1)
    async with contextlib.AsyncExitStack() as connected, three(tmp_path, redis_server) as services:
        wires = [await connected.enter_async_context(connect(service.port)) for service in services]
        talks = [Talks(wire, services[0], f"at {n}: ") for n, wire in enumerate(wires)]
        counts = Counter([await rng.choice(talks).begin() for _ in range(PLACED)])
    assert_even(counts.elements(), FIVE)
    assert max(counts.values()) - min(counts.values()) <= 3


async def test_over_three_instances_homes_are_spread_over_all_accounts(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    rng, homes = random.Random(2), list[str]()
    async with three(tmp_path, redis_server) as services:
        for number in range(GROUPS):
            service = rng.choice(services)
            homes.append(await home(service, await service.add_key(f"key {number}")))
    assert_even(homes, FIVE)


@contextlib.asynccontextmanager
async def three(folder: Path, server: RedisServer) -> AsyncIterator[list[Service]]:
    """Three instances with five accounts."""
    async with instances(folder, server) as services:
        for name in FIVE:
            account, _ = await services[0].add_account(name)
            await everywhere(services, account.id)
        yield services


async def home(service: Service, key: str) -> str:
    """The account that has the files of a key."""
    upload = form(("file", "a.txt", b"hello"))
    answer = await service.send("POST", "/v1/files", [("content-type", FORM)], upload, key=key)
    assert answer.status == 200, answer.body
    return str(answer.header("x-proxy-account"))


async def test_homes_of_groups_are_spread_over_all_accounts_and_stay(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=FIVE) as service:
        keys = [await service.add_key(f"key {number}") for number in range(GROUPS)]
        homes = [await home(service, key) for key in keys]
        again = random.Random(1).sample(range(GROUPS), 30)
        assert [await home(service, keys[number]) for number in again] == [homes[number] for number in again]
    assert_even(homes, FIVE)


async def test_keys_of_one_group_have_one_home(tmp_path: Path) -> None:
    upload = form(("file", "a.txt", b"hello"))
    async with serve(tmp_path, accounts=FIVE) as service:
        keys = [await service.add_key(f"key {number}", group="ours") for number in range(6)]
        answers = [
            await service.send("POST", "/v1/files", [("content-type", FORM)], upload, key=key) for key in keys
        ]
    assert len({answer.header("x-proxy-account") for answer in answers}) == 1
