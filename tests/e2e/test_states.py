"""Each view says what it is about when it has nothing, waits, fails, or is cut off."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, expect

from proxy.dashboard.event_log import MOST
from proxy.feed import Happened
from tests.e2e.cable import cable, cabled
from tests.e2e.dashboard import (
    OFFLINE,
    VIEWS,
    RunningClock,
    dashboard,
    goto,
    resize,
    sign_in,
    take_clock,
    visit,
)
from tests.e2e.furniture import furnish
from tests.e2e.test_axe import barriers
from tests.e2e.test_layout import overflows
from tests.service import Service, serve, until

DEAF = "window.WebSocket = class { readyState = 0; send() {} close() {} }"
"""A feed of which nothing is heard."""

EMPTY = {
    "overview": "No accounts yet. Add one to start serving requests.",
    "accounts": "No accounts yet. Add one to start serving requests.",
    "sessions": "No client is connected. See Connect a client.",
    "tokens": "No client keys. Create one to let a client in.",
    "requests": "No requests yet.",
    "usage": "No usage recorded in this range.",
}
NO_MATCH = {
    "accounts?q=nobody&status=invalid": "No account matches 'nobody' and status Invalid.",
    "accounts?status=zzz": "No account matches status zzz.",
    "accounts?status=__proto__": "No account matches status __proto__.",
    "tokens?q=nobody": "No client key matches 'nobody'.",
    "sessions?q=nobody": "No session matches 'nobody'.",
    "requests?search=nobody&status=failed": "No request matches.",
}


async def fine(page: Page) -> None:
    """The state itself has no barrier and cuts nothing off."""
    found = []
    for width in (360, 1440):
        await resize(page, width)
        found += [*await barriers(page), *await overflows(page)]
    if found:
        raise AssertionError("\n".join(dict.fromkeys(found)))


async def without_keys(service: Service) -> None:
    for token in tuple(service.parts.keys):
        await service.parts.keys.remove(token.id)


async def test_empty(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=without_keys) as (_, page):
        main = page.get_by_role("main")
        for view, text in EMPTY.items():
            await goto(page, view)
            await expect(main.get_by_text(text)).to_be_visible()
            if view in ("overview", "accounts"):
                await expect(page.get_by_text("no accounts").first).to_be_visible()  # why it is unhealthy
                await expect(main.get_by_role("button", name="Add account").last).to_be_visible()
            await fine(page)


async def test_nothing_matches(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=furnish) as (_, page):
        main = page.get_by_role("main")
        for route, text in NO_MATCH.items():
            await goto(page, route)
            await expect(main.get_by_text(text)).to_be_visible()
            await fine(page)
            await page.get_by_role("button", name="Clear filters").click()
            await expect(main.get_by_role("row").nth(1)).to_be_visible()
            await expect(page).not_to_have_url(re.compile("q=|status="))


async def test_loading(tmp_path: Path, browser: Browser) -> None:
    async with (
        serve(tmp_path, accounts=("team-a",), clock=RunningClock()) as service,
        visit(browser, service, signed_in=False, init=DEAF) as page,
    ):
        await sign_in(page)
        for view in VIEWS:
            await goto(page, view)
            await expect(page.get_by_text("Connecting…")).to_be_visible()
            text = re.sub("No event.*", "", await page.get_by_role("main").inner_text())
            assert "No " not in text, view  # nothing is known yet
            await fine(page)


async def refuse(route: Route) -> None:
    await route.fulfill(status=500, json={"error": {"type": "api_error", "message": "It broke."}})


async def test_usage_that_cannot_be_loaded(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, allow="500") as (_, page):
        await page.route("**/api/admin/usage*", refuse)
        await goto(page, "usage")
        await expect(page.get_by_text("Could not load. It broke.")).to_be_visible()
        await fine(page)
        await page.unroute("**/api/admin/usage*")
        await page.get_by_role("button", name="Retry").press("Enter")
        await expect(page.get_by_text("Could not load. It broke.")).not_to_be_visible()
        await expect(page.get_by_role("heading", level=2)).to_be_focused()


async def test_usage_of_which_only_the_feed_comes(tmp_path: Path, browser: Browser) -> None:
    go = asyncio.Event()

    async def slow(route: Route) -> None:
        await go.wait()
        await refuse(route)

    async with dashboard(tmp_path, browser, allow="500") as (service, page):
        await service.message()
        await page.route("**/api/admin/usage/chart*", slow)
        await goto(page, "usage")
        await expect(page.get_by_role("img", name=re.compile("^Requests, last 24 h: 1"))).to_be_visible()
        go.set()  # now that the charts are fed
        await expect(page.get_by_text("Could not load. It broke.")).to_be_visible()
        await page.unroute("**/api/admin/usage/chart*")
        await page.get_by_role("button", name="Retry").click()
        await expect(page.get_by_role("table").last).to_contain_text("team-a")
        await expect(page.get_by_role("button", name="CSV")).to_be_enabled()


async def test_an_account_that_was_not_used(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=("team-a",)) as (service, page):
        account = next(iter(service.parts.pool))
        await goto(page, f"accounts/{account.id}")
        await service.parts.pool.update(account.id, name="team-z")
        await expect(page).to_have_title(re.compile("^team-z "))
        main = page.get_by_role("main")
        await expect(main.get_by_text("It answered no request in the last 24 h.")).to_be_visible()
        await expect(main.get_by_text("No client is on it.")).to_be_visible()
        assert (await service.message()).status == 200
        await expect(main.get_by_text("It answered no request in the last 24 h.")).not_to_be_visible()
        await expect(main.get_by_text("Requests, last 24 h: 1, peak 4/h")).to_be_visible()


async def test_a_feed_that_never_comes(tmp_path: Path, browser: Browser) -> None:
    async with (
        serve(tmp_path, accounts=("team-a",), clock=RunningClock()) as service,
        visit(browser, service, "accounts", signed_in=False, allow=f"{OFFLINE}|500") as page,
    ):
        await page.route_web_socket("**/api/live", lambda socket: socket.close(code=1011))
        await page.route("**/api/live*", refuse)
        await sign_in(page)
        await expect(page.get_by_role("main").get_by_text("Could not load.")).to_be_visible(timeout=10_000)
        await fine(page)


@pytest.mark.parametrize("view", VIEWS)
async def test_disconnected(tmp_path: Path, browser: Browser, view: str) -> None:
    async with serve(tmp_path, accounts=(), clock=RunningClock()) as service, cable(service.port) as line:
        await furnish(service)
        async with visit(browser, line, view, allow=OFFLINE) as page:
            await goto(page, view)
            await take_clock(page)
            line.cut()
            await expect(page.get_by_text("Reconnecting")).to_be_visible()
            await page.clock.fast_forward(12_000)
            await expect(page.get_by_role("main").get_by_text("Connection lost at")).to_be_visible()
            await expect(page.get_by_role("main")).to_have_attribute("data-stale", "")
            for button in await page.locator("main [data-write]").all():
                await expect(button).to_have_attribute("aria-disabled", "true")
            await fine(page)


async def test_events_that_were_missed(tmp_path: Path, browser: Browser) -> None:
    async with cabled(tmp_path, browser, "events", accounts=()) as (service, line, page):
        log = page.get_by_role("log")
        await goto(page, "events")
        await expect(log.get_by_text("signed in")).to_be_visible()
        line.cut()
        await expect(page.get_by_text("Reconnecting")).to_be_visible()
        newest = service.parts.revisions.rev("events") + MOST + 37
        for n in range(MOST + 37):
            service.parts.feed.tell(Happened("server.tested", f"test {n}"))
        await until(lambda: service.parts.revisions.rev("events") >= newest)  # a shared log brings them back
        line.mend()
        rows = log.locator("tbody tr")
        await expect(rows.first).to_contain_text("28 September 2026", timeout=15_000)  # it retries by itself
        await expect(rows.nth(1)).to_contain_text("Connection lost ", timeout=10_000)
        await expect(rows.nth(2)).to_contain_text(f"test {MOST + 36}")
        await expect(rows.last).to_contain_text("test 37")
        await expect(rows.last).to_contain_text("37 events skipped (slow connection)")
        await expect(rows).to_have_count(MOST + 2)
        await page.get_by_role("searchbox").fill("test 37")  # axe takes 5 ms a row
        await expect(rows).to_have_count(13)  # a day, the loss, 37 and 370 to 379
        await fine(page)


async def test_an_account_that_is_gone(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts/acc_gone") as (_, page):
        await expect(page.get_by_text("This account does not exist (any more).")).to_be_visible()
        await fine(page)


LOGIN = {
    401: "That key is not valid.",
    429: "Too many attempts. Try again in 42 s.",
    0: "The server cannot be reached.",
}


@pytest.mark.parametrize("status", LOGIN)
async def test_a_login_that_fails(tmp_path: Path, browser: Browser, status: int) -> None:
    async with dashboard(tmp_path, browser, signed_in=False, allow="net::ERR_|Failed to load") as (_, page):

        async def answer(route: Route) -> None:
            if not status:
                return await route.abort()
            await route.fulfill(
                status=status, headers={"retry-after": "42"}, json={"error": {"type": "x", "message": "x"}}
            )

        await page.route("**/api/auth/login", answer)
        await sign_in(page)
        told = page.get_by_role("alert").get_by_text(LOGIN[status])
        await expect(told).to_be_visible()
        await expect(told).to_be_focused()
        await expect(page.get_by_role("button", name="Sign in")).to_be_enabled()
        await fine(page)
        await page.unroute("**/api/auth/login")
        await sign_in(page)
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
