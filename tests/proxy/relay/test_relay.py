"""The attempt loop, live through the proxy: what an upstream answer does to the request and to the account.

Long: the contract's table, row by row.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import (
    Answer,
    Error,
    Fault,
    Lost,
    Raw,
    Reset,
    ResetEarly,
    Silence,
    Simulator,
    Slow,
    api_key_429,
    bare_429,
    long_context_429,
    model_429,
    quota_429,
    throttle_429,
)
from tests import wire
from tests.service import (
    MESSAGE_HEADERS,
    Service,
    SteppedClock,
    TestClock,
    message,
    serve,
    until,
    upstream_key,
)
from tests.serving import serving

A, B = upstream_key("a"), upstream_key("b")
TWO = ("a", "b")
HOUR = 3600
NO_JITTER = {"retry__jitter_max": "0s"}
REVOKED = Error(403, message="OAuth token has been revoked. Please obtain a new token.")
DISABLED = Error(400, message="This organization has been disabled.")


def asked(service: Service) -> list[str | None]:
    """The organizations that were asked, in order; each is called as its account."""
    return [entry.organization for entry in service.simulator.ledger]


def error_of(answer: wire.Answer) -> tuple[int, str, str]:
    """Status, type and message of an error in the Claude API's shape."""
    body = answer.json()
    assert body["type"] == "error" and body["request_id"].startswith("req_")
    return answer.status, body["error"]["type"], body["error"]["message"]


def all_limited(answer: wire.Answer) -> bool:
    """Whether it is the 429 that names the account which comes back first, and when."""
    status, type, text = error_of(answer)
    told = re.fullmatch(r"all accounts rate limited: '(a|b)' comes back first, at (\S+Z)", text)
    return (status, type, bool(told)) == (429, "rate_limit_error", True)


def seen(service: Service, name: str) -> dict[str, Any]:
    """The account as an admin sees it."""
    pool = service.parts.pool
    return next(pool.view(account) for account in pool if account.name == name)


def limited_for(service: Service, name: str) -> float | None:
    """Seconds for which the account is benched."""
    until = next(a.rate_limited_until for a in service.parts.pool if a.name == name)
    return None if until is None else until - service.clock.now()


# --- answers about the request ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 301, 302, 303, 307, 308, 400, 404, 405, 409, 413, 422])
async def test_an_answer_about_the_request_is_handed_on_once_as_it_is(tmp_path: Path, status: int) -> None:
    body = b'{"odd" :  "\xc3\xa9\\u00e9" ,\n "n": 1.0e0}\n'
    headers = (("content-type", "application/json"), ("location", "/v1/models"), ("x-thing", "A, b"))
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.script(A, Answer(status, headers, body))
        answer = await service.message()
        assert (answer.status, answer.body) == (status, body)
        assert [answer.header(name) for name, _ in headers] == [value for _, value in headers]
        assert asked(service) == ["a"]
        assert service.status("a") == "active"


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        elsewhere = service.simulator.base_url + "/v1/models"
        service.simulator.script(A, Answer(302, (("location", elsewhere),)))
        answer = await service.send("GET", "/v1/files")
        assert (answer.status, answer.header("location")) == (302, elsewhere)
        assert [entry.path for entry in service.simulator.ledger] == ["/v1/files"]


