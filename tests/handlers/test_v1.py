"""`/v1/*` from the client's side: what is refused before its body is read, and what crosses as it is.

Long: lists of requests, one test for each list.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest

from handlers.v1 import V1, V1Request
from proxy.clients.keys import KeyStatus
from proxy.http.body import Body
from proxy.simulator import Answer, Error, Raw, Steady
from proxy.usage.allowance import price
from proxy.usage.request import RequestRecord
from proxy.usage.request_log import Wanted
from tests.service import (
    CLIENT_KEY,
    MESSAGE_HEADERS,
    Service,
    SteppedClock,
    message,
    serve,
    until,
    upstream_key,
)
from tests.wire import Answer as Got
from tests.wire import Wire, connect, request_bytes

KEY = ("x-api-key", CLIENT_KEY)
BAD_KEY = ("x-api-key", "sk-ant-not-a-key-of-this-proxy")
POST = ("POST", "/v1/messages")


def check_error(answer: Got, status: int, type: str) -> None:
    """The Claude API's shape, as its SDKs read it."""
    body = answer.json()
    assert (answer.status, body["type"], body["error"]["type"]) == (status, "error", type)
    assert body["error"]["message"]
    assert body["request_id"].startswith("req_")
    assert (answer.header("request-id"), answer.header("content-type")) == (
        body["request_id"],
        "application/json",
    )


async def whole(wire: Wire, *, head: bool = False) -> Got:
    answer = await wire.answer(head=head)
    await answer.read()
    return answer


async def rest(wire: Wire) -> bytes:
    """All that comes until the other side closes."""
    async with asyncio.timeout(5):
        return await wire.reader.read()


# --- refused before the body is read ----------------------------------------------------------------------


@pytest.mark.parametrize("framing", [("Content-Length", "1000"), ("Transfer-Encoding", "chunked")])
async def test_a_wrong_key_is_refused_while_the_body_is_unsent(
    tmp_path: Path, framing: tuple[str, str]
) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes(*POST, [BAD_KEY, framing]))
        answer = await whole(wire)
        check_error(answer, 401, "authentication_error")
        assert answer.header("x-should-retry") == "false"
        assert len(service.simulator.ledger) == 0


@pytest.mark.parametrize("target", ["/v1/v1/messages?beta=true", "/messages", "/models", "//v1/messages"])
async def test_a_wrong_base_url_is_told_in_the_shape_that_its_client_reads(
    tmp_path: Path, target: str
) -> None:
    async with serve(tmp_path) as service:
        answer = await service.send("POST", target, MESSAGE_HEADERS, message())
        check_error(answer, 404, "not_found_error")
        assert "base URL" in answer.json()["error"]["message"]
        assert answer.header("x-should-retry") == "false"
        assert len(service.simulator.ledger) == 0
        check_error(await service.send("GET", target, key="wrong"), 401, "authentication_error")


