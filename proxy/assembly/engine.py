"""Enters all rooms, and makes the parts of a running proxy of what is in them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import tornado

from proxy import __version__
from proxy.accounts.affinity import Affinity
from proxy.accounts.credentials import Credentials
from proxy.accounts.logins import Logins
from proxy.accounts.pool import Pool
from proxy.accounts.quota_watch import QuotaWatch
from proxy.accounts.refresh import Refresher
from proxy.accounts.upkeep import Upkeep
from proxy.adjustments import Adjustable, http_options
from proxy.assembly import periods
from proxy.assembly.accounts import Accounts, open_accounts, open_client
from proxy.assembly.clients import Clients, SharedKeys, open_clients
from proxy.assembly.dashboard import Shown, open_dashboard
from proxy.assembly.given import Former, Given, keyring, open_given
from proxy.assembly.relay import Entered, make_adjustable, metrics, sinks
from proxy.assembly.usage import open_usage
from proxy.clients.admin_key import AdminKey
from proxy.clients.budgets import Budgets
from proxy.clients.keys import ClientKeys
from proxy.clients.rotation import Rotation
from proxy.clients.sessions import Sessions
from proxy.clients.signins import Signins
from proxy.clock import Clock
from proxy.config.reload import Reload
from proxy.config.settings import Settings
from proxy.dashboard.about import About
from proxy.dashboard.event_archive import EventArchive
from proxy.dashboard.figures import Figures
from proxy.dashboard.health import Health
from proxy.dashboard.metrics import Metrics
from proxy.dashboard.revisions import Revisions
from proxy.dashboard.summary import Summary
from proxy.dashboard.topics import Topics
from proxy.feed import Feed
from proxy.http.options import HttpOptions
from proxy.jobs import Jobs
from proxy.lag import LoopLag
from proxy.relay.relay import Relay
from proxy.storage.handover import SPENDING, USAGE, Restore, TakeOver
from proxy.storage.protocols import Record
from proxy.storage.unsaved import Unsaved
from proxy.upstream.driver import CurlClient, check_libcurl
from proxy.usage.allowance import Allowance
from proxy.usage.breakdown import Breakdown
from proxy.usage.failed_tries import FailedTries
from proxy.usage.late import Late, restore
from proxy.usage.request import Sink
from proxy.usage.request_log import RequestLog
from proxy.usage.series import Series


@dataclass(frozen=True)
class Parts:
    """What a running proxy consists of. `jobs` end before any room is left."""

    http: HttpOptions
    admin_key: AdminKey
    clock: Clock
    feed: Feed
    jobs: Jobs
    pool: Pool
    quota: QuotaWatch
    affinity: Affinity
    refresher: Refresher
    credentials: Credentials
    logins: Logins
    keys: ClientKeys
    rotation: Rotation
    signins: Signins
    sessions: Sessions
    shown: Shown
    budgets: Budgets
    shared_keys: SharedKeys | None
    allowance: Allowance
    series: Series
    failed_tries: FailedTries
    breakdown: Breakdown
    request_log: RequestLog
    sinks: Sequence[Sink]
    relay: Relay
    health: Health
    figures: Figures
    summary: Summary
    topics: Topics
    revisions: Revisions
    archive: EventArchive
    metrics: Metrics
    lag: LoopLag
    about: About
    on_http: list[Callable[[HttpOptions], None]]
    """Who is told when the configuration says something else of HTTP."""

    late: Late

    @property
    def hurried(self) -> asyncio.Event:
        """Set it so that a shutdown waits for nothing any more."""
        return self.late.hurried

    def listening(self, port: int) -> None:
        """Note where requests come in."""
        if self.shown.itself is not None:
            self.shown.itself.port = port

    def tick(self) -> None:
        """Change what time changes: cooldowns that pass; logins, former keys, sign-ins and sessions that end."""
        self.pool.tick()
        self.rotation.tick()
        for key_id in self.budgets.tick():
            self.feed.touch("tokens", key_id)
        self.logins.forget_old()
        self.signins.clean()
        self.sessions.tick()

    def reload(self, was_asked: bool) -> None:
        """Read the configuration again, beside the caller. The log says what came of it."""
        self.jobs.start("reload", self.about.reload(was_asked=was_asked))


@contextlib.asynccontextmanager
async def engine(
    settings: Settings, clock: Clock, rng: random.Random, former: Former | None = None
) -> AsyncIterator[Parts]:
    """All parts, running; stopped in reverse order. Raises StartError.

    The `former` process gives up the data folder to this one.
    """
    async with contextlib.AsyncExitStack() as rooms:
        client = rooms.enter_context(open_client(settings))
        outlives = await rooms.enter_async_context(contextlib.AsyncExitStack())
        given = await rooms.enter_async_context(open_given(settings, clock, rng, outlives, former))
        entered = await _enter(rooms, given, client)
        rooms.push_async_callback((jobs := Jobs()).close)
        await _take_over(given, entered, jobs)
        yield _begun(given, entered[0], _parts(given, client, jobs, entered))


def _parts(given: Given, client: CurlClient, jobs: Jobs, entered: Entered) -> Parts:
    (accounts, clients, usage, dashboard), adjustable = entered, make_adjustable(given, client, entered)
    return Parts(
        http=http_options(given.settings),
        admin_key=given.admin_key,
        clock=given.clock,
        feed=given.feed,
        jobs=jobs,
        pool=accounts.pool,
        quota=accounts.quota,
        affinity=accounts.affinity,
        refresher=accounts.refresher,
        credentials=_credentials(given, accounts, clients),
        logins=accounts.logins,
        keys=clients.keys,
        rotation=clients.rotation,
        signins=clients.signins,
        sessions=clients.sessions,
        shown=dashboard.shown,
        budgets=clients.budgets,
        shared_keys=clients.shared_keys,
        allowance=usage.allowance,
        series=usage.series,
        failed_tries=usage.failed_tries,
        breakdown=Breakdown(usage.series, given.storage),
        request_log=usage.request_log,
        sinks=sinks(given, accounts, usage, dashboard.topics),
        relay=adjustable.relay,
        health=dashboard.health,
        figures=dashboard.figures,
        summary=dashboard.summary,
        topics=dashboard.topics,
        revisions=dashboard.revisions,
        archive=dashboard.archive,
        metrics=metrics(given, client, entered),
        lag=given.lag,
        about=_about(given, adjustable),
        on_http=adjustable.on_http,
        late=given.late,
    )


async def _enter(rooms: contextlib.AsyncExitStack, given: Given, client: CurlClient) -> Entered:
    accounts = await rooms.enter_async_context(open_accounts(given, client))
    clients = await rooms.enter_async_context(open_clients(given))
    usage = await rooms.enter_async_context(open_usage(given, accounts.pool, clients))
    accounts.affinity.resources.save_first(partial(usage.series.flush, given.storage))
    dashboard = await rooms.enter_async_context(open_dashboard(given, accounts, clients, usage))
    given.storage.listen()
    return accounts, clients, usage, dashboard


def _begun(given: Given, accounts: Accounts, parts: Parts) -> Parts:
    """The parts, after a start of what goes on while they run, beside the jobs of the rooms."""
    parts.jobs.every("tick", periods.TICK_S, parts.tick)
    parts.jobs.every(
        "forget counters", periods.SAVE_COUNTERS_S, partial(_orphans(given, parts).save, given.storage)
    )
    parts.jobs.every("look at the data folder", periods.LOOK_AT_FOLDER_S, given.storage.write_anew)
    _look_at_accounts(accounts.upkeep, parts.jobs)
    return parts


def _look_at_accounts(upkeep: Upkeep, jobs: Jobs) -> None:
    """Look at every account, now and from time to time, and at those whose refresh has failed between.

    A shutdown ends a look, which may take long, before anything else. The refreshes that it has begun are jobs of their
    own, and are awaited; no other one begins.
    """
    jobs.start("upkeep at start", upkeep.look(), wait=False)
    jobs.every("upkeep", upkeep.interval_s, upkeep.look, jitter=0.1, wait=False)
    jobs.every("try refreshes again", periods.LOOK_AGAIN_S, upkeep.look_again, jitter=0.1, wait=False)


async def _take_over(given: Given, entered: Entered, jobs: Jobs) -> None:
    """Take what a former process hands over, before the first request and from then on."""
    accounts, clients, usage, _ = entered
    if clients.counters is None:
        return  # both processes write to the store that they share
    resources, storage = accounts.affinity.resources, given.storage
    restores: dict[str, Restore] = {
        "resources": resources.restore,
        SPENDING: clients.budgets.restore,
        USAGE: partial(restore, usage.series),
    }
    saves = (resources.save, partial(usage.series.flush, storage), partial(clients.counters.save, storage))
    take_over = TakeOver(given.settings.storage.data_folder, restores, saves)
    await take_over.take()
    jobs.every("take over", periods.TAKE_OVER_S, take_over.take)


def _credentials(given: Given, accounts: Accounts, clients: Clients) -> Credentials:
    def is_ours(key: str) -> bool:
        return given.admin_key.opens(key) or clients.keys.accept([key]) is not None

    return Credentials(accounts.pool, accounts.probe, accounts.refresher, is_ours=is_ours)


def _orphans(given: Given, parts: Parts) -> Unsaved[Record]:
    """The stored counters whose account, key or sign-in is gone, to be removed: it was deleted just before a crash."""
    orphans = Unsaved[Record]("counters", lambda id: None, dict, given.counters)
    for id in given.counters:
        if not any(id in owner for owner in (parts.pool, parts.keys, parts.signins)):
            orphans.add(id)
    return orphans


def _about(given: Given, adjustable: Adjustable) -> About:
    settings, reload = given.settings, Reload(given.settings, given.feed, adjustable.takers())
    python, own = ".".join(map(str, sys.version_info[:3])), settings.oauth
    needed = {"client_id": own.client_id, "authorize_url": own.authorize_url, "token_url": own.token_url}
    return About(
        version=__version__,
        runtime=f"Python {python}, Tornado {tornado.version}, {check_libcurl()}",
        configuration=reload.view,
        read_again=reload.again,
        data_folder=settings.storage.data_folder,
        encryption=keyring(settings).id,
        missing_for_oauth=[f"oauth.{name}" for name, value in needed.items() if value is None],
        notifier=adjustable.notifier,
    )
