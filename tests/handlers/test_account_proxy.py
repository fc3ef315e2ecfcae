"""The way to the upstream: by `claude.proxy`, or by an account's own outbound proxy, which an admin sets."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.errors import StorageError
from proxy.simulator import quota_429
from tests.outbound import Outbound, outbound
from tests.service import Service, serve, upstream_key

PASSWORD = "a-pass-word-of-a-proxy"


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


async def test_an_account_whose_own_proxy_is_down_is_passed_over_longer_each_time_and_shown(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        await set_proxy(service, DEAD)
        for rest_s in (5, 10, 20, 40, 80):
            assert (await service.admin("GET", "/health")).json()["status"] == "healthy"
            assert ("b", "2") in await served_by(service, 2)
            service.clock.advance(rest_s - 0.1)
            assert await served_by(service, 3) == [("b", "1")] * 3
            service.clock.advance(0.2)
        assert (await service.admin("GET", "/health")).json()["status"] == "degraded"
        account = (await service.admin("GET", path(service))).json()["account"]
        assert account["status"] == "active"
        assert account["status_reason"].startswith("refused 5 requests in a row: its own outbound proxy: ")
        assert PASSWORD not in account["status_reason"]


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


async def test_an_account_that_rests_for_its_proxy_is_asked_where_no_other_can_be(tmp_path: Path) -> None:
    soon = {"retry__base_delay": "1ms", "retry__jitter_max": "0s"}
    async with serve(tmp_path, accounts=["a", "b"], **soon) as service:
        await set_proxy(service, DEAD)
        await served_by(service, 2)
        answers = [await service.message(headers=[("x-proxy-account", "a")])]
        service.simulator.script(upstream_key("b"), quota_429(600), path="/v1/messages")
        answers += [await service.message() for _ in range(2)]
        assert [answer.status for answer in answers] == [502] * 3


async def test_a_configured_proxy_that_is_down_says_nothing_of_the_accounts(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"], claude__proxy=DEAD) as service:
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-attempts")) == (502, "5")
        assert len(service.clock.slept) == 4


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
