"""The calls to the OAuth server: authorization URL, code exchange, refresh (RFC 6749, RFC 7636)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

from proxy import __version__
from proxy.accounts.account import OAuthTokens
from proxy.clock import Clock
from proxy.errors import TokenRefused, TokenTrouble, UpstreamError, UpstreamLost
from proxy.http.headers import Credential
from proxy.upstream.driver import CurlClient
from proxy.upstream.exchange import Exchange, Head, Request

TOTAL_S = 30.0
GRACE_S = 1.0
"""To read what has come by then: while the process stood still (a laptop asleep, a frozen container) nobody read it."""

MAX_ANSWER_BYTES = 64 * 1024
MAX_TOKEN_CHARS = 16 * 1024
DEFAULT_LIFE_S = 3600.0
"""Lifetime of an access token if `expires_in` is missing or out of range."""

LONGEST_LIFE_S = 366 * 86_400.0

NO_ACCESS_TOKEN = "the token server's answer has no access_token"  # noqa: S105 - a text

# Errors that are about this proxy's registration or request (RFC 6749 5.2): they do not use up a code.
_OURS = {"invalid_client", "invalid_request", "unsupported_grant_type", "invalid_scope"}
_BUSY = "temporarily_unavailable"


@dataclass(frozen=True, slots=True)
class Registration:
    """The operator's own registration with the OAuth server."""

    client_id: str
    authorize_url: str
    token_url: str
    scope: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The tokens from a login, and their owner as far as the server names one."""

    tokens: OAuthTokens = field(repr=False)
    organization_uuid: str | None
    organization_name: str | None
    email: str | None


@dataclass(frozen=True, slots=True)
class Pkce:
    """Proof key for code exchange (RFC 7636): the verifier stays here, the challenge is its SHA-256."""

    verifier: str = field(repr=False)

    @classmethod
    def new(cls) -> Pkce:
        return cls(secrets.token_urlsafe(32))

    @property
    def challenge(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class OAuthServer:
    """Client of the OAuth server."""

    def __init__(
        self,
        registration: Registration,
        *,
        clock: Clock,
        proxy: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self.registration = registration
        self._clock = clock
        url = urlsplit(registration.token_url)
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._client = CurlClient.to(
            f"{url.scheme}://{url.netloc}", idle_timeout_s=TOTAL_S + 2 * GRACE_S, proxy=proxy, ca_file=ca_file
        )

    def close(self) -> None:
        self._client.close()

    def authorization_url(self, *, state: str, challenge: str, redirect_uri: str) -> str:
        """The URL at which an admin logs in with a browser."""
        url = self.registration.authorize_url
        query = {
            "response_type": "code",
            "client_id": self.registration.client_id,
            "redirect_uri": redirect_uri,
            "scope": self.registration.scope,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "state": state,
        }
        return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"

    async def exchange(
        self, code: str, *, state: str, verifier: str, redirect_uri: str, proxy: str | None = None
    ) -> Grant:
        """Exchange an authorization code for tokens; `proxy` is that of the account that logs in again.

        Raises TokenRefused, TokenTrouble.
        """
        answer = await self._ask(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": redirect_uri,
                "client_id": self.registration.client_id,
                "code_verifier": verifier,
                "state": state,
            },
            proxy,
        )
        organization, account = _object(answer, "organization"), _object(answer, "account")
        return Grant(
            self._tokens(answer, None),
            _text(organization, "uuid"),
            _text(organization, "name"),
            _text(account, "email_address"),
        )

    async def refresh(self, tokens: OAuthTokens, *, proxy: str | None = None) -> OAuthTokens:
        """Exchange a refresh token for new tokens. If the answer has no refresh token, the old one stays (RFC 6749 §6).

        If the answer is lost, the same refresh token is sent once more, and the second answer counts. If an answer has
        a new refresh token but no access token, the old access token and its expiry stay. `proxy` is the account's own.
        Raises TokenRefused, TokenTrouble.
        """
        form = {
            "grant_type": "refresh_token",
            "refresh_token": tokens.refresh_token,
            "client_id": self.registration.client_id,
        }
        try:
            answer = await self._ask(form, proxy)
        except TokenTrouble as trouble:
            if not isinstance(trouble.__cause__, UpstreamLost):
                raise
            answer = await self._ask(form, proxy)
        return self._tokens(answer, tokens)

    def _tokens(self, answer: dict[str, Any], old: OAuthTokens | None) -> OAuthTokens:
        access, refresh = _token(answer.get("access_token")), _token(answer.get("refresh_token"))
        if access is None:
            if old is None or refresh in (None, old.refresh_token):
                raise TokenTrouble(NO_ACCESS_TOKEN)
            return replace(old, refresh_token=refresh)
        return OAuthTokens(
            access_token=access,
            refresh_token=refresh or (old.refresh_token if old else None),
            expires_at=self._clock.now() + life_s(answer.get("expires_in")),
            scope=_text(answer, "scope") or (old.scope if old else None),
        )

    async def _ask(self, form: dict[str, str | None], proxy: str | None = None) -> dict[str, Any]:
        body = json.dumps(form).encode()
        headers = [
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("anthropic-beta", "oauth-2025-04-20"),
            ("user-agent", f"claude-proxy/{__version__}"),
        ]
        # Codes and refresh tokens work only once, so libcurl must not resend a request by itself.
        request = Request("POST", self._target, headers, body, may_resend=False, proxy=proxy)
        exchange = self._client.open(request)
        answer = _Answer(exchange)
        try:
            try:
                async with asyncio.timeout(TOTAL_S):
                    head = await answer.read()
            except TimeoutError:
                async with asyncio.timeout(GRACE_S):
                    head = await answer.read()
        except UpstreamError as error:
            raise TokenTrouble(f"the token server cannot be reached: {error}") from error
        except TimeoutError as error:
            raise TokenTrouble(f"the token server did not answer within {TOTAL_S:g} s") from error
        finally:
            exchange.close()
        if head.status == 200:
            return _json_object(answer.body)
        told = {line.lower: line.value for line in head.lines}
        _refuse(head.status, answer.body, told, has_code=form["grant_type"] == "authorization_code")


class _Answer:
    """An answer of the token server; `read` can be cancelled, and goes on where it was."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._head: Head | None = None
        self.body = b""

    async def read(self) -> Head:
        """Read to the end. Raises TokenTrouble, UpstreamError."""
        if self._head is None:
            self._head = await self._exchange.head()
        while data := await self._exchange.read():
            self.body += data
            if len(self.body) > MAX_ANSWER_BYTES:
                raise TokenTrouble(f"the token server's answer is larger than {MAX_ANSWER_BYTES} bytes")
        return self._head