async def test_a_wrong_key_is_refused_without_a_100_continue(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        headers = [BAD_KEY, ("Expect", "100-continue"), ("Content-Length", "1000")]
        await wire.send(request_bytes(*POST, headers))
        answer = await rest(wire)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert answer.count(b"HTTP/1.1") == 1
        assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    ("version", "headers", "body"),
    [
        ("HTTP/1.1", [("Expect", "100-continue")], b""),
        ("HTTP/1.1", [("Expect", "other"), ("Content-Length", "4")], b"body"),
        (
            "HTTP/1.0",
            [("Expect", "100-continue"), ("Connection", "keep-alive"), ("Content-Length", "4")],
            b"body",
        ),
    ],
    ids=["no body", "another expectation", "HTTP/1.0"],
)
async def test_a_refusal_keeps_the_connection_if_no_body_is_withheld(
    tmp_path: Path, version: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        refused = request_bytes("POST", POST[1], [BAD_KEY, *headers], body or None)
        await wire.send(refused.replace(b"HTTP/1.1", version.encode(), 1))
        assert (await whole(wire)).status == 401
        await wire.send(request_bytes("GET", "/v1/models", [KEY]))
        assert (await whole(wire)).status == 200


@pytest.mark.parametrize("spelled", ["100-continue", "100-Continue", "100-CONTINUE"])
async def test_a_right_key_gets_its_100_continue(tmp_path: Path, spelled: str) -> None:
    body = message()
    async with serve(tmp_path) as service, connect(service.port) as wire:
        headers = [KEY, *MESSAGE_HEADERS, ("Expect", spelled), ("Content-Length", str(len(body)))]
        await wire.send(request_bytes(*POST, headers))
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await wire.send(body)
        assert (await whole(wire)).status == 200
        assert service.simulator.ledger[0].header("expect") is None


@pytest.mark.parametrize("length", [1001, 10**9, 10**18 - 1])
async def test_too_large_a_body_is_refused_by_its_length(tmp_path: Path, length: int) -> None:
    async with serve(tmp_path, server__max_body_size="1000") as service, connect(service.port) as wire:
        await wire.send(request_bytes(*POST, [KEY, ("Content-Length", str(length))]))
        answer = await whole(wire)
        check_error(answer, 413, "request_too_large")
        assert answer.header("x-should-retry") == "false"
        assert len(service.simulator.ledger) == 0


async def test_too_large_a_body_is_refused_with_expect(tmp_path: Path) -> None:
    async with serve(tmp_path, server__max_body_size="1000") as service, connect(service.port) as wire:
        headers = [KEY, ("Expect", "100-continue"), ("Content-Length", "1001")]
        await wire.send(request_bytes(*POST, headers))
        assert (await rest(wire)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("chunk", [1, 100, 999, 1001, 70_000])
async def test_too_large_a_body_is_refused_as_it_grows(tmp_path: Path, chunk: int) -> None:
    async with serve(tmp_path, server__max_body_size="1000") as service, connect(service.port) as wire:
        await wire.send(request_bytes(*POST, [KEY, ("Transfer-Encoding", "chunked")]))
        await wire.send((b"%x\r\n" % chunk + b"x" * chunk + b"\r\n") * (1000 // chunk + 1))
        check_error(await whole(wire), 413, "request_too_large")
        assert len(service.simulator.ledger) == 0


@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
async def test_the_largest_body_allowed_passes(tmp_path: Path, framing: str) -> None:
    async with serve(tmp_path, server__max_body_size="1000") as service, connect(service.port) as wire:
        if framing == "chunked":
            await wire.send(request_bytes(*POST, [KEY, ("Transfer-Encoding", "chunked")]))
            await wire.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n")
        else:
            await wire.send(request_bytes(*POST, [KEY], b"x" * 1000))
        await whole(wire)
        assert service.simulator.ledger[0].body_length == 1000


@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
@pytest.mark.parametrize("key", [KEY, BAD_KEY], ids=["too large", "wrong key"])
async def test_a_client_that_sends_first_and_reads_then_gets_one_whole_answer(
    tmp_path: Path, key: tuple[str, str], framing: str, size: int
) -> None:
    """To close while it sends would reset the answer away from it."""
    async with serve(tmp_path, server__max_body_size="10") as service, connect(service.port) as wire:
        body = b"x" * size
        if framing == "chunked":
            await wire.send(request_bytes(*POST, [key, ("Transfer-Encoding", "chunked")]))
            await wire.send(b"%x\r\n" % size + body + b"\r\n0\r\n\r\n")
        else:
            await wire.send(request_bytes(*POST, [key], body))
        answer = await whole(wire)
        assert answer.status == (413 if key is KEY else 401)
        if answer.header("connection") == "close":
            assert await rest(wire) == b""
        else:
            await wire.send(request_bytes("HEAD", "/"))
            assert (await wire.answer(head=True)).status == 200


@pytest.mark.parametrize("framing", ["Content-Length", "none"])
async def test_a_connection_lives_on_after_a_refusal(tmp_path: Path, framing: str) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes(*POST, [BAD_KEY], message() if framing != "none" else None))
        assert (await whole(wire)).status == 401
        await wire.send(request_bytes(*POST, [KEY, *MESSAGE_HEADERS], message()))
        assert (await whole(wire)).status == 200


# --- wrong keys -------------------------------------------------------------------------------------------


async def test_an_error_of_the_proxy_is_written_as_the_api_writes_its_own(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        ours = await service.send("GET", "/v1/models", key="wrong")
        theirs = await service.send("GET", "/v1/nowhere")
        for answer in (ours, theirs):
            assert answer.body.startswith(b'{"type":"error","error":{"type":"'), answer.body


async def test_ten_wrong_keys_a_minute_are_401_and_the_next_are_429(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        wrong = [(await service.send("GET", "/v1/models", key=f"wrong-{n}")).status for n in range(11)]
        assert wrong == [401] * 10 + [429]
        service.clock.advance(20.5)
        answer = await service.send("GET", "/v1/models", key="wrong")
        check_error(answer, 429, "rate_limit_error")
        assert (answer.header("retry-after"), answer.header("x-should-retry")) == ("40", "false")
        service.clock.advance(60)
        assert (await service.send("GET", "/v1/models", key="wrong")).status == 401


async def test_a_right_key_is_let_in_from_an_address_that_shows_wrong_ones(tmp_path: Path) -> None:
    async with serve(tmp_path, server__trusted_proxies="127.0.0.0/8") as service:
        for number in range(30):
            here = [("X-Forwarded-For", f"2001:db8::{number:x}")]
            answer = await service.send("GET", "/v1/models", here, key="wrong")
        assert answer.status == 429  # a /64 is one address
        assert (await service.send("GET", "/v1/models", here)).status == 200
        elsewhere = [("X-Forwarded-For", "2001:db8:0:1::1")]
        assert (await service.send("GET", "/v1/models", elsewhere, key="wrong")).status == 401
        # Nor do they count as wrong keys of an admin, from the same address.
        assert (await service.admin("GET", "/api/accounts", key="wrong")).status == 401


async def test_no_key_is_no_wrong_one(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        statuses = {(await service.send("GET", "/v1/models", key="")).status for _ in range(15)}
        assert statuses == {401}


MALFORMED = [
    [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
    [("Transfer-Encoding", "chunked"), ("Content-Length", "0")],
    [("Content-Length", "5"), ("Content-Length", "6")],
    [("Content-Length", "0"), ("Content-Length", "0")],
    [("Content-Length", "0, 0")],
    [("Content-Length", "5, 6")],
    [("Content-Length", "5,")],
    [("Content-Length", "abc")],
    [("Content-Length", "-5")],
    [("Content-Length", "+5")],
    [("Content-Length", "0x5")],
    [("Content-Length", "5_0")],
    [("Content-Length", "5.0")],
    [("Content-Length", "1e3")],
    [("Content-Length", "5 5")],
    [("Content-Length", "\xb2")],
    [("Content-Length", "")],
    [("Content-Length", "9" * 19)],
    [("Content-Length", "9" * 5000)],
    [("Transfer-Encoding", "gzip, chunked")],
    [("Transfer-Encoding", "chunked, chunked")],
    [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
    [("Transfer-Encoding", "identity")],
    [("Transfer-Encoding", "xchunked")],
    [("Transfer-Encoding", "")],
]


@pytest.mark.parametrize("headers", MALFORMED, ids=lambda h: "+".join(f"{n[0]}:{v[:16]}" for n, v in h))
async def test_framing_that_two_readers_could_read_differently_is_refused(
    tmp_path: Path, headers: list[tuple[str, str]]
) -> None:
    smuggled = request_bytes("GET", "/v1/models", [KEY])
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes(*POST, [KEY, *headers]) + b"0\r\n\r\n" + smuggled)
        answer = await whole(wire)
        check_error(answer, 400, "invalid_request_error")
        assert await rest(wire) == b""
        assert len(service.simulator.ledger) == 0


@pytest.mark.parametrize("headers", MALFORMED, ids=lambda h: "+".join(f"{n[0]}:{v[:16]}" for n, v in h))
async def test_with_a_wrong_key_malformed_framing_ends_the_connection_too(
    tmp_path: Path, headers: list[tuple[str, str]]
) -> None:
    smuggled = request_bytes("GET", "/v1/models", [KEY])
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes(*POST, [BAD_KEY, *headers]) + b"0\r\n\r\n" + smuggled)
        assert (await whole(wire)).status == 400
        assert await rest(wire) == b""
        assert len(service.simulator.ledger) == 0


BAD_CHUNKS = [
    b"zz\r\n{}\r\n0\r\n\r\n",
    b"-2\r\n{}\r\n0\r\n\r\n",
    b"2\r\n{}XX0\r\n\r\n",
    b"2\r\n{}\r\n0\r\nXX\r\n\r\n",
]


@pytest.mark.parametrize("chunks", BAD_CHUNKS)
async def test_a_malformed_chunk_ends_the_request_with_a_400(tmp_path: Path, chunks: bytes) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes(*POST, [KEY, ("Transfer-Encoding", "chunked")]) + chunks)
        assert (await rest(wire)).startswith(b"HTTP/1.1 400 ")
        assert len(service.simulator.ledger) == 0


@pytest.mark.parametrize("part", [b"", b"x" * 10, b"x" * 5_000_000])
async def test_a_client_that_leaves_inside_its_body_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, part: bytes
) -> None:
    async with serve(tmp_path) as service:
        async with connect(service.port) as wire:
            await wire.send(request_bytes(*POST, [KEY, ("Content-Length", "6000000")]) + part)
            await until(lambda: service.running == 1)
        await until(lambda: service.running == 0)
        assert len(service.simulator.ledger) == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# --- who may call -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        [("x-api-key", CLIENT_KEY)],
        [("X-API-KEY", CLIENT_KEY)],
        [("Authorization", f"Bearer {CLIENT_KEY}")],
        [("authorization", f"bearer  {CLIENT_KEY} ")],
        [("x-api-key", "sk-ant-other"), ("Authorization", f"Bearer {CLIENT_KEY}")],
        [("x-api-key", CLIENT_KEY), ("Authorization", "Bearer sk-ant-other")],
        [("x-api-key", CLIENT_KEY), ("Authorization", f"Bearer {CLIENT_KEY}")],
        [("x-api-key", "sk-ant-other"), ("x-api-key", CLIENT_KEY)],
    ],
    ids=str,
)
async def test_one_valid_key_is_enough_and_none_goes_upstream(
    tmp_path: Path, headers: list[tuple[str, str]]
) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes("GET", "/v1/models", headers))
        assert (await whole(wire)).status == 200
        entry = service.simulator.ledger[0]
        assert (entry.credential, entry.credential_headers) == (upstream_key("a"), ("x-api-key",))
        assert not [value for _, value in entry.headers if CLIENT_KEY in value or "sk-ant-other" in value]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x-api-key", "")],
        [("x-api-key", "sk-ant-other")],
        [("x-api-key", upstream_key("a"))],
        [("x-api-key", CLIENT_KEY[:-1])],
        [("x-api-key", CLIENT_KEY + "x")],
        [("x-api-key", CLIENT_KEY.upper())],
        [("Authorization", CLIENT_KEY)],
        [("Authorization", f"Basic {CLIENT_KEY}")],
        [("Authorization", "Bearer")],
        [("Cookie", f"x-api-key={CLIENT_KEY}")],
        [("x-api-key", "\xe9" * 40)],
    ],
    ids=str,
)
async def test_without_a_valid_key_there_is_a_401(tmp_path: Path, headers: list[tuple[str, str]]) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes("GET", f"/v1/models?key={CLIENT_KEY}", headers))
        answer = await whole(wire)
        check_error(answer, 401, "authentication_error")
        assert answer.header("x-should-retry") == "false"
        assert len(service.simulator.ledger) == 0


