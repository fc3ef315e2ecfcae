"""Whatever an upstream sends, and whoever it claims to be: a sane answer or a 502, never a traceback or a hang.

Long: the strange answers are listed here.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pycurl
import pytest
import trustme

from proxy.errors import StartError
from proxy.simulator import Raw
from proxy.upstream.driver import check_libcurl
from proxy.upstream.exchange import Exchange, Request, parse_head
from proxy.upstream.trust import ca_certificates
from tests.service import Service, serve, until, upstream_key
from tests.serving import serving
from tests.wire import Answer, Cut

OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n\r\n{}"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Seen:
    """What the client is to see: status and body."""

    status: int = 200
    body: bytes = b"{}"


BAD_GATEWAY, CUT, ANY = "502", "cut", "any"

# Any: a matter of libcurl's leniency, as long as the client sees a whole answer, a 502 or a cut.
REPLIES: dict[str, tuple[bytes, Seen | str]] = {
    # the status line
    "nothing": (b"", BAD_GATEWAY),
    "half a status line": (b"HTTP/1.", BAD_GATEWAY),
    "half a head": (OK + b"Content-Le", BAD_GATEWAY),
    "a head without its end": (OK + b"Content-Length: 2\r\n", BAD_GATEWAY),
    "HTTP/0.9": (b"hello world\r\n", BAD_GATEWAY),
    "HTTP/0.9 page": (b"<html>" + b"x" * 100_000, BAD_GATEWAY),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x28", BAD_GATEWAY),
    "HTTP/2 settings": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18, BAD_GATEWAY),
    "status 999": (b"HTTP/1.1 999 What\r\n" + TWO, Seen(999)),
    "status 600": (b"HTTP/1.1 600 \r\n" + TWO, Seen(600)),
    "status 099": (b"HTTP/1.1 099 No\r\n" + TWO, ANY),
    "status 000": (b"HTTP/1.1 000 No\r\n" + TWO, ANY),
    "status 20": (b"HTTP/1.1 20 OK\r\n" + TWO, BAD_GATEWAY),
    "status 2000": (b"HTTP/1.1 2000 OK\r\n" + TWO, BAD_GATEWAY),
    "status -20": (b"HTTP/1.1 -20 OK\r\n" + TWO, BAD_GATEWAY),
    "status abc": (b"HTTP/1.1 abc OK\r\n" + TWO, BAD_GATEWAY),
    "no status": (b"HTTP/1.1\r\n" + TWO, BAD_GATEWAY),
    "no reason": (b"HTTP/1.1 200\r\n" + TWO, Seen()),
    "empty reason": (b"HTTP/1.1 200 \r\n" + TWO, Seen()),
    "latin-1 reason": (b"HTTP/1.1 200 caf\xe9\r\n" + TWO, Seen()),
    "utf-8 reason": (b"HTTP/1.1 200 caf\xc3\xa9\r\n" + TWO, Seen()),
    "control in reason": (b"HTTP/1.1 200 a\x01\x7f\x9bb\r\n" + TWO, Seen()),
    "CR in reason": (b"HTTP/1.1 200 a\rX-Evil: 1\r\n" + TWO, ANY),
    "NUL in reason": (b"HTTP/1.1 200 a\0b\r\n" + TWO, BAD_GATEWAY),
    "long reason": (b"HTTP/1.1 200 " + b"x" * 50_000 + b"\r\n" + TWO, Seen()),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n" + TWO, Seen()),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n" + TWO, ANY),
    "HTTP/2 as text": (b"HTTP/2 200 OK\r\n" + TWO, ANY),
    "lower case": (b"http/1.1 200 OK\r\n" + TWO, ANY),
    "ICY": (b"ICY 200 OK\r\n" + TWO, BAD_GATEWAY),
    "blank lines before": (b"\r\n\r\n" + OK + TWO, ANY),
    "LF only": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", Seen()),
    "CR only": (b"HTTP/1.1 200 OK\rContent-Length: 2\r\r{}", BAD_GATEWAY),
    # what comes before the answer
    "100": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + TWO, Seen()),
    "103": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + TWO, Seen()),
    "many 1xx": (b"HTTP/1.1 102 Processing\r\n\r\n" * 20 + OK + TWO, Seen()),
    "endless 1xx": (b"HTTP/1.1 102 Processing\r\n\r\n" * 20_000, BAD_GATEWAY),
    "1xx and no answer": (b"HTTP/1.1 100 Continue\r\n\r\n", BAD_GATEWAY),
    "101": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhello", BAD_GATEWAY),
    # the length
    "no length": (OK + b"\r\n{}", Seen()),
    "no length, HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n{}", Seen()),
    "no length, no body": (OK + b"\r\n", BAD_GATEWAY),
    "equal lengths": (OK + b"Content-Length: 2\r\n" + TWO, Seen()),
    "unequal lengths": (OK + b"Content-Length: 1\r\n" + TWO, BAD_GATEWAY),
    "list of lengths": (OK + b"Content-Length: 2, 2\r\n\r\n{}", ANY),
    "unequal list": (OK + b"Content-Length: 2, 3\r\n\r\n{}", ANY),
    "length abc": (OK + b"Content-Length: abc\r\n\r\n{}", BAD_GATEWAY),
    "length -2": (OK + b"Content-Length: -2\r\n\r\n{}", BAD_GATEWAY),
    "length +2": (OK + b"Content-Length: +2\r\n\r\n{}", ANY),
    "length 0x2": (OK + b"Content-Length: 0x2\r\n\r\n{}", ANY),
    "length 2.0": (OK + b"Content-Length: 2.0\r\n\r\n{}", ANY),
    "empty length": (OK + b"Content-Length:\r\n\r\n{}", ANY),
    "length too big for any number": (OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}", ANY),
    "length of 18 digits": (OK + b"Content-Length: " + b"9" * 18 + b"\r\n\r\n{}", CUT),
    "length in blanks": (OK + b"Content-Length: \t 2 \t \r\n\r\n{}", Seen()),
    "more than its length": (OK + TWO + b"EXTRA", Seen()),
    "one byte short": (OK + b"Content-Length: 3\r\n\r\n{}", CUT),
    "length 0 with a body": (OK + b"Content-Length: 0\r\n\r\n{}", Seen(200, b"")),
    "length after a blank": (OK + b"Content-Length : 1\r\n\r\n{}", ANY),
    "length in a folded line": (OK + b"X-A: 1\r\n Content-Length: 1\r\n\r\n{}", Seen()),
    "length and chunks": (CHUNKED[:-2] + b"Content-Length: 9\r\n\r\n2\r\n{}\r\n0\r\n\r\n", Seen()),
    # statuses without a body
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Seen(204, b"")),
    "204 with length 0": (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Seen(204, b"")),
    "204 with a body": (b"HTTP/1.1 204 No Content\r\n" + TWO, Seen(204, b"")),
    "204 with chunks": (
        b"HTTP/1.1 204 No\r\n" + CHUNKED[len(OK) :] + b"2\r\n{}\r\n0\r\n\r\n",
        Seen(204, b""),
    ),
    "205 with a body": (b"HTTP/1.1 205 Reset\r\n" + TWO, ANY),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n", Seen(304, b"")),
    "304 with length and no body": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        Seen(304, b""),
    ),
    "304 with a body": (b"HTTP/1.1 304 Not Modified\r\n" + TWO, Seen(304, b"")),
    # chunks
    "chunks": (CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", Seen()),
    "chunk extension": (CHUNKED + b'2;a=b;c="d"\r\n{}\r\n0\r\n\r\n', Seen()),
    "chunk size with zeros": (CHUNKED + b"0002\r\n{}\r\n0000\r\n\r\n", Seen()),
    "chunk size with blanks": (CHUNKED + b"2  \r\n{}\r\n0\r\n\r\n", ANY),
    "chunks with LF": (CHUNKED + b"2\n{}\n0\n\n", ANY),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: 1\r\nContent-Length: 9\r\n\r\n", Seen()),
    "chunk of nonsense": (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", BAD_GATEWAY),
    "negative chunk": (CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n", BAD_GATEWAY),
    "huge chunk": (CHUNKED + b"F" * 20 + b"\r\n{}\r\n0\r\n\r\n", BAD_GATEWAY),
    "chunk without its end": (CHUNKED + b"2\r\n{}0\r\n\r\n", CUT),
    "no last chunk": (CHUNKED + b"2\r\n{}\r\n", CUT),
    "unknown transfer encoding": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", ANY),
    "chunked twice": (OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", ANY),
    "identity": (OK + b"Transfer-Encoding: identity\r\n" + TWO, ANY),
    # header lines
    "no headers": (OK + b"\r\n", BAD_GATEWAY),
    "NUL in a value": (OK + b"X-A: a\0b\r\n" + TWO, BAD_GATEWAY),
    "NUL in a name": (OK + b"X\0A: ab\r\n" + TWO, BAD_GATEWAY),
    "controls in a value": (OK + b"X-A: a\x01\x08\x0b\x0c\x1b\x7fb\r\n" + TWO, Seen()),
    "CR in a value": (OK + b"X-A: a\rX-Evil: b\r\n" + TWO, ANY),
    "C1 in a value": (OK + b"X-A: a\x85\x9b\r\n" + TWO, Seen()),
    "latin-1 in a value": (OK + b"X-A: caf\xe9\r\n" + TWO, Seen()),
    "utf-8 in a value": (OK + "X-A: 日本\r\n".encode() + TWO, Seen()),
    "utf-8 in a name": (OK + "X-é: a\r\n".encode() + TWO, ANY),
    "blank in a name": (OK + b"X A: a\r\n" + TWO, Seen()),
    "colon alone": (OK + b": a\r\n" + TWO, ANY),
    "no colon": (OK + b"nonsense\r\n" + TWO, ANY),
    "separators in a name": (OK + b'X(A)"@: a\r\n' + TWO, Seen()),
    "no value": (OK + b"X-A:\r\n" + TWO, Seen()),
    "folded": (OK + b"X-A: a\r\n  b\r\n\tc\r\n" + TWO, Seen()),
    "folded first": (OK + b"  X-A: a\r\n" + TWO, ANY),
    "folded blank": (OK + b"X-A: a\r\n \r\n" + TWO, ANY),
    "100 KB of headers": (OK + b"X-A: %s\r\n" % (b"x" * 1000) * 100 + TWO, Seen()),
    "100 KB in one header": (OK + b"X-A: " + b"x" * 100_000 + b"\r\n" + TWO, ANY),
    "400 KB of headers": (OK + b"X-A: %s\r\n" % (b"x" * 1000) * 400 + TWO, BAD_GATEWAY),
    "400 KB in one header": (OK + b"X-A: " + b"x" * 400_000 + b"\r\n" + TWO, BAD_GATEWAY),
    "a header without an end": (OK + b"X-A: " + b"x" * 1_000_000, BAD_GATEWAY),
    "4000 headers": (OK + b"X-A: a\r\n" * 4000 + TWO, Seen()),
    "a charset that is none": (OK + b"Content-Type: text/event-stream; charset=\xff\r\n" + TWO, Seen()),
    "an encoding that is a lie": (OK + b"Content-Encoding: gzip\r\n" + TWO, Seen()),
    "an encoding that is none": (OK + b"Content-Encoding: \xe9, ,\r\n" + TWO, Seen()),
    "an upgrade": (OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + TWO, Seen()),
    "a redirect to a file": (b"HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\n" + TWO, Seen(302)),
    "a redirect to nowhere": (b"HTTP/1.1 302 F\r\nLocation: \xff\r\n" + TWO, Seen(302)),
    "a login": (b"HTTP/1.1 407 P\r\nProxy-Authenticate: Basic\r\n" + TWO, Seen(407)),
    # errors that are judged
    "429 with nonsense": (b"HTTP/1.1 429 T\r\nRetry-After: soon\r\n" + TWO, ANY),
    "403 with nonsense": (
        b"HTTP/1.1 403 F\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
        ANY,
    ),
    "400 without an end": (b"HTTP/1.1 400 B\r\nContent-Length: 9\r\n\r\n{}", ANY),
    "500 without an end": (b"HTTP/1.1 500 B\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}", ANY),
}


async def ask(service: Service, method: str = "POST") -> Answer | None:
    """The answer to a request; None where it was cut."""
    async with asyncio.timeout(10):
        try:
            return await service.send(method, "/v1/messages", [], b"{}" if method == "POST" else None)
        except Cut as cut:
            assert "no head" not in str(cut)
            return None


def check(answer: Answer | None, wanted: Seen | str) -> None:
    if isinstance(wanted, Seen):
        assert answer is not None
        assert (answer.status, answer.body) == (wanted.status, wanted.body)
    elif wanted == CUT:
        assert answer is None
    elif answer is not None and (wanted == BAD_GATEWAY or answer.status == 502):
        error = answer.json()
        assert (answer.status, error["type"], error["error"]["type"]) == (502, "error", "api_error")
    else:
        assert wanted == ANY


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(("raw", "wanted"), REPLIES.values(), ids=REPLIES.keys())
async def test_a_strange_answer_is_a_sane_one_or_a_502(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, raw: bytes, wanted: Seen | str
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(tmp_path, retry__max_attempts="1") as service:
        service.simulator.script(None, Raw(raw))
        check(await ask(service), wanted)
        assert tracebacks(caplog) == []


@pytest.mark.parametrize("raw", [raw for raw, _ in REPLIES.values()], ids=REPLIES.keys())
async def test_a_strange_answer_leaves_nothing_behind(tmp_path: Path, raw: bytes) -> None:
    async with serve(tmp_path, retry__max_attempts="1") as service:
        service.simulator.script(None, Raw(raw))
        await ask(service)
        service.clock.advance(3601)  # past what a 429 costs
        assert (await service.send("GET", "/v1/models")).status == 200
        assert (service.running, service.transfers, service.status("a")) == (0, 0, "active")


HEADS = [raw for raw, _ in REPLIES.values() if raw.endswith(TWO)]


@pytest.mark.parametrize("raw", HEADS, ids=[name for name, (raw, _) in REPLIES.items() if raw.endswith(TWO)])
async def test_a_strange_answer_to_head_is_a_sane_one_or_a_502(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(tmp_path, retry__max_attempts="1") as service:
        service.simulator.script(None, Raw(raw.removesuffix(b"{}")))
        answer = await ask(service, "HEAD")
        assert answer is not None
        assert tracebacks(caplog) == []


@pytest.mark.parametrize("seed", range(4))
async def test_no_mutation_of_an_answer_breaks_the_proxy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    caplog.set_level(logging.INFO)
    chance = random.Random(seed)
    seeds = [raw for raw, _ in REPLIES.values() if len(raw) < 500]
    alphabet = [*b"\0\r\n\t :;,0123456789abcdefxX\x7f\x80\xff-{}", None]

    def mutate(raw: bytes) -> bytes:
        out = bytearray(raw)
        for _ in range(chance.randint(1, 4)):
            at, new = chance.randrange(len(out) + 1), chance.choice(alphabet)
            out[at : at + chance.randint(0, 2)] = b"" if new is None else bytes([new])
        return bytes(out)

    async with serve(tmp_path, retry__max_attempts="1") as service:
        for _ in range(125):
            raw = mutate(chance.choice(seeds))
            service.simulator.script(None, Raw(raw))
            check(await ask(service), ANY)
            assert tracebacks(caplog) == [], raw
            service.clock.advance(3601)
        assert (await service.send("GET", "/v1/models")).status == 200


# --- an upstream of our own, where more than one answer on a connection matters ---------------------------


@dataclass
class Upstream:
    url: str
    requests: list[bytes]


@asynccontextmanager
async def upstream(*answers: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    """Answers the n-th request of each connection with `answers[n]`, keeping it open; silent after the last."""
    requests: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
        await reader.read()

    async with serving(handle, tls) as port:
        yield Upstream(f"{'https' if tls else 'http'}://127.0.0.1:{port}", requests)


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(tmp_path: Path) -> None:
    evil = OK + b"X-Evil: 1\r\n" + TWO
    async with (
        upstream(OK + TWO + evil, OK + TWO) as there,
        serve(tmp_path, upstream=there.url) as service,
    ):
        for _ in range(3):
            answer = await service.send("GET", "/v1/models")
            assert (answer.status, answer.header("x-evil")) == (200, None)


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 20", OK, OK + b"X-A: ", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=str
)
async def test_an_upstream_that_never_ends_its_head_is_a_504(tmp_path: Path, start: bytes) -> None:
    async with upstream(start) as there:
        options = {"upstream": there.url, "server__answer_timeout": "250ms"}
        async with serve(tmp_path, **options) as service:
            answer = await service.send("GET", "/v1/models")
            assert (answer.status, answer.json()["error"]["type"]) == (504, "timeout_error")
            assert service.transfers == 0


@pytest.mark.parametrize(
    "drop", [b"HTTP/1.1 102 Processing\r\n\r\n", b"X-A: b\r\n", b"X"], ids=["1xx", "lines", "bytes"]
)
async def test_whatever_an_upstream_says_instead_its_head_has_one_deadline(
    tmp_path: Path, drop: bytes
) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"" if drop.startswith(b"HTTP") else OK)
        while not writer.is_closing():
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.01)

    options = {"server__answer_timeout": "400ms", "server__request_timeout": "200ms"}
    async with (
        serving(drip) as port,
        serve(tmp_path, upstream=f"http://127.0.0.1:{port}", **options) as service,
        asyncio.timeout(5),
    ):
        answer = await service.send("GET", "/v1/models")
        assert (answer.status, answer.json()["error"]["type"]) == (504, "timeout_error")
        assert answer.header("x-should-retry") == "false"
        assert (answer.header("x-proxy-attempts"), service.transfers) == ("1", 0)


async def test_an_answer_may_take_longer_to_begin_than_a_silence_within_it(tmp_path: Path) -> None:
    async def think(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)
        writer.write(OK + TWO)

    options = {"server__answer_timeout": "10s", "server__request_timeout": "100ms"}
    async with (
        serving(think) as port,
        serve(tmp_path, upstream=f"http://127.0.0.1:{port}", **options) as service,
    ):
        assert (await service.send("GET", "/v1/models")).status == 200


HUGE = {
    "many 1xx": (b"HTTP/1.1 102 Processing\r\n\r\n", 101),
    "many lines": (b"X-A: " + b"b" * 93 + b"\r\n", 4000),
    "many short lines": (b"a:b\r\n", 50_000),
    "one line": (b"X-A: " + b"b" * 1_000_000, 1),
    "lines without an end": (b"a" * 90_000 + b"\r\n", 10),
}


@pytest.mark.parametrize("huge", HUGE)
async def test_a_head_that_is_too_large_is_a_502_at_once(tmp_path: Path, huge: str) -> None:
    part, times = HUGE[huge]
    async with (
        upstream((b"" if part.startswith(b"HTTP") else OK) + part * times) as there,
        serve(tmp_path, upstream=there.url) as service,
        asyncio.timeout(5),
    ):
        answer = await service.message()
        assert (answer.status, answer.json()["error"]["type"]) == (502, "api_error")
        assert (answer.header("x-proxy-attempts"), service.transfers) == ("1", 0)


async def test_a_101_on_a_connection_that_stays_open_is_a_502_at_once(tmp_path: Path) -> None:
    for more in (b"", b"hello"):
        async with (
            upstream(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + more) as there,
            serve(tmp_path / more.decode(), upstream=there.url) as service,
            asyncio.timeout(5),
        ):
            assert (await service.message()).status == 502
            assert service.transfers == 0


async def test_a_large_upload_may_be_refused_before_it_is_read(tmp_path: Path) -> None:
    refused = b"HTTP/1.1 413 Too Large\r\nContent-Length: 6\r\n\r\n<html>"
    async with upstream(refused) as there, serve(tmp_path, upstream=there.url) as service:
        answer = await service.send("POST", "/v1/files", [], b"x" * 20_000_000)
        assert (answer.status, answer.body) == (413, b"<html>")
        assert len(there.requests) == 1


async def test_an_upstream_s_own_proxy_headers_do_not_pass(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        forged = b"X-Proxy-Account: other\r\nx-proxy-attempts: 99\r\n"
        service.simulator.script(None, Raw(OK + forged + TWO))
        answer = await service.send("GET", "/v1/models")
        assert (answer.header("x-proxy-account"), answer.header("x-proxy-attempts")) == ("a", "1")


async def test_trailers_do_not_pass(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Raw(CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n"))
        answer = await service.send("GET", "/v1/models")
        assert (answer.body, answer.header("x-trailer")) == (b"{}", None)


@pytest.mark.parametrize("prefix", ["/prefix", "/a/b/", "/"])
async def test_a_path_in_the_base_url_becomes_a_prefix(tmp_path: Path, prefix: str) -> None:
    async with (
        upstream(OK + TWO) as there,
        serve(tmp_path, upstream=there.url + prefix) as service,
    ):
        await service.send("GET", "/v1/models?a=/..")
        target = prefix.rstrip("/") + "/v1/models?a=/.."
        assert there.requests[0].split(b"\r\n")[0].decode() == f"GET {target} HTTP/1.1"


async def test_connections_are_kept_and_used_again(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for _ in range(10):
            await service.send("GET", "/v1/models")
        assert len({entry.connection for entry in service.simulator.ledger}) == 1


async def test_a_burst_leaves_connections_for_the_next(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for _ in range(2):
            await asyncio.gather(*(service.send("GET", "/v1/models") for _ in range(100)))
        assert len({entry.connection for entry in service.simulator.ledger}) <= 110


async def test_the_upstream_is_told_nothing_of_the_client_s_connection(tmp_path: Path) -> None:
    async with (
        upstream(OK + TWO) as there,
        serve(tmp_path, upstream=there.url) as service,
    ):
        await service.send("GET", "/v1/models", [("Host", "proxy.example"), ("Connection", "close")])
        lines = there.requests[0].decode().strip().split("\r\n")
        names = {line.split(":")[0].lower() for line in lines[1:]}
        assert names == {"host", "x-api-key"}
        assert there.url.replace("http://", "Host: ") in lines


# --- TLS --------------------------------------------------------------------------------------------------


def context(cert: trustme.LeafCert) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(tls)
    return tls


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(ca: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that SSL_CERT_FILE names."""
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return ca


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_certificate_of_an_authority_in_ssl_cert_file_is_trusted(
    tmp_path: Path, trusted: trustme.CA, host: str
) -> None:
    async with (
        upstream(OK + TWO, tls=context(trusted.issue_cert(host))) as there,
        serve(tmp_path / "data", upstream=there.url.replace("127.0.0.1", host)) as service,
    ):
        answer = await service.send("GET", "/v1/models")
        assert (answer.status, answer.body) == (200, b"{}")


