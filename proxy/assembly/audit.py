"""The audit log for commands: what they do is told there as what an admin does on the dashboard."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from proxy.assembly.given import pool_of
from proxy.clock import SystemClock
from proxy.config.settings import Settings
from proxy.dashboard.event_archive import EventArchive
from proxy.dashboard.event_history import EventHistory
from proxy.dashboard.event_log import EventLog, SharedEventLog
from proxy.errors import StorageError
from proxy.feed import Feed, Who, act_as
from proxy.jobs import Jobs
from proxy.storage.chained_log import ChainedLog
from proxy.storage.protocols import Record, Storage
from proxy.storage.shared_chain import SharedChain

COMMAND_LINE: Final = Who("admin", name="command line")


@contextlib.asynccontextmanager
async def audited(storage: Storage, settings: Settings) -> AsyncIterator[Feed]:
    """A feed whose events, of what is done from the command line, are in the audit log when it is left.

    Raises StorageError: on entering, before anything is done.
    """
    jobs, feed, clock = Jobs(), Feed(), SystemClock()
    events, stored = _logs(storage, feed, jobs)
    history, keep_s = EventHistory(events, storage), settings.storage.keep_events
    archive = EventArchive(events, stored, history, feed=feed, clock=clock, keep_s=keep_s)
    try:
        await archive.open()
        act_as(COMMAND_LINE)
        try:
            yield feed
        finally:
            await _saved(archive)
    finally:
        await jobs.close()


def _logs(storage: Storage, feed: Feed, jobs: Jobs) -> tuple[EventLog, ChainedLog]:
    clock, shared = SystemClock(), pool_of(storage)
    if shared is None:
        return EventLog(feed, clock=clock), ChainedLog(storage, jobs)
    events = SharedEventLog(feed, clock=clock, key_name=lambda id: None, instance=shared.instance)
    return events, SharedChain(storage, shared, jobs, take=_ignore, reached=_at_once, clock=clock)


async def _saved(archive: EventArchive) -> None:
    try:
        await archive.saved()
    except StorageError as error:
        raise StorageError(f"what was done is not in the audit log: {error}") from error


def _ignore(event: Record) -> None:
    """Nobody looks at the events here."""


async def _at_once(id: int) -> None:
    """Do not wait until the events have come back from the store."""
