"""What a table keeps: the page that the address asks for."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, expect

from tests.e2e.dashboard import dashboard, live, row
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
        assert page.url.endswith("#/accounts?p=3")
