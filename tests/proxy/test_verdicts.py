"""The contract's table of upstream answers: each row over pools of any size, of logins and of keys, streamed or not."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import brotli
import pytest
from backports import zstd

from proxy.clock import rfc3339
from proxy.simulator import (
    Answer,
    Error,
    Fault,
    Grant,
    Raw,
    Reset,
    bare_429,
    model_429,
    quota_429,
    throttle_429,
)
from tests.service import Service, serve

HOUR = 3600.0
DAY = 24 * HOUR
NAMES = "abcdefgh"
NOW = 1_800_000_000.0  # of the tests' clock, at 08:00 UTC
SSE = (("content-type", "text/event-stream"),)


def refusal(status: int, message: str, type: str | None = None, code: str | None = None) -> Error:
    return Error(status, type=type, message=message, details=None if code is None else {"error_code": code})


def early(type: str, message: str = "Overloaded") -> Answer:
    """A 200 whose first event is an error."""
    error = {"type": "error", "error": {"details": None, "type": type, "message": message}}
    return Answer(200, SSE, b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n")


@dataclass(frozen=True)
class Row:
    """What an account says, always; its state after that, for how long, with which words; what the client gets.

    `alone` is the status if every account says so, `words` a part of the body then. `is_try`: it counts as one.
    """

    fault: Fault
    alone: int
    state: str = "active"
    rests_s: float | None = None
    reason: str = ""
    words: str = ""
    is_try: bool = False


SPEND_LIMIT = "You have reached your specified API usage limits. You will regain access on {} at 00:00 UTC."
NEXT_DAY = rfc3339(NOW + DAY)[:10]
LIMITED = "all accounts rate limited"
NO_CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
PAGE = Error(429, html=True, headers=(("retry-after", "17"),))
CUT_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ROWS = {
    "401 page": Row(Error(401, html=True), 502, words="401 of an edge, not of the API", is_try=True),
    "402": Row(refusal(402, NO_CREDIT), 402, "rate_limited", HOUR, "402 billing_error", NO_CREDIT),
    "402 page": Row(Error(402, html=True), 402),
    "403": Row(refusal(403, "no"), 403, words="no"),
    "403 page": Row(Error(403, html=True), 403),
    "403 revoked": Row(refusal(403, "OAuth token has been revoked."), 503, "invalid", reason="403 permission"),
    "400 disabled": Row(refusal(400, "This organization has been disabled."), 503, "invalid", reason="400 inv"),
    "400 no credit": Row(refusal(400, NO_CREDIT), 400, "rate_limited", HOUR, "credit balance", NO_CREDIT),
    "400 spend limit": Row(
        refusal(400, SPEND_LIMIT.format(NEXT_DAY)), 400, "rate_limited", DAY - 8 * HOUR, "usage limits", NEXT_DAY
    ),
    "400 workspace's": Row(
        refusal(400, "You have reached your specified workspace API usage limits."), 400, "rate_limited", HOUR
    ),
    "400 beta": Row(refusal(400, "The long context beta is not yet available for this subscription."), 400),
    "400 extra usage": Row(refusal(400, "You're out of extra usage. Add more at claude.ai/settings."), 400),
    "404 model": Row(refusal(404, "model: claude-sonnet-5-5"), 404, words="claude-sonnet-5-5"),
    "429 5h": Row(quota_429(600), 429, "rate_limited", 600, "limit for 5 hours", LIMITED),
    "429 retry-after": Row(
        Error(429, headers=(("retry-after", "90"),)), 429, "rate_limited", 90, "429 rate_limit_error", LIMITED
    ),
    "429 spend cap": Row(
        refusal(429, "You have reached your API usage limits: it is used up.", code="enforced_spend_limit_reached"),
        429, "rate_limited", HOUR, "usage limits", LIMITED,
    ),
    "429 bare": Row(bare_429(), 429, words="rate_limit_error"),
    "429 model": Row(model_429(reset_in=600), 429, words=LIMITED),
    "429 page": Row(PAGE, 429, words="<html", is_try=True),
    **{f"{status}": Row(Error(status), status, is_try=True) for status in (408, 500, 502, 503, 504, 529)},
    "reset": Row(Reset(), 502, is_try=True),
    "early overloaded": Row(early("overloaded_error"), 200, words="Overloaded", is_try=True),
    "early unknown": Row(early("new_error"), 200, words="new_error", is_try=True),
    "early 429": Row(early("rate_limit_error"), 200, words="rate_limit_error"),
    "early 403": Row(early("permission_error"), 200, words="permission_error"),
    "early no credit": Row(
        early("invalid_request_error", NO_CREDIT), 200, "rate_limited", HOUR, "credit", NO_CREDIT
    ),
    "cut before a byte": Row(Raw(CUT_HEAD), 502, is_try=True),
    "cut within the event": Row(Raw(CUT_HEAD + b"5\r\nevent\r\n"), 502, is_try=True),
    "closed before a byte": Row(Raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"), 502, is_try=True),
    "JSON cut before a byte": Row(Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), 502, is_try=True),
}  # fmt: skip
ABOUT_THE_REQUEST = {
    "400": refusal(400, "messages.0.content: Your credit balance is too low to access the Anthropic API."),
    "400 quoted": refusal(400, "tool `Your credit balance is too low` is no tool"),
    "400 too long": refusal(400, "prompt is too long: 210000 tokens > 200000 maximum"),
    "404": refusal(404, "The requested resource could not be found."),
    "404 thread": refusal(404, "no such thread", code="thread_not_found"),
    "413": refusal(413, "Request exceeds the maximum size"),
    "409": Error(409),
    "422": Error(422),
    "early 400": early("invalid_request_error", "messages: at least one message is required"),
}

POOLS = [
    (size, kind, stream) for size in (1, 2, 3, 8) for kind in ("oauth", "api_key") for stream in (False, True)
]
every_pool = pytest.mark.parametrize(("size", "kind", "stream"), POOLS)
every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


@asynccontextmanager
async def pool_of(
    folder: Path, size: int, kind: str, **options: str
) -> AsyncIterator[tuple[Service, list[Grant | str]]]:
    """A proxy with so many accounts, called a, b, c …; and their credentials at the simulator."""
    async with serve(folder, accounts=(), retry__base_delay="1ms", **options) as service:
        add = service.add_login if kind == "oauth" else service.add_account
        yield service, [(await add(name))[1] for name in NAMES[:size]]


def asked(service: Service) -> list[str | None]:
    """The accounts that were asked for a message, in order."""
    return [entry.organization for entry in service.simulator.ledger if entry.path == "/v1/messages"]


def seen(service: Service, name: str) -> dict[str, Any]:
    """The account as an admin sees it."""
    pool = service.parts.pool
    return next(pool.view(account) for account in pool if account.name == name)


def check_state(service: Service, name: str, row: Row) -> None:
    shown = seen(service, name)
    assert shown["status"] == row.state
    assert row.reason in (shown["status_reason"] or "")
    account = next(a for a in service.parts.pool if a.name == name)
    if row.rests_s is None:
        assert account.rate_limited_until is None
    else:
        rest_s = (account.rate_limited_until or 0) - service.clock.now()
        assert rest_s == pytest.approx(row.rests_s, abs=15)


@every_row
@pytest.mark.parametrize(("size", "kind", "stream"), [pool for pool in POOLS if pool[0] > 1])
async def test_another_account_serves_what_one_refuses(
    tmp_path: Path, row: Row, size: int, kind: str, stream: bool
) -> None:
    """All but the last one say it; only one does if it counts as a try."""
    async with pool_of(tmp_path, size, kind) as (service, credentials):
        bad = credentials[: 1 if row.is_try else size - 1]
        for credential in bad:
            service.simulator.always(credential, row.fault, path="/v1/messages")
        answer = await service.message(stream=stream)
        assert (answer.status, answer.header("x-proxy-account")) == (200, NAMES[len(bad)])
        assert answer.header("x-proxy-attempts") == f"{len(bad) + 1}"
        assert asked(service) == [*NAMES[: len(bad) + 1]]
        for name in NAMES[: len(bad)]:
            check_state(service, name, row)
        assert seen(service, NAMES[len(bad)])["status"] == "active"


@every_row
@every_pool
async def test_where_every_account_says_so_the_client_is_told(
    tmp_path: Path, row: Row, size: int, kind: str, stream: bool
) -> None:
    async with pool_of(tmp_path, size, kind) as (service, _):
        service.simulator.always(None, row.fault, path="/v1/messages")
        answer = await service.message(stream=stream)
        assert answer.status == row.alone
        assert row.words in answer.body.decode()
        if row.is_try:
            assert asked(service) == [*(NAMES[:size] * 5)[:5]]
        else:
            assert asked(service) == [*NAMES[:size]]
        for name in NAMES[:size]:
            check_state(service, name, row)


@pytest.mark.parametrize("fault", ABOUT_THE_REQUEST.values(), ids=ABOUT_THE_REQUEST.keys())
@every_pool
async def test_an_error_about_the_request_goes_up_once(
    tmp_path: Path, fault: Error | Answer, size: int, kind: str, stream: bool
) -> None:
    async with pool_of(tmp_path, size, kind) as (service, _):
        service.simulator.always(None, fault, path="/v1/messages")
        answer = await service.message(stream=stream)
        assert answer.status == fault.status
        assert asked(service) == ["a"]
        assert seen(service, "a")["status"] == "active"


# --- 429 without a hint ------------------------------------------------------------------------------------


async def asked_for(service: Service, count: int) -> list[str | None]:
    """Send so many messages, and say who was asked."""
    before = len(asked(service))
    for _ in range(count):
        assert (await service.message()).status == 200
    return asked(service)[before:]


async def test_a_bare_429_of_one_account_rests_it_for_5_s_then_for_twice_as_long(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.always(credentials[0], bare_429())
        for rest_s in (5, 10, 20, 40):
            assert "a" in await asked_for(service, 2)
            service.clock.advance(rest_s - 0.1)
            assert await asked_for(service, 3) == ["b"] * 3
            service.clock.advance(0.2)
        assert seen(service, "a")["status"] == "active"


async def test_a_success_between_makes_the_rest_short_again(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        for _ in range(3):
            service.simulator.script(credentials[0], bare_429())
            assert "a" in await asked_for(service, 2)
            service.clock.advance(4.9)
            assert await asked_for(service, 3) == ["b"] * 3
            service.clock.advance(0.2)
            assert "a" in await asked_for(service, 2)


async def test_a_request_that_gets_a_bare_429_everywhere_rests_nobody(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 3, "api_key") as (service, _):
        odd = [("x-simulate", "bare-429")]
        for _ in range(4):
            answer = await service.message(headers=odd)
            assert (answer.status, answer.header("retry-after")) == (429, None)
        assert sorted(map(str, await asked_for(service, 3))) == ["a", "b", "c"]


async def test_a_bare_429_concerns_its_model_alone(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.script(credentials[0], bare_429())
        await asked_for(service, 1)
        other = json.dumps({"model": "claude-haiku-5-5", "max_tokens": 9, "messages": []}).encode()
        names = [
            (await service.send("POST", "/v1/messages", [], other)).header("x-proxy-account") for _ in "ab"
        ]
        assert sorted(map(str, names)) == ["a", "b"]


@pytest.mark.parametrize("fault", [throttle_429(), quota_429(2)])
async def test_a_short_wait_of_the_only_account_is_waited_for_within_the_tries(
    tmp_path: Path, fault: Fault
) -> None:
    async with pool_of(tmp_path, 1, "api_key") as (service, credentials):
        service.simulator.script(credentials[0], fault)
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-attempts")) == (200, "2")
        service.simulator.always(credentials[0], fault)
        assert (await service.message()).status == 429
        assert len(asked(service)) == 2 + 5


# --- 429 to another route ----------------------------------------------------------------------------------

OTHER_ROUTES = [
    ("POST", "/v1/messages/count_tokens"),
    ("GET", "/v1/messages/batches"),
    ("GET", "/v1/files"),
    ("GET", "/v1/models"),
    ("GET", "/v1/skills"),
]
HINTS: list[Error] = [
    bare_429(),
    throttle_429(),
    Error(429, headers=(("retry-after", "60"),)),
    Error(429, headers=(("anthropic-ratelimit-unified-status", "rejected"),)),
]


@pytest.mark.parametrize("fault", HINTS)
@pytest.mark.parametrize(("method", "path"), OTHER_ROUTES)
async def test_a_429_to_another_route_rests_that_route_of_the_account_alone(
    tmp_path: Path, method: str, path: str, fault: Error
) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        body = (
            json.dumps({"model": "claude-sonnet-5-5", "messages": []}).encode() if method == "POST" else None
        )
        other = Answer(200, (("content-type", "application/json"),), b"{}")
        service.simulator.always(credentials[1], other, path=path)
        service.simulator.script(credentials[0], fault, path=path)
        service.simulator.always(credentials[0], other, path=path)
        headers = [("content-type", "application/json")]
        for _ in range(3):
            answer = await service.send(method, path, headers, body)
            assert (answer.status, answer.header("x-proxy-account")) == (200, "b")
        assert seen(service, "a")["status"] == "active"
        assert sorted(map(str, await asked_for(service, 2))) == ["a", "b"]
        service.clock.advance(61)
        names = [(await service.send(method, path, headers, body)).header("x-proxy-account") for _ in "ab"]
        assert sorted(map(str, names)) == ["a", "b"]


async def test_a_route_that_rests_everywhere_is_a_429_with_its_time(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, _):
        service.simulator.always(None, Error(429, headers=(("retry-after", "30"),)), path="/v1/files")
        answers = [await service.send("GET", "/v1/files") for _ in range(2)]
        assert [(a.status, a.header("retry-after")) for a in answers] == [(429, "30")] * 2
        assert (await service.message()).status == 200


# --- passed over for one matter ----------------------------------------------------------------------------


async def test_an_account_without_a_model_is_passed_over_for_it_after_another_has_served_it(
    tmp_path: Path,
) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.always(
            credentials[0], refusal(404, "model: claude-sonnet-5-5"), path="/v1/messages"
        )
        assert await asked_for(service, 4) == ["a", "b", "b", "b", "b"]


async def test_an_error_of_another_account_confirms_no_refusal(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.script(
            credentials[0], refusal(404, "model: claude-sonnet-5-5"), path="/v1/messages"
        )
        wrong = early("invalid_request_error", "messages: at least one message is required")
        service.simulator.script(credentials[1], wrong, path="/v1/messages")
        assert (await service.message()).body == wrong.body
        assert sorted(map(str, await asked_for(service, 2))) == ["a", "b"]


async def test_a_model_that_nobody_has_is_a_404_each_time(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, _):
        service.simulator.always(None, refusal(404, "model: sonnet"), path="/v1/messages")
        assert [(await service.message()).status for _ in range(3)] == [404] * 3
        assert len(asked(service)) == 6


@pytest.mark.parametrize(
    ("beta", "words"),
    [
        ("context-1m-2025-08-07", "The long context beta is not yet available for this subscription."),
        ("skills-2025-10-02", "skills-2025-10-02 is not available for this account."),
        ("agents-1", "Your organization is not enrolled in the beta agents-1."),
    ],
)
async def test_an_account_without_a_beta_is_passed_over_for_that_alone(
    tmp_path: Path, beta: str, words: str
) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.script(credentials[0], refusal(400, words), path="/v1/messages")
        headers = [("anthropic-beta", f"one-thing, {beta}")]
        names = [(await service.message(headers=headers)).header("x-proxy-account") for _ in range(3)]
        assert names == ["b"] * 3
        assert sorted(map(str, await asked_for(service, 2))) == ["a", "b"]


# --- many that refuse --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [402, 403])
async def test_more_dead_accounts_than_tries_fail_no_request(tmp_path: Path, status: int) -> None:
    async with pool_of(tmp_path, 8, "api_key", retry__max_attempts="3") as (service, credentials):
        for credential in credentials[:6]:
            service.simulator.always(credential, refusal(status, "no"), path="/v1/messages")
        assert [(await service.message()).status for _ in range(16)] == [200] * 16


async def test_an_account_that_refuses_again_and_again_is_shown_and_degrades(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.always(credentials[0], refusal(403, "not for you"), path="/v1/messages")
        await asked_for(service, 20)
        shown = seen(service, "a")
        assert shown["status"] == "active"
        assert "requests in a row: 403 permission_error: not for you" in shown["status_reason"]
        statistics = (await service.admin("GET", "/api/admin/statistics")).json()
        assert statistics["system_health"] == "degraded"
        assert "1 of 2 accounts refuse all requests" in statistics["reasons"]


async def test_an_account_that_serves_again_is_shown_no_more(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.script(credentials[0], *[refusal(403, "no")] * 6, path="/v1/messages")
        await asked_for(service, 5)
        assert seen(service, "a")["status_reason"] is not None
        await asked_for(service, 3)
        assert seen(service, "a")["status_reason"] is None
        assert (await service.admin("GET", "/api/admin/statistics")).json()["system_health"] == "healthy"


async def test_a_limit_of_another_account_is_waited_for_and_not_the_refusal_handed_on(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.always(credentials[0], quota_429(600))
        service.simulator.always(credentials[1], refusal(403, "no"))
        for _ in range(2):
            answer = await service.message()
            assert (answer.status, answer.header("retry-after")) == (429, "600")


# --- the budget of further tries ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Error(529), Error(503), Reset(), PAGE, early("overloaded_error")])
async def test_an_upstream_in_trouble_is_not_asked_five_times_as_much(tmp_path: Path, fault: Fault) -> None:
    async with pool_of(tmp_path, 3, "api_key") as (service, _):
        service.simulator.always(None, fault, path="/v1/messages")
        for _ in range(60):
            await service.message()
        assert len(asked(service)) == pytest.approx(60 + 10 + 0.2 * 60, abs=3)


async def test_with_a_budget_of_nothing_ten_further_tries_are_all(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 3, "api_key", retry__budget="0") as (service, _):
        service.simulator.always(None, Error(529), path="/v1/messages")
        answers = [await service.message() for _ in range(10)]
        assert {answer.status for answer in answers} == {529}
        assert len(asked(service)) == 20


async def test_refusals_take_nothing_from_the_budget(tmp_path: Path) -> None:
    async with pool_of(tmp_path, 2, "api_key", retry__budget="0") as (service, credentials):
        service.simulator.always(credentials[0], refusal(403, "no"), path="/v1/messages")
        assert len(await asked_for(service, 30)) > 40
        service.simulator.script(credentials[1], Error(529), path="/v1/messages")
        assert (await service.message()).status == 200


# --- when the head is sent ---------------------------------------------------------------------------------


async def test_an_error_event_that_is_not_the_first_is_handed_on(tmp_path: Path) -> None:
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    overloaded = early("overloaded_error")
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.script(
            credentials[0], Answer(200, SSE, ping + overloaded.body), path="/v1/messages"
        )
        answer = await service.message(stream=True)
        assert (answer.header("x-proxy-account"), answer.body) == ("a", ping + overloaded.body)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/complete/stream"])
async def test_only_a_messages_stream_is_looked_at(tmp_path: Path, path: str) -> None:
    fault = early("overloaded_error")
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.script(credentials[0], fault, path=path)
        answer = await service.send("GET", path)
        assert (answer.status, answer.body) == (200, fault.body)


async def test_a_post_that_is_not_sent_twice_gets_a_502_for_a_cut_before_the_first_byte(
    tmp_path: Path,
) -> None:
    async with pool_of(tmp_path, 2, "api_key", retry__resend_posts="false") as (service, credentials):
        service.simulator.script(credentials[0], Raw(CUT_HEAD), path="/v1/messages")
        assert (await service.message(stream=True)).status == 502
        assert asked(service) == ["a"]


# --- encodings, and the answer's own clock -----------------------------------------------------------------

ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "br": brotli.compress,
    "zstd": zstd.compress,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "gzip, br": lambda body: brotli.compress(gzip.compress(body)),
}


@pytest.mark.parametrize("encoding", ENCODE)
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, NO_CREDIT),
        (400, "This organization has been disabled."),
        (404, "model: claude-sonnet-5-5"),
        (400, "max_tokens: too large"),
    ],
)
async def test_an_error_is_judged_in_every_encoding_and_handed_on_byte_for_byte(
    tmp_path: Path, encoding: str, status: int, words: str
) -> None:
    type_ = "invalid_request_error" if status == 400 else "not_found_error"
    plain = json.dumps({"type": "error", "error": {"type": type_, "message": words}}).encode()
    body = ENCODE[encoding](plain)
    headers = (("content-type", "application/json"), ("content-encoding", encoding))
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.script(credentials[0], Answer(status, headers, body), path="/v1/messages")
        answer = await service.message(headers=[("accept-encoding", "gzip, deflate, br, zstd")])
        if words.startswith("max_tokens"):
            assert (answer.status, answer.body) == (status, body)
        else:
            assert (answer.status, answer.header("x-proxy-account")) == (200, "b")
        service.simulator.always(None, Answer(status, headers, body), path="/v1/messages")
        answer = await service.message()
        if answer.status == status:
            assert (answer.body, answer.header("content-encoding")) == (body, encoding)


@pytest.mark.parametrize("hours", [-2, 2])
async def test_a_wrong_clock_here_makes_no_rest_longer_or_shorter(tmp_path: Path, hours: int) -> None:
    true = NOW - hours * HOUR
    reset = f"{true + 600:.0f}"
    limits = {"status": "rejected", "5h-status": "rejected", "5h-reset": reset, "5h-utilization": "1.0"}
    headers = [(f"anthropic-ratelimit-unified-{name}", value) for name, value in limits.items()]
    fault = Error(429, headers=(*headers, ("date", formatdate(true, usegmt=True))))
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.script(credentials[0], fault, path="/v1/messages")
        assert (await service.message()).status == 200
        shown = seen(service, "a")
        assert shown["rate_limited_until"][:16] == rfc3339(NOW + 600)[:16]
        assert shown["quota"][0]["resets_at"][:16] == rfc3339(NOW + 600)[:16]


# --- what is told ------------------------------------------------------------------------------------------


async def test_an_unknown_4xx_is_logged_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool_of(tmp_path, 2, "api_key") as (service, _):
        service.simulator.always(None, refusal(400, "Your workspace was put to sleep."), path="/v1/messages")
        for _ in range(3):
            assert (await service.message()).status == 400
        assert caplog.text.count("unclassified error of the upstream") == 1
        statistics = (await service.admin("GET", "/api/admin/statistics")).json()
        assert statistics["unclassified_errors"] == 3


async def test_the_log_and_the_events_say_why_an_account_was_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with pool_of(tmp_path, 2, "api_key") as (service, credentials):
        service.simulator.script(
            credentials[0], early("overloaded_error"), *[refusal(403, "no")] * 5, path="/v1/messages"
        )
        await asked_for(service, 6)
        told = "evidence=200 with an error as its first event: 529"
        assert told in caplog.text
        assert "account refuses" in caplog.text
        await asked_for(service, 2)
        service.simulator.script(credentials[0], bare_429(), path="/v1/messages")
        await asked_for(service, 2)
        assert "for=model claude-sonnet-5-5 seconds=5 reason=429 rate_limit_error" in caplog.text
