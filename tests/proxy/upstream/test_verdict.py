"""What each kind of upstream answer means. Long: the contract's table with headers as recorded."""

from __future__ import annotations

import gzip
import json
import zlib
from email.utils import formatdate
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from proxy.clock import rfc3339
from proxy.http.headers import CredentialKind
from proxy.upstream.error_body import read_error
from proxy.upstream.verdict import LONGEST_LIMIT_S, MESSAGES, Action, Asked, Verdict, judge
from tests.answer_headers import answer_headers

NOW = 1_774_470_000.0
HOUR = 3600.0
DAY = 24 * HOUR
U = "anthropic-ratelimit-unified-"

# 429 of a subscription whose five hours are used up, as a public sniffer logged it in March 2026.
FIVE_HOURS_USED = {
    U + "status": "rejected",
    U + "5h-status": "rejected",
    U + "5h-reset": "1774472400",
    U + "5h-utilization": "1.0",
    U + "7d-status": "allowed",
    U + "7d-reset": "1774580400",
    U + "7d-utilization": "0.59",
    U + "representative-claim": "five_hour",
    U + "fallback-percentage": "0.5",
    U + "overage-disabled-reason": "out_of_credits",
    U + "overage-status": "rejected",
    "retry-after": "2094",
}
# 429 of one model's week, as recorded in August 2026 (times moved).
ONE_MODEL_USED = {
    U + "status": "rejected",
    U + "reset": str(int(NOW + 52_000)),
    U + "5h-status": "allowed",
    U + "5h-reset": str(int(NOW + 212)),
    U + "5h-utilization": "0.0",
    U + "7d-status": "allowed_warning",
    U + "7d-reset": str(int(NOW + 51_812)),
    U + "7d-utilization": "0.94",
    U + "7d_oi-status": "rejected",
    U + "7d_oi-reset": str(int(NOW + 51_812)),
    U + "7d_oi-utilization": "1.0",
    U + "representative-claim": "seven_day_overage_included",
    U + "overage-status": "rejected",
    "retry-after": "51811",
}
# 429 of an API key's input tokens.
TOKENS_USED = {
    "retry-after": "17",
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": rfc3339(NOW + 2),
    "anthropic-ratelimit-input-tokens-limit": "30000",
    "anthropic-ratelimit-input-tokens-remaining": "0",
    "anthropic-ratelimit-input-tokens-reset": rfc3339(NOW + 40),
    "anthropic-ratelimit-output-tokens-limit": "8000",
    "anthropic-ratelimit-output-tokens-remaining": "8000",
    "anthropic-ratelimit-output-tokens-reset": rfc3339(NOW + 300),
}


