"""Which request targets may go upstream."""

from __future__ import annotations

import contextlib
import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import InvalidRequest, NotFound
from proxy.http.target import is_of_api, parse


def sent(target: str, *, allow_admin_paths: bool = False) -> str:
    return parse(target, allow_admin_paths=allow_admin_paths).raw


@pytest.mark.parametrize(
    "target",
    [
        "/v1/messages",
        "/v1/messages?beta=true",
        "/v1/messages/batches/msgbatch_01A/results",
        "/v1/models?limit=1000&after_id=",
        "/v1/files/file%20name",
        "/v1/models/arn%3Aaws%3Abedrock",
        "/v1/models/caf%C3%A9",
        "/v1/models/caf%c3%a9",
        "/v1/models/100%25",
        "/v1/a;b@c:d/e=f,g!h*i(j)k'l$m&n+o~p",
        "/v1/..a/a../.a/...",
        "/v1/messages?",
        "/v1/messages?a=/../b//c/%2e%2e/%00&d=%zz\\",
        "/v1/files?q=caf\xc3\xa9\x85",
        "/v1/oauth/tokens",
        "/v1/organizational",
        "/v1/complete",
        "/v1/something/not/yet/known",
    ],
)
def test_a_plain_target_goes_upstream_byte_for_byte(target: str) -> None:
    assert sent(target) == target


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "/",
        "/v1",
        "/v1?x=1",
        "/v1/",
        "/v2/x",
        "/V1/messages",
        "/%761/messages",
        "v1/messages",
        "api.anthropic.com:443",
        "http://evil.example/v1/messages",
        "//evil.example/v1/messages",
        "/v1/messages\n",
    ],
)
def test_what_is_no_origin_form_below_v1_is_refused(target: str) -> None:
    with pytest.raises(InvalidRequest):
        sent(target)


@pytest.mark.parametrize(
    "path",
    [
        "/v1//messages",
        "/v1/messages/",
        "/v1/messages//",
        "/v1/./messages",
        "/v1/messages/.",
        "/v1/../admin",
        "/v1/messages/..",
        "/v1/../v1/messages",
        "/v1/%2e%2e/admin",
        "/v1/%2E%2E/admin",
        "/v1/.%2e/admin",
        "/v1/%2E./admin",
        "/v1/%2e/messages",
        "/v1/%252e%252e/admin",
        "/v1/%25252e%25252E/admin",
        "/v1/%25%32%65%2e/admin",
        "/v1/..;x/admin",
        "/v1/..%3bx/admin",
        "/v1/..%3fx/admin",
        "/v1/..%23/admin",
        "/v1/%c0%ae%c0%ae/admin",
        "/v1/..%2fadmin",
        "/v1/a%2Fb",
        "/v1/a%252fb",
        "/v1/a%5cb",
        "/v1/a%255Cb",
        "/v1/..\\admin",
        "/v1/a\\b",
    ],
)
def test_a_path_that_can_be_read_as_another_is_refused(path: str) -> None:
    for target in (path, path + "?beta=true"):
        with pytest.raises(InvalidRequest):
            sent(target, allow_admin_paths=True)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/a%00",
        "/v1/a%2500",
        "/v1/a%0a",
        "/v1/a%0D%0Ab",
        "/v1/a%1b",
        "/v1/a%7f",
        "/v1/a%c2%85",
        "/v1/a%",
        "/v1/a%2",
        "/v1/a%zz",
        "/v1/a%ff",
        "/v1/caf\xe9",
        "/v1/%" + "25" * 9 + "2e",
        "/v1/%" + "25" * 20_000,
    ],
)
def test_control_characters_and_broken_encodings_in_the_path_are_refused(path: str) -> None:
    with pytest.raises(InvalidRequest):
        sent(path)


@pytest.mark.parametrize("where", ["/v1/a{}b", "/v1/a?b={}"])
@pytest.mark.parametrize("character", [chr(code) for code in range(0x21)] + ["\x7f", "#", "\u0100", "\ufeff"])
def test_no_raw_control_whitespace_or_fragment_is_sent_anywhere(where: str, character: str) -> None:
    with pytest.raises(InvalidRequest):
        sent(where.format(character))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/oauth/token",
        "/v1/oauth/token/x",
        "/v1/OAuth/Token",
        "/v1/%6fauth/toke%6e",
        "/v1/organizations",
        "/v1/organizations/me",
        "/v1/organizations/x/y/z",
        "/v1/%6frganizations/x",
        "/v1/%256Frganizations/x",
        "/v1/Organizations/x",
        "/v1/organization%C5%BF",
        "/v1/organizations;x/y",
        "/v1/organizations%3Fx/y",
        "/v1/organizations%20/x",
    ],
)
def test_the_operators_own_paths_are_not_found_unless_allowed(path: str) -> None:
    with pytest.raises(NotFound):
        sent(path)
    assert sent(path, allow_admin_paths=True) == path


