"""The simulator's routes, and who may call them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from proxy.clock import Clock

from .auth import Keyring, Kind
from .grants import Grants
from .oauth import MANUAL_PATH, OAuthServer
from .replies import Answer, ApiError, Reply
from .requests import Request
from .routes import Handler, Route

TOKEN_PATH = "/v1/oauth/token"  # noqa: S105 - a path
PROFILE_PATH = "/api/oauth/profile"


class Api:
    """The table of routes: the OAuth server's, and those of `routes`. An open one's handler gets the request only."""

    def __init__(
        self, keyring: Keyring, grants: Grants, *, clock: Clock, oauth: OAuthServer, routes: Iterable[Route]
    ) -> None:
        self._keyring = keyring
        self._grants = grants
        self._clock = clock
        self._open: dict[tuple[str, str], Handler] = {
            ("GET", "/"): _hello,
            ("GET", "/api/hello"): _hello,
            ("GET", "/oauth/authorize"): oauth.page,
            ("GET", MANUAL_PATH): oauth.manual_page,
            ("POST", TOKEN_PATH): oauth.token,
        }
        table = [*routes, ("GET", PROFILE_PATH, oauth.profile)]
        self._routes = [
            (method, re.compile(path.replace("{}", "([^/]+)")), handler) for method, path, handler in table
        ]

    @property
    def routes(self) -> list[tuple[str, re.Pattern[str]]]:
        """Method and path of each route that takes a credential."""
        return [(method, path) for method, path, _ in self._routes]

    async def answer(self, request: Request) -> Reply:
        """The true answer; ApiError where it is a refusal."""
        method = "GET" if request.method == "HEAD" else request.method
        if handler := self._open.get((method, request.path)):
            return await handler(request)
        profile = request.path == PROFILE_PATH
        caller = self._keyring.authenticate(request.headers, self._clock.now(), need_beta=not profile)
        self._grants.used(caller)
        if caller.kind is Kind.ACCESS_TOKEN and not profile and "user:inference" not in caller.scopes:
            raise ApiError(403, "OAuth token does not meet scope requirement user:inference")
        matched = False
        for wanted, path, handler in self._routes:
            if match := path.fullmatch(request.path):
                matched = True
                if wanted == method:
                    return await handler(caller, request, *match.groups())
        raise ApiError(405) if matched else ApiError(404, f"Not found: {request.method} {request.path}")


async def _hello(request: Request) -> Answer:
    return Answer()
