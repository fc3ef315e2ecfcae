"""The counters of requests: their fields, their sums, and their format in a line of a usage log."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias, TypeVar

from proxy.storage.protocols import Record
from proxy.usage.request import RequestRecord

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counters of one request or of many. The first six are outcomes, of which each request has exactly one."""

    ok: int = 0
    client_error: int = 0  # a 4xx of the upstream's, handed on
    limited: int = 0  # 429
    upstream_error: int = 0  # 5xx, or no answer
    refused: int = 0  # by the proxy itself
    aborted: int = 0  # the client went, or the stream was cut
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_5m_tokens: int = 0
    cache_creation_1h_tokens: int = 0
    cache_read_tokens: int = 0
    web_search_requests: int = 0
    unpriced: int = 0  # requests that used a model without a price, or did not tell what they used
    estimated: int = 0  # requests settled by an estimate
    stayed: int = 0  # later turns of conversations, with the account of the turn before
    moved: int = 0  # later turns of conversations, with another account
    ttfb_ms: int = 0  # summed over the `ttfb_count` requests that had a first byte
    ttfb_count: int = 0
    duration_ms: int = 0  # summed over all requests
    cost_usd: float = 0.0

    @property
    def requests(self) -> int:
        return self.ok + self.errors + self.aborted

    @property
    def errors(self) -> int:
        """Requests that failed. Aborted ones do not count."""
        return self.client_error + self.limited + self.upstream_error + self.refused

    @property
    def cache_creation_tokens(self) -> int:
        return self.cache_creation_5m_tokens + self.cache_creation_1h_tokens

    @property
    def cache_read_share(self) -> float | None:
        """Of all input tokens, those that a prompt cache gave; None if there were none."""
        tokens = self.input_tokens + self.cache_creation_tokens + self.cache_read_tokens
        return round(self.cache_read_tokens / tokens, 6) if tokens else None

    @property
    def known_cost_usd(self) -> float | None:
        """The cost of all that has a price, in US dollars; None if nothing has one, which is not the same as zero."""
        return None if self.unpriced and not self.cost_usd else round(self.cost_usd, 6)

    def view(self) -> dict[str, Any]:
        """As an admin sees it."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "aborted": self.aborted,
            "rate_limited": self.limited,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_creation_input_tokens": self.cache_creation_tokens,
            "cache_read_input_tokens": self.cache_read_tokens,
            "cost_usd": self.known_cost_usd,
            "unpriced_requests": self.unpriced,
            "estimated_requests": self.estimated,
            "turns_stayed": self.stayed,
            "turns_moved": self.moved,
        }


Sums: TypeAlias = "array[float]"
"""The fields of Counts in their order, as a mutable array. It takes a quarter of the memory; exact up to 2**53."""

Amounts: TypeAlias = list[tuple[int, float]]
"""Amounts to add: pairs of the index in Sums and the amount."""

Ids: TypeAlias = tuple[str | None, str | None, str | None]
"""Account, client key, model; None if there is none."""

Key: TypeAlias = tuple[int, Ids]
"""The start of a span of time, in seconds since the epoch, and the ids of its requests."""

FIELDS: Final = tuple(field.name for field in fields(Counts))
OUTCOMES: Final = FIELDS.index("aborted") + 1  # the number of outcomes, which are the first fields
VERSION: Final = 1
SHORT: Final[Mapping[str, str]] = {
    "input_tokens": "in",
    "output_tokens": "out",
    "cache_creation_5m_tokens": "cache_5m",
    "cache_creation_1h_tokens": "cache_1h",
    "cache_read_tokens": "cache_read",
    "web_search_requests": "searches",
    "ttfb_count": "ttfb_n",
    "cost_usd": "usd",
}
"""Fields that have a shorter name in a line of a log."""

_PLACE_OF: Final[Mapping[str, int]] = {name: place for place, name in enumerate(FIELDS)}
_TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_creation_5m_tokens",
    "cache_creation_1h_tokens",
    "cache_read_tokens",
)
_NAMES: Final = tuple(SHORT.get(name, name) for name in FIELDS)
_PLACES: Final[Mapping[str, int]] = {name: place for place, name in enumerate(_NAMES)}
_COST: Final = FIELDS.index("cost_usd")
_ZEROS: Final = bytes(array("d").itemsize * len(FIELDS))
_values: Final[Callable[[Counts], tuple[float, ...]]] = operator.attrgetter(*FIELDS)


def amounts_of(counts: Counts | Sums) -> Amounts:
    values = _values(counts) if isinstance(counts, Counts) else counts
    return [(place, value) for place, value in enumerate(values) if value]


def amounts_by_model(record: RequestRecord) -> dict[str | None, Amounts]:
    """Amounts of an ended request by model: its outcome under the one that answered, or was asked for if none did.

    So requests stand beside what they have used. Tokens and cost of others, such as an advisor's, are under those.
    """
    usage = record.usage
    request = [
        (_PLACE_OF[record.outcome], 1.0),
        (_PLACE_OF["duration_ms"], float(round(record.duration_s * 1000))),
    ]
    if record.ttfb_s is not None:
        request += (_PLACE_OF["ttfb_ms"], float(round(record.ttfb_s * 1000))), (_PLACE_OF["ttfb_count"], 1.0)
    if record.stayed or record.moved is not None:
        request.append((_PLACE_OF["stayed" if record.stayed else "moved"], 1.0))
    if usage is None:
        return {record.model: request}
    if usage.web_search_requests:
        request.append((_PLACE_OF["web_search_requests"], usage.web_search_requests))
    if usage.estimated:
        request.append((_PLACE_OF["estimated"], 1))
    found: dict[str | None, Amounts] = {usage.model: request}
    for charge in record.charges:
        amounts = found.setdefault(charge.usage.model, [])
        amounts += [(_PLACE_OF[name], value) for name in _TOKENS if (value := getattr(charge.usage, name))]
        if charge.cost_usd:
            amounts.append((_COST, charge.cost_usd))
    if record.cost_usd is None:
        for model in {each.usage.model for each in record.charges if each.cost_usd is None} or {usage.model}:
            found[model].append((_PLACE_OF["unpriced"], 1))
    return found


def no_sums() -> Sums:
    return array("d", _ZEROS)


def add(sums: Sums, amounts: Amounts) -> None:
    for place, amount in amounts:
        sums[place] += amount


def plus(sums: Sums, others: Sums) -> Sums:
    return array("d", map(operator.add, sums, others))


def total(rows: Sequence[Sums]) -> Sums:
    """The sum of one row or more: of many, far sooner than by `plus`."""
    return rows[0] if len(rows) == 1 else array("d", map(sum, zip(*rows, strict=True)))


def counts_of(sums: Sums | None) -> Counts:
    """The sums as Counts; all zero for None."""
    if sums is None:
        return Counts()
    values: dict[str, Any] = {name: int(value) for name, value in zip(FIELDS, sums, strict=True)}
    return Counts(**values | {"cost_usd": sums[_COST]})


def add_up(rows: Iterable[tuple[A, Sums]], at: Callable[[A], B]) -> dict[B, Sums]:
    """Map the rows' keys with `at`, and add up the rows that get the same key."""
    added: dict[B, Sums] = {}
    for key, sums in rows:
        new_key = at(key)
        before = added.get(new_key)
        added[new_key] = sums[:] if before is None else plus(before, sums)
    return added


