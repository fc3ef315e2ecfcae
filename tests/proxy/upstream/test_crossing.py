"""No answer reaches a request that it was not given to: whatever an upstream says beside its answers, and when."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from proxy.errors import UpstreamError
from proxy.upstream.driver import CurlClient
from proxy.upstream.exchange import Request
from tests.service import until
from tests.serving import serving

OK = b"HTTP/1.1 200 OK\r\n"
STRAY = OK + b"Content-Length: 5\r\n\r\nstray"

STRAYS = {
    "an answer": STRAY,
    "two answers": STRAY * 2,
    "a part of an answer": STRAY[:30],
    "the end of an answer": b"\r\n\r\nstray",
    "a byte": b"x",
    "a line break": b"\r\n",
    "a last chunk": b"0\r\n\r\n",
    "400 and close": b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbad",
    "408": b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
}

# How the right answer is framed, by the method that it is asked for with.
FRAMES = {
    "length": ("GET", OK + b"Content-Length: %d\r\n\r\n%b"),
    "chunks": ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"),
    "trailers": ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-A: b\r\n\r\n"),
    "no body": ("GET", OK + b"Content-Length: 0\r\nX-Of: %d %b\r\n\r\n"),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\nX-Of: %d %b\r\n\r\n"),
    "304": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nX-Of: %d %b\r\n\r\n"),
    "HEAD": ("HEAD", OK + b"Content-Length: 99\r\nX-Of: %d %b\r\n\r\n"),
    "HEAD, chunks": ("HEAD", OK + b"Transfer-Encoding: chunked\r\nX-Of: %d %b\r\n\r\n"),
}

ca = trustme.CA()


@pytest.fixture(autouse=True)
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


class Upstream:
    """Answers each request with its own number, framed as `frame` has it, and says what the test has it say beside."""

    def __init__(self, frame: bytes) -> None:
        self.frame = frame
        self.before = b""  # said as soon as a connection is there
        self.after = b""  # said in one piece with each answer
        self.next = b""  # said after each answer; with TLS, in a record of its own
        self.writers: list[asyncio.StreamWriter] = []  # of each request's connection

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.before)
        while head := await reader.readuntil(b"\r\n\r\n"):
            self.writers.append(writer)
            number = head.split()[1]
            writer.write(self.frame % (len(number), number) + self.after)
            if self.next:
                writer.write(self.next)


@asynccontextmanager
async def upstream(frame: bytes, *, tls: bool) -> AsyncIterator[tuple[Upstream, CurlClient]]:
    there, context = Upstream(frame), None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(context)
    async with serving(there.serve, context) as port:
        scheme = "https" if tls else "http"
        client = CurlClient.to(f"{scheme}://127.0.0.1:{port}", idle_timeout_s=10)
        try:
            async with asyncio.timeout(20):
                yield there, client
        finally:
            client.close()


async def ask(client: CurlClient, method: str, number: int) -> bytes:
    """The number in the answer to one request."""
    exchange = client.open(Request(method, f"/{number}", []))
    try:
        head = await exchange.head()
        body = b""
        while data := await exchange.read():
            body += data
        return (
            body
            or {line.lower: line.value for line in head.lines}.get("x-of", "").rpartition(" ")[2].encode()
        )
    finally:
        exchange.close()


both = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
each_frame = pytest.mark.parametrize("frame", FRAMES)
each_stray = pytest.mark.parametrize("stray", STRAYS)


@both
@each_stray
async def test_what_is_said_on_an_idle_connection_reaches_nobody(stray: str, tls: bool) -> None:
    async with upstream(FRAMES["length"][1], tls=tls) as (there, client):
        for n in range(4):
            assert await ask(client, "GET", n) == b"/%d" % n
            there.writers[-1].write(STRAYS[stray])  # the kernel has it before the next request begins
        assert len(set(there.writers)) == 4


@both
@each_frame
async def test_what_follows_an_answer_in_its_own_packet_reaches_nobody(frame: str, tls: bool) -> None:
    method, framed = FRAMES[frame]
    async with upstream(framed, tls=tls) as (there, client):
        for stray in STRAYS.values():
            there.after = stray
            for n in range(2):
                assert await ask(client, method, n) == b"/%d" % n


@both
@each_frame
async def test_what_comes_together_with_an_answer_reaches_nobody(frame: str, tls: bool) -> None:
    method, framed = FRAMES[frame]
    async with upstream(framed, tls=tls) as (there, client):
        for stray in STRAYS.values():
            there.next = stray
            for n in range(2):
                assert await ask(client, method, n) == b"/%d" % n


@both
@each_frame
async def test_what_follows_an_answer_in_the_next_packet_reaches_nobody(frame: str, tls: bool) -> None:
    method, framed = FRAMES[frame]
    async with upstream(framed, tls=tls) as (there, client):
        for stray in STRAYS.values():
            for n in range(2):
                assert await ask(client, method, n) == b"/%d" % n
                there.writers[-1].write(stray)


@both
async def test_without_anything_beside_a_connection_is_kept(tls: bool) -> None:
    for method, framed in FRAMES.values():
        async with upstream(framed, tls=tls) as (there, client):
            for n in range(4):
                assert await ask(client, method, n) == b"/%d" % n
            assert len(set(there.writers)) == 1


@both
@each_stray
async def test_what_is_said_on_a_new_connection_reaches_only_the_request_that_opened_it(
    stray: str, tls: bool
) -> None:
    """It travels while the request does, so HTTP/1.1 cannot tell it from the answer; what follows it is shut out."""
    async with upstream(FRAMES["length"][1], tls=tls) as (there, client):
        there.before = STRAYS[stray]
        for n in range(4):
            said = len(there.writers)
            with contextlib.suppress(UpstreamError):
                assert await ask(client, "GET", n) in (b"/%d" % n, b"stray", b"bad", b"")
                await until(lambda said=said: len(there.writers) > said)


@both
async def test_strays_among_many_at_once_cross_nothing(tls: bool) -> None:
    async with upstream(FRAMES["length"][1], tls=tls) as (there, client):
        for turn in range(5):
            asked = range(turn * 40, turn * 40 + 40)
            assert await asyncio.gather(*[ask(client, "GET", n) for n in asked]) == [
                b"/%d" % n for n in asked
            ]
            for writer in set(there.writers[-20:]):
                writer.write(STRAY)
