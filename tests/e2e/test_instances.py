"""The settings list the instances that share a store, and show none where the state is in files."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, expect

from tests.e2e.dashboard import RunningClock, dashboard, visit
from tests.instances import instances
from tests.redis_server import server_of_worker


async def test_the_instances_of_a_store_are_listed_with_where_they_run(
    tmp_path: Path, browser: Browser
) -> None:
    server = server_of_worker()
    server.ensure()
    server.call("FLUSHALL")
    async with (
        instances(tmp_path, server, 2, RunningClock()) as services,
        visit(browser, services[0], "settings") as page,
    ):
        table = page.get_by_role("group", name="Instances")
        for service in services:
            row = table.get_by_role("row").filter(has_text=f":{service.port}, process")
            await expect(row).to_have_count(1)
            await expect(row.get_by_role("rowheader")).to_contain_text("ins_")


async def test_one_that_is_alone_is_not_listed(tmp_path: Path, browser: Browser) -> None:
    settings = {"storage__url": None}
    async with dashboard(tmp_path, browser, "settings", settings=settings) as (_, page):
        await expect(page.get_by_text("session.max_concurrent", exact=True)).to_be_attached()
        await expect(page.get_by_role("heading", name="Instances")).not_to_be_visible()
