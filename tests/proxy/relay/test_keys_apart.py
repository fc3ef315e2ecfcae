"""Keys of different groups: what one has is not there for the other, whatever it asks and however."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.simulator.uploads import FORM, form
from tests.service import MESSAGE_HEADERS, Service, message, serve
from tests.wire import Answer

JSON = [("content-type", "application/json")]
MULTIPART = [("content-type", "multipart/form-data; boundary=x")]
CODE = [{"type": "code_execution_20250825", "name": "code_execution"}]
POOLS = pytest.mark.parametrize("accounts", [("a",), ("a", "b", "c")], ids=["one", "three"])


async def upload(service: Service, *, key: str, picked: str | None = None) -> str:
    headers = [("content-type", FORM)] + ([] if picked is None else [("x-proxy-account", picked)])
    made = await service.send("POST", "/v1/files", headers, form(("file", "a.txt", b"hello")), key=key)
    assert made.status == 200, made.body
    return str(made.json()["id"])


async def listed(service: Service, query: str, key: str, *headers: tuple[str, str]) -> list[str]:
    answer = await service.send("GET", f"/v1/files{query}", headers, key=key)
    assert answer.status == 200, answer.body
    return [item["id"] for item in answer.json()["data"]]


def about(file_id: str) -> Any:
    return {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "document", "source": {"type": "file", "file_id": file_id}}],
            }
        ]
    }


@POOLS
async def test_a_list_of_an_account_that_is_picked_has_what_the_group_owns(
    tmp_path: Path, accounts: tuple[str, ...]
) -> None:
    async with serve(tmp_path, accounts=accounts) as service:
        one, other = await service.add_key("one"), await service.add_key("other")
        hidden, own = await upload(service, key=one, picked="a"), await upload(service, key=other, picked="a")
        assert await listed(service, "", other, ("x-proxy-account", "a")) == [own]
        assert await listed(service, "", one, ("x-proxy-account", "a")) == [hidden]


@POOLS
@pytest.mark.parametrize(
    "query", ["?file_id={}", "?scope_id={}", "?file_id={}&file_id=", "?user_profile_id={}"]
)
async def test_a_list_that_names_something_has_what_the_group_owns(
    tmp_path: Path, accounts: tuple[str, ...], query: str
) -> None:
    async with serve(tmp_path, accounts=accounts) as service:
        one, other = await service.add_key("one"), await service.add_key("other")
        await upload(service, key=one, picked="a")
        own = await upload(service, key=other, picked="a")
        assert await listed(service, query.format(own), other) == [own]


@POOLS
async def test_a_list_with_a_body_has_what_the_group_owns(tmp_path: Path, accounts: tuple[str, ...]) -> None:
    async with serve(tmp_path, accounts=accounts) as service:
        one, other = await service.add_key("one"), await service.add_key("other")
        await upload(service, key=one, picked="a")
        own = await upload(service, key=other, picked="a")
        body = json.dumps({"file_id": own}).encode()
        answer = await service.send("GET", "/v1/files", JSON, body, key=other)
        assert own.encode() in answer.body and [i["id"] for i in answer.json()["data"]] == [own]


@POOLS
async def test_the_head_of_a_list_tells_what_the_group_owns(
    tmp_path: Path, accounts: tuple[str, ...]
) -> None:
    async with serve(tmp_path, accounts=accounts) as service:
        one, other = await service.add_key("one"), await service.add_key("other")
        await upload(service, key=one, picked="a")
        got = await service.send("GET", "/v1/files", key=other)
        head = await service.send("HEAD", "/v1/files", key=other)
        assert (head.status, head.header("content-length"), head.body) == (
            200,
            got.header("content-length"),
            b"",
        )


@POOLS
@pytest.mark.parametrize(
    "query",
    [
        "scope%5Fid={}",
        "&".join(["a=1"] * 70) + "&scope_id={}",
        "scope={}",
        "session_ids%5B%5D={}",
        "agent={}",
    ],
    ids=["escaped", "after many", "scope", "ids[]", "agent"],
)
async def test_a_query_names_nothing_of_another_group(
    tmp_path: Path, accounts: tuple[str, ...], query: str
) -> None:
    async with serve(tmp_path, accounts=accounts) as service:
        one, other = await service.add_key("one"), await service.add_key("other")
        hidden = await upload(service, key=one)
        asked = len(service.simulator.ledger)
        for path in ("/v1/sessions", "/v1/models"):
            answer = await service.send("GET", f"{path}?{query.format(hidden)}", key=other)
            assert answer.status in (400, 404), answer.body
        assert len(service.simulator.ledger) == asked


@POOLS
@pytest.mark.parametrize("headers", [MULTIPART, [*MULTIPART, *JSON], [("content-type", "text/plain")]])
async def test_a_body_is_read_whatever_type_it_says(
    tmp_path: Path, accounts: tuple[str, ...], headers: list[tuple[str, str]]
) -> None:
    async with serve(tmp_path, accounts=accounts) as service:
        one, other = await service.add_key("one"), await service.add_key("other")
        hidden = await upload(service, key=one)
        asked = len(service.simulator.ledger)
        answer = await service.send(
            "POST",
            "/v1/messages",
            [("anthropic-version", "2023-06-01"), *headers],
            message(**about(hidden)),
            key=other,
        )
        assert answer.status == 404, answer.body
        assert len(service.simulator.ledger) == asked


@POOLS
async def test_of_a_member_that_is_there_twice_both_are_looked_at(
    tmp_path: Path, accounts: tuple[str, ...]
) -> None:
    async with serve(tmp_path, accounts=accounts) as service:
        one, other = await service.add_key("one"), await service.add_key("other")
        made = await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(tools=CODE), key=one)
        hidden = made.json()["container"]["id"]
        mine = (
            await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(tools=CODE), key=other)
        ).json()
        asked = len(service.simulator.ledger)
        for first, second in ((hidden, mine["container"]["id"]), (mine["container"]["id"], hidden)):
            body = message(tools=CODE)[:-1] + f', "container": "{first}", "container": "{second}"}}'.encode()
            answer = await service.send("POST", "/v1/messages", MESSAGE_HEADERS, body, key=other)
            assert answer.status == 404, answer.body
        assert len(service.simulator.ledger) == asked


THREADS = ("anthropic-beta", "message-threads-2026-08-12")


async def say(service: Service, key: str, *headers: tuple[str, str], **fields: Any) -> Answer:
    return await service.send(
        "POST", "/v1/messages", [*MESSAGE_HEADERS, THREADS, *headers], message(**fields), key=key
    )


@POOLS
@pytest.mark.parametrize("how", ["plain", "picked", "file"])
async def test_a_thread_of_another_group_is_not_gone_on_with(
    tmp_path: Path, accounts: tuple[str, ...], how: str
) -> None:
    async with serve(tmp_path, accounts=accounts) as service:
        one, other = await service.add_key("one"), await service.add_key("other")
        made = await say(service, one, ("x-proxy-account", "a"), thread={"type": "create"})
        thread = {"type": "continue", "previous_message_id": made.json()["id"]}
        fields: dict[str, Any] = {"thread": thread}
        headers = [("x-proxy-account", "a")] if how == "picked" else []
        if how == "file":
            fields |= about(await upload(service, key=other, picked="a"))
        asked = len(service.simulator.ledger)
        answer = await say(service, other, *headers, **fields)
        assert answer.status == 404, answer.body
        assert answer.json()["error"]["details"] == {"error_code": "thread_not_found"}
        assert len(service.simulator.ledger) == asked
        assert (await say(service, one, thread=thread)).status == 200


async def test_without_isolation_a_thread_is_gone_on_with_by_every_key(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b", "c"), balancer__isolation="none") as service:
        one, other = await service.add_key("one"), await service.add_key("other")
        made = await say(service, one, thread={"type": "create"})
        thread = {"type": "continue", "previous_message_id": made.json()["id"]}
        assert (await say(service, other, thread=thread)).status == 200


async def test_a_user_profile_that_a_header_names_is_one_of_the_group_s(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b", "c")) as service:
        one, other = await service.add_key("one"), await service.add_key("other")
        body = json.dumps({"name": "Bo"}).encode()
        headers = [*MESSAGE_HEADERS, ("x-proxy-account", "b")]
        made = await service.send("POST", "/v1/user_profiles", headers, body, key=one)
        profile = ("anthropic-user-profile-id", made.json()["id"])
        for _ in range(3):
            assert (await say(service, one, profile)).header("x-proxy-account") == "b"
        asked = len(service.simulator.ledger)
        for lines in ([profile], [("anthropic-user-profile-id", ""), profile]):
            assert (await say(service, other, *lines)).status == 404
        assert len(service.simulator.ledger) == asked
