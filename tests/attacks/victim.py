"""The proxy under attack: a process of its own, and an upstream that says which request it answers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.attacks.grammar import Known
from tests.attacks.words import LIMITED_KEY
from tests.echo import LIMIT, Message, chunked, read_body, read_head
from tests.process import Running, running, write_config
from tests.service import ADMIN_KEY, CLIENT_KEY, PAGE_HEADERS
from tests.serving import serving

ACCOUNT_KEYS = ("sk-ant-api03-account-one-of-attacks-Zx81", "sk-ant-api03-account-two-of-attacks-Qw72")
FORBIDDEN = (b"TRACE", b"TRACK", b"CONNECT")
OWN_CREDENTIALS = ("x-api-key", "authorization", "cookie", "proxy-authorization")
ANSWER = {"type": "message", "model": "claude-sonnet-5-5", "usage": {"input_tokens": 3, "output_tokens": 5}}

LARGE_BYTES = 3_000_000
"""Of the answer to `/v1/large`: more than sockets hold."""


@dataclass(frozen=True)
class Asked:
    """A request as the upstream got it; of its body there is a digest only."""

    method: bytes
    target: bytes
    body: bytes


def asked(method: bytes, target: bytes, body: bytes) -> Asked:
    """The request as it is compared."""
    return Asked(method, target, hashlib.sha256(body).digest())


class Mirror:
    """The upstream: says in `x-answers` what target it was asked for. `faults` tells what should never have come."""

    def __init__(self, accounts: tuple[str, ...]) -> None:
        self.asked: list[Asked] = []
        self.faults: list[str] = []
        self._accounts = {key.encode() for key in accounts}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            start, lines = await read_head(reader)
            head = Message(start, lines)
            body = await read_body(reader, head, to_end=False)
            method, target, _ = start.split(b" ")
            self._look(method, target, head)
            self.asked.append(asked(method, target, body))
            writer.write(_answer(method, target))

    def _look(self, method: bytes, target: bytes, head: Message) -> None:
        """Note what may not go up: another path, a forbidden method, a client's credential."""
        path = target.partition(b"?")[0]
        if not path.startswith(b"/v1/") or b".." in path or b"\\" in path or method in FORBIDDEN:
            self.faults.append(f"the upstream was asked {method!r} {target[:200]!r}")
        shown = {name: values for name, values in head.fields().items() if name in OWN_CREDENTIALS}
        keys = shown.get("x-api-key", [])
        if shown.keys() != {"x-api-key"} or len(keys) != 1:
            self.faults.append(f"the upstream was shown {sorted(shown)} {len(keys)} for {target[:200]!r}")
        elif keys[0] not in self._accounts and not keys[0].startswith(b"sk-ant-"):
            self.faults.append(f"the upstream was shown a key of no account for {target[:200]!r}")


def _answer(method: bytes, target: bytes) -> bytes:
    """An answer that names its request, in one framing or another."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-answers: " + target + b"\r\n"
    body = json.dumps(ANSWER).encode()
    if target == b"/v1/large":
        body = b"x" * LARGE_BYTES
    if method == b"HEAD":
        return head + b"content-length: %d\r\n\r\n" % len(body)
    if len(target) % 3:
        return head + b"content-length: %d\r\n\r\n" % len(body) + body
    return head + b"transfer-encoding: chunked\r\n\r\n" + chunked(body, [7])


@dataclass(frozen=True)
class Victim:
    """A proxy that serves with two accounts, and with the keys that the grammar knows."""

    process: Running
    mirror: Mirror
    home: Path

    @property
    def port(self) -> int:
        return self.process.port

    async def sign_in(self) -> Known:
        """A new sign-in and a new client key, for an attack to play with."""
        body = json.dumps({"api_key": ADMIN_KEY}).encode()
        answer = await self.process.send("POST", "/api/auth/login", PAGE_HEADERS, body)
        cookie = str(answer.header("set-cookie")).partition(";")[0]
        made = await self.made("/api/tokens", {"name": "plaything"})
        return Known(cookie, made["token"]["id"])

    async def made(self, path: str, body: Any) -> dict[str, Any]:
        """What a request to the admin API has made."""
        answer = await self.process.admin("POST", path, body)
        assert answer.status == 201, answer.body
        return dict(answer.json())


@contextlib.asynccontextmanager
async def victim(home: Path, options: str = "") -> AsyncIterator[Victim]:
    """A proxy with its data below `home`; `options` are lines of its configuration."""
    mirror = Mirror(ACCOUNT_KEYS)
    async with serving(mirror.serve, limit=LIMIT) as upstream:
        config = write_config(home, options)
        variables = {"CLAUDE__BASE_URL": f"http://127.0.0.1:{upstream}"} | OAUTH
        async with running(home, "--config", str(config), **variables) as process:
            found = Victim(process, mirror, home)
            for number, key in enumerate(ACCOUNT_KEYS):
                await found.made("/api/accounts", {"name": f"a{number}", "type": "api_key", "api_key": key})
            await found.made("/api/tokens", {"name": "good", "key": CLIENT_KEY})
            limits = {"tokens_per_day": 10**12}
            limited = {"name": "limited", "key": LIMITED_KEY, "limits": limits, "models": ["claude-*"]}
            await found.made("/api/tokens", limited)
            yield found


OAUTH = {
    "OAUTH__CLIENT_ID": "attacks",
    "OAUTH__AUTHORIZE_URL": "http://127.0.0.1:9/authorize",
    "OAUTH__TOKEN_URL": "http://127.0.0.1:9/token",
    "SESSION__MAX_CONCURRENT": "1000",
}
"""Nobody listens there: an exchange that gets so far fails as one that a provider refuses."""
