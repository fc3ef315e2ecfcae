"""The `openai` SDK on `/v1/chat/completions` through the proxy, beside the same calls without it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.clients.facts import (
    an_answer_has_its_own_headers_and_only_the_proxys_beside_them,
    check,
)
from tests.clients.sides import Both, Calls, both_sides, without_ids
from tests.service import CLIENT_KEY

CLIENT = "openai-3.57.0"
RETURNED = ("create", "create stream", "tool use")
RAISED = {
    "no such model": "NotFoundError",
    "status 400": "BadRequestError",
    "status 403": "PermissionDeniedError",
    "status 404": "NotFoundError",
    "status 500": "InternalServerError",
    "status 529": "InternalServerError",
}
OTHERS = {"headers", "error mid-stream", "cut stream", "wrong key"}


def undated(calls: Calls) -> Calls:
    """Without ids and times of creation: the clock of a proxy that has tried again is ahead."""
    return json.loads(re.sub(r'"created": \d+', '"created": 0', json.dumps(without_ids(calls))))


def an_error_inside_a_stream_is_raised_after_the_same_chunks(both: Both) -> None:
    calls = both.proxied.of("error mid-stream")
    assert undated(calls) == undated(both.direct.of("error mid-stream"))
    for outcome in calls.values():
        assert outcome["returned"]["raised"]["message"] == "Overloaded"


def a_stream_that_the_upstream_cuts_raises_an_error_after_all_chunks_before_the_cut(both: Both) -> None:
    direct = both.direct.of("cut stream")
    for style, outcome in both.proxied.of("cut stream").items():
        assert outcome["returned"]["raised"]["class"] == "APIError", outcome["returned"]["raised"]
        chunks, wanted = outcome["returned"]["events"], direct[style]["returned"]["events"]
        assert chunks and undated({"": chunks}) == undated({"": wanted})


def a_wrong_key_is_an_authentication_error_after_one_request(both: Both) -> None:
    for outcome in both.proxied.of("wrong key").values():
        assert outcome["raised"]["class"] == "AuthenticationError"
        assert outcome["requests"] == [["POST", "/v1/chat/completions", 401]]


def the_api_sees_the_accounts_key_and_never_the_clients(both: Both) -> None:
    for entry in both.proxied.asked:
        assert (entry.organization, len(entry.credential_headers)) == ("a", 1)
        assert not any(CLIENT_KEY in value for _, value in entry.headers)


FACTS = (
    an_answer_has_its_own_headers_and_only_the_proxys_beside_them,
    an_error_inside_a_stream_is_raised_after_the_same_chunks,
    a_stream_that_the_upstream_cuts_raises_an_error_after_all_chunks_before_the_cut,
    a_wrong_key_is_an_authentication_error_after_one_request,
    the_api_sees_the_accounts_key_and_never_the_clients,
)


async def test_the_openai_sdk_does_not_notice_the_proxy(tmp_path: Path, subtests: pytest.Subtests) -> None:
    both = await both_sides(CLIENT, tmp_path / "data")
    check(both, subtests, returned=RETURNED, raised=RAISED, others=OTHERS, facts=FACTS)
