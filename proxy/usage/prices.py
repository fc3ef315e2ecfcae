"""List prices of tokens in US dollars, by date and by length of the prompt. Needs no network.

The prices come from the package genai-prices. The constants here are documented prices that it lacks, or has only
from some date on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from proxy.usage.meter import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

# platform.claude.com/docs/en/about-claude/pricing, as of 2026-11-22:
_BATCH = 0.5  # genai-prices has it from 2026-10-14 on, and not for every model
_US_ONLY = 1.1  # `inference_geo: us`, every kind of token
_WEB_SEARCH_USD = 0.01
# The same model and prices as Fable; genai-prices has only Mythos 5.2.
_MYTHOS = re.compile(r"claude-mythos-5(-1)?(-\d{8})?")
# Before that day Sonnet 5.5's cache reads were at the usual tenth of its input price.
_SONNET_5_5_READS_CUT = datetime(2026, 10, 7, tzinfo=UTC).timestamp()

_MAX_MODEL_CHARS = 128  # a client may write anything


@dataclass(frozen=True, slots=True)
class _Rates:
    """US dollars per million tokens."""

    input: float
    cache_creation_5m: float
    cache_creation_1h: float
    cache_read: float
    output: float


def cost_usd(usage: Usage, *, at: float, batch: bool = False) -> float | None:
    """The cost of `usage` at the list prices of `at`, in epoch seconds; None if a model has no known price."""
    cost = searches_usd(usage)
    for each in usage.billed:
        model = _model(each.model)
        if model is None:
            return None
        rates = _rates(model, at, prompt_tokens=each.prompt_tokens, fast=each.speed == "fast")
        tokens = (
            each.input_tokens * rates.input
            + each.cache_creation_5m_tokens * rates.cache_creation_5m
            + each.cache_creation_1h_tokens * rates.cache_creation_1h
            + each.cache_read_tokens * rates.cache_read
            + each.output_tokens * rates.output
        )
        if batch or each.service_tier == "batch":
            tokens *= _BATCH
        if each.inference_geo == "us":
            tokens *= _US_ONLY
        cost += tokens / 1e6
    return cost


def cold_usd(usage: Usage, *, at: float) -> float | None:
    """What `usage` cost more than it had if the cache had held what it wrote there; None if a price is not known."""
    written = usage.cache_creation_5m_tokens + usage.cache_creation_1h_tokens
    if not written:
        return 0.0
    read = usage.cache_read_tokens + written
    warm = replace(usage, cache_creation_5m_tokens=0, cache_creation_1h_tokens=0, cache_read_tokens=read)
    cost, warm_cost = cost_usd(usage, at=at), cost_usd(warm, at=at)
    return None if cost is None or warm_cost is None else cost - warm_cost


def searches_usd(usage: Usage) -> float:
    """What the web searches of a message cost, whatever its model."""
    return usage.web_search_requests * _WEB_SEARCH_USD


def highest_rates(model: str, at: float, *, fast: bool = False) -> tuple[float, float] | None:
    """The highest prices of one input token and one output token, in US dollars. None if no price is known.

    They assume the longest prompt, all of it written to the cache, and inference in the US, which may be the default
    of a workspace. `fast`: the request asks for `speed: fast`.
    """
    known = _model(model)
    if known is None:
        return None
    rates = _rates(known, at, prompt_tokens=1 << 40, fast=fast)
    dearest = max(rates.input, rates.cache_creation_5m, rates.cache_creation_1h)
    return dearest * _US_ONLY / 1e6, rates.output * _US_ONLY / 1e6


def load() -> None:
    """Load the price table, so that no request has to wait for it: 0.15 s and 16 MB."""
    _anthropic()


@cache
def _anthropic() -> Provider:
    from genai_prices.data import providers  # not before prices are wanted

    return next(provider for provider in providers if provider.id == "anthropic")


@lru_cache(maxsize=256)
def _model(name: str) -> ModelInfo | None:
    if len(name) > _MAX_MODEL_CHARS:
        return None
    if _MYTHOS.fullmatch(name):
        name = name.replace("mythos", "fable")
    return _anthropic().find_model(name.removesuffix("-latest"))


def _rates(model: ModelInfo, at: float, *, prompt_tokens: int, fast: bool) -> _Rates:
    minute = int(at // 60)
    tier = sum(prompt_tokens > start for start in _tier_starts(model.id, minute, fast))
    return _rates_of(model.id, minute, fast, tier)


@lru_cache(maxsize=256)
def _tier_starts(model_id: str, minute: int, fast: bool) -> tuple[int, ...]:
    """The prompt lengths, in tokens, above which a model's prices are others."""
    prices = _prices(model_id, minute, fast)
    named = (prices.input_mtok, prices.cache_read_mtok, prices.cache_write_mtok, prices.cache_write_1h_mtok)
    tiered = [
        price
        for price in (*named, prices.output_mtok)
        if price is not None and not isinstance(price, Decimal)
    ]
    return tuple(sorted({tier.start for price in tiered for tier in price.tiers}))


@lru_cache(maxsize=512)
def _rates_of(model_id: str, minute: int, fast: bool, tier: int) -> _Rates:
    """The rates of a model in a minute since the epoch, in the n-th tier of its prompt's length."""
    prices = _prices(model_id, minute, fast)
    prompt_tokens = ([0, *_tier_starts(model_id, minute, fast)])[tier] + 1
    base = _rate(prices.input_mtok, prompt_tokens)
    read = _rate(prices.cache_read_mtok, prompt_tokens, base)
    if model_id == "claude-sonnet-5-5" and minute * 60 < _SONNET_5_5_READS_CUT:
        read = base / 10
    return _Rates(
        input=base,
        cache_creation_5m=_rate(prices.cache_write_mtok, prompt_tokens, base),
        cache_creation_1h=_rate(prices.cache_write_1h_mtok, prompt_tokens, base),
        cache_read=read,
        output=_rate(prices.output_mtok, prompt_tokens),
    )


@lru_cache(maxsize=256)
def _prices(model_id: str, minute: int, fast: bool) -> ModelPrice:
    """The prices of a model in a minute since the epoch; each request asks for them, and they change by the day."""
    model = _anthropic().find_model(model_id)
    assert model is not None
    prices: ModelPrice = model.get_prices(
        datetime.fromtimestamp(minute * 60, UTC), {"speed": "fast"} if fast else None
    )
    return prices


def _rate(price: Decimal | TieredPrices | None, prompt_tokens: int, default: float = 0.0) -> float:
    """A tier's price is for every token of a request whose prompt is longer than the tier's start."""
    if price is None:
        return default
    if isinstance(price, Decimal):
        return float(price)
    reached = [tier.price for tier in price.tiers if prompt_tokens > tier.start]
    return float(reached[-1] if reached else price.base)
