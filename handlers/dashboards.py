"""The open dashboards: what each has of the feed, and what is sent to it. `live` says what crosses their sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import ujson
from pydantic_core import from_json
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from handlers.feeder import Feeder, News
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
"""Of frames in one message, each of which costs 40 µs of the loop's time."""
TICK_S = 1.0
SUMS_S = 0.25
"""How often sums over many entities are read again. A state that changes is on its way at once."""
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
        self._topics = topics
        self._summary = summary
        self._assets = assets
        self._clock = clock
        self._open: set[Socket] = set()
        self.feeder = Feeder(live, self._open, jobs)
        jobs.every("look", TICK_S, self.look)
        jobs.every("sum up", SUMS_S, live.sum_up)

    def admit(self, socket: Socket) -> bool:
        """Add a dashboard. False if MOST_DASHBOARDS are open already."""
        if len(self._open) >= MOST_DASHBOARDS:
            return False
        self._open.add(socket)
        return True

    def forget(self, socket: Socket) -> None:
        self._open.discard(socket)
        self.feeder.forget(socket)

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
            elif socket.is_stalled:
                log.info("dashboard closed, it takes nothing any more client=%s", socket.actor.address)
                socket.close(TOO_SLOW, "too slow")
        if self._topics.tick():
            self.live.sweep()


class Socket:
    """One dashboard: the revision that it has of each topic, and the messages that it gets next."""

    def __init__(
        self, connection: WebSocketHandler, dashboards: Dashboards, actor: Actor, gate: AdminGate
    ) -> None:
        self.actor = actor
        self._connection = connection
        self._gate = gate
        self._dashboards = dashboards
        self._live = dashboards.live
        self._now = asyncio.get_running_loop().time
        self._seen: dict[str, int] = {}
        self._asked: set[str] = set()  # topics to answer even if nothing is new
        self._pongs: deque[str] = deque(maxlen=MOST_MESSAGES_S)
        self._received: deque[float] = deque(maxlen=MOST_MESSAGES_S)
        self._interval_s = 1 / FASTEST_HZ
        self._n = 0
        self._is_greeted = False
        self._takes_lists = False
        self._messages: deque[list[str]] = deque()  # the frames of each
        self._sent: asyncio.Future[None] | None = None  # done once the connection has taken the last message
        self._sent_at = 0.0
        self._is_urgent = False
        self._looks_again = False  # for news, once the connection has taken the last message

    @property
    def is_admitted(self) -> bool:
        """Whether the key that it came with is an admin's still; a sign-in tells by itself when it ends."""
        return self._gate.admits(self.actor)

    @property
    def is_stalled(self) -> bool:
        """Whether it has taken nothing for STALLED_S."""
        return self._is_full and self._now() - self._sent_at > STALLED_S

    @property
    def _is_full(self) -> bool:
        return self._sent is not None and not self._sent.done()

    @property
    def due_at(self) -> float:
        """When it is to be sent something, by the loop's clock; not before its hello, nor if `_taken` will tell."""
        if not self._is_greeted or (self._is_full and self._looks_again):
            return math.inf
        return 0.0 if self._is_urgent else due(self._sent_at, self._interval_s)

    @property
    def topics(self) -> Iterable[str]:
        """Those that it wants and can take news of now."""
        return () if self._is_full else self._seen.keys()

    def receive(self, text: str | bytes) -> None:
        """Do what a message of the page asks for; close the connection if it is malformed or one too many."""
        now = self._now()
        if len(self._received) == MOST_MESSAGES_S and now - self._received[0] < 1:
            self.close(REFUSED, "too many messages")
            return
        self._received.append(now)
        try:
            self._obey(from_json(text, allow_inf_nan=False))
        except (OverflowError, ValueError, TypeError, KeyError, AttributeError):
            self.close(REFUSED, "not understood")
            return
        self._hurry()

    def _obey(self, message: Any) -> None:
        match message["t"]:
            case "hello":
                self._pace(message.get("hz", FASTEST_HZ))
                self._takes_lists = message.get("lists") is True
                known = message.get("epoch") == self._live.epoch
                for topic, rev in message["topics"].items():
                    self._subscribe(topic, rev if known else 0)
                if not self._is_greeted:
                    self._is_greeted = True
                    self._messages.append([self._dashboards.hello()])
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

    def _hurry(self) -> None:
        self._is_urgent = True
        self._dashboards.feeder.hurry(self)

    def bring_up_to_date(self, news: News) -> Iterator[None]:
        """Send one message of what is new; the next one follows once the connection has taken this one."""
        self._is_urgent = False
        self._looks_again = self._is_full or bool(self._pongs or self._messages)
        if self._is_full:
            return
        if self._pongs and self._n:  # the hello goes first
            # The page sets its clock by `now`, so this is read when the pong is sent.
            self._write([f'"now":{self._dashboards.now()},{self._pongs.popleft()}'])
            return
        if not self._messages:
            yield from self._make_messages(news)
        if self._messages:
            self._write(self._messages.popleft())
        elif self._now() - self._sent_at >= HEARTBEAT_S:
            # `Dashboards.look` causes news at least once a second, so that the heartbeat needs no timer.
            self._write([unbraced({"t": "hb", "now": self._dashboards.now()})])
        yield

    def _make_messages(self, news: News) -> Iterator[None]:
        """Make the messages that bring the dashboard up to date."""
        live, asked = self._live, self._asked
        seen = tuple(
            (topic, since)
            for topic, since in self._seen.items()
            if topic in news.topics and (topic in asked or live.rev(topic) != since)
        )
        revs, frames = yield from news.making(seen)
        for (topic, since), rev in zip(seen, revs, strict=True):
            if self._seen.get(topic) == since:  # else the page has asked for something else meanwhile
                self._seen[topic] = rev
                asked.discard(topic)
        size = LIST_CHARACTERS
        for frame in frames:
            size += len(frame)
            if size > LIST_CHARACTERS or not self._takes_lists:
                self._messages.append([])
                size = len(frame)
            self._messages[-1].append(frame)

    def _write(self, frames: list[str]) -> None:
        """Send frames in one message."""
        texts = [numbered(n, frame) for n, frame in enumerate(frames, self._n + 1)]
        self._n += len(texts)
        message = texts[0] if len(texts) == 1 else f"[{','.join(texts)}]"
        with contextlib.suppress(WebSocketClosedError):  # Tornado tells of its end by `on_close`
            self._sent = self._connection.write_message(message)
            self._sent.add_done_callback(self._taken)
            self._sent_at = self._now()

    def _taken(self, sent: asyncio.Future[None]) -> None:
        is_open = not sent.cancelled() and sent.exception() is None
        if is_open and (self._looks_again or self._messages):
            self._hurry()


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
