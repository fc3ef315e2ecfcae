"""How each reply and each fault is put on the wire."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from tornado.httputil import format_timestamp

from proxy.clock import Clock

from . import faults, sse
from .encodings import ENCODERS
from .exchange import Exchange
from .replies import (
    Answer,
    ApiError,
    Download,
    EventStream,
    Headers,
    LiveStream,
    Reply,
    dumps,
    json_answer,
)

_CHUNK_BYTES = 1 << 16
_FLOOD_SEND_BUFFER = 1 << 16


class Performer:
    """Sends one answer: the true one, that `real` makes when it is called, or a fault in its place.

    `headers` and the date go on every answer; `limits`, which gets the time, on true ones only, since a fault brings
    its own.
    """

    def __init__(
        self,
        exchange: Exchange,
        real: Callable[[], Awaitable[Reply]],
        *,
        clock: Clock,
        interval_s: float,
        headers: Headers,
        limits: Callable[[float], Headers],
    ) -> None:
        self._exchange = exchange
        self._real = real
        self._clock = clock
        self._interval_s = interval_s
        self._headers = headers
        self._limits = limits
        self._skew_s = 0.0
        self._encoding: str | None = None

    def _now(self) -> float:
        """The time as the server has it."""
        return self._clock.now() + self._skew_s

    async def perform(self, fault: faults.Fault | None) -> None:
        match fault:
            case None | faults.Real():
                await self._send(await self._truth())
            case faults.Said(said, encoding, skew_s):
                self._encoding, self._skew_s = encoding, skew_s
                await self.perform(said)
            case faults.Quota429() | faults.ApiKey429() | faults.SpendLimit():
                await self._error(faults.limited(fault, self._now()))
            case faults.NoModel():
                model = self._exchange.request.json(_CHUNK_BYTES << 10).get("model")
                await self._error(faults.Error(404, message=f"model: {model}"))
            case faults.Error():
                await self._error(fault)
            case Answer():
                await self._send(fault)
            case faults.Raw(data):
                await self._exchange.raw(data)
            case faults.Slow(seconds, then):
                await self._clock.sleep(seconds)
                await self.perform(then)
            case faults.Amend():
                await self._send(await self._truth(fault))
            case faults.Steady(events, interval_s):
                await self._frames(sse.endless(events), interval_s)
                self._exchange.complete()
            case faults.Flood(total_bytes):
                await self._flood(total_bytes)
            case _:
                await self._break(fault)

    async def _break(self, fault: faults.Fault) -> None:
        """The faults that end, or never end, an answer."""
        match fault:
            case faults.Reset() | faults.ResetEarly():
                self._exchange.reset()
            case faults.Silence():
                await self._exchange.silence()
            case faults.Lost(reset):
                await self._truth()
                if reset:
                    self._exchange.reset()
                else:
                    await self._exchange.silence()
            case faults.Cut():
                await self._cut(await self._truth(), fault)
            case faults.Stall(events):
                await self._begin(await self._truth(), events)
                await self._exchange.silence()
            case faults.MidStreamError():
                await self._fail_midway(await self._truth(), fault)

    async def _fail_midway(self, reply: Reply, fault: faults.MidStreamError) -> None:
        if not isinstance(reply, EventStream):
            await self._error(faults.Error(fault.status))
            return
        error = sse.frame("error", ApiError(fault.status).body(self._exchange.entry.request_id))
        await self._frames((*reply.frames[: fault.after_events], error), self._interval_s)
        self._exchange.complete()

    async def _truth(self, amend: faults.Amend | None = None) -> Reply:
        """The true answer, amended and complete with its headers."""
        try:
            reply = await self._real()
        except ApiError as error:
            reply = json_answer(error.body(self._exchange.entry.request_id), error.status)
        if isinstance(reply, EventStream | LiveStream):
            return reply
        reply = replace(reply, headers=(*reply.headers, *self._limits(self._now())))
        if isinstance(reply, Download):
            return reply
        return self._packed(reply if amend is None else _amended(reply, amend))

    async def _error(self, fault: faults.Error) -> None:
        if fault.html:
            page = f"<html><head><title>{fault.status}</title></head><body>cloudflare</body></html>"
            headers = (("content-type", "text/html; charset=UTF-8"), *fault.headers)
            await self._send(self._packed(Answer(fault.status, headers, page.encode())))
            return
        details = dict(fault.details) if fault.details is not None else None
        error = ApiError(fault.status, fault.message, type=fault.type, details=details)
        body = error.body(self._exchange.entry.request_id)
        await self._send(self._packed(json_answer(body, fault.status, fault.headers)))

    def _packed(self, reply: Answer) -> Answer:
        """JSON is gzipped where the client takes that; in the encoding that was wished, anything is."""
        json_type = ("content-type", "application/json") in reply.headers
        accepted = "gzip" in self._exchange.request.headers.get("accept-encoding", "")
        encoding = self._encoding or ("gzip" if json_type and accepted else None)
        if encoding is None:
            return reply
        headers = (*reply.headers, ("content-encoding", encoding))
        return replace(reply, headers=headers, body=ENCODERS[encoding](reply.body))

    async def _send(self, reply: Reply) -> None:
        if isinstance(reply, EventStream):
            await self._frames(reply.frames, self._interval_s)
        elif isinstance(reply, LiveStream):
            await self._live(reply)
        else:
            await self._start(reply)
            await self._part(reply, _length(reply))
        self._exchange.complete()

    async def _start(self, reply: Answer | Download) -> None:
        status = reply.status if isinstance(reply, Answer) else 200
        headers = [*self._headers, *reply.headers]
        names = {name.lower() for name, _ in headers}
        if "date" not in names:
            headers.append(("date", format_timestamp(self._now())))
        if not names & {"content-length", "transfer-encoding"} and status not in (204, 304):
            headers.append(("content-length", str(_length(reply))))
        await self._exchange.start(status, headers)

    async def _part(self, reply: Answer | Download, length: int) -> None:
        """The first `length` bytes of the body."""
        if isinstance(reply, Answer):
            await self._exchange.write(reply.body[:length])
        else:
            await self._download(reply, min(length, reply.length))

    async def _download(self, reply: Download, length: int) -> None:
        offset, end = reply.offset, reply.offset + length
        while offset < end:
            # Sought every time: several downloads may share the file.
            reply.file.seek(offset)
            chunk = reply.file.read(min(_CHUNK_BYTES, end - offset))
            offset += len(chunk)
            await self._exchange.write(chunk)

    async def _stream_headers(self) -> zlib._Compress | None:
        headers = [*self._headers, *self._limits(self._now()), ("date", format_timestamp(self._now()))]
        headers += [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
        squeeze = None
        if self._exchange.request.headers.get("x-simulate-encoding") == "gzip":
            headers.append(("content-encoding", "gzip"))
            squeeze = zlib.compressobj(wbits=31)
        await self._exchange.start(200, headers)
        return squeeze

    async def _frames(self, frames: tuple[bytes, ...], interval_s: float, *, whole: bool = True) -> None:
        """Headers and events; `whole` ends the content encoding, not the answer."""
        squeeze = await self._stream_headers()
        if interval_s <= 0 and squeeze is None:
            await self._exchange.write(b"".join(frames), events=len(frames))
            return
        for index, piece in enumerate(frames):
            if index and interval_s > 0:
                await self._clock.sleep(interval_s)
            if squeeze is not None:
                piece = squeeze.compress(piece) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            await self._exchange.write(piece, events=1)
        if squeeze is not None and whole:
            await self._exchange.write(squeeze.flush())

    async def _live(self, reply: LiveStream) -> None:
        await self._stream_headers()
        async with contextlib.aclosing(reply.frames) as frames:
            async for frame in frames:
                await self._exchange.write(frame, events=1)

    async def _flood(self, total_bytes: int) -> None:
        self._exchange.narrow(_FLOOD_SEND_BUFFER)
        await self._stream_headers()
        start, block, ping, delta, *end = sse.endless(1)
        repeated = _CHUNK_BYTES // len(delta)
        batch = delta * repeated
        await self._exchange.write(start + block + ping, events=3)
        while self._exchange.entry.bytes_sent < total_bytes:
            await self._exchange.write(batch, events=repeated)
        await self._exchange.write(b"".join(end), events=len(end))
        self._exchange.complete()

    async def _begin(self, reply: Reply, events: int) -> None:
        """The headers of the true answer and its first events; of one that is no stream, half of its body."""
        if isinstance(reply, EventStream):
            await self._frames(reply.frames[:events], self._interval_s, whole=False)
            return
        if isinstance(reply, LiveStream):
            await self._stream_headers()
            return
        await self._start(reply)
        await self._part(reply, _length(reply) // 2)

    async def _cut(self, reply: Reply, fault: faults.Cut) -> None:
        if isinstance(reply, EventStream):
            frames = reply.frames
            if fault.after_bytes is not None:
                await self._frames((b"".join(frames)[: fault.after_bytes],), 0, whole=False)
            else:
                events = len(frames) // 2 if fault.after_events is None else fault.after_events
                await self._frames(frames[:events], self._interval_s, whole=False)
        elif isinstance(reply, LiveStream):
            await self._stream_headers()
        else:
            await self._start(reply)
            await self._part(reply, _length(reply) // 2 if fault.after_bytes is None else fault.after_bytes)
        if fault.reset:
            self._exchange.reset()
        else:
            self._exchange.abort()


def _length(reply: Answer | Download) -> int:
    return len(reply.body) if isinstance(reply, Answer) else reply.length


def _amended(reply: Answer, fault: faults.Amend) -> Answer:
    value = json.loads(reply.body)
    value.update(fault.set)
    for name in fault.remove:
        value.pop(name, None)
    return replace(reply, body=dumps(value))
