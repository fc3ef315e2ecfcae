"""What is read of a client, compared with Tornado's own parser: the same requests, and more only where it is listed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tornado.http1connection import HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream

from handlers.connection import Connection
from handlers.places import Places
from tests.delegate import Recorder

Read = list[tuple[tuple[str, ...], dict[str, list[str]], bytes]]

# What is taken here and refused by Tornado. Nothing else may be.
TAKEN_HERE_ONLY = {
    "a chunk extension": re.compile(rb"\r\n[0-9A-Fa-f]+;[!-~]"),
    "a trailer": re.compile(rb"\r\n0+(;[^\r\n]*)?\r\n[!-~]+:"),
    "a chunk size of more than 64 characters": re.compile(rb"\r\n0{62,}"),
}


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as near:
        near.connect(listener.getsockname())
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far, _ = listener.accept()
        with far:
            near.setblocking(False)
            yield near, far


def read_by(front: Recorder) -> Read:
    """The requests that were read to their end."""
    found = []
    for seen in front.requests:
        if seen.finished:
            headers = HTTPHeaders(seen.headers or {})
            found.append((seen.start_line, {n: headers.get_list(n) for n in headers}, seen.body))
    return found


async def turns() -> None:
    for _ in range(80):
        await asyncio.sleep(0)


async def read_here(pieces: list[bytes]) -> Read:
    front = Recorder()
    with pair() as (near, far):
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(
            lambda: Connection(front, Places(1), lambda connection: None), far
        )
        for piece in pieces:
            with contextlib.suppress(ConnectionError):
                near.send(piece)
            await turns()
        transport.abort()
        await turns()
    return read_by(front)


async def read_by_tornado(data: bytes) -> Read:
    front = Recorder()
    with pair() as (near, far):
        connection = HTTP1ServerConnection(IOStream(far), HTTP1ConnectionParameters())
        connection.start_serving(front)
        near.send(data)
        await turns()
        await connection.close()
    return read_by(front)


def odd(*usual: str, also: str = "") -> st.SearchStrategy[str]:
    """One of `usual` mostly, else one of the words of `also`."""
    return st.one_of(
        st.sampled_from(usual), st.sampled_from(usual), st.sampled_from([*usual, *also.split("|")])
    )


END = odd("\r\n", "\r\n", "\r\n", also="\n|\r|\r\r\n|\r\n |\n\r\n")
NAMES = odd(
    "Host", "Content-Length", "Transfer-Encoding", "Connection", "X",
    also="content-length|HOST|transfer-encoding|Content-Length |Transfer-Encoding\t| X||X\xe9|X\0"
    "|Content_Length|Expect|Upgrade",
)  # fmt: skip
VALUES = odd(
    "a", "0", "4", "chunked", "close", "keep-alive",
    also="|5|04|4, 4|4,5|+4|-4|0x4|4 4|\xb2|9999999999999999999|gzip, chunked|chunked, chunked|Chunked|identity|a, b"
    "|a/b|[::1]:80|a:b|100-continue|Upgrade|h2c|\t4 |a\0b|a\x0bb|caf\xe9",
)  # fmt: skip
METHODS = odd("GET", "POST", also="HEAD|CONNECT|get|M-SEARCH|PRI|G(T||POST ")
TARGETS = odd("/a", "/b?c", also="*|http://a/b|a:443|/\xe9|/a b|/\x7f|\t||//")
VERSIONS = odd(
    "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", also="HTTP/0.9|HTTP/2.0|HTTP/1.2|http/1.1||HTTP/1.1 |HTTP/11"
)
BODIES = odd(
    "", "body", "4\r\nbody\r\n0\r\n\r\n", "2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
    also="4\nbody\n0\n\n|4;a=b\r\nbody\r\n0\r\n\r\n|4\r\nbody\r\n0\r\nX: y\r\n\r\n|4 \r\nbody\r\n0\r\n\r\n"
    "|0x4\r\nbody\r\n0\r\n\r\n"
    "|4\r\nbodyX0\r\n\r\n|0\r\n\r\n|0\r\nX\r\n\r\n|-4\r\nbody|ffffffffffffffff\r\n|4\r\n\r\n\r\n\r\n0\r\n\r\n|0\r\n|bodybody"
    "|00000004\r\nbody\r\n000\r\n\r\n|\r\n|4\r\nbody\r\n0\r\nContent-Length: 4\r\n\r\n|4\r\nbody\r\n0\n\n",
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that may be a little wrong anywhere."""
    start = f"{draw(METHODS)} {draw(TARGETS)} {draw(VERSIONS)}{draw(END)}"
    lines = [("Host", "a")] if draw(st.booleans()) else []
    lines += draw(st.lists(st.tuples(NAMES, VALUES), max_size=3))
    head = "".join(f"{name}: {value}{draw(END)}" for name, value in lines)
    return (start + head + draw(END) + draw(BODIES)).encode("latin-1")


@st.composite
def usual(draw: st.DrawFn) -> bytes:
    """A request with one way to read it."""
    body = draw(st.binary(max_size=40))
    target = draw(st.sampled_from(["/a", "/b?c=d", "/\xe9"]))
    lines = "".join(
        f"X-{n}: {v}\r\n"
        for n, v in draw(st.lists(st.tuples(st.sampled_from("abA"), st.sampled_from("xyz"))))
    )
    if draw(st.booleans()):
        framing, content = f"Content-Length: {len(body)}", body
    else:
        parts = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4))
        framing = "Transfer-Encoding: chunked"
        content = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return f"POST {target} HTTP/1.1\r\nHost: a\r\n{lines}{framing}\r\n\r\n".encode("latin-1") + content


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    logging.getLogger("tornado").setLevel(logging.CRITICAL)
    with asyncio.Runner() as runner:
        yield runner
    logging.getLogger("tornado").setLevel(logging.NOTSET)


def compare(ours: Read, tornado: Read, data: bytes) -> None:
    both = min(len(ours), len(tornado))
    assert ours[:both] == tornado[:both]
    if len(ours) > both:
        assert any(pattern.search(data) for pattern in TAKEN_HERE_ONLY.values())


@settings(max_examples=300, deadline=None)
@given(data=st.lists(requests(), min_size=1, max_size=3).map(b"".join))
@example(
    data=b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nbody\r\n0\r\nX: y\r\n\r\n"
)
@example(
    data=b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nbody"
)
def test_what_is_read_of_odd_requests_is_what_tornado_reads(runner: asyncio.Runner, data: bytes) -> None:
    compare(runner.run(read_here([data])), runner.run(read_by_tornado(data)), data)


@settings(max_examples=150, deadline=None)
@given(sent=st.lists(usual(), min_size=1, max_size=3), cuts=st.lists(st.integers(0, 400), max_size=4))
def test_usual_requests_are_read_whole_however_they_come(
    runner: asyncio.Runner, sent: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(sent)
    ends = [0, *sorted(cuts), len(data)]
    ours = runner.run(read_here([data[a:b] for a, b in pairwise(ends) if data[a:b]]))
    assert len(ours) == len(sent)
    assert ours == runner.run(read_by_tornado(data))
