"""What the answers to a request teach about the accounts that gave them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from proxy.accounts.account import Account, OAuthTokens, Status
from proxy.accounts.pool import Pool
from proxy.accounts.probe import Probe
from proxy.accounts.refresh import Refresher
from proxy.clock import Clock
from proxy.errors import NotFound, ProxyError, TokenRefused, TokenTrouble, without_frames
from proxy.upstream.verdict import Action, Verdict


@dataclass(slots=True)
class Lessons:
    """What one request has learnt so far.

    `refused`: accounts that it does not ask again; those in `by_quota` may be asked once they have recovered. `again`:
    one to be asked at once, with a new token. `held`: refusals that are about the account only if another one serves
    the same request: of each the account, the verdict, and when it was, by the monotonic clock.
    """

    refused: Set[str] = frozenset()
    by_quota: Set[str] = frozenset()
    replayed: Set[str] = frozenset()
    held: tuple[tuple[Account, Verdict, float], ...] = ()
    again: str | None = None
    token_error: ProxyError | None = None

    @property
    def refused_for_good(self) -> Set[str]:
        return self.refused - self.by_quota

    def lacks_token(self, error: ProxyError) -> None:
        """Note why an account has no live token. The one that passes soonest stays: another try may help then."""
        if _hope(error) >= _hope(self.token_error):
            self.token_error = without_frames(error)


def _hope(error: ProxyError | None) -> int:
    return 1 + error.passes if isinstance(error, TokenTrouble) else 0


class Teacher:
    """Tells the pool what a verdict means for an account, and a request where not to go again."""

    def __init__(
        self, pool: Pool, probe: Probe, refresher: Refresher, *, rate_limit_default_s: float, clock: Clock
    ) -> None:
        self._pool = pool
        self._probe = probe
        self._refresher = refresher
        self.rate_limit_default_s = rate_limit_default_s
        self._clock = clock

    async def teach(self, lessons: Lessons, account: Account, verdict: Verdict) -> None:
        """Draw the lesson of a refusal, which is any verdict but HAND_ON and RETRY."""
        pool = self._pool
        if not pool.keeps_key(account):
            return  # what its old key was told says nothing of the new one, which may be asked
        if verdict.action is Action.REFRESH_THEN_NEXT:
            await self._renew(lessons, account, verdict)
            if lessons.again is not None:
                return
        lessons.refused |= {account.id}
        if verdict.by_quota:
            lessons.by_quota |= {account.id}
        match verdict.action:
            case Action.BENCH_THEN_NEXT:
                until = verdict.limited_until or self._clock.now() + self.rate_limit_default_s
                pool.limit(account.id, until, verdict.evidence)
                return
            case Action.SKIP_THEN_NEXT if verdict.matter is not None:
                if verdict.limited_until is None:
                    lessons.held += ((account, verdict, self._clock.monotonic()),)
                else:
                    pool.skip(account.id, verdict.matter, verdict.limited_until, verdict.evidence)
            case Action.CONFIRM_KEY_THEN_NEXT:
                await self._confirm(account, verdict)
            case Action.NEXT_ACCOUNT if verdict.invalid_reason is not None and pool.is_current(account):
                pool.invalidate(account.id, verdict.invalid_reason)
        if not (verdict.by_quota or verdict.is_foreign):
            pool.refused(account.id, verdict.evidence)

    def served(self, lessons: Lessons, account_id: str, matters: tuple[str, ...]) -> None:
        """Note that the account has served the request: so what others refused is a matter of theirs."""
        self._pool.served(account_id, matters)
        longest_s = self.rate_limit_default_s
        for account, verdict, at in lessons.held:
            if verdict.matter is not None and self._pool.keeps_key(account):
                self._pool.strike(account.id, verdict.matter, longest_s, verdict.evidence, at)

    async def _confirm(self, account: Account, verdict: Verdict) -> None:
        """The API refuses a key: it is dead if `GET /v1/models` refuses it too."""
        known = any(a.id == account.id and a.status is Status.INVALID for a in self._pool)
        refused = not known and await self._probe.works(account) is False
        if refused and self._pool.is_current(account):  # a new key may have come meanwhile
            self._pool.invalidate(account.id, f"{verdict.evidence}, confirmed by GET /v1/models")

    async def _renew(self, lessons: Lessons, account: Account, verdict: Verdict) -> None:
        """The API refuses an access token: one forced refresh and one replay; a fresh one refused is the end."""
        pool, refresher = self._pool, self._refresher
        assert isinstance(account.credential, OAuthTokens)
        used = account.credential.access_token
        renewed = account.id in pool and not pool.is_current(account)
        if account.id not in lessons.replayed and (renewed or not refresher.is_fresh(account)):
            lessons.replayed |= {account.id}
            try:
                await refresher.refresh(account.id, failed=used)
            except (TokenRefused, TokenTrouble, NotFound) as error:
                lessons.lacks_token(error)
            else:
                lessons.again = account.id
        elif await self._probe.works(account) is False and pool.is_current(account):
            pool.invalidate(
                account.id, f"a fresh token is refused: {verdict.evidence}, confirmed by GET /v1/models"
            )