@pytest.mark.parametrize("status", [KeyStatus.INACTIVE, KeyStatus.REVOKED])
async def test_a_key_that_was_taken_back_is_refused_at_once(tmp_path: Path, status: KeyStatus) -> None:
    async with serve(tmp_path) as service:
        assert (await service.send("GET", "/v1/models")).status == 200
        token = next(iter(service.parts.keys))
        await service.parts.keys.update(token.id, status=status)
        check_error(await service.send("GET", "/v1/models"), 401, "authentication_error")
        assert len(service.simulator.ledger) == 1


async def test_a_deleted_key_is_refused_at_once(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.parts.keys.remove(next(iter(service.parts.keys)).id)
        assert (await service.send("GET", "/v1/models")).status == 401


# --- paths ------------------------------------------------------------------------------------------------

FORBIDDEN = [
    "/v1",
    "/v1/",
    "/v1?x",
    "/v1//messages",
    "/v1/messages/",
    "/v1/messages//x",
    "/v1/./messages",
    "/v1/../admin",
    "/v1/..",
    "/v1/x/..;/admin",
    "/v1/%2e%2e/admin",
    "/v1/%2E./admin",
    "/v1/.%2e/admin",
    "/v1/%252e%252e/admin",
    "/v1/%25252e%25252e/admin",
    "/v1/a%2fb",
    "/v1/a%252fb",
    "/v1/a\\b",
    "/v1/..\\admin",
    "/v1/a%5cb",
    "/v1/%00",
    "/v1/a%00b",
    "/v1/a%0d%0ab",
    "/v1/%c0%ae%c0%ae/admin",
    "/v1/%zz",
    "/v1/a#b",
    "/v1/caf\xe9",
    "http://api.anthropic.com/v1/messages",
    "https://evil.example/v1/messages",
    "HTTP://127.0.0.1/v1/messages",
    "evil.example:443",
    "v1/messages",
    "*",
    "?x",
    "@evil.example/v1/messages",
    "\\v1\\messages",
]
NO_TARGETS = ["/v1/a\0b", "/v1/a\x01b", "/v1/a\x7f", "/v1/a b"]
ADMIN = [
    "/v1/oauth/token",
    "/v1/oauth/token?x=1",
    "/v1/oauth/%74oken",
    "/v1/organizations",
    "/v1/organizations/me",
    "/v1/organizations/invites/x?y",
    "/v1/%6frganizations/me",
    "/v1/Organizations/me",
]


@pytest.mark.parametrize("target", FORBIDDEN)
async def test_a_path_that_may_not_go_upstream_does_not(tmp_path: Path, target: str) -> None:
    async with serve(tmp_path) as service:
        answer = await service.send("GET", target)
        check_error(answer, 400, "invalid_request_error")
        assert answer.header("x-should-retry") == "false"
        assert len(service.simulator.ledger) == 0


@pytest.mark.parametrize("target", NO_TARGETS)
async def test_a_request_line_that_is_none_gets_a_400(tmp_path: Path, target: str) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes("GET", target, [KEY]))
        assert (await wire.answer()).status == 400
        assert len(service.simulator.ledger) == 0


