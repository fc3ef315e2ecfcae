"""Cuts a body into lines, of which one at a time is in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod

LONGEST_LINE = 4 << 20
"""Bytes of a line that is read: a message of 300,000 tokens has some 1.5 MB."""


class BodyLines(ABC):
    """Takes a body in pieces that are cut anywhere, and reads each line as soon as it is whole."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._is_overlong = False  # then nothing of it is held
        self.has_skipped = False
        """Whether there was a line that is too long, or that the reader could make nothing of."""

    @property
    def is_whole(self) -> bool:
        """True, as nothing tells which line is the last one."""
        return True

    @abstractmethod
    def read(self, line: bytes) -> None:
        """Take a line without its end."""

    def feed(self, data: bytes) -> None:
        first, *others = data.split(b"\n")
        self._hold(first)
        for piece in others:
            self.close()
            self._hold(piece)

    def close(self) -> None:
        """End the line that has begun, as the last one's end may be missing."""
        line, self._held = bytes(self._held), bytearray()
        if self._is_overlong:
            self._is_overlong, self.has_skipped = False, True
        elif line:
            self.read(line)

    def _hold(self, piece: bytes) -> None:
        if len(self._held) + len(piece) > LONGEST_LINE:
            self._is_overlong = True
            self._held.clear()
        if not self._is_overlong:
            self._held += piece
