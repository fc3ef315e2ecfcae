"""The way to the upstream: by `claude.proxy`, or by an account's own outbound proxy, which an admin sets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.errors import StorageError
from proxy.simulator import Error, Fault, NoModel, Reset, quota_429
from proxy.upstream import driver
from tests.outbound import Outbound, outbound
from tests.service import MESSAGE, MESSAGE_HEADERS, Service, TestClock, message, serve, upstream_key
from tests.serving import serving
from tests.wire import Answer

PASSWORD = "a-pass-word-of-a-proxy"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
SESSION = "5f0c1c1e-0000-4000-8000-000000000001"


def url(way: Outbound, user: str = f"team:{PASSWORD}@") -> str:
    return f"http://{user}127.0.0.1:{way.port}"


def path(service: Service, name: str = "a") -> str:
    return f"/api/accounts/{next(a.id for a in service.parts.pool if a.name == name)}"


async def set_proxy(service: Service, proxy: str | None, name: str = "a") -> Any:
    answer = await service.admin("PUT", path(service, name), {"proxy": proxy})
    assert answer.status == 200, answer.body
    return answer.json()["account"]["proxy"]


async def test_what_goes_upstream_and_to_the_oauth_server_goes_by_the_configured_one(tmp_path: Path) -> None:
    async with outbound() as way, serve(tmp_path, accounts=[], claude__proxy=url(way)) as service:
        account, _ = await service.add_login("a", expires_in=1)
        upstream = service.simulator.base_url.removeprefix("http://")
        tokens = service.simulator.token_url.removeprefix("http://").partition("/")[0]
        assert (await service.message()).status == 200
        assert sorted(way.asked) == sorted([tokens, upstream])
        assert (await service.parts.credentials.test(account)).status is not None
        assert len(way.asked) == 2  # the same connection


async def test_an_account_has_one_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with outbound() as way:
        async with serve(tmp_path) as service:
            before = (await service.admin("GET", path(service))).json()["account"]
            assert before["proxy"] is None
            seen = f"http://***@127.0.0.1:{way.port}"
            assert await set_proxy(service, url(way)) == seen
            after = await service.admin("GET", path(service))
            assert after.json()["account"]["etag"] != before["etag"]
            assert PASSWORD.encode() not in after.body
            assert await set_proxy(service, seen) == seen  # as it was shown
            other = url(way).replace(PASSWORD, f"{PASSWORD}-2")
            assert await set_proxy(service, other) == seen
            [told, *_] = (await service.admin("GET", "/api/admin/events?kind=account.changed")).json()[
                "events"
            ]
            assert (told["before"], told["after"]) == (None, {"proxy_credential": "replaced"})
            assert await set_proxy(service, url(way)) == seen
            answer = await service.admin("PUT", path(service), {"name": "b"})  # not named: it stays
            assert answer.json()["account"]["proxy"] == seen
        async with serve(tmp_path, accounts=[]) as service:
            [account] = service.parts.pool
            assert account.proxy == url(way)
            service.simulator.add_api_key(account.sent.secret, organization="a")
            assert (await service.parts.credentials.test(account)).ok
            assert len(way.asked) == 1
            assert await set_proxy(service, None, "b") is None
            assert await set_proxy(service, "", "b") is None
            assert (await service.parts.credentials.test(next(iter(service.parts.pool)))).ok
            assert len(way.asked) == 1
    assert PASSWORD not in caplog.text and "account proxy" in caplog.text


async def test_requests_that_it_answers_go_by_it_and_those_of_others_do_not(tmp_path: Path) -> None:
    async with (
        outbound() as usual,
        outbound() as own,
        serve(tmp_path, accounts=["a", "b", "c"], claude__proxy=url(usual)) as service,
    ):
        await set_proxy(service, url(own), "b")
        answers = [await service.message() for _ in range(6)]
        assert [answer.status for answer in answers] == [200] * 6
        assert sorted(str(answer.header("x-proxy-account")) for answer in answers) == [*"aabbcc"]
        upstream = service.simulator.base_url.removeprefix("http://")
        assert (usual.asked, own.asked) == ([upstream], [upstream])  # a connection each, kept


async def test_its_token_is_refreshed_by_it(tmp_path: Path) -> None:
    async with (
        outbound() as usual,
        outbound() as own,
        serve(tmp_path, accounts=[], claude__proxy=url(usual)) as service,
    ):
        await service.add_login("a")
        await set_proxy(service, url(own))
        assert (await service.admin("POST", f"{path(service)}/refresh")).status == 200
        assert (usual.asked, len(own.asked)) == ([], 1)


async def test_its_new_login_goes_by_it(tmp_path: Path) -> None:
    async with outbound() as own, serve(tmp_path, accounts=[]) as service:
        account, _ = await service.add_login("a")
        await set_proxy(service, url(own))
        asked = await service.admin("GET", f"/oauth/authorize?account_id={account.id}")
        back = service.simulator.authorize(asked.json()["authorization_url"], organization="a")
        found = parse_qs(urlsplit(back).query)
        code = f"{found['code'][0]}#{found['state'][0]}"
        answer = await service.admin("POST", f"{path(service)}/reauthorize", {"code": code})
        assert (answer.status, len(own.asked)) == (200, 1)


# ---- one that is down

DEAD = f"http://team:{PASSWORD}@127.0.0.1:1"


async def served_by(service: Service, count: int) -> list[tuple[str, str]]:
    """Send so many messages, which are all served: the account and the attempts of each."""
    answers = [await service.message() for _ in range(count)]
    assert [answer.status for answer in answers] == [200] * count
    return [(a.header("x-proxy-account") or "", a.header("x-proxy-attempts") or "") for a in answers]


@pytest.mark.parametrize("others", ["b", "bcd"])
async def test_an_account_whose_own_proxy_is_down_costs_others_no_request_and_no_wait(
    tmp_path: Path, others: str
) -> None:
    async with serve(
        tmp_path, accounts=["a", *others], retry__max_attempts="1", retry__budget="0"
    ) as service:
        await set_proxy(service, DEAD)
        assert "a" not in {name for name, _ in await served_by(service, 60)}
        assert service.clock.slept == []
        assert service.status("a") == "active"


async def lose(service: Service, proxy: str = DEAD) -> None:
    """Set a proxy of a that is down, and let that be found out."""
    await set_proxy(service, proxy)
    await served_by(service, 6)


async def explained(service: Service) -> tuple[str | None, dict[str, Any]]:
    """The account that a message would get, and what is said of a."""
    asked = {"path": "/v1/messages", "body": MESSAGE}
    found = (await service.admin("POST", "/api/admin/explain", asked)).json()
    of_a = next(each for each in found["accounts"] if each["name"] == "a")
    return found["account"] and found["account"]["name"], of_a


async def health(service: Service) -> str:
    return str((await service.admin("GET", "/health")).json()["status"])


async def test_an_account_whose_own_proxy_is_down_is_passed_over_longer_each_time_and_shown(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        await set_proxy(service, DEAD)
        assert await served_by(service, 1) == [("b", "2")]  # which may be a blip
        for rest_s in (5, 10, 20, 40, 60, 60):
            assert await health(service) == ("healthy" if rest_s < 60 else "degraded")
            assert ("b", "2") in await served_by(service, 2)
            service.clock.advance(rest_s - 0.1)
            assert await served_by(service, 3) == [("b", "1")] * 3
            service.clock.advance(0.2)
        account = (await service.admin("GET", path(service))).json()["account"]
        assert account["status"] == "active"
        assert account["status_reason"].startswith("refused 7 requests in a row: its own outbound proxy: ")
        assert PASSWORD not in account["status_reason"]


async def test_an_account_that_rests_for_its_proxy_is_asked_where_no_other_can_be(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        await lose(service)
        picked = await service.message(headers=[("x-proxy-account", "a")])
        assert (picked.status, picked.header("x-proxy-attempts")) == (502, "5")
        name, of_a = await explained(service)
        assert (name, of_a["verdict"], of_a["reason"]) == ("b", "resting", "its own outbound proxy is down")
        service.clock.slept.clear()
        service.simulator.script(upstream_key("b"), quota_429(600), path="/v1/messages")
        for _ in range(2):  # nobody knows when the proxy is back, and the limit's end is known
            answer = await service.message()
            assert (answer.status, answer.header("retry-after")) == (429, "600")
            assert answer.header("x-proxy-attempts") == "1"
            assert (await explained(service))[0] == "a"
        assert service.clock.slept == []
        await set_proxy(service, None)
        assert await served_by(service, 1) == [("a", "1")]


async def test_where_the_proxies_of_all_are_down_each_is_tried_once(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b", "c"]) as service:
        await set_proxy(service, DEAD, "b")
        await lose(service)
        await service.admin("PUT", path(service, "c"), {"status": "inactive"})
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-attempts"), service.clock.slept) == (502, "2", [])
        assert "cannot be reached: its own outbound proxy: " in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fault", "status", "attempts", "retry_after"),
    [(Error(403), 403, "3", None), (NoModel(), 404, "3", None), (quota_429(3600), 429, "2", "3600")],
)
async def test_what_the_others_say_is_the_answer_while_its_own_proxy_is_down(
    tmp_path: Path, fault: Fault, status: int, attempts: str, retry_after: str | None
) -> None:
    async with serve(tmp_path, accounts=["a", "b", "c"]) as service:
        await lose(service)
        for name in "bc":
            service.simulator.always(upstream_key(name), fault, path="/v1/messages")
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-attempts")) == (status, attempts)
        assert (answer.header("retry-after"), service.clock.slept) == (retry_after, [])


@pytest.mark.parametrize("fault", [Error(403), NoModel()])
async def test_who_rests_for_its_proxy_is_asked_before_a_refusal_of_the_others_is_the_answer(
    tmp_path: Path, fault: Fault
) -> None:
    async with outbound() as own, serve(tmp_path, accounts=["a", "b"]) as service:
        own.refuses = BUSY
        await lose(service, url(own))
        own.refuses = b""
        service.simulator.always(upstream_key("b"), fault, path="/v1/messages")
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-account"), answer.header("x-proxy-attempts")) == (
            200,
            "a",
            "2",
        )


async def test_what_belongs_to_an_account_whose_proxy_is_down_is_refused_by_no_other(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    first = {"role": "user", "content": "Think. Hello"}
    async with outbound() as own, serve(tmp_path, accounts=["a", "b"]) as service:

        async def turn_of(*messages: dict[str, Any]) -> Answer:
            headers = [*MESSAGE_HEADERS, ("x-claude-code-session-id", SESSION)]
            return await service.send("POST", "/v1/messages", headers, message(**asked, messages=messages))

        thought = await turn_of(first)
        assert thought.header("x-proxy-account") == "a"
        own.refuses = BUSY
        await lose(service, url(own))
        then = {"role": "assistant", "content": thought.json()["content"]}
        later = await turn_of(first, then, first)
        assert later.status == 502 and "cannot be reached: its own outbound proxy" in later.body.decode()
        own.refuses = b""
        later = await turn_of(first, then, first)
        assert (later.status, later.header("x-proxy-account")) == (200, "a")


async def test_what_another_has_said_is_dropped_once_an_account_was_reached_by_its_proxy(
    tmp_path: Path,
) -> None:
    async with outbound() as own, serve(tmp_path, accounts=["b", "a"]) as service:
        await set_proxy(service, url(own))
        service.simulator.always(upstream_key("b"), Error(403), path="/v1/messages")
        service.simulator.always(upstream_key("a"), Reset(), path="/v1/messages")
        answer = await service.message()
        assert answer.status == 502 and "answer was cut" in answer.body.decode()


async def test_what_another_has_said_is_kept_while_an_account_is_tried_by_its_proxy(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["b", "a"]) as service:
        await set_proxy(service, DEAD)
        service.simulator.always(upstream_key("b"), Error(403), path="/v1/messages")
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-account")) == (403, "b")
        assert answer.header("x-proxy-attempts") == "6"
        pool = service.parts.pool
        assert [pool.uses[account.id].in_flight for account in pool] == [0, 0]


async def test_no_group_is_at_home_where_the_own_proxy_is_known_to_be_down(tmp_path: Path) -> None:
    kind = [
        ("anthropic-beta", "files-api-2025-04-14"),
        ("content-type", "multipart/form-data; boundary=x"),
        MESSAGE_HEADERS[0],
    ]
    part = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nb\r\n--x--\r\n'
    async with serve(tmp_path, accounts=["a", "b", "c"]) as service:
        await lose(service)
        for number, rest_s in enumerate((0, 100, 0, 0)):  # while it rests, and when it may be tried again
            service.clock.advance(rest_s)
            key = await service.add_key(f"team {number}")
            made = await service.send("POST", "/v1/files", kind, part, key=key)
            assert (made.status, made.header("x-proxy-attempts")) == (200, "1")


async def test_a_thread_of_an_account_whose_own_proxy_is_down_is_to_begin_anew(tmp_path: Path) -> None:
    headers = [*MESSAGE_HEADERS, ("anthropic-beta", "message-threads-2026-08-12")]
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        first = await service.send("POST", "/v1/messages", headers, message(thread={"type": "create"}))
        assert first.header("x-proxy-account") == "a"
        await lose(service)
        thread = {"type": "continue", "previous_message_id": first.json()["id"]}
        for rest_s in (0, 100):
            service.clock.advance(rest_s)
            later = await service.send("POST", "/v1/messages", headers, message(thread=thread))
            assert later.json()["error"]["details"] == {"error_code": "thread_not_found"}
        assert service.clock.slept == []


async def test_another_way_ends_the_rest_of_an_account_whose_own_proxy_was_down(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        await set_proxy(service, DEAD)
        for _ in range(5):
            await served_by(service, 2)
            service.clock.advance(100)
        await served_by(service, 2)
        await set_proxy(service, None)
        assert sorted(await served_by(service, 2)) == [("a", "1"), ("b", "1")]
        assert (await service.admin("GET", "/health")).json()["status"] == "healthy"


async def test_the_proxy_of_the_only_account_is_tried_as_often_as_the_upstream(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await set_proxy(service, DEAD)
        for _ in range(2):
            answer = await service.message()
            assert (answer.status, answer.header("x-proxy-attempts")) == (502, "5")
        assert len(service.clock.slept) == 8
        await service.add_account("b")
        assert ("b", "2") in await served_by(service, 2)


async def test_a_configured_proxy_that_is_down_says_nothing_of_the_accounts(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"], claude__proxy=DEAD) as service:
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-attempts")) == (502, "5")
        assert len(service.clock.slept) == 4


# ---- one that is down for a moment


async def turn(service: Service, conversation: int) -> tuple[str | None, str | None]:
    session = f"5f0c1c1e-0000-4000-8000-{conversation:012d}"
    answer = await service.message(headers=[("x-claude-code-session-id", session)])
    assert answer.status == 200
    return answer.header("x-proxy-account"), answer.header("x-proxy-attempts")


async def test_conversations_stay_over_a_blip_of_their_accounts_proxy(tmp_path: Path) -> None:
    async with outbound() as own, serve(tmp_path, accounts=["a", "b"], retry__budget="0") as service:
        assert [(await turn(service, number))[0] for number in range(4)] == [*"abab"]
        own.refuses, own.times = BUSY, 1
        await set_proxy(service, url(own))
        assert await turn(service, 0) == ("a", "2")
        assert len(service.clock.slept) == 1
        await set_proxy(service, url(own, "another:user@"))  # so it gets a new connection
        own.times = 1
        assert ("b", "2") in await served_by(service, 2)  # which costs the cache of none
        assert [await turn(service, number) for number in (0, 2)] == [("a", "1")] * 2


async def test_conversations_go_elsewhere_if_their_accounts_proxy_stays_down(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"], retry__budget="0") as service:
        assert [(await turn(service, number))[0] for number in range(8)] == [*"abababab"]
        await set_proxy(service, DEAD)
        tries = [await turn(service, number) for number in (0, 2, 4, 6)]
        assert tries == [("b", "3"), ("b", "3"), ("b", "1"), ("b", "1")]
        service.clock.advance(5)
        assert await turn(service, 0) == ("b", "1")


@pytest.mark.parametrize("by", ["test", "picked", "active"])
async def test_an_account_whose_proxy_is_back_serves_as_soon_as_that_is_known(
    tmp_path: Path, by: str
) -> None:
    async with outbound() as own, serve(tmp_path, accounts=["a", "b"]) as service:
        own.refuses = BUSY
        await lose(service, url(own))
        for _ in range(5):
            service.clock.advance(60)
            await served_by(service, 2)
        assert await health(service) == "degraded"
        own.refuses = b""
        if by == "test":
            assert (await service.admin("POST", f"{path(service)}/test")).json()["ok"]
        elif by == "picked":
            assert (await service.message(headers=[("x-proxy-account", "a")])).status == 200
        else:
            for status in ("inactive", "active"):
                await service.admin("PUT", path(service), {"status": status})
        assert (await explained(service))[1]["verdict"] in ("chosen", "usable")
        assert ("a", "1") in await served_by(service, 2)
        assert await health(service) == "healthy"


async def test_an_answer_of_any_kind_shows_that_the_proxy_is_back(tmp_path: Path) -> None:
    async with outbound() as own, serve(tmp_path, accounts=["a", "b"]) as service:
        own.refuses = BUSY
        await lose(service, url(own))
        own.refuses = b""
        service.clock.advance(60)
        service.simulator.script(upstream_key("a"), Error(404), path="/v1/messages")
        answers = [await service.message() for _ in range(4)]
        assert [(a.status, a.header("x-proxy-account")) for a in answers].count((200, "a")) == 1


# ---- one that hangs


@contextlib.asynccontextmanager
async def hanging(monkeypatch: pytest.MonkeyPatch, on: Callable[[], object]) -> AsyncIterator[str]:
    """The URL of a proxy that takes connections and says nothing; `on` is called for each. Services come after it."""
    monkeypatch.setattr(driver, "CONNECT_TIMEOUT_S", 0.05)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        on()
        await reader.read()
        writer.close()

    async with serving(hang) as port:
        yield f"http://127.0.0.1:{port}"


async def test_of_many_requests_one_waits_for_a_proxy_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[None] = []
    async with (
        hanging(monkeypatch, lambda: waits.append(None)) as proxy,
        serve(tmp_path, accounts=["a", "b"]) as service,
    ):
        await lose(service, proxy)
        for _ in range(3):
            service.clock.advance(60)
            waits.clear()
            answers = await asyncio.gather(*(service.message() for _ in range(20)))
            assert [answer.status for answer in answers] == [200] * 20
            assert len(waits) == 1


async def test_a_conversation_waits_for_a_proxy_that_hangs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = TestClock()
    async with (
        hanging(monkeypatch, lambda: clock.advance(10)) as proxy,
        serve(tmp_path, accounts=["a", "b"], clock=clock) as service,
    ):
        assert await turn(service, 0) == ("a", "1")
        await set_proxy(service, proxy)
        assert await turn(service, 0) == ("b", "2")


# ---- what is none


@pytest.mark.parametrize(
    "wrong", [f"socks5://team:{PASSWORD}@10.0.0.1:1080", f"http://x/{PASSWORD}", "http://***@p:1"]
)
async def test_what_is_no_proxy_is_refused_and_not_repeated(tmp_path: Path, wrong: str) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("PUT", path(service), {"proxy": wrong, "name": "b"})
        assert answer.status == 422 and answer.json()["error"]["message"].startswith("proxy: use a URL")
        assert PASSWORD.encode() not in answer.body
        assert next(iter(service.parts.pool)).name == "a"


@pytest.mark.files
async def test_an_edited_file_with_a_wrong_one_is_named_at_the_start(tmp_path: Path) -> None:
    async with serve(tmp_path):
        pass
    [file] = (tmp_path / "accounts").glob("acc_*.json")
    document = json.loads(file.read_text())
    next(iter(document["records"].values()))["proxy"] = f"nonsense {PASSWORD}"
    del document["crc32"]
    file.write_text(json.dumps(document))
    with pytest.raises(StorageError, match="proxy: use a URL") as refused:
        async with serve(tmp_path, accounts=[]):
            pass
    assert PASSWORD not in str(refused.value)
