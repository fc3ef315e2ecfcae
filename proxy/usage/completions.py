"""Reads the token usage of completions: what `/v1/chat/completions` answers in the shape of OpenAI's API.

The API before messages, `/v1/complete`, tells no tokens; nor does a stream of which the client did not ask for them by
`stream_options.include_usage`.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import DecodeError

from proxy.usage.body_lines import BodyLines
from proxy.usage.message_stream import Message, name_in, usage_in
from proxy.usage.meter import JsonBody, Meter, Reader, Usage, count_in

_COMPLETION: Final = msgspec.json.Decoder(Message)


class CompletionMeter(Meter):
    """Reads a completion. Its usage is None if that is not told, for it is not estimated."""

    __slots__ = ()

    def _stream(self) -> Reader:
        return _Stream()

    def _body(self) -> Reader:
        return _Body()


class _Body(JsonBody):
    """A completion as one JSON object."""

    __slots__ = ()

    content = b'"choices"'
    is_whole = True

    def settle(self, *, whole: bool) -> Usage | None:
        return _usage(self.read())


class _Stream(BodyLines):
    """A completion as server-sent events, of which the last one tells the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: Usage | None = None

    def read(self, line: bytes) -> None:
        if line.startswith(b"data:") and b'"completion_tokens"' in line:
            try:
                self._usage = _usage(_COMPLETION.decode(line[5:])) or self._usage
            except (DecodeError, RecursionError):
                return

    def settle(self, *, whole: bool) -> Usage | None:
        self.close()
        return self._usage


def _usage(told: Message) -> Usage | None:
    usage = usage_in(told.usage)
    if not isinstance(usage.get("completion_tokens"), int):
        return None
    return Usage(
        name_in(told.model) or "", count_in(usage, "prompt_tokens"), count_in(usage, "completion_tokens")
    )
