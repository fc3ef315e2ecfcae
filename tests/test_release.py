"""What `make release` refuses, as far as that needs no network.

Its tools are in .venv/release: `make test` installs them.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.advisories import Advisory, Source, serving
from tests.release import (
    NotReady,
    changelog_problems,
    check_audit,
    check_holes,
    holes,
    lock_problems,
    pins,
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


OF_THE_PLANTED = Advisory("GHSA-w235-7p84-xx57", "tornado", fixed="6.4.1")
OF_A_PIN = Advisory("GHSA-vqfr-h8mv-ghfj", "h11", fixed="0.16.0")


@contextlib.contextmanager
def audited_by(*advisories: Advisory) -> Iterator[Source]:
    """An audit asks a source that knows these."""
    with serving(advisories) as source, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELEASE_AUDIT", f"--vulnerability-service osv --osv-url {source.url}")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield source


def test_the_audit_passes_what_is_locked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with audited_by(OF_THE_PLANTED, OF_A_PIN) as source:
        check_holes(tmp_path)
    wanted = pins((ROOT / "requirements.lock").read_text())
    assert sorted(source.asked) == sorted([*wanted.items(), ("tornado", "6.3.2")])
    assert "without a known hole" in capsys.readouterr().out


def test_the_audit_fails_for_a_planted_pin_with_a_hole(tmp_path: Path) -> None:
    planted = tmp_path / "planted.lock"
    text = (ROOT / "requirements.lock").read_text()
    planted.write_text(re.sub(r"(?m)^h11==[\d.]+", "h11==0.14.0", text))
    assert planted.read_text() != text
    with audited_by(OF_THE_PLANTED, OF_A_PIN), pytest.raises(NotReady, match=f"'h11': .*{OF_A_PIN.id}"):
        check_holes(tmp_path, planted)


def test_an_audit_whose_source_knows_nothing_fails(tmp_path: Path) -> None:
    with audited_by(), pytest.raises(NotReady, match=r"does not see the holes of tornado==6\.3\.2"):
        check_holes(tmp_path)


def test_an_audit_whose_source_is_away_fails(tmp_path: Path) -> None:
    with audited_by() as source:
        pass
    with pytest.MonkeyPatch.context() as patch, pytest.raises(NotReady, match="the audit did not come about"):
        patch.setenv("RELEASE_AUDIT", f"--vulnerability-service osv --osv-url {source.url}")
        patch.setenv("NO_PROXY", "127.0.0.1")
        check_holes(tmp_path)


def test_make_release_checks_then_tests_then_builds() -> None:
    command = ["make", "-n", "-o", ".venv/release/.installed", "release"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # noqa: S603
    steps = re.findall(r"tests\.release \w+|ruff check|-m pytest", done.stdout)
    assert steps == ["tests.release ready", "ruff check", "-m pytest", "tests.release build"], done.stderr
