"""Conversations of a hostile client: what it sends on one connection, all from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.attacks.bodies import Bodies
from tests.attacks.words import (
    CHUNK_EXTRAS,
    KNOWN,
    LENGTHS,
    LIMITED_KEY,
    METHODS,
    NAMES,
    NOISE,
    ODD_NAMES,
    PLANTS,
    PREFIXES,
    SCRIPTS,
    SEGMENTS,
    TIMES,
    VALUES,
    VERSIONS,
    WHOLE,
    WRONG_KEY,
)
from tests.echo import chunked
from tests.routes import ROUTES
from tests.service import ADMIN_KEY, CLIENT_KEY


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
            lines += [self._line() for _ in range(rng.choice((0, 1, 1, 2, 4, 60)))]
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
