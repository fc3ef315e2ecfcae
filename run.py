"""Claude Proxy: a reverse proxy for the Claude API over a pool of accounts. Command line → settings → exit status."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from functools import partial
from pathlib import Path

try:
    from handlers.front import freeze_memory, make_server, prepare_process, signalled
    from handlers.successor import Successor, waiting_told
    from handlers.supervisor import GIVEN_UP_WITHIN_S, Supervisor, inherited_sockets
    from handlers.waiting import wait_for_store
    from proxy import commands
    from proxy.assembly import Former, announcement, engine, store_away, url
    from proxy.clock import SystemClock
    from proxy.config.settings import Settings, load_settings
    from proxy.errors import StartError, UnsavedError
    from proxy.logs import say_last, set_up
    from proxy.simulator.demo import Demo, started
    from proxy.upstream.driver import check_libcurl
except ImportError as error:
    print(f"claude-proxy: {error}: `make run` installs what is missing and starts it", file=sys.stderr)
    sys.exit(2)


def main() -> int:
    """Exit status: 0, 2 if it could not start, or 1 if something could not be saved at the end."""
    os.umask(0o077)
    try:
        options = commands.parse()
        prepare_process()
        check_libcurl()
        asyncio.run(_demo() if options.demo else _configured(options.config, options.only))
    except (StartError, UnsavedError) as error:
        say_last(f"claude-proxy: {error}")
        return error.exit_status
    return 0


async def _configured(path: Path, only: commands.Asked | None) -> None:
    settings = load_settings(path, os.environ)
    with set_up(settings.logger.level, settings.logger.format, settings.secrets()):
        if only is None:
            return await _serve(settings)
        print(*await commands.run(settings, only), sep="\n")


async def _demo() -> None:
    async with started(os.environ, clock=SystemClock(), rng=random.Random()) as (demo, settings):
        with set_up(settings.logger.level, settings.logger.format, settings.secrets()):
            await _serve(settings, demo)


async def _serve(settings: Settings, demo: Demo | None = None) -> None:
    clock, at = SystemClock(), settings.server
    sockets, supervisor = inherited_sockets(os.environ), Supervisor(os.environ)
    former = Former(GIVEN_UP_WITHIN_S, waiting_told(os.environ)) if sockets else None
    if former is None:
        await wait_for_store(partial(store_away, settings, clock), at.host, at.port, clock)
    async with engine(settings, clock, random.Random(), former) as parts:
        server, stop = make_server(parts), signalled(parts.hurried, parts.reload)
        successor = Successor(supervisor, server.descriptors)
        if demo is None:
            successor.on_signal(stop, parts.jobs.start)
        port = await server.listen(at.host, at.port, sockets)
        freeze_memory()
        print(announcement(settings, parts, port), flush=True)
        supervisor.ready(parts.jobs)
        with parts.lag:
            await (demo.show(url(settings, port), settings.auth.key, stop) if demo else stop.wait())
            if not successor.is_there:
                supervisor.tell("STOPPING=1")
            if sockets or successor.is_there:
                await server.hand_over()
                await parts.late.go_on(parts.series, server.drain)
            else:
                await server.drain()


if __name__ == "__main__":
    sys.exit(main())
