"""The open dashboards: what each has of the feed, and what is sent to it. `live` says what crosses their sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import ujson
from pydantic_core import from_json
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from handlers.gate import AdminGate
from proxy import __version__
from proxy.clients.actor import Actor
from proxy.clock import Clock
from proxy.dashboard.revisions import Revisions
from proxy.dashboard.summary import Summary
from proxy.dashboard.topics import Topics
from proxy.jobs import Jobs

MOST_DASHBOARDS = 32
MOST_MESSAGES_S = 20
LIST_CHARACTERS = 64 * 1024
"""Of frames in one message, each of which costs 80 µs of the loop's time."""
TICK_S = 1.0
HEARTBEAT_S = 10.0
STALLED_S = 60.0
FASTEST_HZ, SLOWEST_HZ = 20.0, 0.1

SIGNED_OUT = 4401
GOING_AWAY, REFUSED, TOO_SLOW = 1001, 1008, 1013  # RFC 6455 7.4.1

log = logging.getLogger(__name__)


class Dashboards:
    """The open dashboards, and the parts that their frames are made from."""

    def __init__(
        self, live: Revisions, topics: Topics, summary: Summary, *, assets: str, jobs: Jobs, clock: Clock
    ) -> None:
        self.live = live
        self.jobs = jobs
        self._topics = topics
        self._summary = summary
        self._assets = assets
        self._clock = clock
        self._open: set[Socket] = set()
        # A turn of the loop writes one message: requests go on between, and need not wait for twenty of them.
        self.writing = asyncio.Lock()
        jobs.every("look", TICK_S, self.look)

    def admit(self, socket: Socket) -> bool:
        """Add a dashboard. False if MOST_DASHBOARDS are open already."""
        if len(self._open) >= MOST_DASHBOARDS:
            return False
        self._open.add(socket)
        return True

    def forget(self, socket: Socket) -> None:
        self._open.discard(socket)

    def signed_out(self, sign_in_id: str) -> None:
        """Close the dashboards of a sign-in that has ended."""
        for socket in tuple(self._open):
            if socket.actor.sign_in is not None and socket.actor.sign_in.id == sign_in_id:
                socket.close(SIGNED_OUT, "signed out")

    def key_replaced(self) -> None:
        """Close the dashboards that came with the admin key itself, which is another one now."""
        for socket in tuple(self._open):
            if socket.actor.kind == "admin_key":
                socket.close(SIGNED_OUT, "the admin key was replaced")

    def close(self) -> None:
        """Close all dashboards, since the server stops."""
        for socket in tuple(self._open):
            socket.close(GOING_AWAY, "the server stops")

    def now(self) -> float:
        return self._clock.now()

    def hello(self) -> str:
        """The first frame of a connection, as `unbraced` makes it."""
        hello = {
            "t": "hello",
            "v": 1,
            "epoch": self.live.epoch,
            "now": self.now(),
            "started_at": self._summary.started_at,
            "server_version": __version__,
            "assets": self._assets,
            "heartbeat_s": HEARTBEAT_S,
        }
        return unbraced(hello)

    def look(self) -> None:
        """Look for changes that come with time alone, such as a cooldown that ends, and for who is no admin now."""
        for socket in tuple(self._open):
            if not socket.is_admitted:
                socket.close(SIGNED_OUT, "signed out")
        if self._topics.tick():
            self.live.sweep()


