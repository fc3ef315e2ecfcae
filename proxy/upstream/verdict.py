"""What an upstream answer means for the request and for the account that was asked.

status                                       account   action
2xx, 3xx, 4xx about the request              any       HAND_ON
401                                          oauth     REFRESH_THEN_NEXT
401                                          api_key   CONFIRM_KEY_THEN_NEXT
401 to the `Origin` header                   any       NEXT_ACCOUNT
401 that is an edge's page                   any       RETRY
402, 403                                     any       NEXT_ACCOUNT
400, 402, 403 with a dead credential         any       NEXT_ACCOUNT, with `invalid_reason`
400, 402, 403, 429 without credit            any       BENCH_THEN_NEXT until the day that is named
400 for what another account has signed      any       NEXT_ACCOUNT, with `is_foreign`
400, 403, 404 for a plan, a beta or a model  any       SKIP_THEN_NEXT for that matter
429 to POST /v1/messages, the account's      any       BENCH_THEN_NEXT until `limited_until`
429 to it, one model's                       any       SKIP_THEN_NEXT for the model until `limited_until`
429 to it without a hint                     any       SKIP_THEN_NEXT for the model, for a while that grows
429 to another route                         any       SKIP_THEN_NEXT for the route
429 that is an edge's page, 408, 5xx         any       RETRY

`refusals` has the wordings by which an account's errors are told from a request's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from proxy.clock import rfc3339
from proxy.http.headers import AnswerHeaders, CredentialKind
from proxy.upstream.error_body import ApiError
from proxy.upstream.limits import Limits, length_s, moment, number, skew_s, title
from proxy.upstream.refusals import Lack, access_from, lack_of

LONGEST_LIMIT_S = 35 * 86_400.0
"""A spend limit ends with the month; a time further ahead is nonsense, and ignored."""

MESSAGES = "POST messages"
"""The route whose 429 is about the account: every account serves it, and nothing else uses up its quota."""

OWN_PROXY = "way through its own proxy"
"""What an account is passed over for whose own outbound proxy is down: a matter of every request."""


def by_any_way(matters: tuple[str, ...]) -> tuple[str, ...]:
    """The matters without that proxy: an account that rests for it alone is asked if no other can be."""
    return tuple(each for each in matters if each != OWN_PROXY)


JUDGED_BY_BODY = frozenset({400, 401, 402, 403, 404, 429})

_SHORTEST_LIMIT_S = 1.0
# A window ends within its own length; a clock without `Date` beside it may be wrong by a bit.
_WINDOW_SLACK_S = 86_400.0
# What `x-should-retry: true` alone means: a short throttle (emaspa/trmnl-claude#2), which names no time.
_UNNAMED_THROTTLE_S = 5.0

_SHARED = frozenset({"5h", "7d"})
_MODEL_WINDOW = re.compile(r"[0-9]{1,4}[a-z]{1,4}[_-][a-z0-9_-]{1,40}")  # `7d_oi`, `7d_opus`
_CLAIMED_WINDOW = {
    "five_hour": "5h",
    "seven_day": "7d",
    "seven_day_overage_included": "7d_oi",
    "seven_day_opus": "7d_opus",
    "seven_day_sonnet": "7d_sonnet",
}

# "Extra usage is required for long context requests." (anthropics/claude-code#50784), since mid-2026
# "Usage credits are required for long context requests."
_LONG_CONTEXT = re.compile(r"\b(?:extra usage|usage credits)\b.*\blong context\b", re.IGNORECASE | re.DOTALL)
# The answer to a browser's `Origin` in some organisations: no token is at fault, so none is refreshed.
_CORS = re.compile(r"CORS requests are not allowed", re.IGNORECASE)


class Action(StrEnum):
    """What the relay does with the answer."""

    HAND_ON = "hand_on"
    REFRESH_THEN_NEXT = "refresh_then_next"
    CONFIRM_KEY_THEN_NEXT = "confirm_key_then_next"
    NEXT_ACCOUNT = "next_account"
    BENCH_THEN_NEXT = "bench_then_next"
    SKIP_THEN_NEXT = "skip_then_next"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, and what it says of the account.

    `limited_until` is in seconds since the epoch, None if no time was named. `matter` is what the account is passed
    over for, one of `Asked.matters`, None if only this request is. `by_quota`: the account's quota is used up, so it
    may do later what it refuses now. `is_throttle`: it named no reason, and may take the next request. `is_foreign`:
    another account made a part of the request, which says nothing of this one. `evidence` is for the log and
    `status_reason`.
    """

    action: Action
    evidence: str
    limited_until: float | None = None
    matter: str | None = None
    invalid_reason: str | None = None
    by_quota: bool = False
    is_throttle: bool = False
    is_foreign: bool = False


