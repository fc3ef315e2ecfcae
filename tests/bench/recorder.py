"""Both ends of `same_wire` in raw bytes: an upstream that records and answers from a seed, and a client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.bench.cases import NO_BODY, Case, script
from tests.echo import Message, read_body, read_head
from tests.serving import serving

LIMIT = 1 << 20
PAUSE_S = 0.002
QUIET_S = 0.02
"""So long without a request, and what follows from an answer (a key that is confirmed) has been asked."""
SILENCE_S = 1.5
"""A client hears nothing for so long: there is no answer."""
SETTLE_WITHIN_S = 10.0
SENTINEL = b"HEAD /api/hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Recorder:
    """The upstream of one proxy; `requests` is what it got since `begin`, as it came."""

    def __init__(self, now: float) -> None:
        self.requests: list[bytes] = []
        self.port = 0
        self._now = now
        self._seed: str | None = None
        self._seen: Counter[str] = Counter()
        self._tokens = 0
        self._busy = 0
        self._last = 0.0

    def begin(self, seed: str | None) -> None:
        """Answer from that seed from now on; None: 200 to everything."""
        self.requests = []
        self._seed = seed
        self._seen.clear()

    async def settled(self) -> None:
        """Return when nothing has been asked for a while."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLE_WITHIN_S
        self._last = loop.time()
        while (self._busy or loop.time() < self._last + QUIET_S) and loop.time() < until:  # noqa: ASYNC110 - no event tells of silence
            await asyncio.sleep(QUIET_S / 4)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(ValueError):
            while await self._answer(reader, writer):
                pass

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = Message(*await read_head(reader))
        self._busy += 1
        try:
            if b"100-continue" in head.values("expect"):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await read_body(reader, head, to_end=False)
            self.requests.append(b"\r\n".join([head.start, *head.lines, b"", body]))
            self._last = asyncio.get_running_loop().time()
            return await self._say(head, body, writer)
        finally:
            self._busy -= 1

    async def _say(self, head: Message, body: bytes, writer: asyncio.StreamWriter) -> bool:
        method, target = head.start.decode("latin-1").split(" ")[:2]
        if target == "/token":
            writer.write(_whole(self._new_tokens(json.loads(body))))
            return True
        if self._seed is None:
            whole = _whole({"data": [], "has_more": False})
            writer.write(whole.partition(b"{")[0] if method == "HEAD" else whole)
            return b"close" not in head.values("connection")
        credential = (head.values("x-api-key") + head.values("authorization"))[0].decode("latin-1")
        asked = f"{self._seed} {method} {target} {credential}"
        self._seen[asked] += 1
        said = script(f"{asked} {self._seen[asked]}", method=method, target=target, now=self._now)
        for number, part in enumerate(said.parts):
            if number:
                await asyncio.sleep(PAUSE_S)
            writer.write(part)
        if said.resets:
            writer.transport.abort()
        return not said.closes

    def _new_tokens(self, asked: dict[str, str]) -> dict[str, object]:
        """Tokens that name the grant they came from, so that both versions are given the same."""
        self._tokens += 1
        return {
            "access_token": f"sk-ant-oat01-{asked['grant_type']}-{self._tokens}-{'x' * 30}",
            "refresh_token": f"sk-ant-ort01-{self._tokens}-{'x' * 30}",
            "expires_in": 28_800,
            "organization": {"uuid": "0b9c3f52-6d1e-4a5e-9c57-2f8a4f0f7a11", "name": "org"},
            "account": {"uuid": "0b9c3f52-6d1e-4a5e-9c57-2f8a4f0f7a12", "email_address": "a@example.com"},
        }


def _whole(answer: dict[str, object]) -> bytes:
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


@contextlib.asynccontextmanager
async def recording(now: float) -> AsyncIterator[Recorder]:
    """A recorder that serves on 127.0.0.1."""
    recorder = Recorder(now)
    async with serving(recorder.serve, limit=LIMIT) as recorder.port:
        yield recorder


@dataclass
class Heard:
    """One answer: the head as it came, the body without its framing, and how it ended."""

    head: bytes = b""
    body: bytes = b""
    end: str = "whole"


