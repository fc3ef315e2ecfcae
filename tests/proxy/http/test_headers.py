"""Which headers cross the proxy, and which never do."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.http.headers import ClientHeaders, Credential, to_upstream
from tests.answer_headers import answer_headers

KEY = Credential("api_key", "sk-ant-api03-upstream")
TOKEN = Credential("oauth", "sk-ant-oat01-upstream")

Lines = list[tuple[str, str]]


def values(lines: Lines, name: str) -> list[str]:
    return [value for key, value in lines if key.lower() == name]


def answered(headers: Lines, account: str = "main") -> Lines:
    return answer_headers(headers).for_client(account, 2)


# ---- the client's key


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ([], []),
        ([("Authorization", "Bearer one")], ["one"]),
        ([("authorization", "bEaReR   one  ")], ["one"]),
        ([("X-Api-Key", " one ")], ["one"]),
        ([("X-Api-Key", "one"), ("Authorization", "Bearer two")], ["one", "two"]),
        ([("X-Api-Key", "one"), ("X-Api-Key", "two"), ("x-api-key", "one")], ["one", "two"]),
        ([("Authorization", "Basic b25l"), ("Authorization", "Bearer"), ("X-Api-Key", " ")], []),
        ([("Authorization", "one"), ("Cookie", "x-api-key=one")], []),
    ],
)
def test_every_key_a_client_presents_is_considered_once(headers: Lines, keys: list[str]) -> None:
    assert ClientHeaders(headers).keys == keys


def test_neither_many_keys_nor_a_huge_one_are_considered() -> None:
    assert len(ClientHeaders([("x-api-key", f"key-{n}") for n in range(1000)]).keys) == 8
    assert ClientHeaders([("x-api-key", "k" * 100_000), ("authorization", "Bearer short")]).keys == ["short"]


# ---- the credential


def test_a_credential_shows_its_secret_to_no_one() -> None:
    assert "upstream" not in repr(KEY)
    assert "upstream" not in str(TOKEN)


@pytest.mark.parametrize(
    "secret", ["", "a b", "key\r\nx-evil: 1", "key\n", "k\x00", "schl\xfcssel", "k\u20ac"]
)
def test_a_credential_that_cannot_be_one_header_value_is_no_credential(secret: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII") as refused:
        Credential("api_key", secret)
    assert not secret or secret not in str(refused.value)


def test_an_api_key_goes_upstream_as_x_api_key_alone() -> None:
    headers = to_upstream([("Authorization", "Bearer client"), ("X-Api-Key", "client")], KEY)
    assert headers == [("x-api-key", "sk-ant-api03-upstream")]


def test_an_oauth_token_goes_upstream_as_bearer_with_its_beta() -> None:
    headers = to_upstream([("X-Api-Key", "client"), ("x-api-key", "client")], TOKEN)
    assert headers == [
        ("anthropic-beta", "oauth-2025-04-20"),
        ("authorization", "Bearer sk-ant-oat01-upstream"),
    ]


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ([], ["oauth-2025-04-20"]),
        ([""], ["oauth-2025-04-20"]),
        (["a-1"], ["a-1,oauth-2025-04-20"]),
        (["a-1, b-2"], ["a-1, b-2,oauth-2025-04-20"]),
        (["a-1", "b-2"], ["a-1", "b-2,oauth-2025-04-20"]),
        (["oauth-2025-04-20"], ["oauth-2025-04-20"]),
        (["a-1 , oauth-2025-04-20", "b-2"], ["a-1 , oauth-2025-04-20", "b-2"]),
        (["oauth-2025-04-20-next"], ["oauth-2025-04-20-next,oauth-2025-04-20"]),
        (["x-oauth-2025-04-20"], ["x-oauth-2025-04-20,oauth-2025-04-20"]),
    ],
)
def test_the_oauth_beta_is_added_where_missing_as_a_whole_token(sent: list[str], received: list[str]) -> None:
    headers = to_upstream([("Anthropic-Beta", value) for value in sent], TOKEN)
    assert values(headers, "anthropic-beta") == received


def test_for_an_api_key_the_clients_betas_pass_unchanged() -> None:
    headers = to_upstream([("Anthropic-Beta", "a-1, oauth-2025-04-20")], KEY)
    assert values(headers, "anthropic-beta") == ["a-1, oauth-2025-04-20"]


# ---- up and down


@pytest.mark.parametrize(
    "name",
    [
        "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
        "Host", "Cookie", "Proxy-Authorization", "Proxy-Authenticate", "Proxy-Status", "Proxy-X",
        "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "x-forwarded-anything",
    ],
)  # fmt: skip
def test_hop_by_hop_and_local_headers_cross_in_neither_direction(name: str) -> None:
    for spelled in (name, name.lower(), name.upper()):
        lines = [(spelled, "x-planted"), (spelled, "again")]
        assert not values(to_upstream(lines, KEY), name.lower())
        assert not values(answered(lines), name.lower())


OF_FRONTS = [
    "Forwarded", "Via", "X-Real-IP", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Scheme",
    "X-Original-Forwarded-For", "X-Original-URI", "CF-Connecting-IP", "CF-Ray", "CF-Visitor", "CDN-Loop",
    "X-Envoy-External-Address", "X-Amzn-Trace-Id", "X-Amz-Cf-Id", "X-Cloud-Trace-Context", "X-Azure-ClientIP",
    "Fastly-Client-IP", "Fly-Client-IP", "X-Arr-Log-Id", "X-Nf-Client-Connection-Ip", "X-Vercel-Forwarded-For",
]  # fmt: skip


@pytest.mark.parametrize("name", OF_FRONTS)
def test_what_a_front_or_a_cdn_adds_does_not_go_upstream(name: str) -> None:
    for spelled in (name, name.lower(), name.upper()):
        assert not values(to_upstream([(spelled, "192.0.2.7"), (spelled, "again")], KEY), name.lower())


@pytest.mark.parametrize("name", ["traceparent", "tracestate", "baggage"])
def test_a_clients_trace_goes_upstream_unchanged(name: str) -> None:
    value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert values(to_upstream([(name, value)], KEY), name) == [value]


@pytest.mark.parametrize("name", ["CF-Ray", "Via", "X-Envoy-Upstream-Service-Time", "Server"])
def test_what_the_upstreams_own_front_says_reaches_the_client(name: str) -> None:
    assert values(answered([(name, "x")]), name.lower()) == ["x"]


@pytest.mark.parametrize("name", ["Strict-Transport-Security", "Alt-Svc", "Set-Cookie"])
def test_what_the_upstream_says_of_its_own_origin_does_not_reach_the_client(name: str) -> None:
    assert not values(answered([(name, "max-age=31536000"), (name.lower(), "again")]), name.lower())


@pytest.mark.parametrize(
    "name", ["Content-Length", "Expect", "X-Proxy-Account", "X-Proxy-Other", "Origin", "Referer"]
)
def test_what_is_for_the_proxy_itself_does_not_go_upstream(name: str) -> None:
    assert not values(to_upstream([(name, "1")], KEY), name.lower())


def test_what_connection_names_stops_in_both_directions() -> None:
    lines = [("X-One", "1"), ("Connection", "close, x-one"), ("x-two", "2"), ("connection", " X-Two ,,")]
    lines.append(("x-three", "3"))
    assert to_upstream(lines, KEY)[:-1] == [("x-three", "3")]
    assert answered(lines)[:-2] == [("x-three", "3")]


@pytest.mark.parametrize("name", ["anthropic-version", "anthropic-beta", "content-type", "content-encoding"])
def test_connection_cannot_take_out_what_is_meant_for_the_far_end(name: str) -> None:
    lines = [("connection", f"close, {name}"), (name, "kept")]
    assert values(to_upstream(lines, KEY), name) == ["kept"]
    assert values(answered(lines), name) == ["kept"]


def test_connection_cannot_take_out_what_the_proxy_adds() -> None:
    lines = [("connection", "authorization, x-api-key, x-proxy-account, x-proxy-attempts, anthropic-beta")]
    assert values(to_upstream(lines, KEY), "x-api-key") == [KEY.secret]
    assert values(to_upstream(lines, TOKEN), "authorization") == [f"Bearer {TOKEN.secret}"]
    assert values(answered(lines), "x-proxy-account") == ["main"]


@pytest.mark.parametrize(
    "line", [("x-a", "1\r\nx-evil: 2"), ("x-a", "\x00"), ("x-a", "\u20ac"), ("x a", "1")]
)
def test_a_request_header_that_would_not_stay_one_line_is_refused(line: tuple[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        to_upstream([line], KEY)


# ---- down only


def test_a_real_answers_headers_pass_unchanged_and_in_order() -> None:
    lines = [
        ("date", "Sun, 22 Nov 2026 10:00:00 GMT"),
        ("content-type", "text/event-stream; charset=utf-8"),
        ("anthropic-ratelimit-requests-remaining", "49"),
        ("request-id", "req_011"),
        ("via", "1.1 google"),
        ("vary", "accept"),
        ("vary", "accept-encoding"),
        ("content-encoding", "gzip"),
        ("content-length", "123"),
        ("x-empty", ""),
        ("x-latin", "caf\xe9\x85"),
        ("x-tab", "a\tb"),
    ]
    assert answered(lines) == [*lines, ("x-proxy-account", "main"), ("x-proxy-attempts", "2")]


def test_the_upstreams_cookies_and_proxy_headers_stop_here() -> None:
    lines = [
        ("Set-Cookie", "__cf_bm=1"),
        ("X-Proxy-Account", "other"),
        ("x-proxy-attempts", "9"),
        ("x-proxy-x", ""),
    ]
    assert answered(lines) == [("x-proxy-account", "main"), ("x-proxy-attempts", "2")]


@pytest.mark.parametrize("bad", ["\r", "\n", "\x00", "\x01", "\x0b", "\x1b", "\x1f", "\x7f", "\u0100"])
def test_an_answers_header_that_cannot_be_sent_is_left_out(bad: str) -> None:
    lines = [("x-bad", f"a{bad}b"), (f"x{bad}", "a"), ("x-good", "a")]
    assert answered(lines)[:-2] == [("x-good", "a")]


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([("Content-Length", "5")], ["5"]),
        ([("content-length", "5"), ("content-length", "5")], ["5"]),
        ([("content-length", "5"), ("content-length", "6")], []),
        ([("content-length", "5, 5")], []),
        ([("content-length", "-5")], []),
        ([("content-length", "\xb2")], []),
        ([("content-length", "5"), ("transfer-encoding", "chunked")], []),
    ],
)
def test_an_answers_length_is_sent_once_or_not_at_all(lines: Lines, length: list[str]) -> None:
    assert values(answered(lines), "content-length") == length


@pytest.mark.parametrize(
    ("account", "value"),
    [
        ("main", "main"),
        ("Main account (EU), 2nd", "Main account (EU), 2nd"),
        ("caf\xe9 \U0001f600", "caf%C3%A9 %F0%9F%98%80"),
        ("100%", "100%25"),
        ("a\r\nx-evil: 1", "a%0D%0Ax-evil: 1"),
        (" spaced ", "spaced"),
        ("\ud800", "?"),
    ],
)
def test_any_account_name_is_one_safe_header_value(account: str, value: str) -> None:
    assert values(answered([], account), "x-proxy-account") == [value]


# ---- what an answer's headers say


def test_an_answers_header_is_found_by_its_name_and_the_first_counts() -> None:
    headers = answer_headers([("Content-Type", " a "), ("content-type", "b")])
    assert headers.get("content-type") == "a"
    assert headers.get("content-encoding") == ""


def test_the_headers_of_limits_are_set_apart() -> None:
    lines = [
        ("date", "x"),
        ("Anthropic-RateLimit-Requests-Limit", " 50 "),
        ("anthropic-ratelimit-requests-limit", "9"),
        ("Retry-After", "5"),
    ]
    assert answer_headers(lines).limits == {"anthropic-ratelimit-requests-limit": "50", "retry-after": "5"}


def test_an_answers_headers_go_to_each_client_with_its_own_account() -> None:
    headers = answer_headers([("x-a", "1")])
    assert headers.for_client("main", 1)[1:] == [("x-proxy-account", "main"), ("x-proxy-attempts", "1")]
    assert headers.for_client("other", 2)[1:] == [("x-proxy-account", "other"), ("x-proxy-attempts", "2")]


# ---- properties

NEVER = [
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "cookie",
    "proxy-any",
]
NEVER += ["x-forwarded-for", "x-forwarded-any"]
NEVER_UP = [*NEVER, "authorization", "x-api-key", "content-length", "expect", "x-proxy-account"]
NEVER_DOWN = [*NEVER, "set-cookie", "x-proxy-account", "x-proxy-attempts", "x-proxy-any"]
PLANTED = "Bearer planted"

some_name = st.text(string.ascii_letters + string.digits + "!#$%&'*+.^_`|~-", min_size=1, max_size=12).map(
    lambda tail: "Y-" + tail  # never one of the names that stop
)
some_value = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20
)
ends = st.one_of(
    some_name, st.sampled_from(["anthropic-version", "Accept", "Content-Type", "retry-after", "user-agent"])
)


def mixed_case(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from([name, name.upper(), name.title()])


@given(st.data(), st.lists(st.tuples(ends, some_value), max_size=8), st.sampled_from([KEY, TOKEN]))
def test_upward_nothing_planted_crosses_and_the_rest_does(
    data: st.DataObject, lines: Lines, credential: Credential
) -> None:
    planted = data.draw(st.lists(st.sampled_from(NEVER_UP).flatmap(mixed_case)))
    mixed = data.draw(st.permutations([*lines, *((name, PLANTED) for name in planted)]))
    kept = [line for line in mixed if line[1] != PLANTED]
    received = to_upstream(mixed, credential)
    added = [line for line in received if credential.secret in line[1]]
    assert len(added) == 1
    assert not values(received, "x-api-key" if credential.kind == "oauth" else "authorization")
    assert [line for line in received if line[0] != "anthropic-beta" and line not in added] == kept


@given(st.data(), st.lists(st.tuples(ends, some_value), max_size=8))
def test_downward_nothing_planted_crosses_and_the_rest_does(data: st.DataObject, lines: Lines) -> None:
    planted = data.draw(st.lists(st.sampled_from(NEVER_DOWN).flatmap(mixed_case)))
    mixed = data.draw(st.permutations([*lines, *((name, PLANTED) for name in planted)]))
    kept = [line for line in mixed if line[1] != PLANTED]
    assert answered(mixed) == [*kept, ("x-proxy-account", "main"), ("x-proxy-attempts", "2")]


@given(st.data(), st.lists(st.tuples(some_name, some_value), min_size=1, max_size=8))
def test_no_header_named_by_connection_crosses(data: st.DataObject, lines: Lines) -> None:
    named = data.draw(st.lists(st.sampled_from([name for name, _ in lines]).flatmap(mixed_case), min_size=1))
    mixed = data.draw(st.permutations([*lines, ("Connection", ", ".join(named))]))
    gone = {name.lower() for name in named}
    kept = [line for line in mixed if line[0].lower() not in gone and line[0] != "Connection"]
    assert to_upstream(mixed, KEY)[:-1] == kept
    assert answered(mixed)[:-2] == kept


@given(st.lists(st.tuples(st.text(), st.text())), st.text())
def test_any_answer_and_any_account_name_make_sendable_headers(lines: Lines, account: str) -> None:
    for name, value in answered(lines, account):
        assert name.isascii()
        assert value.encode("latin-1") == value.encode("latin-1").strip(b" \t")
        assert not any(ord(character) < 0x20 and character != "\t" for character in name + value)
