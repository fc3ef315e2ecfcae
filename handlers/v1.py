"""`/v1/*`: a client's request, apart from RequestHandler.

What crosses here must cross byte for byte, before the body is whole, and cheaply; a RequestHandler parses
queries and forms, adds headers and buffers. Choosing and retrying is the relay's; this is the client's side.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import sys
from collections.abc import Awaitable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError

from handlers.answer import ClientAnswer
from handlers.cors import Cors, Preflight, is_preflight
from handlers.framing import RequestHeaders
from handlers.origin import Origins
from handlers.request import RequestConnection
from proxy.clients.keys import ClientKeys, client_of
from proxy.clients.sessions import Client, Place, Sessions
from proxy.clients.throttle import Throttle
from proxy.clock import Clock
from proxy.errors import (
    BodyTooLarge,
    InsufficientStorage,
    MethodNotAllowed,
    RateLimited,
    RequestError,
    Unauthenticated,
    Unavailable,
    UpstreamError,
    UpstreamSilent,
)
from proxy.http.addresses import Network, address_group, client_address
from proxy.http.body import Bodies, Body
from proxy.http.headers import ClientHeaders
from proxy.http.peek import Peek
from proxy.http.target import NEVER_SENT, parse
from proxy.relay.inbound import Inbound
from proxy.relay.relay import Relay
from proxy.usage.access_log import logged_path
from proxy.usage.allowance import Allowance
from proxy.usage.request import CutBy, RequestRecord, Sink

MOST_SMALL = 64 << 10
"""Bytes of a body that is read before shared limits are asked for, where they need to know it: that spares a call."""

SESSION_ENDED = "an admin ended this session"
PLACE_LOST = "this proxy stood still, and the request's place was given to another one: try again"

log = logging.getLogger(__name__)


class V1(HTTPServerConnectionDelegate):
    """Takes every request below `/v1/`, and every target that is not a path or whose method is never served."""

    def __init__(
        self,
        relay: Relay,
        keys: ClientKeys,
        sessions: Sessions,
        allowance: Allowance,
        sinks: Sequence[Sink],
        throttle: Throttle,
        *,
        clock: Clock,
        max_body_bytes: int,
        spool_folder: Path,
        allow_admin_paths: bool,
        trusted_proxies: Sequence[Network],
        origins: Origins,
        cors: Cors,
    ) -> None:
        self.relay = relay
        self.keys = keys
        self.sessions = sessions
        self.allowance = allowance
        self.sinks = sinks
        self.throttle = throttle
        self.clock = clock
        self.max_body_bytes = max_body_bytes
        self.allow_admin_paths = allow_admin_paths
        self.trusted_proxies = trusted_proxies
        self.origins = origins
        self.cors = cors
        self.draining = False
        self.bodies = Bodies(spool_folder)
        self.running: set[V1Request] = set()
        self._ended: list[V1Request] = []

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        assert isinstance(request_conn, RequestConnection)
        head = request_conn.head
        if head.method == "OPTIONS" and is_preflight(head.headers.read.first):
            address = self.address_of(request_conn, head.headers)
            return Preflight(self.cors, request_conn, self.clock, address)
        return V1Request(self, request_conn)

    def address_of(self, connection: RequestConnection, headers: HTTPHeaders) -> str:
        """The client's address."""
        peer = connection.context.remote_ip
        if not self.trusted_proxies:
            return peer
        # Tornado's mapping, which would be made for this alone, takes longer.
        lines = [value for name, value in headers.get_all() if name.lower() == "x-forwarded-for"]
        return client_address(peer, lines, self.trusted_proxies)

    def cut_all(self) -> None:
        """End what still runs, each client told as far as that can be done."""
        for request in tuple(self.running):
            request.cut("this proxy is shutting down", by="shutdown")

    def ended(self, request: V1Request) -> None:
        """Tell the sinks of a request, of all that end in this turn of the loop one after the other.

        Of 32 they take 25 µs each that way, and 60 between two requests: their code is still in the processor's caches.
        """
        request.record.ended_at = self.clock.monotonic()
        self._ended.append(request)
        if len(self.running) == 1:  # nobody to wait for
            self._tell_sinks()
        elif len(self._ended) == 1:
            asyncio.get_running_loop().call_soon(self._tell_sinks)

    def _tell_sinks(self) -> None:
        ended, self._ended = self._ended, []
        self.running.difference_update(ended)  # not before: a shutdown waits for them to be counted
        for request in ended:
            try:
                for sink in self.sinks:
                    sink(request.record)
            except Exception:  # sinks never raise; if one does, the others' requests are not to suffer for it
                log.exception("request not counted request=%s", request.record.id)


class State(Enum):
    """How far a request has come."""

    RECEIVING = "its body is coming"
    ADMITTING = "it waits for a place among its client's requests, or for the store that has its limits"
    ANSWERING = "it is with the relay, until its answer has passed"
    DONE = "it has ended"


