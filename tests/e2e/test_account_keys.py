"""The key of an account in the dashboard: added unchecked, tested, replaced; each refusal at the field."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from proxy.simulator import Error
from tests.e2e.dashboard import dashboard, row

KEY, NEXT_KEY = "sk-ant-api03-" + "k" * 40, "sk-ant-api03-" + "n" * 40


async def told(page: Page, text: str) -> None:
    """Return once a message says it: the same text among the past ones is hidden."""
    await expect(page.get_by_role("paragraph").filter(has_text=text)).to_be_visible()


async def test_a_key_is_added_unchecked_tested_and_replaced(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=(), allow="502") as (service, page):
        service.simulator.always(None, Error(529))
        await page.get_by_role("button", name="Add account").first.click()
        dialog = page.get_by_role("dialog")
        field = dialog.get_by_label("API key", exact=True)
        await dialog.get_by_label("Name", exact=True).fill("team")
        await field.fill("sk-ant-admin01-x")
        await dialog.get_by_role("button", name="Add account").click()
        await expect(field).to_have_accessible_description(re.compile("this is an Admin API key"))
        await field.fill(KEY)
        await dialog.get_by_role("button", name="Add account").click()
        await expect(field).to_have_accessible_description(re.compile("could not be checked.*529"))
        await dialog.get_by_role("button", name="Add it unchecked").click()
        await expect(dialog).to_contain_text("team added")
        await dialog.get_by_role("button", name="Close").click()
        await expect(page.get_by_role("row", name="team")).to_contain_text("API key · unchecked")
        await page.get_by_role("link", name="team").click()
        main = page.get_by_role("main")
        await expect(main).to_contain_text("nobody has checked it")
        await main.get_by_role("button", name="Test").click()
        await told(page, "team does not work: GET /v1/models answered 529")
        service.simulator.calm()
        await main.get_by_role("button", name="Replace key").click()
        await field.fill("nonsense")
        await dialog.get_by_role("button", name="Replace key").click()
        await expect(field).to_have_accessible_description(re.compile("the upstream refuses it"))
        await expect(field).to_be_focused()
        service.simulator.add_api_key(NEXT_KEY, organization="Acme")
        await field.fill(NEXT_KEY)
        await dialog.get_by_role("button", name="Replace key").click()
        await told(page, "team has a new key")
        await expect(main).not_to_contain_text("nobody has checked it")
        await main.get_by_role("button", name="Test").click()
        await told(page, "team works: GET /v1/models answered 200")
        await expect(page.locator("dialog")).to_have_count(0)  # a closed one goes a moment later
        assert KEY not in await page.content() and NEXT_KEY not in await page.content()


async def test_an_account_whose_key_is_refused_says_why_and_takes_another(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=("team",)) as (service, page):
        [account] = service.parts.pool
        service.parts.pool.invalidate(account.id, "the API answered 401 to its key")
        service.simulator.add_api_key(NEXT_KEY, organization="Acme")
        line = row(page, "team")
        await expect(line.get_by_text("the API answered 401 to its key")).to_be_visible()
        await expect(line.get_by_role("button", name="Replace key")).to_be_visible()
        await line.get_by_role("button", name="Actions for team").click()
        await expect(page.get_by_role("menuitem", name="Reactivate")).to_be_visible()
        await page.keyboard.press("Escape")
        await page.get_by_role("link", name="team").click()
        main = page.get_by_role("main")
        await expect(main.get_by_text("the API answered 401 to its key").first).to_be_visible()
        await page.get_by_role("link", name="← Accounts").click()
        await line.get_by_role("button", name="Replace key").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("API key", exact=True).fill(NEXT_KEY)
        await dialog.get_by_role("button", name="Replace key").click()
        await expect(line).to_contain_text("Active")
