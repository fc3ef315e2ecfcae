"""What each kind of option takes, and what it refuses; asked through the settings."""

from __future__ import annotations

import base64
import traceback
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.settings import load_settings
from proxy.errors import SettingsError
from tests.settings import load, refusal


def each(name: str, *values: str) -> list[tuple[str, str]]:
    return [(name, value) for value in values]


def test_a_refusal_repeats_the_value_and_says_the_fix() -> None:
    assert refusal(SERVER__PORT="65536") == (
        "SERVER__PORT: '65536' will not do: use a whole number from 0 to 65535"
    )


def test_a_long_value_is_cut_in_the_refusal() -> None:
    assert len(refusal(SERVER__PORT="1" * 10_000)) < 200


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("7d", 604800),
        ("60", 60),
        ("0.5", 0.5),
        ("1.5h", 5400),
    ],
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert load(SERVER__REQUEST_TIMEOUT=text).server.request_timeout == seconds


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0s",
        "-1s",
        "1:30",
        "010",
        "1_000",
        "5 m",
        "5M",
        "1e3",
        ".inf",
        "nan",
        "5min",
        "366d",
        "٣s",
        "9" * 400,
    ],
)
def test_other_durations_are_refused(text: str) -> None:
    assert "use a duration such as" in refusal(SERVER__REQUEST_TIMEOUT=text)


@pytest.mark.parametrize("name", ["SERVER__DRAIN_TIMEOUT", "RETRY__JITTER_MAX", "SESSION__QUEUE_TIMEOUT"])
def test_a_wait_may_be_zero(name: str) -> None:
    load(**{name: "0s"})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KB", 64_000),
        ("512MB", 512_000_000),
        ("1GB", 10**9),
        ("64KiB", 2**16),
        ("1MiB", 2**20),
        ("1.5GiB", 3 * 2**29),
        ("1024", 1024),
    ],
)
def test_a_size_has_a_unit_or_is_in_bytes(text: str, size: int) -> None:
    assert load(SERVER__MAX_BODY_SIZE=text).server.max_body_size == size


@pytest.mark.parametrize("text", ["0", "-1", "512mb", "512M", "1 GB", "010", "0.5", "lots"])
def test_other_sizes_are_refused(text: str) -> None:
    assert "use a size such as" in refusal(SERVER__MAX_BODY_SIZE=text)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("TRUE", True)])
