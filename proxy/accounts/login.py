"""OAuth logins in progress. Each has one state, one PKCE verifier, a lifetime of ten minutes and one outcome."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from proxy.accounts.account import Account
from proxy.accounts.names import free_name, name_like
from proxy.accounts.oauth import Grant, OAuthServer, Pkce
from proxy.accounts.pool import Pool
from proxy.accounts.refresh import Refresher
from proxy.clock import Clock, rfc3339
from proxy.errors import (
    BadGateway,
    Conflict,
    InvalidRequest,
    RequestError,
    TokenRefused,
    TokenTrouble,
    Unprocessable,
)
from proxy.feed import SYSTEM, Feed, Who, act_as, acting
from proxy.jobs import Jobs

LIFE_S = 600.0
MAX_WAITING = 100
SHORTEST_CODE = 8


@dataclass(slots=True)
class Login:
    """One OAuth login in progress. A `grant` that could not be used yet is kept, since a code works only once."""

    id: str
    state: str
    pkce: Pkce = field(repr=False)
    redirect_uri: str
    ends: float  # on the monotonic clock
    expires_at: float  # the same time, in seconds since the epoch
    org_id: str | None
    account_id: str | None
    begun_by: Who
    name: str | None = None
    code: str | None = field(default=None, repr=False)
    grant: Grant | None = field(default=None, repr=False)
    done: str | None = None  # the id of its account
    error: RequestError | None = None
    over: bool = False  # refused by the provider: no code will come
    running: asyncio.Task[Account] | None = None


@dataclass(frozen=True, slots=True)
class Pasted:
    """What an admin pasted: a code, `code#state`, or the whole callback URL."""

    code: str = field(repr=False)
    state: str | None


class Logins:
    """Starts and finishes OAuth logins, by redirect or by a pasted code. Finishing one twice gives the same outcome."""

    def __init__(
        self,
        pool: Pool,
        refresher: Refresher,
        server: OAuthServer | None,
        *,
        feed: Feed,
        jobs: Jobs,
        clock: Clock,
        new_id: Callable[[str], str],
    ) -> None:
        self._pool = pool
        self._refresher = refresher
        self._server = server
        self._feed = feed
        self._jobs = jobs
        self._clock = clock
        self._new_id = new_id
        self._logins: OrderedDict[str, Login] = OrderedDict()

    def begin(
        self,
        *,
        redirect_uri: str,
        org_id: str | None = None,
        account_id: str | None = None,
        name: str | None = None,
    ) -> tuple[Login, str]:
        """A new login and the URL to open. Raises Unprocessable, NotFound."""
        server = self._configured()
        if account_id is not None:
            _refuse_api_key(self._pool[account_id])
        name = None if name is None else free_name(self._pool, name)
        self.forget_old()
        while len(self._logins) >= MAX_WAITING:
            self._drop(next(iter(self._logins)))
        login = Login(
            id=self._new_id("flow"),
            state=secrets.token_urlsafe(32),
            pkce=Pkce.new(),
            redirect_uri=redirect_uri,
            ends=self._clock.monotonic() + LIFE_S,
            expires_at=self._clock.now() + LIFE_S,
            org_id=org_id,
            account_id=account_id,
            begun_by=acting(),
            name=name,
        )
        self._logins[login.state] = login
        self._touch(login)
        url = server.authorization_url(
            state=login.state, challenge=login.pkce.challenge, redirect_uri=redirect_uri
        )
        return login, url

    def ids(self) -> list[str]:
        """Ids of all known logins."""
        return [login.id for login in self._logins.values()]

    def view(self, flow_id: str) -> dict[str, Any] | None:
        """What an admin may see of a login: no `state`, no code. None if it is unknown or was dropped."""
        login = next((login for login in self._logins.values() if login.id == flow_id), None)
        if login is None:
            return None
        return {
            "id": login.id,
            "status": "done" if login.done else "failed" if login.error else "waiting",
            "account_id": login.done
            or (login.error and login.error.details.get("account_id"))
            or login.account_id,
            "expires_at": rfc3339(login.expires_at),
            "error_type": login.error and login.error.type,
            "error_message": login.error and login.error.message,
        }

    async def finish(
        self,
        pasted: str,
        *,
        state: str | None = None,
        name: str | None = None,
        org_id: str | None = None,
        account_id: str | None = None,
    ) -> Account:
        """Finish a login and return its account, which is on disk. Raises RequestError with a text for the admin."""
        self._configured()
        self.forget_old()
        given = read_pasted(pasted)
        if state and given.state and state != given.state:
            raise _state_mismatch()
        login = self._flow(given.state or state or None, given.code)
        account_id = account_id or login.account_id
        if login.over:
            raise _expired()
        if login.done is not None:
            # The admin may paste a code that the redirect has delivered already.
            if login.code == given.code and login.done in self._pool and account_id in (None, login.done):
                return self._pool[login.done]
            raise _expired()
        if login.running is None:
            if acting() == SYSTEM:  # the provider's redirect, which comes without a sign-in
                act_as(login.begun_by)
            login.running = self._jobs.start(
                "login", self._finish(login, given.code, name, org_id, account_id)
            )
            login.running.add_done_callback(lambda task: self._ended(login, task))
        return await asyncio.shield(login.running)

    def refused(self, state: str, error: str) -> RequestError:
        """End a login that the provider refused, and return the error. Raises InvalidRequest if it is unknown."""
        self.forget_old()
        login = self._logins.get(state)
        if login is None or login.over:
            raise _expired()
        login.error, login.over = refused_by_provider(error), True
        self._touch(login)
        return login.error

    async def _finish(
        self, login: Login, code: str, name: str | None, org_id: str | None, account_id: str | None
    ) -> Account:
        grant = await self._grant(login, code)
        wanted_org = org_id or login.org_id
        if wanted_org is not None and grant.organization_uuid != wanted_org:
            raise Conflict(
                f"You signed in to {_shown(grant)}, but the organisation {wanted_org} was asked for. "
                "Nothing was changed.",
                type="wrong_org",
            )
        if account_id is not None:
            account = await self._reauthorize(self._pool[account_id], grant)
        else:
            account = await self._add(grant, name or login.name)
        login.done, login.grant = account.id, None
        return account

    def _ended(self, login: Login, task: asyncio.Task[Account]) -> None:
        login.running = None
        error = None if task.cancelled() else task.exception()
        login.error = error if isinstance(error, RequestError) else None
        self._touch(login)

    async def _grant(self, login: Login, code: str) -> Grant:
        if login.grant is None or login.code != code:
            login.code = code
            again = login.account_id
            proxy = self._pool[again].proxy if again is not None and again in self._pool else None
            try:
                login.grant = await self._configured().exchange(
                    code,
                    state=login.state,
                    verifier=login.pkce.verifier,
                    redirect_uri=login.redirect_uri,
                    proxy=proxy,
                )
            except TokenRefused as refusal:
                raise Unprocessable(
                    "Claude did not accept the code. Codes work once and only for a few minutes. "
                    f"Get a new link. ({refusal})",
                    type="invalid_grant",
                ) from refusal
            except TokenTrouble as trouble:
                raise _no_tokens(trouble) from trouble
        return login.grant

    async def _add(self, grant: Grant, name: str | None) -> Account:
        for other in self._pool:
            if grant.organization_uuid is not None and other.organization_uuid == grant.organization_uuid:
                raise Conflict(
                    f"This organisation is already added as '{other.name}'. Re-authorise '{other.name}' instead.",
                    type="duplicate_org",
                    details={"account_id": other.id},
                )
        name = name or name_like(self._pool, grant.email or grant.organization_name or "account")
        account = await self._pool.add(
            name,
            grant.tokens,
            organization_uuid=grant.organization_uuid,
            organization_name=grant.organization_name,
        )
        self._refresher.learn(account)
        return account

    async def _reauthorize(self, account: Account, grant: Grant) -> Account:
        _refuse_api_key(account)
        if None not in (account.organization_uuid, grant.organization_uuid) and (
            account.organization_uuid != grant.organization_uuid
        ):
            raise Conflict(
                f"You signed in to {_shown(grant)}, but '{account.name}' belongs to "
                f"{_named(account.organization_name)}. "
                "Nothing was changed.",
                type="wrong_org",
            )
        return await self._refresher.reauthorize(account.id, grant.tokens)

    def _flow(self, state: str | None, code: str) -> Login:
        if state is None:
            logins = self._logins.values()
            waiting = [f for f in logins if f.code == code] or [
                f for f in logins if f.done is None and not f.over
            ]
            if len(waiting) != 1:
                raise (
                    _expired()
                    if not waiting
                    else InvalidRequest(
                        "Several logins are open. Paste the code with its state, as code#state.",
                        type="state_missing",
                    )
                )
            return waiting[0]
        login = self._logins.get(state)
        if login is None:
            raise _expired()
        return login

    def forget_old(self) -> None:
        """Drop expired logins."""
        now = self._clock.monotonic()
        while self._logins:
            oldest = next(iter(self._logins.values()))
            if oldest.ends > now:
                break
            self._drop(oldest.state)

    def _drop(self, state: str) -> None:
        self._touch(self._logins.pop(state))

    def _touch(self, login: Login) -> None:
        self._feed.touch("flows", login.id)

    def _configured(self) -> OAuthServer:
        if self._server is None:
            raise Unprocessable(
                "OAuth is not configured: set oauth.client_id, oauth.authorize_url and oauth.token_url to your own "
                "registration, or add a Console API key instead"
            )
        return self._server


def read_pasted(text: str) -> Pasted:
    """Parse pasted text, ignoring spaces and line breaks. Raises InvalidRequest."""
    text = re.sub(r"\s+", "", text)
    state: str | None
    if "?" in text:
        query = parse_qs(text.partition("?")[2].partition("#")[0])
        if "error" in query:
            raise refused_by_provider(query["error"][0])
        code, state = query.get("code", [""])[0], query.get("state", [None])[0]
    else:
        code, _, rest = text.partition("#")
        state = rest or None
    if re.fullmatch(r"\d{6}", code):
        raise InvalidRequest(
            "That looks like the 6-digit e-mail sign-in code. Enter it on the provider's page first; the code for "
            "this box comes after you press Authorise.",
            type="six_digits",
        )
    if len(code) < SHORTEST_CODE or not code.isascii() or not code.isprintable():
        raise InvalidRequest(
            "Paste the code shown after you authorised. It is one long string, usually with a # in it.",
            type="code_missing",
        )
    return Pasted(code, state)


def refused_by_provider(error: str) -> RequestError:
    """The error for a redirect without a code (RFC 6749 §4.1.2.1): the admin cancelled, or the settings are wrong."""
    if error == "access_denied":
        return InvalidRequest(
            "Authorisation was cancelled at the provider's. Nothing was added.", type="access_denied"
        )
    told = error if re.fullmatch(r"[a-z_]{1,64}", error) else "an unknown error"
    return InvalidRequest(
        f"The provider refused the login: {told}. Nothing was added. See the oauth settings of this proxy.",
        type="authorization_refused",
    )


def _refuse_api_key(account: Account) -> None:
    if account.type != "oauth":
        raise Unprocessable(f"'{account.name}' is an API-key account: there is nothing to authorise")


def _no_tokens(trouble: TokenTrouble) -> RequestError:
    if trouble.retry_after_s is not None:
        told = f"Claude asks to wait {trouble.retry_after_s:g} s"
    elif trouble.__cause__ is not None:
        told = f"The server could not reach Claude: {trouble}"
    else:
        told = f"No tokens came from Claude: {trouble}"
    return BadGateway(
        f"{told}. Your code may still be valid: try again.",
        type="upstream_unreachable",
        retry_after_s=trouble.retry_after_s,
    )


def _state_mismatch() -> RequestError:
    return InvalidRequest(
        "This code belongs to a different link. Open the link above again and paste the new code.",
        type="state_mismatch",
    )


def _expired() -> RequestError:
    return InvalidRequest(
        "This link expired (valid 10 minutes) or the server restarted. Get a new link.", type="flow_expired"
    )


def _named(organization: str | None) -> str:
    return f"'{organization}'" if organization else "another organisation"


def _shown(grant: Grant) -> str:
    return f"'{grant.organization_name or grant.organization_uuid or 'another organisation'}'"
