"""Reads from a request's body what decides its cost and its account. The body itself passes unchanged.

The work and the memory are bounded: scans that build little or nothing, off the loop if they are long. What cannot be
known within the bounds is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable, Iterator
from functools import partial
from itertools import chain as joined
from typing import BinaryIO, Final

import msgspec
from msgspec import DecodeError, Raw, Struct, ValidationError

from proxy.http.beginnings import Beginnings
from proxy.http.body import Body
from proxy.http.conversation import (
    AnyRequest,
    Bare,
    OddRequest,
    Request,
    TooMany,
    chain,
    loose,
    picture_excess,
)
from proxy.http.decoding import PIECE_BYTES, TooLarge, Undecodable, decoded_pieces
from proxy.http.parts import asked
from proxy.http.references import References, may_refer, references
from proxy.http.session import previous_message, runs_skills, session

AT_ONCE_BYTES = 512 * 1024
"""Up to this size a body is scanned on the event loop: that takes 0.2 ms, and at most 20."""

MOST_BYTES = 32 * 1024 * 1024
"""The largest body that is scanned for all of it, after decoding; the API accepts a larger one only as a batch."""

MOST_BYTES_LOOKED_THROUGH = 256 * 1024 * 1024
"""The largest body in which references are looked for, after decoding: the API's limit for a batch."""

MOST_MARKS = 4_000_000
"""The most brackets, commas, colons and quotes in a body that is scanned, which keeps the interpreter's lock meanwhile:
so many take 30 ms. No model reads so much text; what is larger than that holds images, in base64."""

MOST_OBJECTS, MOST_OBJECTS_AT_ONCE = 100_000, 25_000
"""The most objects in a conversation that is read, in a thread and on the event loop. One may take 0.4 KB."""

MOST_BLOCKS_AT_ONCE = 1500
"""The most messages and blocks that are hashed on the event loop: that takes 1.5 ms at most. 200 KB have some 150."""

LOOKED_THROUGH_AT_ONCE_BYTES = 64 * 1024
MOST_STEPS_AT_ONCE = 1000
"""So much is looked through for references on the event loop: it takes 1 ms."""

PICTURED_ABOVE_BYTES = 64 * 1024
"""In a smaller body no picture is looked for: it is no more than some text."""

