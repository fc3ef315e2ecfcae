"""Reads the token usage of an answer to `POST /v1/messages` from a copy of its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import msgspec
from msgspec import DecodeError

from proxy.http.decoding import ERRORS, FREE_BYTES, MAX_RATIO, Identity, decoder
from proxy.usage.message_stream import MOST_TOKENS, Json, Message, MessageStream, name_in, usage_in

BYTES_PER_TOKEN = 4
"""Estimate for an answer that ends before it reports its usage. Anthropic's own gateway also counts about four
characters a token (code.claude.com/docs/en/claude-apps-gateway-spend-limits)."""

_LINE_BYTES: Final = 100
"""What a line costs beside its bytes of what may be decoded, since each takes time: 64 KB could become millions, which
held the loop for 0.5 s. Streams that are compressed event by event have one in four bytes or more."""

_KEPT_BYTES = 128 << 10  # of a JSON answer, at its beginning and again at its end
_MOST_ITERATIONS = 256  # each is priced; the API bills some ten
_MESSAGE: Final = msgspec.json.Decoder(Message)


@dataclass(slots=True)
class Usage:
    """The counts as the message's `usage` has them. `estimated`: the answer ended before it named them all.

    Where the API lists `iterations`, they are what is billed, not the counts beside them: those leave out
    compaction, an advisor's tokens and models that declined
    (platform.claude.com/docs/en/build-with-claude/compaction-threshold, …/agents-and-tools/tool-use/advisor-tool).
    """

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_5m_tokens: int = 0
    cache_creation_1h_tokens: int = 0
    cache_read_tokens: int = 0
    web_search_requests: int = 0
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    estimated: bool = False
    iterations: tuple[Usage, ...] = ()

    @property
    def cache_creation_tokens(self) -> int:
        return self.cache_creation_5m_tokens + self.cache_creation_1h_tokens

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cache_creation_tokens + self.cache_read_tokens

    @property
    def billed(self) -> tuple[Usage, ...]:
        """The parts that are billed, each with its own model."""
        return self.iterations or (self,)

    @property
    def total(self) -> int:
        """All tokens that are billed."""
        return sum(each.prompt_tokens + each.output_tokens for each in self.billed)


class Reader(Protocol):
    """Reads a body without its content encoding."""

    @property
    def is_whole(self) -> bool:
        """False if the end of what it reads has not come; True too if that cannot be told."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes, cut anywhere."""

    def settle(self, *, whole: bool) -> Usage | None:
        """The usage, at the end; None if none is told. `whole`: all of the body has come."""


class Meter:
    """Reads an answer's body as it passes. Never raises: what it cannot read, it does not count."""

    __slots__ = ("_decoder", "_left", "_reader")

    def __init__(self, content_type: str, content_encoding: str, status: int) -> None:
        media_type = content_type.partition(";")[0].strip().lower()
        self._reader = self._reader_of(media_type) if status == 200 else None
        self._decoder = decoder(content_encoding.strip().lower())  # None once the rest is unreadable
        self._left = FREE_BYTES  # bytes that may yet be decoded

    def _reader_of(self, media_type: str) -> Reader | None:
        match media_type:
            case "text/event-stream":
                return self._stream()
            case "application/json":
                return self._body()
        return None

    def _stream(self) -> Reader:
        return _Stream()

    def _body(self) -> Reader:
        return JsonBody()

    def feed(self, data: bytes) -> None:
        """Take the next bytes, cut anywhere."""
        if self._reader is None or self._decoder is None:
            return
        if type(self._decoder) is Identity:  # nothing expands, so no ratio is checked
            self._reader.feed(data)
            return
        self._left += MAX_RATIO * len(data)
        try:
            for piece in self._decoder.decode(data):
                self._left -= self._effort(piece)
                if self._left < 0:
                    self._decoder = None
                    return
                self._reader.feed(piece)
        except ERRORS:
            self._decoder = None

    def _effort(self, piece: bytes) -> int:
        """How much of what may be decoded it takes."""
        return len(piece) + _LINE_BYTES * piece.count(b"\n")

    @property
    def may_be_whole(self) -> bool:
        """False if the end of the message has not come; True too if that cannot be told."""
        if self._reader is None or self._decoder is None:
            return True
        return self._decoder.ended and self._reader.is_whole

    @property
    def failed(self) -> str | None:
        """The type of the error event that a stream of server-sent events has ended in."""
        return self._reader.failed if isinstance(self._reader, MessageStream) else None

    def finish(self, complete: bool) -> Usage | None:
        """The usage, at the end of the body; None if it was no message. `complete`: the body was not cut."""
        if self._reader is None:
            return None
        return self._reader.settle(whole=complete and self._decoder is not None)


