"""Conversations of a hostile client: what it sends on one connection, all from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.attacks.bodies import Bodies
from tests.echo import chunked
from tests.routes import ROUTES
from tests.service import ADMIN_KEY, CLIENT_KEY

LIMITED_KEY = "cp-a-limited-key-of-attacks-9tRm"
"""It has a budget and a list of models, so that the proxy has to know what is asked for."""

WRONG_KEY = "cp-a-key-that-nobody-made-0123456789-abcdefghijklmnopqrstuv"
FOREIGN_KEY = "sk-ant-api03-a-foreign-key-of-attacks-5Yd2Wq8Zr"
SECRETS = (ADMIN_KEY, CLIENT_KEY, LIMITED_KEY, WRONG_KEY, FOREIGN_KEY)
PLANTS = (WRONG_KEY, FOREIGN_KEY, f"Bearer {FOREIGN_KEY}")
"""What is planted where it does not belong: shapes alone give these away."""

METHODS = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "TRACK", "CONNECT", "PRI", "QUERY", "get",
    "PoSt",
    "x-Y!", "A" * 300, "GET\t", "G\0T", "GÉT", "\x16\x03\x01",
)  # fmt: skip
VERSIONS = (
    "HTTP/1.0",
    "HTTP/1.2",
    "HTTP/2.0",
    "HTTP/1.10",
    "http/1.1",
    "HTTP/0.9",
    "HTTP/1.1 ",
    "HTTP/1,1",
    "",
)
SEGMENTS = (
    "v1", "v1", "v1", "messages", "models", "files", "..", ".", "", "%2e%2e", "%2E.", "..;x", "a%2fb", "%2f..%2f",
    "%5c..",
    "..\\", "\\", "%00", "a\0b", "%c0%ae%c0%ae", "%252e%252e", "%25252e%25252e", "..%3b", ";a=b", "@evil.test",
    "#frag", "api",
    "accounts", "oauth", "token", "OAuth", "organizations", "%6frganizations", "organizations;x", "é", "\x85",
    "\x9b31m",
    "%0d%0aX:y", "%", "%zz", "*", "~", "a b", "%ff", "health", "static",
)  # fmt: skip
PREFIXES = (
    "http://127.0.0.1",
    "https://evil.test",
    "http://evil.test:80",
    "//evil.test",
    "/\\evil.test",
    "evil.test:443",
)
WHOLE = (
    "*",
    "/",
    "evil.test:443",
    "http://",
    "?",
    "/v1",
    "/v1/",
    "/v1?",
    "//v1/a",
    "/v1/../api/accounts",
    "/V1/messages",
)
KNOWN = (
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/messages/batches",
    "/v1/models",
    "/v1/files",
    "/v1/complete",
)
NAMES = (
    "Accept", "Accept-Encoding", "Anthropic-Beta", "Anthropic-Version", "Authorization", "Connection",
    "Content-Encoding",
    "Content-Length", "Content-Type", "Cookie", "Expect", "Forwarded", "Host", "If-Match", "Keep-Alive",
    "Max-Forwards",
    "Origin", "Proxy-Authorization", "Proxy-Connection", "Range", "Referer", "Sec-Fetch-Site", "Set-Cookie", "TE",
    "Trailer",
    "Transfer-Encoding", "Upgrade", "User-Agent", "Via", "X-API-Key", "X-Forwarded-For", "X-Forwarded-Host",
    "X-Forwarded-Proto", "X-HTTP-Method-Override", "X-Real-Ip", "X-Proxy-Account", "X-Stainless-Retry-Count",
    "X-Claude-Code-Session-Id", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "HTTP2-Settings", "Idempotency-Key",
)  # fmt: skip
ODD_NAMES = (
    "",
    " X",
    "X ",
    "X\t",
    "X\0",
    "X\r",
    "é",
    "X(y)",
    "X\x7f",
    "a" * 9000,
    ":authority",
    "_",
    "X_API_Key",
    "x-api-key ",
)
VALUES = (
    "", " ", "a", "close", "keep-alive", "close, x-api-key, host", "upgrade", "content-length, transfer-encoding",
    "chunked",
    "gzip", "identity", "gzip, chunked", "100-continue", "websocket", "h2c", "0", "-1", "5",
    "99999999999999999999", "0x5",
    "1, 1", "null", "http://evil.test", "evil.test", "127.0.0.1", "127.0.0.1, evil.test", "::1", "10.0.0.1, é",
    "same-origin",
    "cross-site", "*", '"', "bytes=0-", "application/json", "multipart/form-data; boundary=x", "text/plain", "13",
    "b, a",
    "\t", "a\tb", "a\x00b", "a\rb", "a\nb", "a\r\n b", "a\x0bb", "\x7f", "\x85", "\xff" * 20, "%0d%0aX: y",
    "%s%n{0}", "a=b; c",
    "1.2.3.4:80", "[::1]:80", "fe80::1%eth0", "::ffff:1.2.3.4", "unknown, _hidden", "1.2.3.4," * 3000, "999.1.1.1",
    "x" * 8000, "x" * 40_000, ",".join("b" * 9 for _ in range(900)), ";" * 4000, "a=b;" * 3000, "claude-proxy=",
)  # fmt: skip
TIMES = ("2026-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
SCRIPTS = ("%3Cscript%3Ealert(1)%3C/script%3E", "%22%3E%3Cimg%20src=x%3E", "javascript:alert(1)")
CHUNK_EXTRAS = ((b"", b""), (b";a=b", b"X: y\r\n"), (b";" + b"a" * 5000, b""), (b"", b"x" * 9000))
"""Extensions and trailers."""

NOISE = (
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\x80",
    b"\xff",
    b"\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1",
    b"%",
    b",",
)
LENGTHS = (
    "0",
    "1",
    "7",
    "+5",
    "-5",
    "0x10",
    "5 5",
    "5,5",
    "99999999999",
    "18446744073709551616",
    "",
    "٣",
    "1e3",
)


@dataclass(frozen=True)
class Known:
    """What the proxy under attack has made up itself: a sign-in's cookie, and the id of a client key."""

    cookie: str
    key_id: str


