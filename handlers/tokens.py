"""The admin's view of client keys; a key is shown in full once, when it is made."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, TypeVar

from handlers.base import AdminHandler, RequestBody
from proxy.errors import Unprocessable
from proxy.tokens import Role, Tokens, TokenStatus

MAX_LIMIT = 1000

E = TypeVar("E", bound=StrEnum)


class NewToken(RequestBody):
    name: str
    key: str | None = None
    status: Literal["active", "inactive"] = "active"
    role: Literal["user", "admin"] = "user"


class TokenChange(RequestBody):
    name: str | None = None
    status: Literal["active", "inactive", "revoked"] | None = None
    role: Literal["user", "admin"] | None = None


class TokenList(AdminHandler):
    """`/api/tokens`"""

    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.tokens: Tokens = parts["tokens"]

    def get(self) -> None:
        found = self.tokens.find(
            role=self._one_of("role", Role),
            status=self._one_of("status", TokenStatus),
            search=self._query("search"),
        )
        page, limit = self._number("page", 1, 10**6), self._number("limit", 50, MAX_LIMIT)
        shown = found[(page - 1) * limit : page * limit]
        self.answer(
            {
                "tokens": [self.tokens.view(token) for token in shown],
                "paging": {"page": page, "limit": limit, "total": len(found)},
            }
        )

    async def post(self) -> None:
        new = self.body(NewToken)
        token, key = await self.tokens.add(
            new.name, new.key, role=Role(new.role), status=TokenStatus(new.status)
        )
        self.answer({"token": self.tokens.view(token) | {"key": key}}, 201)

    def _query(self, name: str) -> str:
        return self.get_query_argument(name, "")

    def _one_of(self, name: str, kind: type[E]) -> E | None:
        text = self._query(name)
        if not text:
            return None
        try:
            return kind(text)
        except ValueError:
            raise Unprocessable(f"{name}: one of {', '.join(kind)} is needed") from None

    def _number(self, name: str, default: int, most: int) -> int:
        text = self._query(name) or str(default)
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= most:
            raise Unprocessable(f"{name}: a whole number from 1 to {most} is needed")
        return int(text)


class OneToken(AdminHandler):
    """`/api/tokens/{id}`"""

    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.tokens: Tokens = parts["tokens"]

    def get(self, token_id: str) -> None:
        self.answer({"token": self.tokens.view(self.tokens[token_id])})

    async def put(self, token_id: str) -> None:
        change = self.body(TokenChange)
        token = await self.tokens.update(
            token_id,
            name=change.name,
            status=TokenStatus(change.status) if change.status else None,
            role=Role(change.role) if change.role else None,
        )
        self.answer({"token": self.tokens.view(token)})

    async def delete(self, token_id: str) -> None:
        view = self.tokens.view(self.tokens[token_id])
        await self.tokens.remove(token_id)
        self.answer({"token": view})
