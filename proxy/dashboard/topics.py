"""The topics of the dashboard: the entities of each, and when they must be re-read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from proxy.accounts.account import AccountChanged
from proxy.accounts.logins import Logins
from proxy.accounts.pool import Pool
from proxy.accounts.refresh import Refresher
from proxy.clients.budgets import Budgets
from proxy.clients.keys import ClientKeys
from proxy.clock import Clock
from proxy.dashboard.all_sessions import AllSessions
from proxy.dashboard.figures import Figures
from proxy.dashboard.health import LEVELS, change_told
from proxy.dashboard.instances import Instances
from proxy.dashboard.revisions import Source
from proxy.dashboard.summary import Summary
from proxy.errors import NotFound
from proxy.feed import SYSTEM, Feed, Happened
from proxy.usage.buckets import MINUTE, By, floor
from proxy.usage.chart import numbers
from proxy.usage.counts import no_sums
from proxy.usage.request import RequestRecord
from proxy.usage.series import RINGS, RingName, Series

View = dict[str, Any]

STATS = ("health", "accounts", "capacity", "traffic", "affinity")
LATELY = (
    "requests",
    "errors",
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "cost_usd",
    "unpriced_requests",
)


class Topics:
    """Makes the source of each topic from the parts of the engine."""

    def __init__(
        self,
        feed: Feed,
        *,
        pool: Pool,
        keys: ClientKeys,
        refresher: Refresher,
        sessions: AllSessions,
        budgets: Budgets,
        series: Series,
        logins: Logins,
        summary: Summary,
        figures: Figures,
        clock: Clock,
        instances: Instances | None = None,
    ) -> None:
        self._feed = feed
        self._pool = pool
        self._keys = keys
        self._refresher = refresher
        self._sessions = sessions
        self._budgets = budgets
        self._series = series
        self._logins = logins
        self._summary = summary
        self._figures = figures
        self._clock = clock
        self._instances = instances
        self._minute = 0
        self._health = summary.health()["status"]
        feed.on_account_change(self._account_changed)

    def sources(self) -> dict[str, Source]:
        """The sources by topic."""
        return {
            "accounts": Source(lambda: [a.id for a in self._pool], _or_none(self.account)),
            "tokens": Source(lambda: [t.id for t in self._keys], _or_none(self.client_key)),
            "sessions": Source(self._sessions.ids, _or_none(self._sessions.view)),
            "flows": Source(self._logins.ids, self._logins.view),
            "stats": Source(lambda: STATS, lambda id: getattr(self._summary, id)(), lambda: STATS),
            **self._of_instances(),
            **{f"usage:{ring}": self._usage(ring) for ring in RINGS},
        }

    def _of_instances(self) -> dict[str, Source]:
        """None are shown if there is but one, with its state in files."""
        found = self._instances
        if found is None:
            return {"instances": Source(tuple, lambda id: None)}
        return {"instances": Source(found.ids, found.view)}

    def account(self, account_id: str) -> View:
        """An account with what lives in it and its recent usage. Raises NotFound."""
        account = self._figures.account(self._pool[account_id])
        running = self._refresher.is_running(account_id)
        return account | {"refreshing": running} | self._lately("account", account_id)

    def client_key(self, key_id: str) -> View:
        """A client key with its spending and its recent usage. Raises NotFound."""
        client_key = self._keys[key_id]
        spent = {
            "used": self._budgets.view(key_id),
            "meters": self._budgets.meters(key_id, client_key.limits),
        }
        return self._keys.view(client_key) | spent | self._lately("token", key_id)

    def ended(self, record: RequestRecord) -> None:
        """Touch what an ended request that is counted may have changed: a sink."""
        if record.form is not None and record.key is not None:
            self._feed.touch("tokens", record.key.id)
            self._feed.touch("usage", "")
            if record.account_id is not None:
                self._feed.touch("accounts", record.account_id)

    def _account_changed(self, change: AccountChanged) -> None:
        """A state that changes is shown at once, unlike sums."""
        self._feed.touch("stats", "health")
        self._feed.touch("stats", "accounts")

    def tick(self) -> bool:
        """Publish an event if the health has changed. True if a new minute has begun since the last call."""
        self._feed.touch("stats", "health")
        health = self._summary.health()
        status, before = health["status"], self._health
        if status != before:
            self._health = status
            text = change_told(status, health["reasons"])
            states = {"health": before}, {"health": status}
            # Not who is acting: a dashboard that polls may be the first to see what time has changed.
            self._feed.tell(Happened("health.changed", text, LEVELS[status], None, *states, by=SYSTEM))
        last, self._minute = self._minute, floor(self._clock.now(), MINUTE)
        return self._minute != last

    def _usage(self, ring: RingName) -> Source:
        series = self._series

        def bucket(id: str) -> View | None:
            starts = series.starts(ring)
            if int(id) not in starts:
                return None
            sums = series.sums(int(id), starts.step).get(None) or no_sums()
            return {"start": int(id), "span_s": starts.step, **numbers(sums)}

        return Source(lambda: map(str, series.starts(ring)), bucket, lambda: [str(series.starts(ring)[-1])])

    def _lately(self, by: By, id: str) -> View:
        series = self._series
        day = series.day(by, id).view()
        return {"day": {name: day[name] for name in LATELY}, "spark": series.by_minute(by, id)}


def _or_none(view: Callable[[str], View]) -> Callable[[str], Mapping[str, Any] | None]:
    def look(id: str) -> Mapping[str, Any] | None:
        try:
            return view(id)
        except NotFound:
            return None

    return look
