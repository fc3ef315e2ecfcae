"""Counting what a message batch has used out of its results."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest

from proxy.http.target import parse
from proxy.usage import prices
from proxy.usage.batch_results import MOST_MODELS, BatchResults, price_results
from proxy.usage.body_lines import LONGEST_LINE
from proxy.usage.meter import Usage
from proxy.usage.request import Charge, RequestRecord
from tests.service import TestClock

SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"
NOW = TestClock().now()
RESULTS = parse("/v1/messages/batches/msgbatch_01A/results", allow_admin_paths=False)


def line(model: str = SONNET, content: str = "Hi", **usage: Any) -> bytes:
    told = {"input_tokens": 100, "output_tokens": 10, "service_tier": "batch"} | usage
    message = {"type": "message", "model": model, "content": [{"type": "text", "text": content}]}
    result = {"type": "succeeded", "message": message | {"usage": told}}
    return json.dumps({"custom_id": "r", "result": result}).encode() + b"\n"


def failed(type: str) -> bytes:
    return json.dumps({"custom_id": "r", "result": {"type": type}}).encode() + b"\n"


BOMB = gzip.compress(line() + line(content="x" * 2_000_000) * 2)


def downloaded(
    pieces: Iterable[bytes],
    *,
    complete: bool = True,
    status: int = 200,
    encoding: str = "",
    counted: set[str] | None = None,
) -> RequestRecord:
    """The record of a download that has ended, of a batch that is not among the `counted` ones yet."""
    counted = set() if counted is None else counted
    record = RequestRecord(0.0, method="GET", target=RESULTS, form="results", status=status)
    record.meter = BatchResults(encoding, status, NOW)
    for piece in pieces:
        record.meter.feed(piece)
    record.complete = complete
    price_results(record, counted.__contains__, counted.add)
    return record


def cost(*usages: Usage) -> float:
    costs = [prices.cost_usd(usage, at=NOW, batch=True) for usage in usages]
    return sum(each or 0.0 for each in costs)


def test_each_line_is_priced_as_of_a_batch_under_its_own_model() -> None:
    record = downloaded(
        [line(), line(HAIKU), line(), failed("errored"), failed("canceled"), failed("expired")]
    )
    assert [
        (each.usage.model, each.usage.input_tokens, each.usage.output_tokens) for each in record.charges
    ] == [
        (SONNET, 200, 20),
        (HAIKU, 100, 10),
    ]
    part = Usage(SONNET, 100, 10)
    assert record.cost_usd == pytest.approx(cost(part, part, Usage(HAIKU, 100, 10)))
    assert cost(part) == pytest.approx((prices.cost_usd(part, at=NOW) or 0.0) / 2)
    assert record.usage is not None
    assert (record.form, record.usage.model, record.usage.total) == ("results", SONNET, 330)


def test_the_length_of_a_prompt_is_that_of_one_line() -> None:
    half = Usage(HAIKU, 60_000, 10)
    record = downloaded([line(HAIKU, input_tokens=60_000)] * 4)
    assert record.cost_usd == pytest.approx(4 * cost(half))


def test_searches_are_counted_beside_the_tokens() -> None:
    record = downloaded([line(server_tool_use={"web_search_requests": 3})])
    assert record.usage is not None
    assert record.usage.web_search_requests == 3
    assert record.cost_usd == pytest.approx(cost(Usage(SONNET, 100, 10)) + 0.03)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_lines_may_be_cut_anywhere(encoding: str) -> None:
    whole = (line() + line(HAIKU)).rstrip(b"\n")
    body = gzip.compress(whole) if encoding else whole
    record = downloaded((body[at : at + 1] for at in range(len(body))), encoding=encoding)
    assert record.charges == downloaded([line(), line(HAIKU)]).charges


@pytest.mark.parametrize(
    "unread",
    [
        b"{not JSON}\n",
        b'{"custom_id":"r","result":{"type":"succeeded","message":{"model":"m"}}}\n',
        line(content="x" * LONGEST_LINE),
        line("claude-nobody-knows"),
    ],
    ids=["no JSON", "no usage", "too long", "no price"],
)
def test_what_cannot_be_priced_is_not_taken_for_nothing(unread: bytes) -> None:
    record = downloaded([line(), unread, line()])
    assert record.cost_usd is None
    costs = [each.cost_usd for each in record.charges]
    assert costs == [pytest.approx(2 * cost(Usage(SONNET, 100, 10))), None]


def test_of_more_models_than_are_told_apart_it_is_said_that_something_is_missing() -> None:
    record = downloaded(line(f"m{n}") for n in range(MOST_MODELS + 9))
    assert len(record.charges) == MOST_MODELS + 1
    assert record.cost_usd is None


@pytest.mark.parametrize(
    ("body", "encoding", "model"),
    [(line(), "aes128gcm", ""), (BOMB, "gzip", SONNET)],
    ids=["unknown", "bomb"],
)
def test_what_is_not_decoded_to_its_end_is_unpriced_and_can_be_counted_later(
    body: bytes, encoding: str, model: str
) -> None:
    counted: set[str] = set()
    for _ in range(2):
        record = downloaded([body], encoding=encoding, counted=counted)
        assert record.charges == (Charge(Usage(model), None),)
        assert (record.usage and record.usage.total, record.cost_usd) == (0, None)
    assert downloaded([line()], counted=counted).cost_usd is not None
    assert counted == {"msgbatch_01A"}


def test_what_was_decoded_and_cannot_be_read_is_counted_once() -> None:
    counted: set[str] = set()
    assert downloaded([line(), b"{not JSON}\n"], counted=counted).form == "results"
    assert counted == {"msgbatch_01A"}


def test_short_lines_that_compress_well_are_all_read() -> None:
    random = Random(1)
    lines = [line(content=random.randbytes(16).hex()) for _ in range(1000)]
    free = [json.dumps({"custom_id": f"request-{n}", "result": {"type": "expired"}}) for n in range(10_000)]
    body = gzip.compress("".join(f"{each}\n" for each in free).encode() + b"".join(lines))
    assert len(body) < 30 * 1000 + 6 * 10_000
    record = downloaded([body], encoding="gzip")
    assert [(each.usage.input_tokens, each.cost_usd) for each in record.charges] == [
        (100_000, pytest.approx(1000 * cost(Usage(SONNET, 100, 10))))
    ]


def test_a_compressed_batch_of_which_nothing_is_billed_is_not_counted() -> None:
    free = [json.dumps({"custom_id": f"request-{n}", "result": {"type": "canceled"}}) for n in range(5000)]
    body = gzip.compress("\n".join(free).encode())
    assert downloaded([body], encoding="gzip").form is None


@pytest.mark.parametrize(
    ("end", "whole"), [(b"", True), (line().rstrip(b"\n"), True), (b"\r", True), (line()[:40], False)]
)
def test_a_line_that_is_cut_is_not_the_end(end: bytes, whole: bool) -> None:
    meter = BatchResults("", 200, NOW)
    meter.feed(line() + end)
    assert meter.may_be_whole is whole


@pytest.mark.parametrize(
    "record",
    [
        downloaded([line()], complete=False),
        downloaded([line()], status=404),
        downloaded([line()], counted={"msgbatch_01A"}),
        downloaded([BOMB], encoding="gzip", counted={"msgbatch_01A"}),
        downloaded([failed("expired")]),
        downloaded([]),
    ],
    ids=["cut", "refused", "counted before", "not decoded, counted before", "nothing billed", "empty"],
)
def test_other_downloads_are_not_counted(record: RequestRecord) -> None:
    assert (record.form, record.usage, record.charges, record.cost_usd) == (None, None, (), None)


def test_a_large_batch_takes_no_memory() -> None:
    piece = line(content="word " * 2000) * 6
    downloaded([piece])
    tracemalloc.start()
    try:
        downloaded(piece for _ in range(300))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
