"""Requests that two readers could read differently: each carries bytes that one may take for a request of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from tests.service import CLIENT_KEY

KEY = f"x-api-key: {CLIENT_KEY}\r\n"
LENGTH = "Content-Length: LENGTH"
CODED = "Transfer-Encoding: chunked"
WHOLE = "SIZE\r\nINNER\r\n0\r\n\r\n"
ENDED = "0\r\n\r\nINNER"


class Odd(NamedTuple):
    """A request in which TARGET and INNER are to be filled in.

    LENGTH is the body's length, and SIZE that of INNER in hexadecimal.
    """

    head: str
    body: str

    def filled(self, target: str, inner: bytes) -> bytes:
        """The request's bytes with `inner` in them."""
        text = inner.decode("latin-1")
        body = self.body.replace("SIZE", f"{len(text):x}").replace("INNER", text)
        start = self.head.replace("TARGET", target).replace("LENGTH", str(len(body)))
        return (start + body).encode("latin-1")


def post(*lines: str, body: str = "INNER", start: str = "POST TARGET HTTP/1.1") -> Odd:
    """A request with these header lines beside its Host and key."""
    return Odd(f"{start}\r\nHost: a\r\n{KEY}" + "".join(f"{line}\r\n" for line in lines) + "\r\n", body)


def get(*lines: str, start: str = "GET TARGET HTTP/1.1") -> Odd:
    """A request that has no body, unless `lines` say so; INNER follows it."""
    return post(*lines, start=start)


def ended_by(end: str, request: Odd) -> Odd:
    """`request` with other ends of its head's lines."""
    return Odd(request.head.replace("\r\n", end), request.body)


LENGTHS = {
    "a length": post(LENGTH),
    "a length of nothing": post("Content-Length: 0"),
    "no length": post(),
    "a length of more than comes": post("Content-Length: LENGTH0"),
    "two equal lengths": post(LENGTH, LENGTH),
    "two lengths, long first": post(LENGTH, "Content-Length: 0"),
    "two lengths, short first": post("Content-Length: 0", LENGTH),
    "a list of lengths": post("Content-Length: LENGTH, LENGTH"),
    "a length with a sign": post("Content-Length: +LENGTH"),
    "a length with zeros": post("Content-Length: 00LENGTH"),
    "a length before a space and zero": post("Content-Length: LENGTH 0"),
    "a length in hexadecimal": post("Content-Length: 0xLENGTH"),
    "a length behind a spaced name": post("Content-Length : LENGTH"),
    "a length named by Connection": post("Connection: content-length", LENGTH),
    "a length behind an underscore": post("Content_Length: LENGTH"),
    "a length, awaited": post("Expect: 100-continue", LENGTH),
}

