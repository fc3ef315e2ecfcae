"""Tables on a phone: a line a thing, one control for the order, the filters behind one button."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.dashboard import dashboard, goto, row
from tests.e2e.furniture import furnish
from tests.e2e.test_layout import overflows
from tests.service import MESSAGE_HEADERS, Service, message

PHONE = {"width": 390, "height": 844, "has_touch": True}
LINE_PX = 62
"""At most: two lines of text, a button of 44 px, and what is around them."""

HEIGHTS = "(rows) => rows.map((row) => Math.round(row.getBoundingClientRect().height))"


async def one_more(service: Service) -> None:
    await furnish(service)
    await service.add_account("team-10")
    await service.add_account("team-9")


@pytest.mark.parametrize("view", ["accounts", "sessions", "tokens", "requests"])
async def test_each_thing_is_one_line(tmp_path: Path, browser: Browser, view: str) -> None:
    async with dashboard(tmp_path, browser, view, accounts=(), prepare=furnish, **PHONE) as (_, page):
        rows = page.locator("main tbody [tabindex]")
        await expect(rows.first).to_be_visible()
        heights = await rows.evaluate_all(HEIGHTS)
        assert len(heights) >= 3 and max(heights) <= LINE_PX, heights


async def test_a_line_unfolds_and_has_all_then(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=(), prepare=furnish, **PHONE) as (_, page):
        line = row(page, "team-failing")
        error = line.get_by_role("button", name="the token endpoint answered 502")
        await expect(error).to_be_hidden()
        details = page.get_by_role("button", name="Details of team-failing")
        await details.tap()
        await expect(details).to_have_attribute("aria-expanded", "true")
        await expect(error).to_be_visible()
        await expect(line.get_by_role("button", name="Refresh now")).to_be_visible()
        await details.tap()
        await expect(error).to_be_hidden()


async def test_the_filters_and_the_order_are_behind_one_button(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=(), prepare=one_more, **PHONE) as (_, page):
        chip, order = page.locator("button[value=invalid]"), page.get_by_label("Sort", exact=True)
        await expect(chip).to_be_hidden()
        await expect(order).to_be_hidden()
        filters = page.get_by_role("button", name="Filters")
        await filters.tap()
        await order.select_option(label="Name ↓")
        called = page.get_by_role("rowheader").get_by_role("link", name=re.compile("^team-(9|10)$"))
        await expect(called).to_have_text(["team-10", "team-9"])
        await chip.tap()
        await expect(page.locator("main tbody [role=row]")).to_have_count(1)
        await filters.tap()
        await expect(chip).to_be_hidden()
        await expect(filters).to_have_attribute("data-on", "")


@pytest.mark.parametrize("view", ["requests", "events"])
async def test_the_controls_of_a_log_are_too(tmp_path: Path, browser: Browser, view: str) -> None:
    async with dashboard(tmp_path, browser, view, accounts=(), prepare=furnish, **PHONE) as (_, page):
        choice = page.get_by_role("main").get_by_role("combobox").first
        await expect(choice).to_be_hidden()
        await page.get_by_role("button", name="Filters").tap()
        await expect(choice).to_be_visible()


async def test_a_wide_window_has_them_in_sight(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (_, page):
        await expect(page.get_by_role("button", name="Invalid")).to_be_visible()
        await expect(page.get_by_role("button", name="Filters")).to_be_hidden()
        await expect(page.get_by_label("Sort", exact=True)).to_be_hidden()


LONG = "Platform team, production, batch jobs of the night (Frankfurt"

BEYOND = "(el) => el.scrollWidth - el.clientWidth"
"""By how many px an element scrolls sideways."""


async def of_long_names(service: Service) -> None:
    for n in (1, 2):
        await service.add_account(f"team-{n}")
        *_, account = service.parts.pool
        await service.parts.pool.update(account.id, name=f"{LONG} {n})")
        key = await service.add_key(f"{LONG} {n})")
        await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(), key=key)


@pytest.mark.parametrize(
    ("view", "buttons"),
    [("accounts", ["Delete", "Why this account", "Replace key", "Edit"]), ("tokens", ["Rotate", "Revoke"])],
)
async def test_a_dialog_about_a_long_name_is_not_wider_than_itself(
    tmp_path: Path, browser: Browser, view: str, buttons: list[str]
) -> None:
    async with dashboard(tmp_path, browser, view, accounts=(), prepare=of_long_names, width=360) as (_, page):
        await page.get_by_role("link", name=LONG).first.click()
        dialog = page.get_by_role("dialog")
        for name in buttons:
            await page.get_by_role("main").get_by_role("button", name=name).first.click()
            await expect(dialog).to_be_visible()
            assert await dialog.evaluate(BEYOND) == 0, name
            await page.keyboard.press("Escape")
            await expect(page.locator("dialog")).to_have_count(0)


@pytest.mark.parametrize("by", ["account", "token"])
async def test_usage_by_what_has_a_long_name_does_not_scroll_sideways(
    tmp_path: Path, browser: Browser, by: str
) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=of_long_names, width=360) as (_, page):
        await goto(page, f"usage?by={by}")
        await expect(page.get_by_role("button", name=LONG).first).to_be_visible()
        assert await overflows(page) == []
