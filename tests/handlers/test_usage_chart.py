"""Charts ask for what they show, and it is the same as in the feed and in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import Error
from tests.service import MESSAGE_HEADERS, Service, message, serve


async def ask(service: Service, query: str) -> dict[str, Any]:
    answer = await service.admin("GET", f"/api/admin/usage/chart?{query}")
    assert answer.status == 200, answer.body
    return dict(answer.json())


async def test_a_chart_has_what_the_report_has(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        service.simulator.script(None, Error(400))
        for _ in range(5):
            await service.message()
        for by in ("account", "token", "model"):
            shown = await ask(service, f"range=24h&by={by}")
            report = (
                await service.admin("GET", f"/api/admin/usage?by={by}&from={shown['from']}&to={shown['to']}")
            ).json()
            assert (report["from"], report["to"]) == (shown["from"], shown["to"])
            assert {
                (each["id"], each["name"], sum(each["client_error"]), sum(each["output_tokens"]))
                for each in shown["split"]
            } == {(row["id"], row["name"], row["errors"], row["output_tokens"]) for row in report["rows"]}
            assert shown["rest"] is None


async def test_one_of_them_is_shown_with_its_own_past(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        [account] = service.parts.pool
        await service.message()
        service.clock.advance(3600)
        await service.message()
        shown = await ask(service, f"range=1h&by=account&id={account.id}")
        [one] = shown["split"]
        assert (one["name"], one["ok"][-1], len(one["ok"]), shown["span_seconds"]) == ("a", 1, 60, 60)
        assert shown["before"]["ok"][-1] == 1 and len(shown["before"]["ok"]) == 60
        [nobody] = (await ask(service, "range=1h&by=account&id=nobody"))["split"]
        assert not any(nobody["ok"])


async def test_a_model_that_is_called_like_an_account_has_no_name_of_it(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        [account] = service.parts.pool
        await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(model=account.id))
        shown = await ask(service, "range=1h&by=model")
        assert account.id in {each["name"] for each in shown["split"]}


@pytest.mark.parametrize(
    "query",
    ["range=2h", "by=nobody", "id=a", "from=2030-01-01", "from=2027-01-15&to=2027-01-14", "from=1999-01-01"],
)
async def test_what_makes_no_sense_is_refused(tmp_path: Path, query: str) -> None:
    async with serve(tmp_path) as service:
        assert (await service.admin("GET", f"/api/admin/usage/chart?{query}")).status == 422


async def test_the_cost_of_yesterday_by_now_is_told(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        before = (await service.admin("GET", "/api/admin/statistics")).json()
        assert before["yesterday"]["requests"] == 0
        service.clock.advance(86_400 + 3600)
        after = (await service.admin("GET", "/api/admin/statistics")).json()
        assert after["yesterday"] == before["today"] | {
            "cost_usd": pytest.approx(before["today"]["cost_usd"])
        }
