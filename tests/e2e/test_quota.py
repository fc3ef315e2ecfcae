"""How much of each limit is used is seen at a glance: in the table, on the account's page, and for all together."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, Locator, Page, expect

from proxy.accounts.quota import Window
from tests.e2e.dashboard import dashboard, display, goto, row
from tests.e2e.furniture import use_quota
from tests.service import Service

RAW = re.compile(r"\b\d+[hd]_\w+|\b(input|output)_tokens|unified|ratelimit")
"""What windows are called in headers and in the API."""


async def furnish(service: Service) -> None:
    for name in ("calm", "high", "over", "unused"):
        await service.add_login(name)
    key, _ = await service.add_account("key")
    use_quota(service, "calm", {"5h": 0.2, "7d": 0.25})
    use_quota(service, "high", {"5h": 0.1, "7d": 0.834})
    use_quota(service, "over", {"5h": 0.96, "7d_opus": 0.975})
    requests = Window(limit=4000, remaining=2000, resets_at=service.clock.now() + 60)
    service.parts.pool.quotas.set(
        key.id, {"requests": requests, "input_tokens": Window(limit=5, remaining=4)}
    )
    service.parts.quota.look()


def names(page: Page) -> Locator:
    return page.get_by_role("rowheader").get_by_role("link")


async def test_the_table_shows_the_tightest_window_and_is_sorted_by_it(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=(), prepare=furnish) as (_, page):
        for name, text in {
            "calm": r"25 %\s+7 days, resets in 1h 59m",
            "high": r"83 %\s+7 days, resets in 1h 59m",
            "over": r"97 %\s+Opus, 7 days, resets in 1h 59m",
            "key": r"50 %\s+Requests per minute",
            "unused": "–",
        }.items():
            cell = row(page, name).get_by_role("cell").filter(has=page.locator(".meter"))
            await expect(cell).to_have_text(re.compile(rf"^\s*{text}\s*$"), use_inner_text=True)
        over = row(page, "over").locator(".c-quota")
        await expect(over).to_have_attribute("title", "Opus, 7 days: 97 %, nearly used up")
        await expect(over.locator(".meter")).to_have_attribute("data-kind", "error")
        await expect(row(page, "high").locator(".meter")).to_have_attribute("data-kind", "warn")
        await page.get_by_role("button", name="Quota").click()
        await expect(names(page)).to_have_text(["calm", "key", "high", "over", "unused"])
        await page.get_by_role("button", name="Quota").click()
        await expect(names(page)).to_have_text(["over", "high", "key", "calm", "unused"])
        assert not RAW.search(await page.get_by_role("main").inner_text())


async def test_a_window_is_not_shown_as_used_after_its_reset(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=(), prepare=furnish) as (service, page):
        await expect(row(page, "calm").locator(".c-quota")).to_contain_text("25 %")
        service.clock.advance(3 * 3600)
        await expect(row(page, "calm").locator(".c-quota")).to_have_text("–", timeout=70_000)


async def test_an_account_shows_each_of_its_windows_and_their_past(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=furnish) as (service, page):
        account = next(account for account in service.parts.pool if account.name == "over")
        await goto(page, f"accounts/{account.id}")
        windows = page.locator(".windows li")
        await expect(windows).to_have_count(2)
        await expect(windows.first).to_contain_text(
            re.compile("Opus, 7 days.*97 %, nearly used up.*in 1h 59m")
        )
        await expect(windows.last).to_contain_text(re.compile("5 hours.*96 %, nearly used up.*in 59m"))
        told = "Quota over time: 5 hours at most 96 %, now 96 %; Opus, 7 days at most 97 %, now 97 %"
        await expect(page.get_by_role("img", name=told)).to_be_visible()
        week = page.get_by_role("group", name="Quota over time").get_by_role("button", name="last 7 days")
        await week.click()
        await expect(week).to_have_attribute("aria-pressed", "true")
        await page.get_by_role("img", name=told).press("ArrowRight")
        await expect(page.get_by_text(re.compile(r"· 5 hours 96 % · Opus, 7 days 97 %$"))).to_be_visible()
        use_quota(service, "over", {"5h": 0.1})
        await expect(windows).to_have_count(1)
        await expect(windows).to_contain_text("10 %")
        assert not RAW.search(await page.get_by_role("main").inner_text())


async def test_the_overview_says_what_is_left_and_what_comes_back_next(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=furnish) as (service, page):
        card = page.locator("section.panel", has=page.get_by_role("heading", name="Capacity"))
        await expect(card).to_contain_text(
            re.compile("36 % left.*on average over 4 of 5 accounts in service")
        )
        resets = card.get_by_role("listitem")
        await expect(resets).to_have_count(3)
        await expect(resets.first).to_contain_text(re.compile("over 5 hours resets in 59m"))
        await expect(card).to_contain_text(re.compile(r"is limited next, at this pace in (1h )?\d+m"))
        await expect(card).not_to_contain_text("At this pace")
        for used in range(10):
            service.clock.advance(60)
            use_quota(service, "calm", {"5h": 0.25 + used / 20})
            service.parts.quota.look()
        await expect(card).to_contain_text(re.compile(r"At this pace empty in (1h )?\d+m"))


async def test_times_of_resets_follow_the_chosen_mode(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=(), prepare=furnish) as (_, page):
        await (await display(page)).get_by_label("Times").select_option("utc")
        await expect(row(page, "calm").locator(".c-quota")).to_contain_text("7 days, resets at 12:30 UTC")
