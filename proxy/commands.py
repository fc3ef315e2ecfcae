"""The command line: its flags, and what it can do instead of serving."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, NoReturn

from proxy import __version__
from proxy.accounts.account import load_accounts
from proxy.assembly import READERS, keyring, url, way_out
from proxy.clients.keys import load_keys
from proxy.clock import SystemClock
from proxy.config import effective, schema
from proxy.config.settings import Settings
from proxy.errors import StartError, Unprocessable
from proxy.storage import backup
from proxy.storage.audit import verified
from proxy.storage.inspection import Inspection, inspect
from proxy.storage.passphrase import check_passphrase
from proxy.upstream.trust import check_certificates

VARIABLE: Final = "BACKUP_PASSPHRASE"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done instead of serving, by its flag; `file` is its argument, if it takes one."""

    flag: str
    file: Path = Path()


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
        "--backup": Command(f"write accounts and client keys to FILE, encrypted with ${VARIABLE}", True),
        "--restore": Command("fill an empty data folder from such a FILE", True),
    }
)


class _PrintSchema(argparse.Action):
    """Needs no configuration: it tells an editor what may stand in one."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> NoReturn:
        print(schema.text(), end="")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """A wrong flag is told as everything else that is wrong."""

    def error(self, message: str) -> NoReturn:
        raise StartError(f"{message}: see {self.prog} --help")


def parse() -> argparse.Namespace:
    """The arguments: `config`, `demo` and `only`, which is an Asked or None. Raises StartError."""
    parser = _Parser(description="A reverse proxy for the Claude API over a pool of accounts.")
    parser.epilog = "conf/config.example.yaml describes every key; a variable SECTION__KEY overrides it."
    add = parser.add_mutually_exclusive_group(required=True).add_argument
    add("--config", type=Path, metavar="FILE", help="serve with this configuration (YAML)")
    add("--demo", action="store_true", help="serve sample accounts of a built-in simulator of the Claude API")
    for flag, command in COMMANDS.items():
        told = f"{command.told}, then exit"
        if command.takes_file:
            parser.add_argument(flag, dest="only", metavar="FILE", type=_asked(flag), help=told)
        else:
            parser.add_argument(flag, dest="only", action="store_const", const=Asked(flag), help=told)
    told = "print a JSON schema of configurations, for editors, then exit"
    parser.add_argument("--print-schema", action=_PrintSchema, nargs=0, help=told)
    parser.add_argument("--version", action="version", version=f"claude-proxy {__version__}")
    options = parser.parse_args()
    if options.demo and options.only:
        raise StartError(f"{options.only.flag} goes with --config: the demo has nothing to check")
    return options


def _asked(flag: str) -> Callable[[str], Asked]:
    return lambda file: Asked(flag, Path(file))


async def run(settings: Settings, asked: Asked) -> list[str]:
    """Do it. Returns the lines to print. Raises StartError."""
    match asked.flag:
        case "--print-config":
            return effective.lines(settings)
        case "--verify-audit":
            return [verified(settings.storage.data_folder)]
        case "--backup":
            return write_backup(settings, asked.file)
        case "--restore":
            return await restore(settings, asked.file)
    return check(settings)


def check(settings: Settings) -> list[str]:
    """What these settings would serve, line by line, after a look at the data folder. Raises StartError."""
    if settings.claude.base_url.startswith("https:"):
        check_certificates()
    found = _inspect(settings)
    return [
        *found.notices,
        f"would listen on   {url(settings, settings.server.port)}",
        f"would forward to  {settings.claude.base_url}{way_out(settings)}",
        f"data folder       {settings.storage.data_folder}: {_counted(found)}",
        *(
            f"                  {name}: {lines} line{'s' * (lines != 1)}"
            for name, lines in found.logs.items()
        ),
        f"encryption        {found.encryption}",
    ]


def write_backup(settings: Settings, file: Path) -> list[str]:
    """Write the accounts and client keys of a data folder that nobody uses to a new file. Raises StartError."""
    found = _inspect(settings)
    if not any(found.records.get(kind) for kind in backup.KINDS):
        raise StartError(
            f"data folder {settings.storage.data_folder} has nothing to back up: is it the right one?"
        )
    backup.write(file, found.records, _passphrase(twice=True))
    return [f"written to {file}: {_counted(found)}, encrypted; usage and events are not in it"]


async def restore(settings: Settings, file: Path) -> list[str]:
    """Fill an empty data folder from a backup or an export. Raises StartError."""
    folder = settings.storage.data_folder
    if any(_inspect(settings).records.values()):
        raise StartError(f"data folder {folder} is not empty: set storage.data_folder to another one")
    records = backup.read(file, _passphrase(twice=False), READERS)
    await backup.fill(folder, records, clock=SystemClock(), keyring=keyring(settings), readers=READERS)
    return [
        f"restored to {folder}: {_counted(_inspect(settings))}",
        "a refresh token works once: where else these OAuth logins are in use, stop that",
    ]


def _inspect(settings: Settings) -> Inspection:
    return inspect(settings.storage.data_folder, keyring(settings), READERS)


def _counted(found: Inspection) -> str:
    accounts = load_accounts(found.records["accounts"])
    keys = load_keys(found.records["tokens"].values())
    return f"{len(accounts)} accounts, {len(keys)} client keys"


def _passphrase(*, twice: bool) -> str:
    """From the environment, or asked for. Raises StartError."""
    text = os.environ.get(VARIABLE)
    if text is None and not sys.stdin.isatty():
        raise StartError(f"no passphrase: set it as {VARIABLE}, or run this in a terminal, which asks for it")
    if text is None:
        text = getpass.getpass("Passphrase of the file: ")
        if twice and getpass.getpass("Once more: ") != text:
            raise StartError("the two passphrases differ: try again")
    try:
        return check_passphrase(text)
    except Unprocessable as error:
        raise StartError(str(error)) from None
