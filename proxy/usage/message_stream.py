"""Reads the usage from a streamed message. Server-sent events without usage are skipped unparsed."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from msgspec import DecodeError, Raw, Struct

from proxy.http.scan import ABSENT, text

MAX_EVENT_BYTES = 1 << 20
"""The largest event that is parsed; larger ones are skipped. Events that name the usage are below 10 kB."""

_DELTA = b"event: content_block_delta\n"
_MANY_BYTES = 1 << 10  # fewer are as soon skipped one by one
_TELLING = frozenset({b"message_start", b"message_delta", b"content_block_start", b"error", b"message_stop"})
_LINE_BYTES = 64  # what keeping a line costs beside its text
# `data: {"type":"content_block_delta","index":0,"delta":{"type":"`, and an index of more digits
_ENVELOPE_BYTES = 64
_SPACED_ENVELOPE_BYTES = 100  # all but the text, in JSON with blanks after `:` and `,`

_MAX_USAGE_BYTES = 64 << 10  # of a message's `usage`; a larger one is not read
MOST_TOKENS = 10**12
"""A number as large is damage."""

_COUNTED: Final = frozenset(
    {
        *("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
        *("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
        *("server_tool_use", "web_search_requests", "iterations"),
        *("service_tier", "inference_geo", "speed"),
    }
)
"""Members of a message's `usage` that are kept: an upstream may send a million others."""

_LONGEST_TEXT = 256  # of what is read: a model's name, a type

Json = dict[str, Any]
T = TypeVar("T")


class Message(Struct, frozen=True):
    """What is read of a message, each as the JSON that it is. Of its content nothing is built."""

    type: Raw = ABSENT
    model: Raw = ABSENT
    usage: Raw = ABSENT


_NO_MESSAGE: Final = Message()


class _Block(Struct):
    """A content block that says that another model goes on: `{"type": "fallback", "to": {"model": …}}`."""

    type: Raw = ABSENT
    to: Message = _NO_MESSAGE


class _Event(Struct):
    """What is read of an event's data, each as the JSON that it is: what one event means is anything in another."""

    message: Raw = ABSENT
    error: Raw = ABSENT
    usage: Raw = ABSENT
    content_block: Raw = ABSENT


_EVENT: Final = msgspec.json.Decoder(_Event)
_MESSAGE: Final = msgspec.json.Decoder(Message)
_BLOCK: Final = msgspec.json.Decoder(_Block)
_NO_EVENT: Final = _Event()
_OBJECT: Final = msgspec.json.Decoder(Json)