async def test_an_answer_names_the_account_and_the_attempts(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.script(A, Error(401))
        answer = await service.message()
        assert (answer.header("x-proxy-account"), answer.header("x-proxy-attempts")) == ("b", "2")


# --- another account answers ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What account `a` says, always; and what becomes of it."""

    fault: Fault
    status: str = "active"
    reason: str | None = None
    limited_for: float | None = None


OTHER_ANSWERS = {
    "5h window": Case(quota_429(600), "rate_limited", "429, the limit for 5 hours is used up", 600),
    "7d window": Case(
        quota_429(3 * 86400, "7d"), "rate_limited", "429, the limit for 7 days is used up", 3 * 86400
    ),
    "API key limit": Case(api_key_429(30), "rate_limited", "429 rate_limit_error", 30),
    "retry-after": Case(Error(429, headers=(("retry-after", "17"),)), "rate_limited", "429", 17),
    "429 page": Case(Error(429, headers=(("retry-after", "17"),), html=True)),
    "bare 429": Case(bare_429()),
    "throttle": Case(throttle_429(), "rate_limited", "429", 5),
    "401": Case(Error(401), "invalid", "confirmed by GET /v1/models"),
    "401 page": Case(Error(401, html=True)),
    "402": Case(Error(402), "rate_limited", "402 billing_error", HOUR),
    "403": Case(Error(403)),
    "403 page": Case(Error(403, html=True)),
    "403 revoked": Case(REVOKED, "invalid", "403 permission_error: OAuth token has been revoked"),
    "400 disabled": Case(DISABLED, "invalid", "400 invalid_request_error: This organization"),
    "long context": Case(long_context_429()),
    **{str(status): Case(Error(status)) for status in (408, 500, 502, 503, 504, 529)},
    "502 page": Case(Error(502, html=True)),
    "reset": Case(Reset()),
    "reset early": Case(ResetEarly()),
    "took effect, then reset": Case(Lost(reset=True)),
    "closed without an answer": Case(Raw(b"")),
    "half a head": Case(Raw(b"HTTP/1.1 200 OK\r\ncontent-le")),
}


@pytest.mark.parametrize("case", OTHER_ANSWERS.values(), ids=OTHER_ANSWERS.keys())
async def test_another_account_answers_instead(tmp_path: Path, case: Case) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.always(A, case.fault)
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-account")) == (200, "b")


@pytest.mark.parametrize("case", OTHER_ANSWERS.values(), ids=OTHER_ANSWERS.keys())
async def test_the_account_is_left_in_its_state_with_the_reason(tmp_path: Path, case: Case) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.always(A, case.fault)
        await service.message()
        assert service.status("a") == case.status
        assert (case.reason or "") in (seen(service, "a")["status_reason"] or "")
        assert (seen(service, "a")["status_reason"] is None) == (case.reason is None)
        if case.limited_for is None:
            assert limited_for(service, "a") is None
        else:
            assert limited_for(service, "a") == pytest.approx(case.limited_for, abs=10)
        assert service.status("b") == "active"


@pytest.mark.parametrize("case", OTHER_ANSWERS.values(), ids=OTHER_ANSWERS.keys())
async def test_the_other_account_gets_the_request_whole(tmp_path: Path, case: Case) -> None:
    body = message(metadata={"user_id": "x" * 100_000})
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.always(A, case.fault)
        await service.send("POST", "/v1/messages?beta=true", MESSAGE_HEADERS, body)
        entry = service.simulator.ledger.for_credential(B)[0]
        assert (entry.method, entry.target, entry.body) == ("POST", "/v1/messages?beta=true", body)
        assert entry.header("content-type") == "application/json"


@pytest.mark.parametrize("fault", [Error(401), Error(402), Error(403), quota_429(), bare_429()])
async def test_what_is_about_the_account_fails_over_without_a_delay(tmp_path: Path, fault: Fault) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.always(A, fault)
        await service.message()
        assert service.clock.slept == []


async def test_a_failover_after_a_backoff_has_no_delay_of_its_own(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b", "c"), **NO_JITTER) as service:
        service.simulator.script(A, Error(529))
        service.simulator.script(B, Error(403))
        answer = await service.message()
        assert (answer.status, asked(service)) == (200, ["a", "b", "c"])
        assert service.clock.slept == [1.0]


async def test_a_429_whose_body_is_cut_still_benches_the_account(tmp_path: Path) -> None:
    head = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 600\r\ncontent-length: 99\r\n\r\n"
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.script(A, Raw(head + b'{"type":"err'))
        assert (await service.message()).status == 200
        assert service.status("a") == "rate_limited"


async def test_a_silent_upstream_is_a_504_and_the_account_stays(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO, server__answer_timeout="250ms") as service:
        service.simulator.always(A, Silence())
        answer = await service.message()
        assert error_of(answer)[:2] == (504, "timeout_error")
        assert answer.header("x-should-retry") == "false"  # SDKs would wait as long once more, twice
        assert (asked(service), service.status("a")) == (["a"], "active")


# --- 401 of an API key ------------------------------------------------------------------------------------


async def test_a_refused_key_is_confirmed_by_one_call_to_models(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.revoke(A)
        await service.message()
        calls = [(entry.method, entry.target) for entry in service.simulator.ledger.for_credential(A)]
        assert calls == [("POST", "/v1/messages"), ("GET", "/v1/models")]


async def test_keys_refused_to_many_at_once_are_confirmed_once(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO, clock=SteppedClock()) as service:
        service.simulator.revoke(A)
        service.simulator.script(A, *[Slow(7.0, Error(401))] * 8, path="/v1/messages")
        requests = [asyncio.create_task(service.message()) for _ in range(16)]
        await service.clock.asleep(7.0, count=8)
        service.clock.advance(7)
        assert {answer.status for answer in await asyncio.gather(*requests)} == {200}
        confirmations = [e for e in service.simulator.ledger.for_credential(A) if e.path == "/v1/models"]
        assert len(confirmations) == 1


async def test_a_key_that_is_known_to_be_dead_is_not_confirmed_again(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO, clock=SteppedClock()) as service:
        service.simulator.revoke(A)
        service.simulator.script(A, Slow(7.0, Error(401)), path="/v1/messages")
        late = asyncio.create_task(service.message())
        await service.clock.asleep(7.0)
        await service.message()  # b
        await service.message()  # a, which is confirmed to be dead
        service.clock.advance(7)
        assert (await late).status == 200
        confirmations = [e for e in service.simulator.ledger.for_credential(A) if e.path == "/v1/models"]
        assert len(confirmations) == 1


async def test_a_key_that_still_works_stays_active(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.always(A, Error(401), path="/v1/messages")
        assert (await service.message()).status == 200
        assert service.status("a") == "active"


@pytest.mark.parametrize("fault", [Error(529), Error(403), Reset(), Error(401, html=True)])
async def test_only_a_401_confirms_a_401(tmp_path: Path, fault: Fault) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.always(A, Error(401), path="/v1/messages")
        service.simulator.always(A, fault, path="/v1/models")
        await service.message()
        assert service.status("a") == "active"


async def test_a_401_page_of_an_edge_on_every_route_costs_no_account_and_no_token(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        await service.add_login("login")
        for path in ("/v1/messages", "/v1/models"):
            service.simulator.always(None, Error(401, html=True), path=path)
        answer = await service.message()
        assert error_of(answer)[:2] == (502, "api_error")
        assert answer.header("x-should-retry") is None
        assert {entry.path for entry in service.simulator.ledger} == {"/v1/messages"}
        service.simulator.calm()
        assert (await service.message()).status == 200
        assert [service.status(name) for name in (*TWO, "login")] == ["active"] * 3


# --- rate limits ------------------------------------------------------------------------------------------


async def test_the_only_account_is_waited_for_where_the_wait_is_short(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(A, quota_429(3))
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-attempts")) == (200, "2")
        assert service.clock.slept == [pytest.approx(3, abs=0.5)]


async def test_a_throttled_only_account_is_waited_for(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(A, throttle_429())
        assert (await service.message()).status == 200
        assert service.status("a") == "active"


async def test_short_waits_count_as_attempts(tmp_path: Path) -> None:
    async with serve(tmp_path, retry__max_attempts="3") as service:
        service.simulator.always(A, quota_429(2))
        answer = await service.message()
        assert all_limited(answer)
        assert asked(service) == ["a"] * 3


@pytest.mark.parametrize(
    ("wait_s", "should_retry"), [(30, None), (60, None), (61, "false"), (5 * HOUR, "false")]
)
async def test_a_long_wait_of_the_only_account_is_told_to_the_client(
    tmp_path: Path, wait_s: int, should_retry: str | None
) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(A, quota_429(wait_s))
        answer = await service.message()
        assert all_limited(answer)
        assert answer.header("retry-after") == str(wait_s)
        assert answer.header("x-should-retry") == should_retry
        assert service.clock.slept == []


async def test_while_all_are_limited_the_upstream_is_not_asked(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.always(None, quota_429(600))
        await service.message()
        service.clock.advance(100)
        answer = await service.message()
        assert (answer.status, answer.header("retry-after")) == (429, "500")
        assert asked(service) == ["a", "b"]


async def test_retry_after_is_the_earliest_recovery(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.script(A, quota_429(600))
        service.simulator.script(B, quota_429(40))
        assert (await service.message()).header("retry-after") == "40"


async def test_inactive_and_invalid_accounts_do_not_hide_a_limit(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.revoke(A)
        service.simulator.script(B, quota_429(600))
        answer = await service.message()
        assert (answer.status, answer.header("retry-after")) == (429, "600")
        assert [service.status(name) for name in TWO] == ["invalid", "rate_limited"]


async def test_a_later_limit_is_never_shortened(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO, clock=SteppedClock()) as service:
        short = Error(429, headers=(("retry-after", "60"),))
        service.simulator.script(A, Slow(7.0, short), quota_429(HOUR))
        first = asyncio.create_task(service.message())
        await service.clock.asleep(7.0)
        await service.message()  # b
        await service.message()  # a, which is benched for an hour
        service.clock.advance(7)
        await first
        assert limited_for(service, "a") == pytest.approx(HOUR - 7, abs=1)


async def test_a_limit_is_prolonged(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO, clock=SteppedClock()) as service:
        longer = Error(429, headers=(("retry-after", str(2 * HOUR)),))
        service.simulator.script(A, Slow(7.0, longer), quota_429(HOUR))
        first = asyncio.create_task(service.message())
        await service.clock.asleep(7.0)
        await service.message()
        await service.message()
        service.clock.advance(7)
        await first
        assert limited_for(service, "a") == pytest.approx(2 * HOUR, abs=1)


async def test_a_limited_account_is_back_at_the_next_selection_after_its_time(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(A, quota_429(600))
        await service.message()
        assert service.status("a") == "rate_limited"
        service.clock.advance(601)
        assert (await service.message()).status == 200
        assert service.status("a") == "active"


async def test_a_limited_account_is_not_asked_before_its_time(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.script(A, quota_429(600))
        for _ in range(5):
            await service.message()
        service.clock.advance(599)
        await service.message()
        assert asked(service) == ["a", *["b"] * 6]


async def model_request(service: Service, model: str) -> wire.Answer:
    return await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(model=model))


async def test_a_limit_of_one_model_passes_over_that_model_only(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.script(A, model_429(reset_in=600))
        for _ in range(3):
            assert (await model_request(service, "claude-opus-4-5")).status == 200
        assert asked(service) == ["a", *["b"] * 3]
        for _ in range(2):
            await model_request(service, "claude-haiku-4-5")
        assert sorted(asked(service)[4:]) == ["a", "b"]
        assert service.status("a") == "active"


async def test_a_limit_of_one_model_ends_with_its_time(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.script(A, model_429(reset_in=600))
        await model_request(service, "claude-opus-4-5")
        service.clock.advance(601)
        for _ in range(2):
            await model_request(service, "claude-opus-4-5")
        assert sorted(asked(service)[2:]) == ["a", "b"]


async def test_a_model_limited_everywhere_is_a_429_with_its_time(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.always(None, model_429(reset_in=600))
        answer = await model_request(service, "claude-opus-4-5")
        assert all_limited(answer)
        assert (answer.header("retry-after"), answer.header("x-should-retry")) == ("600", "false")


async def test_long_context_without_credit_leaves_both_accounts_usable(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.script(A, long_context_429())
        assert (await service.message()).header("x-proxy-account") == "b"
        assert [(await service.message()).header("x-proxy-account") for _ in TWO] == ["a", "b"]


async def test_long_context_refused_everywhere_is_said_in_the_upstream_s_words(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.always(None, long_context_429())
        status, _, text = error_of(await service.message())
        assert (status, text) == (429, "Extra usage is required for long context requests.")
        assert asked(service) == ["a", "b"]


# --- nobody is left ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [402, 403])
async def test_where_every_account_refuses_the_last_answer_is_handed_on(tmp_path: Path, status: int) -> None:
    async with serve(tmp_path, accounts=("a", "b", "c")) as service:
        service.simulator.always(None, Error(status, message="no"))
        answer = await service.message()
        assert (error_of(answer)[0], error_of(answer)[2]) == (status, "no")
        assert answer.header("x-proxy-account") == "c"
        assert asked(service) == ["a", "b", "c"]
        assert {service.status(name) for name in "abc"} == {"rate_limited" if status == 402 else "active"}


async def test_with_all_keys_dead_the_client_is_told_that_its_own_is_not(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.revoke(A)
        service.simulator.revoke(B)
        answer = await service.message()
        assert error_of(answer) == (503, "api_error", "all accounts invalid or inactive")
        assert answer.header("x-should-retry") == "false"
        assert [service.status(name) for name in TWO] == ["invalid", "invalid"]


async def test_dead_accounts_are_not_asked_again(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.revoke(A)
        await service.message()
        before = len(service.simulator.ledger)
        assert error_of(await service.message())[0] == 503
        assert len(service.simulator.ledger) == before


async def test_without_accounts_there_is_a_503(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=()) as service:
        answer = await service.message()
        assert error_of(answer) == (503, "api_error", "no accounts available")
        assert answer.header("x-should-retry") == "false"


# --- trouble upstream -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 529])
async def test_trouble_without_end_is_handed_on_in_the_upstream_s_words(tmp_path: Path, status: int) -> None:
    fault = Error(status, message="in its own words", headers=(("x-thing", "kept"),))
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.always(None, fault)
        answer = await service.message()
        assert (answer.status, error_of(answer)[2]) == (status, "in its own words")
        assert (answer.header("x-thing"), answer.header("x-proxy-attempts")) == ("kept", "5")
        assert asked(service) == ["a", "b", "a", "b", "a"]
        assert [service.status(name) for name in TWO] == ["active", "active"]


async def test_backoff_doubles_up_to_its_maximum(tmp_path: Path) -> None:
    options = {"retry__max_attempts": "8", "retry__base_delay": "2s", "retry__max_delay": "20s"} | NO_JITTER
    async with serve(tmp_path, **options) as service:
        service.simulator.always(None, Error(529))
        await service.message()
        assert service.clock.slept == [2, 4, 8, 16, 20, 20, 20]


async def test_backoff_is_jittered(tmp_path: Path) -> None:
    options = {"retry__max_attempts": "11", "retry__max_delay": "1s", "retry__budget": "10"}
    async with serve(tmp_path, **options) as service:
        service.simulator.always(None, Error(529))
        for _ in range(2):
            await service.message()
        jitter = [delay - 1 for delay in service.clock.slept]
        assert len(set(jitter)) == 20
        assert 0 <= min(jitter) < 0.15 and 0.35 < max(jitter) <= 0.5


async def test_an_unreachable_upstream_is_a_502_after_all_tries(tmp_path: Path, unused_port: int) -> None:
    async with serve(tmp_path, accounts=TWO, upstream=f"http://127.0.0.1:{unused_port}") as service:
        answer = await service.message()
        assert error_of(answer)[:2] == (502, "api_error")
        assert answer.header("x-proxy-attempts") == "5"
        assert len(service.clock.slept) == 4
        assert [service.status(name) for name in TWO] == ["active", "active"]


@pytest.mark.parametrize("resend_posts", ["true", "false"])
async def test_a_refused_connection_is_tried_again(
    tmp_path: Path, unused_port: int, resend_posts: str
) -> None:
    async with upstream_that_starts_late(unused_port) as clock:
        options = {"upstream": f"http://127.0.0.1:{unused_port}", "retry__resend_posts": resend_posts}
        async with serve(tmp_path, accounts=TWO, clock=clock, **options) as service:
            answer = await service.message()
            assert (answer.status, answer.header("x-proxy-attempts")) == (200, "2")


@asynccontextmanager
async def upstream_that_starts_late(port: int) -> AsyncIterator[TestClock]:
    """A clock in whose first sleep the upstream starts to listen."""
    simulator = Simulator()
    for name in TWO:
        simulator.add_api_key(upstream_key(name), organization=name)

    class Clock(TestClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            if len(self.slept) == 1:
                await simulator.start(port)

    yield Clock()
    await simulator.stop()


# --- a request that may have taken effect -----------------------------------------------------------------

LOST = [Reset(), Raw(b""), Lost(reset=True)]


@pytest.mark.parametrize("fault", LOST)
async def test_a_post_is_not_sent_twice_where_that_is_forbidden(tmp_path: Path, fault: Fault) -> None:
    async with serve(tmp_path, accounts=TWO, retry__resend_posts="false") as service:
        service.simulator.script(None, fault)
        answer = await service.message()
        assert error_of(answer)[:2] == (502, "api_error")
        assert (answer.header("x-proxy-attempts"), asked(service)) == ("1", ["a"])
        assert service.status("a") == "active"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_changes_nothing_is_sent_again_even_so(tmp_path: Path, method: str) -> None:
    async with serve(tmp_path, accounts=TWO, retry__resend_posts="false") as service:
        service.simulator.script(None, Reset())
        assert (await service.send(method, "/v1/models")).status == 200
        assert asked(service) == ["a", "b"]


@pytest.mark.parametrize("fault", LOST)
async def test_a_post_is_sent_again_by_default(tmp_path: Path, fault: Fault) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.script(None, fault)
        assert (await service.message()).status == 200
        assert asked(service) == ["a", "b"]


@pytest.mark.parametrize("body", [None, b"", b"{}", b"x" * 300_000], ids=["none", "empty", "small", "large"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH"])
async def test_a_request_is_not_sent_twice_over_a_kept_connection_that_is_dead(
    tmp_path: Path, method: str, body: bytes | None
) -> None:
    """libcurl itself would send it again on a new connection."""
    async with dies_at_the_second_request() as (port, methods):
        options = {"upstream": f"http://127.0.0.1:{port}", "retry__resend_posts": "false"}
        async with serve(tmp_path, **options) as service:
            assert (await service.send("GET", "/v1/models")).status == 200
            await service.send(method, "/v1/messages/batches/msgbatch_1/cancel", [], body)
            assert methods == ["GET", method]


async def test_a_get_is_sent_again_over_a_new_connection(tmp_path: Path) -> None:
    async with dies_at_the_second_request() as (port, methods):
        options = {"upstream": f"http://127.0.0.1:{port}", "retry__resend_posts": "false"}
        async with serve(tmp_path, **options) as service:
            for _ in range(2):
                assert (await service.send("GET", "/v1/models")).status == 200
            assert methods == ["GET"] * 3


@asynccontextmanager
async def dies_at_the_second_request() -> AsyncIterator[tuple[int, list[str]]]:
    """An upstream that answers once on each connection, then reads one more request and closes; and what it read."""
    methods: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b""):
            head = await reader.readuntil(b"\r\n\r\n")
            methods.append(head.split()[0].decode())
            length = next(
                (
                    int(x.split(b":")[1])
                    for x in head.split(b"\r\n")
                    if x.lower().startswith(b"content-length")
                ),
                0,
            )
            await reader.readexactly(length)
            writer.write(answer)

    async with serving(handle) as port:
        yield port, methods


# --- who is asked -----------------------------------------------------------------------------------------


async def test_accounts_take_turns(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b", "c")) as service:
        for _ in range(9):
            await service.message()
        assert asked(service) == ["a", "b", "c"] * 3


async def test_the_next_try_goes_to_another_account_though_it_is_not_its_turn(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO, clock=SteppedClock(), **NO_JITTER) as service:
        service.simulator.script(A, Error(529))
        request = asyncio.create_task(service.message())
        await service.clock.asleep(1.0)
        await service.message()  # b, so that it would be a's turn
        service.clock.advance(1)
        assert (await request).header("x-proxy-account") == "b"


async def test_accounts_share_what_comes_at_once(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b", "c")) as service:
        await asyncio.gather(*(service.message() for _ in range(30)))
        assert [asked(service).count(name) for name in "abc"] == [10, 10, 10]


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "all_proxy"])
@pytest.mark.parametrize("case", [str.lower, str.upper])
async def test_a_proxy_named_in_the_environment_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, case: Callable[[str], str]
) -> None:
    connections: list[asyncio.StreamWriter] = []

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with serving(count) as port:
        monkeypatch.setenv(case(variable), f"http://127.0.0.1:{port}")
        async with serve(tmp_path) as service:
            assert (await service.message()).status == 200
            assert connections == []


async def test_a_client_that_leaves_in_the_backoff_costs_no_further_try(tmp_path: Path) -> None:
    async with serve(tmp_path, clock=SteppedClock(), **NO_JITTER) as service:
        service.simulator.always(None, Error(529))
        request = asyncio.create_task(service.message())
        await service.clock.asleep(1.0)
        request.cancel()
        await until(lambda: seen(service, "a")["in_flight"] == 0)
        service.clock.advance(1)
        await service.send("GET", "/v1/models", key="another")
        assert asked(service) == ["a"]


async def test_a_client_that_leaves_while_a_token_is_refreshed_ends_the_probation(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=()) as service:
        account, grant = await service.add_login("a", expires_in=60)
        service.parts.pool.limit(account.id, service.clock.now() + HOUR, "5h rejected")
        service.clock.advance(HOUR)
        service.simulator.script(grant, Silence(), path="/")
        before = len(service.simulator.ledger)
        request = asyncio.create_task(service.message())
        await until(lambda: len(service.simulator.ledger) > before)
        assert service.parts.pool.choose() is None  # on probation
        request.cancel()
        await until(lambda: service.running == 0)
        assert service.parts.pool.choose() is not None
        await service.simulator.stop()  # else a shutdown waits for the token


async def test_counters_tell_what_happened(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=TWO) as service:
        service.simulator.script(A, quota_429(600))
        service.simulator.script(B, Error(529))
        await service.message()
        counted = {
            name: tuple(seen(service, name)[key] for key in ("requests", "errors", "rate_limits"))
            for name in TWO
        }
        assert counted == {"a": (1, 1, 1), "b": (2, 1, 0)}
        assert [seen(service, name)["in_flight"] for name in TWO] == [0, 0]
