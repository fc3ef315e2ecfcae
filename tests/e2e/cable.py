"""The network between a browser and the proxy, which a test can let go silent, cut and mend."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page

from tests.e2e.dashboard import OFFLINE, RunningClock, visit
from tests.service import Service, serve
from tests.serving import serving


class Cable:
    """Hands bytes on, both ways, from its own `port` to another."""

    def __init__(self, to: int) -> None:
        self.to = to  # may be changed: connections to come lead there
        self.port = 0
        self.carried = 0
        self._passing = asyncio.Event()
        self._passing.set()
        self._plugged = True
        self._open: set[asyncio.StreamWriter] = set()

    def freeze(self) -> None:
        """Nothing arrives any more, and nobody is told; what is sent meanwhile arrives after `mend`."""
        self._passing.clear()

    def cut(self) -> None:
        """Every connection breaks, and none can be made."""
        self._plugged = False
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        self._plugged = True
        self._passing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._plugged:
            return
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            return
        self._open |= {writer, there}
        ways = [asyncio.create_task(self._carry(*way)) for way in ((reader, there), (there_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            there.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._passing.wait()
                self.carried += len(data)
                writer.write(data)
                await writer.drain()


@contextlib.asynccontextmanager
async def cable(to: int = 0) -> AsyncIterator[Cable]:
    """A mended one to port `to`."""
    made = Cable(to)
    async with serving(made.serve) as made.port:
        try:
            yield made
        finally:
            made.cut()


@contextlib.asynccontextmanager
async def cabled(
    folder: Path,
    browser: Browser,
    route: str = "",
    *,
    accounts: tuple[str, ...] = ("team-a", "team-b"),
    allow: str | None = OFFLINE,
    **page: Any,
) -> AsyncIterator[tuple[Service, Cable, Page]]:
    """As `dashboard`, with the tab's network in the test's hand."""
    async with (
        serve(folder, accounts=accounts, clock=RunningClock()) as service,
        cable(service.port) as line,
        visit(browser, line, route, allow=allow, **page) as tab,
    ):
        yield service, line, tab
