"""The last requests as admins see them: who answered, after which tries, who cut it; and no word of what was said."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import Cut as CutFault
from proxy.simulator import Error, Raw, Stall, no_credit
from proxy.usage.request_log import MOST_AT_ONCE, RequestLog, Wanted
from tests.canaries import leaked
from tests.dashboards import dashboard
from tests.proxy.usage.message_answers import event, start
from tests.service import CLIENT_KEY, MESSAGE_HEADERS, Service, message, serve, until, upstream_key
from tests.wire import Answer, Cut, Wire, connect, request_bytes

PROMPT = "The-Prompt-of-this-test"
QUERY = "The-Query-of-this-test"
HEADER = "The-Header-of-this-test"
ALL = Wanted()
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


async def listed(service: Service, query: str = "") -> list[dict[str, Any]]:
    answer = await service.admin("GET", f"/api/admin/requests{query}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()["requests"]
    return found


@contextlib.asynccontextmanager
async def streaming(service: Service) -> AsyncIterator[tuple[Wire, Answer]]:
    """A connection with a stream that has begun and says no more."""
    service.simulator.script(None, Stall(after_events=3))
    async with connect(service.port) as wire:
        headers = [("x-api-key", CLIENT_KEY), *MESSAGE_HEADERS]
        await wire.send(request_bytes("POST", "/v1/messages", headers, message(stream=True)))
        yield wire, await wire.answer()


async def test_a_request_names_its_account_ids_tokens_and_cost(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.message(stream=True)
        (told,) = await listed(service)
        (account,), usage = service.parts.pool, service.simulator.ledger[0]
        assert told["upstream_request_id"] == answer.header("request-id") == usage.request_id
        assert told["request_id"] != told["upstream_request_id"]
        assert (told["key_name"], told["account_id"], told["account_name"]) == ("tests", account.id, "a")
        assert (told["method"], told["path"], told["model"]) == ("POST", "/v1/messages", "claude-sonnet-5-5")
        assert (told["status"], told["outcome"], told["stream"], told["cut_by"]) == (200, "ok", True, None)
        (session,) = service.parts.sessions
        assert told["session_id"] == session.id
        assert told["input_tokens"] > 0 and told["output_tokens"] > 0 and told["cost_usd"] > 0
        assert told["answer_bytes"] == len(answer.body)
        (tried,) = told["tries"]
        assert (tried["status"], tried["verdict"], tried["request_id"]) == (200, "hand_on", usage.request_id)


async def test_each_try_is_told_with_its_verdict_and_its_time(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b")) as service:
        service.simulator.script(upstream_key("a"), no_credit())
        service.simulator.script(upstream_key("b"), Error(529))
        assert (await service.message()).status == 200
        (told,) = await listed(service)
        verdicts = [(each["account_name"], each["status"], each["verdict"]) for each in told["tries"]]
        assert verdicts == [("a", 400, "bench_then_next"), ("b", 529, "retry"), ("b", 200, "hand_on")]
        assert "credit" in told["tries"][0]["evidence"]
        assert told["tries"][2]["at_ms"] >= 1000  # after a back-off, by the test's clock
        assert len({each["request_id"] for each in told["tries"]}) == 3
        assert [each["id"] for each in await listed(service, "?retried=true")] == [told["id"]]


async def test_what_an_account_failed_at_is_found_though_another_answered(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b")) as service:
        service.simulator.script(upstream_key("a"), no_credit())
        await service.message()
        (told,) = await listed(service)
        a, b = (each["account_id"] for each in told["tries"])
        assert [each["failure"] for each in told["tries"]] == ["refused", None]
        for query, is_found in (
            (f"failure=any&account={a}", True), (f"failure=refused&account={a}", True), ("failure=any", True),
            (f"failure=limited&account={a}", False), (f"failure=any&account={b}", False),
        ):  # fmt: skip
            assert bool(await listed(service, f"?{query}")) is is_found, query
        chart = (await service.admin("GET", f"/api/admin/usage/chart?range=1h&by=account&id={a}")).json()
        assert chart["split"][0]["try_refused"][-1] == 1 and not any(chart["before"]["try_refused"])
        assert (await service.admin("GET", "/api/admin/requests?failure=x")).status == 422


async def test_an_upstream_that_cannot_be_reached_is_a_try_without_an_answer(tmp_path: Path) -> None:
    async with serve(tmp_path, upstream="http://127.0.0.1:9", retry__max_attempts="1") as service:
        assert (await service.message()).status == 502
        (told,) = await listed(service)
        (tried,) = told["tries"]
        assert (tried["status"], tried["verdict"], tried["request_id"]) == (0, "UpstreamUnreachable", None)
        assert (told["status"], told["outcome"], told["error"]) == (502, "upstream_error", "api_error")
        assert told["reason"].startswith("the upstream's server cannot be reached")


@pytest.mark.parametrize(
    ("error", "outcome"), [("overloaded_error", "upstream_error"), ("rate_limit_error", "limited")]
)
async def test_a_stream_that_the_upstream_ends_with_an_error_has_failed(
    tmp_path: Path, error: str, outcome: str
) -> None:
    stream = start({}) + event("error", error={"type": error, "message": "x"})
    async with serve(tmp_path, retry__max_attempts="1") as service:
        service.simulator.script(None, Raw(SSE_HEAD + stream))
        assert (await service.message(stream=True)).body == stream
        (told,) = await listed(service, "?status=failed")
        assert (told["status"], told["outcome"], told["error"]) == (200, outcome, error)
        (row,) = (await service.admin("GET", "/api/admin/usage?by=account")).json()["rows"]
        assert (row["requests"], row["errors"]) == (1, 1)


async def test_a_refusal_is_told_with_its_reason(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=()) as service:
        assert (await service.message()).status == 503
        (told,) = await listed(service)
        assert (told["outcome"], told["tries"], told["account_id"]) == ("refused", [], None)
        assert told["reason"] == "no accounts available"


async def test_it_says_that_the_client_left(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, streaming(service) as (wire, _):
        wire.reset()
        await until(lambda: not service.running)
        (told,) = await listed(service)
        assert (told["cut_by"], told["outcome"], told["error"]) == ("client", "aborted", "client gone")


async def test_it_says_that_the_upstream_cut_it(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, CutFault(after_events=3))
        with pytest.raises(Cut):
            await service.message(stream=True)
        await until(lambda: not service.running)
        (told,) = await listed(service)
        assert (told["cut_by"], told["outcome"]) == ("upstream", "aborted")
        assert told["reason"].startswith("the upstream cut its answer")


async def test_it_says_that_an_admin_cut_it(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, streaming(service) as (_, answer):
        (session,) = service.parts.sessions
        await service.admin("DELETE", f"/api/sessions/{session.id}")
        with pytest.raises(Cut):
            await answer.read()
        await until(lambda: not service.running)
        (told,) = await listed(service)
        assert (told["cut_by"], told["outcome"], told["reason"]) == (
            "admin", "aborted", "an admin ended this session",
        )  # fmt: skip


async def test_it_says_that_a_shutdown_cut_it(tmp_path: Path) -> None:
    async with serve(tmp_path, server__drain_timeout="1s") as service, streaming(service) as (_, answer):
        drain = asyncio.create_task(service.parts.server.drain())
        with pytest.raises(Cut):
            await answer.read()
        await drain
        await service.parts.request_log.told()
        (told,) = (kept.view() for kept in service.parts.request_log.find(ALL))
        assert (told["cut_by"], told["outcome"]) == ("shutdown", "aborted")


async def test_nothing_that_was_said_is_told(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.hello("requests")
        body = message(messages=[{"role": "user", "content": PROMPT}], system=PROMPT)
        headers = [*MESSAGE_HEADERS, ("x-of-mine", HEADER), ("user-agent", HEADER)]
        answer = await service.send("POST", f"/v1/messages?beta={QUERY}", headers, body)
        said = answer.json()["content"][0]["text"]
        service.simulator.script(None, Error(400, message=f"messages.0: {PROMPT}"))
        await service.send("POST", "/v1/messages", headers, body)
        await service.send("GET", f"/messages?{QUERY}", headers)
        await page.until(lambda: page.revs["requests"] == 3)
        seen = repr(await listed(service)) + repr(page.frames)
        assert leaked(seen, [PROMPT, QUERY, HEADER, CLIENT_KEY, upstream_key("a"), said]) == []


async def test_requests_without_a_key_push_out_nothing(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        await service.send("GET", "/v1/models", key="wrong")
        assert [each["status"] for each in await listed(service)] == [200]


async def test_they_are_filtered_and_paged(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for fault in (None, Error(400), None, Error(404)):
            if fault is not None:
                service.simulator.script(None, fault)
            await service.message()
        (token,), (account,), (session,) = (
            service.parts.keys, service.parts.pool, service.parts.sessions,
        )  # fmt: skip
        every = f"key={token.id}&account={account.id}&session={session.id}&model=claude-sonnet-5-5"
        assert [each["id"] for each in await listed(service, f"?{every}")] == [4, 3, 2, 1]
        assert [each["id"] for each in await listed(service, "?status=failed&limit=1")] == [4]
        assert [each["id"] for each in await listed(service, "?status=failed&limit=1&before=4")] == [2]
        assert [each["id"] for each in await listed(service, "?status=404")] == [4]
        assert await listed(service, "?key=nobody") == await listed(service, "?from=2027-01-16") == []
        newest = (await listed(service, "?limit=1"))[0]
        assert await listed(service, f"?search={newest['upstream_request_id']}") == [newest]


async def test_one_is_found_by_either_id(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        (told,) = await listed(service)
        for id in (told["request_id"], told["upstream_request_id"]):
            answer = await service.admin("GET", f"/api/admin/requests/{id}")
            assert (answer.status, answer.json()) == (200, {"request": told})
        answer = await service.admin("GET", "/api/admin/requests/req_nobody")
        assert (answer.status, answer.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=x", "before=0", "before=-1", "before=req_1", "status=6xx", "status=20",
        "status=broken", "slow=-1", "slow=1.5", "retried=yes", "from=yesterday", "to=1",
    ],
)  # fmt: skip
async def test_a_filter_that_makes_no_sense_is_refused(tmp_path: Path, query: str) -> None:
    async with serve(tmp_path, accounts=()) as service:
        answer = await service.admin("GET", f"/api/admin/requests?{query}")
        assert (answer.status, answer.json()["error"]["type"]) == (422, "invalid_request_error")
        assert answer.json()["error"]["message"].startswith(query.partition("=")[0])


# ---- the feed


async def test_new_ones_come_by_themselves_to_who_asks_for_them(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await service.message()
        await service.parts.request_log.told()
        await page.hello("requests")
        assert page.frames[-1]["items"] == await listed(service)
        await service.message()
        await page.until(lambda: page.revs["requests"] == 2)
        assert page.frames[-1]["items"] == (await listed(service))[:1]


async def test_nothing_of_them_is_made_for_who_does_not_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        monkeypatch.setattr(RequestLog, "since", None)
        await page.hello("accounts", "stats", "events")
        await service.message()
        await page.until(lambda: next(iter(page.items["accounts"].values()))["requests"] == 1)
        assert "requests" not in page.revs


async def test_who_cannot_follow_hears_how_many_are_missing(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=()) as service, dashboard(service) as page:
        await service.message()
        await service.parts.request_log.told()
        await page.hello("requests", hz=0.1)
        for _ in range(MOST_AT_ONCE + 3):
            await service.send("GET", "/v1/models")
        await service.parts.request_log.told()
        await page.send(t="sub", topic="requests", rev=1)
        await page.until(lambda: page.revs["requests"] == MOST_AT_ONCE + 4)
        assert (page.frames[-1]["dropped"], len(page.frames[-1]["items"])) == (3, MOST_AT_ONCE)
