"""The room of the accounts: the pool, its refresher, where requests belong, and the upstream's client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial

from proxy.accounts.account import LEASED, TOGETHER, Account, adopt, load_accounts, read_account
from proxy.accounts.affinity import Affinity
from proxy.accounts.alone import RENEW_S, Alone, Shared, Unshared
from proxy.accounts.capacity import Capacity
from proxy.accounts.conversations import Conversations
from proxy.accounts.granted import Granted
from proxy.accounts.login import Login, adopt_login, load_logins, read_login
from proxy.accounts.logins import Logins
from proxy.accounts.oauth import OAuthServer, Registration
from proxy.accounts.pool import Pool
from proxy.accounts.probe import Probe
from proxy.accounts.quota_alerts import QuotaAlerts
from proxy.accounts.quota_history import QuotaHistory
from proxy.accounts.quota_watch import QuotaWatch
from proxy.accounts.refresh import Refresher
from proxy.accounts.resources import Resources
from proxy.accounts.shared_use import SharedUse as SharedAccountUse
from proxy.accounts.upkeep import Upkeep
from proxy.assembly import periods
from proxy.assembly.given import Given, new_id
from proxy.clock import Clock
from proxy.config.settings import Settings
from proxy.jobs import Jobs
from proxy.storage.peers import Sums
from proxy.storage.protocols import Storage
from proxy.storage.shared_table import open_table
from proxy.storage.table import Table, Unstored
from proxy.upstream.driver import CurlClient


@dataclass(frozen=True)
class Accounts:
    pool: Pool
    affinity: Affinity
    quota: QuotaWatch
    refresher: Refresher
    probe: Probe
    logins: Logins
    upkeep: Upkeep


@contextlib.contextmanager
def open_client(settings: Settings) -> Iterator[CurlClient]:
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
async def open_accounts(given: Given, client: CurlClient) -> AsyncIterator[Accounts]:
    settings, clock, storage, jobs = given.settings, given.clock, given.storage, Jobs()
    pool = Pool(
        await _account_table(storage, jobs),
        given.counters,
        clock=clock,
        most_remaining=settings.balancer.strategy == "most_remaining",
        feed=given.feed,
        new_id=new_id,
        idle_threshold_s=settings.accounts.idle_threshold,
    )
    if given.shared is not None:
        await _share_use(given, given.shared.sums, pool, jobs)
    affinity = await _affinity(given, pool, jobs)
    quota = await _quota(given, pool, jobs)
    oauth = _oauth_server(settings, clock)
    refresher = _refresher(given, pool, oauth, jobs)
    logins = await _logins(given, pool, Granted(pool, refresher, oauth), jobs)
    upkeep = Upkeep(
        pool,
        refresher,
        interval_s=settings.scheduler.interval,
        deactivates=settings.accounts.auto_deactivate,
        clock=clock,
        rng=given.rng,
    )
    async with contextlib.AsyncExitStack() as leaving:
        if oauth is not None:
            leaving.callback(oauth.close)
        given.last_saves.add("accounts", pool.save_again, pool.left)
        given.last_saves.add("the counters of accounts", partial(pool.save_counters, storage))
        leaving.push_async_callback(jobs.close)
        jobs.every("save accounts again", periods.SAVE_AGAIN_S, partial(_save_again, pool, refresher))
        jobs.every("save counters of accounts", periods.SAVE_COUNTERS_S, partial(pool.save_counters, storage))
        refresher.start()
        yield Accounts(pool, affinity, quota, refresher, Probe(client, jobs, clock), logins, upkeep)


async def _share_use(given: Given, sums: Sums, pool: Pool, jobs: Jobs) -> None:
    use = SharedAccountUse(sums, pool, feed=given.feed)
    await use.open()
    given.last_saves.add("the use of accounts", use.exchange)
    jobs.every("exchange the use of accounts", periods.EXCHANGE_USE_S, use.exchange)


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


async def _logins(given: Given, pool: Pool, granted: Granted, jobs: Jobs) -> Logins:
    clock, storage = given.clock, given.storage
    table: Table[Login] = Unstored("logins", (), record=Login.record, storage=storage, jobs=jobs)
    if storage.is_shared:
        table = await open_table(
            "logins",
            load=partial(load_logins, clock=clock),
            record=Login.record,
            read=partial(read_login, clock=clock),
            adopt=adopt_login,
            storage=storage,
            jobs=jobs,
        )
        jobs.every("save logins again", periods.SAVE_AGAIN_S, table.save_again)
    return Logins(table, storage, pool, granted, feed=given.feed, jobs=jobs, clock=clock, new_id=new_id)


def _refresher(given: Given, pool: Pool, oauth: OAuthServer | None, jobs: Jobs) -> Refresher:
    alone: Alone = Unshared()
    if given.storage.is_shared:
        alone = shared = Shared(pool, given.storage, given.clock)
        jobs.every("renew leases", RENEW_S, shared.renew)
        jobs.every("tidy leases", periods.SAVE_AGAIN_S, shared.tidy)
    refresher = Refresher(pool, oauth, alone=alone, jobs=jobs, clock=given.clock, rng=given.rng)
    given.feed.on_account_change(refresher.heard)
    return refresher


async def _affinity(given: Given, pool: Pool, jobs: Jobs) -> Affinity:
    balancer, storage = given.settings.balancer, given.storage
    resources = Resources(storage, clock=given.clock)
    conversations = Conversations(storage, clock=given.clock, ttl_s=balancer.affinity_ttl)
    await resources.load()
    await conversations.load()
    given.last_saves.add("resources", resources.save, resources.left)
    given.late.saves.append(resources.save)
    given.last_saves.add("conversations", conversations.save)
    jobs.every("save resources", periods.SAVE_AGAIN_S, resources.save)
    interval_s = periods.TELL_CONVERSATIONS_S if storage.is_shared else periods.SAVE_COUNTERS_S
    jobs.every("save conversations", interval_s, conversations.save)
    return Affinity(pool, resources, conversations, on=balancer.affinity, shared=balancer.isolation == "none")


async def _quota(given: Given, pool: Pool, jobs: Jobs) -> QuotaWatch:
    clock, feed, storage = given.clock, given.feed, given.storage
    history = QuotaHistory(pool, await storage.load("quota"), feed=feed, clock=clock)
    alerts = QuotaAlerts(pool, given.settings.accounts.quota_alert, feed=feed, clock=clock)
    watch = QuotaWatch(history, Capacity(pool, feed=feed, clock=clock), alerts)
    given.last_saves.add("the history of quota", partial(history.save, storage))
    jobs.every("look at quota", periods.LOOK_AT_QUOTA_S, watch.look)
    jobs.every("save the history of quota", periods.SAVE_QUOTA_S, partial(history.save, storage))
    return watch


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
