"""Knows again how a request begins, so that of the next turn of a conversation only what is new has to be read.

Clients send the whole conversation with every turn: what was said before comes again, byte for byte, but for the last
few messages, whose cache markers move on.
"""

from __future__ import annotations

import os
import re
from array import array
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from xxhash import xxh3_64

from proxy.http.conversation import MOST_HASHES, Message, Request, go_on, opened, picture_excess

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LEAST_BYTES = 16 * 1024
"""A smaller body is read whole: that takes no longer."""

MOST = 1024
"""So many beginnings are known, the latest ones; each has 8 bytes a message, and 1 KB."""

MOVING = 3
"""The last messages of a turn, which the next one sends with other cache markers."""

_STARTS_WITHIN_BYTES = 512 * 1024  # or else it is not known: a longer search would hold the loop
_LEFT_BYTES = 24 * 1024  # behind what is known from now on: they hold the last messages, mostly
_LOOKED_FOR_BYTES = 32 * 1024
_MESSAGES: Final = re.compile(rb'"messages"[ \t\r\n]*+:[ \t\r\n]*+\[')
_COMMA: Final = re.compile(rb',[ \t\r\n]*+(?=\{"role")')

_MARK_ROLE: Final = b"0"  # no role that the API knows
_MARK: Final = b'{"role":%b,"content":""},' % _MARK_ROLE

_NOTHING_SAID: Final = xxh3_64()
_NO_HASHES: Final = array("Q")

_REQUEST: Final = msgspec.json.Decoder(Request)
_SETTLED: Final = msgspec.json.Decoder(list[Message])


Keys = list[tuple[int, int]]
"""(size, hash) of the first 16 KB, 32 KB, 64 KB … of a body: where its beginning may be found."""


class Beginning(NamedTuple):
    """A request's bytes up to one of its messages, of which all before it were read.

    The first message is at `start`, the next one at `end`. `said` is the state of the hash there, `hashes` those of
    the messages, `system` that of the system prompt, which may come behind. `excess` is that of their pictures.
    """

    start: int
    end: int
    tag: bytes = b""
    said: xxh3_64 = _NOTHING_SAID
    system: int = 0
    hashes: array[int] = _NO_HASHES
    excess: int = 0


class Beginnings:
    """What is known of the conversations that had a turn lately. In memory only: what it forgets is read again."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, Beginning] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, data: bytes) -> Turn | None:
        """What is known of a body, to be read from there; None if it has no conversation, or a small one."""
        if len(data) < LEAST_BYTES:
            return None
        keys = _keys(data)
        for _, key in reversed(keys):
            known = self._known.get(key)
            if known is not None and known.end < len(data) and self.tag(data, known.end) == known.tag:
                self._known.move_to_end(key)
                return Turn(self, keys, known)
        found = _MESSAGES.search(data, 0, _STARTS_WITHIN_BYTES)
        return None if found is None else Turn(self, keys, Beginning(found.end(), found.end()))

    def keep(self, keys: Keys, beginning: Beginning) -> None:
        """Know a body with these keys from now on by its beginning."""
        fitting = [key for size, key in keys if size <= beginning.end]
        if not fitting:
            return
        self._known[fitting[-1]] = beginning
        self._known.move_to_end(fitting[-1])
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    @cached_property
    def _gcm(self) -> AESGCM:
        """A hash (GMAC) with a key that nobody knows, whose results nobody sees.

        So no two beginnings can be made that are taken for each other; it is ten times as fast as one without a key.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # it takes 24 ms and 9 MB, once

        return AESGCM(os.urandom(16))

    def tag(self, data: bytes, end: int) -> bytes:
        """What the first `end` bytes are known again by."""
        return self._gcm.encrypt(bytes(12), b"", memoryview(data)[:end])


class Turn(NamedTuple):
    """A body, and what is known of it: nothing, if its beginning ends where it starts."""

    beginnings: Beginnings
    keys: Keys
    known: Beginning

    @property
    def span(self) -> tuple[int, int]:
        """From where to where it need not be read."""
        return self.known.start, self.known.end

    def read(self, data: bytes, most: int) -> tuple[Request, tuple[int, ...], int] | None:
        """The request without the messages that are known, or settled now; the hashes of all: see `chain`; and what
        the pictures of those messages have too much: see `picture_excess`.

        None if it is to be read whole. Raises TooMany if there are more than `most` new messages and blocks;
        DecodeError and RecursionError.
        """
        known, view = self.known, memoryview(data)
        comma, end = _cut(data, known.end)
        if not (known.hashes or comma):
            return None
        # Both together have every member of the body: nothing that refers to something passes unseen.
        settled = _SETTLED.decode(b"".join((b"[", view[known.end : comma], b"]"))) if comma else []
        excess = known.excess + picture_excess(settled)
        request = self._rest(view, end, is_marked=excess > 0)
        if request is None:
            return None
        said, left = opened(request.system, most)
        system = said.intdigest()
        if known.hashes:
            if known.system != system:
                return None
            said = known.said.copy()
        new, left = go_on(said, settled, left)
        hashes = (*known.hashes, *new)[-MOST_HASHES:]
        if new and len(request.messages) >= MOVING:
            tag, kept = self.beginnings.tag(data, end), array("Q", hashes)
            self.beginnings.keep(
                self.keys, Beginning(known.start, end, tag, said.copy(), system, kept, excess)
            )
        new, left = go_on(said, request.messages, left)
        return request, (*hashes, *new)[-MOST_HASHES:], excess

    def _rest(self, view: memoryview, end: int, *, is_marked: bool) -> Request | None:
        """The request without what is before `end`. If it `is_marked`, None if that is not of its messages.

        What looks like messages may be elsewhere, such as in a tool's schema: it has no pictures.
        """
        start = self.known.start
        if not is_marked:
            return _REQUEST.decode(b"".join((view[:start], view[end:])))
        request = _REQUEST.decode(b"".join((view[:start], _MARK, view[end:])))
        if not request.messages or bytes(request.messages.pop(0).role) != _MARK_ROLE:
            return None
        return request


def _keys(data: bytes) -> Keys:
    view, keys = memoryview(data), list[tuple[int, int]]()
    said, start, size = xxh3_64(), 0, LEAST_BYTES
    while size <= len(data):
        said.update(view[start:size])
        keys.append((size, said.intdigest()))
        start, size = size, 2 * size
    return keys


def _cut(data: bytes, start: int) -> tuple[int, int]:
    """The comma before a message near the end, and where that begins. (0, `start`) if nothing much is before it.

    What looks like a message may be something else of the body; reading both parts tells.
    """
    new = len(data) - start
    if new < len(data) // 8:
        return 0, start
    # The last messages move; and tools may follow them.
    for left in (max(_LEFT_BYTES, new // 8), new // 2, new * 3 // 4):
        at = len(data) - left
        found = _COMMA.search(data, at, at + _LOOKED_FOR_BYTES) if at > start else None
        if found is not None:
            return found.span()
    return 0, start
