"""How long accounts rest: by either clock, for one model only, and who finds out that a long limit is over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from proxy.accounts.account import Account, Status
from proxy.clock import Clock

LONG_LIMIT_S = 300.0
"""After a limit of this length one request tests the account, and others wait for it."""

LONGEST_TEST_S = 5.0
"""Others wait no longer than this, however long the test takes: a whole message may take minutes."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment to come, on both clocks: it is there where one of them says so."""

    wall: float
    monotonic: float


@dataclass(frozen=True, slots=True)
class Limit:
    """An account's limit, however often it was prolonged."""

    end: Moment
    length_s: float


@dataclass(frozen=True, slots=True)
class Probation:
    """A request that finds out whether an account works again."""

    done: asyncio.Future[None]
    until: float


class Cooldowns:
    """What the pool knows of limits beside the accounts' own states. Kept in memory: answers tell it again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limits: dict[str, Limit] = {}
        self._models: dict[tuple[str, str], Moment] = {}
        self._untested: set[str] = set()
        self._trials: dict[str, Probation] = {}

    def changed(self, account: Account) -> None:
        """Note on the monotonic clock when the account's limit ends: a wall clock set back must not prolong it."""
        until, known = account.rate_limited_until, self._limits.get(account.id)
        if account.status is not Status.RATE_LIMITED or until is None:
            self._limits.pop(account.id, None)
            return
        if known is not None and known.end.wall == until:
            return  # something else has changed
        end = self._moment(until)
        length_s = until - account.updated_at
        if known is not None:
            length_s = known.length_s + end.monotonic - known.end.monotonic
        self._limits[account.id] = Limit(end, length_s)
        self.answered(account.id)

    def seen(self, account: Account) -> Account:
        """The account as the clock sees it that says less of its limit is left."""
        limit = self._limits.get(account.id)
        if limit is None:
            return account
        until = self._clock.now() + self._rest_s(limit.end)
        return account if until >= limit.end.wall else replace(account, rate_limited_until=until)

    def forget(self, account_id: str) -> None:
        """The account is gone."""
        self._limits.pop(account_id, None)
        self._untested.discard(account_id)
        self._models = {key: end for key, end in self._models.items() if key[0] != account_id}
        self.answered(account_id)

    def _moment(self, wall: float) -> Moment:
        return Moment(wall, self._clock.monotonic() + wall - self._clock.now())

    def _rest_s(self, end: Moment) -> float:
        return min(end.wall - self._clock.now(), end.monotonic - self._clock.monotonic())

    # one model's limit

    @property
    def any_model(self) -> bool:
        """Whether a choice depends on the model asked for."""
        return bool(self._models)

    def limit_model(self, account_id: str, model: str, until: float) -> None:
        """Pass the account over for one model; an existing later time stays."""
        known = self.model_until(account_id, model)
        if known is None or known < until:
            self._models[account_id, model] = self._moment(until)

    def model_until(self, account_id: str, model: str | None) -> float | None:
        """Until when the account is passed over for the model; None where it is not."""
        end = self._models.get((account_id, model or ""))
        if end is None:
            return None
        rest_s = self._rest_s(end)
        if rest_s <= 0:
            del self._models[account_id, model or ""]
            return None
        return self._clock.now() + rest_s

    # after a long limit

    def recovered(self, account: Account) -> None:
        """The account's limit, as it was, has passed."""
        limit = self._limits.get(account.id)
        if limit is not None and limit.length_s >= LONG_LIMIT_S:
            self._untested.add(account.id)

    def is_tested(self, account_id: str) -> bool:
        """Whether a request is finding out, so that others stay away."""
        trial = self._trials.get(account_id)
        return trial is not None and trial.until > self._clock.monotonic()

    def chosen(self, account_id: str) -> None:
        """The first request after a long limit is the one that finds out."""
        if account_id in self._untested:
            self._untested.discard(account_id)
            done = asyncio.get_running_loop().create_future()
            self._trials[account_id] = Probation(done, self._clock.monotonic() + LONGEST_TEST_S)

    def answered(self, account_id: str) -> None:
        """The account has answered, or its request is over."""
        trial = self._trials.pop(account_id, None)
        if trial is not None and not trial.done.done():
            trial.done.set_result(None)

    async def tested(self) -> bool:
        """Wait until one that is found out about has answered; False where there is none."""
        tested = [trial for account_id, trial in self._trials.items() if self.is_tested(account_id)]
        if not tested:
            return False
        rest_s = min(trial.until for trial in tested) - self._clock.monotonic()
        await asyncio.wait(
            [trial.done for trial in tested], timeout=rest_s, return_when=asyncio.FIRST_COMPLETED
        )
        return True
