"""What admins set for accounts and client keys, in the dashboard: kept, undone, refused at its field, never lost."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, Locator, Page, expect

from proxy.accounts.account import Account
from proxy.accounts.preferences import Preferences
from tests.e2e.dashboard import dashboard, goto, row
from tests.service import Service, until


def account(service: Service, name: str = "team-a") -> Account:
    return next(each for each in service.parts.pool if each.name == name)


async def opened(page: Page, name: str = "team-a") -> Locator:
    """The dialog of an account, reached by its page."""
    await goto(page, "accounts")
    await page.get_by_role("link", name=name).click()
    await page.get_by_role("main").get_by_role("button", name="Edit").click()
    return page.get_by_role("dialog")


async def test_an_account_is_edited_and_that_is_undone(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        await expect(row(page, "team-a")).not_to_contain_text("priority")
        dialog = await opened(page)
        for label, text in {
            "Name": "team-x",
            "Priority": "-2",
            "Weight": "2.5",
            "Reserve": "7",
            "Tags": " eu,us , eu",
            "Outbound proxy": "http://u:a-pass-word@127.0.0.1:1",
            "Note": "paid by\nteam a",
        }.items():
            await dialog.get_by_label(label, exact=True).fill(text)
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog).to_have_count(0)
        expected = Preferences(-2, 2.5, 0.07, ("eu", "us"), "paid by\nteam a")
        assert account(service, "team-x").preferences == expected
        facts = page.get_by_role("main").locator("dl")
        for fact in ("-2", "2.5", "7 %", "eu, us", "http://***@127.0.0.1:1", "paid by\nteam a"):
            await expect(facts.get_by_text(fact, exact=True)).to_be_visible()
        await goto(page, "accounts")
        await expect(row(page, "team-x")).to_contain_text("API key · priority -2 · eu, us")
        await expect(row(page, "team-b")).not_to_contain_text("priority")
        await page.get_by_role("button", name="Undo").click()
        await expect(row(page, "team-a")).not_to_contain_text("eu")
        assert account(service).preferences == Preferences() and account(service).proxy is None


async def test_undo_takes_nothing_back_that_another_admin_has_set_since(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        dialog = await opened(page)
        await dialog.get_by_label("Priority").fill("3")
        await dialog.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("button", name="Undo")).to_be_visible()
        answer = await service.admin("PUT", f"/api/accounts/{account(service).id}", {"priority": 9})
        assert answer.status == 200
        await page.get_by_role("button", name="Undo").click()
        told = "Changed by another admin: Priority: 3 → 9."
        await expect(page.get_by_role("alert").get_by_text(told)).to_be_visible()
        assert account(service).preferences == Preferences(priority=9)


async def test_what_is_refused_is_told_at_its_field_and_what_is_the_same_is_not_sent(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        before = account(service)
        dialog = await opened(page)
        field = dialog.get_by_label("Outbound proxy")
        await field.fill("nonsense")
        await dialog.get_by_role("button", name="Save").click()
        await expect(field).to_have_accessible_description(re.compile("^use a URL"))
        await expect(field).to_be_focused()
        await field.fill("")
        await dialog.get_by_label("Weight").fill("0")
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog.get_by_label("Weight")).to_be_focused()
        await dialog.get_by_label("Weight").fill("1.0")
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog).to_have_count(0)
        assert account(service) is before


async def test_what_another_admin_has_set_is_told_and_kept(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        dialog = await opened(page)
        await dialog.get_by_label("Note").fill("mine")
        theirs = Preferences(priority=5, reserve=0.2, tags=("eu",))
        await service.parts.pool.update(account(service).id, preferences=theirs)
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog).to_contain_text("Changed by another admin: Priority 5, Reserve 20 %, Tags eu.")
        await dialog.get_by_role("button", name="Overwrite").click()
        await expect(dialog).to_have_count(0)
        assert account(service).preferences == Preferences(5, 1.0, 0.2, ("eu",), "mine")


async def test_a_client_key_gets_a_group_and_tags(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "tokens") as (service, page):
        keys = service.parts.keys
        await page.get_by_role("button", name="Create client key").first.click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("laptop")
        await dialog.get_by_label("Group").fill("team a")
        await dialog.get_by_label("Tags").fill("eu, us")
        await dialog.get_by_role("button", name="Create client key").click()
        await dialog.get_by_role("button", name="Done").click()
        await expect(row(page, "laptop")).to_contain_text("User · team a · eu, us")
        [made] = keys.find(search="laptop")
        assert (made.group, made.tags) == ("team a", ("eu", "us"))
        await page.get_by_role("button", name="Actions for laptop").click()
        await page.get_by_role("menuitem", name="Edit").click()
        await expect(dialog.get_by_label("Tags")).to_have_value("eu, us")
        await dialog.get_by_label("Group").fill("")
        await dialog.get_by_label("Tags").fill("")
        await dialog.get_by_role("button", name="Save").click()
        await until(lambda: keys[made.id].group is None and keys[made.id].tags == ())
        await expect(row(page, "laptop")).not_to_contain_text("team a")
