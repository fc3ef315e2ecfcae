"""axe-core finds no barrier in any view, dialog or state."""

from __future__ import annotations

import os
import re
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from tests.e2e.dashboard import THEMES, VIEWS, dashboard, goto, resize
from tests.e2e.dialogs import WAYS
from tests.e2e.furniture import furnish
from tests.e2e.test_layout import in_all_shapes

LONG = "E2E_LONG" in os.environ
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

REVIEWED = (
    # Icons, dashes and single digits: test_palette measures the colours of all text.
    r"color-contrast: Element content (contains only non-text characters|is too short)",
    # The button that is a "⋯" has no words to be repeated in its name.
    r"label-content-name-mismatch: Unable to determine .*⋯",
    # A wide table scrolls in a region of its own, and what is scrolled out is "obscured".
    r"color-contrast: .*obscured by another element: <t[hd]",
    # A text area would scroll if more was typed: with `overflow:hidden` axe has no doubt.
    r"color-contrast: .*partially obscured by another element: <textarea",
    # On wide screens the rail's lower links are a popover that is laid out in its place.
    r"color-contrast: .*(obscured|overlapped|image node).*: <span>(Requests|Usage|Events|Connect a client|Settings)",
    # A table without rows, beside which it is said why there are none.
    r"aria-required-children: Expecting ARIA child role to be added: row: <tbody",
    # While it loads, placeholders stand where the rows will be.
    r'th-has-data-cells: .*<table class="grid',
)
"""What axe cannot decide, and a person has looked at."""


def axe() -> str:
    """Its source, which the Makefile fetches."""
    [folder] = Path(sys.prefix).glob("axe-core-*")
    return (folder / "axe.min.js").read_text()


async def barriers(page: Page) -> list[str]:
    """What axe finds, and what it could not decide and nobody has reviewed."""
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(axe())
    found: list[dict[str, Any]] = await page.evaluate(
        """async (tags) => {
          const { violations, incomplete } = await axe.run({ runOnly: { type: "tag", values: tags } });
          return [...violations, ...incomplete].flatMap(({ id, nodes }) => nodes.map((node) => ({
            html: node.html.slice(0, 400),
            why: [...node.any, ...node.all, ...node.none].map(({ message }) => `${id}: ${message}`),
          })));
        }""",
        TAGS,
    )
    told = [f"{why}: {each['html']}" for each in found for why in each["why"]]
    return [each for each in told if not any(re.match(pattern, each) for pattern in REVIEWED)]


async def in_all_themes(page: Page) -> None:
    """AssertionError with what is found at a phone's width and a desk's, by day and by night."""
    found = []
    for width, theme in product((360, 1440), THEMES) if LONG else ((360, "dark"), (1440, "light")):
        await resize(page, width)
        await page.emulate_media(color_scheme=theme)
        found += [f"{width} {theme}: {each}" for each in await barriers(page)]
    if found:
        raise AssertionError("\n".join(found))


# The layout is looked at too, since to open all this takes longer than to look at it.


@pytest.mark.parametrize("view", VIEWS)
async def test_a_view_has_no_barriers_and_cuts_nothing_off(
    tmp_path: Path, browser: Browser, view: str
) -> None:
    async with dashboard(tmp_path, browser, view, accounts=(), prepare=furnish) as (_, page):
        await goto(page, view)
        await in_all_themes(page)
        await in_all_shapes(page)


async def test_the_login_has_no_barriers(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, signed_in=False) as (_, page):
        await in_all_themes(page)


@pytest.mark.parametrize("way", WAYS)
async def test_what_opens_has_no_barriers_and_cuts_nothing_off(
    tmp_path: Path, browser: Browser, way: str
) -> None:
    async with dashboard(tmp_path, browser, accounts=(), prepare=furnish) as (_, page):
        await WAYS[way](page)
        await in_all_themes(page)
        if way != "account menu":  # test_layout opens it in each size
            await in_all_shapes(page)
