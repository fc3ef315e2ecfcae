"""The table of accounts: the only place where account state changes, with the reason in the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Any

from proxy.accounts import quota
from proxy.accounts.account import Account, ApiKey, OAuthTokens, Status
from proxy.accounts.balancer import Balancer
from proxy.accounts.cooldown import Cooldowns
from proxy.accounts.names import free_name
from proxy.accounts.quota import Quota
from proxy.accounts.use import Uses
from proxy.clock import Clock, rfc3339
from proxy.errors import Conflict, NotFound, RateLimited, RequestError, Unavailable
from proxy.feed import Changed, Feed
from proxy.storage.protocols import Record
from proxy.storage.table import Table

LONG_WAIT_S = 60.0
"""Clients obey any `retry-after`: above this they are told not to wait."""

log = logging.getLogger(__name__)


class Pool:
    """Chooses accounts and records what became of them.

    Only admin verbs await, and only after the change is made; so each decision runs whole on the event loop.
    A question changes nothing: what time changes, `tick` changes, and `take` for the one account that is asked.
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
        self._feed = feed
        self._new_id = new_id
        self._by_room = most_remaining
        self._quota: dict[str, Quota] = {}
        self._use = Uses(table, counters)
        self._counts = dict.fromkeys(Status, 0)
        self._balancer = Balancer(table)
        self._cooldowns = Cooldowns(clock)
        for account in table.values():
            self._file(None, account)

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
        """How many accounts are in each state; one whose limit has passed counts as active."""
        passed = sum(1 for _ in self._cooldowns.passed())
        counts = self._counts.copy()
        counts[Status.ACTIVE] += passed
        counts[Status.RATE_LIMITED] -= passed
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
        """The account to ask next, never one in `refused`, and one in `later` only if no other is usable.

        Whoever asks it calls `take` in the same synchronous step.
        """
        is_away = self._cooldowns.is_away
        chosen = self._first(lambda id: id in refused or id in later or is_away(id, model))
        if chosen is None and later:
            chosen = self._first(lambda id: id in refused or id not in later or is_away(id, model))
        return None if chosen is None else self._table[chosen]

    def _first(self, away: Callable[[str], bool]) -> str | None:
        """The first active account in turn; otherwise the first one whose limit has passed since the last tick."""
        active = self._balancer.first_active(self._clock.now(), away=away)
        if active is not None:
            return active
        return self._balancer.first_of(id for id in self._cooldowns.passed() if not away(id))

    def take(self, account_id: str) -> Account:
        """Mark the turn of an account that `choose` named; it is active then, and on probation after a long limit."""
        if self._cooldowns.has_passed(account_id):
            self._recover(account_id)
        self._balancer.took(account_id)
        self._cooldowns.probations.begin(account_id)
        return self[account_id]

    def has_usable(self, model: str | None) -> bool:
        """Whether any account could be asked now; one on probation counts."""
        resting = self._cooldowns.waits_s(model)
        return any(
            a.status in (Status.ACTIVE, Status.RATE_LIMITED) and resting.get(a.id, 0.0) <= 0 for a in self
        )

    async def probation_ended(self) -> bool:
        """Wait for an account on probation to answer. False if none is on probation."""
        return await self._cooldowns.probations.wait()

    def answered(self, account_id: str) -> None:
        """The account gave an answer that is no limit."""
        self._cooldowns.probations.answered(account_id)

    def has_model_limits(self) -> bool:
        """Whether a choice depends on the model asked for."""
        return self._cooldowns.any_model

    @contextlib.contextmanager
    def using(self, account: Account) -> Iterator[None]:
        """Count one request to the account while it runs."""
        use = self._use.begin(account.id, self._clock.now())
        self.touch(account.id)
        try:
            yield
        finally:
            use.in_flight -= 1
            self.answered(account.id)
            self.touch(account.id)

    def saw(self, account_id: str, headers: Iterable[tuple[str, str]]) -> None:
        """Learn from an answer's headers what the account has left."""
        if account_id in self._table:
            self._quota[account_id] = quota.read_quota(headers, self._quota.get(account_id, {}))
            if self._by_room:
                self._balancer.set_room(account_id, self.room(account_id))
            self.touch(account_id)

    def room(self, account_id: str) -> float:
        """The fraction of its limits that the account has left; 1 where nothing is known."""
        return quota.room(self._quota.get(account_id, {}), self._clock.now())

    def failed(self, account_id: str) -> None:
        """Count one answer of the account that was no success."""
        if account_id in self._use:
            self._use.failed(account_id)
            self.touch(account_id)

    def limit(self, account_id: str, until: float, reason: str) -> None:
        """Bench the account; an existing later time stays."""
        if account_id in self._use:
            self._use.limited(account_id)
            self.touch(account_id)
            now = self._clock.now()
            self.change(account_id, lambda a: a.limited(until, reason, now))

    def limit_model(self, account_id: str, model: str, until: float, reason: str) -> None:
        """Pass the account over for one model. Kept in memory: after a restart one answer tells it again."""
        self._cooldowns.rest_model(account_id, model, until)
        log.info("account passed over for a model account=%s model=%s reason=%s", account_id, model, reason)

    def invalidate(self, account_id: str, reason: str) -> None:
        """The account's credential is dead."""
        if account_id in self._use:
            self.change(account_id, lambda a: a.invalidated(reason, self._clock.now()))

    def tick(self) -> None:
        """Do what time does: bring accounts back whose limit has passed, drop what no longer holds. Once a second."""
        for account_id in tuple(self._cooldowns.passed()):
            self._recover(account_id)
        self._cooldowns.drop_passed_models()
        if self._by_room:
            for account_id in self._quota:
                self._balancer.set_room(account_id, self.room(account_id))  # a window may have been reset

    recover = tick

    def _recover(self, account_id: str) -> None:
        self._cooldowns.recovered(account_id)
        self.change(account_id, lambda a: a.activated(self._clock.now()))

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
        """Seconds until the first benched account comes back. None if none is benched."""
        return min(
            (
                wait_s
                for account_id, wait_s in self._cooldowns.waits_s(model).items()
                if self._table[account_id].status in (Status.ACTIVE, Status.RATE_LIMITED)
            ),
            default=None,
        )

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
            name=free_name(self, name),
            credential=credential,
            created_at=now,
            updated_at=now,
            organization_uuid=organization_uuid,
            organization_name=organization_name,
        )
        for other in self:
            if other.credential == credential:
                raise Conflict(f"this key is already the account {other.name!r}")
        self._use.add(account.id)
        self._file(None, account)
        await self._table.add(account.id, account, undo=lambda: self._drop(account))
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
            changed = changed.renamed(free_name(self, name, but=account_id), now)
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
        self._drop(account)
        self.touch(account_id)
        self._feed.publish(Changed(account, None))
        await forgotten
        log.info("account deleted account=%s name=%s", account.id, account.name)

    def counters(self) -> dict[str, Record]:
        """The counters as they are stored."""
        return self._use.records()

    @property
    def counters_generation(self) -> int:
        """Another number whenever `counters` may have changed."""
        return self._use.generation

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
        _log_change(old, new)
        self._file(old, new)
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

    def _file(self, old: Account | None, new: Account) -> None:
        """Follow a change in everything that is kept by status."""
        if old is not None:
            self._counts[old.status] -= 1
        self._counts[new.status] += 1
        self._cooldowns.file(new)
        self._balancer.file(new)

    def _drop(self, account: Account) -> None:
        self._counts[account.status] -= 1
        self._cooldowns.forget(account.id)
        self._balancer.forget(account.id)
        self._use.forget(account.id)
        self._quota.pop(account.id, None)


def _log_change(old: Account, new: Account) -> None:
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
