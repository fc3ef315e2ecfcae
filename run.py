"""Claude Proxy: a reverse proxy for the Claude API over a pool of accounts.

Command line → settings → parts → server → wait for a signal → drain. The only file that knows all parts, which
makes it longer than others.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import logging
import os
import random
import resource
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import tornado

from handlers.gate import AdminGate
from handlers.live import Dashboards
from handlers.origin import Origins
from handlers.pages import Assets
from handlers.routes import Front, application
from handlers.server import Server
from handlers.v1 import V1
from proxy import __version__
from proxy.accounts.account import Account, load_accounts
from proxy.accounts.balancer import REFRESH_AHEAD_S
from proxy.accounts.login import Logins
from proxy.accounts.oauth import OAuthServer, Registration
from proxy.accounts.pool import Pool
from proxy.accounts.probe import Probe
from proxy.accounts.refresh import Refresher
from proxy.clients.budgets import Budgets
from proxy.clients.keys import ClientKeys, Role, declared_key, key_record, load_keys
from proxy.clients.sessions import Sessions
from proxy.clients.signins import Signins, load_signins, signin_record
from proxy.clients.throttle import Throttle
from proxy.clock import Clock, SystemClock
from proxy.config.settings import OAuth, Settings, load_settings
from proxy.config.settings import Server as ServerSettings
from proxy.dashboard.event_log import EventLog
from proxy.dashboard.health import Health
from proxy.dashboard.revisions import Revisions
from proxy.dashboard.summary import Summary
from proxy.dashboard.topics import Topics
from proxy.dashboard.webhook import Webhook
from proxy.errors import StartError
from proxy.feed import Feed, Happened
from proxy.jobs import Jobs
from proxy.logs import set_up
from proxy.relay import Relay, Retry
from proxy.simulator import Simulator
from proxy.simulator.demo import Demo
from proxy.storage.json_files import JsonFiles
from proxy.storage.table import Table
from proxy.upstream.exchange import CurlClient, check_libcurl
from proxy.usage import access_log, prices
from proxy.usage.allowance import Allowance, price
from proxy.usage.latency import Latency
from proxy.usage.series import Series

HERE = Path(__file__).parent
SAVE_COUNTERS_S = 5.0
SAVE_AGAIN_S = 1.0
LOOK_AT_SIGNINS_S = 1.0
SAVE_USAGE_S = 2.0
LOOK_S = 5.0
COMPACT_USAGE_S = 900.0

log = logging.getLogger("proxy")


@dataclass(frozen=True)
class Parts:
    """What a running proxy consists of."""

    pool: Pool
    keys: ClientKeys
    signins: Signins
    health: Health
    budgets: Budgets
    series: Series
    server: Server


def main() -> int:
    """Exit status: 0, or 2 where it could not start."""
    os.umask(0o077)
    try:
        options = _arguments().parse_args()
        if options.demo and options.check:
            raise StartError("--check goes with --config: the demo has nothing to check")
        _raise_file_limit()
        check_libcurl()
        if options.demo:
            asyncio.run(_demo(dict(os.environ)))
            return 0
        settings = load_settings(options.config, os.environ)
        set_up(settings.logger.level, settings.logger.format)
        asyncio.run(_check(settings) if options.check else _serve(settings))
    except StartError as error:
        print(f"claude-proxy: {error}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    """A wrong flag is told as everything else that is wrong."""

    def error(self, message: str) -> NoReturn:
        raise StartError(f"{message}: see python run.py --help")


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run.py",
        description="A reverse proxy for the Claude API over a pool of accounts.",
        epilog="Every key of the configuration is described in conf/config.example.yaml; an environment variable "
        "SECTION__KEY (AUTH__API_KEY, SERVER__PORT, …) overrides it.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=Path, metavar="FILE", help="serve with this configuration (YAML)")
    what.add_argument(
        "--demo", action="store_true", help="serve sample accounts of a built-in simulator of the Claude API"
    )
    parser.add_argument(
        "--check", action="store_true", help="with --config: check it and the data folder, then exit"
    )
    parser.add_argument("--version", action="version", version=f"claude-proxy {__version__}")
    return parser


def _raise_file_limit() -> None:
    """A stream holds two sockets, and a login shell's usual limit of 1024 files would end at 500 streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _check(settings: Settings) -> None:
    storage = JsonFiles.open(settings.storage.data_folder, clock=SystemClock())
    try:
        accounts = load_accounts(await storage.load("accounts"))
        keys = load_keys((await storage.load("tokens")).values())
    finally:
        await storage.close()
    for notice in storage.notices:
        print(notice)
    print(f"would listen on   {_url(settings.server.host, settings.server.port)}")
    print(f"would forward to  {settings.claude.base_url}")
    print(
        f"data folder       {settings.storage.data_folder}: {len(accounts)} accounts, {len(keys)} client keys"
    )


