"""A request body while it may have to be sent again: whole, as often as asked, and never cut in silence."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import random
import resource
import signal
import stat
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from proxy.http.body import MEMORY_BYTES, NEVER_SPOOLED_BYTES, SPOOL_ABOVE_BYTES, Bodies, Body
from proxy.http.peek import Peek, peek
from tests.service import CLIENT_KEY, serve, until
from tests.wire import connect, request_bytes

MB = 1_000_000


@pytest.fixture
def no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's folder for temporary files takes none, as in a container that is read-only."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """The folder that large bodies go to."""
    return tmp_path


@pytest.fixture
def body(spool: Path) -> Iterator[Body]:
    body = Body(Bodies(spool))
    yield body
    body.close()


def open_files(folder: Path) -> list[int]:
    """This process's descriptors of files in `folder`, whether they have a name still or not."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith(f"{folder}/"):
                found.append(int(fd))
    return found


async def write_all(body: Body, *parts: bytes) -> None:
    for part in parts:
        if (spooling := body.write(part)) is not None:
            await spooling


def read(body: Body, size: int = -1) -> bytes:
    found = body.open()
    return found if isinstance(found, bytes) else found.read(size)


async def write(body: Body, megabytes: int) -> bytes:
    """Fill the body; what was written."""
    parts = [bytes([number]) * MB for number in range(megabytes)]
    for part in parts:
        await write_all(body, part)
    return b"".join(parts)


@given(st.lists(st.binary()))
def test_what_was_written_is_read_as_often_as_asked(parts: list[bytes]) -> None:
    async def fill() -> None:
        for part in parts:
            await write_all(body, part)

    body, whole = Body(Bodies(None)), b"".join(parts)
    IOLoop.current().run_sync(fill)
    assert (read(body), read(body), body.size) == (whole, whole, len(whole))
    body.close()


@pytest.mark.parametrize("megabytes", [1, 4, 5, 9])
async def test_a_large_body_is_read_as_often_as_asked(body: Body, megabytes: int) -> None:
    whole = await write(body, megabytes)
    assert body.size == len(whole)
    assert read(body) == whole
    read(body, 100)
    assert read(body) == whole


async def test_a_disk_that_fails_at_the_end_is_told_and_ends_nothing_else(
    body: Body, spool: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(io.FileIO):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir, **_: Failing(dir / "spooled", "wb+"))
    await write(body, 5)
    assert open_files(spool)
    body.close()
    assert open_files(spool) == []
    assert "closing the file of a body failed error=Input/output error" in caplog.text


async def test_a_small_body_is_in_memory(body: Body, spool: Path) -> None:
    await write_all(body, b"x" * SPOOL_ABOVE_BYTES)
    assert open_files(spool) == []


@pytest.mark.usefixtures("no_temporary")
async def test_a_large_body_is_in_a_file_that_nobody_else_can_open(body: Body, spool: Path) -> None:
    await write_all(body, b"x" * (SPOOL_ABOVE_BYTES + 1))
    [fd] = open_files(spool)
    assert os.fstat(fd).st_nlink == 0
    assert stat.S_IMODE(os.fstat(fd).st_mode) & 0o077 == 0
    assert os.listdir(spool) == []


async def test_closing_gives_the_file_back(body: Body, spool: Path) -> None:
    await write(body, 5)
    body.close()
    body.close()
    assert open_files(spool) == []


# ---- the memory of all


async def test_all_bodies_together_take_no_more_memory_than_they_may(spool: Path) -> None:
    bodies = Bodies(spool, 3 * MB)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(contextlib.closing(Body(bodies))) for _ in range(20)]
        for body in held:
            await write(body, 2)
            assert bodies.in_memory <= 4 * MB
        assert bodies.in_memory > 0
        assert len(open_files(spool)) >= 18
        assert [len(read(body)) for body in held] == [2 * MB] * 20
    assert bodies.in_memory == 0
    with contextlib.closing(Body(bodies)) as after:
        await write(after, 2)
        assert open_files(spool) == []


async def test_a_small_body_needs_no_file_however_much_the_others_take(spool: Path) -> None:
    bodies = Bodies(spool, 0)
    with contextlib.closing(Body(bodies)) as body:
        await write_all(body, b"x" * NEVER_SPOOLED_BYTES)
        assert open_files(spool) == []
        await write_all(body, b"x")
        assert len(open_files(spool)) == 1
        assert bodies.in_memory == 0


