"""Tornado's curl client with wiring of its own: any number of exchanges at once, each with pause and cancel.

`CurlAsyncHTTPClient` gives each request one of ten places, a total timeout and a cap of 100 MB, no cancel, and each of
libcurl's sockets a reader on the loop. Here libcurl's sockets are in an epoll of their own, which is the loop's one
reader: cheaper by half, and a descriptor's number that comes back for another socket confuses nobody.

What is relied on of Tornado's class: `initialize` makes `_multi` with `_set_timeout` and `_handle_socket` as
its callbacks, and `max_clients` handles, here none; `close` closes `_multi`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import pycurl
from tornado.curl_httpclient import CurlAsyncHTTPClient

from proxy.errors import StartError, UpstreamError, UpstreamGarbled, UpstreamLost, UpstreamUnreachable
from proxy.upstream.exchange import Exchange, Header, Request, parse_head
from proxy.upstream.sockets import Sockets, borrowed
from proxy.upstream.trust import Trust

MIN_LIBCURL = (8, 21)
"""Below it, connections could be reused with the wrong credentials (CVE-2026-5545, CVE-2026-8932)."""

CONNECT_TIMEOUT_S = 10.0
TCP_USER_TIMEOUT_MS = 30_000
KEPT_HANDLES = 1024

TURN_S = 0.005
"""How long the sockets are served, and asked for more, before the loop turns: a turn costs more than to ask again, and
twenty answers of megabytes at once would hold up all others."""

MOST_INTERIM = 100
"""1xx answers before the one that is handed on."""

LONG_HEAD_BYTES = 200_000
"""A head that failed beyond this was too long for libcurl, which takes 300 kB and says that the connection broke."""

IDLE_LOOK_S = 1.0
"""How often silent upstreams are looked for, or more often where they may be silent for less than four of these."""

SUPPRESS_CONNECT_HEADERS = 265  # curl.h; pycurl has no name for it

# Headers that libcurl adds by itself; an empty value keeps it from doing so.
_CURLS_OWN = ("accept", "content-type", "expect", "pragma", "user-agent")
# The connection ended, wherever that was; other errors within a head are about what stands in it.
_BROKEN_OFF = (pycurl.E_GOT_NOTHING, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR, pycurl.E_PARTIAL_FILE)

_BLANK = (b"\r\n", b"\n")

# Fewer bytes than a callback was given: the transfer fails with E_WRITE_ERROR.
_NOT_TAKEN = 0


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


def timeouts(idle_s: float, answer_s: float | None = None) -> tuple[float, float]:
    """What `CurlClient.timeouts_s` may be set to: how long a head may take, by default twice the silence; and that."""
    return 2 * idle_s if answer_s is None else answer_s, idle_s


class CurlClient(CurlAsyncHTTPClient):
    """Opens exchanges with one upstream. Make it with `CurlClient.to`; it belongs to the loop that runs then."""

    @classmethod
    def to(
        cls,
        base_url: str,
        *,
        idle_timeout_s: float,
        answer_timeout_s: float | None = None,
        proxy: str | None = None,
        ca_file: Path | None = None,
    ) -> CurlClient:
        """For one upstream: an https URL, or http for a loopback address; a path becomes a prefix.

        `answer_timeout_s`: how long the head of an answer may take, None for twice the silence that is allowed in it.
        `proxy`: the URL of an outbound proxy for requests that name none. `ca_file`: certificates to trust beside
        the system's. Raises StartError where there are no CA certificates for https.
        """
        parts = urlsplit(base_url)
        options: list[tuple[int, str | int]] = [
            (pycurl.URL, f"{parts.scheme}://{parts.netloc}"),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTPS if parts.scheme == "https" else pycurl.PROTO_HTTP),
        ]
        trust = Trust(ca_file) if parts.scheme == "https" else None
        if trust is not None:
            options += trust.options
        prefix = parts.path.rstrip("/")
        return cls(
            force_instance=True,
            options=options,
            prefix=prefix,
            timeouts_s=timeouts(idle_timeout_s, answer_timeout_s),
            proxy=proxy or "",
            trust=trust,
        )

    def initialize(  # type: ignore[override]  # Tornado's way of giving arguments to a constructor
        self,
        *,
        options: list[tuple[int, str | int]],
        prefix: str,
        timeouts_s: tuple[float, float],
        proxy: str,
        trust: Trust | None,
    ) -> None:
        self._options = options
        self._trust = trust
        self.proxy = proxy
        self._prefix = prefix
        self.timeouts_s = timeouts_s
        self._is_tls = (pycurl.PROTOCOLS, pycurl.PROTO_HTTPS) in options
        self._loop = asyncio.get_running_loop()
        self._running: dict[pycurl.Curl, _Handle] = {}
        self._kept: list[_Handle] = []
        self.news: list[Exchange] = []
        self._due: asyncio.Handle | None = None
        self._is_soon = False
        self._idle_look: asyncio.TimerHandle | None = None
        self._sockets = Sockets()
        self._loop.add_reader(self._sockets.fileno(), self._on_sockets)
        super().initialize(max_clients=0)

    @property
    def running(self) -> int:
        """Exchanges that libcurl still has."""
        return len(self._running)

    @property
    def idle(self) -> int:
        """Connections that are kept for the next request; among them may be some that libcurl has closed."""
        return self._sockets.idle

    def open(self, request: Request) -> Exchange:
        """Start one exchange; the caller closes it. Raises ValueError where a header cannot be sent as one line."""
        lines = _header_lines(request.headers)
        handle = self._kept.pop() if self._kept else _Handle(self, self._options)
        exchange = handle.begin(request, self._prefix, lines)
        self._running[handle.curl] = handle
        self._multi.add_handle(handle.curl)
        if self._idle_look is None:
            self._look_later()
        return exchange

    def close(self) -> None:
        """Cut everything that still runs."""
        for handle in tuple(self._running.values()):
            handle.exchange.close()
        for handle in self._kept:
            handle.curl.close()
        self._set_timeout(-1)
        if self._idle_look is not None:
            self._idle_look.cancel()
        self._loop.remove_reader(self._sockets.fileno())
        super().close()
        self._sockets.close()
        if self._trust is not None:
            self._trust.close()

    def look(self) -> None:
        """Have libcurl find those idle connections dead on which something came."""
        self._sockets.look()

    def was_shut(self, port: int) -> bool:
        """Whether the connection from this port of ours was idle and is dead; once."""
        return self._sockets.was_shut(port)

    # the handles

    def let_go(self, handle: _Handle) -> None:
        """Take a transfer out of libcurl, wherever it is."""
        del self._running[handle.curl]
        fd = handle.curl.getinfo(pycurl.ACTIVESOCKET)
        self._multi.remove_handle(handle.curl)
        self._sockets.keep(fd)
        if handle.end() and len(self._kept) < KEPT_HANDLES:
            self._kept.append(handle)
        else:
            handle.curl.close()

    def soon(self) -> None:
        """Let libcurl work, and bring what comes of it, once the loop is free."""
        self._set_timeout(0)

    # what libcurl asks for

    def _handle_socket(self, event: int, fd: int, multi: object, data: object) -> None:
        self._sockets.want(event, fd)

    def _set_timeout(self, msecs: int) -> None:
        """Have `_on_time` called in so many milliseconds in place of the time set before; -1: not at all."""
        if self._due is not None:
            if msecs == 0 and self._is_soon:
                return
            self._due.cancel()
        self._is_soon = msecs == 0
        if self._is_soon:
            self._due = self._loop.call_soon(self._on_time)
        else:
            self._due = None if msecs < 0 else self._loop.call_later(msecs / 1000, self._on_time)

    # what the loop calls

    def _on_sockets(self) -> None:
        sockets, time = self._sockets, self._loop.time
        until = time() + TURN_S
        while ready := sockets.ready(begins=self._is_soon):
            for at, (fd, action) in enumerate(ready, 1):
                if fd in sockets.watched:
                    self._act(fd, action)
                if time() > until:
                    sockets.leave(ready[at:])
                    return

    def _on_time(self) -> None:
        self._due = None
        if self._sockets.idle:
            self._on_sockets()
        self._act(pycurl.SOCKET_TIMEOUT, 0)
        # The loop's clock and libcurl's differ: where it was called too early, it does not ask again.
        if self._due is None and (msecs := self._multi.timeout()) >= 0:
            self._set_timeout(max(1, msecs))

    def _act(self, fd: int, action: int) -> None:
        """Let libcurl work, and bring at once what came of it to its readers: the next socket's turn is their delay."""
        try:
            _, still_running = self._multi.socket_action(fd, action)
        except pycurl.error:  # a transfer's own errors are told by `info_read`
            still_running = -1
        if still_running != len(self._running):
            self._read_ends()
        if self.news:
            news, self.news = self.news, []
            for exchange in news:
                exchange.has_news = False
                exchange.hand_on()

    def _read_ends(self) -> None:
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for curl in done:
                self._ended(self._running[curl], 0, "")
            for curl, errno, message in failed:
                self._ended(self._running[curl], errno, message)

    def _ended(self, handle: _Handle, errno: int, message: str) -> None:
        if errno == pycurl.E_SEND_ERROR and handle.met_a_shut_connection():
            # libcurl has closed it and would try no other, since it does not know that nothing was sent.
            self._multi.remove_handle(handle.curl)
            self._multi.add_handle(handle.curl)
            return
        if self._is_tls and errno == 0:
            handle.look_behind_the_answer()
        error = handle.error(errno, message)
        exchange = handle.exchange
        self.let_go(handle)
        exchange.end(error)

    def _look_later(self) -> None:
        wait_s = min(IDLE_LOOK_S, *(timeout_s / 4 for timeout_s in self.timeouts_s))
        self._idle_look = self._loop.call_later(wait_s, self._look_idle)

    def _look_idle(self) -> None:
        self._idle_look = None
        now = self._loop.time()
        for handle in tuple(self._running.values()):
            timeout_s = self.timeouts_s[handle.has_head]
            handle.exchange.look_idle(now, timeout_s)
        if self._running:
            self._look_later()


