"""What `make release` refuses, as far as that needs no network."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.release import (
    NotReady,
    changelog_problems,
    check_audit,
    holes,
    lock_problems,
    version_problems,
    without_hash,
)

ROOT = Path(__file__).parents[1]
LOCKED = "a-b==1.0 \\\n    --hash=sha256:00\nc==2.1 \\\n    --hash=sha256:11 \\\n    --hash=sha256:22\n"


def test_the_lock_has_the_pins_of_the_requirements_with_hashes() -> None:
    assert (
        lock_problems((ROOT / "requirements.txt").read_text(), (ROOT / "requirements.lock").read_text()) == []
    )


def test_a_lock_that_lacks_a_pin_has_another_or_no_hash_is_told() -> None:
    assert lock_problems("# why\nA_b==1.0\nc==2.1\n", LOCKED) == []
    assert lock_problems("A_b==1.1\nc==2.1\nd==3\n", LOCKED) == [
        "requirements.lock is out of date (a-b, d): make lock"
    ]
    assert without_hash(LOCKED + "d==3\n") == ["d"]


@pytest.mark.parametrize(
    ("changelog", "problem"),
    [
        ("# Changelog\n\n## 1.2.0 – 2026-11-29\n\n- It.\n\n## 1.1.0 – 2026-01-01\n", None),
        ("# Changelog\n\n## Unreleased\n\n- It.\n\n## 1.2.0 – 2026-11-29\n", "begins with 'Unreleased'"),
        ("# Changelog\n\n## 1.2.0\n\n- It.\n", "begins with '1.2.0'"),
        ("# Changelog\n\n## 1.2.0 – 2026-11-29\n\n## 1.1.0 – 2026-01-01\n\n- It.\n", "says nothing of 1.2.0"),
        ("# Changelog\n", "begins with ''"),
    ],
)
def test_the_changelog_begins_with_the_version(changelog: str, problem: str | None) -> None:
    told = changelog_problems(changelog, "1.2.0")
    assert not told if problem is None else problem in told[0]


def test_the_version_is_semantic_and_stands_in_one_place() -> None:
    assert version_problems("1.2.0", {"pyproject.toml": 'dynamic = ["version"]\n'}) == []
    assert version_problems("1.2", {}) == ["1.2 is no semantic version"]
    (told,) = version_problems("1.2.0", {"pyproject.toml": '[project]\nversion = "1.2.0"\n'})
    assert "pyproject.toml has the version too" in told


REPORT = json.dumps(
    {
        "dependencies": [
            {"name": "c", "version": "2", "vulns": []},
            {"name": "D", "version": "1", "vulns": [{"id": "CVE-1"}]},
        ]
    }
)


def test_an_audit_is_believed_only_if_it_sees_and_has_seen_all() -> None:
    found = holes(REPORT)
    assert found == {"c": [], "D": ["CVE-1"]}
    check_audit({"tornado": ["CVE-0"]}, {"c": []}, ["c"])
    with pytest.raises(NotReady, match="does not see the holes"):
        check_audit({"tornado": []}, {"c": []}, ["c"])
    with pytest.raises(NotReady, match="not audited: e"):
        check_audit({"tornado": ["CVE-0"]}, found, ["c", "d", "e"])
    with pytest.raises(NotReady, match="CVE-1"):
        check_audit({"tornado": ["CVE-0"]}, found, ["c", "d"])


def test_make_release_checks_then_tests_then_builds() -> None:
    command = ["make", "-n", "-o", ".venv/release/.installed", "release"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # noqa: S603
    steps = re.findall(r"tests\.release \w+|ruff check|-m pytest", done.stdout)
    assert steps == ["tests.release ready", "ruff check", "-m pytest", "tests.release build"], done.stderr
