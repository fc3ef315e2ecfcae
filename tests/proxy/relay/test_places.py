"""Where requests go: what was made is found again, conversations stay, and what becomes of them if they cannot."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from proxy.errors import StorageError
from proxy.simulator import Answer as Canned
from proxy.simulator import Error, quota_429
from proxy.storage.timed import Timed
from tests.proxy.simulator.uploads import FORM, form
from tests.service import CLIENT_KEY, MESSAGE_HEADERS, Service, kept_text, message, serve, upstream_key
from tests.wire import Answer, connect, fetch

DAY = 86_400.0
THREE = ("a", "b", "c")
CODE = [{"type": "code_execution_20250825", "name": "code_execution"}]
JSON = [("content-type", "application/json")]


async def upload(service: Service, **options: str) -> Answer:
    headers = [("content-type", FORM), *((name.replace("_", "-"), value) for name, value in options.items())]
    return await service.send("POST", "/v1/files", headers, form(("file", "a.txt", b"hello")))


async def say(service: Service, *headers: tuple[str, str], **fields: Any) -> Answer:
    return await service.send("POST", "/v1/messages", [*MESSAGE_HEADERS, *headers], message(**fields))


def port_of(service: Service) -> int:
    """Of its simulator."""
    return int(service.simulator.base_url.rpartition(":")[2])


def account(answer: Answer) -> str:
    return str(answer.header("x-proxy-account"))


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["error"]["message"]


# ---- what lasts


async def test_what_a_group_makes_one_after_the_other_lies_together_and_is_found(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        files = [await upload(service) for _ in range(4)]
        assert len({account(each) for each in files}) == 1
        for each in files:
            found = await service.send("GET", f"/v1/files/{each.json()['id']}/content")
            assert (found.status, found.body, account(found)) == (200, b"hello", account(each))


async def test_what_was_made_is_found_after_a_restart(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        made = await upload(service)
        text = kept_text(tmp_path, "resources")
        assert made.json()["id"] in text and upstream_key("a") not in text
    async with serve(tmp_path, accounts=()) as service:
        for name in THREE:
            service.simulator.add_api_key(upstream_key(name), organization=name)
        found = await service.send("GET", f"/v1/files/{made.json()['id']}")
        assert account(found) == account(made)
        assert account(await upload(service)) == account(made)  # the home is remembered too


async def test_an_id_is_on_disk_before_its_client_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered, may_go_on = asyncio.Event(), asyncio.Event()
    append = Timed.append

    async def late(self: Timed, log: str, *args: Any, **options: Any) -> None:
        if log == "resources":
            ordered.set()
            await may_go_on.wait()
        await append(self, log, *args, **options)

    async with serve(tmp_path, accounts=THREE) as service:
        monkeypatch.setattr(Timed, "append", late)
        async with connect(service.port) as wire:
            headers = [("x-api-key", CLIENT_KEY), ("content-type", FORM)]
            asked = asyncio.create_task(
                wire.request("POST", "/v1/files", headers, form(("file", "a.txt", b"hello")))
            )
            await ordered.wait()
            assert not asked.done()
            may_go_on.set()
            assert (await asked).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_tool_of_the_server_makes_is_found(tmp_path: Path, stream: bool) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        for _ in range(3):
            answer = await say(service, tools=CODE, stream=stream, messages=turns("write a file"))
            if stream:
                events = [
                    json.loads(line[6:]) for line in answer.body.decode().split("\n") if line[:5] == "data:"
                ]
                container = next(e["delta"]["container"] for e in events if e["type"] == "message_delta")
            else:
                container = answer.json()["container"]
            later = await say(service, container=container["id"], tools=CODE, messages=turns("again"))
            assert (later.status, account(later)) == (200, account(answer))
            assert container["id"] in kept_text(tmp_path, "resources")


async def test_a_deleted_one_is_forgotten_and_a_404_forgets_nothing(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        made = await upload(service)
        path = f"/v1/files/{made.json()['id']}"
        service.simulator.always(upstream_key(account(made)), Error(404), path="/v1/files")
        assert (await service.send("GET", path)).status == 404
        service.simulator.calm(upstream_key(account(made)))
        assert (await service.send("GET", path)).status == 200
        assert (await service.send("DELETE", path)).status == 200
        asked = len(service.simulator.ledger)
        assert told(await service.send("GET", path)) == (404, f"File `{made.json()['id']}` not found.")
        assert len(service.simulator.ledger) == asked


async def test_a_batch_is_forgotten_a_month_after_its_end(tmp_path: Path) -> None:
    body = {"requests": [{"custom_id": "1", "params": json.loads(message())}]}
    async with serve(tmp_path, accounts=THREE) as service:
        made = await service.send("POST", "/v1/messages/batches", MESSAGE_HEADERS, json.dumps(body).encode())
        path = f"/v1/messages/batches/{made.json()['id']}"
        service.clock.advance(30 * DAY)
        assert account(await service.send("GET", path, MESSAGE_HEADERS)) == account(made)
        service.clock.advance(3 * DAY)
        assert told(await service.send("GET", path)) == (
            404,
            f"Message Batch with id {made.json()['id']} not found.",
        )


async def test_ids_of_two_accounts_in_one_request_are_named(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b")) as service:
        first, second = [await upload(service, x_proxy_account=name) for name in ("a", "b")]
        ids = [each.json()["id"] for each in (first, second)]
        content = [{"type": "document", "source": {"type": "file", "file_id": id}} for id in ids]
        answer = await say(service, messages=[{"role": "user", "content": content}])
        assert answer.status == 400
        assert f"{ids[0]} in 'a' and {ids[1]} in 'b'" in told(answer)[1]


async def test_what_a_limited_account_holds_waits_for_it_and_goes_nowhere_else(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        made = await upload(service)
        holder = account(made)
        service.parts.pool.limit(
            next(each.id for each in service.parts.pool if each.name == holder),
            service.clock.now() + 50,
            "5h",
        )
        answer = await service.send("GET", f"/v1/files/{made.json()['id']}")
        assert answer.status == 429 and f"account '{holder}', which alone can answer this" in told(answer)[1]
        assert (answer.header("retry-after"), answer.header("x-should-retry")) == ("50", None)
        again = await upload(service)
        assert again.status == 429, "a home moves only if it is invalid, inactive or gone"


@pytest.mark.parametrize("how", ["inactive", "gone"])
async def test_a_home_moves_if_its_account_is(tmp_path: Path, how: str) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        made = await upload(service)
        holder = next(each.id for each in service.parts.pool if each.name == account(made))
        if how == "gone":
            await service.admin("DELETE", f"/api/accounts/{holder}")
        else:
            await service.admin("PUT", f"/api/accounts/{holder}", {"status": "inactive"})
        again = await upload(service)
        assert again.status == 200 and account(again) != account(made)
        found = await service.send("GET", f"/v1/files/{made.json()['id']}")
        assert found.status == (404 if how == "gone" else 503)


async def test_without_room_on_the_disk_nothing_more_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise StorageError("no space left on device")

    async with serve(tmp_path, accounts=THREE) as service:
        with monkeypatch.context() as patch:
            patch.setattr(Timed, "append", full)
            made = await upload(service)
            assert made.status == 200  # it is there, and remembered in memory
            reasons = (await service.admin("GET", "/api/admin/statistics")).json()["reasons"]
            assert any("files, batches and the like live is not on disk yet" in each for each in reasons)
            asked = len(service.simulator.ledger)
            assert (await upload(service)).status == 507
            assert len(service.simulator.ledger) == asked
            assert (await service.send("GET", f"/v1/files/{made.json()['id']}")).status == 200
    assert made.json()["id"] in kept_text(tmp_path, "resources")


# ---- by hand, and without isolation


async def test_an_account_is_picked_by_name(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        for name in ("c", "c", "a"):
            assert account(await say(service, ("x-proxy-account", name))) == name
        made = await upload(service, x_proxy_account="b")
        path = f"/v1/files/{made.json()['id']}"
        other = await service.send("GET", path, [("x-proxy-account", "a")])
        assert told(other) == (400, f"x-proxy-account names 'a', and {made.json()['id']} is in 'b'")
        nobody = await say(service, ("x-proxy-account", "z"))
        assert told(nobody) == (400, "x-proxy-account: there is no account 'z'")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"B\xc3\xbcro 1", "Büro 1"),  # as UTF-8
        (b"B\xfcro 1", "Büro 1"),  # as latin-1
        (b"B%C3%BCro 1", "Büro 1"),  # as answers have it
        (b"B%c3%bcro%201", "Büro 1"),
        (b"50%off", "50%off"),
        (b"50%25off", "50%25off"),  # the name itself goes before what it may stand for
        (b"50%2525off", "50%25off"),
    ],
)
async def test_an_account_is_picked_however_its_name_is_written(
    tmp_path: Path, header: bytes, expected: str
) -> None:
    async with serve(tmp_path, accounts=("a", "b", "c", "d")) as service:
        for each, name in zip(list(service.parts.pool), ("a", "50%off", "50%25off", "Büro 1"), strict=True):
            await service.admin("PUT", f"/api/accounts/{each.id}", {"name": name})
        answer = await say(service, ("x-proxy-account", header.decode("latin-1")))
        assert answer.status == 200, answer.body
        assert unquote(account(answer)) == expected


async def test_without_isolation_an_unknown_id_is_looked_up_on_each_account_once(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE, balancer__isolation="none") as service:
        headers = [("x-api-key", upstream_key("c")), ("content-type", FORM)]
        made = await fetch(port_of(service), "POST", "/v1/files", headers, form(("file", "a.txt", b"x")))
        path = f"/v1/files/{made.json()['id']}"
        assert account(await service.send("GET", path)) == "c"
        asked = len(service.simulator.ledger)
        assert account(await service.send("GET", path)) == "c"
        assert len(service.simulator.ledger) == asked + 1
        assert (await service.send("GET", "/v1/files/file_01never")).status == 404


async def test_an_unknown_id_is_asked_of_the_only_account(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        headers = [("x-api-key", upstream_key("a")), ("content-type", FORM)]
        made = await fetch(port_of(service), "POST", "/v1/files", headers, form(("file", "a.txt", b"x")))
        assert (await service.send("GET", f"/v1/files/{made.json()['id']}")).status == 200
        listed = await service.send("GET", "/v1/files")
        assert [each["id"] for each in listed.json()["data"]] == [made.json()["id"]]


# ---- what is in no list of collections


@pytest.mark.parametrize("suffix", ["", ";v=1"])
@pytest.mark.parametrize("id", ["550e8400-e29b-41d4-a716-446655440000", "4711"])
async def test_an_id_of_a_new_collection_counts_whatever_it_looks_like(
    tmp_path: Path, id: str, suffix: str
) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        made = await make_widget(service, id)
        for path in (f"/v1/widgets/{id}", f"/v1/Widgets/{id};v=1", f"/v1/widgets/{id}/content"):
            found = [account(await service.send("GET", path, JSON)) for _ in range(4)]
            assert found == [made] * 4
        other = await service.admin("POST", "/api/tokens", {"name": "other"})
        key = other.json()["token"]["key"]
        asked = len(service.simulator.ledger)
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content"), ("GET", ";v=1")):
            answer = await service.send(method, f"/v1/widgets/{id}{path}", JSON, key=key)
            assert told(answer) == (404, f"{id} not found")
        assert len(service.simulator.ledger) == asked
        assert (await service.send("DELETE", f"/v1/widgets/{id}{suffix}", JSON)).status == 200
        found = [account(await service.send("GET", f"/v1/widgets/{id}", JSON)) for _ in range(3)]
        assert set(found) == set(THREE), "it is forgotten"


async def make_widget(service: Service, id: str) -> str:
    """Make one of a collection that is not known; the name of the account that has it."""
    body = json.dumps({"id": id}).encode()
    service.simulator.always(None, Canned(200, tuple(JSON), body), path="/v1/")
    made = await service.send("POST", "/v1/widgets", JSON, b"{}")
    assert made.status == 200, made.body
    return account(made)


async def test_a_segment_that_is_no_known_id_goes_round(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        await make_widget(service, "4711")
        for path in ("/v1/widgets/list", "/v1/models/4711"):  # what models have belongs to nobody
            found = {account(await service.send("GET", path, JSON)) for _ in range(3)}
            assert found == set(THREE)


async def test_what_does_not_look_like_an_id_is_missing_only_to_the_upstream(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        await make_widget(service, "4711")
        for member in ("environment_id", "container", "agent", "file_id"):
            word = await service.send("POST", "/v1/evals", JSON, json.dumps({member: "staging"}).encode())
            assert word.status == 200, word.body
            body = json.dumps({member: "some_01never"}).encode()
            assert (await service.send("POST", "/v1/evals", JSON, body)).status == 404
        made = account(await service.send("POST", "/v1/widgets", JSON, b"{}"))
        known = [await service.send("POST", "/v1/x/y", JSON, b'{"agent":"4711"}') for _ in range(3)]
        assert [account(each) for each in known] == [made] * 3


# ---- a great many


def batch_of(ids: list[str]) -> bytes:
    source = [{"custom_id": id, "params": {"source": {"file_id": id}}} for id in ids]
    return json.dumps({"requests": source}).encode()


async def test_a_batch_may_name_thousands_of_files(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        ids = [f"file_01{number:06}" for number in range(3000)]
        holder = next(each for each in service.parts.pool if each.name == "b")
        resources, group = service.parts.affinity.resources, next(iter(service.parts.keys)).group_id
        resources.learn(ids, holder.id, group, "files")
        service.simulator.always(None, Canned(200, tuple(JSON), b'{"id":"msgbatch_01there"}'), path="/v1/")
        made = await service.send("POST", "/v1/messages/batches", JSON, batch_of(ids))
        assert (made.status, account(made)) == (200, "b")
        unknown = await service.send("POST", "/v1/messages/batches", JSON, batch_of([*ids, "file_01never"]))
        assert told(unknown) == (404, "File not found: file_01never")


@pytest.mark.parametrize(
    ("accounts", "others", "options", "status"),
    [
        (("a",), False, {}, 200),
        (("a",), True, {}, 400),
        (("a",), True, {"balancer__isolation": "none"}, 200),
        (THREE, False, {}, 400),
    ],
)
async def test_more_ids_than_are_kept_are_refused_only_if_they_decide_anything(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    accounts: tuple[str, ...],
    others: bool,
    options: dict[str, str],
    status: int,
) -> None:
    monkeypatch.setattr("proxy.http.references.MOST_REFERENCES", 10)
    async with serve(tmp_path, accounts=accounts, **options) as service:
        await upload(service)
        if others:
            service.parts.affinity.resources.learn(["file_01x"], "account", "others", "files")
        service.simulator.always(None, Canned(200, tuple(JSON), b'{"id":"msgbatch_01there"}'), path="/v1/")
        ids = [f"file_01{number:06}" for number in range(11)]
        made = await service.send("POST", "/v1/messages/batches", JSON, batch_of(ids))
        assert made.status == status, made.body


async def test_without_isolation_not_every_one_of_many_unknown_ids_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.relay.relay.MOST_LOCATED", 2)
    async with serve(tmp_path, balancer__isolation="none", accounts=("a", "b")) as service:
        service.simulator.always(None, Canned(200, tuple(JSON), b"{}"), path="/v1/")
        for count, status in ((1, 200), (2, 200), (3, 400)):
            ids = [f"file_01{count}{number:06}" for number in range(count)]
            made = await service.send("POST", "/v1/messages/batches", JSON, batch_of(ids))
            assert made.status == status, made.body


# ---- conversations


async def test_turns_stay_with_the_account_of_the_first_and_other_conversations_go_round(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        firsts = [account(await say(service, messages=turns(f"{n}"))) for n in range(3)]
        assert sorted(firsts) == ["a", "b", "c"]
        for _ in range(2):
            for n, first in enumerate(firsts):
                assert account(await say(service, messages=turns(f"{n}", "x", "y"))) == first
        assert account(await say(service, messages=turns("1", "x", "edited"))) == firsts[1]
        assert account(await say(service, messages=turns("1", "x", "y", "z", "on"))) == firsts[1]


async def test_a_single_message_begins_a_conversation_however_often_it_was_sent(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        assert [account(await say(service)) for _ in range(6)] == [*THREE, *THREE]


async def test_turns_of_a_session_go_together_also_those_that_begin_at_once(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        session = ("x-claude-code-session-id", "0b1f1f0e-6f5c-4f0e-9d51-3c4f2d1f8a11")
        answers = await asyncio.gather(*(say(service, session, messages=turns(f"{n}")) for n in range(6)))
        assert len({account(each) for each in answers}) == 1
        user = json.dumps({"session_id": session[1]})
        later = await say(service, metadata={"user_id": user}, messages=turns("new"))
        assert account(later) == account(answers[0])


async def test_a_conversation_moves_once_when_its_account_is_limited_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "proxy.accounts.affinity")
    async with serve(tmp_path, accounts=THREE) as service:
        first = account(await say(service, messages=turns("1")))
        service.simulator.script(upstream_key(first), quota_429(60), path="/v1/messages")
        second = account(await say(service, messages=turns("1", "x", "y")))
        assert second != first
        assert "reason=limited" in caplog.text
        service.clock.advance(61)
        service.tick()
        assert account(await say(service, messages=turns("1", "x", "y", "z", "on"))) == second


async def test_conversations_are_remembered_over_a_restart_and_forgotten_in_time(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        firsts = [account(await say(service, messages=turns(f"{n}"))) for n in range(3)]
        clock = service.clock
    async with serve(tmp_path, accounts=(), clock=clock) as service:
        for name in THREE:
            service.simulator.add_api_key(upstream_key(name), organization=name)
        for n in (2, 1, 0):
            assert account(await say(service, messages=turns(f"{n}", "x", "y"))) == firsts[n]
        clock.advance(3661)
        later = [account(await say(service, messages=turns("0", "x", "y", "z", f"{n}"))) for n in range(3)]
        assert sorted(later) == ["a", "b", "c"]


async def test_with_affinity_off_turns_go_round(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE, balancer__affinity="false") as service:
        says = [account(await say(service, messages=turns("1", "x", f"{n}"))) for n in range(3)]
        assert sorted(says) == ["a", "b", "c"]


async def test_trouble_of_the_upstream_is_tried_again_where_the_conversation_is(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        first = account(await say(service, messages=turns("1")))
        service.simulator.script(upstream_key(first), Error(529), path="/v1/messages")
        later = await say(service, messages=turns("1", "x", "y"))
        assert (account(later), later.header("x-proxy-attempts")) == (first, "2")


async def test_what_another_account_has_signed_is_answered_by_the_one_that_has(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=THREE, balancer__affinity="false") as service:
        thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}
        first = await say(service, messages=turns("1"), **thinking)
        said = [*turns("1"), {"role": "assistant", "content": first.json()["content"]}, *turns("go on")]
        for _ in range(3):
            later = await say(service, messages=said, **thinking)
            assert (later.status, account(later)) == (200, account(first))
        accounts = (await service.admin("GET", "/api/accounts")).json()["accounts"]
        assert {each["status"] for each in accounts} == {"active"}
        assert [each["status_reason"] for each in accounts] == [None] * 3


# ---- threads


THREADS = ("anthropic-beta", "message-threads-2026-08-12")


async def test_a_thread_goes_on_where_it_is_and_where_it_cannot_the_client_is_told_how(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path, accounts=THREE) as service:
        for stream in (False, True):
            first = await say(service, THREADS, thread={"type": "create"}, stream=stream)
            id = first.body.split(b'"id":"')[1].split(b'"')[0].decode()
            thread = {"type": "continue", "previous_message_id": id}
            later = await say(service, THREADS, thread=thread)
            assert (later.status, account(later)) == (200, account(first))
        holder = next(each.id for each in service.parts.pool if each.name == account(later))
        service.parts.pool.limit(holder, service.clock.now() + 60, "5h")
        thread = {"type": "continue", "previous_message_id": later.json()["id"]}
        lost = await say(service, THREADS, thread=thread)
        assert lost.status == 404
        assert lost.json()["error"]["details"] == {"error_code": "thread_not_found"}
