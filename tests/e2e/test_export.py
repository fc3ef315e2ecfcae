"""What is exported comes back as it was, starts no formula in a spreadsheet, and holds no secret."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.canaries import leaked
from tests.e2e.dashboard import content, dashboard, goto, wall
from tests.e2e.hostile import HOSTILE, as_agent, plant
from tests.service import ADMIN_KEY, CLIENT_KEY

NAMED = {"accounts": "name", "tokens": "name", "sessions": "user_agent"}


async def exported(page: Page, form: str) -> str:
    """The file that the view's Export makes."""
    await page.get_by_role("main").get_by_role("button", name="Export").click()
    async with page.expect_download() as download:
        await page.get_by_role("menuitem", name=form).click()
    return await content(await download.value)


def unquoted(cell: str) -> str:
    """Without the apostrophe that keeps a spreadsheet from taking it for a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@") else cell


@pytest.mark.parametrize("view", NAMED)
async def test_hostile_text_comes_back(tmp_path: Path, browser: Browser, view: str) -> None:
    async with dashboard(tmp_path, browser, view, accounts=()) as (service, page):
        secrets = [ADMIN_KEY, CLIENT_KEY, *await plant(service)]
        rows: list[dict[str, Any]] = json.loads(await exported(page, "JSON"))
        texts = {row[NAMED[view]] for row in rows}
        assert {as_agent(text) if view == "sessions" else text for text in HOSTILE} <= texts
        text = await exported(page, "CSV")
        lines = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        assert {unquoted(line[NAMED[view]]) for line in lines} == texts
        assert not [cell for line in lines for cell in line.values() if cell and cell[0] in "=+@\t\r"]
        assert [set(line) == set(row) for line, row in zip(lines, rows, strict=True)]
        assert "\r\n" in text
        assert leaked(text, secrets) == [] and leaked(json.dumps(rows), secrets) == []


async def test_only_what_is_shown_is_exported(tmp_path: Path, browser: Browser) -> None:
    names = tuple(f"team-{n}" for n in range(12))
    async with dashboard(tmp_path, browser, "accounts?q=team-1", accounts=names) as (_, page):
        rows = json.loads(await exported(page, "JSON"))
        assert sorted(row["name"] for row in rows) == ["team-1", "team-10", "team-11"]


async def test_times_are_told_in_utc_and_in_seconds(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "accounts") as (service, page):
        rows = json.loads(await exported(page, "JSON"))
        account = next(a for a in service.parts.pool if a.name == "team-a")
        [mine] = [row for row in rows if row["name"] == "team-a"]
        assert mine["created_at"].endswith("Z")
        assert abs(mine["created_at_epoch"] - account.created_at) < 0.01


async def test_events_are_exported(tmp_path: Path, browser: Browser) -> None:
    async with dashboard(tmp_path, browser, "events") as (_, page):
        await goto(page, "events")
        rows = json.loads(await exported(page, "JSON"))
        assert "account.added" in {row["kind"] for row in rows}


def days_ago(days: int) -> str:
    return (datetime.fromtimestamp(wall(), UTC) - timedelta(days=days)).strftime("%Y-%m-%dT00:00:00.000Z")


async def test_usage_of_long_ago_is_exported_by_day(tmp_path: Path, browser: Browser) -> None:
    span = f"from={days_ago(20)}&to={days_ago(10)}"
    async with dashboard(tmp_path, browser, f"usage?{span}") as (_, page):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for form in ("CSV", "JSON"):
            async with page.expect_download() as download:
                await page.get_by_role("main").get_by_role("button", name=form).click()
            file = await download.value
            assert file.suggested_filename == f"usage-by-account.{form.lower()}"
            text = await content(file)
            assert text.startswith("id,name,start,") if form == "CSV" else json.loads(text)["by"] == "account"
        assert all("interval=day" in url for url in asked if "format=" in url)


async def test_an_export_of_usage_that_is_refused_says_why(tmp_path: Path, browser: Browser) -> None:
    async def refuse(route: Route) -> None:
        error = {"type": "invalid", "message": "that is too much at once: choose a shorter span"}
        await route.fulfill(status=422, json={"error": error})

    async with dashboard(tmp_path, browser, "usage?range=7d") as (_, page):
        await page.route("**/api/admin/usage?*format=*", refuse)
        await page.get_by_role("main").get_by_role("button", name="CSV").click()
        await expect(page.get_by_role("alert").filter(has_text="choose a shorter span")).to_be_visible()
