"""What an account is refused, as an `x-simulate` header asks for it."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import brotli
import pytest
from backports import zstd

from proxy.simulator import NoModel, Said, Simulator, SpendLimit, no_credit, quota_429
from tests import wire
from tests.proxy.simulator.http import KEY, Client, FakeClock, events

STREAM = {"stream": True}
DECODERS = {"gzip": gzip.decompress, "br": brotli.decompress, "zstd": zstd.decompress}


@pytest.mark.parametrize(
    ("wish", "status", "type_", "message"),
    [
        (
            "no-credit",
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API.",
        ),
        ("402", 402, "billing_error", "Your credit balance is too low"),
        (
            "no-plan",
            400,
            "invalid_request_error",
            "The long context beta is not yet available for this subscription.",
        ),
        (
            "no-beta; name=x-1",
            400,
            "invalid_request_error",
            "Your organization is not enrolled in the beta x-1.",
        ),
        ("disabled", 400, "invalid_request_error", "This organization has been disabled."),
        ("no-model", 404, "not_found_error", "model: claude-sonnet-5-5"),
        ("spend-limit", 400, "invalid_request_error", "You have reached your specified API usage limits."),
        ("bare-429", 429, "rate_limit_error", "This request would exceed"),
        ("403; message=No", 403, "permission_error", "No"),
    ],
)
async def test_a_refusal_has_its_words(
    client: Client, wish: str, status: int, type_: str, message: str
) -> None:
    answer = await client.message(x_simulate=wish)
    error = answer.json()["error"]
    assert (answer.status, error["type"]) == (status, type_)
    assert error["message"].startswith(message)


@pytest.mark.parametrize(
    ("now", "wish", "day"),
    [
        ("2026-11-22", "spend-limit", "2026-12-01"),
        ("2026-12-31", "spend-limit", "2027-01-01"),
        ("2026-11-22", "spend-limit; until=2026-11-25", "2026-11-25"),
    ],
)
async def test_a_spend_limit_names_its_end(
    client: Client, clock: FakeClock, now: str, wish: str, day: str
) -> None:
    clock.wall = datetime.fromisoformat(f"{now}T12:00:00+00:00").timestamp()
    answer = await client.message(x_simulate=wish)
    wanted = f"You will regain access on {day} at 00:00 UTC."
    assert answer.json()["error"]["message"].endswith(wanted)


async def test_a_code_and_whether_to_retry_may_be_told(client: Client) -> None:
    answer = await client.message(x_simulate="400; code=organization_on_hold; should-retry=false")
    assert answer.json()["error"]["details"] == {"error_code": "organization_on_hold"}
    assert answer.header("x-should-retry") == "false"


async def test_one_account_of_three_refuses(client: Client, sim: Simulator) -> None:
    keys = {name: f"sk-ant-api03-{name}" for name in "abc"}
    for name, key in keys.items():
        sim.add_api_key(key, organization=name)
    codes = {
        wish: [(await client.message(x_simulate=wish, credential=key)).status for key in keys.values()]
        for wish in ("no-credit; organization=b", "bare-429; organization=a|c")
    }
    assert list(codes.values()) == [[200, 400, 200], [429, 200, 429]]


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/files", "/v1/messages/batches"])
async def test_a_route_alone_may_be_limited(client: Client, path: str) -> None:
    wish = f"bare-429; path={path}"
    method = "POST" if path.endswith("count_tokens") else "GET"
    assert (await client.send(method, path, x_simulate=wish)).status == 429
    assert (await client.message(x_simulate=wish)).status == 200


async def test_an_edges_429_is_a_page(client: Client) -> None:
    answer = await client.message(x_simulate="edge-429")
    assert answer.status == 429 and b"<html>" in answer.body
    assert answer.header("content-type").startswith("text/html") and answer.header("retry-after") is None


@pytest.mark.parametrize("encoding", DECODERS)
@pytest.mark.parametrize("wish", ["no-credit", "edge-429", "true"])
async def test_an_answer_comes_in_the_encoding_that_was_wished(
    client: Client, wish: str, encoding: str
) -> None:
    plain = await client.message(x_simulate=wish)
    packed = await client.message(x_simulate=f"{wish}; encoding={encoding}")
    assert (packed.status, packed.header("content-encoding")) == (plain.status, encoding)
    assert without_ids(DECODERS[encoding](packed.body)) == without_ids(plain.body)


def without_ids(body: bytes) -> Any:
    if body.startswith(b"<"):
        return body
    return {name: value for name, value in json.loads(body).items() if name not in ("id", "request_id")}


@pytest.mark.parametrize("wish", ["no-credit; encoding=rot13", "true; skew=soon", "none-such"])
async def test_a_wish_that_is_none_is_refused(client: Client, wish: str) -> None:
    answer = await client.message(x_simulate=wish)
    assert answer.status == 400 and answer.json()["error"]["message"].startswith("x-simulate")


@pytest.mark.parametrize(("wish", "type_"), [("", "overloaded_error"), ("; status=429", "rate_limit_error")])
async def test_a_stream_may_begin_with_an_error(client: Client, wish: str, type_: str) -> None:
    answer = await client.message(more=STREAM, x_simulate=f"error-mid-stream; after-events=0{wish}")
    ((name, data),) = events(answer)
    assert (answer.status, name, data["error"]["type"]) == (200, "error", type_)


@pytest.mark.parametrize("more", [STREAM, {}])
async def test_an_answer_may_be_cut_before_its_body(client: Client, more: dict[str, Any]) -> None:
    with pytest.raises(wire.Cut):
        await client.message(more=more, x_simulate="cut; after-bytes=0")
    assert (client.sim.ledger[0].status, client.sim.ledger[0].bytes_sent) == (200, 0)


async def test_every_answer_is_dated_and_the_clock_may_be_wrong(client: Client, clock: FakeClock) -> None:
    unified = "anthropic-ratelimit-unified-reset"
    for skew in (0, 7200, -7200):
        wish = f"quota-429; reset-in=600; skew={skew}"
        for more in ({}, STREAM):
            true = await client.message(more=more, x_simulate=f"true; skew={skew}")
            assert parsedate_to_datetime(true.header("date")).timestamp() == clock.wall + skew
        limited = await client.message(x_simulate=wish)
        assert parsedate_to_datetime(limited.header("date")).timestamp() == clock.wall + skew
        assert (limited.header(unified), limited.header("retry-after")) == (
            str(int(clock.wall) + skew + 600),
            "600",
        )


async def test_an_unpriced_model_answers_and_is_in_no_list(client: Client) -> None:
    answer = (await client.message(more={"model": "claude-unpriced-1"})).json()
    assert answer["model"] == "claude-unpriced-1" and answer["usage"]["output_tokens"] > 0
    assert b"unpriced" not in (await client.get("/v1/models?limit=1000")).body
    assert (await client.get("/v1/models/claude-unpriced-1")).status == 404


async def test_a_script_may_hold_the_refusals_too(client: Client, sim: Simulator) -> None:
    sim.script(KEY, no_credit(), SpendLimit("2026-12-01"), NoModel(), Said(quota_429(60), "zstd", 5))
    answers = [await client.message() for _ in range(4)]
    assert [answer.status for answer in answers] == [400, 400, 404, 429]
    assert answers[3].header("content-encoding") == "zstd"
