"""Who used what: as JSON and CSV, by account, client key and model, to the token, also after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gzip
import io
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from proxy.simulator import Amend, Cut, Error, Grant, quota_429
from proxy.usage import prices
from proxy.usage.meter import Usage
from tests import wire
from tests.service import (
    CLIENT_KEY,
    MESSAGE,
    MESSAGE_HEADERS,
    Service,
    TestClock,
    message,
    serve,
    upstream_key,
)

OTHER_KEY = "cp-another-client-key-of-tests-9pLk"
MODEL = str(MESSAGE["model"])
MINUTE, HOUR, DAY = 60, 3600, 86_400
START = TestClock().now()  # 2027-01-15T08:00:00Z
BY = ("account", "token", "model")
TOKENS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
COLUMNS = [
    "id", "name", "requests", "errors", "aborted", "rate_limited", *TOKENS,
    "cost_usd", "unpriced_requests", "estimated_requests", "turns_stayed", "turns_moved", "cache_read_share",
]  # fmt: skip
LONG_PROMPT = "All that is told here is told again and again. " * 40


async def usage(service: Service, query: str = "") -> dict[str, Any]:
    answer = await service.admin("GET", f"/api/admin/usage{query}")
    assert answer.status == 200, answer.body
    return dict(answer.json())


async def refused(service: Service, query: str) -> str:
    """What an admin is told of a query that makes no sense."""
    answer = await service.admin("GET", f"/api/admin/usage{query}")
    assert (answer.status, answer.json()["error"]["type"]) == (422, "invalid_request_error")
    return str(answer.json()["error"]["message"])


async def table(service: Service, query: str) -> list[dict[str, str]]:
    """The CSV, read as RFC 4180 says."""
    answer = await service.admin("GET", f"/api/admin/usage{query}&format=csv")
    assert (answer.status, answer.header("content-type")) == (200, "text/csv; charset=utf-8")
    text = answer.body.decode()
    assert text.endswith("\r\n") and text.count("\n") == text.count("\r\n")
    head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert all(len(row) == len(head) for row in rows)
    return [dict(zip(head, row, strict=True)) for row in rows]


def id_of(service: Service, name: str) -> str:
    return next(account.id for account in service.parts.pool if account.name == name)


def at(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


# ---- mixed traffic, as the clients saw it


@dataclass
class Seen:
    """What came to one account, client key or model, by the clients' own reading of their answers."""

    requests: int = 0
    errors: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    cost_usd: float = 0.0

    def count(self, usage: dict[str, Any] | None, cost_usd: float) -> None:
        self.requests += 1
        self.errors += usage is None
        self.cost_usd += cost_usd
        for name in TOKENS:
            self.tokens[name] += (usage or {}).get(name) or 0


TOOL = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
CACHED = [{"type": "text", "text": LONG_PROMPT, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
REFUSED: list[dict[str, Any]] = [{"model": "no-such-model"}, {"messages": []}]
REQUESTS: list[dict[str, Any]] = [
    {},
    {"model": "claude-haiku-5-5"},
    {"system": CACHED},
    {"system": CACHED, "cache_control": {"type": "ephemeral"}},
    {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048},
    {"tools": [TOOL], "tool_choice": {"type": "any"}},
    {"tools": [SEARCH], "messages": [{"role": "user", "content": "web_search the news"}]},
    {"model": "claude-opus-5-5", "inference_geo": "us"},
    *REFUSED,
]
WAYS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, []),
    ({}, [("accept-encoding", "gzip")]),
    ({"stream": True}, []),
    ({"stream": True}, [("x-simulate-encoding", "gzip")]),
]


def read(answer: wire.Answer) -> dict[str, Any] | None:
    """The message's final usage as an SDK has it; None where the answer is an error."""
    body = answer.body if answer.header("content-encoding") is None else gzip.decompress(answer.body)
    if answer.status != 200:
        return None
    if not answer.header("content-type").startswith("text/event-stream"):
        return dict(json.loads(body)["usage"])
    final: dict[str, Any] = {}
    for event in body.decode().split("\n\n")[:-1]:
        data = json.loads(event.partition("data: ")[2])
        said = data["message"]["usage"] if data["type"] == "message_start" else data.get("usage") or {}
        final |= {name: value for name, value in said.items() if value is not None}
    return final


