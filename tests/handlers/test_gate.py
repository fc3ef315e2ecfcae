"""By key: who shows wrong ones is slowed down; who has the right one is always let in, from wherever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from handlers.gate import AdminGate
from handlers.origin import Origins
from proxy.clients.admin_key import AdminKey
from proxy.clients.keys import KeyStatus, Role
from proxy.clients.throttle import Throttle
from tests.service import ADMIN_KEY, CLIENT_KEY, Service, serve
from tests.wire import Answer, Wire

ROUTE = "/api/accounts"


async def ask(service: Service, *headers: tuple[str, str], address: str = "127.0.0.1") -> Answer:
    """One request from `address` with these headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, local_addr=(address, 0))
    try:
        answer = await Wire(reader, writer).request("GET", ROUTE, headers)
        await answer.read()
        return answer
    finally:
        writer.close()
        await writer.wait_closed()


async def show(service: Service, keys: Iterable[str], address: str = "127.0.0.1") -> list[int]:
    """The statuses for each of the keys."""
    return [(await ask(service, ("X-API-Key", key), address=address)).status for key in keys]


WRONG = [f"a-wrong-admin-key-{number}" for number in range(11)]


async def test_ten_wrong_keys_are_401_and_the_eleventh_429(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert await show(service, WRONG) == [401] * 10 + [429]


async def test_the_same_wrong_key_counts_each_time(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert await show(service, WRONG[:1] * 11) == [401] * 10 + [429]


async def test_each_wrong_key_of_one_request_counts(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await ask(service, *(("X-API-Key", key) for key in WRONG[:6]))
        assert answer.status == 401
        answer = await ask(service, *(("X-API-Key", key) for key in WRONG[6:]))
        assert answer.status == 429


async def test_the_answer_says_when_to_come_back(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await show(service, WRONG)
        service.clock.advance(20.5)
        answer = await ask(service, ("X-API-Key", WRONG[0]))
        assert (answer.status, answer.header("retry-after")) == (429, "40")
        assert answer.json()["error"] == {
            "type": "rate_limit_error",
            "message": "too many wrong admin keys from this address",
        }


async def test_after_a_minute_it_is_401_again(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await show(service, WRONG)
        service.clock.advance(60)
        assert await show(service, WRONG[:1]) == [401]


async def test_the_right_key_is_let_in_from_a_throttled_address(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        _, admin = await service.parts.keys.add("admin", role=Role.ADMIN)
        await show(service, WRONG * 3)
        assert await show(service, [ADMIN_KEY, admin, CLIENT_KEY]) == [200, 200, 403]


async def test_another_address_is_not_throttled(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await show(service, WRONG)
        assert await show(service, WRONG[:1], address="127.0.0.2") == [401]


async def test_x_forwarded_for_does_not_help_a_guesser(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for number, key in enumerate(WRONG):
            answer = await ask(service, ("X-API-Key", key), ("X-Forwarded-For", f"1.2.3.{number}"))
        assert answer.status == 429


async def test_behind_a_trusted_proxy_the_forwarded_address_counts(tmp_path: Path) -> None:
    async with serve(tmp_path, server__trusted_proxies="127.0.0.0/8") as service:
        for key in WRONG:
            guesser = await ask(service, ("X-API-Key", key), ("X-Forwarded-For", "9.9.9.9, 1.2.3.4"))
        other = await ask(service, ("X-API-Key", WRONG[0]), ("X-Forwarded-For", "1.2.3.5"))
        assert (guesser.status, other.status) == (429, 401)


async def test_the_addresses_of_an_ipv6_network_are_one(tmp_path: Path) -> None:
    async with serve(tmp_path, server__trusted_proxies="127.0.0.0/8") as service:
        for number, key in enumerate(WRONG):
            answer = await ask(service, ("X-API-Key", key), ("X-Forwarded-For", f"2001:db8:1:2::{number:x}"))
        other = await ask(service, ("X-API-Key", WRONG[0]), ("X-Forwarded-For", "2001:db8:1:3::1"))
        assert (answer.status, other.status) == (429, 401)


async def test_no_key_is_no_guess(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert [(await ask(service)).status for _ in range(20)] == [401] * 20
        await show(service, WRONG)
        assert (await ask(service)).status == 401


async def test_a_users_key_is_no_guess(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert await show(service, [CLIENT_KEY] * 12) == [403] * 12


@pytest.mark.parametrize("status", [KeyStatus.INACTIVE, KeyStatus.REVOKED])
async def test_an_admins_key_that_is_not_active_is_a_wrong_one(tmp_path: Path, status: KeyStatus) -> None:
    async with serve(tmp_path) as service:
        token, admin = await service.parts.keys.add("admin", role=Role.ADMIN)
        assert await show(service, [admin]) == [200]
        await service.parts.keys.update(token.id, status=status)
        assert await show(service, [admin] * 11) == [401] * 10 + [429]


async def test_an_admin_who_becomes_a_user_is_refused_at_once(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token, admin = await service.parts.keys.add("admin", role=Role.ADMIN)
        await service.parts.keys.update(token.id, role=Role.USER)
        assert await show(service, [admin]) == [403]


@pytest.mark.parametrize(
    "key", ["é" * 20, "\xff", "x" * 5000, ADMIN_KEY + "\t", f'"{ADMIN_KEY}"', ADMIN_KEY.lower()]
)
async def test_a_strange_key_is_a_wrong_one(tmp_path: Path, key: str) -> None:
    async with serve(tmp_path) as service:
        expected = 200 if key.strip() == ADMIN_KEY else 401  # space around a header's value is none of it
        assert await show(service, [key]) == [expected]


async def test_one_right_key_among_wrong_ones_is_enough(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await ask(service, ("Authorization", "Bearer wrong"), ("X-API-Key", ADMIN_KEY))
        assert answer.status == 200


@pytest.mark.parametrize(
    "header", ["Authorization: Basic {}", "Authorization: {}", "Cookie: api_key={}", "X-Key: {}"]
)
async def test_the_key_counts_in_its_own_header_only(tmp_path: Path, header: str) -> None:
    async with serve(tmp_path) as service:
        name, _, value = header.format(ADMIN_KEY).partition(": ")
        assert (await ask(service, (name, value))).status == 401


async def test_a_key_in_the_query_does_not_count(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("GET", f"{ROUTE}?api_key={ADMIN_KEY}&key={ADMIN_KEY}", key="")
        assert answer.status == 401


async def test_a_key_counts_under_any_name_and_from_any_page(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        elsewhere = [
            ("Host", "evil.example"),
            ("Origin", "http://evil.example"),
            ("Sec-Fetch-Site", "cross-site"),
        ]
        answer = await ask(service, ("X-API-Key", ADMIN_KEY), *elsewhere)
        assert answer.status == 200


async def test_a_wrong_key_counts_also_beside_a_cookie(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await ask(service, ("X-API-Key", "wrong"), ("Cookie", await service.login()))
        assert answer.status == 401


async def test_it_says_who_is_asking(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        keys, signins = service.parts.keys, service.parts.signins
        throttle = Throttle(limit=10, window_s=60, clock=service.clock)
        gate = AdminGate(
            AdminKey(ADMIN_KEY), keys, signins, Origins([], []), throttle=throttle, login_throttle=throttle
        )
        admin, key = await keys.add("admin", role=Role.ADMIN)
        cookie, sign_in = await gate.login(key, "1.2.3.4")

        def who(name: str, value: str) -> tuple[str, str | None, str, object]:
            line = RequestStartLine("GET", ROUTE, "HTTP/1.1")
            headers = HTTPHeaders({"Host": "localhost", name: value})
            actor = gate.check(HTTPServerRequest(headers=headers, start_line=line), "5.6.7.8")
            return actor.kind, actor.id, actor.address, actor.sign_in

        assert who("X-API-Key", ADMIN_KEY) == ("admin_key", None, "5.6.7.8", None)
        assert who("X-API-Key", key) == ("key", admin.id, "5.6.7.8", None)
        assert who("Cookie", f"claude-proxy={cookie}") == ("sign_in", sign_in.id, "5.6.7.8", sign_in)
