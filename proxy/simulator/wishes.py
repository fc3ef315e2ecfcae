"""What a request can wish for instead of the truth, by a header such as `x-simulate: 429; retry-after=5`.

Its kinds and their options:

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
from dataclasses import dataclass

from .encodings import ENCODERS
from .faults import (
    Cut,
    Error,
    Fault,
    Flood,
    Lost,
    MidStreamError,
    NoModel,
    Real,
    Reset,
    ResetEarly,
    Said,
    Silence,
    Slow,
    SpendLimit,
    Stall,
    Steady,
    api_key_429,
    bare_429,
    disabled_organization,
    edge_429,
    long_context_429,
    model_429,
    no_beta,
    no_credit,
    no_plan,
    quota_429,
    throttle_429,
)
from .replies import ApiError, Headers

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
