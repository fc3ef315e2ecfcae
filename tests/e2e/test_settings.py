"""Settings: what runs here, a test notification, and accounts that move by a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from proxy.storage import passphrase as sealed
from tests.canaries import leaked
from tests.e2e.dashboard import RunningClock, content, dashboard, goto, visit
from tests.echo import Script, echo
from tests.service import serve, upstream_key

PASSPHRASE = "five words of the tests"


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "HEAD", sealed.HEAD | {"n": 1024})


async def test_settings_say_what_is_set_and_where(tmp_path: Path, browser: Browser) -> None:
    settings = {"session__max_concurrent": "7", "oauth__token_url": None}
    async with dashboard(tmp_path, browser, "settings", settings=settings) as (_, page):
        main = page.get_by_role("main")
        row = main.get_by_role("row").filter(has=page.get_by_text("session.max_concurrent", exact=True))
        await expect(row).to_contain_text("SESSION__MAX_CONCURRENT")
        await expect(row.get_by_role("cell").first).to_have_text("7")
        await expect(main.get_by_text("cannot be added: set oauth.token_url")).to_be_visible()
        await expect(main.locator("dd", has_text=str(tmp_path))).to_be_visible()
        await expect(main.get_by_text("retry.max_attempts")).not_to_be_visible()
        await main.get_by_text("keys have their defaults").click()
        await expect(main.get_by_text("retry.max_attempts")).to_be_visible()


async def test_what_needs_a_restart_is_said(tmp_path: Path, browser: Browser) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("server: {port: 4000}\n")
    async with (
        serve(tmp_path / "data", clock=RunningClock(), config=config) as service,
        visit(browser, service, "settings") as page,
    ):
        button = page.get_by_role("button", name="Read the configuration again")
        await button.click()
        await expect(page.get_by_text("What is in effect is what is set.")).to_be_visible()
        config.write_text("server:\n  port: 5\n")
        await button.click()
        told = f"server.port will be 5 after a restart ({config}, line 2)"
        await expect(page.get_by_text(told)).to_be_visible()
        config.write_text("server:\n  prot: 5\n")
        await button.click()
        await expect(page.get_by_text("the nearest one is server.port")).to_be_visible()


async def test_a_configuration_that_cannot_be_loaded(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, allow="500") as (_, page):
        error = {"error": {"type": "api_error", "message": "It broke."}}
        await page.route("**/api/admin/config", lambda route: route.fulfill(status=500, json=error))
        await goto(page, "settings")
        await expect(page.get_by_text("Could not load. It broke.")).to_be_visible()
        await page.unroute("**/api/admin/config")
        await page.get_by_role("button", name="Retry").click()
        await expect(page.get_by_text("It broke.")).not_to_be_visible()
        await expect(page.get_by_text("auth.api_key", exact=True)).to_be_visible()


async def test_a_test_notification_says_what_came_of_it(tmp_path: Path, browser: Browser) -> None:
    async with echo() as receiver:
        there = {"notifications__webhook_url": receiver.url}
        async with dashboard(tmp_path, browser, "settings", settings=there) as (_, page):
            button = page.get_by_role("button", name="Send test notification")
            await button.click()
            await expect(page.get_by_text("webhook_url: sent, it answered 200")).to_be_visible()
            receiver.script = Script(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
            await button.click()
            await expect(page.get_by_text("webhook_url: not taken, it answered 410")).to_be_visible()


async def export(page: Page) -> str:
    """The file that the dialog gives."""
    await page.get_by_role("button", name="Export accounts").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Passphrase", exact=True).fill("short")
    await dialog.get_by_role("button", name="Export").click()
    await expect(dialog.get_by_text("At least 12 characters are needed.")).to_be_visible()
    await dialog.get_by_label("Passphrase", exact=True).fill(PASSPHRASE)
    await dialog.get_by_label("Passphrase, once more").fill(PASSPHRASE)
    async with page.expect_download() as download:
        await dialog.get_by_role("button", name="Export").click()
    found = await download.value
    assert found.suggested_filename == "claude-proxy-2026-09-28.json"
    await expect(dialog).to_have_count(0)
    return await content(found)


async def test_accounts_move_by_a_file_from_one_dashboard_to_another(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path / "a", browser, "settings") as (_, page):
        text = await export(page)
        assert leaked(text, [upstream_key("team-a"), PASSPHRASE]) == []
        await expect(page.get_by_text("Accounts exported", exact=True)).to_be_visible()
    (tmp_path / "file.json").write_text(text)
    (tmp_path / "other.json").write_text(json.dumps([1]))
    async with (
        serve(tmp_path / "b", accounts=("team-b",), clock=RunningClock()) as service,
        visit(browser, service, "settings") as page,
    ):
        await page.get_by_role("button", name="Import accounts").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("File").set_input_files(tmp_path / "other.json")
        await dialog.get_by_role("button", name="Look").click()
        await expect(dialog.get_by_text("That is no export of accounts.")).to_be_visible()
        await dialog.get_by_label("File").set_input_files(tmp_path / "file.json")
        await dialog.get_by_label("Passphrase").fill(PASSPHRASE + "x")
        await dialog.get_by_role("button", name="Look").click()
        await expect(dialog.get_by_text("the passphrase is not the file's")).to_be_visible()
        await dialog.get_by_label("Passphrase").fill(PASSPHRASE)
        await dialog.get_by_role("button", name="Look").click()
        await expect(dialog.get_by_text("team-a · Console API key · new")).to_be_visible()
        await expect(dialog.get_by_text("team-b · Console API key · here already")).to_be_visible()
        assert len(service.parts.pool) == 1
        await dialog.get_by_role("button", name="Import 1 account").click()
        await expect(page.get_by_text("1 account imported", exact=True)).to_be_visible()
        await goto(page, "accounts")
        await expect(page.get_by_role("main").get_by_text("team-a", exact=True)).to_be_visible()
