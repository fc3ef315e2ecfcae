"""The admin's view of accounts: list, add, test, rename, give a new key, set active or inactive, delete."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

from handlers.base import AdminHandler, Admins, RequestBody
from handlers.oauth import PastedCode
from proxy.accounts.account import Account, Status
from proxy.accounts.credentials import Credentials
from proxy.accounts.logins import Logins
from proxy.accounts.pool import Pool
from proxy.accounts.preferences import Preferences
from proxy.accounts.quota_history import POINTS, STEPS_S, QuotaHistory, Range
from proxy.accounts.refresh import Refresher
from proxy.clock import rfc3339
from proxy.dashboard.figures import Figures
from proxy.errors import BadGateway, TokenRefused, TokenTrouble, Unprocessable
from proxy.http.outbound import proxy_url, shown
from proxy.storage.names import clean_tags


class NewApiKeyAccount(RequestBody):
    name: str
    type: Literal["api_key"]
    api_key: str
    verify: bool = True


class NewAccount(PastedCode):
    """The code of an OAuth login: what is added if `type` is not `api_key`."""

    type: Literal["oauth"] = "oauth"


class AccountChange(RequestBody):
    """A field that is null counts as not given, except `proxy`."""

    name: str | None = None
    status: Literal["active", "inactive"] | None = None
    api_key: str | None = None
    proxy: str | None = None
    """An outbound proxy of its own; null or "": none."""

    priority: int | None = None
    weight: float | None = None
    reserve: float | None = None
    tags: list[str] | None = None
    note: str | None = None

    def preferred(self, now: Preferences) -> Preferences:
        """The preferences `now` with what was given of them. Raises Unprocessable."""
        given: dict[str, Any] = {"priority": self.priority, "weight": self.weight, "reserve": self.reserve}
        given["tags"] = None if self.tags is None else clean_tags(self.tags)
        given["note"] = None if self.note is None else self.note.strip()
        return replace(now, **{name: value for name, value in given.items() if value is not None})


class Accounts(AdminHandler):
    """`/api/accounts`"""

    def initialize(
        self, *, who: Admins, pool: Pool, credentials: Credentials, logins: Logins, figures: Figures
    ) -> None:
        self.only_for(who)
        self.pool = pool
        self.credentials = credentials
        self.logins = logins
        self.figures = figures

    def get(self) -> None:
        self.answer({"accounts": [self.figures.account(account) for account in self.pool]})

    async def post(self) -> None:
        given = self.json()
        # A key is only taken as one if the body says so; a login's code may come without a type.
        kind = given.get("type", None if "api_key" in given else "oauth")
        if kind not in ("api_key", "oauth"):
            raise Unprocessable("type: api_key or oauth is needed")
        if kind == "api_key":
            new = self.body(NewApiKeyAccount)
            account = await self.credentials.add_key(new.name, new.api_key, verify=new.verify)
        else:
            login = self.body(NewAccount)
            account = await self.logins.finish(
                login.code, state=login.state, name=login.name, org_id=login.org_id
            )
        await self.answer_changed({"account": self.figures.account(account)}, 201)


class OneAccount(AdminHandler):
    """`/api/accounts/{id}`"""

    def initialize(self, *, who: Admins, pool: Pool, credentials: Credentials, figures: Figures) -> None:
        self.only_for(who)
        self.pool = pool
        self.credentials = credentials
        self.figures = figures

    def get(self, account_id: str) -> None:
        self.answer({"account": self.figures.account(self.pool[account_id])})

    async def put(self, account_id: str) -> None:
        change = self.body(AccountChange)
        status = Status(change.status) if change.status else None
        account = self.pool[account_id]
        self.check_unedited(account.etag, self.figures.account(account))
        change.preferred(account.preferences)  # refused before the upstream is asked about a key
        key, revives = None, status is Status.ACTIVE and account.needs_proof
        if change.api_key is not None:
            key = await self.credentials.new_key(account, change.api_key)
        elif revives and not await self.credentials.works(account):
            raise Unprocessable(
                f"the account stays {account.status}: its credential was not accepted just now; "
                "re-authorise it, or give it a key that works"
            )
        proxy = _proxy(change.proxy, account) if "proxy" in change.model_fields_set else None
        account = self.pool[account_id]  # another admin may have edited it while the upstream was asked
        self.check_unedited(account.etag, self.figures.account(account))
        preferences = change.preferred(account.preferences)
        await self.pool.update(
            account_id, name=change.name, status=status, key=key, proxy=proxy, preferences=preferences
        )
        account = self.pool[account_id]  # NotFound if it was deleted meanwhile
        await self.answer_changed({"account": self.figures.account(account)})

    async def delete(self, account_id: str) -> None:
        account = self.pool[account_id]
        view = self.figures.account(account)
        await self.pool.remove(account_id)
        await self.answer_changed({"account": view})


class Test(AdminHandler):
    """`POST /api/accounts/{id}/test`"""

    def initialize(self, *, who: Admins, pool: Pool, credentials: Credentials) -> None:
        self.only_for(who)
        self.pool = pool
        self.credentials = credentials

    async def post(self, account_id: str) -> None:
        found = await self.credentials.test(self.pool[account_id])
        await self.answer_changed(
            {
                "ok": found.ok,
                "status": found.status,
                "latency_ms": found.latency_ms,
                "message": found.message,
            }
        )


class QuotaPoints(AdminHandler):
    """`GET /api/accounts/{id}/quota?range=24h|7d`"""

    def initialize(self, *, who: Admins, pool: Pool, quota_history: QuotaHistory) -> None:
        self.only_for(who)
        self.pool = pool
        self.quota_history = quota_history

    def get(self, account_id: str) -> None:
        account = self.pool[account_id]
        asked: Range = self.query.one_of("range", get_args(Range)) or "24h"
        points, step_s = self.quota_history.points(account.id, asked), STEPS_S[asked]
        newest = self.clock.now() // step_s * step_s
        self.answer(
            {
                "range": asked,
                "from": rfc3339(newest - (POINTS[asked] - 1) * step_s),
                "step_seconds": step_s,
                "windows": [{"window": name, "used": used} for name, used in points.items()],
            }
        )


class Refresh(AdminHandler):
    """`POST /api/accounts/{id}/refresh`"""

    def initialize(self, *, who: Admins, pool: Pool, refresher: Refresher, figures: Figures) -> None:
        self.only_for(who)
        self.pool = pool
        self.refresher = refresher
        self.figures = figures

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
        await self.answer_changed({"account": self.figures.account(account)})


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
