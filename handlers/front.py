"""The server, made of the engine's parts, and what it asks of the process."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
from pathlib import Path

from handlers.gate import AdminGate
from handlers.live import Dashboards
from handlers.origin import Origins
from handlers.pages import Assets
from handlers.routes import Front, application
from handlers.server import Server
from handlers.v1 import V1
from proxy.assembly import Parts
from proxy.clients.throttle import Throttle

GARBAGE_AFTER = 20_000
"""Objects made and not freed before the youngest are looked through: a thousand streams begin with more than 700."""

STATIC = Path(__file__).parents[1] / "static"


def make_server(parts: Parts) -> Server:
    """All that speaks HTTP, ready to listen. Raises StartError."""
    http, clock = parts.http, parts.clock
    assets = Assets(STATIC)
    origins = Origins(http.public_origins, http.trusted_proxies)
    dashboards = Dashboards(
        parts.revisions, parts.topics, parts.summary, assets=assets.version, jobs=parts.jobs, clock=clock
    )
    parts.signins.on_end(dashboards.signed_out)
    v1 = _v1(parts, origins)
    rest = application(
        pool=parts.pool,
        keys=parts.keys,
        credentials=parts.credentials,
        refresher=parts.refresher,
        sessions=parts.sessions,
        budgets=parts.budgets,
        series=parts.series,
        logins=parts.logins,
        summary=parts.summary,
        dashboards=dashboards,
        health=parts.health,
        gate=_gate(parts, origins),
        clock=clock,
        trusted_proxies=http.trusted_proxies,
        origins=origins,
        redirect_uri=http.redirect_uri,
        assets=assets,
    )
    return Server(
        Front(v1, rest), v1, dashboards, parts.health, drain_timeout_s=http.drain_timeout_s, clock=clock
    )


def _v1(parts: Parts, origins: Origins) -> V1:
    return V1(
        parts.relay,
        parts.keys,
        parts.sessions,
        parts.allowance,
        parts.sinks,
        clock=parts.clock,
        max_body_bytes=parts.http.max_body_bytes,
        allow_admin_paths=parts.http.allow_admin_paths,
        trusted_proxies=parts.http.trusted_proxies,
        origins=origins,
    )


def _gate(parts: Parts, origins: Origins) -> AdminGate:
    return AdminGate(
        parts.http.admin_key,
        parts.keys,
        parts.signins,
        origins,
        throttle=Throttle(limit=10, window_s=60, clock=parts.clock),
        login_throttle=Throttle(limit=5, window_s=60, clock=parts.clock),
    )


def raise_file_limit() -> None:
    """A stream holds two sockets, and a login shell's usual limit of 1024 files would end at 500 streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def freeze_memory() -> None:
    """Take what a start has made, such as the tables of prices, out of what each garbage collection looks through."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)


def signalled() -> asyncio.Event:
    """Set by SIGTERM or SIGINT; the next one ends the process at once."""
    loop, seen = asyncio.get_running_loop(), asyncio.Event()

    def first() -> None:
        seen.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, os._exit, 1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first)
    return seen
