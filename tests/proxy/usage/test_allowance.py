"""One request's record: what its key may ask for, what it may cost at most, and what it came to in the end."""

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
from proxy.http.body import Bodies, Body
from proxy.http.conversation import PICTURE_BYTES
from proxy.http.peek import Peek, peek
from proxy.http.target import parse
from proxy.usage import prices
from proxy.usage.allowance import BYTES_PER_TOKEN, BYTES_PER_TOKEN_RESERVED, Allowance, price
from proxy.usage.completions import CompletionMeter
from proxy.usage.counts import Counts
from proxy.usage.latency import Latency
from proxy.usage.meter import Meter, Usage
from proxy.usage.request import Attempt, Charge, RequestRecord
from proxy.usage.series import Series
from tests.service import TestClock

MODEL = "claude-sonnet-5-5"
POST = ("POST", "/v1/messages")
MUCH = KeyLimits(tokens_per_day=10**9, cost_usd_per_day=10.0**9)
USAGE = {"input_tokens": 12, "output_tokens": 34, "cache_read_input_tokens": 5}
START = json.dumps({"message": {"model": MODEL, "usage": {"input_tokens": 12, "output_tokens": 1}}})
STREAM = f"event: message_start\ndata: {START}\n\n".encode()


class World:
    """What requests are held to, and the sums that they come to."""

    def __init__(self, clock: TestClock) -> None:
        self.clock = clock
        self.budgets = Budgets({}, clock=clock)
        self.series = Series(clock=clock)
        self.latency = Latency(clock=clock)
        self.allowance = Allowance(self.budgets, clock=clock)

    def begin(self, token: ClientKey, method: str, target: str) -> RequestRecord:
        parsed = parse(target, allow_admin_paths=True)
        record = RequestRecord(self.clock.monotonic(), method=method, key=token, target=parsed)
        record.form = parsed.form(method)
        return record

    def admitted(self, token: ClientKey, method: str, target: str) -> RequestRecord:
        record = self.begin(token, method, target)
        self.allowance.admit(record)
        return record

    def end(self, record: RequestRecord, status: int = 200, *, sent: bool = True) -> None:
        """The request ends: after 1.5 seconds, an answer began after 0.25; the upstream's, if it was `sent`."""
        if sent:
            tried(record, status, "hand_on" if status else "")
        record.status = status
        record.first_byte_at, record.ended_at = record.began_at + 0.25, record.began_at + 1.5
        self.allowance.leave(record)
        price(record, self.clock.now())
        for sink in (self.allowance.settle, self.series.count, self.latency.count):
            sink(record)


def tried(record: RequestRecord, status: int, verdict: str) -> None:
    """A try of the request; without a verdict it was cut."""
    attempt = Attempt("acc_1", "a")
    if verdict:
        attempt.end(status, verdict, "", record.began_at)
    record.attempts.append(attempt)


@pytest.fixture
def world(clock: TestClock) -> World:
    return World(clock)


def key(limits: KeyLimits = NO_LIMITS, models: tuple[str, ...] = ()) -> ClientKey:
    return declared_key("n", "cp-a-key-of-this-test", Role.USER, limits, models)


def request(**members: Any) -> bytes:
    return json.dumps({"model": MODEL, "max_tokens": 100} | members).encode()


def answer(**members: Any) -> bytes:
    return json.dumps({"type": "message", "model": MODEL, "content": [], "usage": USAGE} | members).encode()


async def reserved(
    world: World, token: ClientKey, data: bytes | None = None, encoding: str = ""
) -> RequestRecord:
    """The record of a message request that may be sent."""
    record = world.admitted(token, *POST)
    await reserve(world, record, request() if data is None else data, encoding)
    return record


async def reserve(world: World, record: RequestRecord, data: bytes, encoding: str = "") -> None:
    body = Body(Bodies(None))
    body.write(data)
    wanted = peek(body, encoding)
    if not isinstance(wanted, Peek):
        wanted = await wanted
    record.model, record.body_bytes = wanted.model, wanted.size or body.size
    world.allowance.reserve(record, wanted)


async def refused(
    world: World, token: ClientKey, data: bytes | None = None, encoding: str = ""
) -> RequestError:
    """The error of a message request that may not."""
    with pytest.raises(RequestError) as caught:
        await reserved(world, token, data, encoding)
    return caught.value


def measured(
    record: RequestRecord, data: bytes, kind: str = "application/json", *, whole: bool = True
) -> None:
    """That answer comes."""
    record.meter = Meter(kind, "", 200)
    record.meter.feed(data)
    record.complete = whole


