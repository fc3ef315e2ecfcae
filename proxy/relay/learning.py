"""Learns ids from answers: of what was created, of what an answer's tools or a run have made, of the message itself.

A client that knows of a resource may use it at once, and after a restart: so no byte that names a new one reaches it
before the id is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
from msgspec import DecodeError, Raw, Struct

from proxy.accounts.affinity import Affinity, Asking
from proxy.errors import BadGateway, StorageError, UpstreamError
from proxy.http.decoding import ERRORS, FREE_BYTES, MAX_RATIO, Undecodable, decoded, decoder
from proxy.http.headers import is_event_stream
from proxy.http.listing import list_query
from proxy.http.scan import ABSENT, text
from proxy.http.target import Target, collection_of, is_collection, is_generated
from proxy.relay.answer import Answer, Source, Whole
from proxy.relay.merge import Fetched, page_of
from proxy.upstream.exchange import Exchange

MOST_BYTES = 4 * 1024 * 1024
"""The largest answer that is read whole: one that creates something, or a message that is not streamed."""

LONGEST_ID = 256

_CARRIED = 1024  # bytes of a piece in which an id may begin that the next one ends
# Within a JSON text quotes are escaped, so what an answer says of such members is not taken for one.
_MADE: Final = re.compile(
    rb'"(file_id|container)"\s*:\s*(?:"([^"\\]{1,256})"|\{[^{}]{0,512}?"id"\s*:\s*"([^"\\]{1,256})")'
)
_MESSAGE_ID: Final = re.compile(rb'"id"\s*:\s*"([^"\\]{1,256})"')
_MADE_IN: Final = {b"file_id": "files", b"container": "containers"}

_MAKES: Final = {"session_id": "sessions", "memory_store_id": "memory_stores"}
"""Members of a run, a dream and their like, or of its `outputs`, that name what it has made. Others name what was there
before, such as an environment: that may have been made beside the proxy, and be used by every group."""


class _Item(Struct):
    id: Raw = ABSENT


class _Created(_Item):
    """What was created, or a list of such."""

    data: list[_Item] | None = None


_CREATED: Final = msgspec.json.Decoder(_Created)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_OUTPUTS: Final = msgspec.json.Decoder(list[dict[str, Raw]])


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an answer may teach. `collection`: the answer is one of it, or a list of some. `made`: ids of what tools of
    the server have made. `message`: the id of the message, by which another request goes on from it. `about`: the id of
    the resource that it is about, which may have made others; `below`: the name of what the request asks of it. It
    is empty if what such a resource makes is known by its type: the rest, such as a store's memories, has no path of
    its own, and would be kept when the store is long gone.
    """

    collection: str | None = None
    about: str | None = None
    below: str = ""
    made: bool = False
    message: bool = False


def lesson_of(asking: Asking) -> Lesson | None:
    """What the answer to this may teach; None for most."""
    target, peek = asking.target, asking.peek
    if asking.is_turn:
        made = peek.may_generate or "container" in dict(peek.named)
        return Lesson(made=made, message=peek.in_thread) if made or peek.in_thread else None
    if target.collection is None or asking.method == "HEAD":
        return None
    if asking.makes:
        return Lesson(collection=target.collection)
    if target.resource is None:
        return None
    made, last = target.collection in ("sessions", "batches"), target.segments[-1]
    is_below = asking.method == "POST" and target.segments[-2] == target.resource
    if is_below or (asking.method in ("GET", "POST") and last == target.resource):
        return Lesson(made=made, about=target.resource, below="" if target.is_known else last)
    return Lesson(made=True) if made else None


def may_teach(asking: Asking) -> bool:
    """Whether `learn` has anything to do."""
    return asking.method == "DELETE" or lesson_of(asking) is not None


async def learn(affinity: Affinity, asking: Asking, account_id: str, answer: Answer) -> None:
    """Learn from an answer that is about to be handed over; its source is set so that no id is told too soon.

    Raises BadGateway if an answer that is read whole was cut.
    """
    target = asking.target
    if asking.method == "DELETE":
        _forget(affinity, target)
        return
    lesson = lesson_of(asking)
    if lesson is None:
        return
    pupil = _Pupil(affinity, lesson, asking.group, account_id)
    streamed = is_event_stream(answer.content_type)
    is_whole = asking.is_turn or (lesson.about is not None and "json" in answer.content_type.lower())
    source, by_piece = answer.source, lesson.collection is None and (streamed or not is_whole)
    body = None if by_piece else await whole(source)
    if body is not None:
        answer.source = Whole(body)
        if pupil.read(body, answer.content_encoding):
            await pupil.save()
    elif isinstance(source, Exchange):
        answer.source = Tap(source, pupil, answer.content_encoding)


def _forget(affinity: Affinity, target: Target) -> None:
    """Forget what was deleted. What has a path of its own is not deleted by another one, but taken out of something."""
    *_, id = target.resource, *target.perhaps
    if id is None:
        return
    name, holding = target.segments[-2], affinity.resources.get(id)
    is_within = holding is not None and holding.collection == name and not is_collection(name)
    if id == target.resource or is_within:
        affinity.resources.forget(id)


async def learn_listed(affinity: Affinity, asking: Asking, account_id: str, answer: Fetched) -> None:
    """Learn what a page has that belongs to a resource which its query names, such as the files of a session.

    An item says to what it belongs, but for a session's files. Raises BadGateway if the page cannot be read.
    """
    page, target = await page_of(answer), asking.target
    names = [name for name, _ in target.named]
    is_of_session = target.collection == "files" and names == ["scope_id"] and not list_query(target).named
    known = [json.dumps(id).encode() for _, id in target.named if affinity.resources.get(id) is not None]
    items = [
        item
        for item in (page.items if page is not None and known else ())
        if is_generated(item.id) and (is_of_session or any(id in bytes(item.raw) for id in known))
    ]
    learn = partial(affinity.resources.learn, account_id=account_id, group=asking.group)
    is_new = learn([item.id for item in items], collection=target.collection or "")
    for item in items:
        if affinity.owns(asking.group, account_id, item.id):
            with contextlib.suppress(DecodeError):
                for id, collection in _made_by(_MEMBERS.decode(item.raw)):
                    is_new |= learn([id], collection=collection)
    if is_new:
        await save(affinity)


