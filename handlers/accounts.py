"""The admin's view of accounts: list, add, rename, set active or inactive, delete."""

from __future__ import annotations

from typing import Literal

from handlers.base import AdminHandler, Admins, RequestBody
from handlers.oauth import PastedCode
from proxy.accounts.account import Account, ApiKey, Status
from proxy.accounts.login import Logins
from proxy.accounts.pool import Pool
from proxy.accounts.probe import Probe
from proxy.accounts.refresh import Refresher
from proxy.clients.keys import KEY_PREFIX
from proxy.errors import BadGateway, TokenRefused, TokenTrouble, Unprocessable
from proxy.http.outbound import proxy_url, shown

MIN_API_KEY, MAX_API_KEY = 16, 1024
FOREIGN_KEYS = ("sk-ant-sid", "sk-ant-admin", "sk-proj-", KEY_PREFIX)
"""Keys of a browser's session, of the Admin API, of another vendor, and of clients of this proxy."""


class NewApiKeyAccount(RequestBody):
    name: str
    type: Literal["api_key"]
    api_key: str


class NewAccount(PastedCode):
    """The code of an OAuth login: what is added if `type` is not `api_key`."""

    type: Literal["oauth"] = "oauth"


class AccountChange(RequestBody):
    name: str | None = None
    status: Literal["active", "inactive"] | None = None
    proxy: str | None = None
    """An outbound proxy of its own; null or "": none."""


class Accounts(AdminHandler):
    """`/api/accounts`"""

    def initialize(self, *, who: Admins, pool: Pool, logins: Logins) -> None:
        self.only_for(who)
        self.pool = pool
        self.logins = logins

    def get(self) -> None:
        self.answer({"accounts": [self.pool.view(account) for account in self.pool]})

    async def post(self) -> None:
        kind = self.json().get("type", "oauth")
        if kind not in ("api_key", "oauth"):
            raise Unprocessable("type: api_key or oauth is needed")
        if kind == "api_key":
            new = self.body(NewApiKeyAccount)
            account = await self.pool.add(new.name, _api_key(new.api_key))
        else:
            login = self.body(NewAccount)
            account = await self.logins.finish(
                login.code, state=login.state, name=login.name, org_id=login.org_id
            )
        self.answer({"account": self.pool.view(account)}, 201)


class OneAccount(AdminHandler):
    """`/api/accounts/{id}`"""

    def initialize(self, *, who: Admins, pool: Pool, probe: Probe, refresher: Refresher) -> None:
        self.only_for(who)
        self.pool = pool
        self.probe = probe
        self.refresher = refresher

    def get(self, account_id: str) -> None:
        self.answer({"account": self.pool.view(self.pool[account_id])})

    async def put(self, account_id: str) -> None:
        change = self.body(AccountChange)
        status = Status(change.status) if change.status else None
        account = self.pool[account_id]
        self.check_unedited(account.etag, self.pool.view(account))
        if status is Status.ACTIVE and account.status is Status.INVALID and not await self._works(account):
            raise Unprocessable(
                "the account stays invalid: its credential was not accepted just now; "
                "re-authorise it, or add it anew with a working key"
            )
        proxy = _proxy(change.proxy, account) if "proxy" in change.model_fields_set else None
        await self.pool.update(account_id, name=change.name, status=status, proxy=proxy)
        account = self.pool[account_id]  # NotFound if it was deleted meanwhile
        self.answer({"account": self.pool.view(account)})

    async def _works(self, account: Account) -> bool:
        if account.type == "oauth":
            try:
                account = await self.refresher.refresh(account.id, forced=True)
            except (TokenRefused, TokenTrouble):
                return False
        return await self.probe.works(account) is True

    async def delete(self, account_id: str) -> None:
        account = self.pool[account_id]
        view = self.pool.view(account)
        await self.pool.remove(account_id)
        self.answer({"account": view})


class Refresh(AdminHandler):
    """`POST /api/accounts/{id}/refresh`"""

    def initialize(self, *, who: Admins, pool: Pool, refresher: Refresher) -> None:
        self.only_for(who)
        self.pool = pool
        self.refresher = refresher

    async def post(self, account_id: str) -> None:
        account = self.pool[account_id]
        if account.type != "oauth":
            raise Unprocessable(f"'{account.name}' is an API-key account: it has no token to refresh")
        try:
            account = await self.refresher.refresh(account_id, forced=True)
        except TokenRefused as refusal:
            raise Unprocessable(f"{refusal}: re-authorise '{account.name}'") from refusal
        except TokenTrouble as trouble:
            raise BadGateway(str(trouble), retry_after_s=trouble.retry_after_s) from trouble
        self.answer({"account": self.pool.view(account)})


def _proxy(url: str | None, account: Account) -> str:
    """The proxy's URL, "" for none. Raises Unprocessable."""
    if not url:
        return ""
    if account.proxy is not None and url == shown(account.proxy):  # as it was shown, so as it is
        return account.proxy
    try:
        return proxy_url(url)
    except ValueError as error:
        raise Unprocessable(f"proxy: {error}") from None


def _api_key(key: str) -> ApiKey:
    key = key.strip()
    if key.startswith(("sk-ant-oat", "sk-ant-ort")):
        raise Unprocessable("api_key: this is a token of an OAuth login, not a Console API key (sk-ant-api…)")
    if key.startswith(FOREIGN_KEYS):
        raise Unprocessable("api_key: this is a key of another kind, not a Console API key (sk-ant-api…)")
    if not MIN_API_KEY <= len(key) <= MAX_API_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise Unprocessable(
            f"api_key: a Console API key is {MIN_API_KEY} to {MAX_API_KEY} ASCII characters without spaces "
            "(sk-ant-api…)"
        )
    return ApiKey(key)