WRONG_BASE_URLS = [
    ("/v1/v1/messages", "/v1"),
    ("/v1/v1/messages?beta=true", "/v1"),
    ("/v1/v1/v1/models", "/v1"),
    ("/v1/messages/v1/messages", "/v1/messages"),
    ("/v1/v1", "/v1"),
    ("/v1/%761/messages", "/v1"),
    ("/v1/V1/messages", "/v1"),
    ("/messages", "lacks /v1"),
    ("/messages?beta=true", "lacks /v1"),
    ("/messages/count_tokens", "lacks /v1"),
    ("/messages/batches/msgbatch_1", "lacks /v1"),
    ("/models", "lacks /v1"),
    ("/chat/completions", "lacks /v1"),
    ("/complete", "lacks /v1"),
    ("/files/file_1/content", "lacks /v1"),
    ("/api/v1/messages", "/api"),
    ("/anthropic/v1/messages", "/anthropic"),
    ("//v1/messages", "slash"),
    ("//messages", "lacks /v1"),
]


@pytest.mark.parametrize(("target", "named"), WRONG_BASE_URLS)
def test_a_target_of_a_wrong_base_url_is_not_found_and_the_fix_is_said(target: str, named: str) -> None:
    with pytest.raises(NotFound, match="base URL") as refused:
        sent(target)
    assert named in refused.value.message
    assert refused.value.should_retry is False


@pytest.mark.parametrize("target", [target for target, _ in WRONG_BASE_URLS if not target.startswith("/v1/")])
def test_such_a_target_is_known_for_one(target: str) -> None:
    assert is_of_api(target.partition("?")[0])


@pytest.mark.parametrize(
    "path",
    ["/", "/api/accounts", "/api/messages", "/health", "/static/v1/x.js", "/metrics", "/v1x", "/modelsx"],
)
def test_the_proxys_own_paths_are_no_such_targets(path: str) -> None:
    assert not is_of_api(path)


@pytest.mark.parametrize("target", ["/v1/messages/", "/v1/messages/?beta=true", "/v1/files/file_1/"])
def test_a_trailing_slash_is_called_one(target: str) -> None:
    with pytest.raises(InvalidRequest, match="ends with a slash"):
        sent(target)


def test_a_refusal_tells_clients_not_to_try_again_and_repeats_nothing_of_the_path() -> None:
    with pytest.raises(InvalidRequest) as refused:
        sent("/v1/../secret")
    assert refused.value.should_retry is False
    assert "secret" not in refused.value.message


def test_a_target_is_refused_however_often_it_is_asked_for() -> None:
    for _ in range(2):
        with pytest.raises(NotFound):
            sent("/v1/organizations/once-more")
        assert sent("/v1/organizations/once-more", allow_admin_paths=True)


@pytest.mark.parametrize("target", ["/v1/models/caf%25C3%25A9?x=%2F", f"/v1/models/caf%C3%A9?{'x' * 5000}"])
def test_a_target_knows_its_path_as_received_and_its_segments_decoded(target: str) -> None:
    parsed = parse(target, allow_admin_paths=False)
    assert (parsed.raw, parsed.path) == (target, target.partition("?")[0])
    assert parsed.segments == ("v1", "models", "caf\xe9")


@pytest.mark.parametrize(
    ("path", "free"),
    [
        ("/v1/messages/count_tokens", True),
        ("/v1/models", True),
        ("/v1/models/claude-opus-5-5", True),
        ("/v1/files?limit=1", True),
        ("/v1/skills/skill_1/versions", True),
        ("/v1/messages", False),
        ("/v1/messages/batches", False),
        ("/v1/filesystem", False),
        ("/v1/fi%6ces", False),
    ],
)
def test_a_path_is_free_where_no_tokens_are_used(path: str, free: bool) -> None:
    assert parse(path, allow_admin_paths=False).free is free


def fully_decoded(path: str) -> str:
    while (decoded := unquote(path)) != path:
        path = decoded
    return path


