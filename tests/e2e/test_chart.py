"""Charts: labels that fit and stand at whole times, and what pointing at them shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from proxy.simulator import Error, quota_429
from tests.e2e.dashboard import dashboard, goto, resize
from tests.service import Service, upstream_key

WIDTHS = (320, 360, 599, 600, 1024, 1440)
TIMES = ("utc", "America/New_York", "Asia/Kolkata", "Pacific/Chatham")
"""As the page is told to show them, or the zone of the browser."""

# Charts of the page's own module in the place of those of the view: alone in a panel, and beside another as with an
# account. `window.walk` draws them at each hour of a day, and in each month of the year, and returns what is wrong.
CHARTS = """async () => {
  const module = (name) => import(new URL(name, document.querySelector("script[type=module]").src));
  const [{ bars }, { clock }, { money }] = await Promise.all(["ui/chart.js", "format.js", "format.js"].map(module));
  const SPANS = { "1h": [60, 60], "24h": [96, 900], "7d": [84, 7200], "30d": [30, 86_400] };
  let now, utc;
  const settings = { get: () => (utc ? "utc" : "local") };
  const app = { t: (key) => key, settings, clock: (at, options) => clock(at, { utc, zone: true, now, ...options }) };
  const make = () => bars(app, { label: "A chart", text: money, series: [{ key: "cost_usd", label: "Cost" }] });
  const charts = [make(), make(), make()], view = document.querySelector("#view > section");
  const panel = (inner) => {
    const el = document.createElement("section");
    el.className = "panel";
    el.append(inner);
    return el;
  };
  const beside = document.createElement("div");
  beside.className = "account";
  beside.append(...charts.slice(1).map(({ el }) => panel(el)));
  view.replaceChildren(panel(charts[0].el), beside);

  function wrong() {
    const found = [], wide = document.documentElement.scrollWidth - innerWidth;
    if (wide > 0) found.push(`the page is ${wide} px too wide`);
    for (const x of document.querySelectorAll("#view .x")) {
      const { right: end } = x.closest(".panel").getBoundingClientRect(), labels = [...x.children];
      if (labels.length < 1 || labels.length > 16) found.push(`there are ${labels.length} labels`);
      labels.forEach((span, n) => {
        const { right } = span.getBoundingClientRect();
        if (!/^(\\d\\d:[0-5][05]|\\d{1,2} [A-Z][a-z]{2,3})$/.test(span.textContent)) {
          found.push(`“${span.textContent}” is neither a whole time nor a midnight`);
        }
        const over = right - (labels[n + 1]?.getBoundingClientRect().left ?? end);
        if (over > -4) found.push(`“${span.textContent}” ends ${over.toFixed(1)} px behind the start of the next`);
      });
    }
    return found;
  }

  window.walk = ([hours, inUtc]) => {
    const found = {};
    utc = inUtc;
    for (const name in SPANS) for (const hour of hours) {
      const [count, span_s] = SPANS[name];
      now = hour * 1000;
      const first = (Math.floor(hour / span_s) + 1 - count) * span_s;
      const bucket = (_, n) => ({ start: first + n * span_s, span_s, cost_usd: n * 1234 });
      const buckets = Array.from({ length: count }, bucket);
      for (const chart of charts) chart.patch(buckets);
      for (const each of wrong()) (found[each] ??= `${each}: ${name} at ${new Date(now).toISOString()}`);
    }
    return Object.values(found);
  };
}"""

HOUR_S = 3600
A_DAY = [1_790_553_600 + n * HOUR_S + HOUR_S // 2 for n in range(24)]
"""The hours of 28 September 2026: "Sept" is the longest name of a month."""

A_YEAR = [1_769_640_000 + n * 30 * 24 * HOUR_S for n in range(12)]
"""A day of each month."""


@pytest.mark.parametrize("times", TIMES)
async def test_labels_keep_their_places_all_day_and_all_year(
    tmp_path: Path, browser: Browser, times: str
) -> None:
    zone = "Pacific/Chatham" if times == "utc" else times
    async with dashboard(tmp_path, browser, "usage", accounts=(), timezone_id=zone) as (_, page):
        await goto(page, "usage")
        await page.evaluate(CHARTS)
        found = []
        for width in WIDTHS:
            await resize(page, width)
            wrong = await page.evaluate("(given) => window.walk(given)", [[*A_DAY, *A_YEAR], times == "utc"])
            found += [f"{width}: {each}" for each in wrong]
        assert found[:9] == []


# ---- pointing at them


def chart_of(page: Page, title: str) -> Locator:
    """The panel of that chart."""
    return page.locator("section.panel", has=page.get_by_role("heading", name=title, exact=True))


async def used(service: Service) -> None:
    service.simulator.script(None, Error(404))
    for _ in range(3):
        await service.message()


async def at(plot: Locator, part: float) -> tuple[float, float]:
    """A point in the picture: `part` of its width from the left."""
    box = await plot.bounding_box()
    assert box is not None
    return box["x"] + box["width"] * part, box["y"] + box["height"] / 2


async def test_the_mouse_reads_a_bar_out_with_its_total(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "usage?range=1h", prepare=used) as (_, page):
        requests = chart_of(page, "Requests")
        plot, tip = requests.get_by_role("img"), requests.locator(".tip")
        await expect(plot).to_have_accessible_name(re.compile("last hour: 3, peak 3/min"))
        await page.mouse.move(*await at(plot, 0.999))
        for line in ("Client errors1", "Answered2", "Total3", "time before0"):
            await expect(tip).to_contain_text(line)
        await page.mouse.move(5, 5)
        await expect(tip).to_be_hidden()


async def test_a_finger_reads_a_bar_out_and_it_stays(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(
        tmp_path, browser, "usage?range=1h", prepare=used, width=390, height=844, has_touch=True
    ) as (_, page):
        requests = chart_of(page, "Requests")
        await expect(requests.get_by_role("img")).to_have_accessible_name(re.compile(": 3, peak"))
        await page.touchscreen.tap(*await at(requests.get_by_role("img"), 0.999))
        await expect(requests.locator(".tip")).to_contain_text("Total3")
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        assert "#/usage" in page.url  # a tap reads out, and leads nowhere


async def test_a_key_of_the_legend_shows_its_series_alone(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "usage?range=1h", prepare=used) as (_, page):
        requests = chart_of(page, "Requests")
        key = requests.get_by_role("button", name="Client errors")
        await key.click()
        await expect(key).to_have_attribute("aria-pressed", "true")
        await expect(requests.get_by_role("img")).to_have_accessible_name(re.compile(": 1, peak 1/min"))
        await key.click()
        await expect(requests.get_by_role("img")).to_have_accessible_name(re.compile(": 3, peak 3/min"))


async def test_what_is_dragged_over_is_zoomed_to_by_all_charts(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "usage?range=1h&by=account", prepare=used) as (_, page):
        requests = chart_of(page, "Requests")
        plot = requests.get_by_role("img")
        await expect(plot).to_have_accessible_name(re.compile(": 3, peak"))
        await page.mouse.move(*await at(plot, 0.76))
        await page.mouse.down()
        await page.mouse.move(*await at(plot, 0.99))
        await page.mouse.up()
        await expect(page).to_have_url(re.compile(r"by=account&from=2026-09-28T10%3A1[56].*&to="))
        await expect(chart_of(page, "Errors").get_by_role("img")).to_have_accessible_name(
            re.compile("16:.*: 1, peak")
        )
        await page.get_by_role("button", name="Zoom out").first.click()
        await expect(page).to_have_url(re.compile(r"range=1h&by=account$"))


async def test_two_fingers_zoom_to_what_is_between_them(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(
        tmp_path, browser, "usage?range=1h", prepare=used, width=390, height=844, has_touch=True
    ) as (_, page):
        plot = chart_of(page, "Requests").get_by_role("img")
        await expect(plot).to_have_accessible_name(re.compile("last hour: 3, peak"))
        touch = await page.context.new_cdp_session(page)

        async def fingers(kind: str, *parts: float) -> None:
            points = [
                dict(zip("xy", await at(plot, part), strict=True), id=n) for n, part in enumerate(parts)
            ]
            await touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        await fingers("touchStart", 0.9)
        await fingers("touchStart", 0.9, 0.95)
        await fingers("touchMove", 0.76, 0.99)
        await fingers("touchEnd", 0.76)
        await fingers("touchEnd")
        await expect(page).to_have_url(
            re.compile(r"range=1h&from=2026-09-28T10%3A1[56].*&to=2026-09-28T10%3A3")
        )
        await expect(plot).to_have_accessible_name(re.compile("16:.*: 3, peak"))
        await page.get_by_role("button", name="Zoom out").first.click()
        await expect(page).to_have_url(re.compile(r"range=1h$"))


async def test_what_an_account_failed_at_is_told_by_kind_and_leads_to_its_requests(
    tmp_path: Path, browser: Browser
) -> None:
    async def failed(service: Service) -> None:
        key, other = upstream_key("team-a"), upstream_key("team-b")
        service.simulator.script(key, Error(404), Error(500), Error(500))
        service.simulator.script(other, Error(500))
        for _ in range(6):
            await service.message()
        service.simulator.script(key, quota_429())
        for _ in range(2):
            await service.message()

    async with dashboard(tmp_path, browser, "accounts", prepare=failed, settings={"retry__budget": "10"}) as (
        service,
        page,
    ):
        account = next(iter(service.parts.pool))
        await goto(page, f"accounts/{account.id}")
        await expect(page.locator(".account > p", has_text="429")).not_to_contain_text("T11:")
        tries = chart_of(page, "Failed tries")
        plot = tries.get_by_role("img")
        await expect(plot).to_have_accessible_name(re.compile("Failed tries, last 24 h: 4, peak"))
        names = ["Client errors", "Rate limited", "Refused", "Credential refused", "Upstream errors"]
        keys = tries.locator(".keys li:has([aria-pressed])")
        await expect(keys).to_have_text(names)
        for kind, label, count in (("upstream_error", "Upstream errors", 2), ("any", None, 4)):
            if label:
                await tries.get_by_role("button", name=label).click()
            await expect(plot).to_have_accessible_name(re.compile(f": {count}, peak"))
            await plot.scroll_into_view_if_needed()
            await page.mouse.click(*await at(plot, 0.999))
            await expect(page).to_have_url(
                re.compile(rf"requests\?failure={kind}&account={account.id}&from=.*&to=")
            )
            await expect(page.get_by_role("main").get_by_role("row")).to_have_count(
                1 + count
            )  # with its head
            await page.go_back()


async def test_a_split_tells_accounts_apart_as_the_table_does(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "usage", prepare=used) as (_, page):
        await page.get_by_label("Split").select_option("by account")
        await expect(page).to_have_url(re.compile("by=account"))
        rows = page.get_by_role("row").filter(has_text="team-")
        await expect(rows.first).to_be_visible()
        keys = chart_of(page, "Requests").locator(".keys [aria-pressed]")
        await expect(keys).to_have_count(2)
        await expect(rows).to_have_count(2)
        await expect(chart_of(page, "Requests").get_by_role("img")).to_have_accessible_name(
            re.compile(": 3, peak")
        )
