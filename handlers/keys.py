"""The admin's view of client keys; a key is shown in full once, when it is made."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, Field

from handlers.base import AdminHandler, RequestBody
from proxy.clients.budgets import Budgets, KeyLimits
from proxy.clients.keys import ClientKey, ClientKeys, KeyStatus, Role
from proxy.clients.sessions import Sessions
from proxy.errors import NotFound, Unprocessable

MAX_LIMIT = 1000

E = TypeVar("E", bound=StrEnum)


class Limits(RequestBody):
    """What a key may use; null for no limit."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    concurrent_requests: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1)
    tokens_per_month: int | None = Field(default=None, ge=1)
    cost_usd_per_day: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    cost_usd_per_month: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class TokenFields(RequestBody):
    """What may be set with a new key and changed later."""

    role: Literal["user", "admin"] | None = None
    expires_at: AwareDatetime | None = Field(default=None, strict=False)
    limits: Limits | None = None
    models: list[str] | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that were given, as the engine takes them; null changes nothing but an expiry date."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"key"}}
        given = {name: value for name, value in given.items() if value is not None or name == "expires_at"}
        readers: dict[str, Callable[[Any], Any]] = {
            "role": Role,
            "status": KeyStatus,
            "expires_at": lambda at: None if at is None else at.timestamp(),
            "limits": lambda limits: KeyLimits(**limits.model_dump()),
            "models": tuple,
        }
        return {name: readers[name](value) if name in readers else value for name, value in given.items()}


class NewToken(TokenFields):
    name: str
    key: str | None = None
    status: Literal["active", "inactive"] = "active"


class TokenChange(TokenFields):
    name: str | None = None
    status: Literal["active", "inactive", "revoked"] | None = None


class TokenHandler(AdminHandler):
    """What both routes of client keys need."""

    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.keys: ClientKeys = parts["tokens"]
        self.sessions: Sessions = parts["sessions"]
        self.budgets: Budgets = parts["budgets"]

    def view(self, client_key: ClientKey) -> dict[str, Any]:
        """A key as an admin sees it, with what it has used of its budgets."""
        return self.keys.view(client_key) | {"used": self.budgets.view(client_key.id)}


class TokenList(TokenHandler):
    """`/api/tokens`"""

    def get(self) -> None:
        found = self.keys.find(
            role=self._one_of("role", Role),
            status=self._one_of("status", KeyStatus),
            search=self._query("search"),
        )
        page, limit = self._number("page", 1, 10**6), self._number("limit", 50, MAX_LIMIT)
        shown = found[(page - 1) * limit : page * limit]
        self.answer(
            {
                "tokens": [self.view(client_key) for client_key in shown],
                "paging": {"page": page, "limit": limit, "total": len(found)},
            }
        )

    async def post(self) -> None:
        new = self.body(NewToken)
        client_key, key = await self.keys.add(key=new.key, **new.changes())
        self.answer({"token": self.view(client_key) | {"key": key}}, 201)

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
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= most:
            raise Unprocessable(f"{name}: a whole number from 1 to {most} is needed")
        return int(text)


class OneToken(TokenHandler):
    """`/api/tokens/{id}`"""

    def get(self, key_id: str) -> None:
        self.answer({"token": self.view(self.keys[key_id])})

    async def put(self, key_id: str) -> None:
        change = self.body(TokenChange)
        self.check_unedited(self.keys[key_id].etag, self.view(self.keys[key_id]))
        try:
            await self.keys.update(key_id, **change.changes())
        finally:
            self._end_unless_active(key_id)
        self.answer({"token": self.view(self.keys[key_id])})  # or NotFound: deleted meanwhile

    async def delete(self, key_id: str) -> None:
        view = self.view(self.keys[key_id])
        try:
            await self.keys.remove(key_id)
        finally:
            self._end_unless_active(key_id)
        self.answer({"token": view})

    def _end_unless_active(self, key_id: str) -> None:
        # A key stops working at once, also where that cannot be stored yet, and so does what runs with it.
        try:
            active = self.keys[key_id].status is KeyStatus.ACTIVE
        except NotFound:
            active = False
            self.budgets.forget(key_id)
        if not active:
            self.sessions.end_of(key_id)