CHUNKS = {
    "chunks": post(CODED, body=WHOLE),
    "chunks in capitals": post("TRANSFER-ENCODING: Chunked", body=WHOLE),
    "chunks with extensions": post(CODED, body='SIZE;a="b"\r\nINNER\r\n0;c\r\n\r\n'),
    "chunks with a trailer": post(CODED, body="SIZE\r\nINNER\r\n0\r\nX: y\r\n\r\n"),
    "chunks with a length as trailer": post(CODED, body="1\r\nx\r\n0\r\nContent-Length: 9\r\n\r\nINNER"),
    "chunks that end before more": post(CODED, body=ENDED),
    "length, then chunked": post(LENGTH, CODED, body=ENDED),
    "chunked, then length": post(CODED, LENGTH, body=ENDED),
    "chunked, then a length of the first line": post(CODED, "Content-Length: 4", body=WHOLE),
    "chunked in HTTP/1.0": post("Connection: keep-alive", CODED, body=ENDED, start="POST TARGET HTTP/1.0"),
    "chunked twice": post(CODED, CODED, body=ENDED),
    "chunked, then identity": post(LENGTH, CODED, "Transfer-Encoding: identity", body=ENDED),
    "identity, then chunked": post(LENGTH, "Transfer-Encoding: identity, chunked", body=ENDED),
    "xchunked": post(LENGTH, "Transfer-Encoding: xchunked", body=ENDED),
    "chunked in quotes": post(LENGTH, 'Transfer-Encoding: "chunked"', body=ENDED),
    "chunked behind a spaced name": post(LENGTH, "Transfer-Encoding : chunked", body=ENDED),
    "chunked behind a vertical tab": post(LENGTH, "Transfer-Encoding: \x0bchunked", body=ENDED),
    "chunked behind a tab": post("Transfer-Encoding:\tchunked", body=ENDED),
    "chunked, folded": post(LENGTH, "Transfer-Encoding:\r\n chunked", body=ENDED),
    "chunked behind a bare LF": post(LENGTH, "X: y\nTransfer-Encoding: chunked", body=ENDED),
    "chunked behind a bare CR": post(LENGTH, "X: y\rTransfer-Encoding: chunked", body=ENDED),
    "chunked behind an underscore": post(LENGTH, "Transfer_Encoding: chunked", body=ENDED),
    "chunked named by Connection": post("Connection: transfer-encoding", CODED, body=ENDED),
    "a chunk size of 0x": post(CODED, body="0xSIZE\r\nINNER\r\n0\r\n\r\n"),
    "a chunk size before a space": post(CODED, body="SIZE \r\nINNER\r\n0\r\n\r\n"),
    "a chunk size beyond 64 bits": post(CODED, body="10000000000000000\r\nINNER\r\n0\r\n\r\n"),
    "a chunk size that is negative": post(CODED, body="-1\r\nINNER\r\n0\r\n\r\n"),
    "a chunk longer than its size": post(CODED, body="1\r\nx0\r\n\r\nINNER"),
    "chunks that end in bare LF": post(CODED, body="SIZE\nINNER\n0\n\n"),
    "a bare LF in an extension": post(CODED, body="1;\n0\r\n\r\nINNER\r\n0\r\n\r\n"),
    "a last chunk without a blank line": post(CODED, body="0\r\nINNER"),
}

ENDS = {
    "bare LF": ended_by("\n", post(LENGTH)),
    "bare CR": ended_by("\r", post(LENGTH)),
    "CR CR LF": ended_by("\r\r\n", post(LENGTH)),
    "LF CR": ended_by("\n\r", post(LENGTH)),
    "empty lines before it": Odd("\r\n\n" + post(LENGTH).head, "INNER"),
    "a folded line": post("X: y\r\n z", LENGTH),
    "a folded first line": Odd(post(LENGTH).head.replace("Host", " Host"), "INNER"),
    "a line without a colon": post("X", LENGTH),
    "a NUL in a value": post("X: y\0z", LENGTH),
}

