"""The dashboard's files: served from memory, kept by browsers for as long as they stay the same, and small."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from handlers.base import SECURITY_HEADERS
from handlers.pages import OF_DOCUMENTS, TYPES, Assets
from proxy.errors import StartError
from proxy.http.decoding import decoded
from tests.service import ADMIN_KEY, serve
from tests.wire import Answer, fetch

STATIC = Path(__file__).parents[2] / "static"
FILES = sorted(
    path.relative_to(STATIC).as_posix()
    for path in STATIC.rglob("*")
    if path.is_file() and path.name != "index.html"
)
INDEX = (STATIC / "index.html").read_text()
ASSETS = Assets(STATIC)
BASE = f"/static/{ASSETS.version}/"
SMALL = ("Accept-Encoding", "gzip, deflate, br, zstd")


async def get(folder: Path, path: str, *headers: tuple[str, str], method: str = "GET") -> Answer:
    async with serve(folder, accounts=()) as service:
        return await fetch(service.port, method, path, headers)


def small_site(folder: Path, **files: str) -> Path:
    for name, text in ({"index.html": "{{version}} {{version}}"} | files).items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


# ---- the page


async def test_the_page_names_its_files_by_their_version_and_is_not_kept(tmp_path: Path) -> None:
    answer = await get(tmp_path, "/")
    assert answer.status == 200
    assert answer.body.decode() == INDEX.replace("{{version}}", ASSETS.version)
    assert answer.header("cache-control") == "no-store"
    assert answer.header("content-type") == "text/html; charset=utf-8"
    assert answer.header("etag") is None and answer.header("set-cookie") is None


async def test_it_may_not_be_framed_and_runs_no_script_but_its_own(tmp_path: Path) -> None:
    answer = await get(tmp_path, "/")
    assert answer.header("x-frame-options") == "DENY"
    policy = answer.header("content-security-policy") or ""
    directives = dict(each.split(" ", 1) for each in policy.split("; "))
    assert directives == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",  # which is the feed's ws: and wss: too (CSP3, 6.7.2.8)
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_what_the_page_loads_is_there_and_relative() -> None:
    named = re.findall(r'(?:src|href)="([^"#]+)"', INDEX)
    assert named and {name.removeprefix("static/{{version}}/") for name in named} <= set(FILES)


def test_nothing_in_the_page_is_inline() -> None:
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", INDEX)


# ---- the files


@pytest.mark.parametrize("name", FILES)
async def test_a_file_is_served_as_it_is_for_ever(tmp_path: Path, name: str) -> None:
    answer = await get(tmp_path, BASE + name)
    assert (answer.status, answer.body) == (200, (STATIC / name).read_bytes())
    assert answer.header("content-type") == TYPES[Path(name).suffix]
    assert answer.header("cache-control") == "public, max-age=31536000, immutable"
    assert answer.header("content-encoding") is None and answer.header("etag") is None
    expected: dict[str, str | None] = SECURITY_HEADERS | {
        "Cache-Control": "public, max-age=31536000, immutable"
    }
    if Path(name).suffix in (".css", ".js"):  # which are no documents
        expected |= dict.fromkeys(OF_DOCUMENTS)
    assert {header: answer.header(header) for header in expected} == expected


@pytest.mark.parametrize("path", ["/", BASE + "theme.js"])
@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br", "br"),
        ("br;q=1.0, SMALL;q=0.8", "br"),
        ("br;q=0, gzip", "gzip"),
        ("gzip, deflate", "gzip"),
        ("gzip;q=0", None),
        ("gzip ; q=0.000", None),
        ("identity", None),
        ("xgzip", None),
        ("", None),
    ],
)
async def test_it_is_small_to_who_takes_that(
    tmp_path: Path, path: str, accepted: str, coding: str | None
) -> None:
    async with serve(tmp_path, accounts=()) as service:
        plain = await fetch(service.port, "GET", path)
        answer = await fetch(service.port, "GET", path, [("Accept-Encoding", accepted)])
        head = await fetch(service.port, "HEAD", path, [("Accept-Encoding", accepted)])
    assert answer.header("content-encoding") == coding
    assert decoded(answer.body, coding or "identity", 1 << 20, whole=True) == plain.body
    assert {each.header("vary") for each in (plain, answer, head)} == {"Accept-Encoding"}
    assert int(answer.header("content-length") or 0) == len(answer.body)
    headers = [[pair for pair in each.headers if pair[0] != "Date"] for each in (answer, head)]
    assert (head.status, head.body, headers[1]) == (200, b"", headers[0])


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/theme.js",
        "/static/0123456789ab/theme.js",
        BASE,
        BASE + "nothing.js",
        BASE + "index.html",
        BASE + "js",
        BASE + "js/",
        BASE + "THEME.js",
        BASE + "theme.js/",
        BASE + "theme.js%00",
        BASE + "theme.js%00.css",
        BASE + "../theme.js",
        BASE + "../../run.py",
        BASE + "..%2f..%2frun.py",
        BASE + "%2e%2e/%2e%2e/run.py",
        BASE + "js/../theme.js",
        BASE + "./theme.js",
        BASE + "/theme.js",
        BASE + "/etc/passwd",
        BASE + "%2fetc%2fpasswd",
        BASE + "..\\run.py",
        BASE + "..%5crun.py",
        "/static/../run.py",
        "/static/%2e%2e/run.py",
        "/static//theme.js",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_anything_else_is_not_found(tmp_path: Path, path: str, method: str) -> None:
    answer = await get(tmp_path, path, ("X-API-Key", ADMIN_KEY), SMALL, method=method)
    assert (answer.status, answer.header("content-type")) == (404, "application/json")
    assert answer.header("cache-control") == "no-store"
    assert method == "HEAD" or answer.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_a_file_is_only_read(tmp_path: Path, method: str) -> None:
    answer = await get(tmp_path, BASE + "theme.js", method=method)
    assert (answer.status, answer.header("allow")) == (405, "GET, HEAD")


# ---- reading them at start


def test_the_version_is_another_one_when_anything_changes(tmp_path: Path) -> None:
    sites = [
        {"a.js": "1"},
        {"a.js": "2"},
        {"b.js": "1"},
        {"a.js": "1", "b.js": ""},
        {"a.js": "", "b.js": "1"},
        {"a.js": "1", "index.html": "{{version}}!"},
    ]
    made = [Assets(small_site(tmp_path / str(n), **site)) for n, site in enumerate(sites)]
    assert len({assets.version for assets in made}) == len(sites)
    assert made[0].page.plain.decode() == f"{made[0].version} {made[0].version}"
    assert Assets(small_site(tmp_path / "again", **sites[0])).version == made[0].version


def test_a_file_that_changes_later_is_served_as_it_was(tmp_path: Path) -> None:
    assets = Assets(small_site(tmp_path, **{"js__b.js": "1"}))
    (tmp_path / "js/b.js").write_text("2")
    assert assets.files["js/b.js"].plain == b"1"


@pytest.mark.parametrize("name", ["a.map", "js__a.ts", ".hidden", "LICENSE", "page.html"])
def test_a_file_of_an_unknown_kind_stops_the_start_and_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(StartError, match=re.escape(name.replace("__", "/"))):
        Assets(small_site(tmp_path, **{name: ""}))


@pytest.mark.parametrize("folder", ["missing", "."])
def test_a_start_without_the_page_says_so(tmp_path: Path, folder: str) -> None:
    with pytest.raises(StartError, match=r"index\.html"):
        Assets(tmp_path / folder)


# ---- what is loaded first, and how much that is


def modules(name: str = "js/main.js") -> set[str]:
    """The module and all that it loads eagerly."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        text = (STATIC / name).read_text()
        loads = re.findall(r'(?ms)^(?:import|export)\b[^"\'();]*?["\'](\.[^"\']+)["\']', text)
        waiting += [posixpath.normpath(posixpath.join(posixpath.dirname(name), load)) for load in loads]
    return found