NOW = datetime.now(UTC)
BAD_CERTIFICATES = {
    "expired": {"not_before": NOW - timedelta(days=9), "not_after": NOW - timedelta(days=1)},
    "not yet valid": {"not_before": NOW + timedelta(days=1), "not_after": NOW + timedelta(days=9)},
    "of another host": {"host": "api.anthropic.com"},
    "of a parent domain": {"host": "*.1"},
    "of an unknown authority": {"known": False},
}


@pytest.mark.parametrize("wrong", BAD_CERTIFICATES)
async def test_an_upstream_with_a_wrong_certificate_gets_nothing(
    tmp_path: Path, trusted: trustme.CA, wrong: str
) -> None:
    dates = dict(BAD_CERTIFICATES[wrong])
    host, known = dates.pop("host", "127.0.0.1"), dates.pop("known", True)
    certificate = (trusted if known else trustme.CA()).issue_cert(host, **dates)
    async with upstream(OK + TWO, tls=context(certificate)) as there:
        options = {"upstream": there.url, "retry__max_attempts": "2"}
        async with serve(tmp_path / "data", **options) as service:
            answer = await service.message()
            assert (answer.status, answer.json()["error"]["type"]) == (502, "api_error")
            assert (there.requests, answer.header("x-proxy-attempts")) == ([], "2")
            assert service.status("a") == "active"


