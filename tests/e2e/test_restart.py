"""The server goes away under load and comes back: the page catches up by itself, to the last word."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from playwright.async_api import Browser

from tests.e2e.cable import cable
from tests.e2e.dashboard import OFFLINE, VIEWS, RunningClock, goto, live, same, visit
from tests.e2e.furniture import furnish
from tests.e2e.traffic import traffic
from tests.service import serve

AWAY_S = 20.0 if "E2E_LONG" in os.environ else 1.0


async def test_after_a_restart_the_page_shows_what_a_new_one_shows(tmp_path: Path, browser: Browser) -> None:
    clock = RunningClock()
    async with contextlib.AsyncExitStack() as stack:
        line = await stack.enter_async_context(cable())
        async with serve(tmp_path, accounts=(), clock=clock) as before:
            await furnish(before)
            line.to = before.port
            old = await stack.enter_async_context(visit(browser, line, "accounts", allow=OFFLINE))
            await old.evaluate("window.kept = true")
            async with traffic(before, per_s=100):
                await asyncio.sleep(0.5)
                line.cut()
        await asyncio.sleep(AWAY_S)
        async with serve(tmp_path, accounts=("new",), clock=clock) as after:
            line.to = after.port
            line.mend()
            await live(old, within_s=3)
            async with traffic(after, per_s=100):
                await asyncio.sleep(0.5)
            async with visit(browser, after) as new:
                for view in VIEWS:
                    if view not in ("connect", "settings"):  # which tell the port
                        await asyncio.gather(goto(old, view), goto(new, view))
                        await same(old, new)
            assert await old.evaluate("window.kept")
            await stack.aclose()  # the page behaves also while its server stops
