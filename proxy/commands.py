"""The command line: its flags, and what it can do instead of serving."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, NoReturn

from proxy import __version__
from proxy.accounts.account import load_accounts
from proxy.accounts.foreign.formats import FORMATS
from proxy.accounts.foreign.judge import Here, Judged, judge
from proxy.accounts.foreign.source import read_source
from proxy.accounts.foreign.summary import offered, told
from proxy.assembly.given import READERS, files_in, keyring, shared_at
from proxy.assembly.told import url, way_out
from proxy.assembly.tracing import tracing_of
from proxy.clients.keys import load_keys
from proxy.clock import SystemClock
from proxy.config import effective, schema
from proxy.config.settings import Settings
from proxy.errors import StartError, Unprocessable, UnsavedError
from proxy.logs import say_last
from proxy.storage import backup
from proxy.storage.address import StoreAddress
from proxy.storage.audit import verified, verified_in
from proxy.storage.inspection import Inspection, inspect
from proxy.storage.layout import LAYOUTS
from proxy.storage.live import read_live
from proxy.storage.migrate import migrate
from proxy.storage.passphrase import check_passphrase
from proxy.storage.protocols import Kind, Record, Storage
from proxy.upstream.trust import check_certificates

VARIABLE: Final = "BACKUP_PASSPHRASE"
MIGRATE: Final = "--migrate"
FOLDER: Final = "storage.data_folder"
STORE: Final = "storage.url"


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

    sure: bool = False
    """Whether what is found is taken too, not only told."""


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
            f"write accounts and client keys to FILE, encrypted with ${VARIABLE}, also while it serves", True
        ),
        "--restore": Command("fill an empty data folder from such a FILE", True),
        "--import": Command("tell which accounts of another program's FILE or folder can be taken", True),
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


def exit_status(work: Callable[[], int | None]) -> int:
    """What `work` returns or 0; 2 if it could not start, or 1 if something could not be saved at the end."""
    try:
        return work() or 0
    except (StartError, UnsavedError) as error:
        say_last(f"claude-proxy: {error}")
        return error.exit_status


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
    told = "copy everything to an empty storage, each a folder, a URL, storage.data_folder or storage.url; then exit"
    parser.add_argument("--migrate", nargs=2, metavar=("FROM", "TO"), help=told)
    told = "whose file it is that --import reads; without it, its content tells"
    parser.add_argument("--import-from", choices=[*FORMATS], help=told)
    parser.add_argument("--yes", action="store_true", help="with --import: add these accounts")
    parser.add_argument("--version", action="version", version=f"claude-proxy {__version__}")
    options = parser.parse_args()
    if options.migrate:
        options.only = Asked(MIGRATE, places=tuple(options.migrate))
    if options.demo and options.only:
        raise StartError(f"{options.only.flag} goes with --config: the demo has nothing to check")
    if options.yes or options.import_from:
        if options.only is None or options.only.flag != "--import":
            raise StartError("--yes and --import-from go with --import: see run.py --help")
        options.only = replace(options.only, format=options.import_from, sure=options.yes)
    return options


def _asked(flag: str) -> Callable[[str], Asked]:
    return lambda file: Asked(flag, Path(file))


async def run(settings: Settings, asked: Asked) -> list[str]:
    """Do it. Returns the lines to print. Raises StartError."""
    match asked.flag:
        case "--print-config":
            return effective.lines(settings)
        case "--verify-audit":
            return [await _verified(settings)]
        case "--backup":
            return await write_backup(settings, asked.file)
        case "--restore":
            return await restore(settings, asked.file)
        case "--migrate":
            return await moved(settings, *asked.places)
        case "--import":
            return await take_in(settings, asked)
    return await check(settings)


async def _verified(settings: Settings) -> str:
    if settings.storage.address is None:
        return verified(settings.storage.data_folder)
    async with _opened(settings, STORE) as storage:
        return await verified_in(storage, _place(settings))


async def check(settings: Settings) -> list[str]:
    """What these settings would serve, line by line, after a look at the data folder. Raises StartError."""
    if settings.claude.base_url.startswith("https:"):
        check_certificates()
    tracing_of(settings)
    if settings.storage.address is not None:
        records = await _shared_records(settings)
        return [
            f"would listen on   {url(settings, settings.server.port)}",
            f"would forward to  {settings.claude.base_url}{way_out(settings)}",
            f"shared store      {settings.storage.address}: {_counted(records)}",
        ]
    found = _inspect(settings)
    return [
        *found.notices,
        f"would listen on   {url(settings, settings.server.port)}",
        f"would forward to  {settings.claude.base_url}{way_out(settings)}",
        f"data folder       {settings.storage.data_folder}: {_counted(found.records)}",
        *(
            f"                  {name}: {lines} line{'s' * (lines != 1)}"
            for name, lines in found.logs.items()
        ),
        f"encryption        {found.encryption}",
    ]


async def write_backup(settings: Settings, file: Path) -> list[str]:
    """Write accounts and client keys to a new file; proxies may be using where they are. Raises StartError."""
    passphrase = _passphrase(twice=True)
    records = await _live_records(settings)
    if not any(records.get(kind) for kind in backup.KINDS):
        raise StartError(f"{_place(settings)} has nothing to back up: is it the right one?")
    backup.write(file, records, passphrase)
    return [
        f"written to {file}: {_counted(records)}, encrypted; usage and events are not in it",
        "all that was saved before it began is in it; of what changed meanwhile, some may be",
    ]


async def restore(settings: Settings, file: Path) -> list[str]:
    """Fill an empty data folder or shared store from a backup or an export. Raises StartError."""
    if any((await _records(settings)).values()):
        fix = (
            "set storage.data_folder to another one"
            if settings.storage.address is None
            else "set storage.name"
        )
        raise StartError(f"{_place(settings)} is not empty: {fix}")
    records = backup.read(file, _passphrase(twice=False), READERS)
    async with _opened(settings, STORE if settings.storage.address else FOLDER) as storage:
        await backup.fill(storage, records)
    return [
        f"restored to {_place(settings, short=True)}: {_counted(await _records(settings))}",
        "a refresh token works once: where else these OAuth logins are in use, stop that",
    ]


async def moved(settings: Settings, source: str, target: str) -> list[str]:
    """Copy everything from one storage to another, empty one. Raises StartError."""
    async with _opened(settings, source) as old, _opened(settings, target) as new:
        counts = await migrate(old, new)
    lines = [f"{name:17} {count}" for name, count in counts.items() if count]
    return [
        *lines,
        "all of it was read again and is the same; the old one is as it was: serve only one of them",
    ]


async def take_in(settings: Settings, asked: Asked) -> list[str]:
    """Add accounts of another program; if `asked` is not sure, only tell which. Raises StartError."""
    source = read_source(asked.file)
    offers = [*offered(source, asked.format, asked.file), *source.refused]
    needed = {"oauth.client_id": settings.oauth.client_id, "oauth.token_url": settings.oauth.token_url}
    missing = tuple(name for name, value in needed.items() if value is None)
    here = Here(settings.claude.base_url, settings.oauth.client_id, missing)

    def judged(stored: Mapping[str, Record]) -> Judged:
        pool = [account for _, account in load_accounts(stored)]
        return judge(offers, pool, here, SystemClock().now(), lambda kind: f"{kind}_{secrets.token_hex(8)}")

    found = judged((await _live_records(settings))["accounts"])
    if not asked.sure or not found.taken:
        return told(found, done=False)
    async with _opened(settings, STORE if settings.storage.address else FOLDER) as storage:
        found = judged(await storage.load("accounts"))  # others may have added some
        await backup.fill(storage, {"accounts": [account.record() for account, _ in found.taken]})
    return told(found, done=True)


@contextlib.asynccontextmanager
async def _opened(settings: Settings, place: str) -> AsyncIterator[Storage]:
    """A folder, a store by its URL, or either as it is set. Raises StartError."""
    address = settings.storage.address if place == STORE else None
    if place == STORE and address is None:
        raise StartError(f"{STORE} is not set")
    if "://" in place:
        try:
            address = StoreAddress.read(place)
        except ValueError as error:
            raise StartError(f"{MIGRATE}: a URL will not do: {error}") from None
    if address is not None:
        storage = await shared_at(address, settings, SystemClock())
    else:
        storage = files_in(_folder(settings, place), settings, SystemClock())
    try:
        yield storage
    finally:
        await storage.close()


def _folder(settings: Settings, place: str) -> Path:
    return settings.storage.data_folder if place == FOLDER else Path(place).expanduser()


async def _records(settings: Settings) -> Mapping[Kind, Mapping[str, Record]]:
    return _inspect(settings).records if settings.storage.address is None else await _shared_records(settings)


async def _live_records(settings: Settings) -> Mapping[Kind, Mapping[str, Record]]:
    """As `_records`, also of a data folder that a proxy is using."""
    if settings.storage.address is not None:
        return await _shared_records(settings)
    return read_live(settings.storage.data_folder, keyring(settings), READERS)


async def _shared_records(settings: Settings) -> Mapping[Kind, Mapping[str, Record]]:
    async with _opened(settings, STORE) as storage:
        return {kind: await storage.load(kind) for kind in LAYOUTS}


def _place(settings: Settings, *, short: bool = False) -> str:
    folder = settings.storage.data_folder
    if settings.storage.address is not None:
        return f"{'' if short else 'shared store '}{settings.storage.address}"
    return f"{'' if short else 'data folder '}{folder}"


def _inspect(settings: Settings) -> Inspection:
    return inspect(settings.storage.data_folder, keyring(settings), READERS)


def _counted(records: Mapping[Kind, Mapping[str, Record]]) -> str:
    accounts = load_accounts(records["accounts"])
    keys = load_keys(records["tokens"].values())
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
