"""The table of accounts: the only place where account state changes, with the reason in the log."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from proxy.accounts.account import Account, ApiKey, OAuthTokens, Status, share_limits
from proxy.accounts.names import free_name
from proxy.accounts.preferences import Preferences
from proxy.clock import Clock, rfc3339
from proxy.errors import Conflict, NotFound
from proxy.feed import Changed, Feed
from proxy.http.outbound import shown
from proxy.storage.table import Table

log = logging.getLogger(__name__)


class AccountTable(ABC):
    """The accounts by id. A change takes effect in memory at once; to await it is to wait until it is on disk.

    `add`, `update` and `remove` make their change in memory before they await.
    """

    def __init__(
        self, table: Table[Account], *, clock: Clock, feed: Feed, new_id: Callable[[str], str]
    ) -> None:
        self._table = table
        self._table.on_change(self._changed_elsewhere)
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._clock = clock
        self._feed = feed
        self._new_id = new_id

    def __getitem__(self, account_id: str) -> Account:
        """Raises NotFound."""
        try:
            return self._table[account_id]
        except KeyError:
            raise NotFound(f"no account {account_id[:64]!r}") from None

    def __iter__(self) -> Iterator[Account]:
        return iter(self._table.values())

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, account_id: object) -> bool:
        return account_id in self._table

    def is_current(self, account: Account) -> bool:
        """Whether the account is there with the credential that `account` has, and no newer one has been received."""
        found = self._table.get(account.id)
        return found is not None and found.received is None and found.credential == account.credential

    def keeps_key(self, account: Account) -> bool:
        """Whether the account is there and has got no other key than `account` has: an answer to that is about it."""
        found = self._table.get(account.id)
        return found is not None and share_limits(account, found)

    @property
    def writable(self) -> bool:
        """Whether the data folder takes writes: nothing is unsaved, and nothing waits in the journal."""
        return self._table.writable

    @property
    def unsaved(self) -> dict[str, str]:
        """Ids whose last change is not on disk yet, with the reason."""
        return self._table.unsaved

    async def add(
        self,
        name: str,
        credential: ApiKey | OAuthTokens,
        *,
        organization_uuid: str | None = None,
        organization_name: str | None = None,
        unchecked: bool = False,
    ) -> Account:
        """Add an account; on disk when this returns. Raises Unprocessable, Conflict, StorageError."""
        self.check_new(name, credential)
        now = self._clock.now()
        account = Account(
            id=self._new_id("acc"),
            name=free_name(self, name),
            credential=credential,
            created_at=now,
            updated_at=now,
            organization_uuid=organization_uuid,
            organization_name=organization_name,
            unchecked=unchecked,
        )
        await self.insert(account)
        return account

    async def insert(self, account: Account) -> None:
        """Add an account as it is; on disk when this returns. Raises Unprocessable, Conflict, StorageError."""
        self.check_new(account.name, account.credential)
        if account.id in self._table:
            raise Conflict(f"there is an account {account.id!r}")
        self._follow(None, account)
        await self._table.add(
            account.id, account, undo=lambda: self._follow(self._table.get(account.id), None)
        )
        self.touch(account.id)
        self._feed.publish(Changed(None, account))
        log.info("account added account=%s name=%s type=%s", account.id, account.name, account.type)

    def check_new(self, name: str, credential: ApiKey | OAuthTokens) -> None:
        """Raise Unprocessable or Conflict if an account of that name or credential could not be added."""
        free_name(self, name)
        self.check_credential(credential)

    def check_credential(self, credential: ApiKey | OAuthTokens, *, but: str | None = None) -> None:
        """Raise Conflict if an account other than `but` has the credential."""
        for other in self:
            if other.id != but and other.credential == credential:
                raise Conflict(f"this key is already the account {other.name!r}")

    async def update(
        self,
        account_id: str,
        *,
        name: str | None = None,
        status: Status | None = None,
        key: ApiKey | None = None,
        proxy: str | None = None,
        preferences: Preferences | None = None,
    ) -> Account:
        """Change what is given of an account, `proxy` "" being none, and set it `active` or `inactive`; then on disk.

        The caller must have checked that a new key works; and to activate an account that `needs_proof`, that its
        credential does. Raises Unprocessable, Conflict, NotFound, StorageError.
        """
        now = self._clock.now()
        changed = self[account_id]
        if name is not None and name != changed.name:
            changed = changed.renamed(free_name(self, name, but=account_id), now)
        if key is not None:
            self.check_credential(key, but=account_id)
            changed = changed.rekeyed(key, now)
        if proxy is not None:
            changed = changed.proxied(proxy or None, now)
        if preferences is not None:
            changed = changed.preferring(preferences, now)
        if status is Status.INACTIVE:
            changed = changed.deactivated("set inactive by an admin", now)
        elif status is Status.ACTIVE:
            changed = changed.activated(now)
        await self.change(account_id, lambda _: changed)
        return changed

    async def remove(self, account_id: str) -> None:
        """Delete an account and its credential; gone from disk when this returns."""
        account = self[account_id]
        forgotten = self._table.forget(account_id)
        self._follow(account, None)
        self.touch(account_id)
        self._feed.publish(Changed(account, None))
        await forgotten
        log.info("account deleted account=%s name=%s", account.id, account.name)

    async def left(self) -> list[str]:
        """What is not on disk yet, for people; of tokens it says what their loss means."""
        left = await self._table.left()
        for account in (self[id] for id in self._table.unsaved if id in self):
            new = account.received or account.credential
            if isinstance(new, OAuthTokens) and new != await self.stored_tokens(account.id):
                left.append(f"the new tokens of account {account.name!r} ({account.id}): re-authorise it")
        return left

    async def save_again(self) -> None:
        """Retry the writes that have failed."""
        await self._table.save_again()

    def change(self, account_id: str, step: Callable[[Account], Account]) -> asyncio.Future[None]:
        """Apply `step` to the account as it is now. Every change but `publish` goes through here.

        The change takes effect at once. The future is done when it is on disk, and raises StorageError if that fails.
        """
        old = self[account_id]
        new = step(old)
        if new is old:
            nothing = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        _log_change(old, new)
        self._follow(old, new)
        saved = self._table.commit(account_id, new)
        self.touch(account_id)
        self._feed.publish(Changed(old, new))
        return saved

    def touch(self, account_id: str) -> None:
        """Mark the account as possibly changed; its view is re-read when a dashboard asks."""
        self._feed.touch("accounts", account_id)

    def publish(self, account_id: str) -> Account:
        """Start to use the received tokens: they are on disk, or the old token has expired or is refused."""
        account = self[account_id].refresh_saved()
        self._table.publish(account_id, account)
        self.touch(account_id)
        return account

    def fence(self, account_id: str, fence: int | None) -> None:
        """Write the account under a lease from now on, or under none."""
        self._table.fence(account_id, fence)

    async def reread(self, account_id: str) -> None:
        """Take what another instance has changed of the account. Raises StorageError."""
        await self._table.reread(account_id)

    def changes_elsewhere(self, account_id: str) -> asyncio.Future[None]:
        """Done when another instance has changed the account."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = [each for each in self._waiting.get(account_id, ()) if not each.done()]
        self._waiting[account_id] = [*waiting, future]
        return future

    def _changed_elsewhere(self, old: Account | None, new: Account | None) -> None:
        account = new or old
        assert account is not None
        self._follow(old, new)
        self.touch(account.id)
        self._feed.publish(Changed(old, new, elsewhere=True))
        for future in self._waiting.pop(account.id, ()):
            if not future.done():
                future.set_result(None)

    async def stored_tokens(self, account_id: str) -> OAuthTokens | None:
        """The account's tokens as stored, which may differ from those in memory. None if there are none."""
        record = await self._table.stored(account_id)
        credential = None if record is None else Account.from_record(record).credential
        return credential if isinstance(credential, OAuthTokens) else None

    @abstractmethod
    def _follow(self, old: Account | None, new: Account | None) -> None:
        """Update what depends on the accounts, in the same step that adds, changes or removes one.

        `old` is None if it is added, `new` is None if it is removed.
        """


def _log_change(old: Account, new: Account) -> None:
    if old.name != new.name:
        log.info("account renamed account=%s name=%s was=%s", new.id, new.name, old.name)
    if isinstance(new.credential, ApiKey) and new.credential != old.credential:
        log.info("account has a new key account=%s name=%s", new.id, new.name)
    if old.proxy != new.proxy:
        way = "-" if new.proxy is None else shown(new.proxy)
        log.info("account proxy account=%s name=%s proxy=%s", new.id, new.name, way)
    if told := new.preferences.told(old.preferences):
        log.info("account changed account=%s name=%s what=%s", new.id, new.name, told)
    if (old.status, old.rate_limited_until) != (new.status, new.rate_limited_until):
        until = "" if new.rate_limited_until is None else f" until={rfc3339(new.rate_limited_until)}"
        log.warning(
            "account state account=%s name=%s from=%s to=%s%s reason=%s",
            new.id,
            new.name,
            old.status.value,
            new.status.value,
            until,
            new.status_reason or "-",
        )
