"""Every route, by the application's own rules: who may call it, what it answers, and what no answer holds.

A fact that holds for all routes is one test, which walks them on one proxy and names every case that fails.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from handlers.base import SECURITY_HEADERS, AdminHandler
from proxy import __version__
from proxy.clients.keys import KeyStatus, Role
from tests.routes import METHODS, ROUTES, methods_of, path_of, rules
from tests.service import ADMIN_KEY, CLIENT_KEY, PAGE_HEADERS, Service, serve
from tests.wire import Answer, fetch

OPEN = {
    "/",
    "/static/nobody/nobody",
    "/health",
    "/health/ready",
    "/health/pool",
    "/api/hello",
    "/oauth/callback",
} | {"/api/auth/login"}

ADMIN_ROUTES = [(method, path) for method, path in ROUTES if path not in OPEN]
UNKNOWN_METHODS = [
    (method, path_of(rule)) for rule in rules() for method in set(METHODS) - set(methods_of(rule))
]
UNKNOWN_PATHS = [
    "/nowhere",
    "/api",
    "/api/",
    "/api/accounts/",
    "/api/accounts/a/b",
    "/API/accounts",
    "//",
    "/v2/messages",
]
UNKNOWN_PATHS += [
    "/health/",
    "/static/index.html",
    "/static/..%2frun.py",
    "/static/a.txt%00",
    "/favicon.ico",
    "/%2e%2e/",
]

ROUTES_OF_AN_ID = [
    (method, path) for method, path in ADMIN_ROUTES if path.endswith("/nobody") and method != "POST"
]
UNKNOWN_IDS = ["acc_0000000000000000", "tok_0000000000000000", "tok_1", "acc_1"]
UNKNOWN_IDS += ["%2e%2e", "a%2Fb", "%00", "x" * 2000]

THROTTLED_S = 60
"""For so long a wrong key is remembered."""


async def for_all(cases: Iterable[tuple[Any, ...]], look: Callable[..., Awaitable[None]]) -> None:
    """Fail with a line for each case in which an assertion of `look` fails."""
    failures = []
    for case in cases:
        try:
            await look(*case)
        except AssertionError as error:
            failures.append(f"{' '.join(map(str, case))[:200]}: {str(error).splitlines()[0][:200]}")
    assert not failures, "\n".join(failures)


def error_of(answer: Answer) -> str:
    """The type of an error, which has the admin API's shape."""
    assert answer.header("content-type") == "application/json"
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].keys() == {"type", "message"}
    assert all(isinstance(text, str) and text for text in answer.json()["error"].values())
    return str(answer.json()["error"]["type"])


# ---- who may call what


def test_every_route_is_for_admins_but_those_that_are_open() -> None:
    closed = {path_of(rule) for rule in rules() if issubclass(rule.target, AdminHandler)}
    assert {path for _, path in ROUTES} - closed <= OPEN
    assert len(closed) >= 4


@pytest.mark.parametrize(
    ("caller", "status", "type"),
    [
        ("without a key", 401, "authentication_error"),
        ("with a wrong key", 401, "authentication_error"),
        ("with an inactive admin's key", 401, "authentication_error"),
        ("with a revoked admin's key", 401, "authentication_error"),
        ("with an expired admin's key", 401, "authentication_error"),
        ("with a deleted admin's key", 401, "authentication_error"),
        ("with a user's key", 403, "permission_error"),
    ],
)
async def test_who_is_no_admin_is_refused(tmp_path: Path, caller: str, status: int, type: str) -> None:
    async with serve(tmp_path) as service:
        made = service.parts.keys
        _, inactive = await made.add("a", role=Role.ADMIN, status=KeyStatus.INACTIVE)
        revoked_key, revoked = await made.add("b", role=Role.ADMIN)
        await made.update(revoked_key.id, status=KeyStatus.REVOKED)
        _, expired = await made.add("c", role=Role.ADMIN, expires_at=service.clock.now() - 1)
        deleted_key, deleted = await made.add("d", role=Role.ADMIN)
        await made.remove(deleted_key.id)
        keys = {
            "with a wrong key": ADMIN_KEY + "x",
            "with a user's key": CLIENT_KEY,
            "with an inactive admin's key": inactive,
            "with a revoked admin's key": revoked,
            "with an expired admin's key": expired,
            "with a deleted admin's key": deleted,
        }
        headers = [("X-API-Key", keys[caller])] if caller in keys else []

        async def look(method: str, path: str) -> None:
            service.clock.advance(THROTTLED_S)
            answer = await fetch(service.port, method, path, headers, b"{}")
            assert (answer.status, error_of(answer)) == (status, type)

        await for_all(ADMIN_ROUTES, look)


