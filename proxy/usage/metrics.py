"""Counts requests for Prometheus: a sink that adds to plain numbers, and a collector that reads them at a scrape.

Clients choose the models' names and admins the accounts: the former are counted by family, of which there are few.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final, TypeAlias

from prometheus_client.registry import Collector

from proxy.histogram import Histogram
from proxy.usage.families import Family, Row, counter, histogram
from proxy.usage.request import Charge, RequestRecord

FAMILIES: Final = ("fable", "haiku", "mythos", "opus", "sonnet")
OTHER: Final = "other"
NO_MODEL: Final = ""
"""The family of a request that names no model. To Prometheus an empty label is one that is not there."""

DELETED: Final = "(deleted)"
"""Stands for the name of each account that is gone."""

SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Bounds of the histograms of time: a message begins after 0.5 to 20 s, and takes up to an hour."""

LONGEST_MODEL: Final = 128
"""Characters of a name that are looked at: clients may write anything, and what was looked up is kept."""

KINDS: Final = ("input", "output", "cache_read", "cache_write")
VERDICTS: Final = {
    "": "cut",
    "UpstreamUnreachable": "unreachable",
    "UpstreamLost": "lost",
    "UpstreamSilent": "silent",
    "UpstreamGarbled": "garbled",
    "UpstreamError": "failed",
}
"""What tries without an answer are called; one with an answer has its `Action`."""

_FAMILY = re.compile(rf"\bclaude\b.*\b({'|'.join(FAMILIES)})\b", re.IGNORECASE)

NameOf: TypeAlias = Callable[[str], str | None]
"""The name of an account by its id; None if it was deleted."""


def family_of(model: str | None) -> str:
    """The family of a model: one of FAMILIES, OTHER or NO_MODEL."""
    if not model:
        return NO_MODEL
    return _family(model) if len(model) <= LONGEST_MODEL else OTHER


@lru_cache(maxsize=1024)
def _family(model: str) -> str:
    found = _FAMILY.search(model)
    return OTHER if found is None else found[1].lower()


class Times:
    """How long the requests of one model family took, in seconds."""

    __slots__ = ("first_byte", "whole")

    def __init__(self) -> None:
        self.first_byte = Histogram(SECONDS)
        self.whole = Histogram(SECONDS)


class RequestMetrics(Collector):
    """What became of requests, by account and model family, since the start."""

    def __init__(self, name_of: NameOf) -> None:
        self._name_of = name_of
        self._requests: defaultdict[tuple[str | None, str, str], int] = defaultdict(int)
        self._tries: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._tokens: defaultdict[tuple[str | None, str, str], int] = defaultdict(int)
        self._cost_usd: defaultdict[tuple[str | None, str], float] = defaultdict(float)
        self._times: defaultdict[str, Times] = defaultdict(Times)
        self._unpriced = 0

    def count(self, record: RequestRecord) -> None:
        """Count an ended request: a sink, on the path of each."""
        attempts, model = record.attempts, record.model
        family = family_of(model)
        account_id = None
        if attempts:
            account_id = attempts[-1].account_id
            for attempt in attempts:
                self._tries[attempt.account_id, attempt.verdict] += 1
            times = self._times[family]
            times.whole.observe(record.duration_s)
            if record.first_byte_at is not None and record.status < 400:
                times.first_byte.observe(record.first_byte_at - record.began_at)
        self._requests[account_id, family, record.outcome] += 1
        for charge in record.charges:
            used = charge.usage.model
            self._charge(account_id, family if used == model else family_of(used), charge)

    def _charge(self, account_id: str | None, family: str, charge: Charge) -> None:
        tokens, usage = self._tokens, charge.usage
        tokens[account_id, family, "input"] += usage.input_tokens
        tokens[account_id, family, "output"] += usage.output_tokens
        if usage.cache_read_tokens:
            tokens[account_id, family, "cache_read"] += usage.cache_read_tokens
        if written := usage.cache_creation_tokens:
            tokens[account_id, family, "cache_write"] += written
        if charge.cost_usd is None:
            self._unpriced += 1
        else:
            self._cost_usd[account_id, family] += charge.cost_usd

    # at a scrape

    def collect(self) -> Iterator[Family]:
        """All of it in Prometheus' terms. Accounts go by their present names."""
        of_both, tries = ("account", "family"), self._tries.items()
        yield counter(
            "requests",
            "Requests that have ended.",
            (*of_both, "outcome"),
            self._named(self._requests.items()),
        )
        asked = (((id, VERDICTS.get(verdict, verdict)), count) for (id, verdict), count in tries)
        yield counter("tries", "Requests to the upstream.", ("account", "verdict"), self._named(asked))
        yield counter(
            "tokens", "Tokens that were used.", (*of_both, "kind"), self._named(self._tokens.items())
        )
        cost = "Cost at list prices, in US dollars."
        yield counter("cost_usd", cost, of_both, self._named(self._cost_usd.items()))
        unpriced = (
            "Uses of models without a known price, or that told no tokens: what they cost is not in cost_usd."
        )
        yield counter("unpriced", unpriced, (), [((), self._unpriced)])
        yield from self._histograms()

    def _histograms(self) -> Iterator[Family]:
        times = [((family,), each) for family, each in sorted(self._times.items())]
        first_byte = "From a request's head to that of its answer, if that is no error."
        rows = [(labels, each.first_byte) for labels, each in times]
        yield histogram("time_to_first_byte_seconds", first_byte, ("family",), rows)
        whole = "From a request's head to its end, of those that were sent to the upstream."
        rows = [(labels, each.whole) for labels, each in times]
        yield histogram("request_duration_seconds", whole, ("family",), rows)

    def _named(self, items: Iterable[tuple[tuple[str | None, *tuple[str, ...]], float]]) -> list[Row]:
        """The sums with the accounts' names in the place of their ids."""
        rows: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for (account_id, *labels), value in items:
            name = "" if account_id is None else self._name_of(account_id) or DELETED
            rows[name, *labels] += value
        return list(rows.items())
