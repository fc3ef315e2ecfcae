"""The description of the admin API, for programs and for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from tornado.web import Application

from handlers.api_page import page
from handlers.base import AdminHandler, Admins
from handlers.pages import Assets

Describe = Callable[[Application], dict[str, Any]]


class Description(AdminHandler):
    """`GET /api/openapi.json`"""

    def initialize(self, *, who: Admins, describe: Describe) -> None:
        self.only_for(who)
        self.describe = describe

    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(msgspec.json.encode(self.describe(self.application)))


class Docs(AdminHandler):
    """`GET /api/docs`: plain HTML, without a script."""

    def initialize(self, *, who: Admins, describe: Describe, assets: Assets) -> None:
        self.only_for(who)
        self.describe = describe
        self.assets = assets

    def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(page(self.describe(self.application), f"../static/{self.assets.version}/api.css"))