def _made_by(members: dict[str, Raw]) -> Iterator[tuple[str, str]]:
    """The ids, each with its collection, of what something has made that has these members."""
    try:
        outputs = _OUTPUTS.decode(members.get("outputs", b"[]"))
    except DecodeError:
        outputs = []
    for each in (members, *outputs):
        for name, collection in _MAKES.items():
            id = text(each.get(name, ABSENT), LONGEST_ID)
            if id is not None and is_generated(id):
                yield id, collection


async def save(affinity: Affinity) -> None:
    """Return once what was learnt is on disk; or if that fails, which is logged and tried again."""
    with contextlib.suppress(StorageError):
        await affinity.resources.save()


async def whole(source: Source) -> bytes | None:
    """A body up to `MOST_BYTES`; None if it is larger, and then nothing of it is lost.

    Raises BadGateway if it was cut.
    """
    if not isinstance(source, Exchange):
        return source.start()
    exchange, body = source, bytearray()
    try:
        while data := await exchange.read():
            body += data
            if len(body) > MOST_BYTES:
                exchange.put_back(bytes(body))
                return None
    except UpstreamError as error:
        raise BadGateway(f"the upstream's answer was cut: {error}") from error
    return bytes(body)


class _Pupil:
    """Notes the ids that one answer names."""

    def __init__(self, affinity: Affinity, lesson: Lesson, group: str, account_id: str) -> None:
        self._affinity = affinity
        self._lesson = lesson
        self._group = group
        self._account_id = account_id
        self._rest = b""
        self._wants_message = lesson.message

    def read(self, body: bytes, encoding: str) -> bool:
        """Take an answer that is there whole. Whether it named anything new."""
        try:
            found = decoded(body, encoding.lower(), 2 * MOST_BYTES)
            if self._lesson.about is not None:
                return self._is_told(_MEMBERS.decode(found)) | (self._lesson.made and self._notes(found))
            told = _CREATED.decode(found)
            ids = [text(each.id, LONGEST_ID) for each in (told, *(told.data or ()))]
        except (Undecodable, DecodeError, RecursionError):
            return False
        if self._lesson.message and ids[0]:
            self._affinity.conversations.keep_message(self._group, ids[0], self._account_id)
        new = self._lesson.made and self._notes(found)
        if self._lesson.collection is not None:
            new |= self._knows(filter(None, ids), self._lesson.collection)
        return new

    def _is_told(self, members: dict[str, Raw]) -> bool:
        """Take what is told of a resource. If that is known, what it has made is its group's."""
        lesson, resources = self._lesson, self._affinity.resources
        holding = resources.get(lesson.about or "")
        if holding is None:
            return False
        id, type = (text(members.get(name, ABSENT), LONGEST_ID) or "" for name in ("id", "type"))
        collection = collection_of(type) or lesson.below
        made = [(id, collection)] if collection and is_generated(id) else []
        made.extend(_made_by(members))
        new = False
        for each, its in made:
            new |= resources.learn([each], self._account_id, holding.group, its)
        return new

    def hears(self, data: bytes) -> bool:
        """Take the next decoded bytes of a stream. Whether they named anything new."""
        heard = self._rest + data
        if self._wants_message and (found := _MESSAGE_ID.search(heard)):
            self._affinity.conversations.keep_message(
                self._group, found[1].decode("utf-8", "replace"), self._account_id
            )
            self._wants_message = False
        self._rest = heard[-_CARRIED:]
        return self._lesson.made and self._notes(heard)

    def _notes(self, heard: bytes) -> bool:
        new = False
        for found in _MADE.finditer(heard):
            id = (found[2] or found[3]).decode("utf-8", "replace")
            new |= self._knows([id], _MADE_IN[found[1]])
        return new

    def _knows(self, ids: Iterable[str], collection: str) -> bool:
        return self._affinity.resources.learn(ids, self._account_id, self._group, collection)

    async def save(self) -> None:
        """See `save`."""
        await save(self._affinity)


class Tap:
    """A source that holds back each piece that names something new, until that is on disk."""

    def __init__(self, exchange: Exchange, pupil: _Pupil, encoding: str) -> None:
        self._exchange = exchange
        self._pupil = pupil
        self._decoder = decoder(encoding.strip().lower())  # None once the rest is unreadable
        self._left = FREE_BYTES  # bytes that may yet be decoded
        self._room: asyncio.Future[None] | None = None

    def start(self) -> bytes:
        return b""  # `pipe` may have to wait before the first byte

    async def pipe(self, take: Callable[[bytes], bool]) -> None:
        while data := await self._exchange.read():
            if self._is_new(data):
                await self._pupil.save()
            if not take(data):
                self._room = asyncio.get_running_loop().create_future()
                await self._room

    def resume(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _is_new(self, data: bytes) -> bool:
        """Whether these bytes name something new. Never raises: what cannot be read teaches nothing."""
        if self._decoder is None:
            return False
        new, self._left = False, self._left + MAX_RATIO * len(data)
        try:
            for piece in self._decoder.decode(data):
                self._left -= len(piece)
                if self._left < 0:
                    self._decoder = None
                    break
                new |= self._pupil.hears(piece)
        except ERRORS:
            self._decoder = None
        return new
