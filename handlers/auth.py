"""Signing in to the dashboard: the admin's key is shown once, for a cookie that no script can read."""

from __future__ import annotations

from typing import Any

from handlers.base import AdminHandler, BaseHandler, RequestBody
from handlers.gate import AdminGate
from proxy.clock import rfc3339


class GivenKey(RequestBody):
    api_key: str


class Login(BaseHandler):
    """`POST /api/auth/login`"""

    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.gate: AdminGate = parts["gate"]

    async def post(self) -> None:
        self.gate.same_origin(self.request)
        cookie, sign_in = await self.gate.login(self.body(GivenKey).api_key.strip(), self.address())
        name = self.gate.cookie_name(self.request)
        self.set_cookie(name, cookie, **_attributes(name))
        expires_at = rfc3339(self.gate.signins.expires_at(sign_in))
        self.answer({"authenticated": True, "expires_at": expires_at})


class Logout(AdminHandler):
    """`POST /api/auth/logout`"""

    async def post(self) -> None:
        name = self.gate.cookie_name(self.request)
        self.clear_cookie(name, **_attributes(name))
        if self.sign_in is not None:
            await self.gate.signins.end(self.sign_in)
        self.answer({"authenticated": False})


class Me(AdminHandler):
    """`GET /api/auth/me`; a key has no end of its own here."""

    def get(self) -> None:
        end = None if self.sign_in is None else rfc3339(self.gate.signins.expires_at(self.sign_in))
        self.answer({"authenticated": True, "expires_at": end})


def _attributes(name: str) -> dict[str, Any]:
    # The path cannot be narrower: a proxy in front may have taken a prefix off. Without an age the cookie goes with
    # the browser's session; how long it is good is decided here.
    return {"path": "/", "httponly": True, "samesite": "Strict", "secure": name.startswith("__Host-")}
