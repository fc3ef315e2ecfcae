"""The client's connection: what it takes for a request and what it refuses, when it waits, and how it ends.

Long: tables of requests, and one test for each table.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import logging
import random
import resource
import socket
import struct
from collections.abc import Callable

import pytest
from tornado.httputil import HTTPHeaders, HTTPOutputError, ResponseStartLine
from tornado.iostream import StreamClosedError
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

import handlers.client_socket
import handlers.connection
import handlers.framing
import handlers.server
from handlers.client_socket import HIGH_WATER, LOW_WATER
from handlers.framing import MAX_HEAD_BYTES, MOST_HEADERS, TORNADO_PRIVATES, RequestHeaders
from handlers.server import Listener
from tests.delegate import Recorder, Seen, listening, nothing
from tests.service import until
from tests.wire import Answer, Wire, connect

OK = ResponseStartLine("HTTP/1.1", 200, "OK")
SENTINEL = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def get(target: str = "/a", *lines: str, version: str = "1.1") -> bytes:
    host = ["Host: a"] if version == "1.1" else []
    return "\r\n".join([f"GET {target} HTTP/{version}", *host, *lines, "", ""]).encode("latin-1")


def post(body: bytes, *lines: str) -> bytes:
    return "\r\n".join(["POST /a HTTP/1.1", "Host: a", *lines, "", ""]).encode("latin-1") + body


CHUNKED = "Transfer-Encoding: chunked"


async def whole(wire: Wire) -> Answer:
    async with asyncio.timeout(5):
        answer = await wire.answer()
        await answer.read()
        return answer


def fin(wire: Wire) -> None:
    wire.writer.write_eof()


async def rest(wire: Wire) -> bytes:
    async with asyncio.timeout(5):
        return await wire.reader.read()


def check_refusal(answer: Answer, status: int) -> None:
    shown = answer.json()
    assert (answer.status, shown["type"]) == (status, "error")
    assert shown["error"]["type"] and shown["error"]["message"]
    assert answer.header("request-id") == shown["request_id"]
    assert (answer.header("connection"), answer.header("content-type")) == ("close", "application/json")


async def send(wire: Wire, data: bytes, *, by_byte: bool) -> None:
    """Send at once, or so that each byte is read alone."""
    if not by_byte:
        return await wire.send(data)
    for byte in data:
        await wire.send(bytes([byte]))
        for _ in range(3):
            await asyncio.sleep(0)


# --- what is a request ------------------------------------------------------------------------------------

TAKEN: dict[str, tuple[bytes, tuple[str, str, str], bytes]] = {
    "plain": (get(), ("GET", "/a", "HTTP/1.1"), b""),
    "no header lines": (b"GET / HTTP/1.0\r\n\r\n", ("GET", "/", "HTTP/1.0"), b""),
    "empty lines before it": (b"\r\n\r\n" + get(), ("GET", "/a", "HTTP/1.1"), b""),
    "any method": (b"x-Y! /a HTTP/1.1\r\nHost: a\r\n\r\n", ("x-Y!", "/a", "HTTP/1.1"), b""),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", ("CONNECT", "a:443", "HTTP/1.1"), b""),
    "a target of any bytes": (get("/caf\xe9?\xff[]|\"'<>"), ("GET", "/caf\xe9?\xff[]|\"'<>", "HTTP/1.1"), b""),
    "absolute form": (get("http://b/a"), ("GET", "http://b/a", "HTTP/1.1"), b""),
    "a length": (post(b"body", "Content-Length: 4"), ("POST", "/a", "HTTP/1.1"), b"body"),
    "a length with spaces": (post(b"body", "Content-Length:\t 4 \t"), ("POST", "/a", "HTTP/1.1"), b"body"),
    "no body": (post(b"", "Content-Length: 0"), ("POST", "/a", "HTTP/1.1"), b""),
    "a length with zeros": (post(b"body", "Content-Length: 0004"), ("POST", "/a", "HTTP/1.1"), b"body"),
    "a body on GET": (get("/a", "Content-Length: 2") + b"ok", ("GET", "/a", "HTTP/1.1"), b"ok"),
    "a body like a request": (
        post(SENTINEL, f"Content-Length: {len(SENTINEL)}"), ("POST", "/a", "HTTP/1.1"), SENTINEL,
    ),
    "chunks": (post(b"4\r\nbody\r\n0\r\n\r\n", CHUNKED), ("POST", "/a", "HTTP/1.1"), b"body"),
    "chunks, any case": (post(b"0\r\n\r\n", "transfer-encoding: CHUNKED"), ("POST", "/a", "HTTP/1.1"), b""),
    "chunks of blank lines": (
        post(b"8\r\n\r\n\r\n\r\n\r\n\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n", CHUNKED),
        ("POST", "/a", "HTTP/1.1"), b"\r\n" * 6,
    ),
    "a chunk like an end": (
        post(b"7\r\n0\r\n\r\nab\r\n0\r\n\r\n", CHUNKED), ("POST", "/a", "HTTP/1.1"), b"0\r\n\r\nab",
    ),
    "chunk sizes in hex": (
        post(b"A\r\n0123456789\r\n00a\r\n0123456789\r\n0\r\n\r\n", CHUNKED),
        ("POST", "/a", "HTTP/1.1"), b"0123456789" * 2,
    ),
    "chunk extensions": (
        post(b'4;a;b=c;d="e;f"\r\nbody\r\n0;z\r\n\r\n', CHUNKED), ("POST", "/a", "HTTP/1.1"), b"body",
    ),
    "trailers": (
        post(b"4\r\nbody\r\n0\r\nX: y\r\nHost: b\r\nExpect: 100-continue\r\n\r\n", CHUNKED),
        ("POST", "/a", "HTTP/1.1"), b"body",
    ),
    "h2c, which is not offered": (
        post(b"body", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "Content-Length: 4"),
        ("POST", "/a", "HTTP/1.1"), b"body",
    ),
    "an upgrade with chunks": (
        post(b"4\r\nbody\r\n0\r\n\r\n", "Connection: Upgrade", "Upgrade: x", CHUNKED),
        ("POST", "/a", "HTTP/1.1"), b"body",
    ),
    "CONNECT with a body": (
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        ("CONNECT", "a:1", "HTTP/1.1"), b"body",
    ),
}  # fmt: skip


@pytest.mark.parametrize("by_byte", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("name", TAKEN)
async def test_a_request_is_read_and_what_follows_it_is_the_next(name: str, by_byte: bool) -> None:
    data, start_line, body = TAKEN[name]
    front = Recorder()
    async with listening(front) as port, connect(port) as wire:
        await send(wire, data + (SENTINEL if b"HTTP/1.1" in data else b""), by_byte=by_byte)
        await whole(wire)
        seen = front.requests[0]
        assert (seen.start_line, seen.body, seen.finished) == (start_line, body, True)
        assert len({name for name, _ in seen.lines if name in ("X", "Expect")}) == 0
        if b"HTTP/1.1" in data:
            assert (await whole(wire)).body == b"/next"
            assert front.targets[1:] == ["/next"]


HOST = "Host: a\r\n"
REFUSED = {
    "HTTP/0.9": "GET /\r\n",
    "HTTP/0.9 by name": "GET / HTTP/0.9\r\n\r\n",
    "HTTP/1.2": f"GET / HTTP/1.2\r\n{HOST}\r\n",
    "HTTP/2.0": f"GET / HTTP/2.0\r\n{HOST}\r\n",
    "HTTP/2's preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another protocol": f"GET / ICE/1.0\r\n{HOST}\r\n",
    "lower case": f"GET / http/1.1\r\n{HOST}\r\n",
    "no target": f"GET HTTP/1.1\r\n{HOST}\r\n",
    "two spaces": f"GET  / HTTP/1.1\r\n{HOST}\r\n",
    "a tab": f"GET\t/ HTTP/1.1\r\n{HOST}\r\n",
    "a space before it": f" GET / HTTP/1.1\r\n{HOST}\r\n",
    "a space after it": f"GET / HTTP/1.1 \r\n{HOST}\r\n",
    "a space in the target": f"GET /a b HTTP/1.1\r\n{HOST}\r\n",
    "a control in the target": f"GET /a\x01 HTTP/1.1\r\n{HOST}\r\n",
    "NUL in the target": f"GET /a\0 HTTP/1.1\r\n{HOST}\r\n",
    "CR in the target": f"GET /a\r HTTP/1.1\r\n{HOST}\r\n",
    "a separator in the method": f"G(T / HTTP/1.1\r\n{HOST}\r\n",
    "bare LF": "GET / HTTP/1.1\nHost: a\n\n",
    "bare LF in the head": "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare LF at the end": "GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR": "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "CR CR LF": "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
    "a folded line": "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "a folded line, by tab": "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n",
    "a space before the first name": "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a space before the colon": "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "no colon": "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "a port of 5,000 digits": f"GET / HTTP/1.1\r\nHost: a:{'1' * 5000}\r\n\r\n",
    "no name": "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "a name beyond ASCII": "GET / HTTP/1.1\r\nHost: a\r\nX\xe9: b\r\n\r\n",
    "NUL in a name": "GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n",
    "NUL in a value": "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "a control in a value": "GET / HTTP/1.1\r\nHost: a\r\nX: a\x1bb\r\n\r\n",
    "DEL in a value": "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7f\r\n\r\n",
    "no Host": "GET / HTTP/1.1\r\nX: a\r\n\r\n",
    "two Hosts": "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
    "the same Host twice": "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "two Hosts in HTTP/1.0": "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "Hosts in a list": "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "a path in Host": "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a user in Host": "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "a space in Host": "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "chunks in HTTP/1.0": f"POST / HTTP/1.0\r\n{CHUNKED}\r\n\r\n0\r\n\r\n",
    **{
        f"{line} {number}": f"POST / HTTP/1.1\r\n{HOST}{line}\r\n\r\n"
        for number, line in enumerate(
            [
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: chunked\r\nContent-Length: 0",
                "Content-Length: 5\r\nContent-Length: 6",
                "Content-Length: 5\r\nContent-Length: 5",
                "Content-Length: 5, 5",
                "Content-Length: +5",
                "Content-Length: -5",
                "Content-Length: 0x5",
                "Content-Length: 5_0",
                "Content-Length: 5.0",
                "Content-Length: 5 5",
                "Content-Length: \xb2",
                "Content-Length:",
                "Content-Length: 9999999999999999999",
                "Content-Length: 18446744073709551616",
                "Transfer-Encoding: gzip, chunked",
                "Transfer-Encoding: chunked, gzip",
                "Transfer-Encoding: chunked, chunked",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: identity",
                "Transfer-Encoding: xchunked",
                "Transfer-Encoding: ,chunked",
                "Transfer-Encoding: chunked;a=b",
                "Transfer-Encoding: \x0bchunked",
                "Transfer-Encoding:",
            ]
        )
    },
}


@pytest.mark.parametrize("by_byte", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("name", REFUSED)
async def test_a_head_that_is_none_is_refused_and_nothing_after_it_is_read(name: str, by_byte: bool) -> None:
    front = Recorder()
    async with listening(front) as port, connect(port) as wire:
        await send(wire, REFUSED[name].encode("latin-1") + b"0\r\n\r\n" + SENTINEL, by_byte=by_byte)
        check_refusal(await whole(wire), 400)
        assert await rest(wire) == b""
        assert front.requests == []


BAD_BODIES = [
    "zz\r\n", "-1\r\n", "+1\r\n", "0x1\r\n", " 1\r\n", "1 \r\n", "\r\n", ";a\r\n", "1\n", "1\r\nxx\r\n",
    "1\r\nx\n1\r\n", "1\r\nx0\r\n\r\n", "10000000000000000\r\n", "0\r\n\n", "0\n\r\n", "0\r\nX\r\n\r\n",
    "0\r\n X: a\r\n\r\n", "0\r\nX : a\r\n\r\n", "0\r\nX: a\n\r\n", "0\r\nContent-Length: 1\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n", "1;a=\0\r\nx\r\n", "1;a\n\r\nx\r\n", "1;a\rb\r\nx\r\n",
]  # fmt: skip


@pytest.mark.parametrize("by_byte", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("coded", BAD_BODIES)
async def test_malformed_chunks_end_the_connection(coded: str, by_byte: bool) -> None:
    front = Recorder()
    async with listening(front) as port, connect(port) as wire:
        await send(wire, post(coded.encode("latin-1"), CHUNKED) + SENTINEL, by_byte=by_byte)
        check_refusal(await whole(wire), 400)
        assert await rest(wire) == b""
        (seen,) = front.requests
        assert (seen.finished, seen.closed) == (False, True)


async def test_a_body_of_tiny_chunks_is_read_in_turns_with_others() -> None:
    front, pieces = Recorder(), list[int]()
    front.on_data = lambda seen: pieces.append(len(seen.body))
    data = random.Random(1).randbytes(200_000)
    chunks = b"".join(b"1\r\n%b\r\n" % data[at : at + 1] for at in range(len(data)))
    async with listening(front) as port, connect(port) as wire:
        await wire.send(post(chunks + b"0\r\n\r\n", CHUNKED) + SENTINEL)
        assert [(await whole(wire)).status for _ in range(2)] == [200, 200]
        assert (front.requests[0].body, front.targets) == (data, ["/a", "/next"])
        assert max(now - before for before, now in itertools.pairwise([0, *pieces])) < 8000


async def test_an_answer_that_has_begun_is_not_followed_by_a_refusal() -> None:
    front = Recorder()

    def answer_early(seen: Seen) -> None:
        seen.connection.write_headers(OK, HTTPHeaders({"Content-Length": "2"}), b"ok")

    front.on_head = answer_early
    async with listening(front) as port, connect(port) as wire:
        await wire.send(post(b"zz\r\n", CHUNKED))
        assert (await whole(wire)).body == b"ok"
        assert await rest(wire) == b""


@pytest.mark.parametrize(
    "data",
    [
        get("/a", "X : a"),
        get("/a", "X: " + "a" * MAX_HEAD_BYTES),
        b"GET /" + b"a" * MAX_HEAD_BYTES,
        get("/a", CHUNKED) + b"zz\r\n",
        get("/a", f"Content-Length: {1024 * 1024 + 1}"),
    ],
    ids=["line", "large", "target", "chunk", "length"],
)
async def test_a_refusal_of_a_head_has_no_body(data: bytes) -> None:
    async with listening(Recorder()) as port, connect(port) as wire:
        await wire.send(data.replace(b"GET", b"HEAD", 1))
        answer = await wire.answer(head=True)
        assert 400 <= answer.status < 500 and answer.header("connection") == "close"
        assert int(answer.header("content-length") or 0) > 0  # as of a GET: RFC 9110 §9.3.2
        assert await rest(wire) == b""


# --- limits and deadlines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get("/" + "a" * MAX_HEAD_BYTES), 414),
        (b"GET /" + b"a" * MAX_HEAD_BYTES, 414),
        (get("/a", "X: " + "a" * MAX_HEAD_BYTES), 431),
        (get("/a", *["X: a"] * (MAX_HEAD_BYTES // 6)), 431),
        (get("/a")[:-2] + b"X: " + b"a" * MAX_HEAD_BYTES, 431),
        (post(b"", f"Content-Length: {1024 * 1024 + 1}"), 413),
        (post(b"%x\r\n" % (1024 * 1024 + 1) + b"a" * (1024 * 1024 + 1) + b"\r\n0\r\n\r\n", CHUNKED), 413),
        (post(b"1;" + b"a" * MAX_HEAD_BYTES, CHUNKED), 400),
        (post(b"0\r\n" + b"X: a\r\n" * MAX_HEAD_BYTES, CHUNKED), 400),
    ],
    ids=["target", "endless target", "line", "lines", "endless", "length", "chunks", "extension", "trailers"],
)
async def test_what_is_too_large_is_refused(data: bytes, status: int) -> None:
    front = Recorder()
    async with listening(front) as port, connect(port) as wire:
        await wire.send(data)
        check_refusal(await whole(wire), status)
        assert await rest(wire) == b""
        assert not any(seen.finished for seen in front.requests)


@pytest.mark.parametrize("by_byte", [False, True], ids=["whole", "byte by byte"])
async def test_a_head_has_a_hundred_lines_at_most(by_byte: bool) -> None:
    front = Recorder()
    async with listening(front) as port, connect(port) as wire:
        await send(wire, get("/a", *["X: a"] * (MOST_HEADERS - 1)), by_byte=by_byte)
        assert (await whole(wire)).status == 200
        await send(wire, get("/a", *["X: a"] * MOST_HEADERS), by_byte=by_byte)
        check_refusal(await whole(wire), 431)
        assert await rest(wire) == b"" and len(front.requests) == 1


async def test_a_head_of_just_the_limit_is_taken() -> None:
    front = Recorder()
    async with listening(front) as port, connect(port) as wire:
        data = get("/a", "X: ")
        await wire.send(data[:-4] + b"a" * (MAX_HEAD_BYTES - len(data)) + data[-4:])
        assert (await whole(wire)).status == 200


async def test_a_delegate_sets_the_limit_of_a_body() -> None:
    front = Recorder()
    front.on_head = lambda seen: seen.connection.set_max_body_size(4)
    async with listening(front) as port, connect(port) as wire:
        await wire.send(post(b"body", "Content-Length: 4"))
        assert (await whole(wire)).status == 200
        await wire.send(post(b"3\r\nbod\r\n2\r\ny!\r\n0\r\n\r\n", CHUNKED))
        check_refusal(await whole(wire), 413)


async def test_a_slow_head_and_a_slow_body_get_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.connection, "HEAD_S", 0.05)
    monkeypatch.setattr(handlers.framing, "BODY_S", 0.05)
    monkeypatch.setattr(handlers.server, "SWEEP_S", 0.01)
    front = Recorder()
    async with listening(front) as port:
        for data in (b"G", get()[:-1], post(b"bod", "Content-Length: 4"), post(b"1\r\nx\r\n", CHUNKED)):
            async with connect(port) as wire:
                await wire.send(data)
                check_refusal(await whole(wire), 408)
                assert await rest(wire) == b""
    assert [(seen.finished, seen.closed) for seen in front.requests] == [(False, True)] * 2


@pytest.mark.parametrize("framing", ["Content-Length: 1000", CHUNKED])
async def test_a_body_may_take_as_long_as_it_comes_fast_enough(
    monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    monkeypatch.setattr(handlers.framing, "BODY_S", 0.02)
    monkeypatch.setattr(handlers.framing, "BODY_BYTES_S", 1000)
    monkeypatch.setattr(handlers.server, "SWEEP_S", 0.005)
    front = Recorder()
    async with listening(front) as port, connect(port) as wire:
        begun = asyncio.get_running_loop().time()
        await wire.send(post(b"" if framing != CHUNKED else b"3e8\r\n", framing) + b"x" * 300)
        check_refusal(await whole(wire), 408)
        assert asyncio.get_running_loop().time() - begun >= 0.02 + 300 / 1000
    assert (front.requests[0].body, front.requests[0].closed) == (b"x" * 300, True)


@pytest.mark.parametrize("hello", [b"\x16\x03\x01\x02\x00\x01\x00", b"\x16", b"\r\n\x16\x03"])
async def test_a_tls_hello_ends_at_once_with_a_line_in_the_log(
    hello: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    front = Recorder()
    with caplog.at_level("INFO", "handlers.connection"):
        async with listening(front) as port, connect(port) as wire:
            await wire.send(hello)
            assert await rest(wire) == b""
    [line] = [record.getMessage() for record in caplog.records if record.name == "handlers.connection"]
    assert "plain HTTP" in line and "TLS" in line and "address=127.0.0.1" in line
    assert front.requests == []


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x2f\x00", b"\x05\x01\x00", b"\xff\xfe", b"\x80"])
async def test_what_is_evidently_not_http_ends_at_once(data: bytes) -> None:
    async with listening(Recorder()) as port, connect(port) as wire:
        await wire.send(data)
        assert await rest(wire) == b""


@pytest.mark.parametrize("junk", [b"\x16\x03\x01", b"\xff\xfe"])
async def test_what_is_not_http_takes_no_answer_from_the_request_before_it(junk: bytes) -> None:
    """A socket that is closed over what nobody has read is reset: its client fails to write, and may not read."""

    def talk(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(get() + junk + b"x" * 5_000_000)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(1 << 16), b""))

    async with listening(Recorder()) as port:
        said = await asyncio.to_thread(talk, port)
    assert said.startswith(b"HTTP/1.1 200 OK") and said.endswith(b"/a")


async def test_when_files_run_out_few_tries_are_made_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", 0.01)

    def accept(self: socket.socket) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    async with listening(Recorder()) as port:
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "accept", accept)
            connecting = asyncio.create_task(asyncio.open_connection("127.0.0.1", port))
            await until(lambda: caplog.records)
        assert len(caplog.records) <= handlers.server.AT_ONCE
        _, writer = await connecting
        writer.close()
        async with connect(port) as wire:
            await wire.send(get())
            assert (await whole(wire)).status == 200


async def test_as_many_connections_as_before_may_wait_to_be_accepted() -> None:
    async with listening(Recorder()) as port:
        with contextlib.ExitStack() as stack:  # none is accepted before the loop turns
            for _ in range(2 * handlers.server.AT_ONCE):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=0.5))


async def test_an_idle_connection_is_closed_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_S", "IDLE_S"):
        monkeypatch.setattr(handlers.connection, name, 0.05)
    monkeypatch.setattr(handlers.server, "SWEEP_S", 0.01)
    async with listening(Recorder()) as port:
        async with connect(port) as wire:
            assert await rest(wire) == b""
        async with connect(port) as wire:
            await wire.send(get())
            await whole(wire)
            assert await rest(wire) == b""


async def test_an_answer_takes_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDLE_S", "HEAD_S"):
        monkeypatch.setattr(handlers.connection, name, 0.02)
    monkeypatch.setattr(handlers.server, "SWEEP_S", 0.005)
    front = Recorder()
    front.on_finish = nothing
    async with listening(front) as port, connect(port) as wire, connect(port) as other:
        await wire.send(get())
        await until(lambda: front.requests)
        assert await rest(other) == b""  # idle for as long
        assert not front.requests[0].connection.gone


# --- one after the other ----------------------------------------------------------------------------------


async def test_a_pipelined_request_waits_until_the_one_before_is_answered() -> None:
    front = Recorder()
    front.on_finish = nothing
    async with listening(front) as port, connect(port) as wire:
        await wire.send(get("/1") + get("/2") + get("/3"))
        for number in (1, 2, 3):
            await until(lambda n=number: len(front.requests) >= n and front.requests[-1].finished)
            assert front.targets == [f"/{each}" for each in range(1, number + 1)]
            front.requests[-1].connection.write_headers(OK, HTTPHeaders({"Content-Length": "2"}), b"ok")
            front.requests[-1].connection.finish()
            assert (await whole(wire)).body == b"ok"


@pytest.mark.parametrize("going", [Wire.reset, fin])
async def test_a_client_that_leaves_after_much_that_is_pipelined_is_noticed(
    monkeypatch: pytest.MonkeyPatch, going: Callable[[Wire], None]
) -> None:
    monkeypatch.setattr(handlers.connection, "LOOK_S", 0.01)
    monkeypatch.setattr(handlers.server, "SWEEP_S", 0.005)
    front, left = Recorder(), asyncio.Event()
    front.on_finish = lambda seen: seen.connection.set_close_callback(left.set)
    async with listening(front) as port, connect(port) as wire:
        await wire.send(get("/1") + b"\r\n" * 250_000)
        going(wire)
        async with asyncio.timeout(5):
            await left.wait()
        assert front.targets == ["/1"]


async def test_a_client_that_leaves_while_its_delegate_is_busy_with_much_to_come_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handlers.connection, "LOOK_S", 0.01)
    monkeypatch.setattr(handlers.server, "SWEEP_S", 0.005)
    front, left = Recorder(), asyncio.Event()
    ready = asyncio.get_running_loop().create_future()

    def busy(seen: Seen) -> asyncio.Future[None]:
        seen.connection.set_close_callback(left.set)
        return ready

    front.on_head = busy
    async with listening(front) as port:
        async with connect(port) as wire:
            await wire.send(post(b"x" * 500_000, "Content-Length: 1000000"))
        async with asyncio.timeout(5):
            await left.wait()
        ready.set_result(None)
        await until(lambda: front.requests[0].closed)


async def test_a_large_body_waits_for_its_delegate_as_long_as_that_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module, name in (
        (handlers.connection, "LOOK_S"),
        (handlers.connection, "IDLE_S"),
        (handlers.framing, "BODY_S"),
    ):
        monkeypatch.setattr(module, name, 0.01)
    monkeypatch.setattr(handlers.server, "SWEEP_S", 0.005)
    front, loop = Recorder(), asyncio.get_running_loop()
    ready = loop.create_future()
    front.on_head = lambda seen: seen.connection.set_max_body_size(1 << 30) or ready
    async with listening(front) as port, connect(port) as wire:
        begun = loop.time()
        sending = asyncio.create_task(wire.send(post(b"x" * 9_000_000, "Content-Length: 9000000")))
        await until(lambda: loop.time() > begun + 0.1)
        monkeypatch.setattr(handlers.framing, "BODY_S", 20)
        monkeypatch.setattr(handlers.connection, "IDLE_S", 20)
        ready.set_result(None)
        await sending
        assert (await whole(wire)).status == 200
        assert len(front.requests[0].body) == 9_000_000


async def test_thousands_of_pipelined_requests_are_answered_in_order() -> None:
    front = Recorder()
    async with listening(front) as port, connect(port) as wire:
        sending = asyncio.create_task(wire.send(b"".join(get(f"/{n}") for n in range(3000))))
        assert [(await whole(wire)).body for _ in range(3000)] == [b"/%d" % n for n in range(3000)]
        await sending


async def test_what_is_pipelined_is_held_up_to_a_limit() -> None:
    front = Recorder()
    front.on_finish = nothing
    async with listening(front) as port, connect(port) as wire:
        await wire.send(get("/1"))
        await until(lambda: front.requests)
        wire.writer.write(get("/2") + b"\r\n" * 20_000_000)
        await until(lambda: not front.requests[0].server.transport.is_reading())
        for _ in range(100):
            await asyncio.sleep(0)
        # What was written and read is in the kernel's buffers, but for what is held.
        assert wire.writer.transport.get_write_buffer_size() > 30_000_000
        front.on_finish = lambda seen: seen.connection.abort()
        front.requests[0].connection.write_headers(OK, HTTPHeaders({"Content-Length": "0"}))
        front.requests[0].connection.finish()
        await until(lambda: len(front.requests) == 2)
        wire.reset()


async def test_who_pipelines_too_much_while_it_is_answered_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.connection, "LOOK_S", 0.01)
    monkeypatch.setattr(handlers.server, "SWEEP_S", 0.005)
    front, left = Recorder(), asyncio.Event()
    front.on_finish = lambda seen: seen.connection.set_close_callback(left.set)
    async with listening(front) as port, connect(port) as wire:
        wire.writer.write(get("/1") + get("/2") + b"\r\n" * 20_000_000)
        async with asyncio.timeout(5):
            await left.wait()
        assert front.targets == ["/1"]


async def test_who_pipelines_and_takes_no_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (handlers.connection, "LOOK_S", 0.01), (handlers.connection, "IDLE_S", 0.1),
        (handlers.client_socket, "LINGER_S", 0.02), (handlers.client_socket, "STALLED_S", 0.02),
        (handlers.server, "SWEEP_S", 0.005),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    front, ended = Recorder(), asyncio.Event()
    front.on_finish = answering([], b"x" * 100_000)
    front.on_close = lambda server_conn: ended.set()  # type: ignore[method-assign]
    async with listening(front) as port, connect(port, limit=1 << 16) as wire:
        wire.writer.write(get() * 1_000_000)
        async with asyncio.timeout(5):
            await ended.wait()
        assert len(front.requests) < 1000


async def test_a_late_answer_reaches_nobody() -> None:
    front = Recorder()
    async with listening(front) as port, connect(port) as wire:
        await wire.send(get("/1"))
        await whole(wire)
        late = front.requests[0].connection
        assert late.gone
        late.send(b"late")
        late.finish()
        late.abort()
        with pytest.raises(StreamClosedError):
            await late.write(b"late")
        with pytest.raises(StreamClosedError):
            await late.write_headers(OK, HTTPHeaders())
        await wire.send(get("/2"))
        assert (await whole(wire)).body == b"/2"


async def test_nothing_more_is_handed_over_while_the_delegate_is_busy() -> None:
    front = Recorder()
    ready: list[asyncio.Future[None]] = []

    def busy(seen: Seen) -> asyncio.Future[None]:
        ready.append(asyncio.get_running_loop().create_future())
        return ready[-1]

    front.on_head = front.on_data = busy
    async with listening(front) as port, connect(port) as wire:
        await wire.send(post(b"body", "Content-Length: 8"))
        await until(lambda: len(ready) == 1)
        await wire.send(b"more")
        for _ in range(20):
            await asyncio.sleep(0)
        (seen,) = front.requests
        assert seen.body == b""
        ready[0].set_result(None)
        await until(lambda: len(ready) == 2)
        assert (seen.body, seen.finished) == (b"bodymore", False)
        ready[1].set_result(None)
        assert (await whole(wire)).status == 200


async def test_a_delegate_that_fails_when_its_client_leaves_holds_up_no_shutdown() -> None:
    front, failures = Recorder(), []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    front.on_finish = lambda seen: seen.connection.set_close_callback(lambda: 1 / 0)
    async with asyncio.timeout(5), listening(front) as port:
        async with connect(port) as wire:
            await wire.send(get())
            await until(lambda: front.requests and front.requests[0].finished)
        await until(lambda: failures)
    assert [type(context["exception"]) for context in failures] == [ZeroDivisionError]


async def test_a_client_that_leaves_while_its_delegate_is_busy_is_told_of_afterwards() -> None:
    front = Recorder()
    ready = asyncio.get_running_loop().create_future()
    front.on_data = lambda seen: ready
    async with listening(front) as port:
        async with connect(port) as wire:
            await wire.send(post(b"body", "Content-Length: 8"))
            await until(lambda: front.requests and front.requests[0].body)
        (seen,) = front.requests
        await until(lambda: seen.connection.gone)
        assert not seen.closed
        ready.set_result(None)
        await until(lambda: seen.closed)
        assert not seen.finished


# --- Expect -----------------------------------------------------------------------------------------------

EXPECT = "Expect: 100-Continue"
CONTINUE = b"HTTP/1.1 100 (Continue)\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "stays"),
    [
        (post(b"body", "Content-Length: 4"), True),
        (post(b"bod", "Content-Length: 4"), False),
        (post(b"", "Content-Length: 4"), False),
        (post(b"", "Content-Length: 0"), True),
        (post(b"4\r\nbody\r\n", CHUNKED), False),
        (post(b"4\r\nbody\r\n0\r\n\r\n", CHUNKED), False),  # not read yet
        (post(b"body", "Content-Length: 4", EXPECT), False),  # or what comes is the next request
    ],
)
async def test_an_answer_before_its_whole_request_has_come_says_that_it_is_the_last(
    sent: bytes, stays: bool
) -> None:
    front = Recorder()

    def refuse(seen: Seen) -> None:
        seen.connection.write_headers(OK, HTTPHeaders({"Content-Length": "2"}), b"no")
        seen.connection.finish()

    front.on_head, front.on_finish = refuse, nothing
    async with listening(front) as port, connect(port) as wire:
        await wire.send(sent)
        answer = await whole(wire)
        assert (answer.body, answer.header("connection")) == (b"no", None if stays else "close")
        if stays:
            front.on_head, front.on_finish = nothing, Recorder().on_finish
            await wire.send(SENTINEL)
            assert (await whole(wire)).body == b"/next"
        else:
            await wire.send(SENTINEL)
            assert await rest(wire) == b""
            assert len(front.requests) == 1


async def test_a_client_that_asks_is_told_to_send_its_body_once_that_is_wanted() -> None:
    front = Recorder()
    ready = asyncio.get_running_loop().create_future()
    front.on_head = lambda seen: ready
    async with listening(front) as port, connect(port) as wire:
        await wire.send(post(b"", "Content-Length: 4", EXPECT))
        await until(lambda: front.requests)
        told = asyncio.create_task(wire.reader.readexactly(len(CONTINUE)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not told.done()
        ready.set_result(None)
        assert await told == CONTINUE
        await wire.send(b"body")
        assert (await whole(wire)).status == 200


@pytest.mark.parametrize(
    "data",
    [
        get("/a", EXPECT),
        post(b"body", "Content-Length: 4", "Expect: 200-ok"),
        post(b"body", "Content-Length: 4", EXPECT).replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["no body", "another expectation", "HTTP/1.0"],
)
async def test_nobody_else_is(data: bytes) -> None:
    async with listening(Recorder()) as port, connect(port) as wire:
        await wire.send(data)
        assert (await wire.reader.readline()).startswith(b"HTTP/1.1 200")


async def test_a_request_that_is_answered_by_its_head_alone_sends_no_body() -> None:
    front = Recorder()

    def refuse(seen: Seen) -> None:
        seen.connection.write_headers(OK, HTTPHeaders({"Content-Length": "2"}), b"no")
        seen.connection.finish()

    front.on_head = refuse
    async with listening(front) as port, connect(port) as wire:
        await wire.send(post(b"", "Content-Length: 4", EXPECT) + SENTINEL)
        answer = await whole(wire)
        # Who shares the connection must know that nothing more is read from it: haproxy gave it to the next request.
        assert (answer.status, answer.body, answer.header("connection")) == (200, b"no", "close")
        assert await rest(wire) == b""
        assert len(front.requests) == 1


# --- answers ----------------------------------------------------------------------------------------------


def answering(headers: HTTPHeaders | list[tuple[str, str]], *parts: bytes) -> Callable[[Seen], None]:
    def run(seen: Seen) -> None:
        if isinstance(headers, list):
            seen.connection.begin(200, "OK", headers, None)
        else:
            seen.connection.write_headers(OK, headers)
        for part in parts:
            seen.connection.send(part)
        seen.connection.finish()

    return run


@pytest.mark.parametrize(
    "headers", [HTTPHeaders({"X": "\xe9"}), [("X", "\xe9")]], ids=["HTTPHeaders", "pairs"]
)
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (get(), b"X: \xe9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (
            get("/a", "Connection: x, Close"),
            b"X: \xe9\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        ),
        (get(version="1.0"), b"X: \xe9\r\n\r\nabc"),
        (get("/a", "Connection: keep-alive", version="1.0"), b"X: \xe9\r\n\r\nabc"),
    ],
)
async def test_an_answer_without_a_length_is_framed_by_what_its_client_knows(
    request_: bytes, answer: bytes, headers: HTTPHeaders | list[tuple[str, str]]
) -> None:
    front = Recorder()
    front.on_finish = answering(headers.copy(), b"ab", b"", b"c")
    async with listening(front) as port, connect(port) as wire:
        await wire.send(request_)
        async with asyncio.timeout(5):
            assert await wire.reader.readexactly(17 + len(answer)) == b"HTTP/1.1 200 OK\r\n" + answer
        if b"HTTP/1.0" in request_ or b"Close" in request_:
            assert await rest(wire) == b""


@pytest.mark.parametrize(
    ("lines", "version", "connection", "stays"),
    [
        ([], "1.1", None, True),
        (["Connection: close"], "1.1", "close", False),
        ([], "1.0", None, False),
        (["Connection: Keep-Alive"], "1.0", "Keep-Alive", True),
        (["Connection: keep-alive, close"], "1.0", None, False),
    ],
)
async def test_a_connection_stays_as_its_client_says(
    lines: list[str], version: str, connection: str | None, stays: bool
) -> None:
    async with listening(Recorder()) as port, connect(port) as wire:
        for _ in range(2 if stays else 1):
            await wire.send(get("/a", *lines, version=version))
            answer = await whole(wire)
            assert (answer.header("connection"), answer.body) == (connection, b"/a")
        if not stays:
            assert await rest(wire) == b""


async def test_an_answer_that_says_so_ends_its_connection() -> None:
    front = Recorder()
    front.on_finish = answering(HTTPHeaders({"Content-Length": "1", "Connection": "close"}), b"a")
    async with listening(front) as port, connect(port) as wire:
        await wire.send(get())
        assert (await whole(wire)).header("connection") == "close"
        assert await rest(wire) == b""


async def test_a_head_goes_out_while_nothing_follows() -> None:
    front = Recorder()
    front.on_finish = lambda seen: seen.connection.begin(200, "OK", [("X", "y")], None)
    async with listening(front) as port, connect(port) as wire:
        await wire.send(get())
        async with asyncio.timeout(5):
            assert (await wire.answer()).header("x") == "y"
        front.requests[0].connection.send(b"a")
        async with asyncio.timeout(5):
            assert await wire.reader.readexactly(6) == b"1\r\na\r\n"


@pytest.mark.parametrize("pair", [("X", "a\r\nb: c"), ("X", "a\nb"), ("X\r", "a")])
async def test_a_header_cannot_hold_a_line_end(pair: tuple[str, str]) -> None:
    front = Recorder()
    front.on_finish = nothing
    async with listening(front) as port, connect(port) as wire:
        await wire.send(get())
        await until(lambda: front.requests and front.requests[0].finished)
        with pytest.raises(ValueError, match="CR or LF"):
            front.requests[0].connection.begin(200, "OK", [pair], None)


async def test_an_answer_never_differs_from_its_length() -> None:
    front = Recorder()
    front.on_finish = nothing
    async with listening(front) as port:
        for data in (b"a", b"abc"):
            async with connect(port) as wire:
                await wire.send(get())
                await until(lambda: front.requests and front.requests[-1].finished)
                connection = front.requests[-1].connection
                connection.begin(200, "OK", [("Content-Length", "2")], 2)
                with pytest.raises(HTTPOutputError):
                    connection.send(data)
                    connection.finish()
                assert len((await rest(wire)).partition(b"\r\n\r\n")[2]) < 2
            front.requests.clear()


# --- back-pressure ----------------------------------------------------------------------------------------


async def test_what_a_client_does_not_take_waits_and_is_announced_when_there_is_room() -> None:
    front, room = Recorder(), []
    front.on_finish = nothing
    async with listening(front) as port, connect(port, limit=1 << 16) as wire:
        await wire.send(get())
        await until(lambda: front.requests and front.requests[0].finished)
        connection = front.requests[0].connection
        connection.begin(200, "OK", [], None)
        assert await connection.write(b"a") is None
        sent = 0
        while not connection.full:
            connection.send(b"x" * 65_536)
            sent += 65_536
            await asyncio.sleep(0)
        assert connection.queued > HIGH_WATER
        assert connection.unsent() > connection.queued
        connection.on_room(lambda: room.append(connection.queued))
        written = connection.write(b"last")
        assert (written.done(), room) == (False, [])
        answer = await wire.answer()
        chunks = answer.chunks()
        got = 0
        async with asyncio.timeout(5):
            while got < sent + 5:
                got += len(await anext(chunks))
        assert len(room) == 1 and room[0] <= LOW_WATER
        assert written.done() and not connection.full
        await until(lambda: connection.unsent() == 0)


async def test_who_waits_for_room_hears_that_the_client_left() -> None:
    front = Recorder()
    front.on_finish = nothing
    async with listening(front) as port:
        async with connect(port, limit=1 << 16) as wire:
            await wire.send(get())
            await until(lambda: front.requests and front.requests[0].finished)
            connection = front.requests[0].connection
            connection.begin(200, "OK", [], None)
            while not connection.full:
                connection.send(b"x" * 65_536)
                await asyncio.sleep(0)
            written = connection.write(b"last")
            wire.reset()
        with pytest.raises(StreamClosedError):
            await written
        assert (connection.gone, connection.queued, connection.unsent()) == (True, 0, 0)


async def test_a_last_answer_that_is_taken_slowly_is_taken_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.client_socket, "LINGER_S", 0.02)
    monkeypatch.setattr(handlers.server, "SWEEP_S", 0.005)
    front = Recorder()
    front.on_finish = answering([], b"x" * 20_000_000)
    async with listening(front) as port, connect(port, limit=1 << 16) as wire, connect(port) as other:
        await other.send(get("/a", "Connection: close").replace(b"GET", b"HEAD"))
        await wire.send(get("/a", "Connection: close"))
        await rest(other)
        await until(lambda: front.requests[1:])
        assert len((await whole(wire)).body) == 20_000_000


async def test_a_last_answer_that_is_not_taken_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LINGER_S", "STALLED_S"):
        monkeypatch.setattr(handlers.client_socket, name, 0.02)
    monkeypatch.setattr(handlers.server, "SWEEP_S", 0.005)
    front, ended = Recorder(), asyncio.Event()
    front.on_finish = answering([], b"x" * 20_000_000)
    front.on_close = lambda server_conn: ended.set()  # type: ignore[method-assign]
    async with listening(front) as port, connect(port, limit=1 << 16) as wire:
        await wire.send(get("/a", "Connection: close"))
        async with asyncio.timeout(5):
            await ended.wait()


# --- the client leaves ------------------------------------------------------------------------------------


@pytest.mark.parametrize("going", [Wire.reset, fin])
async def test_a_client_that_leaves_while_it_is_answered_is_noticed(going: Callable[[Wire], None]) -> None:
    front, left = Recorder(), asyncio.Event()
    front.on_finish = lambda seen: seen.connection.set_close_callback(left.set)
    async with listening(front) as port:
        for rest_ in (b"", get("/2"), get("/2") + b"G"):
            front.requests.clear()
            left.clear()
            async with connect(port) as wire:
                await wire.send(get("/1") + rest_)
                await until(lambda: front.requests and front.requests[0].finished)
                going(wire)
                async with asyncio.timeout(5):
                    await left.wait()
                assert front.targets == ["/1"]
                assert front.requests[0].connection.gone and not front.requests[0].closed


@pytest.mark.parametrize("data", [b"", b"GET / HT", get() * 2])
async def test_a_client_that_leaves_between_requests_is_let_go(data: bytes) -> None:
    front, ended = Recorder(), asyncio.Event()
    front.on_close = lambda server_conn: ended.set()  # type: ignore[method-assign]
    async with listening(front) as port:
        async with connect(port) as wire:
            await wire.send(data)
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_client_that_leaves_inside_its_body_is_told_of() -> None:
    front = Recorder()
    async with listening(front) as port:
        async with connect(port) as wire:
            await wire.send(post(b"bo", "Content-Length: 4"))
            await until(lambda: front.requests and front.requests[0].body)
        await until(lambda: front.requests[0].closed)
        assert not front.requests[0].finished


async def test_a_client_that_is_gone_when_it_is_refused_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    front = Recorder()
    async with listening(front) as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def answer_and_see_it_go(seen: Seen) -> None:
            if seen.start_line[0] == "GET":
                return
            seen.connection.write_headers(OK, HTTPHeaders({"Content-Length": "2"}), b"ok")
            client.close()  # with a reset, which is heard of only after what it has sent

        front.on_head = answer_and_see_it_go
        client.sendall(get() + post(b"zz\r\n", CHUNKED))
        await until(lambda: len(front.requests) == 2 and front.requests[1].closed)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_reset_is_seen_as_one() -> None:
    front = Recorder()
    front.on_finish = lambda seen: seen.connection.abort(reset=True)
    async with listening(front) as port, connect(port) as wire:
        await wire.send(get())
        with pytest.raises(ConnectionResetError):
            await rest(wire)


async def test_a_delegate_that_fails_ends_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    front = Recorder()

    def fail(seen: Seen) -> None:
        raise RuntimeError("of the test")

    async def fail_later(seen: Seen) -> None:
        fail(seen)

    async with listening(front) as port:
        for front.on_head in (fail, fail_later):
            async with connect(port) as wire:
                await wire.send(get())
                assert await rest(wire) == b""
                await until(lambda: front.requests[-1].closed)
        front.on_head, front.on_finish = nothing, fail
        async with connect(port) as wire:
            await wire.send(get())
            assert await rest(wire) == b""
            await until(lambda: front.requests[-1].closed)
    assert len([record for record in caplog.records if record.exc_info]) == 3


# --- Tornado's application --------------------------------------------------------------------------------


class Plain(RequestHandler):
    def post(self) -> None:
        self.write(
            {"host": self.request.host, "ip": self.request.remote_ip, "body": self.request.body.decode()}
        )


class Echo(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


APPLICATION = [("/plain", Plain), ("/echo", Echo)]
UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
FRAME = b"\x81\x82\0\0\0\0hi"


async def test_an_application_is_served() -> None:
    async with listening(Application(APPLICATION)) as port, connect(port) as wire:
        for _ in range(2):
            await wire.send(post(b"body", "Content-Length: 4").replace(b"/a", b"/plain"))
            answer = await whole(wire)
            assert json.loads(answer.body) == {"host": "a", "ip": "127.0.0.1", "body": "body"}


@pytest.mark.parametrize("early", [b"", FRAME[:3], FRAME], ids=["after", "half", "before"])
async def test_a_websocket_gets_its_socket_with_what_was_read(early: bytes) -> None:
    async with listening(Application(APPLICATION)) as port, connect(port) as wire:
        await wire.send(UPGRADE + early)
        async with asyncio.timeout(5):
            head = await wire.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"Connection: Upgrade\r\n" in head
            await wire.send(FRAME[len(early) :])
            assert await wire.reader.readexactly(4) == b"\x81\x02hi"
            await wire.send(FRAME)
            assert await wire.reader.readexactly(4) == b"\x81\x02hi"


# --- headers ----------------------------------------------------------------------------------------------

LINES = [("x-one", "a"), ("Host", "h"), ("X-ONE", "b")]


def test_header_lines_are_given_as_they_came_and_found_by_name() -> None:
    headers = RequestHeaders([*LINES])
    assert headers.get_all() == LINES
    assert "_as_list" not in vars(headers)  # not filled yet
    assert (headers["x-One"], headers.get_list("X-One"), headers.get("none")) == ("a,b", ["a", "b"], None)
    assert ("HOST" in headers, len(headers), list(headers)) == (True, 2, ["X-One", "Host"])
    assert headers.get_all() == LINES
    assert list(headers.copy().get_all()) == [("X-One", "a"), ("X-One", "b"), ("Host", "h")]


def test_changed_header_lines_are_given_as_changed() -> None:
    changed = []
    for change in (
        lambda headers: headers.add("X-Two", "c"),
        lambda headers: headers.__setitem__("x-one", "c"),
        lambda headers: headers.__delitem__("x-one"),
    ):
        headers = RequestHeaders([*LINES])
        change(headers)
        changed.append(list(headers.get_all()))
    assert changed == [
        [("X-One", "a"), ("X-One", "b"), ("Host", "h"), ("X-Two", "c")],
        [("X-One", "c"), ("Host", "h")],
        [("Host", "h")],
    ]


def test_tornado_still_keeps_headers_as_these_expect() -> None:
    import tornado.httputil

    fields, (function,) = TORNADO_PRIVATES[:2], TORNADO_PRIVATES[2:]
    assert vars(HTTPHeaders({"a": "b"})) == dict(zip(fields, ({"A": ["b"]}, {"A": "b"}), strict=True))
    assert getattr(tornado.httputil, function)("x-ONE") == "X-One"


async def test_an_event_does_not_wait_for_an_acknowledgement() -> None:
    front = Recorder()
    async with listening(front) as port, connect(port) as wire:
        await wire.send(get())
        await whole(wire)
        front.on_finish = nothing
        await wire.send(get())
        await until(lambda: front.requests[1:])
        client = front.requests[1].server.transport.get_extra_info("socket")
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_socket_that_cannot_be_given_away_is_closed() -> None:
    front = Recorder()
    front.on_finish = nothing
    async with listening(front) as port, connect(port) as wire:
        await wire.send(get())
        await until(lambda: front.requests and front.requests[0].finished)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))  # no more can be opened
        try:
            with pytest.raises(StreamClosedError):
                front.requests[0].connection.detach()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        async with asyncio.timeout(5):
            assert await rest(wire) == b""


@pytest.mark.parametrize("turns", range(8))
async def test_who_comes_as_the_last_are_closed_is_closed_too(turns: int) -> None:
    """`turns` of the loop pass from the connection to the end: it is queued, accepted, or open by then."""
    async with listening(Recorder()) as port:
        loop = asyncio.get_running_loop()
        client = socket.create_connection(("127.0.0.1", port))
        client.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)
    with client, contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(5):
            assert await loop.sock_recv(client, 1) == b""


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_is_just_being_accepted_ends_with_its_next_answer_too(turns: int) -> None:
    """When a process hands over: asyncio tells of a connection in the turn after the one in which it accepts it."""
    listener = Listener(Recorder())
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        await listener.listen([listening_socket])
        client = socket.create_connection(listening_socket.getsockname())
        for _ in range(turns):
            await asyncio.sleep(0)
        listener.end_soon()
        wire = Wire(*await asyncio.open_connection(sock=client))
        answer = await wire.request("GET", "/a")
        assert (answer.status, answer.header("connection")) == (200, "close")
        wire.writer.close()
        listener.stop()
        async with asyncio.timeout(5):
            await listener.close_all_connections()
