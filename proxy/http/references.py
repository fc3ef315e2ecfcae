"""Finds what a JSON body refers to in an organisation (files, containers, skills, agents …), by the names of members.

It reads any JSON, also what is deeper, longer or odder than a parser takes: what the upstream may read must not hide an
id here. The body comes in pieces, of which one is in memory at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec import DecodeError, Raw

from proxy.http.scan import text

MOST_REFERENCES = 100_000
"""The most different ids that are kept of one body: one for each request of the largest batch that the API takes
(platform.claude.com/docs/en/build-with-claude/batch-processing). They take some 25 MB."""

MOST_STEPS = 4_000_000
BYTES_A_STEP = 8
"""The most names of interest, and brackets within their values, that are looked at: so many, and one more for so many
bytes. A million take 1 s in a thread. The tools of a batch may have one in 20 bytes."""

MOST_DEPTH = 10_000
"""The deepest nesting that is followed within such values. Parsers stop at 128 (serde), 1,000 (Python) or 10,000
(Go)."""

LONGEST_ID = 256
"""Characters of an id; those of the API have about 30."""

NO_REFERENCES: Final = frozenset(
    (
        *("tool_use_id", "custom_tool_use_id", "tool_call_id", "tool_id", "tab_id", "download_id"),
        *("custom_id", "user_id", "external_id", "reference_id", "client_id", "tenant_id"),
        *("request_id", "message_id", "previous_message_id", "event_id"),
    )
)
"""Members whose names end like a reference's, and which name nothing that an account has."""

OPAQUE: Final = frozenset(("input", "input_schema", "input_examples", "schema", "metadata"))
"""Members with JSON of the client's own, in which the API looks up nothing: a tool may well have a `file_id`."""

FUNCTIONS: Final = frozenset(("function", "functions"))
"""Members whose `parameters` are a schema of the client's own: tools, as OpenAI's API has them."""

_LOOKED_INTO: Final = FUNCTIONS | {"skills"}
_REFERENCE: Final = re.compile(r".*_ids?|container|agents?", re.DOTALL)
_ID: Final = re.compile(rf"\S{{1,{LONGEST_ID}}}")
_ESCAPED: Final = re.compile(rb"\\u00([2-7][0-9a-fA-F])")
_LONGEST_ESCAPE = len(r"\u0041")
_LONGEST_STRING = _LONGEST_ESCAPE * LONGEST_ID + len('""')  # bytes, every character escaped
_WORDS = (b"_id", b"container", b"agent", rb"\u00")
_STEPS_OF_A_STRING = 3
_QUOTE, _COLON, _OPEN = b'"', b":", b"{["

# These are of JSON in which no string has a quote or a backslash: see _Reader. The groups are not possessive, since
# Python before 3.11.5 (Debian 12 has 3.11.2) matches such ones wrongly; a bound keeps small what they remember instead.
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_TO_BRACKET_OR_QUOTE: Final = re.compile(rb'[^"{}\[\]]*+')
_TO_BRACKET: Final = re.compile(rb'[^"{}\[\]]*+(?:"[^"]*+"[^"{}\[\]]*+){0,1000}')
_NAMES = b"|".join(name.encode() for name in sorted({"container", "agent", "agents"} | _LOOKED_INTO | OPAQUE))
_DULL = rb'"(?!(?:%b)")[^"]*+"(?:(?<!_id")(?<!_ids")|(?<=tool_use_id")|(?<="custom_id"))' % _NAMES
_TO_NAME: Final = re.compile(rb'[^"]*+(?:%b[^"]*+){0,1000}' % _DULL)
"""To the next string that may be the name of a member that is looked at, or any after 1,000."""
_TO_BRACKET_OR_NAME: Final = re.compile(rb'[^"{}\[\]]*+(?:%b[^"{}\[\]]*+){0,1000}' % _DULL)


class References(NamedTuple):
    """What a body refers to: (member's name, id), each once, in order. `too_many` if there may be more than that."""

    named: tuple[tuple[str, str], ...] = ()
    too_many: bool = False