METHODS = {
    "GET": get(),
    "GET with a body": get(LENGTH),
    "HEAD": get(start="HEAD TARGET HTTP/1.1"),
    "HEAD with a body": get(LENGTH, start="HEAD TARGET HTTP/1.1"),
    "CONNECT to a path": get(start="CONNECT TARGET HTTP/1.1"),
    "CONNECT to a host": get(start="CONNECT a:443 HTTP/1.1"),
    "CONNECT with a body": get(LENGTH, start="CONNECT a:443 HTTP/1.1"),
    "OPTIONS of all": get(start="OPTIONS * HTTP/1.1"),
    "TRACE": get(start="TRACE TARGET HTTP/1.1"),
    "DELETE with a body": get(LENGTH, start="DELETE TARGET HTTP/1.1"),
    "an unknown method": get(LENGTH, start="x-Y! TARGET HTTP/1.1"),
    "a method in lower case": get(LENGTH, start="post TARGET HTTP/1.1"),
    "an upgrade": get("Connection: Upgrade", "Upgrade: h2c", LENGTH),
    "an upgrade to WebSocket": get("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
}

TARGETS = {
    "an absolute target": post(LENGTH, start="POST http://aTARGET HTTP/1.1"),
    "an absolute target elsewhere": post(LENGTH, start="POST http://bTARGET HTTP/1.1"),
    "a target without a slash": post(LENGTH, start="POST aTARGET HTTP/1.1"),
    "a target with two slashes": post(LENGTH, start="POST /TARGET HTTP/1.1"),
    "a target with a space": post(LENGTH, start="POST TARGET HTTP/1.1 HTTP/1.1"),
    "a target with a fragment": post(LENGTH, start="POST TARGET#a HTTP/1.1"),
    "a target with a line end, encoded": post(LENGTH, start="POST TARGET%0d%0aX:%20y HTTP/1.1"),
    "two hosts": post("Host: b", LENGTH),
}

VERSIONS = {
    "HTTP/0.9": Odd("GET TARGET\r\n", "INNER"),
    "HTTP/1.0": post(LENGTH, start="POST TARGET HTTP/1.0"),
    "HTTP/1.0, kept": post("Connection: keep-alive", LENGTH, start="POST TARGET HTTP/1.0"),
    "HTTP/1.2": post(LENGTH, start="POST TARGET HTTP/1.2"),
    "HTTP/2.0": post(LENGTH, start="POST TARGET HTTP/2.0"),
    "HTTP/2's preface": Odd("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "INNER"),
    "a version of two digits": post(LENGTH, start="POST TARGET HTTP/1.10"),
}

PIPELINES = {
    "two in one": Odd(get().head + post(LENGTH).head, "INNER"),
    "one that closes, then one": Odd(get("Connection: close").head + post(LENGTH).head, "INNER"),
    "a HEAD, then one": Odd(get(start="HEAD TARGET HTTP/1.1").head + post(LENGTH).head, "INNER"),
    "a refused one, then one": Odd(get(start="GET /v1/../a HTTP/1.1").head + post(LENGTH).head, "INNER"),
    "one without a key, then one": Odd(get().head.replace(KEY, "") + post(LENGTH).head, "INNER"),
    "a page, then one": Odd(get(start="GET /health HTTP/1.1").head + post(LENGTH).head, "INNER"),
}

ODD = LENGTHS | CHUNKS | ENDS | METHODS | TARGETS | VERSIONS | PIPELINES
"""What is sent in pairs."""

STARTS = (
    "GET TARGET HTTP/1.1",
    "HEAD TARGET HTTP/1.1",
    "CONNECT TARGET HTTP/1.1",
    "DELETE TARGET HTTP/1.1",
    "x-Y! TARGET HTTP/1.1",
    "POST http://aTARGET HTTP/1.1",
    "GET http://bTARGET HTTP/1.1",
    "POST TARGET HTTP/1.0",
    "GET TARGET HTTP/1.0",
    "POST TARGET HTTP/1.2",
)
LINES = (
    "Connection: close",
    "Connection: keep-alive",
    "Connection: Upgrade\r\nUpgrade: h2c",
    "Expect: 100-continue",
    "X: y\r\n z",
)


def combined() -> Iterator[tuple[str, Odd]]:
    """Each length and coding with each start line, end of lines and line that could change how it is read."""
    for name, request in (LENGTHS | CHUNKS).items():
        _, *rest = request.head.partition("\r\n")
        for start in STARTS:
            yield f"{name}, {start}", Odd(start + "".join(rest), request.body)
        for end in ("\n", "\r", "\r\r\n"):
            yield f"{name}, lines end in {end!r}", ended_by(end, request)
        for line in LINES:
            yield f"{name}, {line!r}", Odd(f"{request.head[:-2]}{line}\r\n\r\n", request.body)


COMBINED = dict(combined())
"""What is sent before and behind a usual request."""

PAIRS = [
    *itertools.product(ODD, ODD),
    *((name, "GET with a body") for name in COMBINED),
    *(("GET", name) for name in COMBINED),
]


def smuggled(mark: str, *, whole: bool) -> bytes:
    """What is carried inside: a request, or the begin of one that waits to swallow another's."""
    start = f"GET /v1/smuggled/{mark} HTTP/1.1\r\n"
    return (f"{start}Host: a\r\n{KEY}\r\n" if whole else f"{start}X-Swallow: ").encode()


def attack(mark: str, first: str, second: str) -> bytes:
    """Two in a row: inside the first is a whole request, inside the second the begin of one."""
    known = ODD | COMBINED
    return b"".join(
        known[name].filled(f"/v1/marked/{mark}-{place}", smuggled(f"{mark}-{place}", whole=place == 1))
        for place, name in enumerate((first, second), 1)
    )