def error_body(type_: str, message: str, code: str | None = None) -> bytes:
    error: dict[str, Any] = {"type": type_, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    return json.dumps({"type": "error", "error": error, "request_id": "req_011"}).encode()


def judged(
    status: int,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    kind: CredentialKind = "oauth",
    model: str | None = "claude-opus-5-5",
    route: str = MESSAGES,
    now: float = NOW,
) -> Verdict:
    read = answer_headers(list((headers or {}).items()))
    error = read_error(body, read.get("content-encoding"), read.get("content-type"))
    return judge(status, read, error, account_kind=kind, asked=Asked(model, route), now=now)


API_429 = b'{"type":"error","error":{"type":"rate_limit_error","message":"Error"}}'


def limited_for(headers: dict[str, str], now: float = NOW) -> float | None:
    """Seconds for which the account is benched; None if this is no evidence about it."""
    verdict = judged(429, headers, API_429, now=now)
    assert (verdict.action is Action.BENCH_THEN_NEXT) == (verdict.limited_until is not None)
    assert verdict.is_throttle or verdict.limited_until is not None
    return None if verdict.limited_until is None else verdict.limited_until - now


def without(headers: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in names}


# ---- the table

TABLE: list[tuple[int, CredentialKind, Action]] = [
    *[(status, "oauth", Action.HAND_ON) for status in (200, 201, 204, 206, 301, 304, 307)],
    *[(status, "api_key", Action.HAND_ON) for status in (400, 404, 405, 409, 410, 412, 413, 415, 422, 499)],
    (401, "oauth", Action.REFRESH_THEN_NEXT),
    (401, "api_key", Action.CONFIRM_KEY_THEN_NEXT),
    (402, "oauth", Action.NEXT_ACCOUNT),
    (403, "api_key", Action.NEXT_ACCOUNT),
    *[(status, "oauth", Action.RETRY) for status in (408, 500, 502, 503, 504, 520, 529)],
    (999, "oauth", Action.HAND_ON),
]


@pytest.mark.parametrize(("status", "kind", "action"), TABLE)
def test_a_status_alone_means_what_the_table_says(status: int, kind: CredentialKind, action: Action) -> None:
    verdict = judged(status, kind=kind)
    assert verdict.action is action
    assert (verdict.limited_until, verdict.matter, verdict.invalid_reason) == (None, None, None)
    assert verdict.evidence == f"{status}"


@pytest.mark.parametrize("status", [200, 400, 403, 529])
def test_limit_headers_mean_nothing_on_any_other_status(status: int) -> None:
    assert judged(status, FIVE_HOURS_USED) == judged(status)


@pytest.mark.parametrize(
    "message",
    [
        "messages.0.content: OAuth token has been revoked.",
        "messages.0: Your credit balance is too low to access the Anthropic API.",
        "tool `Your credit balance is too low` is not allowed",
        'system: "You have reached your specified API usage limits"',
        "prompt is too long: 210000 tokens > 200000 maximum",
        "max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens",
        "The requested model does not support this beta",
        "",
    ],
)
@pytest.mark.parametrize("status", [400, 404])
def test_an_error_about_the_request_is_handed_on(status: int, message: str) -> None:
    body = error_body("invalid_request_error" if status == 400 else "not_found_error", message)
    verdict = judged(status, body=body)
    assert verdict == Verdict(Action.HAND_ON, verdict.evidence)
    assert verdict.evidence.startswith(f"{status} ")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("prompt is too long: 215000 tokens > 200000 maximum", "prompt is too long"),
        ("messages.3.content: Input tag 'a word of a prompt' is unknown", "messages.3.content"),
        ("tool `a word of a prompt` is not allowed", "tool"),
        ("", ""),
    ],
)
def test_what_is_told_of_an_error_about_the_request_repeats_nothing_of_it(message: str, told: str) -> None:
    evidence = judged(400, body=error_body("invalid_request_error", message)).evidence
    assert evidence == f"400 invalid_request_error: {told}".strip()


def test_an_answer_to_a_browsers_origin_costs_no_token() -> None:
    body = error_body(
        "authentication_error", "CORS requests are not allowed for this Organization because of x."
    )
    assert judged(401, body=body).action is Action.NEXT_ACCOUNT
    assert judged(401, body=body, kind="api_key").action is Action.NEXT_ACCOUNT


@pytest.mark.parametrize(
    "message",
    [
        "OAuth token has expired. Please obtain a new token or refresh your existing token.",
        "OAuth access token has been revoked.",
        "invalid x-api-key",
    ],
)
def test_any_other_401_is_about_the_credential(message: str) -> None:
    body = error_body("authentication_error", message)
    assert judged(401, body=body).action is Action.REFRESH_THEN_NEXT
    assert judged(401, body=body, kind="api_key").action is Action.CONFIRM_KEY_THEN_NEXT


