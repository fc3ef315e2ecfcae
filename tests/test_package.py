"""What `pip install .` installs: the command `claude-proxy`, which serves from there as `run.py` does from here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from proxy import __version__
from tests.process import CLOCK, ROOT, running
from tests.test_house import pinned

SOURCES = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "run.py")
FOLDERS = ("proxy", "handlers", "static", "conf")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]


def pip(*arguments: str | Path, home: Path) -> None:
    """Without network, and without a folder for what it builds with: setuptools is among the tests' requirements."""
    environ = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(  # noqa: S603 - our own command
        [*PIP, *map(str, arguments)],
        env=environ | CLOCK | {"HOME": str(home), "TMPDIR": str(home), "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since building leaves files beside the sources."""
    home = tmp_path_factory.mktemp("wheel")
    copy = home / "copy"
    copy.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "conf/config.yaml").write_text("auth: {api_key: nobody-may-have-this-one}\n")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", home, copy, home=home)
    [built] = home.glob("*.whl")
    return built


def test_it_holds_the_program_and_what_it_reads_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        metadata = message_from_string(file.read(f"claude_proxy-{__version__}.dist-info/METADATA").decode())
    assert {name.split("/")[0] for name in names} == {
        "run.py",
        *FOLDERS,
        f"claude_proxy-{__version__}.dist-info",
    }
    parts = [path for folder in FOLDERS if folder != "conf" for path in (ROOT / folder).rglob("*")]
    ours = [path for path in parts if path.is_file() and path.suffix != ".pyc"]
    there = {str(path.relative_to(ROOT)) for path in ours}
    assert there <= names
    assert {"conf/config.example.yaml", "conf/demo.yaml", "conf/container.yaml"} <= names
    assert "conf/config.yaml" not in names
    needed, extras = set(), set()
    for line in metadata.get_all("Requires-Dist", []):
        (extras if "extra ==" in line else needed).add(line)
    assert needed == set(pinned("requirements.txt").values())
    tested = pinned("tests/requirements.txt").values()
    assert extras and extras <= {f'{line}; extra == "tracing"' for line in tested}


async def test_the_command_serves_from_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    pip("install", "--no-deps", "--target", target, wheel, home=tmp_path)
    command = [str(target / "bin/claude-proxy")]
    there = {"PYTHONPATH": str(target), "PATH": os.environ["PATH"]}
    done = subprocess.run(  # noqa: S603, ASYNC221 - our own program
        [*command, "--version"], env=there, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"claude-proxy {__version__}\n", "")
    page = target / "static/index.html"
    page.write_text(page.read_text().replace("<title>", "<title>installed: "))
    async with running(
        tmp_path, "--demo", command=command, SERVER__PORT="0", PYTHONPATH=str(target)
    ) as process:
        served = await process.send("GET", "/", [("Host", "localhost")])
        assert served.status == 200 and b"<title>installed: " in served.body
        assert (await process.send("GET", "/health")).status == 200
