"""The same state looks the same, however it came about: loaded, or led there by live updates.

No pictures are kept: they would be of one machine's fonts. Both are taken in the same run, on clocks that stand still.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.dashboard import SIZES, THEMES, goto, resize, row, same, visit
from tests.e2e.furniture import LONGEST_NAME, furnish
from tests.service import Service, TestClock, serve

MOST_DIFFERENT = 0.001

DIFFERENT = """async ([a, b]) => {
  const pixels = async (png) => {
    const image = new Image();
    image.src = `data:image/png;base64,${png}`;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
    canvas.drawImage(image, 0, 0);
    const { data, width, height } = canvas.getImageData(0, 0, image.width, image.height);
    return { size: `${width} ${height}`, data: new Uint32Array(data.buffer) };
  };
  const [one, other] = [await pixels(a), await pixels(b)];
  if (one.size !== other.size) return 1;
  return one.data.reduce((sum, pixel, at) => sum + (pixel !== other.data[at]), 0) / one.data.length;
}"""


async def pictures(page: Page) -> dict[str, bytes]:
    """Of the view in each size and theme."""
    taken = {}
    for width, height in SIZES.items():
        await resize(page, width, height)
        for theme in THEMES:
            await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            await page.mouse.move(0, 0)
            await page.evaluate("() => document.activeElement.blur()")
            taken[f"{width} {theme}"] = await page.screenshot(animations="disabled", caret="hide")
    return taken


async def different(browser: Browser, one: bytes, other: bytes) -> float:
    """The fraction of pixels that are not the same."""
    async with await browser.new_context() as context:
        page = await context.new_page()
        texts = [base64.b64encode(each).decode() for each in (one, other)]
        return float(await page.evaluate(DIFFERENT, texts))


async def stir(service: Service, page: Page) -> None:
    """Much happens, and in the end nothing has changed that is shown."""
    pool = service.parts.pool
    account = next(each for each in pool if each.name == LONGEST_NAME)
    await pool.update(account.id, name="another name")
    extra, _ = await service.add_account("comes and goes")
    await expect(row(page, "comes and goes")).to_be_visible()
    await expect(row(page, "another name")).to_be_visible()
    await pool.remove(extra.id)
    await pool.update(account.id, name=LONGEST_NAME)
    await expect(row(page, "comes and goes")).to_have_count(0)
    await expect(row(page, LONGEST_NAME)).to_be_visible()


@pytest.mark.parametrize(
    "view", ["accounts", "sessions", "tokens", "usage"]
)  # others tell events, or nothing live
async def test_live_updates_leave_no_trace(tmp_path: Path, browser: Browser, view: str) -> None:
    clock = TestClock()
    async with serve(tmp_path, accounts=(), clock=clock) as service:
        await furnish(service)
        clock.advance(12 * 60)  # so that what is told in minutes stays the same for a while
        async with visit(browser, service, "accounts") as old:
            await old.mouse.move(0, 0)  # under the pointer rows would keep their places
            await stir(service, old)
            async with visit(browser, service, "accounts") as new:
                await asyncio.gather(goto(old, view), goto(new, view))
                await same(old, new)
                before, after = await pictures(old), await pictures(new)
        off = {name: await different(browser, before[name], after[name]) for name in before}
        assert {name: share for name, share in off.items() if share > MOST_DIFFERENT} == {}
