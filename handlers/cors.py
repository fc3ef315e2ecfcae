"""Pages of other origins that call `/v1` from a browser (Fetch Standard §3.2): which may, and how they are told.

Keys come in headers, so no answer is for a browser's own credentials: cookies open nothing on `/v1`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Collection, Mapping
from http.client import responses

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine

from handlers.framing import RequestHeaders
from handlers.refusal import refusal
from handlers.request import RequestConnection
from proxy.clock import Clock
from proxy.errors import Forbidden
from proxy.usage import access_log
from proxy.usage.request import RequestRecord

Lines = list[tuple[str, str]]

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
REMEMBERED_S = 7200  # Chrome's limit
_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:, ?[!#$%&'*+.^_`|~0-9A-Za-z-]+){0,99}")


class Cors:
    """The origins that may call `/v1`; `*` is each of them."""

    def __init__(self, origins: Collection[str]) -> None:
        self.allow(origins)

    def allow(self, origins: Collection[str]) -> None:
        """Have these origins from now on."""
        self.is_on = bool(origins)
        self._any = "*" in origins
        self._listed = frozenset(origins)

    def readable(self, first: Mapping[str, str]) -> Lines:
        """What lets the page that sent the request read its answer; nothing if it may not."""
        origin = self._allowed(first)
        if not origin:
            return []
        # Without a browser's own credentials, `*` is every header of the answer.
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", "*"),
            ("Vary", "Origin"),
        ]

    def preflight(self, first: Mapping[str, str]) -> Lines:
        """What the page that asks may send. Raises Forbidden."""
        origin = self._allowed(first)
        if not origin:
            raise Forbidden(
                "pages of this origin may not call this proxy: an admin lists them in server.cors_origins",
                should_retry=False,
            )
        lines = [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Max-Age", str(REMEMBERED_S)),
            ("Vary", "Origin, Access-Control-Request-Headers"),
        ]
        asked = first.get("access-control-request-headers", "")
        if _NAMES.fullmatch(asked):  # `*` would not be the Authorization header too
            lines.append(("Access-Control-Allow-Headers", asked))
        return lines

    def _allowed(self, first: Mapping[str, str]) -> str:
        origin = first.get("origin", "")
        if self._any and origin:
            return "*"
        return origin if origin in self._listed else ""


def is_preflight(first: Mapping[str, str]) -> bool:
    """Whether an OPTIONS request asks on behalf of a page, which shows no key."""
    return "access-control-request-method" in first and "origin" in first


def made_readable(headers: Lines, readable: Lines) -> Lines:
    """An answer's headers with `readable` in place of what the upstream says to browsers."""
    return [line for line in headers if not line[0].lower().startswith("access-control-")] + readable


class Preflight(HTTPMessageDelegate):
    """A browser's question whether a page may send a request, answered without a key."""

    def __init__(self, cors: Cors, connection: RequestConnection, clock: Clock, address: str) -> None:
        self._cors = cors
        self._connection = connection
        self._clock = clock
        self._record = RequestRecord(clock.monotonic(), address=address)

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        assert isinstance(headers, RequestHeaders)
        record = self._record
        head = self._connection.head
        record.method, record.path = head.method, access_log.logged_path(head.start_line.path)
        length, body = None, b""
        try:
            status, lines = 204, self._cors.preflight(headers.read.first)
        except Forbidden as error:
            status, record.error = error.status, error.type
            said, body = refusal(error, record.id)
            lines, length = list(said.get_all()), len(body)
        record.status, record.answer_bytes = status, len(body)
        self._connection.begin(status, responses[status], lines, length, body)
        self._connection.finish()
        record.first_byte_at = record.ended_at = self._clock.monotonic()
        access_log.write(record)
        return None
