"""Client keys in the configuration: what is taken, and what is refused in one line without a secret."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.clients.budgets import KeyLimits
from proxy.config.client_keys import DeclaredKey
from proxy.config.settings import load_settings
from proxy.errors import SettingsError

ADMIN = {"AUTH__API_KEY": "Zx9Zx8qWm2LpR7tUv"}
KEY = "cpSECRETofLAPTOP7Qd2"
OTHER = "cpSECRETofSERVER9Lm3"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def declared(config: Path, text: str) -> tuple[DeclaredKey, ...]:
    """The keys of a file that declares `text`."""
    config.write_text(f"auth:\n  client_keys: {text}\n")
    return load_settings(config, ADMIN).auth.client_keys


def refused(config: Path, text: str) -> str:
    """What is told of a file that declares `text`, after the place."""
    with pytest.raises(SettingsError) as caught:
        declared(config, text)
    everything = "".join(traceback.format_exception(caught.value))
    assert "SECRET" not in everything and "SECRET" not in repr(caught.value.__context__)
    place = f"{config}, line 2: auth.client_keys: "
    assert str(caught.value).startswith(place) and str(caught.value).isprintable()
    return str(caught.value).removeprefix(place)


# ---- taken


def test_a_name_and_a_key_are_enough(config: Path) -> None:
    assert declared(config, f"[{{name: laptop, key: {KEY}}}]") == (DeclaredKey("laptop", KEY),)


def test_everything_that_a_key_may_have_is_taken(config: Path) -> None:
    text = f"""
    - name: laptop
      key: {KEY}
      role: admin
      models: [claude-haiku-*, claude-*-5-5]
      limits:
        requests_per_minute: 60
        concurrent_requests: 5
        tokens_per_day: 1000000
        tokens_per_month: 20000000
        cost_usd_per_day: 0.5
        cost_usd_per_month: 100
      group: " team a "
      tags: [eu, us]
    - {{name: server, key: {OTHER}, role: metrics}}"""
    assert declared(config, text) == (
        DeclaredKey(
            "laptop",
            KEY,
            "admin",
            ("claude-haiku-*", "claude-*-5-5"),
            KeyLimits(60, 5, 1_000_000, 20_000_000, 0.5, 100.0),
            "team a",
            ("eu", "us"),
        ),
        DeclaredKey("server", OTHER, "metrics"),
    )


@pytest.mark.parametrize("text", ["[]", ""])
def test_none_at_all_is_fine(config: Path, text: str) -> None:
    assert declared(config, text) == ()


def test_what_is_left_empty_has_its_default(config: Path) -> None:
    text = f"[{{name: laptop, key: {KEY}, role: , models: , limits: , group: , tags: }}]"
    assert declared(config, text) == (DeclaredKey("laptop", KEY),)


def test_a_name_loses_the_space_around_it(config: Path) -> None:
    assert declared(config, f"[{{name: ' laptop ', key: {KEY}}}]")[0].name == "laptop"


def test_two_may_have_the_same_name(config: Path) -> None:
    assert len(declared(config, f"[{{name: a, key: {KEY}}}, {{name: a, key: {OTHER}}}]")) == 2


def test_a_key_is_not_in_what_is_printed_of_it(config: Path) -> None:
    assert "SECRET" not in repr(declared(config, f"[{{name: a, key: {KEY}}}]"))


# ---- refused


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{{laptop: {KEY}}}", "it has to be a list"),
        (KEY, "it has to be a list"),
        (f"[{KEY}]", "number 1 has to hold keys of its own"),
        (f"[[{KEY}]]", "number 1 has to hold keys of its own"),
        ("[~]", "number 1 has to hold keys of its own"),
        (
            f"[{{{KEY}: laptop}}]",
            "number 1 has in it what is none of name, key, role, models, limits, group, tags",
        ),
        (f"[{{nmae: laptop, key: {KEY}}}]", "number 1 has in it what is none of"),
        (f"[{{name: {KEY}, key: laptop}}]", "number 1 needs a key of 16 to 256 ASCII characters"),
        (f"[{{key: {KEY}}}]", "number 1 needs a name of 1 to 64 printable characters"),
        (f"[{{name: , key: {KEY}}}]", "number 1 needs a name"),
        (f"[{{name: '  ', key: {KEY}}}]", "number 1 needs a name"),
        (f"[{{name: [a], key: {KEY}}}]", "number 1 needs a name"),
        (f'[{{name: "a\\nb", key: {KEY}}}]', "number 1 needs a name"),
        (f"[{{name: {'x' * 65}, key: {KEY}}}]", "number 1 needs a name"),
        ("[{name: laptop}]", "number 1 needs a key"),
        ("[{name: laptop, key: }]", "number 1 needs a key"),
        (f"[{{name: laptop, key: [{KEY}]}}]", "number 1 needs a key"),
        ("[{name: laptop, key: SECRET-of-15-ch}]", "number 1 needs a key"),
        ("[{name: laptop, key: SECRET with spaces}]", "number 1 needs a key"),
        ("[{name: laptop, key: SECRETSECRETSECRETö}]", "number 1 needs a key"),
        ('[{name: laptop, key: "SECRETSECRETSECRET\\n"}]', "number 1 needs a key"),
        (f"[{{name: laptop, key: {'SECRET' * 43}}}]", "number 1 needs a key"),
        (
            f"[{{name: a, key: {KEY}, role: {OTHER}}}]",
            "number 1 has a role other than user or admin or metrics",
        ),
        (
            f"[{{name: a, key: {KEY}, role: [admin]}}]",
            "number 1 has a role other than user or admin or metrics",
        ),
        (f"[{{name: a, key: {KEY}, models: {OTHER}}}]", "number 1 needs as models a list"),
        (f"[{{name: a, key: {KEY}, models: [[{OTHER}]]}}]", "number 1 needs as models a list"),
        (f"[{{name: a, key: {KEY}, models: ['']}}]", "number 1 needs as models a list"),
        (f"[{{name: a, key: {KEY}, models: [a, ~]}}]", "number 1 needs as models a list"),
        (f"[{{name: a, key: {KEY}, models: ['claude {OTHER}']}}]", "number 1 needs as models a list"),
        (f"[{{name: a, key: {KEY}, models: ['{OTHER}[1m]']}}]", "number 1 needs as models a list"),
        (f"[{{name: a, key: {KEY}, models: ['{OTHER}, a']}}]", "number 1 needs as models a list"),
        (f"[{{name: a, key: {KEY}, models: [{'x' * 129}]}}]", "number 1 needs as models a list"),
        (f"[{{name: a, key: {KEY}, group: [{OTHER}]}}]", "number 1 needs as group 1 to 64 printable"),
        (f"[{{name: a, key: {KEY}, group: {'x' * 65}}}]", "number 1 needs as group 1 to 64 printable"),
        (f"[{{name: a, key: {KEY}, tags: {OTHER}}}]", "number 1 needs as tags a list"),
        (f"[{{name: a, key: {KEY}, tags: ['{OTHER},x']}}]", "number 1 needs as tags a list"),
        (f"[{{name: a, key: {KEY}, tags: [[{OTHER}]]}}]", "number 1 needs as tags a list"),
        (f"[{{name: a, key: {KEY}, limits: {OTHER}}}]", "number 1 needs as limits some of requests_per"),
        (f"[{{name: a, key: {KEY}, limits: [1]}}]", "number 1 needs as limits some of requests_per"),
        (f"[{{name: a, key: {KEY}, limits: {{{OTHER}: 1}}}}]", "number 1 has in limits what is none of"),
        (
            f"[{{name: laptop, key: {KEY}}}, {{name: server, key: {KEY}}}]",
            "number 2 has the key of number 1",
        ),
        (f"[{{name: laptop, key: {KEY}}}, {{name: server}}]", "number 2 needs a key"),
    ],
)
def test_a_bad_declaration_is_refused_with_its_place(config: Path, text: str, problem: str) -> None:
    assert refused(config, text).startswith(problem)


def test_the_admin_key_is_no_client_key(config: Path) -> None:
    text = f"[{{name: laptop, key: {KEY}}}, {{name: server, key: {ADMIN['AUTH__API_KEY']}}}]"
    assert refused(config, text) == "number 2 has the admin key, which opens more: give it one of its own"


def test_nor_is_the_one_that_a_file_holds(config: Path) -> None:
    held = config.with_name("admin-key")
    held.write_text(f"{KEY}\n")
    config.write_text(f"auth:\n  api_key_file: {held}\n  client_keys: [{{name: laptop, key: {KEY}}}]\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(config, {})
    assert str(caught.value).startswith(f"{config}, line 3: auth.client_keys: number 1 has the admin key")
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_a_misspelt_member_comes_with_the_nearest(config: Path) -> None:
    text = f"[{{name: a, key: {KEY}, limits: {{request_per_minute: 1}}}}]"
    assert refused(config, text).endswith("the nearest one is requests_per_minute")


@pytest.mark.parametrize(
    "text", ["0", "-1", "many", "1e3", "inf", "nan", "1_000", "٣", "", "[1]", "1" * 16, "0.0"]
)
@pytest.mark.parametrize("member", ["requests_per_minute", "tokens_per_day", "cost_usd_per_month"])
def test_a_limit_is_a_number_above_zero(config: Path, member: str, text: str) -> None:
    problem = refused(config, f"[{{name: a, key: {KEY}, limits: {{{member}: {text}}}}}]")
    assert problem == f"number 1 needs as {member} a number above zero"


@pytest.mark.parametrize("member", ["requests_per_minute", "concurrent_requests", "tokens_per_month"])
def test_only_money_has_fractions(config: Path, member: str) -> None:
    problem = refused(config, f"[{{name: a, key: {KEY}, limits: {{{member}: 1.5}}}}]")
    assert problem == f"number 1 needs as {member} a whole number"


def test_a_variable_holds_them_as_json() -> None:
    limits = '{"requests_per_minute": 60, "cost_usd_per_day": 0.5}'
    text = f'[{{"name": "a", "key": "{KEY}", "models": ["claude-*"], "group": null, "limits": {limits}}}]'
    settings = load_settings(None, ADMIN | {"AUTH__CLIENT_KEYS": text})
    limited = KeyLimits(requests_per_minute=60, cost_usd_per_day=0.5)
    assert settings.auth.client_keys == (DeclaredKey("a", KEY, models=("claude-*",), limits=limited),)
    assert settings.place("auth.client_keys") == "AUTH__CLIENT_KEYS"


def test_an_empty_variable_has_none() -> None:
    assert load_settings(None, ADMIN | {"AUTH__CLIENT_KEYS": ""}).auth.client_keys == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (KEY, "it has to be a list, in a variable as JSON, each with a name and a key"),
        (f'{{"name": "a", "key": "{KEY}"}}', "it has to be a list, in a variable as JSON"),
        (f'[{{"name": "a", "key": "{KEY}"}},]', "it has to be a list, in a variable as JSON"),
        (f'[{{"name": "a", "key": "{KEY}", "key": "{KEY}"}}]', "it has to be a list, in a variable as JSON"),
        ("[" * 100_000, "it has to be a list, in a variable as JSON"),
        (f'[{{"name": "a", "key": "{KEY}", "role": true}}]', "number 1 has a role other than"),
        (
            f'[{{"name": "a", "key": "{KEY}", "limits": {{"tokens_per_day": NaN}}}}]',
            "number 1 needs as tokens",
        ),
    ],
    ids=lambda text: text[:30],
)
def test_a_variable_that_holds_something_else_is_named_and_not_repeated(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, ADMIN | {"AUTH__CLIENT_KEYS": text})
    assert str(caught.value).startswith(f"AUTH__CLIENT_KEYS: {problem}")
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


yaml_text = st.text("nameky:SECRT{}[], ~'\"\n\x01-ö1", max_size=30)


@given(yaml_text)
def test_any_declaration_loads_or_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    config = tmp_path_factory.getbasetemp() / "any-declared.yaml"
    try:
        declared(config, f"[{{name: {text}, key: {KEY}, limits: {{{text}}}}}]")
    except SettingsError as error:
        assert str(error).isprintable()