def rows(world: World, by: str = "model") -> dict[str | None, Counts]:
    now = world.clock.now()
    return {row.id: row.counts for row in world.series.rows(by, start=now - 60, end=now).rows}  # type: ignore[arg-type]


def total(world: World) -> Counts:
    return world.series.totals("start")


def spent(world: World, token: ClientKey) -> tuple[int, float]:
    view = world.budgets.view(token.id)
    return view["tokens_today"], view["cost_usd_today"]


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
    world: World, token: ClientKey, method: str, target: str
) -> None:
    with pytest.raises(Forbidden) as caught:
        world.admitted(token, method, target)
    assert (caught.value.type, caught.value.should_retry) == ("permission_error", False)


@pytest.mark.parametrize(("method", "target"), MEASURED)
def test_what_can_be_measured_or_is_free_is_for_every_key(world: World, method: str, target: str) -> None:
    world.admitted(key(MUCH, ("*",)), method, target)


@pytest.mark.parametrize(("method", "target"), UNMEASURED)
def test_a_key_without_a_budget_and_models_may_call_anything(world: World, method: str, target: str) -> None:
    world.admitted(key(KeyLimits(requests_per_minute=1)), method, target)


@pytest.mark.parametrize(
    ("method", "target"),
    [("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models"), ("HEAD", "/v1/files")],
)
def test_what_only_looks_is_neither_counted_nor_blocked(world: World, method: str, target: str) -> None:
    token = key(KeyLimits(requests_per_minute=1, concurrent_requests=1))
    for _ in range(10):
        world.admitted(token, method, target)
    world.admitted(token, *POST)
    world.admitted(token, method, target)


RESULTS = ("GET", "/v1/messages/batches/msgbatch_01A/results")


@pytest.mark.parametrize(("deleted", "charged"), [(False, (46, 0.5)), (True, (0, 0.0))])
def test_a_key_that_only_downloads_results_is_charged_unless_it_was_deleted(
    world: World, deleted: bool, charged: tuple[int, float]
) -> None:
    token = key(MUCH)
    record = world.admitted(token, *RESULTS)
    if deleted:
        world.budgets.forget(token.id)
    usage = Usage(MODEL, 12, 34)
    record.charge(usage, (Charge(usage, 0.5),))
    world.allowance.settle(record)
    assert spent(world, token) == charged


def test_a_request_that_was_not_admitted_frees_nobodys_place(world: World) -> None:
    token = key(KeyLimits(concurrent_requests=1))
    first, second = (world.begin(token, *POST) for _ in range(2))
    world.allowance.admit(first)
    with pytest.raises(RateLimited):
        world.allowance.admit(second)
    world.end(second, 429, sent=False)
    with pytest.raises(RateLimited):
        world.admitted(token, *POST)
    world.end(first)
    world.admitted(token, *POST)


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
async def test_a_model_that_is_allowed_passes(world: World, allowed: tuple[str, ...], model: str) -> None:
    await reserved(world, key(models=allowed), request(model=model))


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
    world: World, allowed: tuple[str, ...], model: object
) -> None:
    error = await refused(world, key(models=allowed), request(model=model))
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
async def test_no_other_model_comes_in_by_a_side_door(world: World, also: dict[str, Any]) -> None:
    await refused(world, key(models=(MODEL, "claude-haiku-*")), request(**also))
    await reserved(world, key(models=("*",)), request(**also))


@pytest.mark.parametrize("token", [key(MUCH), key(models=("*",))], ids=["budget", "models"])
@pytest.mark.parametrize(
    ("data", "encoding"),
    [(b"", ""), (b"{", ""), (b"[]", ""), (b"x", "gzip"), (request(), "rot13"), (request(), "gzip, gzip")],
)
async def test_a_body_that_cannot_be_read_is_forbidden(
    world: World, token: ClientKey, data: bytes, encoding: str
) -> None:
    error = await refused(world, token, data, encoding)
    assert (error.status, error.type, error.should_retry) == (403, "permission_error", False)
    assert "cannot be read" in error.message


async def test_a_body_that_cannot_be_read_passes_for_any_other_key(world: World) -> None:
    await reserved(world, key(KeyLimits(requests_per_minute=9)), b"{")


