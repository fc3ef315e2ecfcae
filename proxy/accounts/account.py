"""One account and its four states. A transition returns a new Account, or the same one if nothing changes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from proxy.accounts.preferences import USUAL, Preferences, read_preferences
from proxy.clock import rfc3339
from proxy.errors import StorageError
from proxy.feed import Changed
from proxy.http.headers import Credential
from proxy.http.outbound import proxy_url, shown
from proxy.storage.fields import Fields
from proxy.storage.protocols import Record


class Status(StrEnum):
    """The four states; only an admin leads out of INACTIVE."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    RATE_LIMITED = "rate_limited"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A Console API key."""

    key: str = field(repr=False)

    @property
    def sent(self) -> Credential:
        """The credential to send upstream. Raises ValueError if a header cannot carry it."""
        return Credential("api_key", self.key)


@dataclass(frozen=True, slots=True)
class OAuthTokens:
    """Tokens of an OAuth login. `expires_at` is in seconds since the epoch; None if the expiry is unknown."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: float | None
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """An upstream account. Times are seconds since the epoch."""

    id: str
    name: str
    credential: ApiKey | OAuthTokens
    created_at: float
    updated_at: float
    organization_uuid: str | None = None
    organization_name: str | None = None
    status: Status = Status.ACTIVE
    status_reason: str | None = None
    status_since: float | None = None
    rate_limited_until: float | None = None
    last_refresh_at: float | None = None
    last_refresh_error: str | None = None
    active_since: float | None = None
    """When the account last returned to ACTIVE; None if it never has."""

    refresh_began_at: float | None = None
    """Saved before a refresh calls the OAuth server. If it is still set at startup, an answer may have been lost."""

    proxy: str | None = field(default=None, repr=False)
    """URL of the outbound proxy for its requests, with its password; None for the configured one, or for none."""

    received: OAuthTokens | None = None
    """New tokens that are not known to be on disk yet. `record` contains them; they are used once they are there, or
    once the old ones have ended or are refused."""

    unchecked: bool = False
    """Whether nothing has shown yet that the API accepts the key: an admin added it without a proof."""

    refused: str | None = None
    """Of an INACTIVE account, why its credential was refused; None if it was not."""

    preferences: Preferences = USUAL

    @property
    def type(self) -> Literal["api_key", "oauth"]:
        """`api_key` or `oauth`, as in the admin API."""
        return "api_key" if isinstance(self.credential, ApiKey) else "oauth"

    @property
    def works(self) -> bool:
        """Whether the account is in service: ACTIVE or RATE_LIMITED."""
        return self.status in (Status.ACTIVE, Status.RATE_LIMITED)

    @property
    def needs_proof(self) -> bool:
        """Whether its credential was refused, and has to be accepted before the account is ACTIVE."""
        return self.status is Status.INVALID or self.refused is not None

    def serves(self, tags: Collection[str]) -> bool:
        """Whether a client key with these tags may use the account; one without tags may use every account."""
        return not tags or any(tag in self.preferences.tags for tag in tags)

    @property
    def etag(self) -> str:
        """ETag of the admin-editable fields that are shown: changes whenever one of them does (RFC 9110 §8.8.3)."""
        proxy = self.proxy and shown(self.proxy)
        edited = f"{self.name}\0{self.status is Status.INACTIVE}\0{proxy}\0{self.preferences}"
        return hashlib.sha256(edited.encode()).hexdigest()[:12]

    @property
    def sent(self) -> Credential:
        """The credential to send upstream. Raises ValueError if a header cannot carry it."""
        if isinstance(self.credential, ApiKey):
            return self.credential.sent
        return Credential("oauth", self.credential.access_token)

    @property
    def expires_at(self) -> float | None:
        """When the access token expires; None for an API key."""
        return self.credential.expires_at if isinstance(self.credential, OAuthTokens) else None

    def limited(self, until: float, reason: str, now: float) -> Account:
        """Set a cooldown until `until`, in seconds since the epoch; a later one already set stays."""
        if not self.works:
            return self
        if self.status is Status.RATE_LIMITED and (self.rate_limited_until or 0) >= until:
            return self
        return self._become(Status.RATE_LIMITED, reason, now, until=until)

    def limit_passed(self, now: float) -> bool:
        """Whether the account has a cooldown that is over."""
        return self.status is Status.RATE_LIMITED and (self.rate_limited_until or 0) <= now

    def recovered(self, now: float) -> Account:
        """Return to ACTIVE if the cooldown is over."""
        return self._active(now) if self.limit_passed(now) else self

    def invalidated(self, reason: str, now: float) -> Account:
        """Become INVALID: the credential no longer works. It stays stored. An INACTIVE account stays INACTIVE."""
        if self.status is Status.INACTIVE and not self.refused:
            return replace(self, refused=reason, updated_at=now)
        return self._become(Status.INVALID, reason, now) if self.works else self

    def deactivated(self, reason: str, now: float) -> Account:
        """Become INACTIVE, by an admin or by idle detection."""
        if self.status is Status.INACTIVE:
            return self
        refused = self.status_reason if self.status is Status.INVALID else None
        return replace(self._become(Status.INACTIVE, reason, now), refused=refused)

    def activated(self, now: float) -> Account:
        """Become ACTIVE. If it `needs_proof`, the caller must have checked that its credential works."""
        return self if self.status is Status.ACTIVE else self._active(now)

    def renamed(self, name: str, now: float) -> Account:
        return self if name == self.name else replace(self, name=name, updated_at=now)

    def rekeyed(self, key: ApiKey, now: float) -> Account:
        """Use another key, which the caller has proven. An INVALID account becomes ACTIVE, and a limit of the old key
        ends.
        """
        if key == self.credential:
            return self.activated(now).checked() if self.status is Status.INVALID else self.checked()
        account = replace(self, credential=key, unchecked=False, refused=None, updated_at=now)
        return account if self.status is Status.INACTIVE else account.activated(now)

    def checked(self) -> Account:
        """Note that the API has accepted the credential."""
        return replace(self, unchecked=False, refused=None) if self.unchecked or self.refused else self

    def proxied(self, proxy: str | None, now: float) -> Account:
        """Go through this outbound proxy from now on."""
        return self if proxy == self.proxy else replace(self, proxy=proxy, updated_at=now)

    def preferring(self, preferences: Preferences, now: float) -> Account:
        """Have these preferences from now on."""
        same = preferences == self.preferences
        return self if same else replace(self, preferences=preferences, updated_at=now)

    def _active(self, now: float) -> Account:
        return replace(self._become(Status.ACTIVE, None, now), active_since=now)

    def _become(
        self, status: Status, reason: str | None, now: float, *, until: float | None = None
    ) -> Account:
        return replace(
            self,
            status=status,
            status_reason=reason,
            status_since=self.status_since if status is self.status else now,
            rate_limited_until=until,
            refused=None,
            updated_at=now,
        )

    def refresh_begun(self, now: float) -> Account:
        """Note that a refresh is about to call the OAuth server."""
        return replace(self, refresh_began_at=now)

    def refresh_received(self, tokens: OAuthTokens, now: float) -> Account:
        """Hold new tokens as `received`; `refresh_saved` makes them the credential."""
        return replace(
            self,
            received=tokens,
            refresh_began_at=None,
            last_refresh_at=now,
            last_refresh_error=None,
            refused=None,
            updated_at=now,
        )

    def refresh_saved(self) -> Account:
        """Make the received tokens the credential, once they are on disk."""
        return self if self.received is None else replace(self, credential=self.received, received=None)

    def refresh_failed(self, why: str, now: float) -> Account:
        """Note why a refresh failed. The status stays as it is."""
        return replace(self, refresh_began_at=None, last_refresh_error=why, updated_at=now)

    def view(self) -> dict[str, Any]:
        """What an admin may see: an allow-list, so that a new field stays private until it is named here."""
        return {
            "id": self.id,
            "name": self.name,
            "type": self.type,
            "organization_uuid": self.organization_uuid,
            "organization_name": self.organization_name,
            "status": self.status.value,
            "status_reason": self.status_reason,
            "status_since": _time(self.status_since or self.created_at),
            "rate_limited_until": _time(self.rate_limited_until),
            "unchecked": self.unchecked,
            "proxy": None if self.proxy is None else shown(self.proxy),
            **self.preferences.view(),
            "expires_at": _time(self.expires_at),
            "last_refresh_at": _time(self.last_refresh_at),
            "last_refresh_error": self.last_refresh_error,
            "created_at": _time(self.created_at),
            "updated_at": _time(self.updated_at),
            "etag": self.etag,
        }

    def record(self) -> dict[str, Any]:
        """What is stored, credential included; `from_record` reads it."""
        return {
            "id": self.id,
            "name": self.name,
            "type": self.type,
            "credential": _stored(self.received or self.credential),
            "organization_uuid": self.organization_uuid,
            "organization_name": self.organization_name,
            "status": self.status.value,
            "status_reason": self.status_reason,
            "status_since": self.status_since,
            "rate_limited_until": self.rate_limited_until,
            "last_refresh_at": self.last_refresh_at,
            "last_refresh_error": self.last_refresh_error,
            "refresh_began_at": self.refresh_began_at,
            "active_since": self.active_since,
            "proxy": self.proxy,
            **self.preferences.view(),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            **({"unchecked": True} if self.unchecked else {}),
            **({"refused": self.refused} if self.refused else {}),
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Account:
        """Read a stored record. Raises ValueError, which names the field, if it is malformed."""
        fields = Fields(record)
        status = fields.text("status")
        if status not in tuple(Status):
            raise ValueError("status is none that an account can have")
        return cls(
            id=fields.text("id"),
            name=fields.text("name"),
            credential=_credential(fields.text("type"), fields.inside("credential")),
            created_at=fields.time("created_at"),
            updated_at=fields.time("updated_at"),
            organization_uuid=fields.text_or_none("organization_uuid"),
            organization_name=_since_then(fields, "organization_name"),
            status=Status(status),
            status_reason=fields.text_or_none("status_reason"),
            status_since=fields.time_or_none("status_since") if "status_since" in fields else None,
            rate_limited_until=fields.time_or_none("rate_limited_until"),
            last_refresh_at=fields.time_or_none("last_refresh_at"),
            last_refresh_error=fields.text_or_none("last_refresh_error"),
            active_since=fields.time_or_none("active_since"),
            refresh_began_at=fields.time_or_none("refresh_began_at"),
            unchecked=fields.flag("unchecked") if "unchecked" in fields else False,
            refused=_since_then(fields, "refused"),
            proxy=_proxy(_since_then(fields, "proxy")),
            preferences=read_preferences(fields),
        )


AccountChanged: TypeAlias = Changed[Account]


def share_limits(one: Account, other: Account) -> bool:
    """Whether an answer to one state of an account says something of the limits of another state of it.

    New tokens of a login have the limits of the old ones; another key has its own.
    """
    return isinstance(one.credential, OAuthTokens) or one.credential == other.credential


def failed_between(old: Account, new: Account) -> bool:
    """Whether what has become of the account is a refresh that failed, and nothing else."""
    error = new.last_refresh_error
    if error is None or new.updated_at == old.updated_at:
        return False
    return new == replace(old, refresh_began_at=None, last_refresh_error=error, updated_at=new.updated_at)


def load_accounts(records: Mapping[str, Record]) -> list[tuple[str, Account]]:
    """The stored accounts with their ids, oldest first. Raises StorageError if a record is malformed."""
    accounts = []
    for id, record in records.items():
        try:
            accounts.append(read_account(id, record))
        except ValueError as error:
            raise StorageError(
                f"account {id!r} in the data folder is not complete ({error}): restore its file "
                "from a backup, or move it away to start without it"
            ) from error
    return [(a.id, a) for a in sorted(accounts, key=lambda a: (a.created_at, a.id))]


def read_account(id: str, record: Record) -> Account:
    """The account in a stored record. Raises ValueError, which names the field, if it is malformed."""
    account = Account.from_record(record)
    if account.id != id:
        raise ValueError("id is another account's")
    try:
        _ = account.sent
    except ValueError as error:
        raise ValueError(f"credential: {error}") from None
    return account


def adopt(old: Account, new: Account) -> Account:
    """The account as another instance has made it: tokens that only this instance has are not used before they are
    stored."""
    if old.received is None or new.credential != old.received:
        return new
    return replace(new, credential=old.credential, received=old.received)


TOGETHER: Final = (
    ("status", "status_reason", "status_since", "rate_limited_until", "active_since", "refused"),
    ("credential", "type"),
)
"""Fields of a record that mean something only together: what two instances have made of an account is merged so."""

LEASED: Final = ("credential",)
"""What only a refresh changes, or an admin who gives a new one."""


def _since_then(fields: Fields, name: str) -> str | None:
    """A text that older records do not have."""
    return fields.text_or_none(name) if name in fields else None


def _stored(credential: ApiKey | OAuthTokens) -> dict[str, Any]:
    match credential:
        case ApiKey(key):
            return {"api_key": key}
        case OAuthTokens(access, refresh, expires_at, scope):
            return {
                "access_token": access,
                "refresh_token": refresh,
                "expires_at": expires_at,
                "scope": scope,
            }


def _credential(type: str, stored: Fields) -> ApiKey | OAuthTokens:
    match type:
        case "api_key":
            return ApiKey(stored.text("api_key"))
        case "oauth":
            return OAuthTokens(
                access_token=stored.text("access_token"),
                refresh_token=stored.text_or_none("refresh_token"),
                expires_at=stored.time_or_none("expires_at"),
                scope=stored.text_or_none("scope"),
            )
    raise ValueError("type is neither api_key nor oauth")


def _proxy(stored: str | None) -> str | None:
    try:
        return None if stored is None else proxy_url(stored)
    except ValueError as error:
        raise ValueError(f"proxy: {error}") from None


def _time(epoch_s: float | None) -> str | None:
    return None if epoch_s is None else rfc3339(epoch_s)
