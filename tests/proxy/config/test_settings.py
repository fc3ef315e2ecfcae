"""The configuration: what each key takes, what is refused, and in which words."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.settings import Settings, keys, load_settings
from proxy.errors import SettingsError
from tests.settings import KEY, load, refusal

EXAMPLE = Path(__file__).parents[3] / "conf" / "config.example.yaml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def load_text(config: Path, text: str) -> Settings:
    config.write_text(text)
    return load_settings(config, {"AUTH__API_KEY": KEY})


def refused_text(config: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_text(config, text)
    message = str(caught.value)
    assert message.startswith(str(config)) and "\n" not in message
    return message.removeprefix(str(config))


# Sources


def test_the_example_names_every_key_with_its_default(config: Path) -> None:
    values = re.sub(r"(?m)^  # (\w+:(?: |$))", r"  \1", EXAMPLE.read_text())
    named = re.findall(r"(?m)^(?:(\w+):|  (\w+):)", values)
    section, found = "", []
    for head, key in named:
        section = head or section
        found += [f"{section}.{key}"] if key else []
    assert sorted(found) == sorted(keys())
    assert load_text(config, values) == load()


def test_the_example_as_it_is_holds_only_a_key_that_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"config\.example\.yaml, line \d+: auth\.api_key: it is a sample"
    ):
        load_settings(EXAMPLE, {})
    assert load_settings(EXAMPLE, {"AUTH__API_KEY": KEY}) == load()


def test_a_variable_overrides_the_file(config: Path) -> None:
    config.write_text(f"auth: {{api_key: {KEY}}}\nserver: {{port: 1, host: localhost}}\n")
    server = load_settings(config, {"SERVER__PORT": "2"}).server
    assert (server.host, server.port) == ("localhost", 2)


def test_unrelated_variables_are_ignored() -> None:
    assert (
        load(FOO__BAR="1", SERVER="x", SESSION="{}", server__port="9", __SERVER="1", SERVER_PORT="1")
        == load()
    )


def test_an_empty_section_and_an_empty_key_have_their_defaults(config: Path) -> None:
    assert load_text(config, "server:\nlogger:\n  level:\nretry: {max_delay: null}\n") == load()


def test_an_empty_file_lacks_only_the_key(config: Path) -> None:
    config.write_text("")
    with pytest.raises(SettingsError, match=r"auth\.api_key is not set.*AUTH__API_KEY.*token_urlsafe"):
        load_settings(config, {})
    assert load_text(config, "") == load()


def test_a_byte_order_mark_is_no_part_of_the_first_key(config: Path) -> None:
    assert load_text(config, "\ufeffserver: {port: 1}").server.port == 1


@pytest.mark.parametrize(
    "text",
    ["session: {enabled: no}", "server: {port: 010}", "server: {port: 0x50}", "scheduler: {interval: 1:30}"],
)
def test_yaml_1_1_does_not_make_something_else_of_text(config: Path, text: str) -> None:
    written = text.rpartition(" ")[2].rstrip("}")
    assert f"'{written}' will not do" in refused_text(config, text)


def test_a_bare_number_is_a_value_like_any_other(config: Path) -> None:
    assert load_text(config, "scheduler: {interval: 60}").scheduler.interval == 60


def test_by_default_ten_agents_work_at_once_and_more_of_them_wait() -> None:
    session = load().session
    assert (session.enabled, session.max_concurrent, session.queue_timeout) == (True, 10, 60)


# Unknown keys


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("server: {prot: 1}", "server.prot", "server.port"),
        ("server: {prot: }", "server.prot", "server.port"),
        ("sever: {port: 1}", "sever", "server"),
        ("port: 1", "port", "server.port"),
        ("AUTH__API_KEY: 1", "AUTH__API_KEY", "auth.api_key"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(
    config: Path, text: str, unknown: str, nearest: str
) -> None:
    assert (
        refused_text(config, text) == f", line 1: {unknown} is not a known key; the nearest one is {nearest}"
    )


def test_a_misspelt_api_key_is_called_unknown_rather_than_missing(config: Path) -> None:
    config.write_text(f"auth: {{api_keys: {KEY}}}")
    with pytest.raises(
        SettingsError, match=r"auth\.api_keys is not a known key; the nearest one is auth\.api_key"
    ):
        load_settings(config, {})


@pytest.mark.parametrize("name", ["SERVER__PROT", "SERVER__port", "SERVER__PORT__X", "SERVER__PORTS"])
def test_an_unknown_variable_of_a_known_section_is_refused_with_the_nearest(name: str) -> None:
    assert refusal(**{name: "1"}) == f"{name} is not a known variable; the nearest one is SERVER__PORT"


# Files


def test_a_missing_file_comes_with_the_command_that_creates_it(config: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(config, {})
    assert str(caught.value) == f"{config} is not there: create it with: cp conf/config.example.yaml {config}"


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"is a folder: name the file in it$"):
        load_settings(tmp_path, {})


def test_an_unreadable_file_is_named_with_the_reason(config: Path) -> None:
    config.touch()
    with pytest.raises(SettingsError, match=r"config\.yaml/x cannot be read by this user: Not a directory"):
        load_settings(config / "x", {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server: {port: 1", ", line 1, column 17: not valid YAML"),
        ("server:\n  port: 1\n host: a", ", line 3, column 2: not valid YAML"),
        ("auth: {}\n---\nserver: {}", ", line 2, column 1: not valid YAML"),
        ("server:\n  port: 1\n  host: a\n  port: 2", ", line 4: port stands there a second time"),
        ("server: {}\nserver: {}", ", line 2: server stands there a second time"),
        ("[1]", " has to hold sections"),
        ("text", " has to hold sections"),
        ("server: 1", ", line 1: server has to hold keys of its own"),
        ("server: [port]", ", line 1: server has to hold keys of its own"),
        ("server: {[a]: 1}", ", line 1: not a key"),
        ("a: \0", " is not YAML"),
        ("server: &a {port: *a}", " is not YAML"),
        ("[" * 5000, " is not YAML"),
        ("server: {host: [a]}", ", line 1: server.host: it has to be one line of text"),
        ("server: {host: {a: b}}", ", line 1: server.host: it has to be one line of text"),
        ('server: {host: "a\\nb"}', ", line 1: server.host: it has to be one line of text"),
        ("server: {trusted_proxies: {a: b}}", ", line 1: server.trusted_proxies: it has to be a list"),
        ("retry: {base_delay: 2m}", ", line 1: retry.base_delay: max_delay is below base_delay"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(config: Path, text: str, problem: str) -> None:
    assert refused_text(config, text).startswith(problem)


def test_a_file_that_is_not_utf_8_is_refused(config: Path) -> None:
    config.write_bytes(b"server: {host: \xff}")
    with pytest.raises(SettingsError, match=r"config\.yaml is not UTF-8 at byte 15: save it as UTF-8"):
        load_settings(config, {})


@given(st.binary(max_size=200) | st.text("aserv:port{}[]&*!|>-# \n\t'\"%@", max_size=40).map(str.encode))
def test_any_file_loads_or_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    config = tmp_path_factory.getbasetemp() / "any.yaml"
    config.write_bytes(data)
    try:
        load_settings(config, {"AUTH__API_KEY": KEY})
    except SettingsError as error:
        assert str(error).isprintable()


# Between keys


DELAYS = "max_delay is below base_delay: raise the one or lower the other"
BOTH = "api_key and api_key_file are both set: leave one"


@pytest.mark.parametrize(
    ("text", "variables", "told"),
    [
        ("retry:\n  max_delay: 1s\n  base_delay: 2s", {}, f"FILE, line 2: retry.max_delay: {DELAYS}"),
        ("retry:\n  base_delay: 2m", {}, f"FILE, line 2: retry.base_delay: {DELAYS}"),
        ("retry:\n  budget: 1", {"RETRY__MAX_DELAY": "100ms"}, f"RETRY__MAX_DELAY: {DELAYS}"),
        ("retry:\n  max_delay: 1m", {"RETRY__BASE_DELAY": "2m"}, f"RETRY__BASE_DELAY: {DELAYS}"),
        (f"auth:\n  api_key: {KEY}\n  api_key_file: HELD", {}, f"FILE, line 3: auth.api_key_file: {BOTH}"),
        ("auth:\n  api_key_file: HELD", {"AUTH__API_KEY": KEY}, f"AUTH__API_KEY: {BOTH}"),
        (f"auth:\n  api_key: {KEY}", {"AUTH__API_KEY_FILE": "HELD"}, f"AUTH__API_KEY_FILE: {BOTH}"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_two_keys_disagree_in_is_told_where_it_was_set(
    config: Path, text: str, variables: dict[str, str], told: str
) -> None:
    held = config.with_name("admin-key")
    held.write_text(KEY)
    config.write_text(text.replace("HELD", str(held)))
    given = {name: value.replace("HELD", str(held)) for name, value in variables.items()}
    with pytest.raises(SettingsError) as caught:
        load_settings(config, given if "auth" in text else {"AUTH__API_KEY": KEY} | given)
    assert str(caught.value) == told.replace("FILE, ", f"{config}, ")


def test_without_a_file_the_variable_is_named() -> None:
    assert refusal(RETRY__MAX_DELAY="100ms") == f"RETRY__MAX_DELAY: {DELAYS}"


# Secrets


def test_an_empty_admin_key_does_not_fall_back_to_the_files(config: Path) -> None:
    config.write_text(f"auth: {{api_key: {KEY}}}")
    with pytest.raises(SettingsError, match=r"^AUTH__API_KEY: "):
        load_settings(config, {"AUTH__API_KEY": ""})


@pytest.mark.parametrize(
    "text",
    [
        "auth: {api_key: [SECRET]}",
        "auth: {api_key: {a: SECRET}}",
        "auth: {api_key:SECRET}",
        "auth: api_key:SECRET",
        "auth: SECRET",
        "auth:\n  api_key=SECRET",
        "auth: {api_key: *SECRET}",
        "auth: {api_key: !SECRET!x y}",
        'auth: {api_key: "SECRET}',
        "api_key: SECRET",
        "auth: {api_keys: SECRET}",
        "claude: {base_url: 'https://SECRET@a.example'}",
        "claude: {base_url: 'https://a.example?key=SECRET'}",
    ],
)
def test_no_error_repeats_a_secret(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(config, {})
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_the_admin_key_is_not_in_the_text_of_the_settings() -> None:
    settings = load()
    assert KEY not in f"{settings} {settings!r} {settings.model_dump()}"
    assert settings.auth.api_key.get_secret_value() == KEY
