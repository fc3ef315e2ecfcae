"""The page of a client key: what is left of its limits, what it cost, who changed it, and how it gets a new secret."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
import yaml
from playwright.async_api import Browser, Page, Route, expect

from proxy.clients.budgets import KeyLimits
from proxy.clients.keys import ClientKey
from proxy.clients.sessions import Client
from tests.e2e.dashboard import RunningClock, dashboard, goto, row
from tests.service import MESSAGE_HEADERS, Service, message

KEY = "cp-the-key-of-ci-of-tests-6hTr"


async def furnish(service: Service) -> None:
    await service.parts.keys.add("ci", KEY, limits=KeyLimits(requests_per_minute=4, tokens_per_day=1000))
    await service.parts.keys.add("free")


def ci(service: Service) -> ClientKey:
    return next(each for each in service.parts.keys if each.name == "ci")


async def ask(service: Service, model: str, times: int = 1, key: str = KEY) -> list[int]:
    answers = [
        await service.send(
            "POST", "/v1/messages", MESSAGE_HEADERS, message(model=model, max_tokens=8), key=key
        )
        for _ in range(times)
    ]
    return [answer.status for answer in answers]


async def opened(page: Page) -> None:
    """By a click in the table."""
    await goto(page, "tokens")
    await page.get_by_role("link", name="ci").click()
    await expect(page.get_by_role("main").get_by_role("heading", level=2, name="ci")).to_be_visible()


async def test_the_table_shows_the_fullest_limit_and_the_cost(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "tokens", prepare=furnish) as (service, page):
        cell = row(page, "ci").locator(".c-k_fullest")
        await expect(cell).to_have_text(re.compile(r"^\s*0 %\s+\w+"), use_inner_text=True)
        await expect(row(page, "free").locator(".c-k_fullest")).to_have_text("–", use_inner_text=True)
        await ask(service, "claude-sonnet-5-5", 4)
        await expect(cell).to_have_text(re.compile(r"100 %\s+Requests per minute"), use_inner_text=True)
        await expect(cell).to_have_attribute(
            "title", re.compile(r"Requests per minute: 4 of 4, resets in \d+s")
        )
        await expect(cell.locator(".meter")).to_have_attribute("data-kind", "error")
        await expect(row(page, "ci").locator(".c-cost_24h")).to_have_text(re.compile(r"^\$0\.00\d+$"))
        assert isinstance(service.clock, RunningClock)
        service.clock.advance(61)
        await expect(cell).not_to_contain_text("Requests per minute")


async def test_its_page_counts_the_input_as_the_table_does_with_what_the_cache_gave(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "tokens") as (service, page):
        await service.parts.keys.add("ci", KEY)
        long = [{"type": "text", "text": "word " * 5000, "cache_control": {"type": "ephemeral"}}]
        body = message(model="claude-sonnet-5-5", max_tokens=8, system=long)
        answer = await service.send("POST", "/v1/messages", MESSAGE_HEADERS, body, key=KEY)
        assert answer.status == 200, answer.body
        cell = row(page, "ci").locator(".c-tokens_24h")
        await expect(cell).to_have_text(re.compile(r"^\d[\d.]+K / \d+$"))
        tokens_in, _ = (await cell.inner_text()).split(" / ")
        await opened(page)
        await expect(page.locator(".facts")).to_contain_text(f" {tokens_in} tokens in")


async def test_its_page_has_a_meter_for_each_limit_that_is_changed_there(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, prepare=furnish) as (service, page):
        await opened(page)
        meters = page.locator(".windows li")
        await expect(meters.nth(0)).to_contain_text(re.compile(r"Requests per minute0 of 4 · 0 %"))
        await ask(service, "claude-sonnet-5-5", 4)
        await expect(meters.nth(0)).to_contain_text("4 of 4 · 100 %, used up")
        await expect(meters.nth(1)).to_contain_text(re.compile(r"Tokens per day\d+ of 1K"))
        await page.get_by_role("button", name="Edit limits").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_label("Requests per minute")).to_be_focused()
        await dialog.get_by_label("Requests per minute").fill("10")
        await dialog.get_by_label("Models").fill("claude-haiku-*, claude-sonnet-*")
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog).to_have_count(0)
        await expect(meters.nth(0)).to_contain_text("4 of 10 · 40 %")
        assert ci(service).models == ("claude-haiku-*", "claude-sonnet-*")
        assert await ask(service, "claude-opus-5-5") == [403]
        changes = page.locator("section.panel", has=page.get_by_role("heading", name="Who changed it"))
        await expect(changes.get_by_role("listitem").first).to_contain_text(
            re.compile(r"Requests per minute: 4 → 10.*by admin key · 127\.0\.0\.1")
        )
        await expect(changes.get_by_role("listitem")).to_have_count(2)


async def test_a_wrong_limit_is_told_though_the_limits_are_closed(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "tokens", width=360) as (service, page):
        await page.get_by_role("button", name="Create client key").first.click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name", exact=True).fill("ci")
        limits = dialog.get_by_text("Limits (optional)")
        await limits.click()
        await dialog.get_by_label("Requests per minute").fill("0")
        await limits.click()
        await expect(dialog.get_by_label("Requests per minute")).to_be_hidden()
        await dialog.get_by_role("button", name="Create client key").click()
        await expect(dialog.get_by_label("Requests per minute")).to_be_focused()
        await dialog.get_by_label("Requests per minute").fill("")
        await dialog.get_by_label("US dollars per day").fill("0")
        await dialog.get_by_role("button", name="Create client key").click()
        cost = dialog.get_by_label("US dollars per day")
        told = re.compile("^Input should be greater than 0")  # so says the server
        await expect(cost).to_have_accessible_description(told)
        await expect(cost).to_be_focused()
        await expect(dialog.get_by_text(told)).to_be_in_viewport()
        await expect(dialog.get_by_label("Name", exact=True)).not_to_have_attribute("aria-invalid", "true")
        await dialog.get_by_label("US dollars per day").fill("0.005")
        await dialog.get_by_role("button", name="Create client key").click()
        await expect(dialog).to_contain_text("shown only once")
        assert ci(service).limits.cost_usd_per_day == 0.005


async def test_a_key_that_was_not_copied_is_not_lost_unasked(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "overview") as (_, page):
        await goto(page, "tokens")
        await page.get_by_role("button", name="Create client key").first.click()
        dialogs = page.get_by_role("dialog")
        await dialogs.get_by_label("Name", exact=True).fill("ci")
        await dialogs.get_by_role("button", name="Create client key").click()
        await expect(dialogs).to_contain_text("shown only once")
        key = await dialogs.locator("pre").first.inner_text()
        for way in ("Escape", "back", "Escape"):
            await (page.go_back() if way == "back" else page.keyboard.press(way))
            await expect(dialogs.last).to_contain_text("Close without copying the key?")
            await page.keyboard.press("Escape")  # closes the question only
            await expect(page.locator("dialog")).to_have_count(1)  # a closed one goes a moment later
            await expect(dialogs.locator("pre").first).to_have_text(key)
        await dialogs.get_by_text("Connect a client").click()
        await dialogs.get_by_role("tab", name="Others").click()
        await dialogs.get_by_role("button", name="Copy Base URL").click()  # that is not the key
        await page.keyboard.press("Escape")
        await dialogs.last.get_by_role("button", name="Cancel").click()
        await expect(page.locator("dialog")).to_have_count(1)
        await dialogs.get_by_role("button", name="Copy Client key").first.click()
        await expect(dialogs.locator(".snippet").first).to_contain_text("Copied")
        await page.keyboard.press("Escape")
        await expect(dialogs).to_have_count(0)


@pytest.mark.parametrize("way", ["Escape", "Cancel", "back"])
@pytest.mark.parametrize("made", ["created", "rotated"])
async def test_a_secret_is_shown_though_its_dialog_was_left_before_it_came(
    tmp_path: Path, browser: Browser, made: str, way: str
) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(route: Route) -> None:
        if route.request.method == "POST":
            asked.set()
            await go.wait()
        await route.continue_()

    async with dashboard(tmp_path, browser, "overview", prepare=furnish) as (_, page):
        await (goto(page, "tokens") if made == "created" else opened(page))
        await page.route("**/api/tokens**", slow)
        await page.route("**/rotate", slow)
        label = {"created": "Create client key", "rotated": "Rotate"}[made]
        await page.get_by_role("main").get_by_role("button", name=label).first.click()
        dialog = page.get_by_role("dialog")
        if made == "created":
            await dialog.get_by_label("Name", exact=True).fill("new")
        await dialog.get_by_role("button", name=label).click()
        await asked.wait()
        if way == "back":
            await page.go_back()
        elif way == "Cancel":
            await dialog.get_by_role("button", name="Cancel").click()
        else:
            await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        go.set()
        await expect(dialog).to_contain_text("shown only once")
        await expect(dialog.locator("pre").first).to_have_text(re.compile("^cp-"))


async def test_a_secret_is_still_shown_when_the_sign_in_has_expired(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "tokens") as (service, page):
        await page.get_by_role("button", name="Create client key").first.click()
        dialogs = page.get_by_role("dialog")
        await dialogs.get_by_label("Name", exact=True).fill("ci")
        await dialogs.get_by_role("button", name="Create client key").click()
        await expect(dialogs).to_contain_text("shown only once")
        assert isinstance(service.clock, RunningClock)
        service.clock.advance(13 * 3600)  # a sign-in that nobody uses lasts twelve hours
        await expect(dialogs.last).to_contain_text("Close without copying the key?")
        await expect(page.locator("body[data-view=login]")).to_be_attached()
        await dialogs.last.get_by_role("button", name="Cancel").click()
        await dialogs.get_by_role("button", name="Copy Client key").first.click()
        await expect(dialogs.locator(".snippet").first).to_contain_text("Copied")
        await page.keyboard.press("Escape")
        await expect(dialogs).to_have_count(0)
        await expect(page.get_by_label("Admin key")).to_be_visible()


async def test_a_new_secret_that_was_not_copied_is_not_lost_unasked(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, prepare=furnish) as (_, page):
        await opened(page)
        dialogs = page.get_by_role("dialog")
        await page.get_by_role("main").get_by_role("button", name="Rotate").click()
        await page.keyboard.press("Escape")  # nothing to lose yet
        await expect(dialogs).to_have_count(0)
        await page.get_by_role("main").get_by_role("button", name="Rotate").click()
        await dialogs.get_by_role("button", name="Rotate").click()
        await expect(dialogs).to_contain_text("shown only once")
        await page.keyboard.press("Escape")
        await dialogs.last.get_by_role("button", name="Close").click()
        await expect(dialogs).to_have_count(0)


def enter(service: Service, key_id: str, account_id: str, agent: str) -> None:
    """A session that is over."""
    client = Client(key_id, "10.0.0.1", agent)
    place = service.parts.sessions.enter(client, limited=False, cut=lambda: None)
    place.answered_by(account_id)
    place.leave()


@pytest.mark.parametrize("of", ["tokens", "accounts"])
async def test_of_many_sessions_the_newest_are_shown_and_a_link_finds_all(
    tmp_path: Path, browser: Browser, of: str
) -> None:
    async with dashboard(tmp_path, browser, prepare=furnish) as (service, page):
        mine = ci(service)
        other, _ = await service.parts.keys.add("ci-2")
        account, another = service.parts.pool
        for n in range(25):
            service.clock.advance(1)
            enter(service, mine.id, account.id, f"agent {n} of a")
            enter(service, other.id, another.id, "ci of team-a")
        id = mine.id if of == "tokens" else account.id
        await goto(page, f"{of}/{id}")
        panel = page.locator("section.panel", has=page.get_by_role("heading", name=re.compile("^Sessions")))
        await expect(panel.get_by_role("listitem")).to_have_count(20)
        await expect(panel.get_by_role("listitem").first).to_contain_text("agent 24 of a")
        await panel.get_by_role("link", name="All 25 sessions").click()
        found = page.get_by_role("main").locator("tbody tr")
        await expect(found).to_have_count(25)
        await expect(found.filter(has_text=" of a")).to_have_count(25)
        await expect(found.filter(has_text="ci of team-a")).to_have_count(0)


async def test_of_many_sessions_those_in_use_stand_first_whenever_they_began(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, prepare=furnish) as (service, page):
        mine, (account, _) = ci(service), service.parts.pool
        busy = Client(mine.id, "10.0.0.1", "the busy one")
        service.parts.sessions.enter(busy, limited=False, cut=lambda: None).answered_by(account.id)
        assert isinstance(service.clock, RunningClock)
        for n in [*range(25), 0]:
            service.clock.advance(1)
            enter(service, mine.id, account.id, f"agent {n} of a")
        await goto(page, f"tokens/{mine.id}")
        panel = page.locator("section.panel", has=page.get_by_role("heading", name=re.compile("^Sessions")))
        await expect(panel.get_by_role("listitem")).to_have_count(20)
        for at, text in enumerate(["the busy one", "agent 0 of a", "agent 24 of a"]):
            await expect(panel.get_by_role("listitem").nth(at)).to_contain_text(text)


async def two_days(service: Service) -> None:
    await service.parts.keys.add("ci", KEY)
    await ask(service, "claude-sonnet-5-5", 2)
    await ask(service, "claude-haiku-4-5", 3)
    assert isinstance(service.clock, RunningClock)
    service.clock.advance(86_400)
    await ask(service, "claude-opus-5-5")


async def test_what_it_cost_yesterday_by_model(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, prepare=two_days) as (_, page):
        await opened(page)
        cost = page.locator("section.panel", has=page.get_by_role("heading", name="Cost by model"))
        await expect(cost.get_by_role("table").last).to_contain_text("claude-opus-5-5")
        await cost.get_by_role("button", name="Yesterday").click()
        lines = cost.locator(".scroll").last.get_by_role("row")
        await expect(lines).to_have_count(4)
        await expect(lines.nth(1)).to_have_text(re.compile(r"claude-sonnet-5-5\$0\.00\d+2\d"))
        await expect(lines.nth(2)).to_have_text(re.compile(r"claude-haiku-4-5\$0\.00\d+3\d"))
        await expect(lines.nth(3)).to_have_text(re.compile(r"All models\$0\.00\d+5\d"))
        for n in (1, 2):  # what is asked is not scrolled out
            await expect(cost.locator(".scroll").last.get_by_role("columnheader").nth(n)).to_be_in_viewport(
                ratio=1
            )
        await expect(cost.get_by_role("img", name=re.compile("Cost by model, Yesterday: "))).to_be_visible()
        await page.reload()
        await expect(cost.get_by_role("button", name="Yesterday")).to_have_attribute("aria-pressed", "true")
        await expect(lines).to_have_count(4)


async def test_why_the_cost_cannot_be_loaded(tmp_path: Path, browser: Browser) -> None:
    async def refuse(route: Route) -> None:
        error = {"type": "unprocessable", "message": "that is too much to be read at once"}
        await route.fulfill(status=422, json={"error": error})

    async with dashboard(tmp_path, browser, prepare=furnish) as (_, page):
        await page.route("**/api/admin/usage?*", refuse)
        await opened(page)
        cost = page.locator("section.panel", has=page.get_by_role("heading", name="Cost by model"))
        await expect(cost).to_contain_text("Could not load. that is too much to be read at once")
        await page.unroute("**/api/admin/usage?*")
        await cost.get_by_role("button", name="Retry").click()
        await expect(cost).to_contain_text("No usage recorded in this range.")
        await expect(cost.get_by_role("button", name="Retry")).to_have_count(0)


async def test_it_is_rotated_shown_once_and_the_former_key_ended(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, prepare=furnish) as (service, page):
        await opened(page)
        await page.get_by_role("main").get_by_role("button", name="Rotate").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("The present key").select_option("works for 7 days")
        await dialog.get_by_role("button", name="Rotate").click()
        new = await dialog.locator("pre").first.inner_text()
        assert await ask(service, "claude-haiku-4-5", key=new) == [200]
        await dialog.get_by_role("button", name="Done").click()
        await expect(dialog).to_have_count(0)
        await expect(page.locator("dialog")).to_have_count(0)  # a closed one goes a moment later
        assert new not in await page.content()
        facts = page.get_by_role("main").locator("dl")
        await expect(facts).to_contain_text("cp-…6hTr ends in 6d 23h, not used since")
        assert await ask(service, "claude-haiku-4-5") == [200]
        await expect(facts).to_contain_text("last used just now")
        await page.get_by_role("button", name="End former keys").click()
        await dialog.get_by_role("button", name="End former keys").click()
        await expect(facts).not_to_contain_text("6hTr")
        await expect(page.get_by_role("button", name="End former keys")).to_be_hidden()
        assert await ask(service, "claude-haiku-4-5") == [401]
        await expect(page.get_by_role("main")).to_contain_text("has ended")


async def test_a_key_that_another_admin_has_rotated_is_not_rotated_unseen(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, prepare=furnish) as (service, page):
        await opened(page)
        await page.get_by_role("main").get_by_role("button", name="Rotate").click()
        theirs = await service.parts.rotation.rotate(ci(service).id, 0)
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Rotate").click()
        await expect(dialog.get_by_text("Another admin has changed or rotated it.")).to_be_visible()
        await dialog.get_by_role("button", name="Use theirs").click()
        await expect(dialog).to_have_count(0)
        assert await ask(service, "claude-haiku-4-5", key=theirs) == [200]


async def test_a_scrape_key_comes_with_what_prometheus_needs_and_is_not_offered_to_clients(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "tokens", prepare=furnish) as (service, page):
        await page.get_by_role("button", name="Create client key").first.click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name", exact=True).fill("prometheus")
        await dialog.get_by_label("Role", exact=True).select_option("Metrics")
        await dialog.get_by_role("button", name="Create client key").click()
        await dialog.get_by_text("Scrape with Prometheus").click()
        config = yaml.safe_load(await dialog.locator("pre").last.inner_text())
        [job] = config["scrape_configs"]
        assert job["static_configs"] == [{"targets": [f"127.0.0.1:{service.port}"]}]
        answer = await service.admin("GET", "/metrics", key=job["authorization"]["credentials"])
        assert answer.status == 200
        await dialog.get_by_role("button", name="Done").click()
        await goto(page, "connect")
        offered = page.get_by_label("Client key", exact=True)
        await expect(offered).to_contain_text("ci")
        await expect(offered).not_to_contain_text("prometheus")
