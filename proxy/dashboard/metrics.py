"""`/metrics`: everything that Prometheus is told, in the format that it asks for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.accounts.affinity import Affinity, Moved
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKeys
from proxy.clients.sessions import Sessions
from proxy.dashboard.health import LEVELS, Health
from proxy.lag import LoopLag
from proxy.storage.timed import Timed
from proxy.upstream.driver import CurlClient
from proxy.upstream.unclassified import Unclassified
from proxy.usage.families import Family, counter, gauge, histogram, number
from proxy.usage.moves import Moves
from proxy.usage.series import Series

_KNOWN_VERSION: Final = re.compile(r"\s*version=(0\.0\.[14]|1\.0\.0)\s*")


@dataclass(frozen=True, slots=True)
class Watched:
    """What the metrics are read from, beside requests and accounts."""

    pool: Pool
    keys: ClientKeys
    sessions: Sessions
    affinity: Affinity
    series: Series
    moves: Moves
    health: Health
    unclassified: Unclassified
    client: CurlClient
    storage: Timed
    lag: LoopLag
    unsaved_events: Callable[[], str | None]


class StateMetrics(Collector):
    """Metrics of the parts, read when Prometheus asks."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def collect(self) -> Iterator[Family]:
        """All of it in Prometheus' terms."""
        health, status = self._watched.health, self._watched.health.status()
        yield gauge("info", "1, with the version.", ("version",), [((__version__,), 1)])
        levels = [((each,), float(each == status)) for each in LEVELS]
        yield gauge("health", "1 for what the health is, else 0.", ("status",), levels)
        yield number("draining", "1 while it shuts down, else 0.", health.draining)
        yield from self._clients()
        yield from self._affinity()
        yield from self._upstream()
        yield from self._storage()
        late = "How late the event loop was, looked at every 50 ms."
        yield histogram("event_loop_lag_seconds", late, (), [((), self._watched.lag.late_s)])

    def _clients(self) -> Iterator[Family]:
        sessions = tuple(self._watched.sessions)
        yield number("sessions", "Clients, each an address and a User-Agent under one key.", len(sessions))
        flying = "Requests of clients that have not ended."
        yield number("requests_in_flight", flying, sum(each.in_flight for each in sessions))
        slots = "Slots of sessions that requests hold."
        yield number("slots_taken", slots, sum(each.limited for each in sessions))
        waiting = "Requests that wait for a slot of their session."
        yield number("queued_requests", waiting, sum(len(each.waiting) for each in sessions))

    def _affinity(self) -> Iterator[Family]:
        turns, moves = self._watched.affinity.turns, self._watched.moves
        kept = [((each,), turns[each]) for each in ("new", "stayed")]
        told = "Turns of conversations: the first one, or a later one with the account of the turn before."
        yield counter("turns", told, ("turn",), kept)
        moved = [((each,), turns[each]) for each in get_args(Moved)]
        yield counter("turns_moved", "Later turns with another account, by why.", ("reason",), moved)
        cost = "What it cost that the new account's prompt cache was cold, in US dollars."
        yield counter("moved_cost_usd", cost, (), [((), moves.cost_usd or 0.0)])

    def _upstream(self) -> Iterator[Family]:
        client, unknown = self._watched.client, self._watched.unclassified.count
        rows = [(("busy",), client.running), (("idle",), client.idle)]
        connections = "Connections to the upstream: with a request, or kept for the next one."
        yield gauge("upstream_connections", connections, ("state",), rows)
        yield counter("unclassified_errors", "Errors in shapes that are not known here.", (), [((), unknown)])

    def _storage(self) -> Iterator[Family]:
        watched, storage = self._watched, self._watched.storage
        times = [((name,), each) for name, each in storage.seconds.items()]
        took = "How long a write took from its order to its end."
        yield histogram("storage_write_seconds", took, ("operation",), times)
        errors = [((name,), count) for name, count in storage.errors.items()]
        yield counter("storage_errors", "Writes that failed.", ("operation",), errors)
        unsaved = {
            "accounts": len(watched.pool.unsaved),
            "client_keys": len(watched.keys.unsaved),
            "usage": watched.series.unsaved is not None,
            "resources": watched.affinity.resources.unsaved is not None,
            "events": watched.unsaved_events() is not None,
            "journal": storage.degraded,
        }
        text = "Changes that are not in their file yet; of usage, resources, events and the journal 1 if there are any."
        yield gauge("unsaved_changes", text, ("of",), (((of,), number) for of, number in unsaved.items()))


class Metrics:
    """All collectors, in a registry of their own."""

    def __init__(self, collectors: Iterable[Collector]) -> None:
        self._registry = CollectorRegistry()
        self._one_at_a_time = asyncio.Lock()
        ProcessCollector(registry=self._registry)
        for collector in collectors:
            self._registry.register(collector)

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics of now and their content type, for a client that sends this `Accept`.

        With a thousand accounts it takes 80 ms to read them, and 200 ms to write them down. So the loop turns after
        each metric, and the rest is done in a thread.
        """
        encode, content_type = choose_encoder(_understood(accept))
        async with self._one_at_a_time:
            families = []
            for family in self._registry.collect():
                families.append(family)
                await asyncio.sleep(0)
            return await asyncio.to_thread(encode, _Read(families)), content_type


class _Read(Collector):
    """Metrics that have been read."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _understood(accept: str) -> str:
    """The offers whose version is known: others make the library fail, or promise what it does not write."""
    offers = [each for each in accept.split(",") if _is_known(each.split(";")[1:])]
    return ",".join(offers)


def _is_known(parameters: list[str]) -> bool:
    return all(_KNOWN_VERSION.fullmatch(each) for each in parameters if "version" in each)
