"""The JSON schema of the configuration, for editors: it is up to date, takes what is right and nothing that is not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from proxy.config import schema as made
from proxy.config.schema import text
from proxy.config.settings import keys

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "conf" / "config.example.yaml"

schema = cache(made.schema)


def refused(document: Any) -> bool:
    return not jsonschema_rs.validator_for(schema()).is_valid(document)


def of(key: str) -> Any:
    section, _, name = key.partition(".")
    return schema()["properties"][section]["properties"][name]


def test_the_file_for_editors_is_up_to_date() -> None:
    assert (ROOT / "conf" / "config.schema.json").read_text() == text(), "run: make schema"


def test_it_is_printed_without_a_configuration() -> None:
    command = [sys.executable, str(ROOT / "run.py"), "--print-schema"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert json.loads(done.stdout) == schema()


@pytest.mark.parametrize("key", keys())
def test_every_key_has_a_kind(key: str) -> None:
    assert {"type", "enum", "items"} & of(key).keys(), of(key)


def test_the_example_is_right_as_it_is_and_with_every_key(tmp_path: Path) -> None:
    example = EXAMPLE.read_text()
    assert example.startswith("# yaml-language-server: $schema=config.schema.json\n")
    assert not refused(yaml.safe_load(example))
    assert not refused(yaml.safe_load(re.sub(r"(?m)^  # (\w+:(?: |$))", r"  \1", example)))


@pytest.mark.parametrize(
    "document",
    [
        {"server": {"port": 5, "trusted_proxies": ["10.0.0.0/8"], "request_timeout": 90}},
        {"server": {"trusted_proxies": "10.0.0.0/8", "max_body_size": "64KiB"}},
        {"retry": None, "logger": {"level": "debug"}, "session": {"enabled": False}},
        {"auth": {"client_keys": [{"name": "a", "key": "k" * 16, "limits": {"cost_usd_per_day": 1.5}}]}},
        {
            "notifications": {
                "targets": [{"kind": "slack", "url": "https://a.example/x", "quiet": "22:00-07:00"}]
            }
        },
        {
            "notifications": {
                "targets": [{"kind": "email", "host": "a.example", "from": "a@b.c", "to": "d@e.f"}]
            }
        },
    ],
)
def test_what_is_right_is_taken(document: Any) -> None:
    assert not refused(document)


@pytest.mark.parametrize(
    "document",
    [
        {"sever": {}},
        {"server": {"prot": 1}},
        {"server": {"port": 70000}},
        {"server": {"request_timeout": "5 minutes"}},
        {"server": {"max_body_size": "1TB"}},
        {"logger": {"level": "loud"}},
        {"session": {"enabled": "no"}},
        {"retry": {"max_attempts": 0}},
        {"auth": {"api_key": "short"}},
        {"auth": {"client_keys": [{"name": "a", "key": "k" * 16, "rôle": "user"}]}},
        {"auth": {"client_keys": [{"name": "a", "key": "k" * 16, "role": "boss"}]}},
        {"notifications": {"targets": [{"kind": "pager", "url": "https://a.example"}]}},
        {"notifications": {"targets": [{"kind": "slack"}]}},
        {"notifications": {"targets": [{"kind": "slack", "url": "https://a.example", "token": "x"}]}},
        {"notifications": {"targets": [{"kind": "email", "host": "a.example", "to": "d@e.f"}]}},
    ],
)
def test_what_is_wrong_is_refused(document: Any) -> None:
    assert refused(document)


def test_what_an_editor_shows_of_a_key() -> None:
    assert of("server.request_timeout")["default"] == "5m"
    assert of("server.request_timeout")["description"].startswith("longest silence in an answer; a GET")
    assert of("storage.encryption_key")["description"].startswith("what credentials are encrypted with")
    assert "default" not in of("auth.api_key")