@pytest.mark.parametrize("target", ["//v1/messages", "/V1/messages", "/x/../v1/messages", "/%761/messages"])
async def test_what_only_looks_like_v1_is_no_way_upstream(tmp_path: Path, target: str) -> None:
    async with serve(tmp_path) as service:
        assert (await service.send("GET", target)).status == 404
        assert len(service.simulator.ledger) == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("target", ADMIN)
async def test_the_operator_s_own_rights_are_not_handed_out(tmp_path: Path, method: str, target: str) -> None:
    async with serve(tmp_path) as service:
        check_error(await service.send(method, target), 404, "not_found_error")
        assert len(service.simulator.ledger) == 0


@pytest.mark.parametrize("target", ADMIN)
async def test_an_operator_can_open_the_admin_paths(tmp_path: Path, target: str) -> None:
    async with serve(tmp_path, claude__allow_admin_paths="true") as service:
        service.simulator.script(None, Answer(200, (), b"{}"))
        service.simulator.script(None, Answer(200, (), b"{}"), path="/v1/oauth/")
        assert (await service.send("POST", target, [], b"{}")).status == 200
        assert service.simulator.ledger[0].target == target


async def test_paths_are_judged_after_the_key(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert (await service.send("GET", "/v1/../admin", key="unknown")).status == 401


@pytest.mark.parametrize(
    "target",
    [
        "/v1/messages?beta=true",
        "/v1/models?limit=1&after_id=&x",
        "/v1/models/claude%2Dx%3A1",
        "/v1/unknown/and/deep",
        "/v1/models?",
        "/v1/models?a=../..&b=%2e%2e&c=//&d=%00",
        "/v1/models?q=caf\xc3\xa9",
    ],
)
async def test_path_and_query_go_up_as_they_came(tmp_path: Path, target: str) -> None:
    async with serve(tmp_path) as service:
        await service.send("GET", target)
        assert service.simulator.ledger[0].target == target


# --- what crosses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, b"", b"{}"], ids=["no body", "empty", "body"])
@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "get", "X-Y!", "QUERY"]
)
async def test_every_method_crosses_with_its_body(tmp_path: Path, method: str, body: bytes | None) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Answer(200, (), b"answer"))
        answer = await service.send(method, "/v1/things", [], body)
        entry = service.simulator.ledger[0]
        assert (answer.status, answer.body) == (200, b"answer")
        assert (entry.method, entry.target, entry.body) == (method, "/v1/things", body or b"")
        assert entry.header("content-length") == (None if body is None else str(len(body)))
        assert entry.header("transfer-encoding") is None


