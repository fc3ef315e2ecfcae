"""What a client key may use, from the outside: its expiry, limits, budgets and models; and declared keys.

Long: one request after another against each limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import Amend, Cut, Error, Silence, Slow, Stall, quota_429
from proxy.usage import prices
from proxy.usage.meter import Usage
from tests.service import (
    CLIENT_KEY,
    MESSAGE,
    MESSAGE_HEADERS,
    Service,
    SteppedClock,
    kept_text,
    message,
    serve,
    until,
    upstream_key,
)
from tests.wire import Answer, connect, request_bytes

KEY = "cp-a-limited-key-of-tests-2Vb8"
MODEL = str(MESSAGE["model"])
TOKENS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


async def made(service: Service, **fields: Any) -> dict[str, Any]:
    """The key KEY with such limits, as it is answered."""
    answer = await service.admin("POST", "/api/tokens", {"name": "limited", "key": KEY} | fields)
    assert answer.status == 201, answer.body
    return dict(answer.json()["token"])


async def changed(service: Service, token: dict[str, Any], **fields: Any) -> dict[str, Any]:
    answer = await service.admin("PUT", f"/api/tokens/{token['id']}", fields)
    assert answer.status == 200, answer.body
    return dict(answer.json()["token"])


async def settled(service: Service) -> None:
    """Return once only those requests run that the upstream has not answered."""
    await until(lambda: service.running == service.simulator.open_requests)


async def used(service: Service, token: dict[str, Any]) -> dict[str, float]:
    """What an admin sees of what it has used of its budgets."""
    await settled(service)
    answer = await service.admin("GET", f"/api/tokens/{token['id']}")
    return dict(answer.json()["token"]["used"])


async def ask(
    service: Service, body: bytes | None = None, headers: list[tuple[str, str]] | None = None
) -> Answer:
    """One message request with the key."""
    lines = [*MESSAGE_HEADERS, *(headers or [])]
    return await service.send("POST", "/v1/messages", lines, body or message(), key=KEY)


async def count(service: Service) -> int:
    """What the key gets who counts tokens."""
    body = json.dumps({"model": MODEL, "messages": MESSAGE["messages"]}).encode()
    answer = await service.send("POST", "/v1/messages/count_tokens", MESSAGE_HEADERS, body, key=KEY)
    return answer.status


def tokens_of(answer: Answer) -> int:
    """All tokens that a client sees in the usage of its answer."""
    usage = answer.json()["usage"]
    return sum(usage[name] for name in TOKENS)


def check_refusal(answer: Answer, status: int, type: str, *, retry: str | None) -> str:
    """Its message, where it is such an error."""
    error = answer.json()["error"]
    assert (answer.status, error["type"], answer.header("x-should-retry")) == (status, type, retry)
    return str(error["message"])


# ---- expiry


async def test_a_key_works_until_it_expires(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, expires_at="2027-01-15T08:01:00Z")
        assert token["expires_at"] == "2027-01-15T08:01:00.000Z"
        seen = [(await ask(service)).status]
        service.clock.advance(60)
        seen.append((await ask(service)).status)
        assert (await changed(service, token, expires_at=None))["expires_at"] is None
        seen.append((await ask(service)).status)
        await changed(service, token, expires_at="2027-01-15T10:00:59+02:00")
        seen.append((await ask(service)).status)
        assert seen == [200, 401, 200, 401]


async def test_an_expired_admins_key_opens_nothing(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await made(service, role="admin", expires_at="2027-01-15T08:00:01Z")
        service.clock.advance(1)
        assert (await service.admin("GET", "/api/tokens", key=KEY)).status == 401


@pytest.mark.parametrize(
    "at", ["tomorrow", "2027-01-15T08:01:00", "2027-13-01T00:00:00Z", "", [], True, {}], ids=str
)
async def test_an_expiry_that_is_no_time_with_a_zone_is_refused(tmp_path: Path, at: object) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/tokens", {"name": "n", "expires_at": at})
        assert (answer.status, "expires_at" in answer.json()["error"]["message"]) == (422, True)


@pytest.mark.parametrize(
    "at", ["2030", 2030, 0, 1_900_000_000, 1.9e9, "1900000000", "2030-01-01", "20300101T000000Z"]
)
async def test_an_expiry_is_a_text_of_rfc_3339(tmp_path: Path, at: object) -> None:
    async with serve(tmp_path) as service:
        token = await made(service)
        answers = [
            await service.admin("POST", "/api/tokens", {"name": "n", "expires_at": at}),
            await service.admin("PUT", f"/api/tokens/{token['id']}", {"expires_at": at}),
        ]
        wanted = "expires_at: a time such as 2030-01-01T00:00:00Z is needed"
        assert [check_refusal(answer, 422, "invalid_request_error", retry=None) for answer in answers] == [
            wanted
        ] * 2


@pytest.mark.parametrize("at", ["2020-01-01T00:00:00Z", "2027-01-15T08:00:00Z", "2027-01-15T09:00:00+02:00"])
async def test_a_new_key_has_not_expired(tmp_path: Path, at: str) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/tokens", {"name": "n", "expires_at": at})
        told = "expires_at: it has passed, so the key would never work"
        assert check_refusal(answer, 422, "invalid_request_error", retry=None) == told


@pytest.mark.parametrize(
    "at", ["2030-01-01T00:00:00Z", "2030-01-01t00:00:00z", "2030-01-01 00:00:00.000000+00:00"]
)
async def test_an_expiry_may_be_written_as_rfc_3339_allows(tmp_path: Path, at: str) -> None:
    async with serve(tmp_path) as service:
        assert (await made(service, expires_at=at))["expires_at"] == "2030-01-01T00:00:00.000Z"


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_an_expiry_at_the_end_of_time_is_no_defect(tmp_path: Path, at: str) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/tokens", {"name": "n", "expires_at": at})
        assert answer.status in (201, 422)
        assert (await service.admin("GET", "/api/tokens")).status == 200


# ---- requests in a minute, and at once


async def test_requests_in_a_minute_are_limited_for_the_whole_key(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await made(service, limits={"requests_per_minute": 2})
        assert [(await ask(service, headers=[("User-Agent", ua)])).status for ua in "ab"] == [200, 200]
        service.clock.advance(18.5)
        answer = await ask(service, headers=[("User-Agent", "c")])
        assert "2 requests a minute" in check_refusal(answer, 429, "rate_limit_error", retry=None)
        assert answer.header("retry-after") == "42"
        assert await count(service) == 200
        service.clock.advance(41.5)
        assert (await ask(service)).status == 200


async def test_requests_at_once_are_limited_for_the_whole_key(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await made(service, limits={"concurrent_requests": 1})
        service.simulator.script(None, Silence())
        headers = [("x-api-key", KEY), *MESSAGE_HEADERS, ("User-Agent", "a")]
        await wire.send(request_bytes("POST", "/v1/messages", headers, message()))
        await service.simulator.ledger.wait(len)
        answer = await ask(service, headers=[("User-Agent", "b")])
        assert "1 requests in flight" in check_refusal(answer, 429, "rate_limit_error", retry=None)
        assert (answer.header("retry-after"), await count(service)) == ("1", 200)
        wire.reset()
        await until(lambda: service.running == 0)
        assert (await ask(service)).status == 200


async def test_a_limit_refuses_before_the_body_is_read(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await made(service, limits={"requests_per_minute": 1})
        await ask(service)
        await wire.send(
            request_bytes("POST", "/v1/messages", [("x-api-key", KEY), ("Content-Length", "1000")])
        )
        assert (await wire.answer()).status == 429


@pytest.mark.parametrize("fault", [None, Error(400), Error(529), Cut()])
async def test_however_it_ends_a_request_is_over_for_its_key(tmp_path: Path, fault: Any) -> None:
    async with serve(tmp_path, retry__max_attempts="2") as service:
        limits = {"concurrent_requests": 1, "tokens_per_day": 10_000, "cost_usd_per_day": 1.0}
        token = await made(service, limits=limits)
        for stream in (False, True, False):
            service.simulator.script(None, *[fault] * 2 if fault else [])
            with contextlib.suppress(Exception):
                assert (await ask(service, message(stream=stream))).status != 429
            await until(lambda: service.running == 0)
            assert service.parts.budgets.reserved(token["id"]) == (0, 0, 0.0)
            service.simulator.calm()


# ---- budgets


@pytest.mark.parametrize(
    ("limit", "amount", "period", "resets", "after"),
    [
        ("tokens_per_day", 10, "token budget of this key for the day", "2027-01-16", 16 * 3600),
        ("tokens_per_month", 10, "token budget of this key for the month", "2027-02-01", 16.6667 * 86_400),
        ("cost_usd_per_day", 1e-6, "cost budget of this key for the day", "2027-01-16", 16 * 3600),
        ("cost_usd_per_month", 1e-6, "cost budget of this key for the month", "2027-02-01", 16.6667 * 86_400),
    ],
)
async def test_a_spent_budget_is_told_as_anthropics_gateway_tells_it(
    tmp_path: Path, limit: str, amount: float, period: str, resets: str, after: float
) -> None:
    async with serve(tmp_path) as service:
        await made(service, limits={limit: amount})
        answer = await ask(service)
        told = check_refusal(answer, 429, "billing_error", retry="false")
        assert period in told and told.endswith(f"it resets {resets}T00:00:00.000Z")
        assert int(answer.header("retry-after") or 0) == pytest.approx(after, rel=1e-4)
        assert len(service.simulator.ledger) == 0


async def test_a_spent_budget_blocks_inference_and_nothing_else(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, limits={"tokens_per_day": 1})
        assert ((await ask(service)).status, await count(service)) == (429, 200)
        for path in ("/v1/models", "/v1/files", "/v1/messages/batches"):
            assert (await service.send("GET", path, MESSAGE_HEADERS, key=KEY)).status == 200
        assert (await used(service, token))["tokens_today"] == 0


async def test_budgets_are_charged_what_the_client_sees(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, limits={"tokens_per_day": 10_000, "cost_usd_per_day": 1.0})
        answers = [
            await ask(service),
            await ask(service, headers=[("accept-encoding", "gzip")]),
            await ask(service, message(max_tokens=5)),
        ]
        answers[1].body = gzip.decompress(answers[1].body)
        tokens = sum(map(tokens_of, answers))
        usages = [answer.json()["usage"] for answer in answers]
        cost = sum(
            prices.cost_usd(Usage(MODEL, u["input_tokens"], u["output_tokens"]), at=service.clock.now()) or 0
            for u in usages
        )
        assert await used(service, token) == {
            "tokens_today": tokens,
            "tokens_this_month": tokens,
            "cost_usd_today": pytest.approx(cost, abs=1e-6),
            "cost_usd_this_month": pytest.approx(cost, abs=1e-6),
        }


async def test_a_budget_is_charged_for_the_results_of_a_batch_that_another_key_made(tmp_path: Path) -> None:
    params = json.loads(message())
    body = json.dumps({"requests": [{"custom_id": f"r{n}", "params": params} for n in range(20)]}).encode()
    async with serve(tmp_path) as service:
        maker = await made(service, key="cp-another-key-of-tests-7Hq1", group="team")
        token = await made(service, group="team", limits={"tokens_per_day": 1000})
        post = await service.send(
            "POST", "/v1/messages/batches", MESSAGE_HEADERS, body, key="cp-another-key-of-tests-7Hq1"
        )
        path = f"/v1/messages/batches/{post.json()['id']}"
        await service.send("GET", path, MESSAGE_HEADERS, key=KEY)
        results = await service.send("GET", f"{path}/results", MESSAGE_HEADERS, key=KEY)
        told = [json.loads(line)["result"]["message"]["usage"] for line in results.body.splitlines()]
        tokens = sum(each["input_tokens"] + each["output_tokens"] for each in told)
        assert ((await used(service, token))["tokens_today"], len(told)) == (tokens, 20)
        assert (await used(service, maker))["tokens_today"] == 0
        assert (await ask(service)).status == 429


def room_for_50(limit: str) -> float:
    """The budget that 50 requests of MESSAGE use up, by what is set aside for each."""
    tokens_in, tokens_out = -(-len(message()) // 2), int(str(MESSAGE["max_tokens"]))
    if limit == "tokens_per_day":
        return 50 * (tokens_in + tokens_out)
    rate_in, rate_out = prices.highest_rates(MODEL, 1_800_000_000.0) or (0.0, 0.0)
    return 50.5 * (tokens_in * rate_in + tokens_out * rate_out)


@pytest.mark.parametrize("limit", ["tokens_per_day", "cost_usd_per_day"])
async def test_200_requests_at_once_overrun_a_budget_for_50_by_nothing(tmp_path: Path, limit: str) -> None:
    clock, room = SteppedClock(), room_for_50(limit)
    async with serve(tmp_path, clock=clock) as service:
        token = await made(service, limits={limit: room})
        service.simulator.always(None, Slow(5))
        asked = [asyncio.create_task(ask(service)) for _ in range(200)]
        await clock.asleep(5, count=50)
        await until(lambda: sum(task.done() for task in asked) == 150, within_s=20)
        clock.advance(5)
        answers = await asyncio.gather(*asked)
        right = [answer for answer in answers if answer.status == 200]
        assert (len(right), len(service.simulator.ledger.inference())) == (50, 50)
        assert {answer.json()["error"]["type"] for answer in answers if answer not in right} == {
            "rate_limit_error"
        }
        after = await used(service, token)
        assert after["tokens_today"] == sum(map(tokens_of, right))
        assert after["tokens_today" if limit == "tokens_per_day" else "cost_usd_today"] <= room
        assert service.parts.budgets.reserved(token["id"]) == (0, 0, 0.0)
        # What was set aside and not used is there for the next ones.
        service.simulator.calm()
        assert (await ask(service)).status == 200


async def test_midnight_passes_while_requests_run(tmp_path: Path) -> None:
    clock = SteppedClock()
    midnight = datetime(2027, 2, 1, tzinfo=UTC).timestamp()
    async with serve(tmp_path, clock=clock) as service:
        clock.jump(midnight - 5 - clock.now())
        token = await made(service, limits={"tokens_per_month": 300})
        service.simulator.script(None, Slow(10))
        over_midnight = asyncio.create_task(ask(service))
        await clock.asleep(10)
        before = await ask(service)
        assert await used(service, token) == await used(service, token) | {
            "tokens_today": tokens_of(before),
            "tokens_this_month": tokens_of(before),
        }
        clock.advance(10)
        after = await over_midnight
        assert (before.status, after.status) == (200, 200)
        assert (await used(service, token))["tokens_today"] == tokens_of(after)
        assert (await used(service, token))["tokens_this_month"] == tokens_of(after)


async def test_what_was_used_survives_a_restart(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, limits={"tokens_per_day": 150})
        await ask(service)
        before = await used(service, token)
        assert before["tokens_today"] > 50
    async with serve(tmp_path, accounts=()) as service:
        assert await used(service, token) == before
        assert (await ask(service)).json()["error"]["type"] == "billing_error"


async def test_a_budget_given_later_counts_what_was_used_before(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service)
        await ask(service)
        await changed(service, token, limits={"tokens_per_day": 150})
        assert (await ask(service)).status == 429
        await changed(service, token, limits={})
        assert (await ask(service)).status == 200


async def test_a_deleted_key_leaves_nothing_of_its_budget(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        token = await made(service)
        service.simulator.script(None, Stall())
        await wire.send(
            request_bytes(
                "POST", "/v1/messages", [("x-api-key", KEY), *MESSAGE_HEADERS], message(stream=True)
            )
        )
        await wire.answer()
        await service.admin("DELETE", f"/api/tokens/{token['id']}")
        await until(lambda: service.running == 0)
        assert service.parts.budgets.spent(token["id"]) == ()


async def test_a_client_that_leaves_pays_for_what_it_asked(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        token = await made(service, limits={"tokens_per_day": 10_000})
        service.simulator.script(None, Silence())
        await wire.send(
            request_bytes("POST", "/v1/messages", [("x-api-key", KEY), *MESSAGE_HEADERS], message())
        )
        await service.simulator.ledger.wait(lambda ledger: ledger and ledger[0].body_read)
        wire.reset()
        await until(lambda: service.running == 0)
        assert (await used(service, token))["tokens_today"] == len(message()) // 4
        assert service.parts.budgets.reserved(token["id"]) == (0, 0, 0.0)


async def test_a_client_that_leaves_before_the_next_try_does_not_pay_for_one_that_was_refused(
    tmp_path: Path,
) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock, retry__base_delay="7s") as service, connect(service.port) as wire:
        token = await made(service, limits={"tokens_per_day": 10_000})
        service.simulator.always(None, Error(529))
        headers = [("x-api-key", KEY), *MESSAGE_HEADERS]
        await wire.send(request_bytes("POST", "/v1/messages", headers, message()))
        await until(lambda: any(7 <= pause < 8 for pause in clock.slept))
        wire.reset()
        await until(lambda: service.running == 0)
        assert (await used(service, token))["tokens_today"] == 0
        assert service.parts.budgets.reserved(token["id"]) == (0, 0, 0.0)


async def test_a_request_that_an_admin_ends_pays_for_what_the_upstream_has_of_it(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, limits={"tokens_per_day": 10_000})
        service.simulator.script(None, Silence())
        asked = asyncio.create_task(ask(service))
        await service.simulator.ledger.wait(lambda ledger: ledger and ledger[0].body_read)
        (session,) = (await service.admin("GET", "/api/admin/sessions")).json()["sessions"]
        await service.admin("DELETE", f"/api/sessions/{session['id']}")
        assert (await asked).status == 503
        assert (await used(service, token))["tokens_today"] == len(message()) // 4


@pytest.mark.parametrize(
    "limits",
    [
        {"tokens_per_day": 0},
        {"tokens_per_day": -1},
        {"tokens_per_day": 1.5},
        {"tokens_per_day": "10"},
        {"tokens_per_day": True},
        {"cost_usd_per_day": 0},
        {"cost_usd_per_month": "1"},
        {"requests_per_minute": 0},
        {"requests_per_minute": 10**16},
        {"tokens_per_month": 2**64},
        {"cost_usd_per_day": 1e13},
        {"concurrent_requests": []},
        {"tokens_per_year": 1},
        [],
        "none",
    ],
    ids=str,
)
async def test_limits_that_make_no_sense_are_refused(tmp_path: Path, limits: object) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/tokens", {"name": "n", "limits": limits})
        assert (answer.status, "limits" in answer.json()["error"]["message"]) == (422, True)


@pytest.mark.parametrize("text", ["1e999", "-1e999", "Infinity", "NaN", "9" * 400])
@pytest.mark.parametrize("member", ["cost_usd_per_day", "tokens_per_month", "requests_per_minute"])
async def test_a_limit_beyond_all_numbers_is_no_defect(tmp_path: Path, text: str, member: str) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        body = f'{{"name": "n", "key": "{KEY}", "limits": {{"{member}": {text}}}}}'.encode()
        answer = await wire.request(
            "POST", "/api/tokens", [("X-API-Key", "an-Admin-key-of-tests-7Qd2")], body
        )
        await answer.read()
        assert answer.status in (201, 400, 422)
        assert (await service.admin("GET", "/api/tokens")).status == 200
        assert (await ask(service)).status in (200, 401)


# ---- models


async def test_a_key_with_models_may_use_those_alone(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, models=["claude-haiku-*", "claude-opus-5"])
        assert token["models"] == ["claude-haiku-*", "claude-opus-5"]
        seen = {}
        for model in ("claude-haiku-5-5", "claude-opus-5", MODEL, "claude-opus-5-5"):
            seen[model] = (await ask(service, message(model=model))).status
        assert seen == {"claude-haiku-5-5": 200, "claude-opus-5": 200, MODEL: 403, "claude-opus-5-5": 403}
        assert len(service.simulator.ledger) == 2
        answer = await ask(service)
        assert MODEL in check_refusal(answer, 403, "permission_error", retry="false")


async def test_models_are_seen_in_a_compressed_body(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await made(service, models=["claude-haiku-*"])
        encoding = [("content-encoding", "gzip")]
        assert (await ask(service, gzip.compress(message()), encoding)).status == 403
        await ask(service, gzip.compress(message(model="claude-haiku-5-5")), encoding)
        assert [entry.header("content-encoding") for entry in service.simulator.ledger] == ["gzip"]


@pytest.mark.parametrize("fields", [{"models": ["*"]}, {"limits": {"tokens_per_day": 10**6}}])
@pytest.mark.parametrize(
    ("body", "encoding"), [(b"{", ""), (b"[]", ""), (b"x", "gzip"), (b"{}", "x-secret-encoding")]
)
async def test_a_body_that_cannot_be_read_is_for_keys_without_models_and_budget(
    tmp_path: Path, fields: dict[str, Any], body: bytes, encoding: str
) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, **fields)
        headers = [("content-encoding", encoding)] if encoding else []
        check_refusal(await ask(service, body, headers), 403, "permission_error", retry="false")
        assert len(service.simulator.ledger) == 0
        await changed(service, token, models=[], limits={})
        await ask(service, body, headers)
        assert len(service.simulator.ledger) == 1


async def test_a_key_with_models_may_list_and_count(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await made(service, models=["claude-haiku-*"])
        assert await count(service) == 200
        assert (await service.send("GET", "/v1/models", MESSAGE_HEADERS, key=KEY)).status == 200


@pytest.mark.parametrize("fields", [{"models": ["*"]}, {"limits": {"cost_usd_per_month": 5}}])
@pytest.mark.parametrize("target", ["/v1/messages/batches", "/v1/complete", "/v1/sessions"])
async def test_what_cannot_be_held_to_a_budget_is_not_for_such_keys(
    tmp_path: Path, fields: dict[str, Any], target: str
) -> None:
    async with serve(tmp_path) as service:
        await made(service, **fields)
        answer = await service.send("POST", target, MESSAGE_HEADERS, b"{}", key=KEY)
        check_refusal(answer, 403, "permission_error", retry="false")
        assert len(service.simulator.ledger) == 0


ODD_MODELS = ["claude-haiku-*", [1], [None], {"a": 1}, [""], ["x" * 129], ["claude"] * 101]


@pytest.mark.parametrize("models", ODD_MODELS, ids=lambda models: str(models)[:20])
async def test_models_are_a_list_of_names(tmp_path: Path, models: object) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/tokens", {"name": "n", "models": models})
        assert (answer.status, "models" in answer.json()["error"]["message"]) == (422, True)


NO_MODELS = [
    " claude-haiku-*",
    "claude haiku",
    "claude-opus-5[1m]",
    "claude-a,claude-b",
    "claude-öpus",
    "a\n",
]


@pytest.mark.parametrize("pattern", NO_MODELS)
async def test_a_pattern_that_no_models_name_can_match_is_refused(tmp_path: Path, pattern: str) -> None:
    async with serve(tmp_path) as service:
        token = await made(service)
        answers = [
            await service.admin("POST", "/api/tokens", {"name": "n", "models": ["claude-opus-5", pattern]}),
            await service.admin("PUT", f"/api/tokens/{token['id']}", {"models": ["claude-opus-5", pattern]}),
        ]
        for answer in answers:
            told = check_refusal(answer, 422, "invalid_request_error", retry=None)
            assert told.startswith("models.1: a name or a pattern such as claude-haiku-* is needed")


async def test_a_star_stands_for_any_text_wherever_it_is(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        models = ["claude-*-5-5", "*opus*", "us.anthropic.claude-3:0@20250101", "*"]
        assert (await made(service, models=models))["models"] == models


# ---- what is counted of all that


async def counted(service: Service, by: str = "model") -> dict[str | None, dict[str, Any]]:
    """Rows of the usage route by id."""
    await settled(service)
    answer = await service.admin("GET", f"/api/admin/usage?by={by}")
    return {row["id"]: row for row in answer.json()["rows"]}


async def test_usage_is_what_the_clients_saw_however_it_came(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        whole = await service.message()
        expected = {name: 4 * whole.json()["usage"][name] for name in TOKENS}
        await service.message(headers=[("accept-encoding", "gzip")])
        await service.message(stream=True)
        await service.message(stream=True, headers=[("x-simulate-encoding", "gzip")])
        row = (await counted(service))[MODEL]
        assert {name: row[name] for name in TOKENS} == expected
        assert (row["requests"], row["errors"], row["estimated_requests"]) == (4, 0, 0)


async def test_a_request_that_failed_over_is_counted_once_for_who_answered(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b", "c")) as service:
        service.simulator.script(None, Error(529), quota_429())
        answer = await service.message()
        assert answer.header("x-proxy-attempts") == "3"
        (row,) = (await counted(service, "account")).values()
        assert (row["name"], row["requests"], row["errors"]) == (answer.header("x-proxy-account"), 1, 0)
        assert sum(row[name] for name in TOKENS) == tokens_of(answer)


async def test_a_clients_own_retry_is_a_request_of_its_own_and_its_failure_costs_nothing(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path, retry__max_attempts="1") as service:
        service.simulator.script(None, Error(529))
        assert (await service.message()).status == 529
        answer = await service.message()
        row = (await counted(service))[MODEL]
        assert (row["requests"], row["errors"]) == (2, 1)
        assert sum(row[name] for name in TOKENS) == tokens_of(answer)


async def test_what_the_proxy_refuses_is_counted_for_its_key(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, limits={"requests_per_minute": 1}, models=["claude-haiku-*"])
        assert [(await ask(service)).status for _ in range(3)] == [403, 429, 429]
        row = (await counted(service, "token"))[token["id"]]
        assert (row["requests"], row["errors"], row["rate_limited"]) == (3, 3, 2)
        totals = service.parts.series.totals("start")
        assert (totals.refused, totals.limited) == (1, 2)


async def test_a_cut_stream_is_settled_and_marked(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, limits={"tokens_per_day": 10_000})
        service.simulator.script(None, Cut(after_events=5))
        with contextlib.suppress(Exception):
            await ask(service, message(stream=True))
        await until(lambda: service.running == 0)
        row = (await counted(service))[MODEL]
        assert (row["requests"], row["aborted"], row["estimated_requests"]) == (1, 1, 1)
        assert row["input_tokens"] > 0 and row["output_tokens"] > 0
        assert (await used(service, token))["tokens_today"] == row["input_tokens"] + row["output_tokens"]


async def test_a_client_that_left_before_the_head_is_counted_for_its_model(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        service.simulator.script(None, Silence())
        headers = [("x-api-key", CLIENT_KEY), *MESSAGE_HEADERS]
        await wire.send(request_bytes("POST", "/v1/messages", headers, message()))
        await service.simulator.ledger.wait(lambda ledger: ledger and ledger[0].body_read)
        wire.reset()
        await until(lambda: service.running == 0)
        row = (await counted(service))[MODEL]
        assert (row["aborted"], row["estimated_requests"], row["unpriced_requests"]) == (1, 1, 0)
        assert row["input_tokens"] == len(message()) // 4
        assert row["cost_usd"] > 0


async def test_a_model_without_a_price_is_shown_as_such(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Amend({"model": "claude-of-tomorrow"}))
        tokens = tokens_of(await service.message())
        row = (await counted(service))["claude-of-tomorrow"]
        assert (row["unpriced_requests"], row["cost_usd"]) == (1, None)
        assert sum(row[name] for name in TOKENS) == tokens


async def test_tokens_that_are_only_counted_are_not_used(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await made(service)
        for _ in range(3):
            assert await count(service) == 200
        assert await counted(service) == {}


# ---- declared keys

DECLARED = f"""
auth:
  client_keys:
    - name: laptop
      key: {KEY}
      models: [claude-haiku-*, {MODEL}]
      limits: {{tokens_per_day: 400, requests_per_minute: 4}}
    - {{name: ops, key: cp-a-declared-admin-of-tests, role: admin, group: team, tags: [eu]}}
