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

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple

from proxy.clock import rfc3339
from proxy.http.headers import CredentialKind, Headers

LONGEST_LIMIT_S = 35 * 86_400.0
"""A spend limit ends with the month; a time further ahead is nonsense."""

_SHORTEST_LIMIT_S = 1.0
# What `x-should-retry: true` alone means: a short throttle (emaspa/trmnl-claude#2), which names no time.
_UNNAMED_THROTTLE_S = 5.0

_BODY_LIMIT_BYTES = 64 * 1024
_LONGEST_TEXT = 1000
_LONGEST_EVIDENCE = 160
_LONGEST_WORD = 23  # shorter than any key; `invalid_request_error:` has 22

_LIMIT = "anthropic-ratelimit-"
_UNIFIED = "anthropic-ratelimit-unified-"
_PLAIN_RESET = re.compile(r"anthropic-ratelimit-(?!unified-)(.+)-reset")
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
class AnswerHead:
    """The part of an answer that is judged; `body_start` is as received, with its content encoding."""

    status: int
    headers: Headers = field(repr=False)
    body_start: bytes = field(default=b"", repr=False)


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


def judge(answer: AnswerHead, *, account_kind: CredentialKind, model: str | None, now: float) -> Verdict:
    """Say what `answer` means; `model` is the one asked for, `now` seconds since the epoch. Never raises."""
    fields: dict[str, str] = {}
    for name, value in answer.headers:
        fields.setdefault(name.lower(), value.strip())
    match answer.status:
        case 400:
            refusal = _judge_refusal(400, _read_error(answer, fields))
            # A disabled organisation is recorded as a 400 (anthropics/claude-code#19028, #54311, #72457).
            return refusal if refusal.invalid_reason else Verdict(Action.HAND_ON, "400")
        case 401:
            return _judge_401(_read_error(answer, fields), account_kind)
        case 402 | 403:
            return _judge_refusal(answer.status, _read_error(answer, fields))
        case 429:
            return _judge_429(fields, _read_error(answer, fields), model, now)
        case status if status == 408 or 500 <= status <= 599:
            return Verdict(Action.RETRY, f"{status}")
    return Verdict(Action.HAND_ON, f"{answer.status}")


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


def _judge_429(fields: dict[str, str], error: _Error, model: str | None, now: float) -> Verdict:
    rejected = _rejected_windows(fields)
    if shared := rejected & _SHARED:
        until = _limited_until(fields, shared, now)
        evidence = _limit_evidence(f"429 rejected {_names(shared)} window", until)
        return Verdict(Action.BENCH_THEN_NEXT, evidence, until)
    if _LONG_CONTEXT.search(error.message):
        # A matter of what is paid for: the unified reset, often the end of the month, says nothing about it.
        return Verdict(Action.SKIP_MODEL_THEN_NEXT, "429 long context is not paid for", model=model)
    if rejected or (_is_top_rejected(fields) and _allows_shared(fields)):
        until = _limited_until(fields, rejected, now)
        evidence = _limit_evidence(f"429 rejected {_names(rejected)} window of a model", until)
        return Verdict(Action.SKIP_MODEL_THEN_NEXT, evidence, until, model)
    until = _limited_until(fields, set(), now)
    if until is None and fields.get("x-should-retry") == "true" and not _has_limit_header(fields):
        until = now + _UNNAMED_THROTTLE_S
    return Verdict(Action.BENCH_THEN_NEXT, _limit_evidence(_describe(429, error), until), until)


