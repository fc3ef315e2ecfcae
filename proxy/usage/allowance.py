"""Applies a key's limits to a request: checks its head, reserves when its body has arrived, settles at its end."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any

from proxy.clients.budgets import Budgets
from proxy.clients.keys import ClientKey
from proxy.clients.sessions import Place
from proxy.clients.shared import SharedLimits
from proxy.clients.shared_use import SharedUse
from proxy.clients.ticket import Ticket
from proxy.clock import Clock
from proxy.errors import Forbidden
from proxy.http.decoding import MAX_RATIO
from proxy.http.parts import MOST_MODELS
from proxy.http.peek import MOST_BYTES, MOST_MARKS, Peek
from proxy.usage import prices
from proxy.usage.meter import Usage
from proxy.usage.request import Charge, RequestRecord

BYTES_PER_TOKEN = 4
BYTES_PER_TOKEN_RESERVED = 2
"""A token of text is about four bytes, one of dense or non-Latin text about two. What a request brings that is not in
its body (files, URLs, results of server tools) cannot be known before it."""

MOST_PROMPT_TOKENS = 1_000_000
"""No model takes a longer prompt. Documents in a body may have far fewer tokens than their bytes would be."""

FALLBACK_USD_PER_MTOK = (5.0, 25.0)
"""Prices (input, output) that a budget assumes for a model without a known price, as Anthropic's own gateway does."""

DEFAULT_MAX_TOKENS = 4096
"""Assumed if a request names no `max_tokens`; the API rejects such a request."""


