"""What a change costs until it is painted, and what the first view costs. Timed only by `make e2e-long`.

The load is 200 accounts, 1000 sessions and 10 000 events a minute; the server, the browser and this test share the
machine, so the numbers are upper bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from proxy.accounts.account import Account
from tests.e2e.dashboard import RunningClock, goto, live, row, visit
from tests.e2e.traffic import Ended, add_sessions, traffic
from tests.service import Service, serve

LONG = "E2E_LONG" in os.environ
NAMES = tuple(f"team-{n:03}" for n in range(200 if LONG else 30))
SESSIONS = 1000 if LONG else 100
PER_S = 10_000 / 60
CHANGES = 400 if LONG else 20

# The mutation comes in an animation frame; the task after it runs when that frame is painted.
WATCH = """(name) => {
  const rows = [...document.querySelectorAll("main tbody tr")];
  const named = rows.find((tr) => tr.querySelector("a")?.textContent === name);
  const heads = [...document.querySelectorAll("main thead th")].map((th) => th.textContent.trim());
  const cell = named.children[heads.indexOf("In flight")];
  window.painted = {};
  new MutationObserver(() => {
    const text = cell.textContent;
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { window.painted[text] ??= (performance.timeOrigin + performance.now()) / 1000; };
    port2.postMessage(null);
  }).observe(cell, { subtree: true, characterData: true, childList: true });
}"""
WATCH_ROWS = """() => {
  window.painted = {};
  new MutationObserver((list) => {
    const ids = list.flatMap(({ addedNodes }) => [...addedNodes].map((tr) => tr.querySelector("th")?.title ?? ""));
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      for (const id of ids) window.painted[id] ??= (performance.timeOrigin + performance.now()) / 1000;
    };
    port2.postMessage(null);
  }).observe(document.querySelector("main tbody"), { childList: true });
}"""
LONG_TASKS = """() => {
  window.longTasks = [];
  new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map(({ duration }) => duration)))
    .observe({ type: "longtask" });
}"""
FIRST = """() => new Promise((resolve) => {
  let shift = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => {
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    resolve([paint.startTime, window.rowsAt, shift]);
  }, 300);
})"""
# When the first row of data stood in the table.
ROWS = """
  addEventListener("DOMContentLoaded", () => new MutationObserver((_, observer) => {
    if (!document.querySelector("main tbody tr[data-id]")) return;
    window.rowsAt = performance.now();
    observer.disconnect();
  }).observe(document.body, { subtree: true, childList: true }));
"""


async def latencies(service: Service, page: Page, probe: Account) -> list[float]:
    """From the change in the server to the painted cell, in ms, sorted: requests begin on the first row."""
    await page.evaluate(WATCH, probe.name)
    changed: dict[int, float] = {}
    with contextlib.ExitStack() as requests:
        for n in range(1, CHANGES + 1):
            changed[n] = time.time()
            requests.callback(service.parts.pool.begin(probe.id).close)
            await asyncio.sleep(0.15 + 0.01 * (n % 7))  # against no fixed phase of the server's tick
        await page.wait_for_timeout(1000)
    painted = {int(text): at for text, at in (await page.evaluate("() => window.painted")).items()}
    # What is overtaken by a later change is never painted itself.
    return sorted((min(at for m, at in painted.items() if m >= n) - at) * 1000 for n, at in changed.items())


@contextlib.asynccontextmanager
async def loaded(folder: Path, browser: Browser):  # type: ignore[no-untyped-def]
    """A service under the load, its first row's account, and a tab that has settled."""
    async with serve(folder, accounts=NAMES, clock=RunningClock()) as service:
        add_sessions(service, SESSIONS)
        # An account in trouble stands first, and no request of the load goes there.
        probe = next(iter(service.parts.pool))
        async with visit(browser, service, "accounts") as page, traffic(service, per_s=PER_S, but=probe.id):
            await page.wait_for_timeout(1000)
            yield service, page, probe


async def test_a_change_is_painted(tmp_path: Path, browser: Browser) -> None:
    async with loaded(tmp_path, browser) as (service, page, probe):
        took = await latencies(service, page, probe)
        print(f"change to paint: {quantiles(took)}")


@pytest.mark.timed
async def test_a_change_is_painted_in_time(tmp_path: Path, browser: Browser) -> None:
    async with loaded(tmp_path, browser) as (service, page, probe):
        await page.evaluate(LONG_TASKS)
        took = await latencies(service, page, probe)
        tasks = await page.evaluate("() => window.longTasks")
        print(f"change to paint: {quantiles(took)}; long tasks: {tasks}")
        assert took[int(len(took) * 0.95)] <= 100
        assert took[int(len(took) * 0.99)] <= 150
        assert tasks == []


