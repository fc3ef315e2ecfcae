"""Plain HTTP to a simulator, and a clock that only the test moves."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from proxy.simulator import Simulator

KEY = "sk-ant-api03-test"
OLD_VERSION = "2023-06-01"


@dataclass
class FakeClock:
    """Time that only the test moves."""

    wall: float = 1_795_000_000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.wall

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.wall += seconds


@dataclass
class Wire:
    """Requests as an API client sends them; `None` as credential sends none."""

    sim: Simulator
    client: AsyncHTTPClient

    async def send(
        self, method: str, path: str, body: Any = None, *, credential: str | None = KEY, **headers: str
    ) -> HTTPResponse:
        fields = {"anthropic-version": OLD_VERSION}
        if credential is not None:
            fields["x-api-key"] = credential
        if body is not None and not isinstance(body, bytes):
            fields["content-type"] = "application/json"
            body = json.dumps(body)
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.fetch(
            self.sim.base_url + path,
            method=method,
            body=body,
            headers=fields,
            raise_error=False,
            follow_redirects=False,
            allow_nonstandard_methods=True,
            decompress_response=False,
        )

    async def get(self, path: str, **more: Any) -> HTTPResponse:
        return await self.send("GET", path, **more)

    async def message(self, text: str = "hello", *, more: dict[str, Any] | None = None, **send: Any) -> Any:
        """POST /v1/messages; the answer's JSON."""
        response = await self.post_message(text, more=more, **send)
        return json.loads(response.body)

    async def post_message(
        self, text: str = "hello", *, more: dict[str, Any] | None = None, **send: Any
    ) -> HTTPResponse:
        body = {
            "model": "claude-sonnet-5-5",
            "max_tokens": 500,
            "messages": [{"role": "user", "content": text}],
        }
        return await self.send("POST", "/v1/messages", body | (more or {}), **send)

    async def token(self, **body: str) -> HTTPResponse:
        return await self.send(
            "POST", "/v1/oauth/token", {"client_id": self.sim.client_id} | body, credential=None
        )

    async def refresh(self, refresh_token: str) -> HTTPResponse:
        return await self.token(grant_type="refresh_token", refresh_token=refresh_token)


def events(response: HTTPResponse) -> list[tuple[str, Any]]:
    """The server-sent events of an answer: name and data."""
    frames = response.body.decode().split("\n\n")
    assert frames.pop() == ""
    parsed = []
    for frame in frames:
        name, data = frame.split("\n")
        assert name.startswith("event: ") and data.startswith("data: ")
        parsed.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return parsed