async def test_a_body_that_comes_in_small_pieces_takes_no_more_memory_than_its_bytes() -> None:
    body = Body(Bodies(None))
    tracemalloc.start()
    try:
        for number in range(100_000):
            body.write(bytes([number % 256, number // 256 % 256]))
        assert tracemalloc.get_traced_memory()[0] < 300_000
    finally:
        tracemalloc.stop()


async def test_memory_is_given_back_if_what_is_written_does_not_fit() -> None:
    bodies = Bodies(None)
    body = Body(bodies)
    await write(body, 5)
    with largest_file(5_500_000), pytest.raises(OSError, match="too large"):
        await write_all(body, b"x" * MB)
    assert bodies.in_memory == 0
    body.close()
    assert bodies.in_memory == 0


async def test_unfinished_bodies_go_to_files_once_they_take_as_much_as_they_may(
    tmp_path: Path, spool: Path
) -> None:
    size = 4 * MB
    count = MEMORY_BYTES // size + 10
    head = request_bytes("POST", "/v1/files", [("x-api-key", CLIENT_KEY), ("content-length", str(size))])
    async with serve(tmp_path / "data") as service, contextlib.AsyncExitStack() as stack:
        others = open_files(spool)
        for _ in range(count):
            wire = await stack.enter_async_context(connect(service.port))
            await wire.send(head + bytes(size - 1))
        await until(lambda: len(open_files(spool)) - len(others) >= 9)
        await stack.aclose()
        await until(lambda: open_files(spool) == others and not service.running)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files of this process end at `size` bytes, as on a disk with no more space."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def test_a_body_that_does_not_fit_is_an_error_and_never_cut(body: Body) -> None:
    await write(body, 5)
    with largest_file(5_500_000), pytest.raises(OSError, match="too large"):
        await write_all(body, b"x" * MB)


class Failing(io.FileIO):
    """A file that takes nothing."""

    def __init__(self, number: int) -> None:
        super().__init__(os.memfd_create("failing"), "r+b")
        self.number = number

    def write(self, data: object) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (errno.ENOSPC, 507, "no space left for the request body"),
        (errno.EDQUOT, 507, "no space left for the request body"),
        (errno.EIO, 503, "cannot store the request body: Input/output error"),
        (errno.EROFS, 503, "cannot store the request body: Read-only file system"),
    ],
)
async def test_a_client_whose_body_cannot_be_stored_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int, said: str
) -> None:
    async with serve(tmp_path) as service:
        with monkeypatch.context() as patch:
            patch.setattr("tempfile.TemporaryFile", lambda **_: Failing(number))
            answer = await service.send("POST", "/v1/files", body=b"x" * 9 * MB)
        assert (answer.status, answer.json()["error"]["type"]) == (status, "api_error")
        assert said in answer.json()["error"]["message"]
        await until(lambda: not service.running)
        assert len(service.simulator.ledger) == 0
        assert (await service.message()).status == 200


async def test_bodies_leave_room_on_the_disk_for_what_must_not_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path) as service:
        with monkeypatch.context() as patch:
            patch.setattr("proxy.http.body.KEPT_FREE_BYTES", 1 << 60)
            answer = await service.send("POST", "/v1/files", body=b"x" * 9 * MB)
        assert answer.status == 507
        assert "no space left for the request body" in answer.json()["error"]["message"]
        await until(lambda: not service.running)
        assert len(service.simulator.ledger) == 0


@contextlib.contextmanager
def busy_threads() -> Iterator[threading.Event]:
    """The loop's threads do nothing until the event is set."""
    loop, go = asyncio.get_running_loop(), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        loop.set_default_executor(threads)
        loop.run_in_executor(None, go.wait)
        try:
            yield go
        finally:
            go.set()


async def test_a_file_is_closed_only_after_the_thread_that_writes_it(spool: Path) -> None:
    with busy_threads() as go:
        body = Body(Bodies(None))
        spooling = body.write(bytes(SPOOL_ABOVE_BYTES + 1))
        assert spooling is not None
        writing = asyncio.ensure_future(spooling)
        await asyncio.sleep(0)
        file = body.open()
        assert not isinstance(file, bytes)
        body.close()
        assert not file.closed
        go.set()
        await writing
        await until(lambda: file.closed)


async def test_a_file_is_closed_only_after_the_thread_that_reads_it_also_when_nobody_waits_for_it() -> None:
    body = Body(Bodies(None))
    spooling = body.write(bytes(SPOOL_ABOVE_BYTES + 1))
    assert spooling is not None
    await spooling
    file = body.open()
    assert not isinstance(file, bytes)
    with busy_threads() as go:
        seeing = peek(body)
        assert not isinstance(seeing, Peek)
        reading = asyncio.ensure_future(seeing)
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        body.close()
        assert not file.closed
        go.set()
        await until(lambda: file.closed)


HEAD = f"POST /v1/files HTTP/1.1\r\nHost: a\r\nx-api-key: {CLIENT_KEY}\r\nContent-Length: {5 * MB}\r\n\r\n"


@pytest.mark.usefixtures("no_temporary")
async def test_a_large_body_is_stored_below_the_data_folder(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(HEAD.encode() + bytes(5 * MB - 1))
        await until(lambda: open_files(tmp_path / "tmp"))


async def test_what_a_storm_of_clients_that_leave_has_stored_is_gone(tmp_path: Path) -> None:
    rng = random.Random(7)

    async def leave(port: int) -> None:
        async with connect(port) as wire:
            await wire.send(HEAD.encode())
            with contextlib.suppress(ConnectionError):
                await wire.send(bytes(rng.choice([5 * MB, rng.randrange(4 * MB, 5 * MB)])))
            for _ in range(rng.randrange(40)):
                await asyncio.sleep(0)

    async with serve(tmp_path) as service:
        for _ in range(6):
            await asyncio.gather(*(leave(service.port) for _ in range(8)))
        await until(lambda: not service.running)
        await until(lambda: not open_files(tmp_path / "tmp"))
        assert os.listdir(tmp_path / "tmp") == []
