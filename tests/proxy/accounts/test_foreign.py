"""Files of other programs: what is taken of them, what is not and why; and no file does harm."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.account import Account, ApiKey, OAuthTokens
from proxy.accounts.foreign import source
from proxy.accounts.foreign.formats import FORMATS
from proxy.accounts.foreign.judge import Here, Judged, judge
from proxy.accounts.foreign.source import read_source
from proxy.accounts.foreign.summary import offered, told
from proxy.errors import StartError
from tests.canaries import leaked

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
LATER, EARLIER = "2027-01-15T09:00:00Z", "2027-01-15T07:00:00+00:00"
ACCESS, REFRESH = "sk-ant-oat01-canary-access-Zx81", "sk-ant-ort01-canary-refresh-Qm42"
KEY = "sk-ant-api03-canary-key-Wq8Zr2Lp6Tn4Vb1Xc9Yd7"
ENCRYPTED = "00112233445566778899aabbccddeeff:0011aabb"
HERE = Here("https://api.anthropic.com", "ours", ())


def judged(path: Path, *pool: Account, format: str | None = None, here: Here = HERE) -> Judged:
    """What becomes of the accounts in these files."""
    numbers = itertools.count(1)
    read = read_source(path)
    offers = [*offered(read, format, path), *read.refused]
    found = judge(offers, pool, here, NOW, lambda kind: f"{kind}_{next(numbers)}")
    printed = "\n".join(told(found, done=False))
    assert not leaked(printed, [ACCESS, REFRESH, KEY, ENCRYPTED])
    return found


def names(found: Judged) -> list[str]:
    return [account.name for account, _ in found.taken]


def whys(found: Judged) -> dict[str, str]:
    return {each.name: each.why for each in found.refused}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def go(name: str, **fields: Any) -> dict[str, Any]:
    """As the Go original writes an account."""
    return {
        "id": f"app_{name}",
        "name": name,
        "organization_uuid": f"org-{name}",
        "access_token": f"{ACCESS}-{name}",
        "refresh_token": f"{REFRESH}-{name}",
        "expires_at": LATER,
        "status": "active",
        "created_at": EARLIER,
        "updated_at": EARLIER,
    } | fields


# ---- the Go original


def test_accounts_of_the_go_original_are_taken_with_tokens_and_state(tmp_path: Path) -> None:
    accounts = [
        go("a"),
        go("b", status="inactive"),
        go("c", status="rate_limited"),
        go("d", status="invalid"),
    ]
    found = judged(write(tmp_path / "accounts.json", accounts))
    assert names(found) == ["a", "b", "c"]
    a, b, c = (account for account, _ in found.taken)
    assert a.credential == OAuthTokens(f"{ACCESS}-a", f"{REFRESH}-a", NOW + 3600)
    assert (a.organization_uuid, a.created_at, a.works, c.works) == ("org-a", NOW, True, True)
    assert b.status.value == "inactive"
    assert whys(found) == {"d": "it was invalid there: its login was refused"}
    assert any("client id" in text for text in found.warnings)


def test_its_older_files_are_read_too(tmp_path: Path) -> None:
    tokens = {"access_token": ACCESS, "refresh_token": REFRESH, "expires_at": NOW + 60}
    found = judged(write(tmp_path / "accounts.json", {"org-1": {"oauth_token": tokens, "status": "active"}}))
    [(account, name)] = found.taken
    assert (name, account.organization_uuid, account.expires_at) == ("org-1", "org-1", NOW + 60)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"refresh_token": ""}, "it has no refresh token"),
        ({"refresh_token": "", "expires_at": EARLIER}, "it is expired, and has no refresh token"),
        ({"access_token": ""}, "it has no access token"),
        ({"access_token": 7}, "it has no access token"),
        ({"access_token": "two words"}, "it has no header"),
        ({"access_token": "x" * 5000}, "it has no header"),
        ({"access_token": "tökén"}, "it has no header"),
        ({"expires_at": "soon"}, "expires_at is no time"),
        ({"expires_at": 17}, "expires_at is no time"),
        ({"expires_at": "2027-01-15T09:00:00"}, "expires_at is no time"),
    ],
)
def test_what_cannot_serve_is_named_with_the_reason(tmp_path: Path, fields: dict[str, Any], why: str) -> None:
    found = judged(write(tmp_path / "accounts.json", [go("a", **fields), go("b")]))
    if why == "it has no header":
        why = "its credential is none that a header can carry"
    assert (names(found), whys(found)) == (["b"], {"a": why})


def test_an_expired_token_with_a_refresh_token_is_taken(tmp_path: Path) -> None:
    assert names(judged(write(tmp_path / "a.json", [go("a", expires_at=EARLIER)]))) == ["a"]


def test_no_login_is_taken_without_the_operators_own_registration(tmp_path: Path) -> None:
    here = Here("https://api.anthropic.com", None, ("oauth.client_id", "oauth.token_url"))
    found = judged(write(tmp_path / "accounts.json", [go("a")]), here=here)
    assert found.taken == [] and "oauth.client_id and oauth.token_url" in whys(found)["a"]


def test_duplicates_are_told_and_names_made_unique(tmp_path: Path) -> None:
    there = Account("acc_x", "Team", OAuthTokens(f"{ACCESS}-b", None, None), NOW, NOW)
    file = write(
        tmp_path / "accounts.json", [go("b"), go("c") | {"name": "team"}, go("c") | {"name": "again"}]
    )
    found = judged(file, there)
    assert [(account.name, name) for account, name in found.taken] == [("team 2", "team")]
    assert whys(found) == {
        "b": "it is there already, or twice in the file: as 'Team'",
        "again": "it is there already, or twice in the file: as 'team 2'",
    }


# ---- claude-relay-service


def script(name: str, **fields: Any) -> dict[str, Any]:
    """As its export script writes an account: all values are texts."""
    return {
        "id": name,
        "name": name,
        "accessToken": f"{ACCESS}-{name}",
        "refreshToken": f"{REFRESH}-{name}",
        "expiresAt": str(int(NOW + 60) * 1000),
        "scopes": "user:profile user:inference",
        "isActive": "true",
        "proxy": "",
        "subscriptionInfo": json.dumps({"organizationUuid": f"org-{name}"}),
    } | fields


def exported(*accounts: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"version": "2.0", **metadata}, "data": {"claudeAccounts": list(accounts)}}


def test_an_export_of_claude_relay_service_is_taken(tmp_path: Path) -> None:
    proxied = {"type": "socks5", "host": "10.0.0.1", "port": 1080, "username": "u", "password": "p@"}
    accounts = [script("a"), script("b", isActive="false", proxy=json.dumps(proxied))]
    odd = script("c", proxy=json.dumps(proxied | {"type": "ftp"}))
    found = judged(write(tmp_path / "backup.json", exported(*accounts, odd)))
    (a, _), (b, _) = found.taken
    expected = OAuthTokens(f"{ACCESS}-a", f"{REFRESH}-a", NOW + 60, "user:profile user:inference")
    assert (a.credential, a.organization_uuid, a.proxy, a.works) == (expected, "org-a", None, True)
    assert (b.proxy, b.works) == ("socks5h://u:p%40@10.0.0.1:1080", False)
    assert "outbound proxy" in whys(found)["c"]


def test_an_export_that_is_encrypted_or_sanitized_says_what_to_do(tmp_path: Path) -> None:
    encrypted = script("a", accessToken=ENCRYPTED, refreshToken=ENCRYPTED)
    found = judged(write(tmp_path / "backup.json", exported(encrypted, decrypted=False)))
    assert found.taken == [] and "data-transfer-enhanced.js" in whys(found)["a"]
    masked = exported(script("a", accessToken="[REDACTED]"), sanitized=True)
    assert "sanitized" in whys(judged(write(tmp_path / "masked.json", masked)))["a"]


def test_its_sync_export_has_keys_of_the_console_too(tmp_path: Path) -> None:
    login = {"access_token": ACCESS, "refresh_token": REFRESH, "expires_at": LATER, "org_uuid": "org-1"}
    data = {
        "claudeAccounts": [{"kind": "claude-account", "name": "a", "isActive": True, "credentials": login}],
        "claudeConsoleAccounts": [
            {"name": "k", "isActive": True, "credentials": {"api_key": KEY}},
            {"name": "g", "credentials": {"api_key": KEY + "2", "base_url": "https://gateway.example"}},
            {"name": "o", "credentials": {"api_key": "key-of-something"}},
        ],
        "openaiOAuthAccounts": [{"name": "x"}],
    }
    found = judged(write(tmp_path / "sync.json", {"success": True, "data": data}))
    (a, _), (k, _) = found.taken
    assert a.credential == OAuthTokens(ACCESS, REFRESH, NOW + 3600)
    assert (k.credential, k.unchecked) == (ApiKey(KEY), True)
    assert whys(found).keys() == {"g", "o", "x"} and whys(found)["x"] == "it is an account of OpenAI"


# ---- CLIProxyAPI


def cli(**fields: Any) -> dict[str, Any]:
    return {
        "id_token": "",
        "access_token": ACCESS,
        "refresh_token": REFRESH,
        "last_refresh": EARLIER,
        "email": "someone@example.com",
        "type": "claude",
        "expired": "2027-01-15T17:00:00+08:00",
    } | fields


def test_auth_files_of_cliproxyapi_are_taken_one_by_one_or_as_a_folder(tmp_path: Path) -> None:
    one = write(tmp_path / "claude-someone.json", cli())
    [(account, name)] = judged(one).taken
    assert (name, account.expires_at) == ("someone@example.com", NOW + 3600)
    write(tmp_path / "off.json", cli(access_token="b", refresh_token="c", email="off", disabled=True))  # noqa: S106
    write(tmp_path / "codex.json", {"type": "codex", "expired": ""})
    (tmp_path / "torn.json").write_text("{")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    (tmp_path / "readme.txt").write_text("not one of them")
    (tmp_path / "link.json").symlink_to(one)
    (tmp_path / "folder.json").mkdir()
    found = judged(tmp_path)
    assert [(a.name, a.works) for a, _ in found.taken] == [("someone@example.com", True), ("off", False)]
    assert whys(found) == {
        "codex.json": "its type is 'codex', not claude",
        "torn.json": "it is not JSON, or nested too deeply",
        "binary.json": "it is not UTF-8",
        "link.json": "a symbolic link is not followed here",
        "folder.json": "not a regular file",
    }


# ---- profiles of the official command line and SDKs


def profile(folder: Path, name: str, authentication: dict[str, Any], **credentials: Any) -> None:
    write(
        folder / "configs" / f"{name}.json",
        {"authentication": authentication, "organization_id": f"org-{name}"},
    )
    if credentials:
        write(
            folder / "credentials" / f"{name}.json", {"version": "1.0", "type": "oauth_token"} | credentials
        )


def test_profiles_are_taken_if_their_client_id_is_ours(tmp_path: Path) -> None:
    tokens = {"access_token": ACCESS, "refresh_token": REFRESH, "expires_at": int(NOW) + 60}
    profile(tmp_path, "work", {"type": "user_oauth", "client_id": "ours"}, **tokens)
    other = {"access_token": "x", "refresh_token": "y"}
    profile(tmp_path, "other", {"type": "user_oauth", "client_id": "theirs"}, **other)
    profile(tmp_path, "sidecar", {"type": "user_oauth"}, **other)
    profile(tmp_path, "cloud", {"type": "oidc_federation"})
    profile(tmp_path, "bare", {"type": "user_oauth", "client_id": "ours"})
    profile(tmp_path, "away", {"type": "user_oauth", "client_id": "ours", "credentials_path": "/etc/shadow"})
    profile(tmp_path, "odd", {"type": "user_oauth", "client_id": "ours"}, type="private_key")
    write(tmp_path / "credentials" / "lone.json", other)
    found = judged(tmp_path)
    [(account, _)] = found.taken
    assert (account.name, account.expires_at, account.organization_uuid) == ("work", NOW + 60, "org-work")
    assert whys(found).keys() == {"other", "sidecar", "cloud", "bare", "away", "odd", "lone"}
    assert not any("client id" in text for text in found.warnings)
    for named in ("configs", "credentials"):
        assert names(judged(tmp_path / named / "work.json")) == ["work"]


# ---- files that are none


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is not JSON"),
        (b"\xff", "it is not UTF-8"),
        (b"[" * 100_000, "it is not JSON, or nested too deeply"),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "it is not JSON, or nested too deeply"),
        (b'"text"', "as far as can be told"),
        (b"[]", "as far as can be told"),
        (b"{}", "as far as can be told"),
        (b'{"claudeAiOauth": {}}', "as far as can be told"),
        (b'{"data": {"claudeAccounts": []}}', "has no accounts of claude-relay-service"),
        (b'{"data": {"claudeAccounts": {"a": 1}}}', "has no accounts of claude-relay-service"),
    ],
)
def test_a_file_that_holds_no_accounts_is_refused_in_a_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(StartError) as refused:
        judged(tmp_path / "file.json")
    assert str(refused.value).startswith(str(tmp_path / "file.json")) and said in str(refused.value)


JUNK = [None, True, 0, "text", [], {}, [[]], {"name": []}, {"credentials": [1]}, {"authentication": "x"}]


@pytest.mark.parametrize("format", FORMATS)
def test_any_json_at_any_place_is_no_more_than_refused(tmp_path: Path, format: str) -> None:
    def around(value: object) -> Iterable[object]:
        yield value
        yield [value]
        yield {"data": {"claudeAccounts": value}}
        yield {
            "data": {"claudeAccounts": [value], "claudeConsoleAccounts": [value], "geminiAccounts": [value]}
        }
        yield {"org": {"oauth_token": value}}
        yield {"type": "claude", "expired": value, "email": value}

    for number, value in enumerate(each for junk in JUNK for each in around(junk)):
        for file in (tmp_path / f"{number}.json", tmp_path / str(number) / "configs" / "p.json"):
            write(file, value)
            try:
                assert judged(file, format=format).taken == []
            except StartError as error:
                assert str(file) in str(error)


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MOST_BYTES", 1000)
    monkeypatch.setattr(source, "MOST_FILES", 3)
    large = write(tmp_path / "many" / "0.json", ["x" * 1000])
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "link.json").symlink_to(large)
    (tmp_path / "empty").mkdir()
    for path, said in (
        (large, "larger than"),
        (tmp_path / "nowhere.json", "No such file"),
        (tmp_path / "pipe.json", "not a regular file"),
        (tmp_path / "link.json", "a symbolic link is not followed"),
        (tmp_path / "empty", "no file that ends in .json"),
        (tmp_path / "configs" / "nowhere.json", "No such file"),
    ):
        with pytest.raises(StartError, match=said):
            read_source(path)
    assert [each.why[:17] for each in read_source(tmp_path / "many").refused] == ["it is larger than"]
    for number in range(1, 4):
        write(tmp_path / "many" / f"{number}.json", [])
    with pytest.raises(StartError, match="has more than 3 files"):
        read_source(tmp_path / "many")


def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    with pytest.raises(StartError) as refused:
        read_source(path)
    assert str(refused.value) == f"{path} cannot be read: No such file or directory"


def test_a_name_that_is_a_credential_or_steers_the_terminal_is_not_printed(tmp_path: Path) -> None:
    accounts = [go("a") | {"name": KEY}, go("b", refresh_token="") | {"name": "\x1b[31mred\nline"}]
    found = judged(write(tmp_path / "accounts.json", accounts))
    lines = told(found, done=False)
    assert len(lines) == 5 and not any("\x1b" in line or "\n" in line for line in lines)
