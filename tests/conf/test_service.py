"""The systemd units in conf/: systemd reads them without a complaint, and its own way to hand over a socket works."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.bench.versions import free_port
from tests.image import SITE, read
from tests.process import ROOT, RUN, environ, write_config
from tests.service import until
from tests.wire import fetch

UNITS = ("claude-proxy.service", "claude-proxy.socket")
EXPOSURE = 15
"""The most that is accepted of 100, in which systemd counts what a service is not kept from: ours has 11."""


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: apt-get install systemd"
    return found


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """Copies whose program exists on this machine."""
    for name in UNITS:
        text = (ROOT / "conf" / name).read_text()
        text = text.replace("/opt/claude-proxy/bin/claude-proxy", tool("true"))
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in UNITS]


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - systemd's own tool
        [tool("systemd-analyze"), *arguments], capture_output=True, text=True, timeout=60
    )


def test_systemd_finds_nothing_amiss(units: list[str]) -> None:
    done = analyzed("verify", *units)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_finds_nothing_amiss_in_the_template(tmp_path: Path) -> None:
    unit = tmp_path / "claude-proxy@4001.service"
    text = (ROOT / "conf/claude-proxy@.service").read_text()
    for name, here in (
        ("/opt/claude-proxy/bin/claude-proxy", tool("true")),
        ("User=claude-proxy", "User=root"),
    ):
        text = text.replace(name, here)
    unit.write_text(text)
    done = analyzed("verify", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_template_has_systemd_told_when_it_serves_and_that_it_lives_as_the_service_does() -> None:
    def settings(name: str) -> set[str]:
        lines = (
            (ROOT / "conf" / name).read_text().partition("[Service]")[2].partition("[Install]")[0].split("\n")
        )
        own = ("Environment=", "StateDirectory=", "#")  # each instance has a port and a folder
        return {line for line in lines if line and not line.startswith(own)}

    assert settings("claude-proxy@.service") == settings("claude-proxy.service")


def test_the_service_is_kept_from_what_it_does_not_need(units: list[str]) -> None:
    done = analyzed("security", "--offline=true", f"--threshold={EXPOSURE}", units[0])
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_more_time_to_stop_than_its_streams() -> None:
    service = (ROOT / "conf/claude-proxy.service").read_text()
    assert "Type=notify\n" in service and re.search(r"^TimeoutStopSec=11min$", service, re.MULTILINE)
    assert "drain_timeout: 10m" in (ROOT / "conf/container.yaml").read_text()
    assert "stop_grace_period: 11m" in (ROOT / "conf/compose.yaml").read_text()


def test_the_image_is_unprivileged_watched_and_made_of_what_is_here() -> None:
    image = read((ROOT / "Dockerfile").read_text())
    assert image.user == "10001:10001" and image.stop is signal.SIGTERM
    assert (image.volume, image.env["STORAGE__DATA_FOLDER"]) == ("/data", "/data")
    assert image.health and image.command[:2] == ["claude-proxy", "--config"]
    assert image.command[2] == f"{SITE}/conf/container.yaml"
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored and {f"!{name}" for name in image.copied} <= set(ignored)
    assert all((ROOT / name).exists() for name in image.copied) and "conf/config.yaml" in ignored


async def test_it_serves_on_the_socket_that_systemd_hands_it(tmp_path: Path) -> None:
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(tool("systemd-socket-activate"), "--listen", f"127.0.0.1:{port}"),
            *(*RUN, "--config", str(write_config(tmp_path))),
            env=environ(tmp_path, {}),
            stdout=log,
            stderr=log,
        )
    try:
        await until(lambda: b"Listening on" in (tmp_path / "log").read_bytes(), within_s=30)
        async with asyncio.timeout(30):
            answer = await fetch(port, "GET", "/health/ready")
        assert answer.status == 200
        process.terminate()
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
