"""`/metrics`: who may read it, in which formats, and what it says of what there is."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_metrics

from proxy.clients.keys import Role
from proxy.clock import rfc3339
from proxy.simulator import Error, quota_429
from tests.canaries import leaked
from tests.scrape import scraped
from tests.service import ADMIN_KEY, CLIENT_KEY, MESSAGE_HEADERS, Service, message, serve
from tests.wire import Answer, fetch


async def scrape(service: Service, *headers: tuple[str, str]) -> Answer:
    return await fetch(service.port, "GET", "/metrics", headers)


async def scrape_key(service: Service) -> str:
    made = await service.admin("POST", "/api/tokens", {"name": "prometheus", "role": "metrics"})
    assert made.status == 201, made.body
    return str(made.json()["token"]["key"])


# ---- access


async def test_an_admin_and_a_scrape_key_read_the_metrics_by_either_header(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        _, admin = await service.parts.keys.add("admin", role=Role.ADMIN)
        for key in (ADMIN_KEY, admin, await scrape_key(service)):
            for header in (("X-API-Key", key), ("Authorization", f"Bearer {key}")):
                assert (await scrape(service, header)).status == 200


async def test_nobody_else_reads_them(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert (await scrape(service)).status == 401
        assert (await scrape(service, ("X-API-Key", "a-wrong-key"))).status == 401
        refused = await scrape(service, ("X-API-Key", CLIENT_KEY))
        assert refused.status == 403 and b"claude_proxy_" not in refused.body
        assert "role `admin` or `metrics` is needed" in refused.json()["error"]["message"]


async def test_a_scrape_key_is_none_for_the_api_and_reaches_no_account(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        key = await scrape_key(service)
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/messages")):
            body = message() if method == "POST" else None
            answer = await service.send(method, path, body=body, key=key)
            assert (answer.status, answer.json()["error"]["type"]) == (403, "permission_error")
            assert answer.header("x-should-retry") == "false"
        assert len(service.simulator.ledger) == 0 and len(service.parts.sessions) == 0


async def test_beside_a_scrape_key_a_clients_own_is_enough(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        bearer = ("authorization", f"Bearer {CLIENT_KEY}")
        answer = await service.send("GET", "/v1/models", [bearer], key=await scrape_key(service))
        assert answer.status == 200


async def test_why_an_account_is_not_explained_to_a_scrape_key(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        key = await scrape_key(service)
        [made] = service.parts.keys.find(role=Role.METRICS)
        for asked in ({"headers": {"x-api-key": key}}, {"token_id": made.id}):
            question = {"path": "/v1/models", "method": "GET", **asked}
            answer = await service.admin("POST", "/api/admin/explain", question)
            assert answer.status == 422 and "its requests get a 403" in answer.json()["error"]["message"]


async def test_a_key_that_becomes_a_scrape_key_ends_its_requests(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        [token] = service.parts.keys.find(search="tests")
        assert len(service.parts.sessions) == 1
        await service.admin("PUT", f"/api/tokens/{token.id}", {"role": "metrics"})
        assert len(service.parts.sessions) == 0
        assert (await service.message()).status == 403


async def test_it_is_seen_that_a_scrape_key_is_in_use(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        key = await scrape_key(service)
        await scrape(service, ("X-API-Key", key))
        [token] = (await service.admin("GET", "/api/tokens?role=metrics")).json()["tokens"]
        assert (token["requests"], token["last_used_at"]) == (1, rfc3339(service.clock.now()))


async def test_a_scrape_is_logged_for_debugging_and_a_refused_one_as_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "proxy.access")
    async with serve(tmp_path) as service:
        await scrape(service, ("X-API-Key", ADMIN_KEY))
        await scrape(service)
    levels = [record.levelname for record in caplog.records if record.name == "proxy.access"]
    assert levels == ["DEBUG", "INFO"]


# ---- formats

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/plain;version=0.0.4", PLAIN),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0"),
        # What the library would fail at, or repeat.
        ("application/openmetrics-text; version=x", PLAIN),
        ("text/plain; version=1.0.0 or so", PLAIN),
        ("application/openmetrics-text; version=9.é", PLAIN),
        ("application/openmetrics-text; version=2.0.0, text/plain", PLAIN),
        ("," * 5000 + ";version=" + "1" * 5000, PLAIN),
    ],
)
async def test_the_format_is_the_one_that_is_asked_for(
    tmp_path: Path, accept: str, content_type: str
) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        answer = await scrape(service, ("X-API-Key", ADMIN_KEY), ("Accept", accept))
        assert answer.status == 200
        assert str(answer.header("content-type")).startswith(content_type)
        parse = open_metrics if "openmetrics" in content_type else plain_metrics
        names = {family.name for family in parse(answer.body.decode())}
        assert {"claude_proxy_requests", "claude_proxy_account_state"} <= names


# ---- what they say


async def test_accounts_are_told_by_state_with_what_they_rest_and_have_left(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b", "c"]) as service:
        a, b, c = service.parts.pool
        service.parts.pool.limit(b.id, service.clock.now() + 60, "5h rejected")
        service.parts.pool.invalidate(c.id, "revoked")
        await service.message()
        found = await scraped(service)
        assert found.by("accounts", "state") == {"active": 1, "inactive": 0, "rate_limited": 1, "invalid": 1}
        states = [(each["account"], each["state"]) for each, value in found.rows("account_state") if value]
        assert states == [("a", "active"), ("b", "rate_limited"), ("c", "invalid")]
        assert found.by("account_cooldown_seconds", "account") == {"a": 0, "b": 60, "c": 0}
        assert found.by("account_rate_limits_total", "account") == {"a": 0, "b": 1, "c": 0}
        [ids] = [labels for labels, _ in found.rows("account_info") if labels["account"] == "a"]
        assert ids == {"account": "a", "id": a.id, "type": "api_key"}
        service.clock.advance(61)
        assert (await scraped(service)).value("account_state", account="b", state="active") == 1


async def test_the_quota_that_is_left_is_told_until_its_reset(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        _, grant = await service.add_login("login")
        service.simulator.script(grant, quota_429(reset_in=60))
        await service.message()
        found = await scraped(service)
        assert found.value("account_quota_left_ratio", account="login", window="5h") == 0
        reset = found.value("account_quota_reset_timestamp_seconds", account="login", window="5h")
        assert reset == service.clock.now() + 60
        service.clock.advance(61)
        windows = [
            labels["window"] for labels, _ in (await scraped(service)).rows("account_quota_left_ratio")
        ]
        assert "5h" not in windows


async def test_refreshes_are_told_by_how_they_ended(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, _ = await service.add_login("login")
        failing = []
        for fault in (None, Error(500), Error(400, type="invalid_grant")):
            service.clock.advance(3600)
            if fault is not None:
                service.simulator.script(None, fault, path="/v1/oauth/token")
            await service.admin("POST", f"/api/accounts/{account.id}/refresh")
            found = await scraped(service)
            failing.append(found.value("account_refresh_failing", account="login"))
        assert found.by("refreshes_total", "outcome") == {"renewed": 1, "failed": 1, "refused": 1}
        assert failing == [0, 1, 0]  # at last it is invalid, which is told as its state
        ends = service.parts.pool[account.id].expires_at
        assert found.value("account_token_expiry_timestamp_seconds", account="login") == ends


async def test_sessions_slots_and_the_queue_are_told(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        found = await scraped(service)
        told = {name: found.value(name) for name in ("sessions", "requests_in_flight", "slots_taken")}
        assert told == {"sessions": 1, "requests_in_flight": 0, "slots_taken": 0}
        assert found.value("queued_requests") == 0


async def test_the_names_of_accounts_are_those_of_now(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        for _ in range(4):
            await service.message()
        a, b = service.parts.pool
        await service.admin("PUT", f"/api/accounts/{a.id}", {"name": 'new "name"\\'})
        await service.admin("DELETE", f"/api/accounts/{b.id}")
        found = await scraped(service)
        assert found.by("requests_total", "account") == {'new "name"\\': 2, "(deleted)": 2}
        assert {labels["account"] for labels, _ in found.rows("account_state")} == {'new "name"\\'}


async def test_what_is_not_on_disk_is_told(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        unsaved = (await scraped(service)).by("unsaved_changes", "of")
        assert unsaved == dict.fromkeys(unsaved, 0) and "accounts" in unsaved
        service.parts.pool.unsaved["acc_1"] = "No space left on device"
        assert (await scraped(service)).value("unsaved_changes", of="accounts") == 1


async def test_turns_are_told_by_whether_they_stayed(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        session = ("x-claude-code-session-id", "s1")
        for _ in range(3):
            await service.message(headers=[session])
        [a] = [each for each in service.parts.pool if each.name == "a"]
        service.parts.pool.invalidate(a.id, "revoked")
        await service.message(headers=[session])
        found = await scraped(service)
        assert found.by("turns_total", "turn") == {"new": 1, "stayed": 2}
        assert {reason for reason, count in found.by("turns_moved_total", "reason").items() if count} == {
            "invalid"
        }


# ---- what they never say

SECRET = "Qx7-canary-Lm2"


async def test_neither_keys_nor_prompts_nor_what_clients_call_themselves_are_told(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        account, grant = await service.add_login("login")
        _, api_key = await service.add_account("a")
        key = await service.add_key(f"name-{SECRET}", group=f"group-{SECRET}")
        body = message(model=f"claude-{SECRET}", messages=[{"role": "user", "content": f"prompt-{SECRET}"}])
        service.simulator.script(None, Error(529, message=f"evidence-{SECRET}"))
        for _ in range(2):
            headers = [*MESSAGE_HEADERS, ("user-agent", f"agent-{SECRET}"), ("x-request-id", SECRET)]
            await service.send("POST", f"/v1/messages?q={SECRET}", headers, body, key=key)
        await service.send("GET", f"/v1/files/{SECRET}", key=key)
        service.parts.pool.invalidate(account.id, f"reason-{SECRET}")
        for accept in ("", PROMETHEUS):
            text = (await scrape(service, ("X-API-Key", ADMIN_KEY), ("Accept", accept))).body
            assert b'family="other"' in text
            secrets = (
                SECRET,
                key,
                api_key,
                grant.access_token,
                str(grant.refresh_token),
                ADMIN_KEY,
                "127.0.0.1",
            )
            assert leaked(text, secrets) == []


async def test_many_user_agents_and_models_make_no_more_series(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        seen = []
        for number in range(100):
            headers = [*MESSAGE_HEADERS, ("user-agent", f"agent-{number}")]
            body = message(model=f"claude-{number}")
            await service.send("POST", "/v1/messages", headers, body)
            if number in (9, 99):
                seen.append({(each.name, *each.labels.values()) for each in (await scraped(service)).samples})
        assert seen[0] == seen[1]
