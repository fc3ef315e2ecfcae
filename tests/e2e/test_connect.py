"""Connecting a client: the key is chosen or made, what to type is shown, and its first request is seen."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, expect

from proxy.simulator import Error
from tests.e2e.dashboard import dashboard
from tests.service import MESSAGE_HEADERS, message


async def test_the_first_request_of_a_key_made_here_is_seen_live(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "connect", accounts=("team-a",)) as (service, page):
        main = page.get_by_role("main")
        await main.get_by_role("button", name="Create client key").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("laptop")
        await dialog.get_by_role("button", name="Create client key").click()
        key = (await dialog.locator("pre").first.inner_text()).strip()
        await dialog.get_by_text("Connect a client").click()
        await expect(dialog.get_by_role("tabpanel")).to_contain_text(key)
        await dialog.get_by_role("button", name="Done").click()
        await expect(main.get_by_text("Waiting for the first request of 'laptop'…")).to_be_visible()
        await expect(main.get_by_role("combobox")).to_contain_text("laptop")
        await expect(page.locator("dialog")).to_have_count(0)  # a closed one goes a moment later
        assert key not in await page.content()
        await service.message()  # another key's is none of its
        assert (await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(), key=key)).status == 200
        seen = main.get_by_role("status").filter(has_text="A request of 'laptop' came")
        await expect(seen).to_contain_text("claude-sonnet-5-5, answered by team-a.")
        service.simulator.script(None, Error(400))
        assert (await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(), key=key)).status == 400
        await expect(seen).to_contain_text("and failed: claude-sonnet-5-5, 400")
        await seen.get_by_role("link", name="Open").click()
        await expect(page.locator("body[data-view=request]")).to_be_attached()


async def test_the_tabs_are_moved_through_by_key_and_stay_in_the_address(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "connect?client=python") as (_, page):
        tabs = page.get_by_role("tab")
        await expect(page.get_by_role("tab", name="Python")).to_have_attribute("aria-selected", "true")
        await expect(page.get_by_role("tabpanel")).to_contain_text("from anthropic import Anthropic")
        await page.get_by_role("tab", name="Python").press("ArrowRight")
        await expect(page.get_by_role("tab", name="TypeScript")).to_be_focused()
        await expect(page.get_by_role("tabpanel")).to_contain_text("@anthropic-ai/sdk")
        await expect(page).to_have_url(re.compile(r"client=typescript"))
        await page.keyboard.press("End")
        await expect(tabs.last).to_have_attribute("aria-selected", "true")
        await page.keyboard.press("ArrowRight")
        await expect(tabs.first).to_be_focused()
        await expect(page.get_by_role("tabpanel")).to_have_count(1)
