"""What holds for the project as a whole: its top level, its commands, its pins."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {
    "run.py", "proxy", "handlers", "static", "tests", "conf", "docs", "requirements.txt", "requirements.lock",
    "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "Makefile", "Dockerfile", "pyproject.toml",
}  # fmt: skip
NOT_OURS = {"__pycache__", "node_modules", "data", "build", "dist", "claude_proxy.egg-info"}  # in .gitignore
PINS = ("requirements.txt", "tests/requirements.txt")
PYTHONS = ("3.11.0", "3.11.2", "3.11.3", "3.12.0", "3.13.0", "3.14.0")
"""Those that it runs on; 3.11.2 is Debian 12's, for which some packages need more than for 3.11.3."""
PAGES = ["README.md", "SECURITY.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]


def pinned(file: str) -> dict[str, str]:
    """The packages of a requirements file with their versions, or what else stands after the name."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and line[0] not in "#-"]
    return {canonicalize_name(re.split("[=<>~! ]", line)[0]): line for line in lines}


def test_the_top_level_holds_nothing_new() -> None:
    assert {path.name for path in ROOT.iterdir() if path.name[0] != "."} <= TOP_LEVEL | NOT_OURS


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_a_page_names_exists(page: str) -> None:
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", (ROOT / page).read_text(), re.DOTALL))
    targets = set(re.findall(r"(?m)^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text()))
    assert targets and set(re.findall(r"(?m)(?:^|[`$&;] *)make ([a-z0-9-]+)", code)) <= targets


@pytest.mark.parametrize("file", [*PAGES, "conf/config.example.yaml", "proxy/config/types.py"])
def test_what_is_printed_for_operators_runs_as_it_is_printed(file: str) -> None:
    text = (ROOT / file).read_text()
    # Debian has no `python`, and `python3` has not what the program needs: `make` runs it in its environment.
    assert re.findall(r"(?<![\w./-])(?:python -c|python3? run\.py).*", text) == []


BARE = {"PATH": os.environ["PATH"]}
"""The environment without what a `make PYTHON=… test` hands on to a `make` below it."""


def test_make_check_checks_the_configuration_in_the_environment() -> None:
    done = subprocess.run(["make", "-n", "check"], cwd=ROOT, env=BARE, capture_output=True, text=True)  # noqa: S607
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(".venv/bin/python run.py --config conf/config.yaml --check")
    assert "`make check`" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ([f"SYSTEM_PYTHON={sys.executable}"], sys.executable),
        (["SYSTEM_PYTHON=/nonexistent"], "python3"),
        (["SYSTEM_PYTHON=/bin/false"], "python3"),  # as one that is too old, or that has no ensurepip
        ([f"SYSTEM_PYTHON={sys.executable}", "PYTHON=python3.13"], "python3.13"),
    ],
)
def test_make_takes_the_systems_python_if_it_will_do(options: list[str], taken: str) -> None:
    command = ["make", "-n", "-B", ".venv/pyvenv.cfg", *options]
    done = subprocess.run(command, cwd=ROOT, env=BARE, capture_output=True, text=True)  # noqa: S603
    assert done.stdout.splitlines()[-1] == f"{taken} -m venv --clear .venv", done.stderr


@pytest.mark.parametrize("file", PINS)
def test_requirements_are_exact_pins(file: str) -> None:
    exact = r'[\w-]+==[\w.]+(; python_version < "[\d.]+")?'
    assert [line for line in pinned(file).values() if not re.fullmatch(exact, line)] == []


@pytest.mark.parametrize("files", [PINS[:1], PINS])
@pytest.mark.parametrize("python", PYTHONS)
def test_what_a_pinned_package_needs_is_pinned_too(files: tuple[str, ...], python: str) -> None:
    """pip installs nothing by hashes if one package needs another there that is not among the pins."""
    there = {"python_version": python.rpartition(".")[0], "python_full_version": python, "extra": ""}

    def applies(each: Requirement) -> bool:
        return each.marker is None or each.marker.evaluate(there)

    wanted = [Requirement(line) for file in files for line in pinned(file).values()]
    pins = {canonicalize_name(each.name) for each in wanted if applies(each)}
    found = [each for each in distributions() if canonicalize_name(each.name) in pins]
    needed = [Requirement(line) for each in found for line in each.requires or []]
    assert {canonicalize_name(each.name) for each in needed if applies(each)} <= pins
    not_for_it = [
        each.name
        for each in found
        if python not in SpecifierSet(each.metadata.json.get("requires_python", ""))
    ]
    assert not_for_it == []


# A table may be as long as what it lists. `V1Request` is the client's connection, which has states to be split by.
LONG_TABLES = {"handlers.routes.application"}
LONG_CLASSES: set[str] = set()


def definitions() -> Iterator[tuple[str, ast.AST, int]]:
    """The functions and classes of the program with their lines."""

    def inside(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                full = f"{name}.{child.name}"
                yield full, child, (child.end_lineno or 0) - child.lineno + 1
                yield from inside(child, full)

    for path in [ROOT / "run.py", *(ROOT / "proxy").rglob("*.py"), *(ROOT / "handlers").rglob("*.py")]:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield from inside(ast.parse(path.read_text()), module)


def test_no_function_is_longer_than_a_screen_and_no_class_than_a_file() -> None:
    found = list(definitions())
    functions = {name for name, node, lines in found if not isinstance(node, ast.ClassDef) and lines > 40}
    classes = {name for name, node, lines in found if isinstance(node, ast.ClassDef) and lines > 250}
    assert (functions, classes) == (LONG_TABLES, LONG_CLASSES)


# A set of characters, whose own characters mean nothing here; and a possessive or atomic group.
_SET = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")
_POSSESSIVE = re.compile(r"(?<!\\)\)(?:[*+?]|\{[\d,]+\})\+|\(\?>")


def test_no_pattern_needs_a_possessive_group() -> None:
    """Python before 3.11.5 matches one wrongly; what is possessive of one set of characters is well there."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [*(ROOT / "proxy").rglob("*.py"), *(ROOT / "handlers").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and _POSSESSIVE.search(_SET.sub("x", str(node.value)))
    ]
    assert found == []