@dataclass
class Talk:
    """What a client heard on one connection, and what became of the connection."""

    answers: list[Heard] = field(default_factory=list)
    afterwards: str = ""


class Line:
    """A client's connection. A reset loses nothing that came before it, and a send that fails stops no reading."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._pump = self._loop.create_task(self._read())
        self.reader = asyncio.StreamReader(LIMIT)
        self.was_reset = False

    async def send(self, data: bytes, *, ends: bool) -> None:
        """Send `data`, then say that no more comes if it `ends`."""
        with contextlib.suppress(OSError):
            await self._loop.sock_sendall(self._socket, data)
            if ends:
                self._socket.shutdown(socket.SHUT_WR)

    async def _read(self) -> None:
        try:
            while data := await self._loop.sock_recv(self._socket, 65536):
                self.reader.feed_data(data)
        except OSError:
            self.was_reset = True
        self.reader.feed_eof()

    async def close(self) -> None:
        """Close it, whatever has not come."""
        self._pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump
        self._socket.close()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Line]:
    """A connection to 127.0.0.1:`port`."""
    line_socket = socket.socket()
    line_socket.setblocking(False)
    await asyncio.get_running_loop().sock_connect(line_socket, ("127.0.0.1", port))
    line = Line(line_socket)
    try:
        yield line
    finally:
        await line.close()


async def talk(port: int, case: Case, data: bytes) -> Talk:
    """Send `data` and hear the answers, then see whether the connection still serves."""
    heard = Talk()
    async with connected(port) as line, asyncio.TaskGroup() as sending:
        task = sending.create_task(line.send(data, ends=case.ends))
        for method in case.methods:
            answer = await _hear(line.reader, method)
            while answer.head[9:10] == b"1" and answer.end == "whole":
                heard.answers.append(answer)
                answer = await _hear(line.reader, method)
            heard.answers.append(answer)
            if answer.end != "whole":
                break
        else:
            heard.afterwards = await _afterwards(line, ends=case.ends)
        if line.was_reset:
            heard.afterwards += " reset"
        task.cancel()
    return heard


async def _afterwards(line: Line, *, ends: bool) -> str:
    """What a further request gets: the first line of its answer, and how the connection ends."""
    if not ends:
        await line.send(SENTINEL, ends=False)
    last = await _hear(line.reader, "HEAD")
    if not last.head:
        line.was_reset = False  # by our own late request
        return last.end
    return f"{last.head.partition(b' ')[2][:3].decode()} {(await _hear(line.reader, 'HEAD')).end}"


async def _hear(reader: asyncio.StreamReader, method: str) -> Heard:
    """The next answer. Its end is `whole`, `closed` before it began, `cut`, `until close` or `silent`."""
    heard = Heard()
    try:
        heard.head = await _soon(reader.readuntil(b"\r\n\r\n"))
        start, *lines = heard.head[:-4].split(b"\r\n")
        status, fields = int(start.split(b" ")[1]), Message(start, tuple(lines)).fields()
        if method == "HEAD" or status in NO_BODY or status < 200:
            return heard
        if fields.get("transfer-encoding") == [b"chunked"]:
            while size := int(await _soon(reader.readuntil(b"\r\n")), 16):
                heard.body += await _soon(reader.readexactly(size))
                await _soon(reader.readexactly(2))
            heard.body += (await _soon(reader.readuntil(b"\r\n")))[:-2]
        elif lengths := fields.get("content-length"):
            left = int(lengths[0])
            while left and (data := await _soon(reader.read(left))):
                heard.body += data
                left -= len(data)
            heard.end = "cut" if left else "whole"
        else:
            while data := await _soon(reader.read(65536)):
                heard.body += data
            heard.end = "until close"
    except asyncio.IncompleteReadError as error:
        heard.body += error.partial
        heard.end = "cut" if heard.head or heard.body else "closed"
    except ConnectionError:
        heard.end = "cut" if heard.head else "closed"
    except TimeoutError:
        heard.end = "silent"
    return heard


async def _soon(what: object) -> bytes:
    async with asyncio.timeout(SILENCE_S):
        return await what  # type: ignore[no-any-return, misc]
