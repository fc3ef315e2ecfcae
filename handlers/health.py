"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

import logging
from typing import Any

from handlers.base import BaseHandler
from proxy import __version__
from proxy.dashboard.health import Health


class HealthHandler(BaseHandler):
    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.health: Health = parts["health"]

    def log_level(self) -> int:
        return logging.DEBUG


class Alive(HealthHandler):
    """`/health`: the process answers, whatever its accounts."""

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
    """`/health/ready`: 503 while it drains or has no usable account."""

    def get(self) -> None:
        reason = self.health.not_ready()
        if reason is None:
            self.answer({"status": "ready"})
        else:
            self.answer({"status": "not_ready", "reason": reason}, 503)

    head = get


class Hello(HealthHandler):
    """`/api/hello`: clients probe it with HEAD at their start, without a key."""

    def head(self) -> None:
        self.finish()
