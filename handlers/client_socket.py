"""A client's socket on asyncio's transport: what waits to be sent, and its end."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import fcntl
import math
import os
import socket
import struct
import termios
from collections.abc import Iterator
from typing import cast

from tornado.iostream import IOStream, StreamClosedError

from proxy.http.addresses import plain

LINGER_S = 5.0
"""How long a client has to close after the last answer, and what it still sends is thrown away: to close first would
reset the answer away from it."""

STALLED_S = 60.0
"""A client that takes no byte of its last answer for so long is let go."""

HIGH_WATER = 128 * 1024
LOW_WATER = 32 * 1024
"""Bytes of answers that wait here for a client: above the one it is `full`, below the other it has room again."""


class Context:
    """What Tornado asks about a client's address."""

    protocol = "http"

    def __init__(self, address: object) -> None:
        self.address = address
        self.remote_ip = plain(str(address[0])) if isinstance(address, tuple) and address else "0.0.0.0"  # noqa: S104

    def __str__(self) -> str:
        return self.remote_ip


class ClientSocket(asyncio.Protocol, abc.ABC):
    """The sending side of a connection. The reading side, which knows how far the request has come, is `Connection`."""

    context: Context
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.deadline = math.inf  # by the loop's clock
        self.full = False
        self.gone = False
        self._is_made = False
        self.is_last = False  # the next answer is the connection's last
        self.vouched = False  # its client has shown a valid key
        self._unsent_before = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._is_made = True
        self.transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        # asyncio does so only if the listening socket was made with a protocol number.
        self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.context = Context(transport.get_extra_info("peername"))
        if self.gone:  # it was aborted before
            self.transport.abort()

    @property
    @abc.abstractmethod
    def has_request(self) -> bool:
        """Whether all of the request in hand has come."""

    @abc.abstractmethod
    def answered(self, *, keep_alive: bool) -> None:
        """Go on with the next request, once this one is read, or close."""

    @abc.abstractmethod
    def vouch(self) -> None:
        """Keep the place of a client that has shown a valid key."""

    @abc.abstractmethod
    def detach(self) -> IOStream:
        """Give the socket away, with what was read of it beyond the request. Raises StreamClosedError."""

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    @property
    def queued(self) -> int:
        """Bytes that wait in this process."""
        return self.transport.get_write_buffer_size()

    def unsent(self) -> int:
        """Bytes that the client has not acknowledged, here and in the kernel."""
        if self.gone:
            return 0
        (in_kernel,) = struct.unpack("i", fcntl.ioctl(self._socket(), termios.TIOCOUTQ, bytes(4)))
        return self.queued + int(in_kernel)

    @contextlib.contextmanager
    def full_until_empty(self) -> Iterator[None]:
        """Meanwhile it is `full` as long as anything waits."""
        self.transport.set_write_buffer_limits(0)
        try:
            yield
        finally:
            self.transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)

    def expire_in(self, seconds: float) -> None:
        """Set the deadline."""
        self.deadline = self.loop.time() + seconds

    def linger(self, last: bytes) -> None:
        """Send what is `last`, and give the client time to close."""
        if last:
            self.transport.write(last)
        try:
            self.transport.write_eof()
        except OSError:  # it was reset, which is told only after what it has sent
            self.abort()
            return
        self.transport.resume_reading()
        self.expire_in(LINGER_S)

    def linger_on(self) -> None:
        """Close, unless the client is still taking its last answer."""
        unsent = self.unsent()
        if not unsent or unsent == self._unsent_before:
            self.abort()
        self._unsent_before = unsent
        self.expire_in(STALLED_S)

    def abort(self, *, reset: bool = False) -> None:
        """Close at once; what waits to be sent is dropped. With `reset` the client sees a reset, not an end."""
        if self.gone:
            return
        if not self._is_made:  # asyncio has accepted it, and tells of it in its next turn
            self.gone = True
            return
        if reset:
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.gone = True
        self.transport.abort()

    def give_away(self, read: bytes) -> IOStream:
        """The socket as a stream that begins with what was `read` already. Raises StreamClosedError."""
        if self.gone or self.queued:
            self.abort()
            raise StreamClosedError
        try:
            # asyncio's transport cannot let go of its socket, so the stream gets a duplicate.
            client = socket.socket(fileno=os.dup(self._socket().fileno()))
        except OSError as error:  # files run out
            raise StreamClosedError(real_error=error) from error
        finally:
            self.abort()
        return _Stream(client, read)

    def _socket(self) -> socket.socket:
        client: socket.socket = self.transport.get_extra_info("socket")
        return client


class _Stream(IOStream):
    """A stream that begins with bytes that were read already."""

    def __init__(self, client: socket.socket, first: bytes) -> None:
        self._first = first
        super().__init__(client)

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        if not self._first:
            return super().read_from_fd(buf)
        size = min(len(buf), len(self._first))
        buf[:size] = self._first[:size]
        self._first = self._first[size:]
        return size
