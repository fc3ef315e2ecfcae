"""A client key with tags: no request of its reaches an account without one of them, whatever happens."""

from __future__ import annotations

from pathlib import Path

from proxy.accounts.preferences import Preferences
from proxy.simulator import Error
from tests.service import MESSAGE_HEADERS, Service, message, serve, upstream_key
from tests.wire import Answer

KEY = "cp-a-key-that-is-bound-3fQk"


async def bound(service: Service, *tags: str) -> None:
    """Accounts `a`, `b` have the tag `eu`, and `c` has none; the key is bound to `tags`."""
    for account in list(service.parts.pool):
        if account.name in "ab":
            await service.parts.pool.update(account.id, preferences=Preferences(tags=("eu",)))
    await service.parts.keys.add("bound", KEY, tags=tags)


async def ask(service: Service, key: str = KEY) -> Answer:
    return await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(), key=key)


async def asked(service: Service, requests: int) -> str:
    return "".join([str((await ask(service)).header("x-proxy-account")) for _ in range(requests)])


async def test_its_requests_go_round_among_the_accounts_with_its_tag(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[*"abc"]) as service:
        await bound(service, "eu")
        assert await asked(service, 4) == "abab"
        assert [(await service.message()).header("x-proxy-account") for _ in range(2)] == ["c", "a"]
        models = [await service.send("GET", "/v1/models", key=KEY) for _ in range(3)]
        assert {answer.header("x-proxy-account") for answer in models} == {"a", "b"}


async def test_its_failover_ends_where_its_tag_ends(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[*"abc"], retry__max_attempts="5") as service:
        await bound(service, "eu")
        limited = Error(429, headers=(("retry-after", "3600"),))
        service.simulator.always(upstream_key("a"), limited)
        assert await asked(service, 2) == "bb"
        service.simulator.always(upstream_key("b"), limited)
        refused = await ask(service)
        assert (refused.status, refused.header("x-should-retry")) == (429, "false")
        assert "all accounts rate limited" in refused.json()["error"]["message"]
        assert service.status("c") == "active" and (await service.message()).status == 200


async def test_trouble_is_tried_again_within_its_tag_alone(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[*"abc"], retry__max_attempts="4") as service:
        await bound(service, "eu")
        for name in "ab":
            service.simulator.always(upstream_key(name), Error(529))
        answer = await ask(service)
        assert (answer.status, answer.header("x-proxy-attempts")) == (529, "4")
        assert answer.header("x-proxy-account") in [*"ab"]


async def test_where_no_account_has_its_tag_it_is_told_so_at_once(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[*"abc"]) as service:
        await bound(service, "us")
        refused = await ask(service)
        assert (refused.status, refused.header("x-should-retry")) == (503, "false")
        assert refused.json()["error"]["message"] == "no account has one of this client key's tags"
        assert not len(service.simulator.ledger)


async def test_its_only_account_is_waited_for_though_there_are_others(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[*"ac"]) as service:
        await bound(service, "eu")
        service.simulator.script(upstream_key("a"), Error(429, headers=(("retry-after", "2"),)))
        assert await asked(service, 1) == "a"
