"""Everything can be done with the keyboard alone, and the focus is always seen and never lost."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.async_api import Browser, Locator, Page, expect

from tests.e2e.dashboard import RunningClock, content, dashboard, goto, live, row, visit
from tests.e2e.traffic import add_sessions
from tests.service import ADMIN_KEY, serve

FOCUS = """() => {
  const el = document.activeElement;
  if (!el || el === document.body) return "nothing has the focus";
  const box = el.getBoundingClientRect();
  const covering = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  if (!covering || !(el.contains(covering) || covering.contains(el))) return `covered: ${el.outerHTML.slice(0, 200)}`;
  const { outlineStyle, outlineWidth } = getComputedStyle(el);
  if (el.matches("h2, main, [role=alert]")) return ""; // led there, not stopped at: what is read next
  return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 ? "" : `not seen: ${el.outerHTML.slice(0, 200)}`;
}"""


GO = {
    "g a": "Accounts",
    "g s": "Sessions",
    "g t": "Client keys",
    "g r": "Requests",
    "g u": "Usage",
    "g e": "Events",
    "g o": "Overview",
}


async def press(page: Page, *keys: str) -> None:
    """Each key, and a look at where the focus is then."""
    for key in keys:
        await page.keyboard.press(key)
        assert await page.evaluate(FOCUS) == "", key


async def tab_to(page: Page, target: Locator, most: int = 60) -> None:
    """Tab until it has the focus."""
    for _ in range(most):
        if await target.evaluate("(el) => el === document.activeElement"):
            return
        await press(page, "Tab")
    raise AssertionError(f"not reached with {most} tabs: {target}")


async def test_a_day_s_work_without_a_pointer(tmp_path: Path, browser: Browser) -> None:
    async with (
        serve(tmp_path, accounts=("team-a", "team-b"), clock=RunningClock()) as service,
        visit(browser, service, "accounts", signed_in=False) as page,
    ):
        add_sessions(service, 1)
        key = "sk-ant-api03-" + "k" * 40
        service.simulator.add_api_key(key, organization="Acme")
        dialog = page.get_by_role("dialog")
        # log in
        await expect(page.get_by_label("Admin key")).to_be_focused()
        await page.keyboard.type(ADMIN_KEY)
        await page.keyboard.press("Enter")
        await live(page)
        # add
        await tab_to(page, page.get_by_role("button", name="Add account"))
        await press(page, "Enter")
        await expect(dialog).to_be_visible()
        await tab_to(page, dialog.get_by_label("Name", exact=True))
        await page.keyboard.type("team-c")
        await tab_to(page, dialog.get_by_label("API key", exact=True))
        await page.keyboard.type(key)
        await page.keyboard.press("Enter")
        await expect(dialog).to_contain_text("team-c added")
        await tab_to(page, dialog.get_by_role("button", name="Close"))
        await page.keyboard.press("Enter")
        await expect(row(page, "team-c")).to_be_focused()
        # rename
        await press(page, ".")
        await tab_down(page, "Rename")
        await page.keyboard.press("Enter")
        await expect(dialog.get_by_label("Name")).to_be_focused()
        await page.keyboard.type("team-d")  # over the selected old one
        await page.keyboard.press("Enter")
        await expect(row(page, "team-d")).to_be_visible()
        await expect(dialog).to_have_count(0)
        undo = page.get_by_role("button", name="Undo")
        await tab_to(page, undo, most=200)
        await page.keyboard.press("Enter")
        await expect(row(page, "team-c")).to_be_visible()
        # deactivate, undo
        await row(page, "team-c").focus()
        await press(page, ".")
        await tab_down(page, "Deactivate")
        await page.keyboard.press("Enter")
        await expect(row(page, "team-c")).to_contain_text("Inactive")
        await tab_to(page, undo, most=200)
        await page.keyboard.press("Enter")
        await expect(row(page, "team-c")).to_contain_text("Active")
        # delete
        await row(page, "team-c").focus()
        await press(page, ".")
        await tab_down(page, "Delete")
        await page.keyboard.press("Enter")
        await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        await tab_to(page, dialog.get_by_role("button", name="Delete team-c"))
        await page.keyboard.press("Enter")
        await expect(row(page, "team-c")).to_have_count(0)
        await expect(dialog).to_have_count(0)
        assert await page.evaluate(FOCUS) == ""
        # revoke
        await press(page, "g", "s")
        await expect(page.get_by_role("heading", name="Sessions")).to_be_focused()
        await page.locator("main tr[data-id]").focus()  # not one that stands for what is loading
        await page.keyboard.press("Enter")  # the requests of the session
        await expect(page.get_by_role("heading", name="Requests")).to_be_focused()
        await press(page, "g", "s")
        await expect(page.get_by_role("heading", name="Sessions")).to_be_focused()
        await tab_to(page, page.get_by_role("main").get_by_role("button", name="Revoke").first)
        await page.keyboard.press("Enter")
        await tab_to(page, dialog.get_by_role("button", name="Revoke"))
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("No client is connected.")).to_be_visible()
        # export
        await press(page, "g", "a")
        await expect(page.get_by_role("heading", name="Accounts")).to_be_focused()
        await tab_to(page, page.get_by_role("main").get_by_role("button", name="Export"))
        await page.keyboard.press("Enter")
        await tab_down(page, "JSON")
        async with page.expect_download() as download:
            await page.keyboard.press("Enter")
        rows = json.loads(await content(await download.value))
        assert sorted(row["name"] for row in rows) == ["team-a", "team-b"]


async def tab_down(page: Page, name: str) -> None:
    """Arrow down to an item of the open menu."""
    await expect(page.get_by_role("menuitem").first).to_be_focused()
    item = page.get_by_role("menuitem", name=name)
    for _ in range(8):
        if await item.evaluate("(el) => el === document.activeElement"):
            return
        await press(page, "ArrowDown")
    raise AssertionError(f"not in the menu: {name}")


async def test_shortcuts(tmp_path: Path, browser: Browser) -> None:
    names = ("team-a", "team-b", "team-c")
    async with dashboard(tmp_path, browser, "overview", accounts=names) as (_, page):
        await page.wait_for_load_state("networkidle")  # what may wait for the first view is there, too
        for keys, heading in GO.items():
            await press(page, *keys.split())
            await expect(page.get_by_role("heading", level=2, name=heading)).to_be_focused()
        await press(page, "?")
        await expect(page.get_by_role("heading", level=2, name="Settings & help")).to_be_focused()
        await press(page, "g", "a")
        await expect(page.get_by_role("heading", name="Accounts")).to_be_focused()
        await press(page, "/")
        search = page.get_by_role("searchbox")
        await expect(search).to_be_focused()
        await page.keyboard.type("g t")  # in a field these are letters
        await expect(search).to_have_value("g t")
        await search.fill("")
        await row(page, "team-a").focus()
        await press(page, "j")
        await expect(row(page, "team-b")).to_be_focused()
        await press(page, "ArrowDown")
        await expect(row(page, "team-c")).to_be_focused()
        await press(page, "k", "x")
        await expect(page.get_by_role("checkbox", name="Select team-b")).to_be_checked()
        await press(page, "Enter")
        await expect(page.get_by_role("heading", name="team-b")).to_be_visible()


async def test_shortcuts_can_be_switched_off(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "settings") as (_, page):
        await goto(page, "settings")
        await page.get_by_label("Single-key shortcuts").select_option("Off")
        await page.get_by_role("heading", level=2).focus()
        await press(page, "g", "a")
        await expect(page.get_by_role("heading", level=2, name="Settings")).to_be_visible()


async def test_a_menu_and_a_dialog_give_the_focus_back(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (_, page):
        more = page.get_by_role("button", name="Actions for team-a")
        await tab_to(page, more)
        await press(page, "Enter")
        await expect(page.get_by_role("menuitem").first).to_be_focused()
        await press(page, "Escape")
        await expect(more).to_be_focused()
        await press(page, "Enter")
        await tab_down(page, "Delete")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await press(page, "Escape")
        await expect(more).to_be_focused()


async def test_the_skip_link_leads_past_the_header(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (_, page):
        await page.reload()
        await live(page)
        await page.evaluate("() => document.activeElement.blur()")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        assert await page.evaluate("() => document.querySelector('main').contains(document.activeElement)")