def test_a_switch_is_true_or_false_in_any_case(text: str, value: bool) -> None:
    assert load(SESSION__ENABLED=text).session.enabled is value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *each("SERVER__PORT", "0", "65535"),
        *each("RETRY__MAX_ATTEMPTS", "1", "20"),
        *each("RETRY__BUDGET", "0", "0.2", ".5", "1.25", "10"),
        *each("SESSION__MAX_CONCURRENT", "1", "500"),
        *each("LOGGER__LEVEL", "debug", "WARNING", "error"),
        *each("LOGGER__FORMAT", "text", "json"),
        *each("BALANCER__STRATEGY", "round_robin", "most_remaining"),
        *each("BALANCER__ISOLATION", "per_key", "none"),
        *each("SERVER__HOST", "192.0.2.1", "::1", "localhost", "a-b.example"),
        *each("SERVER__TRUSTED_PROXIES", "", "::1", "10.0.0.0/8, fd00::/8"),
        *each("SERVER__PUBLIC_ORIGINS", "", "http://a:81,https://b"),
        *each("CLAUDE__BASE_URL", "https://a", "https://a:8443/p", "http://127.0.0.1:1", "http://127.9.9.9"),
        *each("CLAUDE__BASE_URL", "http://[::1]:1", "http://localhost"),
        *each("OAUTH__AUTHORIZE_URL", "https://a/authorize", "http://127.0.0.1:1/a"),
        *each("OAUTH__REDIRECT_URI", "http://192.168.1.2:4000/oauth/callback"),
        *each("OAUTH__CLIENT_ID", "9d1c"),
        *each("TRACING__ENDPOINT", "http://otel:4318", "https://otel.example.com/base/"),
        *each("STORAGE__DATA_FOLDER", "data", "/srv/data"),
    ],
)
def test_a_good_value_is_taken(name: str, value: str) -> None:
    load(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *each("SERVER__PORT", "65536", "-1", "080", "0x50", "80.0", "http", ""),
        *each("RETRY__MAX_ATTEMPTS", "0", "21", "five"),
        *each("RETRY__BUDGET", "-1", "10.1", "20%", "1e1", "nan", "", "0,2", "\u0661"),
        *each("SESSION__MAX_CONCURRENT", "0", "-1"),
        *each("SESSION__ENABLED", "yes", "on", "1", "y"),
        *each("LOGGER__LEVEL", "warn", "trace", "10"),
        *each("LOGGER__FORMAT", "xml"),
        *each("BALANCER__STRATEGY", "random"),
        *each("BALANCER__ISOLATION", "per_group", "true"),
        *each("SERVER__HOST", "127.0.0.1:80", "[::1]", "*", "http://a", "127.1", "a b", "-a", "a..b"),
        *each("SERVER__TRUSTED_PROXIES", "10.0.0.1/8", "10.0.0.0/33", "localhost", "10.0.0.0/8;::1"),
        *each(
            "SERVER__PUBLIC_ORIGINS", "https://a/", "https://a/b", "a.example", "*", "ftp://a", "https://a?b"
        ),
        *each("SERVER__PUBLIC_ORIGINS", "https://u@a", "https://a:0", "https://a:99999", "https://", "null"),
        *each("SERVER__PUBLIC_ORIGINS", "https://a\\b", "https://a b", "https://a#"),
        *each("CLAUDE__BASE_URL", "http://a", "http://10.0.0.1", "http://127.0.0.1.nip.io", "http://127.1"),
        *each(
            "CLAUDE__BASE_URL", "http://localhost.evil.example", "https://u:p@a", "https://a?b", "https://a#b"
        ),
        *each(
            "CLAUDE__BASE_URL", "file:///a", "a", "https://[::1", "https://é", "http://127.0.0.1@evil.example"
        ),
        *each("OAUTH__AUTHORIZE_URL", "http://a/b"),
        *each("OAUTH__TOKEN_URL", "http://a/b", ""),
        *each("OAUTH__REDIRECT_URI", "/oauth/callback", "https://a/b#c"),
        *each("OAUTH__CLIENT_ID", "", " "),
        *each("TRACING__ENDPOINT", "otel:4318", "grpc://otel:4317", "http://otel:4318?x=1"),
        *each("TRACING__SAMPLE", "1.1", "-1", "10%"),
        *each("STORAGE__DATA_FOLDER", "", "~nobody-of-that-name/data"),
    ],
)
def test_a_bad_value_is_refused_under_its_name(name: str, value: str) -> None:
    assert refusal(**{name: value}).startswith(f"{name}: ")


def test_a_bare_address_is_a_network_of_one() -> None:
    networks = load(SERVER__TRUSTED_PROXIES="10.0.0.1,::1").server.trusted_proxies
    assert networks == (ip_network("10.0.0.1/32"), ip_network("::1/128"))


def test_an_origin_is_kept_as_browsers_send_it() -> None:
    origins = "https://Proxy.Example:443,http://[::1]:80,http://a:443"
    kept = ("https://proxy.example", "http://[::1]", "http://a:443")
    assert load(SERVER__PUBLIC_ORIGINS=origins).server.public_origins == kept


def test_the_upstream_keeps_its_path_and_loses_its_trailing_slash() -> None:
    assert load(CLAUDE__BASE_URL="https://a.example/prefix/").claude.base_url == "https://a.example/prefix"


def test_a_tilde_in_the_data_folder_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of")
    assert load().storage.data_folder == Path("/home/of/.claude-proxy/data")
    assert load(STORAGE__DATA_FOLDER="~/elsewhere").storage.data_folder == Path("/home/of/elsewhere")


