"""A client's connection: HTTP/1.1 for delegates that are written to Tornado's interface.

One `Connection` a socket reads requests one after the other; what each is answered on is in `handlers/request.py`. A
client that closes its sending side is taken to have left: nothing else tells that an answer is no longer wanted.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import math
from collections.abc import Awaitable, Callable

from tornado.httputil import HTTPInputError, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import IOStream

from handlers.client_socket import ClientSocket
from handlers.framing import (
    BODY_S,
    ChunkedBody,
    Head,
    HeadReader,
    NotHttp,
    RequestHeaders,
    SizedBody,
    malformed,
)
from handlers.places import Places
from handlers.refusal import last_answer
from handlers.request import RequestConnection
from proxy.errors import RequestError, RequestTimeout, Unavailable
from proxy.http.addresses import address_group

HELD_BYTES = 64 * 1024
"""Bytes read beyond what was handed over; with more the client has to wait."""

HELD_MOST_BYTES = 1024 * 1024
"""Bytes held of a client that waits, since only reading tells whether it has left."""

LOOK_S = 1.0
"""How often more is read of a client that waits."""

IDLE_S = 75.0
"""Longer than clients keep an idle connection, so that it is seldom closed under a request of theirs."""

HEAD_S = 10.0
"""How long a head may take from its first byte on, and the first byte of a new connection."""

LAST_IDLE_S = 2.0
"""How long an idle connection stays open when its process hands over to another: what is on its way still comes."""

NO_HEADERS = RequestHeaders([])

log = logging.getLogger(__name__)


class Phase(enum.Enum):
    """Where a connection is in its request."""

    HEAD = enum.auto()
    ADMITTED = enum.auto()  # the delegate has the head, and has not yet said that it takes the body
    BODY = enum.auto()
    ANSWERING = enum.auto()  # the request was read to its end
    LINGERING = enum.auto()  # all is answered; what still comes is thrown away
    ENDED = enum.auto()  # the socket is closed, or somebody else's


class Connection(ClientSocket):
    """Reads a client's requests one after the other and hands them to `delegate`; `ended` is told of its end."""

    def __init__(
        self, delegate: HTTPServerConnectionDelegate, places: Places, ended: Callable[[Connection], None]
    ) -> None:
        super().__init__()
        self._delegate = delegate
        self._places = places
        self._ended = ended
        self._phase = Phase.HEAD
        self._head = HeadReader()
        self._body: SizedBody | ChunkedBody = SizedBody(0)
        self._held = b""  # what was read and not handed over
        self._request: RequestConnection | None = None
        self._message: HTTPMessageDelegate | None = None  # until it knows that it has all, or will not get it
        self._waiting: asyncio.Future[None] | None = None  # for the delegate

    # what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.gone or self._places.take(self):
            self.expire_in(LAST_IDLE_S if self.is_last else HEAD_S)
            return
        self._linger(last_answer(Unavailable("too many connections", retry_after_s=1)))
        if not self._places.turn_away(self):
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._held or self._waiting or self._phase is Phase.ANSWERING:
            self._hold(self._held + data)
        else:
            self._read(data)

    def eof_received(self) -> None:
        if self._phase is not Phase.LINGERING:
            self.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._request is not None:
            self._request.has_room()
        elif self._held:
            self.loop.call_soon(self._resume)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone, self._phase = True, Phase.ENDED
        request, self._request = self._request, None
        try:
            if request is not None:
                request.lost()
            if self._waiting is None:
                self._tell_incomplete()
            self._delegate.on_close(self)
        finally:  # a shutdown waits for it, whatever a delegate raises
            self._places.leave(self)
            self._ended(self)

    # reading

    def _read(self, data: bytes) -> None:
        """Hand over as much as may be handed over now, and hold the rest back."""
        try:
            while self._waiting is None:
                if self._phase is Phase.ADMITTED:
                    self._begin_body()
                elif self._phase is Phase.BODY and self._body.ended:
                    self._end_body()
                    if data and self._request is None:  # answered at once: now others have a turn
                        self.loop.call_soon(self._resume)
                        break
                elif data and self._phase is Phase.BODY:
                    data = self._read_body(data)
                elif data and self._phase is Phase.HEAD and not self.full:
                    data = self._read_head(data)
                else:
                    break
        except RequestError as error:
            self._refuse(error)
        except HTTPInputError as error:
            self._refuse(malformed(str(error)))
        except Exception:
            log.exception("request failed address=%s", self.context)
            self.abort()
        self._hold(data)

    def _hold(self, data: bytes) -> None:
        if self._phase in (Phase.LINGERING, Phase.ENDED):
            return
        self._held = data
        if len(data) > HELD_BYTES:
            self.transport.pause_reading()
            self.expire_in(IDLE_S if self._phase is Phase.HEAD else LOOK_S)

    def _read_on(self) -> None:
        """Read more of a client that waits: whether it has left is told after what it has sent."""
        if self._phase is Phase.HEAD and self.full:  # it takes no answer
            self._linger()
        elif len(self._held) <= HELD_MOST_BYTES:
            self.expire_in({Phase.HEAD: IDLE_S, Phase.BODY: BODY_S}.get(self._phase, math.inf))
            self.transport.resume_reading()
        elif self._phase is Phase.ANSWERING:  # nobody sends so many requests ahead
            self.abort()
        else:
            self.expire_in(LOOK_S)

    def _resume(self) -> None:
        data, self._held = self._held, b""
        self.transport.resume_reading()
        self._read(data)

    def _read_head(self, data: bytes) -> bytes:
        begun = self._head.begun
        found = self._head.feed(data)
        if found is None:
            if self._head.begun and not begun:
                self.expire_in(HEAD_S)
            return b""
        head, self._held = found
        self._head = HeadReader()
        self._begin(head)
        return self._held

    def _begin(self, head: Head) -> None:
        self.deadline = math.inf
        self._phase = Phase.ADMITTED
        self._body = ChunkedBody() if head.length is None else SizedBody(head.length)
        self._request = RequestConnection(self, head)
        self._message = self._delegate.start_request(self, self._request)
        headers, head.headers = head.headers, NO_HEADERS  # who is told of them keeps them if it wants
        self._wait_for(self._message.headers_received(head.start_line, headers))

    def _begin_body(self) -> None:
        request = self._request
        self._phase = Phase.BODY
        if self._body.ended or request is None:
            return
        self._body.expected(self.loop.time(), request.max_body_bytes)
        self.deadline = self._body.due
        if request.withholds_body and not request.head_written:
            request.withholds_body = False
            self.transport.write(b"HTTP/1.1 100 (Continue)\r\n\r\n")

    def _read_body(self, data: bytes) -> bytes:
        assert self._message is not None
        content, self._held = self._body.feed(data)
        if content:
            self._wait_for(self._message.data_received(content))
        if self._held and self._waiting is None and not self._body.ended:
            self._wait_for(asyncio.sleep(0))  # it has many chunks: now others have a turn
        return self._held

    def _end_body(self) -> None:
        assert self._message is not None
        self.deadline = math.inf
        self._phase = Phase.ANSWERING
        self._message.finish()
        self._message = None
        if self._request is None and self._phase is Phase.ANSWERING:  # answered before
            self._next()

    def _wait_for(self, awaitable: Awaitable[None] | None) -> None:
        """Hand over nothing more until the delegate is ready."""
        if awaitable is not None:
            self._waiting = asyncio.ensure_future(awaitable)
            self._waiting.add_done_callback(self._waited)

    def _waited(self, future: asyncio.Future[None]) -> None:
        self._waiting = None
        if not future.cancelled() and (error := future.exception()) is not None:
            log.error("request failed address=%s", self.context, exc_info=error)
            self.abort()
        if self._phase is Phase.ENDED:
            self._tell_incomplete()
        elif self._phase is not Phase.LINGERING:
            self._resume()

    # ends

    @property
    def has_request(self) -> bool:
        return self._phase is Phase.ANSWERING or self._body.left <= len(self._held)

    def answered(self, *, keep_alive: bool) -> None:
        self._request = None
        if not keep_alive or (self.is_last and not self._held):
            self._linger()
        elif self._phase is Phase.ANSWERING:
            self._next()

    def _next(self) -> None:
        self._phase = Phase.HEAD
        self.expire_in(IDLE_S)
        if self._held:
            self.loop.call_soon(self._resume)

    def vouch(self) -> None:
        self._places.vouch(self)

    def abort(self, *, reset: bool = False) -> None:
        self._phase, self._held = Phase.ENDED, b""
        super().abort(reset=reset)

    def expire(self) -> None:
        """Act on a deadline that has passed."""
        if self._phase is Phase.LINGERING:
            self.linger_on()
        elif not self.transport.is_reading():
            self._read_on()
        elif self._waiting is not None:  # the delegate holds what has come
            self.expire_in(BODY_S)
        elif self._phase is Phase.BODY:
            if self.deadline < self._body.due:
                self.deadline = self._body.due
            else:
                self._refuse(RequestTimeout("the request body did not come in time"))
        elif self._head.begun:
            self._refuse(RequestTimeout("the request's head did not come in time"))
        elif self.queued:
            self._linger()
        else:
            self.abort()

    def detach(self) -> IOStream:
        self._request = None
        return self.give_away(self._held)

    def _refuse(self, error: RequestError) -> None:
        """Answer in the delegate's place, if it has not begun to, and close."""
        _log_refusal(self.context.remote_ip, error)
        if isinstance(error, NotHttp):
            return self._linger()  # the answer to an earlier request may be under way
        request, self._request = self._request, None
        asked = self._head if request is None else request.head
        last = b"" if request is not None and request.head_written else last_answer(error, asked.method)
        if request is not None:
            request.refuse(error)
        self._linger(last)
        self._tell_incomplete()

    def _linger(self, last: bytes = b"") -> None:
        if self._phase not in (Phase.LINGERING, Phase.ENDED):
            self._phase, self._held = Phase.LINGERING, b""
            self.linger(last)

    def _tell_incomplete(self) -> None:
        message, self._message = self._message, None
        if message is not None:
            message.on_connection_close()


# How connections end when their process hands over to another, beside the class since they concern that alone.


def end_soon(connection: Connection) -> None:
    """Serve what has come or is on its way, say with the next answer that it is the last, and close."""
    connection.is_last = True
    if connection._phase is Phase.HEAD and not connection._head.begun:
        connection.expire_in(LAST_IDLE_S)


def is_settled(connection: Connection) -> bool:
    """Whether nothing is to be decided any more: an answer has begun, or no further request is read."""
    request = connection._request
    return connection._phase in (Phase.LINGERING, Phase.ENDED) or (
        request is not None and request.head_written
    )


def _log_refusal(address: str, error: RequestError) -> None:
    log.info(
        "request refused address=%s status=%d reason=%s",
        address,
        error.status,
        error.message,
        extra={"flood": (f"request refused status={error.status}", address_group(address))},
    )
