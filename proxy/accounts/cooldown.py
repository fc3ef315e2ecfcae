"""How long accounts rest: cooldowns of accounts and of single matters on them, and probation after a long one.

A matter is a model, a beta or a route that an account refuses while it serves all else, or its own outbound proxy. Kept
in memory. After a restart, cooldowns of accounts are read from their records; those of matters are set again by the
next answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from proxy.accounts.account import Account, Status
from proxy.clock import Clock
from proxy.upstream.verdict import OWN_PROXY, by_any_way

LONG_LIMIT_S = 300.0
"""After a cooldown of this length or more, one request tests the account and the others wait for it."""

LONGEST_TEST_S = 5.0
"""Others wait no longer than this, however long the test takes: a whole message may take minutes."""


FIRST_REST_S = 5.0
"""An account's first rest for a matter if no time was named; it doubles while the refusals repeat."""

MOST_MATTERS = 256
"""Clients choose models and paths. Of so many that rest, a further one is not remembered, and is asked for in vain."""

LONGEST_WAY_REST_S = 60.0
"""An account whose own proxy is down rests no longer than this: nobody says when it is back, and a try costs little."""

STRIKES_KEPT_S = 3600.0
"""So long after a rest, a refusal is the first one again."""


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in the future, on both clocks. It is reached as soon as one of the clocks reaches it."""

    wall: float
    monotonic: float


@dataclass(frozen=True, slots=True)
class Cooldown:
    """One cooldown of an account. `length_s` is its whole length, extensions included."""

    end: Moment
    length_s: float


@dataclass(frozen=True, slots=True)
class Strikes:
    """Refusals of a matter in a row without a named time, and the end of the latest rest."""

    count: int
    end: Moment


class Cooldowns:
    """The cooldowns of accounts, for everything or for one matter.

    Ends are kept on the monotonic clock as well: a wall clock that is set back must not prolong a cooldown.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accounts: dict[str, Cooldown] = {}
        self._matters: dict[str, dict[str, Moment]] = {}  # by matter, then by account
        self._strikes: dict[tuple[str, str], Strikes] = {}  # by account and matter
        self.probations = Probations(clock)

    def file(self, account: Account) -> None:
        """Update the account's cooldown after a change of the account."""
        if account.status is not Status.RATE_LIMITED:
            self._accounts.pop(account.id, None)
            return
        until, known = account.rate_limited_until or 0.0, self._accounts.get(account.id)
        if known is not None and known.end.wall == until:
            return  # the change is not about the cooldown
        end = self._moment(until)
        length_s = until - account.updated_at
        if known is not None:
            length_s = known.length_s + end.monotonic - known.end.monotonic
        self._accounts[account.id] = Cooldown(end, length_s)
        self.probations.answered(account.id)

    def forget(self, account_id: str) -> None:
        """Remove a deleted account."""
        self._accounts.pop(account_id, None)
        for ends in self._matters.values():
            ends.pop(account_id, None)
        self._drop_empty()
        self._strikes = {key: each for key, each in self._strikes.items() if key[0] != account_id}
        self.probations.forget(account_id)

    # accounts

    def has_passed(self, account_id: str) -> bool:
        """Whether the account has a cooldown that is over."""
        cooldown = self._accounts.get(account_id)
        return cooldown is not None and self._until(cooldown.end) is None

    def passed(self) -> Iterator[str]:
        """Ids of the accounts whose cooldown is over."""
        return filter(self.has_passed, self._accounts)

    def recovered(self, account_id: str) -> None:
        """Note that the account's cooldown has ended. After a long one, its next request is a test."""
        if self._accounts[account_id].length_s >= LONG_LIMIT_S:
            self.probations.due(account_id)

    # matters

    @property
    def any_matter(self) -> bool:
        """Whether a choice, or a success, may depend on what is asked for."""
        return bool(self._matters or self._strikes)

    def rest_for(self, account_id: str, matter: str, until: float, reason: str) -> None:
        """Set a cooldown for one matter until `until`, in seconds since the epoch; a later one already set stays."""
        known = self._matter_until(account_id, matter)
        if known is None or known < until:
            self._rest(account_id, matter, until, reason)

    def _rest(self, account_id: str, matter: str, until: float, reason: str) -> Moment:
        end = self._moment(until)
        if matter not in self._matters and len(self._matters) >= MOST_MATTERS:
            return end
        self._matters.setdefault(matter, {})[account_id] = end
        what = "account passed over account=%s for=%s seconds=%.0f reason=%s"
        log.info(what, account_id, matter, until - self._clock.now(), reason)
        return end

    def strike(self, account_id: str, matter: str, longest_s: float, reason: str, at: float) -> None:
        """Let the account rest for a matter without a named time: 5 s, doubled with each repetition up to `longest_s`.

        The refusal was `at` this time of the monotonic clock: one before the end of the latest rest came to an earlier
        request, and is no repetition. The first failure of its own proxy may be a blip, which many requests may
        meet: it rests from the next one on.
        """
        known, now = self._strikes.get((account_id, matter)), self._clock.now()
        is_earlier = known is not None and at < known.end.monotonic
        if is_earlier or self._matter_until(account_id, matter) is not None:
            return
        count = doublings = 0 if known is None else known.count
        if matter == OWN_PROXY:
            doublings, longest_s = count - 1, LONGEST_WAY_REST_S
        end = self._moment(now)
        if doublings >= 0:
            rest_s: float = min(FIRST_REST_S * 2 ** min(doublings, 32), max(longest_s, FIRST_REST_S))
            end = self._rest(account_id, matter, now + rest_s, reason)
        if doublings < 0 or matter in self._matters:
            self._strikes[account_id, matter] = Strikes(count + 1, end)

    def served(self, account_id: str, matters: Iterable[str]) -> None:
        """Note that the account has served these matters: its next rest for one of them is a short one again."""
        for matter in matters:
            self._strikes.pop((account_id, matter), None)

    def is_lost(self, account_id: str) -> bool:
        """Whether the account's own proxy has failed again and again since something last came by it."""
        strikes = self._strikes.get((account_id, OWN_PROXY))
        return strikes is not None and strikes.count > 1

    def tried(self, account_id: str) -> None:
        """Note that a request goes to the account. If its proxy was lost, this one finds out for the others.

        They pass the account over until something has come by it, or another rest is over: a connection may hang.
        """
        if self.is_lost(account_id):
            now = self._clock.monotonic()
            self.strike(account_id, OWN_PROXY, LONGEST_WAY_REST_S, "a request tries it", now)

    def reached(self, account_id: str) -> bool:
        """Note that something came by the account's own proxy, which ends its rest. False if it had not failed."""
        if self._strikes.pop((account_id, OWN_PROXY), None) is None:
            return False
        self._matters.get(OWN_PROXY, {}).pop(account_id, None)
        self._drop_empty()
        return True

    def drop_passed_matters(self) -> None:
        """Forget the cooldowns of matters that are over, and strikes that are long past."""
        for matter, ends in self._matters.items():
            self._matters[matter] = {id: end for id, end in ends.items() if self._until(end) is not None}
        self._drop_empty()
        old = self._clock.monotonic() - STRIKES_KEPT_S
        self._strikes = {key: each for key, each in self._strikes.items() if each.end.monotonic > old}

    def _matter_until(self, account_id: str, matter: str) -> float | None:
        """End of the account's cooldown for the matter, in seconds since the epoch. None if it has none."""
        end = self._matters[matter].get(account_id) if matter in self._matters else None
        return None if end is None else self._until(end)

    def _drop_empty(self) -> None:
        self._matters = {matter: ends for matter, ends in self._matters.items() if ends}

    # both

    def is_away(self, account_id: str, matters: Collection[str]) -> bool:
        """Whether the account must be skipped even if it is active: it is on probation, or rests for a matter."""
        if self.probations.runs(account_id):
            return True
        # Mostly there are none, which costs less to see than a generator to make.
        return bool(matters) and any(self._matter_until(account_id, each) is not None for each in matters)

    def why_away(self, account_id: str, matters: Iterable[str]) -> tuple[str, float | None] | None:
        """Why an active account must be skipped, and until when in seconds since the epoch; None if it need not."""
        if self.probations.runs(account_id):
            return "one request tests it after a long cooldown", None
        for matter in matters:
            until = self._matter_until(account_id, matter)
            if until is not None:
                down = matter == OWN_PROXY
                return "its own outbound proxy is down" if down else f"it refused this {matter}", until
        return None

    def waits_s(self, matters: tuple[str, ...]) -> dict[str, float]:
        """Seconds until each limited account can be asked for these matters, by its id; 0 if it can be now.

        A rest for a proxy that is down is no limit: nobody knows its end.
        """
        now = self._clock.now()
        ends = {id: self._until(cooldown.end) or now for id, cooldown in self._accounts.items()}
        for matter in by_any_way(matters):
            for account_id in self._matters.get(matter, ()):
                until = self._matter_until(account_id, matter)
                if until is not None:
                    ends[account_id] = max(until, ends.get(account_id, now))
        return {account_id: end - now for account_id, end in ends.items()}

    def _moment(self, wall: float) -> Moment:
        return Moment(wall, self._clock.monotonic() + wall - self._clock.now())

    def _until(self, end: Moment) -> float | None:
        """When the moment is reached by the earlier of the two clocks, as wall-clock time. None if it has passed."""
        now = self._clock.now()
        until = min(end.wall, now + end.monotonic - self._clock.monotonic())
        return until if until > now else None