def price(usage: dict[str, Any], model: str, now: float) -> float:
    created = usage.get("cache_creation") or {}
    hour = created.get("ephemeral_1h_input_tokens", 0)
    counted = Usage(
        model,
        usage["input_tokens"],
        usage["output_tokens"],
        (usage.get("cache_creation_input_tokens") or 0) - hour,
        hour,
        usage.get("cache_read_input_tokens") or 0,
        usage["server_tool_use"]["web_search_requests"],
        usage.get("service_tier"),
        usage.get("inference_geo"),
    )
    return prices.cost_usd(counted, at=now) or 0.0


class Clients:
    """Two clients that send everything there is, and keep their own books."""

    def __init__(self, service: Service, rng: random.Random) -> None:
        self._service = service
        self._rng = rng
        self.books: dict[str, dict[str | None, Seen]] = {by: defaultdict(Seen) for by in BY}

    async def work(self, requests: int) -> None:
        """So many requests, up to eight at a time."""
        for _ in range(0, requests, 8):
            await asyncio.gather(*(self._ask() for _ in range(8)))
            self._service.clock.advance(self._rng.uniform(0, 200))

    async def _ask(self) -> None:
        service, rng = self._service, self._rng
        key = rng.choice([CLIENT_KEY, OTHER_KEY])
        (more, headers), wanted = rng.choice(WAYS), rng.choice(REQUESTS)
        body = message(**wanted | more)
        answer = await service.send("POST", "/v1/messages", [*MESSAGE_HEADERS, *headers], body, key=key)
        found = read(answer)
        assert (found is None) == (wanted in REFUSED), answer.body
        model = json.loads(body)["model"]
        cost = 0.0 if found is None else price(found, model, service.clock.now())
        token = service.parts.keys.accept([key])
        assert token is not None
        account = id_of(service, str(answer.header("x-proxy-account")))
        for by, id in (("account", account), ("token", token.id), ("model", model)):
            self.books[by][id].count(found, cost)


def agree(rows: Iterable[dict[str, Any]], seen: dict[str | None, Seen]) -> None:
    """To the token, and to what a cost is rounded to."""
    found = {row["id"]: row for row in rows}
    assert found.keys() == seen.keys()
    for id, mine in seen.items():
        row = found[id]
        assert (row["requests"], row["errors"]) == (mine.requests, mine.errors)
        assert {name: row[name] for name in TOKENS} == dict(mine.tokens)
        assert row["cost_usd"] == pytest.approx(mine.cost_usd, abs=1e-6)
        asked = sum(mine.tokens.values()) - mine.tokens["output_tokens"]
        read = mine.tokens["cache_read_input_tokens"]
        assert row["cache_read_share"] == (pytest.approx(read / asked, abs=1e-6) if asked else None)


def agree_in_csv(rows: Iterable[dict[str, Any]], cells: Iterable[dict[str, str]]) -> None:
    """Every number of JSON is in the CSV, and no other."""
    for row, cell in zip(rows, cells, strict=True):
        found: dict[str, Any] = {
            name: float(text) if text and name in COLUMNS[2:] else text or None for name, text in cell.items()
        }
        assert list(found) == [name for name in row if name != "buckets"]
        assert found == {name: row[name] for name in found}


