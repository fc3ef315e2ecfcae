"""The table of accounts: the only place where account state changes, with the reason in the log.

Longer than other files, since all who decide about accounts meet here, and nobody changes one elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from proxy.accounts import quota
from proxy.accounts.account import Account, ApiKey, OAuthTokens, Status
from proxy.accounts.balancer import RoundRobin
from proxy.accounts.cooldown import Cooldowns
from proxy.accounts.quota import Quota
from proxy.clock import Clock, rfc3339
from proxy.errors import Conflict, NotFound, RateLimited, RequestError, StorageError, Unavailable
from proxy.feed import Changed, Feed
from proxy.http.headers import AnswerHeaders
from proxy.storage.names import MAX_NAME, clean_name
from proxy.storage.protocols import Record, Storage
from proxy.storage.table import Table
from proxy.storage.unsaved import Unsaved

LONG_WAIT_S = 60.0
"""Clients obey any `retry-after`: above this they are told not to wait."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Use:
    """What one account was used for, since it was added; `in_flight` since the start."""

    requests: int = 0
    errors: int = 0
    rate_limits: int = 0
    last_used_at: float | None = None
    in_flight: int = 0


STORED_USE = ("requests", "errors", "rate_limits", "last_used_at")


class Pool:
    """Chooses accounts and records what became of them.

    Only admin verbs await, and only after the change is made; so each decision runs whole on the event loop.
    """

    def __init__(
        self,
        table: Table[Account],
        counters: dict[str, Record],
        *,
        clock: Clock,
        most_remaining: bool = False,
        feed: Feed,
        new_id: Callable[[str], str],
        idle_threshold_s: float,
    ) -> None:
        self._table = table
        self._idle_threshold_s = idle_threshold_s
        self._clock = clock
        self._balancer = RoundRobin(self.room if most_remaining else None)
        self._feed = feed
        self._quota: dict[str, Quota] = {}
        self._new_id = new_id
        self._use = {id: _read_use(counters.get(id, {})) for id in table}
        self._unsaved_use = Unsaved("counters", self._use_record, dict, counters)
        self._limits = Cooldowns(clock)
        for account in table.values():
            self._limits.changed(account)

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

    @property
    def writable(self) -> bool:
        """Whether what is changed now is likely to be on disk soon."""
        return self._table.writable

    @property
    def unsaved(self) -> dict[str, str]:
        """Ids whose last change is not on disk yet, with the reason."""
        return self._table.unsaved

    def count(self) -> dict[Status, int]:
        """How many accounts are in each state, as they would be chosen now."""
        now = self._clock.now()
        counts = dict.fromkeys(Status, 0)
        for account in map(self._limits.seen, self):
            counts[Status.ACTIVE if account.limit_passed(now) else account.status] += 1
        return counts

    def view(self, account: Account) -> dict[str, Any]:
        """An account and its counters, as an admin sees it."""
        use = self._use[account.id]
        return account.view() | {
            "requests": use.requests,
            "errors": use.errors,
            "rate_limits": use.rate_limits,
            "in_flight": use.in_flight,
            "last_used_at": None if use.last_used_at is None else rfc3339(use.last_used_at),
            "quota": quota.view(self._quota.get(account.id, {}), self._clock.now()),
            "idle_since": None if (idle := self._idle_since(account)) is None else rfc3339(idle),
        }

    # the relay's verbs

    def choose(
        self, model: str | None, *, refused: Collection[str] = (), later: Collection[str] = ()
    ) -> Account | None:
        """The account to ask next, never one in `refused`, one in `later` only where no other is usable."""
        now = self._clock.now()
        limits = self._limits
        candidates = (
            limits.seen(a)
            for a in self
            if a.id not in refused and not limits.is_tested(a.id) and limits.model_until(a.id, model) is None
        )
        chosen = self._balancer.choose(candidates, now, later=later)
        self.recover()
        if chosen is None:
            return None
        limits.chosen(chosen.id)
        return self[chosen.id]

    def has_usable(self, model: str | None) -> bool:
        """Whether any account could be asked now."""
        now = self._clock.now()
        return any(
            (a.status is Status.ACTIVE or a.limit_passed(now))
            and self._limits.model_until(a.id, model) is None
            for a in map(self._limits.seen, self)
        )

    async def tested(self) -> bool:
        """Wait for an account that one request tests after a long limit; False where there is none."""
        return await self._limits.tested()

    def answered(self, account_id: str) -> None:
        """The account gave an answer that is no limit."""
        self._limits.answered(account_id)

    def has_model_limits(self) -> bool:
        """Whether a choice depends on the model asked for."""
        return self._limits.any_model

    @contextlib.contextmanager
    def using(self, account: Account) -> Iterator[None]:
        """Count one request to the account while it runs."""
        use = self._use[account.id]
        use.requests += 1
        use.in_flight += 1
        use.last_used_at = self._clock.now()
        self._used(account.id)
        try:
            yield
        finally:
            use.in_flight -= 1
            self._limits.answered(account.id)
            self.touch(account.id)

    def saw(self, account_id: str, headers: AnswerHeaders) -> None:
        """Learn from an answer's headers what the account has left."""
        if account_id in self._table:
            self._quota[account_id] = quota.read_quota(headers, self._quota.get(account_id, {}))
            self.touch(account_id)

    def room(self, account_id: str) -> float:
        """The fraction of its limits that the account has left; 1 where nothing is known."""
        return quota.room(self._quota.get(account_id, {}), self._clock.now())

    def failed(self, account_id: str) -> None:
        """Count one answer of the account that was no success."""
        if account_id in self._use:
            self._use[account_id].errors += 1
            self._used(account_id)

    def limit(self, account_id: str, until: float, reason: str) -> None:
        """Bench the account; an existing later time stays."""
        if account_id in self._use:
            self._use[account_id].rate_limits += 1
            self._used(account_id)
            now = self._clock.now()
            self.change(account_id, lambda a: a.limited(until, reason, now))

    def limit_model(self, account_id: str, model: str, until: float, reason: str) -> None:
        """Pass the account over for one model. Kept in memory: after a restart one answer tells it again."""
        self._limits.limit_model(account_id, model, until)
        log.info("account passed over for a model account=%s model=%s reason=%s", account_id, model, reason)

    def invalidate(self, account_id: str, reason: str) -> None:
        """The account's credential is dead."""
        if account_id in self._use:
            self.change(account_id, lambda a: a.invalidated(reason, self._clock.now()))

    def recover(self) -> None:
        """Bring back every account whose limit has passed."""
        now = self._clock.now()
        for account in self:
            if self._limits.seen(account).limit_passed(now):
                self._limits.recovered(account)
                self.change(account.id, lambda a: self._limits.seen(a).recovered(now))

    def deactivate_idle(self) -> None:
        """Take out every active account that nobody has used for the threshold."""
        now = self._clock.now()
        for account in self:
            since = self._idle_since(account)
            if since is not None and account.status is Status.ACTIVE:
                reason = f"idle: no request since {rfc3339(since)}"
                self.change(account.id, partial(Account.deactivated, reason=reason, now=now))

    def _idle_since(self, account: Account) -> float | None:
        since = max(self._use[account.id].last_used_at or 0.0, account.active_since or account.created_at)
        return since if self._clock.now() - since >= self._idle_threshold_s else None

    def recovers_in(self, model: str | None) -> float | None:
        """Seconds until the first benched account comes back; None where none is benched."""
        now = self._clock.now()
        waits = []
        for account in map(self._limits.seen, self):
            limited = account.status is Status.RATE_LIMITED
            model_until = self._limits.model_until(account.id, model)
            if limited or (account.status is Status.ACTIVE and model_until is not None):
                waits.append(max(account.rate_limited_until or now, model_until or now) - now)
        return max(0.0, min(waits)) if waits else None

    def exhausted(self, model: str | None) -> RequestError:
        """What a client is told when no account can be asked."""
        if not len(self):
            return Unavailable("no accounts available", should_retry=False)
        wait_s = self.recovers_in(model)
        if wait_s is None:
            return Unavailable("all accounts invalid or inactive", should_retry=False)
        return RateLimited(
            "all accounts rate limited",
            should_retry=False if wait_s > LONG_WAIT_S else None,
            retry_after_s=max(1, math.ceil(wait_s)),
        )

    # the admin's verbs

    async def add(
        self,
        name: str,
        credential: ApiKey | OAuthTokens,
        *,
        organization_uuid: str | None = None,
        organization_name: str | None = None,
    ) -> Account:
        """Add an account; on disk when this returns. Raises Unprocessable, Conflict, StorageError."""
        now = self._clock.now()
        account = Account(
            id=self._new_id("acc"),
            name=self.free_name(name),
            credential=credential,
            created_at=now,
            updated_at=now,
            organization_uuid=organization_uuid,
            organization_name=organization_name,
        )
        for other in self:
            if other.credential == credential:
                raise Conflict(f"this key is already the account {other.name!r}")
        self._use[account.id] = Use()
        saved = self._table.commit(account.id, account)
        try:
            await saved
        except StorageError:
            # The admin is told that it failed, so it must not work on, nor appear again after a restart.
            with contextlib.suppress(StorageError):
                await self._forget(account.id)
            raise
        self.touch(account.id)
        self._feed.publish(Changed(None, account))
        log.info("account added account=%s name=%s type=%s", account.id, account.name, account.type)
        return account

    async def update(
        self, account_id: str, *, name: str | None = None, status: Status | None = None
    ) -> Account:
        """Rename an account or set it `active` or `inactive`; on disk when this returns.

        An INVALID account becomes active only by whoever has seen its credential work.
        """
        now = self._clock.now()
        changed = self[account_id]
        if name is not None and name != changed.name:
            changed = changed.renamed(self.free_name(name, but=account_id), now)
        if status is Status.INACTIVE:
            changed = changed.deactivated("set inactive by an admin", now)
        elif status is Status.ACTIVE:
            changed = changed.activated(now)
        await self.change(account_id, lambda _: changed)
        return changed

    async def remove(self, account_id: str) -> None:
        """Delete an account and its credential; gone from disk when this returns."""
        account = self[account_id]
        forgotten = self._forget(account_id)
        self.touch(account_id)
        self._feed.publish(Changed(account, None))
        await forgotten
        log.info("account deleted account=%s name=%s", account.id, account.name)

    async def save_counters(self, storage: Storage) -> None:
        """Write the counters that have changed. Raises StorageError."""
        await self._unsaved_use.save(storage)

    async def save_again(self) -> None:
        """Write once more what could not be written."""
        await self._table.save_again()

    def change(self, account_id: str, step: Callable[[Account], Account]) -> asyncio.Future[None]:
        """The one door for change: applies `step` to the account as it is now.

        The change works at once; awaiting what is returned waits until it is on disk. Raises StorageError there.
        """
        old = self[account_id]
        new = step(old)
        if new is old:
            nothing = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        self._log_change(old, new)
        self._limits.changed(new)
        saved = self._table.commit(account_id, new)
        self.touch(account_id)
        self._feed.publish(Changed(old, new))
        return saved

    def touch(self, account_id: str) -> None:
        """What is shown of the account may be another by now."""
        self._feed.touch("accounts", account_id)

    def publish(self, account_id: str) -> Account:
        """Put received tokens to use, which are on disk already, or which nothing else can replace."""
        account = self[account_id].refresh_saved()
        self._table.publish(account_id, account)
        self.touch(account_id)
        return account

    async def stored_tokens(self, account_id: str) -> OAuthTokens | None:
        """The account's tokens as they are in storage, where another process may have renewed them."""
        record = await self._table.stored(account_id)
        credential = None if record is None else Account.from_record(record).credential
        return credential if isinstance(credential, OAuthTokens) else None

    def name_like(self, wanted: str) -> str:
        """A free name made of `wanted`: itself, or with a number."""
        taken = {account.name.casefold() for account in self}
        plain = "".join(c for c in wanted if c.isprintable()).strip()[: MAX_NAME - 4] or "account"
        names = (plain if n == 1 else f"{plain} {n}" for n in itertools.count(1))
        return next(name for name in names if name.casefold() not in taken)

    def _used(self, account_id: str) -> None:
        self._unsaved_use.add(account_id)
        self.touch(account_id)

    def _use_record(self, account_id: str) -> Record | None:
        use = self._use.get(account_id)
        return None if use is None else {name: getattr(use, name) for name in STORED_USE}

    def _forget(self, account_id: str) -> asyncio.Future[None]:
        self._unsaved_use.remove(account_id)
        self._balancer.forget(account_id)
        self._use.pop(account_id, None)
        self._limits.forget(account_id)
        self._quota.pop(account_id, None)
        return self._table.forget(account_id)

    def _log_change(self, old: Account, new: Account) -> None:
        if old.name != new.name:
            log.info("account renamed account=%s name=%s was=%s", new.id, new.name, old.name)
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

    def free_name(self, name: str, *, but: str | None = None) -> str:
        """The name, cleaned. Raises Unprocessable, or Conflict where another account has it."""
        name = clean_name(name)
        for other in self:
            if other.id != but and other.name.casefold() == name.casefold():
                raise Conflict(f"An account called '{name}' exists. Choose another name.", type="name_taken")
        return name


def _read_use(record: Record) -> Use:
    use = Use()
    for name in STORED_USE:
        value = record.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            setattr(use, name, value)
    return use
