"""The description of the admin API is whole and true: schemathesis sends what it allows and what it does not."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from handlers.base import AdminHandler
from proxy.storage import passphrase
from tests.logins import arguments
from tests.routes import methods_of, path_of, rules
from tests.service import ADMIN_KEY, CLIENT_KEY, Service, serve, upstream_key
from tests.wire import fetch

CASES = int(os.environ.get("API_CASES", "300"))
"""How many requests the fuzzing sends in all, about."""

CHECKS = [
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


async def description(service: Service) -> dict[str, Any]:
    answer = await service.admin("GET", "/api/openapi.json")
    assert answer.status == 200, answer.body
    return dict(answer.json())


async def test_every_route_is_described_with_its_methods_and_roles(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        paths = (await description(service))["paths"]
    patterns = {re.sub(r"\{\w+\}", "nobody", path): methods for path, methods in paths.items()}
    assert len(patterns) == len(rules())
    for rule in rules():
        methods = patterns[path_of(rule)]
        assert {method.upper() for method in methods} == set(methods_of(rule)), path_of(rule)
        for operation in methods.values():
            admin = issubclass(rule.target, AdminHandler)
            assert bool(operation["security"]) == admin == ("x-roles" in operation)
            assert operation["summary"] and all(
                each["description"] for each in operation["responses"].values()
            )
    ids = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


async def test_every_reference_in_it_has_its_shape(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("GET", "/api/openapi.json")
    named = set(re.findall(r'"\$ref":"#/components/schemas/(\w+)"', answer.body.decode()))
    assert named == set(answer.json()["components"]["schemas"])


class Page(HTMLParser):
    """The tags of a page, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on") and name != "style"
            if name == "id":
                self.ids.add(str(value))
            elif name in ("href", "src"):
                self.links.add(str(value))


async def test_the_page_shows_all_of_it_without_scripts_or_other_hosts(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        paths = (await description(service))["paths"]
        answer = await service.admin("GET", "/api/docs")
        assert (answer.status, answer.header("content-type")) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in (answer.header("content-security-policy") or "")
        page = Page(answer.body.decode())
        assert "script" not in page.tags and not any(":" in link for link in page.links)
        assert {link[1:] for link in page.links if link[0] == "#"} <= page.ids
        assert all(f"<code>{path}</code>" in answer.body.decode() for path in paths)
        [style] = [link for link in page.links if link.endswith(".css")]
        sheet = await fetch(service.port, "GET", style.removeprefix(".."), [])
        assert (sheet.status, sheet.header("content-type")) == (200, "text/css; charset=utf-8")


@pytest.mark.parametrize("path", ["/api/docs", "/api/openapi.json"])
async def test_it_is_for_admins_also_by_their_cookie(tmp_path: Path, path: str) -> None:
    async with serve(tmp_path) as service:
        assert (await fetch(service.port, "GET", path, [])).status == 401
        assert (await service.admin("GET", path, key=CLIENT_KEY)).status == 403
        cookie = await service.login()
        opened = [("Cookie", cookie), ("Sec-Fetch-Site", "none"), ("Host", f"127.0.0.1:{service.port}")]
        assert (await fetch(service.port, "GET", path, opened)).status == 200


async def test_an_argument_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("GET", "/api/tokens?limit=1&limit=2")
    assert answer.status == 422 and answer.json()["error"]["message"].startswith("limit: it is given 2 times")


async def furnished(service: Service) -> dict[str, list[str]]:
    """Ids for the paths, of things of each kind."""
    account, _ = await service.add_account("fuzzed")
    login, _ = await service.add_login("grant")
    token = (await service.admin("POST", "/api/tokens", {"name": "fuzzed"})).json()["token"]
    await service.message()
    await service.message(stream=True)
    listed = {
        name: (await service.admin("GET", f"/api/admin/{name}")).json()[name]
        for name in ("sessions", "requests")
    }
    return {
        "account_id": [account.id, login.id],
        "key_id": [token["id"]],
        "session_id": [each["id"] for each in listed["sessions"]],
        "request_id": [each["request_id"] for each in listed["requests"]],
    }


def fuzz(port: int, document: dict[str, Any], ids: dict[str, list[str]]) -> list[str]:
    """What schemathesis finds amiss."""
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations()]
    operations.sort(key=lambda operation: operation.method == "delete")  # last: things are there until then
    open_ended = [each for each in operations if each.body or each.query or each.path_parameters]
    count, failures, sent = 1 + CASES // (2 * len(open_ended)), [], []
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                tried(operation.as_strategy(generation_mode=mode), count, port, ids, sent)()
            except Unsatisfiable:
                continue  # nothing can be wrong with what it takes
            except (Exception, BaseExceptionGroup) as error:
                failures.append(f"{operation.label} {mode.name}: {error}")
    told = Counter(status // 100 for status in sent)
    print(f"{len(sent)} requests; answers by class: {sorted(told.items())}")
    assert failures or len(sent) > 0.8 * CASES
    return failures


def tried(
    cases: st.SearchStrategy[Case], count: int, port: int, ids: dict[str, list[str]], sent: list[int]
) -> Callable[[], None]:
    """Sends so many of the cases; every other one is about a thing that is there. Notes the statuses in `sent`."""

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=CASES <= 300,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, at=st.integers(0, 3))
    def send(case: Case, at: int) -> None:
        for name in case.path_parameters:
            if at < len(ids.get(name, ())):
                case.path_parameters[name] = ids[name][at]
        here = f"http://127.0.0.1:{port}"
        response = case.call(base_url=here, headers={"X-API-Key": ADMIN_KEY, "Origin": here})
        sent.append(response.status_code)
        # In a URL a list or an object may become nothing, or a text that is right.
        assume(not any(value is None or isinstance(value, list | dict) for value in case.query.values()))
        case.validate_response(response, checks=CHECKS)

    return send