@contextlib.asynccontextmanager
async def mixed(folder: Path, clock: TestClock, seed: int) -> AsyncIterator[tuple[Service, Clients, Grant]]:
    """A proxy whose accounts fail now and then, after much traffic of all kinds."""
    async with serve(folder, accounts=["a", "b"], clock=clock) as service:
        _, grant = await service.add_login("login")
        await service.parts.keys.add("other", OTHER_KEY)
        rng = random.Random(seed)
        clients = Clients(service, rng)
        for _ in range(3):
            service.simulator.script(upstream_key("a"), Error(529), Error(500))
            service.simulator.script(upstream_key("b"), Error(403), Error(503))
            service.simulator.script(grant, quota_429(reset_in=30))
            await clients.work(24)
        yield service, clients, grant


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_json_csv_statistics_clients_and_upstream_agree_to_the_token(tmp_path: Path, seed: int) -> None:
    clock = TestClock()
    async with mixed(tmp_path, clock, seed) as (service, clients, grant):
        statistics = (await service.admin("GET", "/api/admin/statistics")).json()["since_start"]
        assert all(statistics[name] for name in ("requests", "errors", *TOKENS, "cost_usd"))
        for by in BY:
            report = await usage(service, f"?by={by}")
            agree(report["rows"], clients.books[by])
            agree_in_csv(report["rows"], await table(service, f"?by={by}"))
            sums = {name: sum(row[name] for row in report["rows"]) for name in COLUMNS[2:-1]}
            assert sums == statistics | {"cost_usd": pytest.approx(statistics["cost_usd"], abs=1e-5)}
        by_account = {row["name"]: row for row in (await usage(service))["rows"]}
        for name, key in (("a", upstream_key("a")), ("b", upstream_key("b")), ("login", grant.access_token)):
            agree_with_upstream(service, by_account[name], key)
        before = {by: (await usage(service, f"?by={by}"))["rows"] for by in BY}
    async with serve(tmp_path, accounts=[], clock=clock) as service:
        for by in BY:
            agree((await usage(service, f"?by={by}"))["rows"], clients.books[by])
            after = (await usage(service, f"?by={by}"))["rows"]
            costs = {row["id"]: pytest.approx(row["cost_usd"], abs=1e-6) for row in before[by]}
            assert after == [row | {"cost_usd": costs[row["id"]]} for row in before[by]]


def agree_with_upstream(service: Service, row: dict[str, Any], credential: str) -> None:
    """With the simulator's ledger, and with what it counted for the account's own limits."""
    entries = [entry for entry in service.simulator.ledger.inference() if entry.organization == row["name"]]
    assert row["requests"] - row["errors"] == sum(entry.status == 200 for entry in entries)
    known = service.simulator.keyring.find(credential)
    assert known is not None
    # What is read from the cache does not count there.
    assert known.meter.total_tokens == sum(row[name] for name in TOKENS[:3])


async def test_a_whole_day_of_buckets_sums_up_to_the_row(tmp_path: Path) -> None:
    async with mixed(tmp_path, TestClock(), 4) as (service, _, _):
        for interval, span_s in (("minute", MINUTE), ("hour", HOUR), ("day", DAY)):
            query = f"?by=account&from={quote('2027-01-15T08:00:00Z')}&interval={interval}"
            report = await usage(service, query)
            cells = await table(service, query)
            agree_in_csv([row for each in report["rows"] for row in flat(each)], cells)
            for row in report["rows"]:
                starts = [at(bucket["start"]) for bucket in row["buckets"]]
                assert starts == sorted(set(starts)) and all(start % span_s == 0 for start in starts)
                for name in (*TOKENS, "requests", "errors"):
                    assert sum(bucket[name] for bucket in row["buckets"]) == row[name]


