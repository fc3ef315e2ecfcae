"""What is out of date is never shown as if it were not: the network falls silent, breaks, or knows no WebSockets."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, expect

from tests.e2e.cable import cabled
from tests.e2e.dashboard import (
    OFFLINE,
    RunningClock,
    dashboard,
    goto,
    held,
    live,
    row,
    sign_in,
    take_clock,
    visit,
    wall,
)
from tests.service import serve

LOST = re.compile(r"Connection lost at \d\d:\d\d:\d\d\. What you see may be out of date\.")
AGAIN = re.compile(r"Live again · \d+ changes? applied")


async def test_a_silent_network_is_noticed_and_told(tmp_path: Path, browser: Browser) -> None:
    async with cabled(tmp_path, browser, "accounts") as (service, line, page):
        await take_clock(page)
        await page.reload()
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        line.freeze()
        await page.clock.fast_forward(24_000)
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()  # not yet: it may be a pause
        await page.clock.fast_forward(2_000)  # 26 s after the last word
        await expect(page.get_by_text("Reconnecting")).to_be_visible()
        await expect(page.get_by_role("button", name="Retry now")).to_be_visible()
        await page.clock.fast_forward(10_000)  # 36 s
        await expect(page.get_by_role("main").get_by_text(LOST)).to_be_visible()
        await expect(page.get_by_role("main")).to_have_attribute("data-stale", "")
        await service.add_account("meanwhile")
        add = page.get_by_role("button", name="Add account")
        await expect(add).to_be_disabled()
        await expect(add).to_have_attribute("title", "Offline: not sent")
        line.cut()
        line.mend()
        await page.clock.fast_forward(31_000)
        await expect(page.get_by_role("main").get_by_text(AGAIN)).to_be_visible()
        await expect(row(page, "meanwhile")).to_be_visible()
        await expect(add).to_be_enabled()
        await expect(page.get_by_role("main")).not_to_have_attribute("data-stale", "")
        await page.clock.fast_forward(5_000)
        await expect(page.get_by_role("main").get_by_text(AGAIN)).not_to_be_visible()


async def test_what_was_to_come_is_not_told_as_past_while_nothing_is_heard(
    tmp_path: Path, browser: Browser
) -> None:
    async with cabled(tmp_path, browser, "accounts") as (service, line, page):
        await take_clock(page)
        await page.reload()
        await goto(page, "overview")
        account = next(iter(service.parts.pool))
        service.parts.pool.limit(account.id, wall() + 20, "429")
        verdict = page.get_by_role("region", name="Health")
        await expect(verdict).to_contain_text(re.compile(r"The next limit ends in \d+s\."))
        line.freeze()
        await page.clock.fast_forward(26_000)
        await expect(verdict).to_contain_text("The next limit ends any moment.")


async def test_nothing_is_sent_and_nothing_waits_to_be_sent_while_it_is_broken(
    tmp_path: Path, browser: Browser
) -> None:
    async with cabled(tmp_path, browser, "accounts") as (service, line, page):
        await take_clock(page)
        await page.reload()
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        line.cut()
        await expect(page.get_by_text("Reconnecting")).to_be_visible()
        await page.clock.pause_at(wall() + 60)  # or the page may retry by itself before the click
        for button in await page.locator("[data-write]").all():
            await expect(button).to_be_disabled()
            await expect(button).to_have_attribute("title", "Offline: not sent")
        await page.get_by_role("button", name="Add account").click(force=True)
        await expect(page.get_by_role("alert").get_by_text("Offline: not sent")).to_be_visible()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        line.mend()
        await page.get_by_role("button", name="Retry now").click()
        await page.clock.resume()
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        assert service.status("team-a") == "active"


# As behind a reverse proxy that knows no WebSockets: the upgrade is refused, and all else handed on.
BLOCKED = "window.WebSocket = class extends WebSocket { constructor(url, p) { super(`${url}/none`, p); } }"


async def test_where_no_websocket_gets_through_it_polls_and_says_why(
    tmp_path: Path, browser: Browser
) -> None:
    async with (
        serve(tmp_path, accounts=("team-a",), clock=RunningClock()) as service,
        visit(
            browser, service, "accounts", signed_in=False, init=BLOCKED, allow="WebSocket connection"
        ) as page,
    ):
        await sign_in(page)
        told = page.get_by_text("WebSocket blocked, probably by the reverse proxy")
        await expect(told).to_be_visible(timeout=20_000)
        await expect(page.get_by_role("link", name="How to fix")).to_be_visible()
        await expect(row(page, "team-a")).to_be_visible()
        await service.add_account("polled")
        await expect(row(page, "polled")).to_be_visible()


async def test_who_is_signed_out_sees_the_login_and_comes_back_to_where_they_were(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts?q=team-b") as (service, page):
        service.clock.advance(13 * 3600)  # a sign-in that nobody uses lasts twelve hours
        await expect(page.get_by_label("Admin key")).to_be_visible()
        await expect(page.get_by_role("main")).not_to_contain_text("team-b")
        await sign_in(page)
        await expect(row(page, "team-b")).to_be_visible()
        await expect(row(page, "team-a")).to_have_count(0)


async def test_who_signs_in_again_is_signed_in_in_all_tabs(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts?q=team-b") as (service, page):
        other = await page.context.new_page()
        await other.goto(page.url)
        await expect(row(other, "team-b")).to_be_visible()
        service.clock.advance(13 * 3600)
        for tab in (page, other):
            await expect(tab.get_by_label("Admin key")).to_be_visible()
        await sign_in(page)
        for tab in (page, other):
            await expect(row(tab, "team-b")).to_be_visible()


async def test_a_dashboard_too_many_is_told(tmp_path: Path, browser: Browser) -> None:
    async with (
        serve(tmp_path, clock=RunningClock()) as service,
        visit(browser, service, signed_in=False) as page,
    ):
        await page.route_web_socket("**/api/live", lambda socket: socket.close(code=4408))
        await sign_in(page)
        await expect(page.get_by_text("Too many dashboards are open")).to_be_visible()


LOADED = "() => performance.getEntriesByType('resource').some(({ name }) => name.endsWith('unknown.svg'))"


async def test_health_is_not_known_while_the_server_is_gone(tmp_path: Path, browser: Browser) -> None:
    async with cabled(tmp_path, browser, "accounts") as (_, line, page):
        chip, icon = page.locator("#health"), page.locator("link[rel=icon]")
        await expect(chip).to_contain_text("Healthy")
        await expect(icon).to_have_attribute("href", re.compile(r"favicon-healthy\.svg$"))
        await page.wait_for_function(LOADED)  # later it could not be
        line.cut()
        await expect(chip).to_have_text("Health unknown")
        await expect(chip).not_to_have_attribute("data-kind", "healthy")
        await expect(icon).to_have_attribute("href", re.compile(r"favicon-unknown\.svg$"))
        line.mend()
        await expect(chip).to_contain_text("Healthy", timeout=10_000)
        await expect(icon).to_have_attribute("href", re.compile(r"favicon-healthy\.svg$"))


async def test_what_could_not_be_loaded_is_loaded_with_the_next_connection(
    tmp_path: Path, browser: Browser
) -> None:
    async with cabled(tmp_path, browser, "overview", signed_in=False) as (_, line, page):
        for name in ("strings.more.en", "later"):
            await page.route(f"**/js/{name}.js", lambda route: route.abort())
        async with page.expect_event("requestfailed", lambda request: "later.js" in request.url):
            await sign_in(page)
        await live(page)
        await page.unroute_all()
        line.cut()
        await expect(page.get_by_text("Reconnecting")).to_be_visible()
        async with page.expect_response(re.compile("/later.js")):
            line.mend()
        await goto(page, "accounts")
        await page.keyboard.press("?")
        await expect(page.locator("body[data-view=settings]")).to_be_attached()


NOT_LOADED = OFFLINE + "|Failed to fetch dynamically"


async def test_a_view_that_could_not_be_loaded_is_shown_with_the_next_connection(
    tmp_path: Path, browser: Browser
) -> None:
    async with cabled(tmp_path, browser, signed_in=False, allow=NOT_LOADED) as (_, line, page):
        await page.route("**/js/views/sessions.js", lambda route: route.abort())
        await sign_in(page)
        await live(page)
        await page.get_by_role("link", name="Sessions").click()
        await expect(page.get_by_role("heading", name="This page could not be loaded")).to_be_visible()
        await page.unroute_all()
        line.cut()
        await expect(page.get_by_text("Reconnecting")).to_be_visible()
        line.mend()
        await expect(page.get_by_role("heading", level=2, name="Sessions")).to_be_visible(timeout=10_000)


async def test_a_view_that_was_never_visited_opens_without_a_connection(
    tmp_path: Path, browser: Browser
) -> None:
    async with cabled(tmp_path, browser, signed_in=False) as (_, line, page):
        async with page.expect_event("requestfinished", lambda request: "views/token.js" in request.url):
            await sign_in(page)
        await live(page)
        line.cut()
        await expect(page.get_by_text("Reconnecting")).to_be_visible()
        for view in ("Sessions", "Client keys", "Events"):
            await page.get_by_role("link", name=view).click()
            await expect(page.get_by_role("heading", level=2, name=view)).to_be_visible()


async def test_a_view_that_loads_slowly_is_announced_at_once(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, signed_in=False) as (_, page):
        _, go = await held(page, "**/js/views/sessions.js")
        await sign_in(page)
        await live(page)
        tab = page.get_by_role("link", name="Sessions")
        await tab.click()
        await expect(tab).to_have_attribute("aria-current", "page")
        await expect(page.get_by_role("heading", level=2, name="Sessions")).to_be_visible()
        await expect(page).to_have_title("Sessions – Claude Proxy")
        await expect(page.get_by_role("table")).to_have_count(0)
        go.set()
        await expect(page.get_by_role("table")).to_be_attached()
        await expect(page.get_by_role("heading", level=2, name="Sessions")).to_be_focused()
