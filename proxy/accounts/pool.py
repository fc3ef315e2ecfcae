"""The pool of accounts: chooses the next account, and records what answers say about it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from proxy.accounts.account import Account, Status, share_limits
from proxy.accounts.balancer import Balancer
from proxy.accounts.cooldown import Cooldowns
from proxy.accounts.quotas import Quotas
from proxy.accounts.refusals import Refusals
from proxy.accounts.table import AccountTable
from proxy.accounts.use import Use, Uses
from proxy.clock import Clock, rfc3339
from proxy.feed import Feed
from proxy.http.headers import AnswerHeaders
from proxy.storage.protocols import Record, Storage
from proxy.storage.table import Table


class Pool(AccountTable):
    """Chooses accounts and records the results of their requests.

    Choosing and recording never await, so each decision runs whole on the event loop.
    Queries change nothing. `tick` applies changes that are due by time; `take` does so for the account it takes.
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
        super().__init__(table, clock=clock, feed=feed, new_id=new_id)
        self.idle_threshold_s = idle_threshold_s
        self.uses = Uses(table, counters)
        self._counts = dict.fromkeys(Status, 0)
        self._balancer = Balancer(table)
        self.quotas = Quotas(table, self._balancer, by_room=most_remaining, clock=clock)
        self.cooldowns = Cooldowns(clock)
        self._refusals = Refusals(feed)
        for account in table.values():
            self._follow(None, account)

    def count(self) -> dict[Status, int]:
        """Number of accounts in each state; one whose cooldown is over counts as active."""
        passed = sum(1 for _ in self.cooldowns.passed())
        counts = self._counts.copy()
        counts[Status.ACTIVE] += passed
        counts[Status.RATE_LIMITED] -= passed
        return counts

    def view(self, account: Account) -> dict[str, Any]:
        """An account and its counters, as an admin sees it."""
        use = self.uses[account.id]
        shown = account.view()
        if account.status is Status.ACTIVE:
            shown["status_reason"] = self._refusals.reason(account.id)
        return shown | {
            "requests": use.requests,
            "errors": use.errors,
            "rate_limits": use.rate_limits,
            "in_flight": use.in_flight,
            "last_used_at": None if use.last_used_at is None else rfc3339(use.last_used_at),
            "quota": self.quotas.view(account.id),
            "idle_since": None if (idle := self._idle_since(account)) is None else rfc3339(idle),
        }

    def refusing(self) -> int:
        """Number of accounts that are active, and refuse again and again."""
        return self._refusals.shown()

    # called by the relay

    def choose(
        self,
        matters: tuple[str, ...] = (),
        *,
        refused: Collection[str] = (),
        later: Collection[str] = (),
        tags: Collection[str] = (),
        new: bool = True,
    ) -> Account | None:
        """The next account, never one in `refused`, and one in `later` only if no other is usable. None if none is.

        `matters` is what the request asks for, as `Asked.matters`; `tags` are its client key's. Only if no other is
        usable, `new` work gets an account's reserve. The caller calls `take` before its next await.
        """
        is_away = self.cooldowns.is_away
        chosen = self._first(lambda id: id in refused or id in later or is_away(id, matters), tags, new)
        if chosen is None and later:
            chosen = self._first(
                lambda id: id in refused or id not in later or is_away(id, matters), tags, new
            )
        return None if chosen is None else self._table[chosen]

    def _first(self, away: Callable[[str], bool], tags: Collection[str], new: bool) -> str | None:
        """The first active account in order; otherwise the first one whose cooldown has ended since the last tick."""
        active = self._balancer.first_active(self._clock.now(), away=away, tags=tags, new=new)
        if active is not None and not (new and self._balancer.is_held(active)):
            return active
        passed = [id for id in self.cooldowns.passed() if self._table[id].serves(tags) and not away(id)]
        if active is not None:
            passed = [id for id in passed if not self._balancer.is_held(id)]
        return self._balancer.first_of(passed) or active

    def is_usable(self, account_id: str, matters: tuple[str, ...] = ()) -> bool:
        """Whether the account can be asked for these matters now."""
        account = self._table.get(account_id)
        if account is None or self.cooldowns.is_away(account_id, matters):
            return False
        return account.status is Status.ACTIVE or self.cooldowns.has_passed(account_id)

    def take(self, account_id: str, *, new: bool = True) -> Account:
        """Record a turn with new work. A cooldown that is over ends; after a long one, a probation begins."""
        if self.cooldowns.has_passed(account_id):
            self._recover(account_id)
        if new:
            self._balancer.took(account_id)
        self.cooldowns.probations.begin(account_id)
        self.cooldowns.tried(account_id)
        return self[account_id]

    async def probation_ended(self) -> bool:
        """Wait for an account on probation to answer. False if none is on probation."""
        return await self.cooldowns.probations.wait()

    def answered(self, account_id: str) -> None:
        """Note an answer other than a rate limit: it ends the account's probation."""
        self.cooldowns.probations.answered(account_id)

    def served(self, account_id: str, matters: tuple[str, ...]) -> None:
        """Note that the account has served a request for these matters: what it refused before is forgiven."""
        self.cooldowns.served(account_id, matters)
        self._refusals.end(account_id)

    @property
    def has_refusals(self) -> bool:
        """Whether a success changes what is known of an account."""
        return bool(self._refusals) or self.cooldowns.any_matter

    def begin(self, account_id: str) -> InFlight:
        """Count one request to the account; whoever begins it closes it."""
        self.touch(account_id)
        return InFlight(self, account_id, self.uses.begin(account_id, self._clock.now()))

    def saw(self, account: Account, headers: AnswerHeaders) -> None:
        """Update the quota of the account that was asked from its answer's headers."""
        self.reached(account.id)
        if self.keeps_key(account):
            self.quotas.saw(account.id, headers)
            if self._table[account.id].unchecked and headers.get("anthropic-organization-id"):
                self.change(account.id, Account.checked)  # it names whose key it has accepted
            self.touch(account.id)

    def reached(self, account_id: str) -> None:
        """Note that something came by the account's own proxy, if it has one: it is not passed over for that now."""
        if self.cooldowns.reached(account_id):
            self._refusals.end(account_id)
            self.touch(account_id)

    def room(self, account_id: str) -> float:
        """The fraction of its limits that the account has left, from 0 to 1; 1 if nothing is known."""
        return self.quotas.room(account_id)

    def failed(self, account_id: str) -> None:
        """Count one unsuccessful answer of the account."""
        if account_id in self.uses:
            self.uses.failed(account_id)
            self.touch(account_id)

    def limit(self, account_id: str, until: float, reason: str) -> None:
        """Set a cooldown of the account until `until`, in seconds since the epoch; a later one already set stays."""
        if account_id in self.uses:
            self.uses.limited(account_id)
            self.touch(account_id)
            now = self._clock.now()
            self.change(account_id, lambda a: a.limited(until, reason, now))

    def skip(self, account_id: str, matter: str, until: float, reason: str) -> None:
        """Set a cooldown of the account for one matter. In memory only: after a restart it is learnt again."""
        if account_id in self._table:
            self.cooldowns.rest_for(account_id, matter, until, reason)

    def strike(self, account_id: str, matter: str, longest_s: float, reason: str, at: float) -> None:
        """Let the account rest for one matter that it refused `at` a time, and another served: see `Cooldowns`."""
        if account_id in self._table:
            self.cooldowns.strike(account_id, matter, longest_s, reason, at)

    def refused(self, account_id: str, evidence: str) -> None:
        """Count one refusal of an account that stays active. Again and again, admins are told."""
        account = self._table.get(account_id)
        if account is not None and account.status is Status.ACTIVE:
            self._refusals.note(account, evidence)
            self.touch(account_id)

    def invalidate(self, account_id: str, reason: str) -> None:
        """Make the account INVALID: its credential no longer works."""
        if account_id in self.uses:
            self.change(account_id, lambda a: a.invalidated(reason, self._clock.now()))

    def tick(self) -> None:
        """Apply what is due by time, once a second: cooldowns end, and quota windows are reset."""
        for account_id in tuple(self.cooldowns.passed()):
            self._recover(account_id)
        self.cooldowns.drop_passed_matters()
        self.quotas.tick()

    def _recover(self, account_id: str) -> None:
        self.cooldowns.recovered(account_id)
        self.change(account_id, lambda a: a.activated(self._clock.now()))

    def deactivate_idle(self) -> None:
        """Make every active account INACTIVE that no request has used within the idle threshold."""
        now = self._clock.now()
        for account in self:
            since = self._idle_since(account)
            if since is not None and account.status is Status.ACTIVE:
                reason = f"idle: no request since {rfc3339(since)}"
                self.change(account.id, partial(Account.deactivated, reason=reason, now=now))

    def _idle_since(self, account: Account) -> float | None:
        since = max(self.uses[account.id].last_used_at or 0.0, account.active_since or account.created_at)
        return since if self._clock.now() - since >= self.idle_threshold_s else None

    def recovers_in(self, matters: tuple[str, ...] = (), *, but: Collection[str] = ()) -> float | None:
        """Seconds until the first resting account not in `but` can be asked for these matters. None if none rests."""
        first = self.first_back(matters, but)
        return None if first is None else first[0]

    def first_back(self, matters: tuple[str, ...], but: Collection[str]) -> tuple[float, str] | None:
        """The shortest rest in seconds, and the id of its account. None if none rests."""
        waits_s = self.cooldowns.waits_s(matters).items()
        return min(
            ((wait_s, id) for id, wait_s in waits_s if self._table[id].works and id not in but), default=None
        )

    async def save_counters(self, storage: Storage) -> None:
        """Write the counters that have changed. Raises StorageError."""
        await self.uses.save(storage)

    def _follow(self, old: Account | None, new: Account | None) -> None:
        if old is not None:
            self._counts[old.status] -= 1
            other_key = new is not None and not share_limits(new, old)
            other_way = new is not None and new.proxy != old.proxy
            if new is None or other_way or (new.status, new.credential) != (old.status, old.credential):
                self._refusals.end(old.id)
                self.cooldowns.reached(old.id)
            if new is None or other_key or other_way:
                self.cooldowns.forget(old.id)
            if other_key:
                self.quotas.hear(old.id, {}, self._clock.now())
        if new is not None:
            self._counts[new.status] += 1
            self.uses.add(new.id)
            self.cooldowns.file(new)
            self._balancer.file(new)
            self.quotas.file(new)
        elif old is not None:
            self.uses.forget(old.id)
            self._balancer.forget(old.id)
            self.quotas.forget(old.id)


class InFlight:
    """A request that an account is answering, until it is closed, whatever becomes of the account meanwhile."""

    __slots__ = ("_account_id", "_pool", "_use")

    def __init__(self, pool: Pool, account_id: str, use: Use) -> None:
        self._pool = pool
        self._account_id = account_id
        self._use = use

    def close(self) -> None:
        """The request is over."""
        self._use.in_flight -= 1
        self._pool.answered(self._account_id)
        self._pool.touch(self._account_id)
