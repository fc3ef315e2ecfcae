"""Nothing is cut off and nothing scrolls sideways, in any view, at any width, in both themes."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests.e2e.dashboard import SIZES, THEMES, dashboard, resize
from tests.e2e.dialogs import WAYS
from tests.e2e.furniture import furnish

NARROW = {600: 900, 640: 900}
"""Where tables have the least room for their columns."""

OVERFLOW = """() => {
  const found = [];
  const wide = document.documentElement.scrollWidth - innerWidth;
  if (wide > 0) found.push(`the page is ${wide} px too wide`);
  const says = (el) => `${el.outerHTML.split(">")[0]}> “${el.textContent.trim().slice(0, 40)}”`;
  for (const el of document.body.querySelectorAll("*")) {
    const box = el.getBoundingClientRect();
    const style = getComputedStyle(el);
    const unseen = style.visibility !== "visible" || style.clipPath !== "none" || el.closest("svg, option");
    if (box.width <= 1 || box.height <= 1 || unseen) continue;
    if (box.right > innerWidth + 1 || box.left < -1) {
      let scrolls = false;
      for (let up = el.parentElement; up; up = up.parentElement)
        scrolls ||= /auto|scroll/.test(getComputedStyle(up).overflowX) && up.scrollWidth > up.clientWidth;
      if (!scrolls) found.push(`outside the window: ${says(el)}`);
    }
    const text = [...el.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || style.overflow === "visible") continue;
    // What ends in an ellipsis has a title, or expands; of ids eight characters are enough.
    const told = style.textOverflow === "ellipsis" && el.closest("[title], [aria-expanded]") || el.matches("code");
    const cut = el.scrollWidth > el.clientWidth + 1 && !/auto|scroll/.test(style.overflowX) && !told;
    const low = el.scrollHeight > el.clientHeight + 2 && !/auto|scroll/.test(style.overflowY);
    if (style.display !== "inline" && (cut || low)) found.push(`cut off: ${says(el)}`);
  }
  return found;
}"""


async def overflows(page: Page) -> list[str]:
    """What is cut off, or outside."""
    return list(await page.evaluate(OVERFLOW))


async def in_all_shapes(page: Page) -> None:
    """AssertionError with what is wrong in any size or theme; 320 px is also 1280 at a zoom of 400 %."""
    found = []
    for width, height in {320: 640, **SIZES, **NARROW}.items():
        await resize(page, width, height)
        for theme in THEMES[: 1 if width in NARROW else None]:
            await page.emulate_media(color_scheme=theme)
            found += [f"{width} {theme}: {each}" for each in await overflows(page)]
    if found:
        raise AssertionError("\n".join(found))


@pytest.mark.parametrize("width", SIZES)
async def test_a_menu_opens_inside_the_window(tmp_path: Path, browser: Browser, width: int) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=furnish, width=width) as (_, page):
        await WAYS["account menu"](page)
        assert await overflows(page) == []
