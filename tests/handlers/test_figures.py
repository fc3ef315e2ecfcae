"""What affinity comes to: turns that stayed and moved, what that cost, what prompt caches gave, what lives where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.account import Status
from proxy.simulator import Amend, Error
from tests.service import CLIENT_KEY, MESSAGE_HEADERS, Service, message, serve
from tests.wire import Answer

CACHED = {
    "system": [{"type": "text", "text": "Be brief. " * 2000, "cache_control": {"type": "ephemeral"}}],
    "model": "claude-opus-5-5",
}
BETA = [("anthropic-version", "2023-06-01"), ("anthropic-beta", "files-api-2025-04-14")]
PART = (
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\ncontent-type: text/plain\r\n\r\n'
    b"some text\r\n--x--\r\n"
)


async def turn(service: Service, number: int, who: str = "", **fields: Any) -> Answer:
    """The turn of that number of the conversation with `who`."""
    said = [{"role": ("user", "assistant")[n % 2], "content": f"{who} {n}"} for n in range(2 * number + 1)]
    body = message(**CACHED | {"messages": said} | fields)
    return await service.send("POST", "/v1/messages", MESSAGE_HEADERS, body)


async def upload(service: Service, key: str = CLIENT_KEY) -> str:
    headers = [*BETA, ("content-type", "multipart/form-data; boundary=x")]
    answer = await service.send("POST", "/v1/files", headers, PART, key=key)
    assert answer.status == 200, answer.body
    return str(answer.header("x-proxy-account"))


async def figures(service: Service) -> dict[str, Any]:
    return dict((await service.admin("GET", "/api/admin/statistics")).json()["affinity"])


async def account(service: Service, name: str) -> dict[str, Any]:
    found = (await service.admin("GET", "/api/accounts")).json()["accounts"]
    return next(each for each in found if each["name"] == name)


def moved(found: dict[str, Any]) -> dict[str, int]:
    return {reason: count for reason, count in found["moved"].items() if count}


def limit(service: Service, name: str) -> None:
    id = next(account.id for account in service.parts.pool if account.name == name)
    service.parts.pool.limit(id, service.clock.now() + 60, "429")


async def test_at_first_there_is_nothing_and_no_share(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        found = await figures(service)
        reasons = found.pop("moved")
        assert found == {
            "turns": 0, "new": 0, "stayed": 0, "stayed_share": None, "moved_cost_usd": 0, "moved_unpriced": 0,
            "conversations": 0, "resources": 0,
        }  # fmt: skip
        assert reasons == dict.fromkeys(
            ("limited", "invalid", "inactive", "gone", "refused", "failed", "resource", "picked"), 0
        )
        assert (await account(service, "a"))["cache_read_share"] is None


async def test_turns_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        for who in ("one", "two"):
            for number in range(3):
                assert (await turn(service, number, who)).status == 200
        found = await figures(service)
        assert (found["turns"], found["new"], found["stayed"], found["stayed_share"]) == (6, 2, 4, 1)
        assert (moved(found), found["moved_cost_usd"], found["conversations"]) == ({}, 0, 2)
        limit(service, "a")
        assert (await turn(service, 3, "one")).header("x-proxy-account") == "b"
        found = await figures(service)
        assert (found["turns"], found["stayed"], found["stayed_share"]) == (7, 4, 0.8)
        assert (moved(found), found["conversations"]) == ({"limited": 1}, 2)
        assert [(await account(service, name))["conversations"] for name in "ab"] == [0, 2]


async def test_a_move_costs_what_was_written_again_less_what_reading_it_had_cost(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        await turn(service, 0)
        limit(service, "a")
        written = (await turn(service, 1)).json()["usage"]["cache_creation_input_tokens"]
        assert written > 4000
        # Of Claude Opus 5.5 a million tokens cost 5 USD to write to the cache, and 0.20 to read there.
        cost = (await figures(service))["moved_cost_usd"]
        assert cost == pytest.approx(written * 4.8e-6, abs=1e-6)
        await turn(service, 2)
        assert (await figures(service))["moved_cost_usd"] == cost


async def test_a_move_whose_price_is_not_known_is_not_free(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        await turn(service, 0)
        limit(service, "a")
        service.simulator.script(None, Amend(set={"model": "claude-nobody-knows"}))
        await turn(service, 1)
        found = await figures(service)
        assert (found["moved_cost_usd"], found["moved_unpriced"]) == (None, 1)
        assert found["stayed_share"] == 0


async def test_each_reason_is_told(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b", "c"], retry__max_attempts="3") as service:
        pool = service.parts.pool
        by_name = {account.name: account.id for account in pool}

        async def moves(who: str, number: int) -> None:
            before = moved(await figures(service))
            assert (await turn(service, number, who)).status == 200
            after = moved(await figures(service))
            seen.append("".join(reason for reason in after if after[reason] != before.get(reason)))

        seen: list[str] = []
        where = str((await turn(service, 0, "one")).header("x-proxy-account"))
        await pool.update(by_name[where], status=Status.INACTIVE)
        await moves("one", 1)
        await pool.update(by_name[where], status=Status.ACTIVE)
        where = str((await turn(service, 2, "one")).header("x-proxy-account"))
        service.simulator.script(None, Error(529), Error(529))
        await moves("one", 3)
        where = str((await turn(service, 4, "one")).header("x-proxy-account"))
        pool.invalidate(by_name[where], "401")
        await moves("one", 5)
        where = str((await turn(service, 6, "one")).header("x-proxy-account"))
        await pool.remove(by_name[where])
        await moves("one", 7)
        assert seen == ["inactive", "failed", "invalid", "gone"]


async def test_usage_has_turns_and_the_share_of_the_cache_over_time(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        used = []
        for number in range(3):
            service.clock.advance(60)
            used.append((await turn(service, number)).json()["usage"])
        limit(service, "a")
        service.clock.advance(1)
        used.append((await turn(service, 3)).json()["usage"])

        def share(parts: list[dict[str, int]]) -> float:
            kinds = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
            sums = [sum(part[kind] for part in parts) for kind in kinds]
            return pytest.approx(sums[2] / sum(sums), abs=1e-6)

        report = (await service.admin("GET", "/api/admin/usage?by=account&interval=minute")).json()
        rows = {row["name"]: row for row in report["rows"]}
        assert [(rows[n]["turns_stayed"], rows[n]["turns_moved"]) for n in "ab"] == [(2, 0), (0, 1)]
        assert rows["a"]["cache_read_share"] == share(used[:3])
        assert [bucket["cache_read_share"] for bucket in rows["a"]["buckets"]] == [
            share([u]) for u in used[:3]
        ]
        assert (await account(service, "a"))["cache_read_share"] == share(used[:3])
        today = (await service.admin("GET", "/api/admin/statistics")).json()["today"]
        assert (today["turns_stayed"], today["turns_moved"]) == (2, 1)


async def test_what_lives_in_an_account_is_told_with_it(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        first, second = await upload(service), await upload(service)
        other = await upload(service, await service.add_key("other"))
        assert (first == second, first != other) == (True, True)
        found = {name: await account(service, name) for name in "ab"}
        assert [(found[n]["resources"], found[n]["homes"]) for n in (first, other)] == [(2, 1), (1, 1)]
        assert (await figures(service))["resources"] == 3
        id = found[first]["id"]
        assert (await service.admin("PUT", f"/api/accounts/{id}", {"note": "x"})).json()["account"][
            "resources"
        ] == 2
        assert (await service.admin("GET", f"/api/accounts/{id}")).json()["account"]["homes"] == 1


async def test_without_affinity_no_turn_is_one_of_a_conversation(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"], balancer__affinity="false") as service:
        for number in range(3):
            await turn(service, number)
        found = await figures(service)
        assert (found["turns"], found["stayed_share"], found["conversations"]) == (0, None, 0)