async def _serve(settings: Settings, demo: Demo | None = None) -> None:
    async with proxy(settings, SystemClock(), random.Random()) as parts:
        signalled = _signalled()
        port = parts.server.listen(settings.server.host, settings.server.port)
        _announce(settings, parts, port)
        if demo is None:
            await signalled.wait()
        else:
            url = _url(settings.server.host, port)
            print(demo.welcome(url, settings.auth.api_key.get_secret_value()), flush=True)
            async with demo.traffic(url):
                await signalled.wait()
        await parts.server.drain()


async def _demo(environ: dict[str, str]) -> None:
    clock, rng = SystemClock(), random.Random()
    demo = Demo(clock=clock, rng=rng)
    await demo.simulator.start()
    try:
        with tempfile.TemporaryDirectory(prefix="claude-proxy-demo-") as folder:
            settings = _demo_settings(demo.simulator, Path(folder) / "data", environ)
            set_up(settings.logger.level, settings.logger.format)
            storage = JsonFiles.open(settings.storage.data_folder, clock=clock)
            try:
                await demo.fill(storage)
            finally:
                await storage.close()
            await _serve(settings, demo)
    finally:
        await demo.simulator.stop()


def _demo_settings(simulator: Simulator, data_folder: Path, environ: dict[str, str]) -> Settings:
    return load_settings(
        HERE / "conf" / "demo.yaml",
        {"AUTH__API_KEY": secrets.token_urlsafe(24)}
        | environ
        | {
            "CLAUDE__BASE_URL": simulator.base_url,
            "OAUTH__CLIENT_ID": simulator.client_id,
            "OAUTH__AUTHORIZE_URL": simulator.authorize_url,
            "OAUTH__TOKEN_URL": simulator.token_url,
            "STORAGE__DATA_FOLDER": str(data_folder),
        },
    )


