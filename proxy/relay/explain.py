"""Says which account a request would get, why, and why no other one."""

from __future__ import annotations

from typing import Any

from proxy.accounts.account import Account, Status
from proxy.accounts.affinity import Asking, Placement
from proxy.accounts.exhausted import exhausted
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKey
from proxy.clock import Clock, rfc3339
from proxy.errors import RequestError
from proxy.relay.inbound import Inbound
from proxy.relay.relay import Relay
from proxy.upstream.verdict import Asked
from proxy.usage.request import RequestRecord


class Explainer:
    """Answers the question about a request that is not sent: nothing changes by it."""

    def __init__(self, relay: Relay, pool: Pool, clock: Clock) -> None:
        self._relay = relay
        self._pool = pool
        self._clock = clock

    async def explain(self, inbound: Inbound, key: ClientKey | None) -> dict[str, Any]:
        """For an admin: the account, why it is that one, and the verdict on each account."""
        record = RequestRecord(self._clock.monotonic(), key=key)
        try:
            asking, placement = await self._relay.place(inbound, record)
        except RequestError as refusal:
            return {
                "account": None,
                "why": None,
                "error": _told(refusal),
                "accounts": self._verdicts(None, None, None, ()),
            }
        matters = Asked(asking.peek.model, inbound.route, inbound.betas).matters
        chosen = self._chosen(asking, placement, matters)
        error = None if chosen is not None else self._exhausted(asking, placement, matters)
        return {
            "account": None if chosen is None else {"id": chosen.id, "name": chosen.name},
            "why": placement.why,
            "held_by": placement.held_by,
            "before": self._named(placement.before),
            "error": None if error is None else _told(error),
            "accounts": self._verdicts(chosen, placement, asking, matters),
        }

    def _chosen(self, asking: Asking, placement: Placement, matters: tuple[str, ...]) -> Account | None:
        belongs_to = placement.account_id
        if belongs_to is not None and self._pool.is_usable(belongs_to, matters):
            return self._pool[belongs_to]
        return None if placement.strict else self._pool.choose(matters, tags=asking.tags)

    def _exhausted(self, asking: Asking, placement: Placement, matters: tuple[str, ...]) -> RequestError:
        only = placement.account_id if placement.strict else None
        return exhausted(self._pool, self._clock.now(), matters, tags=asking.tags, only=only)

    def _verdict(self, account: Account, matters: tuple[str, ...]) -> tuple[str, float | None, str | None]:
        """Whether the account can be asked, until when it cannot, and why."""
        if self._pool.is_usable(account.id, matters):
            return "usable", None, None
        if account.status is not Status.ACTIVE:
            return account.status.value, account.rate_limited_until, account.status_reason
        reason, until = self._pool.why_away(account.id, matters) or (None, None)
        return "resting", until, reason

    def _named(self, account_id: str | None) -> dict[str, Any] | None:
        if account_id is None or account_id not in self._pool:
            return None
        return {"id": account_id, "name": self._pool[account_id].name}

    def _verdicts(
        self,
        chosen: Account | None,
        placement: Placement | None,
        asking: Asking | None,
        matters: tuple[str, ...],
    ) -> list[dict[str, Any]]:
        verdicts = []
        for account in self._pool:
            verdict, until, reason = self._verdict(account, matters)
            if account is chosen:
                verdict = "chosen"
            elif asking is not None and not account.serves(asking.tags):
                verdict, reason = "barred", "it has none of the client key's tags"
            elif verdict == "usable" and placement is not None and placement.account_id is not None:
                verdict, reason = "elsewhere", f"the request belongs to another account ({placement.why})"
            verdicts.append(
                {
                    "id": account.id,
                    "name": account.name,
                    "verdict": verdict,
                    "until": None if until is None else rfc3339(until),
                    "reason": reason,
                }
            )
        return verdicts


def _told(error: RequestError) -> dict[str, Any]:
    return {"status": error.status, "type": error.type, "message": error.message}
