"""Background work: everything that runs beside a request is started, named, held and stopped here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from tornado.ioloop import PeriodicCallback

from proxy.errors import ProxyError, StoreAway

T = TypeVar("T")

log = logging.getLogger(__name__)


class Jobs:
    """Holds tasks, so that none is forgotten, and periodic jobs, so that all stop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._given_up: set[asyncio.Task[Any]] = set()
        self._periodic: list[PeriodicCallback] = []

    def start(self, name: str, work: Coroutine[Any, Any, T], *, wait: bool = True) -> asyncio.Task[T]:
        """Run `work` beside the caller; a shutdown waits for it, or cancels it where `wait` is False."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        if not wait:
            self._given_up.add(task)
        task.add_done_callback(self._ended)
        return task

    def every(
        self,
        name: str,
        interval_s: float,
        work: Callable[[], Awaitable[None] | None],
        *,
        jitter: float = 0.0,
        wait: bool = True,
    ) -> None:
        """Run `work` every `interval_s` seconds, never twice at once; `jitter` is a fraction of that.

        A shutdown waits for a round that runs, or cancels it where `wait` is False.
        """

        async def run() -> None:
            try:
                working = work()
                if working is not None:
                    await working
            except StoreAway:
                return  # told once by the breaker; what was to be saved is kept
            except Exception:
                log.exception("job failed job=%s", name)

        def begin() -> asyncio.Task[None]:
            return self.start(name, run(), wait=wait)

        periodic = PeriodicCallback(begin, interval_s * 1000, jitter=jitter)
        self._periodic.append(periodic)
        periodic.start()

    async def close(self) -> None:
        """Stop the periodic jobs and wait until everything started has ended."""
        for periodic in self._periodic:
            periodic.stop()
        for task in self._given_up:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._given_up.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        # A ProxyError is an outcome: whoever awaits the task deals with it.
        if error is not None and not isinstance(error, ProxyError):
            log.error("job failed job=%s", task.get_name(), exc_info=error)
