"""What other sites could make an admin's browser do: nothing, neither with the cookie nor under another name."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.service import ADMIN_KEY, CLIENT_KEY, Service, serve
from tests.wire import connect, fetch, request_bytes

LOGIN, ME = "/api/auth/login", "/api/auth/me"
JSON = ("Content-Type", "application/json")
OWN = ("Origin", "http://127.0.0.1")

# ---- other sites

READS = [
    ([], 200),
    ([("Sec-Fetch-Site", "same-origin")], 200),
    ([("Sec-Fetch-Site", "none")], 200),
    ([OWN], 200),
    ([("Sec-Fetch-Site", "same-site")], 403),
    ([("Sec-Fetch-Site", "cross-site")], 403),
    ([("Origin", "http://evil.example")], 403),
    ([("Origin", "null")], 403),
]
WRITES = [
    ([("Sec-Fetch-Site", "same-origin")], 200),
    ([OWN], 200),
    ([("Origin", "https://127.0.0.1")], 200),
    ([("Sec-Fetch-Site", "same-origin"), ("Origin", "https://in-front.example")], 200),
    ([("Origin", "https://proxy.example.com")], 200),  # configured: a proxy in front has rewritten Host
    ([], 403),
    ([("Sec-Fetch-Site", "none")], 403),
    ([("Sec-Fetch-Site", "none"), OWN], 403),
    ([("Sec-Fetch-Site", "cross-site"), OWN], 403),
    ([("Sec-Fetch-Site", "same-site"), OWN], 403),
    ([("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")], 403),
    ([("Sec-Fetch-Site", ""), OWN], 403),
    ([("Origin", "null")], 403),
    ([("Origin", "")], 403),
    ([("Origin", "http://127.0.0.1:8080")], 403),
    ([("Origin", "http://127.0.0.1.evil.example")], 403),
    ([("Origin", "http://evil.example")], 403),
    ([("Origin", "http://proxy.example.com")], 403),
    ([("Origin", "http://127.0.0.1, http://evil.example")], 403),
    ([OWN, ("Origin", "http://evil.example")], 403),
    ([("Referer", "http://127.0.0.1/")], 403),
]


@pytest.mark.parametrize(("headers", "status"), READS)
async def test_what_is_read_with_a_cookie(
    tmp_path: Path, headers: list[tuple[str, str]], status: int
) -> None:
    async with serve(tmp_path) as service:
        cookie = ("Cookie", await service.login())
        assert (await fetch(service.port, "GET", ME, [cookie, *headers])).status == status


@pytest.mark.parametrize(("headers", "status"), WRITES)
async def test_what_is_changed_with_a_cookie_or_for_one_comes_from_no_other_page(
    tmp_path: Path, headers: list[tuple[str, str]], status: int
) -> None:
    async with serve(tmp_path, server__public_origins="https://proxy.example.com") as service:
        body = json.dumps({"api_key": ADMIN_KEY}).encode()
        answer = await fetch(service.port, "POST", LOGIN, [JSON, *headers], body)
        is_browser = any(name in ("Origin", "Sec-Fetch-Site") for name, _ in headers)
        opens = status == 200 or not is_browser  # a script has its key
        assert answer.status == (200 if opens else 403)
        assert (answer.header("set-cookie") is not None) is opens
        cookie = ("Cookie", await service.login())
        for method, path, bodies in [
            ("PUT", "/api/tokens/nobody", b"{}"),
            ("DELETE", "/api/tokens/nobody", None),
        ]:
            answer = await fetch(service.port, method, path, [JSON, cookie, *headers], bodies)
            assert answer.status == (404 if status == 200 else 403)


@pytest.mark.parametrize(("headers", "status"), WRITES)
async def test_a_websocket_with_a_cookie_is_opened_by_the_own_page(
    tmp_path: Path, headers: list[tuple[str, str]], status: int
) -> None:
    async with serve(tmp_path, server__public_origins="https://proxy.example.com") as service:
        head = await handshake(service, [("Cookie", await service.login()), *headers])
        assert head.startswith(b"HTTP/1.1 101 " if status == 200 else b"HTTP/1.1 403 ")


async def test_a_websocket_needs_a_cookie_or_a_key(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert (await handshake(service, [OWN])).startswith(b"HTTP/1.1 401 ")
        assert (await handshake(service, [("X-API-Key", CLIENT_KEY)])).startswith(b"HTTP/1.1 403 ")
        assert (await handshake(service, [("X-API-Key", ADMIN_KEY)])).startswith(b"HTTP/1.1 101 ")


async def handshake(service: Service, headers: list[tuple[str, str]]) -> bytes:
    """The first line that answers a WebSocket's opening."""
    upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", base64.b64encode(b"0" * 16).decode()),
        ("Sec-WebSocket-Protocol", "cproxy.admin.v1"),
    ]
    async with connect(service.port) as wire:
        await wire.send(request_bytes("GET", "/api/live", [*upgrade, *headers]))
        return await wire.reader.readline()


