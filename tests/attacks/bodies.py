"""Bodies of requests: JSON that is right, odd, huge or broken, and what calls itself compressed."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from typing import Any

ODD_NUMBERS = (
    "0", "-0", "-1", "1e400", "-1e308", "1E+2", "0.1e-400", "9" * 18, "9" * 20, "9" * 400, "9" * 5000,
    "18446744073709551616", "NaN", "Infinity", "-Infinity", "01", "1.", "0x1", "+1", "1_000", "true", "null",
)  # fmt: skip
ODD_TEXTS = (
    "", " ", "\x00", "\u202e", "\ud800", "\U0001f600", "é", "\x1b[31m", "a\r\nb", "=1+1", "../..", "%s%n", "{0}",
    "__proto__", "<script>alert(1)</script>", "1e400", "null", "x" * 300, "x" * 70_000,
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00Z", "2026-13-45T99:99:99Z",
)  # fmt: skip
NAMES = (
    "model", "stream", "max_tokens", "metadata", "messages", "system", "tools", "thinking", "name", "type",
    "api_key",
    "code", "state", "org_id", "role", "status", "limits", "models", "expires_at", "key", "requests_per_minute",
    "concurrent_requests", "tokens_per_day", "tokens_per_month", "cost_usd_per_day", "cost_usd_per_month",
)  # fmt: skip
WORDS = (
    "claude-sonnet-5-5", "claude-haiku-4-5", "claude-*", "[!-", "active", "inactive", "revoked", "user", "admin",
    "oauth",
    "api_key", "fuzz",
)  # fmt: skip
MESSAGE: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hi"}],
}
KEY = {"name": "fuzz", "role": "user", "models": ["claude-*"], "limits": {"requests_per_minute": 100}}
BOMB = gzip.compress(b"[" + b"{}," * 2_000_000 + b"{}]")
NESTED = 20_000


class Bodies:
    """Makes bodies of one source of chance; `plants` are texts of which some hold one."""

    def __init__(self, rng: random.Random, plants: tuple[str, ...]) -> None:
        self._rng = rng
        self._plants = plants

    def message(self) -> bytes:
        """A request for a message, mostly a right one."""
        if self._rng.random() < 0.6:
            return json.dumps(MESSAGE | {"stream": self._rng.random() < 0.5}).encode()
        return self._mangled(self._object(MESSAGE))

    def settings(self) -> bytes:
        """What an admin's form could send."""
        return self._mangled(self._object(self._rng.choice(({}, KEY))))

    def any(self) -> tuple[bytes, str]:
        """A body, and the `Content-Encoding` that it is said to have, empty if none."""
        rng = self._rng
        kind = rng.randrange(12)
        if kind == 0:
            return rng.randbytes(rng.choice((1, 100, 5000))), rng.choice(("", "gzip", "br", "zstd", "x"))
        if kind == 1:
            return BOMB, rng.choice(("gzip", "gzip, gzip", "br", "GZIP", "deflate"))
        if kind == 2:
            return zlib.compress(self.message()), "deflate"
        if kind == 3:
            return gzip.compress(self.message())[: rng.randrange(1, 80)], "gzip"
        if kind == 4:
            depth = rng.choice((3, 200, 1100, NESTED))
            return b'{"a":' * depth + b"1" + b"}" * rng.choice((depth, 0)), ""
        if kind == 5:
            depth = rng.choice((1100, NESTED))
            return b'{"model":"x","tools":' + b"[" * depth + b"]" * depth + b"}", ""
        if kind == 6:
            return b"", ""
        return (self.message() if rng.random() < 0.5 else self.settings()), ""

    def _mangled(self, data: bytes) -> bytes:
        rng = self._rng
        match rng.randrange(10):
            case 0:
                return data[: rng.randrange(len(data))]
            case 1:
                return data + rng.choice((b" ", b"\0", b"{}", b",", b"\xff", b"\xef\xbb\xbf"))
            case 2:
                return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"[", b" ")) + data
            case 3:
                return data.replace(b'"', rng.choice((b"'", b"\xff", b'\\"')), 3)
            case 4:
                return data.decode("utf-8", "replace").encode("utf-16")
        return data

    def _object(self, start: dict[str, Any]) -> bytes:
        """An object that has some fields of `start` and others, some of them twice."""
        rng = self._rng
        fields = [
            f"{json.dumps(name)}:{json.dumps(value)}" for name, value in start.items() if rng.random() < 0.8
        ]
        fields += [f"{self._text(NAMES)}:{self._value(2)}" for _ in range(rng.randrange(4))]
        rng.shuffle(fields)
        return ("{" + ",".join(fields) + "}").encode("utf-8", "surrogatepass")

    def _text(self, usual: tuple[str, ...]) -> str:
        rng = self._rng
        text = rng.choice(usual if rng.random() < 0.8 else ODD_TEXTS + self._plants)
        return json.dumps(text, ensure_ascii=rng.random() < 0.5)

    def _value(self, depth: int) -> str:
        rng = self._rng
        match rng.randrange(7):
            case 0 | 1:
                return rng.choice(ODD_NUMBERS)
            case 2 if depth:
                return "[" + ",".join(self._value(depth - 1) for _ in range(rng.randrange(4))) + "]"
            case 3 if depth:
                names = [self._text(NAMES) for _ in range(rng.randrange(4))]
                return "{" + ",".join(f"{name}:{self._value(depth - 1)}" for name in names) + "}"
            case 4:
                return str(rng.randrange(-5, 1000))
        return self._text(WORDS)
