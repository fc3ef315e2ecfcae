"""Both ends of an exchange in raw bytes: an upstream that records and recites, a client that hides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from tests.serving import serving

LIMIT = 1 << 20
ANSWER_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer as it was on the wire; the body is without its framing."""

    start: bytes
    lines: tuple[bytes, ...]
    body: bytes = b""

    @property
    def status(self) -> int:
        """An answer's."""
        return int(self.start.split(b" ")[1])

    @property
    def reason(self) -> bytes:
        """An answer's; empty where there is none."""
        return b" ".join(self.start.split(b" ")[2:])

    def values(self, name: str) -> list[bytes]:
        """The values of one header in their order."""
        return self.fields().get(name, [])

    def fields(self) -> dict[str, list[bytes]]:
        """The values by name in lower case, without the whitespace around them (RFC 9112 §5.1)."""
        found: dict[str, list[bytes]] = {}
        for line in self.lines:
            name, colon, value = line.partition(b":")
            if not colon:
                raise ValueError(f"no header: {line!r}")
            found.setdefault(name.decode("ascii").lower(), []).append(value.strip(b" \t"))
        return found


@dataclass(frozen=True, slots=True)
class Script:
    """What the upstream says to a request, and whether it then closes the connection."""

    data: bytes
    closes: bool = False


class Echo:
    """The upstream: `requests` is what it got, `script` what it says, once it has said each of `first`."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.script = Script(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.first: list[Script] = []
        self.port = 0
        self._open: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        """Its origin."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until the script or the peer closes it."""
        self._open.append(writer)
        while True:
            start, lines = await read_head(reader)
            body = await read_body(reader, Message(start, lines), to_end=False)
            self.requests.append(Message(start, lines, body))
            script = self.first.pop(0) if self.first else self.script
            writer.write(script.data)
            await writer.drain()
            if script.closes:
                break

    def hang_up(self) -> None:
        """Close each connection."""
        for writer in self._open:
            writer.close()


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    """A running upstream on 127.0.0.1."""
    upstream = Echo()
    async with serving(upstream.serve, limit=LIMIT) as upstream.port:
        yield upstream


class Caller:
    """A client on 127.0.0.1:`port` that keeps its connection for as long as the server does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, *, bodiless: bool = False) -> Message:
        """Send `request` as it is; the answer, 1xx ones passed over. `bodiless`: it was a HEAD."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._ask(request, bodiless=bodiless)
        except BaseException:
            await self.close()
            raise

    async def _ask(self, request: bytes, *, bodiless: bool) -> Message:
        if self._connection is None:
            self._connection = await asyncio.open_connection("127.0.0.1", self.port, limit=LIMIT)
        reader, writer = self._connection
        writer.write(request)
        await writer.drain()
        head = Message(*await read_head(reader))
        while head.status < 200:
            head = Message(*await read_head(reader))
        bodiless = bodiless or head.status in (204, 304)
        body = b"" if bodiless else await read_body(reader, head, to_end=True)
        if b"close" in head.values("connection") or (not bodiless and not is_framed(head)):
            await self.close()
        return Message(head.start, head.lines, body)

    async def close(self) -> None:
        """Close the connection, where there is one."""
        if self._connection is not None:
            _, writer = self._connection
            self._connection = None
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def is_framed(head: Message) -> bool:
    """Whether the head says where the body ends."""
    return bool(head.values("transfer-encoding") or head.values("content-length"))


async def read_head(reader: asyncio.StreamReader) -> tuple[bytes, tuple[bytes, ...]]:
    """Start line and header lines. Raises IncompleteReadError at the end of the connection."""
    start, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    return start, tuple(lines)


async def read_body(reader: asyncio.StreamReader, head: Message, *, to_end: bool) -> bytes:
    """The body; without any framing it is all that comes (`to_end`), or none.

    Raises IncompleteReadError where it was cut.
    """
    if b"chunked" in [value.lower() for value in head.values("transfer-encoding")]:
        body = bytearray()
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += await reader.readexactly(size)
            if await reader.readexactly(2) != b"\r\n":
                raise ValueError("a chunk does not end where it says")
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass  # a trailer
        return bytes(body)
    if lengths := head.values("content-length"):
        return await reader.readexactly(int(lengths[0]))
    return await reader.read() if to_end else b""


def chunked(body: bytes, cuts: Iterable[int] = (), *, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """`body` in the chunked coding, cut at these places."""
    places = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(body)), len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(places) if a < b]
    coded = [b"%X%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces]
    return b"".join([*coded, b"0\r\n", trailers, b"\r\n"])
