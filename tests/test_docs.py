"""What the documentation says is so: its commands run, its settings, routes, messages, files and links exist."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from proxy.config.settings import Settings, keys, load_settings
from tests.literals import can_be_said
from tests.pages import PAGES, ROOT, anchors, blocks, codes, links, prose
from tests.process import environ
from tests.routes import METHODS, ROUTES, rules
from tests.service import ADMIN_KEY, CLIENT_KEY, Service, serve, upstream_key

BY_NAME = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
WITH_COMMANDS = [page for page in PAGES if any(not block.why_not_run for block in blocks(page, "sh"))]
TROUBLES = ROOT / "docs/troubleshooting.md"

# `make` would install what has changed, and `curl` would take an error for an answer.
TOOLS = {
    "make": f'exec {shutil.which("make")} -o .venv/.requirements "$@"',
    "curl": f'exec {shutil.which("curl")} --fail-with-body --silent --show-error --max-time 20 --noproxy "*" "$@"',
    "claude-proxy": f'exec {sys.executable} {ROOT / "run.py"} "$@"',
}
OF_OTHERS = {"--list", "--rounds", "--seconds", "--target"}
"""Options of `make bench`."""


# Commands


def checkout(home: Path) -> Path:
    """A folder that looks like a checkout, with a configuration of its own; beside it, tools for the PATH."""
    folder, tools = home / "checkout", home / "bin"
    folder.mkdir()
    tools.mkdir()
    for path in ROOT.iterdir():
        if path.name not in (".git", "conf"):
            (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "conf/config.yaml").write_text(f"auth:\n  api_key: {ADMIN_KEY}\n")
    for name, line in TOOLS.items():
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o700)
    return folder


def script(page: Path, samples: dict[str, str]) -> str:
    """The page's commands one after the other, as one would paste them, with something real in place of samples."""
    text = "".join(block.text for block in blocks(page, "sh") if not block.why_not_run)
    for sample, real in samples.items():
        text = text.replace(sample, real)
    return text


async def a_file(service: Service) -> str:
    """The id of a file that the tests' key has made."""
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhi\r\n--x--\r\n'
    head = [("content-type", "multipart/form-data; boundary=x"), ("anthropic-version", "2023-06-01")]
    made = await service.send("POST", "/v1/files", [*head, ("anthropic-beta", "files-api-2025-04-14")], body)
    return str(made.json()["id"])


async def in_shell(commands: str, folder: Path, variables: dict[str, str]) -> None:
    """Run them until one fails, which is an AssertionError with all that was said."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    shell = await asyncio.create_subprocess_exec(
        "/bin/sh", "-eux", cwd=folder, env=variables, start_new_session=True, **pipes
    )
    try:
        async with asyncio.timeout(60):
            said, _ = await shell.communicate(commands.encode())
    finally:
        if shell.returncode is None:  # one of them does not end
            os.killpg(shell.pid, signal.SIGKILL)
            await shell.wait()
    assert shell.returncode == 0, said.decode()


async def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    variables = environ(tmp_path, {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})
    async with serve(tmp_path / "served") as service:
        with pytest.raises(AssertionError, match="error: 404"):
            await in_shell(f"curl http://127.0.0.1:{service.port}/api/no\ntrue\n", folder, variables)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
async def test_the_commands_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    variables = environ(tmp_path, {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})
    async with serve(tmp_path / "served") as service:
        service.simulator.add_api_key(upstream_key("docs"), organization="docs")
        file_id = await a_file(service)
        samples = {"sk-ant-api03-…": upstream_key("docs"), "cp-…": CLIENT_KEY, "file_011C…": file_id}
        await service.parts.archive.saved()  # the clock, which stands, would do so after a second
        # Commands that want the data folder for themselves get a copy of the one that is served.
        shutil.copytree(tmp_path / "served", tmp_path / ".claude-proxy/data")
        commands = script(page, {"127.0.0.1:4000": f"127.0.0.1:{service.port}"} | samples)
        await in_shell(commands, folder, variables)


def unknown_names(page: Path) -> list[str]:
    """What the page's commands name and is not there: files, targets of make, paths of the proxy.

    That is all there is to check of those which no test can run.
    """
    commands = "".join(block.text for block in blocks(page, "sh"))
    files = set(re.findall(r"(?<![\w/.-])((?:conf|docs|proxy|tests)/[\w./-]+\w)", commands)) - {
        "conf/config.yaml"
    }
    targets = set(re.findall(r"(?m)^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text()))
    paths = [
        re.sub(r"\$\w+", "nobody", path) for path in re.findall(r"127\.0\.0\.1:4000(/[^\s'\"?]*)", commands)
    ]
    return [
        *(file for file in files if not (ROOT / file).exists()),
        *(set(re.findall(r"(?m)^make ([a-z0-9-]+)", commands)) - targets),
        *(p for p in paths if not (p.startswith("/v1/") or any(rule.regex.fullmatch(p) for rule in rules()))),
    ]


@cache
def options() -> frozenset[str]:
    command = [sys.executable, ROOT / "run.py", "--help"]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own
    return frozenset(re.findall(r"--[a-z-]+", usage))


def unknown_options(page: Path) -> set[str]:
    """Options of the program that the page names, in commands or in a line, and that `--help` does not."""
    lines = [line for block in blocks(page, "sh") for line in block.text.splitlines()] + codes(page)
    ours = [line for line in lines if re.match(r"(?:\w+=\S+ )*(?:claude-proxy|run\.py)\b|--", line)]
    return (
        {option for line in ours for option in re.findall(r"(?<!\S)--[a-z-]+", line)} - options() - OF_OTHERS
    )


# Facts


def unknown_settings(page: Path) -> set[str]:
    """Settings that the page names, as `server.port` or SERVER__PORT, and that there are not."""
    sections = "|".join(Settings.model_fields)
    named = set(re.findall(rf"`((?:{sections})\.(?!json)[a-z_]+)", prose(page)))
    variables = re.findall(rf"\b(?:{sections.upper()})__[A-Z_]+", page.read_text())
    return (named | {name.lower().replace("__", ".", 1) for name in variables}) - set(keys())


def unknown_routes(page: Path) -> list[str]:
    """Routes of the proxy's own that the page names, as `GET /health`, and that there are not."""
    named = re.findall(rf"((?:{'|'.join(METHODS)})) (/(?!v1\b)[^\s`?]*)", "\n".join(codes(page)))
    there = [(method, re.sub(r"\{\w+\}", "nobody", path)) for method, path in named]
    return [" ".join(route) for route in there if route not in ROUTES]


