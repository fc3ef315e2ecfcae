"""The admin's view of client keys; a key is shown in full once, when it is made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from handlers.base import AdminHandler, Admins, RequestBody
from proxy.clients.budgets import Budgets, KeyLimits
from proxy.clients.keys import ClientKey, ClientKeys, KeyStatus, Role
from proxy.clients.models import MAX_PATTERN, MEANING, is_pattern
from proxy.clients.rotation import Rotation
from proxy.clients.sessions import Sessions
from proxy.errors import Conflict, NotFound, Unprocessable

MAX_LIMIT = 1000

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
"""What can be stored as a time."""

_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)  # §5.6

MOST_MODELS = 100
"""Each request of the key is compared with each."""

NULLABLE = frozenset({"expires_at", "group"})
"""What null takes away."""

MOST_TOKENS = 10**15
MOST_USD = 10.0**12
"""Far beyond any use, and numbers that every reader of JSON takes as they are."""


DEFAULT_OVERLAP_S = 86_400
MOST_OVERLAP_S = 90 * 86_400
"""A key that works for longer is none that was replaced."""


def _written(at: object) -> object:
    # Read as it is, a number or a text of digits would be seconds since 1970: "2030" is a time in that year's January.
    if not isinstance(at, str) or not _RFC_3339.fullmatch(at):
        raise PydanticCustomError("rfc_3339", "a time such as 2030-01-01T00:00:00Z is needed")
    return at


Expiry = Annotated[AwareDatetime, Field(strict=False, ge=FIRST, le=LAST), BeforeValidator(_written)]


def _pattern(model: str) -> str:
    if not is_pattern(model):
        raise PydanticCustomError("model", f"a name or a pattern such as claude-haiku-* is needed: {MEANING}")
    return model


Model = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN), AfterValidator(_pattern)]


class Limits(RequestBody):
    """What a key may use at most; null is no limit."""

    requests_per_minute: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    concurrent_requests: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    tokens_per_day: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    tokens_per_month: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    cost_usd_per_day: float | None = Field(default=None, gt=0, le=MOST_USD)
    cost_usd_per_month: float | None = Field(default=None, gt=0, le=MOST_USD)


class TokenFields(RequestBody):
    """What may be set when a key is made and changed later."""

    role: Literal["user", "admin", "metrics"] | None = None
    expires_at: Expiry | None = None
    limits: Limits | None = None
    models: list[Model] | None = Field(default=None, max_length=MOST_MODELS)
    group: str | None = None
    tags: list[str] | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that were given, as `ClientKeys` takes them. A field that is null counts as not given, except
        `expires_at`, where null removes the date, and `group`, where it makes the key its own group.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set - {"key"}}
        given = {name: value for name, value in given.items() if value is not None or name in NULLABLE}
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


class Overlap(RequestBody):
    """For how many seconds the key that is replaced still works."""

    overlap: int = Field(default=DEFAULT_OVERLAP_S, ge=0, le=MOST_OVERLAP_S)


@dataclass(frozen=True, slots=True)
class KeyParts:
    """What the routes of client keys need."""

    keys: ClientKeys
    rotation: Rotation
    sessions: Sessions
    budgets: Budgets


class TokenHandler(AdminHandler):
    """A route of client keys."""

    def initialize(self, *, who: Admins, parts: KeyParts) -> None:
        self.only_for(who)
        self.keys = parts.keys
        self.rotation = parts.rotation
        self.sessions = parts.sessions
        self.budgets = parts.budgets

    def view(self, client_key: ClientKey) -> dict[str, Any]:
        """The key as an admin sees it, with what was used of its limits."""
        used = {"used": self.budgets.view(client_key.id)}
        return (
            self.keys.view(client_key)
            | used
            | {"meters": self.budgets.meters(client_key.id, client_key.limits)}
        )

    def end_signins(self, key_id: str) -> None:
        """End the sign-ins with a key whose former secrets have ended; not that of the admin who asks for it."""
        self.gate.signins.end_of(key_id, but=self.actor.sign_in)


class TokenList(TokenHandler):
    """`/api/tokens`"""

    def get(self) -> None:
        found = self.keys.find(
            role=self.query.one_of("role", Role),
            status=self.query.one_of("status", KeyStatus),
            search=self.query.text("search"),
        )
        page, limit = self.query.number("page", 1, 10**6), self.query.number("limit", 50, MAX_LIMIT)
        shown = found[(page - 1) * limit : page * limit]
        self.answer(
            {
                "tokens": [self.view(client_key) for client_key in shown],
                "paging": {"page": page, "limit": limit, "total": len(found)},
            }
        )

    async def post(self) -> None:
        new = self.body(NewToken)
        if new.key is not None and self.gate.is_admin_key(new.key):
            raise Conflict("this is the admin key: choose another, or leave it out to have one made")
        if new.expires_at is not None and new.expires_at.timestamp() <= self.clock.now():
            raise Unprocessable("expires_at: it has passed, so the key would never work")
        client_key, key = await self.keys.add(key=new.key, **new.changes())
        await self.answer_changed({"token": self.view(client_key) | {"key": key}}, 201)


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
        await self.answer_changed(
            {"token": self.view(self.keys[key_id])}
        )  # NotFound if it was deleted meanwhile

    async def delete(self, key_id: str) -> None:
        view = self.view(self.keys[key_id])
        try:
            await self.keys.remove(key_id)
        finally:
            self._end_unless_active(key_id)
        await self.answer_changed({"token": view})

    def _end_unless_active(self, key_id: str) -> None:
        # A key stops working at once, even if that cannot be stored yet; so do the requests that run with it.
        try:
            key = self.keys[key_id]
            active = key.status is KeyStatus.ACTIVE and key.role is not Role.METRICS
        except NotFound:
            active = False
            self.budgets.forget(key_id)
        if not active:
            self.sessions.end_of(key_id)


class Rotate(TokenHandler):
    """`/api/tokens/{id}/rotate`"""

    async def post(self, key_id: str) -> None:
        asked = self.body(Overlap) if self.has_body else Overlap()
        self.check_unedited(self.keys[key_id].etag, self.view(self.keys[key_id]))
        key = await self.rotation.rotate(key_id, asked.overlap)
        if not asked.overlap:
            # Those that run began with a key that has ended.
            self.sessions.end_of(key_id)
            self.end_signins(key_id)
        await self.answer_changed({"token": self.view(self.keys[key_id]) | {"key": key}})


class FormerKeys(TokenHandler):
    """`/api/tokens/{id}/former_keys`"""

    async def delete(self, key_id: str) -> None:
        try:
            await self.rotation.end_former(key_id)
        finally:
            self.end_signins(key_id)
        await self.answer_changed({"token": self.view(self.keys[key_id])})
