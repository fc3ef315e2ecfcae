"""What a request uses: checked and reserved before it, measured on a copy of its answer, settled after it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from proxy.clients.budgets import Budgets, Reservation
from proxy.clients.keys import ClientKey
from proxy.clock import Clock
from proxy.errors import Forbidden
from proxy.feed import Feed
from proxy.http.body import Body
from proxy.http.peek import MOST_BYTES, Peek, peek
from proxy.http.target import Target
from proxy.upstream.exchange import Header
from proxy.usage import prices
from proxy.usage.counts import Counts
from proxy.usage.meter import Meter, Usage
from proxy.usage.series import Series

BYTES_PER_TOKEN = 4
BYTES_PER_TOKEN_RESERVED = 2
"""A token of text is about four bytes, one of dense or non-Latin text about two. What a request brings that is not in
its body (files, URLs, results of server tools) cannot be known before it."""

FALLBACK_USD_PER_MTOK = (5.0, 25.0)
"""What a model without a known price counts in a budget, as in Anthropic's own gateway."""

DEFAULT_MAX_TOKENS = 4096
"""Where a request names none; the API refuses such a request."""

RECENT = 2048
RECENT_S = 900.0
"""Of so many requests, and so far back, the time to first byte is kept."""

_TOKENS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_5m_tokens",
    "cache_creation_1h_tokens",
    "cache_read_tokens",
)


class Accounting:
    """Keeps requests within their keys' limits and counts what they use."""

    def __init__(self, budgets: Budgets, series: Series, *, feed: Feed, clock: Clock) -> None:
        self.budgets = budgets
        self.series = series
        self.feed = feed
        self.clock = clock
        self._first_bytes: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def ttfb_ms(self) -> dict[str, float | None]:
        """Percentiles of the time to first byte of recent inference requests, in milliseconds."""
        since = self.clock.monotonic() - RECENT_S
        times = sorted(ttfb_s * 1000 for at, ttfb_s in self._first_bytes if at >= since)
        places = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
        return {
            name: round(times[min(len(times) - 1, int(len(times) * place))], 1) if times else None
            for name, place in places.items()
        }

    def first_byte(self, ttfb_s: float) -> None:
        """Note one."""
        self._first_bytes.append((self.clock.monotonic(), ttfb_s))

    def begin(self, client_key: ClientKey, method: str, target: Target) -> RequestAccount:
        """One request's; whoever begins it ends it."""
        return RequestAccount(self, client_key, method, target)


