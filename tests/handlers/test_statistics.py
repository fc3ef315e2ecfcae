"""The numbers of the whole: each is right in every state, and health says why it is not well."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.account import Status
from proxy.dashboard.health import NO_FOLDER, NO_STORE
from proxy.simulator import Amend, Cut, Error, Real, Slow, Steady, quota_429
from tests import wire
from tests.disk import full_disk
from tests.service import (
    CLIENT_KEY,
    MESSAGE_HEADERS,
    ON_REDIS,
    Service,
    SteppedClock,
    TestClock,
    message,
    serve,
    until,
    upstream_key,
)
from tests.wire import connect

NOT_TAKEN = NO_STORE if ON_REDIS else NO_FOLDER
FIELDS = {
    "total_accounts", "active_accounts", "inactive_accounts", "rate_limited_accounts", "invalid_accounts",
    "accounts_needing_refresh", "oldest_token_age_hours", "system_health",
    "reasons", "uptime_seconds", "in_flight", "sessions", "client_keys", "since_start", "today", "yesterday", "ttfb_ms",
    "unclassified_errors", "capacity", "affinity",
}  # fmt: skip
SUMS = {
    "requests", "errors", "aborted", "rate_limited", "input_tokens", "output_tokens",
    "cache_creation_input_tokens", "cache_read_input_tokens", "cost_usd", "unpriced_requests", "estimated_requests",
    "turns_stayed", "turns_moved",
}  # fmt: skip


async def statistics(service: Service) -> dict[str, Any]:
    answer = await service.admin("GET", "/api/admin/statistics")
    assert answer.status == 200
    return dict(answer.json())


def id_of(service: Service, name: str) -> str:
    return next(account.id for account in service.parts.pool if account.name == name)


def limit(service: Service, name: str, seconds: float = 60) -> None:
    service.parts.pool.limit(id_of(service, name), service.clock.now() + seconds, "5h rejected")


# ---- accounts and health


async def test_without_accounts_everything_is_none_and_the_reason_is_told(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        found = await statistics(service)
        assert found.keys() == FIELDS
        assert (found["system_health"], found["reasons"]) == ("unhealthy", ["no accounts"])
        assert found["since_start"] == found["today"] == dict.fromkeys(SUMS, 0)
        assert found["ttfb_ms"] == {"p50": None, "p95": None, "p99": None}
        rest = {name for name in FIELDS if name.endswith("accounts")} | {
            "accounts_needing_refresh", "oldest_token_age_hours", "in_flight", "sessions",
        }  # fmt: skip
        assert {name: found[name] for name in rest} == dict.fromkeys(rest, 0)
        assert found["client_keys"] == 1


@pytest.mark.parametrize(
    ("states", "health", "reasons"),
    [
        ("active", "healthy", []),
        ("active inactive", "healthy", []),
        ("active passed", "healthy", []),
        ("active limited", "degraded", ["1 of 2 accounts rate limited"]),
        (
            "active limited invalid",
            "degraded",
            ["1 of 3 accounts rate limited", "1 of 3 accounts invalid"],
        ),
        ("limited limited", "unhealthy", ["2 of 2 accounts rate limited"]),
        ("invalid", "unhealthy", ["1 of 1 accounts invalid"]),
        ("inactive", "unhealthy", ["1 of 1 accounts inactive"]),
        (
            "limited invalid inactive inactive",
            "unhealthy",
            ["1 of 4 accounts rate limited", "1 of 4 accounts invalid", "2 of 4 accounts inactive"],
        ),
    ],
)
async def test_accounts_are_counted_by_state_and_health_follows(
    tmp_path: Path, states: str, health: str, reasons: list[str]
) -> None:
    words = states.split()
    async with serve(tmp_path, accounts=[f"{number}" for number in range(len(words))]) as service:
        pool = service.parts.pool
        for account, state in zip(tuple(pool), words, strict=True):
            match state:
                case "limited" | "passed":
                    pool.limit(account.id, service.clock.now() + (60 if state == "limited" else 0), "429")
                case "invalid":
                    pool.invalidate(account.id, "401")
                case "inactive":
                    await pool.update(account.id, status=Status.INACTIVE)
        found = await statistics(service)
        counted = [
            found[f"{state}_accounts"] for state in ("total", "active", "rate_limited", "invalid", "inactive")
        ]
        active = words.count("active") + words.count("passed")
        assert counted == [len(words), active, *(words.count(w) for w in ("limited", "invalid", "inactive"))]
        assert (found["system_health"], found["reasons"]) == (health, reasons)


async def test_a_limit_that_passes_is_gone_without_a_request(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        limit(service, "a", 60)
        service.clock.advance(59)
        assert (await statistics(service))["rate_limited_accounts"] == 1
        service.clock.advance(1)
        found = await statistics(service)
        assert (found["active_accounts"], found["system_health"]) == (1, "healthy")


async def test_what_cannot_be_saved_degrades_and_says_so(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        path = f"/api/accounts/{id_of(service, 'a')}"
        with full_disk():  # for as long as it is looked at: each second what is not on disk is tried again
            assert (await service.admin("PUT", path, {"name": "b"})).status == 503
            found = await statistics(service)
            assert found["system_health"] == "degraded"
            assert found["reasons"] == [f"1 changes are not on disk yet: {NOT_TAKEN}"]
            limit(service, "b")
            found = await statistics(service)
            assert (found["system_health"], len(found["reasons"])) == ("unhealthy", 2)
        await service.parts.pool.save_again()
        assert (await statistics(service))["reasons"] == ["1 of 1 accounts rate limited"]


@pytest.mark.files
async def test_usage_that_cannot_be_saved_degrades_and_says_so_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.assembly.periods.SAVE_USAGE_S", 0.01)
    async with serve(tmp_path) as service:
        (tmp_path / "usage").rename(tmp_path / "elsewhere")
        await service.message()
        await until(lambda: service.parts.health.reasons())
        found = await statistics(service)
        assert found["system_health"] == "degraded"
        assert found["reasons"] == ["usage is not on disk yet: the data folder cannot be written"]
        assert found["since_start"]["requests"] == 1
        (tmp_path / "elsewhere").rename(tmp_path / "usage")
        await until(lambda: not service.parts.health.reasons())
        assert (await statistics(service))["system_health"] == "healthy"


# ---- tokens


async def test_accounts_need_a_refresh_whose_token_ends_within_a_minute(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["key"]) as service:
        await service.add_login("fresh", expires_in=3600)
        await service.add_login("ending", expires_in=60)
        dead, _ = await service.add_login("dead", expires_in=60)
        service.parts.pool.invalidate(dead.id, "invalid_grant")
        assert (await statistics(service))["accounts_needing_refresh"] == 1
        path = f"/api/accounts/{id_of(service, 'ending')}/refresh"
        assert (await service.admin("POST", path)).status == 200
        assert (await statistics(service))["accounts_needing_refresh"] == 0


async def test_the_oldest_token_is_the_login_that_was_refreshed_longest_ago(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["key"]) as service:
        service.clock.advance(3600)
        assert (await statistics(service))["oldest_token_age_hours"] == 0
        await service.add_login("first", expires_in=86_400)
        service.clock.advance(5400)
        await service.add_login("second", expires_in=86_400)
        assert (await statistics(service))["oldest_token_age_hours"] == 1.5
        path = f"/api/accounts/{id_of(service, 'first')}/refresh"
        assert (await service.admin("POST", path)).status == 200
        service.clock.advance(900)
        assert (await statistics(service))["oldest_token_age_hours"] == 0.25


async def test_no_token_is_younger_than_nothing_where_the_clock_is_set_back(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        await service.add_login("login")
        service.clock.jump(-7200)
        assert (await statistics(service))["oldest_token_age_hours"] == 0


# ---- requests


async def test_requests_in_flight_and_their_sessions_are_counted(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with serve(tmp_path, clock=clock, session__session_ttl="5m") as service:
        service.simulator.always(None, Steady(events=3, interval_s=1))
        headers = [*MESSAGE_HEADERS, ("x-api-key", CLIENT_KEY)]
        async with connect(service.port) as one, connect(service.port) as other:
            for client, agent in ((one, "one"), (other, "other")):
                answer = await client.request(
                    "POST", "/v1/messages", [*headers, ("user-agent", agent)], message(stream=True)
                )
                assert answer.status == 200
            found = await statistics(service)
            assert (found["in_flight"], found["sessions"]) == (2, 2)
            other.reset()
            await until(lambda: service.running == 1)
            assert (await statistics(service))["in_flight"] == 1
        await until(lambda: not service.running)
        found = await statistics(service)
        assert (found["in_flight"], found["sessions"], found["since_start"]["aborted"]) == (0, 2, 2)
        clock.advance(300)
        service.tick()
        assert (await statistics(service))["sessions"] == 0


async def test_each_outcome_is_counted_as_what_it_is(tmp_path: Path) -> None:
    async with serve(tmp_path, retry__max_attempts="1") as service:
        outcomes = (Real(), Error(400), Error(404), Error(500), Error(529), Cut(after_events=3), quota_429())
        service.simulator.script(upstream_key("a"), *outcomes)
        for outcome in outcomes:
            with contextlib.suppress(wire.Cut):
                await service.message(stream=isinstance(outcome, Cut))
        limited = await service.message()  # by the proxy itself
        assert limited.status == 429
        sums = (await statistics(service))["since_start"]
        assert (sums["requests"], sums["errors"], sums["aborted"]) == (8, 6, 1)
        assert (sums["rate_limited"], sums["estimated_requests"]) == (2, 1)


async def test_what_is_refused_before_it_is_a_request_of_a_key_is_not_counted(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        body, headers = message(), MESSAGE_HEADERS
        assert (await service.send("POST", "/v1/messages", headers, body, key="cp-unknown")).status == 401
        assert (await service.send("POST", "/v1/messages/count_tokens", headers, body)).status == 200
        assert (await service.send("GET", "/v1/models")).status == 200
        found = await statistics(service)
        assert found["since_start"] == dict.fromkeys(SUMS, 0)
        assert found["ttfb_ms"]["p50"] is None


async def test_tokens_and_cost_are_those_of_the_answers(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        used = [(await service.message()).json()["usage"] for _ in range(3)]
        sums = (await statistics(service))["since_start"]
        inputs, outputs = (sum(each[f"{kind}_tokens"] for each in used) for kind in ("input", "output"))
        assert (sums["input_tokens"], sums["output_tokens"]) == (inputs, outputs)
        # Claude Sonnet 5.5 costs 2 USD for a million tokens in, 10 out.
        assert sums["cost_usd"] == pytest.approx((2 * inputs + 10 * outputs) / 1e6, abs=1e-6)


async def test_a_model_without_a_known_price_is_counted_as_unpriced(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Amend(set={"model": "claude-nobody-knows"}))
        await service.message()
        sums = (await statistics(service))["since_start"]
        assert (sums["unpriced_requests"], sums["cost_usd"]) == (1, None)
        assert sums["input_tokens"] > 0
        report = await service.admin("GET", "/api/admin/usage?by=model&format=csv")
        [row] = csv.DictReader(io.StringIO(report.body.decode()))
        assert (row["id"], row["cost_usd"], row["unpriced_requests"]) == (
            "claude-nobody-knows",
            "unpriced",
            "1",
        )
        await service.message()
        sums = (await statistics(service))["since_start"]
        assert sums["unpriced_requests"] == 1 and sums["cost_usd"] > 0


async def test_the_time_to_first_byte_is_shown_in_percentiles(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for delay_s in (0.2, 1.0, 0.1):
            service.simulator.script(None, Slow(delay_s))
            await service.message()
        await service.parts.request_log.told()
        assert (await statistics(service))["ttfb_ms"] == {"p50": 200, "p95": 1000, "p99": 1000}
        service.clock.advance(901)
        assert (await statistics(service))["ttfb_ms"]["p50"] is None


async def test_today_outlives_a_restart_and_ends_at_midnight_utc(tmp_path: Path) -> None:
    clock = TestClock()  # 2027-01-15T08:00:00Z
    async with serve(tmp_path, clock=clock) as service:
        await service.message()
        service.simulator.script(None, Error(400))
        await service.message()
        before = await statistics(service)
        assert before["today"] == before["since_start"]
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        found = await statistics(service)
        assert found["since_start"] == dict.fromkeys(SUMS, 0)
        assert found["today"] == before["today"] | {"cost_usd": pytest.approx(before["today"]["cost_usd"])}
        assert found["uptime_seconds"] == 0
        clock.advance(16 * 3600)
        found = await statistics(service)
        assert (found["today"], found["uptime_seconds"]) == (dict.fromkeys(SUMS, 0), 16 * 3600)


async def test_statistics_are_answered_while_requests_run(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        answers = await asyncio.gather(*(service.message() for _ in range(20)), statistics(service))
        assert answers[-1]["since_start"]["requests"] <= 20
        assert (await statistics(service))["since_start"]["requests"] == 20
