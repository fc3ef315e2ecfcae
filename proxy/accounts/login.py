"""Logins that wait for their authorization code: each has one state, one verifier, ten minutes and one outcome."""

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
from proxy.feed import Feed
from proxy.jobs import Jobs

LIFE_S = 600.0
MAX_WAITING = 100
SHORTEST_CODE = 8


@dataclass(slots=True)
class Flow:
    """One login on its way. `grant` is kept when it could not be used yet: a code works only once."""

    id: str
    state: str
    pkce: Pkce = field(repr=False)
    redirect_uri: str
    ends: float
    expires_at: float
    org_id: str | None
    account_id: str | None
    name: str | None = None
    code: str | None = field(default=None, repr=False)
    grant: Grant | None = field(default=None, repr=False)
    done: str | None = None
    error: RequestError | None = None
    over: bool = False  # refused by the provider: no code will come
    running: asyncio.Task[Account] | None = None


@dataclass(frozen=True, slots=True)
class Pasted:
    """What an admin pasted: a code, `code#state`, or the whole callback URL."""

    code: str = field(repr=False)
    state: str | None


class Flows:
    """Starts logins and finishes them, by redirect or by hand; twice gives the same outcome."""

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
        self._flows: OrderedDict[str, Flow] = OrderedDict()

    def begin(
        self,
        *,
        redirect_uri: str,
        org_id: str | None = None,
        account_id: str | None = None,
        name: str | None = None,
    ) -> tuple[Flow, str]:
        """A new login and the URL to open. Raises Unprocessable, NotFound."""
        server = self._configured()
        if account_id is not None:
            _refuse_api_key(self._pool[account_id])
        name = None if name is None else self._pool.free_name(name)
        self.forget_old()
        while len(self._flows) >= MAX_WAITING:
            self._drop(next(iter(self._flows)))
        flow = Flow(
            id=self._new_id("flow"),
            state=secrets.token_urlsafe(32),
            pkce=Pkce.new(),
            redirect_uri=redirect_uri,
            ends=self._clock.monotonic() + LIFE_S,
            expires_at=self._clock.now() + LIFE_S,
            org_id=org_id,
            account_id=account_id,
            name=name,
        )
        self._flows[flow.state] = flow
        self._touch(flow)
        url = server.authorization_url(
            state=flow.state, challenge=flow.pkce.challenge, redirect_uri=redirect_uri
        )
        return flow, url

    def ids(self) -> list[str]:
        """Of all that are known."""
        return [flow.id for flow in self._flows.values()]

    def view(self, flow_id: str) -> dict[str, Any] | None:
        """What an admin may see of a login, without its state; None where it is over for long."""
        flow = next((flow for flow in self._flows.values() if flow.id == flow_id), None)
        if flow is None:
            return None
        return {
            "id": flow.id,
            "status": "done" if flow.done else "failed" if flow.error else "waiting",
            "account_id": flow.done
            or (flow.error and flow.error.details.get("account_id"))
            or flow.account_id,
            "expires_at": rfc3339(flow.expires_at),
            "error_type": flow.error and flow.error.type,
            "error_message": flow.error and flow.error.message,
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
        """The account that the login gives, on disk. Raises RequestError with a text for the admin."""
        self._configured()
        self.forget_old()
        given = read_pasted(pasted)
        if state and given.state and state != given.state:
            raise _state_mismatch()
        flow = self._flow(given.state or state or None, given.code)
        account_id = account_id or flow.account_id
        if flow.over:
            raise _expired()
        if flow.done is not None:
            # The redirect may have finished what is pasted as well.
            if flow.code == given.code and flow.done in self._pool and account_id in (None, flow.done):
                return self._pool[flow.done]
            raise _expired()
        if flow.running is None:
            flow.running = self._jobs.start("login", self._finish(flow, given.code, name, org_id, account_id))
            flow.running.add_done_callback(lambda task: self._ended(flow, task))
        return await asyncio.shield(flow.running)

    def refused(self, state: str, error: str) -> RequestError:
        """The provider says that the login was refused: its state is used up. Raises InvalidRequest."""
        self.forget_old()
        flow = self._flows.get(state)
        if flow is None or flow.over:
            raise _expired()
        flow.error, flow.over = refused_by_provider(error), True
        self._touch(flow)
        return flow.error

    async def _finish(
        self, flow: Flow, code: str, name: str | None, org_id: str | None, account_id: str | None
    ) -> Account:
        grant = await self._grant(flow, code)
        wanted_org = org_id or flow.org_id
        if wanted_org is not None and grant.organization_uuid != wanted_org:
            raise Conflict(
                f"You signed in to {_shown(grant)}, but the organisation {wanted_org} was asked for. "
                "Nothing was changed.",
                type="wrong_org",
            )
        if account_id is not None:
            account = await self._reauthorize(self._pool[account_id], grant)
        else:
            account = await self._add(grant, name or flow.name)
        flow.done, flow.grant = account.id, None
        return account

    def _ended(self, flow: Flow, task: asyncio.Task[Account]) -> None:
        flow.running = None
        error = None if task.cancelled() else task.exception()
        flow.error = error if isinstance(error, RequestError) else None
        self._touch(flow)

    async def _grant(self, flow: Flow, code: str) -> Grant:
        if flow.grant is None or flow.code != code:
            flow.code = code
            try:
                flow.grant = await self._configured().exchange(
                    code, state=flow.state, verifier=flow.pkce.verifier, redirect_uri=flow.redirect_uri
                )
            except TokenRefused as refusal:
                raise Unprocessable(
                    "Claude did not accept the code. Codes work once and only for a few minutes. "
                    f"Get a new link. ({refusal})",
                    type="invalid_grant",
                ) from refusal
            except TokenTrouble as trouble:
                raise _no_tokens(trouble) from trouble
        return flow.grant

    async def _add(self, grant: Grant, name: str | None) -> Account:
        for other in self._pool:
            if grant.organization_uuid is not None and other.organization_uuid == grant.organization_uuid:
                raise Conflict(
                    f"This organisation is already added as '{other.name}'. Re-authorise '{other.name}' instead.",
                    type="duplicate_org",
                    details={"account_id": other.id},
                )
        name = name or self._pool.name_like(grant.email or grant.organization_name or "account")
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

    def _flow(self, state: str | None, code: str) -> Flow:
        if state is None:
            flows = self._flows.values()
            waiting = [f for f in flows if f.code == code] or [
                f for f in flows if f.done is None and not f.over
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
        flow = self._flows.get(state)
        if flow is None:
            raise _expired()
        return flow

    def forget_old(self) -> None:
        """Forget the logins whose time is over."""
        now = self._clock.monotonic()
        while self._flows:
            oldest = next(iter(self._flows.values()))
            if oldest.ends > now:
                break
            self._drop(oldest.state)

    def _drop(self, state: str) -> None:
        self._touch(self._flows.pop(state))

    def _touch(self, flow: Flow) -> None:
        self._feed.touch("flows", flow.id)

    def _configured(self) -> OAuthServer:
        if self._server is None:
            raise Unprocessable(
                "OAuth is not configured: set oauth.client_id, oauth.authorize_url and oauth.token_url to your own "
                "registration, or add a Console API key instead"
            )
        return self._server


def read_pasted(text: str) -> Pasted:
    """What was pasted, with spaces and line breaks taken out. Raises InvalidRequest."""
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
    """The provider sent the browser back without a code (RFC 6749 4.1.2.1): the admin's wish, or a wrong set-up."""
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