@contextlib.asynccontextmanager
async def proxy(settings: Settings, clock: Clock, rng: random.Random) -> AsyncIterator[Parts]:
    """All parts, running; stopped in reverse order."""
    jobs, feed, assets = Jobs(), Feed(), Assets(HERE / "static")
    async with contextlib.AsyncExitStack() as stack:
        storage = JsonFiles.open(settings.storage.data_folder, clock=clock)
        stack.push_async_callback(storage.close)
        for notice in storage.notices:
            log.warning("%s", notice)
        counters = await storage.load("counters")
        pool = Pool(
            Table(
                "accounts",
                load_accounts(await storage.load("accounts")),
                record=Account.record,
                storage=storage,
                jobs=jobs,
            ),
            counters,
            clock=clock,
            most_remaining=settings.balancer.strategy == "most_remaining",
            feed=feed,
            new_id=_new_id,
            idle_threshold_s=settings.accounts.idle_threshold,
        )
        keys = ClientKeys(
            Table(
                "tokens",
                load_keys((await storage.load("tokens")).values()),
                record=key_record,
                storage=storage,
                jobs=jobs,
            ),
            counters,
            clock=clock,
            feed=feed,
            new_id=_new_id,
            declared=[
                declared_key(each.name, each.key, Role(each.role), each.limits, each.models)
                for each in settings.auth.client_keys
            ],
        )
        signins = Signins(
            Table(
                "signins",
                load_signins((await storage.load("signins")).values()),
                record=signin_record,
                storage=storage,
                jobs=jobs,
            ),
            counters,
            admin_key=settings.auth.api_key.get_secret_value(),
            keys=keys,
            feed=feed,
            clock=clock,
        )
        budgets, series = Budgets(counters, clock=clock), Series(clock=clock)
        await series.load(storage)
        prices.load()
        sessions = Sessions(
            await storage.load("sessions"),
            feed=feed,
            enabled=settings.session.enabled,
            max_concurrent=settings.session.max_concurrent,
            queue_timeout_s=settings.session.queue_timeout,
            ttl_s=settings.session.session_ttl,
            clock=clock,
            new_id=_new_id,
        )
        client = CurlClient(force_instance=True).connect_to(
            settings.claude.base_url, idle_timeout_s=settings.server.request_timeout
        )
        stack.callback(client.close)
        oauth = _oauth_server(settings.oauth, clock)
        if oauth is not None:
            stack.callback(oauth.close)
        save_counters = functools.partial(_save_counters, storage, pool, keys, signins, budgets, sessions)
        save_usage = functools.partial(series.flush, storage)
        stack.push_async_callback(save_usage)
        stack.push_async_callback(save_counters)
        save_again = functools.partial(_save_again, pool, keys, signins)
        stack.push_async_callback(save_again)
        stack.push_async_callback(jobs.close)
        probe = Probe(client, jobs)
        refresher = Refresher(pool, oauth, jobs=jobs, clock=clock, rng=rng)
        relay = Relay(
            pool,
            client,
            probe,
            refresher,
            retry=Retry(
                max_attempts=settings.retry.max_attempts,
                base_delay_s=settings.retry.base_delay,
                max_delay_s=settings.retry.max_delay,
                jitter_max_s=settings.retry.jitter_max,
                resend_posts=settings.retry.resend_posts,
            ),
            rate_limit_default_s=settings.accounts.rate_limit_default,
            clock=clock,
            rng=rng,
        )
        latency = Latency(clock=clock)
        allowance = Allowance(budgets, clock=clock)
        health = Health(pool, keys, series, clock)
        logins = Logins(pool, refresher, oauth, feed=feed, jobs=jobs, clock=clock, new_id=_new_id)
        event_log = EventLog(feed, clock=clock)
        feed.tell(Happened("server.started", f"Claude Proxy {__version__} started"))
        summary = Summary(
            pool=pool,
            keys=keys,
            refresher=refresher,
            sessions=sessions,
            series=series,
            latency=latency,
            health=health,
            clock=clock,
            insecure=_is_insecure(settings.server),
        )
        topics = Topics(
            feed,
            pool=pool,
            keys=keys,
            refresher=refresher,
            sessions=sessions,
            budgets=budgets,
            series=series,
            logins=logins,
            summary=summary,
            clock=clock,
        )
        live = Revisions(feed, topics.sources(), event_log, epoch=secrets.token_hex(8))
        if settings.notifications.webhook_url is not None:
            secret = settings.notifications.secret
            webhook = Webhook(
                settings.notifications.webhook_url,
                None if secret is None else secret.get_secret_value(),
                health,
                jobs=jobs,
                clock=clock,
                rng=rng,
            )
            stack.callback(webhook.close)
            feed.on_account_change(webhook.account_changed)
            jobs.every("look at health", LOOK_S, webhook.look)
        origins = Origins(settings.server.public_origins, settings.server.trusted_proxies)
        dashboards = Dashboards(live, topics, summary, assets=assets.version, jobs=jobs, clock=clock)
        signins.on_end(dashboards.signed_out)
        v1 = V1(
            relay,
            keys,
            sessions,
            allowance,
            [
                lambda record: price(record, clock.now()),
                allowance.settle,
                series.count,
                latency.count,
                topics.ended,
                access_log.write,
            ],
            jobs=jobs,
            clock=clock,
            max_body_bytes=settings.server.max_body_size,
            allow_admin_paths=settings.claude.allow_admin_paths,
            trusted_proxies=settings.server.trusted_proxies,
            origins=origins,
        )
        rest = application(
            pool=pool,
            keys=keys,
            probe=probe,
            refresher=refresher,
            sessions=sessions,
            budgets=budgets,
            series=series,
            logins=logins,
            summary=summary,
            dashboards=dashboards,
            health=health,
            gate=AdminGate(
                settings.auth.api_key.get_secret_value(),
                keys,
                signins,
                origins,
                throttle=Throttle(limit=10, window_s=60, clock=clock),
                login_throttle=Throttle(limit=5, window_s=60, clock=clock),
            ),
            clock=clock,
            trusted_proxies=settings.server.trusted_proxies,
            origins=origins,
            redirect_uri=settings.oauth.redirect_uri,
            assets=assets,
        )
        server = Server(
            Front(v1, rest),
            v1,
            dashboards,
            health,
            drain_timeout_s=settings.server.drain_timeout,
            clock=clock,
        )
        jobs.every("save counters", SAVE_COUNTERS_S, save_counters)
        if settings.session.cleanup_enabled:
            jobs.every(
                "clean sessions",
                settings.session.cleanup_interval,
                sessions.clean,
            )
        jobs.every("save usage", SAVE_USAGE_S, save_usage)
        jobs.every("compact usage", COMPACT_USAGE_S, functools.partial(series.compact, storage))
        jobs.every("save again", SAVE_AGAIN_S, save_again)
        jobs.every("end sign-ins", LOOK_AT_SIGNINS_S, signins.clean)
        upkeep = functools.partial(_upkeep, pool, refresher, settings)
        jobs.every("upkeep", settings.scheduler.interval, upkeep, jitter=0.1)
        refresher.start()
        jobs.start("upkeep at start", upkeep())
        yield Parts(pool, keys, signins, health, budgets, series, server)


