"""`/v1/*`: a client's request on its connection, apart from RequestHandler.

What crosses here must cross byte for byte, before the body is whole, and cheaply; a RequestHandler parses
queries and forms, adds headers and buffers. Choosing and retrying is the relay's; this is the client's side, in
one file though it is long, since each step has to know how far the others have come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Sequence
from http.client import responses

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPOutputError,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError

from handlers.connection import RequestConnection
from handlers.origin import Origins
from handlers.refusal import error_event, refusal
from proxy.clients.keys import ClientKeys
from proxy.clients.sessions import Client, Place, Sessions
from proxy.clock import Clock
from proxy.errors import (
    BodyTooLarge,
    RequestError,
    Unauthenticated,
    Unavailable,
    UpstreamError,
)
from proxy.http.addresses import Network, address_group, client_address
from proxy.http.body import Body
from proxy.http.headers import client_keys
from proxy.http.target import parse
from proxy.jobs import Jobs
from proxy.relay import Answer, Inbound, Relay
from proxy.usage.access_log import logged_path
from proxy.usage.allowance import Allowance
from proxy.usage.meter import Meter
from proxy.usage.request import RequestRecord, Sink

LINGER_S = 5.0
"""How long a refused request's body is read and thrown away: to close at once would reset the answer away."""

LAST_EVENT_S = 5.0
"""How long the event that says why a stream was cut may take to reach the client."""

STALLED_S = 60.0
"""A client that takes no byte for so long holds an upstream connection for nothing."""

SLOWEST_BODY_S = 20.0
SLOWEST_BODY_BYTES_S = 50_000
"""A body that comes slower than this, after the first seconds, only holds a connection."""


log = logging.getLogger(__name__)


class V1(HTTPServerConnectionDelegate):
    """Takes every request below `/v1/`, and every target that is not a path."""

    def __init__(
        self,
        relay: Relay,
        keys: ClientKeys,
        sessions: Sessions,
        allowance: Allowance,
        sinks: Sequence[Sink],
        *,
        jobs: Jobs,
        clock: Clock,
        max_body_bytes: int,
        allow_admin_paths: bool,
        trusted_proxies: Sequence[Network],
        origins: Origins,
    ) -> None:
        self.relay = relay
        self.keys = keys
        self.sessions = sessions
        self.allowance = allowance
        self.sinks = sinks
        self.jobs = jobs
        self.clock = clock
        self.max_body_bytes = max_body_bytes
        self.allow_admin_paths = allow_admin_paths
        self.trusted_proxies = trusted_proxies
        self.origins = origins
        self.draining = False
        self.running: set[V1Request] = set()

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        assert isinstance(request_conn, RequestConnection)
        return V1Request(self, request_conn)

    def cut_all(self) -> None:
        """End what still runs, each client told as far as that can be done."""
        for request in tuple(self.running):
            request.cut("this proxy is shutting down")


