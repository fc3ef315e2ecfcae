"""The last requests in a browser: they come by themselves, are filtered by the address, and each has its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from proxy.simulator import Error, Fault, no_credit
from proxy.usage.request import RequestRecord
from proxy.usage.request_log import MOST_AT_ONCE, Wanted
from tests.canaries import leaked
from tests.e2e.cable import cabled
from tests.e2e.dashboard import dashboard, goto, held, live
from tests.e2e.test_axe import barriers
from tests.e2e.test_layout import in_all_shapes
from tests.service import CLIENT_KEY, MESSAGE_HEADERS, Service, message, until, upstream_key

PROMPT = "The-Prompt-of-this-test"
LOG = "**/api/admin/requests?*"


def rows(page: Page) -> Locator:
    return page.get_by_role("main").locator("tbody tr[data-kind]")


async def answered(service: Service, *faults: Fault | None) -> None:
    """A message for each fault, or without one."""
    for fault in faults:
        if fault is not None:
            service.simulator.script(None, fault)
        await service.message()


async def test_new_ones_come_by_themselves_newest_first(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "requests", accounts=("team-a",)) as (service, page):
        await expect(page.get_by_text("No requests yet.")).to_be_visible()
        await answered(service, None)
        await expect(rows(page)).to_have_count(1)
        await answered(service, Error(404))
        await expect(rows(page)).to_have_count(2)
        await expect(rows(page).first).to_contain_text("404")
        await expect(rows(page).first).to_contain_text("Client error")
        await expect(rows(page).last).to_contain_text("claude-sonnet-5-5")


async def test_filters_stand_in_the_address_and_hold_for_what_comes(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "requests", accounts=("team-a",)) as (service, page):
        await answered(service, None, Error(404), None)
        await expect(rows(page)).to_have_count(3)
        await page.get_by_label("Result").select_option("All that failed")
        await expect(rows(page)).to_have_count(1)
        await expect(page).to_have_url(re.compile(r"#/requests\?status=failed$"))
        await answered(service, None, Error(400))
        await expect(rows(page)).to_have_count(2)
        await page.reload()
        await expect(rows(page)).to_have_count(2)
        await expect(page.get_by_label("Result")).to_have_value("failed")
        await page.get_by_role("searchbox").fill("nothing")
        await page.get_by_role("button", name="Clear filters").click()
        await expect(rows(page)).to_have_count(5)
        await expect(page).to_have_url(re.compile(r"#/requests$"))


@pytest.mark.parametrize("width", [390, 768, 1440])
async def test_the_day_and_the_time_of_an_older_one_are_both_seen(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async def two_days(service: Service) -> None:
        await answered(service, None)
        service.clock.advance(86_400)
        await answered(service, None)

    one = ("team-a",)
    async with dashboard(tmp_path, browser, "requests", accounts=one, prepare=two_days, width=width) as (
        _,
        page,
    ):
        ended = rows(page).locator("th")
        await expect(ended.last).to_have_text(re.compile(r"^16:15:\d\d\s*28 Sept$"), use_inner_text=True)
        await expect(ended.first).to_have_text(re.compile(r"^16:15:\d\d$"), use_inner_text=True)
        cut = "(all) => all.filter((el) => el.scrollWidth > el.clientWidth).length"
        assert await ended.locator("*").evaluate_all(cut) == 0


async def painted(service: Service, page: Page) -> None:
    """Return once the page has been painted anew several times, each time for an account that is invalid now."""
    for n, account in enumerate(service.parts.pool, 1):
        service.parts.pool.invalidate(account.id, "a test")
        await expect(page).to_have_title(re.compile(rf"^\({n}!\) "))


async def test_they_are_asked_for_once_however_long_the_answer_takes(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser) as (service, page):
        await answered(service, None)
        asked, go = await held(page, LOG)
        await goto(page, "requests")
        await painted(service, page)
        go.set()
        await expect(rows(page)).to_have_count(1)
        assert len(asked) == 1
        await service.message()
        await expect(rows(page)).to_have_count(2)
        assert len(asked) == 1


async def test_what_is_refused_says_why_and_waits_for_retry(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "requests?status=foo") as (service, page):
        why = page.get_by_text(re.compile(r"^Could not load\. status: a number, a class such as 4xx"))
        await expect(why).to_be_visible()
        await expect(page.get_by_role("button", name="Older")).to_be_hidden()
        asked: list[str] = []
        page.on("request", lambda request: "/api/" in request.url and asked.append(request.url))
        service.simulator.script(None, Error(404))
        await service.message()
        await painted(service, page)
        assert asked == []
        await page.get_by_role("button", name="Retry").press("Enter")
        await expect(why).to_be_visible()
        await expect(page.get_by_role("heading", level=2)).to_be_focused()
        await page.get_by_label("Result").select_option("All that failed")
        await expect(rows(page)).to_have_count(1)
        assert len(asked) == 2


async def test_a_filter_that_was_chosen_without_a_network_holds_with_the_next_connection(
    tmp_path: Path, browser: Browser
) -> None:
    async with cabled(tmp_path, browser, "requests") as (service, line, page):
        await answered(service, None, Error(404))
        await expect(rows(page)).to_have_count(2)
        line.cut()
        await page.get_by_label("Result").select_option("All that failed")
        await expect(page.get_by_text("Could not load. The server cannot be reached.")).to_be_visible()
        await expect(rows(page)).to_have_count(1)
        await answered(service, Error(400))
        asked: list[str] = []
        page.on("response", lambda response: asked.append(response.url))
        line.mend()
        await live(page)
        await expect(rows(page)).to_have_count(2)
        await expect(page.get_by_text("Could not load.")).to_be_hidden()
        await answered(service, None, Error(400))
        await expect(rows(page)).to_have_count(3)
        assert len([url for url in asked if "/api/admin/requests" in url]) == 1


async def test_a_span_that_is_none_leaves_nothing_out(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "requests?from=abc&to=2026-13-01T00:00:00Z") as (service, page):
        await answered(service, None)
        await expect(rows(page)).to_have_count(1)
        await goto(page, "usage?from=abc&to=x")
        await expect(page.get_by_role("button", name="last 24 h")).to_have_attribute("aria-pressed", "true")
        await expect(page.get_by_role("img", name=re.compile("^Requests, last 24 h: 1"))).to_be_visible()


async def test_they_wait_while_somebody_reads(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "requests", accounts=("team-a",)) as (service, page):
        await answered(service, None)
        await rows(page).first.hover()
        await answered(service, None, None)
        news = page.get_by_role("button", name="2 new · Show")
        await expect(news).to_be_visible()
        await expect(rows(page)).to_have_count(1)
        await news.click()
        await expect(rows(page)).to_have_count(3)
        await page.mouse.move(0, 0)
        await page.get_by_role("button", name="Pause").click()
        await answered(service, None)
        await expect(page.get_by_role("button", name="1 new · Show")).to_be_visible()
        await expect(rows(page)).to_have_count(3)
        await page.get_by_role("button", name="Follow").click()
        await expect(rows(page)).to_have_count(4)


async def many(service: Service) -> None:
    """More than are loaded at once."""
    for _ in range(MOST_AT_ONCE + 50):
        await service.send("GET", "/v1/models")


async def test_older_ones_are_a_page_away(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "requests", accounts=(), prepare=many) as (_, page):
        await expect(rows(page)).to_have_count(100)
        await expect(page.get_by_text("1–100 of")).to_be_visible()
        older = page.get_by_role("button", name="Older")
        await older.click()
        await expect(page.get_by_text("101–200 of")).to_be_visible()
        await older.click()
        await expect(page.get_by_text("201–250 of 250")).to_be_visible()
        await expect(rows(page)).to_have_count(50)
        await expect(older).to_be_disabled()


async def test_older_than_those_that_are_still_asked_for_waits_for_them(
    tmp_path: Path, browser: Browser
) -> None:
    async with dashboard(tmp_path, browser, "requests", accounts=(), prepare=many) as (service, page):
        await expect(rows(page)).to_have_count(100)
        asked, go = await held(page, LOG)
        await page.get_by_label("Result").select_option("All that failed")
        older = page.get_by_role("button", name="Older")
        await older.click()  # to a page that is in the list
        await expect(page.get_by_text("101–200 of")).to_be_visible()
        await older.click()
        go.set()
        await expect(page.get_by_text("1–100 of")).to_be_visible()
        await older.blur()
        await page.mouse.move(0, 0)
        first = rows(page).locator("th").first
        newest = await first.get_attribute("title")
        await service.send("GET", "/v1/models")
        await expect(first).not_to_have_attribute("title", str(newest))
        assert len(asked) == 1


async def test_keys_lead_through_the_rows_and_to_a_page(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "requests", accounts=("team-a",)) as (service, page):
        await answered(service, None, Error(404))
        await expect(rows(page)).to_have_count(2)
        await rows(page).first.focus()
        await page.keyboard.press("j")
        await expect(rows(page).last).to_be_focused()
        await page.keyboard.press("ArrowUp")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=2)).to_have_text("POST /v1/messages")
        await expect(page.get_by_role("heading", level=2)).to_be_focused()
        await page.keyboard.press("g")
        await page.keyboard.press("r")
        await expect(rows(page)).to_have_count(2)


async def test_times_in_a_reason_are_told_as_all_times_are(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "requests", accounts=("team-a",)) as (service, page):
        (account,) = service.parts.pool
        service.parts.pool.limit(account.id, service.clock.now() + 600, "the 5h window is used up")
        assert (await service.message()).status == 429
        result = rows(page).locator(".c-rq_result")
        await expect(result).to_have_attribute(
            "title", re.compile(r"comes back first, at \d\d:\d\d:\d\d GMT")
        )
        await rows(page).get_by_role("link").click()
        await expect(page.get_by_text("comes back first")).to_have_text(
            re.compile(r", at \d\d:\d\d:\d\d GMT")
        )


async def test_a_page_tells_why(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=("team-a", "team-b")) as (service, page):
        service.simulator.script(upstream_key("team-a"), no_credit())
        answer = await service.message(stream=True)
        id = str(answer.header("request-id"))
        await goto(page, f"requests/{id}")
        text = page.get_by_role("main")
        await expect(text).to_contain_text("200 Answered")
        for told in (
            "400 account rests: next account", "credit balance", "200 handed on", id, "12 in, 64 out",
            "Nothing ties the request to an account", "streamed",
        ):  # fmt: skip
            await expect(text).to_contain_text(told)
        await in_all_shapes(page)
        assert await barriers(page) == []
        await text.get_by_role("link", name="tests").click()
        await expect(rows(page)).to_have_count(1)
        await goto(page, "requests/req_nobody")
        await expect(text).to_contain_text("This request is not kept")


@pytest.mark.parametrize(
    ("route", "way"), [("tokens", "tests"), ("sessions", "ses_"), ("accounts", "team-a")], ids=lambda x: x
)
async def test_keys_sessions_and_accounts_lead_to_their_requests(
    tmp_path: Path, browser: Browser, route: str, way: str
) -> None:
    async with dashboard(tmp_path, browser, accounts=("team-a",)) as (service, page):
        await answered(service, None)
        await goto(page, route)
        if route == "accounts":
            await page.get_by_role("link", name=way).click()
            await page.get_by_role("main").get_by_role("link", name="Requests").click()
        else:
            await page.get_by_role("button", name=re.compile(f"Actions for {way}")).click()
            await page.get_by_role("menuitem", name="Requests").click()
        await expect(rows(page)).to_have_count(1)
        await expect(page).to_have_url(re.compile(r"#/requests\?(key=tok|session=ses|account=acc)_"))


async def test_a_bar_with_errors_leads_to_them(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, accounts=("team-a",)) as (service, page):
        await answered(service, None, Error(404))
        await goto(page, "usage?range=1h")
        chart = page.get_by_role("img", name=re.compile("^Requests"))
        await expect(chart).to_have_accessible_name(re.compile(": 2, peak"))
        await chart.focus()
        await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("Enter")
        await expect(rows(page)).to_have_count(1)
        await expect(rows(page)).to_contain_text("404")
        await page.get_by_role("main").get_by_role("button", name="✕").click()
        await expect(page).to_have_url(re.compile(r"\?status=failed$"))


async def test_no_word_of_a_prompt_is_shown(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "requests", accounts=("team-a",)) as (service, page):
        body = message(messages=[{"role": "user", "content": PROMPT}])
        await service.send("POST", f"/v1/messages?x={PROMPT}", MESSAGE_HEADERS, body)
        await expect(rows(page)).to_have_count(1)
        await rows(page).get_by_role("link").click()
        await expect(page.get_by_role("heading", level=2)).to_have_text("POST /v1/messages")
        assert leaked(await page.content(), [PROMPT, CLIENT_KEY, upstream_key("team-a")]) == []


async def test_a_burst_leaves_no_gap(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "requests", accounts=()) as (service, page):
        await service.send("GET", "/v1/models")
        await expect(rows(page)).to_have_count(1)
        await page.mouse.move(0, 0)  # rows under it stay where they are
        key, now, log = next(iter(service.parts.keys)), service.clock.monotonic(), service.parts.request_log
        for _ in range(3 * MOST_AT_ONCE):  # in one turn of the loop: most of them are in no frame
            log.keep(RequestRecord(now, key=key, ended_at=now, status=200, complete=True))
        await until(lambda: log.newest == 3 * MOST_AT_ONCE + 1)  # a shared log brings them back by and by
        newest = log.find(Wanted(), most=1)[0].request_id
        await expect(rows(page).locator("th").first).to_have_attribute("title", newest)
        seen: list[str] = []
        for n in range(4):
            await expect(page.get_by_text(re.compile(rf"^{n * 100 + 1}–{n * 100 + 100} of "))).to_be_visible()
            seen += await rows(page).locator("th").evaluate_all("(heads) => heads.map((head) => head.title)")
            await page.get_by_role("button", name="Older").click()
        assert seen == [kept.request_id for kept in log.find(Wanted(), most=400)]