async def _save_counters(
    storage: JsonFiles, pool: Pool, keys: ClientKeys, signins: Signins, budgets: Budgets, sessions: Sessions
) -> None:
    spent = budgets.records()
    await storage.replace(
        "counters",
        pool.counters()
        | signins.counters()
        | {id: use | spent.get(id, {}) for id, use in keys.counters().items()},
    )
    await storage.replace("sessions", sessions.records())


async def _save_again(pool: Pool, keys: ClientKeys, signins: Signins) -> None:
    await pool.save_again()
    await keys.save_again()
    await signins.save_again()


async def _upkeep(pool: Pool, refresher: Refresher, settings: Settings) -> None:
    """The job of `scheduler.interval`: it scans every account, and renews only the tokens that end before the next."""
    pool.recover()
    if settings.accounts.auto_deactivate:
        pool.deactivate_idle()
    await refresher.refresh_due(settings.scheduler.interval * 1.1 + REFRESH_AHEAD_S)


def _oauth_server(settings: OAuth, clock: Clock) -> OAuthServer | None:
    if None in (settings.client_id, settings.authorize_url, settings.token_url):
        return None
    return OAuthServer(
        Registration(
            client_id=str(settings.client_id),
            authorize_url=str(settings.authorize_url),
            token_url=str(settings.token_url),
            scope=settings.scope,
        ),
        clock=clock,
    )


def _is_insecure(settings: ServerSettings) -> bool:
    """Whether others can reach the dashboard without TLS, as far as can be told from here."""
    here = settings.host == "localhost" or settings.host.startswith("127.") or settings.host == "::1"
    return not here and not any(origin.startswith("https:") for origin in settings.public_origins)


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(8)}"


def _announce(settings: Settings, parts: Parts, port: int) -> None:
    counts = ", ".join(f"{number} {status.value}" for status, number in parts.pool.count().items() if number)
    python = ".".join(map(str, sys.version_info[:3]))
    print(
        f"""Claude Proxy {__version__} (Python {python}, Tornado {tornado.version}, {check_libcurl()})
  listening on  {_url(settings.server.host, port)}
  upstream      {settings.claude.base_url}
  accounts      {counts or "none yet: add one with POST /api/accounts"}
  client keys   {len(parts.keys) or "none yet: make one with POST /api/tokens"}
  data folder   {settings.storage.data_folder}""",
        flush=True,
    )


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _signalled() -> asyncio.Event:
    """Set by SIGTERM or SIGINT; the next one ends the process at once."""
    loop, seen = asyncio.get_running_loop(), asyncio.Event()

    def first() -> None:
        seen.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, os._exit, 1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first)
    return seen


if __name__ == "__main__":
    sys.exit(main())