class Socket:
    """One dashboard: the revision that it has of each topic, and the task that sends it newer ones."""

    def __init__(
        self, connection: WebSocketHandler, dashboards: Dashboards, actor: Actor, gate: AdminGate
    ) -> None:
        self.actor = actor
        self._connection = connection
        self._gate = gate
        self._dashboards = dashboards
        self._live = dashboards.live
        self._seen: dict[str, int] = {}
        self._asked: set[str] = set()  # topics to answer even if nothing is new
        self._pongs: deque[str] = deque(maxlen=MOST_MESSAGES_S)
        self._received: deque[float] = deque(maxlen=MOST_MESSAGES_S)
        self._interval_s = 1 / FASTEST_HZ
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()
        self._n = 0
        self._takes_lists = False
        self._sent_at = 0.0
        self._pump: asyncio.Task[None] | None = None

    @property
    def is_admitted(self) -> bool:
        """Whether the key that it came with is an admin's still; a sign-in tells by itself when it ends."""
        return self._gate.admits(self.actor)

    def receive(self, text: str | bytes) -> None:
        """Do what a message of the page asks for; close the connection if it is malformed or one too many."""
        now = asyncio.get_running_loop().time()
        if len(self._received) == MOST_MESSAGES_S and now - self._received[0] < 1:
            self.close(REFUSED, "too many messages")
            return
        self._received.append(now)
        try:
            self._obey(from_json(text, allow_inf_nan=False))
        except (OverflowError, ValueError, TypeError, KeyError, AttributeError):
            self.close(REFUSED, "not understood")
            return
        self._urgent.set()
        self._news.set()

    def _obey(self, message: Any) -> None:
        match message["t"]:
            case "hello":
                self._pace(message.get("hz", FASTEST_HZ))
                self._takes_lists = message.get("lists") is True
                known = message.get("epoch") == self._live.epoch
                for topic, rev in message["topics"].items():
                    self._subscribe(topic, rev if known else 0)
                if self._pump is None:
                    self._pump = self._dashboards.jobs.start("dashboard", self._run(), wait=False)
            case "sub":
                self._subscribe(message["topic"], message.get("rev", 0))
            case "unsub":
                self._seen.pop(message["topic"], None)
            case "rate":
                self._pace(message["hz"])
            case "ping":
                self._pongs.append(unbraced({"t": "pong", "c": _number(message["c"])}))

    def _subscribe(self, topic: str, rev: object) -> None:
        if topic in self._live:
            self._seen[topic] = rev if type(rev) is int else 0
            self._asked.add(topic)

    def _pace(self, hz: object) -> None:
        self._interval_s = 1 / min(FASTEST_HZ, max(SLOWEST_HZ, _number(hz)))

    def close(self, code: int, reason: str) -> None:
        """Close the connection with a code and a reason for the page."""
        self.gone()
        self._connection.close(code, reason)

    def gone(self) -> None:
        """Clean up after the connection has ended."""
        self._dashboards.forget(self)
        self._live.unfollow(self._news)
        if self._pump is not None:
            self._pump.cancel()

    async def _run(self) -> None:
        self._live.follow(self._news)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(WebSocketClosedError):
            await self._send(self._dashboards.hello())
            while True:
                await self._send_news()
                if loop.time() - self._sent_at >= HEARTBEAT_S:
                    await self._send(unbraced({"t": "hb", "now": self._dashboards.now()}))
                # `Dashboards.look` causes news at least once a second, so that the heartbeat needs no timer.
                await self._news.wait()
                self._urgent.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due(self._sent_at, self._interval_s)):
                        await self._urgent.wait()
                self._news.clear()

    async def _send_news(self) -> None:
        while self._pongs:
            # The page sets its clock by `now`, so this is read when the pong is sent.
            await self._send(f'"now":{self._dashboards.now()},{self._pongs.popleft()}')
        due: list[str] = []
        size = 0
        # All are made now: dashboards that are due in the same turn share them.
        for frame in list(self._news_frames()):
            if due and (not self._takes_lists or size + len(frame) > LIST_CHARACTERS):
                await self._send(*due)
                due, size = [], 0
            due.append(frame)
            size += len(frame)
        if due:
            await self._send(*due)

    def _news_frames(self) -> Iterator[str]:
        """The frames that bring the dashboard up to date."""
        for topic in tuple(self._seen):
            since = self._seen.get(topic)
            if since is None or (topic not in self._asked and self._live.rev(topic) == since):
                continue
            self._asked.discard(topic)
            self._seen[topic], frames = self._live.frames(topic, since)
            yield from frames

    async def _send(self, *frames: str) -> None:
        """Send frames in one message, and wait until the socket has taken it.

        Close a dashboard that takes nothing for STALLED_S.
        """
        texts = [numbered(n, frame) for n, frame in enumerate(frames, self._n + 1)]
        self._n += len(texts)
        message = texts[0] if len(texts) == 1 else f"[{','.join(texts)}]"
        async with self._dashboards.writing:
            sent = self._connection.write_message(message)
            await asyncio.sleep(0)
        # `wait` does not cancel Tornado's future, which cannot be cancelled; the callback collects its exception in
        # case this task is cancelled before the future fails.
        sent.add_done_callback(lambda sent: sent.cancelled() or sent.exception())
        await asyncio.wait([sent], timeout=STALLED_S)
        if not sent.done():
            log.info("dashboard closed, it takes nothing any more client=%s", self.actor.address)
            self.close(TOO_SLOW, "too slow")
            raise WebSocketClosedError
        sent.result()
        self._sent_at = asyncio.get_running_loop().time()


def due(sent_at: float, interval_s: float) -> float:
    """When the next frame is due: at a multiple of the interval, so that dashboards of one pace send in the same turn.

    Their revisions are the same then, and so are their frames, which are made once.
    """
    return math.floor(sent_at / interval_s + 0.01 + 1) * interval_s


def _number(value: object) -> float:
    """Raises TypeError or ValueError if it is none that JSON can say."""
    if type(value) not in (int, float) or not -1e300 < value < 1e300:  # type: ignore[operator]
        raise ValueError("no number")
    return float(value)  # type: ignore[arg-type]


def unbraced(message: dict[str, Any]) -> str:
    """A frame as JSON without its first brace: `numbered` puts the frame's number there."""
    return ujson.dumps(message, escape_forward_slashes=False)[1:]


def numbered(n: int, frame: str) -> str:
    return f'{{"n":{n},{frame}'
