"""The room of the clients: keys, sign-ins, budgets, sessions, and the limits that instances share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from proxy.adjustments import declared_keys
from proxy.assembly import periods
from proxy.assembly.given import Given, new_id
from proxy.clients.budgets import Budgets
from proxy.clients.counters import KeyCounters
from proxy.clients.keys import ClientKey, ClientKeys, KeyStatus, key_record, load_keys, read_key
from proxy.clients.rotation import Rotation
from proxy.clients.sessions import Sessions
from proxy.clients.shared import LEASE_S, SharedLimits, unless_away
from proxy.clients.shared_use import SharedUse
from proxy.clients.signins import Signins, load_signins, read_signin, signin_record
from proxy.jobs import Jobs
from proxy.storage.protocols import Record
from proxy.storage.shared_table import open_table


@dataclass(frozen=True)
class SharedKeys:
    """The limits and the use of client keys over all instances."""

    limits: SharedLimits
    use: SharedUse


@dataclass(frozen=True)
class Clients:
    keys: ClientKeys
    rotation: Rotation
    signins: Signins
    budgets: Budgets
    counters: KeyCounters | None
    sessions: Sessions
    shared_keys: SharedKeys | None


@contextlib.asynccontextmanager
async def open_clients(given: Given) -> AsyncIterator[Clients]:
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
        new_id=new_id,
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
            jobs.every("save counters of clients", periods.SAVE_COUNTERS_S, partial(save, storage))
        for part in (keys, signins):
            given.last_saves.add("client keys", part.save_again, part.left)
            jobs.every("save clients again", periods.SAVE_AGAIN_S, part.save_again)
        if storage.is_shared:
            jobs.every("hear of sign-ins", periods.HEAR_S, partial(signins.hear, storage))
        leaving.push_async_callback(jobs.close)
        if session.cleanup_interval < periods.TICK_S:
            jobs.every("clean sessions", session.cleanup_interval, sessions.tick)
        rotation = Rotation(keys, clock=given.clock, on_expired=signins.end_with)
        yield Clients(keys, rotation, signins, budgets, counters, sessions, shared)


def _key_counters(given: Given, keys: ClientKeys, budgets: Budgets, jobs: Jobs) -> KeyCounters:
    """The counters and budgets of client keys, and when they are saved."""
    counters = KeyCounters(keys, budgets, stored=given.counters)

    async def save_last() -> None:
        given.late.begin()
        await counters.save(given.storage)

    given.last_saves.add("the counters and budgets of client keys", save_last)
    jobs.every("save counters of client keys", periods.SAVE_COUNTERS_S, partial(counters.save, given.storage))
    return counters


async def _stored_sessions(given: Given) -> dict[str, Record]:
    """Those of the last run. Of several instances the first one takes them up, since all others have gone."""
    if given.shared is None:
        return await given.storage.load("sessions")
    peers, lease = given.shared.peers, await given.storage.take("sessions", periods.ADOPTION_S)
    if lease is None:
        return {}
    alone = not await peers.told()
    await peers.tell({"began": b"1"}, LEASE_S)  # so that the next one finds somebody
    stored = await given.storage.load("sessions") if alone else {}
    await given.storage.release(lease)
    return stored


async def _shared_keys(
    given: Given, keys: ClientKeys, budgets: Budgets, sessions: Sessions, jobs: Jobs
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
    jobs.every("hear of free slots", periods.SAVE_AGAIN_S, limits.listen)
    jobs.every("settle again", periods.SAVE_AGAIN_S, unless_away(limits.save))
    jobs.every("exchange the use of client keys", periods.EXCHANGE_USE_S, unless_away(use.exchange))
    return SharedKeys(limits, use)


def _ended_elsewhere(keys: ClientKeys, budgets: Budgets, sessions: Sessions, key: ClientKey) -> None:
    """End what runs with a key, if another instance has ended or deleted it."""
    present = keys.get(key.id)
    if present is None:
        budgets.forget(key.id)
    if present is None or present.status is not KeyStatus.ACTIVE:
        sessions.end_of(key.id)


async def _keys(given: Given, jobs: Jobs) -> ClientKeys:
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
        new_id=new_id,
        declared=declared_keys(given.settings),
    )


async def _signins(given: Given, keys: ClientKeys, jobs: Jobs) -> Signins:
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