async def test_a_self_signed_certificate_is_refused(
    tmp_path: Path, ca: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed by itself, with the right name, and no authority knows it."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    async with upstream(OK + TWO, tls=context(ca.issue_cert("127.0.0.1"))) as there:
        options = {"upstream": there.url, "retry__max_attempts": "1"}
        async with serve(tmp_path / "data", **options) as service:
            assert (await service.send("GET", "/v1/models")).status == 502
            assert there.requests == []


async def test_tls_where_plain_http_answers_is_a_502(tmp_path: Path, trusted: trustme.CA) -> None:
    sent: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + TWO)
        sent.append(await reader.read(1 << 16))

    async with (
        serving(handle) as port,
        serve(tmp_path / "data", upstream=f"https://127.0.0.1:{port}", retry__max_attempts="1") as service,
    ):
        assert (await service.send("GET", "/v1/models")).status == 502
        await until(lambda: sent)
        assert upstream_key("a").encode() not in sent[0]


async def test_a_connection_that_is_reset_in_the_handshake_is_a_502(tmp_path: Path) -> None:
    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with serving(handle) as port, serve(tmp_path, upstream=f"https://127.0.0.1:{port}") as service:
        answer = await service.message()
        assert (answer.status, answer.header("x-proxy-attempts")) == (502, "5")