@pytest.mark.parametrize("kind", ["oauth", "api_key"])
@pytest.mark.parametrize(
    "body", [b"<html>Sign in</html>", gzip.compress(b"<html>", mtime=0), b"Unauthorized"]
)
def test_a_401_that_is_a_page_of_an_edge_says_nothing_about_the_credential(
    kind: CredentialKind, body: bytes
) -> None:
    headers = {"content-type": "text/html", "content-encoding": "gzip" if body[:1] == b"\x1f" else ""}
    assert judged(401, headers, body, kind=kind) == Verdict(Action.RETRY, "401 of an edge, not of the API")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b""),
        ("", b" \r\n"),
        ("text/html", b'{"type":"error","error":{"type":"authentication_error"}}'),
        ("text/html", b'{"type":"error","err'),
        ("application/json", b"\x00\x01 in an encoding of its own"),
    ],
)
def test_a_401_that_is_empty_or_json_is_about_the_credential(content_type: str, body: bytes) -> None:
    headers = {"content-type": content_type}
    assert judged(401, headers, body).action is Action.REFRESH_THEN_NEXT
    assert judged(401, headers, body, kind="api_key").action is Action.CONFIRM_KEY_THEN_NEXT


# ---- 402 and 403

DEAD = [
    ("permission_error", "OAuth token has been revoked. Please obtain a new token.", None),
    ("permission_error", "OAuth access token has been revoked.", None),
    ("invalid_request_error", "This organization has been disabled.", None),
    ("permission_error", "this organization has been disabled", None),
    ("permission_error", "This API key has been revoked.", None),
    ("permission_error", "", "organization_disabled"),
]
ALIVE = [
    ("permission_error", "Your API key does not have permission to use the specified resource.", None),
    ("permission_error", "OAuth authentication is currently not allowed for this organization.", None),
    ("permission_error", "Web search has been disabled for this organization.", None),
    ("permission_error", "This organization has been disabled from using web search.", None),
    ("permission_error", "Your organization has disabled Claude subscription access.", None),
    ("permission_error", "tool 'OAuth token has been revoked.' is not allowed", None),
    ("permission_error", "", "user_profile_not_billable"),
    ("billing_error", "Your credit balance is too low.", "linked_organization_spend_limit_reached"),
    ("forbidden", "Request not allowed", None),
]


@pytest.mark.parametrize("status", [402, 403])
@pytest.mark.parametrize(("type_", "message", "code"), DEAD)
def test_a_dead_credential_is_known_by_its_wording(
    status: int, type_: str, message: str, code: str | None
) -> None:
    verdict = judged(status, body=error_body(type_, message, code))
    assert verdict.action is Action.NEXT_ACCOUNT
    assert verdict.invalid_reason == f"{status} {type_}: {message}".strip()


@pytest.mark.parametrize("status", [402, 403])
@pytest.mark.parametrize(("type_", "message", "code"), ALIVE)
def test_any_other_refusal_leaves_the_account_as_it_is(
    status: int, type_: str, message: str, code: str | None
) -> None:
    verdict = judged(status, body=error_body(type_, message, code))
    assert verdict.action in (Action.NEXT_ACCOUNT, Action.SKIP_THEN_NEXT)
    assert (verdict.matter, verdict.invalid_reason) == (None, None)


NO_CREDIT = [
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
    "Your credit balance is insufficient.",
    "You have insufficient credits for this request.",
]


@pytest.mark.parametrize("status", [400, 402, 403])
@pytest.mark.parametrize("message", NO_CREDIT)
def test_an_account_without_credit_is_benched_without_a_time(status: int, message: str) -> None:
    type_ = {400: "invalid_request_error", 402: "billing_error", 403: "permission_error"}[status]
    verdict = judged(status, body=error_body(type_, message))
    assert (verdict.action, verdict.limited_until) == (Action.BENCH_THEN_NEXT, None)
    assert (verdict.by_quota, verdict.evidence[:3]) == (False, f"{status}")


FIRST_OF_APRIL = 1_775_001_600.0


