"""One Chromium for all browser tests of a worker, and the one event loop that it is bound to."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, async_playwright
from tornado.ioloop import IOLoop

from tests.e2e import dashboard

FLAGS = [
    "--no-sandbox",  # for root, as in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",  # no page leaves this machine
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is timed runs alone, by `make e2e-long`: a busy machine says nothing."""
    timed = [item for item in items if item.get_closest_marker("timed") and "E2E_LONG" not in os.environ]
    config.hook.pytest_deselected(items=timed)
    items[:] = [item for item in items if item not in timed]


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """The loop of all browser tests: Playwright's objects live on the loop that made them."""
    with asyncio.Runner() as runner:
        runner.get_loop()
        asyncio.set_event_loop(None)
        yield runner


@pytest.fixture(scope="session")
def browser(runner: asyncio.Runner) -> Iterator[Browser]:
    """Debian's Chromium without its windows and menus: a tab takes a third of the CPU that it takes with them.

    A test opens a context of its own in it: see `tests.e2e.dashboard`.
    """
    path = shutil.which("chromium-headless-shell")
    if path is None:
        pytest.fail("there is no chromium-headless-shell: `make test` installs it")
    playwright = runner.run(async_playwright().start())
    # `make test-hours` preloads libfaketime, on which Chromium hangs; and its pages get the tests' own time anyway.
    env: dict[str, str | float | bool] = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    browser = runner.run(playwright.chromium.launch(executable_path=path, args=FLAGS, env=env))
    yield browser
    runner.run(browser.close())
    runner.run(playwright.stop())


@pytest.fixture(autouse=True)
def io_loop(runner: asyncio.Runner, browser: Browser) -> Iterator[IOLoop]:
    """In place of each test's own loop. What a test leaves running is cancelled at its end, as there."""
    loop = runner.get_loop()
    before = asyncio.all_tasks(loop)
    asyncio.set_event_loop(loop)
    dashboard.begin()
    yield IOLoop.current()
    left = asyncio.all_tasks(loop) - before
    for task in left:
        task.cancel()
    runner.run(_ended(left))
    asyncio.set_event_loop(None)


async def _ended(tasks: set[asyncio.Task[object]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
