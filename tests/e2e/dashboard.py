"""The dashboard in a browser, before a proxy in the same event loop; and what no page may ever do."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Download,
    Locator,
    Page,
    Request,
    Response,
    Route,
    expect,
)

from tests.limit_scripts import told_ahead
from tests.service import ADMIN_KEY, Service, TestClock, serve

VIEWS = ("overview", "accounts", "sessions", "tokens", "requests", "usage", "events", "connect", "settings")
SIZES = {360: 740, 768: 1024, 1440: 900}
OFFLINE = "WebSocket connection to|net::ERR_|Failed to load resource"
"""What the browser says where there is no network."""

THEMES = ("light", "dark")

ZONE = {"timezone_id": "Asia/Kathmandu", "locale": "en-GB"}
"""Of every browser that is not told otherwise. Not UTC, nor whole hours away, so that none is taken for the other."""

START = 1_790_591_400.0
"""When every browser test begins: 28 September 2026, 10:30 UTC. "Sept" is the longest month, and no day ends soon."""

_began = time.monotonic()


def begin() -> None:
    """Set the time of all clocks of browser tests, the server's and the browser's, to `START`."""
    global _began
    _began = time.monotonic()


def wall() -> float:
    """The time of browser tests: it goes on from `START`, whatever the machine's clock says."""
    return START + time.monotonic() - _began


# Puts the clock of a page ahead of the machine's, where `page.clock` has not put one of its own in the place.
_AHEAD = """((ahead) => {
  if (Date.isFake) return;
  const now = Date.now;
  globalThis.Date = class extends Date {
    static now() { return now() + ahead; }
    constructor(...given) { super(...(given.length ? given : [now() + ahead])); }
  };
})"""

# Says in the console, which is watched anyway, what would else pass unnoticed.
_TELL_VIOLATIONS = """addEventListener("securitypolicyviolation", (e) =>
    console.error("policy violated:", e.violatedDirective, e.blockedURI, e.sample))"""


class RunningClock(TestClock):
    """Goes on by itself, as `wall` does; `advance` and `jump` add to it."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 0.0

    def now(self) -> float:
        return wall() + self._ahead + self._jumped

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def told(self) -> str:
        return told_ahead(self.now() - time.time())

    def advance(self, seconds: float) -> None:
        self._ahead += seconds
        self.on_move()


class Served(Protocol):
    """Where a proxy is: itself, or a cable to it."""

    port: int


class Watch:
    """Collects what a page may not do: errors, warnings, violations of its policy, requests to other hosts.

    That a request was refused (4xx) is told by the browser as an error, and is none where the page shows it.
    """

    def __init__(self, page: Page, origin: str, allow: str | None) -> None:
        self.seen: list[str] = []
        self.asked: list[str] = []
        self._origin = origin
        self._allow = allow
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._saw(f"page error: {error.stack or error}"))
        page.on("request", self._request)
        page.on("response", self._response)

    def _saw(self, text: str) -> None:
        if self._allow is None or not re.search(self._allow, text):
            self.seen.append(text)

    def _console(self, message: ConsoleMessage) -> None:
        refused = re.search(r"Failed to load resource.* status of 4\d\d", message.text)
        url = str(message.location.get("url"))
        if message.type in ("error", "warning") and not (refused and "/api/auth/me" not in url):
            self._saw(f"console: {message.text} ({url})")

    def _request(self, request: Request) -> None:
        self.asked.append(request.url)
        if not request.url.startswith((self._origin, "data:", "blob:")):
            self._saw(f"asked another host: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and not re.search(r"/(api|oauth)/", response.url):
            self._saw(f"{response.status} for {response.url}")


async def sign_in(page: Page, key: str = ADMIN_KEY) -> None:
    """Through the form."""
    await page.get_by_label("Admin key").fill(key)
    await page.get_by_role("button", name="Sign in").click()


async def live(page: Page, *, within_s: float = 10) -> None:
    """Return once what is shown is the server's."""
    await expect(page.get_by_text("Live", exact=True).first).to_be_visible(timeout=within_s * 1000)


async def display(page: Page) -> Locator:
    """What the header's button opens: the theme, how times are told, and the way out."""
    await page.get_by_role("button", name="Display").click()
    return page.get_by_role("region", name="Display")


async def take_clock(page: Page) -> None:
    """From here on `page.clock` can move the page's time and timers."""
    await page.clock.install(time=wall())


async def _ahead(page: Page) -> float:
    """By how many ms `wall` is ahead of the browser's machine."""
    asked = wall()
    machine = float(await page.evaluate("() => Date.now()"))
    return (asked + wall()) / 2 * 1000 - machine


