"""Which accounts of a file are taken into the pool, and which are there already: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from proxy.accounts.account import Account, ApiKey, OAuthTokens, Status, read_account
from proxy.accounts.names import unused_name
from proxy.errors import Unprocessable
from proxy.storage.layout import checked
from proxy.storage.protocols import Record

MOST_ACCOUNTS: Final = 2000

ROTATES: Final = (
    "A refresh token works once: from now on let each OAuth login be used in one place only, and delete it in the "
    "other, or the one that comes second is logged out."
)

Mark = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Arrival:
    """An account of a file as it would be here; `there` is the one that is it already, None if there is none."""

    account: Account
    there: Account | None

    def view(self) -> dict[str, str | None]:
        """What an admin may see."""
        account = self.there or self.account
        outcome = "taken" if self.there is None else "there"
        return {"id": account.id, "name": account.name, "type": account.type, "outcome": outcome}


def read_accounts(records: Sequence[Record]) -> list[Account]:
    """The accounts in the records. Raises Unprocessable, which names the account by number and the field."""
    if len(records) > MOST_ACCOUNTS:
        raise Unprocessable(f"file: no more than {MOST_ACCOUNTS} accounts can be taken at once")
    accounts = []
    for number, record in enumerate(records, 1):
        try:
            id = record["id"] if isinstance(record, dict) and isinstance(record.get("id"), str) else ""
            accounts.append(read_account(checked(id), record))
        except ValueError as error:
            raise Unprocessable(f"file: account number {number} cannot be read: {error}") from None
    return accounts


def arrivals(pool: Iterable[Account], coming: Iterable[Account], now: float) -> list[Arrival]:
    """What becomes of each account that comes. One that is there already stays as it is: its tokens may be newer."""
    known: dict[Mark, Account] = {}
    names: set[str] = set()
    found = []

    def learn(account: Account) -> None:
        names.add(account.name.casefold())
        known.update(dict.fromkeys(_marks(account), account))

    for account in pool:
        learn(account)
    for account in coming:
        there = next((known[mark] for mark in _marks(account) if mark in known), None)
        new = _as_new(account, unused_name(names, account.name), now)
        found.append(Arrival(new, there))
        if there is None:
            learn(new)
    return found


def _marks(account: Account) -> Iterator[Mark]:
    """What no two accounts have in common."""
    yield "id", account.id
    match account.credential:
        case ApiKey(key):
            yield "api_key", key
        case OAuthTokens(access_token, refresh_token):
            yield "token", access_token
            if refresh_token is not None:
                yield "token", refresh_token
            if account.organization_uuid is not None:
                yield "organization", account.organization_uuid


def _as_new(account: Account, name: str, now: float) -> Account:
    """With a name that is free, and no refresh under way; idle detection counts from now."""
    active_since = now if account.status is Status.ACTIVE else account.active_since
    return replace(account, name=name, refresh_began_at=None, active_since=active_since, updated_at=now)
