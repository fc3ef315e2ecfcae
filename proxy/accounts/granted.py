"""The grant of a login: got for its code, it becomes a new account, or new tokens for one."""

from __future__ import annotations

from proxy.accounts.account import Account
from proxy.accounts.login import Login
from proxy.accounts.names import name_like
from proxy.accounts.oauth import Grant, OAuthServer
from proxy.accounts.pool import Pool
from proxy.accounts.refresh import Refresher
from proxy.errors import BadGateway, Conflict, RequestError, TokenRefused, TokenTrouble, Unprocessable


class Granted:
    """Gets grants and uses them. What goes wrong is raised as a RequestError with a text for the admin."""

    def __init__(self, pool: Pool, refresher: Refresher, server: OAuthServer | None) -> None:
        self._pool = pool
        self._refresher = refresher
        self._server = server

    def server(self) -> OAuthServer:
        """What logins are begun and finished at. Raises Unprocessable if none is configured."""
        if self._server is None:
            raise Unprocessable(
                "OAuth is not configured: set oauth.client_id, oauth.authorize_url and oauth.token_url to your own "
                "registration, or add a Console API key instead"
            )
        return self._server

    async def exchange(self, code: str, login: Login) -> Grant:
        """The tokens for a code, which works once."""
        again = login.account_id
        try:
            return await self.server().exchange(
                code,
                state=login.state,
                verifier=login.pkce.verifier,
                redirect_uri=login.redirect_uri,
                proxy=self._pool[again].proxy if again is not None and again in self._pool else None,
            )
        except TokenRefused as refusal:
            raise Unprocessable(
                "Claude did not accept the code. Codes work once and only for a few minutes. "
                f"Get a new link. ({refusal})",
                type="invalid_grant",
            ) from refusal
        except TokenTrouble as trouble:
            raise _no_tokens(trouble) from trouble

    async def use(
        self, grant: Grant, *, name: str | None, org_id: str | None, account_id: str | None
    ) -> Account:
        """The new account; with `account_id`, that one with new tokens. It is in storage when this returns.

        Nothing is changed if the grant is of another organisation than `org_id`. Raises StorageError too.
        """
        if org_id is not None and grant.organization_uuid != org_id:
            raise Conflict(
                f"You signed in to {_shown(grant)}, but the organisation {org_id} was asked for. "
                "Nothing was changed.",
                type="wrong_org",
            )
        if account_id is not None:
            return await self._reauthorize(self._pool[account_id], grant)
        return await self._add(grant, name)

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
        refuse_api_key(account)
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


def refuse_api_key(account: Account) -> None:
    if account.type != "oauth":
        raise Unprocessable(f"'{account.name}' is an API-key account: there is nothing to authorise")


def _named(organization: str | None) -> str:
    return f"'{organization}'" if organization else "another organisation"


def _shown(grant: Grant) -> str:
    return f"'{grant.organization_name or grant.organization_uuid or 'another organisation'}'"


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
