"""What an upstream answer means for the request and for the account that was asked.

status                                account   action
2xx, 3xx, 4xx about the request       any       HAND_ON
401                                   oauth     REFRESH_THEN_NEXT
401                                   api_key   CONFIRM_KEY_THEN_NEXT
401 to the `Origin` header            any       NEXT_ACCOUNT
402, 403                              any       NEXT_ACCOUNT, and `invalid_reason` for a dead credential
400 "organization has been disabled"  any       the same
429, the account's                    any       BENCH_THEN_NEXT until `limited_until`
429, one model's                      any       SKIP_MODEL_THEN_NEXT for `model` until `limited_until`
408, 5xx                              any       RETRY
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from proxy.clock import rfc3339
from proxy.http.decoding import Undecodable, decoded
from proxy.http.headers import AnswerHeaders, CredentialKind
from proxy.upstream.limits import Limits, moment, number

LONGEST_LIMIT_S = 35 * 86_400.0
"""A spend limit ends with the month; a time further ahead is nonsense."""

_SHORTEST_LIMIT_S = 1.0
# What `x-should-retry: true` alone means: a short throttle (emaspa/trmnl-claude#2), which names no time.
_UNNAMED_THROTTLE_S = 5.0

_BODY_LIMIT_BYTES = 64 * 1024
_LONGEST_TEXT = 1000
_LONGEST_EVIDENCE = 160
_LONGEST_WORD = 23  # shorter than any key; `invalid_request_error:` has 22

_SHARED = frozenset({"5h", "7d"})
_MODEL_WINDOW = re.compile(r"[0-9]{1,4}[a-z]{1,4}[_-][a-z0-9_-]{1,40}")  # `7d_oi`, `7d_opus`
_CLAIMED_WINDOW = {
    "five_hour": "5h",
    "seven_day": "7d",
    "seven_day_overage_included": "7d_oi",
    "seven_day_opus": "7d_opus",
    "seven_day_sonnet": "7d_sonnet",
}

# Recorded: "This organization has been disabled." (anthropics/claude-code#19028), "OAuth token has been
# revoked. Please obtain a new token." (#9635), "OAuth access token has been revoked." (vm0-ai/vm0#29128).
# From the start to a full stop, so that no text a client can have echoed costs an account.
_DEAD_CREDENTIAL = re.compile(
    r"(?:this |your |the )?(?:oauth (?:access )?token|api key|organization)"
    r" has been (?:revoked|disabled)(?:\.|$)",
    re.IGNORECASE,
)
_DEAD_CREDENTIAL_CODES = frozenset({"organization_disabled", "oauth_token_revoked", "api_key_revoked"})
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
    SKIP_MODEL_THEN_NEXT = "skip_model_then_next"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, and what it says of the account.

    `limited_until` is in seconds since the epoch, None where a limit came without a time. `model` is the one
    to pass over, None where the request named none. `evidence` is for the log and `status_reason`.
    """

    action: Action
    evidence: str
    limited_until: float | None = None
    model: str | None = None
    invalid_reason: str | None = None


class _Error(NamedTuple):
    """`error.type`, `error.message` and `error.details.error_code` of a body; empty where it has none."""

    type: str = ""
    message: str = ""
    code: str = ""


def judge(
    status: int,
    headers: AnswerHeaders,
    body_start: bytes,
    *,
    account_kind: CredentialKind,
    model: str | None,
    now: float,
) -> Verdict:
    """Say what an answer means. Never raises.

    `body_start` is as received, with its content encoding, and read for 400 to 403 and 429 alone; `model` is the one
    asked for, `now` seconds since the epoch.
    """
    match status:
        case 400:
            refusal = _judge_refusal(400, _read_error(headers, body_start))
            # A disabled organisation is recorded as a 400 (anthropics/claude-code#19028, #54311, #72457).
            return refusal if refusal.invalid_reason else _plain(Action.HAND_ON, 400)
        case 401:
            return _judge_401(_read_error(headers, body_start), account_kind)
        case 402 | 403:
            return _judge_refusal(status, _read_error(headers, body_start))
        case 429:
            return _judge_429(headers, _read_error(headers, body_start), model, now)
    if status == 408 or 500 <= status <= 599:
        return _plain(Action.RETRY, status)
    return _plain(Action.HAND_ON, status)


@lru_cache(maxsize=1024)
def _plain(action: Action, status: int) -> Verdict:
    """What a status means by itself."""
    return Verdict(action, f"{status}")