# What a NamedTuple has for everyone, and a field of the Anthropic SDK that its README names.
NOT_PRIVATE = {"_replace", "_asdict", "_fields", "_make", "_request_id"}


def private_members(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The lines and names of what a module takes from within another one or another object."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name("self" | "cls") | ast.Call(func=ast.Name("super"))):
                continue
            case ast.Attribute(attr=name):
                names = [name]
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in (
                "proxy",
                "handlers",
                "run",
            ):
                names = [alias.name for alias in node.names]
            case ast.Call(func=ast.Name("getattr" | "setattr") | ast.Attribute(attr="setattr")):
                names = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            case _:
                continue
        for name in names:
            last = name.rpartition(".")[2] if isinstance(name, str) else ""
            if last.startswith("_") and not last.startswith("__"):
                yield node.lineno, last


def test_no_test_touches_a_private_member() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line, name in private_members(ast.parse(path.read_text()))
        if name not in NOT_PRIVATE
    ]
    assert found == []


def test_every_server_in_a_test_s_own_loop_is_one_that_leaves_nothing_open() -> None:
    """See tests/serving.py. Whom another one accepted last, the garbage collector would tell of in a later test."""
    of_asyncio = re.compile(r"(?<!\bsocket\.)\b(?:start|create)_(?:unix_)?server\b")
    files = (ROOT / "tests").rglob("*.py")
    found = {str(path.relative_to(ROOT)) for path in files if of_asyncio.search(path.read_text())}
    assert found == {"tests/serving.py", "tests/bench/bare.py"}  # the latter is a program of its own


def test_run_py_holds_no_more_than_a_command_line() -> None:
    assert len((ROOT / "run.py").read_text().splitlines()) <= 90