def flat(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row with buckets as the CSV has it: a line for each bucket."""
    return [{"id": row["id"], "name": row["name"], **bucket} for bucket in row["buckets"]]


# ---- one request


async def test_a_row_has_every_field(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        used = (await service.message()).json()["usage"]
        (row,) = (await usage(service))["rows"]
        assert list(row) == COLUMNS
        assert (row["id"], row["name"], row["requests"]) == (id_of(service, "a"), "a", 1)
        assert {name: row[name] for name in TOKENS} == {name: used[name] for name in TOKENS}
        (cells,) = await table(service, "?by=account")
        assert list(cells) == COLUMNS


async def test_an_answer_that_is_cut_is_estimated_and_marked(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Cut(after_events=4))
        with pytest.raises(wire.Cut):
            await service.message(stream=True)
        (row,) = (await usage(service, "?by=model"))["rows"]
        assert (row["requests"], row["errors"], row["aborted"], row["estimated_requests"]) == (1, 0, 1, 1)
        assert row["input_tokens"] > 0 and row["output_tokens"] > 0


async def test_counting_tokens_and_listing_models_is_no_use(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.send("POST", "/v1/messages/count_tokens", MESSAGE_HEADERS, message())
        await service.send("GET", "/v1/models")
        for by in BY:
            assert (await usage(service, f"?by={by}"))["rows"] == []
            assert await table(service, f"?by={by}") == []


@pytest.mark.parametrize("stream", [{}, {"stream": True, "stream_options": {"include_usage": True}}], ids=str)
async def test_completions_are_counted(tmp_path: Path, stream: dict[str, Any]) -> None:
    async with serve(tmp_path) as service:
        answer = await service.send("POST", "/v1/chat/completions", MESSAGE_HEADERS, message(**stream))
        assert answer.status == 200
        (row,) = (await usage(service, "?by=model"))["rows"]
    assert f'"prompt_tokens":{row["input_tokens"]},' in answer.body.decode().replace(" ", "")
    assert (row["id"], row["requests"], row["unpriced_requests"]) == (MODEL, 1, 0)
    known = Usage(MODEL, row["input_tokens"], row["output_tokens"])
    assert row["cost_usd"] == pytest.approx(prices.cost_usd(known, at=START), abs=1e-6) != 0


async def test_a_completion_that_tells_no_tokens_is_not_taken_for_free(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        body = message(stream=True)
        assert (await service.send("POST", "/v1/chat/completions", MESSAGE_HEADERS, body)).status == 200
        (row,) = (await usage(service, "?by=model"))["rows"]
        assert (row["requests"], row["unpriced_requests"], row["cost_usd"]) == (1, 1, None)


async def test_a_batch_is_counted_when_its_results_are_downloaded_and_only_once(tmp_path: Path) -> None:
    params = json.loads(message())
    body = {"requests": [{"custom_id": f"r{n}", "params": params} for n in range(20)]}
    async with serve(tmp_path) as service:
        made = await service.send("POST", "/v1/messages/batches", MESSAGE_HEADERS, json.dumps(body).encode())
        path = f"/v1/messages/batches/{made.json()['id']}"
        await service.send("GET", path, MESSAGE_HEADERS)
        assert (await usage(service))["rows"] == []
        for _ in range(2):
            results = await service.send("GET", f"{path}/results", MESSAGE_HEADERS)
        told = [json.loads(line)["result"]["message"]["usage"] for line in results.body.splitlines()]
        (row,) = (await usage(service, "?by=model"))["rows"]
        (account,) = (await usage(service, "?by=account"))["rows"]
    costs = [
        prices.cost_usd(Usage(MODEL, each["input_tokens"], each["output_tokens"]), at=START) for each in told
    ]
    assert (row["id"], row["requests"], row["unpriced_requests"]) == (MODEL, 1, 0)
    assert row["output_tokens"] == sum(each["output_tokens"] for each in told)
    assert row["cost_usd"] == pytest.approx(sum(cost or 0.0 for cost in costs) / 2, abs=1e-6) != 0
    assert account["name"] == results.header("x-proxy-account")


async def test_a_model_is_looked_for_by_the_very_name_that_a_client_gave_it(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(model=" odd "))
        (row,) = (await usage(service, "?by=model"))["rows"]
        assert row["id"] == " odd "
        assert (await usage(service, f"?by=model&model={quote(' odd ')}"))["rows"] == [row]
        assert (await usage(service, "?by=model&model=odd"))["rows"] == []


async def test_a_request_that_no_account_got_has_no_account(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        assert (await service.message()).status == 503
        (row,) = (await usage(service))["rows"]
        assert (row["id"], row["name"], row["errors"]) == (None, None, 1)
        (cells,) = await table(service, "?by=account")
        assert (cells["id"], cells["name"], cells["errors"]) == ("", "", "1")


async def test_what_is_deleted_is_shown_by_its_id(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        await service.message()
        account = id_of(service, "a")
        token = next(each for each in service.parts.keys if each.name == "tests")
        for by, path in (("account", f"/api/accounts/{account}"), ("token", f"/api/tokens/{token.id}")):
            (before,) = (await usage(service, f"?by={by}"))["rows"]
            assert before["name"] in ("a", "tests")
            assert (await service.admin("DELETE", path)).status == 200
            (after,) = (await usage(service, f"?by={by}"))["rows"]
            assert after == before | {"name": before["id"]}


async def test_what_is_renamed_is_shown_by_its_new_name(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        await service.admin("PUT", f"/api/accounts/{id_of(service, 'a')}", {"name": "new"})
        assert (await usage(service))["rows"][0]["name"] == "new"


# ---- from and to


@pytest.mark.parametrize(
    "text",
    [
        "2027-01-15T08:00:00Z",
        "2027-01-15T08:00:00.000Z",
        "2027-01-15T08:00:00.000000000Z",
        "2027-01-15t08:00:00z",
        "2027-01-15 08:00:00Z",
        "2027-01-15T08:00:00%2B00:00",
        "2027-01-15T09:00:00+01:00",
        "2027-01-15%2009:00:00+01:00",
        "2027-01-15T04:30:00-03:30",
        "2027-01-15T08:00:00-00:00",
        "2027-01-15T08:00:00",
        "2027-01-15T08:00",
    ],
)
async def test_a_time_may_be_written_in_every_way_of_rfc_3339(tmp_path: Path, text: str) -> None:
    async with serve(tmp_path) as service:
        service.clock.advance(90)
        report = await usage(service, f"?from={text.replace(' ', '%20')}")
        assert (report["from"], report["to"]) == ("2027-01-15T08:00:00.000Z", "2027-01-15T08:02:00.000Z")


async def test_a_date_alone_is_its_midnight_in_utc(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        report = await usage(service, "?from=2027-01-14&to=2027-01-15&interval=hour")
        assert (report["from"], report["to"]) == ("2027-01-14T00:00:00.000Z", "2027-01-15T00:00:00.000Z")


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("", "2027-01-14T08:00:00.000Z", "2027-01-15T08:15:00.000Z"),
        ("?interval=minute", "2027-01-15T07:00:00.000Z", "2027-01-15T08:01:00.000Z"),
        ("?interval=hour", "2027-01-14T08:00:00.000Z", "2027-01-15T09:00:00.000Z"),
        ("?interval=day", "2026-12-16T00:00:00.000Z", "2027-01-16T00:00:00.000Z"),
        ("?to=2027-01-15T07:30:00Z", "2027-01-14T07:30:00.000Z", "2027-01-15T07:30:00.000Z"),
        ("?from=&to=&by=&interval=&format=", "2027-01-14T08:00:00.000Z", "2027-01-15T08:15:00.000Z"),
    ],
)
async def test_without_times_it_is_a_span_that_suits_the_interval_up_to_now(
    tmp_path: Path, query: str, start: str, end: str
) -> None:
    async with serve(tmp_path) as service:
        service.clock.advance(1)
        report = await usage(service, query)
        assert (report["from"], report["to"], report["by"]) == (start, end, "account")


async def test_a_span_is_rounded_outwards_and_says_so(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()  # at 8:00:00
        service.clock.advance(3 * MINUTE)
        await service.message()
        service.clock.advance(10 * MINUTE)
        span = "?from=2027-01-15T08:00:59Z&to=2027-01-15T08:03:01Z"
        report = await usage(service, span)
        assert (report["from"], report["to"]) == ("2027-01-15T08:00:00.000Z", "2027-01-15T08:04:00.000Z")
        assert report["rows"][0]["requests"] == 2
        report = await usage(service, f"{span}&interval=minute")
        buckets = report["rows"][0]["buckets"]
        assert [bucket["start"] for bucket in buckets] == [
            "2027-01-15T08:00:00.000Z",
            "2027-01-15T08:03:00.000Z",
        ]
        assert list(buckets[0]) == ["start", *COLUMNS[2:]]
        report = await usage(service, "?from=2027-01-15T08:01:00Z&to=2027-01-15T08:03:00Z")
        assert report["rows"] == []


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?by=user", "by: one of account, token, model is needed"),
        ("?format=xml", "format: one of json, csv is needed"),
        ("?interval=week", "interval: one of minute, hour, day is needed"),
        ("?from=yesterday", "from: a time such as 2026-11-22T10:00:00Z is needed"),
        ("?to=2027-02-30T00:00:00Z", "to: a time such as"),
        ("?from=2027-01-15T08:00:00Q", "from: a time such as"),
        ("?from=1799990000", "from: a time such as"),
        ("?from=1799990000000", "from: a time such as"),
        ("?from=20270115", "from: a time such as"),
        ("?from=2027-W02-5", "from: a time such as"),
        ("?from=%D9%A2%D9%A0%D9%A2%D9%A7-01-15", "from: a time such as"),
        ("?from=2027-01-15T08:00:00%00Z", "from: a time such as"),
        ("?from=2027-01-15T07:00:00Z&to=2027-01-15T07:00:00Z", "from has to be before to"),
        ("?from=2027-01-15T07:00:00Z&to=2027-01-15T06:00:00Z", "from has to be before to"),
        ("?from=2027-01-16&to=2027-01-17", "from is in the future"),
        ("?from=1970-01-01T00:00:00Z", "usage is kept by minute for 2 hours"),
        ("?to=1970-01-01T00:00:00Z", "usage is kept by minute for 2 hours"),
        ("?from=0001-01-01T00:00:00%2B14:00", "usage is kept by minute for 2 hours"),
        ("?from=2027-01-15T05:00:00Z&interval=minute", "choose a later from, or a longer interval"),
    ],
)
async def test_what_makes_no_sense_is_422_and_says_why(tmp_path: Path, query: str, told: str) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        service.clock.advance(1)
        assert told in await refused(service, query)
        if "format" not in query:
            assert told in await refused(service, f"{query}&format=csv")


async def test_the_end_of_time_is_now(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        report = await usage(service, "?from=2027-01-15T08:00:00Z&to=9999-12-31T23:59:59-14:00")
        assert report["to"] == "2027-01-15T08:01:00.000Z" and report["rows"][0]["requests"] == 1


# ---- CSV

HOSTILE = [
    "=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(A1:A9)", "'=1", '"', '""', 'a"b', "a,b", ";", "a;b", "a\\", "'", "=",
    "שלום", "مرحبا بالعالم", "🙂🔥", "名前", "é" * 64, "NULL", "0x1", "1e9", "a  b", "|", "<script>", "%3D1", "\\n",
    "={1}", "=\"x\"", "@", "\uff1dcmd()", "\uff0b1", "\uff0d2", "\uff20SUM(A1)",
]  # fmt: skip
FORMULA_STARTS = (
    "=+-@\uff1d\uff0b\uff0d\uff20"  # also as full-width forms, which spreadsheets take for the same
)


def neutral(text: str) -> str:
    return f"'{text}" if text[0] in FORMULA_STARTS else text


async def test_hostile_names_are_no_formulas_and_can_be_read_back(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for number, name in enumerate(HOSTILE):
            key = f"cp-key-of-a-hostile-name-{number}"
            made = await service.admin("POST", "/api/tokens", {"name": name, "key": key})
            assert made.status == 201, made.body
            await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(), key=key)
        rows = (await usage(service, "?by=token"))["rows"]
        assert sorted(row["name"] for row in rows) == sorted(HOSTILE)
        cells = await table(service, "?by=token")
        assert [cell["name"] for cell in cells] == [neutral(row["name"]) for row in rows]
        assert [cell["id"] for cell in cells] == [row["id"] for row in rows]


async def test_a_models_name_is_the_upstreams_and_no_formula(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for model in ('=HYPERLINK("http://evil.example")', "\t=1", "\r\n=1", "a\r\nb", "\u202e=2", "+x,y"):
            service.simulator.script(None, Amend(set={"model": model}))
            await service.message()
        rows, cells = (await usage(service, "?by=model"))["rows"], await table(service, "?by=model")
        assert len(rows) == 6 and all(row["name"] == row["id"] for row in rows)
        for row, cell in zip(rows, cells, strict=True):
            assert cell["id"] == cell["name"] == neutral(row["id"])
            assert cell["id"].isprintable()


async def test_a_csv_is_a_file_to_save(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("GET", "/api/admin/usage?by=model&format=csv")
        assert answer.header("content-disposition") == 'attachment; filename="usage-by-model.csv"'
        assert answer.body.decode() == ",".join(COLUMNS) + "\r\n"
        answer = await service.admin("GET", "/api/admin/usage?interval=hour&format=csv")
        assert answer.body.decode() == ",".join([*COLUMNS[:2], "start", *COLUMNS[2:]]) + "\r\n"
