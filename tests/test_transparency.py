"""What crosses `/v1` crosses byte for byte, both ways, but for the exceptions in one table.

Longer than most, since all of it reads that table.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import re
import string
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.accounts.account import OAuthTokens
from proxy.http.target import NEVER_SENT
from proxy.simulator import Simulator
from tests.echo import Caller, Echo, Message, Script, chunked, echo
from tests.service import CLIENT_KEY, MESSAGE_HEADERS, Service, TestClock, message, serve, upstream_key

T = TypeVar("T")
Fields = dict[str, list[bytes]]

# All exceptions: way, headers (`*` is any ending), why. Nothing else may differ, but for the credential and
# what `set_upward` and `SET_DOWNWARD` say.
STOPS = [
    ("both", "connection keep-alive te trailer transfer-encoding upgrade", "hop-by-hop, RFC 9110 §7.6.1"),
    ("both", "host cookie proxy-* x-forwarded-*", "between two neighbours"),
    ("up", "authorization x-api-key x-proxy-*", "the client's, for this proxy"),
    ("up", "origin referer", "where a browser's user is"),
    (
        "up",
        "forwarded via x-real-ip true-client-ip cdn-loop cf-* x-envoy-* x-amzn-*"
        " x-forwarded client-ip x-client-ip x-cluster-client-ip x-scheme x-cloud-trace-context"
        " x-amz-cf-* x-original-* x-azure-* x-arr-* x-appengine-* x-akamai-* x-vercel-* x-nf-* fastly-* fly-* akamai-*",
        "a front's, for this proxy",
    ),
    ("up", "content-length expect", "the body is collected, then sent on with its length"),
    ("down", "set-cookie x-proxy-*", "the upstream's, for this proxy"),
    ("down", "strict-transport-security alt-svc", "of the upstream's origin"),
]  # and what `connection` names
SET_DOWNWARD = {"x-proxy-account", "x-proxy-attempts", "transfer-encoding", "connection"}

ACCESS_TOKEN = b"sk-ant-oat01-of-a-" + b"x" * 24
BETA = b"oauth-2025-04-20"
KEY = b"x-api-key: " + CLIENT_KEY.encode()
OK = Script(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
OK_TO_HEAD = Script(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")


# ---- one exchange, made twice


class Crossing(NamedTuple):
    """What the upstream got and the client was told: straight, then through the proxy."""

    sent: Message
    arrived: Message
    said: Message
    heard: Message


class Both:
    """An upstream and a proxy before it, with one account; each request goes to the one and to the other."""

    def __init__(self, run: Callable[[Awaitable[T]], T], upstream: Echo, service: Service) -> None:
        self._run = run
        self._direct = Caller(upstream.port)
        self._through = Caller(service.port)
        self.upstream = upstream
        self.kind = next(iter(service.parts.pool)).type

    def exchange(self, request: Request, script: Script = OK) -> Crossing:
        async def twice() -> Crossing:
            said = await self._direct.ask(request.data, bodiless=request.method == "HEAD")
            await self._direct.close()
            heard = await self._through.ask(request.data, bodiless=request.method == "HEAD")
            sent, arrived = self.upstream.requests
            return Crossing(sent, arrived, said, heard)

        self._begin(script)
        return self._run(twice())

    def refused(self, request: Request, script: Script = OK) -> tuple[Message, int]:
        """The answer through the proxy alone, and how many requests reached the upstream."""
        self._begin(script)
        heard = self._run(self._through.ask(request.data))
        self._run(self._through.close())
        return heard, len(self.upstream.requests)

    def _begin(self, script: Script) -> None:
        self.upstream.requests.clear()
        self.upstream.script = script

    async def close(self) -> None:
        await self._direct.close()
        await self._through.close()


@pytest.fixture(scope="module", params=["api_key", "oauth"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    stack = contextlib.AsyncExitStack()

    async def start(folder: Path) -> Both:
        upstream = await stack.enter_async_context(echo())
        service = await stack.enter_async_context(
            serve(folder, accounts=[], upstream=upstream.url, retry__max_attempts="1")
        )
        if request.param == "api_key":
            await service.add_account("a")
        else:
            await service.parts.pool.add("a", OAuthTokens(ACCESS_TOKEN.decode(), None, None))
        both = Both(asyncio.get_running_loop().run_until_complete, upstream, service)
        stack.push_async_callback(both.close)
        return both

    with asyncio.Runner() as runner:
        yield runner.run(start(tmp_path_factory.mktemp("data")))
        runner.run(stack.aclose())


# ---- the table, applied


def crossing(way: str, message: Message) -> Fields:
    names = [name for at, row, _ in STOPS if at in ("both", way) for name in row.split()]
    names += [
        name.strip()
        for value in message.values("connection")
        for name in value.decode("latin-1").lower().split(",")
    ]
    prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
    return {n: v for n, v in message.fields().items() if n not in names and not n.startswith(prefixes)}


def set_upward(both: Both, sent: Message) -> Fields:
    fields = {"host": [b"127.0.0.1:%d" % both.upstream.port]}
    if sent.values("content-length") or sent.values("transfer-encoding"):
        fields["content-length"] = [b"%d" % len(sent.body)]
    if both.kind == "api_key":
        return fields | {"x-api-key": [upstream_key("a").encode()]}
    betas = crossing("up", sent).get("anthropic-beta", [])
    if BETA not in re.split(rb"[ ,]+", b",".join(betas)):
        *others, last = betas or [b""]
        fields["anthropic-beta"] = [*others, last + b"," + BETA if last else BETA]
    return fields | {"authorization": [b"Bearer " + ACCESS_TOKEN]}


def assert_the_request_crossed(both: Both, sent: Message, arrived: Message) -> None:
    assert arrived.start == sent.start
    assert arrived.fields() == crossing("up", sent) | set_upward(both, sent)
    assert arrived.body == sent.body


def assert_the_answer_crossed(said: Message, heard: Message) -> None:
    assert (heard.status, heard.reason) == (said.status, said.reason)
    fields = heard.fields()
    assert (fields["x-proxy-account"], fields["x-proxy-attempts"]) == ([b"a"], [b"1"])
    assert {n: v for n, v in fields.items() if n not in SET_DOWNWARD} == crossing("down", said)
    assert heard.body == said.body


# ---- what clients send

TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
METHODS = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "LINK",
    "PROPFIND", "REPORT", "M-SEARCH", "get", "Post", "head", TOKEN,
]  # fmt: skip
TARGETS = [
    "/v1/messages", "/v1/messages?beta=true", "/v1/messages/count_tokens", "/v1/models?limit=1000",
    "/v1/files/file_01/content", "/v1/sessions/s:archive", "/v1/a;b=c@d~e,f", "/v1/%2541",
]  # fmt: skip
OF_CLIENTS = [
    "anthropic-version", "anthropic-beta", "anthropic-workspace-id", "Anthropic-New-Thing", "x-app",
    "x-stainless-retry-count", "accept", "accept-encoding", "accept-language", "content-type",
    "content-encoding", "content-range", "user-agent", "expect", "pragma", "range", "referer", "origin",
    "date", "if-none-match", "via", "from", "priority", "traceparent", "forwarded", "x-forwarded-for",
    "cf-connecting-ip",
    "connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade",
    "cookie", "authorization", "x-api-key", "x-proxy-attempts", "x-proxy-other", "x-named",
]  # fmt: skip
OF_UPSTREAMS = [
    "content-type", "content-encoding", "content-language", "date", "server", "via", "etag", "vary", "age",
    "cache-control", "retry-after", "x-should-retry", "request-id", "anthropic-organization-id", "cf-ray",
    "anthropic-ratelimit-unified-status", "location", "link", "alt-svc", "strict-transport-security",
    "www-authenticate", "content-range", "content-disposition", "last-modified", "expires", "allow", "expect",
    "set-cookie", "connection", "keep-alive", "proxy-authenticate", "trailer", "upgrade", "x-proxy-account",
    "x-named",
]  # fmt: skip
VALUES = {
    "connection": ["close", "keep-alive", "x-named", "Keep-Alive, X-Named ,te", "accept,User-Agent", ",", ""],
    "expect": ["100-continue", "100-Continue", "nothing"],
    "anthropic-beta": ["", "a-1", "a-1, b-2", "oauth-2025-04-20", "a-1 ,oauth-2025-04-20,b-2"],
    "content-encoding": ["gzip", "br", "identity", "GZIP, br", ""],
    "content-type": ["application/json", "text/event-stream; charset=utf-8", "", "nonsense"],
}

octets = ["\t", *(chr(code) for code in range(0x20, 0x100) if code != 0x7F)]  # of a header's value
some_values = st.one_of(
    st.text(octets, max_size=12),
    st.sampled_from(["", ";", ":", ",", '"a, b"', "a\tb", "*/*", "\xc3\xa9", "\xff\xa0\x85"]),
)
some_names = st.text(TOKEN, min_size=1, max_size=12).filter(
    lambda name: name.lower() not in ("host", "content-length", "transfer-encoding")
)
around = st.sampled_from(["", " ", "  ", "\t", " \t "])


@st.composite
def header_lines(draw: st.DrawFn, names: list[str]) -> bytes:
    name = draw(st.sampled_from(names) | some_names)
    value = draw(st.sampled_from(VALUES[name]) if name in VALUES else some_values)
    spelled = draw(st.sampled_from([name, name.lower(), name.upper(), name.title()]))
    return f"{spelled}:{draw(around)}{value}{draw(around)}".encode("latin-1")


def headers(names: list[str]) -> st.SearchStrategy[list[bytes]]:
    # Two different ones are no HTTP (RFC 9110 §10.2.2), and libcurl takes them for none.
    return st.lists(header_lines(names), max_size=6).filter(
        lambda lines: sum(line.lower().startswith(b"location:") for line in lines) < 2
    )


bodies = st.builds(bytes.__mul__, st.binary(max_size=60), st.sampled_from([1, 1, 1, 700])) | st.binary(
    max_size=60
).map(gzip.compress)
cuts = st.lists(st.integers(1, 2000), max_size=6)
plain = "".join(sorted(set(string.printable) - set(string.whitespace) - set("#%/?\\.")))
segments = st.builds(
    lambda first, rest: first + "".join(rest),
    st.sampled_from(plain),
    st.lists(
        st.text(plain + ".", max_size=6) | st.sampled_from(["%20", "%41", "%7e", "%C3%A9", "%3a"]), max_size=3
    ),
)
paths = st.lists(segments, min_size=1, max_size=3).map(lambda parts: "/v1/" + "/".join(parts))
queries = st.sampled_from(["", "?", "??", "?a=1&a=2&a", "?%zz", "?q=%00%2f..", "?" + "x" * 8192]) | st.text(
    [octet for octet in octets if octet not in "\t #"], max_size=20
).map("?".__add__)


class Request(NamedTuple):
    """`lines` are header lines; the body goes with `length`, or chunked where `cuts` is a list."""

    method: str
    target: str
    lines: list[bytes]
    body: bytes | None = None
    length: bytes = b""
    cuts: list[int] | None = None

    @property
    def data(self) -> bytes:
        start = f"{self.method} {self.target} HTTP/1.1".encode("latin-1")
        framing, body = [], self.body or b""
        if self.cuts is not None:
            framing, body = [b"Transfer-Encoding: chunked"], chunked(body, self.cuts)
        elif self.body is not None:
            framing = [b"Content-Length: " + (self.length or b"%d" % len(body))]
        return b"\r\n".join([start, b"Host: proxy.example", KEY, *self.lines, *framing, b"", body])


@st.composite
def requests(draw: st.DrawFn) -> Request:
    any_method = st.text(TOKEN, min_size=1, max_size=8).filter(lambda name: name.upper() not in NEVER_SENT)
    method = draw(st.sampled_from(METHODS) | any_method)
    target = draw(st.sampled_from(TARGETS) | st.builds(str.__add__, paths, queries))
    body, length, at = None, b"", None
    match draw(st.sampled_from(["none", "length", "chunked"])):
        case "length":
            body = draw(bodies)
            length = b"%0*d" % (draw(st.sampled_from([1, 1, 7])), len(body))
        case "chunked":
            body, at = draw(bodies), draw(cuts)
    return Request(method, target, draw(headers(OF_CLIENTS)), body, length, at)


# A few thousand together, with hypothesis' own profile; another profile has more or less of them.
MANY = settings(
    max_examples=6 * settings().max_examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@MANY
@given(requests())
@example(Request("HEAD", "/v1/models", [], b"abc"))  # libcurl waited for the body of the answer
@example(Request("HEAD", "/v1/models", [], b"abc", cuts=[1]))
@example(Request("GET", "/v1/models", [], b""))
@example(Request("GET", "/v1/models", [b"x-named: 1", b"connection: close, X-Named", b"x-two: 2"]))
@example(Request("POST", "/v1/messages", []))
@example(Request("POST", "/v1/messages", [], b"abc", b"0003"))
@example(
    Request(
        "POST", "/v1/messages", [b"accept:", b"user-agent:", b"Expect:", b"content-type:", b"x-a:"], b"{}"
    )
)
@example(
    Request("PUT", "/v1/x?" + "y" * 8192, [b"x-long: " + b"z" * 8192, b"X-LONG:" + b"\xff" * 8192], b"{}")
)
def test_a_request_arrives_byte_for_byte(both: Both, asked: Request) -> None:
    crossed = both.exchange(asked, OK_TO_HEAD if asked.method == "HEAD" else OK)
    assert_the_request_crossed(both, crossed.sent, crossed.arrived)
    assert_the_answer_crossed(crossed.said, crossed.heard)


# ---- what upstreams say

# All that are handed on as they are; the last word of a series of failures too, which here has one try.
STATUSES = [status for status in range(200, 600) if status not in (401, 429)]


class Response(NamedTuple):
    """`framing` is `length`, `chunked`, `close` or `none`; to a HEAD, and with 204 and 304, no body follows."""

    method: str
    status: int
    reason: bytes | None
    lines: list[bytes]
    framing: str
    body: bytes = b""
    cuts: tuple[int, ...] = ()
    version: bytes = b"HTTP/1.1"

    @property
    def script(self) -> Script:
        head = [b"%b %d" % (self.version, self.status) + (b"" if self.reason is None else b" " + self.reason)]
        head += self.lines
        body = self.body
        if self.framing == "length":
            head.append(b"Content-Length: %d" % len(body))
        elif self.framing == "chunked":
            head.append(b"Transfer-Encoding: chunked")
            body = chunked(body, self.cuts)
        if self.method == "HEAD" or self.status in (204, 304) or self.framing == "none":
            body = b""
        closes = self.framing == "close" or self.version == b"HTTP/1.0"
        return Script(b"\r\n".join([*head, b"", body]), closes)


def framings(method: str, status: int, version: bytes) -> list[str]:
    if status == 204:
        return ["none"]
    if status == 304:
        return ["none", "length"]
    some = ["length", "close"] + ["chunked"] * (version == b"HTTP/1.1")
    return [*some, "none"] if method == "HEAD" else some


@st.composite
def responses(draw: st.DrawFn) -> Response:
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "head"]))
    status = draw(
        st.sampled_from([200, 201, 204, 205, 206, 304, 307, 400, 403, 404, 500, 529])
        | st.sampled_from(STATUSES)
    )
    text = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]) | st.just("\t"), max_size=10)
    reason = draw(st.none() | st.sampled_from([b"", b"OK"]) | text.map(str.encode))
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]))
    framing = draw(st.sampled_from(framings(method, status, version)))
    lines = draw(headers(OF_UPSTREAMS))
    return Response(method, status, reason, lines, framing, draw(bodies), tuple(draw(cuts)), version)


@MANY
@given(responses())
@example(Response("GET", 200, "d\u2019accord".encode(), [], "length"))  # came out as Latin-1 in UTF-8
@example(Response("GET", 200, None, [], "length", b"ok"))
@example(Response("GET", 200, b"OK", [b"x-named: 1", b"connection: close, X-Named", b"x-two: 2"], "length"))
@example(Response("HEAD", 200, b"OK", [], "length", b"x" * 123))
@example(Response("HEAD", 404, b"", [b"Content-Length: 99"], "none"))
@example(Response("GET", 304, b"", [], "length", b"x" * 123))
@example(Response("GET", 204, b"", [b"Content-Length: 0"], "none"))
@example(Response("GET", 200, b"OK", [b"Content-Length: 002"], "close", b"ok"))
@example(Response("GET", 200, b"OK", [b"Connection: close"], "chunked", b"ok"))
@example(
    Response("GET", 200, b"OK", [b"Set-Cookie: a=1", b"set-cookie: b=2", b"Vary: a", b"vary: b"], "length")
)
@example(Response("GET", 200, b"OK", [b"x-long: " + b"\xe9" * 8192, b"x-empty:"], "length"))
@example(
    Response(
        "GET", 200, b"OK", [b"content-encoding: br", b"content-type: text/event-stream"], "close", b"\xce"
    )
)
def test_an_answer_is_heard_byte_for_byte(both: Both, answer: Response) -> None:
    crossed = both.exchange(Request(answer.method, "/v1/models", []), answer.script)
    assert_the_answer_crossed(crossed.said, crossed.heard)


# ---- sizes and tries

MB = 1_000_000


@pytest.mark.parametrize("size", [MB, 6 * MB])
@pytest.mark.parametrize("cuts", [None, [1, 70_000, 900_001]])
def test_a_large_body_arrives_byte_for_byte(both: Both, size: int, cuts: list[int] | None) -> None:
    body = random.Random(size).randbytes(size)  # the larger one is spooled to a file
    crossed = both.exchange(Request("POST", "/v1/files", [], body, cuts=cuts))
    assert_the_request_crossed(both, crossed.sent, crossed.arrived)


@pytest.mark.parametrize("size", [MB, 6 * MB])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_large_answer_is_heard_byte_for_byte(both: Both, size: int, framing: str) -> None:
    body = random.Random(size).randbytes(size)
    answer = Response("GET", 200, b"OK", [b"content-encoding: br"], framing, body, (1, 70_000, 900_001))
    crossed = both.exchange(Request("GET", "/v1/files/file_1/content", []), answer.script)
    assert_the_answer_crossed(crossed.said, crossed.heard)


@pytest.mark.parametrize("size", [0, 10, 6 * MB])
async def test_each_try_sends_the_same_bytes(tmp_path: Path, size: int) -> None:
    asked = Request("POST", "/v1/x?a=%20", [b"x-a: \xe9", b"x-empty:"], random.Random(size).randbytes(size))
    async with echo() as upstream, serve(tmp_path, upstream=upstream.url, retry__max_attempts="3") as service:
        upstream.script = Response("POST", 529, b"Over loaded", [b"x-b: 1"], "length", b"\0 529").script
        caller = Caller(service.port)
        heard = await caller.ask(asked.data)
        await caller.close()
    first, *others = upstream.requests
    assert first.body == asked.body
    assert others == [first, first]
    assert (heard.status, heard.reason, heard.values("x-b"), heard.body) == (
        529, b"Over loaded", [b"1"], b"\0 529",
    )  # fmt: skip


async def test_a_request_that_met_a_dying_connection_is_sent_again_byte_for_byte(tmp_path: Path) -> None:
    """As a try of its own: it may have been read."""
    asked = Request("POST", "/v1/messages", [], random.Random(1).randbytes(6 * MB))
    async with echo() as upstream, serve(tmp_path, upstream=upstream.url) as service:
        caller = Caller(service.port)
        await caller.ask(asked.data)
        upstream.first, upstream.script = [Script(b"", closes=True)], OK
        heard = await caller.ask(asked.data)
        await caller.close()
    assert (heard.body, heard.values("x-proxy-attempts")) == (b"ok", [b"2"])
    assert [arrived.body == asked.body for arrived in upstream.requests] == [True] * 3


# ---- what neither Tornado nor libcurl can carry, or nobody should


def test_a_reason_that_is_no_utf8_crosses_as_it_is(both: Both) -> None:
    crossed = both.exchange(
        Request("GET", "/v1/models", []), Response("GET", 200, b"a\xe9b", [], "length").script
    )
    assert crossed.heard.reason == b"a\xe9b"


def test_a_204_that_says_a_length_ends_with_its_head(both: Both) -> None:
    script = Response("GET", 204, b"No Content", [b"Content-Length: 5"], "none").script
    crossed = both.exchange(Request("GET", "/v1/models", []), script)
    assert crossed.heard.values("content-length") == []
    assert both.exchange(Request("GET", "/v1/models", [])).heard.body == b"ok"


@pytest.mark.parametrize(
    "lines",
    [
        [b"location: /a", b"location: /b"],
        [b"x-a: a\rb"],
        [b"x-a: a\0b"],
        [b"x-a"],
        [b"Transfer-Encoding: gzip, chunked"],
    ],
)
def test_an_answer_that_is_no_http_is_a_bad_gateway(both: Both, lines: list[bytes]) -> None:
    script = Response("GET", 200, b"OK", lines, "close", b"0\r\n\r\n").script
    heard, _ = both.refused(Request("GET", "/v1/models", []), script)
    assert (heard.status, heard.values("x-proxy-account")) == (502, [b"a"])


def test_a_length_that_an_answer_says_twice_is_passed_on_once(both: Both) -> None:
    twice = [b"Content-Length: 2", b"content-length: 2"]
    crossed = both.exchange(
        Request("GET", "/v1/x", []), Response("GET", 200, b"OK", twice, "close", b"ok").script
    )
    assert (crossed.heard.values("content-length"), crossed.heard.body) == ([b"2"], b"ok")


def test_a_request_that_says_its_length_twice_is_refused(both: Both) -> None:
    heard, reached = both.refused(Request("POST", "/v1/messages", [b"content-length: 2"], b"ok"))
    assert (heard.status, reached) == (400, 0)


def test_a_length_beside_chunks_is_not_passed_on(both: Both) -> None:
    script = Response("GET", 200, b"OK", [b"Content-Length: 9"], "chunked", b"ok").script
    crossed = both.exchange(Request("GET", "/v1/models", []), script)
    assert (crossed.heard.values("content-length"), crossed.heard.body) == ([], b"ok")


def test_trailers_and_chunk_extensions_of_an_answer_stay_here(both: Both) -> None:
    coded = chunked(b"answer", [3], extension=b";a=b", trailers=b"x-trailer: 1\r\n")
    script = Response(
        "GET", 200, b"OK", [b"Trailer: x-trailer", b"Transfer-Encoding: chunked"], "close", coded
    )
    crossed = both.exchange(Request("GET", "/v1/models", []), script.script)
    assert crossed.heard.body == b"answer"
    assert not {"trailer", "x-trailer"} & crossed.heard.fields().keys()


@pytest.mark.parametrize(
    "coded",
    [chunked(b"body", extension=b";a=b"), chunked(b"body", trailers=b"x-trailer: 1\r\n")],
    ids=["extension", "trailer"],
)
def test_trailers_and_chunk_extensions_of_a_request_stay_here(both: Both, coded: bytes) -> None:
    asked = Request("POST", "/v1/messages", [b"Transfer-Encoding: chunked", b"", coded])
    heard, reached = both.refused(asked)
    assert (heard.status, reached) == (200, 1)
    (arrived,) = both.upstream.requests
    assert (arrived.body, arrived.values("x-trailer")) == (b"body", [])


def test_informational_answers_stay_here(both: Both) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nx-hint: 1\r\n\r\nHTTP/1.1 100\r\n\r\n"
    crossed = both.exchange(Request("GET", "/v1/models", []), Script(hints + OK.data))
    assert_the_answer_crossed(crossed.said, crossed.heard)


@pytest.mark.parametrize("name", ["anthropic-version", "anthropic-new", "content-type", "content-encoding"])
def test_connection_cannot_name_what_is_meant_for_the_far_end(both: Both, name: str) -> None:
    lines = [f"connection: {name}".encode(), f"{name}: kept".encode()]
    crossed = both.exchange(
        Request("GET", "/v1/models", lines), Response("GET", 200, b"", lines, "length").script
    )
    assert crossed.arrived.values(name) == [b"kept"]
    assert crossed.heard.values(name) == [b"kept"]


def test_names_cross_as_they_came(both: Both) -> None:
    lines = [b"x-stainless-OS: a", b"DATE: b", b"X-STAINLESS-OS: c"]
    crossed = both.exchange(Request("GET", "/v1/x", lines), Response("GET", 200, b"", lines, "length").script)
    assert list(crossed.arrived.lines[1:4]) == lines
    assert list(crossed.heard.lines[:3]) == lines


@pytest.mark.parametrize(
    "target", ["/v1/caf\xe9", "/v1/100%", "/v1/a%0ab", "/v1/%ff", "/v1/%252525252e", "/v1/a%2Fb"]
)
def test_a_path_that_two_readers_could_take_for_two_is_refused(both: Both, target: str) -> None:
    heard, reached = both.refused(Request("GET", target, []))
    assert (heard.status, reached) == (400, 0)


@pytest.mark.parametrize(
    ("accepted", "asked_for"),
    [([], []), ([b"gzip, deflate, br;q=0.5, zstd"], [b"gzip, deflate"]), ([b"br"], [b"identity"])],
)
def test_of_a_batch_only_encodings_are_asked_for_that_can_be_rewritten(
    both: Both, accepted: list[bytes], asked_for: list[bytes]
) -> None:
    asked = Request("GET", "/v1/messages/batches/b_1", [b"accept-encoding: " + each for each in accepted])
    assert both.exchange(asked).arrived.values("accept-encoding") == asked_for


def test_of_a_batch_the_answer_is_sent_with_its_length(both: Both) -> None:
    answer = Response("GET", 200, b"OK", [b"x-a: 1"], "chunked", b'{"results_url": null}', (3,))
    crossed = both.exchange(Request("GET", "/v1/messages/batches/b_1", []), answer.script)
    assert crossed.heard.body == answer.body
    assert crossed.heard.fields().items() >= {"x-a": [b"1"], "content-length": [b"21"]}.items()


# ---- the simulator, straight and through the proxy

JSON = [f"{name}: {value}".encode() for name, value in MESSAGE_HEADERS]
FORM = [JSON[0], b"content-type: multipart/form-data; boundary=b"]
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n%b\r\n--b--\r\n'
BATCH = b'{"requests":[{"custom_id":"one","params":%b},{"custom_id":"two","params":{}}]}'
TOOLS = [{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]


def life(path: str, prefix: str, body: bytes = b"", *, changes: bool = False) -> list[Request]:
    """Something is made, unless there is no `body`, found by its id and in the list, and changed."""
    made = [Request("POST", path, JSON, body)] if body else []
    changed = [Request("POST", f"{path}/<{prefix}>", JSON, b'{"metadata":{"a":"b"}}')] if changes else []
    return [*made, Request("GET", path, JSON), Request("GET", f"{path}/<{prefix}>", JSON), *changed]


def ends(path: str) -> list[Request]:
    return [Request("POST", f"{path}/archive", JSON, b""), Request("DELETE", path, JSON)]


SKILL = (
    b'--b\r\nContent-Disposition: form-data; name="files[]"; filename="a/SKILL.md"\r\n\r\n'
    b"---\nname: a\ndescription: b\n---\n\r\n--b--\r\n"
)

# In `<msgbatch>`, `<file>` and so on goes the id with that prefix that was last answered.
VISITS = [
    Request("POST", "/v1/messages", JSON, message()),
    Request("POST", "/v1/messages?beta=true", [*JSON, b"accept-encoding: gzip, br"], message(tools=TOOLS)),
    Request("POST", "/v1/messages", JSON, message(stream=True, thinking={"type": "adaptive"}), cuts=[7]),
    Request("POST", "/v1/messages", [*JSON, b"x-simulate-encoding: gzip"], message(stream=True)),
    Request("POST", "/v1/chat/completions", JSON, message()),
    Request("POST", "/v1/chat/completions", JSON, message(stream=True)),
    Request("POST", "/v1/messages", [*JSON, b"content-encoding: gzip"], gzip.compress(message())),
    Request("POST", "/v1/messages", [*JSON, b"content-encoding: br"], message()),
    Request("POST", "/v1/messages", JSON[1:], message()),
    Request("POST", "/v1/messages", JSON, message(model="claude-unknown")),
    Request("POST", "/v1/messages", JSON, b'{"model":'),
    Request("POST", "/v1/messages", JSON),
    Request("POST", "/v1/messages/count_tokens", JSON, message()),
    Request("POST", "/v1/messages/batches", JSON, BATCH % message()),
    Request("GET", "/v1/messages/batches/<msgbatch>/results", JSON),
    Request("GET", "/v1/messages/batches/<msgbatch>", JSON),
    Request("GET", "/v1/messages/batches/<msgbatch>", [*JSON, b"accept-encoding: gzip"]),
    Request("GET", "/v1/messages/batches/<msgbatch>/results", JSON),
    Request("POST", "/v1/messages/batches/<msgbatch>/cancel", JSON),
    Request("GET", "/v1/messages/batches?limit=1", JSON),
    Request("DELETE", "/v1/messages/batches/<msgbatch>", JSON),
    Request("GET", "/v1/messages/batches/<msgbatch>", JSON),
    Request("POST", "/v1/messages/batches", JSON, BATCH % message()),
    Request("POST", "/v1/messages/batches/<msgbatch>/cancel", JSON, b""),
    Request("GET", "/v1/models?limit=2", JSON),
    Request("GET", "/v1/models?limit=0", JSON),
    Request("HEAD", "/v1/models", JSON),
    Request("GET", "/v1/models/claude-opus-5-5", JSON),
    Request("GET", "/v1/models/no%20such", JSON),
    Request("POST", "/v1/files", FORM, PART % random.Random(1).randbytes(5 * MB)),
    Request("POST", "/v1/files", FORM, PART % b"\0\xff\r\n--", cuts=[30, 100]),
    Request("GET", "/v1/files", JSON),
    Request("GET", "/v1/files/<file>", JSON),
    Request("GET", "/v1/files/<file>/content", JSON),
    Request("HEAD", "/v1/files/<file>/content", JSON),
    Request("DELETE", "/v1/files/<file>", JSON),
    Request("GET", "/v1/files/<file>/content", JSON),
    Request("PUT", "/v1/models", JSON, b"{}"),
    Request("GET", "/v1/nothing/here?a=b", JSON),
    Request("POST", "/v1/skills", FORM, SKILL),
    Request("POST", "/v1/skills/<skill>", JSON, b'{"display_name":"A"}'),
    Request("POST", "/v1/skills/<skill>/versions", FORM, SKILL),
    Request("GET", "/v1/skills/<skill>/versions?limit=1", JSON),
    Request("GET", "/v1/skills/<skill>/versions/<skver>", JSON),
    Request("GET", "/v1/skills/<skill>/versions/<skver>/content", JSON),
    Request("DELETE", "/v1/skills/<skill>/versions/<skver>", JSON),
    Request("GET", "/v1/skills/<skill>", JSON),
    Request("DELETE", "/v1/skills/<skill>", JSON),
    Request("GET", "/v1/skills?limit=2", JSON),
    *life("/v1/user_profiles", "uprof", b"{}", changes=True),
    *life("/v1/agents", "agent", b'{"name":"a","model":"claude-opus-5"}', changes=True),
    Request("GET", "/v1/agents/<agent>/versions", JSON),
    *life("/v1/environments", "env", b'{"name":"a"}', changes=True),
    *life("/v1/vaults", "vlt", b'{"display_name":"a"}', changes=True),
    *life("/v1/vaults/<vlt>/credentials", "vcrd", b'{"auth":{"type":"static_bearer"}}', changes=True),
    *life("/v1/memory_stores", "memstore", b'{"name":"a"}', changes=True),
    *life("/v1/memory_stores/<memstore>/memories", "mem", b'{"path":"/a"}', changes=True),
    *life("/v1/sessions", "sesn", b'{"agent":"<agent>","environment_id":"<env>"}', changes=True),
    Request(
        "POST", "/v1/sessions/<sesn>/events", JSON, b'{"events":[{"type":"user.message","content":"hi"}]}'
    ),
    Request("GET", "/v1/sessions/<sesn>/events?limit=2", JSON),
    *life("/v1/sessions/<sesn>/resources", "sesrsc", b'{"type":"github_repository"}', changes=True),
    Request("DELETE", "/v1/sessions/<sesn>/resources/<sesrsc>", JSON),
    *life("/v1/sessions/<sesn>/threads", "sthr"),
    Request("GET", "/v1/sessions/<sesn>/threads/<sthr>/events", JSON),
    Request("POST", "/v1/sessions/<sesn>/threads/<sthr>/archive", JSON, b""),
    Request("POST", "/v1/sessions/<sesn>/archive", JSON, b""),
    # Of a session that has ended, so that they end.
    Request("GET", "/v1/sessions/<sesn>/events/stream", JSON),
    Request("GET", "/v1/sessions/<sesn>/threads/<sthr>/stream", JSON),
    Request("DELETE", "/v1/sessions/<sesn>", JSON),
    Request("DELETE", "/v1/memory_stores/<memstore>/memories/<mem>", JSON),
    *ends("/v1/memory_stores/<memstore>"),
    *ends("/v1/vaults/<vlt>/credentials/<vcrd>"),
    *ends("/v1/vaults/<vlt>"),
    *ends("/v1/environments/<env>"),
    Request("POST", "/v1/agents/<agent>/archive", JSON, b""),
]


async def visit(port: int, origin: str, key: str) -> list[tuple[str, Message]]:
    """What a simulator answers to VISITS, one after the other; `origin` is that of its `results_url`."""
    ids = {"msgbatch": "-", "file": "-"}
    told = []
    caller = Caller(port)
    for planned in VISITS:
        target = re.sub("<(.*?)>", lambda found: ids[found[1]], planned.target)
        body = planned.body and re.sub(
            rb"<(agent|env)>", lambda found: ids[found[1].decode()].encode(), planned.body
        )
        data = planned._replace(target=target, body=body).data.replace(KEY, b"x-api-key: " + key.encode())
        answer = await caller.ask(data, bodiless=planned.method == "HEAD")
        for id in re.findall(rb'"id":"(\w+)"', answer.body):
            ids[id.decode().partition("_")[0]] = id.decode()
        told.append((f"{planned.method} {target}", without_origin(answer, origin)))
    await caller.close()
    return told


def without_origin(answer: Message, origin: str) -> Message:
    """The answer as it is, but with a `results_url` it is as if it came unencoded from nowhere."""
    encoded = answer.values("content-encoding") == [b"gzip"]
    body = gzip.decompress(answer.body) if encoded else answer.body
    if b'"results_url":"' not in body:
        return answer
    assert answer.values("content-length") == [b"%d" % len(answer.body)]
    lines = tuple(line for line in answer.lines if not line.lower().startswith(b"content-length:"))
    return Message(answer.start, lines, body.replace(b'_url":"' + origin.encode() + b"/", b'_url":"/'))


async def test_every_route_answers_as_without_the_proxy(tmp_path: Path) -> None:
    simulator = Simulator(clock=TestClock(), rng=random.Random(1))
    simulator.add_api_key(upstream_key("a"), organization="a")
    await simulator.start(port=0)
    straight = await visit(int(simulator.base_url.rpartition(":")[2]), simulator.base_url, upstream_key("a"))
    await simulator.stop()
    async with serve(tmp_path, accounts=["a"]) as service:
        through = await visit(service.port, "http://proxy.example", CLIENT_KEY)
    for (request, said), (_, heard) in zip(straight, through, strict=True):
        assert (request, heard.status, heard.reason) == (request, said.status, said.reason)
        added = {"x-proxy-account": [b"a"], "x-proxy-attempts": [b"1"]}
        fields = {n: v for n, v in heard.fields().items() if n != "transfer-encoding"}
        assert (request, fields) == (request, crossing("down", said) | added)
        assert (request, heard.body) == (request, said.body)


def test_every_route_of_the_simulator_is_visited() -> None:
    routes = [route for route in Simulator().api.routes if route[1].pattern.startswith("/v1/")]
    visits = [(visit.method, visit.target.partition("?")[0]) for visit in VISITS]
    for method, path in routes:
        assert any(asked == method and path.fullmatch(target) for asked, target in visits), (method, path)


def test_a_body_that_reads_like_tornados_own_refusal_crosses_too(both: Both) -> None:
    body = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    script = Script(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    crossed = both.exchange(Request("GET", "/v1/models", []), script)
    assert_the_answer_crossed(crossed.said, crossed.heard)