@pytest.mark.parametrize("key", [KEY, BAD_KEY, ("x-a", "b")], ids=["key", "wrong key", "no key"])
@pytest.mark.parametrize("method", ["TRACE", "TRACK", "CONNECT", "trace", "Connect"])
async def test_what_would_echo_the_credential_or_tunnel_never_goes_upstream(
    tmp_path: Path, method: str, key: tuple[str, str]
) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        for target in ("/v1/messages", "/v1", "/", "/health", "/api/accounts", "/none", "*", "a:443"):
            for body in (None, b"{}"):
                await wire.send(request_bytes(method, target, [key], body))
                answer = await whole(wire)
                check_error(answer, 405, "invalid_request_error")
                assert answer.header("x-should-retry") == "false"
                assert "POST" in (answer.header("allow") or "")
        assert list(service.simulator.ledger) == []


@pytest.mark.parametrize("body", [None, b"", b"{}"], ids=["no body", "empty", "body"])
async def test_head_crosses_with_the_length_and_without_a_body(tmp_path: Path, body: bytes | None) -> None:
    async with serve(tmp_path, server__request_timeout="2s") as service, connect(service.port) as wire:
        service.simulator.script(None, Answer(200, (("x-thing", "1"),), b"x" * 77))
        await wire.send(request_bytes("HEAD", "/v1/models", [KEY], body))
        answer = await wire.answer(head=True)
        assert (answer.status, answer.header("content-length")) == (200, "77")
        assert answer.header("x-thing") == "1"
        assert service.simulator.ledger[0].method == "HEAD"
        await wire.send(request_bytes("GET", "/v1/models", [KEY]))
        assert (await whole(wire)).status == 200


