"""How late the event loop is, and what held it: whatever runs for long in one piece keeps every client waiting."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from pathlib import Path
from types import FrameType

from proxy.clock import Clock
from proxy.histogram import Histogram

BEAT_S = 0.05
TELL_S = 0.05
"""A hold of the loop that is longer is logged. Each of more than two beats is seen, of a shorter one some are."""

LATE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
"""Bounds of the histogram: a loop that is free is up to 1 ms late, and a stream's reader sees 0.1 s."""

ROOT = Path(__file__).parents[1]

log = logging.getLogger(__name__)


class LoopLag:
    """Beats on the loop inside `with`, and looks from a thread where the loop is when a beat is late.

    `late_s` has how late each beat was.
    """

    def __init__(self, clock: Clock) -> None:
        self.late_s = Histogram(LATE_S)
        self._clock = clock
        self._beat_at = clock.monotonic()
        self._held_in = ""
        self._stop = threading.Event()
        self._next_beat: asyncio.TimerHandle | None = None
        self._watcher = threading.Thread(target=self._watch, args=(threading.get_ident(),), daemon=True)

    def __enter__(self) -> None:
        self._beat_at = self._clock.monotonic()
        self._next_beat = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        self._watcher.start()

    def __exit__(self, *exc: object) -> None:
        if self._next_beat is not None:
            self._next_beat.cancel()
        self._stop.set()
        self._watcher.join()

    def _beat(self) -> None:
        now = self._clock.monotonic()
        late_s = now - self._beat_at - BEAT_S
        self.late_s.observe(max(late_s, 0.0))
        if late_s > TELL_S:
            log.warning("event loop held lag_ms=%d in=%s", late_s * 1000, self._held_in or "unknown")
        self._held_in = ""
        self._beat_at = now
        self._next_beat = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _watch(self, main: int) -> None:
        while not self._stop.wait(BEAT_S):
            late_s = self._clock.monotonic() - self._beat_at - BEAT_S
            if late_s > TELL_S and not self._held_in:
                self._held_in = where(sys._current_frames().get(main))


def where(frame: FrameType | None) -> str:
    """The innermost place of ours in a stack, and under it the function that runs, such as `proxy/x.py:8 dumps`."""
    innermost = frame.f_code.co_name if frame is not None else ""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and ".venv" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.f_lineno} {innermost}"
        frame = frame.f_back
    return innermost
