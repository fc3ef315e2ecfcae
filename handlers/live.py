"""The dashboard's feed over a WebSocket, and the same frames by polling if a WebSocket does not get through.

What crosses it, as JSON text:

    → {"t": "hello", "epoch": "k3f", "topics": {"accounts": 8812}, "hz": 20}   the revision that it has, 0 for none
                        with "lists": true, frames that are due at once come as one message: a list of them
    → {"t": "sub", "topic": "sessions", "rev": 0}   {"t": "unsub", "topic": …}   {"t": "rate", "hz": 0.2}
    → {"t": "ping", "c": …}
    ← {"t": "hello", "n": 1, "v": 1, "epoch": …, "now": …, "started_at": …, "server_version": …, "assets": …}
    ← {"t": "snap", "n": 2, "topic": …, "rev": …, "items": {id: fields}, "more": true}
    ← {"t": "delta", "n": 3, "topic": …, "rev": …, "set": {id: changed fields}, "del": [id]}
    ← {"t": "ev", "n": 4, "topic": "events" | "requests", "rev": …, "items": […], "dropped": …}
    ← {"t": "hb", "n": 5, "now": …}   {"t": "pong", "n": 6, "c": …, "now": …}

Each topic is answered at once, so that the page knows that it is up to date. Commands are not taken here: they are
requests to the admin API.
"""

from __future__ import annotations

import itertools
from typing import Any

from tornado.websocket import WebSocketHandler

from handlers.base import AdminHandler, Admins
from handlers.dashboards import SIGNED_OUT, Dashboards, Socket, numbered
from proxy.errors import InvalidRequest
from proxy.slices import in_slices

SUBPROTOCOL = "cproxy.admin.v1"
MOST_MESSAGE_BYTES = 64 * 1024

TOO_MANY, WRONG_VERSION = 4408, 4409


class Feed(AdminHandler, WebSocketHandler):
    """`/api/live`"""

    def initialize(self, *, who: Admins, dashboards: Dashboards) -> None:
        self.only_for(who)
        self.dashboards = dashboards
        self.socket: Socket | None = None

    async def get(self, *args: Any, **kwargs: Any) -> None:
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            await WebSocketHandler.get(self, *args, **kwargs)
        else:
            await self._poll()

    async def _poll(self) -> None:
        """`?epoch=k3f&topics=accounts:8812,stats:0`"""
        live = self.dashboards.live
        self.dashboards.look()
        live.sum_up()
        known = self.query.text("epoch") == live.epoch
        frames, topics = [self.dashboards.hello()], set[str]()
        for each in filter(None, self.query.text("topics").split(",")):
            topic, _, rev = each.rpartition(":")
            if topic not in live or not rev.isascii() or not rev.isdigit() or len(rev) > 15:
                raise InvalidRequest(f"topics: no such topic and revision: {each[:64]!r}")
            if topic in topics:  # each is answered whole
                raise InvalidRequest(f"topics: {topic} stands twice")
            topics.add(topic)
            await in_slices(live.reading([topic]))
            await in_slices(live.making(topic, since := int(rev) if known else 0))
            frames += live.frames(topic, since)[1]
        self.set_header("Content-Type", "application/json")
        self.finish(f'{{"frames":[{",".join(map(numbered, itertools.count(1), frames))}]}}')

    # called by Tornado

    def check_origin(self, origin: str) -> bool:
        return True  # the gate has checked it, and requests without one too

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return SUBPROTOCOL if SUBPROTOCOL in subprotocols else None

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        if self.selected_subprotocol != SUBPROTOCOL:
            self.close(WRONG_VERSION, f"subprotocol {SUBPROTOCOL} is needed")
            return
        socket = Socket(self, self.dashboards, self.actor, self.gate)
        if not self.dashboards.admit(socket):
            self.close(TOO_MANY, "too many dashboards")
            return
        self.socket = socket

    def on_message(self, message: str | bytes) -> None:
        sign_in = self.actor.sign_in
        if sign_in is not None and not self.gate.signins.seen(sign_in.id):
            self.close(SIGNED_OUT, "signed out")
        elif self.socket is not None:
            self.socket.receive(message)

    def on_close(self) -> None:
        if self.socket is not None:
            self.socket.gone()
