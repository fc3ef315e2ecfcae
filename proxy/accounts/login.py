"""One OAuth login in progress, and its record: instances share it, so that any of them can finish it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Final, Literal

from proxy.accounts.account import OAuthTokens
from proxy.accounts.oauth import Grant, Pkce
from proxy.clock import Clock
from proxy.errors import RequestError
from proxy.feed import Who
from proxy.storage.fields import Fields
from proxy.storage.protocols import Record

LIFE_S: Final = 600.0
KINDS: Final[Mapping[str, Literal["admin", "key", "system"]]] = {
    "admin": "admin",
    "key": "key",
    "system": "system",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What a login came to the last time, as its admin is told; `account_id` is that of an account in its way."""

    type: str
    message: str
    account_id: str | None = None

    @classmethod
    def of(cls, error: RequestError) -> Failure:
        return cls(error.type, error.message, error.details.get("account_id"))


@dataclass(frozen=True, slots=True)
class Login:
    """One state, one PKCE verifier, a lifetime of ten minutes and one outcome.

    A `grant` that could not be used yet is kept, since a code works only once. Of the code there is only the hash.
    """

    id: str
    state: str = field(repr=False)
    pkce: Pkce = field(repr=False)
    redirect_uri: str
    ends: float  # on the monotonic clock
    expires_at: float  # the same time, in seconds since the epoch
    org_id: str | None
    account_id: str | None
    begun_by: Who
    name: str | None = None
    code: str | None = None
    grant: Grant | None = field(default=None, repr=False)
    done: str | None = None  # the id of its account
    error: Failure | None = None
    over: bool = False  # refused by the provider: no code will come

    @property
    def key(self) -> str:
        """What it is found by."""
        return hashed(self.state)

    def record(self) -> Record:
        """What is stored in a store that instances share; `read_login` reads it."""
        return {
            "id": self.id,
            "state": self.state,
            "verifier": self.pkce.verifier,
            "redirect_uri": self.redirect_uri,
            "expires_at": self.expires_at,
            "org_id": self.org_id,
            "account_id": self.account_id,
            "begun_by": self.begun_by.view(),
            "name": self.name,
            "code": self.code,
            "grant": self.grant and asdict(self.grant),
            "done": self.done,
            "error": self.error and asdict(self.error),
            "over": self.over,
        }


def hashed(secret: str) -> str:
    """The SHA-256 of a state or a code: looking it up takes the same time, whatever is alike in them."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read_login(id: str, record: Record, *, clock: Clock) -> Login:
    """The login in a stored record. Raises ValueError, which names the field, if it is malformed."""
    fields = Fields(record)
    begun_by = fields.inside("begun_by")
    kind = KINDS.get(begun_by.text("kind"))
    if kind is None:
        raise ValueError("begun_by.kind is none")
    expires_at = fields.time("expires_at")
    login = Login(
        id=fields.text("id"),
        state=fields.text("state"),
        pkce=Pkce(fields.text("verifier")),
        redirect_uri=fields.text("redirect_uri"),
        ends=clock.monotonic() + min(expires_at - clock.now(), LIFE_S),
        expires_at=expires_at,
        org_id=fields.text_or_none("org_id"),
        account_id=fields.text_or_none("account_id"),
        begun_by=Who(kind, *(begun_by.text_or_none(name) for name in ("id", "name", "address"))),
        name=fields.text_or_none("name"),
        code=fields.text_or_none("code"),
        grant=None if record.get("grant") is None else _grant(fields.inside("grant")),
        done=fields.text_or_none("done"),
        error=None if record.get("error") is None else _failure(fields.inside("error")),
        over=fields.flag("over"),
    )
    if login.key != id:
        raise ValueError("state is another login's")
    return login


def load_logins(records: Mapping[str, Record], *, clock: Clock) -> Iterator[tuple[str, Login]]:
    """The stored logins. Malformed records are skipped: a lost login costs one more link."""
    for id, record in records.items():
        with contextlib.suppress(ValueError):
            yield id, read_login(id, record, clock=clock)


def adopt_login(old: Login, new: Login) -> Login:
    """The login as another instance has made it: it ends when it did, though the wall clock has jumped."""
    return replace(new, ends=old.ends)


def _grant(stored: Fields) -> Grant:
    tokens = stored.inside("tokens")
    return Grant(
        OAuthTokens(
            tokens.text("access_token"),
            tokens.text_or_none("refresh_token"),
            tokens.time_or_none("expires_at"),
            tokens.text_or_none("scope"),
        ),
        *(stored.text_or_none(name) for name in ("organization_uuid", "organization_name", "email")),
    )


def _failure(stored: Fields) -> Failure:
    return Failure(stored.text("type"), stored.text("message"), stored.text_or_none("account_id"))
