"""Adding and re-authorising an account: each way back, each error with its own words, nothing typed twice."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from proxy.simulator import Error, Fault, Reset, Slow
from tests.e2e.dashboard import dashboard, row
from tests.logins import TOKEN, as_json
from tests.service import Service

PASTE = "Shown a code instead? Paste it here"


async def begin(page: Page, name: str = "") -> Locator:
    """The dialog, with a link to authorise."""
    await page.get_by_role("button", name="Add account").first.click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("OAuth login").check()
    await dialog.get_by_label("Name", exact=True).fill(name)
    await dialog.get_by_role("button", name="Get authorization link").click()
    await expect(dialog.get_by_label(PASTE)).to_be_visible()
    return dialog


async def link(dialog: Locator) -> str:
    return str(await dialog.get_by_role("link", name="Open ").get_attribute("href"))


async def renew(dialog: Locator, button: str) -> None:
    """Return once there is another link."""
    old = await link(dialog)
    await dialog.get_by_role("button", name=button).click()
    await expect(dialog.get_by_role("link", name="Open ")).not_to_have_attribute("href", old)


async def authorised(service: Service, dialog: Locator, organization: str = "Acme") -> str:
    """Where the provider sends the browser back to."""
    return service.simulator.authorize(await link(dialog), organization=organization)


def code_of(location: str) -> tuple[str, str]:
    query = parse_qs(urlsplit(location).query)
    return query["code"][0], query["state"][0]


async def finish(dialog: Locator, pasted: str) -> None:
    await dialog.get_by_label(PASTE).fill(pasted)
    await dialog.get_by_role("button", name="Finish").click()


def names(service: Service) -> list[str]:
    return sorted(account.name for account in service.parts.pool)


async def test_the_way_back_by_redirect_completes_the_dialog(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        dialog = await begin(page, "team-new")
        opener = dialog.get_by_role("link", name="Open ")
        assert await opener.get_attribute("target") == "_blank"
        assert "noopener" in str(await opener.get_attribute("rel"))
        await expect(dialog).to_contain_text("send you back")
        await expect(dialog).to_contain_text(re.compile(r"Link valid for (10:00|9:\d\d)"))
        tab = await page.context.new_page()
        await tab.goto(await authorised(service, dialog))
        await expect(tab.get_by_role("heading", name="Account added")).to_be_visible()
        await tab.close()
        await expect(dialog).to_contain_text("team-new added")
        await expect(dialog).to_contain_text("organisation Acme")
        await expect(dialog).to_contain_text("token expires in 8h 00m")
        await dialog.get_by_role("button", name="Close").click()
        await expect(row(page, "team-new")).to_be_focused()
        assert names(service) == ["team-a", "team-b", "team-new"]


@pytest.mark.parametrize("form", ["code#state", "address", "code", "code with breaks"])
async def test_each_form_of_what_is_pasted_is_taken(tmp_path: Path, browser: Browser, form: str) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=()) as (service, page):
        dialog = await begin(page)
        location = await authorised(service, dialog)
        code, state = code_of(location)
        pasted = {
            "code#state": f"{code}#{state}",
            "address": location,
            "code": code,
            "code with breaks": f"  {code[:9]}\n {code[9:]}#{state}\n",
        }[form]
        field = dialog.get_by_label(PASTE)
        await field.fill(pasted)
        await expect(field).to_have_accessible_description("")  # nothing to find fault with
        await dialog.get_by_role("button", name="Finish").click()
        await expect(dialog).to_contain_text("added")
        assert len(service.parts.pool) == 1


async def test_finishing_twice_adds_one_account(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=()) as (service, page):
        dialog = await begin(page)
        service.simulator.script(None, Slow(0.3), path=TOKEN)
        location = await authorised(service, dialog)
        await dialog.get_by_label(PASTE).fill("#".join(code_of(location)))
        await dialog.get_by_role("button", name="Finish").dblclick()
        tab = await page.context.new_page()
        await tab.goto(location)  # and by redirect as well
        await tab.close()
        await expect(dialog).to_contain_text("added")
        assert len(service.parts.pool) == 1


MISTAKES = {
    "": "Paste the code shown after you authorised. It is one long string, usually with a # in it.",
    "abc": "Paste the code shown after you authorised. It is one long string, usually with a # in it.",
    "123456": "That looks like the 6-digit e-mail sign-in code.",
    "a-code-of-another-link#another-state": "This code belongs to a different link. "
    "Open the link above again and paste the new code.",
    "http://127.0.0.1/oauth/callback?error=access_denied&state=x": "Authorisation was cancelled on ",
}


@pytest.mark.parametrize("pasted", MISTAKES)
async def test_what_is_pasted_wrongly_is_told_at_the_field(
    tmp_path: Path, browser: Browser, pasted: str
) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=()) as (service, page):
        dialog = await begin(page, "team-new")
        await finish(dialog, pasted)
        field = dialog.get_by_label(PASTE)
        await expect(dialog).to_contain_text(MISTAKES[pasted])
        await expect(field).to_be_focused()
        await expect(field).to_have_attribute("aria-invalid", "true")
        await expect(field).to_have_accessible_description(re.compile(re.escape(MISTAKES[pasted])))
        assert await field.input_value() == pasted
        assert len(service.parts.pool) == 0
        if "error=" in pasted:
            await renew(dialog, "Get a new link")
        else:
            await finish(dialog, "#".join(code_of(await authorised(service, dialog))))
            await expect(dialog).to_contain_text("team-new added")


REFUSED: dict[str, tuple[tuple[Fault, ...], str, str]] = {
    "invalid_grant": (
        (as_json({"error": "invalid_grant"}, 400),),
        "Claude did not accept the code. Codes work once and only for a few minutes.",
        "Get a new link",
    ),
    "502": ((Error(502),) * 2, "502", "Try again"),
    "529": ((Error(529),) * 2, "529", "Try again"),
    "429": ((Error(429, headers=(("retry-after", "30"),)),), "Claude asks to wait 30 s", "Try again"),
    "unreachable": ((Reset(), Reset()), "The server could not reach", "Try again"),
}


@pytest.mark.parametrize("trouble", REFUSED)
async def test_what_the_provider_refuses_is_told_with_a_way_on(
    tmp_path: Path, browser: Browser, trouble: str
) -> None:
    answers, text, way_on = REFUSED[trouble]
    async with dashboard(tmp_path, browser, "accounts", accounts=(), allow="502|503|504") as (service, page):
        dialog = await begin(page, "team-new")
        pasted = "#".join(code_of(await authorised(service, dialog)))
        service.simulator.script(None, *answers, path=TOKEN)
        await finish(dialog, pasted)
        await expect(dialog).to_contain_text(text)
        await expect(dialog.get_by_label(PASTE)).to_be_focused()
        assert await dialog.get_by_label(PASTE).input_value() == pasted
        service.simulator.calm()
        if way_on == "Get a new link":
            await renew(dialog, way_on)
            await finish(dialog, "#".join(code_of(await authorised(service, dialog))))
        else:
            await dialog.get_by_role("button", name=way_on).click()
        await expect(dialog).to_contain_text("team-new added")
        assert names(service) == ["team-new"]


async def test_a_link_that_has_expired_is_renewed(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=()) as (service, page):
        dialog = await begin(page, "team-new")
        pasted = "#".join(code_of(await authorised(service, dialog)))
        service.clock.advance(601)
        await finish(dialog, pasted)
        await expect(dialog).to_contain_text("This link expired (valid 10 minutes) or the server restarted.")
        await renew(dialog, "Get a new link")
        await expect(dialog).not_to_contain_text("This link expired")
        await finish(dialog, "#".join(code_of(await authorised(service, dialog))))
        await expect(dialog).to_contain_text("team-new added")


async def test_an_organisation_that_is_there_already_can_be_authorised_anew(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=()) as (service, page):
        account, _ = await service.add_login("team-a")
        dialog = await begin(page, "team-new")
        await finish(dialog, "#".join(code_of(await authorised(service, dialog, "team-a"))))
        await expect(dialog).to_contain_text("This organisation is already added as 'team-a'.")
        await dialog.get_by_role("button", name="Re-authorise team-a instead").click()
        await expect(dialog).to_contain_text(re.compile("team-a re-authorised|Link valid"))
        assert names(service) == ["team-a"] and account.id in service.parts.pool


async def test_an_invalid_account_is_authorised_in_place(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        account, _ = await service.add_login("Globex")
        service.parts.pool.invalidate(account.id, "the token endpoint answered 400 invalid_grant")
        await row(page, "Globex").get_by_role("button", name="Re-authorise").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("heading")).to_contain_text("Globex")
        await finish(dialog, "#".join(code_of(await authorised(service, dialog, "Initech"))))
        await expect(dialog).to_contain_text("You signed in to 'Initech', but 'Globex' belongs to")
        await renew(dialog, "New link")
        await finish(dialog, "#".join(code_of(await authorised(service, dialog, "Globex"))))
        await expect(dialog).to_contain_text("Globex re-authorised")
        await dialog.get_by_role("button", name="Close").click()
        await expect(row(page, "Globex")).to_contain_text("Active")


async def test_a_name_that_is_taken_is_told_before_the_login(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (_, page):
        await page.get_by_role("button", name="Add account").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("OAuth login").check()
        await dialog.get_by_label("Name", exact=True).fill("team-a")
        await dialog.get_by_role("button", name="Get authorization link").click()
        await expect(dialog).to_contain_text("An account called 'team-a' exists. Choose another name.")
        await expect(dialog.get_by_label("Name", exact=True)).to_be_focused()


async def test_escape_asks_before_a_login_is_lost(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (_, page):
        dialog = await begin(page, "team-new")
        await dialog.get_by_label(PASTE).fill("half of it")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(2)
        await page.get_by_role("dialog").last.get_by_role("button", name="Cancel").click()
        for _ in range(2):  # a second Esc closes the question only
            await expect(page.locator("dialog")).to_have_count(1)  # a closed one goes a moment later
            await page.keyboard.press("Escape")
            await expect(page.locator("dialog")).to_have_count(2)
            await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).to_have_count(1)
        await expect(dialog.get_by_label(PASTE)).to_have_value("half of it")


async def test_an_api_key_becomes_an_account(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=()) as (service, page):
        key = "sk-ant-api03-" + "k" * 40
        service.simulator.add_api_key(key, organization="Acme")
        await page.get_by_role("button", name="Add account").first.click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Console API key").check()
        await dialog.get_by_label("Name", exact=True).fill("by-key")
        await dialog.get_by_label("API key", exact=True).fill(key)
        await dialog.get_by_role("button", name="Add account").click()
        await expect(dialog).to_contain_text("by-key added")
        assert key not in await page.content()
        assert names(service) == ["by-key"]


async def cancel(service: Service, page: Page, dialog: Locator) -> None:
    """At the provider, which sends the browser back."""
    state = parse_qs(urlsplit(await link(dialog)).query)["state"][0]
    tab = await page.context.new_page()
    await tab.goto(f"http://127.0.0.1:{service.port}/oauth/callback?error=access_denied&state={state}")
    await tab.close()
    await expect(dialog).to_contain_text("Authorisation was cancelled on ")


async def test_who_cancels_at_the_provider_gets_a_way_on(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=()) as (service, page):
        dialog = await begin(page, "team-new")
        await cancel(service, page, dialog)
        # The link is of no use any more, and nobody will be sent back.
        await expect(dialog.get_by_role("link", name="Open ")).to_be_hidden()
        await expect(dialog).not_to_contain_text(
            re.compile("Link valid for|send you back"), use_inner_text=True
        )
        await dialog.get_by_role("button", name="Get a new link").click()
        await expect(dialog.get_by_role("link", name="Open ")).to_be_visible()
        await expect(dialog).not_to_contain_text("Authorisation was cancelled")
        await finish(dialog, "#".join(code_of(await authorised(service, dialog))))
        await expect(dialog).to_contain_text("team-new added")


async def test_each_link_that_is_cancelled_is_told(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=()) as (service, page):
        dialog = await begin(page, "team-new")
        for _ in range(2):
            await cancel(service, page, dialog)
            await expect(dialog.get_by_role("link", name="Open ")).to_be_hidden()
            await dialog.get_by_role("button", name="Get a new link").click()
            await expect(dialog).not_to_contain_text("Authorisation was cancelled")


async def test_what_became_of_a_link_is_not_told_over_what_came_after(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        dialog = await begin(page, "team-new")
        code = "#".join(code_of(await authorised(service, dialog)))
        await cancel(service, page, dialog)
        await finish(dialog, code)
        await expect(dialog).to_contain_text("This link expired")
        service.parts.pool.invalidate(next(iter(service.parts.pool)).id, "a test")
        await expect(page).to_have_title(re.compile(r"^\(1!\) "))  # it was painted anew
        await expect(dialog).to_contain_text("This link expired")
        await expect(dialog).not_to_contain_text("Authorisation was cancelled")


async def test_each_error_stands_under_the_field_that_it_is_about(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts", accounts=()) as (service, page):
        service.simulator.add_api_key("sk-ant-api03-" + "k" * 40, organization="Acme")
        await page.get_by_role("button", name="Add account").first.click()
        dialog = page.get_by_role("dialog")
        name, key = (dialog.get_by_label(label, exact=True) for label in ("Name", "API key"))
        add = dialog.get_by_role("button", name="Add account")
        await name.fill("a name with\u200ba mark")
        await key.fill("sk-ant-api03-" + "k" * 40)
        await add.click()
        await expect(name).to_have_accessible_description(re.compile("1 to 64 printable characters"))
        await expect(name).to_be_focused()
        await expect(key).not_to_have_attribute("aria-invalid", "true")
        await name.fill("by-key")
        await key.fill("sk-ant-api03-" + "u" * 40)
        await add.click()
        await expect(key).to_have_accessible_description(re.compile("refuses"))
        await expect(name).not_to_have_attribute("aria-invalid", "true")


async def test_whether_to_stop_is_not_asked_any_more_once_the_login_is_done(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        dialog = await begin(page, "team-new")
        location = await authorised(service, dialog)
        await page.keyboard.press("Escape")
        await expect(dialog.last).to_contain_text("What you entered is lost.")
        tab = await page.context.new_page()
        await tab.goto(location)
        await tab.close()
        await expect(dialog).to_have_count(1)
        await expect(dialog).to_contain_text("team-new added")
        await dialog.get_by_role("button", name="Close").click()
        await expect(row(page, "team-new")).to_be_focused()
