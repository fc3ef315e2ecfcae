"""What `same_wire` sends and what its upstream answers: all of it made from seeds, so that both versions get the same.

Long, because it is a list of everything that may come.
"""

from __future__ import annotations

import gzip
import json
import random
import string
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from tests.bench.versions import ADMIN_KEY
from tests.echo import chunked

CLIENT_KEY = "cp-bench-client-key-0123456789"
STATES_LAST = 6
"""Cases until the accounts are made active again."""

NO_BODY = (204, 304)


@dataclass(frozen=True)
class Case:
    """One connection of a client; `<account:0>` in `data` stands for that account's id.

    `methods` are those of the requests that get an answer. `ends`: the client says that it sends no more, which a
    proxy may take for one that left, so only those do that are cut short.
    """

    index: int
    family: str
    data: bytes
    methods: tuple[str, ...]
    ends: bool = False


@dataclass(frozen=True)
class Script:
    """What the upstream says, in parts with a short pause between, and how it leaves the connection."""

    parts: tuple[bytes, ...]
    closes: bool = False
    resets: bool = False


# ---- what clients send

TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
METHODS = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "LINK", "PROPFIND", "M-SEARCH",
    "get", TOKEN,
]  # fmt: skip
TARGETS = [
    "/v1/messages?beta=true", "/v1/messages/count_tokens", "/v1/models?limit=1000", "/v1/models/claude-opus-5-5",
    "/v1/files/file_01/content", "/v1/files", "/v1/sessions/s:archive", "/v1/a;b=c@d~e,f", "/v1/%2541",
    "/v1/complete",
    "/v1/skills?a=1&a=2&a", "/v1/x?" + "y" * 2000, "/v1/?", "/v1/a//b", "/v1/x?%zz", "/v1/x??q=%00%2f..",
    "/v1/chat/completions", "/v1/agents/agent_1", "/v1/messages/batches",
]  # fmt: skip
ODD_TARGETS = [
    "/v1", "/v2/messages", "/v1/v1/messages", "/messages", "/v1/../api/accounts", "/v1/./x", "/v1/%2e%2e/x",
    "/v1/a\\b",
    "/v1/a%00b", "/v1/caf\xe9", "/v1/100%", "/v1/a%0ab", "/v1/%ff", "/v1/%252525252e", "/v1/a%2Fb", "*",
    "v1/messages",
    "http://example.com/v1/messages", "//example.com/v1/messages", "/v1/oauth/token", "/v1/organizations/me",
    "/v1/x#y",
    "/v1/" + "z" * 9000, "/v1/" + "z" * 70000, "/", "/v1/messages/", "/V1/messages", "example.com:443", "/v1/ x",
]  # fmt: skip
NAMES = [
    "anthropic-version", "anthropic-beta", "anthropic-workspace-id", "Anthropic-New-Thing", "x-app", "accept",
    "x-stainless-retry-count", "accept-encoding", "accept-language", "content-type", "content-encoding",
    "user-agent",
    "expect", "pragma", "range", "referer", "origin", "date", "if-none-match", "via", "from", "priority",
    "traceparent",
    "forwarded", "x-forwarded-for", "x-forwarded-proto", "connection", "keep-alive", "proxy-authorization", "te",
    "proxy-connection", "trailer", "upgrade", "cookie", "authorization", "x-proxy-account", "x-proxy-other",
    "x-named",
    "x-real-ip", "cf-ray", "cdn-loop",
]  # fmt: skip
VALUES = {
    "connection": [
        "close",
        "keep-alive",
        "x-named",
        "Keep-Alive, X-Named ,te",
        "accept,User-Agent",
        ",",
        "",
        "upgrade",
    ],
    "expect": ["nothing", "100-continue"],
    "anthropic-beta": ["", "a-1", "a-1, b-2", "oauth-2025-04-20", "a-1 ,oauth-2025-04-20,b-2"],
    "content-encoding": ["gzip", "br", "identity", "GZIP, br", ""],
    "content-type": ["application/json", "text/event-stream; charset=utf-8", "", "nonsense"],
    "accept-encoding": ["gzip", "br", "gzip, deflate, br;q=0.5, zstd", "identity", ""],
    "user-agent": ["Anthropic/Python 1", "", "curl/8"],
    "authorization": ["Basic YTpi", f"Bearer {CLIENT_KEY}", "Bearer sk-ant-wrong", "bearer"],
    "x-proxy-account": ["a0", "a1", "nobody"],
    "upgrade": ["websocket", "h2c"],
}
SOME_VALUES = ["", ";", ":", ",", '"a, b"', "a\tb", "*/*", "\xc3\xa9", "\xff\xa0\x85", "1", "x" * 300]
CREDENTIALS = [
    [],
    ["x-api-key:"],
    ["x-api-key: wrong"],
    [f"Authorization: Bearer {CLIENT_KEY}"],
    [f"authorization: bearer  {CLIENT_KEY}"],
    ["x-api-key: wrong", f"Authorization: Bearer {CLIENT_KEY}"],
    [f"x-api-key: {CLIENT_KEY}", "Authorization: Bearer wrong"],
    [f"x-api-key: {CLIENT_KEY}"] * 2,
    [f"x-api-key: {CLIENT_KEY}\xe9"],
    [f"x-api-key: {ADMIN_KEY}"],
    ["x-api-key: cp-inactive-key-0123456789"],
]
LINES_OF_FRAMING = [
    "Content-Length: 2\r\nContent-Length: 2", "Content-Length: 2\r\nContent-Length: 3", "Content-Length: 2, 2",
    "Content-Length: +2", "Content-Length: -2", "Content-Length: 0x2", "Content-Length: ",
    "Content-Length: 99999999999",
    "Content-Length: 2\r\nTransfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: identity", "Transfer-Encoding:\tchunked ", "transfer-encoding: Chunked",
    "Content-Length : 2",
    "X-A: a\r\n folded", "X-A: a\0b", "X-A: a\rb", "X-A: a\nX-B: b", "X-A", ": empty", "X A: b", "X-\xe9: b",
    " X-A: b",
    "X-Long: " + "x" * 20_000, "X-Long: " + "x" * 80_000, "X-A: 1\r\n" * 150 + "X-Z: 1",
    "Expect: 100-continue\r\nContent-Length: 2",
    "Host: other.example", "Upgrade: websocket\r\nConnection: Upgrade", "Content-Length: 70000",
]  # fmt: skip
CODED = [
    b"2\r\nok\r\n0\r\n\r\n", b"2;a=b\r\nok\r\n0\r\n\r\n", b"2\r\nok\r\n0\r\nx-trailer: 1\r\n\r\n",
    b"0x2\r\nok\r\n0\r\n\r\n",
    b"2\nok\n0\n\n", b"2\r\nokay\r\n0\r\n\r\n", b"-2\r\nok\r\n0\r\n\r\n", b" 2\r\nok\r\n0\r\n\r\n",
    b"ffffffffffffffffff\r\nok",
    b"2\r\nok\r\n", b"002\r\nok\r\n000\r\n\r\n",
]  # fmt: skip
STARTS = [
    "POST /v1/messages HTTP/1.0", "POST /v1/messages HTTP/0.9", "POST /v1/messages HTTP/2.0",
    "POST /v1/messages HTTP/1.2",
    "POST /v1/messages", "POST  /v1/messages HTTP/1.1", "POST /v1/messages  HTTP/1.1",
    "POST\t/v1/messages HTTP/1.1",
    "POST /v1/messages http/1.1", " POST /v1/messages HTTP/1.1", "P\xd6ST /v1/messages HTTP/1.1", "",
    "\x16\x03\x01\x02",
    "PRI * HTTP/2.0", "POST /v1/a b HTTP/1.1",
]  # fmt: skip
ADMIN = [
    ("GET", "/api/accounts"), ("GET", "/api/accounts/<account:0>"), ("GET", "/api/accounts/acct_none"),
    ("GET", "/api/tokens"), ("GET", "/api/tokens?page=1&limit=1&search=w"), ("GET", "/api/tokens?limit=x"),
    ("GET", "/api/admin/sessions"), ("GET", "/api/admin/statistics"), ("GET", "/api/auth/me"),
    ("GET", "/api/admin/usage?by=model"), ("GET", "/api/admin/usage?by=account&format=csv"),
    ("GET", "/api/admin/usage?by=x"),
    ("GET", "/oauth/callback?code=a&state=b"), ("GET", "/api/nothing"), ("DELETE", "/api/accounts/acct_none"),
    ("DELETE", "/api/sessions/none"), ("PATCH", "/api/accounts"), ("POST", "/api/auth/logout"),
    ("HEAD", "/api/accounts"),
    ("GET", "/oauth/callback"), ("OPTIONS", "/api/tokens"), ("GET", "/api/live"), ("GET", "/metrics"),
]  # fmt: skip
ADMIN_BODIES = [
    ("PUT", "/api/accounts/<account:1>", '{"status":"inactive"}'),
    ("PUT", "/api/accounts/<account:0>", '{"status":"odd"}'),
    ("PUT", "/api/accounts/<account:0>", '{"status":"active"}'),
    ("PUT", "/api/accounts/<account:0>", '{"nothing":1}'),
    ("PUT", "/api/accounts/<account:2>", '{"name":"renamed"}'),
    ("PUT", "/api/accounts/<account:2>", '{"name":"a2"}'),
    ("POST", "/api/accounts/<account:2>/refresh", ""), ("POST", "/api/accounts", "{"),
    ("POST", "/api/accounts", "[]"),
    ("POST", "/api/accounts", '{"name":"n","type":"api_key","api_key":"short"}'),
    ("POST", "/api/tokens", '{"name":""}'),
    ("POST", "/api/accounts", '{"name":"n","code":"c","state":"unknown"}'),
    ("POST", "/api/auth/login", '{"api_key":"wrong"}'),
    ("POST", "/api/auth/login", '{"api_key":"' + ADMIN_KEY + '"}'),
    ("POST", "/api/tokens", '{"name":"x","role":"king"}'),
    ("POST", "/api/tokens", '{"name":"x","key":"short"}'), ("POST", "/api/tokens", '{"name":"made"}'),
]  # fmt: skip
PAGES = [
    "/health", "/health/ready", "/health/nothing", "/api/hello", "/", "/static/a/b", "/static/../run.py",
    "/favicon.ico",
    "/nothing", "/robots.txt",
]  # fmt: skip