PIECES = st.sampled_from(
    [
        "/",
        ".",
        "..",
        "%",
        "25",
        "2e",
        "2F",
        "5c",
        "00",
        ";",
        "\\",
        "a",
        "messages",
        "organizations",
        "?",
        "%c3%a9",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
@example("%25%32%65%25%32%65")
def test_whatever_passes_has_no_second_reading(rest: str) -> None:
    target = "/v1/" + rest
    try:
        passed = sent(target)
    except (InvalidRequest, NotFound):
        return
    path = passed.partition("?")[0]
    segments = fully_decoded(path).split("/")
    assert passed == target
    assert segments[:2] == ["", "v1"]
    assert not {"", ".", ".."} & set(segments[1:])
    assert len(segments) == len(path.split("/"))
    assert segments[2] != "organizations"
    assert not re.search(r"[\x00-\x1f\x7f\\]", fully_decoded(path))


@given(st.text())
def test_no_text_raises_anything_but_a_refusal(target: str) -> None:
    for candidate in (target, "/v1/" + target, "/v1/" + quote(target, safe="", errors="replace")):
        with contextlib.suppress(InvalidRequest, NotFound):
            assert sent(candidate) == candidate


@pytest.mark.parametrize(
    ("method", "target", "form"),
    [
        ("POST", "/v1/messages", "message"),
        ("POST", "/v1/messages?beta=true", "message"),
        ("POST", "/v1/%6dessages", "message"),
        ("GET", "/v1/messages", None),
        ("post", "/v1/messages", None),
        ("POST", "/v1/messages/count_tokens", None),
        ("POST", "/v1/messages/batches", None),
        ("POST", "/v1/files?x=/v1/messages", None),
        ("POST", "/v1/chat/completions", "completion"),
        ("POST", "/v1/complete", "completion"),
        ("GET", "/v1/chat/completions", None),
        ("GET", "/v1/messages/batches/msgbatch_1/results", "results"),
        ("HEAD", "/v1/messages/batches/msgbatch_1/results", None),
        ("GET", "/v1/messages/batches/msgbatch_1", None),
    ],
)
def test_what_is_counted_has_a_form(method: str, target: str, form: str | None) -> None:
    assert parse(target, allow_admin_paths=False).form(method) == form


@pytest.mark.parametrize(
    ("target", "holds"),
    [
        ("/v1/messages/batches", True),
        ("/v1/messages/batches?limit=20", True),
        ("/v1/messages/batches/msgbatch_1", True),
        ("/v1/messages/batches/msgbatch_1?beta=true", True),
        ("/v1/messages/batches/msgbatch_1/cancel", True),
        ("/v1/messages/batches/msgbatch_1/results", False),
        ("/v1/messages", False),
        ("/v1/batches/msgbatch_1", False),
        ("/v1/messages/batches/msgbatch_1/cancel/x", False),
    ],
)
def test_batch_objects_hold_a_results_url_and_their_results_do_not(target: str, holds: bool) -> None:
    assert parse(target, allow_admin_paths=False).holds_results_url is holds


@pytest.mark.parametrize("separator", ["&", ";"])
def test_a_query_has_no_more_arguments_than_are_looked_at(separator: str) -> None:
    def named(count: int) -> object:
        query = separator.join(["x"] * count)
        return parse(f"/v1/files?{query}{separator}scope_id=sesn_1", allow_admin_paths=False).named

    assert named(500) == (("scope_id", "sesn_1"),)
    with pytest.raises(InvalidRequest, match="more than 500 arguments"):
        named(501)


@pytest.mark.parametrize(
    ("path", "collection", "resource"),
    [
        ("files", "files", None),
        ("Files", "files", None),
        ("files;v=1", "files", None),
        ("%66iles", "files", None),
        ("Messages/Batches", "batches", None),
        ("files/file_01aB;v=1", "files", "file_01aB"),
        ("messages/BATCHES/msgbatch_01aB/results", "batches", "msgbatch_01aB"),
        ("what_comes/what_01aB", "what_comes", "what_01aB"),
        ("what_comes/list", None, None),
        ("models/claude-1", None, None),
    ],
)
def test_a_collection_is_known_however_it_is_spelt(
    path: str, collection: str | None, resource: str | None
) -> None:
    found = parse(f"/v1/{path}", allow_admin_paths=False)
    assert (found.collection, found.resource) == (collection, resource)
    assert found.is_collection is (collection is not None and resource is None)


@pytest.mark.parametrize(
    ("path", "perhaps"),
    [
        ("messages", ()),
        ("messages/count_tokens", ()),
        ("models/claude-1", ()),
        ("models/claude-1/x", ("x",)),
        ("files", ()),
        ("files/file_01aB/content", ("content",)),
        ("messages/batches/msgbatch_01aB", ()),
        ("widgets/4711;v=1/parts", ("4711", "parts")),
    ],
)
def test_further_segments_may_be_ids(path: str, perhaps: tuple[str, ...]) -> None:
    assert parse(f"/v1/{path}", allow_admin_paths=False).perhaps == perhaps
