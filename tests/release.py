"""What a release needs, checked and built: `make release`, which runs the tests in between.

python -m tests.release lock    writes requirements.lock: the pins of requirements.txt with the hashes of their files
python -m tests.release ready   the version, the changelog, the lock and the checkout fit together; a second
python -m tests.release build   the wheel (twice, to the same bytes), an install by hashes that starts, the list of its
                                parts (CycloneDX), and an audit that is first shown to find a hole: into dist/

The tools are in .venv/release, and `build` and `lock` ask PyPI. RELEASE_AUDIT holds further options of pip-audit: with
`--vulnerability-service osv --osv-url URL` it asks a mirror.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.utils import canonicalize_name

from proxy import __version__

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".venv/release/bin/python"
"""Runs each tool as its module: a script names the folder that it was installed in, which may have moved."""

LOCK = "requirements.lock"
HEAD = "# requirements.txt with the hashes of what may be installed. Made by `make lock`, after each change there.\n"
VERSION = re.compile(r"\d+\.\d+\.\d+(-(rc|alpha|beta)\.\d+)?")

PLANTED = "tornado==6.3.2"
"""A version with known holes (GHSA-753j, GHSA-w235 and others): an audit that does not see them sees nothing."""


class NotReady(Exception):
    """Something is missing for a release; the text says what, and the fix."""


# Ready


def pins(text: str) -> dict[str, str]:
    """The packages of a requirements or lock file, with their versions."""
    found = re.findall(r"(?m)^([\w.-]+)==([\w.]+)", text)
    return {canonicalize_name(name): version for name, version in found}


def without_hash(lock: str) -> list[str]:
    """The packages of a lock file that any file could pass for."""
    return [
        entry.partition("==")[0]
        for entry in re.split(r"(?m)^(?=\w)", lock)[1:]
        if "--hash=sha256:" not in entry
    ]


def lock_problems(requirements: str, lock: str) -> list[str]:
    wanted, locked = pins(requirements).items(), pins(lock).items()
    names = sorted({name for name, _ in wanted ^ locked} | set(without_hash(lock)))
    return [f"{LOCK} is out of date ({', '.join(names)}): make lock"] if names else []


def changelog_problems(changelog: str, version: str) -> list[str]:
    """The newest part has to be this version's, with its day and with something in it."""
    _, *parts = re.split(r"(?m)^## ", changelog)
    newest, _, text = parts[0].partition("\n") if parts else ("", "", "")
    if not re.fullmatch(rf"{re.escape(version)} – \d{{4}}-\d\d-\d\d", newest):
        return [f"CHANGELOG.md begins with {newest!r}: make it '{version} – <year-month-day>'"]
    return [] if text.strip() else [f"CHANGELOG.md says nothing of {version}"]


def version_problems(version: str, files: Mapping[str, str]) -> list[str]:
    """The version is semantic, and stands nowhere else: a second place would differ one day."""
    others = [
        name for name, text in files.items() if re.search(rf"(?m)^\W*version\W+{re.escape(version)}\b", text)
    ]
    told = [f"{name} has the version too: leave it to proxy.__version__" for name in others]
    return told if VERSION.fullmatch(version) else [f"{version} is no semantic version", *told]


def checkout_problems() -> list[str]:
    """Nothing is uncommitted, and the tag is free, or is this commit's."""
    tag = f"v{__version__}"
    tagged = _said("git", "tag", "--list", tag) and _said("git", "rev-list", "-1", tag)
    return [
        *(f"not committed: {line}" for line in _said("git", "status", "--porcelain").splitlines()),
        *(
            [f"{tag} is another commit: raise proxy.__version__"]
            if tagged not in ("", _said("git", "rev-parse", "HEAD"))
            else []
        ),
    ]


def check_ready() -> None:
    text = {
        name: (ROOT / name).read_text()
        for name in ("requirements.txt", LOCK, "CHANGELOG.md", "pyproject.toml")
    }
    problems = [
        *version_problems(__version__, {"pyproject.toml": text["pyproject.toml"]}),
        *changelog_problems(text["CHANGELOG.md"], __version__),
        *lock_problems(text["requirements.txt"], text[LOCK]),
        *checkout_problems(),
    ]
    if problems:
        raise NotReady("\n".join(problems))
    print(f"{__version__}: version, changelog, lock and checkout fit together")


# Build


def lock(into: Path) -> None:
    """Ask for the hashes of all files of each pinned version."""
    options = (
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--strip-extras",
        "--no-emit-options",
        "--quiet",
    )
    _run(TOOLS, "-m", "piptools", "compile", *options, "--output-file", into, "requirements.txt")
    into.write_text(HEAD + into.read_text())
    print(f"{into.name}: {len(pins(into.read_text()))} packages")


def build_wheel(work: Path, dist: Path) -> Path:
    """Build what is committed, twice; the wheel. Raises NotReady if the two differ."""
    epoch = {"SOURCE_DATE_EPOCH": _said("git", "log", "-1", "--format=%ct")}
    wheels = []
    for name in ("first", "second"):
        source = work / name
        source.mkdir()
        _run("tar", "--extract", "--directory", source, given=_output("git", "archive", "HEAD"))
        _run(
            TOOLS,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            source / "dist",
            source,
            **epoch,
        )
        wheels += (source / "dist").glob("*.whl")
    first, second = wheels
    if _sha256(first) != _sha256(second):
        raise NotReady("two builds of one commit differ")
    if f"-{__version__}-" not in first.name:
        raise NotReady(f"{first.name} is not of version {__version__}")
    print(f"{first.name}: the same twice, sha256 {_sha256(first)}")
    return Path(shutil.copy(first, dist))


