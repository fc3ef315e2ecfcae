"""Pages of other origins that call `/v1`: those that `server.cors_origins` names, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.echo import Script, echo
from tests.service import CLIENT_KEY, MESSAGE_HEADERS, message, serve
from tests.wire import Answer, fetch

ORIGIN = "https://app.example"
APPS = {"server__cors_origins": f"{ORIGIN}, http://localhost:5173, app://obsidian.md"}
ANY = {"server__cors_origins": "*"}
FROM = ("Origin", ORIGIN)
ASKED = "content-type,x-api-key,anthropic-version,anthropic-dangerous-direct-browser-access"


def cors(answer: Answer) -> dict[str, str]:
    """What an answer says to a browser."""
    return {n.lower(): v for n, v in answer.headers if n.lower().startswith("access-control-")}


async def preflight(port: int, origin: str, *more: tuple[str, str], target: str = "/v1/messages") -> Answer:
    asks = [("Origin", origin), ("Access-Control-Request-Method", "POST"), *more]
    return await fetch(port, "OPTIONS", target, asks)


@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:5173", "app://obsidian.md"])
async def test_a_preflight_of_a_listed_origin_is_answered_here_and_without_a_key(
    tmp_path: Path, origin: str
) -> None:
    async with serve(tmp_path, **APPS) as service:
        answer = await preflight(service.port, origin, ("Access-Control-Request-Headers", ASKED))
        assert (answer.status, answer.body) == (204, b"")
        allowed = cors(answer)
        assert allowed.pop("access-control-max-age").isdigit()
        assert allowed == {
            "access-control-allow-origin": origin,
            "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
            "access-control-allow-headers": ASKED,
        }
        assert "Origin" in str(answer.header("vary"))
        assert answer.header("content-length") is None  # RFC 9110 §8.6: not with a 204
        assert len(service.simulator.ledger) == 0


async def test_a_star_is_every_origin(tmp_path: Path) -> None:
    async with serve(tmp_path, **ANY) as service:
        for origin in (ORIGIN, "null"):
            answer = await preflight(service.port, origin)
            assert (answer.status, cors(answer)["access-control-allow-origin"]) == (204, "*")
            assert "access-control-allow-headers" not in cors(answer)
            answer = await service.message(headers=[("Origin", origin)])
            assert cors(answer)["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("settings", [{}, APPS], ids=["none is listed", "others are"])
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://app.example", f"{ORIGIN}.evil.example", f"{ORIGIN}:444", "null", ""],
)
async def test_a_preflight_of_another_gets_a_403(
    tmp_path: Path, settings: dict[str, str], origin: str
) -> None:
    async with serve(tmp_path, **settings) as service:
        answer = await preflight(service.port, origin)
        assert (answer.status, answer.json()["error"]["type"]) == (403, "permission_error")
        assert "server.cors_origins" in answer.json()["error"]["message"]
        assert cors(answer) == {}
        assert len(service.simulator.ledger) == 0


async def test_answers_and_errors_to_a_listed_origin_may_be_read_there(tmp_path: Path) -> None:
    async with serve(tmp_path, **APPS) as service:
        answers = [
            await service.message(headers=[FROM]),
            await service.message(stream=True, headers=[FROM]),
            await service.send("GET", "/v1/models/no-such", [FROM]),
            await service.send("GET", "/v1//x", [FROM]),
            await service.send("GET", "/models", [FROM]),
            await service.send("POST", "/v1/messages", [FROM, *MESSAGE_HEADERS], message(), key="wrong"),
        ]
        assert [answer.status for answer in answers] == [200, 200, 404, 400, 404, 401]
        for answer in answers:
            exposed = cors(answer)["access-control-expose-headers"]
            assert cors(answer) == {
                "access-control-allow-origin": ORIGIN,
                "access-control-expose-headers": exposed,
            }
            assert "*" in exposed.split(
                ", "
            )  # all, as long as it comes without credentials of the browser's own
            assert "Origin" in str(answer.header("vary"))


async def test_answers_to_others_say_nothing_to_a_browser(tmp_path: Path) -> None:
    async with serve(tmp_path, **APPS) as service:
        for headers in ([], [("Origin", "https://evil.example")], [("Origin", "null")]):
            answer = await service.message(headers=headers)
            assert (answer.status, cors(answer), answer.header("vary")) == (200, {}, None)


async def test_without_any_origin_nothing_is_said(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert cors(await service.message(headers=[FROM])) == {}


async def test_what_the_upstream_says_to_browsers_is_not_mixed_with_it(tmp_path: Path) -> None:
    async with echo() as upstream, serve(tmp_path, upstream=upstream.url, **APPS) as service:
        upstream.script = Script(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nVary: accept-encoding\r\nAccess-Control-Allow-Origin: *\r\n"
            b"Access-Control-Allow-Credentials: true\r\n\r\n"
        )
        answer = await service.send("GET", "/v1/models", [FROM])
        assert [v for n, v in answer.headers if n.lower() == "access-control-allow-origin"] == [ORIGIN]
        assert "access-control-allow-credentials" not in cors(answer)
        assert answer.header("vary") == "accept-encoding, Origin"
        [sent] = upstream.requests
        assert "origin" not in sent.fields() and "referer" not in sent.fields()


async def test_an_options_that_is_no_preflight_goes_upstream(tmp_path: Path) -> None:
    async with echo() as upstream, serve(tmp_path, upstream=upstream.url, **APPS) as service:
        asks = ("Access-Control-Request-Method", "POST")
        for headers in ([], [FROM], [asks]):
            assert (await service.send("OPTIONS", "/v1/models", headers)).status == 200
        assert len(upstream.requests) == 3
        assert (
            await fetch(service.port, "OPTIONS", "/v1/models", [("x-api-key", CLIENT_KEY), FROM, asks])
        ).status == 204
        assert len(upstream.requests) == 3


@pytest.mark.parametrize("asked", ["x-a, (b)", "x-a\t", "x-a\xe9"])
async def test_odd_header_names_are_not_allowed(tmp_path: Path, asked: str) -> None:
    async with serve(tmp_path, **APPS) as service:
        answer = await preflight(service.port, ORIGIN, ("Access-Control-Request-Headers", asked.strip()))
        assert answer.status == 204
        assert asked.strip() == "x-a" or "access-control-allow-headers" not in cors(answer)


async def test_the_admin_api_is_not_opened_by_it(tmp_path: Path) -> None:
    async with serve(tmp_path, **ANY) as service:
        for target in ("/api/accounts", "/", "/oauth/exchange"):
            answer = await preflight(service.port, ORIGIN, target=target)
            assert answer.status in (401, 405) and cors(answer) == {}
