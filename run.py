"""Claude Proxy: a reverse proxy for the Claude API over a pool of accounts. Command line → settings → exit status."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from functools import partial

try:
    from handlers.front import prepare_process
    from handlers.life import live
    from handlers.server import Listening
    from handlers.signals import heeded
    from handlers.successor import refuse_workers, set_apart, waiting_told
    from handlers.supervisor import GIVEN_UP_WITHIN_S, Supervisor, inherited_sockets
    from handlers.waiting import once_there
    from handlers.workers import run_workers
    from proxy.assembly.common import Common
    from proxy.assembly.engine import engine
    from proxy.assembly.given import Former, store_away
    from proxy.assembly.told import announcement, url
    from proxy.clock import SystemClock
    from proxy.commands import command_line
    from proxy.config.settings import Settings, load_settings
    from proxy.logs import set_up
    from proxy.simulator.demo import Demo, started
    from proxy.upstream.driver import check_libcurl
except ImportError as error:
    print(f"claude-proxy: {error}: `make run` installs what is missing and starts it", file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(130)


def main() -> int:
    os.umask(0o077)
    set_apart(os.environ)
    return command_line.exit_status(_main)


def _main() -> int | None:
    options = command_line.parse()
    prepare_process()
    check_libcurl()
    if options.demo:
        return asyncio.run(_demo())
    settings = load_settings(options.config, os.environ)
    at = settings.server
    if options.only or at.workers == 1:
        return asyncio.run(_configured(settings, options.only, None))
    refuse_workers(os.environ)
    common = Common(settings)
    place, supervisor = Listening(at.host, at.port, inherited_sockets(os.environ)), Supervisor(os.environ)
    return run_workers(at.workers, place, partial(_worker, common), common.reload, supervisor, SystemClock())


def _worker(common: Common, place: Listening) -> int:
    return command_line.exit_status(lambda: asyncio.run(_configured(common.settings, None, place)))


async def _configured(settings: Settings, only: command_line.Asked | None, place: Listening | None) -> None:
    with set_up(settings.logger.level, settings.logger.format, settings.secrets()):
        if only is None:
            return await _serve(settings, place=place)
        await command_line.run(settings, only)


async def _demo() -> None:
    async with started(os.environ, clock=SystemClock(), rng=random.Random()) as (demo, settings):
        with set_up(settings.logger.level, settings.logger.format, settings.secrets()):
            await _serve(settings, demo)


async def _serve(settings: Settings, demo: Demo | None = None, place: Listening | None = None) -> None:
    clock, at, told = SystemClock(), settings.server, waiting_told(os.environ)
    place = place or Listening(at.host, at.port, inherited_sockets(os.environ))
    former = Former(GIVEN_UP_WITHIN_S, told) if place.inherited and place.worker is None else None
    opened = partial(engine, settings, clock, random.Random(), former)
    away = partial(store_away, settings, clock)
    async with heeded(place.worker) as signals, once_there(opened, away, place, clock) as parts:
        show = None if demo is None else lambda *it: demo.show(url(settings, it[0]), settings.auth.key, it[1])
        await live(
            parts, place, signals, Supervisor(os.environ), partial(announcement, settings, parts), show
        )


if __name__ == "__main__":
    sys.exit(main())