class V1Request(HTTPMessageDelegate):
    """One request: refused before its body is read, or relayed."""

    def __init__(self, server: V1, connection: RequestConnection) -> None:
        self._server = server
        self._connection = connection
        self._body: Body | None = None
        self._inbound: Inbound | None = None
        self._task: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._head_written = False
        self._cut_because: str | None = None
        self._place: Place | None = None
        self._stream_format = False
        self._version = ""
        self._record = RequestRecord(server.clock.monotonic())

    # what Tornado tells about the request

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, RequestStartLine)
        self._server.running.add(self)
        self._version = start_line.version
        # The limit is kept here: a body that grows too large is refused like any other.
        self._connection.set_max_body_size(sys.maxsize)
        lines = list(headers.get_all())
        record = self._record
        record.method, record.path = start_line.method, logged_path(start_line.path)
        record.address = client_address(
            str(getattr(self._connection.context, "remote_ip", "")),
            headers.get_list("X-Forwarded-For"),
            self._server.trusted_proxies,
        )
        try:
            self._admit(start_line, headers, lines)
            if self._place is not None and not self._place.take_now():
                return self._wait_for_place(self._place, headers)
        except RequestError as error:
            self._refuse(error, at_once="Expect" in headers)
        return None

    async def _wait_for_place(self, place: Place, headers: HTTPHeaders) -> None:
        try:
            await place.take()
        except RequestError as error:
            if self._inbound is not None:  # else it was cut meanwhile
                self._inbound = None
                self._refuse(error, at_once="Expect" in headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._inbound is None or self._body is None:
            return None  # refused: read off the wire and thrown away
        if self._body.size + len(chunk) > self._server.max_body_bytes:
            self._inbound = None
            self._refuse(self._too_large())
            return None
        return self._store(self._body, chunk)

    async def _store(self, body: Body, chunk: bytes) -> None:
        try:
            await body.write(chunk)
        except OSError as error:
            log.error("request body not stored request=%s error=%s", self._record.id, error.strerror)
            self._inbound = None
            self._refuse(Unavailable("this proxy has no space left for the request body"))

    def finish(self) -> None:
        if self._inbound is None:
            self._end_refused()
            return
        self._connection.set_close_callback(self._cancel)
        self._task = self._server.jobs.start("relay", self._serve(self._inbound))

    def on_connection_close(self) -> None:
        # While the body was still coming.
        self._record.gone()
        self._end()

    # before the body

    def _admit(
        self, start_line: RequestStartLine, headers: HTTPHeaders, lines: list[tuple[str, str]]
    ) -> None:
        server = self._server
        if server.draining:
            raise Unavailable("this proxy is shutting down: try again", retry_after_s=1)
        client_key = server.keys.accept(client_keys(lines))
        if client_key is None:
            raise Unauthenticated(
                "no valid client key: send one as `x-api-key` or `Authorization: Bearer`; "
                "an admin makes them with POST /api/tokens",
                should_retry=False,
            )
        record = self._record
        record.key = client_key
        server.keys.used(client_key)
        # HTTP/1.0 knows no Host, and nothing better than our own address.
        host = headers.get("Host", "" if self._version == "HTTP/1.1" else "localhost")
        origin = server.origins.of(host)
        target = parse(start_line.path, allow_admin_paths=server.allow_admin_paths)
        record.target = target
        client = Client(client_key.id, address_group(record.address), headers.get("User-Agent", ""))
        self._place = server.sessions.enter(
            client,
            limited=target.is_inference(start_line.method),
            cut=lambda: self.cut("an admin ended this session"),
        )
        record.session_id = self._place.session_id
        record.is_inference = target.is_inference(start_line.method)
        server.allowance.admit(record)
        if self._connection.head.says_body:
            length = self._connection.head.length
            if length is None:
                length = server.max_body_bytes
            if length > server.max_body_bytes:
                raise self._too_large()
            self._connection.set_body_timeout(SLOWEST_BODY_S + length / SLOWEST_BODY_BYTES_S)
            self._body = Body()
        self._inbound = Inbound(start_line.method, target, lines, self._body, origin)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"the request body is larger than {self._server.max_body_bytes} bytes", should_retry=False
        )

    # the answer

    async def _serve(self, inbound: Inbound) -> None:
        try:
            await self._reserve(inbound)
            async with self._server.relay.open(inbound, self._record) as answer:
                if self._place is not None and self._record.account_id is not None:
                    self._place.answered_by(self._record.account_id)
                await self._hand_over(answer)
        except RequestError as error:
            self._refuse(error)
        except (asyncio.CancelledError, StreamClosedError):
            if self._cut_because is not None:
                await self._cut(self._cut_because)
            else:
                self._record.gone()
        except TimeoutError:
            self._record.gone("client stalled")
            self._abort()
        except UpstreamError as error:
            await self._cut(f"the upstream cut its answer: {error}")
        except Exception:
            # The boundary of a request: the client must hear of it, whatever it is.
            log.exception("request failed request=%s", self._record.id)
            if self._head_written:
                await self._cut("internal error")
            else:
                self._refuse(RequestError("internal error: see this proxy's log"))
        finally:
            self._end()

    async def _reserve(self, inbound: Inbound) -> None:
        """Look what an inference request asks for, and set it aside. Raises RequestError."""
        record = self._record
        if record.is_inference:
            wanted = await inbound.peek()
            record.model = wanted.model
            record.body_bytes = wanted.size or (0 if inbound.body is None else inbound.body.size)
            self._server.allowance.reserve(record, wanted)

    async def _hand_over(self, answer: Answer) -> None:
        headers = HTTPHeaders()
        for name, value in answer.headers:
            # `add` checks what `AnswerHeaders.for_client` has checked, at the price of two regexes a line.
            if name in headers:
                headers.add(name, value)
            else:
                headers[name] = value
        if answer.status == 204 and headers.get("Content-Length", "").strip("0"):
            del headers["Content-Length"]  # false (RFC 9110 §8.6), and its bytes would be missed
        encoded = headers.get("Content-Encoding", "identity").lower() != "identity"
        self._stream_format = (
            headers.get("Content-Type", "").lower().startswith("text/event-stream") and not encoded
        )
        self._write_head(answer.status, answer.reason, headers)
        record = self._record
        if record.is_inference:
            record.meter = Meter(
                headers.get("Content-Type", ""), headers.get("Content-Encoding", ""), answer.status
            )
        while data := await answer.read():
            record.answer_bytes += len(data)
            if record.meter is not None:
                record.meter.feed(data)
            await self._taken(self._connection.write(data))
        record.complete = True
        self._connection.finish()

    def _write_head(self, status: int, reason: str, headers: HTTPHeaders, body: bytes | None = None) -> None:
        self._head_written = True
        self._record.status = status
        self._record.first_byte_at = self._server.clock.monotonic()
        start = ResponseStartLine("HTTP/1.1", status, reason)
        self._connection.write_headers(start, headers, body)

    async def _taken(self, future: asyncio.Future[None]) -> None:
        """Wait until the client takes the bytes. Raises TimeoutError where it takes none for too long."""
        while not future.done():
            unsent = self._connection.unsent()
            await asyncio.wait([future], timeout=STALLED_S)
            if not future.done() and self._connection.unsent() == unsent:
                raise TimeoutError
        future.result()

    def _refuse(self, error: RequestError, *, at_once: bool = False) -> None:
        """Answer with an error in the shape of the Claude API's, while the body may still be on its way."""
        record = self._record
        headers, body = refusal(error, record.id, len(record.attempts), record.account_name)
        record.answer_bytes = len(body)
        record.error = error.type
        if self._place is not None:
            self._place.leave()  # to its client it is over, though its body may still come
        self._write_head(
            error.status,
            responses.get(error.status, ""),
            headers,
            None if self._record.method == "HEAD" else body,
        )
        if self._task is not None or at_once:
            self._connection.finish()  # the body is read, will not be sent, or has no end that can be known
            if at_once:
                self._end()
        else:
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(LINGER_S, self._end_refused)

    def _end_refused(self) -> None:
        if self in self._server.running:
            self._connection.finish()
        self._end()

    async def _cut(self, why: str) -> None:
        """Abort an answer that has begun: a client must never take what it has for the whole."""
        self._record.error = "cut"
        log.warning("answer cut request=%s reason=%s", self._record.id, why)
        if not self._head_written:
            self._refuse(Unavailable(why, retry_after_s=1))
            return
        if self._stream_format:
            # HTTPOutputError: the answer has a length, with no room for it.
            with contextlib.suppress(StreamClosedError, TimeoutError, HTTPOutputError):
                async with asyncio.timeout(LAST_EVENT_S):
                    await self._connection.write(error_event(why))
        self._abort()

    def _abort(self) -> None:
        # Only a reset tells an answer that ends with its connection from a whole one.
        self._connection.abort(reset=self._connection.ends_by_close)

    def _cancel(self) -> None:
        if self._task is not None:
            # Soon: a task that is cancelled before its first step never reaches its `finally`.
            asyncio.get_running_loop().call_soon(self._task.cancel)

    def cut(self, why: str) -> None:
        """End the request, for a reason that its client is told."""
        self._cut_because = why
        if self._task is not None:
            self._cancel()
        elif self._inbound is not None:
            self._inbound = None
            self._refuse(Unavailable(why, retry_after_s=1))
        else:
            self._connection.abort()
            self._end()

    def _end(self) -> None:
        if self not in self._server.running:
            return
        self._server.running.discard(self)
        if self._linger is not None:
            self._linger.cancel()
        if self._body is not None:
            self._body.close()
        if self._place is not None:
            self._place.leave()
        self._record.ended_at = self._server.clock.monotonic()
        for sink in self._server.sinks:
            sink(self._record)
