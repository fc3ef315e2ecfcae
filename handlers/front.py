"""The server, made of the engine's parts, and what it asks of the process."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from functools import partial
from pathlib import Path

from tornado.web import Application

from handlers.cors import Cors
from handlers.dashboards import Dashboards
from handlers.gate import AdminGate
from handlers.origin import Origins
from handlers.pages import Assets
from handlers.routes import Front, application
from handlers.server import Server
from handlers.v1 import V1
from proxy.assembly.engine import Parts
from proxy.clients.throttle import Throttle
from proxy.dashboard.transfer import Transfer
from proxy.http.addresses import Network
from proxy.http.options import HttpOptions
from proxy.relay.explain import Explainer

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
MAPPED_BYTES = 1 << 20
"""Blocks of this size get a mapping of their own and so go back to the system when they are freed. By itself glibc puts
them into its heap after the first ones, and after 20 bodies of 31 MB 200 MB stayed with the process."""
TRIM_BYTES = 8 << 20

GARBAGE_AFTER = 20_000, 2, 50
"""Objects made and not freed before the youngest are looked through: a thousand streams begin with more than 700. What
has survived that is looked through after two times, not ten: with 8,000 connections, ten took 145 ms.
"""

PR_SET_DUMPABLE = 4  # linux/prctl.h

STATIC = Path(__file__).parents[1] / "static"


def make_server(parts: Parts) -> Server:
    """All that speaks HTTP, ready to listen. Raises StartError."""
    http, clock = parts.http, parts.clock
    assets = Assets(STATIC)
    origins = Origins(http.public_origins, http.trusted_proxies)
    dashboards = _dashboards(parts, assets)
    v1 = _v1(parts, origins)
    rest = _rest(parts, dashboards, origins, assets)
    server = Server(
        Front(v1, rest),
        v1,
        dashboards,
        parts.health,
        drain_timeout_s=http.drain_timeout_s,
        hurried=parts.hurried,
        clock=clock,
        trusted_proxies=http.trusted_proxies,
        listening=parts.listening,
    )
    parts.on_http.append(partial(_take, server, v1, origins, http.trusted_proxies))
    return server


def _take(
    server: Server, v1: V1, origins: Origins, trusted_proxies: list[Network], http: HttpOptions
) -> None:
    """Have what the configuration says of HTTP now. All who ask for `trusted_proxies` share that one list."""
    trusted_proxies[:] = http.trusted_proxies
    server.drain_timeout_s = http.drain_timeout_s
    v1.max_body_bytes, v1.allow_admin_paths = http.max_body_bytes, http.allow_admin_paths
    v1.cors.allow(http.cors_origins)
    origins.serve(http.public_origins)


def _rest(parts: Parts, dashboards: Dashboards, origins: Origins, assets: Assets) -> Application:
    http = parts.http
    return application(
        pool=parts.pool,
        quota_history=parts.quota.history,
        keys=parts.keys,
        rotation=parts.rotation,
        credentials=parts.credentials,
        refresher=parts.refresher,
        sessions=parts.sessions,
        all_sessions=parts.shown.sessions,
        instances=parts.shown.instances,
        budgets=parts.budgets,
        series=parts.series,
        failed_tries=parts.failed_tries,
        breakdown=parts.breakdown,
        request_log=parts.request_log,
        logins=parts.logins,
        summary=parts.summary,
        figures=parts.figures,
        explainer=Explainer(parts.affinity, parts.pool, parts.clock),
        metrics=parts.metrics,
        dashboards=dashboards,
        health=parts.health,
        findings=parts.health.findings,
        gate=_gate(parts, origins),
        archive=parts.archive,
        about=parts.about,
        transfer=Transfer(parts.pool, parts.keys, feed=parts.feed, clock=parts.clock),
        notifier=parts.about.notifier,
        clock=parts.clock,
        trusted_proxies=http.trusted_proxies,
        origins=origins,
        redirect_uri=http.redirect_uri,
        assets=assets,
    )


def _dashboards(parts: Parts, assets: Assets) -> Dashboards:
    dashboards = Dashboards(
        parts.revisions,
        parts.topics,
        parts.summary,
        assets=assets.version,
        jobs=parts.jobs,
        clock=parts.clock,
    )
    parts.signins.on_end(dashboards.signed_out)
    parts.admin_key.on_replaced(dashboards.key_replaced)
    return dashboards


def _v1(parts: Parts, origins: Origins) -> V1:
    return V1(
        parts.relay,
        parts.keys,
        parts.sessions,
        parts.allowance,
        parts.sinks,
        Throttle(limit=10, window_s=60, clock=parts.clock),
        clock=parts.clock,
        max_body_bytes=parts.http.max_body_bytes,
        spool_folder=parts.http.spool_folder,
        allow_admin_paths=parts.http.allow_admin_paths,
        trusted_proxies=parts.http.trusted_proxies,
        origins=origins,
        cors=Cors(parts.http.cors_origins),
    )


def _gate(parts: Parts, origins: Origins) -> AdminGate:
    return AdminGate(
        parts.admin_key,
        parts.keys,
        parts.signins,
        origins,
        throttle=Throttle(limit=10, window_s=60, clock=parts.clock),
        login_throttle=Throttle(limit=5, window_s=60, clock=parts.clock),
    )


def prepare_process() -> None:
    """Set the limits of the process before it reads a secret or opens a file."""
    _keep_memory_private()
    _raise_file_limit()


def _keep_memory_private() -> None:
    """Memory holds every credential: write no core file, and let no other process of this user read it (prctl(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _raise_file_limit() -> None:
    """A stream holds two sockets, and a login shell's usual limit of 1024 files would end at 500 streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def freeze_memory() -> None:
    """Take what a start has made, such as the tables of prices, out of what each garbage collection looks through.

    And have large blocks given back to the system from now on.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_AFTER)
    _give_large_blocks_back()


def _give_large_blocks_back() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # else it is not glibc
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)
