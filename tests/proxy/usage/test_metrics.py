"""What the sink of the metrics counts, and that no client can make it count by ever more names."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from prometheus_client import Metric

from proxy.usage import prices
from proxy.usage.meter import Usage
from proxy.usage.metrics import FAMILIES, LONGEST_MODEL, RequestMetrics, family_of
from proxy.usage.request import Attempt, Charge, RequestRecord


def record(
    model: str | None = "claude-sonnet-5-5", *, tries: Iterable[tuple[str, str]] = (("a", "hand_on"),)
) -> RequestRecord:
    """A request that was answered well, 0.4 s after its head, and ended after 3 s."""
    made = RequestRecord(10.0, model=model, status=200, first_byte_at=10.4, ended_at=13.0, complete=True)
    made.attempts = [Attempt(id, id.upper(), verdict=verdict) for id, verdict in tries]
    return made


def metrics(*records: RequestRecord) -> RequestMetrics:
    made = RequestMetrics({"a": "A", "b": "B"}.get)
    for each in records:
        made.count(each)
    return made


def rows(families: Iterable[Metric], name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by those of its labels."""
    samples = [each for family in families for each in family.samples if each.name == f"claude_proxy_{name}"]
    return {tuple(each.labels.values()): each.value for each in samples}


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("claude-opus-5-5", "opus"),
        ("claude-3-5-sonnet-20241022", "sonnet"),
        ("anthropic.claude-haiku-4-5-v1:0", "haiku"),
        ("Claude-Fable-5", "fable"),
        ("claude-2.1", "other"),
        ("gpt-opus", "other"),
        ("claude-opuscule", "other"),
        ("claude-opus" + "-" * LONGEST_MODEL, "other"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_model_counts_by_its_family(model: str | None, family: str) -> None:
    assert family_of(model) == family


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_models_with_a_price(family: str) -> None:
    usage = [Usage(f"claude-{family}-{version}", 1) for version in ("4-5", "5", "5-2", "5-5")]
    assert any(prices.cost_usd(each, at=1_795_000_000.0) for each in usage)


def test_a_request_counts_for_the_account_that_was_asked_last_and_each_try_for_its_own() -> None:
    found = list(metrics(record(tries=[("a", "retry"), ("b", "hand_on")]), record()).collect())
    assert rows(found, "requests_total") == {("A", "sonnet", "ok"): 1, ("B", "sonnet", "ok"): 1}
    tries = {("A", "hand_on"): 1, ("A", "retry"): 1, ("B", "hand_on"): 1}
    assert rows(found, "tries_total") == tries


def test_a_request_that_asked_nobody_has_no_account_and_no_time() -> None:
    refused = record(None, tries=())
    refused.status = 401
    found = list(metrics(refused).collect())
    assert rows(found, "requests_total") == {("", "", "refused"): 1}
    assert rows(found, "request_duration_seconds_count") == {}


@pytest.mark.parametrize(
    ("verdict", "told"), [("", "cut"), ("UpstreamSilent", "silent"), ("bench_then_next", "bench_then_next")]
)
def test_a_try_is_told_by_what_it_came_to(verdict: str, told: str) -> None:
    found = list(metrics(record(tries=[("a", verdict)])).collect())
    assert rows(found, "tries_total") == {("A", told): 1}


def test_tokens_and_cost_count_for_the_model_that_used_them() -> None:
    made = record("claude-opus-5-5")
    made.charges = (
        Charge(Usage("claude-opus-5-5", 10, 20, 30, 40, 50), 0.5),
        Charge(Usage("claude-haiku-4-5", 1, 2), 0.25),
        Charge(Usage("claude-unheard-of", 7, 8), None),
    )
    found = list(metrics(made, made).collect())
    assert rows(found, "tokens_total") == {
        ("A", "haiku", "input"): 2, ("A", "haiku", "output"): 4,
        ("A", "opus", "cache_read"): 100, ("A", "opus", "cache_write"): 140,
        ("A", "opus", "input"): 20, ("A", "opus", "output"): 40,
        ("A", "other", "input"): 14, ("A", "other", "output"): 16,
    }  # fmt: skip
    assert rows(found, "cost_usd_total") == {("A", "opus"): 1.0, ("A", "haiku"): 0.5}
    assert rows(found, "unpriced_total") == {(): 2}


def test_times_are_counted_by_family_and_the_first_byte_only_of_what_is_no_error() -> None:
    failed = record()
    failed.status = 529
    found = list(metrics(record(), failed).collect())
    first, whole = "time_to_first_byte_seconds", "request_duration_seconds"
    assert rows(found, f"{first}_count") == {("sonnet",): 1} and rows(found, f"{whole}_count") == {
        ("sonnet",): 2
    }
    assert rows(found, f"{whole}_sum") == {("sonnet",): 6.0}
    buckets = rows(found, f"{first}_bucket")
    assert (buckets["sonnet", "0.25"], buckets["sonnet", "0.5"], buckets["sonnet", "+Inf"]) == (0, 1, 1)


def test_accounts_that_are_gone_are_one_together() -> None:
    found = list(metrics(record(tries=[("c", "hand_on")]), record(tries=[("d", "hand_on")])).collect())
    assert rows(found, "requests_total") == {("(deleted)", "sonnet", "ok"): 2}


def test_ten_thousand_names_of_models_make_no_more_series_than_there_are_families() -> None:
    made = metrics()
    for number in range(10_000):
        each = record(f"claude-{number}" if number % 2 else f"claude-opus-{number}")
        each.charges = (Charge(Usage(f"claude-{number}-haiku", 1, 1), None),)
        made.count(each)
    found = list(made.collect())
    assert rows(found, "requests_total") == {("A", "opus", "ok"): 5000, ("A", "other", "ok"): 5000}
    assert sum(len(family.samples) for family in found) < 100
