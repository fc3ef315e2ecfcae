"""What the simulator can be told to answer instead of the truth, in code and on the wire.

In code: `sim.script(credential, Error(529), Reset())`. On the wire: a request header, such as
`x-simulate: 429; retry-after=5`. Its kinds and their options:

    400 … 599           that error; retry-after, type, message, code, should-retry (true or false), html
    no-credit           400: the credit balance is too low
    spend-limit         400: the limit that the organization set itself; until (a date: the next month's first)
    no-plan             400: a beta that the subscription does not include
    no-beta             400: a beta that the organization is not enrolled in; name
    disabled            400: the organization has been disabled
    no-model            404: the request's model, as if this organization had no such
    quota-429           unified headers, a window rejected; reset-in (60), window (5h)
    model-429           only a model's own window rejected; reset-in (60), window (7d_oi)
    api-key-429         the API key's tokens spent; retry-after (30)
    bare-429            no limit header and no retry-after at all
    throttle-429        x-should-retry: true, no limit header
    long-context-429    the plan has no credit for long context
    edge-429            an edge's page of HTML
    reset, reset-early  TCP reset: after, or before, the request is read
    silence             the request is read and never answered
    lost                the request takes effect, its answer never comes; reset (yes or no)
    slow                the answer comes late; seconds (5)
    cut                 the connection breaks inside the answer; after-events, after-bytes (0: after its head)
    error-mid-stream    an `event: error` inside the stream; after-events (3; 0: it is the first), status (529)
    stall               the stream falls silent; after-events (3)
    flood               a stream as fast as it is read; bytes (10000000)
    steady              a stream at a steady pace; events (100), interval (0.1 s)
    true                the true answer: for the options below

More options go with each. These limit it: `organization=NAME` to that organization (`A|B`: to those), `path=PREFIX`
to requests for it, `times=N` to the first N with that very header and path, after which one is answered truly (so
`x-simulate: 529; times=1` shows a fail-over). These change how it is said: `encoding=gzip|br|zstd` sends whole answers
so, whatever the client accepts; `skew=SECONDS` has the server's clock, and so its `Date` and its resets, wrong by that.
The model `claude-unpriced-1` answers like any other, though no list of models or prices has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from . import limits
from .encodings import ENCODERS
from .replies import Answer, ApiError, Headers


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


Options = dict[str, str]


def _int(options: Options, name: str) -> int | None:
    return int(options[name]) if name in options else None


def _status(status: int, options: Options) -> Error:
    told = {"retry-after": options.get("retry-after"), "x-should-retry": options.get("should-retry")}
    headers: Headers = tuple((name, value) for name, value in told.items() if value is not None)
    details = {"error_code": options["code"]} if "code" in options else None
    return Error(status, options.get("type"), options.get("message"), headers, details, "html" in options)


_KINDS: Mapping[str, Callable[[Options], Fault]] = {
    "true": lambda o: Real(),
    "no-credit": lambda o: no_credit(),
    "spend-limit": lambda o: SpendLimit(o.get("until")),
    "no-plan": lambda o: no_plan(),
    "no-beta": lambda o: no_beta(*([o["name"]] if "name" in o else [])),
    "disabled": lambda o: disabled_organization(),
    "no-model": lambda o: NoModel(),
    "edge-429": lambda o: edge_429(),
    "quota-429": lambda o: quota_429(float(o.get("reset-in", 60)), o.get("window", "5h")),
    "model-429": lambda o: model_429(o.get("window", "7d_oi"), float(o.get("reset-in", 60))),
    "api-key-429": lambda o: api_key_429(float(o.get("retry-after", 30))),
    "bare-429": lambda o: bare_429(),
    "throttle-429": lambda o: throttle_429(),
    "long-context-429": lambda o: long_context_429(),
    "reset": lambda o: Reset(),
    "reset-early": lambda o: ResetEarly(),
    "silence": lambda o: Silence(),
    "lost": lambda o: Lost(reset=o.get("reset") == "yes"),
    "slow": lambda o: Slow(float(o.get("seconds", 5))),
    "cut": lambda o: Cut(_int(o, "after-events"), _int(o, "after-bytes")),
    "error-mid-stream": lambda o: MidStreamError(int(o.get("after-events", 3)), int(o.get("status", 529))),
    "stall": lambda o: Stall(int(o.get("after-events", 3))),
    "flood": lambda o: Flood(int(o.get("bytes", 10_000_000))),
    "steady": lambda o: Steady(int(o.get("events", 100)), float(o.get("interval", 0.1))),
}


@dataclass(frozen=True, slots=True)
class Wish:
    """A parsed `x-simulate` header; without organizations it is about all of them."""

    fault: Fault
    organizations: tuple[str, ...] = ()
    path: str = ""
    times: int | None = None


def parse(header: str) -> Wish:
    """`kind; option=value; …` as the module's docstring lists them; ApiError 400 where it is none of them."""
    kind, *pairs = (part.strip() for part in header.split(";"))
    options: Options = {}
    for pair in filter(None, pairs):
        name, _, value = pair.partition("=")
        options[name.strip().lower()] = value.strip()
    try:
        if kind.isdigit() and 400 <= int(kind) <= 599:
            fault: Fault = _status(int(kind), options)
        else:
            fault = _KINDS[kind](options)
        skew, encoding = float(options.get("skew", 0)), options.get("encoding")
        if encoding is not None and encoding not in ENCODERS:
            raise ValueError(f"encoding is none of {', '.join(ENCODERS)}")
        if skew or encoding:
            fault = Said(fault, encoding, skew)
        organizations = tuple(filter(None, options.get("organization", "").split("|")))
        return Wish(fault, organizations, options.get("path", ""), _int(options, "times"))
    except KeyError:
        known = ", ".join(("400 … 599", *_KINDS))
        raise ApiError(400, f"x-simulate: {kind!r} is none of {known}") from None
    except ValueError as error:
        raise ApiError(400, f"x-simulate: {error}") from error
