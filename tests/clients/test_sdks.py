"""The official SDKs through the proxy, beside the same calls without it.

A test makes every call of the client's program through a proxy with one account, and compares it with what comes of
the same calls made directly to a fresh simulator with the same seed, clock and organisation. So it is compared as it
is, ids included; each fact is a subtest, so that a client runs once for all of them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.simulator import Entry
from tests.clients.facts import (
    an_answer_has_its_own_headers_and_only_the_proxys_beside_them,
    check,
)
from tests.clients.sides import Both, both_sides, without_ids
from tests.service import CLIENT_KEY

CLIENTS = {
    # folder → the User-Agents of its clients
    "anthropic-0.121.0": {"Anthropic/Python 0.121.0", "AsyncAnthropic/Python 0.121.0"},
    "anthropic-2.14.0": {"Anthropic/Python 2.14.0", "AsyncAnthropic/Python 2.14.0"},
    "typescript": {"Anthropic/JS 1.14.0"},
    "go": {"Anthropic/Go 1.84.0"},
}
RETURNED = (
    "create", "create stream", "stream helper", "thinking", "tool use", "tool runner", "count tokens",
    "models", "files", "batches",
)  # fmt: skip
RAISED = {
    "invalid request": "BadRequestError",
    "no such model": "NotFoundError",
    "status 400": "BadRequestError",
    "status 403": "PermissionDeniedError",
    "status 404": "NotFoundError",
    "status 500": "InternalServerError",
    "status 529": "OverloadedError",
}
OTHERS = {"headers", "error mid-stream", "cut stream", "wrong key", "rate limit"}


def an_error_inside_a_stream_is_raised_after_the_same_events(both: Both) -> None:
    calls = both.proxied.of("error mid-stream")
    assert without_ids(calls) == without_ids(both.direct.of("error mid-stream"))
    for outcome in calls.values():
        assert outcome["returned"]["raised"]["type"] == "overloaded_error"


def a_stream_that_the_upstream_cuts_raises_an_api_error_after_all_events_before_the_cut(
    both: Both,
) -> None:
    direct = both.direct.of("cut stream")
    for style, outcome in both.proxied.of("cut stream").items():
        # Not the same as without the proxy, where it is the connection that breaks.
        assert outcome["returned"]["raised"]["type"] == "api_error"
        events, wanted = outcome["returned"]["events"], direct[style]["returned"]["events"]
        assert events and without_ids({"": events}) == without_ids({"": wanted})


def a_wrong_key_is_an_authentication_error_after_one_request(both: Both) -> None:
    for outcome in both.proxied.of("wrong key").values():
        assert outcome["raised"]["class"] == "AuthenticationError"
        assert outcome["requests"] == [["POST", "/v1/messages", 401]]


def an_exhausted_pool_is_a_rate_limit_error_after_one_request(both: Both) -> None:
    # Its hour of `retry-after` would be slept through by 2.14.0 and 1.14.0, were it not for `x-should-retry`.
    for outcome in both.proxied.of("rate limit").values():
        assert outcome["raised"]["class"] == "RateLimitError"
        assert "all accounts rate limited" in outcome["raised"]["message"]
        assert outcome["requests"] == [["POST", "/v1/messages", 429]]


def the_results_of_a_batch_are_asked_of_the_proxy(both: Both) -> None:
    for calls in both.proxied.calls.values():
        results_url = calls["batches"]["returned"][1]["results_url"]
        assert results_url.startswith(f"{both.proxied.url}/v1/messages/batches/msgbatch_")
        assert ["GET", results_url, 200] in calls["batches"]["requests"]


def the_api_is_asked_what_it_is_asked_without_the_proxy(both: Both) -> None:
    # Up to the calls that fail, from where on the proxy asks it more often.
    answered = (*RETURNED, "headers")
    count = sum(len(calls[name]["requests"]) for calls in both.direct.calls.values() for name in answered)
    proxied, direct = both.proxied.asked[:count], both.direct.asked[:count]
    assert [asked(entry) for entry in proxied] == [asked(entry) for entry in direct]


def asked(entry: Entry) -> tuple[str, str, list[tuple[str, str]], bytes | None]:
    """A request without what belongs to its connection, its framing or its caller."""
    not_compared = {"host", "connection", "content-length", "transfer-encoding", "authorization", "x-api-key"}
    headers = [(name, value) for name, value in entry.headers if name.lower() not in not_compared]
    body = entry.body
    if found := re.search("boundary=(.+)", entry.header("content-type") or ""):  # random
        headers = [(name, value.replace(found[1], "")) for name, value in headers]
        body = (body or b"").replace(found[1].encode(), b"")
    return entry.method, entry.target, headers, body


def the_api_sees_the_accounts_key_and_never_the_clients(both: Both) -> None:
    for entry in both.proxied.asked:
        assert entry.organization == "a"
        assert len(entry.credential_headers) == 1
        assert not any(CLIENT_KEY in value for _, value in entry.headers)


def the_api_sees_which_client_asks(both: Both) -> None:
    agents = {entry.header("user-agent") for entry in both.proxied.asked}
    assert agents == CLIENTS[both.client]


FACTS = (
    an_answer_has_its_own_headers_and_only_the_proxys_beside_them,
    an_error_inside_a_stream_is_raised_after_the_same_events,
    a_stream_that_the_upstream_cuts_raises_an_api_error_after_all_events_before_the_cut,
    a_wrong_key_is_an_authentication_error_after_one_request,
    an_exhausted_pool_is_a_rate_limit_error_after_one_request,
    the_results_of_a_batch_are_asked_of_the_proxy,
    the_api_is_asked_what_it_is_asked_without_the_proxy,
    the_api_sees_the_accounts_key_and_never_the_clients,
    the_api_sees_which_client_asks,
)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_does_not_notice_the_proxy(
    client: str, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    both = await both_sides(client, tmp_path / "data")
    check(both, subtests, returned=RETURNED, raised=RAISED, others=OTHERS, facts=FACTS)
