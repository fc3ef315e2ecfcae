"""The simulated OAuth server: the authorization page, the token endpoint, the profile."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

from proxy.clock import Clock

from . import consent
from .auth import Credential, Keyring, Organization
from .grants import Grant, Grants
from .ids import Ids
from .replies import Answer, ApiError, Json, json_answer
from .requests import Request

MANUAL_PATH = "/oauth/code/callback"
_CODE_LIFE_S = 600
_MAX_BYTES = 1 << 16
_SCOPES = frozenset(
    [
        "org:create_api_key",
        "user:profile",
        "user:inference",
        "user:sessions:claude_code",
        "user:mcp_servers",
        "user:file_upload",
    ]
)
# RFC 8252 §7.3: any port of the loopback addresses; `localhost` since public clients register it.
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


class OAuthError(Exception):
    """RFC 6749 §5.2: `error` is its code."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


@dataclass(slots=True)
class _Code:
    """An authorization code and what it was given for; `grant` once it was exchanged."""

    organization: Organization
    email: str
    redirect_uri: str
    challenge: str
    state: str
    scope: str
    expires_at: float
    used: bool = False
    grant: Grant | None = field(default=None)


class OAuthServer:
    """Logins by authorization code with PKCE, and their refreshes.

    A redirect URI is good where it is on the loopback host, or is this server's own page that shows
    `code#state`.
    """

    def __init__(
        self,
        keyring: Keyring,
        grants: Grants,
        *,
        client_id: str,
        clock: Clock,
        ids: Ids,
        origin: Callable[[], str],
    ) -> None:
        self._keyring = keyring
        self._grants = grants
        self._client_id = client_id
        self._clock = clock
        self._ids = ids
        self._origin = origin
        self._codes: dict[str, _Code] = {}

    # The browser's part

    async def page(self, request: Request) -> Answer:
        """Who consents, and for which organization: `auto=NAME`, `paste=1` and `cancel=1` are what it is answered."""
        query = {name: values[-1] for name, values in request.query.items()}
        try:
            location = self._redirect(query)
        except OAuthError as error:
            return consent.refusal("Invalid request", error.description, 400)
        if location is not None:
            return Answer(302, (("location", location), *consent.NO_STORE))
        return consent.choice(query, self._keyring.organizations)

    async def manual_page(self, request: Request) -> Answer:
        """Where the code is shown to be copied by hand."""
        if denied := request.argument("error"):
            return consent.refusal("Not authorised", denied)
        return consent.code(f"{request.argument('code')}#{request.argument('state')}")

    def authorize(self, url: str, organization: str, email: str | None = None) -> str:
        """Where a browser lands that authorises `organization` at `url`; OAuthError where it is refused."""
        query = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
        location = self._redirect(query | {"auto": organization}, email)
        if location is None:
            raise OAuthError("server_error", "not redirected")
        return location

    def _redirect(self, query: dict[str, str], email: str | None = None) -> str | None:
        """Where `query` leads; None where the organization is still to be chosen."""
        if query.get("client_id") != self._client_id:
            raise OAuthError("invalid_client", "client_id is not registered")
        redirect_uri = query.get("redirect_uri", "")
        parsed = urlsplit(redirect_uri)
        loopback = parsed.scheme == "http" and parsed.hostname in _LOOPBACK
        if not loopback and redirect_uri != self._origin() + MANUAL_PATH:
            raise OAuthError("invalid_request", "redirect_uri is not registered")
        answer = self._decide(query, redirect_uri, email)
        if answer is None:
            return None
        if "state" in query:
            answer["state"] = query["state"]
        # The code stays one for `redirect_uri`, so whoever asked can exchange it wherever it was shown.
        back = self._origin() + MANUAL_PATH if "paste" in query else redirect_uri
        return back + ("&" if urlsplit(back).query else "?") + urlencode(answer)

    def _decide(self, query: dict[str, str], redirect_uri: str, email: str | None) -> dict[str, str] | None:
        scope = query.get("scope", "").split()
        challenge = query.get("code_challenge", "")
        if query.get("response_type") != "code":
            return {"error": "unsupported_response_type"}
        if query.get("code_challenge_method") != "S256" or not re.fullmatch(r"[A-Za-z0-9_-]{43}", challenge):
            return {"error": "invalid_request", "error_description": "PKCE with S256 is required"}
        if not query.get("state"):
            return {"error": "invalid_request", "error_description": "state is required"}
        if not scope or not _SCOPES.issuperset(scope):
            return {"error": "invalid_scope"}
        if "cancel" in query:
            return {"error": "access_denied"}
        if "auto" not in query:
            return None
        organization = self._keyring.organization(query["auto"])
        owner = re.sub(r"[^a-z0-9]+", "-", organization.name.lower()).strip("-") or "org"
        code = self._ids.code()
        self._codes[code] = _Code(
            organization,
            email or f"owner@{owner}.example",
            redirect_uri,
            challenge,
            query["state"],
            " ".join(scope),
            self._clock.now() + _CODE_LIFE_S,
        )
        return {"code": code}

    # The client's part

    def presented(self, request: Request) -> str | None:
        """The refresh token or code in a token request, where there is one."""
        try:
            body = _body(request)
        except OAuthError:
            return None
        value = body.get("refresh_token", body.get("code"))
        return value if isinstance(value, str) else None

    async def token(self, request: Request) -> Answer:
        try:
            grant = self._exchanged(_body(request))
        except OAuthError as error:
            shown = {"error": error.error, "error_description": error.description}
            return json_answer(shown, error.status, consent.NO_STORE)
        answer = {
            "token_type": "Bearer",
            "access_token": grant.access_token,
            "expires_in": grant.expires_in,
            "refresh_token": grant.refresh_token,
            "scope": grant.scope,
            "account": {"uuid": grant.account_uuid, "email_address": grant.email},
            "organization": {"uuid": grant.organization.uuid, "name": grant.organization.name},
        }
        return json_answer(answer, headers=consent.NO_STORE)

    def _exchanged(self, body: Json) -> Grant:
        if body.get("client_id") != self._client_id:
            raise OAuthError("invalid_client", "Client not found", 401)
        match body.get("grant_type"):
            case "authorization_code":
                return self._by_code(body)
            case "refresh_token":
                grant = self._grants.refresh(str(body.get("refresh_token")))
                if grant is None:
                    raise OAuthError("invalid_grant", "Refresh token not found or invalid")
                return grant
            case _:
                raise OAuthError("unsupported_grant_type", "Unsupported grant_type")

    def _by_code(self, body: Json) -> Grant:
        code = self._codes.get(str(body.get("code")))
        if code is None or code.expires_at <= self._clock.now():
            raise OAuthError("invalid_grant", "Invalid or expired authorization code")
        if code.used:
            # RFC 6749 §4.1.2: what a code that is used twice has given is taken back.
            if code.grant is not None:
                self._grants.revoke(code.grant)
            raise OAuthError("invalid_grant", "Authorization code was used before")
        code.used = True
        verifier = str(body.get("code_verifier", ""))
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
        if not re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier) or not hmac.compare_digest(
            digest, code.challenge.encode()
        ):
            raise OAuthError("invalid_grant", "Invalid code_verifier")
        if body.get("redirect_uri") != code.redirect_uri:
            raise OAuthError("invalid_grant", "redirect_uri does not match")
        if body.get("state", code.state) != code.state:
            raise OAuthError("invalid_grant", "state does not match")
        code.grant = self._grants.add(code.organization, code.email, code.scope)
        return code.grant

    async def profile(self, caller: Credential, request: Request) -> Answer:
        grant = self._grants.of(caller)
        if grant is None or "user:profile" not in caller.scopes:
            raise ApiError(403, "OAuth token does not meet scope requirement user:profile")
        account = {
            "uuid": grant.account_uuid,
            "email": grant.email,
            "full_name": grant.email.partition("@")[0].title(),
            "display_name": grant.email.partition("@")[0].title(),
            "has_claude_max": True,
            "has_claude_pro": False,
        }
        organization = {
            "uuid": grant.organization.uuid,
            "name": grant.organization.name,
            "organization_type": "claude_max",
            "billing_type": "stripe_subscription",
            "rate_limit_tier": "default_claude_max_20x",
        }
        return json_answer({"account": account, "organization": organization})


def _body(request: Request) -> Json:
    """A token request's JSON, the only form it is taken in."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise OAuthError("invalid_request", "Content-Type must be application/json")
    try:
        return request.json(_MAX_BYTES)
    except ApiError as error:
        raise OAuthError("invalid_request", error.message) from error
