"""No secret is in what the browser gets: pages, storage, frames, requests, exports; but a new key, once."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, WebSocket, expect

from tests.canaries import leaked
from tests.e2e.dashboard import VIEWS, RunningClock, goto, visit
from tests.service import ADMIN_KEY, CLIENT_KEY, serve, upstream_key

STORED = """async () => JSON.stringify([
  { ...localStorage }, { ...sessionStorage }, document.cookie, await indexedDB.databases(), await caches.keys(),
  history.state, location.href, performance.getEntries().map((entry) => entry.name),
])"""


async def in_dom(page: Page) -> str:
    """Elements, and what was typed into fields."""
    fields = await page.evaluate(
        "() => [...document.querySelectorAll('input, textarea')].map((el) => el.value)"
    )
    return await page.content() + json.dumps(fields)


async def test_no_secret_reaches_the_page(
    tmp_path: Path, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "proxy")
    crossed: list[str] = []

    def listen(socket: WebSocket) -> None:
        for event in ("framesent", "framereceived"):
            socket.on(event, lambda data: crossed.append(str(data)))

    async with serve(tmp_path, accounts=("team-a",), clock=RunningClock()) as service:
        _, grant = await service.add_login("team-login")
        secrets = [ADMIN_KEY, CLIENT_KEY, upstream_key("team-a"), grant.access_token, grant.refresh_token]
        async with visit(browser, service, signed_in=False) as page:
            page.on("websocket", listen)
            page.on("request", lambda request: crossed.append(request.url))
            page.on("console", lambda message: crossed.append(message.text))
            await page.get_by_label("Admin key").fill(ADMIN_KEY)
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_text("Live", exact=True)).to_be_visible()
            await service.message()
            await page.evaluate("() => fetch('oauth/authorize').then((answer) => answer.text())")
            for view in VIEWS:
                await goto(page, view)
                assert leaked(await in_dom(page), secrets) == []
            account = next(a for a in service.parts.pool if a.name == "team-login")
            await goto(page, f"accounts/{account.id}")
            assert leaked(await in_dom(page), secrets) == []
            assert leaked(str(await page.evaluate(STORED)), secrets) == []
            assert len(crossed) > 20 and leaked("\n".join(crossed), secrets) == []
            [cookie] = await page.context.cookies()
            assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
            assert cookie["value"] not in await page.evaluate("() => document.cookie")
            assert leaked(caplog.text, [*secrets, cookie["value"]]) == []


async def test_a_new_client_key_is_shown_once_and_then_nowhere(tmp_path: Path, browser: Browser) -> None:
    async with (
        serve(tmp_path, accounts=("team-a",), clock=RunningClock()) as service,
        visit(browser, service, "tokens") as page,
    ):
        await page.get_by_role("button", name="Create client key").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("laptop")
        await dialog.get_by_role("button", name="Create client key").click()
        await expect(dialog).to_contain_text("shown only once")
        key = (await dialog.locator("pre").first.inner_text()).strip()
        assert (await service.send("GET", "/v1/models", key=key)).status == 200
        await dialog.get_by_role("button", name="Done").click()
        await expect(dialog.or_(page.get_by_role("dialog"))).to_have_count(0)
        for view in VIEWS:
            await goto(page, view)
            assert leaked(await in_dom(page), [key]) == []
        assert leaked(str(await page.evaluate(STORED)), [key]) == []
