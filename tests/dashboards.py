"""A dashboard without a browser: signs in, opens the feed, and applies what comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from handlers.live import SUBPROTOCOL
from tests.service import Service

Frame = dict[str, Any]


class Dashboard:
    """One connection; `items` is what it shows, by topic."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self.connection = connection
        self._ended = False
        self.frames: list[Frame] = []
        self.items: dict[str, dict[str, Any]] = {}
        self.revs: dict[str, int] = {}

    async def send(self, **message: Any) -> None:
        await self.connection.write_message(json.dumps(message))

    async def hello(self, *topics: str, epoch: str | None = None, hz: float = 20, **revs: int) -> Frame:
        """Say which topics it wants, and take the answer."""
        wanted = dict.fromkeys(topics, 0) | revs
        await self.send(t="hello", epoch=epoch, topics=wanted, hz=hz)
        hello = await self.read()
        for _ in wanted:
            await self.read()
        return hello

    async def read(self) -> Frame:
        """The next frame, applied."""
        text = await self._text()
        assert text is not None, f"closed with {self.connection.close_code}"
        frame = json.loads(text)
        self.frames.append(frame)
        assert frame["n"] == len(self.frames)
        topic = frame.get("topic")
        if frame["t"] == "snap":
            self.items[topic] = frame["items"]
        elif frame["t"] == "delta":
            for id, fields in frame["set"].items():
                self.items[topic].setdefault(id, {}).update(fields)
            for id in frame["del"]:
                self.items[topic].pop(id, None)
        if topic is not None:
            self.revs[topic] = frame["rev"]
        return frame

    async def until(self, condition: Callable[[], object]) -> None:
        """Read until `condition` holds."""
        while not condition():
            await self.read()

    async def closed(self) -> int | None:
        """The code with which the server ends it."""
        while await self._text() is not None:
            pass
        return self.connection.close_code

    async def _text(self) -> str | bytes | None:
        # Tornado tells the end once: whoever asks again waits for ever.
        if not self._ended:
            async with asyncio.timeout(10):
                text = await self.connection.read_message()
            self._ended = text is None
        return None if self._ended else text


@contextlib.asynccontextmanager
async def dashboard(
    service: Service, *, cookie: str | None = None, subprotocol: str = SUBPROTOCOL, **headers: str
) -> AsyncIterator[Dashboard]:
    """An open feed, with a sign-in of its own where no cookie is given. Raises HTTPClientError where refused."""
    given = {
        "Cookie": cookie or await service.login(),
        "Origin": f"http://127.0.0.1:{service.port}",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    request = HTTPRequest(
        f"ws://127.0.0.1:{service.port}/api/live",
        headers={name: value for name, value in given.items() if value},
    )
    page = Dashboard(await websocket_connect(request, subprotocols=[subprotocol]))
    try:
        yield page
    finally:
        page.connection.close()
        await page.closed()
