"""Explaining says where a request would go, why, and why not elsewhere; it sends nothing, and nothing changes by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.account import Status
from proxy.accounts.quota import Window
from proxy.clients.keys import KeyStatus
from proxy.upstream.verdict import MESSAGES, Asked
from tests.service import CLIENT_KEY, MESSAGE, MESSAGE_HEADERS, Service, message, serve

TURN = {"path": "/v1/messages"}
HELLO = {"role": "user", "content": "Hello"}
AGAIN = {"messages": [HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "And now?"}]}
BETA = [("anthropic-version", "2023-06-01"), ("anthropic-beta", "files-api-2025-04-14")]
PART = (
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\ncontent-type: text/plain\r\n\r\n'
    b"some text\r\n--x--\r\n"
)


async def ask(service: Service, *, key: str | None = CLIENT_KEY, **question: Any) -> dict[str, Any]:
    headers = question.pop("headers", {}) | ({} if key is None else {"x-api-key": key})
    answer = await service.admin("POST", "/api/admin/explain", question | {"headers": headers})
    assert answer.status == 200, answer.body
    return dict(answer.json())


async def upload(service: Service, key: str = CLIENT_KEY) -> tuple[str, str]:
    """The id of a new file, and the name of the account that has it."""
    headers = [*BETA, ("content-type", "multipart/form-data; boundary=x")]
    answer = await service.send("POST", "/v1/files", headers, PART, key=key)
    assert answer.status == 200, answer.body
    return str(answer.json()["id"]), str(answer.header("x-proxy-account"))


def of(service: Service, name: str) -> str:
    return next(account.id for account in service.parts.pool if account.name == name)


def names(found: dict[str, Any]) -> tuple[str | None, str | None]:
    return found["account"] and found["account"]["name"], found["why"]


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["verdict"] for each in found["accounts"]}


# ---- why


async def test_a_new_conversation_goes_where_the_next_one_would(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        found = await ask(service, **TURN, body=MESSAGE)
        assert names(found) == ("a", "new")
        assert (found["held_by"], found["before"], found["error"]) == (None, None, None)
        assert verdicts(found) == {"a": "chosen", "b": "usable"}
        assert (await service.message()).header("x-proxy-account") == "a"
        assert names(await ask(service, **TURN, body=MESSAGE)) == ("b", "new")


async def test_a_pool_of_one_has_no_choice(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert names(await ask(service, **TURN, body=MESSAGE)) == ("a", "only")


async def test_a_conversation_is_found_by_what_was_said_and_by_its_session(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b", "c"]) as service:
        await service.message()
        by_said = await ask(service, **TURN, body=MESSAGE | AGAIN)
        assert names(by_said) == ("a", "conversation")
        assert (by_said["before"]["name"], verdicts(by_said)) == (
            "a",
            {"a": "chosen", "b": "elsewhere", "c": "elsewhere"},
        )
        assert names(await ask(service, **TURN, body=json.dumps(MESSAGE | AGAIN))) == ("a", "conversation")
        session = ("x-claude-code-session-id", "s-1")
        await service.message(headers=[session])
        found = await ask(service, **TURN, method="POST", headers=dict([session]))
        assert names(found) == ("b", "session")


async def test_a_session_is_found_in_the_body_too(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        metadata = {"user_id": json.dumps({"device_id": "d", "account_uuid": "", "session_id": "5f2c-1"})}
        body = message(metadata=metadata)
        assert (await service.send("POST", "/v1/messages", MESSAGE_HEADERS, body)).status == 200
        found = await ask(service, **TURN, body=MESSAGE | {"metadata": metadata})
        assert names(found) == ("a", "session")


async def test_a_resource_is_named_by_path_and_by_body(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        id, where = await upload(service)
        source = {"type": "file", "file_id": id}
        body = MESSAGE | {"messages": [{"role": "user", "content": [{"type": "document", "source": source}]}]}
        for found in (await ask(service, path=f"/v1/files/{id}"), await ask(service, **TURN, body=body)):
            assert names(found) == (where, "resource")
            assert found["held_by"] == id
            other = {"a": "b", "b": "a"}[where]
            assert verdicts(found) == {where: "chosen", other: "elsewhere"}


async def test_what_is_made_goes_home(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        _, where = await upload(service)
        found = await ask(service, path="/v1/files", method="POST")
        assert names(found) == (where, "home")


async def test_a_thread_goes_on_where_its_message_was_written(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        headers = [*MESSAGE_HEADERS, ("anthropic-beta", "message-threads-2026-08-12")]
        first = await service.send("POST", "/v1/messages", headers, message(thread={"type": "create"}))
        assert first.status == 200, first.body
        id = first.json()["id"]
        thread = {"type": "continue", "previous_message_id": id}
        found = await ask(service, **TURN, body=MESSAGE | {"thread": thread})
        assert (*names(found), found["held_by"]) == (first.header("x-proxy-account"), "thread", id)
        lost = await ask(
            service, **TURN, body=MESSAGE | {"thread": thread | {"previous_message_id": "msg_x"}}
        )
        assert names(lost) == (None, None)
        assert (lost["error"]["status"], verdicts(lost)) == (404, {"a": "usable", "b": "usable"})


async def test_one_is_picked_by_hand(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        found = await ask(service, **TURN, body=MESSAGE, headers={"X-Proxy-Account": "b"})
        assert (names(found), verdicts(found)) == (("b", "picked"), {"a": "elsewhere", "b": "chosen"})
        none = await ask(service, **TURN, body=MESSAGE, headers={"x-proxy-account": "z"})
        assert (names(none), none["error"]["status"]) == ((None, None), 400)


async def test_a_list_is_merged_over_the_accounts_that_have_some_of_it(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b", "c"]) as service:
        _, where = await upload(service)
        found = await ask(service, path="/v1/files?limit=5")
        assert (found["account"], found["why"]) == (None, "list")
        assert verdicts(found) == dict.fromkeys("abc", "elsewhere") | {where: "chosen"}


async def test_one_that_comes_later_says_what_puts_it_there(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b", "c", "d"]) as service:
        for name, fields in {"b": {"priority": 5}, "c": {"reserve": 0.2}}.items():
            answer = await service.admin("PUT", f"/api/accounts/{of(service, name)}", fields)
            assert answer.status == 200, answer.body
        service.parts.pool.quotas.set(
            of(service, "c"), {"5h": Window(0.9, resets_at=service.clock.now() + 60)}
        )
        found = await ask(service, **TURN, body=MESSAGE)
        assert names(found) == ("a", "new")
        assert {
            each["name"]: each["reason"] for each in found["accounts"] if each["verdict"] == "usable"
        } == {
            "b": "its priority is 5, that of the next one 0, and lower ones are asked first",
            "c": "all that it has left is its reserve",
            "d": None,
        }


# ---- why not


async def test_each_account_has_its_verdict_and_says_until_when(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["free", "limited", "resting", "invalid", "off"]) as service:
        pool, now = service.parts.pool, service.clock.now()
        pool.limit(of(service, "limited"), now + 60, "the 5h window is used up")
        pool.invalidate(of(service, "invalid"), "the key was refused")
        await pool.update(of(service, "off"), status=Status.INACTIVE)
        matter = Asked(str(MESSAGE["model"]), MESSAGES, ()).of_route
        pool.skip(of(service, "resting"), matter, now + 30, "-")
        found = await ask(service, **TURN, body=MESSAGE)
        assert verdicts(found) == {
            "free": "chosen",
            "limited": "rate_limited",
            "resting": "resting",
            "invalid": "invalid",
            "off": "inactive",
        }
        told = {each["name"]: (each["until"], each["reason"]) for each in found["accounts"]}
        assert told["limited"] == ("2027-01-15T08:01:00.000Z", "the 5h window is used up")
        assert told["invalid"] == (None, "the key was refused")
        assert told["resting"] == ("2027-01-15T08:00:30.000Z", "it refused this route POST messages")


async def test_a_conversation_whose_account_is_limited_moves_and_the_others_may_have_it(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path, accounts=["a", "b", "c"]) as service:
        await service.message()
        service.parts.pool.limit(of(service, "a"), service.clock.now() + 60, "429")
        found = await ask(service, **TURN, body=MESSAGE | AGAIN)
        assert (*names(found), found["before"]["name"]) == ("b", "conversation", "a")
        assert verdicts(found) == {"a": "rate_limited", "b": "chosen", "c": "usable"}


async def test_what_may_go_nowhere_else_is_refused_as_its_client_would_be(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        id, where = await upload(service)
        service.parts.pool.limit(of(service, where), service.clock.now() + 60, "429")
        found = await ask(service, path=f"/v1/files/{id}")
        refused = await service.send("GET", f"/v1/files/{id}", BETA)
        error = refused.json()["error"]
        assert found["error"] == {
            "status": refused.status,
            "type": error["type"],
            "message": error["message"],
        }
        assert (names(found), found["held_by"]) == ((None, "resource"), id)
        other = {"a": "b", "b": "a"}[where]
        assert verdicts(found) == {where: "rate_limited", other: "elsewhere"}


async def test_a_key_with_tags_is_barred_from_the_others(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        path = f"/api/accounts/{of(service, 'b')}"
        assert (await service.admin("PUT", path, {"tags": ["eu"]})).status == 200
        made = await service.admin("POST", "/api/tokens", {"name": "eu", "tags": ["eu"]})
        found = await ask(service, key=None, token_id=made.json()["token"]["id"], **TURN, body=MESSAGE)
        assert (names(found)[0], verdicts(found)) == ("b", {"a": "barred", "b": "chosen"})


async def test_without_accounts_there_is_nothing_to_explain(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        found = await ask(service, **TURN, body=MESSAGE)
        assert (found["account"], found["error"]["status"], found["accounts"]) == (None, 503, [])


# ---- keys and ids of others


async def test_another_groups_id_and_one_that_never_was_are_told_alike(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        id, _ = await upload(service)
        stranger = await service.add_key("stranger")
        never = f"{id[:-4]}XXXX"
        theirs, none = [await ask(service, path=f"/v1/files/{each}", key=stranger) for each in (id, never)]
        assert names(theirs) == (None, None) and theirs["error"]["status"] == 404
        told = json.dumps(theirs["error"]).replace(id, never)
        assert (told, theirs["accounts"]) == (json.dumps(none["error"]), none["accounts"])


async def test_the_key_is_named_by_its_id_by_its_header_or_not_at_all(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        id, where = await upload(service)
        [key] = service.parts.keys
        asked = {"path": f"/v1/files/{id}"}
        assert names(await ask(service, **asked, key=None, token_id=key.id)) == (where, "resource")
        by_header = await ask(service, **asked, key=None, headers={"Authorization": f"Bearer {CLIENT_KEY}"})
        assert names(by_header) == (where, "resource")
        assert (await ask(service, **asked, key=None))["error"]["status"] == 404


async def test_a_key_that_is_unknown_or_not_usable_is_422(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        paused, text = await service.parts.keys.add("paused", status=KeyStatus.INACTIVE)
        for wrong in (
            {"headers": {"x-api-key": "cp-unknown-to-all-0000"}},
            {"headers": {"x-api-key": text}},
            {"token_id": "tok_nobody"},
            {"token_id": paused.id},
        ):
            answer = await service.admin("POST", "/api/admin/explain", TURN | wrong)
            [field] = wrong
            assert answer.status == 422, answer.body
            assert answer.json()["error"]["message"].startswith(f"{field}: ")
            assert text.encode() not in answer.body


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ({}, 422),
        ({"path": "/v1/messages", "more": 1}, 422),
        ({"path": 1}, 422),
        ({"path": "/v1/messages", "headers": {"a": 1}}, 422),
        ({"path": "/v1/../messages"}, 400),
        ({"path": "/v1/v1/messages"}, 404),
        ({"path": "nonsense"}, 400),
    ],
    ids=str,
)
async def test_a_wrong_question_is_refused(tmp_path: Path, question: dict[str, Any], status: int) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/admin/explain", question)
        assert answer.status == status, answer.body


@pytest.mark.parametrize(
    "body",
    ["{", "", "[]", 2**70, [[[]]], {"messages": [2**70, 0.1, None, "\u2028"]}, '{"messages": "' + "ü" * 1000],
    ids=repr,
)
async def test_any_body_can_be_asked_about(tmp_path: Path, body: Any) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        assert names(await ask(service, **TURN, body=body)) == ("a", "new")


async def test_only_admins_may_ask(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/admin/explain", TURN, key=CLIENT_KEY)
        assert answer.status in (401, 403)


# ---- nothing changes


@pytest.mark.parametrize("isolation", ["per_key", "none"])
async def test_nothing_is_sent_and_nothing_changes_by_asking(tmp_path: Path, isolation: str) -> None:
    async with serve(tmp_path, accounts=["a", "b"], balancer__isolation=isolation) as service:
        await service.message()
        asked, affinity = len(service.simulator.ledger), service.parts.affinity
        before = [service.parts.pool.view(account) for account in service.parts.pool]
        turns, resources = dict(affinity.turns), len(affinity.resources)
        conversations = len(affinity.conversations)
        for question in (
            TURN | {"body": MESSAGE},
            TURN | {"body": MESSAGE | AGAIN},
            {"path": "/v1/files", "method": "POST"},
            {"path": "/v1/files/file_011CNha8iCJcU1wXNR6q4V8w"},
            {"path": "/v1/files"},
            TURN | {"method": "POST", "headers": {"x-claude-code-session-id": "new"}},
        ):
            for _ in range(3):
                one, other = await ask(service, **question), await ask(service, **question)
                assert one == other
        assert len(service.simulator.ledger) == asked
        assert [service.parts.pool.view(account) for account in service.parts.pool] == before
        assert (dict(affinity.turns), len(affinity.resources)) == (turns, resources)
        assert len(affinity.conversations) == conversations
        assert affinity.resources.home("tests") is None
        assert (await service.message()).header("x-proxy-account") == "b"


async def test_an_id_that_nobody_knows_yet_is_told_as_such_without_isolation(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"], balancer__isolation="none") as service:
        found = await ask(service, path="/v1/files/file_011CNha8iCJcU1wXNR6q4V8w")
        assert names(found) == (None, None)
        assert "each account would be asked for it" in found["error"]["message"]
