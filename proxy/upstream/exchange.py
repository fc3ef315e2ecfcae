"""One exchange with the upstream on Tornado's curl client, with what that lacks: pause, cancel, exact bytes, idle time.

`CurlAsyncHTTPClient` drives libcurl on the IOLoop; its own requests have ten places, a total timeout, a 100 MB cap and
no cancel. An `Exchange` bypasses its queue and keeps its wiring (sockets, timers): any number run at once. Both halves
are here, longer than other files, so that nothing else has to know libcurl.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlsplit

import pycurl
from tornado.curl_httpclient import CurlAsyncHTTPClient

from proxy.errors import (
    StartError,
    UpstreamError,
    UpstreamGarbled,
    UpstreamLost,
    UpstreamSilent,
    UpstreamUnreachable,
)

MIN_LIBCURL = (8, 21)
"""Below it, connections could be reused with the wrong credentials (CVE-2026-5545, CVE-2026-8932)."""

HIGH_WATER = 256 * 1024
"""Bytes of an answer that may wait for the reader; above, the transfer pauses until the reader takes them."""

CONNECT_TIMEOUT_S = 10.0
TCP_USER_TIMEOUT_MS = 30_000
KEPT_HANDLES = 1024

# Headers that libcurl adds by itself; an empty value keeps it from doing so.
_CURLS_OWN = ("accept", "content-type", "expect", "pragma", "user-agent")
# The connection ended, wherever that was; other errors within a head are about what stands in it.
_BROKEN_OFF = (pycurl.E_GOT_NOTHING, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR, pycurl.E_PARTIAL_FILE)
_STATUS_LINE = re.compile(rb"HTTP/[\d.]+ (\d{3})(?: (.*))?$")

Header = tuple[str, str]


def check_libcurl() -> str:
    """The client's versions, for the start-up line. Raises StartError where libcurl is too old to be safe."""
    version = str(pycurl.version_info()[1])
    if tuple(int(part) for part in version.split(".")[:2]) < MIN_LIBCURL:
        wanted = ".".join(map(str, MIN_LIBCURL))
        raise StartError(
            f"libcurl {version} is too old: {wanted} or newer is needed. Install pycurl from PyPI's wheel: "
            "pip install --force-reinstall --no-cache-dir -r requirements.txt"
        )
    return f"libcurl {version}"


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: `target` is the path and query exactly as they go on the wire.

    `body` is None where there is none (no Content-Length is sent then), else a file at its start.
    """

    method: str
    target: str
    headers: list[Header]
    body: BinaryIO | None = None
    body_bytes: int = 0
    may_resend: bool = True
    """Whether libcurl may send it again on a new connection when an idle one turns out to be dead."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers of an answer, as received."""

    status: int
    reason: str
    headers: list[Header]