_BOM = b"\xef\xbb\xbf"
_MARKS = b'[]{},:"'
_PLAIN = ("", "identity")
_IN_TOOLS = "`$.tools"  # in the message of an error
_JSON: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*+(?:[{\[](?!\0)|\Z)")
_WIDE_JSON: Final = re.compile(rb"[\xff\xfe\0 \t\r\n]*+[{\[]")


class Peek(Struct, frozen=True):
    """Members of a JSON body; None if missing, or if the body cannot be read.

    `others`: further models that may do a part of the work (server-side fallbacks, an advisor). `max_tokens`: the
    highest one that is named. `fast`: whether any of the models may run fast. `size`: bytes of the decoded body, of
    which a picture in a message counts for at most `PICTURE_BYTES`; None if it cannot be read, or asks for more models
    than are counted here.
    """

    model: str | None = None
    others: tuple[str, ...] = ()
    max_tokens: int | None = None
    fast: bool = False
    size: int | None = None

    named: tuple[tuple[str, str], ...] = ()
    """(member's name, id) of what the body refers to in an organisation, each once. It has no skill of Anthropic's."""

    too_many: bool = False
    """Whether it refers to more than `named` can hold, or than can be looked through."""

    unreadable: bool = False
    """Whether it has an encoding that is not read here, so that it may refer to anything."""

    session: str | None = None
    """The session that `metadata.user_id` names, as Claude Code writes it."""

    chain: tuple[int, ...] = ()
    """Hashes of its conversation: see `conversation.chain`. Empty if it is none, or if none were asked for."""

    previous_message: str | None = None
    """The message that `thread` goes on from."""

    diagnosed_message: str | None = None
    """The message that `diagnostics` names."""

    in_thread: bool = False
    """Whether a later request may name the answer, to go on from it or to be compared with it."""

    may_generate: bool = False
    """Whether the answer may hold new files or a new container: the model can run code."""


UNKNOWN: Final = Peek()
"""Of a body of which nothing is known."""

_UNREADABLE: Final = Peek(unreadable=True)
_NOTHING: Final = References()

_CONVERSATIONS: Final = (Request, AnyRequest)
_REQUEST: Final = msgspec.json.Decoder(Request)
_ODD_REQUEST: Final = msgspec.json.Decoder(OddRequest)
_ANY_REQUEST: Final = msgspec.json.Decoder(AnyRequest)
_BARE: Final = msgspec.json.Decoder(Bare)


def peek(
    body: Body | None,
    content_encoding: str = "",
    *,
    wants_chain: bool = False,
    beginnings: Beginnings | None = None,
) -> Peek | Awaitable[Peek]:
    """Scan a body: a small one at once; one that is large, compressed, or takes much work in a thread.

    What is known of its beginning is not scanned again, if a chain is wanted.
    """
    if body is None or not body.size:
        return UNKNOWN
    encoding = content_encoding.strip().lower()
    if encoding in _PLAIN and isinstance(data := body.open(), bytes):
        found = _scan_at_once(data, wants_chain, beginnings)
        if found is not None:
            return found
    return body.read_in_thread(partial(_decode_and_scan, encoding=encoding, wants_chain=wants_chain))


def _decode_and_scan(source: bytes | BinaryIO, encoding: str, wants_chain: bool) -> Peek:
    pieces = _bounded(decoded_pieces(_pieces(source), encoding))
    found, marks, objects = bytearray(), 0, 0
    try:
        for piece in pieces:
            found += piece
            if len(_BOM) < len(found) <= 2 * PIECE_BYTES and not _JSON.match(found):
                return _no_json(found)
            marks += len(piece) - len(piece.translate(None, _MARKS))
            objects += piece.count(b"{")
            if len(found) > MOST_BYTES or marks > MOST_MARKS:
                named, too_many = references(joined(_pieces(found), pieces))
                return Peek(named=named, too_many=too_many)
    except Undecodable:
        return _UNREADABLE
    return _scan(found, wants_chain, few_objects=objects <= MOST_OBJECTS) or UNKNOWN


def _pieces(source: bytes | bytearray | BinaryIO) -> Iterable[bytes]:
    """The source in pieces: between two of them, other threads get their turn."""
    if isinstance(source, bytes | bytearray):
        return (bytes(source[start : start + PIECE_BYTES]) for start in range(0, len(source), PIECE_BYTES))
    return iter(partial(source.read, PIECE_BYTES), b"")


def _bounded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MOST_BYTES_LOOKED_THROUGH:
            raise TooLarge(f"more than {MOST_BYTES_LOOKED_THROUGH} bytes")
        yield piece


def _no_json(data: bytes | bytearray) -> Peek:
    """What is told of data that does not begin like JSON."""
    # Some parsers take UTF-16 and UTF-32 too (RFC 4627 §3).
    return _UNREADABLE if _WIDE_JSON.match(data) else UNKNOWN


def _scan_at_once(data: bytes, wants_chain: bool, beginnings: Beginnings | None) -> Peek | None:
    """What is told of a body. None if that takes more work than may be done on the event loop."""
    known = beginnings.find(data) if wants_chain and beginnings is not None else None
    if known is not None and _is_little(data, *known.span):
        try:
            read = known.read(data, MOST_BLOCKS_AT_ONCE)
            if read is not None and not _may_hide(data, read[0]):
                request, hashes, excess = read
                return _told(request, len(data) - excess, wants_chain, at_once=True, hashes=hashes)
        except (DecodeError, RecursionError, TooMany):
            pass  # it is scanned like any other
    return _scan(data, wants_chain, at_once=True) if _is_little(data) else None


def _is_little(data: bytes, start: int = 0, end: int = 0) -> bool:
    """Whether a body, without what is from `start` to `end`, may be scanned on the event loop."""
    new = len(data) - (end - start)
    if new > AT_ONCE_BYTES:
        return False
    # An object of a conversation has 11 bytes or more, so a smaller body cannot have too many.
    if new <= 11 * MOST_OBJECTS_AT_ONCE:
        return True
    return data.count(b"{", 0, start) + data.count(b"{", end) <= MOST_OBJECTS_AT_ONCE


def _scan(
    data: bytes | bytearray, wants_chain: bool, *, at_once: bool = False, few_objects: bool = True
) -> Peek | None:
    """The same, of any body in memory; it is None only if it should be told `at_once`."""
    bare = data[len(_BOM) :] if data.startswith(_BOM) else data
    try:
        if few_objects:
            request = _request(bare)
            if not _may_hide(bare, request):
                return _told(request, len(data), wants_chain, at_once)
    except (DecodeError, RecursionError):
        pass  # it has members that are unknown here, or is no request
    except TooMany:
        return None
    if not _JSON.match(bare):
        return _no_json(bare)
    refers_to = _look_through(bare, at_once)
    if refers_to is None:
        return None
    for decoder in (_ANY_REQUEST, _BARE) if few_objects else (_BARE,):
        try:
            return _told(decoder.decode(bare), len(data), wants_chain, at_once, refers_to)
        except (DecodeError, RecursionError):
            continue  # the upstream answers what is wrong with it
        except TooMany:
            return None
    return Peek(named=refers_to.named, too_many=refers_to.too_many)


def _request(data: bytes | bytearray) -> Request:
    """The request, if it refers to nothing but perhaps in what `loose` and `asked` give. Raises DecodeError."""
    try:
        return _REQUEST.decode(data)
    except ValidationError as error:
        if _IN_TOOLS in str(error):
            return _ODD_REQUEST.decode(data)
        raise


def _may_hide(data: bytes | bytearray, request: Request) -> bool:
    """Whether a member that refers to something may be there twice: only the last one was read."""
    if not (request.container or request.user_profile_id):  # the most frequent case
        return False
    rare = ((b'"container"', request.container), (b'"user_profile_id"', request.user_profile_id))
    names = [name for name, value in rare if value]
    return rb"\u00" in data or any(data.count(name) > 1 for name in names)


def _look_through(data: bytes | bytearray, at_once: bool) -> References | None:
    """What the JSON refers to. None if it takes more work than may be done `at_once`."""
    if not may_refer(data):
        return _NOTHING
    if not at_once:
        return references(_pieces(data))
    if len(data) > LOOKED_THROUGH_AT_ONCE_BYTES:
        return None
    found = references([bytes(data)], MOST_STEPS_AT_ONCE)
    return None if found.too_many else found


def _told(
    request: Request | AnyRequest | Bare,
    size: int,
    wants_chain: bool,
    at_once: bool,
    refers_to: References | None = None,
    hashes: tuple[int, ...] = (),
) -> Peek | None:
    parts = asked(request)
    if size > PICTURED_ABOVE_BYTES and isinstance(request, _CONVERSATIONS):
        size -= picture_excess(request.messages)
    if isinstance(request, Request):
        loosely = [*loose(request), *parts.odd]
        refers_to = _look_through(b"[%b]" % b",".join(loosely), at_once) if loosely else _NOTHING
    if refers_to is None:
        return None
    if wants_chain and not hashes and isinstance(request, _CONVERSATIONS):
        hashes = chain(request, MOST_BLOCKS_AT_ONCE if at_once else size)
    in_thread = bool(request.thread or request.diagnostics)  # false, mostly
    return Peek(
        model=parts.model,
        others=parts.others,
        max_tokens=parts.max_tokens,
        fast=parts.fast,
        size=size if parts.whole else None,
        named=refers_to.named,
        too_many=refers_to.too_many,
        session=session(request.metadata),
        chain=hashes,
        previous_message=previous_message(request.thread) if in_thread else None,
        diagnosed_message=previous_message(request.diagnostics) if in_thread else None,
        in_thread=in_thread and (_is_there(request.thread) or _is_there(request.diagnostics)),
        may_generate=parts.runs_code or runs_skills(request.container),
    )


def _is_there(member: Raw) -> bool:
    return bool(member) and bytes(member) != b"null"
