"""What holds in every view: sentences for people, and figures that are the same wherever they stand."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from proxy.simulator import ApiKey429, Error, quota_429
from tests.e2e.dashboard import VIEWS, dashboard, goto, row
from tests.e2e.furniture import furnish
from tests.service import Service, upstream_key

NOT_FOR_PEOPLE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:|\b\d\d:\d\d:\d\d\.\d|anthropic-ratelimit|retry-after|\bwas (?:healthy|degraded)\b"
)
"""Times of machines, names of headers, and a health that was one thing and is another."""


async def limited(service: Service) -> None:
    await furnish(service)
    for name, fault in (("zz-key", ApiKey429()), ("zz-quota", quota_429())):
        await service.add_account(name)
        service.simulator.script(upstream_key(name), fault)
    for _ in range(12):
        await service.message()


async def test_no_view_has_times_of_machines_or_names_of_headers(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=limited) as (service, page):
        [key, *_] = service.parts.keys
        routes = [*VIEWS, f"tokens/{key.id}", *(f"accounts/{each.id}" for each in service.parts.pool)]
        retried = [
            each["request_id"] for each in service.parts.request_log.since(0) if len(each["tries"]) > 1
        ]
        assert retried
        found = []
        for route in [*routes, *(f"requests/{each}" for each in retried)]:
            await goto(page, route)
            await page.get_by_text("Live", exact=True).wait_for()
            text = await page.get_by_role("main").inner_text()
            found += [f"{route}: {line}" for line in text.splitlines() if NOT_FOR_PEOPLE.search(line)]
        assert found == []


async def told(page: Page, title: str) -> str:
    """What the chart of that title says it comes to: "6"."""
    chart = page.locator("section.panel", has=page.get_by_role("heading", name=title, exact=True))
    sentence = chart.locator(".muted").last
    await expect(sentence).to_have_text(re.compile(r": [\d.,]+k?,"))
    found = re.search(r": ([\d.,]+k?),", await sentence.inner_text())
    assert found is not None
    return found[1]


async def test_a_figure_is_the_same_in_each_view(tmp_path: Path, browser: Browser) -> None:
    async def used(service: Service) -> None:
        service.simulator.script(None, Error(404))
        for _ in range(6):
            await service.message()
        await service.send("GET", "/v1/models")
        service.clock.advance(60)  # so that a whole minute is over

    async with dashboard(tmp_path, browser, accounts=("team-a",), prepare=used) as (service, page):
        (account,) = service.parts.pool
        figures = page.locator(".figures")
        await expect(figures).to_contain_text("errors, last hour116.7 % of 6 requests")
        await expect(figures).to_contain_text(re.compile(r"requests/min6"))
        shown = await figures.locator(".figure").filter(has_text="tokens/min").inner_text()
        a_minute = shown.split("\n")[1].strip()
        for view in ("accounts", "tokens"):
            await goto(page, view)
            cells = row(page, "team-a" if view == "accounts" else "tests").locator(".c-requests_24h")
            await expect(cells).to_have_text(re.compile(r"^6\b"))
        for route in (f"accounts/{account.id}", "usage"):
            await goto(page, route)
            assert await told(page, "Requests") == "6", route
        await goto(page, f"accounts/{account.id}")
        await expect(page.get_by_text("6 requests, 1 error ·")).to_be_visible()
        await goto(page, "usage?range=1h")
        assert await told(page, "Tokens") == a_minute  # all in that minute