# --- the parts --------------------------------------------------------------------------------------------


async def test_without_ca_certificates_the_proxy_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = ssl.DefaultVerifyPaths(None, None, "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: none)
    with pytest.raises(StartError, match="ca-certificates"):
        async with serve(tmp_path / "data", upstream="https://api.anthropic.com"):
            pass


async def test_plain_http_on_this_machine_needs_no_ca_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    async with serve(tmp_path / "data") as service:
        assert (await service.message()).status == 200


def test_a_folder_of_certificates_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert ca_certificates() == (pycurl.CAPATH, str(tmp_path))


def test_this_libcurl_is_new_enough() -> None:
    assert check_libcurl().startswith("libcurl 8.")


@pytest.mark.parametrize("version", ["7.88.1", "8.20.0", "8.3.1"])
def test_an_old_libcurl_is_refused_with_the_fix(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(pycurl, "version_info", lambda: (11, version))
    with pytest.raises(StartError, match="pip install"):
        check_libcurl()


def test_a_head_is_parsed_as_received() -> None:
    lines = [b"HTTP/1.1 200 Fine then\r\n", b"X-A: 1\r\n", b"x-a:\r\n", b"X-B: a:b \r\n", b"nonsense\r\n"]
    head = parse_head(lines)
    assert (head.status, head.reason) == (200, "Fine then")
    assert [(line.name, line.value) for line in head.lines] == [("X-A", "1"), ("x-a", ""), ("X-B", "a:b")]
    assert parse_head([b"HTTP/1.1 200 \x01\x7f\r\n"]).reason == ""


class Transfer:
    """What libcurl has of an exchange, and whether that was cut."""

    was_cut = False

    def cut(self) -> None:
        self.was_cut = True

    def resume(self) -> None:
        pass


@pytest.mark.parametrize(
    ("method", "type", "is_cut"),
    [
        ("GET", "text/event-stream; charset=utf-8", False),
        ("GET", "Text/Event-Stream", False),
        ("GET", "application/x-jsonl", True),
        ("POST", "text/event-stream; charset=utf-8", True),
    ],
)
def test_only_a_feed_of_events_may_be_silent(method: str, type: str, is_cut: bool) -> None:
    exchange = Exchange(transfer := Transfer(), Request(method, "/v1/sessions/sesn_1/events/stream", []))
    exchange.on_head(parse_head([b"HTTP/1.1 200 OK\r\n", f"Content-Type: {type}\r\n".encode(), b"\r\n"]))
    exchange.look_idle(1.0, 300.0)
    exchange.look_idle(2.0, 300.0)
    exchange.look_idle(1000.0, 300.0)
    assert transfer.was_cut is is_cut


def test_a_feed_whose_head_does_not_come_is_cut() -> None:
    exchange = Exchange(transfer := Transfer(), Request("GET", "/v1/sessions/sesn_1/events/stream", []))
    exchange.look_idle(1.0, 300.0)
    exchange.look_idle(302.0, 300.0)
    assert transfer.was_cut