def install(work: Path, wheel: Path) -> Path:
    """The Python of a new environment that holds the wheel, and what the lock allows; the command starts there."""
    home = work / "installed"
    _run(sys.executable, "-m", "venv", "--without-pip", home)
    pip = (TOOLS, "-m", "pip", "--python", home / "bin/python", "install", "--quiet")
    _run(*pip, "--require-hashes", "--requirement", LOCK)
    _run(*pip, "--no-deps", wheel)
    said = _said(home / "bin/claude-proxy", "--version", cwd=work)
    if said != f"claude-proxy {__version__}":
        raise NotReady(f"the installed command says {said!r}")
    print(f"installed by hashes: {said}")
    return home / "bin/python"


def list_parts(python: Path, dist: Path) -> None:
    """Write the SBOM. Raises NotReady if it has other parts than the lock."""
    file = dist / f"claude-proxy-{__version__}.cdx.json"
    asked = ("--pyproject", "pyproject.toml", "--mc-type", "application", "--output-reproducible", "-o", file)
    _run(TOOLS, "-m", "cyclonedx_py", "environment", *asked, python)
    listed = json.loads(file.read_text())
    found = {(canonicalize_name(part["name"]), part["version"]) for part in listed["components"]}
    if different := found ^ set(pins((ROOT / LOCK).read_text()).items()):
        raise NotReady(f"{file.name} and {LOCK} differ: {sorted(different)}")
    listed["metadata"]["component"]["version"] = __version__  # pyproject.toml does not say it itself
    file.write_text(json.dumps(listed, indent=2) + "\n")
    print(f"{file.name}: {len(found)} parts")


def audit(requirements: Path, *options: str) -> dict[str, list[str]]:
    """The known holes of each package, by their ids; a package that cannot be audited is a NotReady.

    Without --strict, pip-audit passes over what its source does not know, and finds nothing in it.
    """
    given = os.environ.get("RELEASE_AUDIT", "").split()
    command = (TOOLS, "-m", "pip_audit", "--strict", "--disable-pip", "--format", "json", *options, *given)
    done = subprocess.run([*command, "--requirement", requirements], cwd=ROOT, capture_output=True, text=True)  # noqa: S603
    if not done.stdout.strip():
        raise NotReady(f"the audit did not come about: {done.stderr.strip()}")
    return holes(done.stdout)


def holes(report: str) -> dict[str, list[str]]:
    """What pip-audit has found, by package; all packages that it looked at are there."""
    return {
        part["name"]: [hole["id"] for hole in part.get("vulns", [])]
        for part in json.loads(report)["dependencies"]
    }


def check_audit(
    planted: Mapping[str, Iterable[str]], found: Mapping[str, list[str]], wanted: Iterable[str]
) -> None:
    """Raise NotReady if the audit is blind, incomplete or has found something."""
    if not any(planted.values()):
        raise NotReady(f"the audit does not see the holes of {PLANTED}: it would see none of ours")
    if missing := set(wanted) - {canonicalize_name(name) for name in found}:
        raise NotReady(f"not audited: {', '.join(sorted(missing))}")
    if bad := {name: ids for name, ids in found.items() if ids}:
        raise NotReady(f"known holes: {bad}")


def check_holes(work: Path, lock: Path = ROOT / LOCK) -> None:
    """Audit what is locked. Raises NotReady if the audit is blind, incomplete or finds something."""
    (work / "planted.txt").write_text(f"{PLANTED}\n")
    planted = audit(work / "planted.txt", "--no-deps")
    found = audit(lock, "--require-hashes")
    check_audit(planted, found, pins(lock.read_text()))
    print(
        f"audit: {len(found)} packages without a known hole; it sees those of {PLANTED}: {', '.join(*planted.values())}"
    )


def build() -> None:
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    with tempfile.TemporaryDirectory(prefix="release") as folder:
        work = Path(folder)
        wheel = build_wheel(work, dist)
        list_parts(install(work, wheel), dist)
        check_holes(work)
    shutil.copy(ROOT / LOCK, dist)
    sums = [f"{_sha256(file)}  {file.name}\n" for file in sorted(dist.iterdir())]
    (dist / "SHA256SUMS").write_text("".join(sums))
    print(*sums, sep="", end="")


# Tools


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _output(*command: str | Path, cwd: Path = ROOT, given: bytes | None = None, **variables: str) -> bytes:
    """What it prints. Raises NotReady with what it complains about, if it fails."""
    environ = os.environ | variables
    done = subprocess.run(command, cwd=cwd, env=environ, input=given, capture_output=True)  # noqa: S603
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise NotReady(f"{Path(command[0]).name} failed: {said}")
    return done.stdout


def _run(*command: str | Path, given: bytes | None = None, **variables: str) -> None:
    _output(*command, given=given, **variables)


def _said(*command: str | Path, cwd: Path = ROOT) -> str:
    return _output(*command, cwd=cwd).decode().strip()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.release", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("step", choices=("lock", "ready", "build"))
    steps = {"lock": lambda: lock(ROOT / LOCK), "ready": check_ready, "build": build}
    try:
        steps[parser.parse_args().step]()
    except NotReady as error:
        print(f"not ready for a release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
