"""What Prometheus is told of the accounts, read when it asks: states, cooldowns, quota, tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.registry import Collector

from proxy.accounts.account import Account, OAuthTokens, Status
from proxy.accounts.pool import Pool
from proxy.accounts.quota import Window, live
from proxy.accounts.refresh import Refresher
from proxy.clock import Clock
from proxy.usage.families import Family, Row, counter, gauge, number
from proxy.usage.metrics import DELETED

ACCOUNT: Final = ("account",)


class AccountMetrics(Collector):
    """Metrics of the accounts, by their names. The ids are in `account_info`."""

    def __init__(self, pool: Pool, refresher: Refresher, clock: Clock) -> None:
        self._pool = pool
        self._refresher = refresher
        self._clock = clock

    def collect(self) -> Iterator[Family]:
        """All of it in Prometheus' terms."""
        counts = [((state.value,), count) for state, count in self._pool.count().items()]
        yield gauge("accounts", "Accounts in each state.", ("state",), counts)
        refusing = "Active accounts that refuse one request after the other."
        yield number("accounts_refusing", refusing, self._pool.refusing())
        yield from self._states()
        yield from self._use()
        yield from self._tokens()
        yield from self._quota()

    def _states(self) -> Iterator[Family]:
        accounts, now = tuple(self._pool), self._clock.now()
        info = [((each.name, each.id, each.type), 1) for each in accounts]
        yield gauge("account_info", "1 for each account.", (*ACCOUNT, "id", "type"), info)
        states = {each.name: self._state(each) for each in accounts}
        rows = [
            ((name, each.value), float(each is state)) for name, state in states.items() for each in Status
        ]
        yield gauge(
            "account_state", "1 for the state that the account is in, else 0.", (*ACCOUNT, "state"), rows
        )
        rests = [((each.name,), max(0.0, (each.rate_limited_until or now) - now)) for each in accounts]
        yield gauge("account_cooldown_seconds", "How long the account rests from now on.", ACCOUNT, rests)

    def _state(self, account: Account) -> Status:
        """Its state; one whose cooldown is over counts as active, as in the pool's own counts."""
        passed = account.status is Status.RATE_LIMITED and self._pool.is_usable(account.id)
        return Status.ACTIVE if passed else account.status

    def _use(self) -> Iterator[Family]:
        uses = [((each.name,), self._pool.uses[each.id]) for each in self._pool]
        limits = "Answers that said that its quota is used up, since it was added."
        yield counter("account_rate_limits", limits, ACCOUNT, ((name, use.rate_limits) for name, use in uses))
        flying = "Requests that it answers now."
        yield gauge(
            "account_requests_in_flight", flying, ACCOUNT, ((name, use.in_flight) for name, use in uses)
        )

    def _tokens(self) -> Iterator[Family]:
        logins = [each for each in self._pool if isinstance(each.credential, OAuthTokens)]
        ends = [((each.name,), each.expires_at) for each in logins if each.expires_at is not None]
        yield gauge(
            "account_token_expiry_timestamp_seconds",
            "When its access token expires, Unix time.",
            ACCOUNT,
            ends,
        )
        failing = [
            ((each.name,), float(each.works and each.last_refresh_error is not None)) for each in logins
        ]
        failed = "1 if it is in service and its last refresh failed, else 0."
        yield gauge("account_refresh_failing", failed, ACCOUNT, failing)
        rows: dict[tuple[str, ...], float] = {}
        for (account_id, outcome), count in self._refresher.outcomes.items():
            name = self._pool[account_id].name if account_id in self._pool else DELETED
            rows[name, outcome] = rows.get((name, outcome), 0) + count
        yield counter("refreshes", "Refreshes of access tokens.", (*ACCOUNT, "outcome"), sorted(rows.items()))

    def _quota(self) -> Iterator[Family]:
        now = self._clock.now()
        windows = [
            ((each.name, name), window)
            for each in self._pool
            for name, window in live(self._pool.quotas[each.id], now)
        ]
        labels, left = (*ACCOUNT, "window"), "The fraction of a quota window that is left, from 0 to 1."
        yield gauge(
            "account_quota_left_ratio", left, labels, ((of, each.left or 0.0) for of, each in windows)
        )
        resets = "When a quota window is reset, Unix time."
        yield gauge("account_quota_reset_timestamp_seconds", resets, labels, _resets(windows))


def _resets(windows: list[tuple[tuple[str, str], Window]]) -> Iterator[Row]:
    return ((of, each.resets_at) for of, each in windows if each.resets_at is not None)
