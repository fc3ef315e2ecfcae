"""A chain of lines: each holds the SHA-256 of the one before, also from file to file, so that a change shows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import DecodeError, Struct, ValidationError

from proxy.storage.codec import to_text
from proxy.storage.protocols import Record

PREVIOUS: Final = "prev_sha256"
"""The member with the hash of the line before: of its bytes, without the newline."""

START: Final = "0" * 64
"""What the first line of all names."""


class _Link(Struct):
    prev_sha256: str


_LINK: Final = msgspec.json.Decoder(_Link)


def chained(records: Iterable[Record], head: str) -> tuple[list[Record], str]:
    """The records as they follow the line with the hash `head`, and the hash of the last of them."""
    lines = []
    for record in records:
        line = record | {PREVIOUS: head}
        lines.append(line)
        head = digest(to_text(line).encode())
    return lines, head


def digest(line: bytes) -> str:
    """The hash of a line, by which the next one names it."""
    return hashlib.sha256(line).hexdigest()


def named(line: bytes) -> str | None:
    """The hash that a line names; None if it is no line of a chain, such as one that a crash has cut short."""
    try:
        return _LINK.decode(line).prev_sha256
    except (DecodeError, ValidationError, UnicodeDecodeError):
        return None


class Chain:
    """Follows a chain line by line. `head` is the hash of the last line; None if none was seen yet."""

    def __init__(self) -> None:
        self.head: str | None = None
        self.first: str | None = None  # what the first line names
        self.lines = 0

    def take(self, line: bytes) -> bool:
        """Go on to the next line. False if it does not follow the one before, or is no line of a chain.

        Who is no line of a chain is passed over: the next one has to follow the one before it.
        """
        previous = named(line)
        if previous is None:
            return False
        fits = previous == self.head or self.head is None
        if self.head is None:
            self.first = previous
        self.head = digest(line)
        self.lines += 1
        return fits
