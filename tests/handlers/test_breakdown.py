"""Usage by two of account, client key and model, and within one: the sums of logs and of what is in none yet."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from proxy.usage import breakdown
from tests.service import CLIENT_KEY, MESSAGE_HEADERS, Service, TestClock, message, serve, upstream_key

SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-4-5"
OTHER_KEY = "cp-another-client-key-of-tests-9pLk"
COUNTS = ("requests", "input_tokens", "output_tokens", "cost_usd")


async def usage(service: Service, query: str) -> dict[str, Any]:
    answer = await service.admin("GET", f"/api/admin/usage?{query}")
    assert answer.status == 200, answer.body
    return dict(answer.json())


async def ask(service: Service, model: str, times: int, key: str = CLIENT_KEY) -> None:
    for _ in range(times):
        answer = await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(model=model), key=key)
        assert answer.status == 200


async def traffic(service: Service) -> dict[str, str]:
    """Two keys, two models, over two days. Gives the ids of the keys by their names."""
    await service.parts.keys.add("ci", OTHER_KEY)
    await ask(service, SONNET, 2)
    await ask(service, HAIKU, 1, OTHER_KEY)
    service.clock.advance(86_400)
    await ask(service, SONNET, 3, OTHER_KEY)
    await ask(service, HAIKU, 4)
    return {each.name: each.id for each in service.parts.keys}


def told(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], int]:
    """Requests by the names of a row."""
    return {
        tuple(value for name, value in row.items() if name.endswith("name")): row["requests"] for row in rows
    }


PAIRS = {
    ("tests", SONNET): 2,
    ("tests", HAIKU): 4,
    ("ci", SONNET): 3,
    ("ci", HAIKU): 1,
}


async def test_pairs_have_both_ids_and_names_and_add_up_to_the_single_ones(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        ids = await traffic(service)
        report = await usage(service, "by=token,model&from=2027-01-15")
        assert report["by"] == "token,model"
        assert told(report["rows"]) == PAIRS
        first = report["rows"][0]
        assert list(first)[:4] == ["token_id", "token_name", "model_id", "model_name"]
        assert (first["token_id"], first["model_id"]) == (ids[first["token_name"]], first["model_name"])
        for place, by in enumerate(("token", "model")):
            singles = (await usage(service, f"by={by}&from=2027-01-15"))["rows"]
            for single in singles:
                own = [row for row in report["rows"] if row[f"{by}_id"] == single["id"]]
                for name in COUNTS:
                    assert sum(row[name] for row in own) == pytest.approx(single[name], abs=1e-6), place


async def test_it_is_the_same_before_and_after_it_is_on_disk_and_after_a_restart(tmp_path: Path) -> None:
    clock = TestClock()
    async with serve(tmp_path, clock=clock) as service:
        await traffic(service)
        before = await usage(service, "by=token,model&from=2027-01-15&interval=hour")
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        again = await usage(service, "by=token,model&from=2027-01-15&interval=hour")
        assert again["rows"] == before["rows"]
        service.simulator.add_api_key(upstream_key("a"), organization="a")
        await ask(service, SONNET, 1)
        assert told((await usage(service, "by=token,model&from=2027-01-15"))["rows"])["tests", SONNET] == 3


async def test_what_one_key_cost_yesterday_by_model(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        ids = await traffic(service)
        query = f"token={ids['ci']}&from=2027-01-15&to=2027-01-16"
        report = await usage(service, f"by=model&{query}&interval=hour")
        assert (report["by"], told(report["rows"])) == ("model", {(HAIKU,): 1})
        [row] = report["rows"]
        assert row["id"] == row["name"] == HAIKU and row["cost_usd"] > 0
        [bucket] = row["buckets"]
        assert (bucket["start"], bucket["cost_usd"]) == ("2027-01-15T08:00:00.000Z", row["cost_usd"])
        assert (await usage(service, f"by=account&{query}&model=claude-opus-5"))["rows"] == []


@pytest.mark.parametrize(
    ("by", "row"),
    [
        ("model,account", (HAIKU, "a")),
        ("account,token", ("a", "ci")),
        ("token, model", ("ci", HAIKU)),
    ],
)
async def test_any_two_in_the_order_that_is_asked_for(tmp_path: Path, by: str, row: tuple[str, ...]) -> None:
    async with serve(tmp_path) as service:
        await traffic(service)
        asked = by.replace(" ", "%20")
        assert row in told((await usage(service, f"by={asked}&from=2027-01-15"))["rows"])


async def test_csv_has_the_same_with_both_names(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await traffic(service)
        query = "by=token,model&from=2027-01-15"
        answer = await service.admin("GET", f"/api/admin/usage?{query}&format=csv")
        assert answer.header("content-disposition") == 'attachment; filename="usage-by-token-model.csv"'
        rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
        found = [(row["token_id"], row["model_name"], int(row["requests"])) for row in rows]
        json_rows = (await usage(service, query))["rows"]
        assert found == [(row["token_id"], row["model_name"], row["requests"]) for row in json_rows]


@pytest.mark.parametrize("by", ["token,token", "token,", ",", "token,user", "account,token,model"])
async def test_what_is_no_pair_is_422(tmp_path: Path, by: str) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("GET", f"/api/admin/usage?by={by}")
        assert (answer.status, "by: one of" in answer.json()["error"]["message"]) == (422, True)


async def test_days_are_summed_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = TestClock()
    async with serve(tmp_path, clock=clock) as service:
        await traffic(service)
    async with serve(tmp_path, accounts=[], clock=clock) as service:  # all is on disk, two lines a day
        monkeypatch.setattr(breakdown, "MOST_LINES", 2)
        rows = (await usage(service, "by=token,model&from=2027-01-15"))["rows"]
        assert told(rows) == PAIRS


@pytest.mark.parametrize(("bound", "most"), [("MOST_LINES", 1), ("MOST_IN_ALL", 2), ("MOST_ROWS", 2)])
async def test_too_much_at_once_is_422_but_one_key_alone_is_answered(
    tmp_path: Path, bound: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = TestClock()
    async with serve(tmp_path, clock=clock) as service:
        ids = await traffic(service)
    async with serve(tmp_path, accounts=[], clock=clock) as service:  # all is on disk
        monkeypatch.setattr(breakdown, bound, most)
        answer = await service.admin("GET", "/api/admin/usage?by=token,model&from=2027-01-15")
        assert (answer.status, "choose" in answer.json()["error"]["message"]) == (422, True)
        query = f"by=token,model&from=2027-01-15&token={ids['ci']}"
        assert len((await usage(service, query))["rows"]) == 2
