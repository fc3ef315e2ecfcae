"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

import logging

from handlers.base import Anyone, BaseHandler
from proxy import __version__
from proxy.dashboard.health import Health


class HealthHandler(BaseHandler):
    """A route that monitors poll, so that its requests are in the access log for debugging only."""

    def initialize(self, *, who: Anyone, health: Health) -> None:
        self.open_to(who)
        self.health = health

    def log_level(self) -> int:
        return logging.DEBUG


class Alive(HealthHandler):
    """`/health`: 200 as long as the process answers, whatever the state of its accounts."""

    def get(self) -> None:
        self.answer(
            {
                "status": self.health.status(),
                "version": __version__,
                "uptime_seconds": round(self.health.uptime_s(), 3),
            }
        )

    head = get


class Ready(HealthHandler):
    """`/health/ready`: 503 while it drains."""

    def get(self) -> None:
        reason = self.health.not_ready()
        if reason is None:
            self.answer({"status": "ready"})
        else:
            self.answer({"status": "not_ready", "reason": reason}, 503)

    head = get


class Usable(HealthHandler):
    """`/health/pool`: 503 if no account is usable."""

    def get(self) -> None:
        reason = self.health.pool_exhausted()
        if reason is None:
            self.answer({"status": "usable"})
        else:
            self.answer({"status": "exhausted", "reason": reason}, 503)

    head = get


class Hello(HealthHandler):
    """`/api/hello`: clients probe it when they start, with HEAD and without a key."""

    def head(self) -> None:
        self.finish()
