"""What has happened and who did it: day heads, columns, filters, times in the chosen mode, older pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from proxy.dashboard.revisions import EVENTS, FIRST_LINES
from proxy.errors import StorageError
from proxy.feed import Happened
from proxy.storage.json_files import JsonFiles
from tests.e2e.dashboard import dashboard, display, goto, row


def events(page: Page) -> Locator:
    """The rows of events, without the heads of days."""
    return page.get_by_role("log").locator("tbody tr[data-kind]")


async def test_a_change_is_told_with_who_made_it_and_what_was_before(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "events") as (service, page):
        await goto(page, "events")
        [account, *_] = service.parts.pool
        await service.admin("PUT", f"/api/accounts/{account.id}", {"name": "crew"})
        found = events(page).first
        await expect(found).to_contain_text(f"{account.name} is called crew now")
        await expect(found).to_contain_text(f"Name: {account.name} → crew")
        await expect(found.locator(".c-by")).to_have_text("admin key127.0.0.1")
        await expect(found.get_by_role("link", name="crew")).to_have_attribute(
            "href", f"#/accounts/{account.id}"
        )


async def test_days_and_times_follow_the_chosen_mode(tmp_path: Path, browser: Browser) -> None:
    """It is 10:30 UTC, and 16:15 where the browser is."""
    async with dashboard(tmp_path, browser, "events") as (service, page):
        await goto(page, "events")
        [account, *_] = service.parts.pool
        until = 1_790_640_000.0  # 28 September 2026, 24:00 UTC
        service.parts.pool.limit(account.id, until, "429, resets 2026-09-29T00:00:00.000Z")
        found = events(page).filter(has_text="is rate limited")
        await expect(found).to_contain_text("resets 29 Sept, 05:45:00 GMT+5:45")
        await expect(found.locator("time")).to_contain_text("16:")
        await (await display(page)).get_by_label("Times").select_option("utc")
        await expect(found).to_contain_text("resets 29 Sept, 00:00:00 UTC")
        await expect(found.locator("time")).to_contain_text("10:")
        day = page.get_by_role("heading", name=re.compile("Monday,? 28 September 2026"))
        await expect(day).to_be_visible()


async def test_a_time_of_a_change_is_told_in_the_chosen_mode(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "events") as (service, page):
        await goto(page, "events")
        made = await service.admin(
            "POST", "/api/tokens", {"name": "ci", "expires_at": "2030-01-01T00:00:00Z"}
        )
        path = f"/api/tokens/{made.json()['token']['id']}"
        await service.admin("PUT", path, {"expires_at": "2031-01-01T00:00:00Z"})
        found = events(page).filter(has_text="ci was changed")
        local = "Expires: 1 Jan 2030, 05:45:00 GMT+5:45 → 1 Jan 2031, 05:45:00 GMT+5:45"
        await expect(found).to_contain_text(local)
        await (await display(page)).get_by_label("Times").select_option("utc")
        await expect(found).to_contain_text("Expires: 1 Jan 2030, 00:00:00 UTC → 1 Jan 2031, 00:00:00 UTC")


async def test_filters_are_in_the_address_and_hide_the_others(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "events") as (service, page):
        await goto(page, "events")
        await service.admin("POST", "/api/tokens", {"name": "ci"})
        rows = events(page)
        await page.get_by_label("Kind").select_option("token")
        await page.get_by_label("By whom").select_option("admin")
        await expect(rows).to_have_count(1)
        await expect(page).to_have_url(re.compile(r"kind=token&actor=admin"))
        await page.get_by_label("By whom").select_option("")
        await page.get_by_role("searchbox").fill("CI was")
        await expect(rows).to_have_count(1)
        await page.get_by_role("searchbox").fill("nothing like it")
        await expect(page.get_by_text("No event matches.")).to_be_visible()


async def test_older_events_come_from_the_audit_log(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FIRST_LINES, EVENTS, 20)
    async with dashboard(tmp_path, browser, "events") as (service, page):
        for n in range(250):
            service.parts.feed.tell(Happened("server.tested", f"test {n}"))
        await service.parts.archive.save()
        await page.reload()
        await goto(page, "events")
        rows = events(page)
        more = page.get_by_role("button", name="Load older events")
        await expect(rows.nth(19)).to_be_visible()
        await expect(rows.nth(100)).to_have_count(0)
        await more.click()
        await expect(rows.nth(219)).to_be_visible()  # and what may have happened meanwhile
        await more.click()
        await expect(rows.last).to_contain_text("started")
        await expect(more).to_be_hidden()
        await expect(rows).to_have_count(service.parts.revisions.rev("events"))


@pytest.mark.files  # the chain of a shared store is written by another way
async def test_a_change_that_is_not_in_the_audit_log_yet_is_told(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*args: object, **kwargs: object) -> None:
        raise StorageError("no space left on device")

    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        await goto(page, "accounts")
        [account, *_] = service.parts.pool
        with monkeypatch.context() as patch:
            patch.setattr(JsonFiles, "append", full)
            await row(page, account.name).get_by_role("button", name="Actions for").click()
            await page.get_by_role("menuitem", name="Deactivate").click()
            told = page.get_by_role("alert").filter(has_text="it is done, but not in the audit log yet")
            await expect(told).to_be_visible()
        assert service.status(account.name) == "inactive"