@dataclass(frozen=True)
class Conversation:
    """`data` is sent in pieces that begin at `cuts`.

    `requests` counts what it was made of, and if it `ends`, the last of them asks to close.
    """

    seed: int
    data: bytes
    cuts: tuple[int, ...]
    requests: int
    ends: bool

    @property
    def address(self) -> str:
        """The client's: wrong keys of one address are soon told to wait."""
        return f"127.0.{1 + self.seed % 50}.{1 + self.seed // 50 % 250}"


class Grammar:
    """Makes the conversation of one seed."""

    def __init__(self, seed: int, known: Known) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._known = known
        self._bodies = Bodies(self._rng, PLANTS)

    def conversation(self) -> Conversation:
        rng = self._rng
        count = rng.choice((1, 1, 2, 3, 6))
        data = b"".join(self._request(f"n{self._seed}-{number}") for number in range(count))
        if rng.random() < 0.15:
            data = self._mutated(data)
        tail = f"GET /v1/tail/n{self._seed} HTTP/1.1\r\nHost: a\r\nx-api-key: {CLIENT_KEY}\r\nConnection: close\r\n\r\n"
        data += tail.encode()
        ends = rng.random() > 0.05
        if not ends:
            data = data[: rng.randrange(1, len(data))]
        cuts = sorted(rng.randrange(len(data)) for _ in range(rng.choice((0, 0, 1, 4))))
        return Conversation(self._seed, data, tuple(cuts), count + 1, ends)

    def _request(self, nonce: str) -> bytes:
        """A request; half of them are odd beside their target and body."""
        rng = self._rng
        method, target, body, coding = self._asked(nonce)
        odd = rng.random() < 0.5
        if odd and rng.random() < 0.15:
            method = rng.choice(METHODS)
        version = rng.choice(VERSIONS) if odd and rng.random() < 0.08 else "HTTP/1.1"
        lines = [] if odd and rng.random() < 0.05 else ["Host: 127.0.0.1"]
        lines += self._credentials() if odd else [f"x-api-key: {self._key(target)}"]
        if coding:
            lines.append(f"Content-Encoding: {coding}")
        if odd:
            lines += [self._line() for _ in range(rng.choice((0, 1, 1, 2, 4, 120)))]
        framing, framed = self._framed(body, method, odd=odd)
        lines += framing
        if odd and rng.random() < 0.2:
            rng.shuffle(lines)
        end = rng.choice(("\n", "\r", "\r\r\n", "\n\r")) if odd and rng.random() < 0.06 else "\r\n"
        start = f"{method} {target} {version}"
        return end.join([start, *lines, "", ""]).encode("latin-1", "replace") + framed

    def _key(self, target: str) -> str:
        """One that may ask for the target."""
        if not target.startswith("/v1"):
            return ADMIN_KEY
        return self._rng.choice((CLIENT_KEY, LIMITED_KEY))

    def _asked(self, nonce: str) -> tuple[str, str, bytes, str]:
        """Method, target, body and what it is said to be encoded with."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.35:
            body, coding = (self._bodies.message(), "") if rng.random() < 0.7 else self._bodies.any()
            return rng.choice(("POST", "POST", "GET")), f"{rng.choice(KNOWN)}?n={nonce}", body, coding
        if kind < 0.5:
            return rng.choice(("GET", "DELETE", "POST", "HEAD")), f"/v1/fuzz/{nonce}", b"", ""
        if kind < 0.7:
            return rng.choice(("GET", "POST")), self._odd_target(nonce), b"", ""
        method, path = rng.choice(ROUTES)
        path = path.replace("nobody", rng.choice((self._known.key_id, "nobody", rng.choice(SEGMENTS))))
        if rng.random() < 0.4:
            name = rng.choice(
                ("page", "limit", "from", "to", "by", "code", "state", "topics", "epoch", "search", "role")
            )
            path += f"?{name}={rng.choice((*VALUES[:30], *SEGMENTS, *TIMES, *SCRIPTS, 'accounts:0'))}"
        return method, path, (self._bodies.settings() if method in ("POST", "PUT") else b""), ""

    def _odd_target(self, nonce: str) -> str:
        rng = self._rng
        path = "/" + "/".join(rng.choice(SEGMENTS) for _ in range(rng.choice((1, 2, 3, 5))))
        match rng.randrange(6):
            case 0:
                path = rng.choice(WHOLE)
            case 1:
                path = rng.choice(PREFIXES) + path
            case 2:
                path = "/v1/fuzz/" + rng.choice(
                    ("a" * 200, "a" * 30_000, "a/" * 9000, "%61" * 5000, "%25" * 50 + "2e")
                )
            case 3:
                path = f"/v1/fuzz/{rng.choice((*PLANTS, ADMIN_KEY)).replace(' ', '%20')}"
        return f"{path}?n={nonce}" if rng.random() < 0.8 else path

    def _credentials(self) -> list[str]:
        rng = self._rng
        key = rng.choice(
            (CLIENT_KEY, CLIENT_KEY, LIMITED_KEY, ADMIN_KEY, ADMIN_KEY, WRONG_KEY, "", CLIENT_KEY[:-1])
        )
        match rng.randrange(12):
            case 0:
                return []
            case 1 | 2 | 3:
                return [f"Authorization: Bearer {key}"]
            case 4:
                return [f"Authorization: Bearer {WRONG_KEY}", f"X-Api-Key: {key}"]
            case 5:
                own = rng.choice(
                    ("Origin: http://127.0.0.1", "Sec-Fetch-Site: same-origin", "Origin: http://evil.test")
                )
                return [f"Cookie: a=b; {self._known.cookie}", own]
            case 6:
                odd = rng.choice(("\r", "\0", "\t", " ", "\x0b", "\xa0", "é", "\n", '"', "\x7f"))
                return [f"{rng.choice(('X-API-Key', 'Cookie', 'Authorization'))}: {key}{odd}"]
            case 7:
                return [
                    f"{key}: x",
                    f"X-Api-Key : {key}",
                    f"x_api_key: {key}",
                    f"X-Other: {rng.choice(PLANTS)}",
                ]
        return [f"x-api-key: {key}"]

    def _line(self) -> str:
        rng = self._rng
        name = rng.choice(NAMES) if rng.random() < 0.85 else rng.choice(ODD_NAMES)
        value = rng.choice(VALUES) if rng.random() < 0.9 else rng.choice(PLANTS)
        colon = ": " if rng.random() < 0.8 else rng.choice((":", " :", ":\t", ""))
        return f"{name}{colon}{value}"

    def _framed(self, body: bytes, method: str, *, odd: bool) -> tuple[list[str], bytes]:
        """The header lines that say where the body ends, and the body with its framing."""
        rng = self._rng
        kind = rng.random()
        if odd and kind < 0.1:
            return [f"Content-Length: {rng.choice(LENGTHS)}"], body
        if kind < 0.3:
            places = [rng.randrange(len(body) + 1) for _ in range(rng.randrange(4))]
            extension, trailers = rng.choice(CHUNK_EXTRAS if odd else CHUNK_EXTRAS[:2])
            lines = ["Transfer-Encoding: chunked"] * (2 if odd and kind < 0.12 else 1)
            if odd and rng.random() < 0.1:
                lines.append(f"Content-Length: {len(body)}")
            return lines, chunked(body, places, extension=extension, trailers=trailers)
        if not body and (method in ("GET", "HEAD", "DELETE") or rng.random() < 0.3):
            return [], b""
        return [f"Content-Length: {len(body)}"], body

    def _mutated(self, data: bytes) -> bytes:
        rng, changed = self._rng, bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(len(changed) + 1)
            match rng.randrange(4):
                case 0:
                    changed[at:at] = rng.choice(NOISE)
                case 1:
                    del changed[at : at + rng.choice((1, 1, 2, 20))]
                case 2:
                    changed[at : at + 1] = bytes([rng.randrange(256)])
                case _:
                    changed[at:at] = changed[max(0, at - rng.choice((1, 10, 200))) : at]
        return bytes(changed)
