"""The room of the dashboard: what admins see and are told."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from proxy import __version__
from proxy.adjustments import is_insecure, targets
from proxy.assembly import periods
from proxy.assembly.accounts import Accounts
from proxy.assembly.clients import Clients
from proxy.assembly.given import Given
from proxy.assembly.usage import Usage
from proxy.clients.keys import ClientKeys
from proxy.dashboard.all_sessions import AllSessions, SharedSessions
from proxy.dashboard.event_archive import EventArchive
from proxy.dashboard.event_history import EventHistory
from proxy.dashboard.event_log import EventLog, SharedEventLog
from proxy.dashboard.figures import Figures
from proxy.dashboard.health import Health
from proxy.dashboard.instances import Instances, Share
from proxy.dashboard.itself import OwnState
from proxy.dashboard.notify.alarms import Alarms
from proxy.dashboard.notify.notifier import Notifier
from proxy.dashboard.revisions import EVENTS, REQUESTS, Log, Revisions
from proxy.dashboard.summary import Summary
from proxy.dashboard.topics import Topics
from proxy.feed import Happened
from proxy.jobs import Jobs
from proxy.storage.chained_log import ChainedLog
from proxy.storage.findings import Finding, Findings, load_findings, read_finding
from proxy.storage.shared_chain import SharedChain
from proxy.storage.shared_table import open_table


@dataclass(frozen=True)
class Shown:
    """What dashboards show of all instances; None of what there is only if several share a store."""

    sessions: AllSessions
    instances: Instances | None = None
    itself: OwnState | None = None

    def shares(self) -> Sequence[Share]:
        """What the others add to sums."""
        return () if self.instances is None else self.instances.shares()


@dataclass(frozen=True)
class Dashboard:
    health: Health
    summary: Summary
    topics: Topics
    revisions: Revisions
    archive: EventArchive
    figures: Figures
    notifier: Notifier
    shown: Shown


@contextlib.asynccontextmanager
async def open_dashboard(
    given: Given, accounts: Accounts, clients: Clients, usage: Usage
) -> AsyncIterator[Dashboard]:
    clock, feed, jobs = given.clock, given.feed, Jobs()
    findings = await _findings(given, jobs)
    event_log, archive = await _events(given, clients.keys, jobs)
    health = Health(
        accounts.pool,
        clients.keys,
        usage.series,
        findings,
        clock,
        archive.unsaved,
        lambda: accounts.affinity.resources.unsaved,
        given.storage,
    )
    feed.tell(Happened("server.started", f"Claude Proxy {__version__} started"))
    shown = await _shown(given, accounts, clients, usage, health, jobs)
    figures = Figures(accounts.pool, accounts.affinity, usage.moves, usage.series, shown.shares)
    summary = _summary(given, accounts, clients, usage, health, figures, shown)
    topics = _topics(given, accounts, clients, usage, summary, figures, shown)
    logs: Mapping[str, Log] = {EVENTS: event_log, REQUESTS: usage.request_log}
    revisions = Revisions(feed, topics.sources(), logs, epoch=secrets.token_hex(8))
    async with contextlib.AsyncExitStack() as leaving:
        leaving.push_async_callback(jobs.close)
        notifier = _notifier(given, health, jobs)
        leaving.callback(notifier.close)
        yield Dashboard(health, summary, topics, revisions, archive, figures, notifier, shown)


async def _shown(
    given: Given, accounts: Accounts, clients: Clients, usage: Usage, health: Health, jobs: Jobs
) -> Shown:
    if given.shared is None:
        return Shown(AllSessions(clients.sessions))
    itself = OwnState(
        pool=accounts.pool,
        affinity=accounts.affinity,
        sessions=clients.sessions,
        series=usage.series,
        moves=usage.moves,
        unclassified=given.unclassified,
        health=health,
        clock=given.clock,
    )
    instances = Instances(
        given.shared.peers,
        clients.sessions,
        itself.look,
        counters=given.storage,
        feed=given.feed,
        clock=given.clock,
    )
    await instances.open()
    jobs.every("tell that this instance lives", periods.BEAT_S, instances.beat)
    jobs.every("tell of sessions", periods.TELL_SESSIONS_S, instances.tell)
    return Shown(SharedSessions(clients.sessions, instances), instances, itself)


def _topics(
    given: Given,
    accounts: Accounts,
    clients: Clients,
    usage: Usage,
    summary: Summary,
    figures: Figures,
    shown: Shown,
) -> Topics:
    return Topics(
        given.feed,
        pool=accounts.pool,
        keys=clients.keys,
        refresher=accounts.refresher,
        sessions=shown.sessions,
        budgets=clients.budgets,
        series=usage.series,
        logins=accounts.logins,
        summary=summary,
        figures=figures,
        clock=given.clock,
        instances=shown.instances,
    )


def _name_of(keys: ClientKeys) -> Callable[[str], str | None]:
    return lambda key_id: keys[key_id].name if key_id in keys else None


async def _events(given: Given, keys: ClientKeys, jobs: Jobs) -> tuple[EventLog, EventArchive]:
    feed, clock, storage, shared = given.feed, given.clock, given.storage, given.shared
    if shared is None:
        events = EventLog(feed, clock=clock, key_name=_name_of(keys))
        return events, await _archive(given, events, ChainedLog(storage, jobs), jobs)
    of_all = SharedEventLog(feed, clock=clock, key_name=_name_of(keys), instance=shared.instance)
    chain = SharedChain(storage, shared, jobs, take=of_all.take, reached=of_all.reached, clock=clock)
    archive = await _archive(given, of_all, chain, jobs)
    chain.follow()
    jobs.every("follow events", periods.SAVE_AGAIN_S, chain.follow)
    return of_all, archive


async def _archive(given: Given, events: EventLog, stored: ChainedLog, jobs: Jobs) -> EventArchive:
    archive = EventArchive(
        events,
        stored,
        EventHistory(events, given.storage),
        feed=given.feed,
        clock=given.clock,
        keep_s=given.settings.storage.keep_events,
    )
    await archive.open()
    given.last_saves.add("events", archive.save, archive.left)
    jobs.every("save events", periods.SAVE_AGAIN_S, archive.save_again)
    jobs.every("remove old events", periods.REMOVE_OLD_S, archive.remove_old)
    return archive


def _summary(
    given: Given,
    accounts: Accounts,
    clients: Clients,
    usage: Usage,
    health: Health,
    figures: Figures,
    shown: Shown,
) -> Summary:
    return Summary(
        pool=accounts.pool,
        capacity=accounts.quota.capacity,
        keys=clients.keys,
        refresher=accounts.refresher,
        sessions=shown.sessions,
        series=usage.series,
        ttfb_ms=usage.ttfb_ms,
        unclassified=given.unclassified,
        health=health,
        figures=figures,
        clock=given.clock,
        insecure=is_insecure(given.settings),
        shares=shown.shares,
    )


async def _findings(given: Given, jobs: Jobs) -> Findings:
    table = await open_table(
        "findings",
        load=load_findings,
        record=Finding.record,
        read=read_finding,
        storage=given.storage,
        jobs=jobs,
    )
    findings = Findings(table, given.feed)
    given.last_saves.add("findings", findings.save_again, findings.left)
    jobs.every("save findings again", periods.SAVE_AGAIN_S, findings.save_again)
    return findings


def _notifier(given: Given, health: Health, jobs: Jobs) -> Notifier:
    settings, clock = given.settings, given.clock
    notifier = Notifier(
        proxy=settings.outbound_proxy,
        ca_file=settings.claude.ca_file,
        jobs=jobs,
        clock=clock,
        rng=given.rng,
    )
    notifier.aim(targets(settings), settings.notifications.repeat_after)
    alarms = Alarms(notifier, health, clock=clock)
    given.feed.on_account_change(alarms.account_changed)
    given.feed.on_event(alarms.happened)
    jobs.every("look at health", periods.LOOK_S, alarms.look)
    jobs.every("send what was held", periods.LOOK_S, notifier.look)
    return notifier