@dataclass(frozen=True, slots=True)
class Probation:
    """One request that tests an account. Others avoid the account until `answered` is done or `until` is reached."""

    answered: asyncio.Future[None]
    until: float  # on the monotonic clock


class Probations:
    """The accounts that are on probation, or will be with their next request."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: set[str] = set()
        self._running: dict[str, Probation] = {}

    def due(self, account_id: str) -> None:
        """The next request of the account tests it."""
        self._due.add(account_id)

    def begin(self, account_id: str) -> None:
        """Note that a request goes to the account. It is the test if one is due."""
        if account_id in self._due:
            self._due.discard(account_id)
            answered = asyncio.get_running_loop().create_future()
            self._running[account_id] = Probation(answered, self._clock.monotonic() + LONGEST_TEST_S)

    def runs(self, account_id: str) -> bool:
        """Whether the account is on probation now, so that other requests avoid it."""
        probation = self._running.get(account_id)
        return probation is not None and probation.until > self._clock.monotonic()

    def answered(self, account_id: str) -> None:
        """End the probation: the account has answered, or its request is over."""
        probation = self._running.pop(account_id, None)
        if probation is not None and not probation.answered.done():
            probation.answered.set_result(None)

    def forget(self, account_id: str) -> None:
        """Remove a deleted account."""
        self._due.discard(account_id)
        self.answered(account_id)

    async def wait(self) -> bool:
        """Wait for an account on probation to answer. False if none is on probation."""
        running = [probation for account_id, probation in self._running.items() if self.runs(account_id)]
        if not running:
            return False
        rest_s = min(probation.until for probation in running) - self._clock.monotonic()
        await asyncio.wait(
            [probation.answered for probation in running],
            timeout=rest_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        return True