def test_the_page_preloads_just_what_its_first_view_loads() -> None:
    preloaded = re.findall(r'<link rel="modulepreload" href="static/\{\{version\}\}/([^"]+)">', INDEX)
    assert len(preloaded) == len(set(preloaded))
    assert {*preloaded, "js/main.js"} == modules()


def test_what_is_only_for_the_type_checker_is_never_loaded() -> None:
    scripts = (STATIC / name for name in FILES if name.endswith(".js"))
    code = "".join(re.sub(r"/\*.*?\*/", "", script.read_text(), flags=re.DOTALL) for script in scripts)
    assert not [name for name in UNLOADED if Path(name).name in code]


async def on_the_wire(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """What a browser gets of each file, headers included; the largest first, for who reads a failure."""
    async with serve(folder, accounts=()) as service:
        sizes = {}
        for name in names:
            path = "/" if name == "index.html" else BASE + name
            answer = await fetch(service.port, "GET", path, [SMALL])
            assert (answer.status, answer.header("content-encoding")) == (200, "br")
            head = sum(len(f"{header}: {value}\r\n") for header, value in answer.headers)
            sizes[name] = head + len(answer.body)
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


FIRST_VIEW = modules().union(*(modules(f"js/views/{view}.js") for view in ("login", "overview")))
UNLOADED = {"js/types.js"}
"""For the type checker: no module imports it at run time, so it never crosses the wire."""

ELSEWHERE = {"api.css"}
"""Of the page that describes the admin API."""

LOADED_FIRST = {
    "index.html",
    *re.findall(r'(?:src|href)="static/\{\{version\}\}/([^"]+)"', INDEX),
    *FIRST_VIEW,
}


@pytest.mark.parametrize(
    ("names", "most"),
    [
        pytest.param(LOADED_FIRST | {"icons.svg"}, 60_000, id="first view"),
        pytest.param({"index.html", *FILES} - UNLOADED - ELSEWHERE, 150_000, id="everything"),
    ],
)
async def test_few_bytes_cross_the_wire(tmp_path: Path, names: set[str], most: int) -> None:
    sizes = await on_the_wire(tmp_path, names)
    assert sum(sizes.values()) <= most, sizes