class Exchange:
    """One request and its answer. Whoever opened it closes it, however it went.

    libcurl's callbacks only collect; the reader is woken after libcurl has returned, since nothing may be removed or
    paused from within its callbacks.
    """

    def __init__(
        self, client: CurlClient, curl: pycurl.Curl, request: Request, idle_timeout_s: float
    ) -> None:
        self._client = client
        self._curl: pycurl.Curl | None = curl
        self._request = request
        self._idle_timeout_s = idle_timeout_s
        self._loop = asyncio.get_running_loop()
        self._last_activity = self._loop.time()
        self._idle_check = self._loop.call_later(idle_timeout_s, self._check_idle)
        self._lines: list[bytes] = []
        self._head: Head | None = None
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._paused = False
        self._ended = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.first_byte_at: float | None = None

    async def head(self) -> Head:
        """Wait for status and headers. Raises UpstreamError."""
        while self._head is None:
            if self._error is not None:
                raise self._error
            await self._news()
        return self._head

    async def read(self) -> bytes:
        """The next bytes of the body, as much as there is; b"" at its end.

        Raises UpstreamError where the body was cut, after all bytes that came before the cut.
        """
        while not self._chunks:
            if self._request.method == "HEAD":
                return b""  # libcurl waits for a body where the request had one
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            await self._news()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._paused:
            self._resume()
        return data

    def put_back(self, data: bytes) -> None:
        """Give bytes back that were read to be judged; the next `read` returns them first."""
        if data:
            self._chunks.insert(0, data)
            self._buffered += len(data)

    def close(self) -> None:
        """End the exchange: a transfer that still runs is cut at once. May be called twice."""
        if self._curl is not None:
            self._client.remove(self._curl)
        self._release(UpstreamLost("the exchange was closed"))

    async def _news(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Let the reader see what the callbacks collected."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def finish(self, errno: int | None, message: str | None) -> None:
        """libcurl is done with the transfer."""
        error: UpstreamError | None = None
        if errno is not None:
            assert self._curl is not None
            text = f"{message or 'transfer failed'} (curl {errno})"
            if self._curl.getinfo(pycurl.REQUEST_SIZE) == 0:
                error = UpstreamUnreachable(text)
            elif self._lines and self._head is None and errno not in _BROKEN_OFF:
                error = UpstreamGarbled(text)
            else:
                error = UpstreamLost(text)
        elif self._head is None:
            error = UpstreamLost("the answer had no head")
        self._release(error)

    def _release(self, error: UpstreamError | None) -> None:
        self._idle_check.cancel()
        if self._curl is not None:
            curl, self._curl = self._curl, None
            self._client.give_back(curl)
        if not self._ended:
            self._ended = True
            self._error = error
        self.wake()

    def _check_idle(self) -> None:
        idle_s = 0.0 if self._paused else self._loop.time() - self._last_activity
        if idle_s < self._idle_timeout_s:
            self._idle_check = self._loop.call_later(self._idle_timeout_s - idle_s, self._check_idle)
            return
        if self._curl is not None:
            self._client.remove(self._curl)
        self._release(UpstreamSilent(f"nothing came for {self._idle_timeout_s:g} s"))

    def _resume(self) -> None:
        self._paused = False
        self._last_activity = self._loop.time()
        if self._curl is not None:
            self._client.resume(self._curl)

    # libcurl's callbacks

    def on_header(self, line: bytes) -> int | None:
        self._last_activity = self._loop.time()
        if self._head is not None:
            return None  # a trailer: dropped, as it may carry nothing that a client needs (RFC 9110 6.5.1)
        if line.startswith(b"HTTP/"):
            self._lines = [line]
        elif line.strip(b"\r\n"):
            self._lines.append(line)
        else:
            head = parse_head(self._lines)
            self._lines = []
            if head.status >= 200:  # 1xx are between the upstream and us
                self._head = head
                self.first_byte_at = self._last_activity
                self._client.mark(self)
        return None

    def on_body(self, data: bytes) -> int | None:
        if self._buffered >= HIGH_WATER:
            self._paused = True
            return pycurl.WRITEFUNC_PAUSE
        self._last_activity = self._loop.time()
        self._chunks.append(data)
        self._buffered += len(data)
        self._client.mark(self)
        return None

    def on_upload(self, size: int) -> bytes:
        self._last_activity = self._loop.time()
        assert self._request.body is not None
        return self._request.body.read(size)

    def on_rewind(self, offset: int, origin: int) -> int:
        if not self._request.may_resend or self._request.body is None:
            return pycurl.SEEKFUNC_FAIL
        self._request.body.seek(offset, origin)
        return pycurl.SEEKFUNC_OK


class CurlClient(CurlAsyncHTTPClient):
    """Opens exchanges with one upstream. Make it with `CurlClient(force_instance=True)`, then `connect_to`."""

    def connect_to(self, base_url: str, *, idle_timeout_s: float) -> CurlClient:
        """Set the upstream: an https URL, or http for a loopback address; a path becomes a prefix.

        Raises StartError where there are no CA certificates for https.
        """
        parts = urlsplit(base_url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._prefix = parts.path.rstrip("/")
        self._protocol = pycurl.PROTO_HTTPS if parts.scheme == "https" else pycurl.PROTO_HTTP
        self._certificates = ca_certificates() if parts.scheme == "https" else None
        self._idle_timeout_s = idle_timeout_s
        self._exchanges: dict[pycurl.Curl, Exchange] = {}
        self._kept: list[pycurl.Curl] = []
        self._marked: dict[Exchange, None] = {}
        return self

    @property
    def running(self) -> int:
        """Exchanges that libcurl still has."""
        return len(self._exchanges)

    def open(self, request: Request) -> Exchange:
        """Start one exchange; the caller closes it."""
        curl = self._kept.pop() if self._kept else self._new_handle()
        exchange = Exchange(self, curl, request, self._idle_timeout_s)
        try:
            self._prepare(curl, request, exchange)
            self._multi.add_handle(curl)
        except BaseException:
            exchange.close()
            raise
        self._exchanges[curl] = exchange
        self._set_timeout(0)
        return exchange

    def remove(self, curl: pycurl.Curl) -> None:
        """Cut a running transfer; its connection is closed."""
        if self._exchanges.pop(curl, None) is not None:
            self._multi.remove_handle(curl)

    def resume(self, curl: pycurl.Curl) -> None:
        """Go on with a paused transfer."""
        curl.pause(pycurl.PAUSE_CONT)
        self._set_timeout(0)

    def give_back(self, curl: pycurl.Curl) -> None:
        """Keep a handle for the next exchange."""
        if len(self._kept) < KEPT_HANDLES:
            self._kept.append(curl)
        else:
            curl.close()

    def mark(self, exchange: Exchange) -> None:
        """Remember that an exchange has news; its reader is woken when libcurl has returned."""
        self._marked[exchange] = None

    def close(self) -> None:
        """Cut everything that still runs."""
        for exchange in tuple(self._exchanges.values()):
            exchange.close()
        for curl in self._kept:
            curl.close()
        super().close()

    def _finish_pending_requests(self) -> None:
        super()._finish_pending_requests()
        marked, self._marked = self._marked, {}
        for exchange in marked:
            exchange.wake()

    def _finish(
        self, curl: pycurl.Curl, curl_error: int | None = None, curl_message: str | None = None
    ) -> None:
        exchange = self._exchanges.pop(curl, None)
        if exchange is None:
            super()._finish(curl, curl_error, curl_message)
            return
        self._multi.remove_handle(curl)
        exchange.finish(curl_error, curl_message)

    def _new_handle(self) -> pycurl.Curl:
        curl = pycurl.Curl()
        for option, value in (
            (pycurl.URL, self._origin),
            (pycurl.PROTOCOLS, self._protocol),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PROXY, ""),  # without it libcurl obeys http_proxy and the credential goes there
            (pycurl.NETRC, 0),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
            # HTTP/2 is slower for each event and shares one connection between all accounts.
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.HTTP09_ALLOWED, 0),
            (pycurl.HTTP_CONTENT_DECODING, 0),
            (pycurl.NOSIGNAL, 1),
            (pycurl.CONNECTTIMEOUT_MS, int(CONNECT_TIMEOUT_S * 1000)),
            (pycurl.BUFFERSIZE, 16 * 1024),
            (pycurl.UPLOAD_BUFFERSIZE, 16 * 1024),  # libcurl's minimum: 40 KB less for each stream
            (pycurl.SOCKOPTFUNCTION, _set_socket_options),
        ):
            curl.setopt(option, value)
        if self._certificates is not None:
            curl.setopt(*self._certificates)
        return curl

    def _prepare(self, curl: pycurl.Curl, request: Request, exchange: Exchange) -> None:
        if request.body is not None:
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.INFILESIZE_LARGE, request.body_bytes)
            curl.setopt(pycurl.READFUNCTION, exchange.on_upload)
            curl.setopt(pycurl.SEEKFUNCTION, exchange.on_rewind)
        elif request.method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
        else:
            curl.setopt(pycurl.HTTPGET, 1)
        curl.setopt(pycurl.CUSTOMREQUEST, request.method)
        # On a kept connection that turns out to be dead, libcurl sends a request again that has no body to rewind.
        curl.setopt(pycurl.FRESH_CONNECT, 0 if request.may_resend else 1)
        curl.setopt(pycurl.REQUEST_TARGET, (self._prefix + request.target).encode("latin-1"))
        curl.setopt(pycurl.HTTPHEADER, _header_lines(request.headers))
        curl.setopt(pycurl.HEADERFUNCTION, exchange.on_header)
        curl.setopt(pycurl.WRITEFUNCTION, exchange.on_body)


