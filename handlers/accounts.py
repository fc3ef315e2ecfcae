"""The admin's view of accounts: list, add, rename, set active or inactive, delete."""

from __future__ import annotations

from typing import Any, Literal

from handlers.base import AdminHandler, RequestBody
from proxy.accounts import ApiKey, Status
from proxy.errors import Unprocessable
from proxy.pool import Pool
from proxy.probe import Probe


class NewAccount(RequestBody):
    name: str
    type: Literal["api_key"]
    api_key: str


class AccountChange(RequestBody):
    name: str | None = None
    status: Literal["active", "inactive"] | None = None


class Accounts(AdminHandler):
    """`/api/accounts`"""

    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.pool: Pool = parts["pool"]

    def get(self) -> None:
        self.answer({"accounts": [self.pool.view(account) for account in self.pool]})

    async def post(self) -> None:
        new = self.body(NewAccount)
        account = await self.pool.add(new.name, _api_key(new.api_key))
        self.answer({"account": self.pool.view(account)}, 201)


class OneAccount(AdminHandler):
    """`/api/accounts/{id}`"""

    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.pool: Pool = parts["pool"]
        self.probe: Probe = parts["probe"]

    def get(self, account_id: str) -> None:
        self.answer({"account": self.pool.view(self.pool[account_id])})

    async def put(self, account_id: str) -> None:
        change = self.body(AccountChange)
        status = Status(change.status) if change.status else None
        account = self.pool[account_id]
        if (
            status is Status.ACTIVE
            and account.status is Status.INVALID
            and not await self.probe.works(account)
        ):
            raise Unprocessable(
                "the account stays invalid: the Claude API did not accept its credential just now; "
                "add it anew with a working one"
            )
        account = await self.pool.update(account_id, name=change.name, status=status)
        self.answer({"account": self.pool.view(account)})

    async def delete(self, account_id: str) -> None:
        account = self.pool[account_id]
        view = self.pool.view(account)
        await self.pool.remove(account_id)
        self.answer({"account": view})


def _api_key(key: str) -> ApiKey:
    key = key.strip()
    if key.startswith(("sk-ant-oat", "sk-ant-ort")):
        raise Unprocessable("api_key: this is a token of an OAuth login, not a Console API key (sk-ant-api…)")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise Unprocessable("api_key: a Console API key is ASCII characters without spaces (sk-ant-api…)")
    return ApiKey(key)
