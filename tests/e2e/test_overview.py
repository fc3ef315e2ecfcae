"""The overview: one verdict, what needs somebody with what solves it, and the first steps of a new proxy."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, Locator, Page, expect

from tests.e2e.dashboard import dashboard
from tests.e2e.furniture import furnish
from tests.e2e.test_states import without_keys
from tests.service import Service


def card(page: Page, title: str) -> Locator:
    return page.locator("section.panel", has=page.get_by_role("heading", name=title))


async def test_the_verdict_counts_accounts_and_leads_to_them(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=furnish) as (_, page):
        verdict = page.get_by_role("region", name="Health")
        await expect(verdict).to_contain_text(
            "Degraded. 3 of 6 accounts can serve requests. The next limit ends in 3h 29m."
        )
        await expect(verdict).not_to_contain_text("of 6 accounts invalid")
        await verdict.get_by_role("link", name="1 Invalid").click()
        await expect(page).to_have_url(f"{page.url.partition('#')[0]}#/accounts?status=invalid")


async def test_what_needs_somebody_says_why_and_has_a_button(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=furnish) as (_, page):
        needs = card(page, "Needs attention").get_by_role("listitem")
        await expect(needs).to_have_count(2)
        await expect(needs.filter(has_text="team-failing")).to_contain_text(
            "team-failing cannot renew its token, which ends in 6h 29m: the token endpoint answered 502 api_error"
        )
        await expect(needs.filter(has_text="team-invalid")).to_contain_text("has to sign in again: the token")
        await needs.filter(has_text="team-failing").get_by_role("button", name="Refresh now").click()
        await expect(needs).to_have_count(1)  # the simulator gives a new token
        await needs.get_by_role("button", name="Re-authorise").click()
        await expect(page.get_by_role("dialog")).to_contain_text("Re-authorise team-invalid")


async def test_more_that_need_somebody_than_are_listed_are_counted(tmp_path: Path, browser: Browser) -> None:
    async def troubled(service: Service) -> None:
        for n in range(11):
            account, _ = await service.add_account(f"team-{n}")
            service.parts.pool.invalidate(account.id, "refused")

    async with dashboard(tmp_path, browser, accounts=(), prepare=troubled) as (_, page):
        needs = card(page, "Needs attention").get_by_role("listitem")
        await expect(needs).to_have_count(9)
        await needs.last.get_by_role("link", name="and 3 more").click()
        await expect(page.locator("body[data-view=accounts]")).to_be_attached()


async def test_the_first_steps_tick_themselves(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=without_keys) as (service, page):
        steps = card(page, "First steps")
        done = steps.get_by_role("listitem").filter(has_text="(done)")
        await expect(steps.get_by_role("listitem")).to_have_count(4)
        await expect(done).to_have_count(0)
        await expect(card(page, "Needs attention")).to_be_hidden()
        _, key = await service.parts.keys.add("laptop")
        await expect(done).to_have_count(1)
        await service.add_account("team-a")
        await expect(done).to_have_count(2)
        answer = await service.message(headers=[("x-api-key", key)])
        assert answer.status == 200, answer.body
        await expect(steps).to_be_hidden()


async def test_figures_have_their_errors_and_their_first_byte(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=furnish) as (_, page):
        figures = page.locator(".figures")
        await expect(figures).to_contain_text("errors, last hour00.0 % of 9 requests")
        await expect(figures).to_contain_text("p95")
        await expect(figures).to_contain_text("of last hour's input from the cache")
        await expect(figures).to_contain_text("yesterday by now")
