"""What a table keeps, shows and opens, and what is asked before its rows are changed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.dashboard import SIZES, dashboard, goto, live, row
from tests.service import Service


async def many(service: Service) -> None:
    for n in range(201):
        await service.add_account(f"team-{n:03}")


async def test_a_reload_stays_on_its_page(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts?p=3", accounts=(), prepare=many) as (_, page):
        await expect(row(page, "team-200")).to_be_visible()
        await page.reload()
        await live(page)
        await expect(row(page, "team-200")).to_be_visible()
        await expect(page.get_by_text("201–201 of 201")).to_be_visible()
        await expect(page).to_have_url(re.compile(r"#/accounts\?p=3$"))


async def test_a_click_on_a_row_opens_it(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (_, page):
        await row(page, "team-a").get_by_role("cell").nth(3).click()
        await expect(page.get_by_role("heading", level=2, name="team-a")).to_be_visible()


async def test_a_row_whose_text_is_selected_or_button_pressed_stays(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (_, page):
        cell = row(page, "team-a").locator("small").first
        box = await cell.bounding_box()
        assert box is not None
        await page.mouse.move(box["x"] + 1, box["y"] + box["height"] / 2)
        await page.mouse.down()
        await page.mouse.move(box["x"] + box["width"] - 1, box["y"] + box["height"] / 2)
        await page.mouse.up()
        assert await page.evaluate("() => getSelection().toString()")
        await page.get_by_role("checkbox", name="Select team-b").check()
        await page.get_by_role("button", name="Actions for team-a").click()
        await expect(page.get_by_role("menu")).to_be_visible()
        assert page.url.endswith("#/accounts")


async def test_enter_opens_a_row_and_a_click_opens_a_request(tmp_path: Path, browser: Browser) -> None:
    async def ask(service: Service) -> None:
        assert (await service.message()).status == 200

    async with dashboard(tmp_path, browser, "requests", prepare=ask) as (_, page):
        await page.locator("main tbody tr").first.get_by_role("cell").nth(1).click()
        await expect(page.locator("body[data-view=request]")).to_be_attached()
        await goto(page, "sessions")
        await page.locator("main table.sessions tr[data-id]").first.press("Enter")
        await expect(page.locator("body[data-view=requests]")).to_be_attached()
        await expect(page).to_have_url(re.compile("session="))


async def test_a_column_that_is_empty_for_all_is_not_shown_until_one_has_something(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        await expect(row(page, "team-a")).to_be_visible()
        for head in ("Token expires", "Last error"):
            await expect(page.get_by_role("columnheader", name=head)).to_be_hidden()
        await expect(page.get_by_role("columnheader", name="Requests 24 h")).to_be_visible()
        login, _ = await service.add_login("team-login", expires_in=7200)
        await expect(page.get_by_role("columnheader", name="Token expires")).to_be_visible()
        pool, now = service.parts.pool, service.clock.now()
        pool.change(login.id, lambda a: a.refresh_failed("no answer", now))
        await expect(page.get_by_role("columnheader", name="Last error")).to_be_visible()
        await expect(row(page, "team-login").get_by_role("button", name="no answer")).to_be_visible()


async def test_a_long_question_keeps_its_title_in_view_and_its_names_in_order(
    tmp_path: Path, browser: Browser
) -> None:
    async def some(service: Service) -> None:
        for n in range(40, 0, -1):
            await service.add_account(f"team-{n}")

    async with dashboard(tmp_path, browser, "accounts", accounts=(), prepare=some, height=600) as (_, page):
        await page.get_by_label("Select all on this page").check()
        await page.get_by_role("main").get_by_role("button", name="Delete").first.click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("heading")).to_be_in_viewport()
        await expect(dialog.get_by_role("button", name="Cancel")).to_be_in_viewport()
        await expect(dialog.get_by_role("listitem")).to_have_text([f"team-{n}" for n in range(1, 41)])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"priority": 5}, "Changed by another admin: Priority: 0 → 5."),
        ({"name": "crew"}, "Changed by another admin: Name: team-a → crew."),
        ({"note": "x", "tags": ["eu"]}, "Changed by another admin: Tags: – → eu; Note: – → x."),
    ],
)
async def test_a_conflict_names_what_was_changed(
    tmp_path: Path, browser: Browser, change: dict[str, object], told: str
) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        await page.get_by_role("button", name="Actions for team-a").click()
        await page.get_by_role("menuitem", name="Rename").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("mine")
        account = next(each for each in service.parts.pool if each.name == "team-a")
        answer = await service.admin("PUT", f"/api/accounts/{account.id}", change)
        assert answer.status == 200
        await dialog.get_by_role("button", name="Rename").click()
        await expect(dialog.get_by_text(told)).to_be_visible()


@pytest.mark.parametrize("width", [390, *SIZES])
async def test_what_acts_on_the_selected_covers_neither_the_last_row_nor_the_pager(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with dashboard(
        tmp_path, browser, "accounts", accounts=(), prepare=many, width=width, has_touch=width < 600
    ) as (_, page):
        await page.get_by_role("checkbox", name="Select team-000").check()
        bar = page.locator("main .bulk")
        await expect(bar).to_be_visible()
        await page.evaluate("() => scrollTo(0, document.documentElement.scrollHeight)")
        boxes = [await each.bounding_box() for each in (row(page, "team-099"), bar)]
        assert boxes[0] and boxes[1] and boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]
        following = page.get_by_role("button", name="Next")
        box = await following.bounding_box()
        assert box is not None
        # Playwright's own click would scroll until nothing covers it.
        await page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        await expect(page.get_by_text("101–200 of 201")).to_be_visible()


async def test_undo_of_a_rename_leaves_the_name_that_another_admin_has_given_since(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        account = next(each for each in service.parts.pool if each.name == "team-a")
        await page.get_by_role("button", name="Actions for team-a").click()
        await page.get_by_role("menuitem", name="Rename").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("mine")
        await dialog.get_by_role("button", name="Rename").click()
        undo = page.get_by_role("button", name="Undo")
        await expect(undo).to_be_visible()
        assert (await service.admin("PUT", f"/api/accounts/{account.id}", {"name": "theirs"})).status == 200
        await undo.click()
        told = "Changed by another admin: Name: mine → theirs."
        await expect(page.get_by_role("alert").get_by_text(told)).to_be_visible()
        assert service.parts.pool[account.id].name == "theirs"