def dead_links(page: Path) -> list[str]:
    """Links to files or headings that there are not; other hosts are not asked."""
    dead = []
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not re.match("https?:", link) and not (
            target.exists() and (not anchor or anchor in anchors(target))
        ):
            dead.append(link)
    return dead


def unsaid(page: Path) -> list[str]:
    """Messages in the page's sentences and in the first column of its tables that no code says."""
    first_cells = re.sub(r"(?m)^(\| [^|]+ \|).*$", r"\1", prose(page))
    quoted = [text for text in re.findall(r"`([^`\n]+)`", first_cells) if " " in text]
    return [text for text in quoted if not can_be_said(text) and not re.match("make |[A-Z]+ /", text)]


CHECKS = [unknown_names, unknown_options, unknown_settings, unknown_routes, dead_links]


@BY_NAME
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_nothing_is_named_that_does_not_exist(page: Path, check) -> None:
    assert list(check(page)) == []


def test_every_message_that_troubleshooting_quotes_is_in_the_code() -> None:
    assert unsaid(TROUBLES) == []


def test_what_does_not_exist_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: of another machine -->\n```sh\nmake nonsense\ncp conf/no.yaml x\ncurl http://127.0.0.1:4000/api/no\n```\n"
        "`--nonsense`, `server.prot`, SERVER__PROT, `GET /api/no`, [x](no.md), [x](#no)\n\n"
        "| `account stoat account=… name=…` | `not looked at here` |\n"
    )
    assert sorted(unknown_names(page)) == ["/api/no", "conf/no.yaml", "nonsense"]
    assert unknown_options(page) == {"--nonsense"}
    assert unknown_settings(page) == {"server.prot"}
    assert unknown_routes(page) == ["GET /api/no"]
    assert dead_links(page) == ["no.md", "#no"]
    assert unsaid(page) == ["account stoat account=… name=…"]


# Configurations


def check_settings(text: str, folder: Path) -> None:
    """Read it as the program does. Raises SettingsError."""
    (folder / "encryption.key").write_text(bytes(range(32)).hex())
    (folder / "config.yaml").write_text(text.replace("encryption.key", str(folder / "encryption.key")))
    given = {} if "api_key:" in text else {"AUTH__API_KEY": ADMIN_KEY}
    load_settings(folder / "config.yaml", given)


def check_prometheus(text: str, folder: Path) -> None:
    (folder / "key").write_text("x")
    text = text.replace("/path/to/a/file/with/the/key", str(folder / "key")).replace("/path/to", str(ROOT))
    (folder / "prometheus.yaml").write_text(text)
    command = ["promtool", "check", "config", str(folder / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr


@BY_NAME
def test_every_configuration_that_a_page_shows_is_taken(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        ours = set(yaml.safe_load(block.text)) <= set(Settings.model_fields)
        (check_settings if ours else check_prometheus)(block.text, tmp_path)


def test_the_service_is_set_up_as_its_own_file_says() -> None:
    lines = (ROOT / "conf/claude-proxy.service").read_text().splitlines()
    commands = "".join(f"{line[4:]}\n" for line in lines if line.startswith("#   "))
    assert commands in [block.text for block in blocks(ROOT / "docs/install.md", "sh")]


# The whole


def test_every_chapter_is_listed_in_the_readme() -> None:
    listed = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    assert {page for page in PAGES if page.parent.name == "docs"} <= listed


def test_every_alert_has_its_advice() -> None:
    alerts = re.findall(r"- alert: (\w+)", (ROOT / "conf/alerts.yaml").read_text())
    assert alerts and [alert for alert in alerts if f"`{alert}`" not in TROUBLES.read_text()] == []


def test_every_route_of_the_admin_api_is_in_its_chapter() -> None:
    text = (ROOT / "docs/admin-api.md").read_text()
    admin = {re.sub("nobody", "{id}", path) for _, path in ROUTES if path.startswith(("/api/", "/metrics"))}
    assert [path for path in sorted(admin) if path not in text] == []
