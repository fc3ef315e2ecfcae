"""What happens in sessions: their events, and the streams that listen to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from proxy.clock import Clock, rfc3339

from . import prose
from .ids import Ids
from .pages import by_cursor
from .replies import ApiError, Json, LiveStream
from .requests import Request
from .sse import frame

_ENDS = ("session.status_terminated", "session.deleted")


class SessionEvents:
    """The events by session. A message of the user is answered at once."""

    def __init__(self, *, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._events: dict[str, list[Json]] = {}
        self._listeners: dict[str, list[asyncio.Queue[Json]]] = {}

    def begin(self, session_id: str) -> None:
        self._events[session_id] = []

    def page(self, session_id: str, request: Request) -> Json:
        """One page, the oldest first unless asked otherwise."""
        types = request.arguments("types")
        events = [event for event in self._events[session_id] if not types or event["type"] in types]
        return by_cursor(events[::-1] if request.argument("order") == "desc" else events, request)

    def send(self, session_id: str, events: object) -> list[Json]:
        """The user's events as they are kept; what the agent does then follows them."""
        if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
            raise ApiError(
                400, "events: Field required" if events is None else "events must be an array of events"
            )
        sent = [self.happen(session_id, str(event.get("type")), **event) for event in events]
        for event in sent:
            if event["type"] == "user.message":
                self._answer(session_id, event)
        return sent

    def _answer(self, session_id: str, message: Json) -> None:
        content = message.get("content")
        texts = content if isinstance(content, list) else [{"text": content}]
        question = " ".join(str(block.get("text", "")) for block in texts if isinstance(block, dict))
        self.happen(session_id, "session.status_running")
        self.happen(session_id, "agent.message", content=[{"type": "text", "text": prose.answer(question)}])
        self.happen(session_id, "session.status_idle", stop_reason={"type": "end_turn"})

    def happen(self, session_id: str, type_: str, **members: object) -> Json:
        now = rfc3339(self._clock.now())
        event: Json = {**members, "type": type_, "id": self._ids.new("sevt"), "processed_at": now}
        self._events[session_id].append(event)
        for queue in self._listeners.get(session_id, []):
            queue.put_nowait(event)
        return event

    def listen(self, session_id: str) -> LiveStream:
        """What happens from now on; it ends with the session."""
        queue: asyncio.Queue[Json] = asyncio.Queue()
        self._listeners.setdefault(session_id, []).append(queue)
        return LiveStream(self._heard(session_id, queue))

    async def _heard(self, session_id: str, queue: asyncio.Queue[Json]) -> AsyncGenerator[bytes, None]:
        try:
            past = self._events[session_id]
            ended = bool(past) and past[-1]["type"] in _ENDS and queue.empty()
            while not ended:
                event = await queue.get()
                yield frame(event["type"], event)
                ended = event["type"] in _ENDS
        finally:
            self._listeners[session_id].remove(queue)