@pytest.mark.timed
async def test_a_change_is_painted_in_time_on_a_slow_machine(tmp_path: Path, browser: Browser) -> None:
    async with loaded(tmp_path, browser) as (service, page, probe):
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Emulation.setCPUThrottlingRate", {"rate": 4})
        took = await latencies(service, page, probe)
        print(f"change to paint, a quarter of the speed: {quantiles(took)}")
        assert took[int(len(took) * 0.95)] <= 200


@contextlib.asynccontextmanager
async def listed(folder: Path, browser: Browser):  # type: ignore[no-untyped-def]
    """The requests of the load as they are listed: when each ended, and the tab."""
    async with serve(folder, accounts=NAMES, clock=RunningClock()) as service:
        add_sessions(service, SESSIONS)
        async with visit(browser, service, "requests") as page, traffic(service, per_s=PER_S) as ended:
            await page.mouse.move(5, 5)  # rows that somebody points at wait
            await page.locator("main tbody tr[data-kind]").nth(99).wait_for()
            await page.wait_for_timeout(1000)
            yield ended, page


async def rows_painted(ended: Ended, page: Page, count: int) -> list[float]:
    """From the end of each of so many requests to its painted row, in ms, sorted."""
    await page.evaluate(WATCH_ROWS)
    first = time.time() + 0.5
    await page.wait_for_function(
        "(count) => Object.keys(window.painted).length >= count", arg=count, timeout=0
    )
    painted = await page.evaluate("() => window.painted")
    last = max(ended[id] for id in painted)
    due = {id: at for id, at in ended.items() if first <= at < last - 0.5}
    assert due.keys() <= painted.keys()
    return sorted((painted[id] - at) * 1000 for id, at in due.items())


async def test_every_request_is_painted(tmp_path: Path, browser: Browser) -> None:
    async with listed(tmp_path, browser) as (ended, page):
        took = await rows_painted(ended, page, CHANGES * 20)
        print(f"{len(took)} requests from end to paint: {quantiles(took)}")


@pytest.mark.timed
async def test_requests_are_painted_in_time(tmp_path: Path, browser: Browser) -> None:
    async with listed(tmp_path, browser) as (ended, page):
        await page.evaluate(LONG_TASKS)
        took = await rows_painted(ended, page, CHANGES * 20)
        tasks = await page.evaluate("() => window.longTasks")
        print(f"{len(took)} requests from end to paint: {quantiles(took)}; long tasks: {tasks}")
        assert took[int(len(took) * 0.95)] <= 100
        assert took[int(len(took) * 0.99)] <= 150


def quantiles(took: list[float]) -> str:
    return ", ".join(f"p{q} {took[int(len(took) * q / 100)]:.0f} ms" for q in (50, 95, 99))


@pytest.mark.parametrize("view", ["overview", "accounts"])
async def test_the_first_view_does_not_jump(tmp_path: Path, browser: Browser, view: str) -> None:
    async with (
        serve(tmp_path, accounts=NAMES, clock=RunningClock()) as service,
        visit(browser, service, view, init=ROWS) as page,
    ):
        origin = page.url.partition("#")[0]
        # Again with nothing in the cache, now that the browser is signed in.
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
        await page.goto("about:blank")
        await page.goto(f"{origin}#/{view}")
        await live(page)
        if view == "accounts":
            await row(page, NAMES[0]).wait_for()
        paint, rows, shift = await page.evaluate(FIRST)
        print(
            f"{view}: first contentful paint {paint:.0f} ms, rows {rows or 0:.0f} ms, layout shift {shift:.3f}"
        )
        assert shift <= 0.02
        if LONG:
            assert paint <= 300
            assert view != "accounts" or rows <= 500


@pytest.mark.parametrize("view", ["accounts", "sessions"])
async def test_only_a_page_of_rows_is_in_the_document(tmp_path: Path, browser: Browser, view: str) -> None:
    names = tuple(f"team-{n:03}" for n in range(120))
    async with serve(tmp_path, accounts=names, clock=RunningClock()) as service:
        add_sessions(service, 120)
        async with visit(browser, service, view) as page:
            await goto(page, view)
            rows = page.get_by_role("main").locator("tbody tr")
            await expect(rows).to_have_count(100)
            await page.get_by_role("button", name="Next").click()
            await expect(page.get_by_text("101–120 of 120")).to_be_visible()
            await expect(rows).to_have_count(20)
            await expect(page).to_have_url(re.compile("p=2"))