def case(seed: int, index: int) -> Case:
    """The case of that number."""
    rng = random.Random(f"{seed}/{index}")
    families = {
        "message": 30, "route": 16, "batch": 5, "key": 7, "target": 8, "framing": 12, "start": 4, "coded": 4,
    "short": 2,
        "too big": 1, "pipelined": 4, "http/1.0": 3, "admin": 10, "page": 4,
    }  # fmt: skip
    (family,) = rng.choices(list(families), list(families.values()))
    model = f"claude-{rng.choice('ab')}-{index // STATES_LAST}"
    key = f"x-api-key: {CLIENT_KEY}"
    match family:
        case "message":
            method, data = "POST", _message(rng, model, key)
        case "route":
            method = rng.choice(METHODS)
            data = _request(rng, method, rng.choice(TARGETS), [key, *_lines(rng)], _body(rng))
        case "batch":
            method, target = (
                "GET",
                rng.choice(["/v1/messages/batches/msgbatch_1", "/v1/messages/batches?limit=1"]),
            )
            data = _request(rng, method, target, [key, *_lines(rng, ["accept-encoding", "x-named"])], None)
        case "key":
            lines = rng.choice(CREDENTIALS)
            method, data = "POST", _message(rng, model, *lines)
        case "target":
            method = rng.choice(["GET", "POST", "HEAD"])
            data = _request(rng, method, rng.choice(ODD_TARGETS), [key], None)
        case "framing":
            method, lines = "POST", [rng.choice(LINES_OF_FRAMING), *_lines(rng, most=2)]
            data = _request(rng, method, "/v1/messages", [key, *lines], None) + rng.choice(
                [b"", b"ok", b"ok", b"{}"]
            )
        case "start":
            method, line = "POST", rng.choice(STARTS)
            data = (
                _head(
                    [line, *rng.choice([["Host: a"], [], ["Host: a", "Host: b"]]), key, "Content-Length: 2"]
                )
                + b"{}"
            )
        case "coded":
            method = "POST"
            head = _request(rng, method, "/v1/messages", [key, "Transfer-Encoding: chunked"], None)
            data = head + rng.choice(CODED)
        case "short":
            method, whole = "POST", _message(rng, model, key)
            data = whole[: rng.randrange(len(whole))]
        case "too big":
            method, size = "POST", rng.choice([64_000, 64_001, 90_000])
            data = _request(rng, method, "/v1/messages", [key], b"x" * size)
        case "pipelined":
            others = [
                _request(rng, "GET", "/v1/models", [key], None),
                _request(rng, "GET", "/health/ready", [], None),
            ]
            first = _message(rng, model, key)
            return Case(index, family, first + rng.choice(others), ("POST", "GET"))
        case "http/1.0":
            method = rng.choice(["GET", "POST"])
            lines = [key, *rng.choice([[], ["Connection: keep-alive"]])]
            data = _request(
                rng, method, rng.choice(["/v1/models", "/health/ready", "/v1/messages"]), lines, _body(rng)
            )
            data = data.replace(b" HTTP/1.1", b" HTTP/1.0", 1)
        case "admin":
            lines = [
                rng.choice(
                    [f"X-API-Key: {ADMIN_KEY}"] * 12
                    + [key, "X-API-Key: wrong", f"Authorization: Bearer {ADMIN_KEY}"]
                )
            ]
            method, target, text = rng.choice(
                [*((method, target, None) for method, target in ADMIN), *ADMIN_BODIES]
            )
            data = _request(rng, method, target, lines, None if text is None else text.encode(), plain=True)
        case _:
            method = rng.choice(["GET", "GET", "HEAD", "POST"])
            data = _request(rng, method, rng.choice(PAGES), [], None)
    return Case(index, family, data, (method,), ends=family == "short")