async def test_models_are_read_in_a_compressed_body_too(world: World) -> None:
    token = key(models=("claude-haiku-*",))
    await reserved(world, token, gzip.compress(request(model="claude-haiku-5-5")), "gzip")
    await refused(world, token, gzip.compress(request()), "gzip")


# ---- the most that a request may cost


async def most(world: World, data: bytes, encoding: str = "") -> tuple[int, float]:
    """Tokens and US dollars set aside for it."""
    token = key(MUCH)
    record = await reserved(world, token, data, encoding)
    _, tokens, cost_usd = world.budgets.reserved(token.id)
    world.end(record, 400)
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
    world = World(clock)
    data = request(model=model, max_tokens=max_tokens, speed=speed, system="x" * length)
    tokens, cost_usd = asyncio.run(most(world, data))
    prompt = len(data) // BYTES_PER_TOKEN_RESERVED
    used = replace(
        Usage(model, output_tokens=max_tokens, inference_geo=geo, speed=speed),
        **{f"{kind}_tokens": prompt},  # type: ignore[arg-type]
    )
    assert used.total <= tokens
    assert (prices.cost_usd(used, at=clock.now()) or 0.0) <= cost_usd + 1e-9


async def test_no_more_is_set_aside_than_the_longest_prompt_has(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.usage.allowance.MOST_PROMPT_TOKENS", 1000)
    tokens, _ = await most(world, request(max_tokens=100, system="x" * 5000))
    assert tokens == 1000 + 100


def picture(size: int) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": "A" * size}
    return {"type": "image", "source": source}


def seen(*content: dict[str, Any]) -> bytes:
    """A request that brings these blocks."""
    return request(messages=[{"role": "user", "content": content}])


async def test_a_picture_is_set_aside_for_by_its_size_but_never_as_more_than_a_model_takes_it_for(
    world: World,
) -> None:
    text = {"type": "text", "text": "What is this?"}
    least, _ = await most(world, seen(picture(PICTURE_BYTES), text))
    for large in (picture(1_000_000), {"type": "tool_result", "content": [picture(1_000_000)]}):
        tokens, _ = await most(world, seen(large, text))
        assert abs(tokens - least) < 40
    assert (await most(world, seen(picture(100_000), *[picture(200_000)] * 3)))[0] == pytest.approx(
        4 * PICTURE_BYTES / BYTES_PER_TOKEN_RESERVED, rel=0.03
    )


@pytest.mark.parametrize(
    "text",
    [
        {"type": "tool_use", "id": "t", "name": "n", "input": picture(200_000)},
        {"type": "text", "text": json.dumps(picture(200_000))},
        {"type": "document", "source": picture(200_000)["source"]},
        {"type": "image", "source": picture(200_000)["source"] | {"type": "url"}},
        {"type": "text", "text": "x", "data": "A" * 200_000},
    ],
    ids=["a call", "text", "a document", "an address", "no source"],
)
async def test_what_is_no_picture_is_set_aside_for_by_all_its_bytes(
    world: World, text: dict[str, Any]
) -> None:
    assert (await most(world, seen(text)))[0] > 200_000 // BYTES_PER_TOKEN_RESERVED


async def test_a_picture_whose_answer_never_came_is_charged_as_what_it_may_be(world: World) -> None:
    token, data = key(MUCH), seen(*[picture(900_000)] * 4)
    record = await reserved(world, token, data)
    tried(record, 0, "")
    world.end(record, 0, sent=False)
    tokens, _ = spent(world, token)
    assert tokens == pytest.approx(4 * PICTURE_BYTES / BYTES_PER_TOKEN, rel=0.03)


async def test_the_length_counts_that_a_compressed_body_has_without_it(world: World) -> None:
    plain = request(system="x" * 1_000_000)
    assert await most(world, gzip.compress(plain), "gzip") == await most(world, plain)


async def test_every_model_that_may_have_a_part_in_it_is_set_aside_for(world: World) -> None:
    alone = await most(world, request(model="claude-opus-5-5", x="?" * 40))
    both = await most(world, request(fallbacks=[{"model": "claude-opus-5-5"}]))
    assert both[0] >= 2 * alone[0] - 40
    assert both[1] > alone[1]


@pytest.mark.parametrize("most_tokens", [10**400, 1e300, "1000000", [], True], ids=lambda most: str(most)[:9])
async def test_an_absurd_max_tokens_is_more_than_a_budget_has_and_no_defect(
    world: World, most_tokens: object
) -> None:
    token = key(KeyLimits(tokens_per_day=900_000, cost_usd_per_day=10.0))
    error = await refused(world, token, request(max_tokens=most_tokens))
    assert (error.status, error.type) == (429, "billing_error")


async def test_a_request_over_the_budget_is_refused_and_sets_nothing_aside(world: World) -> None:
    token = key(KeyLimits(tokens_per_day=100))
    error = await refused(world, token, request(max_tokens=100))
    assert (error.status, error.type, error.should_retry) == (429, "billing_error", False)
    assert world.budgets.reserved(token.id) == (0, 0, 0.0)


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
    world: World, status: int, sent: bool, whole: bool, outcome: str
) -> None:
    record = await reserved(world, key())
    if sent and status:
        record.meter = Meter("application/json", "", status)
    record.complete = whole
    world.end(record, status, sent=sent)
    names = ("ok", "client_error", "limited", "upstream_error", "refused", "aborted")
    counted = {name: number for name, number in asdict(total(world)).items() if name in names and number}
    assert counted == {outcome: 1}


