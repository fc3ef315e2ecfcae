"""The servers that tests run beside the proxy leave nothing open, whatever their clients are at when they end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest
import trustme

from tests.mailbox import MailServer, mail_server
from tests.serving import serving
from tests.wire import connect

TURNS = range(16)
"""How many turns of the loop a server still runs after a client has come; a handshake takes about ten."""
ca = trustme.CA()


def certified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("mail.test").configure_cert(context)
    return context


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the first line, and wait for the end."""
    writer.write(await reader.readline())
    await reader.read()


async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End the conversation before the client does."""
    writer.write(await reader.readline())


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say more than fits in the sockets' buffers."""
    writer.write(bytes(1 << 24))


@contextlib.asynccontextmanager
async def mailing() -> AsyncIterator[int]:
    async with mail_server(MailServer(certified())) as server:
        yield server.port


SERVERS: dict[str, Callable[[], AbstractAsyncContextManager[int]]] = {
    "plain": lambda: serving(answer),
    "plain, leaves": lambda: serving(leave),
    "plain, floods": lambda: serving(flood),
    "TLS": lambda: serving(answer, certified()),
    "TLS, leaves": lambda: serving(leave, certified()),
    "TLS, floods": lambda: serving(flood, certified()),
    "STARTTLS": mailing,
}


def silent(peer: socket.socket) -> Iterator[None]:
    yield


def gone(peer: socket.socket) -> Iterator[None]:
    peer.shutdown(socket.SHUT_WR)
    yield


def speak(peer: socket.socket) -> Iterator[None]:
    """No TLS, where it is wanted."""
    peer.send(b"hello\r\n")
    yield


def ask_for_tls(peer: socket.socket) -> Iterator[None]:
    heard = b""
    peer.send(b"STARTTLS\r\n")
    while not heard.endswith(b"go on\r\n"):
        yield
        with contextlib.suppress(BlockingIOError):
            heard += peer.recv(65536)


def shake_hands(peer: socket.socket, *, trusts: bool = True) -> Iterator[None]:
    """A TLS handshake with a step in each turn; then a line, and no answer to a closure."""
    context = ssl.create_default_context()
    if trusts:
        ca.configure_trust(context)
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(came, goes, server_hostname="mail.test")
    is_done = False
    while not is_done:
        try:
            tls.do_handshake()
            tls.write(b"hello\r\n")
            is_done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            is_done = True  # it distrusts, which it tells by an alert, or the server speaks no TLS
        peer.send(goes.read())
        yield
        with contextlib.suppress(BlockingIOError):
            came.write(peer.recv(65536))


def distrust(peer: socket.socket) -> Iterator[None]:
    yield from shake_hands(peer, trusts=False)


CLIENTS: dict[str, Callable[[socket.socket], Iterator[None]]] = {
    each.__name__: each for each in (silent, gone, speak, shake_hands, distrust)
}


def is_at_end(peer: socket.socket) -> bool:
    """Whether the other side has closed the connection; what it said before is passed over."""
    with contextlib.suppress(ConnectionError):
        try:
            while peer.recv(65536):
                pass
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", SERVERS)
def test_a_server_closes_whom_it_accepted_in_whatever_turn_it_ends(server: str, client: str) -> None:
    async def is_closed_after(turns: int, peer: socket.socket) -> bool:
        async with SERVERS[server]() as port:
            peer.connect(("127.0.0.1", port))
            peer.setblocking(False)
            steps = CLIENTS[client](peer)
            if server == "STARTTLS":
                steps = itertools.chain(ask_for_tls(peer), steps)
            for _ in range(turns):
                next(steps, None)
                await asyncio.sleep(0)
        return is_at_end(peer)

    left = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        for turns in TURNS:
            with socket.socket() as peer:
                if not asyncio.run(is_closed_after(turns, peer)):
                    left.append(turns)
        gc.collect()
    assert (left, [str(each.message) for each in warned]) == ([], [])


async def test_what_a_server_s_own_code_raises_is_raised_at_its_end() -> None:
    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise ValueError("no such number")

    with pytest.raises(ExceptionGroup) as raised:
        async with serving(fail) as port, connect(port) as wire:
            assert await wire.reader.read() == b""
    [error] = raised.value.exceptions
    assert isinstance(error, ValueError)
