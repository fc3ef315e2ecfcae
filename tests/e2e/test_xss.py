"""Names, user agents and errors are text, whatever stands in them."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, Page, expect

from tests.e2e.dashboard import VIEWS, dashboard, goto
from tests.e2e.hostile import HOSTILE, as_agent, plant
from tests.service import Service

ARMED = "window.hits = 0; window.hit = () => { window.hits += 1; }; window.alert = window.hit"


async def poison(service: Service) -> None:
    """Hostile names, user agents and errors."""
    await plant(service)
    pool, now = service.parts.pool, service.clock.now()
    for account in tuple(pool):
        text = account.name
        pool.change(account.id, lambda a, text=text: a.refresh_failed(text, now))
        pool.invalidate(account.id, text)


async def unharmed(page: Page) -> None:
    assert await page.evaluate("window.hits") == 0
    # Nothing of the texts has become an element.
    assert (
        await page.locator("iframe, img, base, meta[http-equiv], object, embed, form[action^='//']").count()
        == 0
    )
    assert (
        await page.locator("[onload], [onerror], [ontoggle], [onfocus], a[href^='javascript:']").count() == 0
    )


async def test_hostile_text_is_shown_as_it_is(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=poison, init=ARMED) as (_, page):
        for view in VIEWS:
            await goto(page, view)
            await unharmed(page)
        for view in ("accounts", "tokens", "sessions"):
            await goto(page, view)
            table = page.get_by_role("main").get_by_role("table").first
            await expect(table.locator("tbody [data-id]").first).to_be_visible()
            shown = await table.text_content()
            texts = map(as_agent, HOSTILE) if view == "sessions" else HOSTILE
            assert [text for text in texts if text not in str(shown)] == []
        await unharmed(page)


async def test_a_hostile_account_can_be_opened_and_deleted(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=("$& {name} <b>",), init=ARMED) as (service, page):
        await goto(page, "accounts")
        await page.get_by_role("link", name="$& {name} <b>").click()
        await expect(page.get_by_role("heading", name="$& {name} <b>")).to_be_visible()
        await unharmed(page)
        assert len(service.parts.pool) == 1


async def test_hostile_addresses_are_no_harm(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, init=ARMED) as (_, page):
        for route in (
            "accounts?q=<img src=x onerror=hit()>",
            "accounts/%3Cimg%20src=x%20onerror=hit()%3E",
            "accounts/%ZZ",
            "javascript:hit()",
            "constructor",
            "__proto__",
            "toString?sort=__proto__&status=constructor&p=-1",
            "accounts?sort=-constructor&p=99999999999999999999&status=%00",
        ):
            await page.evaluate("(hash) => { location.hash = hash; }", f"#/{route}")
            await expect(page.get_by_role("main").get_by_role("heading", level=2)).to_be_visible()
            await unharmed(page)
