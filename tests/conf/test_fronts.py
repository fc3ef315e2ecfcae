"""nginx, Caddy and HAProxy as conf/ has them: streams, uploads, the feed, addresses and TLS come through whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from handlers.live import SUBPROTOCOL
from proxy.simulator import Steady
from tests.bench.versions import free_port
from tests.conf.fronts import FILES, Front, example, front
from tests.dashboards import Dashboard
from tests.service import (
    ADMIN_KEY,
    CLIENT_KEY,
    MESSAGE_HEADERS,
    Service,
    SteppedClock,
    TestClock,
    message,
    serve,
)

EACH = pytest.mark.parametrize("name", FILES)
HEADERS = [*MESSAGE_HEADERS, ("x-api-key", CLIENT_KEY)]


@contextlib.asynccontextmanager
async def behind(
    name: str, home: Path, clock: TestClock | None = None
) -> AsyncIterator[tuple[Front, Service]]:
    """The proxy as each example wants it configured, and the example before it."""
    port = free_port()
    origin = f"https://localhost:{port}"
    async with (
        serve(
            home, clock=clock, server__public_origins=origin, server__trusted_proxies="127.0.0.1"
        ) as service,
        front(name, home / name, port, service.port) as before,
    ):
        yield before, service


@EACH
async def test_each_event_of_a_stream_comes_at_once(tmp_path: Path, name: str) -> None:
    clock = SteppedClock()
    async with behind(name, tmp_path, clock) as (before, service):
        service.simulator.script(None, Steady(events=3, interval_s=1))
        async with before.connect() as wire:
            answer = await wire.request("POST", "/v1/messages", [*HEADERS, before.host], message(stream=True))
            events = answer.events()
            # The next one is not sent yet, so that nothing in between can have waited for it.
            assert b"message_start" in await anext(events)
            clock.free()
            assert [event async for event in events][-1].startswith(b"event: message_stop")


@EACH
async def test_a_large_upload_passes_unchanged(tmp_path: Path, name: str) -> None:
    content = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(1 << 16)) * 10
    head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="f.bin"\r\n\r\n'
    headers = [
        *HEADERS[:1],
        *HEADERS[2:],
        ("content-type", "multipart/form-data; boundary=b"),
        ("anthropic-beta", "files-api-2025-04-14"),
    ]
    async with behind(name, tmp_path) as (before, service), before.connect() as wire:
        headers += [before.host]
        answer = await wire.request("POST", "/v1/files", headers, head + content + b"\r\n--b--\r\n")
        await answer.read()
        assert answer.status == 200, answer.body
        assert answer.json()["size_bytes"] == len(content) == 20 << 20
        [entry] = [each for each in service.simulator.ledger if each.path == "/v1/files"]
        whole = head + content + b"\r\n--b--\r\n"
        assert entry.body_sha256 == hashlib.sha256(whole).hexdigest()


@EACH
async def test_the_dashboard_signs_in_and_its_feed_is_live(tmp_path: Path, name: str) -> None:
    async with behind(name, tmp_path) as (before, service):
        login = json.dumps({"api_key": ADMIN_KEY}).encode()
        headers = [before.host, ("Origin", before.origin), ("content-type", "application/json")]
        async with before.connect() as wire:
            answer = await wire.request("POST", "/api/auth/login", headers, login)
            await answer.read()
        cookie = answer.header("set-cookie") or ""
        assert answer.status == 200 and "Secure" in cookie
        request = HTTPRequest(
            f"wss://localhost:{before.port}/api/live",
            headers={"Cookie": cookie.partition(";")[0], "Origin": before.origin},
            ca_certs=str(before.certificate),
        )
        page = Dashboard(await websocket_connect(request, subprotocols=[SUBPROTOCOL]))
        await page.hello("accounts")
        await service.add_account("new")
        await page.until(lambda: any(each["name"] == "new" for each in page.items["accounts"].values()))
        page.connection.close()
        await page.closed()


@EACH
async def test_a_client_is_known_by_its_own_address_whatever_it_says(tmp_path: Path, name: str) -> None:
    async with behind(name, tmp_path) as (before, service), before.connect() as wire:
        lied = [("X-Forwarded-For", "203.0.113.9"), before.host]
        answer = await wire.request("POST", "/v1/messages", [*HEADERS, *lied], message())
        await answer.read()
        assert answer.status == 200
        [session] = (await service.admin("GET", "/api/admin/sessions")).json()["sessions"]
    assert session["ip"] == before.CLIENT


@EACH
def test_no_time_out_is_shorter_than_what_it_has_to_wait_for(name: str) -> None:
    waits = re.findall(r"(?:read_timeout|response_header_timeout|timeout server) (\d+)s", example(name))
    idle = re.findall(r"(?:keepalive_timeout|keepalive|timeout http-keep-alive) (\d+)s", example(name))
    assert [int(each) > 600 for each in waits] == [True]
    assert [int(each) < 75 for each in idle] == [True]