@pytest.mark.parametrize(
    "key",
    [
        "fifteen-charact",
        "change-me-change-me",
        "changeme12345678",
        "Change_Me_To_A_Long_Key",
        "your-secret-key-of-thirty-two-ch",
        "your-admin-api-key-here",
        "sk-ant-api03-Zx9Zx8qWm2LpR7tUv",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "abababababababababababab",
        "0123456789abcdef",
        "Zx9 Zx8qWm2LpR7tUv",
        "Zx9Zx8qWm2LpR7tÜv",
        "Zx9Zx8qWm2LpR7tUv\n",
    ],
)
def test_a_weak_admin_key_is_refused_and_never_repeated(key: str) -> None:
    with pytest.raises(SettingsError, match=r"^AUTH__API_KEY: it ") as caught:
        load(AUTH__API_KEY=key)
    assert key.strip() not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@given(st.binary(min_size=32, max_size=32).filter(lambda data: len(set(data)) > 16))
def test_a_generated_admin_key_is_taken(data: bytes) -> None:
    key = base64.urlsafe_b64encode(data).rstrip(b"=").decode()  # as secrets.token_urlsafe makes it
    assert load(AUTH__API_KEY=key).auth.api_key.get_secret_value() == key


# ---- encryption keys

ENCRYPTION_KEY = bytes(range(200, 232))
BASE64 = base64.b64encode(ENCRYPTION_KEY).decode()
HEX = ENCRYPTION_KEY.hex()


@pytest.mark.parametrize(
    "text", [BASE64, BASE64.rstrip("="), base64.urlsafe_b64encode(ENCRYPTION_KEY).decode(), HEX, HEX.upper()]
)
def test_an_encryption_key_is_32_bytes_as_base64_or_hex(text: str, tmp_path: Path) -> None:
    assert load(STORAGE__ENCRYPTION_KEY=text).storage.key == ENCRYPTION_KEY
    assert load(STORAGE__ENCRYPTION_KEY_OLD=f"{text},{HEX}").storage.old_keys == [ENCRYPTION_KEY] * 2
    file = tmp_path / "key"
    file.write_text(f"{text}\n")
    assert load(STORAGE__ENCRYPTION_KEY_FILE=str(file)).storage.key == ENCRYPTION_KEY
    assert load(STORAGE__ENCRYPTION_KEY_OLD_FILE=str(file)).storage.old_keys == [ENCRYPTION_KEY]


def test_without_an_encryption_key_there_is_none() -> None:
    storage = load().storage
    assert (storage.key, storage.old_keys) == (None, [])


@given(st.binary(min_size=32, max_size=32).filter(lambda key: len(set(key)) >= 8))
def test_any_random_encryption_key_is_taken_as_it_is(key: bytes) -> None:
    for text in (key.hex(), base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()):
        assert load(STORAGE__ENCRYPTION_KEY=text).storage.key == key


@pytest.mark.parametrize(
    "text",
    ["", "a-pass-phrase-of-some-kind", HEX[:-2], HEX + "00", BASE64[:-4], BASE64 + "AA==", f"{BASE64}!", "é" * 43,
     "00" * 32, "A" * 43 + "=", base64.b64encode(b"01234567" * 2).decode()],
)  # fmt: skip
@pytest.mark.parametrize(
    "name", ["ENCRYPTION_KEY", "ENCRYPTION_KEY_OLD", "ENCRYPTION_KEY_FILE", "ENCRYPTION_KEY_OLD_FILE"]
)
def test_another_encryption_key_is_refused_with_the_command_that_makes_one(
    text: str, name: str, tmp_path: Path
) -> None:
    value = text
    if name.endswith("FILE"):
        (tmp_path / "key").write_text(text)
        value = str(tmp_path / "key")
    elif not text and name.endswith("OLD"):
        return  # an empty list
    error = refusal(**{f"STORAGE__{name}": value})
    assert error.startswith(f"STORAGE__{name}: ")
    assert not text or text not in error
    assert "openssl rand -base64 32" in error or "it has to be one line of text" in error


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        error = refusal(STORAGE__ENCRYPTION_KEY_FILE=str(path))
        assert error.startswith(f"STORAGE__ENCRYPTION_KEY_FILE: {path} cannot be read: {reason}")