# ---- names that lead here (DNS rebinding)

NAMES = [
    ("localhost", True),
    ("LOCALHOST:4000", True),
    ("127.0.0.1:65535", True),
    ("192.168.1.5", True),
    ("[::1]:4000", True),
    ("[fd00::1]", True),
    ("proxy.example.com", True),
    ("PROXY.example.com:443", True),
    ("proxy.lan:4000", True),
    ("proxy.lan", False),
    ("proxy.example.com:4000", False),
    ("evil.example", False),
    ("evil.example:4000", False),
    ("localhost.evil.example", False),
    ("localhost.", False),
    ("a.localhost", False),
    ("127.0.0.1.evil.example", False),
    ("127.1", False),
    ("0x7f000001", False),
    ("2130706433", False),
    ("x.proxy.example.com", False),
    ("proxy.example.com.", False),
    ("[::1", False),
    ("[evil.example]", False),
]


@pytest.mark.parametrize(("name", "known"), NAMES)
async def test_the_dashboard_is_there_under_known_names_only(tmp_path: Path, name: str, known: bool) -> None:
    origins = "https://proxy.example.com,http://proxy.lan:4000"
    async with serve(tmp_path, server__public_origins=origins) as service:
        names = [f"claude-proxy{port}" for port in ("", "-443", "-4000", "-1")]
        cookies = ("Cookie", "; ".join(f"{each}=x; __Host-{each}=x" for each in names))
        for path in ("/", "/static/0/main.js", ME):
            answer = await fetch(service.port, "GET", path, [("Host", name), cookies])
            assert (answer.status != 403) == known
            assert known or b"server.public_origins" in answer.body
        headers = [("Host", name), ("Sec-Fetch-Site", "same-origin"), JSON]
        body = json.dumps({"api_key": ADMIN_KEY}).encode()
        answer = await fetch(service.port, "POST", LOGIN, headers, body)
        assert answer.status == (200 if known else 403)


async def test_what_shows_no_cookie_is_there_under_any_name(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        host = ("Host", "proxy.internal:4000")
        for method, path in [
            ("GET", "/health"),
            ("GET", "/health/ready"),
            ("GET", "/health/pool"),
            ("HEAD", "/"),
            ("HEAD", "/api/hello"),
        ]:
            assert (await fetch(service.port, method, path, [host])).status == 200
        assert (await service.send("GET", "/v1/models", [host])).status == 200
        keyed = [host, ("X-API-Key", ADMIN_KEY)]
        assert (await fetch(service.port, "GET", "/api/accounts", keyed)).status == 200


async def test_the_refusal_names_the_origin_to_add(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await fetch(service.port, "GET", "/", [("Host", "proxy.lan:4000")])
        assert (answer.status, answer.header("content-type")) == (403, "text/plain; charset=utf-8")
        assert b"https://proxy.lan" in answer.body and b"<" not in answer.body