@pytest.mark.parametrize("status", [400, 402, 403, 429])
@pytest.mark.parametrize(
    ("message", "until"),
    [
        (
            "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC.",
            FIRST_OF_APRIL,
        ),
        ("You have reached your specified workspace API usage limits.", None),
        (
            "You have reached your API usage limits: your organization has crossed its monthly threshold. "
            "You will regain access on 2026-04-01 at 12:30 UTC.",
            FIRST_OF_APRIL + 12.5 * HOUR,
        ),
        ("You have exceeded your monthly spending limit. Access returns on 2026-04-01.", FIRST_OF_APRIL),
        ("You have reached your specified API usage limits. You will regain access on 2026-03-01.", None),
        ("You have reached your specified API usage limits. You will regain access on 2026-99-99.", None),
        ("You have reached your specified API usage limits, until 2029-01-01.", None),
    ],
)
def test_a_spend_limit_benches_until_the_day_that_is_named(
    status: int, message: str, until: float | None
) -> None:
    verdict = judged(status, body=error_body("invalid_request_error", message))
    assert (verdict.action, verdict.limited_until) == (Action.BENCH_THEN_NEXT, until)


@pytest.mark.parametrize("code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"])
def test_a_spend_limit_is_known_by_its_code(code: str) -> None:
    assert judged(429, body=error_body("rate_limit_error", "", code)).action is Action.BENCH_THEN_NEXT


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "The long context beta is not yet available for this subscription."),
        (400, "Your organization is not enrolled in the beta managed-agents-2026-04-01."),
        (400, "This authentication style is incompatible with the long context beta header."),
        (400, "You're out of extra usage. Add more at claude.ai/settings/usage and keep going."),
        (400, "Third-party apps now draw from your extra usage, not your plan limits."),
        (400, "This credential is only authorized for use with Claude Code."),
        (400, "Claude Opus is not available with the Claude Pro plan."),
        (404, "Your organization does not have access to this model."),
        (403, "Fast mode is not enabled for your organization."),
    ],
)
def test_a_plan_or_beta_that_an_account_lacks_passes_it_over(status: int, message: str) -> None:
    verdict = judged(status, body=error_body("invalid_request_error", message))
    assert (verdict.action, verdict.limited_until, verdict.by_quota) == (Action.SKIP_THEN_NEXT, None, False)


def test_a_beta_that_an_organization_is_not_enrolled_in_is_known_by_its_code() -> None:
    body = error_body("invalid_request_error", "", "organization_not_enrolled_in_beta")
    assert judged(400, body=body).action is Action.SKIP_THEN_NEXT


@pytest.mark.parametrize(
    "message",
    [
        "model: claude-3-5-sonnet-20241022",
        "Claude Fable 5 is not available. Please use Opus 4.8.",
        "model 'sonnet' does not exist or you do not have access to it",
    ],
)
def test_a_404_of_a_model_passes_over_for_that_model(message: str) -> None:
    verdict = judged(404, body=error_body("not_found_error", message), model="sonnet")
    assert (verdict.action, verdict.matter) == (Action.SKIP_THEN_NEXT, "model sonnet")
    assert judged(404, body=error_body("other_error", message)).action is Action.HAND_ON


def test_an_edges_page_of_html_says_nothing_about_the_account() -> None:
    body = b"<!DOCTYPE html><title>OAuth token has been revoked.</title>"
    assert judged(403, {"content-type": "text/html"}, body) == Verdict(Action.NEXT_ACCOUNT, "403")


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("br", brotli.compress),
        ("zstd", zstd.compress),
        ("gzip", bytes),  # a lie of an edge's
    ],
)
def test_a_compressed_body_is_read(encoding: str, encode: Any) -> None:
    body = encode(error_body("permission_error", "OAuth token has been revoked."))
    assert judged(403, {"content-encoding": encoding}, body).invalid_reason is not None


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", b"\x0b\x02\x80{}\x03"),
        ("zstd", b"\x28\xb5\x2f\xfd\x04"),
        ("gzip", gzip.compress(b'{"error":{}}', mtime=0)[:-9]),
        ("gzip", b"\x1f\x8b broken"),
        pytest.param("gzip", gzip.compress(b"[" * 50_000_000, mtime=0), id="a bomb"),
        ("", b"[" * 60_000),
        ("", b'{"error":{"type":1,"message":["a"],"details":"b"}}'),
        ("", b'{"error":null}'),
        ("", b"\xff\xfe\x00"),
    ],
)
def test_a_body_that_cannot_be_read_says_nothing(encoding: str, body: bytes) -> None:
    assert judged(403, {"content-encoding": encoding}, body) == Verdict(Action.NEXT_ACCOUNT, "403")