class Asked(NamedTuple):
    """What of a request an account's refusal may be about.

    `route` is MESSAGES or the family of the path, such as `files`. `betas` are those of `anthropic-beta`.
    """

    model: str | None = None
    route: str = MESSAGES
    betas: tuple[str, ...] = ()

    @property
    def of_model(self) -> str | None:
        return None if self.model is None else f"model {self.model}"

    @property
    def of_route(self) -> str:
        return f"route {self.route}"

    @property
    def matters(self) -> tuple[str, ...]:
        """Everything that an account may be passed over for."""
        model = () if self.model is None else (f"model {self.model}",)
        return (OWN_PROXY, self.of_route, *model, *map("beta {}".format, self.betas))


def judge(
    status: int,
    headers: AnswerHeaders,
    error: ApiError,
    *,
    account_kind: CredentialKind,
    asked: Asked,
    now: float,
) -> Verdict:
    """Say what an answer means. Never raises.

    `error` is that of its body; it is looked at for JUDGED_BY_BODY alone. `now` is in seconds since the epoch; times of
    the answer are reckoned from its own `Date`, so that a wrong clock here prolongs no limit.
    """
    if status == 401:
        return _judge_401(error, account_kind)
    if status == 429:
        skew = skew_s(headers.get("date"), now)
        verdict = _judge_429(Limits(headers.limits), headers, error, asked, now - skew)
        if skew and verdict.limited_until is not None:
            return replace(verdict, limited_until=verdict.limited_until + skew)
        return verdict
    if status in JUDGED_BY_BODY:
        return _judge_refusal(status, error, asked, now)
    return _plain(Action.RETRY if status == 408 or 500 <= status <= 599 else Action.HAND_ON, status)


def judge_early(error: ApiError, verdict: Verdict) -> Verdict:
    """The verdict on a stream whose first event is an error, with words that say so."""
    return replace(verdict, evidence=f"200 with an error as its first event: {verdict.evidence}")


@lru_cache(maxsize=1024)
def _plain(action: Action, status: int) -> Verdict:
    """What a status means by itself."""
    return Verdict(action, f"{status}")


def _judge_401(error: ApiError, account_kind: CredentialKind) -> Verdict:
    if error.is_page:
        # The API answers in JSON. An edge that wants a sign-in of its own says nothing about the credential.
        return Verdict(Action.RETRY, "401 of an edge, not of the API")
    evidence = error.describe(401)
    if _CORS.match(error.message):
        return Verdict(Action.NEXT_ACCOUNT, evidence)
    if account_kind == "oauth":
        return Verdict(Action.REFRESH_THEN_NEXT, evidence)
    return Verdict(Action.CONFIRM_KEY_THEN_NEXT, evidence)


def _judge_refusal(status: int, error: ApiError, asked: Asked, now: float) -> Verdict:
    """400, 402, 403 and 404: is it the account that refuses, or is the request wrong?"""
    evidence = error.describe(status)
    match lack_of(status, error):
        case Lack.CREDENTIAL:
            return Verdict(Action.NEXT_ACCOUNT, evidence, invalid_reason=evidence)
        case Lack.CREDIT | Lack.LIMIT:
            return Verdict(Action.BENCH_THEN_NEXT, evidence, _access_from(error, now))
        case Lack.MODEL:
            return Verdict(Action.SKIP_THEN_NEXT, evidence, matter=asked.of_model)
        case Lack.SIGNATURE:
            return Verdict(Action.NEXT_ACCOUNT, evidence, is_foreign=True)
        case Lack.PLAN:
            return Verdict(Action.SKIP_THEN_NEXT, evidence, matter=_beta(error, asked))
    if status in (402, 403):
        return Verdict(Action.NEXT_ACCOUNT, evidence)
    # Most of these are about what the client sent, which no log may repeat.
    return Verdict(Action.HAND_ON, error._replace(message=error.own_words).describe(status))


def _access_from(error: ApiError, now: float) -> float | None:
    at = access_from(error)
    return at if at is not None and now < at <= now + LONGEST_LIMIT_S else None


def _beta(error: ApiError, asked: Asked) -> str | None:
    """The beta of the request that the error names; None if it cannot be told which one is meant."""
    text = error.message.lower()
    named = (
        beta
        for beta in asked.betas
        if beta in text or (beta.startswith("context-") and "long context" in text)
    )
    return next((f"beta {beta}" for beta in named), None)


def _judge_429(limits: Limits, headers: AnswerHeaders, error: ApiError, asked: Asked, now: float) -> Verdict:
    if not error.is_json and not limits.classic and not limits.unified and not limits.windows:
        # The API answers in JSON. An edge that has too much to do says nothing about the account.
        return Verdict(Action.RETRY, "429 of an edge, not of the API")
    if asked.route != MESSAGES:
        until = _limited_until(limits, set(), now)
        evidence = _limit_evidence(f"{error.describe(429)}, to {asked.route} only", until)
        named = until is not None
        return Verdict(
            Action.SKIP_THEN_NEXT, evidence, until, asked.of_route, by_quota=named, is_throttle=not named
        )
    rejected = _rejected_windows(limits)
    if shared := rejected & _SHARED:
        until = _limited_until(limits, shared, now)
        evidence = _limit_evidence(f"429, the limit for {_names(shared)} is used up", until)
        return Verdict(Action.BENCH_THEN_NEXT, evidence, until, by_quota=True)
    if _LONG_CONTEXT.search(error.message):
        # A matter of what is paid for: the unified reset, often the end of the month, says nothing about it.
        return Verdict(Action.SKIP_THEN_NEXT, "429 long context is not paid for")
    if rejected or (_is_top_rejected(limits) and _allows_shared(limits)):
        until = _limited_until(limits, rejected, now)
        evidence = _limit_evidence(f"429, the limit for {_names(rejected)} is used up", until)
        return Verdict(Action.SKIP_THEN_NEXT, evidence, until, asked.of_model, by_quota=until is not None)
    return _judge_429_without_window(limits, headers, error, asked, now)


