"""The simulator's routes, and who may call them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from proxy.clock import Clock

from . import models
from .auth import Keyring, Kind
from .batches import Batches
from .files import Files
from .grants import Grants
from .messages import Messages
from .oauth import MANUAL_PATH, OAuthServer
from .replies import Answer, ApiError, Reply
from .requests import Request

Handler = Callable[..., Awaitable[Reply]]
_ID = "([^/]+)"
TOKEN_PATH = "/v1/oauth/token"  # noqa: S105 - a path
PROFILE_PATH = "/api/oauth/profile"


class Api:
    """The table of routes.

    A handler gets the caller's credential, the request, and the ids in the path; an open one the request.
    """

    def __init__(
        self,
        keyring: Keyring,
        grants: Grants,
        *,
        clock: Clock,
        oauth: OAuthServer,
        messages: Messages,
        files: Files,
        batches: Batches,
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
        batch = f"/v1/messages/batches/{_ID}"
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/v1/messages", messages.create),
            ("POST", "/v1/messages/count_tokens", messages.count_tokens),
            ("POST", "/v1/messages/batches", batches.create),
            ("GET", "/v1/messages/batches", batches.index),
            ("GET", batch, batches.retrieve),
            ("DELETE", batch, batches.delete),
            ("POST", f"{batch}/cancel", batches.cancel),
            ("GET", f"{batch}/results", batches.results),
            ("GET", "/v1/models", models.list_models),
            ("GET", f"/v1/models/{_ID}", models.get_model),
            ("POST", "/v1/files", files.upload),
            ("GET", "/v1/files", files.index),
            ("GET", f"/v1/files/{_ID}", files.retrieve),
            ("DELETE", f"/v1/files/{_ID}", files.delete),
            ("GET", f"/v1/files/{_ID}/content", files.content),
            ("GET", PROFILE_PATH, oauth.profile),
        ]
        self._routes = [(method, re.compile(path), handler) for method, path, handler in table]

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
