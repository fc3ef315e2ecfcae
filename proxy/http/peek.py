"""Reads from a request's body what decides its cost: models, max_tokens, speed. The body itself passes unchanged.

The work and the memory are bounded: a scan that builds nothing of what it does not look for, off the loop if it is
long. What cannot be known within the bounds is unknown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator
from functools import cache, partial
from itertools import takewhile
from typing import BinaryIO, Final

import msgspec
from msgspec import DecodeError, Raw, Struct, ValidationError

from proxy.http.body import Body
from proxy.http.decoding import PIECE_BYTES, Undecodable, decoded_pieces
from proxy.http.scan import ABSENT, text

AT_ONCE_BYTES = 512 * 1024
"""Up to this size a body is scanned on the event loop: that takes 0.1 ms, and at most 2."""

MOST_BYTES = 32 * 1024 * 1024
"""The largest body that is scanned, after decoding; the API accepts no larger one."""

MOST_MARKS = 4_000_000
"""The most brackets, commas, colons and quotes in a body that is scanned, which keeps the interpreter's lock meanwhile:
so many take 30 ms. No model reads so much text; what is larger than that holds images, in base64."""

MOST_PARTS = 10_000
"""The most tools or fallbacks that are looked at; the API accepts no more tools
(platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool)."""

MOST_MODELS = 32
"""The most models that a request may name beside its own: the price of each is looked up."""

MAX_MODEL = 256
"""The longest name of a model that is read; clients may send anything."""

MOST_TOKENS = 1_000_000
"""Assumed for a `max_tokens` that is larger or no integer, since the upstream may accept it. No model writes more."""

_BOM = b"\xef\xbb\xbf"
_MARKS = b'[]{},:"'
_COUNTS = (128, 1024, MOST_PARTS)  # of parts; to make a decoder for the last takes 50 ms, once
_PLAIN = ("", "identity")
_BRACE = ord("{")
_LONGEST_WORD = 10  # characters
_LONGEST_NUMBER = 100


class Peek(Struct, frozen=True):
    """Members of a JSON body; None if missing, or if the body cannot be read.

    `others`: further models that may do a part of the work (server-side fallbacks, an advisor). `max_tokens`: the
    highest one that is named. `fast`: whether any of the models may run fast. `size`: bytes of the decoded body; None
    if it cannot be read, or asks for more models than are counted here.
    """

    model: str | None = None
    others: tuple[str, ...] = ()
    max_tokens: int | None = None
    fast: bool = False
    size: int | None = None


UNKNOWN: Final = Peek()
"""Of a body of which nothing is known."""


class _Part(Struct):
    """What is looked for in a part of a request that names its own model. JSON as it came; empty if it is not there."""

    model: Raw = ABSENT
    max_tokens: Raw = ABSENT
    speed: Raw = ABSENT


class _Request(_Part):
    """The same of the request itself, and its lists of such parts.

    platform.claude.com/docs/en/build-with-claude/refusals-and-fallback, …/agents-and-tools/tool-use/advisor-tool
    """

    fallbacks: Raw = ABSENT
    tools: Raw = ABSENT


_REQUEST: Final = msgspec.json.Decoder(_Request)
_PART: Final = msgspec.json.Decoder(_Part)
_NUMBER: Final = msgspec.json.Decoder(int | float | None)


def peek(body: Body | None, content_encoding: str = "") -> Peek | Awaitable[Peek]:
    """Scan a body: a small one at once, a large or compressed one in a thread."""
    if body is None or not 0 < body.size <= MOST_BYTES:
        return UNKNOWN
    encoding = content_encoding.strip().lower()
    if body.size <= AT_ONCE_BYTES and encoding in _PLAIN and isinstance(data := body.open(), bytes):
        return _scan(data)
    return body.read_in_thread(partial(_decode_and_scan, encoding=encoding))


def _decode_and_scan(source: bytes | BinaryIO, encoding: str) -> Peek:
    found, marks = bytearray(), 0
    try:
        for piece in decoded_pieces(_pieces(source), encoding):
            found += piece
            marks += len(piece) - len(piece.translate(None, _MARKS))
            if len(found) > MOST_BYTES or marks > MOST_MARKS:
                return UNKNOWN
    except Undecodable:
        return UNKNOWN
    return _scan(found)


def _pieces(source: bytes | BinaryIO) -> Iterable[bytes]:
    """The source in pieces: between two of them, other threads get their turn."""
    if isinstance(source, bytes):
        return (source[start : start + PIECE_BYTES] for start in range(0, len(source), PIECE_BYTES))
    return iter(partial(source.read, PIECE_BYTES), b"")


def _scan(data: bytes | bytearray) -> Peek:
    try:
        request = _REQUEST.decode(data[len(_BOM) :] if data.startswith(_BOM) else data)
        if not (request.fallbacks or request.tools):  # the most frequent case
            return Peek(text(request.model, MAX_MODEL), (), _tokens(request), _is_fast(request), len(data))
        return _scan_parts(request, len(data))
    except (DecodeError, RecursionError):
        return UNKNOWN  # the upstream answers what is wrong with it


def _scan_parts(request: _Request, size: int) -> Peek:
    found = [_elements(request.fallbacks), _elements(request.tools)]
    parts = [part for elements in found for part in _objects(elements or ()) if part.model]
    others = [text(part.model, MAX_MODEL) or "" for part in parts[: MOST_MODELS + 1]]
    if text(request.fallbacks, _LONGEST_WORD) == "default":
        others.append("default")
    counted = [tokens for part in (request, *parts) if (tokens := _tokens(part)) is not None]
    return Peek(
        model=text(request.model, MAX_MODEL),
        others=tuple(others[:MOST_MODELS]),
        max_tokens=max(counted, default=None),
        fast=any(map(_is_fast, (request, *parts))),
        size=None if None in found or len(others) > MOST_MODELS else size,
    )


@cache
def _first(count: int) -> msgspec.json.Decoder[Struct]:
    """A decoder of the first elements of a list, which skips the others without building them."""
    fields = [(f"element_{number}", Raw, ABSENT) for number in range(count)]
    return msgspec.json.Decoder(msgspec.defstruct("First", fields, array_like=True))


def _elements(value: Raw) -> list[Raw] | None:
    """The elements of a list; none if it is not a list, None if it has too many."""
    if not value:
        return []
    for most in _COUNTS:
        try:
            found = msgspec.structs.astuple(_first(most + 1).decode(value))
        except ValidationError:
            return []
        if not found[most]:
            return list(takewhile(len, found))
    return None


def _objects(elements: Iterable[Raw]) -> Iterator[_Part]:
    return (_PART.decode(each) for each in elements if memoryview(each)[0] == _BRACE)


def _tokens(part: _Part) -> int | None:
    if not part.max_tokens:
        return None
    try:
        value = _NUMBER.decode(part.max_tokens) if len(part.max_tokens) <= _LONGEST_NUMBER else MOST_TOKENS
    except ValidationError:
        return MOST_TOKENS
    if value is None:
        return None
    return min(max(value, 0), MOST_TOKENS) if type(value) is int else MOST_TOKENS


def _is_fast(part: _Part) -> bool:
    return text(part.speed, _LONGEST_WORD) == "fast"
