"""Imports go one way: the rules, and a reader of the source that finds what breaks them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each of these, with all below it, may be imported only by those; `x.*` is what is below x, without x itself.
ONLY_BY = {
    "run": (),
    "handlers": ("run", "handlers"),
    "proxy.settings": ("run",),  # a part gets plain values
    "proxy.simulator": ("run", "proxy.simulator"),
    "proxy.storage.*": ("run", "proxy.storage"),  # everybody else gets a Storage
    "tornado.web": ("run", "handlers", "proxy.simulator"),
    "tornado.websocket": ("run", "handlers", "proxy.simulator"),
    "tornado.httpserver": ("run", "handlers", "proxy.simulator"),
    "tornado.httpclient": ("proxy.upstream", "proxy.oauth"),
    "tornado.curl_httpclient": ("proxy.upstream", "proxy.oauth"),
    "tornado.simple_httpclient": (),
    "pycurl": ("proxy.upstream", "proxy.oauth"),
    "redis": ("proxy.storage.redis",),
    "time": ("proxy.clock",),
}
# As `time`, but there is more to datetime than the clock.
CLOCK_CALL = re.compile(r"(datetime\.)?(datetime|date)\.(now|utcnow|today)")


def modules(root: Path) -> dict[str, Path]:
    """The program's files by module name; a package has its own name."""
    paths = [root / "run.py", *(root / "handlers").rglob("*.py"), *(root / "proxy").rglob("*.py")]
    names = (path.relative_to(root).with_suffix("").parts for path in paths)
    return {".".join(name).removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def imports(importer: str, path: Path, ours: dict[str, Path]) -> Iterator[str]:
    """What a file imports anywhere in it: modules, and below foreign ones also what may be a module."""
    package = importer.split(".") if path.name == "__init__.py" else importer.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield base if base in ours and full not in ours else full


def below(name: str, target: str) -> bool:
    return name.startswith(target[:-1]) if target.endswith(".*") else f"{name}.".startswith(f"{target}.")


def breaches(root: Path) -> list[str]:
    """One sentence for each import, clock call and cycle that is against the rules."""
    ours = {name: path for name, path in modules(root).items() if path.exists()}
    graph = {name: set(imports(name, path, ours)) for name, path in ours.items()}
    found = [
        f"{importer} imports {name}, which is only for {' and '.join(allowed) or 'nobody'}"
        for importer, names in graph.items()
        for name in names
        for target, allowed in ONLY_BY.items()
        if below(name, target) and not any(below(importer, each) for each in allowed)
    ]
    found += [
        f"{name} calls {ast.unparse(node.func)}, which is only for proxy.clock"
        for name, path in ours.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and CLOCK_CALL.fullmatch(ast.unparse(node.func))
        and name != "proxy.clock"
    ]
    try:
        TopologicalSorter({name: names & ours.keys() - {name} for name, names in graph.items()}).prepare()
    except CycleError as error:
        found.append(f"{' → '.join(sorted(set(error.args[1])))} import each other")
    return found


def test_imports_go_one_way() -> None:
    assert breaches(ROOT) == []


@pytest.mark.parametrize(
    ("files", "breach"),
    [
        (
            {"proxy/pool.py": "import handlers"},
            "proxy.pool imports handlers, which is only for run and handlers",
        ),
        ({"proxy/pool.py": "from handlers.base import Base"}, "proxy.pool imports handlers.base.Base"),
        ({"handlers/v1.py": "import run"}, "handlers.v1 imports run, which is only for nobody"),
        ({"proxy/pool.py": "def f():\n    from tornado import web"}, "proxy.pool imports tornado.web"),
        ({"proxy/pool.py": "import tornado.httpserver"}, "proxy.pool imports tornado.httpserver"),
        ({"handlers/v1.py": "import pycurl"}, "handlers.v1 imports pycurl"),
        ({"run.py": "import tornado.curl_httpclient as c"}, "run imports tornado.curl_httpclient"),
        ({"proxy/simulator/api.py": "import time"}, "proxy.simulator.api imports time"),
        ({"run.py": "from time import sleep"}, "run imports time.sleep"),
        ({"handlers/v1.py": "datetime.now()"}, "handlers.v1 calls datetime.now"),
        ({"proxy/a.py": "datetime.datetime.utcnow()"}, "proxy.a calls datetime.datetime.utcnow"),
        (
            {"proxy/pool.py": "from .storage import json_files", "proxy/storage/json_files.py": ""},
            "proxy.pool imports proxy.storage.json_files, which is only for run and proxy.storage",
        ),
        ({"handlers/v1.py": "from proxy.simulator import Api"}, "handlers.v1 imports proxy.simulator"),
        ({"proxy/pool.py": "from proxy.settings import Settings"}, "proxy.pool imports proxy.settings"),
        (
            {
                "proxy/a.py": "from proxy.b import b",
                "proxy/b.py": "from . import c",
                "proxy/c.py": "import proxy.a",
            },
            "proxy.a → proxy.b → proxy.c import each other",
        ),
        (
            {
                "proxy/storage/__init__.py": "from .files import F",
                "proxy/storage/files.py": "from . import S",
            },
            "proxy.storage → proxy.storage.files import each other",
        ),
    ],
)
def test_a_breach_is_found(tmp_path: Path, files: dict[str, str], breach: str) -> None:
    write(tmp_path, files)
    (found,) = breaches(tmp_path)
    assert found.startswith(breach)


def test_what_the_rules_allow_is_no_breach(tmp_path: Path) -> None:
    files = {
        "run.py": "import handlers.v1, proxy.settings, proxy.simulator, proxy.storage.json_files",
        "handlers/v1.py": "import tornado.web\nfrom proxy.pool import Pool",
        "proxy/clock.py": "import time\ntime.time()",
        "proxy/oauth.py": "from tornado.httpclient import HTTPRequest",
        "proxy/pool.py": "from proxy.storage import Storage\ndate.today",
        "proxy/simulator/__init__.py": "from tornado import web\nfrom proxy.simulator import api",
        "proxy/simulator/api.py": "import timeit",
        "proxy/storage/__init__.py": "",
        "proxy/storage/json_files.py": "from proxy.storage import Storage",
        "proxy/upstream.py": "import pycurl",
    }
    write(tmp_path, files)
    assert breaches(tmp_path) == []


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
