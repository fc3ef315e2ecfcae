"""Live updates take nothing from whoever is at work: focus, ticked boxes, selected text, an open menu, the rows."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from tests.e2e.dashboard import dashboard, goto, row
from tests.e2e.traffic import add_sessions, traffic
from tests.service import Service

FOR_S = 600.0 if "E2E_LONG" in os.environ else 2.0
NAMES = tuple(f"team-{n:02}" for n in range(40))
TICKED = ("team-03", "team-05", "team-08")

KEEP = """() => {
  window.rows = [...document.querySelectorAll("main tbody tr")];
  window.updates = 0;
  new MutationObserver((list) => { window.updates += list.length; })
    .observe(document.querySelector("main tbody"), { subtree: true, characterData: true, childList: true });
}"""
SAME = "() => window.rows.every((row, at) => row === document.querySelectorAll('main tbody tr')[at])"


async def changes(service: Service, for_s: float = FOR_S) -> None:
    """Traffic, and with it what moves accounts within the usual order."""
    async with traffic(service, per_s=200):
        count = max(4, round(for_s / 10))
        for n in range(count):
            account = next(a for a in service.parts.pool if a.name == NAMES[20 + n % 10])
            service.parts.pool.limit(account.id, service.clock.now() + 1, "the 5h window is used up")
            await asyncio.sleep(for_s / count)


async def updated(page: Page) -> None:
    """The test would prove nothing if nothing had changed."""
    assert await page.evaluate("() => window.updates") > 50


async def test_focus_ticks_and_selected_text_survive(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=NAMES) as (service, page):
        for name in TICKED:
            await page.get_by_role("checkbox", name=f"Select {name}").check()
        await row(page, "team-02").focus()
        await page.get_by_role("link", name="team-04").evaluate(
            "(link) => getSelection().selectAllChildren(link)"
        )
        await page.evaluate(KEEP)
        await changes(service)
        await updated(page)
        await expect(row(page, "team-02")).to_be_focused()
        assert await page.evaluate("() => getSelection().toString()") == "team-04"
        for name in TICKED:
            await expect(page.get_by_role("checkbox", name=f"Select {name}")).to_be_checked()
        await expect(page.get_by_text("3 selected")).to_be_visible()
        # Rows that came into trouble may be offered another place, and wait for it while a row has the focus.
        assert await page.evaluate(SAME)


async def test_an_open_menu_survives_and_its_row_does_not_move(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=NAMES, height=500) as (service, page):
        await page.get_by_role("button", name="Actions for team-30").click()
        await expect(page.get_by_role("menuitem").first).to_be_focused()
        await page.keyboard.press("ArrowDown")
        focused = page.get_by_role("menuitem").nth(1)
        await expect(focused).to_be_focused()
        assert await page.evaluate("() => scrollY") > 0
        place = await row(page, "team-30").bounding_box()
        await page.evaluate(KEEP)
        await changes(service)
        await updated(page)
        await expect(page.get_by_role("menu")).to_be_visible()
        await expect(focused).to_be_focused()
        assert await row(page, "team-30").bounding_box() == place
        assert await page.evaluate(SAME)


async def test_rows_under_the_pointer_do_not_move(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=NAMES[:8]) as (service, page):
        await row(page, "team-03").hover()
        place = await row(page, "team-03").bounding_box()
        last = next(a for a in service.parts.pool if a.name == "team-07")
        service.parts.pool.limit(last.id, service.clock.now() + 3600, "the 5h window is used up")
        offer = page.get_by_role("button", name="New order · Apply")
        await expect(offer).to_be_visible()
        assert await row(page, "team-03").bounding_box() == place
        await offer.click()
        await expect(page.get_by_role("main").get_by_role("row").nth(1)).to_contain_text("team-07")


async def test_text_that_is_typed_into_a_dialog_survives(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=NAMES) as (service, page):
        await page.get_by_role("button", name="Actions for team-03").click()
        await page.get_by_role("menuitem", name="Rename").click()
        await page.get_by_role("dialog").get_by_label("Name").fill("half a na")
        await page.evaluate(KEEP)
        await changes(service, for_s=2)
        await updated(page)
        await page.keyboard.type("me")
        await expect(page.get_by_role("dialog").get_by_label("Name")).to_have_value("half a name")


async def test_a_search_and_its_field_survive(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=NAMES) as (service, page):
        await page.get_by_role("searchbox").press_sequentially("team-1")
        await page.evaluate(KEEP)
        async with traffic(service, per_s=200):
            await asyncio.sleep(0.5)
            await page.keyboard.type("2")
        await expect(page.get_by_role("searchbox")).to_have_value("team-12")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await expect(page.get_by_role("main").get_by_role("row")).to_have_count(2)  # with the head
        await expect(page).to_have_url(re.compile("q=team-12"))


async def test_sessions_that_come_and_go_leave_the_others_alone(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=NAMES[:3]) as (service, page):
        add_sessions(service, 150)
        await goto(page, "sessions")
        await expect(page.get_by_role("main").get_by_role("row")).to_have_count(101)
        await page.get_by_role("main").get_by_role("checkbox").nth(5).check()
        await page.evaluate(KEEP)
        async with traffic(service, per_s=200):
            await asyncio.sleep(1)
        await expect(page.get_by_role("main").get_by_role("checkbox").nth(5)).to_be_checked()
        assert await page.evaluate(SAME)
