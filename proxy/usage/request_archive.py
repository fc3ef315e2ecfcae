"""The request log on disk, by day: for those who set `storage.keep_requests`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Final

from proxy.clock import Clock, at_most_after, rfc3339
from proxy.errors import StorageError
from proxy.storage.day_files import DayFiles
from proxy.usage.request_log import MOST, Kept, RequestLog
from proxy.usage.series import day_of, start_of
from proxy.usage.stored_request import kept_of

AT_ONCE: Final = 500
"""Requests of one write."""

log = logging.getLogger(__name__)


class RequestArchive:
    """Writes what the request log keeps, and gives it the last requests of an earlier run.

    What waits for the disk waits in the request log, which is bounded; so a request costs nothing more, and a disk that
    takes nothing for long costs the oldest lines.
    """

    def __init__(self, requests: RequestLog, stored: DayFiles, *, clock: Clock, keep_s: float) -> None:
        self._requests = requests
        self._stored = stored
        self._clock = clock
        self._keep_s = keep_s
        self._saved = 0  # the number of the last request that is on disk
        self._lost = 0
        self._failing = False

    async def open(self) -> None:
        """Show the last requests again. What cannot be read is left out, with an error in the log."""
        try:
            lines = await asyncio.to_thread(self._stored.newest, MOST)
        except StorageError as error:
            log.error("the requests of earlier runs are not shown error=%s", error)
            return
        kept, damaged = await asyncio.to_thread(_read, lines, self._requests.clean)
        if damaged:
            log.warning("damaged lines of the request log are left out lines=%d", damaged)
        self._requests.restore(kept)
        self._saved = self._requests.newest

    async def save(self) -> None:
        """Write what waits. What cannot be written waits for the next time; the log says so once."""
        waiting = self._requests.after(self._saved)
        first = self._requests.newest - len(waiting)
        self._lost, self._saved = self._lost + first - self._saved, first
        try:
            for day, some in _by_day(waiting):
                await asyncio.to_thread(self._stored.append, day, map(Kept.view, some))
                self._saved = some[-1].number
        except StorageError as error:
            if not self._failing:
                log.error("requests not saved, the last ones are kept in memory error=%s", error)
            self._failing = True
            return
        if self._failing:
            log.warning("requests saved at last lost=%d", self._lost)
        self._failing, self._lost = False, 0

    async def close(self) -> None:
        """Write what waits, with little patience: a shutdown does not wait for it."""
        await self._requests.told()
        await self.save()
        if self._failing:
            log.error("requests lost lines=%d", self._lost + self._requests.newest - self._saved)

    async def remove_old(self, *, at_start: bool = False) -> None:
        """Remove the days that are kept no longer: `at_start`, when a clock may be ahead, by the newest day there."""
        try:
            await asyncio.to_thread(self._remove_old, self._clock.now(), at_start)
        except StorageError as error:
            log.warning("old days of the request log are not removed error=%s", error)

    def _remove_old(self, now: float, at_start: bool) -> None:
        if at_start:
            starts = [start for day in self._stored.days() if (start := start_of(day)) is not None]
            now = at_most_after(max(starts, default=0), now)
        self._stored.remove_before(day_of(now - self._keep_s))


def _by_day(kept: list[Kept]) -> Iterator[tuple[str, list[Kept]]]:
    """The requests in their order, in lists of one day: that of their end."""
    for day, found in groupby(kept, lambda each: rfc3339(each.end)[:10]):
        whole = list(found)
        for at in range(0, len(whole), AT_ONCE):
            yield day, whole[at : at + AT_ONCE]


def _read(lines: list[bytes], clean: Callable[[str], str]) -> tuple[list[Kept], int]:
    """The requests of stored lines, and the number of lines that are none."""
    kept, damaged = [], 0
    for line in lines:
        try:
            kept.append(kept_of(line, clean))
        except ValueError:
            damaged += 1
    return kept, damaged