# ---- 429: whose limit it is


def test_a_rejected_shared_window_benches_the_account_until_its_reset() -> None:
    assert judged(429, FIVE_HOURS_USED) == Verdict(
        Action.BENCH_THEN_NEXT,
        "429, the limit for 5 hours is used up, resets 2026-03-25T21:00:00.000Z",
        1_774_472_400.0,
        by_quota=True,
    )


def test_of_two_rejected_windows_the_later_one_counts() -> None:
    verdict = judged(429, FIVE_HOURS_USED | {U + "7d-status": "rejected"})
    assert verdict.limited_until == 1_774_580_400.0
    assert "5 hours and 7 days" in verdict.evidence


def test_one_models_rejected_window_passes_over_that_model_only() -> None:
    verdict = judged(429, ONE_MODEL_USED, model="claude-fable-5-1")
    assert verdict.action is Action.SKIP_THEN_NEXT
    assert verdict.matter == "model claude-fable-5-1"
    assert verdict.limited_until == NOW + 51_812
    assert "some models, 7 days" in verdict.evidence


@pytest.mark.parametrize("window", ["7d_opus", "7d_sonnet", "7d-sonnet", "30d_future"])
def test_any_window_with_a_suffix_is_one_models(window: str) -> None:
    headers = {U + "5h-status": "allowed", U + "7d-status": "allowed", f"{U}{window}-status": "rejected"}
    assert judged(429, headers).action is Action.SKIP_THEN_NEXT


def test_a_missing_shared_status_does_not_make_a_models_limit_the_accounts() -> None:
    headers = without(ONE_MODEL_USED, U + "5h-status", U + "7d_oi-reset", U + "reset")
    verdict = judged(429, headers)
    assert (verdict.action, verdict.limited_until) == (Action.SKIP_THEN_NEXT, NOW + 51_811)


def test_a_shared_window_outweighs_a_models() -> None:
    verdict = judged(429, ONE_MODEL_USED | {U + "5h-status": "rejected"})
    assert (verdict.action, verdict.limited_until) == (Action.BENCH_THEN_NEXT, NOW + 212)


def test_a_refusal_that_both_shared_windows_allow_is_the_models() -> None:
    headers = without(ONE_MODEL_USED, U + "7d_oi-status", U + "representative-claim")
    assert judged(429, headers).action is Action.SKIP_THEN_NEXT


@pytest.mark.parametrize(
    ("claim", "action"),
    [
        ("five_hour", Action.BENCH_THEN_NEXT),
        ("seven_day", Action.BENCH_THEN_NEXT),
        ("seven_day_opus", Action.SKIP_THEN_NEXT),
        ("seven_day_overage_included", Action.SKIP_THEN_NEXT),
        ("something_new", Action.BENCH_THEN_NEXT),
    ],
)
def test_where_windows_have_no_status_the_claim_says_whose_limit_it_is(claim: str, action: Action) -> None:
    headers = {U + "status": "rejected", U + "representative-claim": claim, U + "reset": str(int(NOW + HOUR))}
    verdict = judged(429, headers)
    assert (verdict.action, verdict.limited_until) == (action, NOW + HOUR)


def test_a_windows_own_status_outweighs_the_claim() -> None:
    verdict = judged(429, ONE_MODEL_USED | {U + "representative-claim": "five_hour"})
    assert verdict.action is Action.SKIP_THEN_NEXT


@pytest.mark.parametrize(
    "message",
    [
        "Extra usage is required for long context requests.",
        "Usage credits are required for long context requests.",
    ],
)
def test_long_context_credit_passes_over_the_model_without_a_time(message: str) -> None:
    headers = {U + "status": "rejected", U + "reset": str(int(NOW + 9 * 86_400)), "retry-after": "777600"}
    verdict = judged(429, headers, error_body("rate_limit_error", message))
    assert (verdict.action, verdict.limited_until) == (Action.SKIP_THEN_NEXT, None)
    assert verdict.matter is None


