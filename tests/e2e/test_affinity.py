"""What the dashboard says of affinity: what stayed and moved, what lives where, why a request goes where it does."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.async_api import Browser, WebSocketRoute, expect

from proxy.accounts.account import Status
from tests.e2e.dashboard import OFFLINE, dashboard, goto, held, live, row
from tests.service import MESSAGE, MESSAGE_HEADERS, Service, message

CACHED = [{"type": "text", "text": "Be brief. " * 2000, "cache_control": {"type": "ephemeral"}}]


def said(turns: int) -> dict[str, object]:
    """What the turn of that number of a conversation sends."""
    messages = [
        {"role": ("user", "assistant")[n % 2], "content": f"It is {n}."} for n in range(2 * turns + 1)
    ]
    return {"system": CACHED, "messages": messages}


async def converse(service: Service) -> None:
    """Two turns with team-a, which is limited then; and one with team-b."""
    for turn in range(3):
        if turn == 2:
            limited = next(account.id for account in service.parts.pool if account.name == "team-a")
            service.parts.pool.limit(limited, service.clock.now() + 1800, "the 5h window is used up")
        answer = await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(**said(turn)))
        assert answer.status == 200, answer.body


async def test_what_stayed_and_moved_and_what_it_cost_is_shown(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, prepare=converse) as (_, page):
        main = page.get_by_role("main")
        await expect(
            main.get_by_text("Conversations that moved since the start: 1 limited.")
        ).to_contain_text("$0.0")
        await goto(page, "usage")
        await expect(main.get_by_role("heading", name="Input from cache")).to_be_visible()
        await goto(page, "accounts")
        await page.get_by_role("link", name="team-b").click()
        fact = main.locator("dl > div").filter(has_text="Conversations on it")
        await expect(fact.get_by_text("1", exact=True)).to_be_visible()


async def test_why_an_account_is_chosen_and_why_the_others_are_not(tmp_path: Path, browser: Browser) -> None:
    names = ("team-a", "team-b", "team-c", "team-d")
    async with dashboard(tmp_path, browser, "accounts", accounts=names, prepare=converse) as (service, page):
        off = next(account.id for account in service.parts.pool if account.name == "team-d")
        await service.parts.pool.update(off, status=Status.INACTIVE)
        await page.get_by_role("link", name="team-c").click()
        await page.get_by_role("main").get_by_role("button", name="Why this account?").click()
        dialog = page.get_by_role("dialog")
        explain = dialog.get_by_role("button", name="Explain")
        await explain.click()
        await expect(dialog.get_by_role("status")).to_have_text("team-c would answer.")
        lines = dialog.get_by_role("row")
        await expect(lines.nth(1)).to_contain_text(
            "Nothing ties the request to an account, and this one was next."
        )

        await dialog.get_by_text("A session, or a request's body").click()
        await dialog.get_by_label("Body").fill(json.dumps(MESSAGE | said(3)))
        await explain.click()
        await expect(dialog.get_by_role("status")).to_have_text("team-b would answer.")
        for name, text in {
            "team-b": "It has the conversation's turn before, and its prompt cache.",
            "team-a": "Rate limited for another 29m",
            "team-c": "It could be asked, but the request belongs elsewhere.",
            "team-d": "Inactive: ",
        }.items():
            await expect(lines.filter(has_text=name)).to_contain_text(text)
        await expect(lines.nth(2)).to_contain_text("team-c")  # whose page it is

        await dialog.get_by_label("Body").fill("")
        await dialog.get_by_label("Path").fill("/v1/files/file_011CNha8iCJcU1wXNR6q4V8w")
        await explain.click()
        await expect(dialog.get_by_role("status")).to_contain_text("Nobody would, the client gets 404: File ")
        await dialog.get_by_label("Path").fill("/v1/../x")
        await explain.click()
        await expect(dialog.get_by_label("Path")).to_be_focused()
        await expect(dialog.get_by_label("Path")).to_have_attribute("aria-invalid", "true")


async def test_the_accounts_view_asks_it_too(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=("team-a",)) as (_, page):
        await row(page, "team-a").get_by_role("button", name="Actions for team-a").click()
        await page.get_by_role("menuitem", name="Why this account?").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Explain").click()
        await expect(dialog).to_contain_text("It is the only account.")


async def test_times_in_reasons_are_told_as_everywhere(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=("team-a",)) as (service, page):
        [account] = service.parts.pool
        until = 1_790_640_000.0  # 28 September 2026, 24:00 UTC
        service.parts.pool.limit(account.id, until, "429, resets 2026-09-29T00:00:00.000Z")
        await expect(row(page, "team-a")).to_contain_text("Rate limited")
        await row(page, "team-a").get_by_role("button", name="Actions for team-a").click()
        await page.get_by_role("menuitem", name="Why this account?").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Explain").click()
        await expect(dialog).to_contain_text("429, resets 29 Sept, 05:45:00 GMT+5:45")
        await expect(dialog).not_to_contain_text("2026-09-29T")


async def test_it_is_asked_while_the_feed_is_lost(tmp_path: Path, browser: Browser) -> None:
    feeds: list[WebSocketRoute] = []

    async def only_once(feed: WebSocketRoute) -> None:
        if feeds:
            await feed.close(code=1011)
        else:
            feed.connect_to_server()
            feeds.append(feed)

    one = ("team-a",)
    async with dashboard(tmp_path, browser, "accounts", accounts=one, allow=OFFLINE) as (_, page):
        await page.get_by_role("link", name="team-a").click()
        await page.route_web_socket("**/api/live", only_once)
        await page.reload()
        await live(page)
        await page.route("**/api/live?*", lambda route: route.abort())
        await feeds[0].close(code=1011)
        await expect(page.get_by_text("Reconnecting")).to_be_visible()
        await page.get_by_role("main").get_by_role("button", name="Why this account?").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Explain").click()
        await expect(dialog).to_contain_text("It is the only account.")


async def test_the_dialog_does_not_wait_for_the_keys_but_the_question_does(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=("team-a",)) as (_, page):
        await page.get_by_role("link", name="team-a").click()
        _, go = await held(page, "**/api/tokens?*")
        await page.get_by_role("main").get_by_role("button", name="Why this account?").click()
        dialog = page.get_by_role("dialog")
        async with page.expect_request("**/api/admin/explain") as asked:
            await dialog.get_by_role("button", name="Explain").click()
            go.set()
        await expect(dialog).to_contain_text("It is the only account.")
        chosen = dialog.get_by_label("Client key")
        assert (await asked.value).post_data_json["token_id"] == await chosen.input_value()


async def test_the_dialog_says_why_it_has_no_keys(tmp_path: Path, browser: Browser) -> None:
    one = ("team-a",)
    async with dashboard(tmp_path, browser, "accounts", accounts=one, allow=OFFLINE) as (_, page):
        await page.get_by_role("link", name="team-a").click()
        await page.route("**/api/tokens?*", lambda route: route.abort())
        await page.get_by_role("main").get_by_role("button", name="Why this account?").click()
        await expect(page.get_by_role("dialog")).to_contain_text("The server cannot be reached.")
