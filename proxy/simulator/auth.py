"""Who may call the simulator: its organizations and the credentials it knows."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from tornado.httputil import HTTPHeaders

from .limits import Meter
from .replies import ApiError, Headers

OAUTH_BETA = "oauth-2025-04-20"
_NAMES = uuid.UUID("5f1cbb0e-6f6b-4b0e-9d1c-0c5b5f5b7a10")


@dataclass(frozen=True, slots=True)
class Organization:
    name: str

    @property
    def uuid(self) -> str:
        return str(uuid.uuid5(_NAMES, self.name))

    @property
    def workspace_id(self) -> str:
        return "wrkspc_01" + self.uuid.replace("-", "")[:22]

    @property
    def headers(self) -> Headers:
        """What every answer to one of its credentials carries."""
        return (
            ("anthropic-organization-id", self.uuid),
            ("anthropic-workspace-id", self.workspace_id),
        )


class Kind(Enum):
    API_KEY = "api_key"
    ACCESS_TOKEN = "access_token"  # noqa: S105 - a name, no secret
    REFRESH_TOKEN = "refresh_token"  # noqa: S105


@dataclass(slots=True)
class Credential:
    """`owner` names the API key or the grant it belongs to; `expires_at` is in epoch seconds."""

    value: str = field(repr=False)
    kind: Kind
    organization: Organization
    owner: str = field(repr=False)
    meter: Meter = field(repr=False)
    expires_at: float | None = None
    scopes: frozenset[str] = frozenset()
    revoked: bool = False


def presented(headers: HTTPHeaders) -> list[tuple[str, str]]:
    """Every credential in `headers`: (header name, value)."""
    found = [("x-api-key", value) for value in headers.get_list("x-api-key")]
    for value in headers.get_list("authorization"):
        scheme, _, token = value.partition(" ")
        found.append(("authorization", token.strip() if scheme.lower() == "bearer" else value))
    return found


class Keyring:
    """The credentials by value, and the organizations by name."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._credentials: dict[str, Credential] = {}
        self.organizations = {name: Organization(name) for name in names}

    def organization(self, name: str) -> Organization:
        """The organization of that name, made where it is new."""
        return self.organizations.setdefault(name, Organization(name))

    def add(self, credential: Credential) -> None:
        self._credentials[credential.value] = credential

    def find(self, value: str) -> Credential | None:
        return self._credentials.get(value)

    def forget(self, value: str) -> None:
        self._credentials.pop(value, None)

    def of_owner(self, owner: str) -> list[Credential]:
        return [credential for credential in self._credentials.values() if credential.owner == owner]

    def authenticate(self, headers: HTTPHeaders, now: float, *, need_beta: bool = True) -> Credential:
        """The caller's one valid credential; ApiError 401 where there is none."""
        found = presented(headers)
        if not found:
            raise ApiError(401, "x-api-key header is required")
        if len(found) > 1:
            raise ApiError(401, "Only one of x-api-key and authorization may be sent")
        header, value = found[0]
        credential = self._credentials.get(value)
        if credential is None or credential.kind is Kind.REFRESH_TOKEN:
            raise ApiError(401, "invalid x-api-key" if header == "x-api-key" else "Invalid bearer token")
        if credential.kind is Kind.API_KEY:
            if credential.revoked:
                raise ApiError(401, "invalid x-api-key")
            return credential
        if header == "x-api-key":
            raise ApiError(401, "invalid x-api-key")
        if credential.revoked:
            raise ApiError(401, "OAuth token has been revoked. Please obtain a new token.")
        if credential.expires_at is not None and credential.expires_at <= now:
            raise ApiError(
                401,
                "OAuth token has expired. Please obtain a new token or refresh your existing token.",
                details={"error_code": "token_expired"},
            )
        betas = [name.strip() for name in headers.get("anthropic-beta", "").split(",")]
        if need_beta and OAUTH_BETA not in betas:
            raise ApiError(401, "OAuth authentication is currently not supported.")
        return credential