def to_line(key: Key, sums: Sums) -> Record:
    """`{"v": 1, "t": 1795341600, "account": "…", "token": "…", "model": "…", "ok": 1, "in": 12, "usd": 0.01}`

    Zero values are left out.
    """
    start, (account, token, model) = key
    values = {_NAMES[place]: amount if place == _COST else int(amount) for place, amount in amounts_of(sums)}
    return {"v": VERSION, "t": start, "account": account, "token": token, "model": model, **values}


def from_line(line: Record) -> tuple[Key, Sums] | None:
    """Parse a line. None if this program cannot have written it."""
    rest = dict(line)
    version, start = rest.pop("v", None), rest.pop("t", None)
    ids = (rest.pop("account", None), rest.pop("token", None), rest.pop("model", None))
    if (
        (type(version), version) != (int, VERSION)
        or type(start) is not int
        or not all(id is None or isinstance(id, str) for id in ids)
    ):
        return None
    sums = no_sums()
    for name, value in rest.items():
        place = _PLACES.get(name)
        if place is None or not _countable(value, place):
            return None
        sums[place] = value
    return (start, ids), sums


def _countable(value: object, place: int) -> bool:
    # The comparison is false for NaN.
    return (type(value) is int or (type(value) is float and place == _COST)) and 0 <= value <= 2**53
