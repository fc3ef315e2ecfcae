"""The request record: all facts about one request, for the sinks that count, price and log it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import getrandbits
from typing import Final, Literal

from proxy.clients.budgets import Reservation
from proxy.clients.keys import ClientKey
from proxy.clients.ticket import Ticket
from proxy.http.target import Form, Target
from proxy.upstream.verdict import Action
from proxy.usage.meter import Meter, Usage

CLIENT_GONE = 499
"""The status of a request whose client disconnected before an answer began, as in nginx."""


LONGEST_ID = 128
"""Characters of an upstream's `request-id` that are kept; theirs have 28."""

CutBy = Literal["client", "upstream", "admin", "proxy", "shutdown"]
"""Who ended a request before its time."""

Failure = Literal["limited", "credential", "refused", "upstream_error", "client_error"]
"""What an account failed at: its limit, its credential, the request though others may take it; the upstream; or the
request itself, whose error was handed on."""

_HAND_ON: Final = Action.HAND_ON.value  # an enum's member takes longer to look up
_FAILURES: Final[Mapping[str, Failure]] = {
    Action.REFRESH_THEN_NEXT: "credential",
    Action.CONFIRM_KEY_THEN_NEXT: "credential",
    Action.NEXT_ACCOUNT: "refused",
    Action.BENCH_THEN_NEXT: "refused",
    Action.SKIP_THEN_NEXT: "refused",
}
_LEFT_THERE: Final = frozenset({"", _HAND_ON, "UpstreamLost", "UpstreamGarbled", "UpstreamSilent"})
"""Verdicts after which the upstream has the whole request, as far as is known, and has not refused it."""


@dataclass(slots=True)
class Attempt:
    """One exchange with the upstream, from its sending to the verdict on its answer.

    Times are of the monotonic clock. `verdict` is an `Action`, or an error's name if no answer came: `status` is 0
    then. Without a verdict the exchange was cut, or what it brought was withheld. `request_id` is the upstream's own.
    """

    account_id: str
    account_name: str
    began_at: float = 0.0
    ended_at: float | None = None
    status: int = 0
    verdict: str = ""
    evidence: str = ""
    request_id: str = ""

    def end(self, status: int, verdict: str, evidence: str, now: float) -> None:
        """Note what came of it."""
        self.status, self.verdict, self.evidence, self.ended_at = status, verdict, evidence, now

    @property
    def is_billed(self) -> bool:
        """Whether the upstream bills it, whatever came of its answer: it was neither refused nor never sent."""
        return self.verdict in _LEFT_THERE and self.status < 300

    @property
    def failure(self) -> Failure | None:
        """What failed; None if it was served, or cut before there was a verdict."""
        status, verdict = self.status, self.verdict
        if not verdict or (verdict == _HAND_ON and status < 400):
            return None
        if status == 429:
            return "limited"
        if verdict == _HAND_ON and status < 500:
            return "client_error"
        return _FAILURES.get(verdict, "upstream_error")


@dataclass(slots=True)
class Charge:
    """Tokens that one model is billed for; `cost_usd` is None if the model has no known price."""

    usage: Usage
    cost_usd: float | None


@dataclass(slots=True)
class RequestRecord:
    """Created when a request's head has arrived. Fields are filled in as they become known.

    Times are seconds of the monotonic clock, None until they have come. `body_bytes` are the request's, decoded, as a
    `Peek` counts them.
    `why` the request went to its account, and why its conversation was `moved` to it, are words of accounts.affinity;
    `stayed`: it is a later turn of a conversation, with the same account as the turn before.
    `parent` are the headers that name the client's trace, if it sent some.
    `form` is that of an answer whose usage is counted, None if nothing of the request is.
    `error` is what went wrong, in a word, for the access log, and `reason` what its client was told of it.
    """

    began_at: float
    id: str = field(default_factory=lambda: f"req_{getrandbits(96):024x}")
    method: str = "-"
    path: str = "-"
    address: str = "-"
    key: ClientKey | None = None
    session_id: str | None = None
    parent: dict[str, str] | None = None
    target: Target | None = None
    form: Form | None = None
    model: str | None = None
    body_bytes: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    why: str | None = None
    moved: str | None = None
    stayed: bool = False
    status: int = 0
    answer_bytes: int = 0
    first_byte_at: float | None = None
    ended_at: float | None = None
    complete: bool = False
    error: str | None = None
    reason: str | None = None
    cut_by: CutBy | None = None
    is_stream: bool = False
    meter: Meter | None = None
    usage: Usage | None = None
    charges: tuple[Charge, ...] = ()
    cost_usd: float | None = None
    reservation: Reservation | None = None
    leave_key: Callable[[], None] | None = None
    ticket: Ticket | None = None

    @property
    def is_inference(self) -> bool:
        """Whether it is for a message: what that may use is known before, and reserved."""
        return self.form == "message"

    @property
    def account_id(self) -> str | None:
        """The account that was asked last; None if none was."""
        return self.attempts[-1].account_id if self.attempts else None

    @property
    def account_name(self) -> str | None:
        return self.attempts[-1].account_name if self.attempts else None

    @property
    def ttfb_s(self) -> float | None:
        """Seconds until the head of the answer was written; None if it was not."""
        return None if self.first_byte_at is None else self.first_byte_at - self.began_at

    @property
    def duration_s(self) -> float:
        """Seconds from the request's head to its end. Raises ValueError before the end."""
        if self.ended_at is None:
            raise ValueError("the request has not ended")
        return self.ended_at - self.began_at

    @property
    def cost_told(self) -> float | str:
        """For the log: the cost in US dollars, `unpriced` if a price is not known, `-` if nothing was used."""
        if self.usage is None:
            return "-"
        return "unpriced" if self.cost_usd is None else round(self.cost_usd, 6)

    @property
    def was_answered(self) -> bool:
        """Whether the client got an answer's head."""
        return self.status not in (0, CLIENT_GONE)

    @property
    def failed(self) -> str | None:
        """The type of the error event with which the upstream ended a stream, once all of that has been read."""
        return None if self.meter is None else self.meter.failed

    @property
    def outcome(self) -> str:
        """One of the six outcomes that `Counts` has a field for."""
        status = self.status if self.was_answered else 0
        if status == 429 or self.failed == "rate_limit_error":
            return "limited"
        if status >= 400 and not self.attempts:
            return "refused"
        if status >= 500 or self.failed is not None:
            return "upstream_error"
        if status >= 400:
            return "client_error"
        return "ok" if self.complete else "aborted"

    def charge(self, usage: Usage, charges: tuple[Charge, ...]) -> None:
        """Note what it has used and what that costs: in all None if it is not known of each."""
        self.usage, self.charges = usage, charges
        costs = [each.cost_usd for each in charges]
        known = [cost for cost in costs if cost is not None]
        self.cost_usd = sum(known) if len(known) == len(costs) else None

    def gone(self, why: str = "client gone") -> None:
        """Note that the client disconnected before the end, or was let go."""
        self.error = self.error or why
        self.cut_by = self.cut_by or "client"
        self.status = self.status or CLIENT_GONE


Sink = Callable[[RequestRecord], None]
"""Called with the record of each request that has ended. Returns quickly, and never raises."""
