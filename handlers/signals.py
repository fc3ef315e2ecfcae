"""What the process is told by signals, while it starts and while it serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

QUEUED: Final[int] = getattr(signal, "SIGRTMIN", 0)
"""From here on each signal that is sent arrives, with its sender, however many come at once (signal(7)). macOS has none
of them, nor what else workers need."""

RELOADS: Final = QUEUED
"""What a worker sends to its parent, and that to the other workers, if it was asked to read the configuration again. It
is no SIGHUP, which nohup ignores, and which may say that a terminal is gone."""

REPEATED_WITHIN_S: Final = 1.0
"""A worker gets one signal twice if it was sent to all processes at once, as by Ctrl-C or systemd's
KillMode=control-group: its parent passes it on as well."""

log = logging.getLogger(__name__)


class Signals:
    """Heeds signals from when it is made.

    SIGTERM or SIGINT ends a start, or sets `stop` if that is over; one more of them sets `hurried`, the third ends the
    process at once. SIGHUP reads the configuration again, once the process serves. But if it comes because the
    process's terminal is gone, often more than once, it is as SIGTERM. Under nohup it is ignored. RELOADS has a worker
    read the configuration again since another one was asked to. SIGUSR2 does nothing: the successor is begun by one
    that serves.
    """

    def __init__(self, *, is_worker: bool) -> None:
        self.stop = asyncio.Event()
        self.ended_start = False
        self._loop = asyncio.get_running_loop()
        self._starting = asyncio.current_task()
        self._is_worker = is_worker
        self._had_terminal = has_terminal()
        self._hurried: asyncio.Event | None = None
        self._reload: Callable[[bool], None] | None = None
        self._reads_later: list[bool] = []
        self._ends = 0
        self._last = 0, 0.0
        self._heed()

    def serve(self, hurried: asyncio.Event, reload: Callable[[bool], None]) -> None:
        """Take note that the start is over. A `reload` that was asked for meanwhile is done now.

        It is given whether it was this process that was asked.
        """
        self._starting, self._hurried, self._reload = None, hurried, reload
        if self._reads_later:
            reload(any(self._reads_later))

    def _heed(self) -> None:
        heeded: dict[int, Callable[[], None]] = {
            number: partial(self._end, number) for number in (signal.SIGTERM, signal.SIGINT)
        }
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            heeded[signal.SIGHUP] = self._hang_up
        if self._is_worker:  # SIGUSR2 stays blocked: its parent says what to do instead
            heeded[RELOADS] = partial(self._read_again, False)
        else:
            heeded[signal.SIGUSR2] = partial(
                log.warning, "SIGUSR2 ignored: no process can follow this one now"
            )
        for number, heed in heeded.items():
            self._loop.add_signal_handler(number, heed)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, heeded)  # a worker begins with them blocked

    def _end(self, number: signal.Signals) -> None:
        (last, at), now = self._last, self._loop.time()
        if self._is_worker and number == last and now - at < REPEATED_WITHIN_S:
            return
        self._last = number, now
        self._ends += 1
        if self._ends == 1:
            self._stop()
        elif self._ends == 2 and self._hurried is not None:
            self._hurried.set()
        else:
            os._exit(1)

    def _stop(self) -> None:
        self.stop.set()
        if self._starting is not None:
            self._starting.cancel()
            self._starting, self.ended_start = None, True

    def _hang_up(self) -> None:
        if self._had_terminal and not has_terminal():
            self._ends = max(self._ends, 1)
            self._stop()
        else:
            self._read_again(True)

    def _read_again(self, was_asked: bool) -> None:
        if self._reload is None:
            self._reads_later.append(was_asked)
        else:
            self._reload(was_asked)


@contextlib.asynccontextmanager
async def heeded(worker: int | None) -> AsyncIterator[Signals]:
    """The signals of this process. A start that one of them ends is left as if it were over.

    `worker`: its number; None if it is none.
    """
    signals = Signals(is_worker=worker is not None)
    try:
        yield signals
    except asyncio.CancelledError:
        if not signals.ended_start:
            raise


def has_terminal() -> bool:
    """Whether the process has a controlling terminal, whatever its files are (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
