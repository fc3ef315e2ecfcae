"""A connection to Redis from its beginning to its end: TLS, databases, Sentinels, and servers that are none."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from proxy.errors import StorageError, StoreAway
from proxy.storage.address import StoreAddress
from proxy.storage.redis import SCRIPTS, RedisLink
from tests.bench.versions import free_port
from tests.redis_server import RedisServer, redis_process
from tests.sentinels import on_port, sentinel
from tests.service import TestClock
from tests.serving import Serve, serving

COMMAND = re.compile(rb"\*\d+\r\n\$")


@asynccontextmanager
async def link_to(
    url: str, *, timeout_s: float = 5.0, ca_file: Path | None = None
) -> AsyncIterator[RedisLink]:
    trusted = None if ca_file is None else str(ca_file)
    link = RedisLink(StoreAddress.read(url), clock=TestClock(), timeout_s=timeout_s, ca_file=trusted)
    try:
        yield link
    finally:
        await link.close()


@asynccontextmanager
async def impostor(serve: Serve) -> AsyncIterator[str]:
    """A server that is no Redis; its URL."""
    async with serving(serve) as port:
        yield f"redis://127.0.0.1:{port}"


async def test_a_server_is_trusted_over_tls_if_its_certificate_is(tmp_path: Path) -> None:
    ca, port, other = trustme.CA(), free_port(), tmp_path / "other.pem"
    own, names = tmp_path / "ca.pem", {"cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    ca.cert_pem.write_to_path(own)
    trustme.CA().cert_pem.write_to_path(other)
    issued = ca.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(names["cert"])
    issued.private_key_pem.write_to_path(names["key"])
    tls = ("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(own))
    files = ("--tls-cert-file", str(names["cert"]), "--tls-key-file", str(names["key"]))
    with redis_process("--bind", "127.0.0.1", *tls, *files):
        large = b"x" * 1_000_000
        async with link_to(f"rediss://localhost:{port}", ca_file=own) as link:
            await link.call("SET", "a", large)
            assert await link.call("GET", "a") == large
        for name, trusted in (("localhost", other), ("localhost", None), ("127.0.0.1", own)):
            async with link_to(f"rediss://{name}:{port}", ca_file=trusted) as link:
                with pytest.raises(StoreAway, match="certificate"):
                    await link.call("PING")


async def test_a_database_is_one_of_its_own(redis_server: RedisServer) -> None:
    async with link_to(redis_server.url) as link, link_to(f"{redis_server.url}?db=3") as other:
        await other.call("SET", "a", 1)
        assert await link.call("GET", "a") is None
        assert await other.call("GET", "a") == b"1"
    async with link_to(f"{redis_server.url}?db=99") as link:
        with pytest.raises(StoreAway, match="out of range"):
            await link.call("PING")


async def test_replies_of_all_kinds_come_as_they_are(redis_server: RedisServer) -> None:
    async with link_to(redis_server.url) as link:
        assert await link.call("SET", "n", 7.5) == b"OK"
        assert await link.call("RPUSH", "l", "ä", b"\0\r\n", "") == 3
        assert await link.call("LRANGE", "l", 0, -1) == ["ä".encode(), b"\0\r\n", b""]
        assert await link.call("MGET", "n", "none") == [b"7.5", None]
        assert await link.call("LRANGE", "none", 0, -1) == []
        assert await link.call("EVAL", "return {1, {'a', {}}, false}", 0) == [1, [b"a", []], None]
        large = [b"%d" % n * 1000 for n in range(500)]
        await link.call("RPUSH", "large", *large)
        assert await link.call("LRANGE", "large", 0, -1) == large


async def test_what_is_called_in_one_turn_of_the_loop_is_sent_together() -> None:
    came = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000_000):
            came.append(data)
            writer.write(b"+OK\r\n" * len(COMMAND.findall(data)))

    async with impostor(serve) as url, link_to(url) as link:
        await link.call("PING")
        came.clear()
        await asyncio.gather(*(link.call("PING") for _ in range(100)))
        assert came == [b"*1\r\n$4\r\nPING\r\n" * 100]


async def test_a_connection_that_ends_with_its_last_greeting_is_not_waited_for() -> None:
    scripts = len(list(SCRIPTS.glob("*.lua")))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answered = 0
        while answered < 1 + scripts:  # a name, and what scripts there are
            count = len(COMMAND.findall(await reader.read(1_000_000)))
            writer.write(b"+OK\r\n" * count)
            answered += count

    async with impostor(serve) as url, link_to(url, timeout_s=60.0) as link:
        with pytest.raises(StoreAway, match="closed the connection"):
            await link.call("PING")


async def test_a_connection_that_ends_with_its_login_is_not_waited_for() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000_000)
        writer.write(b"+OK\r\n")

    async with impostor(serve) as url, link_to(url, timeout_s=60.0) as link:
        with pytest.raises(StoreAway, match=r"closed the connection|reset by peer|Broken pipe"):
            await link.call("PING")


@pytest.mark.parametrize("greets", [True, False])
@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b":1\r\n" * 30 + b"$9\r\nshort\r\n"]
)
async def test_a_server_that_is_none_fails_all_who_wait_and_leaves_nothing_behind(
    said: bytes, greets: bool
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not greets:
            await reader.read(1_000_000)
        writer.write(said)

    async with impostor(serve) as url, link_to(url) as link:
        calls = [link.call("PING") for _ in range(3)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in outcomes} == {StoreAway}
    gc.collect()  # a socket that is left open is an error


async def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time() -> None:
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()

    async with impostor(serve) as url, link_to(url, timeout_s=0.05) as link:
        with pytest.raises(StoreAway, match="not answered within 50 ms"):
            await link.call("PING")
        await asyncio.wait_for(left.wait(), 5)  # its connection is closed, though it was not made yet


async def test_a_greeting_may_give_a_call_up_and_go_on(redis_server: RedisServer) -> None:
    said: list[object] = []

    async with link_to(redis_server.url) as link:

        async def greeting(talk: Any) -> None:
            given_up = asyncio.ensure_future(talk.call("PING"))
            await asyncio.sleep(0)  # it is sent
            given_up.cancel()
            said.append(await talk.call("ECHO", "after it"))

        link.greet(greeting)
        assert await link.call("PING") == b"PONG"
        assert said == [b"after it"]


async def test_a_command_that_cannot_be_sent_is_told_to_whoever_called(redis_server: RedisServer) -> None:
    async with link_to(redis_server.url) as link:
        await link.call("PING")
        with pytest.raises(StorageError):
            await link.call("SET", "a", None)  # type: ignore[arg-type]
        assert await link.call("PING") == b"PONG"


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_a_sentinel_that_is_away_silent_or_knows_nothing_is_passed_over(unused_port: int) -> None:
    with on_port() as (_, port), sentinel(port) as watching, sentinel(port) as unknowing:
        async with link_to(f"redis+sentinel://127.0.0.1:{unknowing}/pools") as link:
            with pytest.raises(StoreAway, match="No master found"):
                await link.call("PING")
        async with impostor(say_nothing) as silent:
            hosts = f"127.0.0.1:{unused_port},{urlsplit(silent).netloc},127.0.0.1:{watching}"
            async with link_to(f"redis+sentinel://{hosts}/pool", timeout_s=2) as link:
                assert await link.call("PING") == b"PONG"