def life_s(expires_in: object) -> float:
    """`expires_in` in seconds; DEFAULT_LIFE_S if it is missing or out of range."""
    try:
        seconds = 0.0 if expires_in is None or expires_in is True else float(expires_in)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return DEFAULT_LIFE_S
    return seconds if 0 < seconds <= LONGEST_LIFE_S else DEFAULT_LIFE_S


def _refuse(status: int, body: bytes, headers: dict[str, str], *, has_code: bool) -> NoReturn:
    """Raise TokenRefused or TokenTrouble for an error answer. The message quotes only the error code of its body."""
    try:
        error = _json_object(body)
    except TokenTrouble:
        error = {}
    code = _error_code(error)
    evidence = f"the token server answered {status}" + (f" {code}" if code else "")
    terminal = code == "invalid_grant" if status == 400 else status in (401, 403) and bool(error.get("error"))
    if terminal and code != _BUSY and not (has_code and code in _OURS):
        raise TokenRefused(evidence)
    raise TokenTrouble(evidence, retry_after_s=_seconds(headers.get("retry-after")))


def _error_code(answer: dict[str, Any]) -> str | None:
    """`error` (RFC 6749 §5.2), or `error.type` as in the Claude API. Other fields may contain a token."""
    error = answer.get("error")
    if isinstance(error, dict):
        error = error.get("type")
    return error if isinstance(error, str) and re.fullmatch(r"[a-z_]{1,64}", error) else None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        # `int` raises for more than 4,300 digits; such a number must not cost the valid tokens beside it.
        value = json.loads(body, parse_int=float)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise TokenTrouble("the token server's answer is no JSON object")
    return value


def _object(answer: dict[str, Any], name: str) -> dict[str, Any]:
    value = answer.get(name)
    return value if isinstance(value, dict) else {}


def _text(answer: dict[str, Any], name: str) -> str | None:
    value = answer.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= 1024 and value.isprintable() else None


def _token(value: object) -> str | None:
    """The value if it is a token that a header can carry, else None."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TOKEN_CHARS:
        return None
    try:
        return Credential("oauth", value).secret
    except ValueError:
        return None


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit():
        return None
    return float(retry_after[:9])