class RequestAccount:
    """One request of one key."""

    def __init__(self, accounting: Accounting, client_key: ClientKey, method: str, target: Target) -> None:
        self._accounting = accounting
        self._client_key = client_key
        self._reads = method in ("GET", "HEAD")
        self._target = target
        self._inference = target.is_inference(method)
        self._restricted = client_key.limits.has_budget or bool(client_key.models)
        self._leave: Callable[[], None] | None = None
        self._body_bytes = 0
        self.model: str | None = None
        self._reservation: Reservation | None = None
        self._meter: Meter | None = None
        self._complete = False

    def admit(self) -> None:
        """Count it among its key's requests, before its body is read. Raises Forbidden, RateLimited."""
        if self._restricted and not (self._reads or self._inference or self._target.free):
            raise Forbidden(
                "this key has a budget or a list of models, and what this route uses cannot be held to it",
                should_retry=False,
            )
        if not self._reads and self._target.path != "/v1/messages/count_tokens":
            self._leave = self._accounting.budgets.begin(self._client_key.id, self._client_key.limits)

    async def reserve(self, body: Body | None, content_encoding: str) -> None:
        """Check the models and set aside what the request may use. Raises Forbidden, RateLimited."""
        if not self._inference:
            return
        client_key = self._client_key
        wanted = await peek(body, content_encoding)
        self.model = wanted.model
        self._body_bytes = wanted.size or (0 if body is None else body.size)
        if self._restricted and wanted.size is None:
            raise Forbidden(
                "this key has a budget or a list of models, and the body of this request cannot be read: it has to be "
                f"JSON of at most {MOST_BYTES} bytes, as it is or as gzip, deflate, br or zstd",
                should_retry=False,
            )
        for model in (wanted.model or "", *wanted.others):
            if not client_key.allows_model(model):
                raise Forbidden(f"this key may not use the model {model[:80]!r}", should_retry=False)
        if client_key.limits.has_budget:
            tokens, cost_usd = self._most(wanted)
            self._reservation = self._accounting.budgets.reserve(
                client_key.id, client_key.limits, tokens=tokens, cost_usd=cost_usd
            )

    def _most(self, wanted: Peek) -> tuple[int, float]:
        """Tokens and US dollars that the request may use; each of its models may have all of it to do."""
        tokens_in = -(-(wanted.size or 0) // BYTES_PER_TOKEN_RESERVED)
        tokens_out = DEFAULT_MAX_TOKENS if wanted.max_tokens is None else wanted.max_tokens
        models, now = (wanted.model or "", *wanted.others), self._accounting.clock.now()
        rates = [prices.highest_rates(m, now, fast=wanted.fast) or _fallback_rates() for m in models]
        cost_usd = sum(tokens_in * rate_in + tokens_out * rate_out for rate_in, rate_out in rates)
        return len(models) * (tokens_in + tokens_out), cost_usd

    def measure(self, status: int, headers: list[Header]) -> None:
        """An answer begins."""
        if not self._inference:
            return
        found = {name.lower(): value for name, value in headers}
        self._meter = Meter(found.get("content-type", ""), found.get("content-encoding", ""), status)

    def feed(self, data: bytes) -> None:
        """Bytes of the answer, which are only looked at."""
        if self._meter is not None:
            self._meter.feed(data)

    def complete(self) -> None:
        """The answer reached its end."""
        self._complete = True

    def end(
        self, *, account_id: str | None, status: int, sent: bool, ttfb_s: float | None, duration_s: float
    ) -> None:
        """Settle the request; `sent` where the upstream got it, `status` 0 where the client has no answer."""
        if self._leave is not None:
            self._leave()
        if not self._inference:
            return
        # An answer that had begun, or was still to come, when the request was given up: it is billed all the same.
        usage = self._usage(given_up=sent and status < 300 and not self._complete)
        if ttfb_s is not None and status < 400:
            self._accounting.first_byte(ttfb_s)
        now = self._accounting.clock.now()
        cost = None if usage is None else prices.cost_usd(usage, at=now)
        self._settle(usage, cost)
        request = Counts(
            ttfb_ms=0 if ttfb_s is None else round(ttfb_s * 1000),
            ttfb_count=0 if ttfb_s is None else 1,
            duration_ms=round(duration_s * 1000),
            web_search_requests=0 if usage is None else usage.web_search_requests,
            unpriced=1 if usage is not None and cost is None else 0,
            estimated=1 if usage is not None and usage.estimated else 0,
        )
        request = replace(request, **{_outcome(status, self._complete, sent): 1})
        for model, counts in self._by_model(usage, request, now).items():
            self._accounting.series.record(
                account=account_id, token=self._client_key.id, model=model, counts=counts
            )
        feed = self._accounting.feed
        feed.touch("tokens", self._client_key.id)
        feed.touch("usage", "")
        if account_id is not None:
            feed.touch("accounts", account_id)

    def _usage(self, *, given_up: bool) -> Usage | None:
        """What the answer says, or an estimate where it could not say it any more."""
        usage = None if self._meter is None else self._meter.finish(self._complete)
        tokens_in = self._body_bytes // BYTES_PER_TOKEN
        if usage is None and given_up:
            return Usage(model=self.model or "", input_tokens=tokens_in, estimated=True)
        if usage is not None and usage.estimated and not usage.prompt_tokens:
            return replace(usage, input_tokens=tokens_in)
        return usage

    def _by_model(self, usage: Usage | None, request: Counts, now: float) -> dict[str | None, Counts]:
        """The request counts for the model that was asked for, tokens for whichever is billed for them."""
        if usage is None:
            return {self.model: request}
        searches = Usage(model=usage.model, web_search_requests=usage.web_search_requests)
        found: dict[str | None, Counts] = {
            usage.model: replace(request, cost_usd=prices.cost_usd(searches, at=now) or 0.0)
        }
        for each in usage.billed:
            alone = replace(each, web_search_requests=0)
            found[each.model] = _plus(found.get(each.model, Counts()), alone, prices.cost_usd(alone, at=now))
        return found

    def _settle(self, usage: Usage | None, cost: float | None) -> None:
        tokens = 0 if usage is None else usage.total
        if cost is None and usage is not None:
            rate_in, rate_out = _fallback_rates()
            cost = (usage.total - usage.output_tokens) * rate_in + usage.output_tokens * rate_out
        if self._reservation is not None:
            self._reservation.settle(tokens=tokens, cost_usd=cost or 0.0)
        elif tokens:
            self._accounting.budgets.spend(self._client_key.id, tokens=tokens, cost_usd=cost or 0.0)


def _fallback_rates() -> tuple[float, float]:
    return FALLBACK_USD_PER_MTOK[0] / 1e6, FALLBACK_USD_PER_MTOK[1] / 1e6


def _outcome(status: int, complete: bool, sent: bool) -> str:
    """The field of Counts that the request counts in."""
    if status == 429:
        return "limited"
    if status >= 400 and not sent:
        return "refused"
    if status >= 500:
        return "upstream_error"
    if status >= 400:
        return "client_error"
    return "ok" if complete else "aborted"


def _plus(counts: Counts, usage: Usage, cost: float | None) -> Counts:
    return replace(
        counts,
        **{name: getattr(counts, name) + getattr(usage, name) for name in _TOKENS},
        cost_usd=counts.cost_usd + (cost or 0.0),
    )