async def test_an_answer_is_counted_as_it_says(world: World) -> None:
    record = await reserved(world, key())
    measured(record, answer())
    world.end(record)
    counts = rows(world)[MODEL]
    assert (counts.input_tokens, counts.output_tokens, counts.cache_read_tokens) == (12, 34, 5)
    cost = prices.cost_usd(Usage(MODEL, 12, 34, cache_read_tokens=5), at=world.clock.now())
    assert counts.cost_usd == pytest.approx(cost)
    assert (counts.ttfb_ms, counts.ttfb_count, counts.duration_ms) == (250, 1, 1500)
    assert (counts.estimated, counts.unpriced) == (0, 0)
    assert rows(world, "account").keys() == {"acc_1"}
    assert rows(world, "token").keys() == {key().id}


@pytest.mark.parametrize("limits", [NO_LIMITS, MUCH])
async def test_a_key_is_charged_what_was_used(world: World, limits: KeyLimits) -> None:
    token = key(limits)
    record = await reserved(world, token)
    measured(record, answer())
    world.end(record)
    cost = prices.cost_usd(Usage(MODEL, 12, 34, cache_read_tokens=5), at=world.clock.now())
    assert spent(world, token) == (51, pytest.approx(cost, abs=1e-6))
    assert world.budgets.reserved(token.id) == (0, 0, 0.0)


@pytest.mark.parametrize("target", ["/v1/messages/count_tokens", "/v1/files", "/v1/messages/batches"])
async def test_what_is_no_inference_is_not_counted(world: World, target: str) -> None:
    record = world.begin(key(), "POST", target)
    world.allowance.admit(record)
    measured(record, answer())
    world.end(record)
    assert (total(world), rows(world)) == (Counts(), {})


CHAT = ("POST", "/v1/chat/completions")
COMPLETION = {"object": "chat.completion", "model": MODEL, "choices": []}


def chatted(world: World, body: dict[str, Any], status: int = 200, *, whole: bool = True) -> RequestRecord:
    """The record of a completion that has ended."""
    record = world.admitted(key(), *CHAT)
    record.model, record.body_bytes, record.complete = "gpt-5", 400, whole
    record.meter = CompletionMeter("application/json", "", status)
    record.meter.feed(json.dumps(body).encode())
    world.end(record, status)
    return record


async def test_a_completion_is_counted_as_it_says(world: World) -> None:
    chatted(world, COMPLETION | {"usage": {"prompt_tokens": 12, "completion_tokens": 34}})
    counts, cost = rows(world)[MODEL], prices.cost_usd(Usage(MODEL, 12, 34), at=world.clock.now())
    assert (counts.ok, counts.input_tokens, counts.output_tokens, counts.unpriced) == (1, 12, 34, 0)
    assert counts.cost_usd == pytest.approx(cost)
    assert spent(world, key()) == (46, pytest.approx(cost, abs=1e-6))


async def test_a_completion_whose_model_cannot_be_read_is_of_the_one_that_was_asked_for(world: World) -> None:
    long = {"choices": ["long " * 200_000]}
    chatted(world, long | {"model": MODEL, "usage": {"prompt_tokens": 12, "completion_tokens": 34}})
    assert rows(world)["gpt-5"].output_tokens == 34


@pytest.mark.parametrize("whole", [True, False])
async def test_a_completion_that_tells_no_tokens_is_unpriced(world: World, whole: bool) -> None:
    record = chatted(world, COMPLETION, whole=whole)
    counts = rows(world)["gpt-5"]
    assert (counts.requests, counts.unpriced, counts.known_cost_usd) == (1, 1, None)
    assert record.cost_told == "unpriced"