def _rejected_windows(fields: dict[str, str]) -> set[str]:
    """The unified windows that refuse: the account's `5h` and `7d`, and those of one model, as `7d_oi`.

    `overage`, `slow` and their like are no windows: they say what may follow when one is used up.
    """
    rejected = set()
    for name, value in fields.items():
        window = name.removeprefix(_UNIFIED).removesuffix("-status")
        is_window = window in _SHARED or _MODEL_WINDOW.fullmatch(window)
        if is_window and name == f"{_UNIFIED}{window}-status" and value.lower() == "rejected":
            rejected.add(window)
    # A window's own line may be missing: then the claim names the one that `unified-status` speaks of.
    claimed = _CLAIMED_WINDOW.get(fields.get(_UNIFIED + "representative-claim", "").lower())
    if claimed and _is_top_rejected(fields) and f"{_UNIFIED}{claimed}-status" not in fields:
        rejected.add(claimed)
    return rejected


def _is_top_rejected(fields: dict[str, str]) -> bool:
    return fields.get(_UNIFIED + "status", "").lower() == "rejected"


def _allows_shared(fields: dict[str, str]) -> bool:
    return all(
        fields.get(f"{_UNIFIED}{window}-status", "").lower().startswith("allowed") for window in _SHARED
    )


def _has_limit_header(fields: dict[str, str]) -> bool:
    return any(name.startswith((_LIMIT, "retry-after")) for name in fields)


def _limited_until(fields: dict[str, str], rejected: set[str], now: float) -> float | None:
    """The first time that is ahead, the most exact source first; a second from now where all have passed."""
    named = list(_named_resets(fields, rejected, now))
    if not named:
        return None
    until = next((moment for moment in named if moment > now), now)
    return min(max(until, now + _SHORTEST_LIMIT_S), now + LONGEST_LIMIT_S)


def _named_resets(fields: dict[str, str], rejected: set[str], now: float) -> Iterator[float]:
    # Every window that refuses must have passed, so the last of them counts.
    yield from _latest(_moment(fields.get(f"{_UNIFIED}{window}-reset", "")) for window in rejected)
    if _is_top_rejected(fields):
        yield from _latest([_moment(fields.get(_UNIFIED + "reset", ""))])
    retry_after = fields.get("retry-after", "")
    # The milliseconds first, as SDKs read them.
    if (wait_ms := _number(fields.get("retry-after-ms", ""))) is not None:
        yield now + wait_ms / 1000
    if (wait_s := _number(retry_after)) is not None:
        yield now + wait_s
    else:
        yield from _latest([_http_date(retry_after)])
    resets = {
        match[1]: _moment(value) for name, value in fields.items() if (match := _PLAIN_RESET.fullmatch(name))
    }
    spent = [limit for limit in resets if _number(fields.get(f"{_LIMIT}{limit}-remaining", "")) == 0]
    # Token counts are rounded to thousands: a limit can be hit before it says 0.
    yield from _latest(resets[limit] for limit in spent or resets)


def _latest(moments: Iterable[float | None]) -> list[float]:
    known = [moment for moment in moments if moment is not None]
    return [max(known)] if known else []


def _number(text: str) -> float | None:
    """A count as limit headers have it: not negative, no `nan`, not in another script's digits."""
    return float(text) if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text) else None


def _moment(text: str) -> float | None:
    """Unix seconds (the unified limits) or RFC 3339 (the others), as seconds since the epoch."""
    if (number := _number(text)) is not None:
        return number
    try:
        return _epoch(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _http_date(text: str) -> float | None:
    try:
        return _epoch(parsedate_to_datetime(text))
    except (ValueError, OverflowError):
        return None


def _epoch(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _read_error(answer: AnswerHead, fields: dict[str, str]) -> _Error:
    try:
        body = json.loads(_decoded(answer.body_start, fields.get("content-encoding", "").lower()))
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


def _decoded(body: bytes, encoding: str) -> bytes:
    """At most 64 KiB of the body without its content encoding; as it is where that is not known."""
    body = body[:_BODY_LIMIT_BYTES]
    if encoding in ("gzip", "x-gzip", "deflate"):
        for wbits in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # gzip or zlib by their header, else raw deflate
            try:
                return zlib.decompressobj(wbits).decompress(body, _BODY_LIMIT_BYTES)
            except zlib.error:
                continue
    return body


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
