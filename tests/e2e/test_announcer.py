"""A screen reader hears of trouble, at most once in five seconds, and never of counters."""

from __future__ import annotations

import asyncio
import os
import re
from itertools import pairwise
from pathlib import Path

from playwright.async_api import Browser

from tests.e2e.dashboard import dashboard
from tests.e2e.traffic import traffic

FOR_S = 60.0 if "E2E_LONG" in os.environ else 12.0
NAMES = tuple(f"team-{n}" for n in range(20))

LISTEN = """() => {
  window.heard = [];
  const live = "[aria-live=polite], [aria-live=assertive], [role=status], [role=alert]";
  new MutationObserver((list) => {
    for (const { target } of list) {
      const region = (target.nodeType === 1 ? target : target.parentElement)?.closest(live);
      const text = region?.textContent.trim();
      if (text && window.heard.at(-1)?.[1] !== text) window.heard.push([performance.now(), text]);
    }
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


async def test_under_load_trouble_is_told_and_counters_are_not(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "overview", accounts=NAMES) as (service, page):
        await page.evaluate(LISTEN)
        pool = service.parts.pool
        async with traffic(service, per_s=200):
            for n in range(round(FOR_S / 0.5)):
                account = next(a for a in pool if a.name == NAMES[n % 10])
                if n % 20 < 10:
                    pool.limit(account.id, service.clock.now() + 3600, "the 5h window is used up")
                elif n % 20 == 10:
                    pool.invalidate(account.id, "the API answered 401")
                await asyncio.sleep(0.5)
        heard = await page.evaluate("() => window.heard")
        texts = [text for _, text in heard]
        times = [at for at, _ in heard]
        assert any("Rate limited" in text or "rate limited" in text for text in texts), texts
        assert all(after - before > 4_900 for before, after in pairwise(times)), heard
        assert len(heard) <= FOR_S / 5 + 1
        counters = re.compile(r"\d+[smh]\b|\d+/min|\brequests\b|in flight", re.IGNORECASE)
        assert [text for text in texts if counters.search(text)] == []
