"""No label of a chart leaves its place or touches the next, whatever the hour, the month and the time zone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.e2e.dashboard import dashboard, goto

WIDTHS = (320, 360, 599, 600, 1024, 1440)
TIMES = ("utc", "America/New_York", "Asia/Kolkata", "Pacific/Chatham")
"""As the page is told to show them, or the zone of the browser."""

# Charts of the page's own module in the place of those of the view: alone in a panel, and beside another as with an
# account. `window.walk` draws them at each hour of a day, and in each month of the year, and returns what is wrong.
CHARTS = """async () => {
  const module = (name) => import(new URL(name, document.querySelector("script[type=module]").src));
  const [{ bars }, { clock }, { money }] = await Promise.all(["ui/chart.js", "format.js", "format.js"].map(module));
  const SPANS = { "1h": [60, 60], "24h": [24, 3600], "7d": [168, 3600], "30d": [30, 86_400] };
  let now, utc;
  const app = { t: (key) => key, clock: (at, options) => clock(at, { utc, zone: true, now, ...options }) };
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

  const right = (span) => {
    const range = document.createRange();
    range.selectNodeContents(span);
    return range.getBoundingClientRect();
  };
  function wrong() {
    const found = [], wide = document.documentElement.scrollWidth - innerWidth;
    if (wide > 0) found.push(`the page is ${wide} px too wide`);
    for (const x of document.querySelectorAll("#view .x")) {
      const end = x.getBoundingClientRect().right, labels = [...x.children].filter((span) => span.offsetWidth);
      const each = x.offsetWidth / labels.length;
      labels.forEach((span, n) => {
        const box = right(span), next = n + 1 < labels.length ? right(labels[n + 1]).left : end + 4;
        if (!box.width) found.push("a label is empty");
        const over = box.right - next;
        if (over > -4) found.push(`“${span.textContent}” ends ${over.toFixed(1)} px behind the start of the next`);
        const off = box.left - x.getBoundingClientRect().left - n * each;
        if (Math.abs(off) > 1) found.push(`“${span.textContent}” is ${off.toFixed(1)} px off its bar`);
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
            await page.set_viewport_size({"width": width, "height": 900})
            wrong = await page.evaluate("(given) => window.walk(given)", [[*A_DAY, *A_YEAR], times == "utc"])
            found += [f"{width}: {each}" for each in wrong]
        assert found[:9] == []
