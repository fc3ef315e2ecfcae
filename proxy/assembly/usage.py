"""The room of the usage: what requests have used, by series, and the requests themselves."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from proxy.accounts.pool import Pool
from proxy.assembly import periods
from proxy.assembly.clients import Clients
from proxy.assembly.given import Given
from proxy.jobs import Jobs
from proxy.redaction import Redaction
from proxy.storage.day_files import DayFiles
from proxy.storage.layout import REQUESTS as REQUEST_DAYS
from proxy.storage.protocols import Storage
from proxy.usage import prices
from proxy.usage.allowance import Allowance, SharedAllowance
from proxy.usage.elsewhere import UsageElsewhere
from proxy.usage.failed_tries import FailedTries
from proxy.usage.latency import Latency
from proxy.usage.metrics import RequestMetrics
from proxy.usage.moves import Moves
from proxy.usage.request_archive import RequestArchive
from proxy.usage.request_log import RequestLog
from proxy.usage.series import Series
from proxy.usage.shared_failed_tries import SharedFailedTries
from proxy.usage.shared_requests import SharedRequests


@dataclass(frozen=True)
class Usage:
    allowance: Allowance
    series: Series
    latency: Latency
    request_log: RequestLog
    failed_tries: FailedTries
    moves: Moves
    metrics: RequestMetrics
    ttfb_ms: Callable[[], Mapping[str, float | None]]


@contextlib.asynccontextmanager
async def open_usage(given: Given, pool: Pool, clients: Clients) -> AsyncIterator[Usage]:
    storage, series, jobs = given.storage, Series(clock=given.clock), Jobs()
    prices.load()
    await series.load(storage)
    requests, latency = await _request_log(given, jobs), Latency(clock=given.clock)
    failed_tries = await _failed_tries(given, jobs)
    if storage.is_shared:
        elsewhere = UsageElsewhere(series, storage, feed=given.feed, clock=given.clock)
        elsewhere.follow()
        jobs.every("follow usage", periods.SAVE_USAGE_S, elsewhere.follow)
    async with contextlib.AsyncExitStack() as leaving:
        await _kept_requests(given, requests, jobs, leaving)
        given.last_saves.add("usage", partial(series.flush, storage), series.left)
        leaving.push_async_callback(jobs.close)
        jobs.every("save usage", periods.SAVE_USAGE_S, partial(series.flush, storage))
        jobs.every("compact usage", periods.COMPACT_USAGE_S, partial(_compact, series, storage))
        yield Usage(
            _allowance(given, clients),
            series,
            latency,
            requests,
            failed_tries,
            Moves(clock=given.clock),
            RequestMetrics(lambda id: pool[id].name if id in pool else None),
            requests.ttfb_ms if isinstance(requests, SharedRequests) else latency.ttfb_ms,
        )


async def _request_log(given: Given, jobs: Jobs) -> RequestLog:
    feed, clock, redact = given.feed, given.clock, Redaction(given.settings.secrets())
    if given.shared is None:
        return RequestLog(feed, clock=clock, redact=redact)
    requests = SharedRequests(feed, given.shared.peers, clock=clock, redact=redact)
    await requests.open()
    given.last_saves.add("the last requests", requests.save)
    jobs.every("tell of requests", periods.TELL_REQUESTS_S, requests.save)
    return requests


async def _failed_tries(given: Given, jobs: Jobs) -> FailedTries:
    if given.shared is None:
        return FailedTries(clock=given.clock)
    failed_tries = SharedFailedTries(given.shared.peers, clock=given.clock)
    await failed_tries.open()
    given.last_saves.add("the last failed tries", failed_tries.save)
    jobs.every("tell of failed tries", periods.SAVE_USAGE_S, failed_tries.save)
    return failed_tries


async def _compact(series: Series, storage: Storage) -> None:
    if not storage.is_shared or await storage.take("compact usage", periods.COMPACTED_S):
        await series.compact(storage)


async def _kept_requests(
    given: Given, requests: RequestLog, jobs: Jobs, leaving: contextlib.AsyncExitStack
) -> None:
    """Keep the requests on disk too, if the settings say so."""
    storage = given.settings.storage
    if storage.keep_requests is None:
        return
    stored = DayFiles(storage.data_folder / REQUEST_DAYS)
    archive = RequestArchive(requests, stored, clock=given.clock, keep_s=storage.keep_requests)
    await archive.remove_old(at_start=True)
    await archive.open()
    leaving.push_async_callback(archive.close)
    given.late.at_end.append(archive.close)
    jobs.every("save requests", periods.SAVE_AGAIN_S, archive.save)
    jobs.every("remove old requests", periods.REMOVE_OLD_S, archive.remove_old)


def _allowance(given: Given, clients: Clients) -> Allowance:
    shared, budgets, clock = clients.shared_keys, clients.budgets, given.clock
    if shared is None:
        return Allowance(budgets, clock=clock)
    return SharedAllowance(budgets, shared.limits, shared.use, clock=clock)
