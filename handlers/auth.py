"""Signing in to the dashboard: an admin's key is exchanged for a cookie that no script can read."""

from __future__ import annotations

from typing import Any

from handlers.base import AdminHandler, Admins, Anyone, BaseHandler, RequestBody, recorded
from proxy.clock import rfc3339


class GivenKey(RequestBody):
    api_key: str


class Login(BaseHandler):
    """`POST /api/auth/login`"""

    def initialize(self, *, who: Anyone, admins: Admins) -> None:
        self.open_to(who)
        self.gate = admins.gate
        self.archive = admins.archive

    async def post(self) -> None:
        self.gate.same_origin(self.request, by_cookie=False)
        cookie, sign_in = await self.gate.login(self.body(GivenKey).api_key.strip(), self.address())
        name = self.gate.cookie_name(self.request)
        self.set_cookie(name, cookie, **_attributes(name))
        expires_at = rfc3339(self.gate.signins.expires_at(sign_in))
        self.answer({"authenticated": True, "expires_at": expires_at} | await recorded(self.archive))


class AuthHandler(AdminHandler):
    """A route about the caller's own sign-in."""

    def initialize(self, *, who: Admins) -> None:
        self.only_for(who)


class Logout(AuthHandler):
    """`POST /api/auth/logout`"""

    async def post(self) -> None:
        name = self.gate.cookie_name(self.request)
        self.clear_cookie(name, **_attributes(name))
        if self.actor.sign_in is not None:
            for sign_in in tuple(self.gate.sign_ins(self.request)):
                await self.gate.signins.end(sign_in)
        await self.answer_changed({"authenticated": False})


class Me(AuthHandler):
    """`GET /api/auth/me`; `expires_at` is null if a key is sent instead of a cookie."""

    def get(self) -> None:
        sign_in = self.actor.sign_in
        end = None if sign_in is None else rfc3339(self.gate.signins.expires_at(sign_in))
        self.answer({"authenticated": True, "expires_at": end})


def _attributes(name: str) -> dict[str, Any]:
    # The path cannot be narrower: a proxy in front may have taken a prefix off. There is no Max-Age: the cookie goes
    # when the browser is closed, and until then `Signins` decides how long it is valid.
    return {"path": "/", "httponly": True, "samesite": "Strict", "secure": name.startswith("__Host-")}