class Allowance:
    """Keeps each request within the limits of its key. The record holds what was reserved for it."""

    def __init__(self, budgets: Budgets, *, clock: Clock) -> None:
        self._budgets = budgets
        self._clock = clock

    def admit(self, record: RequestRecord) -> None:
        """Count a request against its key's limits, before its body is read. Raises Forbidden, RateLimited."""
        key, target = record.key, record.target
        assert key is not None and target is not None
        reads = record.method in ("GET", "HEAD")
        if key.is_restricted and not (reads or record.is_inference or target.free):
            raise Forbidden(
                "this key has a budget or a list of models, and what this route uses cannot be held to it",
                should_retry=False,
            )
        if counts(record):
            self._begin(record)
        elif record.form == "results":
            self._budgets.know(key.id)  # it is charged at the end, unless it is deleted by then

    def take(
        self, record: RequestRecord, place: Place, *, small: bool, here: bool
    ) -> Coroutine[Any, Any, None] | None:
        """Take a slot of the client. None if the request has it now, or needs none; else what to wait for, which
        raises RequestError. `small`: the body costs nothing to read first. `here`: it has come.
        """
        return None if place.take_now() else place.take()

    def reserve(self, record: RequestRecord, wanted: Peek) -> Coroutine[Any, Any, None] | None:
        """Check the models and reserve what an inference request may use. Raises Forbidden, RateLimited.

        None if that is done; else what to wait for, which raises RequestError.
        """
        key = record.key
        assert key is not None
        if not key.is_restricted:
            return None
        if wanted.size is None:
            raise Forbidden(
                "this key has a budget or a list of models, and the body of this request cannot be read: it has to be "
                f"JSON of at most {MOST_BYTES} bytes, {MOST_MARKS} of them brackets, commas, colons or quotes, as it "
                f"is or as gzip, deflate, br or zstd (at most {MAX_RATIO} times as small), in which at most "
                f"{MOST_MODELS} tools and fallbacks name a model",
                should_retry=False,
            )
        for model in (wanted.model or "", *wanted.others):
            if not key.allows_model(model):
                raise Forbidden(f"this key may not use the model {model[:80]!r}", should_retry=False)
        if key.limits.has_budget:
            tokens, cost_usd = self._most(wanted)
            return self._set_aside(record, key, tokens, cost_usd)
        return None

    def leave(self, record: RequestRecord) -> None:
        """End the request for its key."""
        if record.leave_key is not None:
            record.leave_key()
            record.leave_key = None

    def settle(self, record: RequestRecord) -> None:
        """Charge the request's key what was used. A sink, called after `price`."""
        if record.form is None or record.key is None:
            return
        self._count(record, record.key, *spent(record))

    def _begin(self, record: RequestRecord) -> None:
        assert record.key is not None
        record.leave_key = self._budgets.begin(record.key.id, record.key.limits)

    def _set_aside(
        self, record: RequestRecord, key: ClientKey, tokens: int, cost_usd: float
    ) -> Coroutine[Any, Any, None] | None:
        record.reservation = self._budgets.reserve(key.id, key.limits, tokens=tokens, cost_usd=cost_usd)
        return None

    def _count(self, record: RequestRecord, key: ClientKey, tokens: int, cost_usd: float) -> None:
        if record.reservation is not None:
            record.reservation.settle(tokens=tokens, cost_usd=cost_usd)
        elif tokens:
            self._budgets.spend(key.id, tokens=tokens, cost_usd=cost_usd)

    def _most(self, wanted: Peek) -> tuple[int, float]:
        """The most tokens and US dollars that the request may use, if each of its models does all of the work."""
        tokens_in = min(-(-(wanted.size or 0) // BYTES_PER_TOKEN_RESERVED), MOST_PROMPT_TOKENS)
        tokens_out = DEFAULT_MAX_TOKENS if wanted.max_tokens is None else wanted.max_tokens
        models, now = (wanted.model or "", *wanted.others), self._clock.now()
        rates = [prices.highest_rates(m, now, fast=wanted.fast) or _fallback_rates() for m in models]
        cost_usd = sum(tokens_in * rate_in + tokens_out * rate_out for rate_in, rate_out in rates)
        return len(models) * (tokens_in + tokens_out), cost_usd


class SharedAllowance(Allowance):
    """Keeps requests within limits that all instances share. Without limits there is no call to their store.

    One call is made if the body has come, or is small and the key has a budget; else one before it is read, and with a
    budget one after it.
    """

    def __init__(self, budgets: Budgets, limits: SharedLimits, use: SharedUse, *, clock: Clock) -> None:
        super().__init__(budgets, clock=clock)
        self._limits = limits
        self._use = use

    def take(
        self, record: RequestRecord, place: Place, *, small: bool, here: bool
    ) -> Coroutine[Any, Any, None] | None:
        key = record.key
        assert key is not None
        record.ticket = self._limits.ticket(record.id, key.id, key.limits, place, counts=counts(record))
        if record.ticket is None:
            return None
        if record.is_inference and (here or (small and key.limits.has_budget)):
            return None  # `reserve` asks, once
        return self._limits.admit(record.ticket)

    def reserve(self, record: RequestRecord, wanted: Peek) -> Coroutine[Any, Any, None] | None:
        ticket = record.ticket
        try:
            reserving = super().reserve(record, wanted)
        except Forbidden as error:
            if ticket is None or ticket.open:
                raise
            return self._forbidden(ticket, error)
        if reserving is None and ticket is not None and not ticket.asked:
            return self._limits.admit(ticket)
        return reserving

    async def _forbidden(self, ticket: Ticket, error: Forbidden) -> None:
        """Refuse a request that was not asked for yet: it is one of its key's requests a minute all the same."""
        await self._limits.admit(ticket)
        raise error

    def settle(self, record: RequestRecord) -> None:
        super().settle(record)
        if record.form is None and record.ticket is not None:
            self._limits.settle(record.ticket, tokens=0, cost_usd=0.0)
        record.ticket = None  # it refers to the request's place, and that back to whoever holds the record

    def _begin(self, record: RequestRecord) -> None:
        """With the slot."""

    def _set_aside(
        self, record: RequestRecord, key: ClientKey, tokens: int, cost_usd: float
    ) -> Coroutine[Any, Any, None] | None:
        assert record.ticket is not None
        return self._limits.admit(record.ticket, tokens=tokens, cost_usd=cost_usd)

    def _count(self, record: RequestRecord, key: ClientKey, tokens: int, cost_usd: float) -> None:
        ticket = record.ticket
        told = ticket is not None and self._limits.settle(ticket, tokens=tokens, cost_usd=cost_usd)
        if tokens:
            self._use.spend(key.id, tokens=tokens, cost_usd=cost_usd, told=told)


def counts(record: RequestRecord) -> bool:
    """Whether the request is one of its key's requests a minute and at once: what is free and has no effect is not."""
    assert record.target is not None
    return record.method not in ("GET", "HEAD") and record.target.path != "/v1/messages/count_tokens"


def spent(record: RequestRecord) -> tuple[int, float]:
    """The tokens and US dollars that an ended request is charged, after `price`."""
    if record.usage is None:
        return 0, 0.0
    return record.usage.total, sum(map(_cost_or_fallback, record.charges))


def price(record: RequestRecord, now: float) -> None:
    """Set usage, charges and cost in the record of an ended request, and its error if its stream has ended in one.

    `now` is in epoch seconds.
    """
    if record.form is None:
        return
    # If the request ended before its answer was complete, the upstream bills what it had by then all the same. The
    # last try says whether it had it; what the client was told does not.
    given_up = not record.complete and bool(record.attempts) and record.attempts[-1].is_billed
    usage = _usage(record, given_up=given_up)
    record.error = record.failed or record.error
    if record.form == "completion" and _is_untold(record, usage):
        untold = Usage(model=record.model or "")
        record.charge(untold, (Charge(untold, None),))
    elif usage is not None:
        record.charge(usage, tuple(_charges(usage, now)))


def _charges(usage: Usage, now: float) -> Iterator[Charge]:
    if usage.web_search_requests:
        searches = Usage(model=usage.model, web_search_requests=usage.web_search_requests)
        yield Charge(searches, prices.searches_usd(searches))
    for each in usage.billed:
        tokens = replace(each, web_search_requests=0) if each.web_search_requests else each
        yield Charge(tokens, prices.cost_usd(tokens, at=now))


def _is_untold(record: RequestRecord, usage: Usage | None) -> bool:
    """Whether a completion cost something that its answer does not tell."""
    if usage is None:
        return record.was_answered and record.status < 300
    return usage.estimated


def _usage(record: RequestRecord, *, given_up: bool) -> Usage | None:
    """The usage that the answer reports, or an estimate if it ended before it could."""
    usage = None if record.meter is None else record.meter.finish(record.complete)
    if usage is not None:
        usage.model = usage.model or record.model or ""
    tokens_in = min(record.body_bytes // BYTES_PER_TOKEN, MOST_PROMPT_TOKENS)
    if usage is None and given_up:
        return Usage(model=record.model or "", input_tokens=tokens_in, estimated=True)
    if usage is not None and usage.estimated and not usage.prompt_tokens:
        return replace(usage, input_tokens=tokens_in)
    return usage


def _cost_or_fallback(charge: Charge) -> float:
    if charge.cost_usd is not None:
        return charge.cost_usd
    rate_in, rate_out = _fallback_rates()
    return charge.usage.prompt_tokens * rate_in + charge.usage.output_tokens * rate_out


def _fallback_rates() -> tuple[float, float]:
    return FALLBACK_USD_PER_MTOK[0] / 1e6, FALLBACK_USD_PER_MTOK[1] / 1e6