def _message(rng: random.Random, model: str, *lines: str) -> bytes:
    asked = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": f"é {rng.random()}"}]}
    if rng.random() < 0.4:
        asked["stream"] = True
    body = json.dumps(asked, ensure_ascii=rng.random() < 0.5).encode()
    if rng.random() < 0.05:
        body = body[:-5]
    return _request(rng, "POST", "/v1/messages", [*lines, *_lines(rng)], body)


def _body(rng: random.Random) -> bytes | None:
    return rng.choice([None, b"", b"{}", rng.randbytes(40), gzip.compress(b"{}", mtime=0), b"x" * 30_000])


def _request(
    rng: random.Random, method: str, target: str, lines: list[str], body: bytes | None, *, plain: bool = False
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: proxy.example" if not plain else "Host: localhost", *lines]
    if body is not None and rng.random() < 0.3 and not plain:
        cuts = [rng.randint(1, 2000) for _ in range(rng.randrange(4))]
        return _head([*lines, "Transfer-Encoding: chunked"]) + chunked(body, cuts)
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return _head(lines) + (body or b"")


def _lines(rng: random.Random, names: list[str] = NAMES, most: int = 6) -> list[str]:
    lines = []
    for _ in range(rng.randrange(most + 1)):
        name = rng.choice([*names, "".join(rng.choices(TOKEN, k=5))])
        value = rng.choice(VALUES.get(name, SOME_VALUES))
        spelled = rng.choice([name, name.lower(), name.upper(), name.title()])
        lines.append(f"{spelled}:{rng.choice(['', ' ', '  ', chr(9)])}{value}{rng.choice(['', ' '])}")
        if name == "connection" and "x-named" in value.lower():
            lines.append("x-Named: hop by hop")
    return lines


def _head(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


# ---- what the upstream answers

OF_UPSTREAMS = [
    "content-language", "server", "via", "etag", "vary", "age", "cache-control", "x-should-retry", "cf-ray", "link",
    "anthropic-organization-id", "alt-svc", "strict-transport-security", "www-authenticate", "content-disposition",
    "last-modified", "expires", "allow", "set-cookie", "connection", "keep-alive", "proxy-authenticate", "trailer",
    "upgrade", "x-proxy-account", "x-named", "location",
]  # fmt: skip
SOMETIMES = {
    "connection": ["x-named", "keep-alive", "Keep-Alive, X-Named"],
    "x-should-retry": ["true", "false", "odd"],
}
ERRORS = {
    400: ["invalid_request_error", "bad", "This organization has been disabled."],
    401: ["authentication_error", "invalid x-api-key", "OAuth token has expired.", "CORS requests are not allowed"],
    402: ["billing_error", "Your credit balance is too low"],
    403: ["permission_error", "OAuth token has been revoked. Please obtain a new token.", "no"],
    404: ["not_found_error", "model: claude-x"], 408: ["timeout_error", "late"], 409: ["conflict_error", "again"],
    413: ["request_too_large", "too large"], 422: ["invalid_request_error", "odd"], 429: ["rate_limit_error",
    "slow down",
    "Usage credits are required for long context requests."], 500: ["api_error",
    "Internal"], 502: ["api_error", "bad"],
    503: ["api_error", "away"], 504: ["timeout_error", "late"], 529: ["overloaded_error", "Overloaded"],
}  # fmt: skip
ANSWERS = {
    "json": 34, "stream": 12, "batch": 3, "error": 26, "limited": 10, "empty": 3, "edge": 3, "odd": 4, "cut": 5,
}  # fmt: skip
ODD_ANSWERS = [
    b"HTTP/1.1 200 OK\r\nx-a: a\0b\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nlocation: /a\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx-a\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nold",
    b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n2;e=1\r\nok\r\n0\r\nx: 1\r\n\r\n",
    b"no http at all\r\n\r\n",
    b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 9000 + b"\r\ncontent-length: 0\r\n\r\n",
]
PLAIN_STATUSES = [200, 200, 201, 203, 206, 301, 302, 304, 410, 418, 451]


def script(asked: str, *, method: str, target: str, now: float) -> Script:
    """The answer to a request of that seed; `now` is the time of its `Date`, the same for both versions."""
    rng = random.Random(asked)
    (kind,) = rng.choices(list(ANSWERS), list(ANSWERS.values()))
    lines = _answer_lines(rng, now)
    encoding, body, status = "", json.dumps(_answered(rng)).encode(), 200
    match kind:
        case "json":
            status = 200 if rng.random() < 0.8 else rng.choice(PLAIN_STATUSES)
        case "stream":
            lines.append("content-type: text/event-stream")
            body = _events(rng)
        case "batch":
            url = rng.choice(["https://api.anthropic.com/v1", "https:\\/\\/api.anthropic.com\\/v1"])
            body = (
                b'{"id":"msgbatch_1","results_url":"%b/messages/batches/msgbatch_1/results"}' % url.encode()
            )
            body = body if "\\/" not in url else body.replace(b"/m", b"\\/m").replace(b"/b", b"\\/b")
        case "error":
            status = rng.choice(list(ERRORS))
            body = _error(rng, status)
        case "limited":
            status, body = 429, _error(rng, 429)
            lines += rng.choice(
                [_unified(rng, now, rejected=True), _classic(now), [f"retry-after: {rng.randint(40, 90)}"]]
            )
        case "empty":
            status, body = rng.choice([204, 200, 500, 401]), b""
        case "edge":
            status, body = rng.choice([429, 403, 502, 520]), b"<html>cloudflare</html>"
            lines.append("content-type: text/html")
        case "odd":
            return _odd(rng)
    if kind in ("json", "stream", "error", "batch") and rng.random() < 0.25:
        encoding = rng.choice(["gzip", "deflate", "br", "zstd", "GZIP"])
        lines.append(f"content-encoding: {encoding}")
        body = _encoded(body, encoding)
    if kind not in ("stream", "edge") and rng.random() < 0.9:
        lines.append("content-type: application/json")
    rng.shuffle(lines)
    return _framed(rng, status, lines, body, head=method == "HEAD", cut=kind == "cut")


def _framed(
    rng: random.Random, status: int, lines: list[str], body: bytes, *, head: bool, cut: bool
) -> Script:
    start = f"HTTP/1.1 {status} {rng.choice(['OK', '', 'Some reason', 'R' + chr(0xE9)])}"
    if status in NO_BODY:
        return Script((_head([start, *lines]),))
    framing = rng.choice(["length", "length", "chunked", "chunked", "close"])
    cuts = [rng.randint(1, 200) for _ in range(rng.randrange(3))]
    said, coded = {
        "length": ([f"content-length: {len(body)}"], body),
        "chunked": (["Transfer-Encoding: chunked"], chunked(body, cuts)),
        "close": ([], body),
    }[framing]
    data = _head([start, *lines, *said])
    closes = framing == "close" or rng.random() < 0.1
    if closes and rng.random() < 0.5:
        data = _head([start, *lines, *said, "connection: close"])
    if head:
        return Script((data,), closes)
    if cut:
        whole = data + coded
        at = rng.choice([0, 5, len(data), len(whole) - 2])
        return Script((whole[:at],), closes=True, resets=rng.random() < 0.3 and at == 0)
    if rng.random() < 0.1:
        data = b"HTTP/1.1 103 Early Hints\r\nx-hint: 1\r\n\r\n" + data
    middle = rng.randrange(len(coded) + 1)
    return Script((data, coded[:middle], coded[middle:]) if rng.random() < 0.2 else (data + coded,), closes)


def _answer_lines(rng: random.Random, now: float) -> list[str]:
    lines = [f"request-id: req_up_{rng.randrange(10**9)}"]
    if rng.random() < 0.7:
        lines.append(f"date: {format_datetime(datetime.fromtimestamp(now, UTC), usegmt=True)}")
    if rng.random() < 0.4:
        lines += _unified(rng, now, rejected=False)
    for _ in range(rng.randrange(4)):
        name = rng.choice([*OF_UPSTREAMS, "x-" + "".join(rng.choices(string.ascii_lowercase, k=3))])
        if name != "location" or not any(line.lower().startswith("location") for line in lines):
            value = rng.choice(SOMETIMES.get(name, SOME_VALUES))
            if "x-named" in value.lower():
                lines.append("x-named: hop by hop")
            lines += [f"{rng.choice([name, name.title(), name.upper()])}: {value}"] * (
                1 + (rng.random() < 0.2 and name != "location")
            )
    return lines


def _unified(rng: random.Random, now: float, *, rejected: bool) -> list[str]:
    window = rng.choice(["5h", "7d", "7d_oi", "7d_opus"]) if rejected else ""
    claim = {"5h": "five_hour", "7d": "seven_day", "7d_oi": "seven_day_overage_included"}.get(
        window, "five_hour"
    )
    lines = [
        f"status: {'rejected' if rejected else 'allowed'}",
        f"representative-claim: {claim}",
        f"reset: {now + 5000:.0f}",
    ]
    for each in ["5h", "7d", *([window] if len(window) > 2 else [])]:
        lines += [
            f"{each}-status: {'rejected' if each == window else 'allowed'}",
            f"{each}-reset: {now + 5000:.0f}",
        ]
        lines += [f"{each}-utilization: {rng.choice(['0.1', '0.95', '1.02', 'odd'])}"]
    return [f"anthropic-ratelimit-unified-{line}" for line in lines]


def _classic(now: float) -> list[str]:
    reset = datetime.fromtimestamp(now + 3000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [f"tokens-limit: 100\r\ntokens-remaining: 0\r\ntokens-reset: {reset}"]
    return [f"anthropic-ratelimit-{line}" for each in lines for line in each.split("\r\n")]


def _answered(rng: random.Random) -> dict[str, Any]:
    usage = {
        "input_tokens": rng.randrange(99),
        "output_tokens": rng.randrange(99),
        "cache_read_input_tokens": 3,
    }
    return {
        "id": f"msg_{rng.randrange(10**6)}",
        "type": "message",
        "model": "claude-opus-5-5",
        "usage": usage,
        "content": [{"type": "text", "text": "x" * rng.choice([3, 3, 3000])}],
    }


def _error(rng: random.Random, status: int) -> bytes:
    kind, *messages = ERRORS[status]
    error = {"type": kind, "message": rng.choice(messages)}
    return rng.choice(
        [json.dumps({"type": "error", "error": error, "request_id": "req_up_1"}).encode()] * 6 + [b"no json"]
    )


def _events(rng: random.Random) -> bytes:
    start = {"type": "message_start", "message": _answered(rng)}
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}
    end = rng.choice([{"type": "message_delta", "usage": {"output_tokens": 7}}] * 4 + [
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}])  # fmt: skip
    events: list[dict[str, Any]] = [start, text, text, end, {"type": "message_stop"}]
    if rng.random() < 0.1:
        events = [{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}]
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)


def _encoded(body: bytes, encoding: str) -> bytes:
    match encoding.lower():
        case "gzip":
            return gzip.compress(body, mtime=0)
        case "deflate":
            return zlib.compress(body)
    return random.Random(len(body)).randbytes(len(body))  # nobody here reads them


def _odd(rng: random.Random) -> Script:
    return Script((rng.choice(ODD_ANSWERS),), closes=True)