async def resize(page: Page, width: int, height: int = 900) -> None:
    """Give the page another size, and wait until what watches its size has drawn itself anew."""
    await page.set_viewport_size({"width": width, "height": height})
    # Observers are told in the order in which they were made.
    await page.evaluate(
        """() => new Promise((done) => {
          const last = new ResizeObserver(() => { last.disconnect(); done(); });
          last.observe(document.documentElement);
        })"""
    )


async def goto(page: Page, route: str) -> None:
    """Return once the view is there."""
    await page.evaluate("(hash) => { location.hash = hash; }", f"#/{route}")
    view = route.partition("?")[0]
    view = (
        {"accounts": "account", "requests": "request", "tokens": "token"}.get(view.partition("/")[0], view)
        if "/" in view
        else view
    )
    await expect(page.locator(f"body[data-view={view}]")).to_be_attached()
    await expect(page.get_by_role("main").get_by_role("heading", level=2)).to_be_visible()


async def shown(page: Page) -> str:
    """All text of the view, but for how long ago things were or still take, and when this tab lost its connection."""
    text = re.sub("(Connection lost|Live again) .*\n+", "", await page.get_by_role("main").inner_text())
    return re.sub(r"\b\d+(s|m|h|d)\b( \d\d(s|m|h)\b)?( ago)?|just now", "…", text)


async def same(old: Page, new: Page, *, within_s: float = 2) -> None:
    """Return once both tabs show the same. AssertionError with the difference after `within_s`."""
    end = time.monotonic() + within_s
    while (texts := [await shown(page) for page in (old, new)]) and texts[0] != texts[1]:
        if time.monotonic() > end:
            lines = [text.splitlines() for text in texts]
            raise AssertionError("\n".join(difflib.unified_diff(*lines, lineterm="", n=2)))
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def visit(
    browser: Browser,
    served: Served,
    route: str = "",
    *,
    signed_in: bool = True,
    width: int = 1440,
    height: int | None = None,
    allow: str | None = None,
    init: str = "",
    **context: Any,
) -> AsyncIterator[Page]:
    """A tab at `route`, such as `accounts?q=team`, in a context of its own. It has to behave: see `Watch`.

    `allow` is a pattern of what this test makes it do; `init` runs before any script of the page's own.
    """
    origin = f"http://127.0.0.1:{served.port}"
    options = {"viewport": {"width": width, "height": height or SIZES.get(width, 900)}} | ZONE | context
    async with await browser.new_context(**options) as opened:
        page = await opened.new_page()
        await opened.add_init_script(f"{_AHEAD}({await _ahead(page)});{_TELL_VIOLATIONS};{init}")
        page.set_default_timeout(10_000)
        watch = Watch(page, origin, allow)
        await page.goto(f"{origin}/#/{route}")
        if signed_in:
            await sign_in(page)
            await live(page)
        yield page
        if watch.seen:
            raise AssertionError("\n".join(["the page did what it may not:", *watch.seen]))


@contextlib.asynccontextmanager
async def dashboard(
    folder: Path,
    browser: Browser,
    route: str = "",
    *,
    accounts: tuple[str, ...] = ("team-a", "team-b"),
    clock: TestClock | None = None,
    prepare: Callable[[Service], Awaitable[object]] | None = None,
    settings: dict[str, str] | None = None,
    **page: Any,
) -> AsyncIterator[tuple[Service, Page]]:
    """A proxy with `accounts` and whatever `prepare` does, and a tab at it."""
    clock = clock or RunningClock()
    async with serve(folder, accounts=accounts, clock=clock, **(settings or {})) as service:
        if prepare is not None:
            await prepare(service)
        async with visit(browser, service, route, **page) as tab:
            yield service, tab


async def held(page: Page, pattern: str) -> tuple[list[str], asyncio.Event]:
    """The addresses that match and are asked for from now on; they are answered once the event is set."""
    asked, go = list[str](), asyncio.Event()

    async def slow(route: Route) -> None:
        asked.append(route.request.url)
        await go.wait()
        await route.continue_()

    await page.route(pattern, slow)
    return asked, go


async def content(download: Download) -> str:
    """What has been downloaded, without a byte order mark."""
    path = await download.path()
    return (await asyncio.to_thread(path.read_bytes)).decode("utf-8-sig")


def row(page: Page, name: str) -> Locator:
    """The table's row of the thing called `name`."""
    return page.get_by_role("main").get_by_role("row").filter(has=page.get_by_text(name, exact=True))
