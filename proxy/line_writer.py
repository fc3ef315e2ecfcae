"""Writes lines from a thread of its own, so that who reads them slowly or not at all keeps nobody else waiting."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

REST_S = 0.05
"""After each write. A line of a quiet time is written at once, and those of a busy time in one write for many."""

LOOK_S = 1.0
"""How often a quiet thread asks for remarks."""

MOST_CHARACTERS = 4_000_000
"""Of lines that wait: some seconds of a busy proxy."""

FITS = 1024
"""Characters that a pipe takes without waiting if it takes any: Linux has a page of 4096 bytes free then."""


class LineWriter:
    """Owns the thread. It asks `remarks` about once a second what to add, and gives it the number of lost lines.

    The lock is one that its holder may take again: the collector may run inside `put` and log what it finds.
    """

    def __init__(self, descriptor: int, remarks: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._remarks = remarks
        self._lock = threading.RLock()
        self._lines: list[str] = []
        self._size = 0
        self._dropped = 0
        self._idle = False
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Have a line written. Dropped and counted if too much waits; it never waits itself."""
        with self._lock:
            if self._size + len(line) > MOST_CHARACTERS:
                self._dropped += 1
                return
            self._lines.append(line)
            self._size += len(line)
            wake, self._idle = self._idle, False
        if wake:
            self._wake()

    def close(self, within_s: float) -> None:
        """Write what waits, and give up after `within_s`. What comes later is written as it comes."""
        self._closing.set()
        self._wakes.put(None)
        self._thread.join(within_s)

    def _wake(self) -> None:
        if self._thread.is_alive():
            self._wakes.put(None)
        else:
            self._write_at_once()

    def _run(self) -> None:
        lost = 0
        while True:
            closing = self._closing.is_set()
            lines, dropped = self._take()
            lost += dropped
            text = "".join(lines) + self._remarks(lost if lines or dropped else 0)
            if text:
                lost = 0 if _write(self._descriptor, text) else lost + len(lines)
                self._closing.wait(REST_S)
            elif closing:
                return
            else:
                self._wait()

    def _take(self) -> tuple[list[str], int]:
        """What waits, and how many lines were dropped. If that is nothing, the next `put` wakes the thread."""
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
            dropped, self._dropped = self._dropped, 0
            self._idle = not (lines or dropped)
        return lines, dropped

    def _wait(self) -> None:
        try:
            self._wakes.get(timeout=LOOK_S)
        except Empty:
            return

    def _write_at_once(self) -> None:
        """Write what waits after the thread's end, if that needs no waiting."""
        text = "".join(self._take()[0])
        self._idle = True
        write_in_time(self._descriptor, text, 0)


def write_in_time(descriptor: int, text: str, within_s: float) -> None:
    """Write a text, and give up once nobody has taken anything for `within_s`."""
    for at in range(0, len(text), FITS):
        if not (_writable(descriptor, within_s) and _write(descriptor, text[at : at + FITS])):
            return


def _write(descriptor: int, text: str) -> bool:
    """Whether it could be written: who reads it may have left, or a disk be full."""
    left = memoryview(text.encode("utf-8", "backslashreplace"))
    try:
        while left:
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:  # whoever has the same terminal may have set it so
                _writable(descriptor, LOOK_S)
    except OSError:
        return False
    return True


def _writable(descriptor: int, within_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(within_s * 1000))
