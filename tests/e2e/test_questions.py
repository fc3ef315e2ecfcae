"""What somebody who has never seen the dashboard asks first is answered by what they see."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, Locator, Page, expect

from proxy.accounts.quota import Window
from proxy.clients.budgets import KeyLimits
from proxy.clients.keys import Role
from proxy.simulator import Error
from tests.e2e.dashboard import dashboard, goto, row
from tests.e2e.furniture import HOUR, use_quota
from tests.service import MESSAGE_HEADERS, Service, message

CI, OPS = "cp-the-key-of-CI-of-tests-6hTr", "cp-the-key-of-an-admin-of-tests-2wPd"
ACCOUNTS = ("team-a", "team-b", "team-c", "spare")
TO_FAILURE_S = 78_431.0
"""From the start of browser tests to 14:02:11 of the next day where the browser is."""
TO_NOW_S = 2.2 * HOUR
SESSION = ("x-claude-code-session-id", "3f0e8a52-6a1c-4d7e-9b6f-2c1d5e7a9b04")
BOOK = [{"type": "text", "text": "word " * 5000, "cache_control": {"type": "ephemeral"}}]


async def ask(service: Service, model: str, times: int = 1, **fields: object) -> list[int]:
    """The statuses of so many requests of the CI key."""
    body, headers = message(model=model, **fields), [*MESSAGE_HEADERS, SESSION]
    answers = [await service.send("POST", "/v1/messages", headers, body, key=CI) for _ in range(times)]
    return [answer.status for answer in answers]


async def change(service: Service, path: str, fields: dict[str, object]) -> None:
    answer = await service.admin("PUT", path, fields, key=OPS)
    assert answer.status == 200, answer.body


async def two_days(service: Service) -> None:
    """CI works, gets a higher limit, fails on the next day at 14:02, and works again, from the cache."""
    parts, clock = service.parts, service.clock
    key, _ = await parts.keys.add("CI", CI, limits=KeyLimits(requests_per_minute=60, cost_usd_per_day=20.0))
    await parts.keys.add("Grace of operations", OPS, role=Role.ADMIN)
    assert await ask(service, "claude-opus-5-5", 2, system=BOOK) == [200] * 2
    assert await ask(service, "claude-haiku-4-5", 3) == [200] * 3
    await change(
        service, f"/api/tokens/{key.id}", {"limits": {"requests_per_minute": 60, "cost_usd_per_day": 45.0}}
    )
    clock.advance(TO_FAILURE_S)
    service.simulator.script(None, Error(400, message="prompt is too long: 215000 tokens > 200000 maximum"))
    assert await ask(service, "claude-sonnet-5-5") == [400]
    clock.advance(TO_NOW_S)
    assert await ask(service, "claude-sonnet-5-5", 4, system=BOOK) == [200] * 4
    use_and_rest(service)
    spare = next(account for account in parts.pool if account.name == "spare")
    await change(service, f"/api/accounts/{spare.id}", {"priority": 5})


def use_and_rest(service: Service) -> None:
    """`team-b` is limited next, by its 5 hours; `team-a` has more left, and `team-c` rests."""
    pool, now = service.parts.pool, service.clock.now()
    account = {each.name: each.id for each in pool}
    use_quota(service, "team-a", {"7d": 0.4})
    pool.quotas.set(account["team-b"], {"5h": Window(0.9, resets_at=now + 2 * HOUR)})
    use_quota(service, "team-c", {"7d": 1.0})
    pool.limit(account["team-c"], now + HOUR, "the 7d window is used up")
    pool.touch(account["team-b"])
    service.parts.quota.look()


def card(page: Page, title: str) -> Locator:
    return page.locator("section.panel", has=page.get_by_role("heading", name=title, exact=True))


async def which_account_is_limited_next(page: Page) -> None:
    await goto(page, "overview")
    capacity = card(page, "Capacity")
    told = r"team-b is limited next, at this pace in \d\dm \d\ds, by its limit of 5 hours"
    await expect(capacity).to_contain_text(re.compile(told))


async def how_much_input_came_from_the_cache(page: Page) -> None:
    await goto(page, "overview")
    await expect(page.locator(".figures")).to_contain_text("74.9 % of last hour's input from the cache")
    await goto(page, "usage?range=1h")
    await expect(card(page, "Input from cache")).to_contain_text(
        re.compile(r"Input from cache, last hour: 7\d % of 25\.\dK tokens")
    )


async def why_this_key_s_request_failed(page: Page) -> None:
    await goto(page, "tokens")
    await page.get_by_role("link", name="CI", exact=True).click()
    await page.get_by_role("main").get_by_role("link", name="All that failed").click()
    failed = page.get_by_role("main").locator("tbody tr[data-kind]")
    await expect(failed).to_have_count(1)
    await expect(failed).to_contain_text(re.compile(r"14:02:1\d.*CI.*400.*Client error", re.S))
    await failed.get_by_role("link").click()
    main = page.get_by_role("main")
    await expect(main).to_contain_text(
        re.compile(r"400 Client error\s*invalid_request_error: prompt is too long")
    )


async def what_it_cost_yesterday_and_who_raised_its_limit(page: Page) -> None:
    await goto(page, "tokens")
    await page.get_by_role("link", name="CI", exact=True).click()
    cost = card(page, "Cost by model")
    await cost.get_by_role("button", name="Yesterday").click()
    lines = cost.locator(".scroll").last.get_by_role("row")
    await expect(lines).to_have_count(4)
    for n, told in enumerate(
        (r"claude-opus-5-5\$0\.0\d+", r"claude-haiku-4-5\$0\.0\d+", r"All models\$0\.0\d+")
    ):
        await expect(lines.nth(n + 1)).to_have_text(re.compile(told))
    await expect(card(page, "Who changed it").get_by_role("listitem").first).to_contain_text(
        re.compile(r"US dollars per day: 20 → 45.*by Grace of operations")
    )


async def why_this_account_is_not_used(page: Page) -> None:
    main, dialog = page.get_by_role("main"), page.get_by_role("dialog")
    for name, told in {
        "team-c": "Rate limited for another 59m",
        "spare": "It could be asked too, but is not next: its priority is 5, that of the next one 0",
    }.items():
        await goto(page, "accounts")
        await row(page, name).get_by_role("link", name=name).click()
        await main.get_by_role("button", name="Why this account?").click()
        await dialog.get_by_role("button", name="Explain").click()
        await expect(dialog.get_by_role("row").nth(2)).to_contain_text(told)
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
    await goto(page, "accounts")
    await row(page, "team-c").get_by_role("link", name="team-c").click()
    await expect(main).to_contain_text("the 7d window is used up")


async def test_five_questions_are_answered_by_what_is_seen(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=ACCOUNTS, prepare=two_days) as (_, page):
        await which_account_is_limited_next(page)
        await how_much_input_came_from_the_cache(page)
        await why_this_key_s_request_failed(page)
        await what_it_cost_yesterday_and_who_raised_its_limit(page)
        await why_this_account_is_not_used(page)