async def test_a_completion_that_failed_costs_nothing(world: World) -> None:
    record = chatted(world, {"error": {}}, 400)
    counts = rows(world)["gpt-5"]
    assert (counts.client_error, counts.unpriced, counts.known_cost_usd) == (1, 0, 0.0)
    assert record.cost_told == "-"


async def test_each_token_counts_for_the_model_that_is_billed_for_it(world: World) -> None:
    iterations = [
        {"type": "advisor_message", "model": "claude-opus-5-5", "input_tokens": 100, "output_tokens": 10},
        {"type": "message", "input_tokens": 20, "output_tokens": 2},
    ]
    usage = {"input_tokens": 20, "output_tokens": 2, "iterations": iterations}
    usage |= {"server_tool_use": {"web_search_requests": 3}}
    record = await reserved(world, key())
    measured(record, answer(usage=usage))
    world.end(record)
    found = rows(world)
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
            at=world.clock.now(),
        )
    )


async def test_a_model_without_a_price_is_counted_and_marked_and_charged_at_a_price(
    world: World,
) -> None:
    token = key(MUCH)
    record = await reserved(world, token, request(model="claude-of-tomorrow"))
    measured(record, answer(model="claude-of-tomorrow"))
    world.end(record)
    counts = rows(world)["claude-of-tomorrow"]
    assert (counts.unpriced, counts.cost_usd, counts.output_tokens) == (1, 0.0, 34)
    assert spent(world, token) == (51, pytest.approx((17 * 5 + 34 * 25) / 1e6, abs=1e-6))


async def test_what_has_a_price_is_charged_at_it_beside_a_model_without_one(world: World) -> None:
    iterations = [
        {"type": "advisor_message", "model": "claude-opus-5-5", "input_tokens": 100, "output_tokens": 10},
        {"type": "message", "input_tokens": 20, "output_tokens": 2},
    ]
    usage = {"iterations": iterations, "server_tool_use": {"web_search_requests": 3}}
    token = key(MUCH)
    record = await reserved(world, token)
    measured(record, answer(model="claude-of-tomorrow", usage={"output_tokens": 2} | usage))
    world.end(record)
    priced = Usage("claude-opus-5-5", 100, 10, web_search_requests=3)
    known = prices.cost_usd(priced, at=world.clock.now()) or 0.0
    assert record.cost_usd is None
    assert spent(world, token) == (132, pytest.approx(known + (20 * 5 + 2 * 25) / 1e6, abs=1e-6))


async def test_a_part_without_a_price_is_unpriced_under_its_own_model(world: World) -> None:
    iterations = [
        {"type": "advisor_message", "model": "claude-of-tomorrow", "input_tokens": 100, "output_tokens": 10},
        {"type": "message", "input_tokens": 20, "output_tokens": 2},
    ]
    record = await reserved(world, key())
    measured(record, answer(usage={"input_tokens": 20, "output_tokens": 2, "iterations": iterations}))
    world.end(record)
    found = rows(world)
    assert {model: c.unpriced for model, c in found.items()} == {MODEL: 0, "claude-of-tomorrow": 1}
    shown = {model: c.view()["cost_usd"] for model, c in found.items()}
    assert shown["claude-of-tomorrow"] is None and shown[MODEL] > 0


@pytest.mark.parametrize("status", [400, 429, 503, 529])
async def test_what_failed_counts_for_the_model_that_was_asked_for_and_costs_nothing(
    world: World, status: int
) -> None:
    token = key(MUCH)
    record = await reserved(world, token)
    world.end(record, status)
    assert rows(world)[MODEL].errors == 1
    assert spent(world, token) == (0, 0.0)
    assert world.budgets.reserved(token.id) == (0, 0, 0.0)


async def test_what_a_key_may_not_do_is_counted_too(world: World) -> None:
    record = world.begin(key(models=("claude-haiku-*",)), *POST)
    world.allowance.admit(record)
    with pytest.raises(Forbidden):
        await reserve(world, record, request())
    world.end(record, 403, sent=False)
    assert rows(world)[MODEL].refused == 1
    assert rows(world, "account")[None].refused == 1


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
    world: World, limits: KeyLimits, status: int, came: bytes | None, kind: str
) -> None:
    token = key(limits)
    record = await reserved(world, token)
    if came is not None:
        measured(record, came, kind, whole=False)
    world.end(record, status)
    counts = rows(world)[MODEL]
    assert (counts.aborted, counts.estimated, counts.unpriced) == (1, 1, 0)
    assert counts.input_tokens == SIZE // BYTES_PER_TOKEN
    assert counts.cost_usd > 0
    assert spent(world, token)[0] == SIZE // BYTES_PER_TOKEN