async def test_schemathesis_finds_nothing_that_is_otherwise_than_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(passphrase.HEAD, "n", 2)  # else an export takes half a second
    async with serve(tmp_path, accounts=("a", "b")) as service:
        document = await description(service)
        failures = await asyncio.to_thread(fuzz, service.port, document, await furnished(service))
        assert not failures, "\n\n".join(failures)


async def test_what_succeeds_is_answered_as_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fuzzing rarely finds what makes an account or ends a login."""
    monkeypatch.setitem(passphrase.HEAD, "n", 2)
    async with serve(tmp_path, accounts=("a", "b")) as service:
        paths = await furnished(service)
        document = await description(service)
        [account, login], [token] = paths["account_id"], paths["key_id"]
        words = {"passphrase": "five words of the tests"}
        key = upstream_key("new")
        service.simulator.add_api_key(key, organization="new")

        async def call(method: str, path: str, body: Any = None, *, of: str = "") -> Any:
            answer = await service.admin(method, path, body)
            responses = document["paths"][of or path.partition("?")[0]][method.lower()]["responses"]
            assert answer.status in (200, 201), (path, answer.body)
            shape = responses[str(answer.status)]["content"]["application/json"]["schema"]
            wrong = jsonschema_rs.validator_for(shape | {"components": document["components"]}).iter_errors(
                answer.json()
            )
            assert [f"{method} {path}: {error.message}" for error in wrong] == []
            return answer.json()

        one, one_key = "/api/accounts/{account_id}", "/api/tokens/{key_id}"
        made = await call("POST", "/api/accounts", {"name": "new", "type": "api_key", "api_key": key})
        await call("PUT", f"/api/accounts/{made['account']['id']}", {"note": "n", "tags": ["t"]}, of=one)
        for path, method in (("test", "POST"), ("quota", "GET")):
            await call(method, f"/api/accounts/{account}/{path}", of=f"{one}/{path}")
        await call("POST", f"/api/accounts/{login}/refresh", of=f"{one}/refresh")
        begun = await call("GET", "/oauth/authorize?name=x")
        back = arguments(service.simulator.authorize(begun["authorization_url"], organization="Acme"))
        await call("POST", "/oauth/exchange", {"code": back["code"], "state": back["state"]})
        limits = {"requests_per_minute": 5, "cost_usd_per_day": 1.5}
        await call("PUT", f"/api/tokens/{token}", {"limits": limits, "models": ["m"]}, of=one_key)
        await call("POST", f"/api/tokens/{token}/rotate", {"overlap": 60}, of=f"{one_key}/rotate")
        await call("DELETE", f"/api/tokens/{token}/former_keys", of=f"{one_key}/former_keys")
        file = await call("POST", "/api/admin/export", words)
        await call("POST", "/api/admin/import", words | {"file": file})
        await call("POST", "/api/admin/explain", {"path": "/v1/messages", "token_id": token, "body": {}})
        await call("POST", "/api/admin/reload")
        for name in (
            "statistics",
            "usage",
            "usage/chart",
            "requests",
            "events",
            "config",
            "findings",
            "sessions",
        ):
            await call("GET", f"/api/admin/{name}")
        for query in ("by=token,model&interval=hour", "by=model&interval=day"):
            await call("GET", f"/api/admin/usage?{query}")
        await call("GET", f"/api/admin/usage/chart?by=account&id={account}")
        await call("GET", "/api/live?topics=accounts:0,stats:0")
        await call("GET", "/api/accounts")
        await call("GET", "/api/tokens")
        await call("DELETE", f"/api/sessions/{paths['session_id'][0]}", of="/api/sessions/{session_id}")
        await call("DELETE", f"/api/accounts/{account}", of=one)
        await call("DELETE", "/api/admin/findings")
        await call("GET", "/api/auth/me")
        await call("POST", "/api/auth/logout")