def _judge_429_without_window(
    limits: Limits, headers: AnswerHeaders, error: ApiError, asked: Asked, now: float
) -> Verdict:
    until = _limited_until(limits, set(), now)
    lacks = lack_of(429, error) in (Lack.CREDIT, Lack.LIMIT)
    if until is None and lacks:
        until = _access_from(error, now)
    if until is None and not headers.limits and headers.get("x-should-retry") == "true":
        until = now + _UNNAMED_THROTTLE_S
    evidence = _limit_evidence(error.describe(429), until)
    # Classic limits, a rejected `unified-status` or a `retry-after` are the account's own, also without a sane time.
    own = limits.classic or _is_top_rejected(limits) or any(limits.retries(now))
    if until is not None or lacks or own:
        return Verdict(Action.BENCH_THEN_NEXT, evidence, until, by_quota=True)
    evidence = f"{evidence}, no limit is said to be used up"
    return Verdict(Action.SKIP_THEN_NEXT, evidence, matter=asked.of_model, is_throttle=True)


def _rejected_windows(limits: Limits) -> set[str]:
    """The unified windows that refuse: the account's `5h` and `7d`, and those of one model, as `7d_oi`.

    `overage`, `slow` and their like are no windows: they say what may follow when one is used up.
    """
    rejected = {
        window
        for window, fields in limits.windows.items()
        if fields.get("status", "").lower() == "rejected"
        and (window in _SHARED or _MODEL_WINDOW.fullmatch(window))
    }
    # A window's own line may be missing: then the claim names the one that `unified-status` speaks of.
    claimed = _CLAIMED_WINDOW.get(limits.unified.get("representative-claim", "").lower())
    if claimed and _is_top_rejected(limits) and "status" not in limits.windows.get(claimed, {}):
        rejected.add(claimed)
    return rejected


def _is_top_rejected(limits: Limits) -> bool:
    return limits.unified.get("status", "").lower() == "rejected"


def _allows_shared(limits: Limits) -> bool:
    return all(
        limits.windows.get(window, {}).get("status", "").lower().startswith("allowed") for window in _SHARED
    )


def _limited_until(limits: Limits, rejected: set[str], now: float) -> float | None:
    """The first time that is ahead, the most exact source first; a second from now if all have passed, None if none
    is named."""
    named = list(_named_resets(limits, rejected, now))
    if not named:
        return None
    return max(next((at for at in named if at > now), now), now + _SHORTEST_LIMIT_S)


def _named_resets(limits: Limits, rejected: set[str], now: float) -> Iterator[float]:
    """The times that each source names; none that is further ahead than what refuses can last."""
    sane_until = {window: now + _longest_s(window) for window in rejected}
    latest = max(sane_until.values(), default=now + LONGEST_LIMIT_S)
    ends = ((moment(limits.windows.get(w, {}).get("reset", "")), sane) for w, sane in sane_until.items())
    # Every window that refuses must have passed, so the last of them counts.
    yield from _latest((at for at, sane in ends if at is not None and at <= sane), latest)
    if _is_top_rejected(limits):
        yield from _latest([moment(limits.unified.get("reset", ""))], latest)
    yield from (at for at in limits.retries(now) if at <= latest)
    resets = {limit: moment(fields["reset"]) for limit, fields in limits.classic.items() if "reset" in fields}
    spent = [limit for limit in resets if number(limits.classic[limit].get("remaining", "")) == 0]
    # Token counts are rounded to thousands: a limit can be hit before it says 0.
    yield from _latest((resets[limit] for limit in spent or resets), latest)


def _longest_s(window: str) -> float:
    length = length_s(window)
    return LONGEST_LIMIT_S if length is None else min(length + _WINDOW_SLACK_S, LONGEST_LIMIT_S)


def _latest(moments: Iterable[float | None], end: float) -> list[float]:
    """The latest of the moments that are known and not after `end`, as a list; empty if there is none."""
    sane = [each for each in moments if each is not None and each <= end]
    return [max(sane)] if sane else []


def _limit_evidence(what: str, until: float | None) -> str:
    what = what.rstrip(".")
    return f"{what}, no reset named" if until is None else f"{what}, resets {rfc3339(until)}"


def _names(windows: set[str]) -> str:
    return " and ".join(title(window) for window in sorted(windows)) or "a model"