"""


@contextlib.asynccontextmanager
async def declaring(folder: Path, text: str = DECLARED) -> AsyncIterator[Service]:
    """A proxy with that configuration."""
    config = folder / "config.yaml"
    config.write_text(text)
    async with serve(folder / "data", config=config, accounts=()) as service:
        if len(service.parts.pool):
            service.simulator.add_api_key(upstream_key("a"), organization="a")
        else:
            await service.add_account("a")
        yield service


async def listed(service: Service, name: str) -> dict[str, Any]:
    await settled(service)
    answer = await service.admin("GET", f"/api/tokens?search={name}")
    (token,) = answer.json()["tokens"]
    return dict(token)


async def test_a_declared_key_works_within_its_limits(tmp_path: Path) -> None:
    async with declaring(tmp_path) as service:
        assert (await ask(service)).status == 200
        assert (await ask(service, message(model="claude-opus-5"))).status == 403
        assert (await ask(service, message(max_tokens=1000))).json()["error"]["type"] == "billing_error"
        assert (await ask(service)).status == 200
        assert (await ask(service)).json()["error"]["type"] == "rate_limit_error"


async def test_a_declared_key_is_listed_as_such_without_itself(tmp_path: Path) -> None:
    async with declaring(tmp_path) as service:
        token = await listed(service, "laptop")
        assert (token["declared"], token["key"], token["role"]) == (True, "cp-…2Vb8", "user")
        assert token["models"] == ["claude-haiku-*", MODEL]
        assert token["limits"] | {"tokens_per_day": 400, "requests_per_minute": 4} == token["limits"]
        assert not (await listed(service, "tests"))["declared"]
        ops = await listed(service, "ops")
        assert (ops["group"], ops["tags"]) == ("team", ["eu"])


async def test_a_declared_admin_may_call_the_admin_api(tmp_path: Path) -> None:
    async with declaring(tmp_path) as service:
        for key, status in (("cp-a-declared-admin-of-tests", 200), (KEY, 403)):
            assert (await service.admin("GET", "/api/tokens", key=key)).status == status


@pytest.mark.parametrize(
    ("method", "body"),
    [("PUT", {"name": "x"}), ("PUT", {"status": "revoked"}), ("PUT", {"limits": {}}), ("DELETE", None)],
)
async def test_a_declared_key_can_only_be_changed_where_it_is_declared(
    tmp_path: Path, method: str, body: object
) -> None:
    async with declaring(tmp_path) as service, connect(service.port) as wire:
        service.simulator.script(None, Silence())
        headers = [("x-api-key", KEY), *MESSAGE_HEADERS]
        await wire.send(request_bytes("POST", "/v1/messages", headers, message()))
        await service.simulator.ledger.wait(len)
        before = await listed(service, "laptop")
        answer = await service.admin(method, f"/api/tokens/{before['id']}", body)
        assert (answer.status, answer.json()["error"]["type"]) == (409, "conflict_error")
        assert "configuration" in answer.json()["error"]["message"]
        assert (await listed(service, "laptop"), service.running) == (before, 1)


async def test_a_declared_key_cannot_be_made_again(tmp_path: Path) -> None:
    async with declaring(tmp_path) as service:
        answer = await service.admin("POST", "/api/tokens", {"name": "again", "key": KEY})
        assert answer.status == 409


@pytest.mark.files  # a shared store keeps the requests of the minute as well
async def test_a_declared_key_is_not_stored_but_what_it_used_is(tmp_path: Path) -> None:
    async with declaring(tmp_path) as service:
        await ask(service)
        service.clock.advance(60)  # requests a minute are not kept
        service.tick()
        before = await listed(service, "laptop")
        assert before["used"]["tokens_today"] > 0
    assert "laptop" not in kept_text(tmp_path / "data", "tokens")
    async with declaring(tmp_path) as service:
        assert await listed(service, "laptop") == before


async def test_a_key_that_is_declared_no_more_stops_working(tmp_path: Path) -> None:
    async with declaring(tmp_path) as service:
        assert (await ask(service)).status == 200
    async with declaring(tmp_path, "auth: {client_keys: []}") as service:
        assert (await ask(service)).status == 401


@pytest.mark.parametrize("status", ["active", "inactive", "revoked"])
async def test_a_key_that_is_stored_too_is_the_declared_one(tmp_path: Path, status: str) -> None:
    async with declaring(tmp_path, "{}") as service:
        stored = await made(service)
        await changed(service, stored, status=status)
    async with declaring(tmp_path) as service:
        assert (await ask(service)).status == 200
        assert (await ask(service, message(model="claude-opus-5"))).status == 403
        assert (await listed(service, "laptop"))["requests"] == 2
        answer = await service.admin("DELETE", f"/api/tokens/{stored['id']}")
        assert answer.status == 200
        assert (await ask(service)).status == 200
