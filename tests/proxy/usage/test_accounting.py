"""One request's account: what its key may ask for, what it may cost at most, and what it came to in the end."""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.clients.budgets import NO_LIMITS, Budgets, KeyLimits
from proxy.clients.keys import ClientKey, Role, declared_key
from proxy.errors import Forbidden, RateLimited, RequestError
from proxy.feed import Feed
from proxy.http.body import Body
from proxy.http.target import Target, parse
from proxy.usage import prices
from proxy.usage.accounting import BYTES_PER_TOKEN, BYTES_PER_TOKEN_RESERVED, Accounting, RequestAccount
from proxy.usage.counts import Counts
from proxy.usage.meter import Usage
from proxy.usage.series import Series
from tests.service import TestClock

MODEL = "claude-sonnet-5-5"
MUCH = KeyLimits(tokens_per_day=10**9, cost_usd_per_day=10.0**9)
USAGE = {"input_tokens": 12, "output_tokens": 34, "cache_read_input_tokens": 5}
START = json.dumps({"message": {"model": MODEL, "usage": {"input_tokens": 12, "output_tokens": 1}}})
STREAM = f"event: message_start\ndata: {START}\n\n".encode()


@pytest.fixture
def accounting(clock: TestClock) -> Accounting:
    return Accounting(Budgets({}, clock=clock), Series(clock=clock), feed=Feed(), clock=clock)


def at(target: str) -> Target:
    return parse(target, allow_admin_paths=False)


def key(limits: KeyLimits = NO_LIMITS, models: tuple[str, ...] = ()) -> ClientKey:
    return declared_key("n", "cp-a-key-of-this-test", Role.USER, limits, models)


def request(**members: Any) -> bytes:
    return json.dumps({"model": MODEL, "max_tokens": 100} | members).encode()


def answer(**members: Any) -> bytes:
    return json.dumps({"type": "message", "model": MODEL, "content": [], "usage": USAGE} | members).encode()


async def reserved(
    accounting: Accounting, token: ClientKey, data: bytes | None = None, encoding: str = ""
) -> RequestAccount:
    """The account of a message request that may be sent."""
    account = accounting.begin(token, "POST", at("/v1/messages"))
    account.admit()
    body = Body()
    await body.write(request() if data is None else data)
    await account.reserve(body, encoding)
    return account


async def refused(
    accounting: Accounting, token: ClientKey, data: bytes | None = None, encoding: str = ""
) -> RequestError:
    """The error of a message request that may not."""
    with pytest.raises(RequestError) as caught:
        await reserved(accounting, token, data, encoding)
    return caught.value


def measured(
    account: RequestAccount, data: bytes, kind: str = "application/json", *, whole: bool = True
) -> None:
    """That answer comes."""
    account.measure(200, [("Content-Type", kind)])
    account.feed(data)
    if whole:
        account.complete()


def ended(account: RequestAccount, status: int = 200, *, sent: bool = True) -> None:
    account.end(account_id="acc_1" if sent else None, status=status, sent=sent, ttfb_s=0.25, duration_s=1.5)


def rows(accounting: Accounting, by: str = "model") -> dict[str | None, Counts]:
    now = accounting.clock.now()
    return {row.id: row.counts for row in accounting.series.rows(by, start=now - 60, end=now).rows}  # type: ignore[arg-type]


def total(accounting: Accounting) -> Counts:
    return accounting.series.totals("start")


def spent(accounting: Accounting, token: ClientKey) -> tuple[int, float]:
    view = accounting.budgets.view(token.id)
    return view["tokens_today"], view["cost_usd_today"]


def still_reserved(accounting: Accounting, token: ClientKey) -> tuple[int, int, float]:
    held = accounting.budgets._accounts[token.id]
    return held.reservations, held.reserved_tokens, held.reserved_usd


# ---- what a key may call

