"""Claude Proxy: a reverse proxy for the Claude API over a pool of accounts. Command line → settings → exit status."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
from pathlib import Path
from typing import NoReturn

try:
    from handlers.front import freeze_memory, make_server, prepare_process, signalled
    from proxy import __version__
    from proxy.assembly import announcement, engine, url
    from proxy.clock import SystemClock
    from proxy.commands import LOOKS
    from proxy.config.settings import Settings, load_settings
    from proxy.errors import StartError, UnsavedError
    from proxy.lag import LoopLag
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
        options = _arguments().parse_args()
        if options.demo and options.only:
            raise StartError(f"{options.only} goes with --config: the demo has nothing to check")
        prepare_process()
        check_libcurl()
        asyncio.run(_demo() if options.demo else _configured(options.config, options.only))
    except (StartError, UnsavedError) as error:
        say_last(f"claude-proxy: {error}")
        return error.exit_status
    return 0


class _Parser(argparse.ArgumentParser):
    """A wrong flag is told as everything else that is wrong."""

    def error(self, message: str) -> NoReturn:
        raise StartError(f"{message}: see run.py --help")


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(prog="run.py", description="A reverse proxy for the Claude API over a pool of accounts.")
    parser.epilog = "conf/config.example.yaml describes every key; a variable SECTION__KEY overrides it."
    add = parser.add_mutually_exclusive_group(required=True).add_argument
    add("--config", type=Path, metavar="FILE", help="serve with this configuration (YAML)")
    add("--demo", action="store_true", help="serve sample accounts of a built-in simulator of the Claude API")
    for flag, (told, _) in LOOKS.items():
        parser.add_argument(flag, dest="only", action="store_const", const=flag, help=f"{told}, then exit")
    parser.add_argument("--version", action="version", version=f"claude-proxy {__version__}")
    return parser


async def _configured(path: Path, only: str | None) -> None:
    settings = load_settings(path, os.environ)
    with set_up(settings.logger.level, settings.logger.format, settings.secrets()):
        if only is None:
            return await _serve(settings)
        print(*LOOKS[only][1](settings), sep="\n")


async def _demo() -> None:
    async with started(os.environ, clock=SystemClock(), rng=random.Random()) as (demo, settings):
        with set_up(settings.logger.level, settings.logger.format, settings.secrets()):
            await _serve(settings, demo)


async def _serve(settings: Settings, demo: Demo | None = None) -> None:
    async with engine(settings, SystemClock(), random.Random()) as parts:
        server, stop = make_server(parts), signalled(parts.hurried)
        port = await server.listen(settings.server.host, settings.server.port)
        freeze_memory()
        print(announcement(settings, parts, port), flush=True)
        with LoopLag(parts.clock):
            await (demo.show(url(settings, port), parts.http.admin_key, stop) if demo else stop.wait())
            await server.drain()


if __name__ == "__main__":
    sys.exit(main())