def test_a_used_up_account_is_benched_even_where_it_asks_for_long_context_credit() -> None:
    body = error_body("rate_limit_error", "Extra usage is required for long context requests.")
    assert judged(429, FIVE_HOURS_USED, body).action is Action.BENCH_THEN_NEXT


def test_a_models_limit_of_a_request_without_a_model_names_none() -> None:
    verdict = judged(429, ONE_MODEL_USED, model=None)
    assert (verdict.action, verdict.matter) == (Action.SKIP_THEN_NEXT, None)


@pytest.mark.parametrize("name", ["overage", "slow", "grace", "overage-period"])
def test_what_follows_a_used_up_window_is_no_window(name: str) -> None:
    verdict = judged(429, {f"{U}{name}-status": "rejected", "retry-after": "30"})
    assert (verdict.action, verdict.limited_until) == (Action.BENCH_THEN_NEXT, NOW + 30)


# ---- 429: until when


def test_the_windows_reset_comes_before_retry_after_and_that_before_the_other_resets() -> None:
    headers = FIVE_HOURS_USED | without(TOKENS_USED, "retry-after")
    assert limited_for(headers) == 2400
    assert limited_for(without(headers, U + "5h-reset")) == 2094
    assert limited_for(without(headers, U + "5h-reset", "retry-after")) == 40


