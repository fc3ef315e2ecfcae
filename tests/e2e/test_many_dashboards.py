"""Several dashboards at once: all show the same, and nobody's change is lost without a word."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from tests.e2e.dashboard import RunningClock, display, row, same, visit
from tests.e2e.traffic import traffic
from tests.service import Service, serve

NAMES = tuple(f"team-{n}" for n in range(10))


async def test_five_dashboards_show_the_same(tmp_path: Path, browser: Browser) -> None:
    async with (
        serve(tmp_path, accounts=NAMES, clock=RunningClock()) as service,
        contextlib.AsyncExitStack() as stack,
    ):
        pages = [await stack.enter_async_context(visit(browser, service, "accounts")) for _ in range(5)]

        async def edit(page: Page, n: int) -> None:
            await page.get_by_role("button", name=f"Actions for team-{n}", exact=True).click()
            await page.get_by_role("menuitem", name="Deactivate").click()
            await page.get_by_role("button", name=f"Actions for team-{n + 5}", exact=True).click()
            await page.get_by_role("menuitem", name="Rename").click()
            await page.get_by_role("dialog").get_by_label("Name").fill(f"renamed-{n}")
            await page.get_by_role("dialog").get_by_role("button", name="Rename").click()
            await expect(page.get_by_role("dialog")).to_have_count(0)

        async with traffic(service, per_s=100):
            await asyncio.gather(*(edit(page, n) for n, page in enumerate(pages)))
        statuses = {account.name: account.status.value for account in service.parts.pool}
        assert statuses == {f"team-{n}": "inactive" for n in range(5)} | {
            f"renamed-{n}": "active" for n in range(5)
        }
        for page in pages:  # rows stay in their places under the pointer, and under the focus
            await page.mouse.move(5, 5)
            await page.evaluate("() => document.activeElement.blur()")
        for page in pages[1:]:
            await same(pages[0], page, within_s=8)


async def test_a_change_is_seen_by_all_at_once(tmp_path: Path, browser: Browser) -> None:
    async with (
        serve(tmp_path, accounts=NAMES, clock=RunningClock()) as service,
        contextlib.AsyncExitStack() as stack,
    ):
        pages = [await stack.enter_async_context(visit(browser, service, "accounts")) for _ in range(5)]
        await service.add_account("news")
        began = time.monotonic()
        await asyncio.gather(*(expect(row(page, "news")).to_be_visible() for page in pages))
        print(f"seen by five dashboards within {(time.monotonic() - began) * 1000:.0f} ms")


async def test_who_renames_what_another_has_renamed_is_asked(tmp_path: Path, browser: Browser) -> None:
    async with (
        serve(tmp_path, accounts=("team-a",), clock=RunningClock()) as service,
        visit(browser, service, "accounts") as mine,
    ):

        async def open_rename() -> None:
            await mine.get_by_role("button", name="Actions for ").click()
            await mine.get_by_role("menuitem", name="Rename").click()
            await dialog.get_by_label("Name").fill("mine")

        dialog = mine.get_by_role("dialog")
        await open_rename()
        await rename(service, "theirs")
        await dialog.get_by_role("button", name="Rename").click()
        await expect(dialog).to_contain_text("Changed by another admin")
        await expect(dialog).to_contain_text("Name: team-a → theirs")
        assert [account.name for account in service.parts.pool] == ["theirs"]
        await dialog.get_by_role("button", name="Use theirs").click()
        await expect(row(mine, "theirs")).to_be_visible()

        await open_rename()
        await rename(service, "theirs again")
        await dialog.get_by_role("button", name="Rename").click()
        await dialog.get_by_role("button", name="Overwrite").click()
        await expect(row(mine, "mine")).to_be_visible()


async def test_a_dialog_about_what_another_has_deleted_says_so(tmp_path: Path, browser: Browser) -> None:
    async with (
        serve(tmp_path, accounts=("team-a", "team-b"), clock=RunningClock()) as service,
        visit(browser, service, "accounts") as page,
    ):
        await page.get_by_role("button", name="Actions for team-a").click()
        await page.get_by_role("menuitem", name="Rename").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_label("Name")).to_be_focused()
        await service.parts.pool.remove(next(a.id for a in service.parts.pool if a.name == "team-a"))
        await expect(dialog).to_contain_text("Deleted by another admin")
        await expect(dialog.get_by_role("button")).to_have_text(["Close"])
        await dialog.get_by_role("button", name="Close").click()
        await expect(dialog).to_have_count(0)


async def test_logging_out_ends_every_tab_of_the_sign_in(tmp_path: Path, browser: Browser) -> None:
    async with (
        serve(tmp_path, accounts=("team-a",), clock=RunningClock()) as service,
        visit(browser, service, "accounts") as page,
        visit(browser, service, "accounts") as other,
    ):
        second = await page.context.new_page()
        await second.goto(page.url)
        await expect(row(second, "team-a")).to_be_visible()
        await (await display(page)).get_by_role("button", name="Log out").click()
        await expect(page.get_by_label("Admin key")).to_be_visible()
        await expect(second.get_by_label("Admin key")).to_be_visible()
        await expect(row(other, "team-a")).to_be_visible()
        await expect(page.get_by_role("main")).not_to_contain_text("team-a")


async def rename(service: Service, name: str) -> None:
    """As another admin does."""
    [account] = service.parts.pool
    await service.parts.pool.update(account.id, name=name)


async def test_a_question_about_what_another_has_deleted_is_withdrawn(
    tmp_path: Path, browser: Browser
) -> None:
    async with (
        serve(tmp_path, accounts=("team-a", "team-b", "team-c"), clock=RunningClock()) as service,
        visit(browser, service, "accounts") as page,
    ):
        ids = {account.name: account.id for account in service.parts.pool}
        dialog = page.get_by_role("dialog")
        await page.get_by_role("button", name="Actions for team-a").click()
        await page.get_by_role("menuitem", name="Delete").click()
        await expect(dialog.get_by_role("button", name="Delete team-a")).to_be_visible()
        await service.admin("DELETE", f"/api/accounts/{ids['team-a']}")
        await expect(dialog).to_contain_text("Deleted by another admin")
        await expect(dialog.get_by_role("button")).to_have_text(["Close"])
        await dialog.get_by_role("button", name="Close").click()
        await expect(page.get_by_role("alert")).to_have_count(0)

        await page.get_by_label("Select all on this page").check()
        await page.get_by_role("main").get_by_role("button", name="Deactivate").first.click()
        await expect(dialog.get_by_role("listitem")).to_have_text(["team-b", "team-c"])
        await service.admin("DELETE", f"/api/accounts/{ids['team-b']}")
        await expect(dialog.get_by_role("listitem").first).to_have_text("team-b · Deleted by another admin")
        await dialog.get_by_role("button", name="Deactivate 2 accounts").click()
        await expect(row(page, "team-c")).to_contain_text("Inactive")
        await expect(page.get_by_role("alert")).to_have_count(0)