@pytest.mark.parametrize("text", [HEX, BASE64])
@pytest.mark.parametrize("name", ["STORAGE__ENCRYPTION_KEY_FILE", "STORAGE__ENCRYPTION_KEY_OLD_FILE"])
def test_a_key_in_place_of_its_files_path_is_not_repeated(text: str, name: str) -> None:
    error = refusal(**{name: text})
    assert error == f"{name}: it is a key: it has to be the path of a file that holds the key"


def test_there_is_one_present_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{HEX}\n{BASE64}\n")
    assert "it holds several keys" in refusal(STORAGE__ENCRYPTION_KEY_FILE=str(file))
    file.write_text(HEX)
    both = refusal(STORAGE__ENCRYPTION_KEY=HEX, STORAGE__ENCRYPTION_KEY_FILE=str(file))
    told = "encryption_key and encryption_key_file are both set: leave one"
    assert both == f"STORAGE__ENCRYPTION_KEY_FILE: {told}"


def test_the_file_of_the_admin_key_is_named_if_it_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in {"/nope": "No such file or directory", str(tmp_path): "Is a directory"}.items():
        with pytest.raises(SettingsError) as caught:
            load_settings(None, {"AUTH__API_KEY_FILE": path})
        told = f"{path} cannot be read: {reason}: name a file that holds the key"
        assert str(caught.value) == f"AUTH__API_KEY_FILE: {told}"


@pytest.mark.parametrize(
    "key", ["Zx9Zx8qWm2LpR7tUv", "my-own-long-key-of-tests", "/aZ8+tCh1dR5mJ0vK2xQ7wB4nL9pF6sY3gT1uH5eM8o="]
)
def test_a_key_in_place_of_its_file_is_not_repeated(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"AUTH__API_KEY_FILE": key})
    told = "it cannot be read: No such file or directory: name a file that holds the key"
    assert str(caught.value) == f"AUTH__API_KEY_FILE: {told}"


def test_no_encryption_key_is_in_the_text_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(HEX)
    settings = load(
        STORAGE__ENCRYPTION_KEY=HEX,
        STORAGE__ENCRYPTION_KEY_OLD=HEX,
        STORAGE__ENCRYPTION_KEY_OLD_FILE=str(file),
    )
    shown = f"{settings} {settings!r} {settings.model_dump()} {settings.storage!r}"
    assert all(form not in shown for form in (HEX, BASE64, repr(ENCRYPTION_KEY)[2:-1]))


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/prefix/v1", "/v1/messages", "/V1"])
def test_a_base_url_that_ends_in_v1_is_refused_with_the_fix(path: str) -> None:
    error = refusal(CLAUDE__BASE_URL=f"https://a.example{path}")
    assert error.startswith("CLAUDE__BASE_URL: ")
    prefix = "/prefix" if path.startswith("/prefix") else ""
    assert error.endswith(f" out, since each request brings its own: https://a.example{prefix}")


def test_v1_may_be_a_part_of_a_base_url_elsewhere() -> None:
    assert load(CLAUDE__BASE_URL="https://a.example/v1/x").claude.base_url == "https://a.example/v1/x"
    assert load(CLAUDE__BASE_URL="https://a.example/dev1").claude.base_url == "https://a.example/dev1"


@pytest.mark.parametrize("origin", ["*", "https://a.example", "http://localhost:5173", "app://obsidian.md"])
def test_a_browser_origin_may_be_an_applications_own_or_a_star(origin: str) -> None:
    assert load(SERVER__CORS_ORIGINS=f"{origin},https://b.example:443").server.cors_origins == (
        origin,
        "https://b.example",
    )


@pytest.mark.parametrize(
    "origin", ["null", "a.example", "https://a.example/x", "https://*.example", "app:", "httpx//"]
)
def test_what_is_no_browser_origin_is_refused(origin: str) -> None:
    assert refusal(SERVER__CORS_ORIGINS=origin).startswith("SERVER__CORS_ORIGINS: ")
