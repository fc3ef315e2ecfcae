"""A client that writes raw bytes and reads an HTTP/1.1 answer as it arrives, hiding nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any


class Cut(Exception):
    """The answer ended before its end."""


@dataclass
class Answer:
    """One answer; `headers` keeps repeats and order, names as they came."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    _reader: asyncio.StreamReader = field(repr=False)
    _writer: asyncio.StreamWriter = field(repr=False)
    bodiless: bool = False
    body: bytes = b""

    def header(self, name: str) -> str | None:
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        return ", ".join(values) if values else None

    def json(self) -> Any:
        return json.loads(self.body)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, without its framing. Raises Cut."""
        length = self.header("content-length")
        if self.bodiless or self.status in (204, 304):
            return
        try:
            if self.header("transfer-encoding") == "chunked":
                while size := int(await self._reader.readuntil(b"\r\n"), 16):
                    yield await self._reader.readexactly(size)
                    await self._reader.readexactly(2)
                await self._reader.readexactly(2)
            elif length is not None:
                left = int(length)
                while left:
                    data = await self._reader.read(min(left, 65536))
                    if not data:
                        raise Cut(f"{left} bytes are missing")
                    left -= len(data)
                    yield data
            else:
                while data := await self._reader.read(65536):
                    yield data
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Cut(str(error)) from error

    async def read(self) -> bytes:
        """The rest of the body. Raises Cut; what came before it is in `body`."""
        async for chunk in self.chunks():
            self.body += chunk
        return self.body

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events, each with its blank line. Raises Cut."""
        rest = b""
        async for chunk in self.chunks():
            rest += chunk
            while b"\n\n" in rest:
                event, rest = rest.split(b"\n\n", 1)
                yield event + b"\n\n"


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, head: bool = False) -> Answer:
        """The next answer's head; 1xx ones are passed over. Raises Cut."""
        try:
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Cut(f"no head: {error}") from error
        _, status, reason = (*lines[0].split(" ", 2), "")[:3]
        if status.startswith("1"):
            return await self.answer(head=head)
        pairs = [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines[1:] if line)]
        return Answer(int(status), reason, pairs, self.reader, self.writer, bodiless=head)

    async def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> Answer:
        """Send one request and read its answer's head."""
        await self.send(request_bytes(method, target, headers, body))
        return await self.answer(head=method == "HEAD")

    def reset(self) -> None:
        """Close without waiting for anything."""
        self.writer.transport.abort()


def request_bytes(
    method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
) -> bytes:
    """A request as it goes on the wire; Host and Content-Length are added where they are missing."""
    lines = list(headers)
    names = {name.lower() for name, _ in lines}
    if "host" not in names:
        lines.insert(0, ("Host", "127.0.0.1"))
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(("Content-Length", str(len(body))))
    head = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in lines), "", ""]
    return "\r\n".join(head).encode("latin-1") + (body or b"")


@contextlib.asynccontextmanager
async def connect(port: int, *, limit: int = 1 << 20) -> AsyncIterator[Wire]:
    """A connection to 127.0.0.1:`port`, closed at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def fetch(
    port: int, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
) -> Answer:
    """One request on a connection of its own; the answer is read whole."""
    async with connect(port) as wire:
        answer = await wire.request(method, target, headers, body)
        await answer.read()
        return answer