class _Stream(MessageStream):
    """A message as server-sent events."""

    __slots__ = ()

    @property
    def is_whole(self) -> bool:
        return self.ended or self.failed is not None

    def settle(self, *, whole: bool) -> Usage | None:
        self.close()
        if not self.begun:
            return None
        if self.settled and self.failed is None and (whole or self.ended):
            return usage_of(self.model, self.usage)
        told = count_in(self.usage, "output_tokens")
        # The output that message_start counts is the beginning of the text that the deltas bring.
        before = told if self.settled else 0
        output = max(told, before + -(-self.delta_bytes // BYTES_PER_TOKEN))
        return usage_of(self.model, self.usage | {"output_tokens": output}, estimated=True)


class JsonBody:
    """A message as one JSON object. A small one is kept whole, of a large one only the beginning and the end."""

    __slots__ = ("_head", "_size", "_tail")

    content: ClassVar[bytes] = b'"content"'
    """The member that may be large."""

    def __init__(self) -> None:
        self._head: bytes | bytearray = b""
        self._tail = bytearray()
        self._size = 0

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        room = _KEPT_BYTES - len(self._head)
        if room > 0:
            if not self._head:
                self._head = data[:room]
            else:
                if isinstance(self._head, bytes):
                    self._head = bytearray(self._head)
                self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data[-2 * _KEPT_BYTES :]
            if len(self._tail) > 2 * _KEPT_BYTES:
                del self._tail[:-_KEPT_BYTES]

    def settle(self, *, whole: bool) -> Usage | None:
        message = self.read()
        if name_in(message.type) != "message":
            return None
        model, usage = name_in(message.model), usage_in(message.usage)
        if isinstance(usage.get("output_tokens"), int):
            return usage_of(model, usage)
        return usage_of(model, {"output_tokens": self._size // BYTES_PER_TOKEN}, estimated=True)

    @property
    def is_whole(self) -> bool:
        """Whether it parses; of a large one, whether what follows its content does."""
        if self._size <= len(self._head) + len(self._tail):
            return _message(self._head + self._tail) is not None
        return bool(self.read().usage)

    def read(self) -> Message:
        """What was told around the content."""
        head, tail = self._head, self._tail
        message = None
        if self._size == len(head) + len(tail):
            message = _message(head + tail if tail else head)
        return message or _around(self.content, bytes(head), tail)


def _message(data: bytes | bytearray) -> Message | None:
    try:
        return _MESSAGE.decode(data)
    except (DecodeError, RecursionError):
        return None


def _around(content: bytes, head: bytes, tail: bytearray) -> Message:
    """The fields of a message before its content, and from `usage` on, which the API writes after the content."""
    before = _message(head[: max(head.find(content), 0)] + content + b":0}") or Message()
    at = len(tail)
    for _ in range(8):  # `"usage"` may stand inside the content too; from there the braces do not match
        at = tail.rfind(b'"usage"', 0, at)
        if at < 0:
            break
        if (after := _message(b"{" + tail[at:])) is not None:
            return Message(after.type or before.type, after.model or before.model, after.usage)
    return before


def usage_of(model: str | None, fields: Json, *, estimated: bool = False) -> Usage:
    """Read a message's `usage`. Fields that are missing, null or damaged count as 0."""
    created, created_1h = _created(fields)
    usage = Usage(
        model or "",
        count_in(fields, "input_tokens"),
        count_in(fields, "output_tokens"),
        created - created_1h,
        created_1h,
        count_in(fields, "cache_read_input_tokens"),
        count_in(fields.get("server_tool_use"), "web_search_requests"),
        _word(fields, "service_tier"),
        _word(fields, "inference_geo"),
        _word(fields, "speed"),
        estimated,
    )
    iterations = fields.get("iterations")
    if isinstance(iterations, list) and iterations:
        usage.iterations = tuple(_iterations(usage, iterations[:_MOST_ITERATIONS]))
        usage.estimated = estimated or len(iterations) > _MOST_ITERATIONS
    return usage


def _iterations(whole: Usage, iterations: list[object]) -> Iterator[Usage]:
    # These hold for every iteration, but are named only once, beside the iterations.
    how = {"service_tier": whole.service_tier, "inference_geo": whole.inference_geo, "speed": whole.speed}
    for each in iterations:
        if isinstance(each, dict):
            model = each.get("model")
            name = model if isinstance(model, str) and model else whole.model
            yield usage_of(name, each | how | {"iterations": None}, estimated=whole.estimated)


def _created(fields: Json) -> tuple[int, int]:
    """Tokens written to the cache, and how many of them for an hour."""
    split = fields.get("cache_creation")
    hour = count_in(split, "ephemeral_1h_input_tokens")
    if fields.get("cache_creation_input_tokens") is None:
        return hour + count_in(split, "ephemeral_5m_input_tokens"), hour
    # Only message_start has the split. What a message_delta counts beyond it is taken for 5-minute cache.
    created = count_in(fields, "cache_creation_input_tokens")
    return created, min(hour, created)


def count_in(fields: object, name: str) -> int:
    """A number of tokens or the like; 0 if it is missing or damaged."""
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if type(value) is int and 0 < value < MOST_TOKENS else 0


def _word(fields: Json, name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None
