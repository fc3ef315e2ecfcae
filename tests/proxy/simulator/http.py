"""HTTP to a simulator, and a clock that only the test moves."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from proxy.simulator import Simulator
from tests.wire import Answer, fetch

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
class Client:
    """Requests as an API client sends them; `None` as credential sends none."""

    sim: Simulator

    async def send(
        self, method: str, path: str, body: Any = None, *, credential: str | None = KEY, **headers: str
    ) -> Answer:
        """The answer, read whole; a `body` that is no bytes goes as JSON."""
        fields = {"anthropic-version": OLD_VERSION}
        if credential is not None:
            fields["x-api-key"] = credential
        if body is not None and not isinstance(body, bytes):
            fields["content-type"] = "application/json"
            body = json.dumps(body).encode()
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        port = int(self.sim.base_url.rpartition(":")[2])
        return await fetch(port, method, path, fields.items(), body)

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.send("GET", path, **more)

    async def made(self, path: str, /, **body: Any) -> Any:
        """What a POST that must succeed gives back."""
        answer = await self.send("POST", path, body)
        assert answer.status == 200, answer.body
        return answer.json()

    async def message(
        self, text: str = "hello", *, more: dict[str, Any] | None = None, **send: Any
    ) -> Answer:
        """POST /v1/messages, with `more` members in its body."""
        body = {
            "model": "claude-sonnet-5-5",
            "max_tokens": 500,
            "messages": [{"role": "user", "content": text}],
        }
        return await self.send("POST", "/v1/messages", body | (more or {}), **send)

    async def token(self, **body: str) -> Answer:
        body = {"client_id": self.sim.client_id} | body
        return await self.send("POST", "/v1/oauth/token", body, credential=None)

    async def refresh(self, refresh_token: str) -> Answer:
        return await self.token(grant_type="refresh_token", refresh_token=refresh_token)


def events(answer: Answer) -> list[tuple[str, Any]]:
    """The server-sent events of an answer: name and data."""
    *frames, rest = answer.body.decode().split("\n\n")
    assert rest == ""
    parsed = []
    for frame in frames:
        name, data = frame.split("\n")
        assert name.startswith("event: ") and data.startswith("data: ")
        parsed.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return parsed