class _Handle:
    """One of libcurl's easy handles, used again and again, with callbacks that stay.

    libcurl allows nothing to be removed or paused from within them: they collect, and put the exchange in `news`.
    """

    __slots__ = (
        "_client",
        "_interim",
        "_is_sent",
        "_keeps",
        "_lines",
        "_method",
        "_proxy",
        "_resends",
        "_target",
        "curl",
        "exchange",
        "has_head",
    )

    exchange: Exchange

    def __init__(self, client: CurlClient, options: list[tuple[int, str | int]]) -> None:
        self.curl = pycurl.Curl()
        self._client = client
        self._lines: list[bytes] = []
        self.has_head = False
        self._interim = 0
        self._is_sent = False
        self._keeps = True
        self._method = ""
        self._target = ""
        self._proxy: str | None = None
        self._resends = True
        for option, value in (
            *options,
            (pycurl.PATH_AS_IS, 1),
            (pycurl.FOLLOWLOCATION, 0),
            # Also if it is "": else libcurl obeys http_proxy, and the credential goes there.
            (pycurl.PROXY, client.proxy),
            (pycurl.NOPROXY, ""),  # as libcurl obeys no_proxy
            # An outbound proxy gets no credential, also where the upstream speaks plain HTTP.
            (pycurl.HTTPPROXYTUNNEL, 1),
            (SUPPRESS_CONNECT_HEADERS, 1),
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
            (pycurl.PREREQFUNCTION, self._on_send),
            (pycurl.HEADERFUNCTION, self._on_header),
            (pycurl.WRITEFUNCTION, self._on_body),
        ):
            self.curl.setopt(option, value)

    def begin(self, request: Request, prefix: str, header_lines: list[str] | list[bytes]) -> Exchange:
        """Make ready for one request: only what differs from the one before is set."""
        curl, body, method = self.curl, request.body, request.method
        self.exchange = exchange = Exchange(self, request)
        self.has_head = self._is_sent = False
        self._interim = 0
        if isinstance(body, bytes):
            curl.setopt(pycurl.POSTFIELDS, body)
        elif body is not None:
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.INFILESIZE_LARGE, request.file_bytes)
            curl.setopt(pycurl.READFUNCTION, self._on_upload)
            curl.setopt(pycurl.SEEKFUNCTION, self._on_rewind)
            self._keeps = False  # these options would outlive the request
        elif method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
            self._keeps = False
        else:
            curl.setopt(pycurl.HTTPGET, 1)
        if method != self._method:
            self._method = method
            curl.setopt(pycurl.CUSTOMREQUEST, method)
        if request.proxy != self._proxy:
            self._proxy = request.proxy
            curl.setopt(pycurl.PROXY, request.proxy or self._client.proxy)
        if request.may_resend != self._resends:
            # On a kept connection that turns out to be dead, libcurl sends a request again.
            self._resends = request.may_resend
            curl.setopt(pycurl.FRESH_CONNECT, 0 if request.may_resend else 1)
        if request.target != self._target:
            self._target = request.target
            curl.setopt(pycurl.REQUEST_TARGET, (prefix + request.target).encode("latin-1"))
        curl.setopt(pycurl.HTTPHEADER, header_lines)
        return exchange

    def end(self) -> bool:
        """Forget what was sent. Whether the handle can be used again."""
        self._lines.clear()
        if self._keeps and self.exchange.body is not None:
            self.curl.setopt(pycurl.POSTFIELDS, b"")
        del self.exchange
        return self._keeps

    def met_a_shut_connection(self) -> bool:
        """Whether not a byte was sent, on a kept connection; a body is at its start then."""
        if self.curl.getinfo(pycurl.REQUEST_SIZE) or self.curl.getinfo(pycurl.NUM_CONNECTS):
            return False
        if self.exchange.body is not None and not isinstance(self.exchange.body, bytes):
            self.exchange.body.seek(0)
        self._is_sent = False
        return True

    def look_behind_the_answer(self) -> None:
        """Have the connection closed if anything follows the answer on it, or its end.

        OpenSSL reads ahead (curl/curl#17548), so that neither the socket nor libcurl shows what it holds already.
        """
        self.curl.setopt(pycurl.CONNECT_ONLY, 1)  # allows `recv`; left set, it has `remove_handle` close
        try:
            self.curl.recv(1)
        except BlockingIOError:
            self.curl.setopt(pycurl.CONNECT_ONLY, 0)
        except pycurl.error:  # the connection is broken, or closed already
            self._keeps = False
        else:
            self._keeps = False

    def error(self, errno: int, message: str) -> UpstreamError | None:
        """What libcurl's error says of the upstream; 0 is none."""
        if errno == 0:
            return None if self.has_head else UpstreamLost("the answer had no head")
        if errno == pycurl.E_ABORTED_BY_CALLBACK:  # it would have been sent again
            return UpstreamLost("a kept connection ended before an answer")
        text = f"{message or 'transfer failed'} (curl {errno})"
        if self.curl.getinfo(pycurl.REQUEST_SIZE) == 0:
            return UpstreamUnreachable(text)
        if errno == pycurl.E_WRITE_ERROR:  # a callback of ours did not take it
            return UpstreamGarbled("no head that can be read among what came")
        is_long = sum(map(len, self._lines)) > LONG_HEAD_BYTES
        if errno == pycurl.E_FTP_WEIRD_SERVER_REPLY or (
            self._lines and (errno not in _BROKEN_OFF or is_long)
        ):
            return UpstreamGarbled(text)
        return UpstreamLost(text)

    # the exchange's

    def cut(self) -> None:
        self._client.let_go(self)

    def resume(self) -> None:
        with contextlib.suppress(pycurl.error):  # a failure is told again as the transfer's end
            self.curl.pause(pycurl.PAUSE_CONT)
        self._client.soon()

    # libcurl's callbacks

    def _on_send(self, address: str, own_address: str, port: int, own_port: int) -> int:
        """Allow one send of what has an effect: libcurl makes five more if kept connections end without an answer.

        Whether to send it again is for whoever counts the tries.
        """
        if self._client.was_shut(own_port):
            return pycurl.PREREQFUNC_OK  # nothing can be sent on it
        is_again, self._is_sent = self._is_sent, True
        if is_again:
            if self._method not in ("GET", "HEAD"):
                return pycurl.PREREQFUNC_ABORT
            self._client.look()  # something may have come on this one since
        return pycurl.PREREQFUNC_OK

    def _on_header(self, line: bytes) -> int | None:
        if self.has_head:
            return None  # a trailer: dropped, as it may carry nothing that a client needs (RFC 9110 6.5.1)
        if line not in _BLANK:  # a lone CR is a head that was cut there
            self._lines.append(line)
            return None
        head = parse_head(self._lines)
        self._lines.clear()
        if head.status >= 200:  # 1xx are between the upstream and us
            self.has_head = self.exchange.active = True
            self.exchange.on_head(head)
            self._note()
            return None
        self._interim += 1
        if head.status in (0, 101) or self._interim > MOST_INTERIM:
            return _NOT_TAKEN  # no status line, or a protocol that was not asked for: no head will come
        return None

    def _on_body(self, data: bytes) -> int | None:
        if not self.has_head:
            return _NOT_TAKEN  # for libcurl any line that begins with CR ends the head
        self.exchange.active = True
        if not self.exchange.on_body(data):
            return pycurl.WRITEFUNC_PAUSE
        self._note()
        return None

    def _on_upload(self, size: int) -> bytes:
        self.exchange.active = True
        return self._file().read(size)

    def _on_rewind(self, offset: int, origin: int) -> int:
        if not self._resends:
            return pycurl.SEEKFUNC_FAIL
        self._file().seek(offset, origin)
        return pycurl.SEEKFUNC_OK

    def _file(self) -> BinaryIO:
        body = self.exchange.body
        assert body is not None
        assert not isinstance(body, bytes)
        return body

    def _note(self) -> None:
        if not self.exchange.has_news:
            self.exchange.has_news = True
            self._client.news.append(self.exchange)


def _header_lines(headers: list[Header]) -> list[str] | list[bytes]:
    # "Name;" is how libcurl is told to send a header without a value.
    lines = [f"{name}: {value}" if value else f"{name};" for name, value in headers]
    whole = "".join(lines)  # looked through once, not three times a line
    if "\r" in whole or "\n" in whole or "\0" in whole:
        raise ValueError("a header holds a control character")
    present = {name.lower() for name, _ in headers}
    lines.extend([f"{name}:" for name in _CURLS_OWN if name not in present])
    return lines if whole.isascii() else [line.encode("latin-1") for line in lines]


def _set_socket_options(fd: int, purpose: int) -> int:
    # A dead path must not hold a stream for ever, nor a dead pooled connection a request.
    with borrowed(fd) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    return pycurl.SOCKOPT_OK
