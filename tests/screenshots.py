"""Pictures of the demo for the README, in tests/screenshots: `make screenshots`."""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
from pathlib import Path

from playwright.async_api import Page, async_playwright

from tests.e2e.dashboard import goto, live, sign_in
from tests.process import running
from tests.service import ADMIN_KEY

FOLDER = Path(__file__).with_suffix("")
SETTLED_S = 75
"""By then limits have passed and come again, and a token was refreshed."""

DRAWN_S = 2
SIZES = {"": (1440, 900, 1), "-phone": (390, 844, 2)}
VIEWS = {"": ("overview", "accounts", "usage"), "-phone": ("overview", "accounts")}


async def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        async with (
            running(Path(home), "--demo", SERVER__PORT="0", AUTH__API_KEY=ADMIN_KEY) as demo,
            async_playwright() as playwright,
            await playwright.chromium.launch(
                executable_path=shutil.which("chromium-headless-shell"), args=["--no-sandbox"]
            ) as browser,
        ):
            await asyncio.sleep(SETTLED_S)
            for theme in ("light", "dark"):
                for size, (width, height, scale) in SIZES.items():
                    async with await browser.new_context(
                        viewport={"width": width, "height": height},
                        color_scheme=theme,
                        reduced_motion="reduce",
                    ) as context:
                        page = await context.new_page()
                        await page.goto(f"http://127.0.0.1:{demo.port}/")
                        await sign_in(page)
                        await page.mouse.move(0, 0)  # or what the pointer rests on is lit
                        await live(page)
                        for view in VIEWS[size]:
                            await goto(page, view)
                            await page.get_by_role("heading", level=2, name=view.capitalize()).wait_for()
                            await asyncio.sleep(DRAWN_S)
                            await picture(page, scale, FOLDER / f"{view}{size}-{theme}.webp")


async def picture(page: Page, scale: float, path: Path) -> None:
    """What is seen now, as WebP, which Playwright's own screenshots are not: a third of a PNG's size."""
    assert page.viewport_size is not None
    clip = {"x": 0, "y": 0, "scale": scale, **page.viewport_size}
    browser = await page.context.new_cdp_session(page)
    taken = await browser.send("Page.captureScreenshot", {"format": "webp", "quality": 80, "clip": clip})
    await asyncio.to_thread(path.write_bytes, base64.b64decode(taken["data"]))


if __name__ == "__main__":
    asyncio.run(main())
