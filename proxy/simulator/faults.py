"""What the simulator can be told to answer instead of the truth: `sim.script(credential, Error(529), Reset())`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from . import limits
from .replies import Answer, Headers


@dataclass(frozen=True, slots=True)
class Error:
    """An error answer; `type` and `message` default by status (`replies.DEFAULT_ERRORS`).

    `html` sends an edge's page instead of JSON.
    """

    status: int
    type: str | None = None
    message: str | None = None
    headers: Headers = ()
    details: Mapping[str, Any] | None = None
    html: bool = False


@dataclass(frozen=True, slots=True)
class Quota429:
    """A 429 with the unified headers: `window` (5h, 7d, or a model's such as 7d_oi) rejected."""

    reset_in: float = 60
    window: str = "5h"


@dataclass(frozen=True, slots=True)
class ApiKey429:
    """A 429 with the headers of an API key whose tokens are spent."""

    retry_after: float = 30


@dataclass(frozen=True, slots=True)
class SpendLimit:
    """A 400: the limit that the organization set for itself is reached, until that day (the next month's first)."""

    until: str | None = None


@dataclass(frozen=True, slots=True)
class NoModel:
    """A 404 for the model of the request."""


@dataclass(frozen=True, slots=True)
class Real:
    """The true answer: to leave a gap in a script."""


@dataclass(frozen=True, slots=True)
class Reset:
    """TCP reset before any byte of the answer, after the whole request was read."""


@dataclass(frozen=True, slots=True)
class ResetEarly:
    """TCP reset as soon as the request's headers are known, its body unread and without effect.

    At the token endpoint, where the credential is in the body, the same as `Reset`.
    """


@dataclass(frozen=True, slots=True)
class Silence:
    """The request is read, has no effect, and is never answered."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The request takes effect (a token is rotated), but its answer never comes: silence, or a reset."""

    reset: bool = False


@dataclass(frozen=True, slots=True)
class Slow:
    """`seconds` of silence, then `then`."""

    seconds: float
    then: Error | Answer | Real = Real()


@dataclass(frozen=True, slots=True)
class Cut:
    """The true answer begins and the connection breaks: after that many events, or body bytes, else half-way.

    Everything before the cut arrives: it ends with FIN, without a last chunk or short of its length. With
    `reset` it ends with RST instead, and the peer may lose what it has not read.
    """

    after_events: int | None = None
    after_bytes: int | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True)
class MidStreamError:
    """The true stream begins, then `event: error` (of `status`) and a clean end; in place of JSON that error."""

    after_events: int = 3
    status: int = 529


@dataclass(frozen=True, slots=True)
class Stall:
    """The true stream (or half of another answer), then silence with the connection open."""

    after_events: int = 3


@dataclass(frozen=True, slots=True)
class Flood:
    """At least `total_bytes` of a well-formed stream, as fast as the peer reads; see `Entry.bytes_sent`."""

    total_bytes: int


@dataclass(frozen=True, slots=True)
class Steady:
    """A well-formed stream of `events` text deltas, one every `interval_s`."""

    events: int
    interval_s: float = 0.01


@dataclass(frozen=True, slots=True)
class Raw:
    """These very bytes on the socket, then its end."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Amend:
    """The true JSON answer with members set or removed at its top level; a stream passes as it is."""

    set: Mapping[str, Any] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """`fault`, said otherwise: in a content encoding, or by a server whose clock is wrong by `skew_s`."""

    fault: Fault
    encoding: str | None = None
    skew_s: float = 0


Fault = (
    Error
    | Answer
    | Quota429
    | ApiKey429
    | SpendLimit
    | NoModel
    | Said
    | Real
    | Reset
    | ResetEarly
    | Silence
    | Lost
    | Slow
    | Cut
    | MidStreamError
    | Stall
    | Flood
    | Steady
    | Raw
    | Amend
)


def quota_429(reset_in: float = 60, window: str = "5h") -> Quota429:
    """The account's own window is used up."""
    return Quota429(reset_in, window)


def model_429(window: str = "7d_oi", reset_in: float = 60) -> Quota429:
    """Only one model family's window is used up; the shared ones are allowed."""
    return Quota429(reset_in, window)


def api_key_429(retry_after: float = 30) -> ApiKey429:
    return ApiKey429(retry_after)


def bare_429() -> Error:
    """No hint at all."""
    return Error(429)


def throttle_429() -> Error:
    """A short throttle: message `Error`, `x-should-retry: true`, no limit header."""
    return Error(429, message="Error", headers=(("x-should-retry", "true"),))


def long_context_429() -> Error:
    return Error(429, message="Extra usage is required for long context requests.")


def edge_429() -> Error:
    return Error(429, html=True)


# The words of these are recorded, as in anthropics/claude-code#38035 (the limit) and #19028 (the organization); the
# code of the lacking beta is in the SDKs' list of errors.


def no_credit() -> Error:
    text = "Your credit balance is too low to access the Anthropic API."
    return Error(400, message=f"{text} Please go to Plans & Billing to upgrade or purchase credits.")


def no_plan() -> Error:
    return Error(400, message="The long context beta is not yet available for this subscription.")


def no_beta(name: str = "managed-agents-2026-04-01") -> Error:
    text = f"Your organization is not enrolled in the beta {name}."
    return Error(400, message=text, details={"error_code": "organization_not_enrolled_in_beta"})


def disabled_organization() -> Error:
    return Error(400, message="This organization has been disabled.")


def limited(fault: Quota429 | ApiKey429 | SpendLimit, now: float) -> Error:
    """The refusal as it is at this moment."""
    if isinstance(fault, SpendLimit):
        day = datetime.fromtimestamp(now, UTC)
        first = f"{day.year + day.month // 12}-{day.month % 12 + 1:02}-01"
        text = "You have reached your specified API usage limits. You will regain access on"
        return Error(400, message=f"{text} {fault.until or first} at 00:00 UTC.")
    if isinstance(fault, ApiKey429):
        return Error(429, headers=limits.exhausted_key_headers(now, fault.retry_after))
    return Error(429, headers=limits.rejected_headers(fault.window, now, fault.reset_in))