def parse_head(lines: list[bytes]) -> Head:
    """A head as libcurl hands it over, line by line. A line without a colon is dropped.

    A blank before the colon stays: for libcurl too that name is another one, also where it would be a length.
    """
    match = _STATUS_LINE.match(lines[0].rstrip(b"\r\n"))
    if match is None:
        return Head(0, "", [])
    headers = []
    for line in lines[1:]:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            headers.append((name, value.strip(" \t\r\n")))
    return Head(int(match[1]), (match[2] or b"").decode("latin-1"), headers)


def ca_certificates() -> tuple[int, str]:
    """The machine's CA certificates as a curl option. Raises StartError where there are none."""
    paths = ssl.get_default_verify_paths()  # obeys SSL_CERT_FILE and SSL_CERT_DIR, which libcurl does not
    if paths.cafile:
        return pycurl.CAINFO, paths.cafile
    if paths.capath:
        return pycurl.CAPATH, paths.capath
    raise StartError(
        "no CA certificates found on this machine: install them (apt install ca-certificates) "
        "or name a file in SSL_CERT_FILE"
    )


def _header_lines(headers: list[Header]) -> list[bytes]:
    # "Name;" is how libcurl is told to send a header without a value.
    lines = [
        f"{name}: {value}".encode("latin-1") if value else f"{name};".encode("latin-1")
        for name, value in headers
    ]
    whole = b"".join(lines)  # looked through once, not three times a line
    if b"\r" in whole or b"\n" in whole or b"\0" in whole:
        raise ValueError("a header holds a control character")
    present = {name.lower() for name, _ in headers}
    lines.extend(f"{name}:".encode() for name in _CURLS_OWN if name not in present)
    return lines


def _set_socket_options(fd: int, purpose: int) -> int:
    # A dead path must not hold a stream for ever, nor a dead pooled connection a request.
    own = socket.socket(fileno=socket.dup(fd))
    with own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    return pycurl.SOCKOPT_OK
