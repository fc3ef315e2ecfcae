"""`/metrics`, which Prometheus polls."""

from __future__ import annotations

import logging

from handlers.base import AdminHandler, Admins
from handlers.gate import SCRAPERS
from proxy.dashboard.metrics import Metrics


class Scrape(AdminHandler):
    """`/metrics`: for admins, and for client keys of role `metrics`. It comes often: logged for debugging, if well."""

    roles = SCRAPERS

    def initialize(self, *, who: Admins, metrics: Metrics) -> None:
        self.only_for(who)
        self.metrics = metrics

    async def get(self) -> None:
        text, content_type = await self.metrics.text(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.finish(text)

    def log_level(self) -> int:
        return logging.DEBUG if self.get_status() == 200 else super().log_level()
