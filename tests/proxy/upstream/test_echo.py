"""Whoever echoes a request does not show its credential to the client."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
from backports import zstd

from proxy.feed import Happened
from proxy.simulator import Answer, Fault, Raw
from proxy.upstream.echo import MOST_BYTES
from tests.service import Service, serve, upstream_key

KEY = upstream_key("a")
ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
    "gzip, br": lambda body: brotli.compress(gzip.compress(body)),
    "GZIP": gzip.compress,
}
PAGE = b"<pre>GET /v1/models\nx-api-key: %b\n</pre>" % KEY.encode()


async def check_withheld(service: Service, fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    service.simulator.always(None, fault)
    answer = await service.message()
    assert (answer.status, answer.json()["error"]["type"]) == (502, "api_error")
    assert (answer.header("x-proxy-account"), answer.header("x-should-retry")) == ("a", "false")
    shown = f"{answer.headers} {answer.body!r} {caplog.text} {[a.view() for a in service.parts.pool]}"
    assert KEY not in shown and KEY[:40] not in shown
    assert "sent the credential back" in caplog.text
    assert service.transfers == 0


@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 404, 429, 500, 529])
@pytest.mark.parametrize(
    "line", ["X-Echo: {}", "X-Echo: Bearer {}", "{}: 1", "Set-Cookie: k={}; Path=/", "Connection: {}"]
)
async def test_no_head_with_the_credential_reaches_a_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, line: str
) -> None:
    raw = f"HTTP/1.1 {status} So\r\n{line.format(KEY)}\r\nContent-Length: 0\r\n\r\n".encode()
    async with serve(tmp_path, retry__max_attempts="1") as service:
        await check_withheld(service, Raw(raw), caplog)


async def test_no_reason_with_the_credential_reaches_a_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = f"HTTP/1.1 200 {KEY}\r\nContent-Length: 0\r\n\r\n".encode()
    async with serve(tmp_path) as service:
        await check_withheld(service, Raw(raw), caplog)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 413, 500, 529])
@pytest.mark.parametrize("encoding", ENCODE)
async def test_no_error_with_the_credential_in_its_body_reaches_a_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, encoding: str
) -> None:
    headers = (("content-type", "text/html"), ("content-encoding", encoding))
    async with serve(tmp_path, retry__max_attempts="1") as service:
        await check_withheld(service, Answer(status, headers, ENCODE[encoding](PAGE)), caplog)


@pytest.mark.parametrize("before", [60_000, 65_530, 131_000, 900_000])
async def test_it_is_found_wherever_it_stands_and_however_it_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: int
) -> None:
    async with serve(tmp_path, retry__max_attempts="1") as service:
        await check_withheld(service, Answer(500, (), b" " * before + PAGE), caplog)


async def test_an_error_that_is_cut_shows_it_no_more_than_a_whole_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = b"HTTP/1.1 404 So\r\nContent-Length: 9999\r\n\r\n" + PAGE
    async with serve(tmp_path, retry__max_attempts="1") as service:
        await check_withheld(service, Raw(raw), caplog)


async def test_a_token_is_found_as_a_key_is(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=()) as service:
        _, grant = await service.add_login("a")
        service.simulator.script(None, Answer(404, (), b"Bearer " + grant.access_token.encode()))
        answer = await service.message()
        assert answer.status == 502
        assert grant.access_token.encode() not in answer.body


@pytest.mark.parametrize("encoding", ["", "gzip", "br"])
async def test_an_error_too_large_to_look_through_is_a_502(tmp_path: Path, encoding: str) -> None:
    async with serve(tmp_path, retry__max_attempts="1") as service:
        body = ENCODE[encoding](b" " * (MOST_BYTES + 1) + PAGE)
        service.simulator.script(None, Answer(404, (("content-encoding", encoding),), body))
        answer = await service.message()
        assert (answer.status, answer.json()["error"]["type"]) == (502, "api_error")


@pytest.mark.parametrize("encoding", [*ENCODE, "compress", "gzip, what"])
async def test_an_error_without_it_passes_byte_for_byte(tmp_path: Path, encoding: str) -> None:
    body = ENCODE.get(encoding, bytes)(b"sk-ant-api03-of-another" * 5000)
    async with serve(tmp_path) as service:
        service.simulator.script(None, Answer(404, (("content-encoding", encoding),), body))
        answer = await service.message()
        assert (answer.status, answer.body) == (404, body)


async def test_admins_are_told_once_a_minute(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        told: list[Happened] = []
        service.parts.feed.on_event(told.append)
        service.simulator.always(None, Answer(404, (), PAGE))
        for _ in range(3):
            await service.message()
        [event] = [each for each in told if each.kind == "upstream.echoed"]
        assert (event.level, KEY in event.text) == ("error", False)
        assert event.text.startswith("the upstream sent the credential of a back")
        service.clock.advance(60)
        await service.message()
        assert [each.kind for each in told].count("upstream.echoed") == 2
