"""The libraries alone: asyncio, llhttp and libcurl as a relay that knows nothing, the least that a proxy of them costs.

python tests/bench/bare.py PORT UPSTREAM_PORT     no accounts, no limits, no back-pressure, no errors: only to measure
"""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import sys

import httptools
import pycurl

EVENTS = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}
NOT_PASSED_ON = (b"host", b"connection", b"content-length")


class Driver:
    """libcurl's sockets in an epoll of their own, which is the loop's one reader."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self.multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timeout)
        self.running: dict[pycurl.Curl, Transfer] = {}
        self.kept: list[Transfer] = []
        self.news: list[Transfer] = []
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        self._due: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._on_sockets)

    def begin(self, client: Client, method: str, target: str, headers: list[bytes], body: bytes) -> None:
        transfer = self.kept.pop() if self.kept else Transfer(self)
        transfer.begin(client, method, target, headers, body)
        self.running[transfer.curl] = client.transfer = transfer
        self.multi.add_handle(transfer.curl)

    def cut(self, transfer: Transfer) -> None:
        del self.running[transfer.curl]
        self.multi.remove_handle(transfer.curl)
        transfer.curl.close()

    def _watch(self, event: int, fd: int, multi: object, data: object) -> None:
        if event == pycurl.POLL_REMOVE:
            self._watched.discard(fd)
            self._epoll.unregister(fd)
        elif fd in self._watched:
            self._epoll.modify(fd, EVENTS[event])
        else:
            self._watched.add(fd)
            self._epoll.register(fd, EVENTS[event])

    def _set_timeout(self, msecs: int) -> None:
        if self._due is not None:
            self._due.cancel()
        if msecs == 0:
            self._due = self._loop.call_soon(self._act, pycurl.SOCKET_TIMEOUT, 0)
        else:
            self._due = (
                None
                if msecs < 0
                else self._loop.call_later(msecs / 1000, self._act, pycurl.SOCKET_TIMEOUT, 0)
            )

    def _on_sockets(self) -> None:
        while ready := self._epoll.poll(0):
            for fd, events in ready:
                writes = pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0
                self._act(fd, writes | (pycurl.CSELECT_IN if events & ~select.EPOLLOUT else 0))

    def _act(self, fd: int, action: int) -> None:
        _, still_running = self.multi.socket_action(fd, action)
        _, ended, failed = self.multi.info_read() if still_running != len(self.running) else (0, (), ())
        for transfer in self.news:
            transfer.hand_on()
        self.news.clear()
        for curl in ended:
            transfer = self.running.pop(curl)
            self.multi.remove_handle(curl)
            self.kept.append(transfer)
            transfer.end()
        for curl, _, _ in failed:
            self.running[curl].client.transport.abort()


class Transfer:
    """One of libcurl's easy handles, used again and again."""

    def __init__(self, driver: Driver) -> None:
        self.curl = pycurl.Curl()
        self.curl.setopt(pycurl.WRITEFUNCTION, self._take)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._take_line)
        self._driver = driver
        self._body: list[bytes] = []

    def begin(self, client: Client, method: str, target: str, headers: list[bytes], body: bytes) -> None:
        self.client = client
        self._head: list[bytes] = []
        self._is_told = False
        self._has_length = False
        self.curl.setopt(pycurl.URL, self._driver.upstream + target)
        self.curl.setopt(pycurl.HTTPHEADER, headers)
        if method == "POST":
            self.curl.setopt(pycurl.POSTFIELDS, body)
        else:
            self.curl.setopt(pycurl.HTTPGET, 1)

    def _take_line(self, line: bytes) -> None:
        name = line.partition(b":")[0].lower()
        self._has_length = self._has_length or name == b"content-length"
        if name not in (b"transfer-encoding", b"connection"):
            self._head.append(line)

    def _take(self, data: bytes) -> None:
        if not self._body:
            self._driver.news.append(self)
        self._body.append(data)

    def hand_on(self) -> None:
        data = b"".join(self._body)
        self._body = []
        if not self._has_length:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self.client.transport.write(data if self._is_told else self._begun() + data)

    def _begun(self) -> bytes:
        self._is_told = True
        *head, end = self._head
        return b"".join([*head, b"" if self._has_length else b"Transfer-Encoding: chunked\r\n", end])

    def end(self) -> None:
        data = b"" if self._is_told else self._begun()
        self.client.transfer = None
        self.client.transport.write(data if self._has_length else data + b"0\r\n\r\n")


class Client(asyncio.Protocol):
    """A client's connection: one request after the other."""

    transport: asyncio.Transport

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._parser = httptools.HttpRequestParser(self)
        self.transfer: Transfer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.transfer is not None:
            self._driver.cut(self.transfer)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._headers: list[bytes] = []
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._target = url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in NOT_PASSED_ON:
            self._headers.append(name + b": " + value)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        self._driver.begin(self, method, self._target, self._headers, b"".join(self._body))


async def serve(port: int, upstream_port: int) -> None:
    """Until the process is ended."""
    driver = Driver(f"http://127.0.0.1:{upstream_port}")
    listening = socket.create_server(("127.0.0.1", port), backlog=4096)
    await asyncio.get_running_loop().create_server(lambda: Client(driver), sock=listening, backlog=4096)
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*map(int, sys.argv[1:])))
