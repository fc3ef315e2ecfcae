"""Over the rooms: what answers requests, what becomes of their records, and what a reload may change."""

from __future__ import annotations

from proxy.accounts.lessons import Teacher
from proxy.adjustments import Adjustable, retry
from proxy.assembly.accounts import Accounts
from proxy.assembly.clients import Clients
from proxy.assembly.dashboard import Dashboard
from proxy.assembly.given import Given
from proxy.assembly.usage import Usage
from proxy.clients.declared import Declared
from proxy.dashboard.account_metrics import AccountMetrics
from proxy.dashboard.metrics import Metrics, StateMetrics, Watched
from proxy.dashboard.topics import Topics
from proxy.relay.attempts import Means
from proxy.relay.relay import Relay
from proxy.upstream.driver import CurlClient
from proxy.usage import access_log
from proxy.usage.allowance import price
from proxy.usage.batch_results import price_results
from proxy.usage.request import RequestRecord, Sink

Entered = tuple[Accounts, Clients, Usage, Dashboard]
"""The rooms, in the order in which they are entered."""


def sinks(given: Given, accounts: Accounts, usage: Usage, topics: Topics) -> tuple[Sink, ...]:
    """What becomes of a request's record once it has ended, in this order: it is priced before anyone counts."""

    resources = accounts.affinity.resources

    def priced(record: RequestRecord) -> None:
        if record.form == "results":
            price_results(record, resources.is_counted, resources.note_counted)
        else:
            price(record, given.clock.now())

    found: tuple[Sink, ...] = (
        priced,
        usage.allowance.settle,
        given.late.count,
        usage.series.count,
        usage.latency.count,
        usage.moves.count,
        usage.metrics.count,
        usage.failed_tries.count,
        topics.ended,
        usage.request_log.keep,
        access_log.write,
    )
    if (tracing := given.tracing) is None:
        return found
    return (*found, lambda record: tracing.trace(record, usage.request_log.clean))


def metrics(given: Given, client: CurlClient, entered: Entered) -> Metrics:
    accounts, clients, usage, dashboard = entered
    watched = Watched(
        pool=accounts.pool,
        keys=clients.keys,
        sessions=clients.sessions,
        affinity=accounts.affinity,
        series=usage.series,
        moves=usage.moves,
        health=dashboard.health,
        unclassified=given.unclassified,
        client=client,
        storage=given.storage,
        lag=given.lag,
        unsaved_events=dashboard.archive.unsaved,
    )
    about_accounts = AccountMetrics(accounts.pool, accounts.refresher, given.clock)
    return Metrics([usage.metrics, about_accounts, StateMetrics(watched)])


def _teacher(given: Given, accounts: Accounts) -> Teacher:
    return Teacher(
        accounts.pool,
        accounts.probe,
        accounts.refresher,
        rate_limit_default_s=given.settings.accounts.rate_limit_default,
        clock=given.clock,
    )


def _relay(given: Given, accounts: Accounts, client: CurlClient, teacher: Teacher) -> Relay:
    means = Means(
        accounts.pool,
        client,
        teacher,
        accounts.refresher,
        accounts.affinity,
        retry=retry(given.settings),
        unclassified=given.unclassified,
        feed=given.feed,
        clock=given.clock,
        rng=given.rng,
    )
    return Relay(means, accounts.affinity)


def make_adjustable(given: Given, client: CurlClient, entered: Entered) -> Adjustable:
    accounts, clients, usage, dashboard = entered
    teacher = _teacher(given, accounts)
    return Adjustable(
        pool=accounts.pool,
        affinity=accounts.affinity,
        teacher=teacher,
        alerts=accounts.quota.alerts,
        upkeep=accounts.upkeep,
        relay=_relay(given, accounts, client, teacher),
        client=client,
        sessions=clients.sessions,
        declared=Declared(clients.keys, clients.sessions, clients.budgets),
        admin_key=given.admin_key,
        notifier=dashboard.notifier,
        archive=dashboard.archive,
        request_log=usage.request_log,
        summary=dashboard.summary,
        secrets=set(given.settings.secrets()),
    )
