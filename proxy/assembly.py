"""Makes a running proxy of its rooms: one opener a room, left in reverse order.

Each opener makes its room's parts, registers their jobs and saves their counters. Nobody else hands settings out.
Longer than other files: it is the one place that knows every part.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import tornado

from proxy import __version__
from proxy.accounts.account import LEASED, TOGETHER, Account, adopt, load_accounts, read_account
from proxy.accounts.affinity import Affinity
from proxy.accounts.alone import RENEW_S, Shared
from proxy.accounts.capacity import Capacity
from proxy.accounts.conversations import Conversations
from proxy.accounts.credentials import Credentials
from proxy.accounts.lessons import Teacher
from proxy.accounts.login import Logins
from proxy.accounts.oauth import OAuthServer, Registration
from proxy.accounts.pool import Pool
from proxy.accounts.probe import Probe
from proxy.accounts.quota_alerts import QuotaAlerts
from proxy.accounts.quota_history import QuotaHistory, read_quota_record
from proxy.accounts.quota_watch import QuotaWatch
from proxy.accounts.refresh import Refresher
from proxy.accounts.resources import Resources
from proxy.accounts.shared_use import SharedUse as SharedAccountUse
from proxy.accounts.upkeep import Upkeep
from proxy.adjustments import Adjustable, declared_keys, http_options, is_insecure, retry, targets
from proxy.clients.admin_key import AdminKey
from proxy.clients.budgets import Budgets
from proxy.clients.counters import KeyCounters, read_counters
from proxy.clients.declared import Declared
from proxy.clients.keys import ClientKey, ClientKeys, KeyStatus, key_record, load_keys, read_key
from proxy.clients.rotation import Rotation
from proxy.clients.sessions import Sessions, read_session
from proxy.clients.shared import LEASE_S, SharedLimits, unless_away
from proxy.clients.shared_use import SharedUse
from proxy.clients.signins import Signins, load_signins, read_signin, signin_record
from proxy.clock import Clock
from proxy.config.reload import Reload
from proxy.config.settings import Settings
from proxy.dashboard.about import About
from proxy.dashboard.account_metrics import AccountMetrics
from proxy.dashboard.all_sessions import AllSessions, SharedSessions
from proxy.dashboard.event_archive import EventArchive
from proxy.dashboard.event_history import EventHistory
from proxy.dashboard.event_log import EventLog, SharedEventLog
from proxy.dashboard.figures import Figures
from proxy.dashboard.health import Health
from proxy.dashboard.instances import Instances, Share
from proxy.dashboard.itself import OwnState
from proxy.dashboard.metrics import Metrics, StateMetrics, Watched
from proxy.dashboard.notify.alarms import Alarms
from proxy.dashboard.notify.notifier import Notifier
from proxy.dashboard.revisions import EVENTS, REQUESTS, Log, Revisions
from proxy.dashboard.summary import Summary
from proxy.dashboard.topics import Topics
from proxy.errors import StorageError, StoreAway
from proxy.feed import Feed, Happened
from proxy.http.options import HttpOptions
from proxy.http.outbound import shown
from proxy.jobs import Jobs
from proxy.lag import LoopLag
from proxy.redaction import Redaction
from proxy.relay.attempts import Means
from proxy.relay.relay import Relay
from proxy.storage.address import StoreAddress
from proxy.storage.chained_log import ChainedLog
from proxy.storage.day_files import DayFiles
from proxy.storage.envelope import Keyring
from proxy.storage.findings import Finding, Findings, load_findings, read_finding
from proxy.storage.folder import FolderInUse, make_spool
from proxy.storage.handover import SPENDING, USAGE, HandOver, Restore, TakeOver
from proxy.storage.json_files import JsonFiles
from proxy.storage.last_saves import LastSaves
from proxy.storage.layout import REQUESTS as REQUEST_DAYS
from proxy.storage.peers import Sums
from proxy.storage.protocols import Kind, Reader, Record, Storage
from proxy.storage.shared_chain import SharedChain
from proxy.storage.shared_table import open_table
from proxy.storage.table import Table
from proxy.storage.timed import Timed
from proxy.storage.unsaved import Unsaved
from proxy.upstream.driver import CurlClient, check_libcurl
from proxy.upstream.unclassified import Unclassified
from proxy.usage import access_log, prices
from proxy.usage.allowance import Allowance, SharedAllowance, price
from proxy.usage.breakdown import Breakdown
from proxy.usage.elsewhere import UsageElsewhere
from proxy.usage.failed_tries import FailedTries
from proxy.usage.late import Late, restore
from proxy.usage.latency import Latency
from proxy.usage.metrics import RequestMetrics
from proxy.usage.moves import Moves
from proxy.usage.request import RequestRecord, Sink
from proxy.usage.request_archive import RequestArchive
from proxy.usage.request_log import RequestLog
from proxy.usage.series import Series
from proxy.usage.shared_requests import SharedRequests

if TYPE_CHECKING:
    from proxy.storage.redis_store import RedisStore

TICK_S = 1.0
LOCKED_S = 0.05
SAVE_COUNTERS_S = 5.0
TELL_CONVERSATIONS_S = 0.25
"""The next turn may come to another instance."""

SAVE_AGAIN_S = 1.0
SAVE_USAGE_S = 2.0
TAKE_OVER_S = 0.2
COMPACT_USAGE_S = 900.0
REMOVE_OLD_S = 3600.0
LOOK_S = 5.0
HEAR_S = 60.0
LOOK_AT_QUOTA_S = 30.0
SAVE_QUOTA_S = 300.0
EXCHANGE_USE_S = 2.0
BEAT_S = 2.0
TELL_SESSIONS_S = 0.5
TELL_REQUESTS_S = 0.25
COMPACTED_S = COMPACT_USAGE_S * 0.9
"""One instance compacts for all, and none does in the time until the next turn."""

ADOPTION_S = 5.0

READERS: Mapping[Kind, Reader] = MappingProxyType(
    {
        "accounts": read_account,
        "tokens": read_key,
        "signins": read_signin,
        "findings": read_finding,
        "counters": read_counters,
        "sessions": read_session,
        "quota": read_quota_record,
    }
)

log = logging.getLogger("proxy")


@dataclass(frozen=True)
class Former:
    """A process that gives up the data folder within a time, from when it is told that it is `waited_for`."""

    within_s: float
    waited_for: Callable[[], None]


@dataclass(frozen=True)
class SharedKeys:
    """The limits and the use of client keys over all instances."""

    limits: SharedLimits
    use: SharedUse


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

    def reload(self) -> None:
        """Read the configuration again, beside the caller. The log says what came of it."""
        self.jobs.start("reload", self.about.reload())


@dataclass(frozen=True)
class _Given:
    """What every room is given."""

    settings: Settings
    clock: Clock
    rng: random.Random
    feed: Feed
    storage: Timed
    shared: RedisStore | None
    """What runs the scripts of the store that several instances share, if they do."""

    last_saves: LastSaves
    late: Late
    counters: dict[str, Record]
    admin_key: AdminKey
    unclassified: Unclassified
    lag: LoopLag


@dataclass(frozen=True)
class _Accounts:
    pool: Pool
    affinity: Affinity
    quota: QuotaWatch
    refresher: Refresher
    probe: Probe
    logins: Logins
    upkeep: Upkeep


@dataclass(frozen=True)
class _Clients:
    keys: ClientKeys
    rotation: Rotation
    signins: Signins
    budgets: Budgets
    counters: KeyCounters | None
    sessions: Sessions
    shared_keys: SharedKeys | None


@dataclass(frozen=True)
class _Usage:
    allowance: Allowance
    series: Series
    latency: Latency
    request_log: RequestLog
    failed_tries: FailedTries
    moves: Moves
    metrics: RequestMetrics
    ttfb_ms: Callable[[], Mapping[str, float | None]]


@dataclass(frozen=True)
class _Dashboard:
    health: Health
    summary: Summary
    topics: Topics
    revisions: Revisions
    archive: EventArchive
    figures: Figures
    notifier: Notifier
    shown: Shown


_Entered = tuple[_Accounts, _Clients, _Usage, _Dashboard]
"""The rooms, in the order in which they are entered."""


@contextlib.asynccontextmanager
async def engine(
    settings: Settings, clock: Clock, rng: random.Random, former: Former | None = None
) -> AsyncIterator[Parts]:
    """All parts, running; stopped in reverse order. Raises StartError.

    The `former` process gives up the data folder to this one.
    """
    async with contextlib.AsyncExitStack() as rooms:
        client = rooms.enter_context(_client(settings))
        outlives = await rooms.enter_async_context(contextlib.AsyncExitStack())
        given = await rooms.enter_async_context(_given(settings, clock, rng, outlives, former))
        entered = await _enter(rooms, given, client)
        rooms.push_async_callback((jobs := Jobs()).close)
        await _take_over(given, entered, jobs)
        yield _begun(given, entered[0], _parts(given, client, jobs, entered))


def _parts(given: _Given, client: CurlClient, jobs: Jobs, entered: _Entered) -> Parts:
    (accounts, clients, usage, dashboard), adjustable = entered, _adjustable(given, client, entered)
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
        sinks=_sinks(given, usage, dashboard.topics),
        relay=adjustable.relay,
        health=dashboard.health,
        figures=dashboard.figures,
        summary=dashboard.summary,
        topics=dashboard.topics,
        revisions=dashboard.revisions,
        archive=dashboard.archive,
        metrics=_metrics(given, client, entered),
        lag=given.lag,
        about=_about(given, adjustable),
        on_http=adjustable.on_http,
        late=given.late,
    )


async def _enter(rooms: contextlib.AsyncExitStack, given: _Given, client: CurlClient) -> _Entered:
    accounts = await rooms.enter_async_context(_accounts(given, client))
    clients = await rooms.enter_async_context(_clients(given))
    usage = await rooms.enter_async_context(_usage(given, accounts.pool, clients))
    dashboard = await rooms.enter_async_context(_dashboard(given, accounts, clients, usage))
    given.storage.listen()
    return accounts, clients, usage, dashboard


def _begun(given: _Given, accounts: _Accounts, parts: Parts) -> Parts:
    """The parts, after a start of what goes on while they run, beside the jobs of the rooms."""
    parts.jobs.every("tick", TICK_S, parts.tick)
    parts.jobs.every("forget counters", SAVE_COUNTERS_S, partial(_orphans(given, parts).save, given.storage))
    parts.jobs.start("upkeep at start", accounts.upkeep.look())
    return parts


async def _take_over(given: _Given, entered: _Entered, jobs: Jobs) -> None:
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
    jobs.every("take over", TAKE_OVER_S, take_over.take)


@contextlib.asynccontextmanager
async def _given(
    settings: Settings,
    clock: Clock,
    rng: random.Random,
    outlives: contextlib.AsyncExitStack,
    former: Former | None,
) -> AsyncIterator[_Given]:
    """What every room is given. What the rooms have added to the last saves is saved after they were left.

    What `outlives` holds is left after the data folder was given up, and before the upstream's client is closed.
    """
    inner = await _opened(settings, clock, former)
    storage = Timed(inner, clock)
    try:
        for notice in storage.notices:
            log.warning("%s", notice)
        last = LastSaves(clock)
        late = Late(storage, LastSaves(clock, last.hurried), outlives)
        yield _Given(
            settings,
            clock,
            rng,
            Feed(),
            storage,
            _pool_of(inner),
            last,
            late,
            await storage.load("counters"),
            AdminKey(settings.auth.key),
            Unclassified(),
            LoopLag(clock),
        )
        await last.run()
        if inner.is_shared:
            await _leave(inner)
    finally:
        if not inner.is_shared:
            inner = storage.replace(HandOver(settings.storage.data_folder, clock))
        await inner.close()


async def _opened(settings: Settings, clock: Clock, former: Former | None) -> Storage:
    """The shared store, or the data folder as soon as nobody else has it. Raises StorageError."""
    if settings.storage.address is not None:
        shared = await _storage(settings, clock)
        if former is not None:
            former.waited_for()  # though it is not: both may use the store
        return shared
    folder, began, waits = settings.storage.data_folder, clock.monotonic(), False
    while True:
        try:
            return files_in(folder, settings, clock)
        except FolderInUse as error:
            if former is None or clock.monotonic() - began >= former.within_s:
                raise
            if not waits:
                log.info("waiting until it is given up: %s", error)
                former.waited_for()
            waits = True
        await clock.sleep(LOCKED_S)


async def _leave(storage: Storage) -> None:
    """Have the others forget this instance at once: else they do when its lease has ended."""
    shared = _pool_of(storage)
    assert shared is not None
    with contextlib.suppress(StorageError):
        await shared.peers.leave()


def _pool_of(storage: Storage) -> RedisStore | None:
    """The store with its scripts, if several instances share it."""
    if not storage.is_shared:
        return None
    from proxy.storage.redis_store import RedisStore

    assert isinstance(storage, RedisStore)
    return storage


async def _storage(settings: Settings, clock: Clock) -> Storage:
    """JSON files, or the store that instances share. Raises StorageError."""
    address = settings.storage.address
    if address is None:
        return files_in(settings.storage.data_folder, settings, clock)
    make_spool(settings.storage.data_folder)
    return await shared_at(address, settings, clock)


def files_in(folder: Path, settings: Settings, clock: Clock) -> Storage:
    """JSON files in a folder. Raises StorageError."""
    return JsonFiles.open(folder, clock=clock, keyring=keyring(settings), readers=READERS)


async def shared_at(address: StoreAddress, settings: Settings, clock: Clock) -> Storage:
    """The store at an address, otherwise as it is set. Raises StorageError."""
    # Imported if it is used: it takes 0.1 s and 10 MB.
    from proxy.storage.redis_store import opened

    return await opened(
        address,
        instance=_new_id("ins"),
        name=settings.storage.name,
        timeout_s=settings.storage.timeout,
        ca_file=settings.storage.ca_file,
        durability=settings.storage.durability,
        keyring=keyring(settings),
        clock=clock,
    )


async def store_away(settings: Settings, clock: Clock) -> str | None:
    """Why the shared store cannot be reached; None if it can. Raises StorageError if it can, and will not do."""
    if settings.storage.address is not None:
        try:
            await (await _storage(settings, clock)).close()
        except StoreAway as error:
            return str(error)
    return None


def keyring(settings: Settings) -> Keyring:
    """What files are encrypted with."""
    return Keyring(settings.storage.key, settings.storage.old_keys)


@contextlib.contextmanager
def _client(settings: Settings) -> Iterator[CurlClient]:
    server = settings.server
    client = CurlClient.to(
        settings.claude.base_url,
        idle_timeout_s=server.request_timeout,
        answer_timeout_s=server.answer_timeout,
        proxy=settings.outbound_proxy,
        ca_file=settings.claude.ca_file,
    )
    try:
        yield client
    finally:
        client.close()


@contextlib.asynccontextmanager
async def _accounts(given: _Given, client: CurlClient) -> AsyncIterator[_Accounts]:
    settings, clock, storage, jobs = given.settings, given.clock, given.storage, Jobs()
    pool = Pool(
        await _account_table(storage, jobs),
        given.counters,
        clock=clock,
        most_remaining=settings.balancer.strategy == "most_remaining",
        feed=given.feed,
        new_id=_new_id,
        idle_threshold_s=settings.accounts.idle_threshold,
    )
    if given.shared is not None:
        await _share_use(given, given.shared.sums, pool, jobs)
    affinity = await _affinity(given, pool, jobs)
    quota = await _quota(given, pool, jobs)
    oauth = _oauth_server(settings, clock)
    refresher = _refresher(given, pool, oauth, jobs)
    logins = Logins(pool, refresher, oauth, feed=given.feed, jobs=jobs, clock=clock, new_id=_new_id)
    upkeep = Upkeep(
        pool,
        refresher,
        interval_s=settings.scheduler.interval,
        deactivates=settings.accounts.auto_deactivate,
    )
    async with contextlib.AsyncExitStack() as leaving:
        if oauth is not None:
            leaving.callback(oauth.close)
        given.last_saves.add("accounts", pool.save_again, pool.left)
        given.last_saves.add("the counters of accounts", partial(pool.save_counters, storage))
        leaving.push_async_callback(jobs.close)
        jobs.every("save accounts again", SAVE_AGAIN_S, partial(_save_again, pool, refresher))
        jobs.every("save counters of accounts", SAVE_COUNTERS_S, partial(pool.save_counters, storage))
        jobs.every("upkeep", upkeep.interval_s, upkeep.look, jitter=0.1)
        refresher.start()
        yield _Accounts(pool, affinity, quota, refresher, Probe(client, jobs, clock), logins, upkeep)


async def _share_use(given: _Given, sums: Sums, pool: Pool, jobs: Jobs) -> None:
    use = SharedAccountUse(sums, pool, feed=given.feed)
    await use.open()
    given.last_saves.add("the use of accounts", use.exchange)
    jobs.every("exchange the use of accounts", EXCHANGE_USE_S, use.exchange)


async def _save_again(pool: Pool, refresher: Refresher) -> None:
    """Write what could not be written before. Tokens among it are used from then on."""
    waited = tuple(pool.unsaved)
    await pool.save_again()
    for account in (pool[id] for id in waited if id in pool):
        refresher.settled(account)


async def _account_table(storage: Storage, jobs: Jobs) -> Table[Account]:
    return await open_table(
        "accounts",
        load=load_accounts,
        record=Account.record,
        read=read_account,
        adopt=adopt,
        together=TOGETHER,
        leased=LEASED,
        storage=storage,
        jobs=jobs,
    )


def _refresher(given: _Given, pool: Pool, oauth: OAuthServer | None, jobs: Jobs) -> Refresher:
    if not given.storage.is_shared:
        return Refresher(pool, oauth, jobs=jobs, clock=given.clock, rng=given.rng)
    alone = Shared(pool, given.storage, given.clock)
    jobs.every("renew leases", RENEW_S, alone.renew)
    jobs.every("tidy leases", SAVE_AGAIN_S, alone.tidy)
    refresher = Refresher(pool, oauth, alone=alone, jobs=jobs, clock=given.clock, rng=given.rng)
    given.feed.on_account_change(refresher.heard)
    return refresher


async def _affinity(given: _Given, pool: Pool, jobs: Jobs) -> Affinity:
    balancer, storage = given.settings.balancer, given.storage
    resources = Resources(storage, clock=given.clock)
    conversations = Conversations(storage, clock=given.clock, ttl_s=balancer.affinity_ttl)
    await resources.load()
    await conversations.load()
    given.last_saves.add("resources", resources.save, resources.left)
    given.last_saves.add("conversations", conversations.save)
    jobs.every("save resources", SAVE_AGAIN_S, resources.save)
    interval_s = TELL_CONVERSATIONS_S if storage.is_shared else SAVE_COUNTERS_S
    jobs.every("save conversations", interval_s, conversations.save)
    return Affinity(pool, resources, conversations, on=balancer.affinity, shared=balancer.isolation == "none")


async def _quota(given: _Given, pool: Pool, jobs: Jobs) -> QuotaWatch:
    clock, feed, storage = given.clock, given.feed, given.storage
    history = QuotaHistory(pool, await storage.load("quota"), feed=feed, clock=clock)
    alerts = QuotaAlerts(pool, given.settings.accounts.quota_alert, feed=feed, clock=clock)
    watch = QuotaWatch(history, Capacity(pool, feed=feed, clock=clock), alerts)
    given.last_saves.add("the history of quota", partial(history.save, storage))
    jobs.every("look at quota", LOOK_AT_QUOTA_S, watch.look)
    jobs.every("save the history of quota", SAVE_QUOTA_S, partial(history.save, storage))
    return watch


@contextlib.asynccontextmanager
async def _clients(given: _Given) -> AsyncIterator[_Clients]:
    session, storage, jobs = given.settings.session, given.storage, Jobs()
    keys = await _keys(given, jobs)
    signins = await _signins(given, keys, jobs)
    budgets = Budgets(given.counters, clock=given.clock)
    sessions = Sessions(
        await _stored_sessions(given),
        feed=given.feed,
        enabled=session.enabled,
        max_concurrent=session.max_concurrent,
        queue_timeout_s=session.queue_timeout,
        ttl_s=session.session_ttl,
        clock=given.clock,
        new_id=_new_id,
        cleans=session.cleanup_enabled,
    )
    shared = await _shared_keys(given, keys, budgets, sessions, jobs)
    counters = None if shared else _key_counters(given, keys, budgets, jobs)
    saves = {
        "the last use of sign-ins": signins.save_counters,
        "sessions": sessions.save,
    }
    keys.on_change_elsewhere(partial(_ended_elsewhere, keys, budgets, sessions))
    async with contextlib.AsyncExitStack() as leaving:
        for what, save in saves.items():
            given.last_saves.add(what, partial(save, storage))
            jobs.every("save counters of clients", SAVE_COUNTERS_S, partial(save, storage))
        for part in (keys, signins):
            given.last_saves.add("client keys", part.save_again, part.left)
            jobs.every("save clients again", SAVE_AGAIN_S, part.save_again)
        if storage.is_shared:
            jobs.every("hear of sign-ins", HEAR_S, partial(signins.hear, storage))
        leaving.push_async_callback(jobs.close)
        if session.cleanup_interval < TICK_S:
            jobs.every("clean sessions", session.cleanup_interval, sessions.tick)
        yield _Clients(keys, Rotation(keys, clock=given.clock), signins, budgets, counters, sessions, shared)


def _key_counters(given: _Given, keys: ClientKeys, budgets: Budgets, jobs: Jobs) -> KeyCounters:
    """The counters and budgets of client keys, and when they are saved."""
    counters = KeyCounters(keys, budgets)

    async def save_last() -> None:
        given.late.begin()
        await counters.save(given.storage)

    given.last_saves.add("the counters and budgets of client keys", save_last)
    jobs.every("save counters of client keys", SAVE_COUNTERS_S, partial(counters.save, given.storage))
    return counters


async def _stored_sessions(given: _Given) -> dict[str, Record]:
    """Those of the last run. Of several instances the first one takes them up, since all others have gone."""
    if given.shared is None:
        return await given.storage.load("sessions")
    peers, lease = given.shared.peers, await given.storage.take("sessions", ADOPTION_S)
    if lease is None:
        return {}
    alone = not await peers.told()
    await peers.tell({"began": b"1"}, LEASE_S)  # so that the next one finds somebody
    stored = await given.storage.load("sessions") if alone else {}
    await given.storage.release(lease)
    return stored


async def _shared_keys(
    given: _Given, keys: ClientKeys, budgets: Budgets, sessions: Sessions, jobs: Jobs
) -> SharedKeys | None:
    """The limits that this instance shares with others, if it does."""
    store, clock = given.shared, given.clock
    if store is None:
        return None
    limits = SharedLimits(store.link, instance=store.instance, sessions=sessions, jobs=jobs, clock=clock)
    use = SharedUse(store.link, keys, budgets, instance=store.instance, feed=given.feed, clock=clock)
    await limits.renew()
    if adopted := await use.adopt(given.counters):
        await given.storage.update("counters", dict.fromkeys(adopted))
    await use.exchange()
    limits.listen()
    given.last_saves.add("what requests have used of shared limits", limits.save)
    given.last_saves.add("the use of client keys", use.tell)
    jobs.every("renew the lease", LEASE_S / 3, unless_away(limits.renew))
    jobs.every("hear of free slots", SAVE_AGAIN_S, limits.listen)
    jobs.every("settle again", SAVE_AGAIN_S, unless_away(limits.save))
    jobs.every("exchange the use of client keys", EXCHANGE_USE_S, unless_away(use.exchange))
    return SharedKeys(limits, use)


def _ended_elsewhere(keys: ClientKeys, budgets: Budgets, sessions: Sessions, key: ClientKey) -> None:
    """End what runs with a key, if another instance has ended or deleted it."""
    present = keys.get(key.id)
    if present is None:
        budgets.forget(key.id)
    if present is None or present.status is not KeyStatus.ACTIVE:
        sessions.end_of(key.id)


def _credentials(given: _Given, accounts: _Accounts, clients: _Clients) -> Credentials:
    def is_ours(key: str) -> bool:
        return given.admin_key.opens(key) or clients.keys.accept([key]) is not None

    return Credentials(accounts.pool, accounts.probe, accounts.refresher, is_ours=is_ours)


async def _keys(given: _Given, jobs: Jobs) -> ClientKeys:
    return ClientKeys(
        await open_table(
            "tokens",
            load=lambda records: load_keys(records.values()),
            record=key_record,
            read=read_key,
            storage=given.storage,
            jobs=jobs,
        ),
        given.counters,
        clock=given.clock,
        feed=given.feed,
        new_id=_new_id,
        declared=declared_keys(given.settings),
    )


async def _signins(given: _Given, keys: ClientKeys, jobs: Jobs) -> Signins:
    return Signins(
        await open_table(
            "signins",
            load=lambda records: load_signins(records.values()),
            record=signin_record,
            read=read_signin,
            storage=given.storage,
            jobs=jobs,
        ),
        given.counters,
        admin_key=given.admin_key,
        keys=keys,
        feed=given.feed,
        clock=given.clock,
    )


@contextlib.asynccontextmanager
async def _usage(given: _Given, pool: Pool, clients: _Clients) -> AsyncIterator[_Usage]:
    storage, series, jobs = given.storage, Series(clock=given.clock), Jobs()
    prices.load()
    await series.load(storage)
    requests, latency = await _request_log(given, jobs), Latency(clock=given.clock)
    if storage.is_shared:
        elsewhere = UsageElsewhere(series, storage, feed=given.feed, clock=given.clock)
        elsewhere.follow()
        jobs.every("follow usage", SAVE_USAGE_S, elsewhere.follow)
    async with contextlib.AsyncExitStack() as leaving:
        await _kept_requests(given, requests, jobs, leaving)
        given.last_saves.add("usage", partial(series.flush, storage), series.left)
        leaving.push_async_callback(jobs.close)
        jobs.every("save usage", SAVE_USAGE_S, partial(series.flush, storage))
        jobs.every("compact usage", COMPACT_USAGE_S, partial(_compact, series, storage))
        yield _Usage(
            _allowance(given, clients),
            series,
            latency,
            requests,
            FailedTries(clock=given.clock),
            Moves(clock=given.clock),
            RequestMetrics(lambda id: pool[id].name if id in pool else None),
            requests.ttfb_ms if isinstance(requests, SharedRequests) else latency.ttfb_ms,
        )


async def _request_log(given: _Given, jobs: Jobs) -> RequestLog:
    feed, clock, redact = given.feed, given.clock, Redaction(given.settings.secrets())
    if given.shared is None:
        return RequestLog(feed, clock=clock, redact=redact)
    requests = SharedRequests(feed, given.shared.peers, clock=clock, redact=redact)
    await requests.open()
    given.last_saves.add("the last requests", requests.save)
    jobs.every("tell of requests", TELL_REQUESTS_S, requests.save)
    return requests


async def _compact(series: Series, storage: Storage) -> None:
    if not storage.is_shared or await storage.take("compact usage", COMPACTED_S):
        await series.compact(storage)


async def _kept_requests(
    given: _Given, requests: RequestLog, jobs: Jobs, leaving: contextlib.AsyncExitStack
) -> None:
    """Keep the requests on disk too, if the settings say so."""
    storage = given.settings.storage
    if storage.keep_requests is None:
        return
    stored = DayFiles(storage.data_folder / REQUEST_DAYS)
    archive = RequestArchive(requests, stored, clock=given.clock, keep_s=storage.keep_requests)
    await archive.remove_old()
    await archive.open()
    leaving.push_async_callback(archive.close)
    given.late.at_end.append(archive.close)
    jobs.every("save requests", SAVE_AGAIN_S, archive.save)
    jobs.every("remove old requests", REMOVE_OLD_S, archive.remove_old)


def _allowance(given: _Given, clients: _Clients) -> Allowance:
    shared, budgets, clock = clients.shared_keys, clients.budgets, given.clock
    if shared is None:
        return Allowance(budgets, clock=clock)
    return SharedAllowance(budgets, shared.limits, shared.use, clock=clock)


def _sinks(given: _Given, usage: _Usage, topics: Topics) -> tuple[Sink, ...]:
    """What becomes of a request's record once it has ended, in this order: it is priced before anyone counts."""

    def priced(record: RequestRecord) -> None:
        price(record, given.clock.now())

    return (
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


def _metrics(given: _Given, client: CurlClient, entered: _Entered) -> Metrics:
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


def _teacher(given: _Given, accounts: _Accounts) -> Teacher:
    return Teacher(
        accounts.pool,
        accounts.probe,
        accounts.refresher,
        rate_limit_default_s=given.settings.accounts.rate_limit_default,
        clock=given.clock,
    )


def _relay(given: _Given, accounts: _Accounts, client: CurlClient, teacher: Teacher) -> Relay:
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


@contextlib.asynccontextmanager
async def _dashboard(
    given: _Given, accounts: _Accounts, clients: _Clients, usage: _Usage
) -> AsyncIterator[_Dashboard]:
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
        yield _Dashboard(health, summary, topics, revisions, archive, figures, notifier, shown)


async def _shown(
    given: _Given, accounts: _Accounts, clients: _Clients, usage: _Usage, health: Health, jobs: Jobs
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
    jobs.every("tell that this instance lives", BEAT_S, instances.beat)
    jobs.every("tell of sessions", TELL_SESSIONS_S, instances.tell)
    return Shown(SharedSessions(clients.sessions, instances), instances, itself)


def _topics(
    given: _Given,
    accounts: _Accounts,
    clients: _Clients,
    usage: _Usage,
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


async def _events(given: _Given, keys: ClientKeys, jobs: Jobs) -> tuple[EventLog, EventArchive]:
    feed, clock, storage, shared = given.feed, given.clock, given.storage, given.shared
    if shared is None:
        events = EventLog(feed, clock=clock, key_name=_name_of(keys))
        return events, await _archive(given, events, ChainedLog(storage, jobs), jobs)
    of_all = SharedEventLog(feed, clock=clock, key_name=_name_of(keys), instance=shared.instance)
    chain = SharedChain(storage, shared, jobs, take=of_all.take, reached=of_all.reached, clock=clock)
    archive = await _archive(given, of_all, chain, jobs)
    chain.follow()
    jobs.every("follow events", SAVE_AGAIN_S, chain.follow)
    return of_all, archive


async def _archive(given: _Given, events: EventLog, stored: ChainedLog, jobs: Jobs) -> EventArchive:
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
    jobs.every("save events", SAVE_AGAIN_S, archive.save_again)
    jobs.every("remove old events", REMOVE_OLD_S, archive.remove_old)
    return archive


def _summary(
    given: _Given,
    accounts: _Accounts,
    clients: _Clients,
    usage: _Usage,
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


async def _findings(given: _Given, jobs: Jobs) -> Findings:
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
    jobs.every("save findings again", SAVE_AGAIN_S, findings.save_again)
    return findings


def _notifier(given: _Given, health: Health, jobs: Jobs) -> Notifier:
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
    jobs.every("look at health", LOOK_S, alarms.look)
    jobs.every("send what was held", LOOK_S, notifier.look)
    return notifier


def _orphans(given: _Given, parts: Parts) -> Unsaved[Record]:
    """The stored counters whose account, key or sign-in is gone, to be removed: it was deleted just before a crash."""
    orphans = Unsaved[Record]("counters", lambda id: None, dict, given.counters)
    for id in given.counters:
        if not any(id in owner for owner in (parts.pool, parts.keys, parts.signins)):
            orphans.add(id)
    return orphans


def _adjustable(given: _Given, client: CurlClient, entered: _Entered) -> Adjustable:
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


def _about(given: _Given, adjustable: Adjustable) -> About:
    settings, reload = given.settings, Reload(given.settings, given.feed, adjustable.takers())
    python, own = ".".join(map(str, sys.version_info[:3])), settings.oauth
    needed = {"client_id": own.client_id, "authorize_url": own.authorize_url, "token_url": own.token_url}
    return About(
        version=__version__,
        runtime=f"Python {python}, Tornado {tornado.version}, {check_libcurl()}",
        configuration=reload.view,
        reload=reload.again,
        data_folder=settings.storage.data_folder,
        encryption=keyring(settings).id,
        missing_for_oauth=[f"oauth.{name}" for name, value in needed.items() if value is None],
        notifier=adjustable.notifier,
    )


def _oauth_server(settings: Settings, clock: Clock) -> OAuthServer | None:
    """None if the operator has not registered the proxy with an OAuth server."""
    own = settings.oauth
    if own.client_id is None or own.authorize_url is None or own.token_url is None:
        return None
    registration = Registration(
        client_id=own.client_id, authorize_url=own.authorize_url, token_url=own.token_url, scope=own.scope
    )
    return OAuthServer(
        registration, clock=clock, proxy=settings.outbound_proxy, ca_file=settings.claude.ca_file
    )


def _new_id(kind: str) -> str:
    # An id opens nothing, so it need not ask the kernel for chance, as a secret does.
    return f"{kind}_{random.getrandbits(64):016x}"


# what an operator is told


def announcement(settings: Settings, parts: Parts, port: int) -> str:
    """What is served now, and where."""
    counts = ", ".join(f"{number} {status.value}" for status, number in parts.pool.count().items() if number)
    python = ".".join(map(str, sys.version_info[:3]))
    return f"""Claude Proxy {__version__} (Python {python}, Tornado {tornado.version}, {check_libcurl()})
  listening on  {url(settings, port)}
  dashboard     {_dashboard_url(settings, port)}
  upstream      {settings.claude.base_url}{way_out(settings)}
  accounts      {counts or "none yet: add one with POST /api/accounts"}
  client keys   {len(parts.keys) or "none yet: make one with POST /api/tokens"}
  data folder   {settings.storage.data_folder}{_store_line(settings)}"""


def _store_line(settings: Settings) -> str:
    address = settings.storage.address
    return "" if address is None else f"\n  shared store  {address}"


def _dashboard_url(settings: Settings, port: int) -> str:
    """Where a browser finds the dashboard: under its own name, or else on this machine."""
    origins = settings.server.public_origins
    here = url(settings, port).replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    return f"{origins[0] if origins else here}/"


def way_out(settings: Settings) -> str:
    """What follows the upstream's URL: the outbound proxy, or that the one which the environment names is not used."""
    if settings.outbound_proxy is not None:
        return f" through {shown(settings.outbound_proxy)}"
    named = [
        name for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy") if os.environ.get(name)
    ]
    return f" (directly: {named[0]} is set and not used, since only claude.proxy is)" if named else ""


def url(settings: Settings, port: int) -> str:
    """Where it listens."""
    host = settings.server.host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