UNMEASURED = [
    ("POST", "/v1/messages/batches"),
    ("POST", "/v1/messages/batches/msgbatch_1/cancel"),
    ("DELETE", "/v1/messages/batches/msgbatch_1"),
    ("POST", "/v1/messages/batches?beta=true"),
    ("POST", "/v1/complete"),
    ("POST", "/v1/sessions"),
    ("POST", "/v1/agents"),
    ("POST", "/v1/models-of-tomorrow"),
    ("POST", "/v1/filesystem"),
    ("post", "/v1/messages"),
    ("PUT", "/v1/messages"),
    ("PATCH", "/v1/messages?beta=true"),
]
MEASURED = [
    ("GET", "/v1/messages/batches"),
    ("HEAD", "/v1/anything"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages?beta=true"),
    ("POST", "/v1/%6dessages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/messages/count_tokens?beta=true"),
    ("POST", "/v1/files"),
    ("DELETE", "/v1/files/file_1"),
    ("POST", "/v1/skills"),
]


@pytest.mark.parametrize("token", [key(MUCH), key(models=("*",))], ids=["budget", "models"])
@pytest.mark.parametrize(("method", "target"), UNMEASURED)
def test_what_cannot_be_measured_is_not_for_a_key_with_a_budget_or_models(
    accounting: Accounting, token: ClientKey, method: str, target: str
) -> None:
    with pytest.raises(Forbidden) as caught:
        accounting.begin(token, method, at(target)).admit()
    assert (caught.value.type, caught.value.should_retry) == ("permission_error", False)


@pytest.mark.parametrize(("method", "target"), MEASURED)
def test_what_can_be_measured_or_is_free_is_for_every_key(
    accounting: Accounting, method: str, target: str
) -> None:
    accounting.begin(key(MUCH, ("*",)), method, at(target)).admit()


@pytest.mark.parametrize(("method", "target"), UNMEASURED)
def test_a_key_without_a_budget_and_models_may_call_anything(
    accounting: Accounting, method: str, target: str
) -> None:
    accounting.begin(key(KeyLimits(requests_per_minute=1)), method, at(target)).admit()


@pytest.mark.parametrize(
    ("method", "target"),
    [("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models"), ("HEAD", "/v1/files")],
)
def test_what_only_looks_is_neither_counted_nor_blocked(
    accounting: Accounting, method: str, target: str
) -> None:
    token = key(KeyLimits(requests_per_minute=1, concurrent_requests=1))
    for _ in range(10):
        accounting.begin(token, method, at(target)).admit()
    accounting.begin(token, "POST", at("/v1/messages")).admit()
    accounting.begin(token, method, at(target)).admit()


def test_a_request_that_was_not_admitted_frees_nobodys_place(accounting: Accounting) -> None:
    token = key(KeyLimits(concurrent_requests=1))
    first, second = (accounting.begin(token, "POST", at("/v1/messages")) for _ in range(2))
    first.admit()
    with pytest.raises(RateLimited):
        second.admit()
    ended(second, 429, sent=False)
    with pytest.raises(RateLimited):
        accounting.begin(token, "POST", at("/v1/messages")).admit()
    ended(first)
    accounting.begin(token, "POST", at("/v1/messages")).admit()


# ---- models


@pytest.mark.parametrize(
    ("allowed", "model"),
    [
        (("claude-haiku-*",), "claude-haiku-5-5"),
        (("claude-opus-5", "claude-sonnet-5-5"), MODEL),
        (("claude-*-5-5",), MODEL),
        (("*",), "anything"),
        ((), "anything"),
    ],
)
async def test_a_model_that_is_allowed_passes(
    accounting: Accounting, allowed: tuple[str, ...], model: str
) -> None:
    await reserved(accounting, key(models=allowed), request(model=model))


@pytest.mark.parametrize(
    ("allowed", "model"),
    [
        (("claude-haiku-*",), MODEL),
        (("claude-opus-5",), "claude-opus-5-5"),
        (("claude-haiku-*",), "CLAUDE-HAIKU-5-5"),
        (("claude-haiku-*",), " claude-haiku-5-5"),
        (("claude-haiku-*",), "x\nclaude-haiku-5-5"),
        (("claude-haiku-*",), ""),
        (("claude-haiku-*",), None),
        (("claude-haiku-*",), ["claude-haiku-5-5"]),
        (("claude-haiku-*",), "claude-haiku-" + "5" * 10_000),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_model_that_is_not_is_forbidden(
    accounting: Accounting, allowed: tuple[str, ...], model: object
) -> None:
    error = await refused(accounting, key(models=allowed), request(model=model))
    assert (error.status, error.type, error.should_retry) == (403, "permission_error", False)
    assert len(error.message) < 200


@pytest.mark.parametrize(
    "also",
    [
        {"fallbacks": [{"model": "claude-haiku-5-5"}, {"model": "claude-opus-5-5"}]},
        {"fallbacks": "default"},
        {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5-5"}]},
        {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": None}]},
    ],
)
async def test_no_other_model_comes_in_by_a_side_door(accounting: Accounting, also: dict[str, Any]) -> None:
    await refused(accounting, key(models=(MODEL, "claude-haiku-*")), request(**also))
    await reserved(accounting, key(models=("*",)), request(**also))


@pytest.mark.parametrize("token", [key(MUCH), key(models=("*",))], ids=["budget", "models"])
@pytest.mark.parametrize(
    ("data", "encoding"),
    [(b"", ""), (b"{", ""), (b"[]", ""), (b"x", "gzip"), (request(), "rot13"), (request(), "gzip, gzip")],
)
async def test_a_body_that_cannot_be_read_is_forbidden(
    accounting: Accounting, token: ClientKey, data: bytes, encoding: str
) -> None:
    error = await refused(accounting, token, data, encoding)
    assert (error.status, error.type, error.should_retry) == (403, "permission_error", False)
    assert "cannot be read" in error.message


async def test_a_body_that_cannot_be_read_passes_for_any_other_key(accounting: Accounting) -> None:
    await reserved(accounting, key(KeyLimits(requests_per_minute=9)), b"{")


async def test_models_are_read_in_a_compressed_body_too(accounting: Accounting) -> None:
    token = key(models=("claude-haiku-*",))
    await reserved(accounting, token, gzip.compress(request(model="claude-haiku-5-5")), "gzip")
    await refused(accounting, token, gzip.compress(request()), "gzip")


# ---- the most that a request may cost


async def most(accounting: Accounting, data: bytes, encoding: str = "") -> tuple[int, float]:
    """Tokens and US dollars set aside for it."""
    token = key(MUCH)
    account = await reserved(accounting, token, data, encoding)
    _, tokens, cost_usd = still_reserved(accounting, token)
    ended(account, 400)
    return tokens, cost_usd


@settings(max_examples=100, deadline=None)
@given(
    model=st.sampled_from(["claude-opus-5-5", "claude-haiku-5-5", MODEL, "claude-fable-5-1", "nonsense", ""]),
    length=st.sampled_from([0, 1000, 700_001]),
    max_tokens=st.sampled_from([0, 1, 100, 128_000]),
    geo=st.sampled_from([None, "us", "global"]),
    speed=st.sampled_from([None, "standard", "fast"]),
    kind=st.sampled_from(["input", "cache_creation_5m", "cache_creation_1h", "cache_read"]),
)
def test_no_answer_costs_more_than_was_set_aside(
    model: str, length: int, max_tokens: int, geo: str | None, speed: str | None, kind: str
) -> None:
    clock = TestClock()
    accounting = Accounting(Budgets({}, clock=clock), Series(clock=clock), feed=Feed(), clock=clock)
    data = request(model=model, max_tokens=max_tokens, speed=speed, system="x" * length)
    tokens, cost_usd = asyncio.run(most(accounting, data))
    prompt = len(data) // BYTES_PER_TOKEN_RESERVED
    used = replace(
        Usage(model, output_tokens=max_tokens, inference_geo=geo, speed=speed),
        **{f"{kind}_tokens": prompt},  # type: ignore[arg-type]
    )
    assert used.total <= tokens
    assert (prices.cost_usd(used, at=clock.now()) or 0.0) <= cost_usd + 1e-9


async def test_the_length_counts_that_a_compressed_body_has_without_it(accounting: Accounting) -> None:
    plain = request(system="x" * 1_000_000)
    assert await most(accounting, gzip.compress(plain), "gzip") == await most(accounting, plain)


async def test_every_model_that_may_have_a_part_in_it_is_set_aside_for(accounting: Accounting) -> None:
    alone = await most(accounting, request(model="claude-opus-5-5", x="?" * 40))
    both = await most(accounting, request(fallbacks=[{"model": "claude-opus-5-5"}]))
    assert both[0] >= 2 * alone[0] - 40
    assert both[1] > alone[1]


@pytest.mark.parametrize("most_tokens", [10**400, 1e300, "1000000", [], True], ids=lambda most: str(most)[:9])
async def test_an_absurd_max_tokens_is_more_than_a_budget_has_and_no_defect(
    accounting: Accounting, most_tokens: object
) -> None:
    token = key(KeyLimits(tokens_per_day=900_000, cost_usd_per_day=10.0))
    error = await refused(accounting, token, request(max_tokens=most_tokens))
    assert (error.status, error.type) == (429, "billing_error")


async def test_a_request_over_the_budget_is_refused_and_sets_nothing_aside(accounting: Accounting) -> None:
    token = key(KeyLimits(tokens_per_day=100))
    error = await refused(accounting, token, request(max_tokens=100))
    assert (error.status, error.type, error.should_retry) == (429, "billing_error", False)
    assert still_reserved(accounting, token) == (0, 0, 0.0)


# ---- what it came to


@pytest.mark.parametrize(
    ("status", "sent", "whole", "outcome"),
    [
        (200, True, True, "ok"),
        (200, True, False, "aborted"),
        (0, True, False, "aborted"),
        (0, False, False, "aborted"),
        (400, True, True, "client_error"),
        (404, True, False, "client_error"),
        (429, True, True, "limited"),
        (429, False, False, "limited"),
        (500, True, True, "upstream_error"),
        (529, True, True, "upstream_error"),
        (502, True, False, "upstream_error"),
        (403, False, False, "refused"),
        (413, False, False, "refused"),
        (503, False, False, "refused"),
        (400, False, False, "refused"),
    ],
)
async def test_every_request_has_one_outcome(
    accounting: Accounting, status: int, sent: bool, whole: bool, outcome: str
) -> None:
    account = await reserved(accounting, key())
    if sent and status:
        account.measure(status, [("content-type", "application/json")])
    if whole:
        account.complete()
    ended(account, status, sent=sent)
    names = ("ok", "client_error", "limited", "upstream_error", "refused", "aborted")
    counted = {name: number for name, number in asdict(total(accounting)).items() if name in names and number}
    assert counted == {outcome: 1}


async def test_an_answer_is_counted_as_it_says(accounting: Accounting) -> None:
    account = await reserved(accounting, key())
    measured(account, answer())
    ended(account)
    counts = rows(accounting)[MODEL]
    assert (counts.input_tokens, counts.output_tokens, counts.cache_read_tokens) == (12, 34, 5)
    cost = prices.cost_usd(Usage(MODEL, 12, 34, cache_read_tokens=5), at=accounting.clock.now())
    assert counts.cost_usd == pytest.approx(cost)
    assert (counts.ttfb_ms, counts.ttfb_count, counts.duration_ms) == (250, 1, 1500)
    assert (counts.estimated, counts.unpriced) == (0, 0)
    assert rows(accounting, "account").keys() == {"acc_1"}
    assert rows(accounting, "token").keys() == {key().id}


@pytest.mark.parametrize("limits", [NO_LIMITS, MUCH])
async def test_a_key_is_charged_what_was_used(accounting: Accounting, limits: KeyLimits) -> None:
    token = key(limits)
    account = await reserved(accounting, token)
    measured(account, answer())
    ended(account)
    cost = prices.cost_usd(Usage(MODEL, 12, 34, cache_read_tokens=5), at=accounting.clock.now())
    assert spent(accounting, token) == (51, pytest.approx(cost, abs=1e-6))
    assert still_reserved(accounting, token) == (0, 0, 0.0)


@pytest.mark.parametrize("target", ["/v1/messages/count_tokens", "/v1/files", "/v1/messages/batches"])
async def test_what_is_no_inference_is_not_counted(accounting: Accounting, target: str) -> None:
    account = accounting.begin(key(), "POST", at(target))
    account.admit()
    await account.reserve(None, "")
    measured(account, answer())
    ended(account)
    assert (total(accounting), rows(accounting)) == (Counts(), {})


async def test_each_token_counts_for_the_model_that_is_billed_for_it(accounting: Accounting) -> None:
    iterations = [
        {"type": "advisor_message", "model": "claude-opus-5-5", "input_tokens": 100, "output_tokens": 10},
        {"type": "message", "input_tokens": 20, "output_tokens": 2},
    ]
    usage = {"input_tokens": 20, "output_tokens": 2, "iterations": iterations}
    usage |= {"server_tool_use": {"web_search_requests": 3}}
    account = await reserved(accounting, key())
    measured(account, answer(usage=usage))
    ended(account)
    found = rows(accounting)
    assert {model: (c.requests, c.input_tokens, c.output_tokens) for model, c in found.items()} == {
        MODEL: (1, 20, 2),
        "claude-opus-5-5": (0, 100, 10),
    }
    assert found[MODEL].web_search_requests == 3
    assert sum(c.cost_usd for c in found.values()) == pytest.approx(
        prices.cost_usd(
            Usage(
                MODEL,
                web_search_requests=3,
                iterations=(Usage("claude-opus-5-5", 100, 10), Usage(MODEL, 20, 2)),
            ),
            at=accounting.clock.now(),
        )
    )


async def test_a_model_without_a_price_is_counted_and_marked_and_charged_at_a_price(
    accounting: Accounting,
) -> None:
    token = key(MUCH)
    account = await reserved(accounting, token, request(model="claude-of-tomorrow"))
    measured(account, answer(model="claude-of-tomorrow"))
    ended(account)
    counts = rows(accounting)["claude-of-tomorrow"]
    assert (counts.unpriced, counts.cost_usd, counts.output_tokens) == (1, 0.0, 34)
    assert spent(accounting, token) == (51, pytest.approx((17 * 5 + 34 * 25) / 1e6, abs=1e-6))


@pytest.mark.parametrize("status", [400, 429, 503, 529])
async def test_what_failed_counts_for_the_model_that_was_asked_for_and_costs_nothing(
    accounting: Accounting, status: int
) -> None:
    token = key(MUCH)
    account = await reserved(accounting, token)
    ended(account, status)
    assert rows(accounting)[MODEL].errors == 1
    assert spent(accounting, token) == (0, 0.0)
    assert still_reserved(accounting, token) == (0, 0, 0.0)


async def test_what_a_key_may_not_do_is_counted_too(accounting: Accounting) -> None:
    account = accounting.begin(key(models=("claude-haiku-*",)), "POST", at("/v1/messages"))
    account.admit()
    body = Body()
    await body.write(request())
    with pytest.raises(Forbidden):
        await account.reserve(body, "")
    ended(account, 403, sent=False)
    assert rows(accounting)[MODEL].refused == 1
    assert rows(accounting, "account")[None].refused == 1


# ---- what had to be estimated

SIZE = len(request())


@pytest.mark.parametrize("limits", [NO_LIMITS, MUCH])
@pytest.mark.parametrize(
    ("status", "came", "kind"),
    [
        (0, None, ""),
        (200, b"", "text/event-stream"),
        (200, STREAM[:20], "text/event-stream"),
        (200, b"", "application/json"),
        (200, b'{"id"', "application/json"),
    ],
    ids=["no head", "no event", "half an event", "no body", "half a body"],
)
async def test_what_was_given_up_before_it_named_its_usage_is_billed_for_its_prompt(
    accounting: Accounting, limits: KeyLimits, status: int, came: bytes | None, kind: str
) -> None:
    token = key(limits)
    account = await reserved(accounting, token)
    if came is not None:
        measured(account, came, kind, whole=False)
    ended(account, status)
    counts = rows(accounting)[MODEL]
    assert (counts.aborted, counts.estimated, counts.unpriced) == (1, 1, 0)
    assert counts.input_tokens == SIZE // BYTES_PER_TOKEN
    assert counts.cost_usd > 0
    assert spent(accounting, token)[0] == SIZE // BYTES_PER_TOKEN


async def test_a_cut_stream_is_settled_from_what_was_seen(accounting: Accounting) -> None:
    account = await reserved(accounting, key())
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 400}}
    delta = f"event: content_block_delta\ndata: {json.dumps(text, separators=(',', ':'))}\n\n"
    measured(account, STREAM + delta.encode(), "text/event-stream", whole=False)
    ended(account)
    counts = rows(accounting)[MODEL]
    assert (counts.estimated, counts.input_tokens, counts.output_tokens) == (1, 12, 100)


async def test_the_estimate_knows_the_length_of_a_compressed_body(accounting: Accounting) -> None:
    plain = request(system="x" * 10_000)
    account = await reserved(accounting, key(), gzip.compress(plain), "gzip")
    ended(account, 0)
    assert total(accounting).input_tokens == len(plain) // BYTES_PER_TOKEN


async def test_what_the_upstream_never_had_is_not_billed(accounting: Accounting) -> None:
    token = key(MUCH)
    account = await reserved(accounting, token)
    ended(account, 0, sent=False)
    assert (total(accounting).aborted, total(accounting).estimated) == (1, 0)
    assert spent(accounting, token) == (0, 0.0)
    assert still_reserved(accounting, token) == (0, 0, 0.0)


async def test_a_whole_answer_that_is_no_message_is_not_billed(accounting: Accounting) -> None:
    account = await reserved(accounting, key())
    measured(account, b'{"type": "something"}')
    ended(account)
    assert (total(accounting).ok, total(accounting).input_tokens, total(accounting).estimated) == (1, 0, 0)


# ---- time to first byte


async def test_percentiles_are_those_of_recent_answers(accounting: Accounting, clock: TestClock) -> None:
    assert accounting.ttfb_ms() == {"p50": None, "p95": None, "p99": None}
    accounting.first_byte(9.0)
    clock.advance(901)
    for ms in range(1, 101):
        accounting.first_byte(ms / 1000)
    assert accounting.ttfb_ms() == {"p50": 51.0, "p95": 96.0, "p99": 100.0}


@pytest.mark.parametrize(("status", "counted"), [(200, True), (429, False), (503, False)])
async def test_an_error_says_nothing_of_how_fast_answers_begin(
    accounting: Accounting, status: int, counted: bool
) -> None:
    ended(await reserved(accounting, key()), status)
    assert (accounting.ttfb_ms()["p50"] is not None) == counted
