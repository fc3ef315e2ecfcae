"""Countdowns follow the server's time, whatever this machine's clock says, sleeps or jumps."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.cable import cabled
from tests.e2e.dashboard import START, dashboard, goto, row, take_clock
from tests.e2e.traffic import traffic
from tests.service import Service

HOUR = 3600.0
HIDDEN_S = 600.0 if "E2E_LONG" in os.environ else 10.0
NAMES = tuple(f"team-{n}" for n in range(20))
HIDE = """
  let hidden = false;
  Object.defineProperty(document, "hidden", { get: () => hidden });
  Object.defineProperty(document, "visibilityState", { get: () => (hidden ? "hidden" : "visible") });
  window.setHidden = (is) => { hidden = is; document.dispatchEvent(new Event("visibilitychange")); };
"""
LEFT = re.compile(r"(\d+)m (\d\d)s")


async def limited(service: Service) -> None:
    """One account that comes back in half an hour."""
    account, _ = await service.add_account("team-limited")
    service.parts.pool.limit(account.id, service.clock.now() + HOUR / 2, "the 5h window is used up")


async def off_by(service: Service, page: Page) -> float:
    """Seconds between the countdown that is shown and the server's truth."""
    [account] = service.parts.pool
    text = await row(page, "team-limited").inner_text()
    found = LEFT.search(text)
    assert found is not None, text
    shown = int(found[1]) * 60 + int(found[2])
    assert account.rate_limited_until is not None
    return abs(account.rate_limited_until - service.clock.now() - shown)


async def test_every_browser_test_has_the_same_time(tmp_path: Path, browser: Browser) -> None:
    """The server's and the page's, whatever the machine's is; and in the same zone."""
    async with dashboard(tmp_path, browser, "settings") as (service, page):
        await page.reload()
        now, zone_min = await page.evaluate("() => [+new Date(), -new Date().getTimezoneOffset()]")
        assert abs(now / 1000 - service.clock.now()) < 2
        assert START <= service.clock.now() < START + 120
        assert zone_min == 5 * 60 + 45
        await expect(page.get_by_text("Server clock differs")).to_have_count(0)


@pytest.mark.parametrize("skew_s", [HOUR, -HOUR])
async def test_a_wrong_clock_of_the_browser_s_machine_does_not_matter(
    tmp_path: Path, browser: Browser, skew_s: float
) -> None:
    wrong = f"const now = Date.now; Date.now = () => now() + {skew_s * 1000}"
    async with dashboard(tmp_path, browser, "accounts", accounts=(), prepare=limited, init=wrong) as (
        service,
        page,
    ):
        assert await off_by(service, page) <= 1.2
        await goto(page, "settings")
        await expect(page.get_by_text(re.compile(r"Server clock differs by 3[56]\d\d s"))).to_be_visible()


async def test_a_clock_that_is_set_while_the_page_is_open_does_not_matter(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=(), prepare=limited) as (service, page):
        await page.evaluate("() => { const now = Date.now; Date.now = () => now() + 3_600_000; }")
        await page.wait_for_timeout(2500)  # two ticks
        assert await off_by(service, page) <= 1.2


async def test_after_a_sleep_the_countdown_is_right_within_a_second(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=(), prepare=limited) as (service, page):
        await take_clock(page)
        await page.reload()
        await expect(row(page, "team-limited")).to_be_visible()
        # Half an hour less some: the page's timers stand still meanwhile, and the server's time goes on.
        service.clock.advance(1500)
        await page.clock.fast_forward("25:00")
        await page.wait_for_timeout(1000)
        assert await off_by(service, page) <= 1.2


async def test_a_countdown_never_goes_below_zero(tmp_path: Path, browser: Browser) -> None:
    async def nearly(service: Service) -> None:
        account, _ = await service.add_account("team-limited")
        service.parts.pool.limit(account.id, service.clock.now() + 2, "the 5h window is used up")
        await service.add_login("team-login", expires_in=2)

    async with dashboard(tmp_path, browser, "accounts", accounts=(), prepare=nearly) as (_, page):
        await page.wait_for_timeout(3000)
        text = await page.get_by_role("main").inner_text()
        assert not re.search(r"-\d+[smh]", text), text


async def test_a_hidden_tab_gets_a_tenth_and_catches_up_when_it_is_seen(
    tmp_path: Path, browser: Browser
) -> None:
    async with (
        cabled(tmp_path, browser, "accounts", accounts=NAMES, allow=None, init=HIDE) as (service, line, page),
        traffic(service, per_s=200),
    ):

        async def carried(for_s: float) -> float:
            before = line.carried
            await asyncio.sleep(for_s)
            return (line.carried - before) / for_s

        seen = await carried(2)
        await page.evaluate("() => window.setHidden(true)")
        await asyncio.sleep(0.3)
        hidden = await carried(HIDDEN_S)
        print(f"{seen / 1000:.1f} kB/s seen, {hidden / 1000:.1f} kB/s hidden")
        assert hidden < seen / 10
        await service.add_account("meanwhile")
        await page.evaluate("() => window.setHidden(false)")
        await expect(row(page, "meanwhile")).to_be_visible(timeout=1000)
