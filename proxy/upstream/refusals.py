"""What errors say about the account that was asked: one table of known codes and wordings, with their sources.

A wording is looked for only in the API's own words (`ApiError.own_words`), so that no text which a client has sent,
and which the API repeats, costs an account.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from proxy.upstream.error_body import ApiError


class Lack(StrEnum):
    """What an account has not, so that it refuses what another account may do."""

    CREDENTIAL = "a live credential"
    CREDIT = "credit"
    LIMIT = "room below its spend limit"
    PLAN = "the plan or beta"
    MODEL = "the model"
    SIGNATURE = "the key that has signed a part of the conversation"


class _Known(NamedTuple):
    lack: Lack
    statuses: frozenset[int]
    words: re.Pattern[str]


def _known(lack: Lack, statuses: set[int], words: str) -> _Known:
    return _Known(lack, frozenset(statuses), re.compile(words, re.IGNORECASE | re.DOTALL))


_WORDINGS = (
    # "This organization has been disabled." (anthropics/claude-code#19028, #54311, #72457: a 400), "OAuth token has
    # been revoked. Please obtain a new token." (#9635), "OAuth access token has been revoked." (vm0-ai/vm0#29128).
    # To the full stop: "… has been disabled from using web search" is another matter.
    _known(
        Lack.CREDENTIAL,
        {400, 402, 403},
        r"^(?:this |your |the )?(?:oauth (?:access )?token|api key|organization|account)"
        r" (?:has been|is|was) (?:revoked|disabled)(?:\.|$)",
    ),
    # "Your credit balance is too low to access the Anthropic API. …" (anthropics/claude-code#66314, a 400).
    _known(
        Lack.CREDIT,
        {400, 402, 403, 429},
        r"\bcredit (?:balance|limit)?\b.{0,40}\b(?:low|insufficient|exhaust)",
    ),
    _known(Lack.CREDIT, {400, 402, 403, 429}, r"\b(?:insufficient|not enough|out of|no) (?:\w+ )?credits?\b"),
    # "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC."
    # (anthropics/claude-code#38035, a 400), "… your specified workspace API usage limits" (platform.claude.com
    # /docs/en/api/errors), "You have reached your API usage limits: your organization has crossed …" (a 429).
    _known(
        Lack.LIMIT,
        {400, 402, 403, 429},
        r"\b(?:reached|exceeded|hit|over)\b.{0,60}\b(?:usage|spend(?:ing)?|billing|budget)\b.{0,20}\blimits?\b",
    ),
    _known(Lack.LIMIT, {400, 402, 403, 429}, r"\byou will regain access\b"),
    # "The long context beta is not yet available for this subscription." (anthropics/claude-code#27944, a 400),
    # "This authentication style is incompatible with the long context beta header." (#3835), "You're out of extra
    # usage. …" (#45052), "Third-party apps now draw from your extra usage, …" (#45048), "This credential is only
    # authorized for use with Claude Code …": a subscription refuses what an API key may do.
    _known(
        Lack.PLAN,
        {400, 403, 404},
        r"\bnot (?:yet |currently )?(?:available|enabled|supported|allowed|included)\b.{0,40}"
        r"\b(?:subscription|plan|account|organization|workspace|tier)\b",
    ),
    _known(
        Lack.PLAN,
        {400, 403, 404},
        r"\b(?:subscription|plan|account|organization|workspace|tier)\b.{0,20}"
        r"\b(?:does not|doesn't|do not) (?:have|include|support)\b",
    ),
    _known(Lack.PLAN, {400, 403, 404}, r"\b(?:account|organization|workspace) is not enrolled in\b"),
    _known(Lack.PLAN, {400, 403}, r"^this authentication style is incompatible\b"),
    _known(Lack.PLAN, {400, 403}, r"^this credential is only authorized\b"),
    _known(Lack.PLAN, {400, 403}, r"\b(?:out of|draw from) (?:your )?extra usage\b"),
)
_CODES = {
    # anthropic 2.12.0, `_error_classes.py`
    "organization_disabled": Lack.CREDENTIAL,
    "oauth_token_revoked": Lack.CREDENTIAL,
    "api_key_revoked": Lack.CREDENTIAL,
    "organization_on_hold": Lack.LIMIT,
    "enforced_spend_limit_reached": Lack.LIMIT,
    "contract_spend_limit_reached": Lack.LIMIT,
    "organization_not_enrolled_in_beta": Lack.PLAN,
}
# Of an organisation or a person that the request names (`anthropic-user-profile-id`), not of the account.
_CODES_OF_THE_REQUEST = ("linked_organization_", "user_profile_")
# "model: claude-3-5-sonnet-20241022" (mattermost/mattermost-plugin-agents#257), "Claude Fable 5 is not available. …"
# (anthropics/claude-code#68121).
_NO_MODEL = re.compile(
    r"^(?:(?:the |this )?(?:requested |specified )?model(?:\s*$|.{0,60}\bnot (?:found|available|exist)\b)"
    r"|claude [\w. -]{1,40} is not (?:yet )?available)",
    re.IGNORECASE,
)
# "messages.1.content.0: Invalid `signature` in `thinking` block" (anthropics/claude-code#10627, #71111): thinking
# blocks and search results are bound to the organisation that made them (platform.claude.com/docs/en
# /preserved-thinking). What is "bound to a different conversation" is refused by each.
_FOREIGN = re.compile(
    r"^messages\.\d+\.content\.\d+(?:\.\w+)*: invalid `(?:signature|data|encrypted_content)` in `"
    r"(?!.*\bbound to a different)",
    re.IGNORECASE | re.DOTALL,
)
# Messages that speak of the account. If none of the above is in one, the API has new words for something.
_OF_THE_ACCOUNT = re.compile(
    r"\b(?:account|organi[sz]ation|subscription|workspace|plan|billing|credits?|balance|"
    r"spend|usage limits?|quota|extra usage)\b",
    re.IGNORECASE,
)
_DAY = re.compile(r"\b(20\d\d)-(\d\d)-(\d\d)(?:(?:T| at | )(\d\d):(\d\d))?")

_REFUSALS = frozenset({400, 402, 403, 404, 429})
# What the API is known to answer (anthropic 2.12.0, `types/shared/error_type.py`).
_TYPES = {
    400: {"invalid_request_error"},
    401: {"authentication_error"},
    402: {"billing_error"},
    403: {"permission_error", "forbidden"},
    404: {"not_found_error"},
    429: {"rate_limit_error"},
}
# 4xx whose body is not read: what they mean is known by the status.
_PLAIN_STATUSES = frozenset({405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 431, 499})


def lack_of(status: int, error: ApiError) -> Lack | None:
    """What the account lacks, by an error with this status; None if the error is about the request."""
    if status not in _REFUSALS or error.code.startswith(_CODES_OF_THE_REQUEST):
        return None
    if known := _CODES.get(error.code):
        return known
    words = error.own_words
    if status == 400 and _FOREIGN.match(error.message):
        return Lack.SIGNATURE
    if status == 404:
        if error.type == "not_found_error" and _NO_MODEL.match(words):
            return Lack.MODEL
    elif status == 402 and error.type == "billing_error" and not error.code:
        return next((k.lack for k in _WORDINGS if k.words.search(words)), Lack.CREDIT)
    return next((k.lack for k in _WORDINGS if status in k.statuses and k.words.search(words)), None)


def access_from(error: ApiError) -> float | None:
    """The day, in seconds since the epoch, from which the message promises access again; None if it names none."""
    match = _DAY.search(error.message)
    if match is None:
        return None
    year, month, day, hour, minute = (int(part or 0) for part in match.groups())
    try:
        return datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()
    except ValueError:
        return None


def is_unclassified(status: int, error: ApiError) -> bool:
    """Whether a 4xx is of no known shape: another status, another type, or of an account in unknown words."""
    if status not in _TYPES:
        return status not in _PLAIN_STATUSES
    if not error.is_json:
        return False
    if error.type not in _TYPES[status]:
        return True
    return status in (400, 404) and lack_of(status, error) is None and _speaks_of_the_account(error)


def _speaks_of_the_account(error: ApiError) -> bool:
    return _OF_THE_ACCOUNT.search(error.own_words) is not None