class MessageStream:
    """What the events so far have reported. Parses server-sent events (WHATWG HTML §9.2.6) in chunks cut anywhere.

    `usage` has the counts of message_start and of each message_delta, which are cumulative: none ever falls.
    `settled`: a message_delta has named the output tokens. `delta_bytes`: bytes of text since the last one that did.
    """

    __slots__ = (
        "_after_cr",
        "_data",
        "_held",
        "_name",
        "_overlong",
        "_size",
        "begun",
        "delta_bytes",
        "ended",
        "failed",
        "model",
        "settled",
        "usage",
    )

    def __init__(self) -> None:
        self.begun = self.settled = self.ended = False
        self.failed: str | None = None  # the type of the error that it ends in
        self.model: str | None = None
        self.usage: Json = {}
        self.delta_bytes = 0
        self._held = bytearray()  # the beginning of an incomplete line
        self._overlong = False  # that line is too long, and its bytes are dropped
        self._after_cr = False  # the last byte was CR, so an LF now ends no other line
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0  # of `_data`

    def feed(self, data: bytes) -> None:
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        inside = self._held or self._name or self._data or self._overlong
        if inside or not data.startswith(_DELTA):
            deltas = data.find(b"\n\n" + _DELTA) + 2
            before = data[:deltas] if deltas >= 2 else data
            self._take(before)
            data = data[len(before) :]
        if data and (rest := self._skip_deltas(data)):
            self._take(rest)

    def _take(self, data: bytes) -> None:
        if not data:
            return
        end = data.rfind(b"\n") + 1
        if end:
            whole = data if end == len(data) else data[:end]
            if self._held or self._overlong:
                whole = self._release() + whole
            self._lines(whole.split(b"\n")[:-1])
        if end < len(data):
            self._hold(data[end:])

    def close(self) -> None:
        """Parse the last event, which may lack its blank line, or even its line end."""
        self.feed(b"\n\n")

    def _skip_deltas(self, data: bytes) -> bytes:
        """Skip whole content_block_delta events at the start of `data`; they are most of a stream. Returns the rest."""
        at = self._skip_many_deltas(data) if len(data) > _MANY_BYTES else 0
        while data.startswith(_DELTA, at):
            end = data.find(b"\n\n", at)
            if end < 0:
                break
            self.delta_bytes += _text_bytes(data, at + len(_DELTA), end)
            at = end + 2
        return data[at:]

    def _skip_many_deltas(self, data: bytes) -> int:
        """Skip all deltas at once if no other event is among them, and return the end of the last whole one.

        A server may send 100,000 in one piece. Their text is counted as if all had the first one's envelope.
        """
        first, last = data.find(b"\n\n") + 2, data.rfind(b"\n\n" + _DELTA) + 2
        end = data.find(b"\n\n", last) + 2
        if end < 2:  # the last one is not whole
            end = last
        count = data.count(b"\n\n" + _DELTA, 0, end) + 1
        if not data.startswith(_DELTA) or first < 2 or data.count(b"\n\n", 0, end) != count:
            return 0
        envelope = first - _text_bytes(data, len(_DELTA), first - 2)
        self.delta_bytes += max(end - count * envelope, 0)
        return end

    def _hold(self, data: bytes) -> None:
        if not self._overlong:
            self._held += data
            if len(self._held) > MAX_EVENT_BYTES:
                self._overlong = True
                self._held.clear()
                self._pass_over()

    def _release(self) -> bytes:
        """The beginning of the held line. For an overlong line a colon, which makes its rest a comment."""
        held = b":" if self._overlong else bytes(self._held)
        self._overlong = False
        self._held.clear()
        return held

    def _lines(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.startswith(b"data:"):
                if self._name == b"content_block_delta":
                    self.delta_bytes += _text_bytes(line, 0, len(line))
                elif not self._name or self._name in _TELLING:
                    self._keep(line[5:])
            elif not line:
                if self._data:
                    self._dispatch(self._name, b"\n".join(self._data))
                    self._data.clear()
                    self._size = 0
                self._name = b""
            elif line.startswith(b"event:"):
                self._name = line[6:].strip()

    def _keep(self, data: bytes) -> None:
        self._size += len(data) + _LINE_BYTES
        self._data.append(data)
        if self._size > MAX_EVENT_BYTES:
            self._pass_over()

    def _pass_over(self) -> None:
        """Drop the data of an event that is too large, so that nothing in it is parsed."""
        self._data[:] = [b""]
        self._size = MAX_EVENT_BYTES  # so that what comes yet is too much

    def _dispatch(self, name: bytes, data: bytes) -> None:
        match name:
            case b"message_start" if not self.begun:
                if (message := _read(_MESSAGE, _event(data).message)) is not None:
                    self.begun = True
                    self.model = name_in(message.model)
                    merge(self.usage, usage_in(message.usage))
            case b"message_delta":
                usage = usage_in(_event(data).usage)
                merge(self.usage, usage)
                if isinstance(usage.get("output_tokens"), int):
                    self.settled = True
                    self.delta_bytes = 0
            case b"content_block_start" if b'"fallback"' in data:
                # If one model declines and another continues, the second is the answer's model, as it is
                # without streaming.
                block = _read(_BLOCK, _event(data).content_block)
                if block is not None and name_in(block.type) == "fallback" and block.to.model:
                    self.model = name_in(block.to.model)
            case b"content_block_delta":  # whose name came after its data
                self.delta_bytes += _text_bytes(data, 0, len(data))
            case b"error":
                error = _read(_MESSAGE, _event(data).error)
                self.failed = (error and name_in(error.type)) or "error"
            case b"message_stop":
                self.ended = True


def merge(counts: Json, more: Json) -> None:
    """Take over what `more` says. Counts never fall: a zero, or what is damaged, says nothing."""
    for name, value in more.items():
        if name not in _COUNTED:
            continue
        before = counts.get(name)
        if type(value) is int:
            if 0 <= value < MOST_TOKENS and not (type(before) is int and before > value):
                counts[name] = value
        elif isinstance(value, dict) and isinstance(before, dict):
            merge(before, value)
        elif value and type(before) is not int:
            counts[name] = value


def usage_in(value: Raw) -> Json:
    """A message's `usage`; empty if there is none."""
    if not 0 < len(value) <= _MAX_USAGE_BYTES:
        return {}
    try:
        return _OBJECT.decode(value)
    except (DecodeError, RecursionError):
        return {}


def name_in(value: Raw) -> str | None:
    """A short string; None if it is anything else."""
    try:
        return text(value, _LONGEST_TEXT)
    except DecodeError:
        return None


def _event(data: bytes) -> _Event:
    return _read(_EVENT, data) or _NO_EVENT


def _read(decoder: msgspec.json.Decoder[T], data: bytes | Raw) -> T | None:
    try:
        return decoder.decode(data)
    except (DecodeError, RecursionError):
        return None


def _text_bytes(data: bytes, start: int, end: int) -> int:
    """Length of the text in a content_block_delta's data line: its last string, that of the key after `type`."""
    value = data.find(b'":"', start + _ENVELOPE_BYTES, end) + 3
    if value < 3:
        return max(end - start - _SPACED_ENVELOPE_BYTES, 0)
    last = data.rfind(b'"', value, end)
    return (end if last < 0 else last) - value
