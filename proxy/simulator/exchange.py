"""One request on a simulator's connection, and the bytes of its answer."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Coroutine, Iterable
from http.client import responses
from pathlib import Path
from typing import Any, Protocol, cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import StreamClosedError

from proxy.clock import Clock

from .faults import Fault, ResetEarly
from .ledger import BODY_KEPT_BYTES, Entry, Ledger
from .requests import Body, Request


class Host(Protocol):
    """What an exchange needs of the simulator."""

    clock: Clock
    ledger: Ledger
    spool_folder: Path | None

    def arrived(self, exchange: Exchange, connection: int) -> tuple[Entry, Fault | None]: ...

    def respond(self, exchange: Exchange) -> Coroutine[Any, Any, None]: ...

    def left(self, exchange: Exchange) -> None: ...


class PeerGone(Exception):
    """The peer closed the connection."""


class Exchange(HTTPMessageDelegate):
    """From the request's headers to the end of the answer, in the ledger's `entry`."""

    entry: Entry
    request: Request
    fault: Fault | None

    def __init__(self, host: Host, connection: HTTP1Connection, connection_id: int) -> None:
        self._host = host
        self._connection = connection
        self._connection_id = connection_id
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        line = cast(RequestStartLine, start_line)
        self.request = Request(line.method, line.path, headers, Body(self._host.spool_folder))
        self.entry, self.fault = self._host.arrived(self, self._connection_id)
        self._connection.set_close_callback(self.on_connection_close)
        if isinstance(self.fault, ResetEarly):
            self.reset()

    def data_received(self, chunk: bytes) -> None:
        self.request.body.add(chunk)

    def finish(self) -> None:
        if self._ended:
            return
        body, entry = self.request.body, self.entry
        entry.body_length, entry.body_sha256, entry.body_read = body.length, body.sha256, True
        if body.length <= BODY_KEPT_BYTES:
            entry.body = body.read()
        self._host.ledger.changed()
        self._task = asyncio.get_running_loop().create_task(self._answer(), name=f"exchange {entry.number}")

    def on_connection_close(self) -> None:
        if not self._ended:
            self.entry.closed_by_peer_at = self._host.clock.monotonic()
            self._end()

    async def _answer(self) -> None:
        try:
            await self._host.respond(self)
        except (PeerGone, StreamClosedError):
            self.on_connection_close()
        finally:
            if not self._ended:  # a defect: never leave the peer waiting
                self.abort()

    def _end(self) -> None:
        """The exchange is over, however; safe to call again."""
        if self._ended:
            return
        self._ended = True
        self.request.body.close()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._host.left(self)
        self._host.ledger.changed()

    async def stop(self) -> None:
        """Close the connection and wait until nothing of this exchange runs."""
        self._end()
        self._connection.close()
        if self._task is not None:
            await asyncio.wait([self._task])

    # The answer, piece by piece

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Status line and headers; chunked where `headers` have no Content-Length."""
        fields = HTTPHeaders()
        for name, value in headers:
            fields.add(name, value)
        self.entry.status = status
        self._host.ledger.changed()
        line = ResponseStartLine("HTTP/1.1", status, responses.get(status, "Unknown"))
        await self._connection.write_headers(line, fields)

    async def write(self, data: bytes, *, events: int = 0) -> None:
        """Return once the socket has taken `data`."""
        if self._connection.stream.closed():
            raise PeerGone
        if self.request.method == "HEAD":
            return
        if data:
            await self._connection.write(data)
            if self._connection.stream.closed():
                raise PeerGone
        self.entry.bytes_sent += len(data)
        self.entry.events_sent += events
        self._host.ledger.changed()

    def complete(self) -> None:
        """The answer is whole; the connection may be used again."""
        self.entry.finished = True
        self._connection.set_close_callback(None)
        self._connection.finish()
        self._end()

    def abort(self) -> None:
        """End the connection (FIN) where the answer stands."""
        self._ended_by_us()
        self._connection.close()

    def reset(self) -> None:
        """End the connection with RST: both sides drop what was not read."""
        if self._connection.stream.socket is not None:
            self._connection.stream.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self._ended_by_us()
        self._connection.close()

    async def raw(self, data: bytes) -> None:
        """Exactly `data`, then the end of the connection."""
        await self._connection.stream.write(data)
        self.entry.bytes_sent += len(data)
        self.entry.finished = True
        self.abort()

    async def silence(self) -> None:
        """Nothing more, until the peer goes."""
        if self._connection.stream.closed():
            raise PeerGone
        await asyncio.get_running_loop().create_future()

    def narrow(self, send_buffer: int) -> None:
        """Let the kernel hold little, so that `bytes_sent` follows what the peer has read."""
        if self._connection.stream.socket is not None:
            self._connection.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)

    def _ended_by_us(self) -> None:
        self._connection.set_close_callback(None)
        self._end()
