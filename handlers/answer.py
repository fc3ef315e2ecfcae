"""What a client gets on `/v1`: an upstream's answer as it comes, or why there is none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from http.client import responses

from tornado.httputil import HTTPOutputError
from tornado.iostream import StreamClosedError

from handlers.cors import Lines, made_readable
from handlers.refusal import error_event, refusal
from handlers.request import RequestConnection
from proxy.clock import Clock
from proxy.errors import RequestError, UpstreamLost
from proxy.http.headers import is_event_stream
from proxy.relay.answer import Answer
from proxy.usage.batch_results import BatchResults
from proxy.usage.completions import CompletionMeter
from proxy.usage.meter import Meter
from proxy.usage.request import RequestRecord

LAST_EVENT_S = 5.0
"""How long the event that says why a stream was cut may take to reach the client."""

STALLED_S = 60.0
"""A client that takes no byte for so long holds an upstream connection for nothing."""

COUNTED_AT_ONCE = 4 * 1024
"""Bytes of a stream: most events say nothing of its usage, which takes no longer to see of thirty than of one."""

log = logging.getLogger(__name__)


class ClientAnswer:
    """The answer to one request. No byte of it waits for anything but its client."""

    def __init__(
        self,
        connection: RequestConnection,
        record: RequestRecord,
        clock: Clock,
        on_stalled: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._record = record
        self._clock = clock
        self._on_stalled = on_stalled
        self._stall: asyncio.TimerHandle | None = None
        self._source: Answer | None = None
        self._is_stream = False
        self._uncounted = bytearray()
        self.has_begun = False
        self.readable: Lines = []
        """What lets a page of another origin read the answer, if one sent the request and may."""

    async def relay(self, answer: Answer) -> None:
        """Hand over a whole answer. Raises UpstreamError where it was cut; what was sent before stays sent."""
        self._source = answer
        self._begin(answer)
        answer.headers = []  # sent, and a stream may last for hours
        await answer.pipe(self._pass_on)
        self._count_rest()
        if not answer.framed and self._record.meter is not None and not self._record.meter.may_be_whole:
            raise UpstreamLost("its connection ended within the message")
        if self._connection.queued:
            self._watch()
            await self._connection.drained()
        self._record.complete = True
        self._connection.finish()

    def _begin(self, answer: Answer) -> None:
        record = self._record
        kind, encoding = answer.content_type, answer.content_encoding
        record.is_stream = is_event_stream(kind)
        self._is_stream = record.is_stream and encoding.lower() in ("", "identity")
        match record.form:
            case "message":
                record.meter = Meter(kind, encoding, answer.status)
            case "completion":
                record.meter = CompletionMeter(kind, encoding, answer.status)
            case "results":
                record.meter = BatchResults(encoding, answer.status, self._clock.now())
        start = answer.start()
        self._count(start)
        self._write_head(answer.status, answer.reason, answer.headers, answer.length, start)

    def refuse(self, error: RequestError) -> None:
        """Answer with an error in the shape of the Claude API's."""
        record = self._record
        headers, body = refusal(error, record.id, len(record.attempts), record.account_name)
        record.answer_bytes = len(body)
        record.error, record.reason = error.type, error.message
        shown = b"" if record.method == "HEAD" else body
        reason = responses.get(error.status, "")
        self._write_head(error.status, reason, list(headers.get_all()), len(body), shown)

    async def cut(self, why: str) -> None:
        """Abort an answer that has begun: a client must never take what it has for the whole."""
        self._record.error, self._record.reason = "cut", why
        log.warning("answer cut request=%s reason=%s", self._record.id, why)
        try:
            event = error_event(why)
            if self._is_stream and not self._connection.gone and self._leaves_a_gap(event):
                # HTTPOutputError: the answer has no body, as one to HEAD.
                with contextlib.suppress(StreamClosedError, TimeoutError, HTTPOutputError):
                    self._connection.send(event)
                    async with asyncio.timeout(LAST_EVENT_S):
                        await self._connection.drained()
        finally:  # also if it is cut once more meanwhile
            self.abort()

    def _leaves_a_gap(self, last: bytes) -> bool:
        """Whether the answer is still short of its length with `last`, if it has one."""
        self._count_rest()
        length = None if self._source is None else self._source.length
        return length is None or self._record.answer_bytes + len(last) < length

    def abort(self) -> None:
        """Close the connection: only a reset tells an answer that ends with its connection from a whole one."""
        self._connection.abort(reset=self._connection.ends_by_close)

    def end(self) -> None:
        """All that was sent is counted, and nothing more is watched."""
        self._count_rest()
        if self._stall is not None:
            self._stall.cancel()
        self._stall, self._source, self._on_stalled = None, None, _nothing

    def _write_head(
        self, status: int, reason: str, headers: list[tuple[str, str]], length: int | None, start: bytes
    ) -> None:
        self.has_begun = True
        if self.readable:
            headers = made_readable(headers, self.readable)
        self._record.status = status
        self._record.first_byte_at = self._clock.monotonic()
        self._connection.begin(status, reason, headers, length, start)

    def _pass_on(self, data: bytes) -> bool:
        """Send what has come; False while the client has too much to take."""
        if self._is_stream:
            self._uncounted += data
            if len(self._uncounted) >= COUNTED_AT_ONCE:
                self._count_rest()
        else:
            self._count(data)
        if self._connection.send(data):
            self._watch()
            if self._connection.full:
                assert self._source is not None
                self._connection.on_room(self._source.resume)
                return False
        return True

    def _count(self, data: bytes) -> None:
        self._record.answer_bytes += len(data)
        if self._record.meter is not None:
            self._record.meter.feed(data)

    def _count_rest(self) -> None:
        if self._uncounted:
            self._count(bytes(self._uncounted))
            self._uncounted.clear()

    def _watch(self) -> None:
        """Look whether the client takes what waits for it."""
        if self._stall is None:
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(STALLED_S, self._look, self._accepted())

    def _look(self, before: int) -> None:
        self._stall = None
        if not self._connection.queued:
            return
        if self._accepted() > before:
            self._watch()
        else:
            self._on_stalled()

    def _accepted(self) -> int:
        """Bytes of the answer that the client has acknowledged, but for a constant."""
        self._count_rest()
        return self._record.answer_bytes - self._connection.unsent()


def _nothing() -> None:
    """Stand in for what has ended."""