def test_a_passed_reset_gives_way_to_a_later_source() -> None:
    assert limited_for(FIVE_HOURS_USED | {U + "5h-reset": str(int(NOW - 10))}) == 2094


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17.0),
        (" 17 ", 17.0),
        ("0.25", 1.0),
        ("90.5", 90.5),
        ("0", 1.0),
        (formatdate(NOW + 120, usegmt=True), 120.0),
        (formatdate(NOW - 120, usegmt=True), 1.0),
        ("Wednesday, 25-Mar-26 20:40:00 GMT", 1200.0),
        ("Wed Mar 25 20:40:00 2026", 1200.0),
        ("2592000", 30 * DAY),
        ("-5", None),
        ("", None),
        ("soon", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("0x10", None),
        ("\u0661\u0662", None),
        ("Wed, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_every_form_of_retry_after_is_read_or_ignored(value: str, seconds: float | None) -> None:
    assert limited_for({"Retry-After": value}) == seconds


@pytest.mark.parametrize("value", ["99999999", "9" * 400, str(int(NOW + 30)), formatdate(NOW + 40 * DAY)])
def test_a_retry_after_too_far_ahead_says_that_it_is_limited_and_not_until_when(value: str) -> None:
    verdict = judged(429, {"retry-after": value}, API_429)
    assert (verdict.action, verdict.limited_until) == (Action.BENCH_THEN_NEXT, None)
    assert limited_for({"retry-after": value, "retry-after-ms": "2500"}) == 2.5


MILLISECONDS = str(int(NOW + 600) * 1000)


@pytest.mark.parametrize(
    ("changed", "seconds"),
    [
        ({U + "5h-reset": MILLISECONDS}, 2094),
        ({U + "5h-reset": MILLISECONDS, U + "reset": str(int(NOW + 900))}, 900),
        ({U + "5h-reset": MILLISECONDS, U + "reset": MILLISECONDS, "retry-after": "99999999"}, None),
        ({U + "5h-reset": str(int(NOW + 20 * DAY))}, 2094),
        ({U + "5h-reset": str(int(NOW + 20 * DAY)), "retry-after": "2592000"}, None),
        ({U + "7d-status": "rejected", U + "7d-reset": str(int(NOW + 6 * DAY))}, 6 * DAY),
        ({U + "7d-status": "rejected", U + "7d-reset": str(int(NOW + 9 * DAY))}, 2400),
        ({U + "7d-status": "rejected", U + "5h-reset": str(int(NOW + 6 * DAY))}, 110_400),
        ({U + "5h-reset": str(int(NOW + 5.5 * HOUR))}, 5.5 * HOUR),
    ],
)
def test_a_windows_reset_further_ahead_than_the_window_is_long_is_ignored(
    changed: dict[str, str], seconds: float | None
) -> None:
    verdict = judged(429, FIVE_HOURS_USED | changed, API_429)
    assert verdict.action is Action.BENCH_THEN_NEXT
    assert verdict.limited_until == (None if seconds is None else NOW + seconds)


def test_a_classic_reset_too_far_ahead_is_ignored() -> None:
    headers = TOKENS_USED | {"anthropic-ratelimit-input-tokens-reset": MILLISECONDS}
    assert limited_for(headers) == 17
    verdict = judged(429, without(headers, "retry-after"), API_429)
    assert (verdict.action, verdict.limited_until) == (Action.BENCH_THEN_NEXT, None)


def test_retry_after_ms_is_read_first_as_sdks_do() -> None:
    assert limited_for({"retry-after": "30", "retry-after-ms": "2500"}) == 2.5


def test_the_spent_limit_names_the_time() -> None:
    assert limited_for(without(TOKENS_USED, "retry-after")) == 40


def test_where_no_limit_says_it_is_spent_the_latest_counts() -> None:
    headers = without(TOKENS_USED, "retry-after")
    assert limited_for({name: value for name, value in headers.items() if "remaining" not in name}) == 300


def test_unified_windows_that_allow_name_no_time() -> None:
    headers = {U + "5h-status": "allowed", U + "5h-reset": str(int(NOW + HOUR)), U + "status": "allowed"}
    assert limited_for(headers) is None


def test_a_429_without_any_hint_benches_nobody() -> None:
    verdict = judged(429, body=error_body("rate_limit_error", "Error"))
    evidence = "429 rate_limit_error: Error, no reset named, no limit is said to be used up"
    assert verdict == Verdict(
        Action.SKIP_THEN_NEXT, evidence, matter="model claude-opus-5-5", is_throttle=True
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"anthropic-ratelimit-requests-remaining": "0"},
        {U + "status": "rejected"},
        {U + "5h-status": "rejected"},
    ],
)
def test_a_used_up_limit_without_a_time_is_the_accounts(headers: dict[str, str]) -> None:
    verdict = judged(429, headers, API_429)
    assert (verdict.action, verdict.limited_until) == (Action.BENCH_THEN_NEXT, None)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/html", "retry-after": "60"}, b"<html>429</html>"),
        ({"retry-after": "60"}, b"<!DOCTYPE html><title>Too many</title>"),
        ({"x-should-retry": "true"}, b""),
        ({}, b"error code: 1015"),
    ],
)
def test_a_429_of_an_edge_is_trouble_of_the_upstream(headers: dict[str, str], body: bytes) -> None:
    assert judged(429, headers, body).action is Action.RETRY
    assert judged(429, headers, body, route="files").action is Action.RETRY


def test_limit_headers_are_the_apis_whatever_the_body_is() -> None:
    assert judged(429, FIVE_HOURS_USED, b"<html>").action is Action.BENCH_THEN_NEXT


@pytest.mark.parametrize("body", [b'{"type":"error","error":{"ty', b"\n {"])
def test_a_body_that_was_cut_is_known_by_its_start(body: bytes) -> None:
    assert judged(429, {"retry-after": "60"}, body).action is Action.BENCH_THEN_NEXT


@pytest.mark.parametrize("headers", [FIVE_HOURS_USED, ONE_MODEL_USED, TOKENS_USED, {}])
@pytest.mark.parametrize("route", ["files", "batches", "count_tokens", "models"])
def test_a_429_to_another_route_is_about_that_route(headers: dict[str, str], route: str) -> None:
    verdict = judged(429, headers, API_429, route=route)
    assert (verdict.action, verdict.matter) == (Action.SKIP_THEN_NEXT, f"route {route}")
    assert verdict.is_throttle == (verdict.limited_until is None)


# ---- the answer's own clock