def assert_let_in(answer: Answer) -> None:
    assert answer.status < 500 and answer.status not in (401, 403, 405)


async def test_an_admin_is_let_in(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        _, admin = await service.parts.keys.add("admin", role=Role.ADMIN)
        headers = [
            header
            for key in (ADMIN_KEY, admin)
            for header in (("X-API-Key", key), ("x-api-key", key), ("Authorization", f"Bearer {key}"))
        ]

        async def look(route: tuple[str, str], header: tuple[str, str]) -> None:
            assert_let_in(await fetch(service.port, *route, [header], b"{}"))

        await for_all(product(ADMIN_ROUTES, headers), look)


async def test_an_admin_who_signed_in_is_let_in(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:

        async def look(method: str, path: str) -> None:
            assert_let_in(await service.page(method, path, {}, cookie=await service.login()))

        await for_all(ADMIN_ROUTES, look)


@pytest.mark.parametrize(
    "header", [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-site"), ("Host", "evil.example")]
)
async def test_a_sign_in_is_of_no_use_to_another_site(tmp_path: Path, header: tuple[str, str]) -> None:
    async with serve(tmp_path) as service:
        headers = [("Cookie", await service.login()), header, *PAGE_HEADERS]

        async def look(method: str, path: str) -> None:
            answer = await fetch(service.port, method, path, headers, b"{}")
            assert (answer.status, error_of(answer)) == (403, "permission_error")

        await for_all(ADMIN_ROUTES, look)


async def test_a_scrape_key_opens_the_metrics_and_no_other_route(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        _, key = await service.parts.keys.add("prometheus", role=Role.METRICS)
        headers = [("Authorization", f"Bearer {key}")]

        async def look(method: str, path: str) -> None:
            answer = await fetch(service.port, method, path, headers, b"{}")
            opens = (method, path) == ("GET", "/metrics")
            assert answer.status == (200 if opens else 403)
            assert opens or error_of(answer) == "permission_error"

        await for_all(ADMIN_ROUTES, look)
        answer = await service.page("POST", "/api/auth/login", {"api_key": key})
        assert (answer.status, answer.header("set-cookie")) == (403, None)


async def test_the_admin_key_is_no_client_key(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.send("GET", "/v1/models", key=ADMIN_KEY)
        assert (answer.status, answer.json()["error"]["type"]) == (401, "authentication_error")
        assert len(service.simulator.ledger) == 0


# ---- what is no route


async def test_an_unknown_path_is_not_found_whoever_asks(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:

        async def look(path: str, key: str | None) -> None:
            answer = await fetch(service.port, "GET", path, [("X-API-Key", key)] if key else [])
            assert (answer.status, error_of(answer)) == (404, "not_found_error")

        await for_all(product(UNKNOWN_PATHS, [None, ADMIN_KEY]), look)


async def test_an_unknown_id_is_not_found(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:

        async def look(route: tuple[str, str], id: str) -> None:
            method, path = route
            answer = await service.admin(method, path.replace("nobody", id), {})
            assert (answer.status, error_of(answer)) == (404, "not_found_error")
            assert len(answer.body) < 300

        assert len(ROUTES_OF_AN_ID) >= 6
        await for_all(product(ROUTES_OF_AN_ID, UNKNOWN_IDS), look)


async def test_a_method_that_a_route_does_not_know_is_405(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:

        async def look(method: str, path: str) -> None:
            answer = await service.admin(method, path, {})
            assert answer.status == 405
            assert method == "HEAD" or error_of(answer) == "invalid_request_error"

        await for_all(UNKNOWN_METHODS, look)


async def test_a_method_that_http_does_not_know_is_405_and_logged_as_any_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(tmp_path) as service:
        with caplog.at_level(logging.INFO, "proxy.access"):
            answer = await service.admin("BREW", "/api/accounts")
        assert (answer.status, error_of(answer)) == (405, "invalid_request_error")
        [line] = [record.getMessage() for record in caplog.records if record.name == "proxy.access"]
        assert line.startswith("BREW /api/accounts 405 ") and "client=127.0.0.1" in line


async def test_who_is_no_admin_learns_nothing_about_methods_and_ids(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        account = next(iter(service.parts.pool))

        async def look(method: str, path: str) -> None:
            known = await fetch(service.port, method, path.replace("nobody", account.id))
            unknown = await fetch(service.port, "PATCH", path)
            assert (known.status, unknown.status, known.body) == (401, 401, unknown.body)

        await for_all(ADMIN_ROUTES, look)


# ---- bodies

BODIES = [
    ("POST", "/api/accounts"),
    ("POST", "/api/tokens"),
    ("PUT", "/api/accounts/{account}"),
    ("PUT", "/api/tokens/{token}"),
]
NOT_AN_OBJECT = [
    b"",
    b"{",
    b"not json",
    b'{"name":}',
    b"[]",
    b'"name"',
    b"1",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 5000,
    b'{"name": "\\ud800"}',
    b'{"name": "n", "models": ["\\udfff"]}',
    b'{"name": "n", "\\ud800\\ud800": 1}',
    b'{"name": "n", "limits": {"tokens_per_day": NaN}}',
]
WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"name": "n", "colour": "red"}, "colour"),
    ({"name": 5}, "name"),
    ({"name": ["n"]}, "name"),
    ({"name": {"n": 1}}, "name"),
    ({"name": True}, "name"),
    ({"name": ""}, "name"),
    ({"name": "x" * 65}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": "n", "status": "tired"}, "status"),
    ({"name": "n", "status": 1}, "status"),
]
NOT_UTF8 = ["/api/accounts/%ff", "/api/tokens/%ff", "/api/tokens?search=%ff", "/api/tokens?page=%ff"]


async def send_body(
    service: Service, method: str, path: str, body: bytes, kind: str = "application/json"
) -> Answer:
    account, token = next(iter(service.parts.pool)), next(iter(service.parts.keys))
    path = path.format(account=account.id, token=token.id)
    return await fetch(service.port, method, path, [("X-API-Key", ADMIN_KEY), ("Content-Type", kind)], body)


def required(route: tuple[str, str]) -> dict[str, str]:
    """What the route needs beside a name."""
    return {"type": "api_key", "api_key": "sk-ant-api03-of-the-routes"} if route == BODIES[0] else {}


async def test_a_body_that_is_no_json_object_is_400(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:

        async def look(route: tuple[str, str], body: bytes) -> None:
            answer = await send_body(service, *route, body)
            assert (answer.status, error_of(answer)) == (400, "invalid_request_error")

        await for_all(product(BODIES, NOT_AN_OBJECT), look)


async def test_a_field_that_is_unknown_or_wrong_is_422_and_named(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:

        async def look(route: tuple[str, str], wrong: tuple[dict[str, Any], str]) -> None:
            fields, named = wrong
            answer = await send_body(service, *route, json.dumps(required(route) | fields).encode())
            assert (answer.status, error_of(answer)) == (422, "invalid_request_error")
            assert named in answer.json()["error"]["message"]

        await for_all(product(BODIES, WRONG_FIELDS), look)


async def test_of_many_wrong_fields_the_first_are_named(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        fields = {f"colour{number}": 1 for number in range(1000)}
        answer = await service.admin("POST", "/api/tokens", {"name": "n"} | fields)
        message = answer.json()["error"]["message"]
        assert answer.status == 422 and len(message) < 2000
        assert "colour0:" in message and message.endswith("; and 980 more")


async def test_a_body_is_of_a_size_that_an_admin_may_need(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/tokens", {"name": "n" * 300_000})
        assert answer.status == 413


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"]
)
async def test_a_body_is_json_whatever_it_calls_itself(tmp_path: Path, kind: str) -> None:
    async with serve(tmp_path) as service:
        service.simulator.add_api_key(required(BODIES[0])["api_key"], organization="n")

        async def look(method: str, path: str) -> None:
            body = {"name": f"by {method}"} | required((method, path))
            answer = await send_body(service, method, path, json.dumps(body).encode(), kind)
            assert answer.status == (201 if method == "POST" else 200)

        await for_all(BODIES, look)


async def test_a_broken_form_is_an_error_as_any_other(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:

        async def look(method: str, path: str) -> None:
            answer = await send_body(service, method, path, b"garbage", "multipart/form-data; boundary=x")
            assert (answer.status, error_of(answer)) == (400, "invalid_request_error")

        await for_all(BODIES, look)


async def test_what_is_not_utf8_in_a_path_or_query_is_400(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:

        async def look(path: str) -> None:
            answer = await service.admin("GET", path)
            assert (answer.status, error_of(answer)) == (400, "invalid_request_error")

        await for_all(product(NOT_UTF8), look)


# ---- security headers

EXPECTED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def assert_secure(answer: Answer) -> None:
    assert {name: answer.header(name) for name in EXPECTED} == EXPECTED
    policy = answer.header("content-security-policy") or ""
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert not re.search("unsafe|https?:| \\*", policy)
    assert answer.header("permissions-policy") is not None
    assert answer.header("server") is None
    assert answer.header("access-control-allow-origin") is None
    assert len(answer.headers) == len({name.lower() for name, _ in answer.headers})


def test_the_headers_expected_here_are_those_that_are_set() -> None:
    assert {name.lower() for name in SECURITY_HEADERS} == {
        *EXPECTED, "content-security-policy", "permissions-policy"
    }  # fmt: skip


async def test_every_answer_has_the_security_headers(tmp_path: Path) -> None:
    cases = {*ROUTES, *UNKNOWN_METHODS, *(("GET", path) for path in UNKNOWN_PATHS)}
    async with serve(tmp_path) as service:

        async def look(route: tuple[str, str], key: str) -> None:
            service.clock.advance(THROTTLED_S)
            assert_secure(await fetch(service.port, *route, [("X-API-Key", key)], b"{}"))

        await for_all(product(sorted(cases), ["", "wrong", CLIENT_KEY, ADMIN_KEY]), look)


async def test_an_internal_error_has_them_too_and_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(tmp_path) as service:
        monkeypatch.setattr(service.parts.pool, "view", lambda account: 1 / 0)
        answer = await service.admin("GET", "/api/accounts")
        assert (answer.status, error_of(answer)) == (500, "api_error")
        assert_secure(answer)
        assert b"division" not in answer.body and b"Traceback" not in answer.body
        assert "division by zero" in caplog.text


async def test_a_throttled_caller_gets_them_too(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for _ in range(11):
            answer = await service.admin("GET", "/api/accounts", key="wrong")
        assert answer.status == 429
        assert_secure(answer)


# ---- the open routes


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_dashboard_is_at_the_root(tmp_path: Path, method: str) -> None:
    async with serve(tmp_path) as service:
        answer = await fetch(service.port, method, "/")
        assert (answer.status, answer.header("content-type")) == (200, "text/html; charset=utf-8")
        assert (b"<html" in answer.body) == (method == "GET")


@pytest.mark.parametrize("path", ["/", "/api/hello"])
async def test_a_client_may_probe_with_head(tmp_path: Path, path: str) -> None:
    async with serve(tmp_path) as service:
        answer = await fetch(service.port, "HEAD", path)
        assert (answer.status, answer.body) == (200, b"")


async def test_health_tells_that_the_process_lives(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        service.clock.advance(90)
        answer = await fetch(service.port, "GET", "/health")
        assert (answer.status, answer.json()) == (
            200,
            {"status": "healthy", "version": __version__, "uptime_seconds": 90},
        )


async def test_health_is_200_where_nothing_works(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        answer = await fetch(service.port, "GET", "/health")
        assert (answer.status, answer.json()["status"]) == (200, "unhealthy")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_it_stays_ready_without_a_usable_account_and_says_so_of_the_pool(
    tmp_path: Path, method: str
) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        assert (await fetch(service.port, method, "/health/pool")).status == 200
        account = next(iter(service.parts.pool))
        service.parts.pool.limit(account.id, service.clock.now() + 60, "5h rejected")
        assert (await fetch(service.port, method, "/health/ready")).status == 200
        assert (await fetch(service.port, method, "/health/pool")).status == 503
        answer = await fetch(service.port, "GET", "/health/pool")
        assert answer.json() == {"status": "exhausted", "reason": "no usable account"}
        service.clock.advance(61)
        assert (await fetch(service.port, "GET", "/health/pool")).json() == {"status": "usable"}
