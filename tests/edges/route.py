"""What stands around the proxy: an upstream that says what it was asked, and a tap on the way to the proxy."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.echo import LIMIT, Message, read_body, read_head
from tests.edges.servers import EDGES, edge
from tests.edges.strict import Request, StrictReader
from tests.service import CLIENT_KEY, serve
from tests.serving import serving

DIRECT = "none"
ROUTES = (*EDGES, DIRECT)

Asked = tuple[bytes, bytes, bytes]
"""A request's method, target and body."""


class Upstream:
    """Answers each request with its target, in the body and in `x-answers`; `asked` is what came."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            start, lines = await read_head(reader)
            method, target, _ = start.split(b" ")
            body = await read_body(reader, Message(start, lines), to_end=False)
            self.asked.append((method, target, body))
            answer = [b"HTTP/1.1 200 OK", b"x-answers: " + target, b"Content-Length: %d" % len(target)]
            writer.write(b"\r\n".join([*answer, b"", b"" if method == b"HEAD" else target]))


class Tap:
    """Passes on what comes for the proxy, and reads it as a strict reader does.

    `requests` are those read; `shared` counts those of neighbours that came on a connection after an attacker's.
    """

    def __init__(self, behind: int) -> None:
        self.requests: list[Request] = []
        self.shared = 0
        self._behind = behind

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        strict, attacked = StrictReader(is_last), False

        def read(data: bytes) -> None:
            nonlocal attacked
            for request in strict.feed(data):
                self.requests.append(request)
                is_neighbours = request.target.startswith(b"/v1/neighbour/")
                self.shared += attacked and is_neighbours
                attacked = attacked or not is_neighbours

        answers, behind = await asyncio.open_connection("127.0.0.1", self._behind, limit=LIMIT)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_on(answers, writer))
                both.create_task(_pass_on(reader, behind, read))
        finally:
            behind.transport.abort()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: Callable[[bytes], None] | None = None
) -> None:
    with contextlib.suppress(OSError):  # one that is reset has another error for `write_eof` than for `write`
        while data := await reader.read(LIMIT):
            if told is not None:
                told(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@dataclass(frozen=True)
class Route:
    """The way of a client's bytes: to `port`, past the tap, through the proxy, to the upstream."""

    port: int
    tap: Tap
    upstream: Upstream

    def begin(self) -> None:
        """Forget what came so far."""
        self.tap.requests.clear()
        self.upstream.asked.clear()

    def difference(self) -> list[str]:
        """What the upstream was asked that no strict reader takes for a request, and the other way round."""
        asked = Counter(self.upstream.asked)
        read = Counter(request[:3] for request in self.tap.requests if goes_up(request))
        return [
            *(f"smuggled: {each}" for each in (asked - read).elements()),
            *(f"lost: {each}" for each in (read - asked).elements()),
        ]


def goes_up(request: Request) -> bool:
    """Whether the proxy sends it on: it has a plain path of ours, a key, and no method that stays here."""
    keys = request.fields.get(b"x-api-key", [])
    if request.method in (b"TRACE", b"TRACK", b"CONNECT"):
        return False
    return keys == [CLIENT_KEY.encode()] and bool(re.fullmatch(rb"/v1/[a-z]+/[\w-]+", request.target))


def is_last(request: Request) -> bool:
    """Whether the proxy reads no more of its connection.

    What it answers itself, it answers before the body: a withheld one may come or not, and chunks have no known end.
    """
    goes_on = goes_up(request) or not (request.awaits or b"transfer-encoding" in request.fields)
    return not (request.keeps_open and goes_on)


@contextlib.asynccontextmanager
async def route(name: str, home: Path) -> AsyncIterator[Route]:
    """The route through that edge, or without any for DIRECT. Raises BenchError if the edge does not start."""
    upstream = Upstream()
    async with contextlib.AsyncExitStack() as stack:
        origin = await stack.enter_async_context(serving(upstream.serve, limit=LIMIT))
        service = await stack.enter_async_context(serve(home / "data", upstream=f"http://127.0.0.1:{origin}"))
        tap = Tap(service.port)
        port = await stack.enter_async_context(serving(tap.serve, limit=LIMIT))
        if name != DIRECT:
            port = await stack.enter_async_context(edge(name, home, port))
        yield Route(port, tap, upstream)
