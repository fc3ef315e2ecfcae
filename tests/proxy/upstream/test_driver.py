"""The driver of libcurl: sockets whose numbers come back, readers that pause, raise or leave, handles used again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import resource
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pycurl
import pytest
from tornado.curl_httpclient import CurlAsyncHTTPClient

from proxy.errors import UpstreamGarbled, UpstreamLost, UpstreamSilent, UpstreamUnreachable
from proxy.upstream.driver import CurlClient
from proxy.upstream.exchange import Request
from proxy.upstream.sockets import Sockets
from tests.service import until
from tests.serving import serving

MB = 1_000_000
Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def ok(body: bytes, *headers: bytes) -> bytes:
    lines = b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers])
    return lines + b"\r\n\r\n" + body


@asynccontextmanager
async def client_of(handler: Handler, *, idle_timeout_s: float = 30.0) -> AsyncIterator[CurlClient]:
    """A client of a server that gives each request's head to `handler`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await handler(head, reader, writer)
            await writer.drain()

    async with serving(serve) as port:
        client = CurlClient.to(f"http://127.0.0.1:{port}", idle_timeout_s=idle_timeout_s)
        try:
            async with asyncio.timeout(30):
                yield client
        finally:
            client.close()


async def whole(client: CurlClient, request: Request | None = None) -> bytes:
    exchange = client.open(request or Request("GET", "/", []))
    try:
        await exchange.head()
        body = b""
        while data := await exchange.read():
            body += data
        return body
    finally:
        exchange.close()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Enough for 1,200 pairs of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def say_path(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(ok(head.split()[1]))


def test_tornado_has_what_the_driver_relies_on() -> None:
    assert {"_set_timeout", "_handle_socket", "initialize", "close"} <= vars(CurlAsyncHTTPClient).keys()
    assert "_multi" in CurlAsyncHTTPClient.initialize.__code__.co_names


async def endless(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An answer that is always ready to be read on; to any path but `/` a short one."""
    if b" / " not in head:
        return await say_path(head, reader, writer)
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * MB)
        await writer.drain()


async def test_answers_that_come_without_a_pause_keep_no_other_from_coming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.upstream.driver.TURN_S", -1.0)  # one socket a turn
    async with client_of(endless) as client, asyncio.TaskGroup() as tasks:
        exchanges = [client.open(Request("GET", "/", [])) for _ in range(3)]
        pipes = []
        for exchange in exchanges:
            await exchange.head()
            pipes.append(tasks.create_task(exchange.pipe(lambda data: True)))
        assert await whole(client, Request("GET", "/other", [])) == b"/other"
        for pipe in pipes:
            pipe.cancel()
        for exchange in exchanges:
            exchange.close()


async def test_who_has_waited_longest_is_served_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while more comes for those that were served, and while nothing does."""
    monkeypatch.setattr("proxy.upstream.driver.TURN_S", -1.0)  # one socket a turn
    writers: dict[str, asyncio.StreamWriter] = {}
    served: list[str] = []
    all_served = asyncio.Event()

    async def begin(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = head.split()[1].decode()
        writers[path] = writer
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")

    def note(path: str, data: bytes) -> bool:
        served.append(path)
        if path in again and len(data) == 1:
            again.remove(path)
            writers[path].write(b"2")
        if len(served) == len(paths) + len(paths[::2]):
            all_served.set()
        return True

    async with client_of(begin) as client, asyncio.TaskGroup() as tasks:
        paths = [f"/{n}" for n in range(12)]
        again = set(paths[::2])
        for path in paths:
            exchange = client.open(Request("GET", path, []))
            await exchange.head()
            tasks.create_task(exchange.pipe(partial(note, path)))
        await asyncio.sleep(0)
        for path in paths:
            writers[path].write(b"1")
        await all_served.wait()
        assert served == paths + paths[::2]
        for path in paths[1::2]:
            writers[path].write(b"2")


async def test_hundreds_at_once_each_get_their_own_answer() -> None:
    async with client_of(say_path) as client:
        for _ in range(3):  # the second time on kept handles and connections
            requests = [Request("GET", f"/{n}", []) for n in range(300)]
            answers = await asyncio.gather(*[whole(client, request) for request in requests])
            assert answers == [b"/%d" % n for n in range(300)]
        assert client.running == 0


async def test_large_answers_all_come_however_short_a_turn_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no time at all, each turn of the loop serves one socket, and none waits for ever."""
    monkeypatch.setattr("proxy.upstream.driver.TURN_S", 0.0)

    async def large(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(bytes(MB)))

    async with client_of(large) as client:
        assert await asyncio.gather(*(whole(client) for _ in range(20))) == [bytes(MB)] * 20


async def test_a_socket_with_the_number_of_a_closed_one_is_heard() -> None:
    async def say_and_close(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"x"))
        await writer.drain()
        writer.close()

    async with client_of(say_and_close) as client:
        for _ in range(20):
            assert await asyncio.gather(*[whole(client) for _ in range(20)]) == [b"x"] * 20


async def test_a_reader_that_says_stop_gets_the_rest_after_resume_byte_for_byte() -> None:
    body = bytes(range(256)) * 40_000

    async def say_much(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(body))

    async with client_of(say_much) as client:
        exchange = client.open(Request("GET", "/", []))
        seen, stops = hashlib.sha256(), 0

        def take(data: bytes) -> bool:
            nonlocal stops
            seen.update(data)
            stops += 1
            asyncio.get_running_loop().call_soon(exchange.resume)
            return False

        await exchange.head()
        await exchange.pipe(take)
        exchange.close()
        assert seen.digest() == hashlib.sha256(body).digest()
        assert stops > 10


async def test_a_reader_that_took_the_start_of_a_long_body_can_read_the_rest() -> None:
    async def say_much(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(bytes(MB)))

    async with client_of(say_much) as client:
        exchange = client.open(Request("GET", "/", []))
        await exchange.head()
        for _ in range(1000):  # until it pauses
            await asyncio.sleep(0)
        size = len(exchange.start())
        async with asyncio.timeout(5):
            while data := await exchange.read():
                size += len(data)
        exchange.close()
        assert size == MB


async def test_a_reader_that_stopped_keeps_the_upstream_from_sending() -> None:
    sent = 0

    async def flood(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n")
        while sent < 200 * MB:
            writer.write(bytes(65536))
            sent += 65536
            await writer.drain()

    async with client_of(flood) as client:
        exchange = client.open(Request("GET", "/", []))
        taken = []

        def take(data: bytes) -> bool:
            taken.append(len(data))
            return False

        await exchange.head()
        piping = asyncio.ensure_future(exchange.pipe(take))
        before = -1
        while sent > before:  # until the kernel's buffers are full
            before = sent
            for _ in range(200):
                await asyncio.sleep(0)
        assert sum(taken) <= MB
        assert sent < 100 * MB
        piping.cancel()
        exchange.close()
        assert client.running == 0


async def test_what_a_reader_raises_is_raised_to_it_alone() -> None:
    ready = asyncio.Event()

    async def say_twice(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await ready.wait()
        writer.write(b"xy")

    def fail(data: bytes) -> bool:
        raise LookupError("a reader's own")

    async with client_of(say_twice) as client:
        bad, good = client.open(Request("GET", "/", [])), client.open(Request("GET", "/", []))
        await bad.head()
        await good.head()
        failing = asyncio.ensure_future(bad.pipe(fail))
        reading = asyncio.ensure_future(good.read())
        await asyncio.sleep(0)
        ready.set()
        with pytest.raises(LookupError):
            await failing
        assert await reading
        bad.close()
        good.close()


async def test_a_cut_answer_gives_all_that_came_before() -> None:
    async def say_half(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async with client_of(say_half) as client:
        exchange, seen = client.open(Request("GET", "/", [])), bytearray()

        def take(data: bytes) -> bool:
            seen.extend(data)
            return True

        await exchange.head()
        with pytest.raises(UpstreamLost):
            await exchange.pipe(take)
        exchange.close()
        assert seen == b"half"


async def test_silence_ends_an_exchange_but_not_one_whose_reader_stopped() -> None:
    async def say_half(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    async with client_of(say_half, idle_timeout_s=0.1) as client:
        heard, stopped = client.open(Request("GET", "/", [])), client.open(Request("GET", "/", []))
        await heard.head()
        await stopped.head()
        waiting = asyncio.ensure_future(stopped.pipe(lambda data: False))
        with pytest.raises(UpstreamSilent):
            await heard.pipe(lambda data: True)
        assert not waiting.done()
        stopped.resume()
        with pytest.raises(UpstreamSilent):
            await waiting
        assert client.running == 0


async def test_nobody_listens_is_unreachable() -> None:
    async with client_of(say_path) as client:
        pass
    client = CurlClient.to("http://127.0.0.1:9", idle_timeout_s=5)
    exchange = client.open(Request("GET", "/", []))
    with pytest.raises(UpstreamUnreachable):
        await exchange.head()
    exchange.close()
    client.close()


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 * MB])
async def test_a_body_is_sent_as_it_is_from_memory_and_from_a_file(size: int) -> None:
    async def say_digest(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int(head.lower().split(b"content-length:")[1].split()[0])
        writer.write(ok(hashlib.sha256(await reader.readexactly(length)).hexdigest().encode()))

    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    expected = hashlib.sha256(body).hexdigest().encode()
    async with client_of(say_digest) as client:
        with tempfile.TemporaryFile() as file:
            for _ in range(2):  # the file's handle is not used again, the other is
                assert await whole(client, Request("POST", "/", [], body)) == expected
                file.seek(0)
                file.truncate()
                file.write(body)
                file.seek(0)
                assert await whole(client, Request("PUT", "/", [], file, size)) == expected


async def test_methods_in_any_order_leave_nothing_behind_on_a_handle() -> None:
    async def say_head(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"\r\nContent-Length: 3" in head:
            await reader.readexactly(3)
        writer.write(ok(head)) if not head.startswith(b"HEAD") else writer.write(ok(b""))

    async with client_of(say_head) as client:
        for method, body in [
            ("GET", None), ("POST", b"abc"), ("GET", None), ("HEAD", None), ("GET", None), ("DELETE", None),
            ("POST", None), ("PATCH", b"abc"), ("GET", b"abc"), ("GET", None),
        ]:  # fmt: skip
            seen = await whole(client, Request(method, "/x?y=z", [("x-a", "b")], body))
            if method != "HEAD":
                assert seen.startswith(f"{method} /x?y=z HTTP/1.1\r\n".encode())
                assert (b"Content-Length" in seen) == (body is not None)
                assert b"\r\nx-a: b\r\n" in seen


async def test_a_kept_handle_does_not_hold_the_body_that_it_sent() -> None:
    async def swallow(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(MB)
        writer.write(ok(b""))

    async with client_of(swallow) as client:
        body = bytes(MB)
        before = sys.getrefcount(body)
        await whole(client, Request("POST", "/", [], body))
        assert sys.getrefcount(body) == before


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"])
async def test_an_exchange_that_failed_does_not_hold_its_body_until_the_collector_runs(answer: bytes) -> None:
    async def break_off(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(MB)
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with client_of(break_off) as client:
        body = bytes(MB)
        before = sys.getrefcount(body)
        gc.disable()
        try:
            with contextlib.suppress(UpstreamLost):
                await whole(client, Request("POST", "/", [], body))
            assert sys.getrefcount(body) == before
        finally:
            gc.enable()


STATUS_LINES = [
    b"HTTP/1.1 200OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 200\tOK",
    b"http/1.1 200 OK",
    b"HTTP/1.1 101 S",
    b"HTTP/1.1 200 O\rK",
]


@pytest.mark.parametrize("size", [2, MB])
@pytest.mark.parametrize("line", STATUS_LINES)
async def test_a_status_line_that_only_libcurl_can_read_ends_the_exchange(line: bytes, size: int) -> None:
    async def say_oddly(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line + b"\r\nConnection: close\r\n\r\n" + bytes(size))
        await writer.drain()
        writer.close()

    async with client_of(say_oddly) as client:
        exchange = client.open(Request("GET", "/", []))
        with pytest.raises(UpstreamGarbled):
            await exchange.head()
        exchange.close()
        assert client.running == 0


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 0\r\n", b"Content-Length: 2\r\n"])
async def test_a_head_without_its_last_byte_is_none(framing: bytes) -> None:
    async def break_off(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r")
        await writer.drain()
        writer.close()

    async with client_of(break_off) as client:
        with pytest.raises(UpstreamLost):
            await whole(client)


@pytest.mark.parametrize("size", [0, 2, MB])
async def test_a_head_that_only_libcurl_takes_for_ended_is_garbled(size: int) -> None:
    async def say_oddly(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\rX-A: b\r\n\r\n" % size + bytes(size))

    async with client_of(say_oddly) as client:
        with pytest.raises(UpstreamGarbled if size else UpstreamLost):
            async with asyncio.timeout(5):
                await whole(client)
        assert client.running == 0


async def test_a_client_that_closes_ends_what_runs() -> None:
    async def say_nothing(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with client_of(say_nothing) as client:
        exchange = client.open(Request("GET", "/", []))
        waiting = asyncio.ensure_future(exchange.head())
        await asyncio.sleep(0)
    with pytest.raises(UpstreamLost):
        await waiting


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_what_nobody_asked_for_is_no_answer_to_the_next_request(turns: int) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def say_and_keep(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(ok(head.split()[1]))

    async with client_of(say_and_keep) as client:
        for n in range(5):
            assert await whole(client, Request("GET", f"/{n}", [])) == b"/%d" % n
            writers[-1].write(ok(b"stray"))  # the kernel has it before the next request begins
            for _ in range(turns):
                await asyncio.sleep(0)
        assert len(set(writers)) == 5


async def test_what_nobody_asked_for_is_no_answer_either_when_files_run_out() -> None:
    writers: list[asyncio.StreamWriter] = []

    async def say_and_keep(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(ok(head.split()[1]))

    async with client_of(say_and_keep) as client:
        assert await whole(client, Request("GET", "/1", [])) == b"/1"
        writers[-1].write(ok(b"stray"))
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))  # no more can be opened
        try:
            for _ in range(5):
                await asyncio.sleep(0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert await whole(client, Request("GET", "/2", [])) == b"/2"


@pytest.mark.parametrize("rest", [100, 40_000])
async def test_what_nobody_asked_for_is_no_answer_either_if_it_came_while_the_reader_had_stopped(
    rest: int,
) -> None:
    """The end of the answer waits in libcurl then, so that it asks for the socket no more."""
    writers: list[asyncio.StreamWriter] = []

    async def begin(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if b" /long " not in head:
            return await say_path(head, reader, writer)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nfirst" % (5 + rest))

    async with client_of(begin) as client:
        exchange, taken, stopped = client.open(Request("GET", "/long", [])), bytearray(), True

        def take(data: bytes) -> bool:
            taken.extend(data)
            return not stopped

        await exchange.head()
        reading = asyncio.ensure_future(exchange.pipe(take))
        await until(lambda: taken)
        for more in (bytes(rest), ok(b"stray")):
            writers[0].write(more)
            for _ in range(20):  # turns, in which the driver looks and takes nothing
                await asyncio.sleep(0)
        stopped = False
        exchange.resume()
        await reading
        exchange.close()
        assert taken == b"first" + bytes(rest)
        for n in range(3):
            assert await whole(client, Request("GET", f"/{n}", [])) == b"/%d" % n


async def test_what_nobody_asked_for_is_no_answer_to_what_is_sent_again() -> None:
    """It comes while another socket is served, after the driver has looked."""
    writers: dict[bytes, asyncio.StreamWriter] = {}

    async def begin(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = head.split()[1]
        first = path not in writers
        writers[path] = writer
        if path == b"/long":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nfirst")
        elif path != b"/dies" or not first:
            writer.write(ok(path))

    async with client_of(begin) as client:
        long, taken = client.open(Request("GET", "/long", [])), bytearray()

        def take(data: bytes) -> bool:
            taken.extend(data)
            if taken == b"firstagain":
                spare.write(ok(b"stray"))
            return True

        await long.head()
        reading = asyncio.ensure_future(long.pipe(take))
        await asyncio.gather(*[whole(client, Request("GET", path, [])) for path in ("/a", "/b")])
        dying = asyncio.ensure_future(whole(client, Request("GET", "/dies", [])))
        await until(lambda: b"/dies" in writers)
        [spare] = {writers[b"/a"], writers[b"/b"]} - {writers[b"/dies"]}
        writers[b"/long"].write(b"again")
        writers[b"/dies"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        assert await dying == b"/dies"
        writers[b"/long"].write(b"last")
        await reading
        long.close()


def test_what_nobody_asked_for_is_seen_among_any_number_that_are_ready(many_files: None) -> None:
    sockets = Sockets()
    pairs = [socket.socketpair() for _ in range(1200)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        pairs.append((client, server.accept()[0]))
    try:
        for ours, theirs in pairs:
            sockets.want(pycurl.POLL_IN, ours.fileno())
            theirs.send(b"x")
        last = pairs[-1][0].fileno()
        sockets.want(pycurl.POLL_REMOVE, last)
        sockets.keep(last)
        assert len(sockets.ready(begins=True)) == len(pairs)
        assert sockets.idle == 0 and last not in sockets.watched
        assert pairs[-1][1].recv(1) == b""
    finally:
        sockets.close()
        for pair in pairs:
            for each in pair:
                each.close()


@pytest.mark.parametrize("begins", [True, False])
def test_what_had_no_turn_is_next_and_an_idle_one_is_looked_at_before_a_request_begins(begins: bool) -> None:
    sockets = Sockets()
    pairs = [socket.socketpair() for _ in range(3)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        idle = socket.create_connection(server.getsockname())
        other = server.accept()[0]
    try:
        for ours, theirs in pairs:
            sockets.want(pycurl.POLL_IN, ours.fileno())
            theirs.send(b"x")
        first, *rest = sockets.ready(begins=False)
        assert [fd for fd, _ in (first, *rest)] == [ours.fileno() for ours, _ in pairs]
        sockets.leave(rest)
        sockets.want(pycurl.POLL_IN, idle.fileno())
        sockets.want(pycurl.POLL_REMOVE, idle.fileno())
        sockets.keep(idle.fileno())
        other.send(b"stray")
        assert sockets.ready(begins=begins) == rest
        assert sockets.idle == (0 if begins else 1)
        assert len(sockets.ready(begins=False)) == len(pairs) + (not begins) and sockets.idle == 0
    finally:
        sockets.close()
        for each in (*(each for pair in pairs for each in pair), idle, other):
            each.close()


@pytest.mark.parametrize("in_file", [False, True])
async def test_a_request_is_sent_once_however_many_kept_connections_die_of_it(in_file: bool) -> None:
    seen: list[bytes] = []
    come, go = 0, asyncio.Event()

    async def die_of_posts(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal come
        if head.startswith(b"GET"):
            come += 1
            if come == 8:
                go.set()
            await go.wait()
            return await say_path(head, reader, writer)
        seen.append(await reader.readexactly(4))
        writer.close()

    async with client_of(die_of_posts) as client:
        await asyncio.gather(*(whole(client, Request("GET", f"/{n}", [])) for n in range(8)))
        with tempfile.TemporaryFile() as file:
            file.write(b"body")
            file.seek(0)
            body = file if in_file else b"body"
            with pytest.raises(UpstreamLost):
                await whole(client, Request("POST", "/", [], body, 4))
        assert seen == [b"body"]
        assert await whole(client, Request("GET", "/then", [])) == b"/then"


async def test_an_end_while_nothing_is_asked_costs_no_request() -> None:
    writers: list[asyncio.StreamWriter] = []

    async def say_and_keep(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        body = await reader.readexactly(2) if head.startswith(b"POST") else b""
        writer.write(ok(head.split()[1] + body))

    async with client_of(say_and_keep) as client:
        for n in range(5):
            assert await whole(client, Request("POST", f"/{n}", [], b"ab")) == b"/%dab" % n
            writers[-1].close()
            await writers[-1].wait_closed()
        assert len(set(writers)) == 5