async def test_a_cut_stream_is_settled_from_what_was_seen(world: World) -> None:
    record = await reserved(world, key())
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 400}}
    delta = f"event: content_block_delta\ndata: {json.dumps(text, separators=(',', ':'))}\n\n"
    measured(record, STREAM + delta.encode(), "text/event-stream", whole=False)
    world.end(record)
    counts = rows(world)[MODEL]
    assert (counts.estimated, counts.input_tokens, counts.output_tokens) == (1, 12, 100)


async def test_the_estimate_knows_the_length_of_a_compressed_body(world: World) -> None:
    plain = request(system="x" * 10_000)
    record = await reserved(world, key(), gzip.compress(plain), "gzip")
    world.end(record, 0)
    assert total(world).input_tokens == len(plain) // BYTES_PER_TOKEN


async def test_what_the_upstream_never_had_is_not_billed(world: World) -> None:
    token = key(MUCH)
    record = await reserved(world, token)
    world.end(record, 0, sent=False)
    assert (total(world).aborted, total(world).estimated) == (1, 0)
    assert spent(world, token) == (0, 0.0)
    assert world.budgets.reserved(token.id) == (0, 0, 0.0)


TRIES = [
    ([(0, "")], True),
    ([(200, "hand_on")], True),
    ([(0, "UpstreamLost")], True),
    ([(0, "UpstreamSilent")], True),
    ([(0, "UpstreamGarbled")], True),
    ([(0, "UpstreamLost"), (0, "UpstreamLost")], True),
    ([(529, "retry"), (0, "")], True),
    ([(0, "UpstreamUnreachable")], False),
    ([(529, "retry")], False),
    ([(200, "retry")], False),  # a stream whose first event is an error
    ([(429, "bench_then_next")], False),
    ([(400, "hand_on")], False),
    ([(0, "UpstreamLost"), (529, "retry")], False),
]


@pytest.mark.parametrize("status", [0, 502, 503, 504])
@pytest.mark.parametrize(("tries", "billed"), TRIES, ids=str)
async def test_a_prompt_is_billed_once_if_the_last_try_left_it_with_the_upstream(
    world: World, tries: list[tuple[int, str]], billed: bool, status: int
) -> None:
    token = key(MUCH)
    record = await reserved(world, token)
    for attempt in tries:
        tried(record, *attempt)
    world.end(record, status, sent=False)
    assert spent(world, token)[0] == (SIZE // BYTES_PER_TOKEN if billed else 0)
    assert total(world).estimated == billed


async def test_what_was_sent_again_is_billed_as_its_answer_says(world: World) -> None:
    token = key(MUCH)
    record = await reserved(world, token)
    tried(record, 0, "UpstreamLost")
    measured(record, answer())
    world.end(record)
    assert (spent(world, token)[0], total(world).estimated) == (51, 0)


async def test_a_whole_answer_that_is_no_message_is_not_billed(world: World) -> None:
    record = await reserved(world, key())
    measured(record, b'{"type": "something"}')
    world.end(record)
    assert (total(world).ok, total(world).input_tokens, total(world).estimated) == (1, 0, 0)


# ---- time to first byte


async def test_percentiles_are_those_of_recent_answers(world: World, clock: TestClock) -> None:
    assert world.latency.ttfb_ms() == {"p50": None, "p95": None, "p99": None}

    def answered(ttfb_s: float) -> None:
        record = world.begin(key(), *POST)
        record.status, record.first_byte_at = 200, record.began_at + ttfb_s
        world.latency.count(record)

    answered(9.0)
    clock.advance(901)
    for ms in range(1, 101):
        answered(ms / 1000)
    assert world.latency.ttfb_ms() == {"p50": 51.0, "p95": 96.0, "p99": 100.0}


@pytest.mark.parametrize(("status", "counted"), [(200, True), (429, False), (503, False)])
async def test_an_error_says_nothing_of_how_fast_answers_begin(
    world: World, status: int, counted: bool
) -> None:
    world.end(await reserved(world, key()), status)
    assert (world.latency.ttfb_ms()["p50"] is not None) == counted
