"""Imports go one way: the rules, and a reader of the source that finds what breaks them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BASE = {
    f"proxy.{name}"
    for name in (
        "errors", "clock", "jobs", "lag", "logs", "line_writer", "floods", "redaction", "failpoints", "feed",
        "histogram", "slices", "event_kinds",
    )
}  # fmt: skip

# What each place may import of ours, beside itself and the base. A room is a folder of proxy.
MAY_IMPORT = {
    "run": ("proxy", "handlers"),
    "handlers": ("proxy",),
    "proxy": (),  # the base: no room
    "proxy.http": (),
    "proxy.storage": ("http",),
    "proxy.upstream": ("http",),
    "proxy.accounts": ("http", "storage", "upstream"),
    "proxy.clients": ("http", "storage", "upstream"),
    "proxy.usage": ("http", "storage", "upstream", "clients"),
    "proxy.relay": ("http", "upstream", "accounts", "clients", "usage"),
    "proxy.dashboard": ("http", "storage", "upstream", "accounts", "clients", "usage", "relay"),
    "proxy.config": ("http", "storage", "clients"),
    "proxy.simulator": ("http", "storage", "upstream", "accounts", "clients", "usage", "config"),
    "proxy.adjustments": (
        "http", "storage", "upstream", "accounts", "clients", "usage", "relay", "dashboard", "config",
    ),
    "proxy.assembly": (
        "adjustments", "http", "storage", "upstream", "accounts", "clients", "usage", "relay", "dashboard", "config",
        "simulator",
    ),
    "proxy.commands": ("assembly", "storage", "upstream", "accounts", "clients", "config"),
}  # fmt: skip

# Each of these, with all below it, may be imported only by those.
ONLY_BY = {
    "proxy.config": (
        "run",
        "proxy.adjustments",
        "proxy.assembly",
        "proxy.commands",
        "proxy.config",
        "proxy.simulator.demo",
    ),  # a part gets plain values
    "proxy.adjustments": ("proxy.assembly",),
    "proxy.simulator": ("run", "proxy.assembly", "proxy.simulator"),
    "proxy.assembly": (
        "run",
        "proxy.assembly",
        "proxy.commands",
        "handlers.front",
        "handlers.life",
    ),  # which makes a server of its parts
    # Everybody else gets a Storage, whatever it is kept in.
    "proxy.storage.json_files": ("run", "proxy.assembly", "proxy.storage", "proxy.simulator.demo"),
    "tornado.web": ("handlers", "proxy.simulator"),
    "tornado.websocket": ("handlers", "proxy.simulator"),
    "tornado.httpserver": ("handlers", "proxy.simulator"),
    "tornado.httpclient": ("proxy.upstream", "proxy.accounts.oauth"),
    "tornado.curl_httpclient": ("proxy.upstream", "proxy.accounts.oauth"),
    "tornado.simple_httpclient": (),
    "pycurl": ("proxy.upstream", "proxy.accounts.oauth"),
    "hiredis": ("proxy.storage.redis", "proxy.storage.redis_lane", "proxy.storage.redis_wire"),
    "redis": ("proxy.storage.redis_connection",),
    "time": ("proxy.clock",),
    "opentelemetry": ("proxy.usage.tracing",),  # of an extra
    "requests": ("proxy.usage.tracing",),
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
    return f"{name}.".startswith(f"{target}.")


def place(module: str) -> str:
    """Where a module of ours belongs: `run`, `handlers`, a room such as `proxy.http`, or `proxy` for the base."""
    parts = module.split(".")
    if parts[0] != "proxy":
        return parts[0]
    return "proxy" if len(parts) == 1 or any(below(module, each) for each in BASE) else ".".join(parts[:2])


def allowed(importer: str, name: str) -> bool:
    """Whether a module of ours may import another one of ours."""
    here, there = place(importer), place(name)
    if there in (here, "proxy"):
        return True
    return any(below(there, each) or there == f"proxy.{each}" for each in MAY_IMPORT.get(here, ()))


def breaches(root: Path) -> list[str]:
    """One sentence for each import, clock call and cycle that is against the rules."""
    ours = {name: path for name, path in modules(root).items() if path.exists()}
    graph = {name: set(imports(name, path, ours)) for name, path in ours.items()}
    found = [
        f"{importer} imports {name}, which is only for {' and '.join(only) or 'nobody'}"
        for importer, names in graph.items()
        for name in names
        for target, only in ONLY_BY.items()
        if below(name, target) and not any(below(importer, each) for each in only)
    ]
    found += [
        f"{importer} imports {name}: {place(importer)} may not import {place(name)}"
        for importer, names in graph.items()
        for name in names
        if name.split(".")[0] in ("run", "handlers", "proxy") and not allowed(importer, name)
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
            {"proxy/relay.py": "import handlers"},
            "proxy.relay imports handlers: proxy.relay may not import handlers",
        ),
        (
            {"proxy/accounts/pool.py": "from handlers.base import Base"},
            "proxy.accounts.pool imports handlers.base.Base",
        ),
        ({"handlers/v1.py": "import run"}, "handlers.v1 imports run: handlers may not import run"),
        (
            {"proxy/feed.py": "from proxy.accounts import account"},
            "proxy.feed imports proxy.accounts.account: proxy may",
        ),
        (
            {"proxy/http/target.py": "from proxy.upstream import verdict"},
            "proxy.http.target imports proxy.upstream",
        ),
        (
            {"proxy/accounts/pool.py": "from proxy.clients import keys"},
            "proxy.accounts.pool imports proxy.clients.keys",
        ),
        (
            {"proxy/clients/keys.py": "from ..usage import meter"},
            "proxy.clients.keys imports proxy.usage.meter",
        ),
        (
            {"proxy/relay.py": "from proxy.dashboard import topics"},
            "proxy.relay imports proxy.dashboard.topics",
        ),
        ({"proxy/relay.py": "def f():\n    from tornado import web"}, "proxy.relay imports tornado.web"),
        ({"proxy/relay.py": "import tornado.httpserver"}, "proxy.relay imports tornado.httpserver"),
        ({"handlers/v1.py": "import pycurl"}, "handlers.v1 imports pycurl"),
        ({"run.py": "import tornado.curl_httpclient as c"}, "run imports tornado.curl_httpclient"),
        ({"proxy/simulator/api.py": "import time"}, "proxy.simulator.api imports time"),
        ({"run.py": "from time import sleep"}, "run imports time.sleep"),
        ({"handlers/v1.py": "datetime.now()"}, "handlers.v1 calls datetime.now"),
        ({"proxy/relay.py": "datetime.datetime.utcnow()"}, "proxy.relay calls datetime.datetime.utcnow"),
        (
            {
                "proxy/accounts/pool.py": "from proxy.storage import json_files",
                "proxy/storage/json_files.py": "",
            },
            "proxy.accounts.pool imports proxy.storage.json_files, which is only for run and proxy.assembly and",
        ),
        ({"handlers/v1.py": "from proxy.simulator import Api"}, "handlers.v1 imports proxy.simulator"),
        (
            {"handlers/v1.py": "from proxy.config.settings import Settings"},
            "handlers.v1 imports proxy.config.settings",
        ),
        (
            {
                "proxy/http/a.py": "from proxy.http.b import b",
                "proxy/http/b.py": "from . import c",
                "proxy/http/c.py": "import proxy.http.a",
            },
            "proxy.http.a → proxy.http.b → proxy.http.c import each other",
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
    assert [found.startswith(breach) for found in breaches(tmp_path)].count(True) == 1


def test_what_the_rules_allow_is_no_breach(tmp_path: Path) -> None:
    files = {
        "run.py": "import handlers.v1, proxy.assembly, proxy.config.settings",
        "handlers/v1.py": "import tornado.web\nfrom proxy.relay import Relay\nfrom proxy.accounts.pool import Pool",
        "proxy/clock.py": "import time\ntime.time()",
        "proxy/accounts/oauth.py": "from tornado.httpclient import HTTPRequest",
        "proxy/accounts/pool.py": "from proxy.storage.table import Table\nfrom proxy.feed import Feed\ndate.today",
        "proxy/assembly.py": "import proxy.simulator, proxy.config.settings, proxy.storage.json_files",
        "proxy/simulator/__init__.py": "from tornado import web\nfrom proxy.simulator import api",
        "proxy/simulator/api.py": "import timeit",
        "proxy/storage/__init__.py": "",
        "proxy/storage/json_files.py": "from proxy.storage import table",
        "proxy/storage/table.py": "",
        "proxy/upstream/exchange.py": "import pycurl",
    }
    write(tmp_path, files)
    assert breaches(tmp_path) == []


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