@pytest.mark.parametrize("hours", [-26, -2, -0.01, 0, 0.01, 2, 26])
def test_a_wrong_clock_here_changes_no_rest(hours: float) -> None:
    now = NOW + hours * HOUR
    date = {"date": formatdate(NOW, usegmt=True)}
    assert limited_for(FIVE_HOURS_USED | date, now) == pytest.approx(2400, abs=2)
    assert limited_for(TOKENS_USED | date, now) == 17
    until = {"retry-after": formatdate(NOW + 120, usegmt=True)}
    assert limited_for(until | date, now) == pytest.approx(120, abs=2)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        formatdate(NOW - 8 * 86_400, usegmt=True),
        "x" * 500,
    ],
)
def test_without_a_sane_date_the_clock_here_counts(date: str) -> None:
    assert limited_for(FIVE_HOURS_USED | {"date": date}) == 2400


def test_should_retry_without_a_limit_header_is_a_short_throttle() -> None:
    assert limited_for({"x-should-retry": "true"}) == 5
    assert limited_for({"x-should-retry": "false"}) is None
    assert limited_for({"x-should-retry": "true", U + "status": "allowed"}) is None
    assert limited_for({"x-should-retry": "true", "retry-after": "30"}) == 30
    assert judged(429, {"x-should-retry": "true"}, API_429).by_quota


# ---- evidence


def test_evidence_is_one_short_line_without_anything_secret() -> None:
    secret = "sk-ant-oat01-" + "x" * 30
    jwt = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    message = f"bad\r\n\x1b[2J key {secret} (sk-ant-short) or {jwt}, caf\xe9 " + "word " * 100
    verdict = judged(403, body=error_body("permission_error", message))
    assert verdict.evidence.startswith("403 permission_error: bad [2J key [...] [...] or [...]")
    assert len(verdict.evidence) <= 160
    assert verdict.evidence.isprintable()


def test_an_answers_headers_are_shown_to_no_one() -> None:
    assert "secret" not in repr(answer_headers([("set-cookie", "secret"), ("retry-after", "secret")]))


# ---- properties

NAMES = sorted(
    {*FIVE_HOURS_USED, *ONE_MODEL_USED, *TOKENS_USED, "retry-after-ms", "x-should-retry", "content-encoding"}
)
VALUES = [
    "rejected",
    "allowed",
    "true",
    "0",
    "-1",
    "1e9",
    "nan",
    "9" * 30,
    "1774472400",
    "1774472400000",
    "gzip",
]
VALUES += ["2026-03-25T21:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "five_hour"]
VALUES += [
    "Fri, 31 Dec 9999 23:59:59 -9999",
    "Mon, 01 Jan 0001 00:00:00 +9999",
    "25 Mar 99999999999999999999",
]
soup = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(NAMES), st.text(max_size=20), st.text(max_size=9).map(lambda w: f"{U}{w}-status")
        ),
        st.one_of(
            st.sampled_from(VALUES), st.text(max_size=40), st.floats().map(str), st.datetimes().map(str)
        ),
    ),
    max_size=14,
)
bodies = st.one_of(
    st.binary(max_size=200), st.text(max_size=60).map(lambda text: error_body(text, text, text))
)


@given(
    st.one_of(st.just(429), st.integers(100, 999)),
    soup,
    bodies,
    st.sampled_from(["oauth", "api_key"]),
    st.none() | st.text(max_size=20),
)
def test_no_answer_whatever_raises_or_names_a_time_out_of_bounds(
    status: int, headers: list[tuple[str, str]], body: bytes, kind: CredentialKind, model: str | None
) -> None:
    read = answer_headers(headers)
    error = read_error(body, read.get("content-encoding"), read.get("content-type"))
    verdict = judge(status, read, error, account_kind=kind, asked=Asked(model), now=NOW)
    if verdict.limited_until is not None:
        assert status in (400, 402, 403, 429)
        assert NOW + 1 <= verdict.limited_until <= NOW + LONGEST_LIMIT_S
    assert verdict.matter in (None, f"model {model}")
    assert verdict.evidence.startswith(str(status))
    assert verdict.evidence.isascii()
    assert verdict.evidence.isprintable()
    assert len(verdict.evidence) < 260
