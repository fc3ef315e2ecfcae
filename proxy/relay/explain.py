"""Says which account a request would get, why, and why no other one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from proxy.accounts.account import Account, Status
from proxy.accounts.affinity import Affinity, Asking, Placement, Unlocated
from proxy.accounts.exhausted import exhausted
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKey
from proxy.clock import Clock, rfc3339
from proxy.errors import NotFound, RequestError
from proxy.relay.inbound import Inbound
from proxy.upstream.verdict import Asked, by_any_way

View = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a request would go: to one account, for a list to several, or to none because of `error`."""

    asking: Asking
    matters: tuple[str, ...] = ()
    placement: Placement | None = None
    why: str | None = None
    chosen: Collection[str] = ()
    error: RequestError | None = None

    @property
    def stays(self) -> bool:
        """Whether accounts that could be asked are not, since the request belongs to another one."""
        placement = self.placement
        if placement is None or placement.account_id is None:
            return self.why == "list"
        return placement.strict or placement.account_id in self.chosen


class Explainer:
    """Answers the question about a request. It is not sent, nobody else is asked, and nothing changes by it."""

    def __init__(self, affinity: Affinity, pool: Pool, clock: Clock) -> None:
        self._affinity = affinity
        self._pool = pool
        self._clock = clock

    async def explain(self, inbound: Inbound, key: ClientKey | None) -> View:
        """For an admin: the account, why it is that one, and the verdict on each account."""
        found = self._find(inbound, await inbound.asking(key))
        placement, error = found.placement, found.error
        chosen = None if found.why == "list" else next(iter(found.chosen), None)
        return {
            "account": self._named(chosen),
            "why": found.why,
            "held_by": None if placement is None else placement.held_by,
            "before": None if placement is None else self._named(placement.before),
            "error": None if error is None else _told(error),
            "accounts": [self._verdict(account, found) for account in self._pool],
        }

    def _find(self, inbound: Inbound, asking: Asking) -> _Found:
        affinity = self._affinity
        try:
            placement = affinity.place(asking)
        except Unlocated as unknown:
            text = f"{unknown.id} is not known here yet: each account would be asked for it"
            return _Found(asking, error=NotFound(text))
        except RequestError as refusal:
            return _Found(asking, error=refusal)
        matters = Asked(asking.peek.model, inbound.route, inbound.betas).matters
        accounts = affinity.accounts_of(asking, placement) if affinity.merges(asking, placement) else ()
        if accounts:
            away = next((id for id in accounts if not self._pool.is_usable(id, by_any_way(matters))), None)
            if away is None:
                return _Found(asking, matters, placement, "list", accounts)
            error = exhausted(self._pool, self._clock.now(), matters, tags=asking.tags, only=away)
            return _Found(asking, matters, placement, "list", error=error)
        chosen = self._chosen(asking, placement, matters)
        if chosen is not None:
            return _Found(asking, matters, placement, placement.why, (chosen.id,))
        only = placement.account_id if placement.strict else None
        error = exhausted(self._pool, self._clock.now(), matters, tags=asking.tags, only=only)
        return _Found(asking, matters, placement, placement.why, error=error)

    def _chosen(self, asking: Asking, placement: Placement, matters: tuple[str, ...]) -> Account | None:
        belongs_to, pool = placement.account_id, self._pool
        for each in (matters, by_any_way(matters)):
            if belongs_to is not None and pool.is_usable(belongs_to, each):
                return pool[belongs_to]
            chosen = None if placement.strict else pool.choose(each, tags=asking.tags)
            if chosen is not None:
                return chosen
        return None

    def _named(self, account_id: str | None) -> View | None:
        if account_id is None or account_id not in self._pool:
            return None
        return {"id": account_id, "name": self._pool[account_id].name}

    def _verdict(self, account: Account, found: _Found) -> View:
        """Whether it is chosen; if it is not, why, and until when it cannot be asked."""
        until: float | None = None
        reason: str | None = None
        if account.id in found.chosen:
            verdict = "chosen"
        elif not account.serves(found.asking.tags):
            verdict, reason = "barred", "it has none of the client key's tags"
        elif self._pool.is_usable(account.id, found.matters):
            verdict = "elsewhere" if found.stays else "usable"
            reason = None if found.stays else self._why_later(account, found)
        elif account.status is not Status.ACTIVE:
            verdict, until, reason = account.status.value, account.rate_limited_until, account.status_reason
        else:
            verdict = "resting"
            reason, until = self._pool.cooldowns.why_away(account.id, found.matters) or (None, None)
        return {
            "id": account.id,
            "name": account.name,
            "verdict": verdict,
            "until": None if until is None else rfc3339(until),
            "reason": reason,
        }

    def _why_later(self, account: Account, found: _Found) -> str | None:
        """What puts the account behind the chosen one, as the balancer orders them. None if it is only its turn."""
        chosen = next((self._pool[each] for each in found.chosen), None)
        if chosen is None:
            return None
        if self._has_but_its_reserve(account) and not self._has_but_its_reserve(chosen):
            return "all that it has left is its reserve"
        priority, first = account.preferences.priority, chosen.preferences.priority
        if priority > first:
            return f"its priority is {priority}, that of the next one {first}, and lower ones are asked first"
        return None

    def _has_but_its_reserve(self, account: Account) -> bool:
        return account.preferences.reserves(self._pool.room(account.id))


def _told(error: RequestError) -> View:
    return {"status": error.status, "type": error.type, "message": error.message}
