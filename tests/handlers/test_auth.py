"""Signing in to the dashboard: who gets the cookie, what it is like, and how long it is good."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from proxy.clients.keys import KeyStatus, Role
from proxy.clients.signins import IDLE_S, LONGEST_S, MAX_SIGNINS
from proxy.clock import rfc3339
from proxy.errors import StorageError
from tests.canaries import holders, leaked
from tests.disk import full_disk
from tests.service import ADMIN_KEY, CLIENT_KEY, PAGE_HEADERS, Service, TestClock, kept_text, serve
from tests.wire import Answer, fetch

LOGIN, LOGOUT, ME = "/api/auth/login", "/api/auth/logout", "/api/auth/me"
OTHER_ADMIN_KEY = "another-Admin-key-of-tests-2Xm9"
OWN = ("Origin", "http://127.0.0.1")
HTTPS = ("X-Forwarded-Proto", "https")


async def login(service: Service, key: str = ADMIN_KEY, *headers: tuple[str, str]) -> Answer:
    body = json.dumps({"api_key": key}).encode()
    return await fetch(service.port, "POST", LOGIN, [*PAGE_HEADERS, *headers], body)


async def me(service: Service, cookie: str, *headers: tuple[str, str]) -> int:
    """What the dashboard learns when it asks whether it is signed in."""
    return (await fetch(service.port, "GET", ME, [("Cookie", cookie), *headers])).status


def error_of(answer: Answer) -> tuple[int, str]:
    return answer.status, str(answer.json()["error"]["message"])


# ---- signing in


async def test_the_admin_key_is_exchanged_for_a_cookie(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await login(service)
        end = rfc3339(service.clock.now() + IDLE_S)
        assert (answer.status, answer.json()) == (200, {"authenticated": True, "expires_at": end})
        assert re.fullmatch(
            "claude-proxy=[A-Za-z0-9_-]{43}; HttpOnly; Path=/; SameSite=Strict",
            answer.header("set-cookie") or "",
        )
        assert await me(service, str(answer.header("set-cookie")).partition(";")[0]) == 200


async def test_two_proxies_at_one_host_do_not_sign_each_other_out(tmp_path: Path) -> None:
    given = json.dumps({"api_key": ADMIN_KEY}).encode()
    json_type = ("Content-Type", "application/json")
    async with serve(tmp_path) as service:
        cookies = {}
        for host in ("127.0.0.1", "127.0.0.1:4000", "127.0.0.1:4001", "[::1]:4000"):
            at = (("Host", host), ("Origin", f"http://{host}"))
            answer = await fetch(service.port, "POST", LOGIN, [*at, json_type], given)
            name, _, value = str(answer.header("set-cookie")).partition(";")[0].partition("=")
            assert name == "claude-proxy" + (f"-{host.rpartition(':')[2]}" if host.count(":") else "")
            cookies[name] = value
            jar = "; ".join(f"{name}={value}" for name, value in cookies.items())
            assert await me(service, jar, *at) == 200
        answer = await fetch(service.port, "POST", LOGOUT, [*at, ("Cookie", jar)])
        assert str(answer.header("set-cookie")).startswith('claude-proxy-4000=""')
        assert await me(service, jar, *at) == 401
        assert await me(service, jar, ("Host", "127.0.0.1:4001")) == 401  # it is the same proxy here


@pytest.mark.parametrize("around", ["{}", " {}\n", "\t{} "])
async def test_space_around_a_pasted_key_does_not_matter(tmp_path: Path, around: str) -> None:
    async with serve(tmp_path) as service:
        assert (await login(service, around.format(ADMIN_KEY))).status == 200


async def test_a_client_key_of_an_admin_signs_in_too(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        _, key = await service.parts.keys.add("admin", role=Role.ADMIN)
        assert await me(service, await service.login(key)) == 200


async def test_a_client_key_of_a_user_is_refused(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await login(service, CLIENT_KEY)
        assert answer.status == 403 and answer.header("set-cookie") is None


@pytest.mark.parametrize("key", ["wrong-key-of-nobody", "", "é" * 20, ADMIN_KEY.lower(), "x" * 3000])
async def test_a_wrong_key_is_401_and_gets_no_cookie(tmp_path: Path, key: str) -> None:
    async with serve(tmp_path) as service:
        answer = await login(service, key)
        assert error_of(answer) == (401, "that key is not valid")
        assert answer.header("set-cookie") is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"api_key":"\\ud800"}', 400),
        (b"{}", 422),
        (b'{"api_key":1}', 422),
        (b'{"api_key":"k","then":"/"}', 422),
    ],
)
async def test_a_body_of_another_shape_is_refused(tmp_path: Path, body: bytes, status: int) -> None:
    async with serve(tmp_path) as service:
        assert (await fetch(service.port, "POST", LOGIN, PAGE_HEADERS, body)).status == status


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", None, "application/jsonp"]
)
async def test_a_form_of_another_site_cannot_carry_what_is_no_json(tmp_path: Path, kind: str | None) -> None:
    async with serve(tmp_path) as service:
        kinds = [] if kind is None else [("Content-Type", kind)]
        body = json.dumps({"api_key": ADMIN_KEY}).encode()
        answer = await fetch(service.port, "POST", LOGIN, [OWN, *kinds], body)
        assert answer.status == 400 and answer.header("set-cookie") is None
        cookie = ("Cookie", await service.login())
        answer = await fetch(service.port, "POST", "/api/tokens", [OWN, cookie, *kinds], b'{"name":"n"}')
        assert error_of(answer) == (400, "the body has to be application/json")


async def test_every_login_has_a_cookie_of_its_own_and_never_one_that_was_offered(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        offered = "claude-proxy=" + "A" * 43
        fixed = await login(service, ADMIN_KEY, ("Cookie", offered))
        cookies = {str(fixed.header("set-cookie")).partition(";")[0]}
        cookies |= {await service.login() for _ in range(5)}
        assert len(cookies) == 6 and offered not in cookies
        assert await me(service, offered) == 401


async def test_a_cookie_of_nobody_is_401(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        good = await service.login()
        for cookie in (
            "",
            "claude-proxy",
            "claude-proxy=",
            good[:-1],
            good + "x",
            good.upper(),
            "x=" + good[13:],
        ):
            assert await me(service, cookie) == 401
        assert await me(service, f"theme=dark; {good}; lang=en") == 200


async def test_me_says_how_long_it_is_good(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        cookie = await service.login()
        service.clock.advance(60)
        answer = await service.page("GET", ME, cookie=cookie)
        end = rfc3339(service.clock.now() + IDLE_S)
        assert answer.json() == {"authenticated": True, "expires_at": end}
        assert (await service.admin("GET", ME)).json() == {"authenticated": True, "expires_at": None}


async def test_a_login_that_cannot_be_stored_is_503_and_no_login(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        with full_disk():
            answer = await login(service)
        assert error_of(answer) == (503, "no space left on device")
        assert answer.header("set-cookie") is None
    assert "admin_key_mac" not in kept_text(tmp_path, "signins")


async def test_of_too_many_the_longest_unused_is_out(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        first, second = await service.login(), await service.login()
        service.clock.advance(1)
        await me(service, first)
        ended: list[str] = []
        service.parts.signins.on_end(ended.append)
        for _ in range(MAX_SIGNINS - 1):
            await service.parts.signins.begin(None, "127.0.0.1")
        assert len(ended) == 1
        assert (await me(service, first), await me(service, second)) == (200, 401)


# ---- guessing


async def test_five_wrong_keys_are_401_and_the_sixth_429_with_the_time_to_wait(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert [(await login(service, "wrong")).status for _ in range(6)] == [401] * 5 + [429]
        service.clock.advance(20)
        answer = await login(service, "wrong")
        assert (answer.status, answer.header("retry-after")) == (429, "40")
        service.clock.advance(60)
        assert (await login(service, "wrong")).status == 401


async def test_the_right_key_signs_in_from_a_throttled_address(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for _ in range(10):
            await login(service, "wrong")
        assert (await login(service)).status == 200


async def test_who_guesses_at_the_login_does_not_throttle_keys_or_cookies(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        cookie = await service.login()
        for _ in range(10):
            await login(service, "wrong")
        assert (await service.admin("GET", ME, key="wrong")).status == 401
        assert (await me(service, cookie), await me(service, "")) == (200, 401)


# ---- https


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({"server__trusted_proxies": "127.0.0.1"}, [HTTPS]),
        ({"server__trusted_proxies": "127.0.0.1"}, [("X-Forwarded-Proto", "http, HTTPS")]),
        ({"server__public_origins": "https://proxy.example.com"}, [("Host", "proxy.example.com")]),
        ({"server__public_origins": "https://proxy.example.com"}, [("Host", "Proxy.example.com:443")]),
        (
            {"server__public_origins": "https://p.example:8443", "server__trusted_proxies": "10.0.0.0/8"},
            [("Host", "p.example:8443"), ("X-Forwarded-Proto", "http")],
        ),
    ],
)
async def test_by_https_the_cookie_is_bound_to_the_host_and_to_https(
    tmp_path: Path, settings: dict[str, str], headers: list[tuple[str, str]]
) -> None:
    async with serve(tmp_path, **settings) as service:
        answer = await login(service, ADMIN_KEY, ("Sec-Fetch-Site", "same-origin"), *headers)
        cookie, _, attributes = str(answer.header("set-cookie")).partition("; ")
        _, _, port = dict(headers).get("Host", "").partition(":")
        assert cookie.startswith(f"__Host-claude-proxy-{port}=" if port else "__Host-claude-proxy=")
        assert attributes == "HttpOnly; Path=/; SameSite=Strict; Secure"
        assert await me(service, cookie, *headers) == 200
        # One that another host of the domain may have set does not count.
        assert await me(service, cookie.removeprefix("__Host-"), *headers) == 401


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({}, [HTTPS]),
        ({"server__trusted_proxies": "10.0.0.0/8"}, [HTTPS]),
        ({"server__trusted_proxies": "127.0.0.1"}, [("X-Forwarded-Proto", "https, http")]),
        ({"server__public_origins": "https://proxy.example.com"}, []),
        (
            {"server__public_origins": "https://p.example", "server__trusted_proxies": "127.0.0.1"},
            [("Host", "p.example"), ("X-Forwarded-Proto", "http")],
        ),
    ],
)
async def test_by_http_it_is_not_since_browsers_would_not_take_it(
    tmp_path: Path, settings: dict[str, str], headers: list[tuple[str, str]]
) -> None:
    async with serve(tmp_path, **settings) as service:
        answer = await login(service, ADMIN_KEY, ("Sec-Fetch-Site", "same-origin"), *headers)
        assert str(answer.header("set-cookie")).startswith("claude-proxy=")
        assert "Secure" not in str(answer.header("set-cookie"))


# ---- its end


async def test_logout_ends_it_and_takes_the_cookie_away(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        cookie, other = await service.login(), await service.login()
        ended: list[str] = []
        service.parts.signins.on_end(ended.append)
        answer = await service.page("POST", LOGOUT, cookie=cookie)
        assert (answer.status, answer.json()) == (200, {"authenticated": False})
        gone = 'claude-proxy=""; expires=[^;]+ GMT; HttpOnly; Path=/; SameSite=Strict'
        assert re.fullmatch(gone, answer.header("set-cookie") or "")
        assert (await me(service, cookie), await me(service, other)) == (401, 200)
        assert ended != [] and ended == [id for id in ended if id not in kept_text(tmp_path, "signins")]
        assert (await service.page("POST", LOGOUT, cookie=cookie)).status == 401


async def test_by_https_logout_takes_the_cookie_away_too(tmp_path: Path) -> None:
    async with serve(tmp_path, server__trusted_proxies="127.0.0.1") as service:
        cookie = str((await login(service, ADMIN_KEY, HTTPS)).header("set-cookie")).partition(";")[0]
        answer = await fetch(service.port, "POST", LOGOUT, [OWN, HTTPS, ("Cookie", cookie)])
        assert str(answer.header("set-cookie")).startswith('__Host-claude-proxy=""; expires=')
        assert str(answer.header("set-cookie")).endswith("; HttpOnly; Path=/; SameSite=Strict; Secure")


async def test_a_logout_by_key_ends_nobody(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        cookie = await service.login()
        assert (await service.admin("POST", LOGOUT)).status == 200
        assert await me(service, cookie) == 200


async def test_a_logout_that_cannot_be_stored_is_503_and_holds(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        cookie = await service.login()
        with full_disk():
            answer = await service.page("POST", LOGOUT, cookie=cookie)
        assert answer.status == 503
        assert str(answer.header("set-cookie")).startswith('claude-proxy=""; expires=')
        assert await me(service, cookie) == 401
        await service.parts.signins.save_again()
        assert "admin_key_mac" not in kept_text(tmp_path, "signins")


async def test_it_is_good_while_it_is_used_and_for_twelve_hours_after(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        cookie = await service.login()
        for _ in range(3):
            service.clock.advance(IDLE_S - 1)
            assert await me(service, cookie) == 200
        service.clock.advance(IDLE_S)
        assert await me(service, cookie) == 401


async def test_it_is_good_for_seven_days_at_most(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        cookie = await service.login()
        for _ in range(14):
            service.clock.advance(LONGEST_S / 14 - 1)
            assert await me(service, cookie) == 200
        service.clock.advance(14)
        assert await me(service, cookie) == 401


async def test_one_whose_time_is_over_is_ended_without_being_asked_for(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        signins, ended = service.parts.signins, list[str]()
        signins.on_end(ended.append)
        _, old = await signins.begin(None, "127.0.0.1")
        service.clock.advance(IDLE_S / 2)
        _, new = await signins.begin(None, "127.0.0.1")
        service.clock.advance(IDLE_S / 2)
        signins.clean()
        assert ended == [old.id]
        assert (signins.seen(old.id), signins.seen(new.id)) == (False, True)


CHANGES: list[dict[str, Any] | None] = [
    {"status": KeyStatus.INACTIVE},
    {"status": KeyStatus.REVOKED},
    {"role": Role.USER},
    {"expires_at": 1.0},
    None,
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
async def test_one_that_was_made_with_a_client_key_ends_with_it(
    tmp_path: Path, change: dict[str, Any] | None
) -> None:
    async with serve(tmp_path) as service:
        token, key = await service.parts.keys.add("admin", role=Role.ADMIN)
        cookie, other, ended = await service.login(key), await service.login(), list[str]()
        service.parts.signins.on_end(ended.append)
        if change is None:
            await service.parts.keys.remove(token.id)
        else:
            await service.parts.keys.update(token.id, **change)
        assert (await me(service, cookie), await me(service, other)) == (401, 200)
        service.parts.signins.clean()
        assert len(ended) == 1


# ---- a restart


async def test_it_outlives_a_restart(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        out, cookie = await service.login(), await service.login()
        await service.page("POST", LOGOUT, cookie=out)
    async with serve(tmp_path, accounts=()) as service:
        assert (await me(service, cookie), await me(service, out)) == (200, 401)


async def test_after_a_restart_its_hours_count_from_its_last_use(tmp_path: Path) -> None:
    clock = TestClock()
    async with serve(tmp_path, clock=clock) as service:
        used, unused = await service.login(), await service.login()
        clock.advance(IDLE_S - 60)
        await me(service, used)
    clock.advance(60)
    async with serve(tmp_path, clock=clock, accounts=()) as service:
        assert (await me(service, used), await me(service, unused)) == (200, 401)


async def test_another_admin_key_ends_all(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        _, key = await service.parts.keys.add("admin", role=Role.ADMIN)
        cookies = [await service.login(), await service.login(key)]
    async with serve(tmp_path, accounts=(), auth__api_key=OTHER_ADMIN_KEY) as service:
        assert [await me(service, cookie) for cookie in cookies] == [401, 401]
        assert await me(service, await service.login(OTHER_ADMIN_KEY)) == 200


@pytest.mark.files
async def test_a_stored_one_that_is_not_whole_refuses_the_start_and_is_named(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        cookies = [await service.login(), await service.login()]
    path = tmp_path / "signins.json"
    stored = json.loads(path.read_text())
    del stored["crc32"]
    id, *_ = stored["records"]
    without_id = {name: value for name, value in stored["records"][id].items() if name != "id"}
    path.write_text(edited := json.dumps(stored | {"records": stored["records"] | {id: without_id}}))
    with pytest.raises(StorageError, match=rf"signins\.json cannot be used \('{id}': id "):
        await serve(tmp_path, accounts=()).__aenter__()
    assert path.read_text() == edited
    path.write_text(json.dumps(stored))
    async with serve(tmp_path, accounts=()) as service:
        assert [await me(service, cookie) for cookie in cookies] == [200, 200]


@pytest.mark.files
async def test_neither_the_cookie_nor_the_key_is_in_a_file_or_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve(tmp_path) as service:
        cookie = await service.login()
        secrets = [cookie.partition("=")[2], ADMIN_KEY]
        answers = [
            await service.page(method, path, cookie=cookie) for method, path in [("GET", ME), ("GET", "/")]
        ]
        answers.append(await service.page("POST", LOGOUT, cookie=cookie))
        cookie = await service.login()
        secrets.append(cookie.partition("=")[2])
        await login(service, ADMIN_KEY + "x")
    assert (tmp_path / "signins.json").exists() and holders(tmp_path, secrets) == []
    assert leaked(caplog.text, secrets) == []
    assert [answer for answer in answers if leaked(repr(answer), secrets)] == []


async def test_the_cookie_does_not_go_upstream(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        cookie = await service.login()
        await service.send("GET", "/v1/models", [("Cookie", cookie)])
        assert "claude-proxy" not in repr(list(service.simulator.ledger))
