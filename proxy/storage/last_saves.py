"""The saves at exit: tried again for a while if the disk fails, since what is only in memory ends with the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.errors import StorageError, UnsavedError

PATIENCE_S = 30.0
AGAIN_S = 1.0

log = logging.getLogger(__name__)


async def _nothing() -> list[str]:
    return []


@dataclass(frozen=True, slots=True)
class _Save:
    what: str
    save: Callable[[], Awaitable[None]]
    left: Callable[[], Awaitable[list[str]]]

    async def run(self) -> list[str]:
        """Save. Returns what is not saved yet, for people."""
        try:
            await self.save()
        except StorageError:
            return [self.what]
        return await self.left()


class LastSaves:
    """Runs the saves in the order in which they were added. Set `hurried` to end the wait for a failing disk."""

    def __init__(self, clock: Clock, hurried: asyncio.Event | None = None) -> None:
        self._clock = clock
        self._saves: list[_Save] = []
        self.hurried = hurried or asyncio.Event()

    def add(
        self,
        what: str,
        save: Callable[[], Awaitable[None]],
        left: Callable[[], Awaitable[list[str]]] = _nothing,
    ) -> None:
        """Add a save. If it raises StorageError, `what` is not saved; else `left` says what is not, for people."""
        self._saves.append(_Save(what, save, left))

    async def run(self) -> None:
        """Save everything; try again for up to PATIENCE_S. Raises UnsavedError, which says what is lost."""
        left = await self._try()
        end = self._clock.monotonic() + PATIENCE_S
        if left:
            log.error(
                "waiting for the disk timeout_s=%g, a second signal ends that: not saved yet: %s",
                PATIENCE_S,
                "; ".join(left),
            )
        while left and self._clock.monotonic() < end and not self.hurried.is_set():
            await self._pause()
            left = await self._try()
        for each in left:
            log.critical("lost: %s", each)
        if left:
            raise UnsavedError(f"the data folder could not be written at the end; lost: {'; '.join(left)}")

    async def _try(self) -> list[str]:
        return [text for each in self._saves for text in await each.run()]

    async def _pause(self) -> None:
        waits = [
            asyncio.ensure_future(self._clock.sleep(AGAIN_S)),
            asyncio.ensure_future(self.hurried.wait()),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        await asyncio.wait(waits)
