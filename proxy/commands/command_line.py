"""The flags of the program, and what each does instead of serving."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, NoReturn

from proxy import __version__
from proxy.accounts.foreign.formats import FORMATS
from proxy.commands import backups, look, moving
from proxy.config import effective, schema
from proxy.config.settings import Settings
from proxy.errors import NotDone, StartError, UnsavedError
from proxy.logs import say_last

MIGRATE: Final = "--migrate"

INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells have it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done instead of serving, by its flag; `file` is its argument, if it takes one.

    `places` are from where and to where something moves.
    """

    flag: str
    file: Path = Path()
    places: tuple[str, str] = ("", "")
    format: str | None = None
    """Which program's files these are; None to tell by their content."""

    dry_run: bool = False
    """Whether what is found is only told, not taken."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a flag does; `takes_file` if it has an argument."""

    told: str
    takes_file: bool = False


COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "--check": Command("check --config and the data folder"),
        "--print-config": Command("print each key with its value and where it is set, secrets masked"),
        "--verify-audit": Command("check that the audit log is as it was written"),
        "--backup": Command(
            f"write accounts and client keys to FILE, encrypted with ${backups.VARIABLE}, also while it serves",
            True,
        ),
        "--restore": Command("fill an empty data folder from such a FILE", True),
        "--import": Command("add the accounts of another program's FILE or folder", True),
    }
)


class _PrintSchema(argparse.Action):
    """Needs no configuration: it tells an editor what may stand in one."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> NoReturn:
        show([schema.text().rstrip("\n")])
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """A wrong flag is told as everything else that is wrong."""

    def error(self, message: str) -> NoReturn:
        raise StartError(f"{message}: see {self.prog} --help")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End once what `--help` or `--version` has printed is written. Raises NotDone."""
        show([])
        super().exit(status, message)


def show(lines: Sequence[str]) -> None:
    """Print what a command was asked for, and what is printed before. Raises NotDone if nobody takes it."""
    try:
        print(*(f"{line}\n" for line in lines), sep="", end="", flush=True)
    except OSError as error:
        # The interpreter's end would try it once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise NotDone(f"stdout takes no more ({error.strerror})") from None


def exit_status(work: Callable[[], int | None]) -> int:
    """What `work` returns or 0; 2 if it could not start, or 1 if not all could be done or saved; 130 after Ctrl-C."""
    try:
        return work() or 0
    except (StartError, NotDone, UnsavedError) as error:
        say_last(f"claude-proxy: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        say_last("claude-proxy: interrupted")
        return INTERRUPTED


def parse() -> argparse.Namespace:
    """The arguments: `config`, `demo` and `only`, which is an Asked or None. Raises StartError."""
    parser = _Parser(description="A reverse proxy for the Claude API over a pool of accounts.")
    parser.epilog = "conf/config.example.yaml describes every key; a variable SECTION__KEY overrides it."
    add = parser.add_mutually_exclusive_group().add_argument
    add("--config", type=Path, metavar="FILE", help="serve with this configuration (YAML)")
    add("--demo", action="store_true", help="serve sample accounts of a built-in simulator of the Claude API")
    add = parser.add_mutually_exclusive_group().add_argument
    for flag, command in COMMANDS.items():
        told = f"{command.told}, then exit"
        if command.takes_file:
            add(flag, dest="only", metavar="FILE", type=_asked(flag), help=told)
        else:
            add(flag, dest="only", action="store_const", const=Asked(flag), help=told)
    told = "copy everything to an empty storage, each a folder, a URL, storage.data_folder or storage.url; then exit"
    add(MIGRATE, nargs=2, metavar=("FROM", "TO"), help=told)
    told = "print a JSON schema of configurations, for editors, then exit"
    parser.add_argument("--print-schema", action=_PrintSchema, nargs=0, help=told)
    told = "whose file it is that --import reads; without it, its content tells"
    parser.add_argument("--import-from", choices=[*FORMATS], help=told)
    told = "with --import: only tell which accounts can be taken, and write nothing"
    parser.add_argument("--dry-run", action="store_true", help=told)
    parser.add_argument("--version", action="version", version=f"claude-proxy {__version__}")
    options = parser.parse_args()
    if not (options.config or options.demo):  # told here, so that a flag that was misspelt is told before
        parser.error("--config FILE or --demo is needed")
    if options.migrate:
        options.only = Asked(MIGRATE, places=tuple(options.migrate))
    if options.demo and options.only:
        raise StartError(f"{options.only.flag} goes with --config: the demo has nothing to check")
    if options.dry_run or options.import_from:
        if options.only is None or options.only.flag != "--import":
            raise StartError("--dry-run and --import-from go with --import: see run.py --help")
        options.only = replace(options.only, format=options.import_from, dry_run=options.dry_run)
    return options


def _asked(flag: str) -> Callable[[str], Asked]:
    return lambda file: Asked(flag, Path(file))


async def run(settings: Settings, asked: Asked) -> None:
    """Do it, and print what came of it. Raises StartError, NotDone."""
    try:
        lines = await _done(settings, asked)
    except NotDone as error:
        show(error.told)
        raise
    show(lines)


async def _done(settings: Settings, asked: Asked) -> list[str]:
    """Do it. Returns the lines to print. Raises StartError, NotDone."""
    match asked.flag:
        case "--print-config":
            return effective.lines(settings)
        case "--verify-audit":
            return [await look.verify(settings)]
        case "--backup":
            return await backups.write(settings, asked.file)
        case "--restore":
            return await backups.restore(settings, asked.file)
        case "--migrate":
            return await moving.migrate_all(settings, *asked.places)
        case "--import":
            return await moving.take_in(settings, asked.file, asked.format, dry_run=asked.dry_run)
    return await look.check(settings)
