"""What tokens cost."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.usage.meter import Usage
from proxy.usage.prices import cost_usd, highest_rates

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
MILLION = 1_000_000

# USD per million tokens: input, output, written to the cache for 5 minutes, for an hour, read from the cache
# (platform.claude.com/docs/en/about-claude/pricing, 2026-11-22).
LISTED = {
    "claude-fable-5-2": (8, 40, 10, 16, 0.2),
    "claude-mythos-5-2": (8, 40, 10, 16, 0.2),
    "claude-fable-5-1": (10, 50, 12.5, 20, 0.25),
    "claude-mythos-5-1": (10, 50, 12.5, 20, 0.25),
    "claude-fable-5": (10, 50, 12.5, 20, 1),
    "claude-mythos-5": (10, 50, 12.5, 20, 1),
    "claude-opus-5-5": (4, 20, 5, 8, 0.2),
    "claude-opus-5": (5, 25, 6.25, 10, 0.5),
    "claude-opus-4-8": (5, 25, 6.25, 10, 0.5),
    "claude-opus-4-7": (5, 25, 6.25, 10, 0.5),
    "claude-opus-4-6": (5, 25, 6.25, 10, 0.5),
    "claude-opus-4-5": (5, 25, 6.25, 10, 0.5),
    "claude-opus-4-1": (15, 75, 18.75, 30, 1.5),
    "claude-opus-4-20250514": (15, 75, 18.75, 30, 1.5),
    "claude-sonnet-5-5": (2, 10, 2.5, 4, 0.1),
    "claude-sonnet-5": (2, 10, 2.5, 4, 0.2),
    "claude-sonnet-4-6": (3, 15, 3.75, 6, 0.3),
    "claude-sonnet-4-5": (3, 15, 3.75, 6, 0.3),
    "claude-haiku-5-5": (0.1, 0.5, 0.125, 0.2, 0.01),
    "claude-haiku-4-5": (1, 5, 1.25, 2, 0.1),
}
KINDS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_5m_tokens",
    "cache_creation_1h_tokens",
    "cache_read_tokens",
)


def usd(
    model: str = "claude-opus-5-5", at: float = NOW, *, batch: bool = False, **usage: object
) -> float | None:
    return cost_usd(Usage(model, **usage), at=at, batch=batch)  # type: ignore[arg-type]


def day(year: int, month: int, day: int) -> float:
    return datetime(year, month, day, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", LISTED)
def test_the_list_price_of_every_model_is_known(model: str, kind: str) -> None:
    expected = LISTED[model][KINDS.index(kind)] * 1000 / MILLION
    assert usd(model, **{kind: 1000}) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "claude-opus-5-5-20261021",
        "claude-opus-5-5-latest",
        "claude-mythos-5-20260601",
        "claude-mythos-5-1-20260819",
    ],
)
def test_a_name_with_a_date_is_the_same_model(name: str) -> None:
    assert usd(name, output_tokens=10) == usd(name.rpartition("-")[0], output_tokens=10)


@pytest.mark.parametrize(
    "model", ["", "gpt-5", "claude-opus-99", "claude", "claude-mythos-preview", "c" * 10**6]
)
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert usd(model, input_tokens=1) is None
    assert highest_rates(model, NOW) is None


@pytest.mark.parametrize(("long", "factor"), [(100_000, 1), (100_001, 5)])
def test_haiku_5_5_costs_five_times_as_much_for_a_prompt_over_100k(long: int, factor: int) -> None:
    rest = {
        "cache_creation_5m_tokens": 10_000,
        "cache_creation_1h_tokens": 20_000,
        "cache_read_tokens": 30_000,
    }
    expected = (long - 60_000) * 0.1 + 10_000 * 0.125 + 20_000 * 0.2 + 30_000 * 0.01 + 7 * 0.5
    cost = usd("claude-haiku-5-5", input_tokens=long - 60_000, output_tokens=7, **rest)
    assert cost == pytest.approx(factor * expected / MILLION)


def test_the_answers_length_is_no_part_of_the_prompts() -> None:
    assert usd("claude-haiku-5-5", input_tokens=60_000, output_tokens=60_000) == pytest.approx(0.036)


def test_sonnet_5_5_read_from_the_cache_for_twice_as_much_until_october_2026() -> None:
    change = day(2026, 10, 7)
    reads = {"cache_read_tokens": MILLION}
    assert usd("claude-sonnet-5-5", change - 1, **reads) == pytest.approx(0.2)
    assert usd("claude-sonnet-5-5", change, **reads) == pytest.approx(0.1)
    assert usd("claude-sonnet-5-5", change - 1, batch=True, **reads) == pytest.approx(0.1)


def test_long_prompts_cost_more_until_march_2026() -> None:
    change = day(2026, 3, 13)
    assert usd("claude-sonnet-4-6", change - 1, input_tokens=MILLION) == pytest.approx(6)
    assert usd("claude-sonnet-4-6", change, input_tokens=MILLION) == pytest.approx(3)


@pytest.mark.parametrize("at", [NOW, day(2026, 9, 1)])
@pytest.mark.parametrize("model", LISTED)
def test_a_batch_costs_half(model: str, at: float) -> None:
    counts = dict.fromkeys(KINDS, 1000)
    whole = usd(model, at, **counts)
    assert whole is not None
    assert usd(model, at, batch=True, **counts) == pytest.approx(whole / 2)
    assert usd(model, at, service_tier="batch", **counts) == pytest.approx(whole / 2)


@pytest.mark.parametrize("model", ["claude-fable-5-2", "claude-opus-5-5", "claude-opus-5", "claude-opus-4-8"])
def test_fast_costs_twice_as_much(model: str) -> None:
    counts = dict.fromkeys(KINDS, 1000)
    whole = usd(model, **counts)
    assert whole is not None
    assert usd(model, speed="fast", **counts) == pytest.approx(2 * whole)
    assert usd(model, speed="standard", **counts) == whole


def test_inference_in_the_us_costs_a_tenth_more() -> None:
    counts = dict.fromkeys(KINDS, 1000)
    whole = usd(**counts)
    assert whole is not None
    assert usd(inference_geo="us", **counts) == pytest.approx(1.1 * whole)
    assert usd(inference_geo="global", **counts) == whole
    assert usd(inference_geo="us", speed="fast", **counts) == pytest.approx(2.2 * whole)


def test_web_searches_cost_ten_dollars_a_thousand_however_they_are_asked_for() -> None:
    assert usd(web_search_requests=3) == pytest.approx(0.03)
    assert usd(web_search_requests=3, batch=True, inference_geo="us", speed="fast") == pytest.approx(0.03)


def test_each_iteration_costs_what_its_own_model_does() -> None:
    iterations = (Usage("claude-haiku-4-5", 1000, 10), Usage("claude-fable-5-1", 200, 30))
    cost = usd(input_tokens=1000, output_tokens=10, web_search_requests=1, iterations=iterations)
    assert cost == pytest.approx((1000 * 1 + 10 * 5 + 200 * 10 + 30 * 50) / MILLION + 0.01)


def test_an_iteration_of_an_unknown_model_leaves_the_whole_without_a_price() -> None:
    assert usd(input_tokens=1, iterations=(Usage("claude-opus-5-5", 1), Usage("claude-opus-99", 1))) is None


@pytest.mark.parametrize(
    ("model", "rates"),
    [
        ("claude-opus-5-5", (8 * 1.1, 20 * 1.1)),
        ("claude-haiku-5-5", (1 * 1.1, 2.5 * 1.1)),
        ("claude-mythos-5", (20 * 1.1, 50 * 1.1)),
        ("claude-sonnet-4-5", (12 * 1.1, 22.5 * 1.1)),
    ],
)
def test_the_highest_rates_are_the_dearest_that_can_come(model: str, rates: tuple[float, float]) -> None:
    highest = highest_rates(model, NOW)
    assert highest is not None
    assert [rate * MILLION for rate in highest] == pytest.approx(rates)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("model", LISTED)
def test_nothing_costs_more_than_the_highest_rates(model: str, fast: bool) -> None:
    highest = highest_rates(model, NOW, fast=fast)
    assert highest is not None
    for kind in KINDS:
        for tokens in (1000, MILLION):
            cost = usd(model, inference_geo="us", speed="fast" if fast else None, **{kind: tokens})
            assert cost is not None
            assert cost <= tokens * highest[kind == "output_tokens"] * (1 + 1e-12)


def test_the_table_is_read_when_it_is_wanted_and_no_network_ever() -> None:
    program = """
import sys
touched = []
sys.addaudithook(lambda event, args: touched.append(event) if event.startswith("socket.") else None)
from proxy.usage import prices
from proxy.usage.meter import Usage
assert "genai_prices" not in sys.modules
prices.load()
assert "genai_prices" in sys.modules
assert prices.cost_usd(Usage("claude-opus-5-5", 1000), at=0) == 0.004
assert prices.highest_rates("claude-opus-99", 0) is None
import threading
assert threading.active_count() == 1
assert touched == [], touched
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=ROOT)  # noqa: S603 our own