@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize("body", [None, b"{}"], ids=["no body", "body"])
async def test_a_body_that_the_upstream_sends_to_head_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, body: bytes | None, status: int
) -> None:
    async with serve(tmp_path, retry__max_attempts="1") as service, connect(service.port) as wire:
        service.simulator.script(None, Raw(b"HTTP/1.1 %d OK\r\nContent-Length: 5\r\n\r\nwrong" % status))
        await wire.send(request_bytes("HEAD", "/v1/models", [KEY], body))
        assert (await wire.answer(head=True)).status == status
        service.clock.advance(3601)  # past what a 429 costs
        await wire.send(request_bytes("GET", "/v1/models", [KEY]))
        assert (await whole(wire)).status == 200
        assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("status", [401, 404, 400])
async def test_an_error_to_head_has_no_body(tmp_path: Path, status: int) -> None:
    target = {401: "/v1/models", 404: "/v1/organizations", 400: "/v1/.."}[status]
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes("HEAD", target, [BAD_KEY if status == 401 else KEY]))
        assert (await wire.answer(head=True)).status == status
        await wire.send(request_bytes("GET", "/v1/models", [KEY]))
        assert (await whole(wire)).status == 200


async def test_nothing_is_added_to_a_request_but_the_key(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for body in (None, b"{}"):
            await service.send("POST", "/v1/messages", [], body)
        names = [sorted(name for name, _ in entry.headers) for entry in service.simulator.ledger]
        assert names == [["Host", "X-Api-Key"], ["Content-Length", "Host", "X-Api-Key"]]


async def test_headers_go_up_repeated_and_empty_and_in_order(tmp_path: Path) -> None:
    sent = [
        ("X-One", "a"),
        ("X-One", ""),
        ("X-One", "b, c"),
        ("X-Empty", ""),
        ("X-Latin", "caf\xe9"),
        ("X-Spaces", "a  b"),
        ("Accept", "*/*"),
        ("User-Agent", "client/1"),
        ("Anthropic-Beta", "one,two"),
        ("Content-Encoding", "identity"),
    ]
    async with serve(tmp_path) as service:
        await service.send("GET", "/v1/models", sent)
        arrived = [
            pair for pair in service.simulator.ledger[0].headers if pair[0] not in ("Host", "X-Api-Key")
        ]
        assert arrived == sent


async def test_headers_come_down_repeated_and_empty_and_in_order(tmp_path: Path) -> None:
    sent = (
        ("X-One", "a"),
        ("X-One", ""),
        ("X-One", "b, c"),
        ("X-Empty", ""),
        ("X-Latin", "caf\xe9"),
    )
    async with serve(tmp_path) as service:
        service.simulator.script(None, Answer(200, sent, b"{}"))
        answer = await service.send("GET", "/v1/models")
        assert [pair for pair in answer.headers if pair in sent] == [*sent]


async def test_what_may_not_cross_stops_here(tmp_path: Path) -> None:
    stopped = [
        ("Cookie", "session=secret"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Proto", "https"),
        ("Proxy-Authorization", "Basic secret"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("Keep-Alive", "timeout=5"),
        ("Connection", "keep-alive, x-named"),
        ("X-Named", "by Connection"),
    ]
    async with serve(tmp_path) as service:
        service.simulator.script(None, Answer(200, (("Set-Cookie", "a=b"), ("Keep-Alive", "1")), b"{}"))
        answer = await service.send("GET", "/v1/models", stopped)
        assert {name for name, _ in service.simulator.ledger[0].headers} == {"Host", "X-Api-Key"}
        assert answer.header("set-cookie") is None
        assert answer.header("keep-alive") is None


async def test_a_chunked_body_arrives_whole(tmp_path: Path) -> None:
    body = message(metadata={"user_id": "x" * 200_000})
    pieces = [body[i : i + 7001] for i in range(0, len(body), 7001)]
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes(*POST, [KEY, *MESSAGE_HEADERS, ("Transfer-Encoding", "chunked")]))
        for piece in pieces:
            await wire.send(b"%X\r\n" % len(piece) + piece + b"\r\n")
        await wire.send(b"0\r\n\r\n")
        assert (await whole(wire)).status == 200
        entry = service.simulator.ledger[0]
        assert (entry.body, entry.header("content-length")) == (body, str(len(body)))


async def test_a_body_sent_byte_by_byte_arrives_whole(tmp_path: Path) -> None:
    body = message()
    async with serve(tmp_path) as service, connect(service.port) as wire:
        for byte in request_bytes(*POST, [KEY, *MESSAGE_HEADERS], body):
            await wire.send(bytes([byte]))
        assert (await whole(wire)).status == 200
        assert service.simulator.ledger[0].body == body


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


async def test_a_large_upload_is_kept_on_disk_and_arrives_whole(tmp_path: Path) -> None:
    piece, count = bytes(range(256)) * 4096, 100
    async with serve(tmp_path) as service, connect(service.port) as wire:
        service.simulator.script(upstream_key("a"), Error(529))  # so that it is sent twice
        gc.collect()
        before = most = resident_bytes()
        await wire.send(
            request_bytes("POST", "/v1/things", [KEY, ("Content-Length", str(len(piece) * count))])
        )
        digest = hashlib.sha256()
        for _ in range(count):
            await wire.send(piece)
            digest.update(piece)
            most = max(most, resident_bytes())
        async with asyncio.timeout(30):
            assert (await whole(wire)).status == 404
        most = max(most, resident_bytes())
        assert [entry.body_sha256 for entry in service.simulator.ledger] == [digest.hexdigest()] * 2
        assert most - before < 64_000_000


# --- connections ------------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        targets = [f"/v1/models/{n}" for n in range(10)]
        for target in targets:
            service.simulator.script(None, Answer(200, (), target.encode()), path=target)
        await wire.send(b"".join(request_bytes("GET", target, [KEY]) for target in targets))
        assert [(await whole(wire)).body.decode() for _ in targets] == targets


async def test_pipelined_requests_may_be_refused_in_between(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        one = request_bytes(*POST, [KEY, *MESSAGE_HEADERS], message())
        refused = request_bytes(*POST, [BAD_KEY], b"{}")
        await wire.send(one + refused + one)
        assert [(await whole(wire)).status for _ in range(3)] == [200, 401, 200]


async def test_many_requests_share_a_connection(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        for stream in (False, True) * 10:
            await wire.send(request_bytes(*POST, [KEY, *MESSAGE_HEADERS], message(stream=stream)))
            assert (await whole(wire)).status == 200
        assert len({entry.connection for entry in service.simulator.ledger}) == 1


async def test_a_client_that_asks_for_it_gets_its_connection_closed(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes("GET", "/v1/models", [KEY, ("Connection", "close")]))
        answer = await whole(wire)
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert await rest(wire) == b""


@pytest.mark.parametrize("stream", [False, True])
async def test_http_1_0_gets_a_plain_answer_that_ends_with_the_connection(
    tmp_path: Path, stream: bool
) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        request = request_bytes(*POST, [KEY, *MESSAGE_HEADERS], message(stream=stream))
        await wire.send(request.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        head, _, body = (await rest(wire)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"transfer-encoding" not in head.lower()
        assert body.endswith(b'data: {"type":"message_stop"}\n\n' if stream else b"}")


async def test_http_1_0_can_keep_its_connection(tmp_path: Path) -> None:
    request = request_bytes("GET", "/v1/models", [KEY, ("Connection", "keep-alive")])
    async with serve(tmp_path) as service, connect(service.port) as wire:
        for _ in range(2):
            await wire.send(request.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            answer = await whole(wire)
            assert (answer.status, answer.header("connection")) == (200, "Keep-Alive")


async def test_a_request_while_draining_gets_a_503(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service, connect(service.port) as other:
        await other.send(request_bytes("GET", "/v1/models", [KEY]))
        await whole(other)
        service.simulator.script(None, Steady(3, interval_s=0.5))
        stream = asyncio.create_task(service.message(stream=True))
        await clock.asleep(0.5)
        drain = asyncio.create_task(service.parts.server.drain())
        await clock.asleep(0.05)
        await other.send(request_bytes(*POST, [KEY], message()))
        answer = await whole(other)
        check_error(answer, 503, "api_error")
        assert (answer.header("retry-after"), answer.header("x-should-retry")) == ("1", None)
        await other.send(request_bytes("GET", "/health/ready"))
        assert (await whole(other)).status == 503
        for _ in range(8):  # of nine events
            await clock.asleep(0.5)
            clock.advance(0.5)
        assert (await stream).status == 200
        clock.advance(0.05)
        await drain


async def test_requests_that_end_together_are_each_counted_once(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answers = await asyncio.gather(*(service.message() for _ in range(8)))
        assert [answer.status for answer in answers] == 8 * [200]
        ids = [kept.request_id for kept in service.parts.request_log.find(Wanted())]
        assert len(ids) == len(set(ids)) == 8
        [token] = service.parts.keys
        assert service.parts.series.day("token", token.id).ok == 8
        assert service.parts.server.running == 0


async def test_requests_that_have_ended_well_are_not_said_to_be_cut_by_a_shutdown_in_that_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = V1.ended

    def cut_then(server: V1, request: V1Request) -> None:
        ended(server, request)
        server.cut_all()

    monkeypatch.setattr(V1, "ended", cut_then)
    async with serve(tmp_path) as service:
        answers = await asyncio.gather(*(service.message() for _ in range(8)))
        kept = service.parts.request_log.find(Wanted())
    assert 200 in {answer.status for answer in answers}
    assert all((each.outcome == "ok") is (each.cut_by is None) for each in kept)


async def test_a_request_whose_end_fails_is_counted_and_no_shutdown_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Body.close

    def fails(body: Body) -> None:
        close(body)
        raise RuntimeError("an end like no other")

    async with serve(tmp_path) as service:
        with monkeypatch.context() as patched:
            patched.setattr(Body, "close", fails)
            assert (await service.message()).status == 200
            await until(lambda: service.parts.server.running == 0)
        assert [each.outcome for each in service.parts.request_log.find(Wanted())] == ["ok"]


async def test_a_request_that_cannot_be_counted_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[RequestRecord] = []

    def priced(record: RequestRecord, now: float) -> None:
        seen.append(record)
        if len(seen) == 1:
            raise RuntimeError("a record like no other")
        price(record, now)

    monkeypatch.setattr("proxy.assembly.relay.price", priced)
    async with serve(tmp_path) as service:
        answers = await asyncio.gather(*(service.message() for _ in range(8)))
        assert [answer.status for answer in answers] == 8 * [200]
        ids = {kept.request_id for kept in service.parts.request_log.find(Wanted())}
        assert ids == {record.id for record in seen[1:]} and len(ids) == 7
        assert (await service.message()).status == 200
        assert service.parts.server.running == 0
    failed = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in failed] == [f"request not counted request={seen[0].id}"]


async def test_a_shutdown_counts_all_that_it_cuts_at_once(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock) as service:
        for _ in range(5):
            service.simulator.script(None, Steady(3, interval_s=60))
        streams = [asyncio.create_task(service.message(stream=True)) for _ in range(5)]
        await until(lambda: service.parts.server.running == 5 and len(service.simulator.ledger) == 5)
        service.parts.server.drain_timeout_s = 0
        drain = asyncio.create_task(service.parts.server.drain())
        await clock.asleep(0.05)
        clock.free()
        await drain
        cut = [kept.cut_by for kept in service.parts.request_log.find(Wanted())]
        assert cut == 5 * ["shutdown"]
        for stream in streams:
            stream.cancel()


async def test_no_connection_is_accepted_while_draining(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.parts.server.drain()
        with pytest.raises(ConnectionRefusedError):
            await service.send("GET", "/v1/models")


# --- probes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/", "/api/hello"])
async def test_clients_probe_without_a_key(tmp_path: Path, target: str) -> None:
    async with serve(tmp_path, accounts=()) as service, connect(service.port) as wire:
        for _ in range(2):
            await wire.send(request_bytes("HEAD", target))
            assert (await wire.answer(head=True)).status == 200
        assert len(service.simulator.ledger) == 0


async def health(service: Service, target: str) -> tuple[int, dict[str, Any]]:
    async with connect(service.port) as wire:
        await wire.send(request_bytes("GET", target))
        answer = await whole(wire)
        return answer.status, answer.json()


async def test_health_is_open_and_says_how_it_is(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b")) as service:
        status, body = await health(service, "/health")
        assert (status, body["status"]) == (200, "healthy")
        assert body["version"] and body["uptime_seconds"] >= 0
        service.simulator.revoke(upstream_key("a"))
        await service.message()
        assert (await health(service, "/health"))[1]["status"] == "degraded"
        service.simulator.revoke(upstream_key("b"))
        await service.message()
        assert (await health(service, "/health"))[1]["status"] == "unhealthy"


async def test_only_the_pool_needs_a_usable_account(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=()) as service:
        assert [(await health(service, f"/health/{of}"))[0] for of in ("ready", "pool")] == [200, 503]
        await service.add_account("a")
        assert [(await health(service, f"/health/{of}"))[0] for of in ("ready", "pool")] == [200, 200]
