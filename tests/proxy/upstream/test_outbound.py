"""The way to the upstream by an outbound proxy: which one, what it sees, and what its failures are."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from proxy.errors import UpstreamError, UpstreamUnreachable
from proxy.upstream.driver import CurlClient
from proxy.upstream.exchange import Request
from tests.outbound import Outbound, outbound
from tests.serving import serving

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
KEY = ("x-api-key", "sk-ant-api03-of-a-test")
ca = trustme.CA()


class Upstream:
    """Answers each request; `heads` are those that came, `connections` how many brought them."""

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = await reader.readexactly(4) if head.startswith(b"POST") else b""
            self.heads.append(head + body)
            writer.write(OK)


@contextlib.asynccontextmanager
async def upstream(*, tls: bool = False) -> AsyncIterator[Upstream]:
    there, context = Upstream(), None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("localhost", "upstream.example").configure_cert(context)
    async with serving(there.serve, context) as there.port:
        yield there


@contextlib.contextmanager
def client_of(url: str, proxy: str | None = None, ca_file: Path | None = None) -> Iterator[CurlClient]:
    client = CurlClient.to(url, idle_timeout_s=10, proxy=proxy, ca_file=ca_file)
    try:
        yield client
    finally:
        client.close()


async def ask(client: CurlClient, proxy: str | None = None, method: str = "GET") -> bytes:
    """The body of the answer to one request."""
    body = b"body" if method == "POST" else None
    exchange = client.open(Request(method, "/v1/models", [KEY], body, proxy=proxy))
    try:
        async with asyncio.timeout(10):
            head = await exchange.head()
            assert (head.status, [(line.name, line.value) for line in head.lines]) == (
                200,
                [("Content-Length", "2")],
            )
            return await exchange.read()
    finally:
        exchange.close()


def url(scheme: str, proxy: Outbound, user: str = "") -> str:
    return f"{scheme}://{user}127.0.0.1:{proxy.port}"


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_everything_goes_through_a_tunnel_of_the_proxy(
    scheme: str, tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")  # libcurl would obey it, and go straight
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with upstream(tls=tls) as there, outbound() as way:
        # A name that only the proxy knows: it is not looked up here.
        name = f"{'https' if tls else 'http'}://upstream.example:{there.port}"
        with client_of(name, url(scheme, way, "user:a%40b@"), tmp_path / "ca.pem") as client:
            for method in ("GET", "POST", "GET"):
                assert await ask(client, method=method) == b"ok"
        assert way.asked == [f"upstream.example:{there.port}"]  # one tunnel, kept
        assert (len(there.heads), there.connections) == (3, 1)
        assert not any(KEY[1].encode() in head for head in way.heads)
        assert not any(b"roxy-" in head for head in there.heads)
        said = b"user" if scheme == "socks5h" else b"Proxy-Authorization: Basic dXNlcjphQGI="
        assert said in way.heads[0]


async def test_a_requests_own_proxy_goes_before_the_clients_and_connections_are_not_mixed() -> None:
    async with upstream() as there, outbound() as usual, outbound() as own:
        with client_of(f"http://localhost:{there.port}", url("http", usual)) as client:
            for proxy in (None, url("http", own), None, url("http", own), url("http", own, "other:one@")):
                assert await ask(client, proxy) == b"ok"
        assert (len(usual.asked), len(own.asked)) == (1, 2)  # other credentials, another tunnel
        assert (there.connections, len(there.heads)) == (3, 5)


async def test_without_any_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream() as there, outbound() as way:
        for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, url("http", way))
        with client_of(f"http://localhost:{there.port}") as client:
            assert await ask(client) == b"ok"
        assert way.asked == []


@pytest.mark.parametrize(
    "refusal",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        b"HTTP/1.1 101 Hello\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_a_proxy_that_opens_no_tunnel_means_that_nothing_was_sent(refusal: bytes) -> None:
    async with upstream() as there, outbound() as way:
        way.refuses = refusal
        with client_of(f"http://localhost:{there.port}", url("http", way, "u:SECRET@")) as client:
            with pytest.raises(UpstreamUnreachable) as failed:
                await ask(client, method="POST")
            assert "SECRET" not in str(failed.value)
            assert client.running == 0
        assert there.heads == []


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_proxy_that_is_not_there_means_so_too(scheme: str) -> None:
    async with upstream() as there:
        with client_of(f"http://localhost:{there.port}", f"{scheme}://u:SECRET@127.0.0.1:9") as client:
            with pytest.raises(UpstreamError) as failed:
                await ask(client)
            assert isinstance(failed.value, UpstreamUnreachable)
            assert "SECRET" not in str(failed.value)
        assert there.heads == []
