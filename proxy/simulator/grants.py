"""The simulated OAuth accounts and their tokens: issued, rotated, revoked."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import Enum

from proxy.clock import Clock

from .auth import Credential, Keyring, Kind, Organization
from .ids import Ids
from .limits import Meter

DEFAULT_SCOPE = "user:profile user:inference"
_NAMES = uuid.UUID("0b1d3f5e-52c4-4d0b-8a9e-1f6c7f3b2a11")


class Rotation(Enum):
    """What becomes of a refresh token that was used.

    STRICT: it is dead at once. GRACE: it works until one of the tokens it was exchanged for is first used.
    """

    STRICT = "strict"
    GRACE = "grace"


@dataclass(slots=True, eq=False)
class Grant:
    """One login; live: it always shows its newest tokens. `superseded` still works, under GRACE only."""

    id: str
    organization: Organization
    email: str
    scope: str
    meter: Meter = field(repr=False, default_factory=Meter)
    access_token: str = field(repr=False, default="")
    refresh_token: str = field(repr=False, default="")
    superseded: str | None = field(repr=False, default=None)
    expires_in: int = 0

    @property
    def account_uuid(self) -> str:
        return str(uuid.uuid5(_NAMES, self.email))


class Grants:
    """All logins, by their id; their tokens are in the keyring."""

    def __init__(
        self,
        keyring: Keyring,
        *,
        clock: Clock,
        ids: Ids,
        rotation: Rotation,
        expires_in: int,
    ) -> None:
        self._keyring = keyring
        self._clock = clock
        self._ids = ids
        self._rotation = rotation
        self._expires_in = expires_in
        self._grants: dict[str, Grant] = {}

    def add(self, organization: Organization, email: str, scope: str) -> Grant:
        grant = Grant(f"grant_{len(self._grants) + 1}", organization, email, scope)
        self._grants[grant.id] = grant
        self._issue(grant)
        return grant

    def of(self, credential: Credential) -> Grant | None:
        return self._grants.get(credential.owner)

    def tokens(self) -> list[str]:
        """All tokens that were issued and not yet forgotten, revoked ones too."""
        return [credential.value for id in self._grants for credential in self._keyring.of_owner(id)]

    def revoke(self, grant: Grant) -> None:
        """Refuse all tokens of `grant`."""
        for credential in self._keyring.of_owner(grant.id):
            credential.revoked = True

    def refresh(self, refresh_token: str) -> Grant | None:
        """The grant with a new pair of tokens; None where the token is not good."""
        credential = self._keyring.find(refresh_token)
        if credential is None or credential.kind is not Kind.REFRESH_TOKEN or credential.revoked:
            return None
        grant = self._grants[credential.owner]
        self.used(credential)
        if self._rotation is Rotation.STRICT:
            self._keyring.forget(refresh_token)
        else:
            # A second exchange of the same old token voids what the first one gave.
            if grant.refresh_token != refresh_token:
                self._keyring.forget(grant.refresh_token)
            grant.superseded = refresh_token
        self._issue(grant)
        return grant

    def used(self, credential: Credential) -> None:
        """A token was used: under GRACE that ends the life of the one before it."""
        grant = self._grants.get(credential.owner)
        if grant is None or grant.superseded is None:
            return
        if credential.value in (grant.access_token, grant.refresh_token):
            self._keyring.forget(grant.superseded)
            grant.superseded = None

    def _issue(self, grant: Grant) -> None:
        grant.expires_in = self._expires_in
        grant.access_token = self._ids.token("sk-ant-oat01")
        grant.refresh_token = self._ids.token("sk-ant-ort01")
        expires_at = self._clock.now() + self._expires_in
        tokens = ((grant.access_token, Kind.ACCESS_TOKEN), (grant.refresh_token, Kind.REFRESH_TOKEN))
        for value, kind in tokens:
            self._keyring.add(
                Credential(
                    value,
                    kind,
                    grant.organization,
                    grant.id,
                    grant.meter,
                    expires_at if kind is Kind.ACCESS_TOKEN else None,
                    frozenset(grant.scope.split()),
                )
            )
