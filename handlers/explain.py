"""Which account a request would get, and why."""

from __future__ import annotations

from typing import Any

import ujson
from pydantic import Field

from handlers.base import AdminHandler, Admins, RequestBody
from proxy.clients.keys import ClientKey, ClientKeys, Role
from proxy.errors import NotFound, Unprocessable
from proxy.http.body import Bodies, Body
from proxy.http.headers import ClientHeaders
from proxy.http.target import parse
from proxy.relay.explain import Explainer
from proxy.relay.inbound import Inbound


class Question(RequestBody):
    """A request as it would be sent; `body` is JSON, or text. `token_id` names the client key in place of a header."""

    path: str
    method: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None
    token_id: str | None = None


class Explain(AdminHandler):
    """`/api/admin/explain`"""

    def initialize(self, *, who: Admins, explainer: Explainer, keys: ClientKeys) -> None:
        self.only_for(who)
        self.explainer = explainer
        self.keys = keys

    async def post(self) -> None:
        asked = self.body(Question)
        headers = ClientHeaders(list(asked.headers.items()))
        key = self._key(asked, headers)
        body = None
        if asked.body is not None:
            text = (asked.body if isinstance(asked.body, str) else ujson.dumps(asked.body)).encode()
            body = Body(Bodies(None, memory_bytes=len(text)))
            body.write(text)
        method = asked.method or ("GET" if body is None else "POST")
        target = parse(asked.path, allow_admin_paths=False)
        try:
            self.answer(await self.explainer.explain(Inbound(method.upper(), target, headers, body, ""), key))
        finally:
            if body is not None:
                body.close()

    def _key(self, asked: Question, headers: ClientHeaders) -> ClientKey | None:
        """The client key; None if none is named. Raises Unprocessable if the one that is would be refused."""
        if asked.token_id is not None:
            return self._usable(asked.token_id)
        key = self.keys.accept(headers.keys)
        if key is None and headers.keys:
            raise Unprocessable("headers: the client key in them is unknown or not usable")
        return None if key is None else _of_api(key)

    def _usable(self, key_id: str) -> ClientKey:
        try:
            key = self.keys[key_id]
        except NotFound:
            raise Unprocessable("token_id: there is no such client key") from None
        if not self.keys.usable(key):
            raise Unprocessable(f"token_id: {key.name!r} is not usable: its requests get a 401")
        return _of_api(key)


def _of_api(key: ClientKey) -> ClientKey:
    """The key. Raises Unprocessable if it is for `/metrics` alone."""
    if key.role is Role.METRICS:
        raise Unprocessable(f"the client key {key.name!r} has the role `metrics`: its requests get a 403")
    return key
