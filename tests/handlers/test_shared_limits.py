"""Limits over three proxies on one store, from the outside: exact to the unit, whoever is asked, dies or is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from proxy.assembly.clients import SharedKeys
from proxy.errors import StoreAway
from proxy.simulator import Silence, Simulator
from proxy.simulator.ledger import Entry, Ledger
from proxy.storage.address import StoreAddress
from proxy.storage.redis import RedisLink
from proxy.storage.redis_store import RedisStore
from proxy.usage import prices
from proxy.usage.meter import Usage
from tests.limit_scripts import LimitScripts
from tests.redis_server import RedisServer
from tests.service import MESSAGE_HEADERS, Service, TestClock, message, serve, until
from tests.wire import Answer, fetch

REQUESTS = int(os.environ.get("SHARED_LIMIT_REQUESTS", "2000"))
SLOTS = 4
LIMITS: dict[str, dict[str, str]] = {
    "free": {},
    "slots": {},
    "minute": {"requests_per_minute": f"{REQUESTS // 12}"},
    "concurrent": {"concurrent_requests": "3"},
    "tokens": {"tokens_per_day": f"{6 * REQUESTS}"},  # of about 77 each: half of a sixth of the requests
    "cost": {"cost_usd_per_month": f"{0.0001 * REQUESTS:.6f}"},
}


class CutLink(RedisLink):
    """Can be cut off from its store."""

    made: ClassVar[list[CutLink]] = []

    def __init__(self, *args: Any, **options: Any) -> None:
        self.made.append(self)
        super().__init__(*args, **options)
        self.is_cut = False
        self.ran: list[str] = []

    def run(self, name: str, *args: Any) -> Any:
        self.ran.append(name)
        if not self.is_cut:
            return super().run(name, *args)
        future = asyncio.get_running_loop().create_future()
        future.set_exception(StoreAway("it is cut off"))
        return future


@dataclass
class Sent:
    """One request with its answer."""

    key: str
    answer: Answer


@dataclass
class Trio:
    """Three proxies before one simulator."""

    services: list[Service]
    links: list[CutLink]
    simulator: Simulator
    store: LimitScripts
    sent: list[Sent] = field(default_factory=list)

    async def send(self, at: int, key: str, *, agent: str = "tests", target: str = "/v1/messages") -> Answer:
        """A message that says which key it is of."""
        headers = [*MESSAGE_HEADERS, ("x-api-key", secret(key)), ("user-agent", agent)]
        body = message(messages=[{"role": "user", "content": f"I am {key}."}])
        answer = await fetch(self.services[at].port, "POST", target, headers, body)
        self.sent.append(Sent(key, answer))
        return answer

    def answers(self, key: str) -> list[Answer]:
        return [each.answer for each in self.sent if each.key == key]

    def asked(self, key: str) -> list[Entry]:
        """What the upstream was asked for a key."""
        return [entry for entry in self.simulator.ledger.inference() if of(entry) == key]

    async def over(self) -> None:
        """Return once everything has ended, and all know of it."""
        await until(lambda: not any(service.running for service in self.services))
        await until(lambda: self.store.left() == set())
        for number in (0, 1, 2, 0, 1):
            await self.shared(number).use.exchange()

    def shared(self, at: int) -> SharedKeys:
        shared = self.services[at].parts.shared_keys
        assert shared is not None
        return shared

    async def view(self, at: int, key: str) -> dict[str, Any]:
        answer = await self.services[at].admin("GET", f"/api/tokens?search={key}")
        (token,) = (each for each in answer.json()["tokens"] if each["name"] == key)
        return dict(token)


def secret(key: str) -> str:
    return f"cp-the-{key}-key-of-tests-6Hj3"


def of(entry: Entry) -> str:
    """The key that a message is of."""
    return str(entry.json()["messages"][0]["content"])[5:-1]


@contextlib.asynccontextmanager
async def trio(folder: Path, store: LimitScripts, server: RedisServer, **options: str) -> AsyncIterator[Trio]:
    config = folder / "config.yaml"
    keys = [{"name": name, "key": secret(name), "limits": limits} for name, limits in LIMITS.items()]
    config.write_text(yaml.safe_dump({"auth": {"client_keys": keys}}))
    config.chmod(0o600)
    given = {"session__max_concurrent": str(SLOTS), "session__queue_timeout": "30s"} | options
    CutLink.made.clear()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(
            "proxy.storage.redis_store.RedisLink", CutLink
        )
        services: list[Service] = []
        for number in range(3):
            upstream = services[0].simulator.base_url if services else None
            one = serve(
                folder / str(number),
                accounts=(),
                upstream=upstream,
                config=config,
                storage__url=server.url,
                storage__name="tests",
                storage__timeout="10s",
                **given,
            )
            services.append(await stack.enter_async_context(one))
        for name in ("a", "b"):
            await services[0].add_account(name)
        await until(lambda: all(len(service.parts.pool) == 2 for service in services))
        yield Trio(services, list(CutLink.made), services[0].simulator, store)


async def overlap(ledger: Ledger, most: Counter[str]) -> None:
    """Note how many requests of each key the upstream has at once."""
    open_entries: dict[int, tuple[Entry, str]] = {}
    seen = 0

    def look(ledger: Ledger) -> bool:
        nonlocal seen
        for index in range(seen, len(ledger)):
            open_entries[index] = ledger[index], ""
        seen = len(ledger)
        running: Counter[str] = Counter()
        for index, (entry, key) in list(open_entries.items()):
            if entry.finished:
                del open_entries[index]
            elif key or entry.body:
                open_entries[index] = entry, key or of(entry)
                running[open_entries[index][1]] += 1
        for each, count in running.items():
            most[each] = max(most[each], count)
        return False

    await ledger.wait(look, timeout_s=3600)


def usage(answers: Iterable[Answer]) -> tuple[int, int]:
    """Tokens that answers say were used, and what they cost in billionths of a US dollar."""
    tokens = nano = 0
    for answer in answers:
        if answer.status == 200:
            said = answer.json()
            used = Usage(
                said["model"],
                said["usage"]["input_tokens"],
                said["usage"]["output_tokens"],
                cache_read_tokens=said["usage"]["cache_read_input_tokens"],
            )
            assert not said["usage"]["cache_creation_input_tokens"]
            cost = prices.cost_usd(used, at=TestClock().now())
            assert cost is not None
            tokens, nano = tokens + used.total, nano + round(cost * 1e9)
    return tokens, nano


async def test_over_three_proxies_every_count_is_exact_and_no_limit_is_overrun(
    tmp_path: Path, store: LimitScripts, redis_server: RedisServer
) -> None:
    async with trio(tmp_path, store, redis_server) as three:
        most: Counter[str] = Counter()
        watching = asyncio.create_task(overlap(three.simulator.ledger, most))
        rng = random.Random(7)
        todo = [(rng.randrange(3), key) for key in LIMITS for _ in range(REQUESTS // len(LIMITS))]
        rng.shuffle(todo)

        async def work(name: str) -> None:
            while todo:
                at, key = todo.pop()
                await three.send(at, key, agent="shared" if key == "slots" else name)

        await asyncio.gather(*(work(f"agent {n}") for n in range(36)))
        watching.cancel()
        await three.over()

        each = REQUESTS // len(LIMITS)
        for key in LIMITS:
            answers = three.answers(key)
            assert len(answers) == each and {answer.status for answer in answers} <= {200, 429}
            admitted = [answer for answer in answers if answer.status == 200]
            assert len(three.asked(key)) == len(admitted)
            tokens, nano = usage(admitted)
            numbers = store.used(next(k.id for k in three.services[0].parts.keys if k.name == key))
            assert (numbers["day_tokens"], numbers["month_nano"]) == (tokens, nano)
            assert numbers["reserved_tokens"] == numbers["reserved_nano"] == numbers["reservations"] == 0
            for at in range(3):
                view = await three.view(at, key)
                assert (view["requests"], view["used"]["tokens_today"]) == (each, tokens)
                assert view["used"]["cost_usd_this_month"] == round(nano / 1e9, 6)
        passed = {key: sum(answer.status == 200 for answer in three.answers(key)) for key in LIMITS}
        assert passed["free"] == passed["slots"] == each and passed["minute"] == REQUESTS // 12
        assert 0 < most["slots"] <= SLOTS and 0 < most["concurrent"] <= 3
        assert usage(three.answers("tokens"))[0] <= 6 * REQUESTS
        assert usage(three.answers("cost"))[1] <= 100_000 * REQUESTS
        assert 0 < passed["tokens"] < each and 0 < passed["cost"] < each


async def test_what_a_dead_proxy_held_is_back_after_its_lease(
    tmp_path: Path, store: LimitScripts, redis_server: RedisServer
) -> None:
    async with trio(tmp_path, store, redis_server, session__queue_timeout="0s") as three:
        three.simulator.always(None, Silence())
        held = [asyncio.create_task(three.send(0, "concurrent", agent=f"{n}")) for n in range(3)]
        await three.simulator.ledger.wait(lambda ledger: len(ledger.inference()) == 3)
        assert (await three.send(1, "concurrent")).status == 429
        three.links[0].is_cut = True
        (instance,) = (name.removeprefix("open:") for name in store.left_of("open:"))
        store.die(instance)
        three.simulator.calm()
        await three.shared(2).limits.renew()
        assert (await three.send(1, "concurrent")).status == 200
        three.links[0].is_cut = False
        for each in held:
            each.cancel()


async def test_without_the_store_a_limited_key_gets_503_and_one_without_limits_is_served(
    tmp_path: Path, store: LimitScripts, redis_server: RedisServer
) -> None:
    async with trio(tmp_path, store, redis_server) as three:
        assert (await three.send(0, "minute")).status == (await three.send(0, "free")).status == 200
        three.links[0].is_cut = True
        for key in ("minute", "concurrent", "tokens", "cost"):
            refused = await three.send(0, key)
            assert (refused.status, refused.json()["error"]["type"]) == (503, "api_error")
            assert "share, and their store is away" in refused.json()["error"]["message"]
            assert refused.header("retry-after") == "1"
        assert (await three.send(0, "free")).status == 200
        assert (await three.send(1, "minute")).status == 200
        three.links[0].is_cut = False
        await three.over()
        assert (await three.view(2, "free"))["used"]["tokens_today"] == usage(three.answers("free"))[0]


async def test_a_client_that_leaves_while_it_is_asked_for_or_waits_holds_nothing(
    tmp_path: Path, store: LimitScripts, redis_server: RedisServer
) -> None:
    async with trio(tmp_path, store, redis_server) as three:
        three.simulator.always(None, Silence())
        sends = [asyncio.create_task(three.send(n % 3, "slots")) for n in range(SLOTS + 3)]
        await until(lambda: len(store.left_of("queue:")) == 3)
        for each in sends:
            each.cancel()
        three.simulator.calm()
        assert (await three.send(0, "slots")).status == 200
        await three.over()


async def test_a_small_request_of_a_key_with_a_budget_is_asked_for_once(
    tmp_path: Path, store: LimitScripts, redis_server: RedisServer
) -> None:
    async with trio(tmp_path, store, redis_server) as three:
        for key, times in (("tokens", 1), ("minute", 1), ("slots", 1), ("tokens", 1)):
            await three.send(0, key)
            assert three.links[0].ran.count("admit") == times
            three.links[0].ran.clear()
        await three.send(0, "slots", target="/v1/messages/count_tokens")
        await three.over()
        assert "admit" not in three.links[0].ran  # nothing that is limited


async def test_a_request_whose_body_is_still_to_come_is_asked_for_before_it(
    tmp_path: Path, store: LimitScripts, redis_server: RedisServer
) -> None:
    async with trio(tmp_path, store, redis_server) as three:
        service, ran, body = three.services[0], three.links[0].ran, message()
        ran.clear()
        head = [b"POST /v1/messages HTTP/1.1", b"Host: localhost", b"Content-Length: %d" % len(body)]
        head += [f"{name}: {value}".encode() for name, value in MESSAGE_HEADERS]
        head += [b"x-api-key: " + secret("slots").encode(), b"Connection: close", b"", b""]
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"\r\n".join(head))
        await until(lambda: "admit" in ran)
        writer.write(body)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        assert ran.count("admit") == 1
        writer.close()
        await three.over()


async def test_what_keys_have_used_is_among_the_counters_that_are_moved_to_another_storage(
    tmp_path: Path, store: LimitScripts, redis_server: RedisServer
) -> None:
    async with trio(tmp_path, store, redis_server) as three:
        await three.send(0, "tokens")
        await three.send(1, "tokens")
        await three.over()
        tokens, nano = usage(three.answers("tokens"))
        key = next(k.id for k in three.services[0].parts.keys if k.name == "tokens")
        link = CutLink(StoreAddress.read(redis_server.url), name="tests", clock=TestClock())
        records = await RedisStore(link, instance="ins_x", clock=TestClock()).load("counters")
        await link.close()
        month = {"name": "2027-01", "tokens": tokens, "cost_usd": nano / 1e9}
        assert records[key] == {
            "requests": 2,
            "last_used_at": TestClock().now(),
            "day": month | {"name": "2027-01-15"},
            "month": month,
        }