def _judge_401(error: _Error, account_kind: CredentialKind) -> Verdict:
    evidence = _describe(401, error)
    if _CORS.match(error.message):
        return Verdict(Action.NEXT_ACCOUNT, evidence)
    if account_kind == "oauth":
        return Verdict(Action.REFRESH_THEN_NEXT, evidence)
    return Verdict(Action.CONFIRM_KEY_THEN_NEXT, evidence)


def _judge_refusal(status: int, error: _Error) -> Verdict:
    evidence = _describe(status, error)
    dead = _DEAD_CREDENTIAL.match(error.message) or error.code in _DEAD_CREDENTIAL_CODES
    return Verdict(Action.NEXT_ACCOUNT, evidence, invalid_reason=evidence if dead else None)


def _judge_429(headers: AnswerHeaders, error: _Error, model: str | None, now: float) -> Verdict:
    limits = Limits(headers.limits)
    rejected = _rejected_windows(limits)
    if shared := rejected & _SHARED:
        until = _limited_until(limits, shared, now)
        evidence = _limit_evidence(f"429 rejected {_names(shared)} window", until)
        return Verdict(Action.BENCH_THEN_NEXT, evidence, until)
    if _LONG_CONTEXT.search(error.message):
        # A matter of what is paid for: the unified reset, often the end of the month, says nothing about it.
        return Verdict(Action.SKIP_MODEL_THEN_NEXT, "429 long context is not paid for", model=model)
    if rejected or (_is_top_rejected(limits) and _allows_shared(limits)):
        until = _limited_until(limits, rejected, now)
        evidence = _limit_evidence(f"429 rejected {_names(rejected)} window of a model", until)
        return Verdict(Action.SKIP_MODEL_THEN_NEXT, evidence, until, model)
    until = _limited_until(limits, set(), now)
    if until is None and headers.get("x-should-retry") == "true" and not headers.limits:
        until = now + _UNNAMED_THROTTLE_S
    return Verdict(Action.BENCH_THEN_NEXT, _limit_evidence(_describe(429, error), until), until)


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
    """The first time that is ahead, the most exact source first; a second from now where all have passed."""
    named = list(_named_resets(limits, rejected, now))
    if not named:
        return None
    until = next((at for at in named if at > now), now)
    return min(max(until, now + _SHORTEST_LIMIT_S), now + LONGEST_LIMIT_S)


def _named_resets(limits: Limits, rejected: set[str], now: float) -> Iterator[float]:
    # Every window that refuses must have passed, so the last of them counts.
    yield from _latest(moment(limits.windows.get(window, {}).get("reset", "")) for window in rejected)
    if _is_top_rejected(limits):
        yield from _latest([moment(limits.unified.get("reset", ""))])
    yield from limits.retries(now)
    resets = {limit: moment(fields["reset"]) for limit, fields in limits.classic.items() if "reset" in fields}
    spent = [limit for limit in resets if number(limits.classic[limit].get("remaining", "")) == 0]
    # Token counts are rounded to thousands: a limit can be hit before it says 0.
    yield from _latest(resets[limit] for limit in spent or resets)


def _latest(moments: Iterable[float | None]) -> list[float]:
    known = [each for each in moments if each is not None]
    return [max(known)] if known else []


def _read_error(headers: AnswerHeaders, body_start: bytes) -> _Error:
    start = body_start[:_BODY_LIMIT_BYTES]
    with contextlib.suppress(Undecodable):  # then it may be plain all the same
        start = decoded(start, headers.get("content-encoding").lower(), _BODY_LIMIT_BYTES)
    try:
        body = json.loads(start)
    except (ValueError, RecursionError):
        return _Error()  # an edge's page of HTML, or an encoding we do not read
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return _Error()
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    return _Error(_text(error.get("type")), _text(error.get("message")), _text(code))


def _text(value: object) -> str:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else ""


def _limit_evidence(what: str, until: float | None) -> str:
    what = what.rstrip(".")
    return f"{what}, no reset named" if until is None else f"{what}, resets {rfc3339(until)}"


def _names(windows: set[str]) -> str:
    return "+".join(sorted(windows)) or "one"


def _describe(status: int, error: _Error) -> str:
    """The error in one short line of ASCII, without words that are long enough to be a secret."""
    words = re.findall(r"[!-~]+", f"{error.type}: {error.message}" if error.type or error.message else "")
    shown = ("[...]" if len(word) > _LONGEST_WORD or "sk-" in word else word for word in words)
    return " ".join([str(status), *shown])[:_LONGEST_EVIDENCE]