def references(pieces: Iterable[bytes], most_steps: int | None = None) -> References:
    """What the JSON in these pieces refers to. It raises nothing, whatever they hold, but what `pieces` raises.

    None: as many steps as a body of this size may take in a thread.
    """
    scan = _Scan(_Reader(pieces), most_steps)
    whole = scan.run()
    return References(tuple(scan.found)[:MOST_REFERENCES], not whole)


def may_refer(data: bytes | bytearray) -> bool:
    """Whether some JSON may refer to anything. It takes a small part of the time that `references` takes."""
    data = bytes(data) if isinstance(data, Raw) else data  # Raw has no `in`
    return any(word in data for word in _WORDS)


class _Reader:
    """JSON that comes in pieces. Every quote that is left in it begins or ends a string.

    ASCII that is written with escapes is unescaped. What stands for a quote or a backslash becomes a newline: no id and
    no name that is looked for has any of them.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._data = b""
        self._at = 0
        self.size = 0
        """Bytes that were read."""
        self._cut: bytes | None = (
            b""  # an escape that has begun at the end of the last piece; None after the last
        )

    def next(self, skipped: re.Pattern[bytes]) -> bytes:
        """The first byte that `skipped` does not match, which is not taken. Empty at the end of the body.

        If it is a quote, it begins a string that is short enough to be looked at.
        """
        while True:
            found = skipped.match(self._data, self._at)
            self._at = found.end() if found else self._at
            byte = self._data[self._at : self._at + 1]
            if not byte:
                if not self._more():
                    return b""
            elif byte != _QUOTE or self._is_whole():
                return byte
            else:
                self._pass_string()

    def take(self) -> None:
        """Take the next byte."""
        self._at += 1

    def string(self) -> str | None:
        """Take the string that is next. None if it is longer than any id, or is not valid."""
        start = self._at
        self._at = self._data.index(_QUOTE, start + 1) + 1
        try:
            return text(Raw(self._data[start : self._at]), LONGEST_ID)
        except DecodeError:
            return None

    def _is_whole(self) -> bool:
        """Whether the string that is next is in memory. If it is not, but may be a short one, read more."""
        while self._data.find(_QUOTE, self._at + 1) < 0:
            if len(self._data) - self._at > _LONGEST_STRING or not self._more():
                return False
        return True

    def _pass_string(self) -> None:
        """Pass over a string of which some pieces are still to come."""
        self._at = len(self._data)
        while self._more():
            self._at = self._data.find(_QUOTE) + 1
            if self._at:
                return
            self._at = len(self._data)

    def _more(self) -> bool:
        """Read a piece. False if there is none."""
        if self._cut is None:
            return False
        piece = next(self._pieces, None)
        self.size += len(piece or b"")
        data = self._cut + (piece or b"")
        cut = len(data) if piece is None else _escape_at_end(data)
        self._cut = None if piece is None else data[cut:]
        data = data[:cut].replace(rb"\\", rb"\n").replace(rb"\"", rb"\n")
        self._data = self._data[self._at :] + _ESCAPED.sub(_unescaped, data)
        self._at = 0
        return True


def _escape_at_end(data: bytes) -> int:
    """Where an escape begins that may go on after the data; its length if there is none."""
    last = data.rfind(b"\\", max(0, len(data) + 1 - _LONGEST_ESCAPE))
    before = data[: last + 1]
    return last if (len(before) - len(before.rstrip(b"\\"))) % 2 else len(data)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    character = bytes.fromhex(escape[1].decode())
    return rb"\n" if character in (b'"', b"\\") else character


class _Frame:
    """An object or a list within the value of the member `name`, whose strings are looked at."""

    __slots__ = ("anthropic", "is_list", "name", "skills")

    def __init__(self, name: str, *, is_list: bool) -> None:
        self.name = name
        self.is_list = is_list
        self.skills: dict[str, None] = {}  # of an object in `skills`, whose type may come later
        self.anthropic: bool | None = None  # whether its type is that

    @property
    def holds_ids(self) -> bool:
        """Whether a string in the list, or the `id` of the object, is what the member names."""
        return self.name not in _LOOKED_INTO


class _Scan:
    """Walks through the JSON. `found` has (member's name, id) as keys."""

    def __init__(self, reader: _Reader, most_steps: int | None) -> None:
        self._reader = reader
        self._most_steps = most_steps
        # The first is that of a value which is looked at, and others are within it; None of one that is not.
        self._frames: list[_Frame | None] = []
        self._steps = 0
        self.found: dict[tuple[str, str], None] = {}

    def run(self) -> bool:
        """Walk to the end. False if a bound was met before it."""
        while byte := self._reader.next(self._skipped()):
            if byte == _QUOTE:
                self._string()
            elif byte in _OPEN:
                self._begin("", is_list=byte == b"[")
            else:
                self._end()
            if self._is_beyond():
                return False
        return True

    def _skipped(self) -> re.Pattern[bytes]:
        """What is passed over without a look. Outside of any value of interest brackets do not matter."""
        if not self._frames:
            return _TO_NAME
        return _TO_BRACKET_OR_QUOTE if self._frames[-1] else _TO_BRACKET_OR_NAME

    @property
    def _frame(self) -> _Frame | None:
        return self._frames[-1] if self._frames else None

    def _is_beyond(self) -> bool:
        return self._has_no_step_left() or len(self.found) > MOST_REFERENCES or len(self._frames) > MOST_DEPTH

    def _has_no_step_left(self) -> bool:
        if self._most_steps is not None:
            return self._steps > self._most_steps
        return self._steps > MOST_STEPS + self._reader.size // BYTES_A_STEP

    def _begin(self, name: str, *, is_list: bool) -> None:
        """Take the bracket that begins the value of a member, or an element."""
        self._reader.take()
        self._steps += 1
        frame = self._frame
        if not name and frame is not None and frame.is_list:
            name = frame.name
        self._frames.append(_Frame(name, is_list=is_list) if name else None)

    def _end(self) -> None:
        self._reader.take()
        self._steps += 1
        frame = self._frames.pop()
        if frame is not None and frame.skills and not frame.anthropic:
            for skill in frame.skills:
                self._add("skill_id", skill)

    def _string(self) -> None:
        """Take a string, and if it is a member's name, its value too; of one that may hold references, its bracket."""
        self._steps += _STEPS_OF_A_STRING
        found = self._reader.string()
        if self._reader.next(_SPACE) != _COLON:
            frame = self._frame
            if frame is not None and frame.is_list and frame.holds_ids:
                self._add(frame.name, found)
            return
        self._reader.take()
        name = found or ""
        match self._reader.next(_SPACE):
            case b'"':
                self._member(name, self._reader.string())
            case b"{" | b"[" if name in OPAQUE or self._is_schema(name):
                self._pass_value()
            case b"{" | b"[" as bracket if name in _LOOKED_INTO or _is_reference(name):
                self._begin(name, is_list=bracket == b"[")

    def _is_schema(self, name: str) -> bool:
        return name == "parameters" and self._frame is not None and self._frame.name in FUNCTIONS

    def _pass_value(self) -> None:
        """Pass over an object or a list."""
        depth = 0
        while byte := self._reader.next(_TO_BRACKET):
            self._steps += 1
            if byte == _QUOTE:
                self._reader.string()
                continue
            self._reader.take()
            depth += 1 if byte in _OPEN else -1
            if depth == 0 or self._has_no_step_left():
                return

    def _member(self, name: str, value: str | None) -> None:
        frame = self._frame
        in_skill = frame is not None and frame.name == "skills"
        if frame is not None and in_skill and name == "type":
            frame.anthropic = value == "anthropic" and frame.anthropic is not False
        elif frame is not None and in_skill and name == "skill_id" and len(frame.skills) < MOST_REFERENCES:
            frame.skills[value or ""] = None
        elif _is_reference(name):
            self._add(name, value)
        elif frame is not None and name == "id" and frame.holds_ids:
            self._add(frame.name, value)

    def _add(self, name: str, value: str | None) -> None:
        if value and len(self.found) <= MOST_REFERENCES and _ID.fullmatch(value):
            self.found[name, value] = None


def _is_reference(name: str) -> bool:
    return _REFERENCE.fullmatch(name) is not None and name not in NO_REFERENCES