class V1Request(HTTPMessageDelegate):
    """One request: refused before its body is read, or relayed."""

    def __init__(self, server: V1, connection: RequestConnection) -> None:
        self._server = server
        self._connection = connection
        self._state = State.RECEIVING
        self.record = RequestRecord(server.clock.monotonic())
        self._answer = ClientAnswer(connection, self.record, server.clock, on_stalled=self._stalled)
        self._body: Body | None = None
        self._place: Place | None = None
        self._inbound: Inbound | None = None
        self._task: asyncio.Task[None] | None = None
        self._cut: tuple[str, CutBy] | None = None

    # what the connection tells of the request

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, RequestStartLine)
        self._server.running.add(self)
        # The limit is kept here, where it is known how to say so.
        self._connection.set_max_body_size(sys.maxsize)
        assert isinstance(headers, RequestHeaders)
        read = headers.read
        record = self.record
        record.method, record.path = start_line.method, logged_path(start_line.path)
        record.address = self._server.address_of(self._connection, headers)
        if self._server.cors.is_on:
            self._answer.readable = self._server.cors.readable(read.first)
        try:
            self._admit(start_line, read)
        except RequestError as error:
            self._refuse(error)
            return None
        assert self._place is not None
        small, here = _is_small(self._connection), self._connection.has_come
        admitting = self._server.allowance.take(record, self._place, small=small, here=here)
        if admitting is None:
            return None
        self._state = State.ADMITTING
        self._connection.set_close_callback(self._cancel)
        self._task = asyncio.get_running_loop().create_task(self._wait_for(admitting), name="admit")
        return self._task

    async def _wait_for(self, admitting: Awaitable[None]) -> None:
        try:
            await admitting
        except RequestError as error:
            if self._state is State.ADMITTING:  # else it was cut meanwhile
                self._refuse(error)
        else:
            if self._state is State.ADMITTING:
                self._state = State.RECEIVING

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._state is not State.RECEIVING or self._body is None:
            return None
        if self._body.size + len(chunk) > self._server.max_body_bytes:
            self._refuse(_too_large(self._server.max_body_bytes))
            return None
        spooling = self._body.write(chunk)
        return None if spooling is None else self._stored(spooling)

    async def _stored(self, spooling: Awaitable[None]) -> None:
        try:
            await spooling
        except OSError as error:
            log.error("request body not stored request=%s error=%s", self.record.id, error.strerror)
            if self._state is State.RECEIVING:
                self._refuse(_not_stored(error))

    def finish(self) -> None:
        if self._state is not State.RECEIVING:
            return  # refused
        if self._connection.gone:  # while it was held back behind another one
            self.on_connection_close()
            return
        assert self._inbound is not None
        self._state = State.ANSWERING
        self._connection.set_close_callback(self._cancel)
        self._task = asyncio.get_running_loop().create_task(self._serve(self._inbound), name="relay")

    def on_connection_close(self) -> None:
        # While the body was still coming.
        if self._state is State.DONE:
            return
        refused = self._connection.refused
        if refused is None:
            self.record.gone()
        else:
            self.record.error = self.record.error or refused.type
            self.record.status = self.record.status or refused.status
        self._end()

    # before the body

    def _admit(self, start_line: RequestStartLine, headers: ClientHeaders) -> None:
        server, record = self._server, self.record
        if start_line.method.upper() in NEVER_SENT:
            raise MethodNotAllowed(f"{start_line.method.upper()} is not served here", should_retry=False)
        if server.draining:
            raise Unavailable("this proxy is shutting down: try again", retry_after_s=1)
        key = client_of(server.keys, headers.keys)
        if key is None:
            raise self._unknown(headers.keys)
        self._connection.vouch()
        record.key = key
        server.keys.used(key)
        if "traceparent" in headers.first:
            record.parent = headers.trace_parent()
        # HTTP/1.0 knows no Host, and nothing better than our own address.
        origin = server.origins.of(
            headers.first.get("host", "" if start_line.version == "HTTP/1.1" else "localhost")
        )
        target = parse(start_line.path, allow_admin_paths=server.allow_admin_paths)
        if target.holds_results_url:
            origin = server.origins.told(self._connection.context.remote_ip, headers.first) or origin
        record.target = target
        record.form = target.form(start_line.method)
        client = Client(key.id, address_group(record.address), headers.first.get("user-agent", ""))
        limited = target.takes_slot(start_line.method)
        ended, lost = partial(self.cut, SESSION_ENDED, "admin"), partial(self.cut, PLACE_LOST, "proxy")
        self._place = server.sessions.enter(client, limited=limited, cut=ended, lost=lost)
        record.session_id = self._place.session_id
        server.allowance.admit(record)
        if self._connection.head.says_body:
            if (self._connection.head.length or 0) > server.max_body_bytes:
                raise _too_large(self._server.max_body_bytes)
            self._body = Body(server.bodies)
        self._inbound = server.relay.inbound(start_line.method, target, headers, self._body, origin)

    def _unknown(self, keys: Sequence[str]) -> RequestError:
        """Who has no valid key is refused; an address that shows many wrong ones is told to wait."""
        throttle, group = self._server.throttle, address_group(self.record.address)
        for _ in keys:
            throttle.failed(group)
        wait_s = throttle.wait_s(group) if keys else 0.0
        if wait_s > 0:
            return RateLimited(
                "too many wrong client keys from this address",
                should_retry=False,
                retry_after_s=math.ceil(wait_s),
            )
        return Unauthenticated(
            "no valid client key: send one as `x-api-key` or `Authorization: Bearer`; "
            "an admin makes them with POST /api/tokens",
            should_retry=False,
        )

    def _refuse(self, error: RequestError) -> None:
        """Answer at once, while the body may still be on its way."""
        self._connection.set_close_callback(None)
        self._answer.refuse(error)
        self._connection.finish()
        self._cancel()  # its wait in the queue
        self._end()

    # the answer

    async def _serve(self, inbound: Inbound) -> None:
        try:
            await self._reserve(inbound)
            async with self._server.relay.open(inbound, self.record) as answer:
                if self._place is not None and self.record.account_id is not None:
                    self._place.answered_by(self.record.account_id)
                await self._answer.relay(answer)
        except RequestError as error:
            self._fail(error)
        except (asyncio.CancelledError, StreamClosedError):
            if self._cut is None:
                self.record.gone()
                self._answer.abort()  # whatever cancelled it: nobody waits for an answer that will not come
            else:
                why, self.record.cut_by = self._cut
                await self._break_off(Unavailable(why, retry_after_s=1))
        except UpstreamError as error:
            self.record.cut_by = "upstream"
            await self._break_off(_broken_off(error))
        except Exception:
            # The boundary of a request: the client must hear of it, whatever it is.
            log.exception("request failed request=%s", self.record.id)
            await self._break_off(RequestError("internal error: see this proxy's log"))
        finally:
            self._end()

    async def _reserve(self, inbound: Inbound) -> None:
        """Look what is asked for, and set it aside: of a key with a budget that is a message. Raises RequestError."""
        record = self.record
        if record.form in ("message", "completion"):
            wanted = inbound.peek()
            if not isinstance(wanted, Peek):
                wanted = await wanted
            record.model = wanted.model
            record.body_bytes = wanted.size or (0 if inbound.body is None else inbound.body.size)
            reserving = self._server.allowance.reserve(record, wanted)
            if reserving is not None:
                await reserving

    async def _break_off(self, error: RequestError) -> None:
        if self._answer.has_begun:
            await self._answer.cut(error.message)
        else:
            self._fail(error)

    def _fail(self, error: RequestError) -> None:
        """Answer a request that was read to its end."""
        if self._place is not None:
            self._place.leave()
        self._answer.refuse(error)
        self._connection.finish()

    # what ends it early

    def cut(self, why: str, by: CutBy) -> None:
        """End the request, for a reason that its client is told; nothing if it has ended."""
        match self._state:
            case State.RECEIVING | State.ADMITTING:
                self.record.cut_by = by
                self._refuse(Unavailable(why, retry_after_s=1))
            case State.ANSWERING:
                self._cut = why, by
                self._cancel()

    def _stalled(self) -> None:
        self.record.gone("client stalled")
        self._answer.abort()
        self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            # Soon: a task that is cancelled before its first step never reaches its `finally`.
            asyncio.get_running_loop().call_soon(self._task.cancel)

    def _end(self) -> None:
        if self._state is State.DONE:
            return
        self._state = State.DONE
        try:
            self._answer.end()
            if self._body is not None:
                self._body.close()
            if self._place is not None:
                self._place.leave()
            self._server.allowance.leave(self.record)
        finally:
            self._server.ended(self)
            # What refers back to this: with a cycle, memory would wait for the collector.
            self._place = self._task = None


def _broken_off(error: UpstreamError) -> RequestError:
    did = "fell silent within" if isinstance(error, UpstreamSilent) else "cut"
    return Unavailable(f"the upstream {did} its answer: {error}")


def _too_large(most_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request body is larger than {most_bytes} bytes", should_retry=False)


def _is_small(connection: RequestConnection) -> bool:
    """Whether the body has come with the head, or will soon without our doing."""
    length = connection.head.length
    return length is not None and length <= MOST_SMALL and not connection.withholds_body


def _not_stored(error: OSError) -> RequestError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InsufficientStorage("this proxy has no space left for the request body")
    return Unavailable(f"this proxy cannot store the request body: {error.strerror}")
