"""How to come to each dialog, menu and message: for tests of what holds in all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from playwright.async_api import Page, expect

from tests.e2e.dashboard import display, goto


async def account(page: Page) -> None:
    await goto(page, "accounts")
    await page.get_by_role("link", name="team-failing").click()
    await expect(page.get_by_role("heading", level=2, name="team-failing")).to_be_visible()


async def add_account(page: Page) -> None:
    await goto(page, "accounts")
    await page.get_by_role("button", name="Add account").click()
    await expect(page.get_by_role("dialog").get_by_label("Name", exact=True)).to_be_visible()


async def authorise(page: Page) -> None:
    await add_account(page)
    await page.get_by_label("OAuth login").check()
    await page.get_by_role("button", name="Get authorization link").click()
    await expect(page.get_by_role("link", name="Open ")).to_be_visible()


async def pasted_wrongly(page: Page) -> None:
    await authorise(page)
    await page.get_by_label("Shown a code instead? Paste it here").fill("123456")
    await page.get_by_role("button", name="Finish").click()
    await expect(page.get_by_text("That looks like the 6-digit")).to_be_visible()


async def account_menu(page: Page) -> None:
    await goto(page, "accounts")
    await expect(page.get_by_role("link", name="team-login")).to_be_visible()
    details = page.get_by_role("button", name="Details of team-login")
    if await details.is_visible():  # on a phone
        await details.click()
    await page.get_by_role("button", name="Actions for team-login").click()
    await expect(page.get_by_role("menuitem").first).to_be_focused()


async def rename(page: Page) -> None:
    await account_menu(page)
    await page.get_by_role("menuitem", name="Rename").click()
    await expect(page.get_by_role("dialog")).to_be_visible()


async def replace_key(page: Page) -> None:
    await goto(page, "accounts")
    await page.get_by_role("link", name="team-limited").click()
    await page.get_by_role("main").get_by_role("button", name="Replace key").click()
    await page.get_by_role("dialog").get_by_label("API key").fill("nonsense")
    await page.get_by_role("dialog").get_by_role("button", name="Replace key").click()
    await expect(page.get_by_role("dialog").get_by_text("the upstream refuses it")).to_be_visible()


async def preferences(page: Page) -> None:
    await account(page)
    await page.get_by_role("main").get_by_role("button", name="Edit").click()
    await page.get_by_role("dialog").get_by_label("Note").fill("axe judges no empty one")
    await page.get_by_role("dialog").get_by_label("Outbound proxy").fill("nonsense")
    await page.get_by_role("dialog").get_by_role("button", name="Save").click()
    await expect(page.get_by_role("dialog").get_by_text("use a URL")).to_be_visible()


async def why_account(page: Page) -> None:
    await account(page)
    await page.get_by_role("main").get_by_role("button", name="Why this account?").click()
    await page.get_by_role("dialog").get_by_text("A session, or a request's body").click()
    await page.get_by_role("dialog").get_by_role("button", name="Explain").click()
    await expect(page.get_by_role("dialog").get_by_role("table")).to_be_visible()


async def delete(page: Page) -> None:
    await account_menu(page)
    await page.get_by_role("menuitem", name="Delete").click()
    await expect(page.get_by_role("dialog")).to_be_visible()


async def delete_all(page: Page) -> None:
    await goto(page, "accounts")
    await page.get_by_label("Select all on this page").check()
    await page.get_by_role("main").get_by_role("button", name="Delete").first.click()
    await expect(page.get_by_role("dialog")).to_contain_text("6 accounts")


async def undo(page: Page) -> None:
    await account_menu(page)
    await page.get_by_role("menuitem", name="Deactivate").click()
    await expect(page.get_by_role("button", name="Undo")).to_be_visible()


async def notifications(page: Page) -> None:
    await undo(page)
    await page.get_by_role("button", name="Notifications").click()
    await expect(page.get_by_role("region", name="Notifications")).to_be_visible()


async def client_key(page: Page) -> None:
    await goto(page, "tokens")
    await page.get_by_role("button", name="Create client key").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.get_by_role("dialog").get_by_text("Limits (optional)").click()


async def new_client_key(page: Page) -> None:
    await client_key(page)
    await page.get_by_role("dialog").get_by_label("Name").fill("laptop")
    await page.get_by_role("dialog").get_by_role("button", name="Create client key").click()
    await expect(page.get_by_text("shown only once")).to_be_visible()


async def export(page: Page) -> None:
    await goto(page, "settings")
    await page.get_by_role("button", name="Export accounts").click()
    await page.get_by_role("dialog").get_by_role("button", name="Export").click()
    await expect(page.get_by_text("At least 12 characters are needed.")).to_be_visible()


async def take_in(page: Page) -> None:
    await goto(page, "settings")
    await page.get_by_role("button", name="Import accounts").click()
    await page.get_by_role("dialog").get_by_role("button", name="Look").click()
    await expect(page.get_by_text("Choose a file.")).to_be_visible()


async def key_page(page: Page) -> None:
    await goto(page, "tokens")
    await page.get_by_role("link", name="laptop-of-ada").click()
    main = page.get_by_role("main")
    await expect(main.get_by_role("heading", level=2, name="laptop-of-ada")).to_be_visible()
    await expect(main.get_by_text("was made")).to_be_visible()


async def rotation(page: Page) -> None:
    await key_page(page)
    await page.get_by_role("main").get_by_role("button", name="Rotate").click()
    await expect(page.get_by_role("dialog").get_by_label("The present key")).to_be_visible()


async def chart_table(page: Page) -> None:
    await goto(page, "usage")
    await page.get_by_text("Show as table").first.click()
    await expect(page.get_by_role("main").get_by_role("table").first).to_be_visible()


async def display_menu(page: Page) -> None:
    await expect((await display(page)).get_by_label("Theme")).to_be_visible()


WAYS: dict[str, Callable[[Page], Awaitable[None]]] = {
    way.__name__.replace("_", " "): way
    for way in (
        account, add_account, authorise, pasted_wrongly, account_menu, rename, replace_key, preferences,
        why_account, delete, delete_all, undo, notifications, client_key, new_client_key, export, take_in, key_page,
        rotation, chart_table, display_menu,
    )
}  # fmt: skip
